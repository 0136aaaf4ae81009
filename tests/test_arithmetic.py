import math
from fractions import Fraction

import array_api_strict
import mpmath
import numba
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from srlib import Arithmetic, Format, Philox, round_to
from srlib.arithmetic import matmul

NAMES = ["binary8", "e4m3", "bfloat16", "binary16", "fixed(4,4)"]
each_name = pytest.mark.parametrize("name", NAMES)


def sample(fmt, shape, seed=0, scale=1.0):
    return round_to(np.random.default_rng(seed).standard_normal(shape) * scale, fmt)


@each_name
@pytest.mark.parametrize("scheme", ["RN", "SR", "SR_eps(0.2)"])
def test_an_operation_is_the_float64_one_rounded_once(name, scheme):
    a, b = sample(name, (3, 4, 5)), sample(name, (4, 1), seed=1) + 1
    operations = {
        "add": np.add,
        "subtract": np.subtract,
        "multiply": np.multiply,
        "divide": np.divide,
    }
    for operation, exact in operations.items():
        result = getattr(Arithmetic(name, scheme, Philox(1, replicates=3)), operation)(a, b)
        np.testing.assert_array_equal(result, round_to(exact(a, b), name, scheme, Philox(1, replicates=3)))


def test_a_signed_scheme_takes_its_direction():
    arithmetic = Arithmetic("binary8", "signed_SR_eps(0.25)", Philox(2))
    x, u = np.full(1000, 1.0), np.full(1000, 2.0**-6)
    moved = arithmetic.subtract(x, u, v=u)
    np.testing.assert_array_equal(moved, round_to(x - u, "binary8", "signed_SR_eps(0.25)", Philox(2), v=u))
    with pytest.raises(ValueError, match="v is missing"):
        arithmetic.subtract(x, u)


def test_maximum_needs_no_rounding_and_takes_scalars():
    np.testing.assert_array_equal(Arithmetic("binary8").maximum(np.array([-1.0, 0.3]), 0.0), [0, 0.3])


@each_name
def test_exp_is_correctly_rounded_to_float64_and_then_to_the_format(name):
    fmt = Format.parse(name)
    values = fmt.values()[:: max(1, len(fmt.values()) // 500)]
    x = np.concatenate([values, [0.0, -0.0, fmt.largest, -fmt.largest]])
    with mpmath.workprec(120):
        exact = [mpmath.exp(mpmath.mpf(float(value))) for value in x]
        expected = [float("inf") if y > 2**1023 else float(y) for y in exact]
    np.testing.assert_array_equal(Arithmetic(name).exp(x), round_to(np.array(expected), name))


def test_exp_of_what_is_not_finite():
    np.testing.assert_array_equal(Arithmetic("binary8").exp(np.array([np.inf, -np.inf, np.nan])), [np.inf, 0, np.nan])


def test_exp_of_wide_formats_is_that_of_the_carrier():
    x = sample("binary32", 100)
    np.testing.assert_array_equal(Arithmetic("binary32").exp(x), round_to(np.exp(x), "binary32"))


def in_order(a, b):
    """The sums of a @ b, one Python float after the other."""
    result = np.zeros((a.shape[0], b.shape[1]))
    for i in range(a.shape[0]):
        for j in range(b.shape[1]):
            total = 0.0
            for k in range(a.shape[1]):
                total += float(a[i, k]) * float(b[k, j])
            result[i, j] = total
    return result


@pytest.mark.parametrize("scale", [1.0, 2.0**40])
@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 50, 7), (20, 33, 200)])
def test_sums_of_any_numbers_are_taken_in_index_order_without_fused_operations(shape, scale):
    m, k, n = shape
    rng = np.random.default_rng(3)
    a = rng.standard_normal((m, k)) * np.exp2(rng.integers(-30, 30, (m, k)))
    b = rng.standard_normal((k, n)) * scale
    np.testing.assert_array_equal(matmul(a, b), in_order(a, b))
    np.testing.assert_array_equal(matmul(a, b, 2.0**-1074), in_order(a, b))


@given(st.integers(0, 2**32), st.integers(1, 40), st.sampled_from(["binary8", "e4m3", "bfloat16"]))
def test_a_product_that_blas_may_compute_is_exact_or_in_order(seed, k, name):
    fmt = Format.parse(name)
    rng = np.random.default_rng(seed)
    a, b = (round_to(rng.standard_normal(s) * 2.0 ** rng.integers(-9, 9, s), fmt) for s in ((2, k), (k, 2)))
    np.testing.assert_array_equal(matmul(a, b, fmt.quantum**2), in_order(a, b))


def test_sums_of_a_format_without_subnormals_are_taken_in_order_where_they_are_not_exact():
    """Its smallest value is 1, but its values are multiples of 2^-19 only: the bits of these sums are too many."""
    fmt, rng = Format("flushed", 20, 0, 10, subnormals=False), np.random.default_rng(9)
    a, b = (round_to(np.exp2(rng.uniform(0, 10.9, shape)), fmt) for shape in ((40, 1000), (1000, 40)))
    expected = in_order(a, b)
    assert not np.array_equal(a @ b, expected)
    wide = Format("flushed and wide", 53, 0, 40, subnormals=False)  # does not hide the last bits of a sum
    np.testing.assert_array_equal(Arithmetic(wide).matmul(a, b), expected)
    np.testing.assert_array_equal(matmul(a, b, fmt.quantum**2), expected)
    np.testing.assert_array_equal(Arithmetic(fmt).matmul(a, b), round_to(expected, fmt))


def test_integers_times_numbers_of_few_bits_are_exact_by_blas():
    rng = np.random.default_rng(4)
    a, b = round_to(rng.standard_normal((4, 500)), "binary8"), rng.integers(0, 256, (500, 30)).astype(float)
    exact = [[float(sum(map(Fraction, row * column))) for column in b.T] for row in a]
    np.testing.assert_array_equal(matmul(a, b), exact)


def test_leading_axes_are_replicates_and_classes_in_one_product_or_batches_of_their_own():
    a, b = sample("bfloat16", (3, 2, 6)), sample("bfloat16", (3, 6, 4), seed=1)
    for quantum in (None, 2.0**-1074, 2.0**-60):
        np.testing.assert_array_equal(matmul(a, b[0], quantum)[2], matmul(a[2], b[0], quantum))
        np.testing.assert_array_equal(matmul(a, b, quantum)[2], matmul(a[2], b[2], quantum))


def test_what_is_not_finite_is_added_as_ieee_says():
    a = np.array([[np.inf, 1.0], [np.nan, 1.0], [np.inf, -np.inf], [1.0, 2.0]])
    for quantum in (None, 2.0**-1074, 1.0):
        with np.errstate(invalid="ignore"):
            product = matmul(a, np.array([[1.0], [1.0]]), quantum)
        np.testing.assert_array_equal(product[:, 0], [np.inf, np.nan, np.nan, 3])


@each_name
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_a_sum_is_rounded_once(name, axis):
    x = sample(name, (3, 4, 5))
    exact = np.apply_along_axis(lambda line: float(sum(map(Fraction, line))), axis, x)
    expected = round_to(np.expand_dims(exact, axis) / 4, name)
    np.testing.assert_array_equal(Arithmetic(name).sum(x, axis, divisor=4), expected)


@each_name
def test_a_product_is_divided_and_rounded_once(name):
    a, b = sample(name, (2, 3, 8)), sample(name, (8, 5), seed=1)
    result = Arithmetic(name, "SR", Philox(5, replicates=2)).matmul(a, b, divisor=3)
    expected = round_to(np.stack([in_order(a[r], b) for r in range(2)]) / 3, name, "SR", Philox(5, replicates=2))
    np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize("name", ["binary8", "bfloat16"])
def test_array_api_strict_arrays_give_the_same_bits(name):
    a, b = sample(name, (2, 3, 8)), sample(name, (8, 5), seed=1)
    wide = a * 2.0 ** np.arange(-20, 28).reshape(2, 3, 8)
    strict = array_api_strict.asarray

    def both(operation, *arrays):
        ours = operation(Arithmetic(name, "SR", Philox(6, replicates=2)), *arrays)
        theirs = operation(Arithmetic(name, "SR", Philox(6, replicates=2)), *map(strict, arrays))
        np.testing.assert_array_equal(np.asarray(theirs), ours)

    both(lambda arithmetic, x, y: arithmetic.matmul(x, y), a, b)
    both(lambda arithmetic, x, y: arithmetic.matmul(x, y), wide, b)
    both(lambda arithmetic, x: arithmetic.exp(x), np.concatenate([a, np.full((2, 3, 1), np.nan)], axis=2))
    both(lambda arithmetic, x: arithmetic.sum(x, 1), a)
    both(lambda arithmetic, x: arithmetic.maximum(x, 0.0), a)
    both(lambda arithmetic, x: arithmetic.divide(x, 3.0), a)


def test_the_number_of_threads_does_not_change_products():
    a, b = np.random.default_rng(7).standard_normal((12, 300)), np.random.default_rng(8).standard_normal((300, 900))
    before = numba.get_num_threads()
    try:
        numba.set_num_threads(1)
        one = matmul(a, b)
    finally:
        numba.set_num_threads(before)
    np.testing.assert_array_equal(matmul(a, b), one)
    assert not np.array_equal(one, a @ b) or math.prod(a.shape) == 0
