"""Whether two batches agree, figure by figure."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from srlib.companion.records import load_record, records_in
from srlib.companion.statistics import mean_band

_SAME_DIGITS = 1e-9  # relative; records have ten digits of what is measured


_SHARE = 0.95  # of points at which two bands must meet


_MAY_DIFFER = {"seed", "backend", "replicates", "replicate_range"}  # parameters under which a result should be the same


@dataclass(frozen=True)
class Comparison:
    """How the numbers of a figure compare in two batches.

    Attributes
    ----------
    figure : str
    verdict : {"identical", "same digits", "within bands", "different", "not comparable"}
        In the order in which they get worse.
    details : tuple of str
        A line for each number that is not identical, and why a figure is not comparable.
    """

    figure: str
    verdict: str
    details: tuple[str, ...] = ()


VERDICTS = ("identical", "same digits", "within bands", "different", "not comparable")


def compare(one: Path, other: Path) -> list[Comparison]:
    """Compare the records of the figures in two directories, or in their ``figures/``, figure by figure.

    Numbers are the same digits if they differ by at most 1e-9 of the largest of their array. They are within their
    bands if the 95% confidence intervals of both, recorded or computed from the replicates, meet at 95% of the points
    at least; parameters may then differ in seed, backend and replicates.

    Raises
    ------
    FileNotFoundError, ValueError
        If there are no records in one of them, or one is damaged.
    """
    ours, theirs = _records(one), _records(other)
    return [_compared(figure, ours.get(figure), theirs.get(figure)) for figure in sorted(ours.keys() | theirs.keys())]


def _records(directory):
    directory = Path(directory)
    inner = directory / "figures" if (directory / "figures").is_dir() else directory
    found = {path.stem: load_record(path) for path in records_in(inner)}
    if not found:
        raise FileNotFoundError(f"{directory}: there are no records of figures in it, nor in its figures/")
    return found


def _compared(figure, one, other):
    if one is None or other is None:
        return Comparison(figure, "not comparable", (f"only the {'second' if one is None else 'first'} has it",))
    ours, theirs = one["parameters"], other["parameters"]
    names = {name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name)}
    apart = [f"{name} is {ours.get(name)!r} and {theirs.get(name)!r}" for name in sorted(names - _MAY_DIFFER)]
    if apart:
        return Comparison(figure, "not comparable", tuple(apart))
    if one["sha256"] == other["sha256"]:
        return Comparison(figure, "identical")
    found = list(_differences(one["numbers"], other["numbers"], ""))
    # Numbers that are equal may be written in two ways, 1 and 1.0, or 0.0 and -0.0.
    verdict = max((verdict for verdict, _ in found), key=VERDICTS.index, default="same digits")
    return Comparison(figure, verdict, tuple(text for _, text in found))


def _differences(one, other, where) -> Iterator[tuple[str, str]]:
    """Yield verdict and description for all numbers, one array each, that are not identical."""
    for name in sorted(one.keys() | other.keys()):
        here, a, b = f"{where}/{name}".lstrip("/"), one.get(name), other.get(name)
        if a == b and name in one.keys() & other.keys():
            continue
        if isinstance(a, dict) and isinstance(b, dict):
            yield from _differences(a, b, here)
            continue
        verdict, text = _difference(here, name, one, other)
        if verdict == "different" and name in one.keys() & other.keys() and _is_band(name, one):
            verdict, text = "within bands", f"{here} is not the same"  # what lies in the band is compared by itself
        yield verdict, text


def _difference(here, name, one, other):
    try:
        a, b = (np.array(numbers[name], dtype=np.float64) for numbers in (one, other))
    except (KeyError, TypeError, ValueError):
        return "different", f"{here} is not the same"
    if a.shape == b.shape:
        with np.errstate(invalid="ignore"):
            distance = np.where((a == b) | (np.isnan(a) & np.isnan(b)), 0.0, np.abs(a - b))
        scale = max(np.max(np.abs(x[np.isfinite(x)]), initial=0.0) for x in (a, b))
        largest = np.max(distance, initial=0.0) / (scale or 1.0)
        if largest <= _SAME_DIGITS:
            return "same digits", f"{here} differs by {largest:.1e} of its largest"
    bands = [_band(name, numbers) for numbers in (one, other)]
    if None in bands:
        return "different", f"{here} is not the same, and has no band"
    (mean, half), (their_mean, their_half) = bands
    if mean.shape != their_mean.shape:
        return "different", f"{here} has other points"
    share = np.mean(np.abs(mean - their_mean) <= half + their_half)
    return (
        "within bands" if share >= _SHARE else "different",
        f"{here} has bands that meet at {share:.0%} of the points",
    )


def _is_band(name, numbers):
    return name == "half_width" or (name.endswith("_half") and name.removesuffix("_half") in numbers)


def _band(name, numbers):
    """Return mean and half-width of the confidence interval of some numbers, None if they have none."""
    values = np.array(numbers[name], dtype=np.float64)
    for half in (f"{name}_half", "half_width"):
        if half in numbers and np.shape(numbers[half]) == values.shape:
            return values, np.array(numbers[half], dtype=np.float64)
    rows = numbers.get("replicates")
    if isinstance(rows, list) and values.ndim == 2 and len(values) == len(rows):
        return mean_band(values.T)
    return None


def meaning(found: list[Comparison]) -> str:
    """Return in one sentence what a comparison means."""
    worst = max((comparison.verdict for comparison in found), key=VERDICTS.index)
    count = f"{len(found)} figure{'s' if len(found) > 1 else ''}"
    bad = [c.figure for c in found if c.verdict in ("different", "not comparable")]
    other = (
        " One is of another profile."
        if any(text.startswith("profile is ") for c in found for text in c.details)
        else ""
    )
    return {
        "identical": f"All numbers of {count} are identical: this is a reproduction to the bit.",
        "same digits": f"All numbers of {count} agree to nine digits: this is a reproduction up to rounding.",
        "within bands": f"All numbers of {count} agree within their confidence bands: the results are confirmed by "
        "other random numbers.",
        "different": f"{len(bad)} of {count} disagree by more than their bands: this is no reproduction of them.",
        "not comparable": f"{len(bad)} of {count} disagree or cannot be compared: this is no reproduction of all."
        + other,
    }[worst]
