"""Rounding in array-API operations: the specification that every kernel must agree with, bit for bit."""

import numpy as np
from array_api_compat import array_namespace, device

from srlib.formats import Format
from srlib.philox import Philox
from srlib.schemes import Scheme, realised


@np.errstate(all="ignore")
def round_array(x, fmt: Format, scheme: Scheme, rng: Philox | None, v=None):
    """Return `x` rounded to a format (SPEC, Schemes and Randomness), as a new array.

    Parameters
    ----------
    x : array of float32 or float64 of any library that follows the array API standard
    fmt : Format
        One that the dtype of `x` can hold.
    scheme : Scheme
    rng : Philox
        Takes one draw if the scheme is stochastic; else it is not used.
    v : array of the shape of `x`
        Direction, for a signed scheme.
    """
    xp = array_namespace(x)
    located = lower, gap, _ = fmt.locate(x)
    away = _moves_away(xp, scheme.prob_away(x, located, v), scheme, rng)
    exceeds = (lower > fmt.largest) | (away & (lower == fmt.largest)) | xp.isinf(x)
    magnitude = lower + xp.where(away & ~exceeds, gap, xp.zeros_like(gap))
    overflowed = xp.full_like(x, fmt.overflow_value)
    inward = xp.isfinite(x) & scheme.inward(x)
    magnitude = xp.where(exceeds, xp.where(inward, xp.full_like(x, fmt.largest), overflowed), magnitude)
    return xp.where(xp.isnan(x), x, xp.copysign(magnitude, x))


def _moves_away(xp, probability, scheme, rng):
    if not scheme.stochastic:
        return probability == 1
    threshold = xp.astype(realised(probability, rng.bits, rng.threshold) * 2.0**rng.bits, xp.int64)
    word = rng.words(probability)
    uniform = word >> xp.asarray(32 - rng.bits, dtype=word.dtype, device=device(word))
    return xp.astype(uniform, xp.int64) < threshold
