"""The laws of all components at once are those of the components, one by one."""

import numpy as np
import pytest

from srlib import DiagonalQuadratic, Huber, Philox, exact_law, gradient_descent
from srlib.descent.separable import component_laws, unrounded

CURVATURES, MINIMISER = np.array([1.0, 0.3, 0.01]), np.array([1.1, -2.3, 0.7])
QUADRATIC = DiagonalQuadratic(CURVATURES, MINIMISER)
START = np.array([4.0, 0.0, -1.0])
SCHEMES = ["RN", "SR", "SR_eps(0.2)", "signed_SR_eps(0.4)"]


def laws(problem=QUADRATIC, x0=START, **changes):
    options = {"curvatures": CURVATURES, "minimiser": MINIMISER, "stepsize": 0.25, "steps": 20, "fmt": "binary8"}
    return component_laws(problem, x0, **(options | changes))


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("fmt", ["binary8", "e4m3", "fixed(4,4)"])
def test_each_component_has_its_own_law(scheme, fmt):
    found = laws(fmt=fmt, update=scheme)
    for i, (curvature, minimiser) in enumerate(zip(CURVATURES, MINIMISER, strict=True)):
        alone = DiagonalQuadratic(np.array([curvature]), np.array([minimiser]))
        law = exact_law(alone, fmt, 0.25, update=scheme)
        expected = law.expected(lambda x, one=alone: one.f(x[:, None]), START[i], 20)
        np.testing.assert_allclose(found.gap[:, i], expected, rtol=1e-9, atol=1e-12)
        rates = law.rates(START[i], 20, lipschitz=curvature, minimiser=minimiser)
        for name in ("grad_sq", "grad_dot_distance", "grad_dot_error", "error_dot_distance", "noise"):
            np.testing.assert_allclose(
                getattr(found.rates, name)[:, i], getattr(rates, name), rtol=1e-9, atol=1e-12, err_msg=name
            )
        bound = law.bound(START[i], 20, lipschitz=curvature, minimiser=minimiser)
        np.testing.assert_allclose(found.rates.bound(found.radius)[:, i], bound, rtol=1e-9)


def test_the_mean_is_that_of_an_ensemble():
    """2000 replicates of 20 steps: |z| < 6 fails by chance for one of 20 numbers below once in 10^7."""
    found = laws(update="signed_SR_eps(0.4)")
    history = gradient_descent(
        QUADRATIC, START, stepsize=0.25, steps=20, fmt="binary8", update="signed_SR_eps(0.4)", rng=Philox(3, 2000)
    )
    mean, deviation = history.objective.mean(axis=1), history.objective.std(axis=1, ddof=1) / np.sqrt(2000)
    assert np.all(np.abs(mean - found.gap.sum(axis=1)) <= 6 * deviation + 1e-9)


@pytest.mark.parametrize("bits", [1, 2, 3, 4])
def test_few_random_bits_give_the_law_of_so_many(bits):
    found = laws(bits=bits)
    alone = DiagonalQuadratic(CURVATURES[:1], MINIMISER[:1])
    expected = exact_law(alone, "binary8", 0.25, bits=bits).expected(lambda x: alone.f(x[:, None]), START[0], 20)
    np.testing.assert_allclose(found.gap[:, 0], expected, rtol=1e-9)
    assert not np.allclose(found.gap, laws().gap, rtol=1e-3)


@pytest.mark.parametrize("update", ["RN", "RZ"])
def test_what_is_beyond_the_largest_value_and_never_reached_does_not_matter(update):
    """From the largest value steps lead upward by less than half a gap: the other outcome, inf, has probability 0."""
    largest = np.array([57344.0, 1.0])
    found = component_laws(
        DiagonalQuadratic(np.full(2, 0.1), largest + 3000),
        largest,
        curvatures=np.full(2, 0.1),
        minimiser=largest + 3000,
        stepsize=0.5,
        steps=5,
        fmt="binary8",
        update=update,
    )
    assert np.all(found.distance[:, 0] == 9e6) and np.all(np.isfinite(found.gap))


def test_hubers_function_is_separable_too():
    problem = Huber(1.0, 0.5, n=2)
    found = component_laws(
        problem, np.array([2.0, -1.0]), curvatures=np.ones(2), minimiser=np.zeros(2), stepsize=0.5, steps=9, fmt="e4m3"
    )
    for i, start in enumerate((2.0, -1.0)):
        law = exact_law(Huber(1.0, 0.5), "e4m3", 0.5)
        expected = law.expected(lambda x: Huber(1.0, 0.5).f(x[:, None]), start, 9)
        np.testing.assert_allclose(found.gap[:, i], expected, rtol=1e-9, atol=1e-12)


def test_the_bound_of_the_whole_is_above_the_law_and_the_sum_of_those_of_the_components_too():
    for scheme in SCHEMES:
        found = laws(update=scheme)
        gap = found.gap.sum(axis=1)
        assert np.all(gap <= found.rates.joint(1.0).bound(np.linalg.norm(found.radius)) * (1 + 1e-10))
        assert np.all(gap <= found.rates.bound(found.radius).sum(axis=1) * (1 + 1e-10))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x0": np.full(3, 57344.0), "stepsize": 4.0}, "step 0 can overflow binary8; must not"),
        ({"curvatures": CURVATURES / 2}, "or L = .* is too small|is too small or x"),
        ({"minimiser": np.full(3, 100.0)}, "must be at least"),
        ({"stepsize": 0.0}, "stepsize is 0.0; must be finite and positive"),
        ({"steps": 0}, "steps is 0; must be at least 1"),
        ({"bits": 33}, "bits is 33; must be from 1 to 32"),
    ],
)
def test_what_makes_no_sense_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        laws(**changes)


def test_without_rounding_the_errors_are_those_of_none_and_the_iterates_those_of_binary64():
    found = unrounded(QUADRATIC, START, curvatures=CURVATURES, minimiser=MINIMISER, stepsize=0.25, steps=20)
    away = (START - MINIMISER) * (1 - 0.25 * CURVATURES) ** np.arange(21)[:, None]
    np.testing.assert_allclose(found.distance, away**2, rtol=1e-12)
    np.testing.assert_allclose(found.gap, CURVATURES * away**2 / 2, rtol=1e-12)
    np.testing.assert_allclose(found.rates.grad_sq, (CURVATURES * away[:-1]) ** 2, rtol=1e-12)
    np.testing.assert_allclose(found.rates.grad_dot_distance, CURVATURES * away[:-1] ** 2, rtol=1e-12)
    assert np.all(found.rates.tau == 0.25) and np.all(found.rates.theta == 0.25) and np.all(found.rates.rho == 0)
    wide = laws(fmt="binary32")
    np.testing.assert_allclose(wide.gap, found.gap, rtol=1e-5, atol=1e-7)


def test_the_distance_is_the_second_moment_of_the_law():
    found = laws(update="signed_SR_eps(0.4)")
    law = exact_law(DiagonalQuadratic(CURVATURES[:1], MINIMISER[:1]), "binary8", 0.25, update="signed_SR_eps(0.4)")
    expected = law.expected(lambda x: (x - MINIMISER[0]) ** 2, START[0], 20)
    np.testing.assert_allclose(found.distance[:, 0], expected, rtol=1e-9)
    np.testing.assert_array_equal(found.radius, np.abs(START - MINIMISER))


def test_progress_wraps_the_steps():
    seen = []
    laws(steps=3, progress=lambda steps: (seen.append(step) or step for step in steps))
    assert seen == [0, 1, 2, 3]
