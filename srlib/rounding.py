"""Rounding arrays to a format: checks, and the choice between the kernels."""

import math

import numpy as np
from array_api_compat import is_numpy_array

from srlib import checks, cpu, reference
from srlib.formats import Format
from srlib.philox import Philox
from srlib.schemes import Scheme, direction

# Thresholds of theta for positive and for negative numbers; theta is always above −1 and never above 2.
_THRESHOLDS = {"RN": (0.5, 0.5), "RZ": (2.0, 2.0), "RU": (-1.0, 2.0), "RD": (2.0, -1.0)}


def round_to(x, fmt: Format | str, scheme: Scheme | str = "RN", rng: Philox | None = None, *, v=None, out=None):
    """Round each element to a value of a format (SPEC, Schemes and Randomness).

    Parameters
    ----------
    x : float, or array of float32 or float64
        A NumPy or CuPy array, or one of another library that follows the array API standard; of any layout.
    fmt : Format or str
        One whose values all are values of the dtype of `x`.
    scheme : Scheme or str
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
    the largest finite value, becomes what the overflow of the format says.

    Raises
    ------
    TypeError, ValueError
        If `x`, `v` or `out` is not of these types and shapes, `out` is read-only, `rng` or `v` is missing where the
        scheme needs it, or there is no such format or scheme.
    """
    y, fmt, scheme = checks.real_array("x", x), Format.parse(fmt), Scheme.parse(scheme)
    fmt.check_carrier(y)
    v = direction(scheme, v, y)
    if scheme.stochastic:
        _check_rng(rng, scheme, y)
    if out is not None:
        checks.output(out, x)
    if is_numpy_array(y):
        return _round_numpy(y, fmt, scheme, rng, v, out)
    rounded = reference.round_array(y, fmt, scheme, rng, v)
    if out is None:
        return rounded
    out[...] = rounded
    return out


def _check_rng(rng, scheme, x):
    if not isinstance(rng, Philox):
        raise TypeError(f"rng is {rng!r}; {scheme} needs a Philox")
    rng.check_shape(x.shape)


def _round_numpy(x, fmt, scheme, rng, v, out):
    source = np.ascontiguousarray(x)
    v = None if v is None else np.ascontiguousarray(v)
    target = _target(source, v, out)
    grid = _grid(fmt, source.dtype)
    if scheme.stochastic:
        eps = scheme.eps
        upward, against = (0.0, eps) if scheme.signed else (eps, 0.0)
        replicates = rng.numbers()
        cpu.round_stochastic(source, v, target, grid, upward, against, rng.bits, replicates, rng.take(), rng.seed)
    else:
        cpu.round_deterministic(source, target, grid, *_THRESHOLDS[scheme.name])
    if out is None:
        return checks.unwrapped(target.reshape(x.shape))
    if target is not out:
        out[...] = target.reshape(out.shape)
    return out


def _target(source, v, out):
    """Return where a kernel can write: `out` itself, if it is contiguous, native and not shifted against x or v."""
    if out is None or not (out.flags.c_contiguous and out.dtype.isnative):
        return np.empty_like(source)
    return np.empty_like(source) if any(_is_shifted(out, read) for read in (source, v) if read is not None) else out


def _is_shifted(out, read):
    """Tell whether an element of `out` may lie where another element of `read` does."""
    same = out.ctypes.data == read.ctypes.data and out.dtype == read.dtype
    return not same and np.may_share_memory(out, read)


def _grid(fmt, dtype):
    overflow = {"inf": math.inf, "nan": math.nan, "saturate": fmt.largest}[fmt.overflow]
    below = 0.0 if fmt.subnormals else fmt.smallest_normal
    return cpu.make_grid(fmt.precision, fmt.emin, below, fmt.largest, overflow, dtype)
