import dataclasses
import statistics
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracle import locate, prob_away
from scipy import stats

from srlib import (
    DenseQuadratic,
    DiagonalQuadratic,
    Format,
    LogisticRegression,
    Philox,
    gradient_descent,
    iterates,
    round_to,
)
from srlib.descent.bounds import Certificate, certify, convergence_bound, total_error
from srlib.rounding import outcomes

BIASED = {"gradient": "SR_eps(0.25)", "multiply": "SR", "update": "signed_SR_eps(0.25)"}
UNBIASED = {"gradient": "SR", "multiply": "SR", "update": "SR"}
NEAREST = {"gradient": "RN", "multiply": "RN", "update": "RN"}
D3 = [
    {"gradient": first, "multiply": first, "update": last}
    for first in ("SR", "SR_eps(0.1)", "SR_eps(0.6)")
    for last in ("SR", "signed_SR_eps(0.1)", "signed_SR_eps(0.6)")
]
QUADRATIC = DiagonalQuadratic(np.geomspace(1, 1e-2, 30), np.linspace(1, 2, 30))


def exact_outcomes(y, fmt, scheme, v=0.0):
    below, above, theta, odd = locate(abs(y), fmt)
    away = Fraction(0) if theta == 0 else Fraction(prob_away(scheme, theta, odd, y, v, np.float64))
    return [(float(np.copysign(below, y)), 1 - away), (float(np.copysign(above, y)), away)]


def exact_total_error(x, g, stepsize, fmt, gradient, multiply, update):
    mean = second = Fraction(0)
    for g_hat, p1 in exact_outcomes(g, fmt, gradient):
        for u_hat, p2 in exact_outcomes(stepsize * g_hat, fmt, multiply):
            for moved, p3 in exact_outcomes(x - u_hat, fmt, update, u_hat):
                error = Fraction(moved) - Fraction(x) + Fraction(stepsize) * Fraction(g)
                mean += p1 * p2 * p3 * error
                second += p1 * p2 * p3 * error**2
    return float(mean), float(second - mean**2)


numbers = st.floats(-100, 100, allow_subnormal=False)


@pytest.mark.parametrize("schemes", D3, ids=str)
@given(x=numbers, g=numbers, stepsize=st.sampled_from([2.0**-5, 0.1, 0.75]))
def test_mean_and_variance_of_a_step_are_those_of_exact_rationals(schemes, x, g, stepsize):
    fmt = Format.parse("binary8")
    x = float(round_to(x, fmt))
    mean, variance = total_error(np.array([x]), np.array([g]), stepsize=stepsize, fmt=fmt, **schemes)
    expected, expected_variance = exact_total_error(x, g, stepsize, fmt, *schemes.values())
    scale = abs(x) + abs(g) + fmt.smallest_subnormal
    assert mean[0] == pytest.approx(expected, abs=1e-14 * scale)
    assert variance[0] == pytest.approx(expected_variance, rel=1e-9, abs=1e-14 * scale**2)


@pytest.mark.parametrize("schemes", D3, ids=str)
@pytest.mark.parametrize("fmt", ["binary8", "e4m3", "bfloat16", "fixed(8,4)"])
@given(x=numbers, g=numbers, stepsize=st.sampled_from([2.0**-9, 0.1, 0.75]))
def test_the_expected_error_is_a_descent_direction_or_zero(fmt, schemes, x, g, stepsize):
    """SPEC D3, component by component: underflow and clipping included."""
    fmt = Format.parse(fmt)
    x = round_to(np.array([x]), fmt)
    mean, _ = total_error(x, np.array([g]), stepsize=stepsize, fmt=fmt, **schemes)
    assert mean[0] * np.sign(g) <= 1e-14 * (abs(x[0]) + abs(g) + fmt.smallest_subnormal)


def test_an_unbiased_step_has_no_expected_error_and_a_nearest_one_no_variance():
    x = round_to(np.linspace(-3, 3, 101), "binary8")
    g = np.linspace(-1, 1, 101) ** 3
    mean, variance = total_error(x, g, stepsize=0.1, fmt="binary8", **UNBIASED)
    np.testing.assert_allclose(mean, 0, atol=1e-15)
    assert np.all(variance >= 0) and np.max(variance) > 0
    mean, variance = total_error(x, g, stepsize=0.1, fmt="binary8", **NEAREST)
    u_hat = round_to(0.1 * round_to(g, "binary8"), "binary8")
    np.testing.assert_allclose(mean, round_to(x - u_hat, "binary8") - x + 0.1 * g, atol=1e-15)
    np.testing.assert_array_equal(variance, 0)


def test_without_schemes_all_three_roundings_are_stochastic():
    x, g = np.array([1.0, -3.5]), np.array([0.3, 1.1])
    options = {"stepsize": 0.1, "fmt": "binary8"}
    np.testing.assert_array_equal(total_error(x, g, **options), total_error(x, g, **options, **UNBIASED))


def test_the_mean_of_many_steps_is_the_expected_one():
    """10^5 replicates of 30 components: beyond 5.5 standard errors anywhere with probability below 1.2e-6."""
    x0 = round_to(QUADRATIC.minimiser + np.linspace(-1, 1, 30), "binary8")
    options = {"stepsize": 0.3, "fmt": "binary8", **BIASED}
    mean, variance = total_error(x0, QUADRATIC.gradient(x0), **options)
    x = gradient_descent(QUADRATIC, x0, steps=1, rng=Philox(3, replicates=100_000), **options).x
    found = (x - x0 + 0.3 * QUADRATIC.gradient(x0)).mean(axis=0)
    assert np.all(np.abs(found - mean) <= 5.5 * np.sqrt(variance / 100_000) + 1e-12)


def test_outcomes_are_the_neighbours_with_their_probabilities():
    (low, p_low), (high, p_high) = outcomes(np.array([1.1, 1.25, -1.1]), "binary8", "SR")
    np.testing.assert_array_equal(low, [1.0, 1.25, -1.25])
    np.testing.assert_array_equal(high, [1.25, 1.25, -1.0])
    np.testing.assert_allclose(p_high, [0.4, 0, 0.6])
    np.testing.assert_allclose(p_low + p_high, 1)


def test_the_bound_is_that_of_the_formula():
    np.testing.assert_allclose(convergence_bound(2.0, 0.25, 3.0, np.ones(3)), 36 / (4 + 0.5 * np.arange(4)))


def test_the_bound_adds_up_the_constants_of_the_steps_before():
    found = convergence_bound(2.0, 0.25, 3.0, np.array([1.0, 2.0, 4.0]))
    np.testing.assert_allclose(found, 36 / (4 + 0.5 * np.array([0, 1, 3, 7])))


def by_hand(c, distance, radius=1.0, stepsize=0.5):
    """A certificate of two replicates; L = 1."""
    c, distance = np.array(c, dtype=float), np.array(distance, dtype=float)
    return Certificate(1.0, stepsize, radius, c, c, c, distance, distance)


NEAR, GOOD = [[1, 1], [1, 1], [1, 1], [1, 1]], [[1, 1], [1, 1], [1, 1]]


@pytest.mark.parametrize(
    ("c", "distance", "stepsize", "end", "reason"),
    [
        (GOOD, NEAR, 0.5, 3, "the run ends"),
        (GOOD, NEAR, 1.0, 3, "the run ends"),
        (GOOD, NEAR, np.nextafter(1.0, 2), 0, "L·t = 1 is above 1"),
        (GOOD, [*NEAR[:3], [2, 2]], 0.5, 3, "the run ends"),  # no step starts there
        (GOOD, [*NEAR[:2], [1.1, 0], NEAR[3]], 0.5, 2, "‖x̂ − x*‖ > R"),
        (GOOD, [[0, 1.1], *NEAR[1:]], 0.5, 0, "‖x̂ − x*‖ > R"),
        ([[1, 1], [-0.1, 3], [1, 1]], NEAR, 0.5, 1, "c ≤ 0: rounding outweighs the step"),
        ([[1, 1], [1, 1], [3, 0]], NEAR, 0.5, 2, "c ≤ 0: rounding outweighs the step"),
        ([[1, 1], [-1, 1], [1, 1]], [*NEAR[:2], [2, 1], NEAR[3]], 0.5, 1, "c ≤ 0: rounding outweighs the step"),
        ([[1, 1], [1, 1], [-1, 1]], [NEAR[0], [2, 1], *NEAR[2:]], 0.5, 1, "‖x̂ − x*‖ > R"),
    ],
)
def test_the_hypotheses_are_checked_where_a_step_starts_in_every_replicate(c, distance, stepsize, end, reason):
    certificate = by_hand(c, distance, stepsize=stepsize)
    assert (certificate.certified, certificate.reason) == (end, reason)
    assert len(certificate.bound) == end + 1


def test_the_bound_has_the_worst_constant_of_each_step():
    certificate = by_hand([[1, 3], [4, 2], [3, 3]], NEAR)
    np.testing.assert_array_equal(certificate.worst, [1, 2, 3])
    np.testing.assert_allclose(certificate.bound, 2 / (4 + 0.5 * np.array([0, 1, 3, 6])))


def test_the_radius_is_the_largest_distance_at_the_start_and_a_run_may_leave_it():
    """From 1, at a distance of 0.1 from 1.1, SR goes to 1.25 as well, at 0.15: false with probability below 1e-9."""
    problem = DiagonalQuadratic(np.ones(1), np.array([1.1]))
    options = {"lipschitz": 1.0, "minimiser": np.array([1.1]), "stepsize": 0.25, "steps": 20, "fmt": "binary8"}
    found = certify(problem, np.ones(1), rng=Philox(1, 20), **options, **UNBIASED)
    assert found.radius == pytest.approx(0.1) and found.distance.max() == pytest.approx(0.15)
    away = np.flatnonzero(found.distance.max(axis=1) > 0.1000001)[0]
    found = dataclasses.replace(found, c=np.ones_like(found.c))
    assert (found.certified, found.reason) == (away, "‖x̂ − x*‖ > R")
    several = certify(problem, np.array([[1.0], [2.0], [0.5]]), rng=Philox(1, 3), **options, **UNBIASED)
    assert several.radius == pytest.approx(0.9)


def test_upper_limits_are_those_of_students_t():
    gap = np.array([[1.0, 2.0, 4.0], [0.5, 0.5, 2.0], [0.1, 0.0, 0.3]])
    found = dataclasses.replace(by_hand(GOOD, NEAR), gap=gap).upper_limit(0.9)
    quantile = stats.t.ppf(1 - 0.1 / 3, 2)
    expected = [statistics.mean(row) + quantile * statistics.stdev(row) / 3**0.5 for row in gap.tolist()]
    np.testing.assert_allclose(found, expected)


def certified(schemes=BIASED, fmt="bfloat16", stepsize=0.25, steps=40, problem=QUADRATIC, replicates=50, **changes):
    options = {"lipschitz": 1.0, "minimiser": QUADRATIC.minimiser, "rng": Philox(4, replicates=replicates)}
    x0 = QUADRATIC.minimiser + 8
    return certify(problem, x0, stepsize=stepsize, steps=steps, fmt=fmt, **(options | schemes | changes))


def holds(certificate):
    k = certificate.certified
    return k >= 1 and bool(np.all(certificate.upper_limit()[: k + 1] <= certificate.bound))


@pytest.mark.parametrize("schemes", [NEAREST, UNBIASED, BIASED])
@pytest.mark.parametrize("fmt", ["binary8", "bfloat16"])
def test_the_objective_is_below_the_bound_as_far_as_it_is_certified(fmt, schemes):
    assert holds(certified(schemes, fmt))


class Huber:
    """½x² near 0 and linear beyond: on it gradient descent is as slow as it can be (SPEC D7)."""

    shape = (1,)

    def __init__(self, slope):
        self.slope = slope

    def f(self, x):
        magnitude = np.abs(x[..., 0])
        return np.where(magnitude < self.slope, magnitude**2 / 2, self.slope * magnitude - self.slope**2 / 2)

    def gradient(self, x):
        return np.clip(x, -self.slope, self.slope)


def test_a_wrong_constant_breaks_the_bound():
    """On the worst function for k steps f(x_k) − f* is R²/(4tk + 2) in exact arithmetic, an eighth of the bound."""
    steps, stepsize, radius = 100, 0.5, 8.0
    worst = Huber(radius / (2 * stepsize * steps + 1))
    options = {"lipschitz": 1.0, "minimiser": np.zeros(1), "rng": Philox(6, replicates=400), "stepsize": stepsize}
    certificate = certify(worst, np.array([radius]), steps=steps, fmt="binary16", **options, **UNBIASED)
    assert certificate.certified == steps and holds(certificate)
    assert certificate.gap[-1].mean() == pytest.approx(radius**2 / (4 * stepsize * steps + 2), rel=0.05)
    assert not holds(dataclasses.replace(certificate, c=9 * certificate.c))


def test_the_inequality_of_the_step_is_sharp_so_that_a_constant_larger_by_a_thousandth_breaks_it():
    """E f(x⁺) = f − (t/2)·c·‖∇f‖² for f = ½‖x − x*‖² and t = 1, with E f(x⁺) from mean and variance."""
    sphere = DiagonalQuadratic(np.ones(30), QUADRATIC.minimiser)
    options = {"stepsize": 1.0, "fmt": "binary8", **BIASED}
    certificate = certified(stepsize=1.0, fmt="binary8", steps=4, problem=sphere)
    x, rng = np.tile(round_to(QUADRATIC.minimiser + 8, "binary8"), (50, 1)), Philox(4, replicates=50)
    for f, c, eta in zip(certificate.gap, certificate.c, certificate.eta, strict=False):
        g = sphere.gradient(x)
        mean, variance = total_error(x, g, **options)
        expected = sphere.f(x - g + mean) + variance.sum(axis=1) / 2
        square = (g * g).sum(axis=1)
        np.testing.assert_allclose(expected, f - c * square / 2, rtol=1e-7)
        assert np.all(expected > f - (c + eta / 1000) * square / 2)
        x = gradient_descent(sphere, x, steps=1, rng=rng, **options).x


def test_the_constants_are_those_of_their_definitions():
    certificate = certified(steps=1, replicates=2)
    x = round_to(QUADRATIC.minimiser + 8, "bfloat16")
    g = QUADRATIC.gradient(x)
    mean, variance = total_error(x, g, stepsize=0.25, fmt="bfloat16", **BIASED)
    beta, eta = -(g @ mean) / (0.25 * g @ g), np.sum(mean**2 + variance) / (0.25 * g @ g)
    np.testing.assert_allclose(certificate.beta, [[beta, beta]], rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(certificate.eta, [[eta, eta]], rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(certificate.c, [[1 - eta + 1.5 * beta] * 2], rtol=1e-9, atol=1e-12)
    assert certificate.radius == pytest.approx(np.linalg.norm(x - QUADRATIC.minimiser))


def test_it_says_where_the_bound_ends_and_why():
    assert certified(steps=3).reason == "the run ends" and certified(steps=3).certified == 3
    nearest = certified(NEAREST, "binary8", stepsize=0.1, steps=60)
    assert nearest.certified < 60 and nearest.reason.startswith("c ≤ 0")
    assert nearest.worst[nearest.certified] <= 0 and np.all(nearest.worst[: nearest.certified] > 0)
    long = certified(stepsize=1.5)
    assert long.certified == 0 and long.reason == "L·t = 1.5 is above 1" and len(long.bound) == 1
    far = dataclasses.replace(certified(), radius=0.5)
    assert far.certified == 0 and far.reason == "‖x̂ − x*‖ > R"


def test_upper_limits_are_above_the_mean_and_hold_together():
    """Normal samples: 1000 runs of 20 steps, at most 5% with a limit below the mean 0; 92 or more has p < 1e-6."""
    samples = np.random.default_rng(5).standard_normal((1000, 20, 8))
    certificate = certified(steps=1, replicates=2)
    limits = [dataclasses.replace(certificate, gap=sample).upper_limit() for sample in samples]
    assert sum(np.any(limit < 0) for limit in limits) < 92
    single = dataclasses.replace(certificate, gap=samples[0, :, :1])
    np.testing.assert_array_equal(single.upper_limit(), samples[0, :, 0])


def test_what_has_no_certificate_is_refused():
    images, labels = np.zeros((2, 3), np.uint8), np.array([0, 1], np.uint8)
    classifier = LogisticRegression(images, labels, images, labels)
    with pytest.raises(ValueError, match=r"^problem rounds every operation of its gradient"):
        certify(classifier, np.zeros((2, 3)), lipschitz=1.0, minimiser=0, stepsize=0.1, steps=1, fmt="binary8")
    with pytest.raises(ValueError, match=r"lipschitz is 0\.0; must be finite and positive"):
        certified(lipschitz=0.0)
    with pytest.raises(ValueError, match="steps is 0; must be at least 1"):
        certified(steps=0)
    with pytest.raises(ValueError, match=r"^stepsize is 0\.0; must be finite and positive"):
        certified(stepsize=0.0)


def test_progress_wraps_the_steps_of_a_certificate():
    seen = []
    certified(steps=3, replicates=1, progress=lambda steps: (seen.append(step) or step for step in steps))
    assert seen == [1, 2, 3]


@pytest.mark.parametrize("smoothness", [None, QUADRATIC.curvatures, np.diag(QUADRATIC.curvatures)], ids=np.ndim)
def test_a_run_without_replicates_has_the_constants_of_one_replicate(smoothness):
    plain, single = (certified(replicates=count, smoothness=smoothness, steps=9) for count in (None, 1))
    for field in ("beta", "eta", "c", "distance", "gap", "radius", "bound"):
        np.testing.assert_array_equal(getattr(plain, field), getattr(single, field))
    assert plain.c.shape == (9, 1) and plain.gap.shape == (10, 1)


def test_constants_have_twelve_decimals_and_no_negative_zero():
    random = certified()
    for values in (random.beta, random.eta, random.c):
        np.testing.assert_array_equal(values, np.round(values, 12))
    line, options = Line(np.array([2.0, 4.0])), {"lipschitz": 1.0, "minimiser": np.zeros(2), "stepsize": 0.5}
    exact = certify(line, np.zeros(2), steps=1, fmt="binary64", **options, **NEAREST)
    assert exact.beta == 0 and not np.signbit(exact.beta)


@pytest.mark.parametrize("dense", [False, True])
def test_with_the_matrix_of_a_quadratic_the_inequality_of_the_step_is_an_equality(dense):
    """SPEC D8, at each state of an ensemble, where E f after a step is enumerated component by component."""
    rng = np.random.default_rng(5)
    curvatures, minimiser = np.geomspace(1, 1e-2, 30), np.linspace(1, 2, 30)
    problem, matrix = QUADRATIC, curvatures
    if dense:
        basis = np.linalg.qr(rng.standard_normal((30, 30)))[0]
        matrix = basis @ np.diag(curvatures) @ basis.T
        matrix = (matrix + matrix.T) / 2
        problem = DenseQuadratic(matrix, minimiser)
    options = {"stepsize": 0.5, "fmt": "binary8", **BIASED}
    found = certify(
        problem, np.zeros(30), lipschitz=1.0, minimiser=minimiser, steps=6, smoothness=matrix,
        rng=Philox(3, 4), **options,
    )  # fmt: skip
    walk = iterates(problem, np.zeros(30), steps=6, rng=Philox(3, 4), **options)
    for k, x in zip(range(6), walk, strict=False):
        g = problem.gradient(x)
        mean, variance = total_error(x, g, **options)
        moved = x - 0.5 * g + mean
        diagonal = np.diag(matrix) if dense else curvatures
        expected = problem.f(moved) + 0.5 * (diagonal * variance).sum(axis=-1)
        np.testing.assert_allclose(expected, problem.f(x) - 0.25 * found.c[k] * (g * g).sum(axis=-1), rtol=1e-9)


def test_with_equal_curvatures_the_sharper_constant_is_the_scalar_one_and_what_that_gives_away():
    problem = DiagonalQuadratic(np.full(20, 0.5), np.linspace(1, 2, 20))
    options = {"lipschitz": 0.5, "minimiser": problem.minimiser, "stepsize": 0.75, "fmt": "bfloat16", "steps": 5}
    scalar = certify(problem, np.zeros(20), rng=Philox(1, 3), **options, **BIASED)
    sharper = certify(problem, np.zeros(20), smoothness=np.full(20, 0.5), rng=Philox(1, 3), **options, **BIASED)
    np.testing.assert_allclose(sharper.c, scalar.c + 1 - 0.5 * 0.75, rtol=1e-9)


class Line:
    """x·g + 7, with the same gradient everywhere."""

    def __init__(self, g):
        self.g, self.shape = g, g.shape

    def f(self, x):
        return (x * self.g).sum(axis=-1) + 7

    def gradient(self, x):
        return np.broadcast_to(self.g, x.shape)


def test_products_with_a_matrix_are_summed_in_index_order():
    """Where it nearly maps the gradient to 0, the rest depends on the order and on fused operations."""
    g = np.array([1.0, 3.0, -5.0, 7.0, 2.0, -6.0, 9.0, 4.0])
    matrix = 1e12 / 7 * (np.eye(8) - np.outer(g, g) / (g @ g))
    curved = [0.0] * 8
    for i in range(8):
        for k in range(8):
            curved[i] += float(g[k]) * float(matrix[k, i])
    rest = sum(Fraction(a) * Fraction(b) for a, b in zip(g.tolist(), curved, strict=True))
    options = {"lipschitz": 1.0, "minimiser": np.zeros(8), "stepsize": 0.5, "fmt": "binary64", "steps": 1, **NEAREST}
    found = certify(Line(g), np.zeros(8), smoothness=matrix, **options)
    assert abs(rest) > 1e-6
    assert found.c[0, 0] == pytest.approx(float(2 - Fraction(1, 2) * rest / Fraction(g @ g)), rel=1e-9)


def test_the_gap_is_measured_from_the_objective_of_the_minimiser():
    found = certify(Line(np.ones(2)), np.array([3.0, 4.0]), lipschitz=1.0, minimiser=np.ones(2), stepsize=0.5, steps=2,
                    fmt="binary64", **NEAREST)  # fmt: skip
    np.testing.assert_array_equal(found.gap, [[5], [4], [3]])


def test_at_the_minimiser_the_constants_are_no_numbers_and_nothing_is_certified():
    start = np.array([1.0, 1.5])
    problem = DiagonalQuadratic(np.ones(2), start)
    found = certify(problem, start, lipschitz=1.0, minimiser=start, stepsize=0.5, steps=2, fmt="binary8", **NEAREST)
    assert np.all(np.isnan(found.c)) and np.all(found.gap == 0)
    assert found.certified == 0


def test_the_sharper_constant_certifies_longer_where_curvatures_differ():
    options = {"lipschitz": 1.0, "minimiser": QUADRATIC.minimiser, "stepsize": 0.5, "fmt": "binary8", "steps": 60}
    scalar = certify(QUADRATIC, np.zeros(30), rng=Philox(2, 20), **options, **UNBIASED)
    sharper = certify(
        QUADRATIC, np.zeros(30), smoothness=QUADRATIC.curvatures, rng=Philox(2, 20), **options, **UNBIASED
    )
    assert sharper.certified > scalar.certified
    assert np.all(sharper.upper_limit()[: sharper.certified + 1] <= sharper.bound)
