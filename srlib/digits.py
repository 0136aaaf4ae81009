"""Numbers as they are recorded: ten significant digits, the same on any machine."""

import decimal
import math

import numpy as np
from array_api_compat import is_cupy_array

from srlib.typing import Array

_DIGITS = 10  # of a recorded number; more would depend on the machine


_LOWEST = -290


_POWERS_OF_TEN = np.array([float(f"1e{k}") for k in range(_LOWEST, 309)])


def significant(values: Array) -> np.ndarray:
    """Return a NumPy array of the values to 10 significant digits, by operations that are the same on any machine."""
    values = to_numpy(values)
    above = np.searchsorted(_POWERS_OF_TEN, np.abs(values), side="right")
    shift = _DIGITS - (above + _LOWEST)
    up, down = (_POWERS_OF_TEN[np.clip(k, 0, 308) - _LOWEST] for k in (shift, -shift))
    return np.rint(values * up / down) * down / up


def rounded_up(value: float, digits: int = 3) -> str:
    """Return an upper bound as text with so many significant digits, never below its value.

    Examples
    --------
    >>> rounded_up(0.12301), rounded_up(0.12)
    ('0.124', '0.12')
    """
    if not math.isfinite(value):
        return str(value)
    with decimal.localcontext(decimal.Context(prec=digits, rounding=decimal.ROUND_CEILING)):
        return f"{float(+decimal.Decimal(repr(float(value)))):.{digits}g}"


def to_numpy(x: Array) -> np.ndarray:
    """Return an array of any library as one of NumPy."""
    return x.get() if is_cupy_array(x) else np.asarray(x)
