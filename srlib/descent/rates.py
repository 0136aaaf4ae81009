"""A rounding is two stepsizes and a noise: what it does to descent and to distance, and the bounds that follow (D5)."""

from dataclasses import dataclass

import numpy as np

from srlib.typing import Array


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
    square, inner : arrays of shape (steps,) or (steps, components)
        G = E‖g‖² and P = E⟨g, x̂ − x*⟩.
    along, outward, noise : arrays of the same shape
        E⟨g, e⟩, E⟨e, x̂ − x*⟩ and E‖e‖².
    """

    lipschitz: Array
    stepsize: float
    square: np.ndarray
    inner: np.ndarray
    along: np.ndarray
    outward: np.ndarray
    noise: np.ndarray

    @property
    def tau(self) -> np.ndarray:
        """τ = t − E⟨g, e⟩/G, the stepsize of the descent of f; t where G is 0."""
        return self.stepsize - _quotient(self.along, self.square)

    @property
    def theta(self) -> np.ndarray:
        """θ = t − E⟨e, x̂ − x*⟩/P, the stepsize of the distance to x*; t where P is 0."""
        return self.stepsize - _quotient(self.outward, self.inner)

    @property
    def rho(self) -> np.ndarray:
        """ρ = E‖e‖²/G − (t − τ)² ≥ 0, the noise; where G is 0, it is 0 without an error and else infinite."""
        rho = np.maximum(_quotient(self.noise - self.along * _quotient(self.along, self.square), self.square), 0.0)
        return np.where((self.square == 0) & (self.noise > 0), np.inf, rho)

    @property
    def s(self) -> np.ndarray:
        """s = 2τ − Lτ² − Lρ ≤ 1/L: f falls by at least ½sG in the mean."""
        return 2 * self.tau - self.lipschitz * (self.tau**2 + self.rho)

    def joint(self, lipschitz: float) -> "Rates":
        """Return the rates of a separable function as a whole, whose moments are sums; L is that of all of it."""
        parts = (self.square, self.inner, self.along, self.outward, self.noise)
        return Rates(lipschitz, self.stepsize, *(part.sum(axis=1) for part in parts))

    def bound(self, radius: Array) -> np.ndarray:
        """Return the bound of D5 on E f(x̂_k) − f* for k = 0 … steps, from ‖x̂_0 − x*‖ in the mean square.

        Of components it is one for each, and their sum is a bound for the whole (D5′).

        It assumes that f is convex and its gradient has the Lipschitz constant L, and nothing else. The proof is in
        notebook 04; the potential A_k·a_k + ½R_k² falls by w_k·G_k in step k.
        """
        lipschitz, half = self.lipschitz, 0.5 / self.lipschitz
        tau, theta, rho, square = self.tau, self.theta, self.rho, self.square
        alpha = np.maximum(theta, 0.0)
        total = np.cumsum(alpha, axis=0)
        # w·G, with E‖x̂⁺ − x̂‖² = (τ² + ρ)G: a product is finite where G is tiny and w is not.
        moved = self.stepsize**2 * square - 2 * self.stepsize * self.along + self.noise
        descent = 2 * (self.stepsize * square - self.along) - lipschitz * moved
        change = (total * descent + alpha * square / lipschitz - moved) / 2
        lost = np.maximum(-change, 0.0) + (alpha - theta) * self.inner
        inside = (tau > 0) & (lipschitz * tau < 2)
        with np.errstate(over="ignore", invalid="ignore"):
            omega = np.where(inside, lipschitz * rho / np.where(inside, tau * (2 - lipschitz * tau), 1.0), np.inf)
            w = (total * self.s + alpha / lipschitz - tau**2 - rho) / 2
        gains = np.where(np.isfinite(w), np.maximum(w, 0.0), 0.0)
        start = np.zeros((1, *square.shape[1:]))
        gained = [start[0]]
        for gain, growth in zip(gains, omega, strict=True):
            gained.append((gained[-1] + gain) / (1 + growth))
        top = np.square(radius) / 2 + np.concatenate([start, np.cumsum(lost, axis=0)])
        return top / (np.concatenate([start, total]) + half + np.sqrt(2 * np.array(gained) + half**2))

    def bound_within(self, radius: float, start: float) -> np.ndarray:
        """Return the bound of D5p on E f(x̂_k) − f*, the paper's kind, from `start` = f(x̂_0) − f*.

        It assumes besides that E‖x̂_k − x*‖² ≤ R² in all steps. Where noise outweighs the descent it rises.
        """
        bounds = [start]
        for s, square in zip(self.s, self.square, strict=True):
            last = bounds[-1]
            bounds.append(last / (1 + last * s / (2 * radius**2)) if s >= 0 else last - s * square / 2)
        return np.array(bounds)


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
