"""The best that a rounding can do which sees only the position in the gap and the direction of the step."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.sparse import block_diag

from srlib import checks
from srlib.descent.exact_law import exact_law
from srlib.typing import Array


@dataclass(frozen=True, eq=False)
class OptimalUpdate:
    """A scheme for the update: the probability of rounding downhill, by the position between the neighbours.

    Attributes
    ----------
    position : array of shape (knots,)
        From 0 at the neighbour that is uphill, against the step, to 1 at the one downhill.
    probability : array of shape (knots,)
        Of rounding downhill, linear in between.
    expected : float
        Mean of E f(x̂_K) over the family for which it was found.
    """

    position: np.ndarray
    probability: np.ndarray
    expected: float

    def __call__(self, theta, sign):
        """Return P(up), for `exact_law(…, update=…)`."""
        return _prob_up(theta, sign, self.position, self.probability)


def optimal_update(
    objectives: Sequence,
    starts: Sequence[float],
    fmt,
    stepsize: float,
    steps: int,
    *,
    gradient="SR",
    multiply="SR",
    position: Array | None = None,
) -> OptimalUpdate:
    """Return the update that makes E f(x̂_K), averaged over a family of problems, as small as an optimiser can make it.

    The transition matrix is linear in the probabilities at the knots, so that the exact law gives the gradient as well
    (by the adjoint recursion); the minimum that L-BFGS-B finds from SR need not be the global one.

    Parameters
    ----------
    objectives : sequence
        Each has ``f(x)`` and ``gradient(x)``, as for `exact_law`.
    starts : sequence of float
        A value of the format for each.
    fmt, stepsize, gradient, multiply
        As for `exact_law`.
    steps : int
        K, the horizon.
    position : array of shape (knots,), optional
        Where probabilities are optimised, increasing from 0 to 1; seventeen equally spaced ones if not given. What is
        best is often decided within the first stepsize's length, L·t, so that knots belong there.

    Raises
    ------
    TypeError, ValueError
        If a parameter is not of these.
    """
    position = np.linspace(0.0, 1.0, 17) if position is None else checks.float64_array("position", position)
    if position.ndim != 1 or position[0] != 0 or position[-1] != 1 or np.any(np.diff(position) <= 0):
        raise ValueError(f"position is {position}; must increase from 0 to 1")
    knots = len(position)
    steps = checks.integer("steps", steps, 1)
    if len(starts) != len(objectives) or not len(starts):
        raise ValueError(f"starts has {len(starts)} elements; must have one for each of {len(objectives)} objectives")

    def chains(probability):
        """Return the chains of the family for some probabilities at the knots."""

        def update(theta, sign):
            return _prob_up(theta, sign, position, probability)

        return [exact_law(f, fmt, stepsize, gradient=gradient, multiply=multiply, update=update) for f in objectives]

    never = chains(np.zeros(knots))
    matrix = block_diag([law.matrix for law in never], format="csr")
    slopes = [block_diag([law.matrix for law in chains(row)], format="csr") - matrix for row in np.eye(knots)]
    f = np.concatenate([_values(objective, law) for objective, law in zip(objectives, never, strict=True)])
    begins = np.cumsum([0, *(len(law.values) for law in never[:-1])])
    law = np.zeros(len(f))
    law[begins + [chain.state(x) for chain, x in zip(never, starts, strict=True)]] = 1 / len(starts)

    def mean_and_gradient(probability):
        now = matrix + sum(p * slope for p, slope in zip(probability, slopes, strict=True))
        return _expected(now, slopes, law, f, steps)

    found = minimize(
        mean_and_gradient, position, jac=True, method="L-BFGS-B", bounds=[(0.0, 1.0)] * knots, options={"maxiter": 500}
    )
    return OptimalUpdate(position, found.x, float(found.fun))


def downhill_from(threshold: float) -> OptimalUpdate:
    """Return the scheme that rounds downhill iff the position is above a threshold, 0 ≤ threshold < 1 (SPEC D11).

    For a quadratic with the curvature L it is at Lt/2 that the neighbour downhill has the smaller f: the best update.
    """
    threshold = checks.fraction("threshold", threshold)
    return OptimalUpdate(np.array([threshold, np.nextafter(threshold, 2)]), np.array([0.0, 1.0]), np.nan)


def _prob_up(theta, sign, position, probability):
    downhill = np.interp(np.where(sign > 0, 1 - theta, theta), position, probability)
    return np.where(sign > 0, 1 - downhill, downhill)


def _values(objective, law):
    """Return f at the states of a chain; where the chain can get lost, a very bad one."""
    with np.errstate(all="ignore"):
        f = np.asarray(objective.f(law.values), dtype=np.float64)
    return np.where(np.isfinite(f), f, np.finfo(np.float64).max ** 0.25)


def _expected(matrix, slopes, law, f, steps):
    """Return the mean of f after some steps from a law, and its derivatives along changes of the matrix."""
    ahead, backward = [f], matrix.T.tocsr()
    for _ in range(steps - 1):
        ahead.append(matrix @ ahead[-1])
    derivatives = np.zeros(len(slopes))
    for value in reversed(ahead):
        derivatives += [law @ (slope @ value) for slope in slopes]
        law = backward @ law
    return float(law @ f), derivatives
