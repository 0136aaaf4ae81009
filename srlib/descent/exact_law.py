"""The exact law of one-dimensional low-precision gradient descent: a Markov chain on the format's values (SPEC D6)."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from array_api_compat import array_namespace
from scipy.sparse import coo_array, csr_array, diags_array, eye_array
from scipy.sparse.csgraph import breadth_first_order, connected_components, dijkstra
from scipy.sparse.linalg import splu

from srlib import checks
from srlib.descent.rates import Rates, check_hypotheses
from srlib.descent.steps import like_points
from srlib.formats import Format
from srlib.rounding import outcomes, round_to
from srlib.schemes import Scheme, realised, up_and_neighbours
from srlib.typing import Array


@dataclass(frozen=True, eq=False)
class ExactLaw:
    """A Markov chain: the iterates of gradient descent in a low-precision format.

    Attributes
    ----------
    values : float64 array of shape (states,)
        All finite values of the format, ascending; before and after them −inf, inf and NaN, where a step can overflow
        to these: states that are never left.
    matrix : SciPy CSR array of shape (states, states), none of whose stored elements is 0
        Probability of going from a state (row) to another (column) in one step; rows sum to 1 up to rounding.
    objective : object
        As for `exact_law`; None where a chain is no descent.
    stepsize : float
        t.
    """

    values: np.ndarray
    matrix: csr_array
    objective: Any = None
    stepsize: float = math.nan

    def state(self, x: float) -> int:
        """Return the index of a value; raise ValueError if it is no state."""
        same = np.flatnonzero((self.values == x) | (np.isnan(self.values) & np.isnan(x)))
        if len(same) == 0:
            raise ValueError(
                f"x is {x!r}; must be one of the {len(self.values)} values of the chain{_beside(self.values, x)}"
            )
        return int(same[0])

    def distributions(self, x0: float, steps: int) -> Iterator[np.ndarray]:
        """Yield the probability of each state after 0, 1, …, `steps` steps from `x0`, as arrays of shape (states,)."""
        for reached, part in self._walk(x0, steps):
            law = np.zeros(len(self.values))
            law[reached] = part
            yield law

    def _walk(self, x0: float, steps: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield the states that can be reached at all, and their probabilities after 0, 1, …, `steps` steps."""
        start = self.state(x0)
        # What is never reached adds nothing; of a wide format that is nearly all.
        reached = np.sort(breadth_first_order(self.matrix, start, return_predecessors=False))
        backward = self.matrix[reached][:, reached].T.tocsr()
        part = (reached == start).astype(np.float64)
        for step in range(checks.integer("steps", steps, 0) + 1):
            part = backward @ part if step else part
            yield reached, part

    def distribution(self, x0: float, step: int) -> np.ndarray:
        """Return the probability of each state after so many steps from `x0`."""
        *_, last = self.distributions(x0, step)
        return last

    def expected(self, f: Callable[[Array], Array], x0: float, steps: int) -> np.ndarray:
        """Return E f(x̂_k) for k = 0 … steps, an array of shape (steps + 1,), from the value `x0`.

        `f` maps an array of values to an array of the same shape. States that cannot be reached do not count, even
        where f is not finite.
        """
        with np.errstate(all="ignore"):
            values = _numbers_at("f", f, self.values)
        walk = ((part, part > 0, reached) for reached, part in self._walk(x0, steps))
        return np.array([part[some] @ values[reached[some]] for part, some, reached in walk])

    def rates(self, x0: float, steps: int, *, lipschitz: float, minimiser: float) -> Rates:
        """Return what the roundings do to descent and distance in each step from the value `x0` (SPEC D5).

        Parameters
        ----------
        x0 : float
            A value of the format.
        steps : int
        lipschitz : float
            L, a Lipschitz constant of the gradient.
        minimiser : float
            x*.

        Returns
        -------
        Rates
            Of the steps before the first that can overflow, at most so many: there an error has no finite moments.

        Raises
        ------
        TypeError, ValueError
            If a parameter is not of these, the chain has no objective, or values that are reached belie the minimiser,
            the convexity of the objective, or L (see `check_hypotheses`).
        """
        lipschitz, minimiser = checks.positive("lipschitz", lipschitz), checks.real("minimiser", minimiser)
        g, gap = self._slope_and_gap(minimiser)
        finite = np.isfinite(self.values)
        away = np.where(finite, self.values - minimiser, 0.0)
        edges = self.matrix.tocoo()
        inside = finite[edges.row]
        row, column, share = edges.row[inside], edges.col[inside], edges.data[inside]
        error = np.where(finite[column], self.values[column] - self.values[row], np.inf) + self.stepsize * g[row]
        mean, square = (np.bincount(row, share * error**power, len(finite)) for power in (1, 2))
        moments: list[list[float]] = []
        for law in self.distributions(x0, steps):
            seen = np.flatnonzero(law)
            if len(moments) == steps or not np.all(np.isfinite(square[seen]) & finite[seen]):
                break
            p, slope = law[seen], g[seen]
            check_hypotheses(gap[seen], slope * away[seen], slope**2, lipschitz)
            parts = (slope**2, slope * away[seen], slope * mean[seen], mean[seen] * away[seen], square[seen])
            moments.append([p @ part for part in parts])
        return Rates(lipschitz, self.stepsize, *np.array(moments).reshape(-1, 5).T)

    def bound(self, x0: float, steps: int, *, lipschitz: float, minimiser: float, kind: str = "D5") -> np.ndarray:
        """Return the bound of SPEC D5 on E f(x̂_k) − f(x*) for k = 0 … steps, from the value `x0`.

        Parameters and errors as for `rates`; `kind` as for `Rates.bound`. It is infinite from the first step on that
        can overflow.
        """
        rates = self.rates(x0, steps, lipschitz=lipschitz, minimiser=minimiser)
        found = rates.bound(abs(x0 - minimiser), kind)
        return np.concatenate([found, np.full(steps + 1 - len(found), np.inf)])

    def _slope_and_gap(self, minimiser: float) -> tuple[np.ndarray, np.ndarray]:
        """Return the gradient at each state, and f less that at the minimiser, NaN where the objective has no f."""
        if self.objective is None:
            raise ValueError("the chain has no objective; must be made by exact_law")
        points = np.append(self.values, minimiser)
        with np.errstate(all="ignore"):
            g = numbers_of(self.objective, "gradient", points)
            f = (
                numbers_of(self.objective, "f", points)
                if hasattr(self.objective, "f")
                else np.full_like(points, np.nan)
            )
        return g[:-1], f[:-1] - f[-1]

    @property
    def stagnant(self) -> np.ndarray:
        """The states that are never left, as a boolean array."""
        return _leaving(self.matrix) == 0

    def recurrent_classes(self) -> list[np.ndarray]:
        """Return the closed sets of states that lead to each other, as arrays of indices; all other states are left."""
        count, labels = connected_components(self.matrix, directed=True, connection="strong")
        edges = self.matrix.tocoo()
        closed = np.ones(count, dtype=bool)
        closed[labels[edges.row[(labels[edges.row] != labels[edges.col]) & (edges.data > 0)]]] = False
        members = np.flatnonzero(closed[labels])
        members = members[np.argsort(labels[members], kind="stable")]
        classes = np.split(members, np.flatnonzero(np.diff(labels[members])) + 1)
        return sorted(classes, key=lambda states: states[0])

    def stationary(self, states: np.ndarray) -> np.ndarray:
        """Return the stationary law on a recurrent class, an array of shape (states of the chain,)."""
        inner = self.matrix[states][:, states]
        law = np.zeros(len(self.values))
        if len(states) == 1:
            law[states] = 1.0
            return law
        # With the flow into the first state fixed to be 1, the balance of the others determines them.
        balance = (eye_array(len(states)) - inner.T).tocsc()
        others = splu(balance[1:, 1:]).solve(-balance[1:, [0]].toarray()[:, 0])
        found = np.concatenate([[1.0], others])
        law[states] = found / found.sum()
        return law

    def hitting_time(self, targets: Array) -> np.ndarray:
        """Return the expected number of steps to the first of some states, an array of shape (states,).

        Parameters
        ----------
        targets : array of bool of shape (states,), or of indices

        Returns
        -------
        array
            0 for the targets, infinite where they are missed with positive probability.
        """
        hit = self._marked(targets)
        stopped = diags_array(~hit * 1.0) @ self.matrix  # the chain up to its first visit
        missing = ~_can_reach(stopped, hit)
        certain = ~_can_reach(stopped, missing) & ~hit
        times = np.where(hit, 0.0, np.inf)
        if certain.any():
            inner = self.matrix[certain][:, certain]
            times[certain] = splu((eye_array(inner.shape[0]) - inner).tocsc()).solve(np.ones(inner.shape[0]))
        return times

    def least_expected(self, f: Callable[[Array], Array], steps: int) -> np.ndarray:
        """Return min E f(x̂_k) over all ways to choose among the outcomes of each step, from each state.

        The choice may depend on the state and on the steps that are left, and on nothing of the future: Bellman's
        recursion. The law of SR has both neighbours as outcomes wherever a number is between two, so that its least
        expectation is that of any rounding.

        Parameters
        ----------
        f : callable
            As for `expected`; where it is not a number it counts as infinite.
        steps : int

        Returns
        -------
        array of shape (steps + 1, states)
        """
        with np.errstate(all="ignore"):
            values = _numbers_at("f", f, self.values)
        least = [np.where(np.isnan(values), np.inf, values)]
        for _ in range(checks.integer("steps", steps, 0)):
            least.append(np.minimum.reduceat(least[-1][self.matrix.indices], self.matrix.indptr[:-1]))
        return np.array(least)

    def fewest_steps(self, targets: Array) -> np.ndarray:
        """Return the number of steps to the first of some states under the best choice among the outcomes of each step.

        Parameters and result as for `hitting_time`; infinite where the targets cannot be reached.
        """
        hit = self._marked(targets)
        backward = self.matrix.T.tocsr()
        return dijkstra(backward, indices=np.flatnonzero(hit), unweighted=True, min_only=True)

    def _marked(self, states: Array) -> np.ndarray:
        """Return a set of states, given as such or by their indices, as a boolean array."""
        marked = np.zeros(len(self.values), dtype=bool)
        marked[states] = True
        return marked


def exact_law(
    objective: Any,
    fmt: Format | str,
    stepsize: float,
    *,
    gradient: Scheme | str = "SR",
    multiply: Scheme | str = "SR",
    update: Scheme | str | Callable[[Array, Array], Array] = "SR",
    bits: int = 32,
    threshold: str = "nearest",
) -> ExactLaw:
    """Return the law of x⁺ = fl₃(x − fl₂(t·fl₁(f′(x)))) on all values of a format, from the closed forms (SPEC D6).

    Parameters
    ----------
    objective
        Has ``gradient(x)``, for arrays of numbers; or a problem of srlib whose points have one component.
    fmt, stepsize, gradient, multiply, update
        As for `gradient_descent`; the gradient is rounded once. `update` may also be any other scheme, as a function of
        theta and sign(v), arrays, that returns P(up).
    bits : int
        How many random bits each rounding has, 1 to 32: probabilities are rounded to multiples of 2^−bits, as those
        that `Philox` realises.
    threshold : {"nearest", "floor"}
        To which multiple, as for `Philox`.

    Raises
    ------
    TypeError, ValueError
        If a parameter is not of these, or the format has more than 2^20 values.

    Examples
    --------
    >>> from srlib import Huber
    >>> law = exact_law(Huber(1.0, 0.5), "binary8", 0.25, update="signed_SR_eps(0.1)")
    >>> law.expected(np.abs, x0=2.0, steps=3).round(10)
    array([2.  , 1.85, 1.7 , 1.55])
    """
    fmt, stepsize = Format.parse(fmt), checks.positive("stepsize", stepsize)
    roundings = in_bits(fmt, (gradient, multiply, update), bits, threshold)
    finite = fmt.values()
    with np.errstate(all="ignore"):
        g = numbers_of(objective, "gradient", finite)
    ends, weights = ways_of_a_step(finite, g, stepsize, roundings)
    return ExactLaw(*_chain(finite, ends, weights), objective, stepsize)


def numbers_of(objective: Any, name: str, points: np.ndarray) -> np.ndarray:
    """Return ``f`` or ``gradient`` of a function of numbers, or of points of one component."""
    if getattr(objective, "shape", None) != (1,):
        return _numbers_at(name, getattr(objective, name), points)
    found = np.asarray(getattr(objective, name)(points[:, None]), dtype=np.float64)
    return np.reshape(found, points.shape)


def ways_of_a_step(x: Array, g: Array, stepsize: float, roundings: Sequence[Callable[..., Any]]) -> tuple[Array, Array]:
    """Return where a step can lead from x with the gradient g, and with which probability.

    Parameters
    ----------
    x, g : float64 arrays of one shape
    stepsize : float
    roundings : three functions
        Of gradient, product and update: what `outcomes` does for an array, the last also with a direction.

    Returns
    -------
    ends, chances : arrays with an axis of eight ways before those of `x`
    """
    xp = array_namespace(x)

    def both(pairs: list[tuple[Array, Array]], axis: int) -> tuple[Array, ...]:
        return tuple(xp.stack(part, axis=axis) for part in zip(*pairs, strict=True))

    g_hat, p1 = both(roundings[0](g), 0)
    u_hat, p2 = both(roundings[1](stepsize * g_hat), 1)
    moved, p3 = both(roundings[2](x - u_hat, u_hat), 2)
    chances = p1[:, None, None, ...] * p2[:, :, None, ...] * p3
    return tuple(xp.reshape(part, (8, *x.shape)) for part in (moved, chances))


def _chain(finite: np.ndarray, ends: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, csr_array]:
    """Return states and transition matrix of steps from each finite value to a column of ends, with their weights.

    Both arrays have the shape (ways, finite values). An end that is not finite is a state that is never left.
    """
    way, start = np.nonzero(weights > 0)
    ends, weights = ends[way, start], weights[way, start]
    values, first = _with_overflow(finite, ends)
    targets = np.where(np.isnan(ends), len(values) - 1, np.searchsorted(values, ends))  # NaN is the last state
    stuck = np.flatnonzero(~np.isfinite(values))
    rows, columns = np.concatenate([first + start, stuck]), np.concatenate([targets, stuck])
    shares = np.concatenate([weights, np.ones(len(stuck))])
    return values, coo_array((shares, (rows, columns)), shape=(len(values), len(values))).tocsr()


def _numbers_at(name: str, function: Callable[[Array], Array], points: Array) -> np.ndarray:
    """Return the numbers of a function, or truth values as numbers, as float64, checked to be one for each point."""
    return like_points(name, np.asarray(function(points), dtype=np.float64), points)


def in_bits(
    fmt: Format, schemes: Sequence[Any], bits: int, threshold: str
) -> list[Callable[..., list[tuple[Array, Array]]]]:
    """Return what rounds by each scheme as `outcomes` does with few bits; what is not finite stays, or overflows."""
    return [partial(_outcomes, fmt, scheme, bits, threshold) for scheme in schemes]


def _outcomes(
    fmt: Format,
    scheme: Scheme | str | Callable[..., Array],
    bits: int,
    threshold: str,
    y: Array,
    v: Array | None = None,
) -> list[tuple[Array, Array]]:
    finite = np.isfinite(y)
    between = np.where(finite, y, 0.0)
    if callable(scheme):
        inner = _own_outcomes(between, fmt, scheme, v, bits, threshold)
    else:
        inner = outcomes(between, fmt, scheme, v, bits=bits, threshold=threshold)
    beyond = np.where(np.isnan(y), y, np.copysign(fmt.overflow_value, y))
    lower, upper = ((np.where(finite, value, beyond), p) for value, p in inner)
    up = np.where(finite, upper[1], 0.0)
    return [(lower[0], 1.0 - up), (upper[0], up)]


def _own_outcomes(
    y: Array, fmt: Format, scheme: Callable[..., Array], v: Array, bits: int, threshold: str
) -> list[tuple[Array, Array]]:
    """Return what `outcomes` does, for a function that returns P(up)."""
    theta, *beside = up_and_neighbours(y, fmt, "SR")
    lower, upper = (round_to(value, fmt) for value in beside)
    up = np.where(theta > 0, scheme(theta, np.sign(v)), 0.0)
    away = realised(np.where(y < 0, 1 - up, up), bits, threshold)
    up = np.where(theta > 0, np.where(y < 0, 1 - away, away), 0.0)
    return [(lower, 1 - up), (upper, up)]


def _with_overflow(finite: Array, ends: Array) -> tuple[np.ndarray, int]:
    """Return the states, those of `ends` that are not finite among them, and the index of the first finite one."""
    before = [-np.inf] if np.any(ends == -np.inf) else []
    after = [value for value, reached in ((np.inf, ends == np.inf), (np.nan, np.isnan(ends))) if np.any(reached)]
    return np.concatenate([before, finite, after]), len(before)


def _leaving(matrix: Array) -> np.ndarray:
    """Return the probability of leaving each state."""
    edges = matrix.tocoo()
    away = edges.row != edges.col
    return np.bincount(edges.row[away], edges.data[away], matrix.shape[0])


def _can_reach(matrix: Array, targets: Array) -> np.ndarray:
    """Return from which states a chain can come to one of the targets, themselves included."""
    edges, beyond = matrix.tocoo(), matrix.shape[0]  # one more node, from which the walk back to the targets starts
    possible, ends = edges.data > 0, np.flatnonzero(targets)
    backward = (
        np.concatenate([edges.col[possible], np.full(len(ends), beyond)]),
        np.concatenate([edges.row[possible], ends]),
    )
    graph = coo_array((np.ones(len(backward[0])), backward), shape=(beyond + 1, beyond + 1)).tocsr()
    found = np.zeros(beyond + 1, dtype=bool)
    found[breadth_first_order(graph, beyond, return_predecessors=False)] = True
    return found[:beyond]


def _beside(values: np.ndarray, x: float) -> str:
    """Return in words which of some values are next to a number."""
    finite = np.sort(values[np.isfinite(values)])
    above = int(np.searchsorted(finite, x))
    return ", such as " + " and ".join(f"{value:g}" for value in finite[max(above - 1, 0) : above + 1])
