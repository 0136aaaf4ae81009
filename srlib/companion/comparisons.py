"""What the curves of an experiment say: summaries and paired comparisons, as tables."""

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from scipy.special import ndtri

from srlib.companion.statistics import CONFIDENCE, holm, plus_minus


def summary(curves: Mapping[str, Mapping], levels: Sequence[float]) -> list[dict]:
    """Return a row a scheme: errors after a third of the run, at the end, and at best; final loss; times to get there.

    "Best" is the least over the epochs on the test set, which nothing could choose by.

    Each is a mean over the replicates with the half-width of its 95% confidence interval. An event that happens in some
    of the replicates only is given as the number of those.

    Parameters
    ----------
    curves : mapping
        Of `srlib.companion.experiments.run_schemes`, or from the record of a figure; errors are shares.
    levels : sequence of float
        Errors, as shares.
    """
    return [_row(name, c, levels) for name, c in curves.items()]


def _row(name, curves, levels):
    error, loss, unmoved = (np.asarray(curves[key], dtype=np.float64) for key in ("error", "loss", "unmoved"))
    steps = np.asarray(curves["steps"])
    third = int(np.argmin(np.abs(steps - steps[-1] / 3)))
    row = {
        "scheme": name,
        "runs": str(len(error)),
        f"error after {steps[third]} (%)": plus_minus(100 * error[:, third], 2),
        "final error (%)": plus_minus(final_errors(curves), 2),
        "best error (%)": plus_minus(100 * error.min(axis=1), 2),
        "final loss": plus_minus(loss[:, -1], 4),
    }
    for level in levels:
        reached = [steps[np.argmax(run <= level)] if np.any(run <= level) else None for run in error]
        row[f"epochs to {100 * level:.1f}%"] = _events(reached)
    row["stops after"] = _events([_stop(run) for run in unmoved])
    return row


def _stop(unmoved):
    """Return the number of steps after which no component moves any more, None if one moves in the last."""
    moving = np.flatnonzero(unmoved < 1)
    last = int(moving[-1]) + 1 if len(moving) else 0
    return None if last == len(unmoved) else last


def _events(times):
    happened = [time for time in times if time is not None]
    if len(happened) == len(times):
        return plus_minus(np.array(happened, dtype=np.float64), 1 if len(times) > 1 else 0)
    return f"{len(happened)} of {len(times)}" if happened else "never"


def differences(curves: Mapping[str, Mapping], reference: str = "SR") -> dict[str, tuple[np.ndarray, float]]:
    """Return for each other scheme the final errors less the reference's, in percentage points, and a p-value.

    What is common to the schemes are the random words, so that differences are taken within replicates. p is that of
    the paired t-test that their mean is 0, adjusted for the number of schemes by Holm's method. A deterministic scheme
    may have one error, the same in each difference.

    Parameters
    ----------
    curves, reference
        As for `summary`, and one of its schemes.
    """
    errors = {name: final_errors(c) for name, c in curves.items()}
    found = {name: error - errors[reference] for name, error in errors.items() if name != reference}
    adjusted = holm([_p_value(values) for values in found.values()])
    return {name: (values, float(p)) for (name, values), p in zip(found.items(), adjusted, strict=True)}


def paired(curves: Mapping[str, Mapping], reference: str = "SR") -> list[dict]:
    """Return `differences` as rows of text: mean, half-widths of its two 95% confidence intervals, p-value, verdict.

    The first interval is over replicates; the second, over test images, holds for all schemes together (Bonferroni).
    "Better" and "worse" are said where the second excludes 0 and p, which is adjusted for their number, is below 5%.
    """
    rows, found = [], differences(curves, reference)
    each = 1 - (1 - CONFIDENCE) / max(len(found), 1)
    for name, (values, p) in found.items():
        half = over_images(curves[name], curves[reference], each)[1]
        mean = np.mean(values)
        clear = p < 0.05 and abs(mean) > half
        said = ("better" if mean < 0 else "worse") if clear else "neither"
        row = {"scheme": name, f"error − {reference}'s (points)": _signed(values), "Holm's p": _p_text(p)}
        rows.append(row | {"over images": f"±\u00a0{math.ceil(100 * half - 1e-6) / 100:.2f}", "so": said})
    return rows


def final_errors(curves: Mapping) -> np.ndarray:
    """Return the final test error of each replicate in per cent: a mean over two records, as a run may hop."""
    return 100 * np.asarray(curves["error"], dtype=np.float64)[:, -2:].mean(axis=1)


def longest_average(curves: Mapping) -> int:
    """Return how many of the last iterates the longest mean is of whose errors curves have; 0 if they have none."""
    return max((int(key.split()[1]) for key in curves if key.endswith(" error")), default=0)


def of_average(curves: Mapping[str, Mapping], count: int) -> dict[str, dict]:
    """Return curves whose only errors and losses are those of the means of the last `count` iterates."""
    prefix = f"average {count} "
    return {name: {key: c[prefix + key] for key in ("loss", "error", "wrong")} for name, c in curves.items()}


def over_images(curves: Mapping, reference: Mapping, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Return the difference of the last errors in percentage points, and its interval's half-width over test images.

    It is the interval of the mean of paired differences, an image each, of the shares of the replicates that put it
    into the wrong class: what a paired bootstrap of the images tends to.
    """
    mine, theirs = (_shares(c["wrong"]) for c in (curves, reference))
    apart = 100 * (mine - theirs)
    deviation = apart.std(ddof=1) if len(apart) > 1 else 0.0
    return float(apart.mean()), float(ndtri((1 + confidence) / 2) * deviation / np.sqrt(len(apart)))


def _shares(wrong):
    """Return for each test image the share of the replicates that put it into the wrong class."""
    bits = np.array([np.unpackbits(np.frombuffer(bytes.fromhex(text), dtype=np.uint8)) for text in wrong])
    return bits.mean(axis=0)[: np.flatnonzero(bits[0])[-1]]  # up to the 1 at their end


_LEAST = 1e-9  # percentage points: what errors in per cent differ by in their last digits


def at_best_stepsize(sweep: Mapping[str, Sequence[Mapping]], what="scheme") -> list[dict]:
    """Return a row a scheme: its numbers at the stepsizes with the smallest mean held-out error, and the smallest loss.

    Parameters
    ----------
    sweep : mapping
        For each scheme and stepsize the stepsize ``t``, the final ``held_out`` and test ``error`` in per cent and the
        training ``loss``, a number a replicate; where the held-out error is smallest also ``wrong``, which test images
        are put into the wrong class (see `srlib.companion.experiments.wrong_images`).
    what : str
        What a scheme is called.

    Returns
    -------
    list of dict
        Test errors are compared with that of the first scheme; the intervals of these differences, over test images,
        hold for all schemes together (Bonferroni).
    """
    rows, first = [], next(iter(sweep))
    reference = sweep[first][best_stepsize(sweep[first])]
    each = 1 - (1 - CONFIDENCE) / max(len(sweep) - 1, 1)
    for name, points in sweep.items():
        best, least = points[best_stepsize(points)], points[best_stepsize(points, "loss")]
        apart, half = over_images(best, reference, each)
        rows.append(
            {
                what: name,
                "best t by error": _placed(points, "held_out"),
                "held-out error (%)": _shown(best, "held_out", 2),
                "test error (%)": _shown(best, "error", 2),
                f"less {first}'s (± over images)": "" if name == first else f"{apart:+.2f}\u00a0±\u00a0{half:.2f}",
                "loss": _shown(best, "loss", 3),
                "best t by loss": _placed(points, "loss"),
                "least loss": _shown(least, "loss", 3),
                "test error there (%)": _shown(least, "error", 2),
            }
        )
    return rows


def brief(rows: Sequence[Mapping]) -> list[dict]:
    """Return the columns of `at_best_stepsize` that fit on a page."""
    left_out = ("loss", "best t by loss", "test error there (%)")
    return [{name: text for name, text in row.items() if name not in left_out} for row in rows]


def _placed(points, key):
    """Return the best stepsize, with a mark if no larger or no smaller one was tried."""
    best, ts = points[best_stepsize(points, key)]["t"], [point["t"] for point in points]
    return f"{best:.4g}" + ("" if min(ts) < best < max(ts) else " (end)")


def _shown(point, key, digits):
    return plus_minus(np.asarray(point[key], dtype=np.float64), digits)


def averaged(sweep: Mapping[str, Sequence[Mapping]]) -> dict[str, list[dict]]:
    """Return a sweep of the means of the last iterates, which points of another have as their ``average``."""
    return {name: [{"t": point["t"]} | point["average"] for point in points] for name, points in sweep.items()}


def best_stepsize(points: Sequence[Mapping], key: str = "held_out") -> int:
    """Return the index of the stepsize with the smallest mean held-out error, or training loss."""
    means = [np.mean(np.asarray(point[key], dtype=np.float64)) for point in points]
    return int(np.argmin(np.nan_to_num(means, nan=np.inf)))


def errors_at_best(sweep: Mapping[str, Sequence[Mapping]]) -> dict[str, np.ndarray]:
    """Return for each scheme of a sweep its test errors at its best stepsize, in per cent, one a replicate."""
    return {name: np.asarray(points[best_stepsize(points)]["error"], float) for name, points in sweep.items()}


def proposed(schemes: Iterable[str]) -> list[str]:
    """Return the names of those schemes that the paper proposes."""
    return [scheme for scheme in schemes if scheme.startswith(("SR_eps", "signed", "both"))]


def gain_of_bound(case: Mapping[str, Mapping], scheme: str, kind: str, reference: str = "exact") -> float:
    """Return the share by which the last bound of a scheme is below that of another, or of exact arithmetic.

    Parameters
    ----------
    case : mapping
        For each scheme, and for exact arithmetic, bounds for k = 0, 1, … by their kinds, from the record of a figure.
    scheme, kind, reference : str
    """
    return 1 - case[scheme][kind][-1] / case[reference][kind][-1]


def _p_value(differences):
    if np.ptp(differences) < _LEAST:  # one replicate, or none that differs: no spread to compare with
        return 1.0 if len(differences) == 1 or abs(differences[0]) < _LEAST else 0.0
    from scipy.stats import ttest_1samp  # takes a second to import, which not all that is here needs

    return float(ttest_1samp(differences, 0.0).pvalue)


def _signed(values):
    text = plus_minus(values, 2)
    return text if text.startswith("-") else "+" + text


def _p_text(p):
    return f"{p:.1g}" if p >= 1e-6 else "< 1e-6"
