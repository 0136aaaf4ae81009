"""Convergence bounds of rounded gradient descent for convex functions, certified or estimated (SPEC D5, D8)."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from array_api_compat import array_namespace
from scipy.special import stdtrit

from srlib import checks
from srlib.arithmetic import matmul
from srlib.descent.exact_law import ways_of_a_step
from srlib.descent.potentials import Knowledge
from srlib.descent.rates import KINDS, Rates, bound_within, by_potentials, check_hypotheses, potential_bound
from srlib.descent.separable import component_laws
from srlib.descent.steps import gradient_at, iterates, numbers_at
from srlib.digits import rounded_up, significant, to_numpy
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
    sites = (gradient, multiply, update)
    roundings = [lambda y, v=None, scheme=scheme: outcomes(y, fmt, scheme, v) for scheme in sites]
    ends, chances = ways_of_a_step(x, g, stepsize, roundings)
    errors = (ends - x) + stepsize * g
    mean = sum(chances[k, ...] * errors[k, ...] for k in range(8))
    return mean, sum(chances[k, ...] * (errors[k, ...] - mean) ** 2 for k in range(8))


@dataclass(frozen=True, eq=False)
class Certificate:
    """Bounds on E f(x̂_k) − f* along a run, and what they are made of.

    Attributes
    ----------
    certified : bool
        Whether all expectations are exact. If not, the bounds are estimated: made of one-sided limits from an ensemble
        that hold together with the stated confidence, as far as Student's t describes the means.
    confidence : float
        1 where certified.
    rates : Rates
        Of the run as a whole; means over the ensemble where estimated.
    gap : array of shape (steps + 1, replicates)
        f(x̂_k) − f*; its expectation, in one column, where certified.
    distance : array of the same shape
        ‖x̂_k − x*‖², likewise.
    radius, farthest : float
        ‖x̂_0 − x*‖, and the largest ‖x̂_k − x*‖ in the mean square (an upper limit where estimated).
    bound : array of shape (steps + 1,)
        That of D5, or by potentials (D5c), which assumes nothing but L and convexity.
    within : array of the same shape
        That of the paper's kind, D5p. It assumes ‖x̂_k − x*‖ ≤ R in the mean square, with R = `radius`: see `farthest`.
    components : array of the same shape, or None
        The sum of the bounds of all components (D5′), where the function is separable.
    """

    certified: bool
    confidence: float
    rates: Rates
    gap: np.ndarray
    distance: np.ndarray
    radius: float
    farthest: float
    bound: np.ndarray
    within: np.ndarray
    components: np.ndarray | None = None

    def _repr_html_(self) -> str:
        from srlib import html

        parts = {"D5": self.bound, "D5p": self.within, "D5′": self.components}
        ends = {name: rounded_up(part[-1]) for name, part in parts.items() if part is not None}
        return html.certificate_html(self, ends)


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
    confidence: float = 0.95,
    kind: str = "D5",
    progress: Callable[..., Any] | None = None,
) -> Certificate:
    """Return bounds on E f(x̂_k) − f* along gradient descent: certified where the law is known, else estimated.

    Certified are, without `rng`, the runs of a separable problem, one that has ``terms(x)`` or points with one
    component, by the laws of its components; and runs without random words, of which there is but one. All others are
    estimated from the replicates of `rng`: for each state the moments of the next error are exact, their expectations
    along the run are means with Student's t limits, ratios have Fieller's, and all of them hold together (Bonferroni).

    Parameters
    ----------
    problem
        Convex, with a gradient that is evaluated in float64 and rounded once.
    x0, stepsize, steps, fmt, gradient, multiply, update, progress
        As for `gradient_descent`.
    lipschitz : float
        L, a Lipschitz constant of the gradient. That it is one, and that the problem is convex, is taken on trust where
        no state that is visited belies it.
    minimiser : array
        x*.
    smoothness : float64 array of shape (n,) or (n, n), optional
        A symmetric matrix M, or its diagonal if it has no other elements, with ∇²f ⪯ M everywhere. It charges each
        component with its own curvature in the descent of f (SPEC D8). For the laws of components, M must be diagonal.
    rng : Philox, optional
        With at least two replicates.
    confidence : float
        That of all limits of an estimated bound together.
    kind : {"D5", "potential"}
        Of the bound, and of those of the components: see `Rates.bound`.

    Raises
    ------
    TypeError, ValueError
        As `gradient_descent`; if the problem rounds each operation of its gradient; if the law is neither known nor to
        be estimated; or if a state belies a hypothesis, with the numbers that do: f below that of the minimiser, f not
        convex, L too small, or at x0 a gradient along which f does not fall as it says (by more than 10⁻³ of it).
    """
    if hasattr(problem, "rounded_gradient"):
        raise ValueError("problem rounds every operation of its gradient; must have a gradient that is rounded once")
    checks.choice("kind", kind, KINDS)
    lipschitz, confidence = checks.positive("lipschitz", lipschitz), checks.real("confidence", confidence)
    if not 0 < confidence < 1:
        raise ValueError(f"confidence is {confidence}; must be above 0 and below 1")
    minimiser = checks.float64_array("minimiser", minimiser)
    smoothness = None if smoothness is None else checks.float64_array("smoothness", smoothness)
    options: dict[str, Any] = {"stepsize": checks.positive("stepsize", stepsize), "fmt": Format.parse(fmt)}
    options |= {"gradient": gradient, "multiply": multiply, "update": update}
    random = any(Scheme.parse(options[site]).stochastic for site in ("gradient", "multiply", "update"))
    _check_gradient(problem, x0, lipschitz)
    separable = hasattr(problem, "terms") or problem.shape == (1,)
    if random and rng is None and not separable:
        raise ValueError("rng is None; must be a Philox with replicates, as the problem has no terms")
    if rng is None and separable:
        return _by_components(problem, x0, lipschitz, minimiser, steps, smoothness, options, kind, progress)
    walk = iterates(problem, x0, steps=steps, rng=rng, progress=progress, **options)
    optimum = _of_replicates(numbers_at(problem, "f", minimiser))
    moments, gaps, distances = [], [], []  # type: ignore[var-annotated]
    for x in walk:
        away = x - minimiser
        gaps.append(_of_replicates(numbers_at(problem, "f", x)) - optimum)
        distances.append(_of_replicates(array_namespace(x).sum(away * away, axis=-1)))
        if len(moments) < steps:
            moments.append(_moments(problem, x, away, smoothness, options))
            check_hypotheses(gaps[-1], moments[-1][1], moments[-1][0], lipschitz)
    each = Rates(lipschitz, options["stepsize"], *np.moveaxis(np.array(moments), 1, 0))
    gap, distance, count = np.array(gaps), np.array(distances), each.grad_sq.shape[1]
    if not random:
        return _certificate(each.across(np.mean), gap.mean(axis=1), distance.mean(axis=1), kind)
    if count < 2:
        raise ValueError("rng has 1 replicate; must have at least 2, as bounds are estimated from their spread")
    return _estimate(each, gap, distance, confidence, kind)


def _check_gradient(problem: Problem, x0: Array, lipschitz: float) -> None:
    """Raise ValueError if f does not fall along its gradient at x0 as it should."""
    x = checks.float64_array("x0", x0)
    g = gradient_at(problem, x)
    square = to_numpy(array_namespace(g).sum(g * g, axis=-1))
    short = 1e-4 / lipschitz  # for which curvature takes at most half of 10⁻⁴
    f, after = (to_numpy(numbers_at(problem, "f", point)) for point in (x, x - short * g))
    due = short * square
    if np.any(np.abs(f - after - due) > 1e-3 * due + 1e-12 * np.abs(f)):
        raise ValueError(
            f"gradient is not that of f: f falls by {np.max(f - after):.4g} from x0 along it; must by {np.max(due):.4g}"
        )


def _of_replicates(values: Array) -> np.ndarray:
    return np.atleast_1d(significant(values))


def _moments(
    problem: Problem, x: Array, away: Array, smoothness: Array | None, options: dict[str, Any]
) -> list[np.ndarray]:
    """Return what `Rates` is made of, for each state of an ensemble: expectations over the next roundings."""
    xp, stepsize, g = array_namespace(x), options["stepsize"], gradient_at(problem, x)
    mean, variance = total_error(x, g, **options)
    parts = [g * g, g * away, g * mean, mean * away, mean * mean + variance]
    if smoothness is not None:
        move = mean - stepsize * g
        bent, diagonal = (
            (smoothness * move, smoothness)
            if smoothness.ndim == 1
            else (matmul(move, smoothness, 0.0), xp.linalg.diagonal(smoothness))
        )
        parts.append(move * bent + diagonal * variance)
    return [_of_replicates(xp.sum(part, axis=-1)) for part in parts]


def _by_components(
    problem: Problem,
    x0: Array,
    lipschitz: float,
    minimiser: Array,
    steps: int,
    smoothness: Array | None,
    options: dict[str, Any],
    kind: str,
    progress: Callable[..., Any] | None,
) -> Certificate:
    """Return the certificate of a separable problem, from the laws of its components."""
    if smoothness is not None and smoothness.ndim != 1:
        raise ValueError(f"smoothness has shape {smoothness.shape}; must be a diagonal for the laws of components")
    curvatures = np.full(minimiser.shape, lipschitz) if smoothness is None else smoothness
    laws = component_laws(
        problem if hasattr(problem, "terms") else _OneTerm(problem),
        x0,
        curvatures=curvatures,
        minimiser=minimiser,
        steps=steps,
        progress=progress,
        **options,
    )
    rates = laws.rates.joint(lipschitz, curved=smoothness is not None)
    components = laws.rates.bound(laws.radius, kind).sum(axis=1)
    return _certificate(rates, laws.gap.sum(axis=1), laws.distance.sum(axis=1), kind, components)


class _OneTerm:
    """A problem of points with one component, as the sum of its only term."""

    def __init__(self, problem: Problem) -> None:
        self.problem, self.shape, self.gradient = problem, problem.shape, problem.gradient

    def terms(self, x: Array) -> Array:
        return numbers_at(self.problem, "f", x)[..., None]


def _certificate(rates: Rates, gap: np.ndarray, distance: np.ndarray, kind: str, components: Any = None) -> Certificate:
    radius, farthest = (float(np.sqrt(part)) for part in (distance[0], distance.max()))
    bounds = rates.bound(radius, kind), rates.bound_within(radius, gap[0])
    return Certificate(True, 1.0, rates, gap[:, None], distance[:, None], radius, farthest, *bounds, components)


def _estimate(each: Rates, gap: np.ndarray, distance: np.ndarray, confidence: float, kind: str) -> Certificate:
    """Return bounds made of limits of θ, w, ω and s, of what is lost, and of the distance; for potentials, of ρ too."""
    steps, count = each.grad_sq.shape
    # Eight limits a step, or 14; each ratio is taken of means, and its limit is that of the ensemble, Fieller's.
    limits = (8 if kind == "D5" else 14) * steps
    spread = stdtrit(count - 1, 1 - (1 - confidence) / limits) / np.sqrt(count)

    def upper(values: np.ndarray) -> np.ndarray:
        return values.mean(axis=1) + spread * values.std(axis=1, ddof=1)

    def least(part: np.ndarray) -> np.ndarray:
        return least_ratio(part, each.grad_sq, spread)

    def largest(part: np.ndarray) -> np.ndarray:
        return -least(-part)

    lipschitz, stepsize = each.lipschitz, each.stepsize
    forward = stepsize * each.grad_dot_distance - each.error_dot_distance
    theta = least_ratio(forward, each.grad_dot_distance, spread)
    alpha = np.maximum(theta, 0.0)
    lost = np.where(alpha > 0, 0.0, np.maximum(upper(-forward), 0.0))

    def gains(each: Rates) -> np.ndarray:
        return np.cumsum(alpha)[:, None] * each.descent + alpha[:, None] * each.grad_sq / lipschitz - each.moved

    change = gains(each)
    w = least(change / 2)
    lost += np.where(w > 0, 0.0, np.maximum(upper(-change / 2), 0.0))
    # (6) holds for any τ; that of the means makes the noise about it least.
    rates = each.across(np.mean)
    tau, inside = rates.tau, rates.growing
    turned = (tau - stepsize)[:, None]
    along, noise = each.grad_dot_error + turned * each.grad_sq, each.noise + 2 * turned * each.grad_dot_error
    noise = noise + turned**2 * each.grad_sq
    slope = np.where(inside, tau * (2 - lipschitz * tau), 1.0)
    omega = np.where(inside, np.maximum(largest(lipschitz * noise / slope[:, None]), 0.0), np.inf)
    radius, farthest = float(np.sqrt(distance[0].mean())), float(np.sqrt(upper(distance).max()))
    bound = potential_bound(lipschitz, radius, alpha, np.maximum(w, 0.0), omega, lost)
    if kind == "potential":
        known = Knowledge(
            tau=lipschitz * tau,
            off=lipschitz * np.maximum(largest(along), largest(-along)),
            theta_low=lipschitz * theta,
            theta_high=-lipschitz * least_ratio(-forward, each.grad_dot_distance, spread),
            rho=lipschitz**2 * np.maximum(largest(noise), 0.0),
            square=upper(each.grad_sq) / lipschitz**2,
            inner=upper(each.grad_dot_distance) / lipschitz,
            square_cap=lipschitz**2 * np.maximum(-least(gains(replace(each, curved=None)) / 2), 0.0),
            inner_cap=lipschitz * np.maximum(-theta, 0.0),
        )
        bound = np.minimum(bound, by_potentials(lipschitz, radius, known, None))
    rises = np.maximum(upper(-each.descent / 2), 0.0)
    within = bound_within(radius, float(gap[0].mean()), least(each.descent), rises)
    return Certificate(False, confidence, rates, gap, distance, radius, farthest, bound, within)


def least_ratio(part: np.ndarray, whole: np.ndarray, spread: float) -> np.ndarray:
    """Return Fieller's lower limit of E part/E whole: −∞ where the mean of the whole may be 0, and 0 where both are 0.

    Parameters
    ----------
    part, whole : arrays of shape (steps, replicates)
        The whole is not negative.
    spread : float
        The quantile of Student's t by the root of the number of replicates.
    """
    n, d = part.mean(axis=1), whole.mean(axis=1)
    apart, away = part - n[:, None], whole - d[:, None]
    factor = spread**2 / (part.shape[1] - 1)
    nn, nd, dd = (factor * np.sum(a * b, axis=1) for a, b in ((apart, apart), (apart, away), (away, away)))
    # The smaller root r of (n − rd)² = nn − 2r·nd + r²·dd, its discriminant without cancellation.
    root = np.sqrt(np.maximum(n**2 * dd - 2 * n * d * nd + d**2 * nn - (nn * dd - nd**2), 0.0))
    below = d**2 - dd
    with np.errstate(all="ignore"):
        limit = np.where(below > 0, (n * d - nd - root) / below, -np.inf)
    return np.where(np.any((part != 0) | (whole != 0), axis=1), limit, 0.0)
