"""What the curves of an experiment say: summaries and paired comparisons, as tables."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from srlib.companion.statistics import holm, plus_minus


def summary(curves: Mapping[str, Mapping], levels: Sequence[float]) -> list[dict]:
    """Return a row a scheme: final and best error and final loss, and how long it takes to reach errors and to stop.

    Each is a mean over the replicates with the half-width of its 95% confidence interval. An event that happens in some
    of the replicates only is given as the number of those.

    Parameters
    ----------
    curves : mapping
        Of `srlib.companion.experiments.compare`, or from the record of a figure; errors are shares.
    levels : sequence of float
        Errors, as shares.
    """
    return [_row(name, c, levels) for name, c in curves.items()]


def _row(name, curves, levels):
    error, loss, unmoved = (np.asarray(curves[key], dtype=np.float64) for key in ("error", "loss", "unmoved"))
    steps = np.asarray(curves["steps"])
    row = {
        "scheme": name,
        "runs": str(len(error)),
        "final error (%)": plus_minus(100 * error[:, -1], 2),
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

    The random words are common to the schemes, so that differences are taken within replicates. p is that of the paired
    t-test that their mean is 0, adjusted for the number of schemes by Holm's method. A deterministic scheme has one
    error, the same in each difference.

    Parameters
    ----------
    curves, reference
        As for `summary`, and one of its schemes.
    """
    errors = {name: 100 * np.asarray(c["error"], dtype=np.float64)[:, -1] for name, c in curves.items()}
    found = {name: error - errors[reference] for name, error in errors.items() if name != reference}
    adjusted = holm([_p_value(values) for values in found.values()])
    return {name: (values, float(p)) for (name, values), p in zip(found.items(), adjusted, strict=True)}


def paired(curves: Mapping[str, Mapping], reference: str = "SR") -> list[dict]:
    """Return `differences` as rows of text: mean, half-width of its 95% confidence interval, and p-value."""
    return [
        {"scheme": name, f"error − {reference}'s (points)": _signed(values), "Holm's p": _p_text(p)}
        for name, (values, p) in differences(curves, reference).items()
    ]


_LEAST = 1e-9  # percentage points: what errors in per cent differ by in their last digits
_FINAL = (("held-out error (%)", "held_out", 2), ("test error (%)", "error", 2), ("loss", "loss", 3))


def at_best_stepsize(sweep: Mapping[str, Sequence[Mapping]], stepsizes: Sequence[float], what="scheme") -> list[dict]:
    """Return a row a scheme: its numbers at the stepsize with the smallest mean held-out error.

    Parameters
    ----------
    sweep : mapping
        For each scheme and stepsize the final ``held_out`` and test ``error`` in per cent and the ``loss``, a number a
        replicate.
    stepsizes : sequence of float
    what : str
        What a scheme is called.
    """
    rows = []
    for name, points in sweep.items():
        best = best_stepsize(points)
        row = {what: name, "best t": f"{stepsizes[best]:g}"}
        for title, key, digits in _FINAL:
            row[title] = plus_minus(np.asarray(points[best][key], dtype=np.float64), digits)
        rows.append(row)
    return rows


def best_stepsize(points: Sequence[Mapping]) -> int:
    """Return the index of the stepsize with the smallest mean held-out error."""
    return int(np.argmin([np.mean(np.asarray(point["held_out"], dtype=np.float64)) for point in points]))


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
