"""The specification of exp: a correctly rounded table for narrow formats, a few IEEE 754 operations for wide ones."""

import math
from fractions import Fraction
from functools import lru_cache

import mpmath
import numpy as np
from array_api_compat import array_namespace, device

from srlib.formats import Format
from srlib.typing import Array

_TABULATED = 16  # bits of the widest formats whose functions are tables

_PRECISE = mpmath.MPContext()  # its own: that of `mpmath.mp` is the user's, in all threads
_PRECISE.prec = 200

LOWEST, HIGHEST = -746.0, 710.0  # beyond these exp is 0 or infinite
LOG2_E = float.fromhex("0x1.71547652b82fep0")
LN2_HIGH = float.fromhex("0x1.62e42feep-1")  # log 2 but for its last bits, so that small multiples are exact
LN2_LOW = float.fromhex("0x1.a39ef35793c76p-33")  # the rest
TAYLOR = tuple(1 / math.factorial(n) for n in range(13, 1, -1))
POWERS = np.ldexp(1.0, np.arange(-540, 541))  # of two; the middle one is 1


def exp(x: Array) -> Array:
    """Return exp of a float64 array, within one ulp.

    Additions, multiplications and roundings to integers are all that it takes, and IEEE 754 fixes each of them: the exp
    of an array library differs in its last bit from processor to processor.
    """
    xp = array_namespace(x)
    powers, middle = xp.asarray(POWERS, device=device(x)), POWERS.size // 2
    flat = xp.reshape(x, (-1,))
    inside = xp.clip(xp.where(xp.isnan(flat), xp.zeros_like(flat), flat), LOWEST, HIGHEST)
    k = xp.round(inside * LOG2_E)
    high, low = inside - k * LN2_HIGH, k * LN2_LOW
    r = high - low  # at most half of log 2
    series = xp.zeros_like(r)
    for coefficient in TAYLOR:
        series = series * r + coefficient
    y = 1 + (high + (series * (r * r) - low))
    k = xp.astype(k, xp.int64)
    half = k // 2  # 2^k itself may be no float64
    y = y * xp.take(powers, middle + half) * xp.take(powers, middle + k - half)
    return xp.reshape(xp.where(xp.isnan(flat), flat, y), x.shape)


def is_tabulated(fmt: Format) -> bool:
    """Tell whether exp of the values of a format is a table: whether it has no more than 16 bits."""
    return fmt.count <= 2**_TABULATED


@lru_cache(maxsize=16)
def exp_table(fmt: Format) -> tuple[np.ndarray, np.ndarray]:
    """Return −inf, the values of a format and +inf, and exp of each, correctly rounded to float64."""
    values = np.concatenate([[-np.inf], fmt.values(), [np.inf]])
    return values, np.array([_correctly_rounded_exp(float(x)) for x in values])


def _correctly_rounded_exp(x: float) -> float:
    if abs(x) > 1000:
        return math.inf if x > 0 else 0.0
    y = _PRECISE.exp(x)
    try:
        return float(Fraction(int(y.man)) * Fraction(2) ** int(y.exp))  # the one rounding, to subnormals too
    except OverflowError:
        return math.inf


@lru_cache(maxsize=16)
def exp_code_table(fmt: Format) -> tuple[np.ndarray, int, int]:
    """Return the table of exp, the shift and the base that `products.look_up` wants."""
    values, results = exp_table(fmt)
    shift = 53 - fmt.precision
    codes = np.abs(values).view(np.int64) >> shift
    base = int(codes[codes > 0].min()) - 1
    codes = np.clip(codes - base, 0, codes[-2] - base + 1)  # an infinity comes right after the largest value
    half = int(codes.max()) + 1
    table = np.full(2 * half, np.nan)
    table[codes + np.where(values < 0, half, 0)] = results
    table[half] = 1.0  # −0
    return table, shift, base
