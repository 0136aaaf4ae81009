"""Ten significant digits, as Python's own formatting has them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from srlib.digits import rounded_up, significant


@given(st.floats(1e-280, 1e290), st.sampled_from([1.0, -1.0]))
def test_a_number_of_either_sign_is_kept_to_ten_digits(size, sign):
    found, expected = float(significant(sign * size)), float(f"{sign * size:.9e}")
    assert found == pytest.approx(expected, rel=1.01e-9)
    assert found == pytest.approx(float(f"{found:.9e}"), rel=1e-14)


@pytest.mark.parametrize("value", [1 / 3, -1 / 3, 123456.7891234, -0.00012345678949, -9.99999999996e7])
def test_digits_by_hand(value):
    assert float(significant(value)) == float(f"{value:.9e}")
    assert significant(np.full(2, value)).tolist() == [float(f"{value:.9e}")] * 2


def test_what_has_no_digits_stays():
    np.testing.assert_array_equal(
        significant(np.array([0.0, -0.0, np.inf, -np.inf, np.nan])), [0, 0, np.inf, -np.inf, np.nan]
    )


@given(st.floats(1e-9, 1e9), st.integers(1, 6))
def test_an_upper_bound_is_never_below_its_value_and_near_to_it(value, digits):
    assert value <= float(rounded_up(value, digits)) <= value * (1 + 10.0 ** (1 - digits)) * (1 + 1e-15)
