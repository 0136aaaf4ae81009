"""A rounding is two stepsizes and a noise: what it does to descent and to distance, and the bounds that follow (D5)."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from srlib import checks
from srlib.descent.potentials import Knowledge, potential_bounds
from srlib.typing import Array

KINDS = ("D5", "potential")  # of bounds


@dataclass(frozen=True, eq=False)
class Rates:
    """What the roundings of a run do to descent and to distance: two stepsizes and a noise a step (SPEC D5).

    All expectations are along the law of the run, g is the gradient at the iterate and e the total error of the step
    that starts there.

    Attributes
    ----------
    lipschitz : float or array of shape (components,)
        L, or that of each component of a separable function.
    stepsize : float
        t.
    grad_sq, grad_dot_distance : arrays of shape (steps,) or (steps, components)
        G = E‖g‖² and P = E⟨g, x̂ − x*⟩.
    grad_dot_error, error_dot_distance, noise : arrays of the same shape
        E⟨g, e⟩, E⟨e, x̂ − x*⟩ and E‖e‖².
    curved : array of the same shape, optional
        E⟨x̂⁺ − x̂, M(x̂⁺ − x̂)⟩ with ∇²f ⪯ M (SPEC D8); L·E‖x̂⁺ − x̂‖² without it.
    """

    lipschitz: Array
    stepsize: float
    grad_sq: np.ndarray
    grad_dot_distance: np.ndarray
    grad_dot_error: np.ndarray
    error_dot_distance: np.ndarray
    noise: np.ndarray
    curved: np.ndarray | None = None

    @property
    def moved(self) -> np.ndarray:
        """E‖x̂⁺ − x̂‖² = (τ² + ρ)G."""
        return self.stepsize**2 * self.grad_sq - 2 * self.stepsize * self.grad_dot_error + self.noise

    @property
    def descent(self) -> np.ndarray:
        """sG: in the mean f falls by at least half of it."""
        curved = self.lipschitz * self.moved if self.curved is None else self.curved
        return 2 * (self.stepsize * self.grad_sq - self.grad_dot_error) - curved

    @property
    def tau(self) -> np.ndarray:
        """τ = t − E⟨g, e⟩/G, the stepsize of the descent of f; t where G is 0."""
        return self.stepsize - _quotient(self.grad_dot_error, self.grad_sq)

    @property
    def theta(self) -> np.ndarray:
        """θ = t − E⟨e, x̂ − x*⟩/P, the stepsize of the distance to x*; t where P is 0."""
        return self.stepsize - _quotient(self.error_dot_distance, self.grad_dot_distance)

    @property
    def rho(self) -> np.ndarray:
        """ρ = E‖e‖²/G − (t − τ)² ≥ 0, the noise; where G is 0, it is 0 without an error and else infinite."""
        explained = self.grad_dot_error * _quotient(self.grad_dot_error, self.grad_sq)
        rho = np.maximum(_quotient(self.noise - explained, self.grad_sq), 0.0)
        return np.where((self.grad_sq == 0) & (self.noise > 0), np.inf, rho)

    @property
    def growing(self) -> np.ndarray:
        """Where the growth of the gradient is bounded: 0 < Lτ < 2, and τ is no remainder of what cancels."""
        return (self.tau > 1e-6 * self.stepsize) & (self.lipschitz * self.tau < 2)

    @property
    def s(self) -> np.ndarray:
        """s = 2τ − Lτ² − Lρ ≤ 1/L: f falls by at least ½sG in the mean (more with M in place of L)."""
        if self.curved is None:
            return 2 * self.tau - self.lipschitz * (self.tau**2 + self.rho)
        return 2 * self.tau - _quotient(self.curved, self.grad_sq)

    def joint(self, lipschitz: float, *, curved: bool = False) -> "Rates":
        """Return the rates of a separable function as a whole, whose moments are sums.

        Parameters
        ----------
        lipschitz : float
            L, that of all of it.
        curved : bool
            Charge each component with its own curvature in the descent of f: D8 with a diagonal matrix M.
        """
        bent = self.lipschitz * self.moved if curved else None
        return replace(self, lipschitz=lipschitz, curved=bent).across(np.sum)

    def across(self, function: Callable[..., np.ndarray]) -> "Rates":
        """Return the rates of moments that are reduced along their second axis, as by ``np.sum`` or ``np.mean``."""
        names = ["grad_sq", "grad_dot_distance", "grad_dot_error", "error_dot_distance", "noise"]
        names += [] if self.curved is None else ["curved"]
        moments: dict[str, Any] = {name: function(getattr(self, name), axis=1) for name in names}
        return replace(self, **moments)

    def bound(self, radius: Array, kind: str = "D5", horizons: Sequence[int] | None = None) -> np.ndarray:
        """Return a bound on E f(x̂_k) − f* for k = 0 … steps, from ‖x̂_0 − x*‖ in the mean square.

        Of components it is one for each, and their sum is a bound for the whole (D5′).

        It assumes that f is convex and its gradient has the Lipschitz constant L, and nothing else.

        Parameters
        ----------
        radius : float or array of shape (components,)
        kind : {"D5", "potential"}
            The closed form of D5, or the best bound that one matrix inequality a step can prove (D5c), which is never
            above it and needs the extra ``pep``; without that, a warning says so and the bound is that of D5.
        horizons : sequence of int, optional
            For which last steps potentials are made the best; each of them bounds all steps before its last one, too.
            Ten, or for components the last step alone, if not given.
        """
        checks.choice("kind", kind, KINDS)
        alpha, gains, omega, lost = self._parts()
        closed = potential_bound(self.lipschitz, radius, alpha, gains, omega, lost)
        if kind == "D5":
            return closed
        if closed.ndim == 1:
            return np.minimum(closed, self._by_potentials(float(radius), horizons))
        ends = [len(lost)] if horizons is None else horizons
        radii = np.broadcast_to(radius, closed.shape[1:]).tolist()
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            columns = list(pool.map(lambda i: self._component(i)._by_potentials(radii[i], ends), range(len(radii))))
        return np.minimum(closed, np.stack(columns, axis=1))

    def _component(self, i: int) -> "Rates":
        lipschitz = float(np.broadcast_to(self.lipschitz, self.grad_sq.shape[1:])[i])
        return replace(self, lipschitz=lipschitz).across(lambda values, axis: values[:, i])

    def _by_potentials(self, radius: float, horizons: Sequence[int] | None) -> np.ndarray:
        return by_potentials(self.lipschitz, radius, self.knowledge(), horizons)

    def knowledge(self) -> Knowledge:
        """Return what potentials may use, in units with L = 1: these rates, and where D5 loses how much it does.

        They know L, and no other bound of the curvature.
        """
        if self.curved is not None:
            return replace(self, curved=None).knowledge()
        scale = self.lipschitz
        theta, noise_lost = scale * self.theta, self._noise_lost(np.maximum(self.theta, 0.0))
        return Knowledge(
            tau=scale * self.tau,
            off=0 * theta,
            theta_low=theta,
            theta_high=theta,
            rho=scale**2 * self.rho,
            square=self.grad_sq / scale**2,
            inner=self.grad_dot_distance / scale,
            square_cap=scale**2 * _quotient(noise_lost, self.grad_sq),
            inner_cap=np.maximum(-theta, 0.0),
        )

    def _parts(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Return α, max(0, w), ω and what is lost, max(0, −w)G + (α − θ)P, in each step."""
        lipschitz, tau, rho = self.lipschitz, self.tau, self.rho
        alpha = np.maximum(self.theta, 0.0)
        forward = self.stepsize * self.grad_dot_distance - self.error_dot_distance  # θP, where P is 0 as well
        inside = self.growing
        with np.errstate(over="ignore", invalid="ignore"):
            omega = np.where(inside, lipschitz * rho / np.where(inside, tau * (2 - lipschitz * tau), 1.0), np.inf)
            w = (np.cumsum(alpha, axis=0) * self.s + alpha / lipschitz - tau**2 - rho) / 2
        gains = np.where(np.isfinite(w), np.maximum(w, 0.0), 0.0)
        return alpha, gains, omega, self._noise_lost(alpha) + alpha * self.grad_dot_distance - forward

    def _noise_lost(self, alpha: np.ndarray) -> np.ndarray:
        """Return max(0, −w)G, which is finite where w is not."""
        change = np.cumsum(alpha, axis=0) * self.descent + alpha * self.grad_sq / self.lipschitz - self.moved
        return np.maximum(-change / 2, 0.0)

    def proof_slack(self, gap: np.ndarray, distance: np.ndarray) -> dict[str, np.ndarray]:
        """Return how the budget ½R_0² + lost of D5 is spent after k = 1 … steps − 1: shares that add up to 1.

        "truth" is E f(x̂_k) − f* by the bound; the others are what the inequalities of the proof give away, each
        non-negative: "descent" and "co-coercivity" in the steps so far, "growth" of the gradient, and "end", the last
        inequality between a_k, R_k and G_k.

        Parameters
        ----------
        gap, distance : arrays of shape (steps + 1,)
            E f(x̂_k) − f* and E‖x̂_k − x*‖².
        """
        alpha, gains, omega, lost = self._parts()
        half = 0.5 / self.lipschitz
        square, total = self.grad_sq[1:], np.cumsum(alpha)[:-1]
        kept = _faded(gains, omega)[1:-1]
        factor = total + half + np.sqrt(2 * kept + half**2)
        falls = np.cumsum(np.cumsum(alpha) * (gap[:-1] - self.descent / 2 - gap[1:]))[:-1]
        curves = np.cumsum(alpha * (self.grad_dot_distance - gap[:-1] - half * self.grad_sq))[:-1]
        growth = np.cumsum(gains * self.grad_sq)[:-1] - kept * square
        end = distance[1:-1] / 2 + kept * square - gap[1:-1] * (factor - total)
        spent = {"truth": factor * gap[1:-1], "descent": falls, "co-coercivity": curves, "growth": growth, "end": end}
        budget = distance[0] / 2 + np.cumsum(lost)[:-1]
        return {name: part / budget for name, part in spent.items()}

    def bound_within(self, radius: float, start: float) -> np.ndarray:
        """Return the bound of D5p on E f(x̂_k) − f*, the paper's kind, from `start` = f(x̂_0) − f*.

        It assumes besides that E‖x̂_k − x*‖² ≤ R² in all steps. Where noise outweighs the descent it rises.
        """
        return bound_within(radius, start, self.s, -self.descent / 2)


def potential_bound(
    lipschitz: Array, radius: Array, alpha: np.ndarray, gains: np.ndarray, omega: np.ndarray, lost: np.ndarray
) -> np.ndarray:
    """Return the bound of D5 from what each step adds to it.

    Parameters
    ----------
    lipschitz, radius : float or array of shape (components,)
        L and R_0.
    alpha, gains, omega, lost : arrays of shape (steps,) or (steps, components)
        α, a lower limit of max(0, w), upper limits of ω and of max(0, −w)G + (α − θ)P.
    """
    half, start = 0.5 / lipschitz, np.zeros((1, *alpha.shape[1:]))
    top = np.square(radius) / 2 + np.concatenate([start, np.cumsum(lost, axis=0)])
    total = np.concatenate([start, np.cumsum(alpha, axis=0)])
    return top / (total + half + np.sqrt(2 * _faded(gains, omega) + half**2))


def by_potentials(lipschitz: Array, radius: float, known: Knowledge, horizons: Sequence[int] | None) -> np.ndarray:
    """Return the bound of D5c, infinite from the first step on that has an error without a gradient.

    Parameters
    ----------
    lipschitz, radius : float
        L and R_0.
    known : Knowledge
    horizons : sequence of int, optional
        As for `Rates.bound`; ten if not given.
    """
    steps, usable = len(known.rho), int(np.argmin(np.append(np.isfinite(known.rho), False)))
    ends = np.rint(np.geomspace(min(5, steps), steps, 10)) if horizons is None else np.asarray(horizons)
    some = {min(checks.integer("horizons", int(end), 1, steps), usable) for end in ends}
    bound = np.full(steps + 1, np.inf)
    if radius > 0 and usable:
        bound[: usable + 1] = potential_bounds(known.first(usable), radius, sorted(some))
    return lipschitz * bound


def bound_within(radius: float, start: float, s: np.ndarray, rises: np.ndarray) -> np.ndarray:
    """Return the bound of D5p from a lower limit of s and, where that is negative, by how much f can rise."""
    bounds = [start]
    for gain, rise in zip(s, rises, strict=True):
        last = bounds[-1]
        falls = last * gain > 0
        bounds.append(last / (1 + last * gain / (2 * radius**2)) if falls else last + max(rise, 0.0))
    return np.array(bounds)


def _faded(gains: np.ndarray, omega: np.ndarray) -> np.ndarray:
    """Return W_k for k = 0 … steps."""
    found = [np.zeros(gains.shape[1:])]
    for gain, growth in zip(gains, omega, strict=True):
        found.append((found[-1] + gain) / (1 + growth))
    return np.array(found)


def _quotient(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        return np.where(whole == 0, 0.0, part / np.where(whole == 0, 1.0, whole))


def check_hypotheses(gap: Array, inner: Array, square: Array, lipschitz: Array) -> None:
    """Raise ValueError if points belie that x* is a minimiser, f convex, or L a Lipschitz constant of its gradient.

    Parameters
    ----------
    gap, inner, square : arrays of one shape
        f − f*, ⟨g, x − x*⟩ and ‖g‖² at each point. What is not finite is not looked at.
    lipschitz : float, or array that broadcasts with them
        L.

    Notes
    -----
    Of a convex function gap ≥ 0, inner ≥ gap and inner ≥ gap + ‖g‖²/(2L). A millionth of what is compared is left to
    the rounding of f and to a minimiser that is known to few digits.
    """
    gap, inner, square = (np.asarray(values, dtype=np.float64) for values in (gap, inner, square))
    scale = 1e-6 * (np.abs(gap) + np.abs(inner)) + 1e-12
    needed = gap + square / (2 * lipschitz)
    for least, found, what in (
        (0.0 * gap, gap, "f(x̂) − f* is {found:.4g}; must be at least 0, or x* is no minimiser"),
        (gap, inner, "⟨g, x̂ − x*⟩ is {found:.4g}; must be at least f(x̂) − f*, {least:.4g}, or f is not convex"),
        (
            needed,
            inner,
            "⟨g, x̂ − x*⟩ is {found:.4g}; must be at least f(x̂) − f* + ‖g‖²/(2L), {least:.4g}, "
            "or L = {lipschitz:.4g} is too small or x* no minimiser",
        ),
    ):
        bad = np.isfinite(least) & np.isfinite(found) & (found < least - scale)
        if np.any(bad):
            worst = np.argmax(np.where(bad, least - found, -np.inf))
            numbers = (float(values.flat[worst]) for values in (found, least, np.broadcast_to(lipschitz, bad.shape)))
            raise ValueError(what.format(**dict(zip(("found", "least", "lipschitz"), numbers, strict=True))))
