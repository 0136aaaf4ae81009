"""The largest value that f can have after rounded gradient descent, over all convex functions (SPEC D7′)."""

import warnings

import numpy as np

from srlib import checks
from srlib.typing import Array


def worst_case(
    tau: Array, rho: Array, theta: Array | None = None, *, lipschitz: float = 1.0, radius: float = 1.0
) -> float:
    """Return the largest E f(x̂_K) − f* that L, R_0 and the rates of K steps allow, by a semidefinite program.

    Its value has four or five digits. Performance estimation (Drori and Teboulle 2014; Taylor, Hendrickx and Glineur
    2017): the interpolation inequalities of convex functions with Lipschitz gradients are linear in the Gram matrix of
    iterates and gradients, here in its expectation, and so are those of a noise n = x̂⁺ − x̂ + τg with E⟨g, n⟩ = 0 and
    E‖n‖² = ρE‖g‖².

    Parameters
    ----------
    tau, rho : arrays of shape (steps,)
        τ and ρ, as in `Rates`.
    theta : array of shape (steps,), optional
        θ; without it the worst may choose it.
    lipschitz, radius : float
        L and ‖x̂_0 − x*‖.

    Raises
    ------
    ImportError
        Without PEPit: ``pip install srlib[pep]``.
    ValueError
        If a parameter is not of these, or the solver finds no solution.
    """
    tau, rho = (checks.float64_array(name, value) for name, value in (("tau", tau), ("rho", rho)))
    theta = None if theta is None else checks.float64_array("theta", theta)
    lipschitz, radius = checks.positive("lipschitz", lipschitz), checks.positive("radius", radius)
    if tau.ndim != 1 or tau.shape != rho.shape or (theta is not None and theta.shape != tau.shape):
        shapes = [part.shape for part in (tau, rho, theta) if part is not None]
        raise ValueError(f"tau, rho and theta have shapes {shapes}; must all be (steps,)")
    if np.any(rho < 0):
        raise ValueError(f"rho has {np.min(rho):.4g}; must not be negative")
    from PEPit import PEP, Point
    from PEPit.functions import SmoothConvexFunction

    problem = PEP()
    f = problem.declare_function(SmoothConvexFunction, L=lipschitz)
    best, x = f.stationary_point(), problem.set_initial_point()
    problem.set_initial_condition((x - best) ** 2 <= radius**2)
    for k in range(len(tau)):
        g = f.gradient(x)
        moved = x - tau[k] * g
        if rho[k] > 0:
            noise = Point()
            problem.add_constraint(noise * g == 0)
            problem.add_constraint(noise**2 == rho[k] * g**2)
            if theta is not None:
                problem.add_constraint(noise * (x - best) == (tau[k] - theta[k]) * (g * (x - best)))
            moved = moved + noise
        x = moved
    problem.set_performance_metric(f(x) - f(best))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the solver's last digits
        found = problem.solve(verbose=0, solver="CLARABEL")
    if found is None or not np.isfinite(found):
        raise ValueError("the solver finds no solution; tau, rho and theta must be possible together")
    return float(found)
