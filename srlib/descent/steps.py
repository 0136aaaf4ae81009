"""Gradient descent with three rounding sites, on an ensemble of replicates at once (SPEC, Gradient descent)."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from array_api_compat import array_namespace

from srlib import checks
from srlib.arithmetic import Arithmetic, descend
from srlib.digits import significant, to_numpy
from srlib.formats import Format
from srlib.philox import Philox
from srlib.rounding import round_to
from srlib.schemes import Scheme
from srlib.typing import Array, Problem


@dataclass(frozen=True, eq=False)
class Average:
    """The mean of the last iterates of a run, in binary64.

    Attributes
    ----------
    x : array
        Like an iterate.
    objective : float64 array of shape () or (replicates,)
    error : float64 array of the same shape, or None
        As in `History`.
    """

    x: object
    objective: np.ndarray
    error: np.ndarray | None


@dataclass(frozen=True, eq=False)
class History:
    """What happened in a run of gradient descent.

    Attributes
    ----------
    x : array
        The last iterate, with the replicates along its leading axis if there are any.
    steps : int array of shape (records,)
        The steps after which objective and error were recorded; the first is 0, the last the number of steps.
    objective : float64 array of shape (records,) or (records, replicates)
        f, to 10 significant digits.
    error : float64 array of the same shape, or None
        The error that the problem defines, to 10 significant digits.
    unmoved : float64 array of shape (steps,) or (steps, replicates)
        Share of the components that each step left unchanged.
    averages : dict of int to Average
        By their number, means of the last iterates; empty unless asked for.
    """

    x: object
    steps: np.ndarray
    objective: np.ndarray
    error: np.ndarray | None
    unmoved: np.ndarray
    averages: Mapping[int, Average] = field(default_factory=dict)

    def _repr_html_(self) -> str:
        from srlib import html

        return html.history_html(self)


def gradient_descent(
    problem: Problem,
    x0: Array,
    *,
    stepsize: float,
    steps: int,
    fmt: Format | str,
    gradient: Scheme | str = "SR",
    multiply: Scheme | str = "SR",
    update: Scheme | str | Callable[[int], Scheme | str] = "SR",
    rng: Philox | None = None,
    momentum: float = 0.0,
    velocity_fmt: Format | str | None = None,
    record_every: int = 1,
    averages: Sequence[int] = (),
    progress: Callable[..., Any] | None = None,
) -> History:
    """Run x⁺ = fl₃(x − fl₂(t·fl₁(∇f(x)))), for a whole ensemble of replicates at once, and record what happens.

    Parameters
    ----------
    problem, x0, stepsize, steps, fmt, gradient, multiply, update, rng, momentum, velocity_fmt, progress
        As for `iterates`. The problem may have ``error(x)``, which is recorded too.
    record_every : int
        Objective and error are computed every so many steps, and at the start and the end.
    averages : sequence of int
        Over how many of the last iterates means are taken, each at most the number of steps.

    Returns
    -------
    History

    Raises
    ------
    TypeError, ValueError
        If a parameter is not of these.

    Examples
    --------
    >>> from srlib import DiagonalQuadratic
    >>> problem = DiagonalQuadratic(np.ones(3), np.array([1.0, 2.0, 3.0]))
    >>> rng = Philox(seed=1, replicates=4)
    >>> history = gradient_descent(problem, [0.0, 0.0, 0.0], stepsize=0.5, steps=3, fmt="binary8", rng=rng)
    >>> history.objective.mean(axis=1)
    array([7.       , 1.75     , 0.65625  , 0.1640625])
    """
    sites = {"gradient": gradient, "multiply": multiply, "update": update}
    moving = {"momentum": momentum, "velocity_fmt": velocity_fmt}
    walk = iterates(problem, x0, stepsize=stepsize, steps=steps, fmt=fmt, **sites, rng=rng, **moving, progress=progress)  # type: ignore[arg-type]
    return _history(problem, walk, steps, record_every, averages)


def iterates(
    problem: Problem,
    x0: Array,
    *,
    stepsize: float,
    steps: int,
    fmt: Format | str,
    gradient: Scheme | str = "SR",
    multiply: Scheme | str = "SR",
    update: Scheme | str | Callable[[int], Scheme | str] = "SR",
    rng: Philox | None = None,
    momentum: float = 0.0,
    velocity_fmt: Format | str | None = None,
    progress: Callable[..., Any] | None = None,
) -> Iterator[Array]:
    """Return an iterator over the iterates of low-precision gradient descent, from the rounded start on.

    Parameters
    ----------
    problem
        Has ``shape``, ``f(x)`` and ``gradient(x)``, and perhaps ``rounded_gradient(x, arithmetic)``, which is then used
        in place of one rounding of the gradient (see `srlib.descent.classifiers`).
    x0 : float64 array (or list) of the shape of a point, or with an axis of the replicates before it
        Rounded once, by RN. Its array library is the one that computes.
    stepsize : float
        t, finite and positive; used as it is.
    steps : int
        Number of steps, at least 1.
    fmt : Format or str
        Format of all three sites.
    gradient, multiply, update : Scheme or str
        Schemes of the sites. A signed one can be that of the update, whose direction v is the step û. The scheme of the
        update may be a function of the number of steps taken before.
    rng : Philox
        Random words of the stochastic schemes; its replicates are those of the ensemble.
    momentum : float
        β of the heavy ball, a value of the velocity's format from 0 to below 1. If it is not 0, a step is
        v⁺ = fl₂(fl₂(βv) + û), x⁺ = fl₃(x − v⁺), from v = 0, with û = fl₂(t·ĝ) as ever; the direction of a signed update
        is v⁺.
    velocity_fmt : Format or str, optional
        Format of the velocity and of βv; `fmt` if not given.
    progress : callable, optional
        Wraps the range of the steps, as tqdm does.

    Raises
    ------
    TypeError, ValueError
        If a parameter is not of these.
    """
    steps = checks.integer("steps", steps, 1)
    updates = [Scheme.parse(update(k)) for k in range(steps)] if callable(update) else [Scheme.parse(update)] * steps
    sites = {scheme: _sites(fmt, gradient, multiply, scheme, rng) for scheme in dict.fromkeys(updates)}
    stepsize = checks.positive("stepsize", stepsize)
    x = _start(problem, x0, Format.parse(fmt), rng)
    beta, velocity = _momentum(momentum, velocity_fmt or fmt), Arithmetic(velocity_fmt or fmt, multiply, rng)
    last = [array_namespace(x).zeros_like(x)]

    def step(x: Array, number: int) -> Array:
        first, second, third = sites[updates[number]]
        g = _rounded_gradient(problem, x, first)
        if not beta:
            return descend(x, g, stepsize, second, third)
        u = second.multiply(g, stepsize)
        last[0] = velocity.add(velocity.multiply(last[0], beta), u, overwrite=True)
        return third.subtract(x, last[0], v=last[0] if third.scheme.signed else None)  # type: ignore[union-attr]

    return _walk(x, step, steps, progress)


def _momentum(beta: float, fmt: Format | str) -> float:
    """Return β; raise ValueError if it is not from 0 to below 1, or no value of a format."""
    beta, fmt = checks.fraction("momentum", beta), Format.parse(fmt)
    below, above = fmt.neighbours(beta)
    if below != above:
        raise ValueError(f"momentum is {beta}; must be a value of {fmt}, as are {below:g} and {above:g}")
    return beta


def skeleton(
    problem: Problem,
    x0: Array,
    *,
    stepsize: float | Sequence[float],
    steps: int,
    fmt: Format | str,
    eps: float | Sequence[float] = 0.0,
    underflow: bool = True,
    record_every: int = 1,
    averages: Sequence[int] = (),
) -> History:
    """Run x⁺ = x − t·g − ε·ulp(x)·w·sign(g) in binary64, unrounded: what signed_SR_eps does in the mean (SPEC D9).

    w = min(1, t|g|/q) with q the smallest positive value of the format is the probability that û is not 0.

    Parameters
    ----------
    problem, steps, record_every, averages
        As for `gradient_descent`.
    x0 : float64 array of the shape of a point, or of several with an axis of them in front
        Rounded to `fmt`, by RN.
    stepsize : float, or sequence of float
        t, or that of each step.
    fmt : Format or str
        The format whose ulp it is.
    eps : float, or sequence of float
        ε, or that of each step; 0 is gradient descent.
    underflow : bool
        Whether w is as above; else it is 1.

    Returns
    -------
    History

    Raises
    ------
    TypeError, ValueError
        If a parameter is not of these.
    """
    fmt, steps = Format.parse(fmt), checks.integer("steps", steps, 1)
    stepsizes, biases = _each_step("stepsize", stepsize, steps), _each_step("eps", eps, steps)

    def step(x: Array, number: int) -> Array:
        xp, g = array_namespace(x), gradient_at(problem, x)
        move = stepsizes[number] * g
        kept = xp.clip(xp.abs(move) / fmt.smallest_subnormal, 0.0, 1.0) if underflow else 1.0
        return x - move - biases[number] * fmt.ulp(x) * kept * xp.sign(g)

    walk = _walk(round_to(_points(problem, x0), fmt), step, steps, None)
    return _history(problem, walk, steps, record_every, averages)


def unrounded_descent(
    problem: Problem,
    x0: Array,
    *,
    stepsize: float | Sequence[float],
    steps: int,
    momentum: float = 0.0,
    nesterov: bool = False,
    sign_step: float | Sequence[float] = 0.0,
    relative_step: float | Sequence[float] = 0.0,
    record_every: int = 1,
    averages: Sequence[int] = (),
) -> History:
    """Run x⁺ = y − t·g − (c + r|x|)·sign(g) in binary64, y = x + β(x − x⁻): what a gain of rounding is compared with.

    Parameters
    ----------
    problem, x0, steps, record_every, averages
        As for `skeleton`, but nothing is rounded, nor the start.
    stepsize : float, or sequence of float
        t, or that of each step.
    momentum : float
        β, from 0 to below 1.
    nesterov : bool
        Whether g is the gradient at y (Nesterov 1983), and not at x: the heavy ball (Polyak 1964).
    sign_step, relative_step : float, or sequences of float
        c and r, at least 0, or those of each step: of fixed size (signSGD), and relative to the weight.

    Returns
    -------
    History

    Raises
    ------
    TypeError, ValueError
        If a parameter is not of these.
    """
    steps = checks.integer("steps", steps, 1)
    stepsizes, momentum = _each_step("stepsize", stepsize, steps), checks.fraction("momentum", momentum)
    fixed, relative = _each_step("sign_step", sign_step, steps), _each_step("relative_step", relative_step, steps)
    start = _points(problem, x0)
    xp, last = array_namespace(start), [start]

    def step(x: Array, number: int) -> Array:
        ahead = x + momentum * (x - last[0]) if momentum else x
        g = gradient_at(problem, ahead if nesterov else x)
        moved = ahead - stepsizes[number] * g
        if fixed[number] or relative[number]:
            moved = moved - (fixed[number] + relative[number] * xp.abs(x)) * xp.sign(g)
        last[0] = x
        return moved

    return _history(problem, _walk(start, step, steps, None), steps, record_every, averages)


def adam(
    problem: Problem,
    x0: Array,
    *,
    stepsize: float | Sequence[float],
    steps: int,
    betas: tuple[float, float] = (0.9, 0.999),
    record_every: int = 1,
    averages: Sequence[int] = (),
) -> History:
    """Run Adam (Kingma and Ba 2015, algorithm 1, with their 10⁻⁸) in binary64, another method to compare with.

    Parameters
    ----------
    problem, x0, stepsize, steps, record_every, averages
        As for `unrounded_descent`.
    betas : pair of float
        Decay of the means of the gradient and of its square, each from 0 to below 1.

    Returns
    -------
    History

    Raises
    ------
    TypeError, ValueError
        If a parameter is not of these.
    """
    steps = checks.integer("steps", steps, 1)
    stepsizes, (first, second) = _each_step("stepsize", stepsize, steps), (checks.fraction("betas", b) for b in betas)
    start = _points(problem, x0)
    xp = array_namespace(start)
    means = [xp.zeros_like(start)] * 2

    def step(x: Array, number: int) -> Array:
        g = gradient_at(problem, x)
        means[:] = first * means[0] + (1 - first) * g, second * means[1] + (1 - second) * g * g
        mean, square = means[0] / (1 - first ** (number + 1)), means[1] / (1 - second ** (number + 1))
        return x - stepsizes[number] * mean / (xp.sqrt(square) + 1e-8)

    return _history(problem, _walk(start, step, steps, None), steps, record_every, averages)


def _walk(
    x: Array, step: Callable[[Array, int], Array], steps: int, progress: Callable[..., Any] | None
) -> Iterator[Array]:
    """Yield x and what step(x, number of steps before) makes of it, again and again."""
    yield x
    for number in (progress or iter)(range(1, steps + 1)):
        with np.errstate(all="ignore"):  # overflow shows as inf or NaN
            x = step(x, number - 1)
        yield x


def _history(
    problem: Problem, walk: Iterator[Array], steps: int, record_every: int, averages: Sequence[int] = ()
) -> History:
    every = checks.integer("record_every", record_every, 1)
    sums: dict[int, Array] = {checks.integer("averages", count, 1, steps): 0.0 for count in averages}
    recorded = {*range(0, steps, every), steps}
    objectives, errors, still = [], [], []
    before, axes, size = None, tuple(range(-len(problem.shape), 0)), math.prod(problem.shape)
    for number, x in enumerate(walk):
        if before is None:
            xp = array_namespace(x)
        else:
            still.append(xp.count_nonzero(x == before, axis=axes))
        if number in recorded:
            with np.errstate(all="ignore"):
                objectives.append(significant(numbers_at(problem, "f", x)))
                if hasattr(problem, "error"):
                    errors.append(significant(numbers_at(problem, "error", x)))
        for count in sums:
            if number > steps - count:
                sums[count] = sums[count] + x
        before = x
    error = np.array(errors) if errors else None
    unmoved = to_numpy(xp.stack(still)) / size  # copied from a GPU at the end, not after every step
    means = {count: _average(problem, total / count) for count, total in sums.items()}
    return History(before, np.array(sorted(recorded)), np.array(objectives), error, unmoved, means)


def _average(problem: Problem, x: Array) -> Average:
    with np.errstate(all="ignore"):
        error = significant(numbers_at(problem, "error", x)) if hasattr(problem, "error") else None
        return Average(x, significant(numbers_at(problem, "f", x)), error)


def _each_step(name: str, value: Any, steps: int) -> list[float]:
    values = (
        np.broadcast_to(np.asarray(value, dtype=np.float64), (steps,)) if np.ndim(value) == 0 else np.asarray(value)
    )
    if values.shape != (steps,) or not np.all(np.isfinite(values) & (values >= 0)):
        raise ValueError(f"{name} is {value!r}; must be a finite number that is not negative, or {steps} of them")
    return values.tolist()


def _sites(
    fmt: Format | str, gradient: Scheme | str, multiply: Scheme | str, update: Scheme | str, rng: Philox | None
) -> list[Arithmetic]:
    fmt = Format.parse(fmt)
    schemes = {"gradient": Scheme.parse(gradient), "multiply": Scheme.parse(multiply), "update": Scheme.parse(update)}
    for site in ("gradient", "multiply"):
        if schemes[site].signed:
            raise ValueError(f"{site} is {schemes[site]}; a signed scheme can be that of the update only")
    if any(scheme.stochastic for scheme in schemes.values()) and not isinstance(rng, Philox):
        raise TypeError(f"rng is {rng!r}; stochastic schemes need a Philox")
    return [Arithmetic(fmt, scheme, rng) for scheme in schemes.values()]


def _points(problem: Problem, x0: Array) -> Array:
    """Return x0; raise TypeError or ValueError if it is neither a point nor an array of points."""
    x = checks.float64_array("x0", x0)
    if x.shape not in (problem.shape, (*x.shape[:1], *problem.shape)):
        raise ValueError(f"x0 has shape {x.shape}; must be {problem.shape}, or have one axis more, in front")
    return x


def _start(problem: Problem, x0: Array, fmt: Format, rng: Philox | None) -> Array:
    x = checks.float64_array("x0", x0)
    xp = array_namespace(x)
    ensemble = problem.shape if rng is None or rng.replicates is None else (len(rng.replicates), *problem.shape)
    if x.shape not in (problem.shape, ensemble):
        allowed = " or ".join(map(str, dict.fromkeys([problem.shape, ensemble])))
        raise ValueError(f"x0 has shape {x.shape}; must be {allowed}")
    return round_to(xp.broadcast_to(x, ensemble), fmt)


def _rounded_gradient(problem: Problem, x: Array, site: Arithmetic) -> Array:
    if hasattr(problem, "rounded_gradient"):
        return like_points("rounded_gradient", problem.rounded_gradient(x, site), x)
    return site.round(gradient_at(problem, x))


def gradient_at(problem: Problem, x: Array) -> Array:
    """Return the gradient; raise TypeError or ValueError if it is no float64 array of the shape of `x`."""
    return like_points("gradient", problem.gradient(x), x)


def like_points(name: str, g: Array, x: Array) -> Array:
    """Return what a function has made of points; raise TypeError or ValueError if not float64 of the shape of `x`."""
    g = checks.float64_array(f"{name}(x)", g)
    if g.shape != x.shape:
        raise ValueError(f"{name}(x) has shape {g.shape} for x of shape {x.shape}{_wrong_axis(g.shape, x.shape)}")
    return g


def numbers_at(problem: Problem, name: str, x: Array) -> Array:
    """Return ``f(x)`` or ``error(x)`` of a problem; raise ValueError if that is not one number for each point."""
    found, wanted = getattr(problem, name)(x), x.shape[: x.ndim - len(problem.shape)]
    if np.shape(found) != wanted:
        axes = _wrong_axis(np.shape(found), wanted)
        raise ValueError(
            f"{name}(x) has shape {np.shape(found)} for x of shape {x.shape}, points of {problem.shape}{axes}"
        )
    return found


def _wrong_axis(found: tuple[int, ...], wanted: tuple[int, ...]) -> str:
    if len(found) != len(wanted):
        return f"; must be {wanted}, with {len(wanted)} axes"
    axis = next(i for i, (have, need) in enumerate(zip(found, wanted, strict=True)) if have != need)
    return f"; must be {wanted}: axis {axis} has length {found[axis]}, not {wanted[axis]}"
