"""Rounding schemes: how probable it is that a number is rounded up, and the bias and variance that follow (SPEC D1)."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, overload

import numpy as np
from array_api_compat import array_namespace

from srlib import checks
from srlib.formats import Format, carrier
from srlib.philox import THRESHOLDS
from srlib.typing import Array, ArrayLike

DIRECTED = ("RZ", "RU", "RD")
_STOCHASTIC = ("SR", "SR_eps", "signed_SR_eps")
SCHEMES = ("RN", *DIRECTED, *_STOCHASTIC)


@dataclass(frozen=True)
class Scheme:
    """A rounding scheme.

    Parameters
    ----------
    name : {"RN", "RZ", "RU", "RD", "SR", "SR_eps", "signed_SR_eps"}
        To nearest with ties to even; toward zero, up, down; stochastic, without bias, with a bias away from zero, with
        a bias against the sign of a direction v.
    eps : float
        ε of the two biased schemes, 0 ≤ ε < 1; 0 for the others.

    Raises
    ------
    TypeError, ValueError
        If the name or ε is not of these.

    Examples
    --------
    >>> scheme = Scheme.parse("signed_SR_eps(0.1)")
    >>> scheme.eps, scheme.stochastic, str(scheme)
    (0.1, True, 'signed_SR_eps(0.1)')
    """

    name: str
    eps: float = 0.0

    def __post_init__(self) -> None:
        if isinstance(self.name, str) and "(" in self.name:
            raise ValueError(f"scheme is {self.name!r}; must be a name alone: Scheme.parse takes one with eps")
        checks.choice("scheme", self.name, SCHEMES)
        eps = checks.fraction("eps", self.eps)
        if self.eps and not self.name.endswith("_eps"):
            raise ValueError(f"eps is {self.eps}; must be 0 for {self.name}")
        object.__setattr__(self, "eps", eps)

    def __str__(self) -> str:
        return f"{self.name}({self.eps!r})" if self.name.endswith("_eps") else self.name

    def _repr_html_(self) -> str:
        from srlib import html

        return html.scheme_html(self)

    @classmethod
    def parse(cls, text: "str | Scheme") -> "Scheme":
        """Return the scheme that a text stands for, such as "RN" or "signed_SR_eps(0.1)"; a Scheme is its own.

        Raises
        ------
        ValueError
            If it stands for none, or ε is not in [0, 1).
        """
        if isinstance(text, Scheme):
            return text
        match = re.fullmatch(r"(\w+?)(?:\((.+)\))?", text) if isinstance(text, str) else None
        if match and match[1] in SCHEMES and (match[2] is not None) == match[1].endswith("_eps"):
            try:
                return cls(match[1], float(match[2] or 0))
            except ValueError as error:
                raise ValueError(f"scheme is {text!r}: {error}") from None
        allowed = ", ".join(f"{name}(eps)" if name.endswith("_eps") else name for name in SCHEMES)
        raise ValueError(f"scheme is {text!r}; must be a Scheme or one of {allowed}")

    @cached_property
    def stochastic(self) -> bool:
        """Whether it takes random words."""
        return self.name in _STOCHASTIC

    @cached_property
    def signed(self) -> bool:
        """Whether it needs a direction v."""
        return self.name == "signed_SR_eps"

    def inward(self, x: Array) -> Array:
        """Tell of each element whether a directed scheme moves it toward zero, an array of bool."""
        xp = array_namespace(x)
        match self.name:
            case "RZ":
                return xp.ones_like(x, dtype=xp.bool)
            case "RU":
                return x < 0
            case "RD":
                return x > 0
            case _:
                return xp.zeros_like(x, dtype=xp.bool)

    def prob_away(self, x: Array, located: tuple[Array, Array, Array], v: Array | None = None) -> Array:
        """Return the probability of moving away from zero, for elements strictly between two values of the format.

        Parameters
        ----------
        x : array of float32 or float64
        located : three arrays
            Where the elements lie, as `Format.locate` says.
        v : array of the shape of `x`, for a signed scheme

        Returns
        -------
        array like `x`
            Evaluated in the dtype of `x`; 0 for values of the format and for what is not finite.
        """
        xp = array_namespace(x)
        lower, gap, theta = located
        between = xp.isfinite(x) & (lower != xp.abs(x))
        return xp.where(between, self._prob_away(xp, theta, lower / gap, x, v), xp.zeros_like(x))

    def _prob_away(self, xp: Any, theta: Array, significand: Array, x: Array, v: Array) -> Array:
        one, zero = xp.ones_like(theta), xp.zeros_like(theta)
        match self.name:
            case "RN":
                odd = xp.remainder(significand, xp.full_like(theta, 2.0)) == 1
                return xp.where((theta > 0.5) | ((theta == 0.5) & odd), one, zero)
            case "RZ" | "RU" | "RD":
                return xp.where(self.inward(x), zero, one)
            case "SR":
                return theta
            case "SR_eps":
                return xp.clip(theta + self.eps, 0.0, 1.0)
            case "signed_SR_eps":
                return xp.clip(theta - _sign(xp, x, x) * _sign(xp, v, x) * self.eps, 0.0, 1.0)


def realised(away: Array, bits: int | None, threshold: str = "nearest") -> Array:
    """Return the multiple of 2^−bits that a probability of moving away from zero becomes; itself for bits of None."""
    checks.choice("threshold", threshold, THRESHOLDS)
    if bits is None:
        return away
    xp, scale = array_namespace(away), 2.0 ** checks.integer("bits", bits, 1, 32)
    whole = {"nearest": xp.round, "floor": xp.floor}[threshold]
    return whole(away * scale) / scale


def _sign(xp: Any, x: Array, like: Array) -> Array:
    """Return −1, 0 or 1 in the dtype of `like`; 0 for NaN."""
    return xp.astype(x > 0, like.dtype) - xp.astype(x < 0, like.dtype)


@overload
def prob_up(
    x: float | Sequence[Any],
    fmt: Format | str,
    scheme: Scheme | str,
    v: Any = None,
    *,
    bits: int | None = None,
    threshold: str = "nearest",
) -> Any: ...
@overload
def prob_up(
    x: ArrayLike,
    fmt: Format | str,
    scheme: Scheme | str,
    v: Array | None = None,
    *,
    bits: int | None = None,
    threshold: str = "nearest",
) -> ArrayLike: ...
@np.errstate(all="ignore")
def prob_up(
    x: Array,
    fmt: Format | str,
    scheme: Scheme | str,
    v: Array | None = None,
    *,
    bits: int | None = None,
    threshold: str = "nearest",
) -> Array:
    """Return P(up), the probability that x becomes the value of the format above it (SPEC, Schemes).

    Parameters
    ----------
    x : number, list of numbers, or array of float32 or float64
    fmt : Format or str
    scheme : Scheme or str
    v : like `x`, of the same shape
        Direction of a signed scheme; others ignore it.
    bits, threshold
        Those of a `Philox`: then it is the probability that those random bits realise.

    Returns
    -------
    Like `x` and in its dtype; 0 for a value of the format, NaN for ±inf and NaN.

    Raises
    ------
    TypeError, ValueError
        If `x` or `v` is of another type, `v` is missing or of another shape, there is no such format or scheme, or the
        dtype cannot hold the format.
    """
    return _up(*_prepare(x, fmt, scheme, v, bits, threshold))


@np.errstate(all="ignore")
def up_and_neighbours(
    x: Array,
    fmt: Format,
    scheme: Scheme | str,
    v: Array | None = None,
    bits: int | None = None,
    threshold: str = "nearest",
) -> tuple[Array, ...]:
    """Return `prob_up` of an array, and its neighbours in the format from below and from above."""
    found = _prepare(x, fmt, scheme, v, bits, threshold)
    return _up(*found), *fmt.beside(*found[:2])


def _up(x: Array, located: tuple[Array, Array, Array], away: Array, xp: Any) -> Array:
    down_is_away = (x < 0) & (located[0] != xp.abs(x))
    return _finish(xp, x, xp.where(down_is_away, 1 - away, away))


@overload
def mean_error(
    x: float | Sequence[Any],
    fmt: Format | str,
    scheme: Scheme | str,
    v: Any = None,
    *,
    bits: int | None = None,
    threshold: str = "nearest",
) -> Any: ...
@overload
def mean_error(
    x: ArrayLike,
    fmt: Format | str,
    scheme: Scheme | str,
    v: Array | None = None,
    *,
    bits: int | None = None,
    threshold: str = "nearest",
) -> ArrayLike: ...
@np.errstate(all="ignore")
def mean_error(
    x: Array,
    fmt: Format | str,
    scheme: Scheme | str,
    v: Array | None = None,
    *,
    bits: int | None = None,
    threshold: str = "nearest",
) -> Array:
    """Return E[fl(x)] − x = gap·(P(up) − θ), as if the exponent were unbounded above (SPEC D1).

    Parameters, result and errors as for `prob_up`, in the unit of `x`.
    """
    y, (_, gap, theta), away, xp = _prepare(x, fmt, scheme, v, bits, threshold)
    return _finish(xp, y, _sign(xp, y, y) * gap * (away - theta))


@overload
def variance(
    x: float | Sequence[Any],
    fmt: Format | str,
    scheme: Scheme | str,
    v: Any = None,
    *,
    bits: int | None = None,
    threshold: str = "nearest",
) -> Any: ...
@overload
def variance(
    x: ArrayLike,
    fmt: Format | str,
    scheme: Scheme | str,
    v: Array | None = None,
    *,
    bits: int | None = None,
    threshold: str = "nearest",
) -> ArrayLike: ...
@np.errstate(all="ignore")
def variance(
    x: Array,
    fmt: Format | str,
    scheme: Scheme | str,
    v: Array | None = None,
    *,
    bits: int | None = None,
    threshold: str = "nearest",
) -> Array:
    """Return the variance of fl(x), gap²·P(up)·(1 − P(up)), as if the exponent were unbounded above (SPEC D1).

    Parameters, result and errors as for `prob_up`, in the unit of `x` squared.
    """
    y, (_, gap, _), away, xp = _prepare(x, fmt, scheme, v, bits, threshold)
    return _finish(xp, y, gap * (gap * (away * (1 - away))))


def _prepare(
    x: Array, fmt: Format | str, scheme: Scheme | str, v: Array, bits: int | None, threshold: str
) -> tuple[Array, tuple[Array, Array, Array], Array, Any]:
    """Return x as an array, where it lies, the probability of moving away from zero, and the namespace of x.

    Both theta and this probability count from zero, where those of the definitions count upward.
    """
    y, fmt, scheme = checks.real_array("x", x), Format.parse(fmt), Scheme.parse(scheme)
    fmt.check_carrier(carrier(y))
    v = direction(scheme, v, y)
    located = fmt.locate(y)
    away = realised(scheme.prob_away(y, located, v), bits, threshold)
    return y, located, away, array_namespace(y)


def direction(scheme: Scheme, v: Array, x: Array) -> Array:
    """Return the direction `v` as an array, or None where the scheme has no use for it.

    Raises
    ------
    TypeError, ValueError
        If the scheme is signed and `v` is missing, or `v` is not real, or not of the shape of `x` and where that is.
    """
    if v is None:
        if scheme.signed:
            raise ValueError(f"v is missing; {scheme} needs a direction of the shape of x, {x.shape}")
        return None
    v = checks.real_array("v", v)
    checks.same_shape("v", v, x.shape)
    checks.same_place("v", v, x)
    return v if scheme.signed else None


def _finish(xp: Any, x: Array, result: Array) -> Array:
    return checks.unwrapped(xp.where(xp.isfinite(x), result, xp.full_like(x, math.nan)))
