"""Experiments: gradient descent with each of the combinations of schemes that are compared, replicate by replicate."""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from array_api_compat import array_namespace
from IPython import get_ipython
from IPython.display import clear_output
from tqdm import tqdm

from srlib.companion.records import load_record, plain
from srlib.descent.steps import History, gradient_descent, iterates, unrounded_descent
from srlib.digits import significant, to_numpy
from srlib.formats import Format
from srlib.schemes import Scheme
from srlib.typing import Array, Problem


@dataclass(frozen=True)
class Setup:
    """Low-precision gradient descent: a format, a scheme for each of the three rounding sites, and momentum.

    Attributes
    ----------
    name : str
        What it is called in figures and tables.
    fmt : Format
    gradient, multiply : Scheme
    update : Scheme, or callable
        It, or that of the step with a number.
    momentum : float
    velocity_fmt : Format, optional
    """

    name: str
    fmt: Format
    gradient: Scheme
    multiply: Scheme
    update: Scheme | Callable[[int], Scheme]
    momentum: float = 0.0
    velocity_fmt: Format | None = None

    @property
    def stochastic(self) -> bool:
        """Whether any site takes random words."""
        update = self.update if isinstance(self.update, Scheme) else self.update(0)
        return any(scheme.stochastic for scheme in (self.gradient, self.multiply, update))

    @property
    def options(self) -> dict[str, Any]:
        """The arguments of `gradient_descent` that it stands for."""
        sites = {"fmt": self.fmt, "gradient": self.gradient, "multiply": self.multiply, "update": self.update}
        return sites | ({"momentum": self.momentum, "velocity_fmt": self.velocity_fmt} if self.momentum else {})

    def run(self, problem: Problem, x0: Array, **options) -> History:
        """Return `gradient_descent` with it."""
        return gradient_descent(problem, x0, **self.options, **options)


@dataclass(frozen=True)
class Control:
    """A method in binary64, without rounding, that a gain of rounding is compared with (SPEC S3).

    Attributes
    ----------
    name : str
    options : mapping
        Arguments of `descend`.
    shape : float, or sequence of float
        The stepsize of each step by t.
    descend : callable
        `unrounded_descent`, `skeleton` or `adam`.
    """

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    shape: float | Sequence[float] = 1.0
    # As a plain default the function would be a method of the class, and documented twice.
    descend: Callable[..., History] = field(default_factory=lambda: unrounded_descent)
    stochastic = False

    def run(self, problem: Problem, x0: Array, *, stepsize: float, steps: int, rng=None, progress=None, **options):
        """Return its history, as that of `gradient_descent`; random words are not used."""
        stepsizes = (stepsize * np.broadcast_to(self.shape, (steps,))).tolist()
        return self.descend(problem, x0, stepsize=stepsizes, steps=steps, **self.options, **options)


def setups(fmt: Format | str, eps: list[float], baseline: str | None = "binary32") -> list[Setup]:
    """Return the combinations that SPEC compares in E1 to E4.

    RN in the baseline format; then in `fmt` RN; SR at all sites; and for each ε, SR_eps at sites 1 and 2 with SR at 3,
    SR at 1 and 2 with signed_SR_eps at 3, and both.

    Raises
    ------
    TypeError, ValueError
        If there is no such format, or an ε is not in [0, 1).
    """
    fmt, rn, sr = Format.parse(fmt), Scheme("RN"), Scheme("SR")
    found = [] if baseline is None else [Setup(baseline, Format.parse(baseline), rn, rn, rn)]
    found += [Setup("RN", fmt, rn, rn, rn), Setup("SR", fmt, sr, sr, sr)]
    for value in eps:
        biased, signed = Scheme("SR_eps", value), Scheme("signed_SR_eps", value)
        found += [
            Setup(str(biased), fmt, biased, biased, sr),
            Setup(str(signed), fmt, sr, sr, signed),
            Setup(f"both({value!r})", fmt, biased, biased, signed),
        ]
    return found


def annealed(fmt: Format | str, schedule: Sequence[float], steps: int) -> Setup:
    """Return SR with a signed update whose ε is lowered, as `eps_schedule` has it, over a number of steps."""
    updates = [Scheme("signed_SR_eps", value) for value in eps_schedule(schedule, steps)]
    return Setup(f"annealed {list(schedule)}", Format.parse(fmt), Scheme("SR"), Scheme("SR"), updates.__getitem__)


def heavy_ball(fmt: Format | str, momentum: float, update: Scheme | str = "SR", velocity_fmt=None) -> Setup:
    """Return the heavy ball with every operation rounded: SR, and the scheme of the update."""
    fmt, update = Format.parse(fmt), Scheme.parse(update)
    apart = "" if velocity_fmt is None else f", velocity {velocity_fmt}"
    biased = "" if update == Scheme("SR") else f", {update}"
    name = f"heavy ball {momentum:g} in {fmt}{apart}{biased}"
    return Setup(name, fmt, Scheme("SR"), Scheme("SR"), update, momentum, velocity_fmt and Format.parse(velocity_fmt))


def run_schemes(
    problem,
    start: Callable[[range], Array] | Array,
    chosen: Sequence[Setup | Control],
    new_rng,
    replicates: range,
    *,
    stepsize: float,
    steps: int,
    record_every: int = 1,
    averages: Sequence[int] = (),
    pieces: Sequence[Mapping] = (),
) -> dict:
    """Run each method, with the same starts and random words.

    Parameters
    ----------
    problem, stepsize, steps, record_every, averages
        As for `gradient_descent`.
    start : array, or callable
        That of all runs; or ``start(numbers)`` returns those of the replicates with these numbers, an array with an
        axis of them in front, and then deterministic methods have replicates as well.
    chosen : sequence of Setup or Control
    new_rng : callable
        ``new_rng(replicates=range)`` returns a new `Philox`, such as `Settings.new_rng`.
    replicates : range
        Numbers of the replicates of stochastic methods.
    pieces : sequence of mapping
        Curves of earlier runs, whose replicates are taken over (see `load_pieces`); only the others are run.

    Returns
    -------
    dict of name to curves
        Curves are a dict: ``replicates``, the numbers of the replicates (empty for a deterministic method, which has a
        row of its own); ``steps``, those that were recorded; ``loss`` and ``error``, the objective and the problem's
        error after them, and ``unmoved``, the share of components that each step left unchanged: arrays with a row a
        replicate. ``wrong`` says of the last iterate which test images are put into the wrong class: for each replicate
        the bits of them all and then a 1, in hexadecimal digits. "average 5 loss" and so on are
        those of the mean of the last 5 iterates, if `averages` has 5.
    """
    several = callable(start)

    def replicated(setup):
        return several or setup.stochastic

    def run(setup, numbers):
        history = setup.run(
            problem,
            start(numbers) if several else start,
            stepsize=stepsize,
            steps=steps,
            record_every=record_every,
            averages=averages,
            rng=new_rng(replicates=numbers) if replicated(setup) else None,
            progress=lambda steps: progress(steps, setup.name),
        )
        return _curves(history, problem, numbers if replicated(setup) else ())

    return {setup.name: _with_pieces(run, setup, replicates if replicated(setup) else None, pieces) for setup in chosen}


def _with_pieces(run, setup, replicates, pieces):
    known = [piece[setup.name] for piece in pieces if setup.name in piece]
    if replicates is None:
        return known[0] if known else run(setup, ())
    have = {number for curves in known for number in curves["replicates"]}
    known += [run(setup, numbers) for numbers in _spans([n for n in replicates if n not in have])]
    rows = {number: (curves, row) for curves in known for row, number in enumerate(curves["replicates"])}
    chosen = [rows[number] for number in replicates]
    measured = [name for name in known[0] if name not in ("replicates", "steps")]
    merged = {name: np.array([curves[name][row] for curves, row in chosen]) for name in measured}
    return {"replicates": list(replicates), "steps": known[0]["steps"], **merged}


def _spans(numbers):
    """Return ascending numbers as ranges without a gap."""
    starts = [number for number in numbers if number - 1 not in numbers]
    stops = [number + 1 for number in numbers if number + 1 not in numbers]
    return [range(start, stop) for start, stop in zip(starts, stops, strict=True)]


def _curves(history, problem, replicates):
    measured = {"unmoved": history.unmoved} | _measured(history)
    for count, mean in history.averages.items():
        measured |= {f"average {count} {name}": values[None] for name, values in _measured(mean).items()}
    rows = {name: np.atleast_2d(np.transpose(values)) for name, values in measured.items()}
    if hasattr(problem, "wrong"):
        ends = {"": history, **{f"average {count} ": mean for count, mean in history.averages.items()}}
        rows |= {f"{prefix}wrong": wrong_images(problem, end.x) for prefix, end in ends.items()}
    return {"replicates": list(replicates), "steps": history.steps, **rows}


def _measured(found):
    return {"loss": found.objective} | ({} if found.error is None else {"error": found.error})


def wrong_images(problem, x) -> np.ndarray:
    """Return which test images iterates put into the wrong class: for each the bits of all and then a 1, in hex."""
    wrong = np.atleast_2d(to_numpy(problem.wrong(x)))
    ended = np.concatenate([wrong, np.ones((len(wrong), 1), dtype=bool)], axis=1)
    return np.array([bits.tobytes().hex() for bits in np.packbits(ended, axis=1)])


def load_pieces(figure: str, settings) -> list[dict]:
    """Return the curves of the runs that `settings.pieces` names, from the records of a figure.

    Raises
    ------
    FileNotFoundError, ValueError
        If a record is missing or damaged, or of a run with other parameters than the number of replicates.
    """
    return [_load_piece(Path(directory) / f"{figure}.json", settings.parameters) for directory in settings.pieces]


def _load_piece(path, parameters):
    record = load_record(path)
    ours, theirs = plain(parameters), record["parameters"]
    for name in sorted((ours.keys() | theirs.keys()) - {"replicates", "replicate_range"}):
        if ours.get(name) != theirs.get(name):
            raise ValueError(f"{path}: {name} was {theirs.get(name)!r}; must be {ours.get(name)!r}, as in this run")
    return {name: _as_arrays(**curves) for name, curves in record["numbers"].items()}


def _as_arrays(replicates, steps, **measured):
    """Return curves as `run_schemes` does; what is not finite is text in a record."""
    rows = {
        name: np.array(values, dtype=str if name.endswith("wrong") else np.float64) for name, values in measured.items()
    }
    return {"replicates": replicates, "steps": np.array(steps), **rows}


def measured_beta(problem, x0, setup: Setup, rng, *, stepsize: float, steps: int) -> np.ndarray:
    """Return β of each step, ⟨g, e⟩ = −β·t‖g‖² with total error e and exact gradient g, averaged over replicates.

    It is D5's β where the gradient is rounded once, and takes in the errors of all operations where they are rounded.
    The effective stepsize is t(1 + β) (SPEC D9).
    """
    walk = iterates(problem, x0, stepsize=stepsize, steps=steps, rng=rng, **setup.options)
    found, axes = [], tuple(range(-len(problem.shape), 0))
    for x, moved in pairwise(walk):
        g, xp = problem.gradient(x), array_namespace(x)
        square, along = xp.sum(g * g, axis=axes), xp.sum(g * (x - moved), axis=axes)
        found.append(np.mean(significant(along / (stepsize * square) - 1)))
    return significant(np.array(found))


def eps_schedule(values: Sequence[float], steps: int) -> list[float]:
    """Return the value of each of the steps: the first for the longest time, the others for less and less.

    Of m values the first gets m, the last 1 out of m(m + 1)/2 parts: a half, a third and a sixth for three.
    """
    shares = np.arange(len(values), 0, -1)
    ends = np.rint(np.cumsum(shares) * steps / shares.sum()).astype(int)
    return [values[int(np.argmax(ends > step))] for step in range(steps)]


def progress(steps, label: str):
    """Return the steps, with a bar that shows the progress in a terminal or a notebook and leaves nothing behind.

    In a notebook it clears the output of its cell at the end.
    """
    kernel = getattr(get_ipython(), "kernel", None)
    # A front end that could ask for input has a reader; nbclient, papermill and nbval have none.
    watched = kernel.get_parent("shell").get("content", {}).get("allow_stdin") if kernel else sys.stderr.isatty()
    return _with_bar(steps, label, kernel) if watched else steps


def _with_bar(steps, label, kernel):
    try:
        yield from tqdm(steps, desc=label, leave=False)
    finally:  # of a loop that is left early, too
        if kernel:
            clear_output()  # tqdm leaves blanks
