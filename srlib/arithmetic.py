"""Rounded operations on arrays: each is done in float64 and rounded once to a format (SPEC, "The same bits")."""

import math
import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from array_api_compat import array_namespace, device
from numpy.lib.array_utils import normalize_axis_tuple

from srlib import checks
from srlib.formats import Format
from srlib.kernels import elementary
from srlib.philox import Philox
from srlib.rounding import is_compiled, round_to, rounding_rule
from srlib.schemes import Scheme
from srlib.typing import Array

try:
    from srlib.kernels import cpu, elementwise, products
except ImportError:  # no Numba, as `rounding` says
    pass

_EXACT = 53  # bits of a sum that float64 holds


@dataclass(frozen=True)
class Arithmetic:
    """The arithmetic of a format: operations on its values, as float64 arrays or numbers, broadcast as NumPy does.

    Parameters
    ----------
    fmt : Format or str
    scheme : Scheme or str
    rng : Philox, optional
        Random words of a stochastic scheme: one draw an operation. If it has replicates, the leading axis of every
        result is theirs.

    Notes
    -----
    Operands are taken to be values of the format, and are not checked. Results have the same bits whatever machine,
    BLAS or number of threads computes them.
    """

    fmt: Format | str
    scheme: Scheme | str = "RN"
    rng: Philox | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "fmt", Format.parse(self.fmt))
        object.__setattr__(self, "scheme", Scheme.parse(self.scheme))

    def round(self, x: Array, *, v: Array | None = None) -> Array:
        """Return fl(x); `v` is the direction of a signed scheme, of the shape of `x`."""
        return round_to(checks.float64("x", x), self.fmt, self.scheme, self.rng, v=v)

    def add(self, a: Array, b: Array, *, v: Array | None = None, overwrite: bool = False) -> Array:
        """Return fl(a + b); `overwrite` gives up the array `a` for the result."""
        return self._combined(operator.iadd if overwrite else operator.add, a, b, v)

    def subtract(self, a: Array, b: Array, *, v: Array | None = None, overwrite: bool = False) -> Array:
        """Return fl(a − b); `overwrite` gives up the array `a` for the result."""
        return self._combined(operator.isub if overwrite else operator.sub, a, b, v)

    def multiply(self, a: Array, b: Array, *, v: Array | None = None, overwrite: bool = False) -> Array:
        """Return fl(a·b); `overwrite` gives up the array `a` for the result."""
        return self._combined(operator.imul if overwrite else operator.mul, a, b, v)

    def divide(self, a: Array, b: Array, *, v: Array | None = None, overwrite: bool = False) -> Array:
        """Return fl(a / b); `overwrite` gives up the array `a` for the result."""
        return self._combined(operator.itruediv if overwrite else operator.truediv, a, b, v)

    def exp(self, x: Array, *, v: Array | None = None) -> Array:
        """Return fl(exp x), from an exp in float64 that is correctly rounded for formats of up to 16 bits."""
        return self._rounded(_exp_of_values(checks.float64_array("x", x), self.fmt), v)  # type: ignore[arg-type]

    def sum(
        self,
        x: Array,
        axis: int | tuple[int, ...] | None = None,
        *,
        keepdims: bool = False,
        divisor: float = 1.0,
        v: Array | None = None,
    ) -> Array:
        """Return fl((Σ x) / divisor) along one axis, some or all, as `numpy.sum` has them; the sum is rounded once.

        Terms are added in float64, in index order or, where the order cannot matter, in any.
        """
        x = checks.float64_array("x", x)
        xp = array_namespace(x)
        axes = normalize_axis_tuple(range(x.ndim) if axis is None else axis, x.ndim)
        others = tuple(i for i in range(x.ndim) if i not in axes)
        terms = math.prod(x.shape[i] for i in axes)
        if _is_exact(_largest(xp, x) * terms, self.fmt.quantum):  # type: ignore[union-attr]
            total = xp.sum(x, axis=axes)
        else:
            lines = xp.reshape(xp.permute_dims(x, (*others, *axes)), (*(x.shape[i] for i in others), terms))
            total = matmul(lines, xp.ones(terms, dtype=x.dtype, device=device(x)), 0.0)
        shape = tuple(1 if i in axes else length for i, length in enumerate(x.shape)) if keepdims else total.shape
        return self._rounded(xp.reshape(total, shape) / divisor, v)

    def matmul(
        self,
        a: Array,
        b: Array,
        *,
        divisor: float = 1.0,
        largest: float | None = None,
        accumulator: Format | str | None = None,
        scheme: Scheme | str = "RN",
        v: Array | None = None,
    ) -> Array:
        """Return fl((a @ b) / divisor): each sum is accumulated, divided and rounded.

        Parameters
        ----------
        a, b : float64 arrays of shapes (..., m, k) and (..., k, n), or (k,)
            As for `numpy.matmul`.
        largest : float, optional
            A bound on the magnitudes in `b`, which saves looking for one.
        accumulator : Format or str, optional
            Without it, terms are added in float64, in index order or, where the order cannot matter, by BLAS. With it,
            every partial sum is rounded to that format: s ← fl(s + a·b), in index order.
        scheme : Scheme or str
            That of the accumulator; a stochastic one takes a draw each time, before the one of the result.
        v
            Direction of the rounding of the result.

        Raises
        ------
        TypeError, ValueError
            If the operands are not such arrays, the scheme of the accumulator is signed, or there is no such format or
            scheme.
        """
        if accumulator is None:
            product = matmul(a, b, self.fmt.quantum**2, largest)  # type: ignore[union-attr]
        else:
            product = self._accumulated(a, b, Format.parse(accumulator), Scheme.parse(scheme))
        return self._rounded(product if divisor == 1 else product / divisor, v)

    def _accumulated(self, a: Array, b: Array, fmt: Format, scheme: Scheme) -> Array:
        if scheme.signed:
            raise ValueError(f"scheme is {scheme}; a signed one has no direction in an accumulator")
        xp, a, b, shape = _matrices(a, b)
        left, right = _batches(xp, a, b)
        rule, rng = rounding_rule(fmt, scheme, a, self.rng), self.rng if scheme.stochastic else None
        if rng is not None:
            rng.check_shape(shape)
        if is_compiled(a):
            return np.reshape(products.accumulated_matmul(left, right, rule, rng), shape)
        total = xp.zeros(shape, dtype=a.dtype, device=device(a))
        for k in range(a.shape[-1]):
            term = xp.reshape(left[..., k : k + 1] * right[..., k : k + 1, :], shape)
            total = round_to(total + term, fmt, scheme, rng)
        return total

    def _combined(self, operation: Callable[[Any, Any], Array], a: Array, b: Array, v: Array) -> Array:
        a, b = checks.float64("a", a), checks.float64("b", b)
        if isinstance(a, float) and isinstance(b, float):
            a = np.asarray(a)
        with np.errstate(all="ignore"):  # what overflows is inf or NaN
            return self._rounded(operation(a, b), v)

    def _rounded(self, fresh: Array, v: Array) -> Array:
        """Round an array that nothing else refers to, in place, or a number."""
        if isinstance(fresh, float):
            return round_to(fresh, self.fmt, self.scheme, self.rng, v=v)
        return checks.unwrapped(round_to(fresh, self.fmt, self.scheme, self.rng, v=v, out=fresh))


def descend(x: Array, g: Array, stepsize: float, multiply: Arithmetic, update: Arithmetic) -> Array:
    """Return fl₃(x − fl₂(t·g)), a step of gradient descent: site 2 by `multiply`, 3 by `update`, with v = fl₂(t·g).

    The bits, and the draws taken, are those of ``multiply.multiply(g, t)`` and ``update.subtract(x, u, v=u)``.
    """
    same = multiply.fmt == update.fmt and multiply.rng is update.rng and x.shape == g.shape
    if is_compiled(x) and same:
        rules = [rounding_rule(site.fmt, site.scheme, x, site.rng) for site in (multiply, update)]
        if any(rule.stochastic for rule in rules):
            update.rng.check_shape(x.shape)  # type: ignore[union-attr]
        return cpu.round_step(x, g, stepsize, *rules, update.scheme.signed, update.rng)  # type: ignore[arg-type, call-arg, union-attr]
    u = multiply.multiply(g, stepsize)
    return update.subtract(x, u, v=u if update.scheme.signed else None)  # type: ignore[union-attr]


def matmul(a: Array, b: Array, quantum: float | None = None, largest: float | None = None) -> Array:
    """Return a @ b with each sum accumulated in float64 in index order, without fused multiply-add.

    Parameters
    ----------
    a, b : float64 arrays of shapes (..., m, k) and (..., k, n), or (k,)
        As for `numpy.matmul`.
    quantum : float, optional
        A power of two of which every product of an element of `a` and one of `b` is a multiple. Where the largest sum
        that there could be has at most 53 bits above it, every order gives the same bits, and the library's own product
        computes them; 0 asks for index order. Without it, `b` must be integers, and a quantum of `a` is looked for.
    largest : float, optional
        A bound on the finite magnitudes in `b`, which saves looking for one.

    Notes
    -----
    What is not finite needs no order: a sum with a NaN, or infinities of both signs, is NaN in any order, one with an
    infinity is that infinity.
    """
    xp, a, b, shape = _matrices(a, b)
    bound = _largest(xp, a) * (_largest(xp, b) if largest is None else largest) * a.shape[-1]
    if quantum is None:
        exact = _has_quantum(xp, a, _ulp_of_sums(bound))
    else:
        exact = _is_exact(bound, quantum)
    if exact and b.ndim > 2:
        return xp.reshape(xp.matmul(a, b), shape)
    left, right = _batches(xp, a, b)
    return xp.reshape(xp.matmul(left[0, ...], b) if exact else _ordered(xp, left, right), shape)


def _matrices(a: Array, b: Array) -> tuple[Any, Array, Array, tuple[int, ...]]:
    """Return the namespace of the operands, those with at least two axes, and the shape of their product."""
    a, b = checks.float64_array("a", a), checks.float64_array("b", b)
    xp = array_namespace(a, b)
    try:
        leading = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
        if 0 in (a.ndim, b.ndim) or a.shape[-1] != b.shape[-2:][0]:
            raise ValueError
    except ValueError:
        raise ValueError(f"a and b have shapes {a.shape} and {b.shape}; must be (..., m, k) and (..., k, n)") from None
    shape = (*leading, *a.shape[-2:-1], *b.shape[-2:][1:])
    a = a if a.ndim > 1 else a[None, :]
    return xp, a, b if b.ndim > 1 else b[:, None], shape


def _batches(xp: Any, a: Array, b: Array) -> tuple[Array, Array]:
    """Return matrices as arrays of shapes (batch, m, k) and (batch or 1, k, n)."""
    if b.ndim == 2:
        return xp.reshape(a, (1, math.prod(a.shape[:-1]), a.shape[-1])), b[None, ...]
    leading = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    a, b = (xp.broadcast_to(c, (*leading, *c.shape[-2:])) for c in (a, b))
    return tuple(xp.reshape(c, (math.prod(leading), *c.shape[-2:])) for c in (a, b))


def _is_exact(bound: float, quantum: float) -> bool:
    """Tell whether sums of multiples of a quantum, with magnitudes that add up to at most a bound, fit into float64."""
    return bound <= 2.0**_EXACT * quantum


def _largest(xp: Any, x: Array) -> float:
    """Return the largest finite magnitude, 0 if there is none."""
    if math.prod(x.shape) == 0:
        return 0.0
    if is_compiled(x) and x.flags.c_contiguous:
        return elementwise.largest_magnitude(x)
    largest = max(float(xp.max(x)), -float(xp.min(x)))
    if math.isfinite(largest):
        return largest
    return float(xp.max(xp.where(xp.isfinite(x), xp.abs(x), xp.zeros_like(x))))


def _ulp_of_sums(bound: float) -> float:
    return math.ldexp(1.0, max(math.frexp(bound)[1] - _EXACT, -1074))


def _has_quantum(xp: Any, x: Array, quantum: float) -> bool:
    finite = xp.where(xp.isfinite(x), x, xp.zeros_like(x)) / quantum
    return bool(xp.all(xp.round(finite) == finite))


def _ordered(xp: Any, a: Array, b: Array) -> Array:
    if is_compiled(a):
        return products.ordered_matmul(a, b)
    total = a[..., :1] * b[..., :1, :]
    for k in range(1, a.shape[-1]):
        total = total + a[..., k : k + 1] * b[..., k : k + 1, :]
    return total


def exp(x: Array) -> Array:
    """Return exp of a float64 array, within one ulp, with the same bits on any machine."""
    return elementwise.exponentials(x) if is_compiled(x) else elementary.exp(x)


def _exp_of_values(x: Array, fmt: Format) -> Array:
    """Return exp of an array of values of a format; from a correctly rounded table if there is one."""
    if not elementary.is_tabulated(fmt):
        return exp(x)
    if is_compiled(x):
        table, shift, base = elementary.exp_code_table(fmt)
        out = np.empty(x.shape)
        elementwise.look_up(np.ascontiguousarray(x), table, out, shift, base)
        return out
    xp = array_namespace(x)
    values, results = (xp.asarray(array, device=device(x)) for array in elementary.exp_table(fmt))
    inner = xp.clip(xp.searchsorted(values, xp.reshape(x, (-1,))), 0, values.shape[0] - 1)
    found = xp.reshape(xp.take(results, inner, axis=0), x.shape)
    return xp.where(xp.isnan(x), x, found)
