"""Checks of what a caller passes: one sentence an error, with the argument, its value and what is allowed."""

import math
import sys
import warnings
from collections.abc import Collection, Iterator
from functools import lru_cache
from numbers import Integral, Real
from typing import Any

import numpy as np
from array_api_compat import array_namespace, device, is_array_api_obj, is_numpy_array, is_writeable_array

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


def fraction(name: str, value: Any) -> float:
    """Return `value` as a float; raise TypeError if it is no real number, ValueError if not from 0 to below 1."""
    if not 0 <= _real(name, value) < 1:
        raise ValueError(f"{name} is {value}; must be at least 0 and below 1")
    return float(value)


def _real(name: str, value: Any) -> Any:
    if isinstance(value, bool | np.bool_) or not isinstance(value, Real):
        raise TypeError(f"{name} is {_brief(value)}; must be a real number")
    return value


def text(name: str, value: Any) -> str:
    """Return `value`; raise TypeError if it is no text."""
    if not isinstance(value, str):
        raise TypeError(f"{name} is {_brief(value)}; must be text")
    return str(value)


def truth(name: str, value: Any) -> bool:
    """Return `value` as a bool; raise TypeError if it is none."""
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"{name} is {_brief(value)}; must be True or False")
    return bool(value)


def choice(name: str, value: Any, allowed: Collection[str]) -> str:
    """Return `value`; raise ValueError if it is not among `allowed`."""
    if not isinstance(value, str) or value not in allowed:
        raise ValueError(f"{name} is {value!r}; must be one of {', '.join(allowed)}")
    return str(value)


def real_array(name: str, value: Any) -> Array:
    """Return `value` as an array of float32 or float64.

    Numbers, and lists and tuples of them, become NumPy arrays of float64 (a NumPy scalar of float32 stays one), and
    big-endian arrays native ones. Raises TypeError for anything else, arrays of integers and complex numbers included:
    what they should be rounded in is the caller's to say; and for an array of a library that cannot compute with what
    is needed. Raises ValueError if a list is ragged, or float64 does not hold an integer; RuntimeError as `subnormals`.
    """
    subnormals()
    if type(value) is np.ndarray and value.dtype in _REAL:
        return value
    x = value
    if isinstance(value, np.floating):
        x = np.asarray(value)
    elif isinstance(value, list | tuple) or _is_number(value):
        x = _from_numbers(name, value)
    if not is_array_api_obj(x) or isinstance(x, np.ma.MaskedArray):
        raise TypeError(f"{name} is {_brief(value)}; must be numbers or an array of float32 or float64")
    if is_numpy_array(x) and not x.dtype.isnative:
        x = x.astype(x.dtype.newbyteorder("="))
    xp = array_namespace(x)
    if x.dtype not in (xp.float32, xp.float64):
        raise TypeError(f"{name} is of {x.dtype}; must be of float32 or float64")
    if not isinstance(x, np.ndarray):
        library(name, x)
    return x


def subnormals() -> None:
    """Raise RuntimeError if the processor flushes subnormal numbers to zero in this thread."""
    if _SMALLEST_NORMAL * 0.5 == 0.0:
        raise RuntimeError(
            "subnormal numbers are flushed to zero in this thread; must be kept, as by torch.set_flush_denormal(False)"
        )


_SMALLEST_NORMAL = sys.float_info.min


def library(name: str, x: Array) -> None:
    """Raise TypeError if the library of an array, where the array is, lacks what rounding needs."""
    _library(name, array_namespace(x), device(x))


@lru_cache(maxsize=64)  # asked again after an error: a library may have been set to do better
def _library(name: str, xp: Any, where: Any) -> None:
    try:
        missing = _missing(xp, where)
    except Exception as error:  # such as within a function that JAX traces
        missing = f"computes no numbers ({type(error).__name__})"
    if missing:
        raise TypeError(f"{name} is an array of {xp.__name__}, which here {missing}; must be of another, such as NumPy")


def _missing(xp: Any, where: Any) -> str:
    """Return in words what a library lacks on a device: 64-bit words, or subnormal numbers; "" if it has both."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # JAX warns of what it makes of 64 bits
        word = xp.asarray(2**32 - 1, dtype=xp.uint64, device=where)
    if word.dtype != xp.uint64 or int(word * word) != (2**32 - 1) ** 2:
        return "has no unsigned integers of 64 bits"
    smallest, scale = (xp.asarray(2.0**e, dtype=xp.float32, device=where) for e in (-149, 100))
    if float(smallest * scale) != 2.0**-49 or float((smallest * scale) / scale) == 0:
        return "flushes subnormal numbers to zero"
    return ""


_REAL = (np.dtype(np.float32), np.dtype(np.float64))


def _is_number(value: Any) -> bool:
    return isinstance(value, float | int | np.integer | np.floating) and not isinstance(value, bool)


def _from_numbers(name: str, value: Any) -> np.ndarray:
    for leaf in _leaves(value):
        if not (_is_number(leaf) or (isinstance(leaf, np.ndarray) and leaf.dtype in _REAL)):
            raise TypeError(f"{name} holds {_brief(leaf)}; must hold real numbers")
        if isinstance(leaf, Integral) and not _is_held(leaf):
            raise ValueError(f"{name} holds {_brief(leaf)}; must hold numbers that float64 has")
    try:
        return np.array(value, dtype=np.float64)
    except ValueError:
        raise ValueError(f"{name} is ragged; must have rows of one length") from None


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, list | tuple):
        for item in value:
            yield from _leaves(item)
    else:
        yield value


def _is_held(number: Integral) -> bool:
    try:
        return int(float(number)) == int(number)
    except OverflowError:
        return False


def float64(name: str, value: Any) -> Any:
    """Return a number as a float, or an array of float64 as `real_array` does; raise as that for anything else."""
    if isinstance(value, float):
        subnormals()
        return value
    x = float64_array(name, value)
    return float(x) if _is_number(value) else x


def float64_array(name: str, value: Any) -> Array:
    """Return `value` as `real_array` does; raise TypeError if it is not of float64."""
    x = real_array(name, value)
    if x.dtype != (np.float64 if isinstance(x, np.ndarray) else array_namespace(x).float64):
        raise TypeError(f"{name} is of {x.dtype}; must be of float64")
    return x


def unwrapped(x: Array) -> Array:
    """Return a NumPy array without axes as a scalar, and any other array as it is."""
    return x if x.ndim else x[()]


def same_shape(name: str, value: Any, shape: tuple[int, ...]) -> None:
    """Raise ValueError if an array has not the shape that another argument gives."""
    if value.shape != shape:
        raise ValueError(f"{name} has shape {value.shape}; must be {shape}, the shape of x")


def same_place(name: str, value: Array, x: Array) -> None:
    """Raise TypeError if an array is of another library, or on another device, than `x` is."""
    if isinstance(value, np.ndarray) and isinstance(x, np.ndarray):
        return
    if (array_namespace(value), device(value)) != (array_namespace(x), device(x)):
        found, wanted = (f"of {type(array).__module__.split('.')[0]} on {device(array)}" for array in (value, x))
        raise TypeError(f"{name} is an array {found}; must be one {wanted}, as x is")


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
