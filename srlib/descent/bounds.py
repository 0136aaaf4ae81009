"""Convergence bounds of gradient descent for convex functions, exact and rounded (SPEC D4, D5, D8)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from array_api_compat import array_namespace
from scipy.special import stdtrit

from srlib import checks
from srlib.arithmetic import matmul
from srlib.descent.problems import distance
from srlib.descent.steps import gradient_at, iterates, numbers_at
from srlib.digits import significant
from srlib.formats import Format
from srlib.philox import Philox
from srlib.rounding import outcomes
from srlib.schemes import Scheme
from srlib.typing import Array, Problem


def total_error(
    x: Array,
    g: Array,
    *,
    stepsize: float,
    fmt: Format | str,
    gradient: Scheme | str = "SR",
    multiply: Scheme | str = "SR",
    update: Scheme | str = "SR",
) -> tuple[Array, Array]:
    """Return mean and variance of the total error e = x⁺ − x + t·g of one step, component by component.

    The at most eight ways in which the three roundings can go are enumerated, each with its probability (SPEC D3); the
    gradient is rounded once.

    Parameters
    ----------
    x : array of float64, values of the format
    g : array of float64, of the shape of `x`
        The gradient at `x`, not rounded.
    stepsize, fmt, gradient, multiply, update
        As for `gradient_descent`.

    Returns
    -------
    mean, variance : arrays of the shape of `x`
    """
    errors, weights = [], []
    for g_hat, p1 in outcomes(g, fmt, gradient):
        for u_hat, p2 in outcomes(stepsize * g_hat, fmt, multiply):
            for moved, p3 in outcomes(x - u_hat, fmt, update, u_hat):
                errors.append((moved - x) + stepsize * g)
                weights.append(p1 * p2 * p3)
    mean = sum(p * e for p, e in zip(weights, errors, strict=True))
    return mean, sum(p * (e - mean) ** 2 for p, e in zip(weights, errors, strict=True))


def convergence_bound(lipschitz: float, stepsize: float, radius: float, c: Array) -> np.ndarray:
    """Return 2LR²/(4 + Lt·Σ_{j<k} c_j) for k = 0, 1, …, the bound on E f(x_k) − f* (SPEC D4, D8).

    Parameters
    ----------
    lipschitz, stepsize, radius : float
        L of the gradient; t; R, a bound on the distance of the iterates from the minimiser.
    c : array of shape (steps,)
        The constants of the steps; 1 in exact arithmetic.
    """
    total = np.concatenate([[0.0], np.cumsum(c)])
    return 2 * lipschitz * radius**2 / (4 + lipschitz * stepsize * total)


@dataclass(frozen=True, eq=False)
class Certificate:
    """The constants of the convergence bound along an ensemble, and how far the bound is certified.

    Attributes
    ----------
    lipschitz, stepsize, radius : float
        L, t, and R = ‖x̂₀ − x*‖.
    beta, eta, c : arrays of shape (steps, replicates)
        Of each state that a step starts from: ⟨g, b⟩ = −β·t‖g‖², E‖e‖² = η·(t/L)‖g‖² with g = ∇f(x̂), and
        c = 1 − η + 2(1 − Lt)β, or what a smoothness matrix makes of it: E f(x̂⁺) ≤ f(x̂) − (t/2)·c·‖g‖².
    distance : array of shape (steps + 1, replicates)
        ‖x̂_k − x*‖.
    gap : array of shape (steps + 1, replicates)
        f(x̂_k) − f*.
    """

    lipschitz: float
    stepsize: float
    radius: float
    beta: np.ndarray
    eta: np.ndarray
    c: np.ndarray
    distance: np.ndarray
    gap: np.ndarray

    def _repr_html_(self) -> str:
        from srlib import html

        return html.certificate_html(self)

    @property
    def worst(self) -> np.ndarray:
        """The least c of each step over the replicates."""
        return self.c.min(axis=1)

    @property
    def certified(self) -> int:
        """The largest k for which all hypotheses hold in all steps before it, in every replicate."""
        return self._end()[0]

    @property
    def reason(self) -> str:
        """Why the bound ends there."""
        return self._end()[1]

    def _end(self) -> tuple[int, str]:
        steps = len(self.c)
        if self.lipschitz * self.stepsize > 1:
            return 0, f"L·t = {self.lipschitz * self.stepsize:.3g} is above 1"
        positive, near = self.worst > 0, np.max(self.distance[:-1], axis=1) <= self.radius
        if np.all(positive & near):
            return steps, "the run ends"
        first = int(np.argmin(positive & near))
        return first, "c ≤ 0: rounding outweighs the step" if near[first] else "‖x̂ − x*‖ > R"

    @property
    def bound(self) -> np.ndarray:
        """The bound on E f(x̂_k) − f* for k = 0 to `certified`, with the worst c of each step."""
        return convergence_bound(self.lipschitz, self.stepsize, self.radius, self.worst[: self.certified])

    def upper_limit(self, confidence: float = 0.95) -> np.ndarray:
        """Return one-sided upper limits of E f(x̂_k) − f*, k = 0, 1, …, that hold together with this confidence.

        Student's t at level 1 − (1 − confidence)/(steps + 1) each; with one replicate, its own values.
        """
        count = self.gap.shape[1]
        mean = self.gap.mean(axis=1)
        if count == 1:
            return mean
        quantile = stdtrit(count - 1, 1 - (1 - confidence) / len(self.gap))
        return mean + quantile * self.gap.std(axis=1, ddof=1) / np.sqrt(count)


def certify(
    problem: Problem,
    x0: Array,
    *,
    lipschitz: float,
    minimiser: Array,
    stepsize: float,
    steps: int,
    fmt: Format | str,
    gradient: Scheme | str = "SR",
    multiply: Scheme | str = "SR",
    update: Scheme | str = "SR",
    smoothness: Array | None = None,
    rng: Philox | None = None,
    progress: Callable[..., Any] | None = None,
) -> Certificate:
    """Run gradient descent and compute the constants of its convergence bound at each state of each replicate.

    Parameters
    ----------
    problem
        Convex, with a gradient that is evaluated in float64 and rounded once.
    x0, stepsize, steps, fmt, gradient, multiply, update, rng, progress
        As for `gradient_descent`.
    lipschitz : float
        L, a Lipschitz constant of the gradient.
    minimiser : array
        x*.
    smoothness : float64 array of shape (n,) or (n, n), optional
        A symmetric matrix M, or its diagonal if it has no other elements, with ∇²f ⪯ M everywhere. Then c is that of
        SPEC D8, which charges each component with its own curvature:
        c = 2 − t·gᵀMg/‖g‖² − 2⟨g − tMg, b⟩/(t‖g‖²) − E[eᵀMe]/(t‖g‖²).

    Raises
    ------
    TypeError, ValueError
        As `gradient_descent`; or if the problem rounds each operation of its gradient.
    """
    if hasattr(problem, "rounded_gradient"):
        raise ValueError("problem rounds every operation of its gradient; must have a gradient that is rounded once")
    lipschitz = checks.positive("lipschitz", lipschitz)
    minimiser = checks.float64_array("minimiser", minimiser)
    smoothness = None if smoothness is None else checks.float64_array("smoothness", smoothness)
    options: dict[str, Any] = {"stepsize": checks.positive("stepsize", stepsize), "fmt": fmt}
    options |= {"gradient": gradient, "multiply": multiply, "update": update}
    walk = iterates(problem, x0, steps=steps, rng=rng, progress=progress, **options)
    optimum = significant(numbers_at(problem, "f", minimiser))
    constants, states = [], []  # type: ignore[var-annotated]
    with np.errstate(all="ignore"):  # a gradient of 0 shows as NaN
        for x in walk:
            states.append([significant(numbers_at(problem, "f", x)) - optimum, significant(distance(x, minimiser))])
            if len(constants) < steps:
                constants.append(_constants(problem, x, lipschitz, smoothness, options))
    beta, eta, c = (np.array(values) for values in zip(*constants, strict=True))
    gap, away = (significant(np.array(values).reshape(len(states), -1)) for values in zip(*states, strict=True))
    return Certificate(lipschitz, stepsize, float(away[0].max()), beta, eta, c, away, gap)


def _constants(problem: Problem, x: Array, lipschitz: float, smoothness: Array, options: dict[str, Any]) -> list[Array]:
    xp, stepsize = array_namespace(x), options["stepsize"]
    g = gradient_at(problem, x)
    mean, variance = total_error(x, g, **options)
    square = xp.sum(g * g, axis=-1)
    beta = -xp.sum(g * mean, axis=-1) / (stepsize * square)
    eta = xp.sum(mean * mean + variance, axis=-1) * lipschitz / (stepsize * square)
    if smoothness is None:
        c = 1 - eta + 2 * (1 - lipschitz * stepsize) * beta
    else:
        c = _sharper(xp, g, mean, variance, smoothness, stepsize) / square
    # To 12 decimals: the rest is rounding noise, which depends on the machine; adding 0 turns −0 into 0.
    return [np.atleast_1d(np.round(significant(values), 12) + 0.0) for values in (beta, eta, c)]


def _sharper(xp: Any, g: Array, mean: Array, variance: Array, smoothness: Array, stepsize: float) -> Array:
    """Return c·‖g‖² of SPEC D8."""
    if smoothness.ndim == 1:
        curved, bent, diagonal = smoothness * g, smoothness * mean, smoothness
    else:
        curved, bent = (matmul(vector, smoothness, 0.0) for vector in (g, mean))
        diagonal = xp.linalg.diagonal(smoothness)
    expected = xp.sum(mean * bent + diagonal * variance, axis=-1)
    along = xp.sum((g - stepsize * curved) * mean, axis=-1)
    return 2 * xp.sum(g * g, axis=-1) - stepsize * xp.sum(g * curved, axis=-1) - (2 * along + expected) / stepsize
