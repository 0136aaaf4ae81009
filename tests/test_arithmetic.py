import math
from fractions import Fraction

import array_api_strict
import mpmath
import numba
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_rounding import assert_same_bits, by_the_specification

from srlib import Arithmetic, Format, Philox, round_to
from srlib.arithmetic import descend, matmul
from srlib.kernels import elementary, threads

pytestmark = pytest.mark.xdist_group("kernels")  # which one process compiles once

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


SIGNED = {
    "round": (lambda site, x, y, v: site.round(x / 3, v=v), lambda x, y: x / 3),
    "add": (lambda site, x, y, v: site.add(x, y, v=v), np.add),
    "subtract": (lambda site, x, y, v: site.subtract(x, y, v=v), np.subtract),
    "multiply": (lambda site, x, y, v: site.multiply(x, y, v=v), np.multiply),
    "divide": (lambda site, x, y, v: site.divide(x, y, v=v), np.divide),
    "exp": (lambda site, x, y, v: site.exp(x, v=v), lambda x, y: np.exp(x)),
    "sum": (lambda site, x, y, v: site.sum(x, 1, keepdims=True, v=v), lambda x, y: x.sum(axis=1, keepdims=True)),
    "matmul": (lambda site, x, y, v: site.matmul(x, y.T, v=v), lambda x, y: x @ y.T),
    "accumulated": (lambda site, x, y, v: site.matmul(x, y.T, accumulator="binary64", v=v), lambda x, y: x @ y.T),
}


@pytest.mark.parametrize(("operation", "exact"), SIGNED.values(), ids=SIGNED)
def test_every_operation_takes_the_direction_of_a_signed_scheme(operation, exact):
    x, y = sample("binary8", (40, 30)), sample("binary8", (40, 30), seed=1)
    expected = exact(x, y)
    v = np.resize([1.0, -1.0, 0.0], expected.shape)
    found = operation(Arithmetic("binary8", "signed_SR_eps(0.4)", Philox(3)), x, y, v)
    np.testing.assert_array_equal(found, round_to(expected, "binary8", "signed_SR_eps(0.4)", Philox(3), v=v))


@pytest.mark.parametrize("operation", ["add", "subtract", "multiply", "divide"])
def test_an_operand_is_kept_unless_it_is_given_up_for_the_result(operation):
    a, b = sample("binary8", (3, 4)), sample("binary8", (4,), seed=1)
    site, before = Arithmetic("binary8"), a.copy()
    expected = round_to({"add": a + b, "subtract": a - b, "multiply": a * b, "divide": a / b}[operation], "binary8")
    kept = getattr(site, operation)(a, b)
    np.testing.assert_array_equal(kept, expected)
    np.testing.assert_array_equal(a, before)
    given_up = getattr(site, operation)(a, b, overwrite=True)
    np.testing.assert_array_equal(given_up, expected)
    assert np.shares_memory(given_up, a) and not np.shares_memory(kept, a)


@pytest.mark.parametrize("library", [np.asarray, array_api_strict.asarray])
def test_exp_of_minus_infinity_is_not_that_of_the_least_value(library):
    """exp(−1.75) is 5.6 of 32nds, and exp(−1.5) 7.1."""
    narrow = Arithmetic(Format("narrow", 3, -3, 0))
    x = library(np.array([-np.inf, -1.75, -1.5, 0.0, np.inf]))
    np.testing.assert_array_equal(np.asarray(narrow.exp(x)) * 32, [0, 6, 7, 32, np.inf])


@pytest.mark.parametrize("library", [np.asarray, array_api_strict.asarray])
def test_sums_of_the_smallest_numbers_are_exact(library):
    a, b = np.array([[3.0, -5.0, 7.0], [0.0, 1.0, 2.0]]) * 2.0**-1074, np.array([[1.0], [4.0], [2.0]])
    np.testing.assert_array_equal(np.asarray(matmul(library(a), library(b))), np.array([[-3.0], [8.0]]) * 2.0**-1074)


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


@pytest.mark.parametrize("name", ["tf32", "binary32", "binary64"])
def test_exp_of_wide_formats_is_rounded_from_float64(name):
    x = sample(name, 1000, scale=30.0)
    np.testing.assert_array_equal(Arithmetic(name).exp(x), round_to(elementary.exp(x), name))
    if name != "binary64":  # no exp of these is so close to the middle of a gap that a float64 does not tell
        with mpmath.workprec(120):
            exact = [float(mpmath.exp(mpmath.mpf(float(value)))) for value in x]
        np.testing.assert_array_equal(Arithmetic(name).exp(x), round_to(np.array(exact), name))


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


@pytest.mark.parametrize("quantum", [None, 1.0])
@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize(
    "arrangement", ["plain", "padded", "plain, infinite", "padded, infinite", "batches", "largest given"]
)
def test_sums_of_one_bit_too_many_are_taken_in_order(quantum, sign, arrangement):
    """Of 64 products of odd integers just below 2^24: a bit more than float64 has."""
    rng = np.random.default_rng(11)
    a, b = (sign * (2.0**24 - 1 - 2 * rng.integers(0, 2**10, shape)) for shape in ((50, 64), (64, 1)))
    expected = in_order(a, b)
    assert any(total != sum(map(Fraction, row * b[:, 0])) for total, row in zip(expected[:, 0], a, strict=True))
    if "infinite" in arrangement:
        a, expected = np.insert(a, 0, sign * np.inf, axis=0), np.insert(expected, 0, np.inf, axis=0)
    if "padded" in arrangement:  # which BLAS takes as they are
        a, b = (np.pad(array, ((0, 0), (0, 8)))[:, :-8] for array in (a, b))
    if arrangement == "batches":
        b = np.broadcast_to(b, (5, 64, 1))
        np.testing.assert_array_equal(matmul(a.reshape(5, 10, 64), b, quantum).reshape(50, 1), expected)
        return
    largest = float(np.max(np.abs(b))) if arrangement == "largest given" else None
    np.testing.assert_array_equal(matmul(a, b, quantum, largest), expected)


@pytest.mark.parametrize(("emin", "emax", "low"), [(30, 60, 2.0**11), (80, 200, 2.0**60)])
def test_products_are_multiples_of_the_square_of_the_quantum(emin, emax, low):
    """The format keeps these sums but for a last bit, so that it does not hide their order."""
    fmt, rng = Format("fixed", 53, emin, emax), np.random.default_rng(12)
    a, b = (round_to(rng.uniform(low, 2 * low, shape), fmt) for shape in ((40, 100), (100, 3)))
    np.testing.assert_array_equal(Arithmetic(fmt).matmul(a, b), round_to(in_order(a, b), fmt))


@pytest.mark.parametrize("subnormals", [True, False])
@pytest.mark.parametrize("axis", [0, 1, 2, -1])
@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("others", [(1, 1), (2, 3)])
def test_a_sum_that_is_not_exact_is_taken_in_index_order_along_its_axis(subnormals, axis, sign, others):
    """999 numbers of 53 bits between 1 and 2, which the format does not hide; a sum of two would have 54."""
    fmt = Format("wide", 53, 0, 40, subnormals)
    x = np.moveaxis(sign * np.random.default_rng(13).uniform(1, 2, (*others, 999)), 2, axis)
    lines = in_order(np.moveaxis(x, axis, 2).reshape(-1, 999), np.ones((999, 1)))
    expected = np.moveaxis(lines.reshape(*others, 1), 2, axis)
    np.testing.assert_array_equal(Arithmetic(fmt).sum(x, axis, keepdims=True), expected)


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


@pytest.mark.parametrize("leading", [(2, 3), (2, 1), (3,), (1, 3)])
def test_batches_of_two_axes_are_those_of_numpy_in_index_order(leading):
    rng = np.random.default_rng(19)
    a, b = rng.standard_normal((2, 3, 4, 50)), rng.standard_normal((*leading, 50, 5))
    right = np.broadcast_to(b, (2, 3, 50, 5))
    expected = [[in_order(a[i, j], right[i, j]) for j in range(3)] for i in range(2)]
    np.testing.assert_array_equal(matmul(a, b, 0.0), expected)


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
    np.testing.assert_array_equal(Arithmetic(name).sum(x, axis, keepdims=True, divisor=4), expected)


@each_name
@pytest.mark.parametrize("divisor", [1, 2, 3])
def test_a_product_is_divided_and_rounded_once(name, divisor):
    a, b = sample(name, (2, 3, 8)), sample(name, (8, 5), seed=1)
    result = Arithmetic(name, "SR", Philox(5, replicates=2)).matmul(a, b, divisor=divisor)
    expected = round_to(np.stack([in_order(a[r], b) for r in range(2)]) / divisor, name, "SR", Philox(5, replicates=2))
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


@pytest.mark.parametrize("fmt", ["binary8", "bfloat16", Format("flushed", 3, -6, 7, subnormals=False)], ids=str)
@pytest.mark.parametrize("multiply", ["RN", "SR", "SR_eps(0.2)"])
@pytest.mark.parametrize("update", ["RN", "RZ", "SR", "SR_eps(0.2)", "signed_SR_eps(0.2)"])
def test_a_fused_step_has_the_bits_of_its_operations(fmt, multiply, update):
    rng = np.random.default_rng(8)
    for shape, replicates in [((3, 700), range(5, 8)), ((2, 70_001), 2), ((2500,), None), ((0,), None)]:
        x, g = (round_to(4 * rng.standard_normal(shape), fmt) for _ in range(2))
        special = np.array([0.0, -0.0, np.inf, -np.inf, np.nan])
        x.flat[: min(5, x.size)] = special[: x.size]
        g.flat[3 : min(8, g.size)] = special[: max(g.size - 3, 0)]
        streams = [Philox(3, replicates, bits=20) for _ in range(2)]
        sites = [[Arithmetic(fmt, scheme, stream) for scheme in (multiply, update)] for stream in streams]
        with np.errstate(invalid="ignore"):
            u = sites[0][0].multiply(g, 0.375)
            expected = sites[0][1].subtract(x, u, v=u if "signed" in update else None)
            assert_same_bits(descend(x, g, 0.375, *sites[1]), expected)
        assert streams[0].draws == streams[1].draws


def test_a_step_that_needs_no_words_does_not_mind_whose_they_are():
    rng, x = Philox(3, replicates=3), np.array([[1.5, 2.5, 3.5], [4.5, 5.5, 6.5]])
    site = Arithmetic("binary8", "RN", rng)
    assert_same_bits(descend(x, x, 0.375, site, site), site.subtract(x, site.multiply(x, 0.375)))


@pytest.mark.parametrize(
    ("formats", "streams", "shape"),
    [
        (("binary8", "bfloat16"), (Philox(21), None), (3, 700)),
        (("bfloat16", "binary64"), (Philox(21), None), (3, 700)),
        (("binary8", Format("flushed", 3, -6, 7, subnormals=False)), (Philox(21), None), (3, 700)),
        (("binary8", "binary8"), (Philox(21), Philox(22)), (3, 700)),
        (("binary8", "binary8"), (Philox(21, 3), Philox(21)), (3, 700)),
        (("binary8", "binary8"), (Philox(21), None), (700,)),
        (("binary8", "binary8"), (Philox(21), None), (3, 1)),
    ],
    ids=str,
)
@pytest.mark.parametrize("multiply", ["RN", "SR"])
@pytest.mark.parametrize("update", ["RN", "SR"])
def test_a_step_may_mix_formats_streams_and_shapes(formats, streams, shape, multiply, update):
    rng = np.random.default_rng(14)
    x, g = round_to(4 * rng.standard_normal((3, 700)), "binary8"), round_to(rng.standard_normal(shape), "binary8")

    def fresh():
        made = [stream and Philox(stream.seed, stream.replicates) for stream in streams]
        return made[0], made[1] or made[0]

    first, second = fresh()
    u = round_to(0.3 * g, formats[0], multiply, first)
    expected = round_to(x - u, formats[1], update, second)
    sites = [Arithmetic(*site) for site in zip(formats, (multiply, update), fresh(), strict=True)]
    assert_same_bits(descend(x, g, 0.3, *sites), expected)


@pytest.mark.parametrize("formats", [("binary8", "bfloat16"), ("binary8", "binary8")], ids=str)
def test_a_signed_update_of_another_format_or_stream_goes_against_its_step(formats):
    rng = np.random.default_rng(18)
    x, g = round_to(rng.standard_normal((3, 70)), formats[1]), round_to(rng.standard_normal((3, 70)), formats[0])
    u = round_to(0.3 * g, formats[0], "SR", Philox(1))
    expected = round_to(x - u, formats[1], "signed_SR_eps(0.4)", Philox(2), v=u)
    sites = Arithmetic(formats[0], "SR", Philox(1)), Arithmetic(formats[1], "signed_SR_eps(0.4)", Philox(2))
    assert_same_bits(descend(x, g, 0.3, *sites), expected)


def test_a_step_of_arrays_in_another_order_is_the_same():
    rng = np.random.default_rng(15)
    x, g = (round_to(rng.standard_normal((30, 40)), "binary8") for _ in range(2))
    plain, other = ([Arithmetic("binary8", "SR", Philox(1))] * 2 for _ in range(2))
    expected = descend(x, g, 0.3, *plain)
    assert_same_bits(descend(np.asfortranarray(x), np.asfortranarray(g), 0.3, *other), expected)


@pytest.mark.parametrize("number", [1, 2, 3, 5])
@pytest.mark.parametrize("row", [301, 1025, 2047])
def test_parts_of_a_step_and_of_an_accumulated_product_have_the_words_of_the_whole(monkeypatch, number, row):
    monkeypatch.setattr(threads, "SMALL", 0)
    monkeypatch.setattr(numba, "get_num_threads", lambda: number)
    numbers, rng = range(7, 0, -3), np.random.default_rng(16)
    x, g = (round_to(rng.standard_normal((3, row)), "binary8") for _ in range(2))
    one, other = Philox(5, numbers), Philox(5, numbers)
    u = by_the_specification(0.3 * g, "binary8", "SR", one)
    expected = by_the_specification(x - u, "binary8", "signed_SR_eps(0.2)", one, v=u)
    sites = [Arithmetic("binary8", scheme, other) for scheme in ("SR", "signed_SR_eps(0.2)")]
    assert_same_bits(descend(x, g, 0.3, *sites), expected)
    a, total = round_to(rng.standard_normal((3, 2, 2)), "binary8"), 0.0
    b = np.stack([x[0], g[0]])
    for k in range(2):
        total = by_the_specification(total + a[..., k : k + 1] * b[k], "bfloat16", "SR", one)
    product = Arithmetic("binary64", "RN", other).matmul(a, b, accumulator="bfloat16", scheme="SR")
    assert_same_bits(product, total)


OPERATIONS = {
    "round": lambda site, x: site.round(x),
    "add": lambda site, x: site.add(x, x),
    "subtract": lambda site, x: site.subtract(x, 1.0),
    "multiply": lambda site, x: site.multiply(x, x),
    "divide": lambda site, x: site.divide(x, 3.0),
    "exp": lambda site, x: site.exp(x),
    "sum": lambda site, x: site.sum(x, 1, keepdims=True),
    "matmul": lambda site, x: site.matmul(x, x.T),
    "accumulated": lambda site, x: Arithmetic("bfloat16", "RN", site.rng).matmul(
        x, x.T, accumulator="bfloat16", scheme="SR"
    ),
    "step": lambda site, x: descend(x, x, 0.5, site, site),
    "inner": lambda site, x: descend(x, x, 0.5, site, Arithmetic("binary8", "RN", site.rng)),
    "outer": lambda site, x: descend(x, x, 0.5, Arithmetic("binary8", "RN", site.rng), site),
}


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)
@pytest.mark.parametrize("replicates", [1, 4])
def test_arrays_whose_first_axis_is_not_that_of_the_replicates_are_refused(operation, replicates):
    rng = Philox(1, replicates)
    with pytest.raises(ValueError, match=rf"x has shape \(2, .\); its first axis must be the {replicates} replicates"):
        operation(Arithmetic("binary8", "SR", rng), np.ones((2, 3)))
    assert rng.draws == 0


NEAREST = OPERATIONS | {"accumulated": lambda site, x: site.matmul(x, x.T, accumulator="bfloat16")}


@pytest.mark.parametrize("operation", NEAREST.values(), ids=NEAREST)
@pytest.mark.parametrize("fmt", ["binary8", Format("wide", 53, -20, 40)], ids=str)
def test_arrays_of_another_library_stay_on_their_device(operation, fmt):
    x = np.random.default_rng(17).uniform(1, 2, (2, 3))
    x, place = round_to(x, fmt), array_api_strict.Device("device1")
    found = operation(Arithmetic(fmt), array_api_strict.asarray(x, device=place))
    assert found.device == place
    found = np.asarray(found.to_device(array_api_strict.Device("CPU_DEVICE")))
    assert_same_bits(found, operation(Arithmetic(fmt), x))


def test_words_are_where_the_array_is():
    x = np.random.default_rng(18).uniform(1, 2, (2, 3))
    elsewhere = array_api_strict.asarray(x, device=array_api_strict.Device("device1"))
    found = round_to(elsewhere, "binary8", "signed_SR_eps(0.1)", Philox(3), v=elsewhere)
    assert found.device == elsewhere.device
    found = np.asarray(found.to_device(array_api_strict.Device("CPU_DEVICE")))
    assert_same_bits(found, round_to(x, "binary8", "signed_SR_eps(0.1)", Philox(3), v=x))


@pytest.mark.parametrize(("accumulator", "scheme"), [("binary16", "RN"), ("bfloat16", "SR"), ("e4m3", "SR_eps(0.2)")])
def test_every_partial_sum_is_rounded_to_the_format_of_the_accumulator(accumulator, scheme):
    rng = np.random.default_rng(9)
    shapes = [((3, 5, 17), (17, 300)), ((3, 5, 17), (3, 17, 4)), ((5, 1), (1, 2)), ((2, 0), (0, 3)), ((700, 4), (4, 9))]
    shapes += [((3, 300, 4), (4, 1)), ((3, 2, 4), (3, 4, 1)), ((700, 4), (4, 1)), ((2, 0), (0, 1)), ((0, 2), (2, 1))]
    for left, right in shapes:
        a, b = (round_to(rng.standard_normal(shape), "binary8") for shape in (left, right))
        replicates = left[0] if len(left) == 3 else None
        streams = [Philox(4, replicates) for _ in range(3)]
        total = np.zeros((*left[:-1], right[-1]))
        for k in range(left[-1]):
            total = round_to(total + a[..., k : k + 1] * b[..., k : k + 1, :], accumulator, scheme, streams[0])
        expected = round_to(total / 8, "binary8", "SR", streams[0])
        options = {"divisor": 8, "accumulator": accumulator, "scheme": scheme}
        assert_same_bits(Arithmetic("binary8", "SR", streams[1]).matmul(a, b, **options), expected)
        strict = Arithmetic("binary8", "SR", streams[2])
        a, b = array_api_strict.asarray(a), array_api_strict.asarray(b)
        assert_same_bits(np.asarray(strict.matmul(a, b, **options)), expected)
        assert streams[0].draws == streams[1].draws == streams[2].draws


def test_an_accumulator_that_needs_no_words_does_not_mind_whose_they_are():
    rng = Philox(1, replicates=3)
    product = Arithmetic("binary8", "RN", rng).matmul(np.ones((2, 5)), np.ones((5, 2)), accumulator="binary8")
    assert np.all(product == 5) and rng.draws == 0


def test_the_number_of_threads_does_not_change_an_accumulated_product():
    rng = np.random.default_rng(10)
    before = numba.get_num_threads()
    for left, right in [((2, 600, 90), (90, 30)), ((2, 3, 90), (90, 3000))]:
        a, b = (round_to(rng.standard_normal(shape), "binary8") for shape in (left, right))
        found = []
        try:
            for threads in range(1, numba.config.NUMBA_NUM_THREADS + 1):
                numba.set_num_threads(threads)
                arithmetic = Arithmetic("bfloat16", "SR", Philox(5, 2))
                found.append(arithmetic.matmul(a, b, accumulator="bfloat16", scheme="SR"))
        finally:
            numba.set_num_threads(before)
        for product in found[1:]:
            assert_same_bits(product, found[0])


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"accumulator": "binary7"}, ValueError, "format is 'binary7'"),
        ({"accumulator": "binary16", "scheme": "signed_SR_eps(0.1)"}, ValueError, "no direction in an accumulator"),
        ({"accumulator": "binary16", "scheme": "SR"}, TypeError, "SR needs a Philox"),
    ],
)
def test_an_accumulator_that_makes_no_sense_is_refused(options, error, message):
    with pytest.raises(error, match=message):
        Arithmetic("binary8").matmul(np.ones((2, 2)), np.ones((2, 2)), **options)


UNSUITABLE = {
    "float32": (lambda x: x.astype(np.float32), "is of float32; must be of float64"),
    "integers": (lambda x: x.astype(np.int64), "is of int64; must be of float32 or float64"),
    "masked": (lambda x: np.ma.masked_less(x, 0), "is a MaskedArray; must be numbers or an array"),
    "text": (lambda x: "1.0", "is '1.0'; must be numbers or an array"),
    "bool": (lambda x: True, "is True; must be numbers or an array"),
}
OPERANDS = {name: (0,) if name in ("round", "exp", "sum") else (0, 1) for name in SIGNED}


@pytest.mark.parametrize(("operation", "place"), [(name, i) for name, places in OPERANDS.items() for i in places])
@pytest.mark.parametrize("kind", UNSUITABLE)
def test_an_operand_is_of_float64_whatever_the_operation(operation, place, kind):
    spoil, message = UNSUITABLE[kind]
    operands, rng = [sample("binary8", (4, 4)), sample("binary8", (4, 4), seed=1)], Philox(1)
    operands[place] = spoil(operands[place])
    site = Arithmetic("binary8", "SR", rng)
    options = {"sum": {"axis": 1}, "accumulated": {"accumulator": "bfloat16"}}.get(operation, {})
    method = getattr(site, {"accumulated": "matmul"}.get(operation, operation))
    with pytest.raises(TypeError, match=message):
        method(*operands[: len(OPERANDS[operation])], **options)
    assert rng.draws == 0


LEFT = [(5,), (4, 5), (1, 5), (2, 4, 5), (3, 1, 4, 5)]
RIGHT = [(5,), (5, 3), (5, 1), (2, 5, 3), (1, 5, 3), (3, 2, 5, 3)]


@pytest.mark.parametrize("left", LEFT)
@pytest.mark.parametrize("right", RIGHT)
@pytest.mark.parametrize("library", [np.asarray, array_api_strict.asarray])
def test_a_product_has_the_shape_that_numpy_gives_it(left, right, library):
    """In order, exact and accumulated: binary8 by BLAS, wide formats in index order."""
    for fmt in ("binary8", "binary32"):
        a, b = sample(fmt, left), sample(fmt, right, seed=1)
        expected = np.matmul(a, b)
        for options in ({}, {"accumulator": "binary64"}):
            found = np.asarray(Arithmetic("binary64").matmul(library(a), library(b), **options))
            assert found.shape == expected.shape
            np.testing.assert_allclose(found, expected, rtol=1e-14, atol=1e-14)
        one = Arithmetic(fmt, "SR", Philox(3)).matmul(library(a), library(b))
        assert_same_bits(np.asarray(one), round_to(np.asarray(matmul(a, b)), fmt, "SR", Philox(3)))


@pytest.mark.parametrize(
    ("left", "right"), [((4, 5), (4, 5)), ((5,), (4,)), ((), (5,)), ((5,), ()), ((2, 4, 5), (3, 5, 2)), ((3, 4), (3,))]
)
@pytest.mark.parametrize("options", [{}, {"accumulator": "bfloat16"}])
def test_operands_that_do_not_fit_are_refused_in_one_line(left, right, options):
    with pytest.raises(ValueError, match=r"a and b have shapes .*; must be \(..., m, k\) and \(..., k, n\)$"):
        Arithmetic("binary8").matmul(np.ones(left), np.ones(right), **options)


@pytest.mark.parametrize("axis", [None, 0, -1, (0, 2), (2, 0), (-1, 1), (), (0, 1, 2)])
@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("fmt", ["binary8", "binary32"])
@pytest.mark.parametrize("library", [np.asarray, array_api_strict.asarray])
def test_a_sum_has_the_axes_that_numpy_gives_it(axis, keepdims, fmt, library):
    """Exact for binary8, in index order for binary32."""
    x = sample(fmt, (3, 4, 5))
    found = np.asarray(Arithmetic("binary64").sum(library(x), axis, keepdims=keepdims))
    expected = x.sum(axis=axis, keepdims=keepdims)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize(("axis", "message"), [(3, "axis 3 is out of bounds"), ((0, 0), "repeated axis")])
def test_axes_that_are_not_there_are_refused(axis, message):
    with pytest.raises(ValueError, match=message):
        Arithmetic("binary8").sum(np.ones((2, 3, 4)), axis)


SCALARS = [
    ("add", (1.0, 0.125), 1.0), ("subtract", (1, 0.3125), 0.75), ("multiply", (1.25, np.int64(3)), 4.0),
    ("divide", (1.0, 0.0), np.inf), ("divide", (-1, 0), -np.inf), ("divide", (0.0, 0.0), np.nan),
    ("multiply", (np.float64(50000.0), 2.0), np.inf), ("exp", (0,), 1.0),
    ("exp", (1e9,), np.inf), ("round", (1.1,), 1.0), ("round", (1,), 1.0),
]  # fmt: skip


@pytest.mark.parametrize(("operation", "operands", "expected"), SCALARS)
def test_numbers_are_operands_too_and_overflow_is_silent(operation, operands, expected):
    found = getattr(Arithmetic("binary8"), operation)(*operands)
    assert isinstance(found, float)
    np.testing.assert_equal(float(found), expected)


@pytest.mark.parametrize(("operation", "exact"), [("add", np.add), ("divide", np.divide), ("multiply", np.multiply)])
def test_lists_are_operands_too_and_division_by_zero_is_silent(operation, exact):
    a, b = [1.0, -2.0, 0.0], [[0.0], [1]]
    with np.errstate(all="ignore"):
        expected = round_to(exact(np.array(a), np.array(b)), "binary8")
    np.testing.assert_array_equal(getattr(Arithmetic("binary8"), operation)(a, b), expected)
