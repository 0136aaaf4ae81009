"""Rounding from the definitions, in exact rationals and one number at a time; and the inputs that all tests share."""

import math
from bisect import bisect_right
from fractions import Fraction
from functools import cache, lru_cache

import ml_dtypes
import numpy as np
from gfloat.formats import format_info_bfloat16, format_info_binary16, format_info_ocp_e4m3, format_info_ocp_e5m2

from srlib import Format

FORMATS = [
    Format.parse("binary8"),
    Format.parse("e4m3"),
    Format.parse("bfloat16"),
    Format.parse("binary16"),
    Format.parse("tf32"),
    Format.parse("binary32"),
    Format.fixed(4, 4),
    Format.fixed(0, 3),
    Format("flushed", 3, -6, 7, subnormals=False),
    Format("saturating", 5, -9, 3, overflow="saturate"),
    Format("narrow", 2, 0, 0, overflow="nan"),
    Format("high", 4, 100, 120),
    Format("deep", 3, -125, 127),  # the scale of a significand is the largest power of two of float32
    Format("whole", 3, -126, 127),  # and here one beyond it
    Format("two bits", 2, -3, 3),  # where 2^(p − 2 − e) is for infinity no normal number of float32
    Format("coarse", 3, 3, 9),  # where half of the smallest number of a carrier is 0
]
ML_DTYPES = {
    "binary8": ml_dtypes.float8_e5m2,
    "e4m3": ml_dtypes.float8_e4m3fn,
    "bfloat16": ml_dtypes.bfloat16,
    "binary16": np.float16,
}
GFLOAT = {
    "binary8": format_info_ocp_e5m2,
    "e4m3": format_info_ocp_e4m3,
    "bfloat16": format_info_bfloat16,
    "binary16": format_info_binary16,
}
SCHEMES = ["RN", "RZ", "RU", "RD", "SR", "SR_eps(0.1)", "SR_eps(0.6)", "signed_SR_eps(0.1)", "signed_SR_eps(0.6)"]


def every_binary16(dtype):
    """Every binary16 value, widened, NaNs and infinities included."""
    with np.errstate(invalid="ignore"):
        return np.arange(2**16, dtype=np.uint16).view(np.float16).astype(dtype)


def edges(fmt, dtype):
    """Where a format and a carrier change: ends of ranges, powers of two, what lies just beside and between them."""
    carrier = np.finfo(dtype)
    powers = [2.0**e for e in range(max(fmt.emin - fmt.precision - 2, -148), min(fmt.emax + 3, 128), 5)]
    overflowing = min(Fraction(fmt.largest) + Fraction(float(fmt.ulp(fmt.largest))) / 2, Fraction(np.finfo(float).max))
    marks = [fmt.largest, float(overflowing), fmt.smallest_normal, fmt.smallest_subnormal, *powers]
    with np.errstate(over="ignore", under="ignore"):
        marks = np.array([0.0, *marks, *np.multiply(marks, 0.5), *np.multiply(marks, 1.5)]).astype(dtype)
    special = np.array([np.inf, np.nan, carrier.max, carrier.tiny, carrier.smallest_subnormal], dtype=dtype)
    with np.errstate(over="ignore", under="ignore"):
        near = [marks, np.nextafter(marks, dtype(np.inf)), np.nextafter(marks, dtype(-np.inf)), special]
    positive = np.concatenate(near)
    return np.concatenate([positive, -positive])


@cache
def magnitudes(fmt):
    """The magnitudes of a format as floats, ascending, with two more binades than it has."""
    lowest = Fraction(2) ** (fmt.emin - fmt.precision + 1)
    found = {m * lowest for m in range(2 ** (fmt.precision - 1))} if fmt.subnormals else {Fraction(0)}
    for e in range(fmt.emin, fmt.emax + 3):
        gap = Fraction(2) ** (e - fmt.precision + 1)
        found |= {m * gap for m in range(2 ** (fmt.precision - 1), 2**fmt.precision)}
    values = sorted(found)
    assert all(Fraction(float(value)) == value for value in values)
    return [float(value) for value in values]


@cache
def largest(fmt):
    """448 for e4m3, whose next magnitude is a NaN; else the largest below 2^(emax + 1)."""
    return 448.0 if fmt.name == "e4m3" else float((2 - Fraction(2) ** (1 - fmt.precision)) * Fraction(2) ** fmt.emax)


@lru_cache(2**16)
def locate(magnitude, fmt):
    """Its neighbours in the format, the exact position between them, and whether the significand of the lower is odd.

    Equal neighbours for a value of the format.
    """
    values = magnitudes(fmt)
    index = bisect_right(values, magnitude)
    below = values[index - 1]
    if below == magnitude:
        return below, below, Fraction(0), False
    above = values[index]
    gap = Fraction(above) - Fraction(below)
    return below, above, (Fraction(magnitude) - Fraction(below)) / gap, Fraction(below) / gap % 2 == 1


def prob_away(scheme, theta, odd, x, v, dtype):
    """The probability of the larger magnitude, with the one addition that the carrier rounds."""
    if scheme == "RN":
        return int(theta > Fraction(1, 2) or (theta == Fraction(1, 2) and odd))
    if scheme in ("RZ", "RU", "RD"):
        return int(scheme == ("RU" if x > 0 else "RD"))
    if scheme == "SR":
        return theta
    eps = dtype(float(scheme[scheme.index("(") + 1 : -1]))
    toward = 1 if scheme.startswith("SR_eps") else (1 if x > 0 else -1) * (int(v < 0) - int(v > 0))
    return Fraction(float(min(max(dtype(float(theta)) + dtype(toward) * eps, dtype(0)), dtype(1))))


def rounded(x, fmt, scheme, word, v, dtype, bits=32):
    """One number rounded to a format, given its random word."""
    if math.isnan(x):
        return x
    overflow = {"inf": math.inf, "nan": math.nan, "saturate": largest(fmt)}[fmt.overflow]
    if math.isfinite(x) and scheme in ("RZ", "RD" if x > 0 else "RU"):
        overflow = largest(fmt)
    if math.isinf(x) or abs(x) >= 2 * magnitudes(fmt)[-1] / 4:
        return math.copysign(overflow, x)
    below, above, theta, odd = locate(abs(x), fmt)
    chance = 0 if theta == 0 else prob_away(scheme, theta, odd, x, v, dtype)
    magnitude = above if word >> (32 - bits) < round(2**bits * chance) else below
    return math.copysign(overflow if magnitude > largest(fmt) else magnitude, x)


@cache
def located(fmt):
    """What `locate` says of each binary16 magnitude in turn, as arrays; 0 where it is beyond the format."""
    beyond = (0.0, 0.0, Fraction(0), False)
    sizes = every_binary16(np.float64)[: 2**15].tolist()
    found = (locate(size, fmt) if size < magnitudes(fmt)[-1] / 2 else beyond for size in sizes)
    below, above, theta, odd = zip(*found, strict=True)
    assert all(Fraction(float(value)) == value for value in set(theta))
    return np.array(below), np.array(above), np.array(theta, dtype=float), np.array(odd)


def every_binary16_rounded(fmt, scheme, words, v, dtype):
    """As `rounded`, all binary16 values at once; float64 holds their positions, and what is compared with the words."""
    x = every_binary16(np.float64)
    below, above, theta, odd = (np.tile(part, 2) for part in located(fmt))
    never = np.zeros(x.shape, dtype=bool)
    away = {"RZ": never, "RU": x > 0, "RD": x < 0}
    if scheme == "RN":
        chance = (theta > 0.5) | ((theta == 0.5) & odd)
    elif scheme in away:
        chance = away[scheme]
    elif scheme == "SR":
        chance = theta
    else:
        eps = dtype(float(scheme[scheme.index("(") + 1 : -1]))
        toward = 1 if scheme.startswith("SR_eps") else np.where(x > 0, 1, -1) * ((v < 0) * 1 - (v > 0))
        chance = np.clip(theta.astype(dtype) + np.asarray(toward, dtype) * eps, dtype(0), dtype(1)).astype(float)
    magnitude = np.where((theta > 0) & (words < np.rint(2.0**32 * chance)), above, below)
    overflow = {"inf": math.inf, "nan": math.nan, "saturate": largest(fmt)}[fmt.overflow]
    held = np.isfinite(x) & ~away[scheme] if scheme in away else never
    beyond = (magnitude > largest(fmt)) | ~(np.abs(x) < magnitudes(fmt)[-1] / 2)
    magnitude = np.where(beyond, np.where(held, largest(fmt), overflow), magnitude)
    with np.errstate(invalid="ignore"):
        return np.where(np.isnan(x), x, np.copysign(magnitude, x)).astype(dtype)
