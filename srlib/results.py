"""What the curves of an experiment say: bands, summaries and paired comparisons, with confidence over replicates."""

from collections.abc import Mapping, Sequence

import numpy as np
from scipy.stats import t, ttest_1samp

CONFIDENCE = 0.95


def mean_band(values: np.ndarray, confidence: float = CONFIDENCE):
    """Return the mean over replicates, the last axis, and the half-width of its confidence interval.

    Student's t with replicates − 1 degrees of freedom; without the axis of replicates, or with one, there is no
    interval and the half-width is 0.

    Parameters
    ----------
    values : array of shape (records,) or (records, replicates)
    """
    values = np.asarray(values, dtype=np.float64)
    if values.ndim == 1:
        return values, np.zeros_like(values)
    count = values.shape[-1]
    if count == 1:
        return values[:, 0], np.zeros(len(values))
    deviation = values.std(axis=-1, ddof=1) / np.sqrt(count)
    return values.mean(axis=-1), t.ppf((1 + confidence) / 2, count - 1) * deviation


def summary(curves: Mapping[str, Mapping], levels: Sequence[float], unit: str = "epochs") -> list[dict]:
    """Return a row a scheme: final and best error and final loss, and how long it takes to reach errors and to stop.

    Each is a mean over the replicates with the half-width of its 95% confidence interval. An event that happens in some
    of the replicates only is given as the number of those.

    Parameters
    ----------
    curves : mapping
        Of `srlib.experiments.compare`, or from the record of a figure; errors are shares.
    levels : sequence of float
        Errors, as shares.
    unit : str
        What a step is called.
    """
    return [_row(name, c, levels, unit) for name, c in curves.items()]


def _row(name, curves, levels, unit):
    error, loss, unmoved = (np.asarray(curves[key], dtype=np.float64) for key in ("error", "loss", "unmoved"))
    steps = np.asarray(curves["steps"])
    row = {
        "scheme": name,
        "runs": str(len(error)),
        "final error (%)": _plus_minus(100 * error[:, -1], 2),
        "best error (%)": _plus_minus(100 * error.min(axis=1), 2),
        "final loss": _plus_minus(loss[:, -1], 4),
    }
    for level in levels:
        reached = [steps[np.argmax(run <= level)] if np.any(run <= level) else None for run in error]
        row[f"{unit} to {100 * level:.1f}%"] = _events(reached)
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
        return _plus_minus(np.array(happened, dtype=np.float64), 1 if len(times) > 1 else 0)
    return f"{len(happened)} of {len(times)}" if happened else "never"


def _plus_minus(values, digits):
    mean, half = mean_band(values[None, :])
    return f"{mean[0]:.{digits}f}" + (f"\u00a0±\u00a0{half[0]:.{digits}f}" if len(values) > 1 else "")


def paired(curves: Mapping[str, Mapping], reference: str = "SR") -> list[dict]:
    """Return a row a scheme: how its final error differs from that of the reference, replicate by replicate.

    The random words are common to the schemes, so that differences are taken within replicates: their mean, the
    half-width of its 95% confidence interval, and the p-value of the paired t-test that it is 0, adjusted for the
    number of schemes by Holm's method (1979). A deterministic scheme has one error, the same in each difference.

    Parameters
    ----------
    curves, reference
        As for `summary`, and one of its schemes.
    """
    errors = {name: 100 * np.asarray(c["error"], dtype=np.float64)[:, -1] for name, c in curves.items()}
    differences = {name: error - errors[reference] for name, error in errors.items() if name != reference}
    adjusted = holm([_p_value(values) for values in differences.values()])
    return [
        {"scheme": name, f"error − {reference}'s (points)": _signed(values), "Holm's p": _p_text(p)}
        for (name, values), p in zip(differences.items(), adjusted, strict=True)
    ]


def _p_value(differences):
    if np.ptp(differences) == 0:  # one replicate, or none that differs: no spread to compare with
        return 1.0 if len(differences) == 1 or differences[0] == 0 else 0.0
    return float(ttest_1samp(differences, 0.0).pvalue)


def holm(p_values: Sequence[float]) -> np.ndarray:
    """Return p-values adjusted for their number, so that all tests together err with the stated probability."""
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p)
    scaled = np.minimum(np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)), 1.0)
    adjusted = np.empty_like(p)
    adjusted[order] = scaled
    return adjusted


def _signed(values):
    text = _plus_minus(values, 2)
    return text if text.startswith("-") else "+" + text


def _p_text(p):
    return f"{p:.1g}" if p >= 1e-6 else "< 1e-6"


def table(rows: Sequence[Mapping[str, str]]) -> str:
    """Return rows of text as a table in Markdown; the first column is on the left, the others on the right."""
    names = list(rows[0])
    lines = [names, ["---", *["---:"] * (len(names) - 1)], *([row[name] for name in names] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
