"""Experiments: gradient descent with each of the combinations of schemes that are compared, replicate by replicate."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from IPython import get_ipython
from tqdm import tqdm

from srlib.descent import gradient_descent
from srlib.formats import Format
from srlib.schemes import Scheme


@dataclass(frozen=True)
class Setup:
    """A format, and a scheme for each of the three rounding sites.

    Attributes
    ----------
    name : str
        What it is called in figures and tables.
    fmt : Format
    gradient, multiply, update : Scheme
    """

    name: str
    fmt: Format
    gradient: Scheme
    multiply: Scheme
    update: Scheme

    @property
    def stochastic(self) -> bool:
        """Whether any site takes random words."""
        return any(scheme.stochastic for scheme in (self.gradient, self.multiply, self.update))

    @property
    def options(self) -> dict[str, Format | Scheme]:
        """The arguments of `gradient_descent` that it stands for."""
        return {"fmt": self.fmt, "gradient": self.gradient, "multiply": self.multiply, "update": self.update}


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


def compare(problem, start, chosen: Sequence[Setup], rng, *, stepsize: float, steps: int, record: int = 1) -> dict:
    """Run gradient descent with each setup, all from the same start and with the same random words.

    Parameters
    ----------
    problem, start, stepsize, steps, record
        As for `gradient_descent`.
    chosen : sequence of Setup
    rng : callable
        Returns a new `Philox` with the replicates of the stochastic setups; called for each.

    Returns
    -------
    dict of name to curves
        Curves are a dict: ``replicates``, the numbers of the replicates (empty for a deterministic setup, which has a
        row of its own); ``steps``, those that were recorded; ``loss`` and ``error``, the objective and the problem's
        error after them, and ``unmoved``, the share of components that each step left unchanged: arrays with a row a
        replicate.
    """
    found = {}
    for setup in chosen:
        stream = rng() if setup.stochastic else None
        history = gradient_descent(
            problem,
            start,
            stepsize=stepsize,
            steps=steps,
            record=record,
            rng=stream,
            **setup.options,
            progress=lambda steps, name=setup.name: progress(steps, name),
        )
        found[setup.name] = _curves(history, stream)
    return found


def _curves(history, rng):
    measured = {"loss": history.objective, "unmoved": history.stagnated}
    if history.error is not None:
        measured["error"] = history.error
    numbers = [] if rng is None else list(rng.numbers())
    rows = {name: np.atleast_2d(np.transpose(values)) for name, values in measured.items()}
    return {"replicates": numbers, "steps": history.steps, **rows}


def progress(steps, label: str):
    """Return the steps, with a bar that shows how far they are where somebody is looking on."""
    return tqdm(steps, desc=label, leave=False, disable=not _watched())


def _watched():
    kernel = getattr(get_ipython(), "kernel", None)
    if kernel is None:
        return sys.stderr.isatty()
    # A front end that could ask for input has a reader; nbclient, papermill and nbval have none.
    return kernel.get_parent("shell").get("content", {}).get("allow_stdin", False)
