import math
from fractions import Fraction

import array_api_strict
import ml_dtypes
import numpy as np
import oracle
import pytest
from gfloat.formats import format_info_bfloat16, format_info_binary16, format_info_ocp_e4m3, format_info_ocp_e5m2

import srlib
from srlib import Format, round_to

each_format = pytest.mark.parametrize("fmt", oracle.FORMATS, ids=str)
SMALL = [fmt for fmt in oracle.FORMATS if fmt.precision <= 11 and fmt.name != "tf32"]


@pytest.mark.parametrize(
    ("name", "theirs"), [*oracle.ML_DTYPES.items(), ("binary32", np.float32), ("binary64", np.float64)]
)
def test_the_extremes_are_those_of_ml_dtypes(name, theirs):
    fmt, info = Format.parse(name), ml_dtypes.finfo(theirs)
    assert fmt.largest == float(info.max)
    assert fmt.smallest_normal == float(info.smallest_normal)
    assert fmt.smallest_subnormal == float(info.smallest_subnormal)
    assert fmt.unit_roundoff == float(info.eps) / 2
    assert fmt.ulp(1.0) == float(info.eps)


@pytest.mark.parametrize(
    ("name", "theirs"),
    [
        ("binary8", format_info_ocp_e5m2),
        ("e4m3", format_info_ocp_e4m3),
        ("bfloat16", format_info_bfloat16),
        ("binary16", format_info_binary16),
    ],
)
def test_the_parameters_are_those_of_gfloat(name, theirs):
    fmt = Format.parse(name)
    assert (fmt.precision, fmt.emax, fmt.largest) == (theirs.precision, theirs.emax, theirs.max)
    assert fmt.subnormals == theirs.has_subnormals
    assert (fmt.overflow == "inf") == (theirs.num_posinfs > 0)
    assert fmt.smallest_subnormal == theirs.smallest_subnormal


@pytest.mark.parametrize(("name", "theirs"), oracle.ML_DTYPES.items())
def test_the_values_are_what_all_codes_mean(name, theirs):
    size = np.dtype(theirs).itemsize
    with np.errstate(invalid="ignore"):
        meant = np.arange(2 ** (8 * size)).astype(f"u{size}").view(theirs).astype(np.float64)
    np.testing.assert_array_equal(Format.parse(name).values(), np.unique(meant[np.isfinite(meant)]))


@pytest.mark.parametrize("fmt", SMALL, ids=str)
def test_the_values_are_the_ones_of_the_definition(fmt):
    finite = [value for value in oracle.magnitudes(fmt) if value <= oracle.largest(fmt)]
    assert fmt.count == len(fmt.values())
    np.testing.assert_array_equal(fmt.values(), sorted({sign * value for value in finite for sign in (1.0, -1.0)}))


@pytest.mark.parametrize("fmt", SMALL, ids=str)
def test_every_value_is_a_multiple_of_the_quantum_and_of_no_larger_power_of_two(fmt):
    multiples = fmt.values() / fmt.quantum
    assert np.all(multiples == np.round(multiples))
    assert np.any(multiples % 2 == 1)


def test_too_many_values_are_refused():
    assert len(Format.parse("tf32").values()) == 2 * (254 * 1024 + 1023) + 1
    with pytest.raises(ValueError, match=r"format binary32 has 4278190079 values; values\(\) lists at most 1048576"):
        Format.parse("binary32").values()


def test_as_many_values_as_the_limit_says_are_listed_and_a_binade_more_is_refused():
    """1023 binades of 2^9 values, and as many subnormal ones, of either sign: 2^20 with two zeros."""
    found = Format("full", 10, -511, 511).values()
    assert len(found) == 2**20 - 1
    assert np.all(np.diff(found) > 0) and found[-1] == 2.0**512 - 2.0**502
    with pytest.raises(ValueError, match="format over has 1049599 values"):
        Format("over", 10, -511, 512).values()


@pytest.mark.parametrize("fmt", SMALL, ids=str)
def test_neighbours_enclose_and_ulp_is_the_gap_away_from_zero(fmt):
    values = oracle.magnitudes(fmt)
    values = values[:: max(1, len(values) // 300)]
    for x in [y for value in values for y in (value, math.nextafter(value, math.inf), -value * 1.3)]:
        if abs(x) >= oracle.magnitudes(fmt)[-1]:
            continue
        below, above, *_ = oracle.locate(abs(x), fmt)
        expected = (below, above) if x > 0 or x == 0 else (-above, -below)
        assert tuple(map(float, fmt.neighbours(x))) == expected
        after = next(value for value in oracle.magnitudes(fmt) if value > below)
        assert fmt.ulp(x) == float(Fraction(after) - Fraction(below))


def test_neighbours_and_ulp_take_arrays():
    x = np.array([[-1.1, 0.0], [1.0, 1e-30]], dtype=np.float32)
    below, above = Format.parse("binary8").neighbours(x)
    np.testing.assert_array_equal(below, np.array([[-1.25, 0], [1, 0]], dtype=np.float32))
    np.testing.assert_array_equal(above, np.array([[-1, 0], [1, 2**-16]], dtype=np.float32))
    np.testing.assert_array_equal(Format.parse("binary8").ulp(x), [[0.25, 2**-16], [0.25, 2**-16]])
    assert below.dtype == above.dtype == np.float32


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_arrays_of_another_library_stay_on_their_device(dtype):
    x = np.array([[-1.1, 0.0, np.nan], [1.0, 1e-30, -np.inf]], dtype=dtype)
    fmt, place = Format.parse("binary8"), array_api_strict.Device("device1")
    strict = array_api_strict.asarray(x, device=place)
    pairs = [(fmt.ulp(strict), fmt.ulp(x)), *zip(fmt.neighbours(strict), fmt.neighbours(x), strict=True)]
    for theirs, ours in [*pairs, *zip(fmt.locate(strict), fmt.locate(x), strict=True)]:
        assert theirs.device == place
        assert ours.dtype == dtype
        np.testing.assert_array_equal(np.asarray(theirs.to_device(array_api_strict.Device("CPU_DEVICE"))), ours)


@pytest.mark.parametrize(
    ("fmt", "x", "message"),
    [
        (Format.parse("binary64"), np.float32(1), "format binary64 has precision 53; a float32 array has 24"),
        (Format("low", 3, -127, 0), np.float32(1), "format low has exponents from -127 to 0; those of a float32 array"),
        (Format("high", 3, 0, 128), np.float32(1), "format high has exponents from 0 to 128; those of a float32"),
        (Format.parse("binary8"), "3", "x is '3'; must be numbers or an array"),
    ],
)
def test_what_cannot_hold_the_format_is_refused(fmt, x, message):
    for function in (fmt.neighbours, fmt.ulp):
        with pytest.raises((TypeError, ValueError), match=f"^{message}"):
            function(x)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_carrier_holds_the_formats_of_its_own_precision_and_exponents(dtype):
    info = np.finfo(dtype)
    fmt = Format("own", info.nmant + 1, int(info.minexp), int(info.maxexp) - 1)
    assert fmt.ulp(dtype(1)) == info.eps
    assert fmt.neighbours(info.max) == (info.max, info.max)


def test_beyond_the_ends_neighbours_go_on_and_infinities_and_nan_are_their_own():
    binary8, bfloat16 = Format.parse("binary8"), Format.parse("bfloat16")
    assert binary8.neighbours(60000.0) == (57344, 65536)
    assert bfloat16.neighbours(np.float32(3.4e38)) == (np.float32(bfloat16.largest), math.inf)
    assert binary8.neighbours(-math.inf) == (-math.inf, -math.inf)
    assert all(math.isnan(value) for value in binary8.neighbours(math.nan))
    assert math.isnan(binary8.ulp(math.inf)) and math.isnan(binary8.ulp(math.nan))


def test_below_a_power_of_two_the_gap_is_halved():
    fmt = Format.parse("binary8")
    assert (fmt.ulp(4.0), fmt.ulp(3.9), fmt.ulp(-4.0)) == (1.0, 0.5, 1.0)


def test_fixed_point_is_a_uniform_grid_that_saturates():
    fmt = Format.fixed(3, 2)
    np.testing.assert_array_equal(fmt.values(), np.arange(-31, 32) / 4)
    assert fmt.overflow == "saturate"
    assert Format.parse("fixed(3, 2)") == fmt == Format.parse(str(fmt))


@pytest.mark.parametrize("bits", [(0, 2), (2, 0), (1, 1), (0, 53), (53, 0), (26, 27)])
def test_fixed_point_has_from_2_to_53_bits_wherever_the_point_is(bits):
    fmt, (i, f) = Format.fixed(*bits), bits
    assert Fraction(fmt.largest) == 2**i - Fraction(1, 2**f)
    assert Fraction(fmt.quantum) == Fraction(fmt.smallest_subnormal) == Fraction(1, 2**f)
    assert float(fmt.ulp(0.0)) == float(fmt.ulp(fmt.largest)) == 2.0**-f
    assert str(fmt) == f"fixed({i},{f})"


@pytest.mark.parametrize("name", ["binary8", "e4m3", "bfloat16", "binary16", "tf32", "binary32", "binary64"])
def test_a_name_parses_to_the_format_that_has_it(name):
    assert str(Format.parse(name)) == name
    assert Format.parse(Format.parse(name)) is Format.parse(name)
    assert Format.parse("e5m2") == Format.parse("binary8")


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((1, -14, 15), ValueError, "precision is 1; must be from 2 to 53"),
        ((54, -14, 15), ValueError, "precision is 54; must be from 2 to 53"),
        ((3.0, -14, 15), TypeError, "precision is 3.0; must be an integer"),
        ((3, -1023, 15), ValueError, "emin is -1023; must be from -1022 to 1023"),
        ((3, 15, 14), ValueError, "emax is 14; must be from 15 to 1023"),
        ((3, -14, 15, True, "wrap"), ValueError, "overflow is 'wrap'; must be one of inf, nan, saturate"),
        ((3, -14, 15, True, "nan", 8), ValueError, "largest_significand is 8; must be from 4 to 7"),
        ((3, -14, 15, True, "nan", 3), ValueError, "largest_significand is 3; must be from 4 to 7"),
    ],
)
def test_bad_parameters_are_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        Format("bad", *arguments)


@pytest.mark.parametrize(
    ("bits", "error", "message"),
    [
        ((0, 1), ValueError, r"^integer_bits \+ fraction_bits is 1; must be from 2 to 53"),
        ((30, 24), ValueError, r"^integer_bits \+ fraction_bits is 54; must be from 2 to 53"),
        ((-1, 4), ValueError, "^integer_bits is -1; must be at least 0"),
        ((2, -1), ValueError, "^fraction_bits is -1; must be at least 0"),
        ((2.0, 1), TypeError, "^integer_bits is 2.0; must be an integer"),
        ((2, 1.0), TypeError, "^fraction_bits is 1.0; must be an integer"),
    ],
)
def test_bad_fixed_point_formats_are_refused(bits, error, message):
    with pytest.raises(error, match=message):
        Format.fixed(*bits)


DTYPES = [
    *(ml_dtypes.float8_e5m2, ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e4m3, ml_dtypes.float8_e3m4),
    *(ml_dtypes.float6_e3m2fn, ml_dtypes.float6_e2m3fn, ml_dtypes.float4_e2m1fn, ml_dtypes.bfloat16),
    *(np.float16, np.float32, np.float64),
]


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: np.dtype(dtype).name)
def test_a_data_type_parses_to_the_format_of_its_values(dtype):
    fmt = Format.parse(dtype)
    assert fmt == Format.parse(np.dtype(dtype))
    assert (fmt.largest, fmt.unit_roundoff) == (
        float(ml_dtypes.finfo(dtype).max),
        float(ml_dtypes.finfo(dtype).eps) / 2,
    )
    x = np.arange(2**16, dtype=np.uint16).view(np.float16).astype(np.float64)
    x = x[~np.isnan(x)]
    with np.errstate(over="ignore"):
        theirs = x.astype(dtype)
    ours = round_to(x, dtype)
    np.testing.assert_array_equal(ours, theirs.astype(np.float64))
    np.testing.assert_array_equal(ours.astype(dtype).view(np.uint8), theirs.view(np.uint8))


@pytest.mark.parametrize(
    "text", [int, np.dtype("i4"), ml_dtypes.float8_e5m2fnuz, "float8", "", "fixed(4)", "fixed(-1,4)", 8, None]
)
def test_what_is_no_format_is_refused_with_what_there_is(text):
    with pytest.raises(ValueError, match=r"must be a Format, fixed\(i,f\) or one of binary8, e4m3, bfloat16"):
        Format.parse(text)


CALLED = {
    "binary8": ("binary8", "e5m2", "E5M2", "float8_e5m2", "FP8_E5M2", ml_dtypes.float8_e5m2),
    "e4m3": ("E4M3", "e4m3fn", "float8_e4m3fn", "fp8_e4m3", "FP8_E4M3FN", ml_dtypes.float8_e4m3fn),
    "bfloat16": ("BFloat16", "bf16", "BF16", ml_dtypes.bfloat16),
    "binary16": ("float16", "half", "fp16", "FP16", "Binary16", np.float16, np.dtype(np.half)),
    "tf32": ("TF32", "TensorFloat32"),
    "binary32": ("float32", "single", "fp32", np.float32, np.single),
    "binary64": ("float64", "double", "fp64", np.float64, float),
    "float8_e4m3": ("float8_e4m3", ml_dtypes.float8_e4m3),
    "float8_e3m4": ("e3m4", "float8_e3m4", ml_dtypes.float8_e3m4),
    "float6_e2m3fn": ("E2M3", "fp6_e2m3", "float6_e2m3fn", ml_dtypes.float6_e2m3fn),
    "float6_e3m2fn": ("E3M2", "fp6_e3m2", "float6_e3m2fn", ml_dtypes.float6_e3m2fn),
    "float4_e2m1fn": ("E2M1", "fp4", "fp4_e2m1", "float4_e2m1fn", ml_dtypes.float4_e2m1fn),
    "fixed(4,4)": ("fixed(4,4)", "Fixed(4, 4)"),
}


@pytest.mark.parametrize(("name", "called"), [(name, called) for name in CALLED for called in CALLED[name]], ids=str)
def test_formats_have_the_names_that_numpy_ml_dtypes_ocp_and_ieee_give_them(name, called):
    assert str(Format.parse(called)) == name


@pytest.mark.parametrize("dtype", [t for called in CALLED.values() for t in called if isinstance(t, type)])
def test_a_data_type_is_the_format_of_its_values(dtype):
    fmt, info = Format.parse(dtype), ml_dtypes.finfo(dtype)
    assert (fmt.largest, fmt.smallest_normal) == (float(info.max), float(info.smallest_normal))
    with np.errstate(over="ignore", invalid="ignore"):
        beyond = float(np.array(4 * fmt.largest if info.bits < 64 else math.inf).astype(dtype))
    np.testing.assert_equal(float(round_to(4 * fmt.largest, fmt)), beyond)


@pytest.mark.parametrize("name", ["float8", "e4m3fnuz", "int8", "", "binary 8", "fixed(4)", list, np.int8, 8, None])
def test_names_that_stand_for_no_format_are_refused(name):
    with pytest.raises(ValueError, match=r"^format is .*; must be a Format, fixed\(i,f\) or one of binary8, e4m3, "):
        Format.parse(name)


def test_the_formats_by_name_have_no_aliases():
    assert list(srlib.FORMATS) == [str(fmt) for fmt in srlib.FORMATS.values()]
    assert len(set(srlib.FORMATS.values())) == len(srlib.FORMATS) == 7
