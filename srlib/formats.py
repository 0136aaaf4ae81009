"""Number formats of low precision: what their finite values are (SPEC, Formats)."""

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from array_api_compat import array_namespace, device

from srlib import checks
from srlib.typing import Array

_OVERFLOWS = ("inf", "nan", "saturate")
_MOST_VALUES = 2**20


@dataclass(frozen=True)
class Format:
    """A floating-point format with values ±m·2^(e − p + 1), where m < 2^p and emin ≤ e ≤ emax.

    Parameters
    ----------
    name : str
        What it is called in figures and messages.
    precision : int
        p, the bits of the significand, the leading one included: from 2 to 53.
    emin, emax : int
        Exponents of the smallest and the largest normal binade, −1022 ≤ emin ≤ emax ≤ 1023.
    subnormals : bool
        Whether there are values between 0 and 2^emin, with m < 2^(p − 1).
    overflow : {"inf", "nan", "saturate"}
        What a result beyond the largest finite value becomes: ±inf, NaN, or ± the largest finite value. With "nan" and
        "saturate" the format holds no infinity, and ±inf becomes the same.
    largest_significand : int, optional
        m of the largest finite value, 2^(p − 1) ≤ m < 2^p; 2^p − 1 if not given. In e4m3 it is 14, as 15 is a NaN.

    Raises
    ------
    TypeError, ValueError
        If a parameter is not of these.

    Examples
    --------
    >>> fmt = Format("mine", precision=3, emin=-2, emax=3)
    >>> fmt.largest, fmt.unit_roundoff, len(fmt.values())
    (14.0, 0.125, 55)
    >>> [float(value) for value in (*fmt.neighbours(1.1), fmt.ulp(1.1))]
    [1.0, 1.25, 0.25]
    """

    name: str
    precision: int
    emin: int
    emax: int
    subnormals: bool = True
    overflow: str = "inf"
    largest_significand: int | None = None

    def __post_init__(self) -> None:
        precision = checks.integer("precision", self.precision, 2, 53)
        emin = checks.integer("emin", self.emin, -1022, 1023)
        emax = checks.integer("emax", self.emax, emin, 1023)
        ones = 2**precision - 1
        largest = ones if self.largest_significand is None else self.largest_significand
        largest = checks.integer("largest_significand", largest, (ones + 1) // 2, ones)
        integers = {"precision": precision, "emin": emin, "emax": emax, "largest_significand": largest}
        flags = {"subnormals": checks.truth("subnormals", self.subnormals)}
        words = {
            "name": checks.text("name", self.name),
            "overflow": checks.choice("overflow", self.overflow, _OVERFLOWS),
        }
        for name, value in (integers | flags | words).items():
            object.__setattr__(self, name, value)

    def __str__(self) -> str:
        return self.name

    def _repr_html_(self) -> str:
        from srlib import html

        return html.format_html(self)

    @classmethod
    def fixed(cls, integer_bits: int, fraction_bits: int) -> "Format":
        """Return the fixed-point format of all multiples of 2^−f below 2^i in magnitude; it saturates.

        Raises
        ------
        TypeError, ValueError
            If i or f is not an integer or negative, or i + f is not from 2 to 53.
        """
        i = checks.integer("integer_bits", integer_bits, 0)
        f = checks.integer("fraction_bits", fraction_bits, 0)
        checks.integer("integer_bits + fraction_bits", i + f, 2, 53)
        return cls(f"fixed({i},{f})", i + f, i - 1, i - 1, overflow="saturate")

    @classmethod
    def parse(cls, text: "str | Format | np.dtype | type") -> "Format":
        """Return the format that a name stands for, such as "binary8" or "fixed(4,4)"; a Format is its own.

        So do the names that NumPy, ml_dtypes and OCP use, such as "float16", "bf16", "E5M2" or "fp8_e4m3", in any case;
        and a data type of NumPy or ml_dtypes, such as ``ml_dtypes.float8_e5m2``. E4M3 is OCP's, without infinities;
        "float8_e4m3" is that of ml_dtypes, which has them.

        Raises
        ------
        ValueError
            If there is none of that name.
        """
        if isinstance(text, Format):
            return text
        name = np.dtype(text).name if isinstance(text, type | np.dtype) else text
        if isinstance(name, str):
            if (lower := name.lower()) in _NAMES:
                return _NAMES[lower]
            if fixed := re.fullmatch(r"fixed\( *(\d+) *, *(\d+) *\)", lower):
                return cls.fixed(int(fixed[1]), int(fixed[2]))
        raise ValueError(f"format is {text!r}; must be a Format, fixed(i,f) or one of {', '.join(FORMATS)}")

    @property
    def unit_roundoff(self) -> float:
        """u = 2^−p: the largest relative error of round-to-nearest in the normal range."""
        return math.ldexp(1.0, -self.precision)

    @property
    def largest(self) -> float:
        """The largest finite value."""
        return math.ldexp(self.largest_significand, self.emax - self.precision + 1)  # type: ignore[arg-type]

    @property
    def smallest_normal(self) -> float:
        """2^emin."""
        return math.ldexp(1.0, self.emin)

    @property
    def quantum(self) -> float:
        """2^(emin − p + 1), of which every finite value is a multiple."""
        return math.ldexp(1.0, self.emin - self.precision + 1)

    @property
    def smallest_subnormal(self) -> float:
        """The smallest positive value: 2^(emin − p + 1), or with subnormals off 2^emin."""
        return self.quantum if self.subnormals else self.smallest_normal

    @property
    def overflow_value(self) -> float:
        """What a magnitude beyond the largest finite value becomes: infinity, NaN, or that value."""
        return {"inf": math.inf, "nan": math.nan, "saturate": self.largest}[self.overflow]

    @property
    def count(self) -> int:
        """How many finite values there are, with one zero."""
        half = 2 ** (self.precision - 1)
        missing = 2 * half - 1 - self.largest_significand
        return 1 + 2 * (half * (self.emax - self.emin + 1) - missing + (half - 1 if self.subnormals else 0))

    def values(self) -> np.ndarray:
        """Return all finite values, ascending, as float64, with one zero.

        Raises
        ------
        ValueError
            If there are more than 2^20 of them.
        """
        checks.subnormals()
        if self.count > _MOST_VALUES:
            raise ValueError(f"format {self} has {self.count} values; values() lists at most {_MOST_VALUES}")
        half = 2 ** (self.precision - 1)
        exponents = np.arange(self.emin, self.emax + 1)[:, None] - (self.precision - 1)
        normal = np.ldexp(np.arange(half, 2 * half, dtype=np.float64), exponents).ravel()
        below = np.arange(1, half) * self.smallest_subnormal if self.subnormals else np.empty(0)
        positive = np.concatenate([below, normal[normal <= self.largest]])
        return np.concatenate([-positive[::-1], [0.0], positive])

    @np.errstate(all="ignore")
    def neighbours(self, x: Array) -> tuple[Array, Array]:
        """Return the values next to x from below and from above, as if the exponent were unbounded above.

        Parameters
        ----------
        x : float, or array of float32 or float64
            A value of the format is its own two neighbours, and so are ±inf and NaN.

        Returns
        -------
        below, above : of the type, shape and dtype of `x`

        Raises
        ------
        TypeError, ValueError
            If `x` is of another type, or its dtype cannot hold the format.
        """
        y = self._carried(x)
        below, above = self.beside(y, self.locate(y))
        return checks.unwrapped(below), checks.unwrapped(above)

    def beside(self, x: Array, located: tuple[Array, Array, Array]) -> tuple[Array, Array]:
        """Return what `neighbours` does, for an array whose elements have been located."""
        xp, (lower, gap, _) = array_namespace(x), located
        room = xp.finfo(x.dtype).max - lower >= gap
        upper = xp.where(room, lower + xp.where(room, gap, xp.zeros_like(gap)), xp.full_like(gap, math.inf))
        own = ~xp.isfinite(x) | (lower == xp.abs(x))
        negative = x < 0
        below, above = xp.where(negative, -upper, lower), xp.where(negative, -lower, upper)
        return xp.where(own, x, below), xp.where(own, x, above)

    @np.errstate(all="ignore")
    def ulp(self, x: Array) -> Array:
        """Return the gap between |x|, or the value below it, and the next value away from zero; NaN at ±inf and NaN.

        Parameters
        ----------
        x : float, or array of float32 or float64

        Raises
        ------
        TypeError, ValueError
            If `x` is of another type, or its dtype cannot hold the format.
        """
        y = self._carried(x)
        xp = array_namespace(y)
        return checks.unwrapped(xp.where(xp.isfinite(y), self.locate(y)[1], xp.full_like(y, math.nan)))

    def locate(self, x: Array) -> tuple[Array, Array, Array]:
        """Return where the magnitude of each element lies: |x| = lower + theta·gap.

        Parameters
        ----------
        x : array of float32 or float64 that can hold the format
            What is not finite is taken for 0.

        Returns
        -------
        lower, gap, theta : arrays like `x`
            The neighbour toward zero, |x| itself if it is a value of the format; the distance of the two neighbours, a
            power of two; and the position between them, 0 ≤ theta < 1. All are exact, but that theta underflows where
            |x| / gap is below the carrier's range.
        """
        xp = array_namespace(x)
        magnitude = xp.where(xp.isfinite(x), xp.abs(x), xp.zeros_like(x))
        flat = xp.reshape(magnitude, (-1,))
        binades, gaps = (xp.asarray(table, device=device(x)) for table in self._binades(carrier(x)))
        binade = xp.searchsorted(binades, flat, side="right")
        gap = xp.reshape(xp.take(gaps, binade, axis=0), x.shape)
        scaled = magnitude / gap
        significand = xp.floor(scaled)
        return significand * gap, gap, scaled - significand

    def check_carrier(self, name: str) -> None:
        """Raise ValueError if arrays of a type, such as "float32", cannot hold every value of the format."""
        precision, emin, emax = _CARRIERS[name]
        if self.precision > precision:
            raise ValueError(f"format {self} has precision {self.precision}; a {name} array has {precision}")
        if self.emin < emin or self.emax > emax:
            raise ValueError(
                f"format {self} has exponents from {self.emin} to {self.emax}; "
                f"those of a {name} array are from {emin} to {emax}"
            )

    def _carried(self, x: Array) -> Array:
        y = checks.real_array("x", x)
        self.check_carrier(carrier(y))
        return y

    @lru_cache(maxsize=64)  # noqa: B019  (formats are few and small)
    def _binades(self, carrier: str) -> tuple[np.ndarray, np.ndarray]:
        """Return the lower ends of the carrier's binades from emin on, and the gap below, in and above each."""
        last, below = _CARRIERS[carrier][2] + 1, self.precision - 1
        deepest = self.emin - below if self.subnormals else self.emin
        gaps = [deepest, *range(self.emin - below, last - below)]
        return _powers_of_two(range(self.emin, last), carrier), _powers_of_two(gaps, carrier)


# Precision, emin and emax of the types that arrays have.
_CARRIERS = {
    "float16": (11, -14, 15),
    "bfloat16": (8, -126, 127),
    "float32": (24, -126, 127),
    "float64": (53, -1022, 1023),
}


def _powers_of_two(exponents: Iterable[int], carrier: str) -> np.ndarray:
    """Return 2^e, made of bits: what a processor makes of subnormal numbers depends on its mode."""
    integer, stored, bias = ("int32", 23, 127) if carrier == "float32" else ("int64", 52, 1023)
    bits = [(e + bias) << stored if e + bias > 0 else 1 << (e + bias - 1 + stored) for e in exponents]
    return np.array(bits, integer).view(carrier)


def carrier(x: Array) -> str:
    """Return "float32" or "float64", the one that the elements of an array are."""
    single = x.dtype.char == "f" if isinstance(x, np.ndarray) else x.dtype == array_namespace(x).float32
    return "float32" if single else "float64"


_NAMED = (
    Format("binary8", 3, -14, 15),
    Format("e4m3", 4, -6, 8, overflow="nan", largest_significand=14),
    Format("bfloat16", 8, -126, 127),
    Format("binary16", 11, -14, 15),
    Format("tf32", 11, -126, 127),
    Format("binary32", 24, -126, 127),
    Format("binary64", 53, -1022, 1023),
)
FORMATS = {fmt.name: fmt for fmt in _NAMED}
_NARROWER = (
    Format("float8_e4m3", 4, -6, 7),
    Format("float8_e3m4", 5, -2, 3),
    Format("float6_e2m3fn", 4, 0, 2, overflow="saturate"),
    Format("float6_e3m2fn", 3, -2, 4, overflow="saturate"),
    Format("float4_e2m1fn", 2, 0, 2, overflow="saturate"),
)
# What else they are called, in lower case.
_ALIASES = {
    "binary8": "e5m2 float8_e5m2 fp8_e5m2",
    "e4m3": "e4m3fn float8_e4m3fn fp8_e4m3 fp8_e4m3fn",
    "bfloat16": "bf16",
    "binary16": "float16 fp16 half",
    "tf32": "tensorfloat32",
    "binary32": "float32 fp32 single",
    "binary64": "float64 fp64 double",
    "float8_e3m4": "e3m4 fp8_e3m4",
    "float6_e2m3fn": "e2m3 e2m3fn fp6_e2m3",
    "float6_e3m2fn": "e3m2 e3m2fn fp6_e3m2",
    "float4_e2m1fn": "e2m1 e2m1fn fp4_e2m1 fp4",
}
_NAMES = {name: fmt for fmt in (*_NAMED, *_NARROWER) for name in (fmt.name, *_ALIASES.get(fmt.name, "").split())}
