import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracle import locate, prob_away
from scipy import optimize, stats

from srlib import (
    DenseQuadratic,
    DiagonalQuadratic,
    Format,
    Huber,
    LogisticLoss,
    LogisticRegression,
    Philox,
    gradient_descent,
    round_to,
)
from srlib.descent import bounds as bounds_module
from srlib.descent.bounds import certify, least_ratio, total_error
from srlib.descent.rates import Rates
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


KNOWN = {"lipschitz": 1.0, "minimiser": QUADRATIC.minimiser}
DENSE = DenseQuadratic(np.diag(QUADRATIC.curvatures), QUADRATIC.minimiser)


def certified(schemes=BIASED, *, problem=QUADRATIC, x0=None, **changes):
    options = {"fmt": "binary8", "stepsize": 0.25, "steps": 25} | KNOWN | schemes
    x0 = QUADRATIC.minimiser + 8 if x0 is None else x0
    return certify(problem, x0, **(options | changes))


def estimated(schemes=BIASED, *, replicates=50, seed=4, **changes):
    return certified(schemes, rng=Philox(seed, replicates), **changes)


def test_certified_are_laws_of_components_and_runs_without_random_words():
    law = certified()
    assert law.certified and law.confidence == 1 and law.gap.shape == (26, 1) and law.components.shape == (26,)
    nearest = certified(NEAREST, problem=DENSE)
    assert nearest.certified and nearest.components is None
    assert not estimated().certified and estimated().gap.shape == (26, 50)


def test_a_run_without_random_words_has_the_bound_of_its_law():
    path, law = certified(NEAREST, problem=DENSE), certified(NEAREST)
    for name in ("bound", "within", "radius", "farthest"):
        np.testing.assert_allclose(getattr(path, name), getattr(law, name), rtol=1e-9)


class Square:
    """(x − 1)²/2, whose points have one component and whose terms it does not say."""

    shape = (1,)

    def f(self, x):
        return (x[..., 0] - 1) ** 2 / 2

    def gradient(self, x):
        return x - 1


def test_a_function_of_one_component_is_its_own_term():
    options = {"problem": Square(), "x0": np.full(1, 7.0), "minimiser": np.ones(1)}
    plain = certified(**options)
    full = certified(**options | {"problem": DiagonalQuadratic(np.ones(1), np.ones(1))})
    assert plain.certified
    for name in ("bound", "within", "components", "gap"):
        np.testing.assert_array_equal(getattr(plain, name), getattr(full, name))
    np.testing.assert_allclose(plain.bound, plain.components, rtol=1e-12)


@pytest.mark.parametrize("schemes", [NEAREST, UNBIASED, BIASED], ids=["RN", "SR", "signed"])
@pytest.mark.parametrize("matrix", [False, True], ids=["L", "M"])
@pytest.mark.parametrize("stepsize", [0.0625, 1.0, 1.9])
def test_the_objective_is_below_each_certified_bound(schemes, matrix, stepsize):
    found = certified(schemes, stepsize=stepsize, smoothness=QUADRATIC.curvatures if matrix else None)
    gap = found.gap[:, 0] * (1 - 1e-12)
    assert np.all(gap <= found.bound) and np.all(gap <= found.components)
    assert found.farthest > found.radius or np.all(gap <= found.within)


@pytest.mark.parametrize("schemes", [UNBIASED, BIASED], ids=["SR", "signed"])
@pytest.mark.parametrize("matrix", [False, True], ids=["L", "M"])
def test_an_estimated_bound_is_above_the_certified_one_and_near_to_it(schemes, matrix):
    """A limit of 1000 is wrong with probability below 0.05 in the long run; the words are fixed."""
    smoothness = QUADRATIC.curvatures if matrix else None
    law = certified(schemes, smoothness=smoothness)
    for replicates, within in ((20, 1.6), (500, 1.06)):
        found = estimated(schemes, smoothness=smoothness, replicates=replicates)
        for name in ("bound", "within", "farthest"):
            ratio = getattr(found, name) / getattr(law, name)
            assert np.all(ratio >= 1 - 1e-9) and np.all(ratio <= within), (name, replicates)
        np.testing.assert_allclose(found.gap.mean(axis=1), law.gap[:, 0], rtol=10 / replicates**0.5)


def test_an_estimated_bound_is_too_small_as_rarely_as_it_says():
    """400 ensembles, a fifth of them at most: 130 failures or more have probability below 1e-8."""
    law = certified(UNBIASED, steps=4, x0=np.full(30, 1.0))
    below = sum(
        np.any(estimated(UNBIASED, steps=4, x0=np.full(30, 1.0), replicates=8, seed=s, confidence=0.8).bound
               < law.bound * (1 - 1e-9))
        for s in range(400)
    )  # fmt: skip
    assert below < 130


def moments(seed, lipschitz, replicates=12, steps=6, **signs):
    """Moments of an ensemble that never was, with every sign that θ, w and s can have."""
    rng = np.random.default_rng(seed)
    parts = {name: rng.uniform(0.2, 1.0, (steps, replicates)) for name in ("grad_sq", "grad_dot_distance", "noise")}
    parts |= {name: 0.4 * rng.standard_normal((steps, replicates)) for name in ("grad_dot_error", "error_dot_distance")}
    parts |= {name: sign(parts[name]) for name, sign in signs.items()}
    parts["noise"] += parts["grad_dot_error"] ** 2 / parts["grad_sq"]  # as Cauchy and Schwarz have it
    gap, distance = rng.uniform(0.5, 2.0, (2, steps + 1, replicates))
    return Rates(lipschitz, 0.5, **parts), gap, distance


ENSEMBLES = {
    "forward and with little noise": {name: lambda x: -abs(x) / 4 for name in ("error_dot_distance", "grad_dot_error")}
    | {"noise": lambda x: x / 50},
    "against the distance": {"error_dot_distance": lambda x: 1 + abs(x)},
    "all noise": {"noise": lambda x: 9 * x},
    "of every sign": {"error_dot_distance": lambda x: 3 * x},
}


@pytest.mark.parametrize("signs", ENSEMBLES.values(), ids=ENSEMBLES)
@pytest.mark.parametrize("lipschitz", [0.25, 1.0, 4.0])
def test_each_limit_of_an_estimated_bound_is_that_by_hand(signs, lipschitz):
    """Each mean has Student's t limit, each ratio Fieller's, eight a step: one number at a time."""
    each, gap, distance = moments(1, lipschitz, **signs)
    steps, count = each.grad_sq.shape
    t, spread = 0.5, stats.t.ppf(1 - 0.05 / (8 * steps), count - 1) / math.sqrt(count)

    def upper(values):
        return np.mean(values) + spread * np.std(values, ddof=1)

    def least(part, whole):
        return float(least_ratio(part[None], whole[None], spread)[0])

    top, total, kept, within = np.mean(distance[0]) / 2, 0.0, 0.0, [np.mean(gap[0])]
    bounds = [top / (0.5 / lipschitz + math.sqrt(0.25) / lipschitz)]
    for k in range(steps):
        square, inner = each.grad_sq[k], each.grad_dot_distance[k]
        forward = t * inner - each.error_dot_distance[k]
        alpha = max(0.0, least(forward, inner))
        top += 0.0 if alpha else max(0.0, upper(-forward))
        total += alpha
        moved = t**2 * square - 2 * t * each.grad_dot_error[k] + each.noise[k]
        descent = 2 * (t * square - each.grad_dot_error[k]) - lipschitz * moved
        change = (total * descent + alpha * square / lipschitz - moved) / 2
        w = least(change, square)
        top += 0.0 if w > 0 else max(0.0, upper(-change))
        tau = t - each.grad_dot_error[k].mean() / square.mean()
        about = each.noise[k] + 2 * (tau - t) * each.grad_dot_error[k] + (tau - t) ** 2 * square
        growing = 1e-6 * t < tau < 2 / lipschitz
        omega = max(0.0, -least(-about, square)) * lipschitz / (tau * (2 - lipschitz * tau)) if growing else math.inf
        kept = (kept + max(0.0, w)) / (1 + omega)
        bounds.append(top / (total + 0.5 / lipschitz + math.sqrt(2 * kept + 0.25 / lipschitz**2)))
        s = least(descent, square)
        fallen = within[-1] / (1 + within[-1] * s / (2 * np.mean(distance[0])))
        within.append(fallen if s > 0 else within[-1] + max(0.0, upper(-descent / 2)))
    found = bounds_module._estimate(each, gap, distance, 0.95, "D5")
    np.testing.assert_allclose(found.bound, bounds, rtol=1e-9)
    np.testing.assert_allclose(found.within, within, rtol=1e-9)
    assert found.farthest == pytest.approx(math.sqrt(max(map(upper, distance))), rel=1e-12)
    assert found.radius == pytest.approx(math.sqrt(np.mean(distance[0])), rel=1e-12)


@pytest.mark.parametrize("signs", ENSEMBLES.values(), ids=ENSEMBLES)
@pytest.mark.parametrize("lipschitz", [0.25, 1.0, 4.0])
def test_of_equal_replicates_the_estimate_is_the_bound(signs, lipschitz):
    one, gap, distance = moments(2, lipschitz, replicates=1, **signs)
    many = one.across(lambda values, axis: np.repeat(values, 9, axis=1))
    found = bounds_module._estimate(many, np.repeat(gap, 9, axis=1), np.repeat(distance, 9, axis=1), 0.95, "D5")
    mean, radius = one.across(np.mean), math.sqrt(distance[0, 0])
    np.testing.assert_allclose(found.bound, mean.bound(radius), rtol=1e-6)
    np.testing.assert_allclose(found.within, mean.bound_within(radius, gap[0, 0]), rtol=1e-6)


def test_the_radius_is_that_of_the_start_and_farthest_that_of_the_run():
    problem, minimiser = DiagonalQuadratic(np.ones(1), np.array([1.1])), np.array([1.1])
    options = {"problem": problem, "x0": np.ones(1), "minimiser": minimiser, "stepsize": 0.5, "steps": 9}
    for rng in (None, Philox(1, 300)):
        found = certified(UNBIASED, rng=rng, **options)
        assert found.radius == pytest.approx(0.1) and found.farthest > 0.11
        assert found.bound[0] == pytest.approx(0.01 / 2)


@pytest.mark.parametrize("factor", [1.01, 0.99, 1.002])
def test_a_gradient_that_is_nearly_that_of_f_is_refused(factor):
    class Scaled(Square):
        def gradient(self, x):
            return factor * super().gradient(x)

    with pytest.raises(ValueError, match=r"^gradient is not that of f"):
        certified(problem=Scaled(), x0=np.full(1, 3.0), minimiser=np.ones(1))


@pytest.mark.parametrize("factor", [1.0, 1.0005])
def test_a_gradient_with_errors_of_its_own_is_accepted(factor):
    class Scaled(Square):
        def gradient(self, x):
            return factor * super().gradient(x)

    assert certified(problem=Scaled(), x0=np.full(1, 3.0), minimiser=np.ones(1), lipschitz=1.01).certified


def test_more_confidence_gives_a_larger_bound():
    loose, strict = (estimated(confidence=c) for c in (0.5, 0.999))
    assert np.all(loose.bound[2:] < strict.bound[2:]) and loose.confidence == 0.5


def test_with_the_matrix_of_a_quadratic_the_descent_is_an_equality():
    """SPEC D8: E f falls by exactly half of sG, whether M is diagonal or not, by law and from state to state."""
    law = certified(smoothness=QUADRATIC.curvatures)
    np.testing.assert_allclose(law.gap[:-1, 0] - law.rates.descent / 2, law.gap[1:, 0], rtol=1e-7)
    basis = np.linalg.qr(np.random.default_rng(5).standard_normal((30, 30)))[0]
    matrix = basis @ np.diag(QUADRATIC.curvatures) @ basis.T
    matrix = (matrix + matrix.T) / 2
    problem = DenseQuadratic(matrix, QUADRATIC.minimiser)
    path = certified(NEAREST, problem=problem, smoothness=matrix, x0=np.zeros(30))
    np.testing.assert_allclose(path.gap[:-1, 0] - path.rates.descent / 2, path.gap[1:, 0], rtol=1e-7)
    many = certified(problem=problem, smoothness=matrix, steps=1, x0=np.zeros(30), rng=Philox(3, 20_000))
    fallen = many.gap[0] - many.gap[1]
    error = fallen.std(ddof=1) / math.sqrt(20_000)  # beyond 5.5 of them with probability below 4e-8
    assert abs(fallen.mean() - many.rates.descent[0] / 2) < 5.5 * error
    plain = certified(problem=problem, steps=1, x0=np.zeros(30), rng=Philox(3, 2))
    assert fallen.mean() - plain.rates.descent[0] / 2 > 20 * error


def test_a_matrix_makes_no_bound_larger():
    for make in (certified, estimated):
        plain, sharp = make(), make(smoothness=QUADRATIC.curvatures)
        assert np.all(sharp.bound <= plain.bound * (1 + 1e-9)) and sharp.bound[-1] < 0.99 * plain.bound[-1]


@given(
    parts=st.lists(st.tuples(st.floats(-3, 3), st.floats(0.1, 3)), min_size=3, max_size=8),
    spread=st.floats(0.1, 3),
)
def test_the_limit_of_a_ratio_is_where_its_test_is_just_passed(parts, spread):
    part, whole = np.array(parts).T
    (found,) = least_ratio(part[None], whole[None], spread)

    def margin(ratio):
        rest = part - ratio * whole
        return rest.mean() - spread * rest.std(ddof=1)

    if whole.mean() <= spread * whole.std(ddof=1) * (1 + 1e-6):
        assert found < -1e3  # any ratio, however low, is possible
    else:
        scale = 1e-7 * (1 + abs(found)) * (1 + spread)
        assert abs(margin(found)) <= scale * 10
        for less in (1.0, 30.0):
            assert margin(found - less) >= -scale * (1 + less)


def test_a_ratio_of_nothing_is_0_and_one_without_spread_is_that_of_the_means():
    same = np.full((1, 5), 3.0)
    assert least_ratio(0 * same, 0 * same, 9.0) == 0 and least_ratio(same, 2 * same, 9.0) == 0.5
    assert least_ratio(-same, 0 * same, 9.0) == -np.inf


def test_at_the_minimiser_nothing_is_lost():
    start = np.array([1.0, 1.5])
    problem = DiagonalQuadratic(np.ones(2), start)
    for rng in (None, Philox(1, 3)):
        found = certified(UNBIASED, problem=problem, x0=start, minimiser=start, rng=rng)
        assert np.all(found.gap == 0) and np.all(found.bound == 0)


def test_the_gap_is_measured_from_the_objective_of_the_minimiser():
    class Raised(Square):
        def f(self, x):
            return super().f(x) + 7

    found = certified(NEAREST, problem=Raised(), x0=np.full(1, 3.0), minimiser=np.ones(1), stepsize=0.5, steps=2)
    np.testing.assert_array_equal(found.gap, [[2], [0.5], [0.125]])


@pytest.mark.parametrize("make", [certified, estimated])
def test_results_do_not_depend_on_the_way_the_replicates_are_counted(make):
    first, again = make(), make()
    for name in ("gap", "bound", "within", "farthest"):
        np.testing.assert_array_equal(getattr(first, name), getattr(again, name))


def ridge(n=20):
    """A logistic loss with a quadratic, L just above its largest curvature, and where it is least."""
    rng = np.random.default_rng(3)
    features = rng.standard_normal((60, n))
    loss = LogisticLoss(features, (rng.random(60) < 0.5) * 1.0)

    class Ridge:
        shape = (n,)

        def f(self, x):
            return loss.f(x) + np.sum(x * x, axis=-1) / 20

        def gradient(self, x):
            return loss.gradient(x) + x / 10

    problem = Ridge()
    found = optimize.minimize(problem.f, np.zeros(n), jac=problem.gradient, method="BFGS", options={"gtol": 1e-12})
    return problem, {"lipschitz": 0.1 + np.linalg.norm(features, 2) ** 2 / 240, "minimiser": found.x}


def test_a_function_of_the_readers_has_an_estimated_bound():
    problem, known = ridge()
    found = certified(problem=problem, x0=np.zeros(20), rng=Philox(1, 20), fmt="bfloat16", **known)
    assert not found.certified and np.all(found.gap.mean(axis=1) <= found.bound)
    assert found.bound[-1] < found.gap[0, 0]


class Bent(Square):
    """Not convex: x²/2 up to 1, and downhill beyond 2."""

    def f(self, x):
        return np.sin(x[..., 0])

    def gradient(self, x):
        return np.cos(x)


class Doubled(Square):
    def gradient(self, x):
        return 2 * super().gradient(x)


class Turned(Square):
    """The gradient of another function of two components."""

    shape = (2,)

    def f(self, x):
        return np.sum(x * x, axis=-1) / 2

    def gradient(self, x):
        return x + np.array([0.0, 0.25])


ONE = {"problem": Square(), "x0": np.full(1, 3.0), "minimiser": np.ones(1)}


@pytest.mark.parametrize("rng", [None, Philox(1, 4)], ids=["law", "ensemble"])
@pytest.mark.parametrize(
    ("false", "message"),
    [
        ({"minimiser": np.full(1, 8.0)}, r"^f\(x̂\) − f\* is -22.5; must be at least 0, or x\* is no minimiser"),
        ({"lipschitz": 0.2}, r"^⟨g, x̂ − x\*⟩ is 4; must be at least .*, 12, or L = 0.2 is too small"),
        ({"problem": Bent(), "x0": np.full(1, 2.0), "minimiser": np.full(1, -math.pi / 2)}, "f is not convex"),
        ({"problem": Doubled()}, r"^gradient is not that of f: f falls by 0.0007999 from x0 along it; must by 0.0016"),
        ({"problem": Turned(), "x0": np.ones(2), "minimiser": np.zeros(2)}, "^gradient is not that of f"),
        ({"stepsize": 0.0}, r"^stepsize is 0\.0; must be finite and positive"),
        ({"steps": 0}, "^steps is 0; must be at least 1"),
        ({"confidence": 1.0}, r"^confidence is 1.0; must be above 0 and below 1"),
        ({"lipschitz": 0.0}, r"^lipschitz is 0\.0; must be finite and positive"),
    ],
    ids=["minimiser", "L too small", "not convex", "doubled", "turned", "t", "steps", "confidence", "L"],
)
def test_impossible_input_is_refused_with_its_numbers(rng, false, message):
    with pytest.raises(ValueError, match=message):
        certified(rng=rng, **(ONE | false))


def test_a_lipschitz_constant_that_is_too_small_is_refused_on_a_ridge():
    problem, known = ridge()
    with pytest.raises(ValueError, match=r"or L = 0\.2 is too small or x\*"):
        certified(problem=problem, x0=np.zeros(20), rng=Philox(1, 5), **(known | {"lipschitz": 0.2}))


def test_what_has_no_bound_is_refused():
    images, labels = np.zeros((2, 3), np.uint8), np.array([0, 1], np.uint8)
    classifier = LogisticRegression(images, labels, images, labels)
    with pytest.raises(ValueError, match=r"^problem rounds every operation of its gradient"):
        certify(classifier, np.zeros((2, 3)), lipschitz=1.0, minimiser=0, stepsize=0.1, steps=1, fmt="binary8")
    with pytest.raises(
        ValueError, match=r"^rng is None; must be a Philox with replicates, as the problem has no terms"
    ):
        certified(problem=DENSE)
    with pytest.raises(ValueError, match=r"^rng has 1 replicate; must have at least 2"):
        estimated(replicates=None)
    with pytest.raises(ValueError, match=r"^smoothness has shape \(30, 30\); must be a diagonal"):
        certified(smoothness=np.eye(30))


@pytest.mark.parametrize("make", [certified, estimated])
def test_progress_wraps_the_steps(make):
    seen = []
    make(steps=3, progress=lambda steps: (seen.append(step) or step for step in steps))
    assert len(seen) in (3, 4)


def test_the_worst_function_of_exact_descent_uses_a_large_share_of_the_bound():
    """Huber's, on which exact descent ends at LR²/(4LtK + 2), and so does SR in binary16."""
    steps, stepsize, radius = 100, 0.25, 8.0
    worst = Huber(1.0, radius / (2 * stepsize * steps + 1))
    options = {"x0": np.array([radius]), "minimiser": np.zeros(1), "stepsize": stepsize, "steps": steps}
    found = certified(UNBIASED, problem=worst, fmt="binary16", **options)
    assert found.gap[-1, 0] == pytest.approx(radius**2 / (4 * stepsize * steps + 2), rel=0.05)
    assert 0.85 < found.gap[-1, 0] / found.bound[-1] <= 1


def test_products_with_a_matrix_are_summed_in_index_order():
    """Where it nearly maps the gradient to 0, the rest depends on the order and on fused operations."""
    g = np.array([1.0, 3.0, -5.0, 7.0, 2.0, -6.0, 9.0, 4.0])
    matrix = 1e12 / 7 * (np.eye(8) - np.outer(g, g) / (g @ g))

    class Line:
        shape = g.shape

        def f(self, x):
            return np.where(np.any(x != 0, axis=-1), (x * g).sum(axis=-1), 0.0)

        def gradient(self, x):
            return np.broadcast_to(g, x.shape)

    curved = [0.0] * 8
    for i in range(8):
        for k in range(8):
            curved[i] += float(-0.5 * g[k]) * float(matrix[k, i])
    rest = sum(Fraction(-a / 2) * Fraction(b) for a, b in zip(g.tolist(), curved, strict=True))
    found = certify(
        Line(),
        np.zeros(8),
        minimiser=-1e6 * g,
        lipschitz=1.0,
        smoothness=matrix,
        stepsize=0.5,
        steps=1,
        fmt="binary64",
        **NEAREST,
    )
    assert abs(rest) > 1e-6 and found.rates.curved[0] == pytest.approx(float(rest), rel=1e-9)
