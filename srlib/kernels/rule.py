"""What the compiled kernels want to know of a format and a scheme."""

from typing import NamedTuple

import numpy as np

# What the numbers of a rule are, in this order.
NUMBERS = (
    "smallest_normal",
    "to_integer",  # 2^(p − 2): half of what makes a significand of |x| / 2^e
    "from_integer",  # 2^(1 − p)
    "below",  # the smallest normal number where there are no subnormals, else 0
    "largest",
    "overflow",  # what replaces a magnitude beyond the largest
    "positive",  # of deterministic schemes: the magnitude moves up where theta is above the one of the sign of x,
    "negative",  # or equal to it and the significand odd
    "eps",  # of stochastic ones
)


def flag(condition: bool) -> bool | None:
    """Return True or None: Numba compiles a kernel for each, without the branches that the other would take."""
    return True if condition else None


class Rule(NamedTuple):
    """A format and a scheme, as the kernels want them; truth values as `flag` has them, but `stochastic`."""

    numbers: np.ndarray  # `NUMBERS`, of the carrier's type: one array, which a kernel takes faster than its elements
    layout: tuple[bool | None, bool | None]  # whether the format is well inside the carrier; has no subnormals
    biased: bool | None  # whether a stochastic scheme adds something to theta
    directed: bool | None  # whether a deterministic one is
    stochastic: bool


def make_rule(
    carrier: str,
    precision: int,
    emin: int,
    subnormals: bool,
    largest: float,
    overflow: float,
    stochastic: bool,
    biased: bool,
    directed: bool,
    eps: float,
    thresholds: tuple[float, float],
) -> Rule:
    """Return the rule of a format and a scheme for "float32" or "float64"; see `Rule`.

    `thresholds` are those of positive and negative numbers.
    """
    real = np.dtype(carrier).type
    smallest = 2.0**emin
    scales = smallest, 2.0 ** (precision - 2), 2.0 ** (1 - precision), 0 if subnormals else smallest
    numbers = np.array([*scales, largest, overflow, *thresholds, eps], real)
    # With subnormals, and 2^(p − 1 − e) a normal number of the carrier for all its exponents e, even that of infinity,
    # and no theta that underflows.
    inside = subnormals and precision > 2 and 0 <= precision - 1 - emin < np.finfo(real).maxexp
    return Rule(numbers, (flag(inside), flag(not subnormals)), flag(biased), flag(directed), stochastic)
