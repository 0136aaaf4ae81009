"""Checks of what a caller passes: one sentence an error, with the argument, its value and what is allowed."""

import math
from collections.abc import Collection
from numbers import Integral, Real
from typing import Any

import numpy as np
from array_api_compat import array_namespace, is_array_api_obj, is_numpy_array, is_writeable_array

from srlib.typing import Array


def integer(name: str, value: Any, low: int, high: int | None = None) -> int:
    """Return `value` as an int; raise TypeError if it is none, ValueError if it is not from `low` to `high`."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"{name} is {value!r}; must be an integer")
    if value < low or (high is not None and value > high):  # type: ignore[operator]
        allowed = f"at least {low}" if high is None else f"from {low} to {high}"
        raise ValueError(f"{name} is {value}; must be {allowed}")
    return int(value)


def real(name: str, value: Any) -> float:
    """Return `value` as a float; raise TypeError if it is no real number, ValueError if not finite."""
    if not math.isfinite(_real(name, value)):
        raise ValueError(f"{name} is {value}; must be finite")
    return float(value)


def positive(name: str, value: Any) -> float:
    """Return `value` as a float; raise TypeError if it is no real number, ValueError if not finite and positive."""
    if not (math.isfinite(_real(name, value)) and value > 0):
        raise ValueError(f"{name} is {value}; must be finite and positive")
    return float(value)


def _real(name: str, value: Any) -> Any:
    if isinstance(value, bool | np.bool_) or not isinstance(value, Real):
        raise TypeError(f"{name} is {_brief(value)}; must be a real number")
    return value


def text(name: str, value: Any) -> str:
    """Return `value`; raise TypeError if it is no text."""
    if not isinstance(value, str):
        raise TypeError(f"{name} is {_brief(value)}; must be text")
    return value


def choice(name: str, value: Any, allowed: Collection[str]) -> str:
    """Return `value`; raise ValueError if it is not among `allowed`."""
    if value not in allowed:
        raise ValueError(f"{name} is {value!r}; must be one of {', '.join(allowed)}")
    return value


def real_array(name: str, value: Any) -> Array:
    """Return `value` as an array of float32 or float64; a scalar becomes a NumPy array without axes.

    Big-endian NumPy arrays become native ones. Raises TypeError for anything else, integers and complex numbers
    included: what they should be rounded in is the caller's to say.
    """
    if type(value) is np.ndarray and value.dtype in _REAL:  # nothing to do, and soon done
        return value
    x = np.asarray(value) if isinstance(value, float | np.floating) else value
    if not is_array_api_obj(x):
        raise TypeError(f"{name} is {_brief(value)}; must be a float or an array of float32 or float64")
    if is_numpy_array(x) and not x.dtype.isnative:
        x = x.astype(x.dtype.newbyteorder("="))
    xp = array_namespace(x)
    if x.dtype not in (xp.float32, xp.float64):
        raise TypeError(f"{name} is of {x.dtype}; must be of float32 or float64")
    return x


_REAL = (np.dtype(np.float32), np.dtype(np.float64))


def unwrapped(x: Array) -> Array:
    """Return a NumPy array without axes as a scalar, and any other array as it is."""
    return x if x.ndim else x[()]


def same_shape(name: str, value: Any, shape: tuple[int, ...]) -> None:
    """Raise ValueError if an array has not the shape that another argument gives."""
    if value.shape != shape:
        raise ValueError(f"{name} has shape {value.shape}; must be {shape}, the shape of x")


def output(out: Array, x: Array) -> None:
    """Raise TypeError or ValueError if a result like the array `x` cannot be written to `out`."""
    if type(out) is not type(x):
        raise TypeError(f"out is {_brief(out)}; must be an array of the same kind as x, {type(x).__name__}")
    if out.dtype != x.dtype:
        raise TypeError(f"out is of {out.dtype}; must be of {x.dtype}, as x is")
    same_shape("out", out, x.shape)
    if not (out.flags.writeable if type(out) is np.ndarray else is_writeable_array(out)):
        raise ValueError("out is read-only; must be writeable")


def _brief(value: Any) -> str:
    text = repr(value)
    return f"a {type(value).__name__}" if len(text) > 40 or "\n" in text else text
