"""The exact laws of all components of a separable function at once, and the bounds that they give (SPEC D5′, D6)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from srlib import checks
from srlib.descent.exact_law import in_bits, ways_of_a_step
from srlib.descent.rates import Rates, check_hypotheses
from srlib.descent.steps import like_points
from srlib.formats import Format
from srlib.rounding import round_to
from srlib.schemes import Scheme
from srlib.typing import Array


@dataclass(frozen=True, eq=False)
class ComponentLaws:
    """What the laws of the components of a run say.

    Attributes
    ----------
    gap, distance : float64 arrays of shape (steps + 1, components)
        E f_i(x̂_k) − f_i(x*) and E (x̂_k − x*)², component by component.
    rates : Rates
        Of each component and step.
    """

    gap: np.ndarray
    distance: np.ndarray
    rates: Rates

    @property
    def radius(self) -> np.ndarray:
        """|x̂_0 − x*| of each component."""
        return np.sqrt(self.distance[0])


def component_laws(
    problem: Any,
    x0: Array,
    *,
    curvatures: Array,
    minimiser: Array,
    stepsize: float,
    steps: int,
    fmt: Format | str,
    gradient: Scheme | str = "SR",
    multiply: Scheme | str = "SR",
    update: Scheme | str = "SR",
    bits: int = 32,
    threshold: str = "nearest",
    progress: Callable[..., Any] | None = None,
) -> ComponentLaws:
    """Follow the law of each component of gradient descent, from the closed forms and without sampling error.

    Parameters
    ----------
    problem
        Separable: element i of ``gradient(x)`` depends on x_i alone, and so does element i of ``terms(x)``, of which
        the objective is the sum. Both take and return arrays of shape (..., n).
    x0 : float64 array of shape (n,)
        Rounded once, by RN.
    curvatures, minimiser : float64 arrays of shape (n,)
        A Lipschitz constant of each element of the gradient, and x*.
    stepsize, steps, fmt, gradient, multiply, update
        As for `gradient_descent`.
    bits, threshold
        As for `exact_law`.
    progress : callable, optional
        Wraps the range of the steps, as tqdm does.

    Returns
    -------
    ComponentLaws

    Raises
    ------
    TypeError, ValueError
        If a parameter is not of these, a component can overflow, or values that are reached belie the minimiser, the
        convexity, or a curvature (see `check_hypotheses`).
    """
    fmt, stepsize, steps = Format.parse(fmt), checks.positive("stepsize", stepsize), checks.integer("steps", steps, 1)
    curvatures, minimiser = (
        checks.float64_array(name, value) for name, value in (("curvatures", curvatures), ("minimiser", minimiser))
    )
    x = round_to(checks.float64_array("x0", x0), fmt)[None, :]
    p, best = np.ones_like(x), problem.terms(minimiser[None, :])[0]
    roundings = in_bits(fmt, (gradient, multiply, update), bits, threshold)
    gaps, distances, moments = [], [], []
    for step in (progress or iter)(range(steps + 1)):
        gap, away = like_points("terms", problem.terms(x), x) - best, x - minimiser
        gaps.append(np.sum(p * gap, axis=0))
        distances.append(np.sum(p * away**2, axis=0))
        if step == steps:
            break
        g = like_points("gradient", problem.gradient(x), x)
        check_hypotheses(gap, g * away, g**2, curvatures)
        ends, chances = ways_of_a_step(x, g, stepsize, roundings)
        chances = p * chances
        if not np.all(np.isfinite(ends) | (chances == 0)):
            raise ValueError(f"step {step} can overflow {fmt}; must not, as an error then has no mean")
        error = np.where(chances > 0, ends - x + stepsize * g, 0.0)
        mean, square = (np.sum(chances * error**power, axis=0) for power in (1, 2))
        parts = (p * g**2, p * g * away, g * mean, mean * away, square)
        moments.append([np.sum(part, axis=0) for part in parts])
        x, p = _merged(ends.reshape(-1, x.shape[1]), chances.reshape(-1, x.shape[1]))
    rates = Rates(curvatures, stepsize, *np.moveaxis(np.array(moments), 1, 0))
    return ComponentLaws(np.array(gaps), np.array(distances), rates)


def unrounded(
    problem: Any, x0: Array, *, curvatures: Array, minimiser: Array, stepsize: float, steps: int
) -> ComponentLaws:
    """Return the same of gradient descent in binary64, whose errors are taken for 0; parameters as there."""
    walk = [x0]
    for _ in range(steps):
        walk.append(walk[-1] - stepsize * problem.gradient(walk[-1]))
    x = np.array(walk)
    g, away, none = problem.gradient(x), x - minimiser, np.zeros((steps, len(minimiser)))
    rates = Rates(curvatures, stepsize, g[:-1] ** 2, (g * away)[:-1], none, none, none)
    return ComponentLaws(problem.terms(x) - problem.terms(minimiser), away**2, rates)


def _merged(x: np.ndarray, p: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the different values in each column of x with the sums of their probabilities p, padded with zeros."""
    columns = np.arange(x.shape[1])
    likely = x[np.argmax(p, axis=0), columns]
    x = np.where(p > 0, x, likely)
    order = np.argsort(x, axis=0, kind="stable")
    x, p = (np.take_along_axis(values, order, axis=0) for values in (x, p))
    rank = np.cumsum(np.concatenate([np.zeros((1, x.shape[1]), bool), x[1:] != x[:-1]]), axis=0)
    shape = (int(rank.max()) + 1, x.shape[1])
    places = (rank * shape[1] + columns).ravel()
    values = np.broadcast_to(likely, shape).copy()
    values[rank, columns] = x
    return values, np.bincount(places, p.ravel(), shape[0] * shape[1]).reshape(shape)
