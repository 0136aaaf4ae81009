"""The semidefinite program against what is known of it, and the bound of D5 against the program."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from srlib.descent.performance_estimation import worst_case
from srlib.descent.rates import Rates

SOLVED = 1e-5  # of the solver


def rates(tau, rho, theta, lipschitz=1.0):
    """Rates with G = P = 1 in each step; what is lost as noise depends on them."""
    tau, rho, theta = (np.asarray(part, dtype=np.float64) for part in (tau, rho, theta))
    ones = np.ones_like(tau)
    return Rates(lipschitz, 1.0, ones, ones, 1 - tau, 1 - theta, rho + (1 - tau) ** 2)


@pytest.mark.parametrize("lipschitz", [1.0, 4.0])
@pytest.mark.parametrize("tau", [np.full(4, 0.5), np.array([1.0, 0.1, 0.7])], ids=len)
def test_without_noise_it_is_that_of_drori_and_teboulle(tau, lipschitz):
    """LR²/(2 + 4LΣτ) where Lτ ≤ 1, for stepsizes that differ too."""
    found = worst_case(tau / lipschitz, 0 * tau, lipschitz=lipschitz, radius=3.0)
    assert found == pytest.approx(9 * lipschitz / (2 + 4 * tau.sum()), rel=SOLVED)


@pytest.mark.parametrize(
    ("tau", "rho", "free", "tied"),
    [
        (0.25, 0.0, 0.0833, 0.0833),
        (1.0, 0.0, 0.0238, 0.0238),
        (0.375, 0.02, 0.0650, 0.0594),
        (0.375, 0.05, 0.0743, 0.0602),
    ],
)
def test_ten_steps_have_the_worst_case_of_the_specification(tau, rho, free, tied):
    tau, rho = np.full(10, tau), np.full(10, rho)
    assert worst_case(tau, rho) == pytest.approx(free, rel=2e-3)
    assert worst_case(tau, rho, tau) == pytest.approx(tied, rel=2e-3)


@settings(max_examples=25)
@given(parts=st.lists(st.tuples(st.floats(0.1, 1.2), st.floats(0, 0.1)), min_size=1, max_size=4))
def test_the_bound_is_never_below_the_worst_case_where_nothing_is_lost(parts):
    tau, rho = np.array(parts).T
    known = rates(tau, rho, tau)
    if np.all(known._parts()[3] == 0):
        bound = known.bound(1.0)[-1]
        assert worst_case(tau, rho, tau) <= bound * (1 + SOLVED) + SOLVED


def test_a_bound_that_is_too_small_is_found_out():
    """Twice what the descent gains is beyond the worst case."""
    tau = np.full(6, 0.9)
    assert rates(2 * tau, 0 * tau, 2 * tau, 0.5).bound(1.0)[-1] < worst_case(tau, 0 * tau, tau)


def test_a_distance_that_shrinks_more_slowly_is_worse():
    tau, rho = np.full(4, 0.4), np.full(4, 0.05)
    found = [worst_case(tau, rho, theta * tau) for theta in (0.7, 1.0, 1.2)]
    assert found == sorted(found, reverse=True) and found[0] > 1.02 * found[1]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"tau": np.ones(2)}, r"^tau, rho and theta have shapes \[\(2,\), \(3,\)\]; must all be \(steps,\)"),
        ({"theta": np.ones(1)}, r"^tau, rho and theta have shapes"),
        ({"rho": np.array([0.1, -0.5, 0])}, r"^rho has -0\.5; must not be negative"),
        ({"lipschitz": 0.0}, r"^lipschitz is 0\.0; must be finite and positive"),
        ({"radius": -1.0}, r"^radius is -1\.0; must be finite and positive"),
    ],
)
def test_other_parameters_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        worst_case(**({"tau": np.ones(3), "rho": np.zeros(3)} | wrong))
