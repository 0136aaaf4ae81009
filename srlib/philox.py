"""Counter-based random words: Philox4x32-10 (Salmon, Moraes, Dror and Shaw 2011, the Random123 library).

The 32-bit word that rounds element i of replicate r in draw n of a stream depends on (seed, r, n, i) alone (SPEC,
Randomness): it is word i mod 4 of the block with counter (⌊i/4⌋, n mod 2^32, ⌊n/2^32⌋, r) and key
(seed mod 2^32, ⌊seed/2^32⌋).
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from array_api_compat import array_namespace, device, is_torch_array

from srlib import checks
from srlib.typing import Array

MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
INCREMENTS = (0x9E3779B9, 0xBB67AE85)
_MASK = 0xFFFFFFFF
_ONE = range(1)
MOST_ELEMENTS = 2**34  # of a replicate
_LIMITS = {"seed": (0, 2**64 - 1), "bits": (1, 32), "start": (0, MOST_ELEMENTS), "draws": (0, 2**64 - 1)}
THRESHOLDS = ("nearest", "floor")


def philox4x32(counter: tuple[Array, Array, Array, Array], key: tuple[int, int]) -> tuple[Array, Array, Array, Array]:
    """Return the four words of Philox4x32-10.

    Parameters
    ----------
    counter : four integer arrays of uint64 that broadcast, each element below 2^32
    key : two ints below 2^32

    Returns
    -------
    tuple of four arrays of uint64, each element below 2^32
    """
    c0, c1, c2, c3 = counter
    xp = array_namespace(c0, c1, c2, c3)
    k0, k1 = key
    word = _uint64(xp, c0)
    mask, shift, m0, m1 = word(_MASK), word(32), word(MULTIPLIERS[0]), word(MULTIPLIERS[1])
    for _ in range(10):
        p0, p1 = c0 * m0, c2 * m1
        c0, c1, c2, c3 = (p1 >> shift) ^ c1 ^ word(k0), p1 & mask, (p0 >> shift) ^ c3 ^ word(k1), p0 & mask
        k0, k1 = (k0 + INCREMENTS[0]) & _MASK, (k1 + INCREMENTS[1]) & _MASK
    return c0, c1, c2, c3


def _uint64(xp: Any, like: Array) -> Callable[[int], Array]:
    return lambda value: xp.asarray(value, dtype=xp.uint64, device=device(like))


class Philox:
    """A stream of random words, one draw for each array that is rounded.

    Parameters
    ----------
    seed : int
        0 ≤ seed < 2^64.
    replicates : int or range, optional
        A count, or a range of replicate numbers below 2^32. Then the leading axis of every array is the replicate axis,
        and a replicate has the same words whichever others are there. Without it, an array is replicate 0 as a whole.
    bits : int
        How many bits of each word a rounding takes, from the top: 1 to 32.
    threshold : {"nearest", "floor"}
        Which multiple of 2^−bits a probability becomes: the nearest, of two the even one, or the one below, as where
        random bits are added below the last kept one and the rest is cut off.
    start : int
        The number of the first element of an array within a replicate: rounding x[a:b] with a start of a is that slice
        of rounding x. It serves contiguous parts, such as rows of a matrix, and not its columns.

    Attributes
    ----------
    seed, bits, threshold, start
    replicates : range or None
    draws : int
        How many draws have been taken; it may be set, to go on where another stream stopped, as the others may be.

    Raises
    ------
    TypeError, ValueError
        If a parameter is not of these.
    """

    def __init__(
        self,
        seed: int,
        replicates: int | range | None = None,
        bits: int = 32,
        *,
        threshold: str = "nearest",
        start: int = 0,
    ) -> None:
        self.replicates: range | None = replicates  # type: ignore[assignment]
        self.seed, self.bits, self.threshold, self.start, self.draws = seed, bits, threshold, start, 0

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "replicates":
            value = None if value is None else _replicate_range(value)
        elif name == "threshold":
            checks.choice(name, value, THRESHOLDS)
        elif name in _LIMITS:
            value = checks.integer(name, value, *_LIMITS[name])
        else:
            raise AttributeError(f"a Philox has no {name}; must be one of replicates, {', '.join(_LIMITS)}, threshold")
        self.__dict__[name] = value

    def __repr__(self) -> str:
        names = ("replicates", "bits", "threshold", "start", "draws")
        return f"Philox({self.seed}, {', '.join(f'{name}={getattr(self, name)!r}' for name in names)})"

    def take(self) -> int:
        """Return the number of the next draw, which is then taken."""
        draw = self.draws
        self.__dict__["draws"] = draw + 1  # needs no check
        return draw

    def numbers(self) -> range:
        """Return the replicate numbers, those along the leading axis of an array; just 0 without replicates."""
        return _ONE if self.replicates is None else self.replicates

    def check_shape(self, shape: tuple[int, ...]) -> None:
        """Raise ValueError if an array of this shape has another axis than the replicates' first, or needs more words.

        The words of a replicate begin again after 2^34 elements.
        """
        if self.replicates is not None and shape[:1] != (len(self.replicates),):
            raise ValueError(
                f"x has shape {shape}; its first axis must be the {len(self.replicates)} replicates of rng"
            )
        if self.start + math.prod(shape[self.replicates is not None :]) > MOST_ELEMENTS:
            raise ValueError(
                f"x has shape {shape}, from element {self.start} on; a replicate must have at most 2^34 elements"
            )

    def words(self, x: Array) -> Array:
        """Take a draw and return the random words of its elements.

        Parameters
        ----------
        x : array
            For its shape, array library and device. The leading axis must be that of the replicates, if there are any.

        Returns
        -------
        array of uint64 and of the shape of `x`, each element below 2^32

        Raises
        ------
        ValueError
            If the leading axis of `x` has another length than there are replicates, or one has over 2^34 elements.
        TypeError
            If it is a PyTorch tensor, as that library cannot compute with uint64.
        """
        if is_torch_array(x):
            raise TypeError("x is a Tensor; must be an array of another library, such as np.empty(x.shape)")
        self.check_shape(x.shape)
        if not isinstance(x, np.ndarray):
            checks.library("x", x)
        draw, numbers = self.take(), self.numbers()
        xp = array_namespace(x)
        word = _uint64(xp, x)
        size = math.prod(x.shape) // max(len(numbers), 1)
        first, ahead = divmod(self.start, 4)
        block = xp.arange(first, first - (-(ahead + size) // 4), dtype=xp.uint64, device=device(x))[None, :]
        replicate = xp.asarray(list(numbers), dtype=xp.uint64, device=device(x))[:, None]
        zero = xp.zeros_like(block)
        counter = (block & word(_MASK), zero + word(draw & _MASK), zero + word(draw >> 32), replicate)
        words = philox4x32(counter, (self.seed & _MASK, self.seed >> 32))
        interleaved = xp.stack(xp.broadcast_arrays(*words), axis=-1)
        return xp.reshape(xp.reshape(interleaved, (len(numbers), -1))[:, ahead : ahead + size], x.shape)

    def uniform(self, shape: tuple[int, ...]) -> np.ndarray:
        """Take a draw and return (word + ½)/2^32 for each element, between 0 and 1, as a NumPy array of float64.

        Raises
        ------
        ValueError
            As for `words`.
        """
        return (self.words(np.empty(shape)) + 0.5) / 2.0**32


def _replicate_range(replicates: int | range) -> range:
    if not isinstance(replicates, range):
        replicates = range(checks.integer("replicates", replicates, 1, 2**32))
    if not replicates or not all(0 <= end < 2**32 for end in (replicates[0], replicates[-1])):
        raise ValueError(f"replicates is {replicates}; must be a count or a range of numbers from 0 to {2**32 - 1}")
    return replicates
