import itertools
import math
import tracemalloc
from fractions import Fraction

import array_api_strict
import gfloat
import gmpy2
import ml_dtypes
import numba
import numpy as np
import oracle
import pytest
from hypothesis import given
from hypothesis import strategies as st

from srlib import Format, Philox, Scheme, mean_error, prob_up, round_to, variance
from srlib.kernels import reference, threads
from srlib.kernels.rule import NUMBERS
from srlib.rounding import is_compiled, rounding_rule

pytestmark = pytest.mark.xdist_group("kernels")  # which one process compiles once

DTYPES = [np.float32, np.float64]
SMALL = [fmt for fmt in oracle.FORMATS if fmt.precision <= 11]
each_dtype = pytest.mark.parametrize("dtype", DTYPES)
each_format = pytest.mark.parametrize("fmt", oracle.FORMATS, ids=str)
each_small_format = pytest.mark.parametrize("fmt", SMALL, ids=str)
each_scheme = pytest.mark.parametrize("scheme", oracle.SCHEMES)


def directions(x):
    """−1, 0, 1, −0, NaN, … in turn, of the shape of x."""
    return np.resize(np.array([-2.0, 0.0, 1e-30, -0.0, np.nan, 3.0, -np.inf], dtype=x.dtype), x.shape)


def assert_same_bits(actual, expected):
    """Equal, with the signs of zeros; a NaN equals any NaN."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.dtype == expected.dtype and actual.shape == expected.shape
    np.testing.assert_array_equal(actual, expected)
    numbers = ~np.isnan(expected)
    np.testing.assert_array_equal(np.signbit(actual)[numbers], np.signbit(expected)[numbers])


@each_small_format
@each_scheme
@each_dtype
def test_edges_round_as_the_rationals_say(fmt, scheme, dtype):
    x = oracle.edges(fmt, dtype)
    v = directions(x)
    words = Philox(3).words(x)
    expected = [oracle.rounded(float(a), fmt, scheme, int(w), b, dtype) for a, w, b in zip(x, words, v, strict=True)]
    assert_same_bits(round_to(x, fmt, scheme, Philox(3), v=v), np.array(expected, dtype=dtype))


@pytest.mark.parametrize("fmt", [fmt for fmt in SMALL if fmt.precision < 11], ids=str)
@each_scheme
def test_every_binary16_value_rounds_as_the_rationals_say(fmt, scheme):
    x = oracle.every_binary16(np.float32)
    v = directions(x)
    words = Philox(4).words(x)
    expected = oracle.every_binary16_rounded(fmt, scheme, words, v, np.float32)
    assert_same_bits(round_to(x, fmt, scheme, Philox(4), v=v), expected)
    some = slice(None, None, 61)
    zipped = zip(x[some], words[some], v[some], strict=True)
    one_by_one = [oracle.rounded(float(a), fmt, scheme, int(w), b, np.float32) for a, w, b in zipped]
    assert_same_bits(expected[some], np.array(one_by_one, dtype=np.float32))


FEW = [dict(zip(("bits", "threshold", "start"), parts, strict=True))
       for parts in itertools.product((1, 2, 5, 24, 32), ("nearest", "floor"), (0, 3, 4, 2**32 + 1))]  # fmt: skip


@pytest.mark.parametrize("few", FEW, ids=str)
@pytest.mark.parametrize("scheme", ["SR", "SR_eps(0.2)", "signed_SR_eps(0.3)"])
@each_dtype
def test_with_few_bits_and_a_start_the_kernel_is_the_specification_and_exact_rationals(few, scheme, dtype):
    """P(away) is evaluated in the carrier, and its multiple of 2^−bits is that of rationals."""
    rng = np.random.default_rng(40)
    x = (rng.standard_normal((3, 501)) * np.exp2(rng.integers(-8, 8, (3, 501)))).astype(dtype)
    v, replicates = directions(x), range(4, 10, 2)
    found = round_to(x, "binary8", scheme, Philox(5, replicates, **few), v=v)
    fmt, parsed = Format.parse("binary8"), Scheme.parse(scheme)
    assert_same_bits(found, reference.round_array(x, fmt, parsed, Philox(5, replicates, **few), v))
    words = Philox(5, replicates, start=few["start"]).words(x) >> np.uint64(32 - few["bits"])
    located = fmt.locate(x)
    away = parsed.prob_away(x, located, v if parsed.signed else None)
    whole = {"nearest": round, "floor": math.floor}[few["threshold"]]
    limits = np.array([whole(Fraction(float(p)) * 2 ** few["bits"]) for p in away.ravel()]).reshape(x.shape)
    moved = np.abs(found) > np.abs(round_to(x, "binary8", "RZ"))
    np.testing.assert_array_equal(moved, (words.astype(np.int64) < limits) & (located[2] != 0))


@pytest.mark.parametrize("threshold", ["nearest", "floor"])
@pytest.mark.parametrize("start", [1, 4, 1000])
def test_a_shard_has_the_bits_that_it_has_in_the_whole(threshold, start):
    x = np.random.default_rng(41).standard_normal((4, 5000))
    for scheme in ("SR", "signed_SR_eps(0.2)"):
        whole = round_to(x, "binary8", scheme, Philox(9, 4, bits=9, threshold=threshold), v=-x)
        part = np.ascontiguousarray(x[:, start : start + 2003])
        found = round_to(part, "binary8", scheme, Philox(9, 4, bits=9, threshold=threshold, start=start), v=-part)
        assert_same_bits(found, whole[:, start : start + 2003])
    with pytest.raises(ValueError, match=r"x has shape \(8,\), from element 17179869180 on; a replicate must have"):
        round_to(np.ones(8), "binary8", "SR", Philox(1, start=2**34 - 4))


@pytest.mark.parametrize(
    ("bits", "theta", "nearest", "floored"), [(1, 0.75, 1.0, 0.5), (2, 0.375, 0.5, 0.25), (3, 0.1875, 0.25, 0.125)]
)
@pytest.mark.parametrize("sign", [1, -1])
def test_what_tells_the_thresholds_apart(bits, theta, nearest, floored, sign):
    """P(away) from zero, also below it: at 1 + θ/4 in binary8, whose gap there is ¼."""
    x = sign * (1 + theta / 4)
    for threshold, away in (("nearest", nearest), ("floor", floored)):
        up = prob_up(x, "binary8", "SR", bits=bits, threshold=threshold)
        assert (up if sign > 0 else 1 - up) == away
        assert mean_error(x, "binary8", "SR", bits=bits, threshold=threshold) == sign * (away - theta) / 4
        assert variance(x, "binary8", "SR", bits=bits, threshold=threshold) == away * (1 - away) / 16
        several = round_to(np.full(4096, x), "binary8", "SR", Philox(1, bits=bits, threshold=threshold))
        assert abs(np.mean(np.abs(several) > abs(x)) - away) < 5 * math.sqrt(away * (1 - away) / 4096) + 1e-12
    assert prob_up(x, "binary8", "SR") == (theta if sign > 0 else 1 - theta)


@pytest.mark.parametrize(("name", "theirs"), oracle.GFLOAT.items())
@each_dtype
def test_gfloat_rounds_alike_to_nearest_and_by_few_random_bits(name, theirs, dtype):
    x = np.random.default_rng(20).standard_normal(20_000) * np.exp2(np.random.default_rng(21).integers(-30, 18, 20_000))
    x = np.concatenate([oracle.every_binary16(dtype), x.astype(dtype)])
    x = x[np.isfinite(x)]
    assert_same_bits(round_to(x, name), gfloat.round_ndarray(theirs, x, gfloat.RoundMode.TiesToEven).astype(dtype))
    for bits in (2, 4, 8, 16):
        words = Philox(22).words(x) >> np.uint64(32 - bits)
        theirs_up = {"srbits": 2**bits - 1 - words.astype(np.int64), "srnumbits": bits}
        for threshold, mode in (("nearest", "Stochastic"), ("floor", "StochasticFastest")):
            expected = gfloat.round_ndarray(theirs, x, gfloat.RoundMode[mode], **theirs_up)
            rounded = round_to(x, name, "SR", Philox(22, bits=bits, threshold=threshold))
            assert_same_bits(rounded, expected.astype(dtype))


MPFR = {"RN": gmpy2.RoundToNearest, "RZ": gmpy2.RoundToZero, "RU": gmpy2.RoundUp, "RD": gmpy2.RoundDown}


@pytest.mark.parametrize("fmt", [f for f in oracle.FORMATS if f.subnormals and f.overflow == "inf"], ids=str)
@pytest.mark.parametrize("scheme", MPFR)
def test_mpfr_rounds_alike_signs_of_zero_subnormals_and_overflow_included(fmt, scheme):
    rng = np.random.default_rng(23)
    wide = rng.standard_normal(3000) * np.exp2(rng.integers(fmt.emin - fmt.precision - 3, fmt.emax + 4, 3000))
    x = np.concatenate([oracle.edges(fmt, np.float64), wide])
    # The significands of MPFR are from ½ on.
    exponents = {"emin": fmt.emin - fmt.precision + 2, "emax": fmt.emax + 1, "subnormalize": True}
    with gmpy2.context(precision=fmt.precision, round=MPFR[scheme], **exponents):
        expected = np.array([float(gmpy2.mpfr(number)) for number in x.tolist()])
    assert_same_bits(round_to(x, fmt, scheme), expected)


@pytest.mark.parametrize("fmt", oracle.FORMATS, ids=str)
@each_dtype
def test_a_finite_number_that_is_rounded_toward_zero_stays_finite(fmt, dtype):
    beyond = np.array([2 * fmt.largest, np.finfo(dtype).max, np.inf])
    beyond = beyond[(beyond > fmt.largest) & ((beyond <= np.finfo(dtype).max) | np.isinf(beyond))].astype(dtype)
    overflow = {"inf": np.inf, "nan": np.nan, "saturate": fmt.largest}[fmt.overflow]
    inward, outward = np.where(np.isinf(beyond), overflow, fmt.largest), np.full(beyond.shape, overflow)
    for scheme, above, below in [("RZ", inward, inward), ("RD", inward, outward), ("RU", outward, inward)]:
        for rounding in (round_to, by_the_specification):
            assert_same_bits(rounding(beyond, fmt, scheme, None), above.astype(dtype))
            assert_same_bits(rounding(-beyond, fmt, scheme, None), -below.astype(dtype))


@each_format
@each_scheme
@each_dtype
def test_the_kernel_is_the_specification_to_the_bit(fmt, scheme, dtype):
    x = np.concatenate([oracle.every_binary16(dtype), oracle.edges(fmt, dtype)])
    v = directions(x)
    expected = reference.round_array(x, fmt, Scheme.parse(scheme), Philox(5), v)
    assert_same_bits(round_to(x, fmt, scheme, Philox(5), v=v), expected)


@given(
    st.lists(st.floats(width=32, allow_subnormal=True), min_size=1, max_size=20),
    st.integers(2, 24).flatmap(lambda p: st.tuples(st.just(p), st.integers(-126, 127), st.integers(-126, 127))),
    st.booleans(),
    st.sampled_from(["inf", "nan", "saturate"]),
    st.sampled_from(oracle.SCHEMES),
    st.sampled_from(DTYPES),
    st.integers(1, 32),
)
def test_the_kernel_is_the_specification_for_any_format(values, parameters, subnormals, overflow, scheme, dtype, bits):
    precision, emin, emax = parameters[0], min(parameters[1:]), max(parameters[1:])
    fmt = Format("any", precision, emin, emax, subnormals, overflow)
    x = np.array(values, dtype=dtype)
    v = directions(x)
    expected = reference.round_array(x, fmt, Scheme.parse(scheme), Philox(6, bits=bits), v)
    assert_same_bits(round_to(x, fmt, scheme, Philox(6, bits=bits), v=v), expected)


@given(st.lists(st.floats(), min_size=1, max_size=20), st.integers(2, 53), st.sampled_from(oracle.SCHEMES))
def test_the_kernel_is_the_specification_for_any_float64(values, precision, scheme):
    fmt, x = Format("wide", precision, -1022, 1023), np.array(values)
    v = directions(x)
    expected = reference.round_array(x, fmt, Scheme.parse(scheme), Philox(7), v)
    assert_same_bits(round_to(x, fmt, scheme, Philox(7), v=v), expected)


@pytest.mark.parametrize(("name", "theirs"), oracle.ML_DTYPES.items())
@each_dtype
def test_nearest_is_what_ml_dtypes_says(name, theirs, dtype):
    x = np.concatenate([oracle.every_binary16(dtype), oracle.edges(Format.parse(name), dtype)])
    if dtype == np.float64:  # ml_dtypes rounds float64 twice, by way of float32
        with np.errstate(over="ignore", invalid="ignore"):
            x = x[np.isnan(x) | (x.astype(np.float32) == x)]
    with np.errstate(over="ignore", invalid="ignore"):
        expected = x.astype(theirs).astype(dtype)
    assert_same_bits(round_to(x, name), expected)


@each_format
@each_scheme
def test_values_of_the_format_never_move(fmt, scheme):
    values = round_to(oracle.every_binary16(np.float64), fmt)
    assert_same_bits(round_to(values, fmt, scheme, Philox(8), v=directions(values)), values)


@each_scheme
def test_binary64_is_the_identity_in_float64(scheme):
    x = oracle.edges(Format.parse("binary64"), np.float64)
    assert_same_bits(round_to(x, "binary64", scheme, Philox(8), v=directions(x)), x)


@pytest.mark.parametrize("scheme", ["SR", "SR_eps(0.3)", "signed_SR_eps(0.3)"])
def test_the_rounding_of_minus_x_along_minus_v_is_minus_the_rounding_of_x(scheme):
    x = oracle.every_binary16(np.float32)
    x = x[~np.isnan(x)]
    v = directions(x)
    assert_same_bits(round_to(-x, "e4m3", scheme, Philox(9), v=-v), -round_to(x, "e4m3", scheme, Philox(9), v=v))


def test_signed_against_minus_x_is_sr_eps_and_without_eps_is_sr():
    x = oracle.every_binary16(np.float32)
    sr_eps = round_to(x, "binary8", "SR_eps(0.2)", Philox(10))
    assert_same_bits(round_to(x, "binary8", "signed_SR_eps(0.2)", Philox(10), v=-x), sr_eps)
    assert_same_bits(round_to(x, "binary8", "SR_eps(0.0)", Philox(10)), round_to(x, "binary8", "SR", Philox(10)))


@each_scheme
@each_dtype
def test_array_api_strict_arrays_round_as_numpy_arrays_do(scheme, dtype):
    x = oracle.edges(Format.parse("binary8"), dtype).reshape(2, -1)
    v = directions(x)
    strict, direction = array_api_strict.asarray(x), array_api_strict.asarray(v)
    rounded = round_to(strict, "binary8", scheme, Philox(11, replicates=2), v=direction)
    assert type(rounded) is type(strict)
    assert_same_bits(np.asarray(rounded), round_to(x, "binary8", scheme, Philox(11, replicates=2), v=v))


def test_array_api_strict_arrays_take_out():
    x = array_api_strict.asarray(np.linspace(-3, 3, 7))
    out = array_api_strict.zeros_like(x)
    assert round_to(x, "binary8", out=out) is out
    assert_same_bits(np.asarray(out), round_to(np.asarray(x), "binary8"))


def layouts():
    x = np.random.default_rng(1).standard_normal((6, 8)).astype(np.float32)
    yield "C", x
    yield "Fortran", np.asfortranarray(x)
    yield "strided", np.repeat(x, 2, axis=1)[:, ::2]
    yield "reversed", x[::-1, ::-1].copy()[::-1, ::-1]
    yield "big-endian", x.astype(">f4")
    yield "read-only", np.frombuffer(x.tobytes(), np.float32).reshape(6, 8)


@pytest.mark.parametrize(("layout", "x"), list(layouts()), ids=lambda value: value if isinstance(value, str) else "")
def test_the_layout_of_an_array_does_not_change_its_rounding(layout, x):
    plain = np.array(x, dtype=np.float32, order="C")
    expected = round_to(plain, "binary8", "signed_SR_eps(0.1)", Philox(12), v=-plain)
    assert_same_bits(round_to(x, "binary8", "signed_SR_eps(0.1)", Philox(12), v=-x), expected)
    if layout != "read-only":
        out = np.empty_like(x)
        assert round_to(x, "binary8", "signed_SR_eps(0.1)", Philox(12), v=-x, out=out) is out
        assert_same_bits(out.astype(np.float32), expected)


def test_out_may_be_x_or_overlap_with_it():
    x = np.random.default_rng(2).standard_normal(5000)
    expected = round_to(x, "binary8", "SR", Philox(13))
    same = x.copy()
    assert round_to(same, "binary8", "SR", Philox(13), out=same) is same
    assert_same_bits(same, expected)
    for shift in (1, -1):
        buffer = np.zeros(5001)
        source, target = (buffer[:-1], buffer[1:]) if shift == 1 else (buffer[1:], buffer[:-1])
        source[:] = x
        round_to(source, "binary8", "SR", Philox(13), out=target)
        assert_same_bits(target.copy(), expected)


OVERLAPPING = {
    "transposed": lambda a: (a.T, a),
    "onto its transpose": lambda a: (a, a.T),
    "reversed": lambda a: (a[::-1, ::-1], a),
    "onto its reverse": lambda a: (a, a[::-1, ::-1]),
    "broadcast": lambda a: (np.broadcast_to(a[-1:], a.shape), a),
    "a row above": lambda a: (a[:-1], a[1:]),
    "a row below": lambda a: (a[1:], a[:-1]),
}


def near_zero(rng):
    """A square of numbers of which binary8 rounds some to 0, so that a direction that is overwritten is another one."""
    return rng.standard_normal((60, 60)) * np.exp2(-rng.integers(0, 24, (60, 60)))


@pytest.mark.parametrize("views", OVERLAPPING.values(), ids=OVERLAPPING)
@pytest.mark.parametrize("role", ["x", "v", "v, and out is x"])
@pytest.mark.parametrize("scheme", ["RN", "signed_SR_eps(0.4)"])
def test_out_may_overlap_in_any_way_with_what_is_read(views, role, scheme):
    rng = np.random.default_rng(30)
    read, out = views(near_zero(rng))  # of which often one has the memory and the other none
    other = rng.standard_normal(read.shape)
    x, v = {"x": (read, other), "v": (other, read)}.get(role, (out, read))
    expected = round_to(x.copy(), "binary8", scheme, Philox(14), v=v.copy())
    assert round_to(x, "binary8", scheme, Philox(14), v=v, out=out) is out
    assert_same_bits(out.copy(), expected)


@pytest.mark.parametrize("order", ["x", "v", "out"])
@pytest.mark.parametrize("scheme", ["RN", "signed_SR_eps(0.4)"])
def test_each_array_may_have_an_order_of_its_own(order, scheme):
    x = np.random.default_rng(32).standard_normal((40, 50))
    arrays = {"x": x, "v": x[::-1].copy(), "out": np.zeros_like(x)}
    expected = round_to(x, "binary8", scheme, Philox(14), v=arrays["v"])
    arrays[order] = np.array(arrays[order], order="F")
    rounded = round_to(arrays.pop("x"), "binary8", scheme, Philox(14), **arrays)
    assert rounded is arrays["out"]
    assert_same_bits(rounded, expected)


@each_dtype
@pytest.mark.parametrize("other", DTYPES)
@pytest.mark.parametrize("size", [1e-300, 1e-60, 1e60, np.inf])
@pytest.mark.parametrize("library", [np.asarray, array_api_strict.asarray])
def test_of_a_direction_the_signs_alone_count_whatever_its_type(dtype, other, size, library):
    x = np.linspace(-3, 3, 1000).astype(dtype)
    signs = np.resize([1.0, -1.0, 0.0, -0.0, np.nan], x.shape)
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        v = np.where(signs == 0, signs, signs * max(size, float(np.finfo(other).smallest_subnormal))).astype(other)
    expected = round_to(x, "binary8", "signed_SR_eps(0.4)", Philox(14), v=signs.astype(dtype))
    rounded = round_to(library(x), "binary8", "signed_SR_eps(0.4)", Philox(14), v=library(v))
    assert_same_bits(np.asarray(rounded), expected)


def test_v_may_be_out():
    x = np.random.default_rng(3).standard_normal(5000)
    v = -x[::-1].copy()
    expected = round_to(x, "binary8", "signed_SR_eps(0.4)", Philox(14), v=v)
    assert_same_bits(round_to(x, "binary8", "signed_SR_eps(0.4)", Philox(14), v=v, out=v), expected)


@pytest.mark.parametrize("shift", [1, -1])
def test_out_may_overlap_with_v(shift):
    x, buffer = np.random.default_rng(3).standard_normal(5000), np.random.default_rng(4).standard_normal(5001)
    v, out = (buffer[:-1], buffer[1:]) if shift == 1 else (buffer[1:], buffer[:-1])
    expected = round_to(x, "binary8", "signed_SR_eps(0.4)", Philox(14), v=v.copy())
    assert_same_bits(round_to(x, "binary8", "signed_SR_eps(0.4)", Philox(14), v=v, out=out), expected)


@each_scheme
@each_dtype
@pytest.mark.parametrize("replicates", [None, 4])
@pytest.mark.parametrize("target", ["new", "other", "x", "v"])
def test_a_view_is_rounded_as_an_array_with_memory_of_its_own(scheme, dtype, replicates, target):
    x = np.random.default_rng(5).standard_normal((4, 300)).astype(dtype)

    def result(owned):
        arrays = {"x": x.copy(), "v": directions(x), "other": np.zeros_like(x), "new": None}
        if not owned:
            arrays = {name: array if array is None else array[:] for name, array in arrays.items()}
        out, rng = arrays[target], Philox(17, replicates=replicates)
        rounded = round_to(arrays["x"], "binary8", scheme, rng, v=arrays["v"], out=out)
        assert out is None or rounded is out
        return rounded, round_to(rounded, "e4m3", scheme, rng, v=arrays["v"])

    for actual, expected in zip(result(owned=True), result(owned=False), strict=True):
        assert_same_bits(actual, expected)


@each_scheme
@each_dtype
@pytest.mark.parametrize("replicates", [None, 2])
@pytest.mark.parametrize("target", ["new", "other", "x", "v"])
def test_an_array_is_rounded_where_it_is_as_the_specification_says(scheme, dtype, replicates, target):
    parsed = Scheme.parse(scheme)
    x = np.random.default_rng(6).standard_normal((2, 300)).astype(dtype)
    v = directions(x).copy() if parsed.signed or target == "v" else None
    one, other = (Philox(17, replicates) if parsed.stochastic else None for _ in range(2))
    expected = by_the_specification(x, "binary8", scheme, one, v=v)
    out = {"new": None, "other": np.zeros_like(x), "x": x, "v": v}[target]
    rounded = round_to(x, "binary8", scheme, other, v=v, out=out)
    assert out is None or rounded is out
    assert_same_bits(rounded, expected)


def test_the_kernels_are_for_numpy_arrays():
    assert is_compiled(np.ones(3)) and is_compiled(np.ones((2, 3), np.float32)[:, ::2])
    assert not is_compiled(array_api_strict.ones(3))


@each_dtype
@pytest.mark.parametrize("scheme", ["RN", "SR", "SR_eps(0.25)"])
def test_a_rule_has_the_numbers_of_its_format_and_scheme_in_the_type_of_the_array(dtype, scheme):
    rule = rounding_rule("binary8", scheme, np.ones(3, dtype), Philox(1) if scheme != "RN" else None)
    numbers = dict(zip(NUMBERS, rule.numbers.tolist(), strict=True))
    assert rule.numbers.dtype == dtype
    assert (numbers["smallest_normal"], numbers["largest"], numbers["overflow"]) == (2.0**-14, 57344, np.inf)
    assert numbers["eps"] == (0.25 if scheme == "SR_eps(0.25)" else 0)
    assert rule.stochastic == (scheme != "RN")


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("binary8", "SR", np.ones(3), None), TypeError, "^rng is None; SR needs a Philox$"),
        (("binary64", "RN", np.ones(3, np.float32), None), ValueError, "precision 53; a float32 array has 24"),
        (("binary7", "RN", np.ones(3), None), ValueError, "format is 'binary7'"),
        (("binary8", "SR_eps", np.ones(3), None), ValueError, "scheme is 'SR_eps'"),
    ],
)
def test_a_rule_that_makes_no_sense_is_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        rounding_rule(*arguments)


@pytest.mark.parametrize("scheme", ["RN", "SR"])
def test_an_array_without_axes_is_written_to_as_others_are(scheme):
    out = np.array(0.0)
    assert round_to(np.array(1.25), "binary8", scheme, Philox(1), out=out) is out
    assert out == 1.25


@pytest.mark.parametrize("scheme", ["RN", "SR"])
def test_scalars_arrays_without_axes_and_empty_arrays(scheme):
    assert round_to(1.1, "binary8", scheme, Philox(1)) in (1.0, 1.25)
    assert isinstance(round_to(1.1, "binary8", scheme, Philox(1)), float)
    assert round_to(np.float32(1.1), "binary8", scheme, Philox(1)).dtype == np.float32
    assert round_to(np.array(1.1), "binary8", scheme, Philox(1)) in (1.0, 1.25)
    for shape in ((0,), (3, 0), (0, 3)):
        assert round_to(np.empty(shape, np.float32), "binary8", scheme, Philox(1)).shape == shape
    assert round_to(np.empty((2, 0)), "binary8", scheme, Philox(1, replicates=2)).shape == (2, 0)


@each_scheme
@pytest.mark.parametrize("size", [1, 3, 1022, 1023, 1024, 1025, 4099, 70001])
def test_a_replicate_has_the_same_bits_alone_and_among_others(scheme, size):
    x = np.random.default_rng(4).standard_normal((5, size)).astype(np.float32)
    v = directions(x)
    together = Philox(15, replicates=range(3, 8), bits=20)
    first = round_to(x, "binary8", scheme, together, v=v)
    second = round_to(x, "binary8", scheme, together, v=v)
    for r in range(5):
        alone = Philox(15, replicates=range(3 + r, 4 + r), bits=20)
        assert_same_bits(round_to(x[r : r + 1], "binary8", scheme, alone, v=v[r : r + 1])[0], first[r])
        assert_same_bits(round_to(x[r : r + 1], "binary8", scheme, alone, v=v[r : r + 1])[0], second[r])
    alone = Philox(15, replicates=range(0, 1), bits=20)
    without = Philox(15, bits=20)
    assert_same_bits(
        round_to(x[:1], "e4m3", scheme, alone, v=v[:1])[0], round_to(x[0], "e4m3", scheme, without, v=v[0])
    )


@each_dtype
@pytest.mark.parametrize("scheme", ["RN", "SR", "SR_eps(0.1)", "signed_SR_eps(0.1)"])
@pytest.mark.parametrize("replicates", [1, 3, range(12, 0, -5)])
@pytest.mark.parametrize("row", [1, 1022, 1025, 2047, 3333, 4096])
def test_a_part_of_an_array_has_the_same_bits_wherever_it_begins_and_ends(monkeypatch, dtype, scheme, replicates, row):
    """Parts of several threads begin at any element of a replicate, and blocks end at any word of four."""
    monkeypatch.setattr(threads, "SMALL", 0)
    x = np.random.default_rng(33).standard_normal((len(Philox(1, replicates).numbers()), row)).astype(dtype)
    v = directions(x)
    expected = reference.round_array(x, Format.parse("binary8"), Scheme.parse(scheme), Philox(16, replicates), v)
    for number in (1, 2, 3, 5):
        monkeypatch.setattr(numba, "get_num_threads", lambda number=number: number)
        assert_same_bits(round_to(x, "binary8", scheme, Philox(16, replicates), v=v), expected)


@each_scheme
@each_dtype
def test_the_number_of_threads_does_not_change_the_bits(scheme, dtype):
    x = np.random.default_rng(5).standard_normal(300_003).astype(dtype)
    v = directions(x)
    before = numba.get_num_threads()
    try:
        results = []
        for threads in range(1, numba.config.NUMBA_NUM_THREADS + 1):
            numba.set_num_threads(threads)
            results.append(round_to(x, "binary8", scheme, Philox(16), v=v))
    finally:
        numba.set_num_threads(before)
    expected = reference.round_array(x, Format.parse("binary8"), Scheme.parse(scheme), Philox(16), v)
    for result in results:
        assert_same_bits(result, expected)


def test_stochastic_schemes_take_one_draw_each_and_the_others_none():
    rng, x = Philox(17), np.ones(3)
    for scheme, draws in [("RN", 0), ("SR", 1), ("RU", 1), ("SR_eps(0.1)", 2), ("signed_SR_eps(0.1)", 3)]:
        round_to(x, "binary8", scheme, rng, v=x)
        assert rng.draws == draws


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 31])
def test_few_random_bits_make_multiples_of_their_power_of_two(bits):
    # theta is half of 2^-bits more than a multiple of it: a tie, to even, of the threshold.
    counts = 2 ** min(bits, 8)
    theta = (np.arange(counts) + 0.5) / counts
    x = 4.0 + theta
    words = Philox(18, bits=bits).words(x) >> np.uint64(32 - bits)
    away = round_to(x, "binary8", "SR", Philox(18, bits=bits)) == 5
    np.testing.assert_array_equal(away, words < np.rint(theta * 2.0**bits))


def by_the_specification(x, fmt, scheme, rng, *, v=None):
    return reference.round_array(x, Format.parse(fmt), Scheme.parse(scheme), rng, v)


@pytest.mark.parametrize("rounding", [round_to, by_the_specification])
@pytest.mark.parametrize(
    ("dtype", "bits"), [(np.float64, k) for k in (1, 2, 8, 20, 31, 32)] + [(np.float32, k) for k in (1, 2, 8, 20, 32)]
)
@pytest.mark.parametrize(
    ("scheme", "sign", "shift"),
    [("SR", 1, 0.0), ("SR_eps(0.25)", 1, 0.25), ("signed_SR_eps(0.25)", -1, 0.25), ("signed_SR_eps(0.25)", 1, -0.25)],
)
def test_a_threshold_is_the_nearest_whole_number_and_the_even_one_of_two(rounding, dtype, bits, scheme, sign, shift):
    """Numbers whose 2^bits·P are the words that they get, or a quarter, a half, … above them."""
    words = Philox(18, bits=bits).words(np.empty(30_000)) >> np.uint64(32 - bits)
    for above in (0.0, 0.25, 0.5, 0.75, 1.0):
        chance = (words + above) / 2.0**bits
        theta = chance - shift
        exact = (chance.astype(dtype) == chance) & (theta.astype(dtype) == theta) & (theta > 0) & (theta < 1)
        x = np.where(exact, theta, 0.5).astype(dtype) * dtype(2.0**-16)  # between 0 and the smallest number of binary8
        away = rounding(x, "binary8", scheme, Philox(18, bits=bits), v=np.full_like(x, sign)) > 0
        up = words % 2 == 1 if above == 0.5 else np.full(words.shape, above > 0.5)
        assert np.any(exact) or above % 1
        np.testing.assert_array_equal(away[exact], up[exact])


@each_dtype
@pytest.mark.parametrize("precision", [2, 3, 5])
def test_numbers_of_a_format_as_wide_as_its_carrier_round_to_even(dtype, precision):
    """Quarters of its smallest number, and what is just below infinity and it."""
    carrier = np.finfo(dtype)
    fmt = Format("whole", precision, int(carrier.minexp), int(carrier.maxexp) - 1)
    quarters = np.arange(2 ** (precision + 1) + 1)
    x = np.ldexp(quarters.astype(dtype), int(carrier.minexp) - precision - 1)
    expected = np.ldexp(
        np.array([round(Fraction(int(k), 4)) for k in quarters], dtype), int(carrier.minexp) + 1 - precision
    )
    top = np.ldexp(dtype(1 - 2.0**-precision), int(carrier.maxexp))
    x, expected = np.append(x, [top, carrier.max, np.inf]), np.append(expected, [top, np.inf, np.inf])
    assert_same_bits(round_to(-x.astype(dtype), fmt), -expected.astype(dtype))


@pytest.mark.parametrize(("threshold", "expected"), [(4294967272, 4.0), (4294967273, 5.0), (2**32 - 1, 5.0)])
def test_thresholds_just_below_certainty_are_told_apart(threshold, expected):
    """The word of element 57555 in draw 65 of seed 1 is 4294967272, 24 below 2^32."""
    rng = Philox(1)
    rng.draws = 65
    assert round_to(np.full(57556, 4 + threshold / 2**32), "binary8", "SR", rng)[-1] == expected


X = np.linspace(-2, 2, 6).reshape(2, 3)
ELSEWHERE = array_api_strict.Device("device1")
READ_ONLY = np.zeros((2, 3))
READ_ONLY.flags.writeable = False


def with_own_memory(value):
    """A NumPy scalar or a view as an array with memory of its own, which has a way through the checks of its own."""
    if isinstance(value, np.floating):
        return np.full(3, value)
    return value.copy() if isinstance(value, np.ndarray) and not value.flags.owndata else value


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"x": np.arange(3)}, TypeError, "x is of int64; must be of float32 or float64"),
        ({"x": X + 0j}, TypeError, "x is of complex128; must be"),
        ({"x": np.longdouble(1)}, TypeError, "x is of .*; must be of float32 or float64"),
        ({"x": True}, TypeError, "x is True; must be numbers or an array"),
        ({"x": None}, TypeError, "x is None; must be numbers or an array"),
        ({"x": 1j}, TypeError, "x is 1j; must be numbers or an array"),
        ({"x": [1.0, None]}, TypeError, "x holds None; must hold real numbers"),
        ({"x": [1.0, [True]]}, TypeError, "x holds True; must hold real numbers"),
        ({"x": [np.bool(True)]}, TypeError, r"x holds np.True_; must hold real numbers"),
        ({"x": ["1.0"]}, TypeError, "x holds '1.0'; must hold real numbers"),
        ({"x": [1.0, 1j]}, TypeError, "x holds 1j; must hold real numbers"),
        ({"x": [np.arange(3)]}, TypeError, r"x holds array\(\[0, 1, 2\]\); must hold real numbers"),
        ({"x": [[1.0, 2.0], [3.0]]}, ValueError, "x is ragged; must have rows of one length"),
        ({"x": [1.0, [2.0]]}, ValueError, "x is ragged; must have rows of one length"),
        ({"x": 2**53 + 1}, ValueError, "x holds 9007199254740993; must hold numbers that float64 has"),
        ({"x": [0.5, 10**400]}, ValueError, "x holds a int; must hold numbers that float64 has"),
        ({"x": "1.0"}, TypeError, "x is '1.0'; must be"),
        ({"x": np.float32(1), "fmt": "binary64"}, ValueError, "precision 53; a float32 array has 24"),
        (
            {"x": np.float32(1), "fmt": Format("f", 3, -200, 0)},
            ValueError,
            "exponents from -200 to 0; those of a float32",
        ),
        ({"fmt": "binary7"}, ValueError, "format is 'binary7'; must be a Format, fixed"),
        ({"fmt": ["binary8"]}, ValueError, r"format is \['binary8'\]; must be a Format, fixed"),
        ({"scheme": ["SR"]}, ValueError, r"scheme is \['SR'\]; must be a Scheme or one of RN"),
        ({"scheme": "SR_eps"}, ValueError, "scheme is 'SR_eps'; must be a Scheme or one of RN"),
        ({"scheme": "SR_eps(1.0)"}, ValueError, "eps is 1.0; must be at least 0 and below 1"),
        ({"scheme": "SR_eps(-0.1)"}, ValueError, "eps is -0.1; must be at least 0 and below 1"),
        ({"scheme": "SR", "rng": None}, TypeError, "rng is None; SR needs a Philox"),
        ({"scheme": "SR", "rng": np.random.default_rng()}, TypeError, "SR needs a Philox"),
        (
            {"scheme": "SR", "rng": Philox(1, replicates=3)},
            ValueError,
            r"x has shape \(2, 3\); its first axis must be the 3",
        ),
        ({"scheme": "signed_SR_eps(0.1)"}, ValueError, r"v is missing; signed_SR_eps\(0.1\) needs a direction"),
        ({"scheme": "signed_SR_eps(0.1)", "v": X[0]}, ValueError, r"v has shape \(3,\); must be \(2, 3\)"),
        ({"scheme": "signed_SR_eps(0.1)", "v": 1}, ValueError, r"v has shape \(\); must be \(2, 3\)"),
        ({"out": READ_ONLY}, ValueError, "out is read-only; must be writeable"),
        ({"out": np.empty((3, 2))}, ValueError, r"out has shape \(3, 2\); must be \(2, 3\)"),
        ({"out": np.empty((2, 3), np.float32)}, TypeError, "out is of float32; must be of float64"),
        ({"out": [0.0]}, TypeError, r"out is \[0.0\]; must be an array of the same kind as x, ndarray"),
        (
            {"scheme": "SR", "rng": Philox(1, replicates=1)},
            ValueError,
            r"x has shape \(2, 3\); its first axis must be the 1",
        ),
        ({"scheme": "SR", "rng": Philox(1), "out": READ_ONLY}, ValueError, "out is read-only; must be writeable"),
        ({"scheme": "SR", "v": X[0]}, ValueError, r"v has shape \(3,\); must be \(2, 3\)"),
        ({"v": X[:, :2]}, ValueError, r"v has shape \(2, 2\); must be \(2, 3\)"),
        ({"v": np.arange(6).reshape(2, 3)}, TypeError, "v is of int64; must be of float32 or float64"),
        ({"out": np.ma.zeros((2, 3))}, TypeError, "out is a MaskedArray; must be an array of the same kind as x"),
        ({"x": np.ma.masked_less(X, 0)}, TypeError, "x is a MaskedArray; must be numbers or an array of float32"),
        ({"v": np.ma.masked_less(X, 0)}, TypeError, "v is a MaskedArray; must be numbers or an array of float32"),
        (
            {"scheme": "signed_SR_eps(0.1)", "v": array_api_strict.asarray(X)},
            TypeError,
            r"v is an array of array_api_strict on .*; must be one of numpy on cpu, as x is",
        ),
        (
            {"x": array_api_strict.asarray(X), "v": X},
            TypeError,
            "v is an array of numpy on cpu; must be one of array_api",
        ),
        (
            {"x": array_api_strict.asarray(X), "v": array_api_strict.asarray(X, device=ELSEWHERE)},
            TypeError,
            r"v is an array of array_api_strict on .*device1.*; must be one of array_api_strict on .*CPU_DEVICE",
        ),
    ],
)
@pytest.mark.parametrize("own", [False, True], ids=["views", "own memory"])
def test_bad_input_is_refused_in_one_line_and_takes_no_draw(arguments, error, message, own):
    rng = Philox(1)
    arguments = {"x": X, "fmt": "binary8", "scheme": "RN", "rng": rng} | arguments
    if own:
        arguments = {name: with_own_memory(value) for name, value in arguments.items()}
    with pytest.raises(error, match=message) as caught:
        round_to(arguments.pop("x"), arguments.pop("fmt"), **arguments)
    assert "\n" not in str(caught.value)
    assert rng.draws == 0


@pytest.mark.parametrize("scheme", ["SR", "SR_eps(0.2)", "signed_SR_eps(0.2)"])
def test_roundings_of_neighbours_draws_replicates_and_seeds_are_not_correlated(scheme):
    """10^6 pairs, 15 correlations a scheme: |z| ≤ 6 fails by chance below once in 10^7 for all together."""
    size = 10**6
    x = np.full((2, size), 1.05, np.float32)

    def away(seed, draws, first=0):
        rng = Philox(seed, replicates=range(first, first + 2))
        rng.draws = draws
        return (round_to(x, "binary8", scheme, rng, v=-x) > 1).astype(np.float64)

    one = away(1, 0)
    others = [away(1, 1), away(1, 2**32), away(2, 0), away(2**32 + 1, 0), away(1, 0, first=2)]
    pairs = [(one[0], one[1]), *((one[0], other[0]) for other in others)]
    pairs += [(one[0, :-lag], one[0, lag:]) for lag in (1, 2, 3, 4, 5, 8, 16, 1024, 2**16)]
    for a, b in pairs:
        assert abs(np.corrcoef(a, b)[0, 1]) * np.sqrt(len(a)) <= 6


@each_scheme
@each_dtype
def test_no_memory_is_needed_beside_out(scheme, dtype):
    x = np.ones(10**6, dtype)
    out, rng = np.empty_like(x), Philox(1)
    round_to(x, "binary8", scheme, rng, v=x, out=out)
    tracemalloc.start()
    try:
        round_to(x, "binary8", scheme, rng, v=x, out=out)
        round_to(x, "binary8", scheme, rng, v=x, out=x)
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()


GIVEN = [
    (1, 1.0), (1.1, 1.0), (np.int8(5), 5.0), (np.uint64(9), 8.0), (-0.0, -0.0), ([1.1, 2], [1.0, 2.0]),
    ((1.1, -2.2), [1.0, -2.0]), ([[1.1], [2.2]], [[1.0], [2.0]]), ([np.float32(1.1)], [1.0]), ([], []),
    ([np.array([1.1, 2.2]), (3, 4)], [[1.0, 2.0], [3.0, 4.0]]),
]  # fmt: skip


@pytest.mark.parametrize(("given", "expected"), GIVEN, ids=repr)
@pytest.mark.parametrize("scheme", ["RN", "SR"])
def test_numbers_and_lists_of_them_are_taken_as_float64(given, expected, scheme):
    assert_same_bits(round_to(given, "binary8"), np.asarray(expected, dtype=np.float64))
    plain = np.array(given, dtype=np.float64)
    assert_same_bits(round_to(given, "binary8", scheme, Philox(3)), round_to(plain, "binary8", scheme, Philox(3)))
    assert isinstance(round_to(given, "binary8"), np.ndarray if isinstance(given, list | tuple) else np.float64)
    for function in (prob_up, mean_error, variance):
        assert_same_bits(function(given, "binary8", "SR"), function(plain, "binary8", "SR"))
    for theirs, ours in zip(
        Format.parse("binary8").neighbours(plain), Format.parse("binary8").neighbours(given), strict=True
    ):
        assert_same_bits(ours, theirs)
    assert_same_bits(Format.parse("binary8").ulp(given), Format.parse("binary8").ulp(plain))


NARROW = [
    (np.float16, fmt) for fmt in ("binary8", "e4m3", "binary16", "fixed(4,4)")
] + [(ml_dtypes.bfloat16, fmt) for fmt in ("binary8", "e4m3", "bfloat16", "fixed(4,4)")]  # fmt: skip


@pytest.mark.parametrize(("dtype", "fmt"), NARROW)
@each_scheme
def test_narrow_arrays_are_rounded_in_float32_and_come_back_in_their_type(dtype, fmt, scheme):
    with np.errstate(invalid="ignore"):
        x = np.arange(2**16, dtype=np.uint16).view(dtype).reshape(16, -1)
    wide = x.astype(np.float32)
    v = directions(wide).astype(dtype)
    rng = Philox(4, 16)
    expected = round_to(wide, fmt, scheme, rng, v=v.astype(np.float32)).astype(dtype)
    found = round_to(x, fmt, scheme, Philox(4, 16), v=v)
    assert found.dtype == dtype
    assert_same_bits(found.astype(np.float64), expected.astype(np.float64))
    out = x.copy()
    assert round_to(out, fmt, scheme, Philox(4, 16), v=v, out=out) is out
    assert_same_bits(out.astype(np.float64), expected.astype(np.float64))
    one = round_to(x[0, 100], fmt, scheme, Philox(4), v=v[0, 100])
    assert type(one) is type(x[0, 100])


@pytest.mark.parametrize(
    ("dtype", "fmt", "message"),
    [
        (np.float16, "bfloat16", "format bfloat16 has exponents from -126 to 127; those of a float16 array"),
        (np.float16, "tf32", "format tf32 has exponents from -126 to 127"),
        (ml_dtypes.bfloat16, "binary16", "format binary16 has precision 11; a bfloat16 array has 8"),
        (ml_dtypes.bfloat16, "binary32", "format binary32 has precision 24; a bfloat16 array has 8"),
    ],
)
def test_a_narrow_array_that_cannot_hold_the_format_is_refused(dtype, fmt, message):
    with pytest.raises(ValueError, match=message):
        round_to(np.ones(3, dtype), fmt)
