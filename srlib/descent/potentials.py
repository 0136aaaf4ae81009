"""The best bound that one matrix inequality a step can prove: potentials, found by a semidefinite program (SPEC D5c).

Φ_k = A_k·a_k + ½c_k·R_k² + W_k·G_k with a_k = E f(x̂_k) − f*, R_k² = E‖x̂_k − x*‖² and G_k = E‖∇f(x̂_k)‖² does not grow
in a step if a quadratic form in X = x̂_k − x*, g = ∇f(x̂_k), h = ∇f(x̂_{k+1}) and n = x̂_{k+1} − x̂_k + τg is nonnegative.
Units are those in which L = 1.
"""

import warnings
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from scipy.sparse import csc_matrix, csr_array, eye_array, vstack

_MARGINS = (1e-8, 1e-7, 1e-6, 1e-5)  # of the eigenvalues, so that what a solver gets wrong does not matter
_PLACES = [(i, j) for j in range(4) for i in range(j + 1)]  # of a symmetric matrix, as Clarabel stores it
_ROOT2 = 2.0**0.5
_BELOW = 1 - 4 * np.finfo(float).eps  # by which a product stays below its exact value
_OF_STEPS = ("r", "alpha", "gamma", "p", "y", "q", "s", "z", "square_lost", "inner_lost")


class Knowledge(NamedTuple):
    """What is known of the steps of a run, in units with L = 1: arrays of shape (steps,).

    The noise n is counted from the stepsizes `tau`; `off` are upper limits of E⟨g, n⟩/G in magnitude, 0 where these are
    D5's τ; `theta_low` and `theta_high` limits of D5's θ; `rho` upper limits of E‖n‖²/G; `square` and `inner` of G and
    of P = E⟨g, X⟩; and `square_cap` and `inner_cap` how much of these may be lost in each step: what D5 loses.
    """

    tau: np.ndarray
    off: np.ndarray
    theta_low: np.ndarray
    theta_high: np.ndarray
    rho: np.ndarray
    square: np.ndarray
    inner: np.ndarray
    square_cap: np.ndarray
    inner_cap: np.ndarray

    def first(self, steps: int) -> "Knowledge":
        """Return what is known of the first steps alone."""
        return Knowledge(*(part[:steps] for part in self))


@dataclass(frozen=True, eq=False)
class Potential:
    """Weights and multipliers that prove bounds, arrays of shape (steps,), but c and W of shape (steps + 1,).

    A_0 = 0, A_{k+1} = A_k + alpha_k + gamma_k; the multiplier of the other interpolation inequality is A + r + alpha.

    Attributes
    ----------
    c, W : arrays
    r, alpha, gamma : arrays
        At least 0: multipliers of the interpolation inequalities of x̂_{k+1} against x̂_k, of x* against both.
    p, y, q, s, z : arrays
        Of ⟨g, n⟩ and −‖g‖², of ‖n‖², of ⟨n, X⟩ and ⟨g, X⟩, by which the limits of the noise are used.
    square_lost, inner_lost : arrays
        Of G and P, which count in the numerator.
    """

    c: np.ndarray
    W: np.ndarray
    r: np.ndarray
    alpha: np.ndarray
    gamma: np.ndarray
    p: np.ndarray
    y: np.ndarray
    q: np.ndarray
    s: np.ndarray
    z: np.ndarray
    square_lost: np.ndarray
    inner_lost: np.ndarray

    @property
    def A(self) -> np.ndarray:
        """Weights of the objective, of shape (steps + 1,)."""
        return np.concatenate([[0.0], np.cumsum(self.alpha + self.gamma)])

    @property
    def mu(self) -> np.ndarray:
        """The largest μ with ½c‖X‖² + W‖g‖² ≥ μ(⟨g, X⟩ − ½‖g‖²), of shape (steps + 1,)."""
        return (self.c + np.sqrt(self.c**2 + 8 * self.c * self.W)) / 2

    def forms(self, known: Knowledge) -> np.ndarray:
        """Return twice the matrices of the quadratic forms in (X, g, h, n), of shape (steps, 4, 4)."""
        entries = _entries(known, {**self.__dict__, "m": self.A[:-1] + self.r + self.alpha})
        found = np.empty((len(known.tau), 4, 4), dtype=np.result_type(*entries.values()))
        for (i, j), value in entries.items():
            found[:, i, j] = found[:, j, i] = value
        return found

    def is_proof(self, known: Knowledge) -> bool:
        """Tell whether every form is nonnegative, with roundoff to spare; `_mended` sees to the signs."""
        forms = self.forms(known)
        size = 1 + sum(np.max(np.abs(value)) for value in (self.A, self.c, self.W, self.r, self.q, self.p, self.s))
        return bool(np.all(np.linalg.eigvalsh(forms) >= 256 * np.finfo(float).eps * size))

    def bounds(self, known: Knowledge, radius: float) -> np.ndarray:
        """Return what it proves of a_k for k = 0 … steps, from R_0."""
        lost = np.cumsum(self.square_lost * known.square + self.inner_lost * known.inner)
        top = self.c[0] * radius**2 / 2 + np.concatenate([[0.0], lost])
        return top / (self.A + self.mu) * (1 + 1e-12)


def potential_bounds(known: Knowledge, radius: float, horizons: list[int]) -> np.ndarray:
    """Return the least of the bounds that potentials for some last steps prove, for k = 0 … steps, with L = 1.

    It is infinite where none proves anything, as where Clarabel cannot be imported, which is warned of.
    """
    least = np.full(len(known.tau) + 1, np.inf)
    try:
        import clarabel  # noqa: F401
    except ImportError as error:
        warnings.warn(f"potentials need Clarabel, the extra 'pep' ({error}): the bound is that of D5", stacklevel=3)
        return least
    for steps in horizons:
        some = known.first(steps)
        if (proof := best_potential(some, radius)) is not None:
            least[: steps + 1] = np.minimum(least[: steps + 1], proof.bounds(some, radius))
    return least


def best_potential(known: Knowledge, radius: float) -> Potential | None:
    """Return the weights with the best bound after the last step; None if no solution is a proof."""
    for margin in _MARGINS:
        found = _solved(known, radius, margin)
        if found is not None and found.is_proof(known):
            return found
    return None


def _entries(known: Knowledge, of: Any) -> dict[tuple[int, int], Any]:
    """Return twice the entries of the form, of what `of` has under the names of weights and multipliers."""
    tau, c, after, W = known.tau, of["c"][:-1], of["c"][1:], of["W"]
    m, r, alpha, gamma, q = (of[name] for name in ("m", "r", "alpha", "gamma", "q"))
    return {
        (0, 0): c - after,
        (0, 1): tau * after - alpha + of["z"] + of["inner_lost"],
        (0, 2): -gamma,
        (0, 3): of["s"] - after,
        (1, 1): m + (1 - 2 * tau) * r + alpha - tau**2 * after
        - 2 * known.rho * q + 2 * of["y"] + 2 * W[:-1] + 2 * of["square_lost"],
        (1, 2): (tau - 1) * m - r + tau * gamma,
        (1, 3): tau * after + of["p"] + r,
        (2, 2): m + r + gamma - 2 * W[1:],
        (2, 3): -m - gamma,
        (3, 3): 2 * q - after,
    }  # fmt: skip


def _solved(known: Knowledge, radius: float, margin: float) -> Potential | None:
    """Return the solution of the semidefinite program, its signs mended; None where the solver finds none."""
    import clarabel

    steps = len(known.tau)
    sizes = dict.fromkeys(("A", "c", "W"), steps + 1) | dict.fromkeys(_OF_STEPS, steps) | {"m": steps, "mu": 1}
    ends = np.cumsum(list(sizes.values()))
    places = {name: slice(end - size, end) for (name, size), end in zip(sizes.items(), ends, strict=True)}
    every = eye_array(ends[-1], format="csr")
    of = {name: every[place] for name, place in places.items()}
    equal, positive, forms = _equal(known, of, radius), _positive(known, of), _forms(known, of)
    end = vstack([of["c"][-1:], -_ROOT2 * of["mu"], 2 * of["W"][-1:] + of["mu"]])
    least = margin * np.array([i == j for i, j in _PLACES])
    sides = np.zeros(equal.shape[0] + positive.shape[0]), np.tile(-least, steps), [-margin, 0, -margin]
    right = np.concatenate(sides)
    right[2] = 1.0  # what is spent
    cones = [clarabel.ZeroConeT(equal.shape[0]), clarabel.NonnegativeConeT(positive.shape[0])]
    cones += [clarabel.PSDTriangleConeT(4)] * steps + [clarabel.PSDTriangleConeT(2)]
    options = clarabel.DefaultSettings()
    options.verbose, options.max_iter = False, 200
    left = csc_matrix(vstack([equal, -positive, -forms, -end]))
    gain = (of["A"][-1:] + of["mu"]).toarray()[0]
    solver = clarabel.DefaultSolver(csc_matrix((ends[-1], ends[-1])), -gain, left, right, cones, options)
    x = np.array(solver.solve().x)
    return _mended(known, {name: x[place] for name, place in places.items()}) if np.all(np.isfinite(x)) else None


def _equal(known: Knowledge, of: Any, radius: float) -> Any:
    """Return the rows of what is 0, but the third, of what is spent, which is 1."""
    A, m = of["A"], of["m"]
    losses = vstack([of["square_lost"], of["inner_lost"]])
    prices = np.concatenate([known.square, known.inner]) / radius**2
    spent = of["c"][:1] + 2 * (csr_array(prices[None, :]) @ losses)
    balance = [A[:-1] - m + of["r"] + of["alpha"], A[1:] - m + of["r"] - of["gamma"]]
    return vstack([A[:1], of["W"][:1], spent, *balance])


def _positive(known: Knowledge, of: Any) -> Any:
    """Return the rows of what is at least 0."""
    columns = _columns(known)
    losses = vstack([of["square_lost"], of["inner_lost"]])
    caps = csr_array(np.concatenate([known.square_cap, known.inner_cap])[:, None]) @ of["c"][:1] - losses
    rows = [of[name] for name in ("r", "alpha", "gamma", "c", "W", "mu")] + [losses, caps]
    rows += [-of["y"] - columns.off * of["p"], -of["y"] + columns.off * of["p"]]
    rows += [-of["z"] - (columns.tau - theta) * of["s"] for theta in (columns.theta_low, columns.theta_high)]
    return vstack(rows)


def _forms(known: Knowledge, of: Any) -> Any:
    """Return the rows of the forms that are nonnegative, step by step."""
    form, steps = _entries(_columns(known), of), len(known.tau)
    parts = vstack([form[i, j] * (1.0 if i == j else _ROOT2) for i, j in _PLACES], format="csr")
    return parts[np.arange(10 * steps).reshape(10, steps).T.ravel()]


def _columns(known: Knowledge) -> Knowledge:
    return Knowledge(*(part[:, None] for part in known))


def _mended(known: Knowledge, x: dict[str, np.ndarray]) -> Potential:
    """Return a solution whose multipliers have their signs exactly."""
    c, W = np.maximum(x["c"], 0.0), np.maximum(x["W"], 0.0)
    W[0] = 0.0
    positive = {name: np.maximum(x[name], 0.0) for name in ("r", "alpha", "gamma", "q")}
    lost = {
        name: np.clip(x[name], 0.0, _BELOW * cap * c[0])
        for name, cap in (("square_lost", known.square_cap), ("inner_lost", known.inner_cap))
    }
    y = np.minimum(x["y"], -known.off * np.abs(x["p"]) / _BELOW)
    thetas = known.theta_low, known.theta_high
    room = 4 * np.finfo(float).eps * np.abs(x["s"]) * (np.abs(known.tau) + np.maximum(*map(np.abs, thetas)))
    z = np.minimum.reduce([x["z"], *(-x["s"] * (known.tau - theta) - room for theta in thetas)])
    return Potential(c=c, W=W, p=x["p"], s=x["s"], y=y, z=z, **positive, **lost)
