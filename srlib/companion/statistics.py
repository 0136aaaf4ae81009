"""Means over replicates with confidence intervals, and tests of many hypotheses at once."""

import math
from collections.abc import Sequence

import numpy as np
from scipy.special import stdtrit

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
    return values.mean(axis=-1), stdtrit(count - 1, (1 + confidence) / 2) * deviation


def plus_minus(values: np.ndarray, digits: int) -> str:
    """Return the mean of the replicates with its 95% confidence interval as text, which covers that of the numbers."""
    (mean,), (half,) = mean_band(values[None, :])
    shown = f"{mean:.{digits}f}"
    if len(values) == 1 or not math.isfinite(half):
        return shown
    wider = (half + abs(mean - float(shown))) * 10**digits
    return f"{shown} ±\u00a0{math.ceil(wider - 1e-6) / 10**digits:.{digits}f}"


def holm(p_values: Sequence[float]) -> np.ndarray:
    """Return p-values adjusted for their number, so that all tests together err with the stated probability."""
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p)
    scaled = np.minimum(np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)), 1.0)
    adjusted = np.empty_like(p)
    adjusted[order] = scaled
    return adjusted
