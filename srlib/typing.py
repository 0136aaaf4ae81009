"""What the annotations of the public functions mean."""

from typing import Any, Protocol, TypeAlias, TypeVar

Array: TypeAlias = Any
"""An array of float32 or float64, of NumPy, CuPy or another library that follows the array API standard."""

ArrayLike = TypeVar("ArrayLike")
"""Such an array or a float; the result is of the same type."""


class Problem(Protocol):
    """What can be minimised: a function of points, which are the last axes of an array."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one point."""

    def f(self, x: Array) -> Array:
        """Return the objective at each point."""

    def gradient(self, x: Array) -> Array:
        """Return the gradient at each point, of the shape of `x`."""
