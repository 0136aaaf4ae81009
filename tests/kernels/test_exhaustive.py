"""Every float32 there is, rounded to the narrow formats: `make exhaustive`, some minutes."""

import math

import numba
import numpy as np
import pytest
from oracle import ML_DTYPES

from srlib import Format, Philox, round_to
from srlib.kernels.cpu import make_grid, stochastic_block
from srlib.kernels.threads import in_threads
from srlib.rounding import rounding_rule

pytestmark = pytest.mark.exhaustive
BLOCK = 1 << 12
each_format = pytest.mark.parametrize("name", ML_DTYPES)


@each_format
def test_every_float32_is_rounded_to_nearest_as_numpy_and_ml_dtypes_do(name):
    part, differing = 1 << 24, 0
    for begin in range(0, 1 << 32, part):
        x = np.arange(begin, begin + part, dtype=np.int64).astype(np.uint32).view(np.float32)
        with np.errstate(all="ignore"):
            expected = x.astype(ML_DTYPES[name]).astype(np.float32)
        found = round_to(x, name)
        differing += np.count_nonzero(
            (found.view(np.uint32) != expected.view(np.uint32)) & ~(np.isnan(found) & np.isnan(expected))
        )
    assert differing == 0


@numba.njit(nogil=True)
def nearest_even(numerator, places):
    """The integer nearest to numerator / 2^places, and of two the even one."""
    if places <= 0:
        return numerator << -places
    if places > 60:
        return 0
    whole, rest, half = numerator >> places, numerator & ((1 << places) - 1), 1 << (places - 1)
    return whole + (1 if rest > half or (rest == half and whole & 1) else 0)


@numba.njit(nogil=True)
def outcomes(bits, precision, emin, eps):
    """Both neighbours' magnitudes of a finite float32, and of 2^32 words below how many it moves away from zero.

    In integers, but for the sum of theta and `eps`: that is exact in float64, or too far from any float32 to matter.
    """
    exponent, fraction = (bits >> 23) & 255, bits & 0x7FFFFF
    m, q = (fraction | 0x800000, exponent - 150) if exponent else (fraction, -149)
    top = q + 23 if exponent else q - 1
    while m >> (top - q + 1):
        top += 1
    k = max(top, emin) - precision + 1
    shift = k - q
    if shift <= 0 or m & ((1 << min(shift, 40)) - 1) == 0:
        exact = m * 2.0**q
        return exact, exact, 0
    rest, significand = m & ((1 << min(shift, 40)) - 1), m >> min(shift, 40)
    below = nearest_even(rest, shift - 32)
    if eps != 0:
        chance = np.float32(rest * 2.0**-shift + eps)
        below = int(min(max(np.rint(np.float64(chance) * 2.0**32), 0.0), 2.0**32))
    return significand * 2.0**k, (significand + 1) * 2.0**k, below


@numba.njit(nogil=True)
def differing(begin, end, rule, biased, direction, description, lean):
    """Count the results that are not the oracle's, for the first and the last word and those beside the threshold."""
    numbers, layout = rule
    precision, emin, largest, overflow = description
    grid, size = make_grid(numbers, layout), BLOCK
    codes, words, expected = np.empty(size, np.uint32), np.empty((4, size), np.uint32), np.empty((4, size), np.float32)
    out, wrong = np.empty(size, np.float32), 0
    for start in range(begin, end, size):
        for i in range(size):
            code = start + i
            codes[i] = code
            sign = -1.0 if code >> 31 else 1.0
            if (code >> 23) & 255 == 255:
                special = np.nan if code & 0x7FFFFF else sign * overflow
                lower, upper, below = special, special, 0
            else:
                lower, upper, below = outcomes(code & 0x7FFFFFFF, precision, emin, lean)
                lower = sign * (overflow if lower > largest else lower)
                upper = sign * (overflow if upper > largest else upper)
            for j, word in enumerate((0, 0xFFFFFFFF, max(below - 1, 0), min(below, 0xFFFFFFFF))):
                words[j, i], expected[j, i] = word, upper if word < below else lower
        x = codes.view(np.float32)
        for j in range(4):
            if direction is None:
                stochastic_block(x, None, out, words[j], grid, biased, 32)
            else:
                stochastic_block(x, direction * x, out, words[j], grid, biased, 32)
            found, due = out.view(np.uint32), expected[j].view(np.uint32)
            for i in range(size):
                wrong += found[i] != due[i] and not (np.isnan(out[i]) and np.isnan(expected[j, i]))
    return wrong


SCHEMES = {
    "SR": (0.0, None),
    "SR_eps(0.1)": (0.1, None),
    "signed_SR_eps(0.4) downward": (-0.4, np.float32(1)),
    "signed_SR_eps(0.4) upward": (0.4, np.float32(-1)),
}


@each_format
@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_float32_is_rounded_stochastically_as_its_word_says(name, scheme):
    fmt, (lean, direction) = Format.parse(name), SCHEMES[scheme]
    rule = rounding_rule(fmt, scheme.split()[0], np.empty(0, np.float32), Philox(0))
    overflow = {"inf": math.inf, "nan": math.nan}[fmt.overflow]
    kernel = (rule.numbers, rule.layout), rule.biased, direction
    description = fmt.precision, fmt.emin, fmt.largest, overflow
    found = []
    count = lambda *part: found.append(differing(*part, *kernel, description, float(np.float32(lean))))  # noqa: E731
    in_threads(1 << 32, count, unit=BLOCK)
    assert sum(found) == 0
