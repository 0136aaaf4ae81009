"""What the compiled kernels want to know of a format and a scheme."""

from typing import NamedTuple

import numpy as np


class Rule(NamedTuple):
    """A format and a scheme, as the kernels want them; floats are of the type of the carrier."""

    emin: int
    scales: np.ndarray  # the floats of a grid
    flushed: float | None  # 2^emin if there are no subnormals
    stochastic: bool
    eps: float | None  # of a stochastic scheme; None if 0 and there is no direction
    positive: float | None  # of the others: the magnitude moves up where theta is above the one of the sign of x,
    negative: float | None  # or equal to it and the significand odd
    top: float  # the largest number below 2^32


def make_rule(carrier, precision, emin, flushed, largest, overflow, stochastic, eps, thresholds) -> Rule:
    """Return the rule of a format and a scheme for "float32" or "float64"; see `Rule`.

    `overflow` is what replaces a magnitude beyond the largest; `thresholds` are those of positive and negative numbers.
    """
    real = np.dtype(carrier).type
    scales = np.array([2.0 ** (precision - 2), 2.0 ** (1 - precision), flushed or 0, largest, overflow], real)
    flushed, eps, *thresholds = (None if value is None else real(value) for value in (flushed, eps, *thresholds))
    return Rule(emin, scales, flushed, stochastic, eps, *thresholds, np.nextafter(real(2**32), real(0)))
