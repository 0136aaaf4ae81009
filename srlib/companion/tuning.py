"""Methods at their own best stepsizes, which held-out images choose (SPEC S2)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from srlib.companion.comparisons import averaged, best_stepsize
from srlib.companion.experiments import Control, Setup, progress, wrong_images
from srlib.typing import Array, Problem


@dataclass(frozen=True)
class Task:
    """What methods are tuned on.

    Attributes
    ----------
    problem : Problem
        With a test error, and perhaps ``wrong``.
    start : array
        That of all runs, or, with an axis in front, those of the replicates of all methods.
    held : object
        Its ``error`` of a point is that on held-out images.
    steps : int
        A tenth of the last are averaged.
    new_rng : callable
        As for `run_schemes`.
    replicates : range
    """

    problem: Problem
    start: Array
    held: Any
    steps: int
    new_rng: Callable
    replicates: range

    def point(self, method: Setup | Control, t: float) -> dict:
        """Return how a method ends with stepsize t: loss, test and held-out error (in %), and those of the average."""
        several = self.start.ndim > len(self.problem.shape)
        rng = self.new_rng(replicates=self.replicates) if method.stochastic or several else None
        count = max(1, self.steps // 10)
        options = {"stepsize": t, "steps": self.steps, "record_every": self.steps, "averages": [count]}
        history = method.run(self.problem, self.start, **options, rng=rng)
        mean = history.averages[count]
        last = self._end(history.x, history.objective[-1], history.error[-1])
        return {"t": t} | last | {"average": self._end(mean.x, mean.objective, mean.error)}

    def numbers(self, method: Setup | Control, t: float) -> dict:
        """Return the same without which test images are put into the wrong class."""
        point = self.point(method, t)
        return _bare(point) | {"average": _bare(point["average"])}

    def _end(self, x, loss, error):
        held = np.asarray(self.held.error(x))
        found = {"loss": loss, "error": 100 * error, "held_out": 100 * held}
        end = {name: np.atleast_1d(values) for name, values in found.items()}
        return end | ({"wrong": wrong_images(self.problem, x)} if hasattr(self.problem, "wrong") else {})


_FURTHER = 5  # times that a stepsize beyond all others is tried


def tune(task: Task, method: Setup | Control, stepsizes: Sequence[float], finest: int = 2) -> list[dict]:
    """Return a method's ends at stepsizes, and at others until the best ones lie between neighbours.

    There are three best ones: by the held-out error of the last iterate, by that of the average, and by the loss. Where
    the best is the first or the last, another half or twice as long is tried, five times at most; then those a factor
    2^(1/2), …, 2^(1/finest) from the best.

    Parameters
    ----------
    task : Task
    method : Setup or Control
    stepsizes : sequence of float
    finest : int
        A power of two.

    Returns
    -------
    list of dict
        A `Task.point` for each stepsize, the smallest first; which images are put into the wrong class is kept of the
        best by held-out error.
    """
    points: dict[float, dict] = {}

    def run(ts):
        for t in ts:
            t = float(f"{t:.9g}")
            if t not in points:
                points[t] = task.point(method, t)

    run(progress(stepsizes, method.name))
    for _ in range(_FURTHER):
        first, last = min(points), max(points)
        run([beyond for end, beyond in ((first, first / 2), (last, 2 * last)) if end in _best(points)])
    root = 2
    while root <= finest:
        run([t * 2.0 ** (side / root) for t in sorted(_best(points)) for side in (-1, 1)])
        root *= 2
    return _kept([points[t] for t in sorted(points)])


def _best(points):
    """Return the best stepsizes by each measure."""
    last = list(points.values())
    means = averaged({"": last})[""]
    return {last[best_stepsize(last)]["t"], last[best_stepsize(last, "loss")]["t"], means[best_stepsize(means)]["t"]}


def _kept(points):
    """Return points with the images that are put into the wrong class only at the best by held-out error."""
    last, mean = best_stepsize(points), best_stepsize(averaged({"": points})[""])
    return [_bare(point, k == last) | {"average": _bare(point["average"], k == mean)} for k, point in enumerate(points)]


def _bare(end, best=False):
    return end if best else {name: values for name, values in end.items() if name != "wrong"}
