"""What a batch says while it runs, and at its end."""

import json
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import click
from tqdm import tqdm

from srlib.batch.supervise import STATUS, Outcome

_LINE_EVERY = 60.0  # seconds


class Display:
    """One live line for each running job where there is a terminal, else a line a minute; and a line for each end.

    Parameters
    ----------
    staging : Path
        Where jobs tell how far they are.
    stream : text stream
        Where lines go.
    """

    def __init__(self, staging: Path, stream):
        self._staging, self._stream, self._live = staging, stream, stream.isatty()
        self._bars, self._told = {}, {}

    def __call__(self) -> None:
        """Show how far the running jobs are."""
        found = {}
        for path in self._staging.glob(f"*/{STATUS}"):
            with suppress(OSError, ValueError):
                status = json.loads(path.read_text(encoding="utf-8"))
                # Of two attempts at a job, the one that has begun last is running.
                if status["started"] >= found.get(status["job"], status)["started"]:
                    found[status["job"]] = status
        for name in self._bars.keys() - found.keys():
            self._bars.pop(name).close()
        for name, status in found.items():
            if self._live:
                self._draw(name, status)
            elif time.monotonic() - self._told.setdefault(name, time.monotonic()) > _LINE_EVERY:
                self._told[name] = time.monotonic()
                self._say(f"{name}  {_how_far(status)}")

    def _draw(self, name, status):
        if name not in self._bars:
            layout = "{desc}"
            self._bars[name] = tqdm(
                total=0, bar_format=layout, file=self._stream, leave=False, position=len(self._bars)
            )
        self._bars[name].set_description_str(f"{name}  {_how_far(status)}")

    def _say(self, text):
        with tqdm.external_write_mode(file=self._stream):
            click.echo(text, file=self._stream)

    def end(self, outcome: Outcome) -> None:
        """Say what became of a job."""
        if (bar := self._bars.pop(outcome.job.name, None)) is not None:
            bar.close()
        self._say(line(outcome))

    def close(self) -> None:
        """Clear the live lines."""
        while self._bars:
            self._bars.popitem()[1].close()


def _how_far(status):
    return f"cell {status['cell']} of {status['cells']}  {status['seconds']:.0f} s  {size(status['memory'])}"


def size(count: int) -> str:
    """Return a number of bytes as text."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"


def line(outcome: Outcome) -> str:
    """Return what became of a job in one line."""
    name, spent = outcome.job.name, f"{outcome.seconds:.1f} s  {size(outcome.memory)}"
    match outcome.state:
        case "ok":
            return f"{name}  ok  {spent}  {counted(len(outcome.figures), 'figure')}"
        case "failed":
            seen = " and ".join(place for place in (outcome.notebook, outcome.log) if place)
            return f"{name}  FAILED  {spent}  {outcome.problem}" + (f"  (see {seen})" if seen else "")
        case "not run":
            return f"{name}  not run  {outcome.problem}"
    return f"{name}  {outcome.state}"


def summary(outcomes: Sequence[Outcome]) -> str:
    """Return a table of what became of all jobs."""
    head = ("job", "outcome", "seconds", "memory", "figures")
    rows = [
        (outcome.job.name, outcome.state, f"{outcome.seconds:.1f}", size(outcome.memory), str(len(outcome.figures)))
        if outcome.state in ("ok", "failed")
        else (outcome.job.name, outcome.state, "", "", "")
        for outcome in sorted(outcomes, key=lambda outcome: outcome.job.name)
    ]
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]

    def text(row):
        left = [value.ljust(width) for value, width in zip(row[:2], widths, strict=False)]
        right = [value.rjust(width) for value, width in zip(row[2:], widths[2:], strict=True)]
        return "  ".join([*left, *right]).rstrip()

    return "\n".join(map(text, [head, *rows]))


def as_json(outcomes: Sequence[Outcome]) -> str:
    """Return what became of all jobs as a JSON list."""
    fields = ("state", "seconds", "memory", "figures", "problem", "notebook", "log")
    found = [
        {"job": outcome.job.name, "parameters": dict(outcome.job.parameters)}
        | {name: getattr(outcome, name) for name in fields}
        for outcome in outcomes
    ]
    return json.dumps(found, indent=1)  # in ASCII, which any stream takes


def counted(number: int, noun: str) -> str:
    """Return a number with its noun."""
    return f"{number} {noun}{'' if number == 1 else 's'}"
