"""Rounding arrays to a format: checks, and the choice between the kernels."""

import warnings
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, overload

import numpy as np
from array_api_compat import array_namespace, is_cupy_array, is_torch_array

from srlib import checks, tensors
from srlib.formats import Format, carrier
from srlib.kernels import gpu, reference
from srlib.kernels.rule import Rule, make_rule
from srlib.philox import Philox
from srlib.schemes import DIRECTED, Scheme, direction, up_and_neighbours
from srlib.typing import Array, ArrayLike

try:
    from srlib.kernels import cpu
except ImportError:  # no Numba
    cpu = None  # type: ignore[assignment]
    warnings.warn("Numba cannot be imported: NumPy arrays are rounded by slow reference code", stacklevel=2)

_CARRIERS = (np.dtype(np.float32), np.dtype(np.float64))
_NARROW = ("float16", "bfloat16")

# Thresholds of theta for positive and for negative numbers; theta is always above −1 and never above 2.
_THRESHOLDS = {"RN": (0.5, 0.5), "RZ": (2.0, 2.0), "RU": (-1.0, 2.0), "RD": (2.0, -1.0)}


@overload
def round_to(
    x: float | Sequence[Any],
    fmt: Format | str,
    scheme: Scheme | str = "RN",
    rng: Philox | None = None,
    *,
    v: Array | None = None,
) -> Any: ...
@overload
def round_to(
    x: ArrayLike,
    fmt: Format | str,
    scheme: Scheme | str = "RN",
    rng: Philox | None = None,
    *,
    v: Array | None = None,
    out: Array | None = None,
) -> ArrayLike: ...
def round_to(
    x: Array,
    fmt: Format | str,
    scheme: Scheme | str = "RN",
    rng: Philox | None = None,
    *,
    v: Array | None = None,
    out: Array | None = None,
) -> Array:
    """Round each element to a value of a format (SPEC, Schemes and Randomness).

    Parameters
    ----------
    x : number, list of numbers, or array of float32 or float64
        A NumPy or CuPy array, a PyTorch tensor, or an array of another library that follows the array API standard; of
        any layout. Numbers and lists are taken as float64. NumPy arrays and tensors may be of float16 and bfloat16 too:
        they are rounded in float32.
    fmt : Format or str
        One whose values all are values of the dtype of `x`: a name in `srlib.FORMATS` such as "binary8", "e4m3",
        "bfloat16" or "binary16", or "fixed(i,f)".
    scheme : Scheme or str
        "RN" (ties to even), "RZ", "RU", "RD", "SR", "SR_eps(ε)" or "signed_SR_eps(ε)" with 0 ≤ ε < 1.
    rng : Philox
        Random words for the stochastic schemes, which take one draw of it. If it has replicates, the leading axis of
        `x` must be theirs.
    v : like `x`, of the same shape
        Direction of signed_SR_eps, which errs against its sign in the mean; other schemes ignore it.
    out : array like `x`, optional
        Where to write the result; it may be `x` itself, or overlap with it.

    Returns
    -------
    Like `x` and in its dtype; `out` if that is given. NaN stays NaN and −0 stays −0; ±inf, and what is rounded beyond
    the largest finite value, becomes what the overflow of the format says. A finite number that a directed scheme moves
    toward zero stays finite (IEEE 754-2019, 7.4).

    Raises
    ------
    TypeError, ValueError
        If `x`, `v` or `out` is not of these types and shapes, `out` is read-only, `rng` or `v` is missing where the
        scheme needs it, there is no such format or scheme, a tensor records gradients or is on a device that has no
        kernel, or the library of an array cannot compute with 64-bit words and subnormal numbers.
    RuntimeError
        If the processor flushes subnormal numbers to zero in this thread.

    Examples
    --------
    >>> x = np.array([1.1, -0.3, 1e9])
    >>> round_to(x, "binary8")
    array([ 1.    , -0.3125,     inf])
    >>> round_to(x, "binary8", "SR", Philox(seed=1))
    array([ 1.  , -0.25,   inf])
    >>> round_to(x, "binary8", "signed_SR_eps(0.4)", Philox(seed=1), v=-x)
    array([ 1.    , -0.3125,     inf])
    """
    if not (type(x) is np.ndarray and x.dtype in _CARRIERS):
        if is_torch_array(x):
            return tensors.round_tensor(round_to, x, fmt, scheme, rng, v, out)
        if getattr(getattr(x, "dtype", None), "name", None) in _NARROW:
            return _round_narrow(x, fmt, scheme, rng, v, out)
    y = checks.real_array("x", x)
    fmt, scheme, rule = _parsed(fmt, scheme, y)
    v = _like(direction(scheme, v, y), y) if v is not None or scheme.signed else None
    if rule.stochastic:
        _check_rng(rng, scheme, y)
    if out is not None:
        checks.output(out, x)
    if is_compiled(y):
        rounded = cpu.round_array(y, v, out, rule, rng)
        return checks.unwrapped(rounded) if out is None else out
    if is_cupy_array(y):
        return gpu.round_array(y, v, out, rule, rng)
    rounded = reference.round_array(y, fmt, scheme, rng, v)
    if out is None:
        return checks.unwrapped(rounded)
    out[...] = rounded
    return out


def _round_narrow(x: Array, fmt: Any, scheme: Any, rng: Any, v: Any, out: Any) -> Any:
    """Round an array of float16 or bfloat16 in float32, which has all their values."""
    fmt, x = Format.parse(fmt), np.asarray(x) if isinstance(x, np.generic) else x
    fmt.check_carrier(x.dtype.name)
    if out is not None:
        checks.output(out, x)
    wide, v = (a.astype(np.float32) if hasattr(a, "dtype") and a.dtype.name in _NARROW else a for a in (x, v))
    rounded = round_to(wide, fmt, scheme, rng, v=v)
    if out is None:
        return checks.unwrapped(rounded.astype(x.dtype))
    out[...] = rounded
    return out


def outcomes(
    y: Array,
    fmt: Format | str,
    scheme: Scheme | str,
    v: Array | None = None,
    *,
    bits: int | None = None,
    threshold: str = "nearest",
) -> list[tuple[Array, Array]]:
    """Return what rounding can make of `y`: its lower and its upper neighbour, each with its probability.

    Parameters
    ----------
    y : array of float64, finite
    fmt, scheme, v
        As for `round_to`.
    bits, threshold
        As for `prob_up`.

    Returns
    -------
    list of two pairs of arrays
        A value of the format is its own neighbour, with probability 1.
    """
    scheme = Scheme.parse(scheme)
    up, *beside = up_and_neighbours(y, Format.parse(fmt), scheme, v, bits, threshold)
    # What a directed scheme makes of a neighbour beyond the largest value may be finite.
    lower, upper = (round_to(value, fmt, "RN" if scheme.stochastic else scheme) for value in beside)
    return [(lower, 1 - up), (upper, up)]


def is_compiled(x: Array) -> bool:
    """Tell whether the kernels of `srlib.kernels.cpu` and `srlib.kernels.products` are there for an array."""
    return isinstance(x, np.ndarray) and cpu is not None


def rounding_rule(fmt: Format | str, scheme: Scheme | str, x: Array, rng: Philox | None) -> Rule:
    """Return what the kernels need to round arrays like `x`; raise as `round_to` does."""
    _, scheme, rule = _parsed(fmt, scheme, x)
    if scheme.stochastic and not isinstance(rng, Philox):
        raise TypeError(f"rng is {rng!r}; {scheme} needs a Philox")
    return rule


def _parsed(fmt: Format | str, scheme: Scheme | str, x: Array) -> tuple[Format, Scheme, Rule]:
    """Return a format and a scheme, checked, and what the kernels need of them."""
    try:
        return _parsed_once(fmt, scheme, carrier(x))
    except TypeError:  # from the cache, of what cannot be hashed: the parsers say what is wrong
        return _parsed_once.__wrapped__(fmt, scheme, carrier(x))


@lru_cache(maxsize=1024)
def _parsed_once(fmt: Format | str, scheme: Scheme | str, carrier: str) -> tuple[Format, Scheme, Rule]:
    fmt, scheme = Format.parse(fmt), Scheme.parse(scheme)
    fmt.check_carrier(carrier)
    kind = scheme.stochastic, scheme.signed or scheme.eps > 0, scheme.name in DIRECTED
    thresholds = _THRESHOLDS.get(scheme.name, (0.0, 0.0))
    numbers = fmt.precision, fmt.emin, fmt.subnormals, fmt.largest, fmt.overflow_value
    rule = make_rule(carrier, *numbers, *kind, scheme.eps, thresholds)
    return fmt, scheme, rule


def _check_rng(rng: Philox | None, scheme: Scheme, x: Array) -> None:
    if not isinstance(rng, Philox):
        raise TypeError(f"rng is {rng!r}; {scheme} needs a Philox")
    rng.check_shape(x.shape)


def _like(v: Array, x: Array) -> Array:
    """Return a direction in the dtype of x; its signs count alone, and could be lost in a conversion of the numbers."""
    if v is None or v.dtype == x.dtype:
        return v
    xp = array_namespace(v)
    return xp.astype(xp.sign(v), x.dtype)
