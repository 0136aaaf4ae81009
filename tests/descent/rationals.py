"""Certificates of potentials in exact rationals, with neither a solver nor eigenvalues."""

import dataclasses
from fractions import Fraction

import numpy as np

from srlib.descent import potentials
from srlib.descent.potentials import Knowledge, Potential


def constant(steps, tau, theta, rho, off=0.0):
    """The same rates in every step, and nothing that could be lost."""
    parts = (tau, off, theta, theta, rho, 0.0, 0.0, 0.0, 0.0)
    return Knowledge(*(np.full(steps, float(part)) for part in parts))


def exactly(proof, given_rates):
    """A proof and what it is about, as arrays of rationals."""

    def rational(array):
        return np.array([Fraction(float(value)) for value in array], dtype=object)

    parts = {field.name: rational(getattr(proof, field.name)) for field in dataclasses.fields(Potential)}
    return parts, Knowledge(*map(rational, given_rates))


def is_nonnegative(matrix):
    """Whether a symmetric matrix of rationals is: its pivots are, and a row of one that is 0."""
    left = matrix.copy()
    for k in range(len(left)):
        pivot = left[k, k]
        if pivot < 0 or (pivot == 0 and np.any(left[k, k:] != 0)):
            return False
        if pivot > 0:
            left[k + 1 :, k + 1 :] -= np.outer(left[k + 1 :, k], left[k, k + 1 :]) / pivot
    return True


def proved(proof, given_rates, radius):
    """The bound after the last step, if the certificate holds in rationals, without a solver and eigenvalues."""
    x, about = exactly(proof, given_rates)
    weights = [Fraction(0)]
    for alpha, gamma in zip(x["alpha"], x["gamma"], strict=True):
        weights.append(weights[-1] + alpha + gamma)
    of = x | {"m": np.array(weights[:-1], dtype=object) + x["r"] + x["alpha"]}
    for name in ("c", "W", "r", "alpha", "gamma", "square_lost", "inner_lost"):
        assert np.all(x[name] >= 0), name
    assert x["W"][0] == 0 and np.all(of["m"] >= 0)
    assert np.all(x["square_lost"] <= about.square_cap * x["c"][0])
    assert np.all(x["inner_lost"] <= about.inner_cap * x["c"][0])
    assert np.all(-x["y"] >= about.off * abs(x["p"]))
    for theta in (about.theta_low, about.theta_high):
        assert np.all(-x["z"] >= x["s"] * (about.tau - theta))
    entries = potentials._entries(about, of)
    for step in range(len(about.tau)):
        matrix = np.empty((4, 4), dtype=object)
        for (i, j), values in entries.items():
            matrix[i, j] = matrix[j, i] = values[step]
        assert is_nonnegative(matrix), step
    c, W = float(x["c"][-1]), float(x["W"][-1])
    end = (c + (c * c + 8 * c * W) ** 0.5) / 2
    lost = sum(x["square_lost"] * about.square + x["inner_lost"] * about.inner)
    return (float(x["c"][0]) * radius**2 / 2 + float(lost)) / (float(weights[-1]) + end)
