"""The two stepsizes and the noise of roundings, and the bounds that follow, against enumerations and the exact law."""

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from srlib import Format, exact_law
from srlib.descent.bounds import total_error
from srlib.descent.rates import Rates, check_hypotheses

SCHEMES = ["RN", "RZ", "SR", "SR_eps(0.3)", "signed_SR_eps(0.1)", "signed_SR_eps(0.6)"]
DIGITS = 1e-10
TINY = 1e-300  # where numbers have fewer digits


class Convex:
    """Quadratics and Huber's functions of several widths on either side of one minimiser."""

    def __init__(self, minimiser, left, right):
        self.minimiser, self.left, self.right = minimiser, left, right
        self.lipschitz = max(sum(curvature for curvature, _ in side) for side in (left, right))

    def _parts(self, x):
        away = np.asarray(x, dtype=np.float64) - self.minimiser
        for side, sign in ((self.left, -1), (self.right, 1)):
            for curvature, width in side:
                yield curvature, np.maximum(sign * away, 0.0), width, sign

    def f(self, x):
        inner = ((curvature, np.minimum(d, width), d) for curvature, d, width, _ in self._parts(x))
        return sum(curvature * near * (d - near / 2) for curvature, near, d in inner)

    def gradient(self, x):
        return sum(sign * curvature * np.minimum(d, width) for curvature, d, width, sign in self._parts(x))


QUADRATIC = Convex(1.1, [(1.0, 1e9)], [(1.0, 1e9)])
HUBER = Convex(1.1, [(1.0, 0.5)], [(1.0, 0.5)])
LOPSIDED = Convex(-0.3, [(0.2, 1e9)], [(0.5, 0.7), (0.5, 1e9)])


def law_of(problem, fmt="binary8", stepsize=0.25, update="signed_SR_eps(0.1)", **sites):
    return exact_law(problem, fmt, stepsize / problem.lipschitz, update=update, **sites)


def known(problem):
    return {"lipschitz": problem.lipschitz, "minimiser": problem.minimiser}


side = st.lists(st.tuples(st.floats(0.01, 1), st.floats(0.01, 50)), min_size=1, max_size=3)


@settings(max_examples=1000)
@given(
    problem=st.builds(Convex, st.floats(-3, 3), side, side),
    fmt=st.builds(Format, st.just("any"), st.integers(2, 5), st.integers(-6, -2), st.integers(3, 5)),
    stepsize=st.floats(0.01, 1.9),
    schemes=st.tuples(st.sampled_from(SCHEMES[:4]), st.sampled_from(SCHEMES[:4]), st.sampled_from(SCHEMES)),
    place=st.floats(0, 1),
)
def test_the_bound_is_never_below_the_law_for_any_convex_function_format_stepsize_and_scheme(
    problem, fmt, stepsize, schemes, place
):
    gradient, multiply, update = schemes
    law = law_of(problem, fmt, stepsize, update, gradient=gradient, multiply=multiply)
    finite = law.values[np.isfinite(law.values)]
    x0 = float(finite[int(place * (len(finite) - 1))])
    bound = law.bound(x0, 12, **known(problem))
    with np.errstate(all="ignore"):
        found = law.expected(problem.f, x0, 12)
    assert bound.shape == found.shape and not np.any(np.isnan(bound))
    assert np.all((found <= bound * (1 + DIGITS) + TINY) | np.isinf(bound))


@pytest.mark.parametrize("problem", [QUADRATIC, HUBER, LOPSIDED], ids=["quadratic", "huber", "lopsided"])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_moments_are_those_of_the_errors_along_the_law(problem, scheme):
    """Mean and variance of each state's error as the eight ways of its roundings give them."""
    law = law_of(problem, update=scheme)
    rates = law.rates(4.0, 20, **known(problem))
    finite = np.isfinite(law.values)
    x = law.values[finite]
    g, t = problem.gradient(x), law.stepsize
    with np.errstate(all="ignore"):
        mean, variance = total_error(x, g, stepsize=t, fmt="binary8", gradient="SR", multiply="SR", update=scheme)
    for k, p in zip(range(20), law.distributions(4.0, 20), strict=False):
        seen = p[finite] > 0
        p, away, slope, b = p[finite][seen], (x - problem.minimiser)[seen], g[seen], mean[seen]
        expected = {
            "grad_sq": p @ slope**2,
            "grad_dot_distance": p @ (slope * away),
            "grad_dot_error": p @ (slope * b),
            "error_dot_distance": p @ (b * away),
            "noise": p @ (b**2 + variance[seen]),
        }
        for name, value in expected.items():
            assert getattr(rates, name)[k] == pytest.approx(value, rel=1e-6, abs=1e-9), (
                name
            )  # 2^-32 in each probability


def slacks(problem, scheme="signed_SR_eps(0.1)", steps=25, *, x0=4.0, **wrong):
    """By how much each inequality of the proof holds in each step, with some of what it is made of replaced."""
    law = law_of(problem, update=scheme)
    rates = law.rates(x0, steps, **known(problem))
    lipschitz, laws = rates.lipschitz, list(law.distributions(x0, steps))
    x = law.values
    with np.errstate(all="ignore"):
        f, g = problem.f(x), problem.gradient(x)

    def mean(values, k):
        return laws[k][laws[k] > 0] @ values[laws[k] > 0]

    a = np.array([mean(f, k) for k in range(steps + 1)])
    far = np.array([mean((x - problem.minimiser) ** 2, k) for k in range(steps + 1)])
    squares = np.array([mean(g**2, k) for k in range(steps + 1)])
    tau, theta, rho, s = (wrong.get(name, getattr(rates, name)) for name in ("tau", "theta", "rho", "s"))
    square, inner = squares[:-1], rates.grad_dot_distance
    inside = (tau > 0) & (lipschitz * tau < 2)  # else nothing is said of the growth
    omega = wrong.get("omega", np.where(inside, lipschitz * rho / np.where(inside, 2 * tau - lipschitz * tau**2, 1), 0))
    return {
        "descent": a[:-1] - s * square / 2 - a[1:],
        "distance": far[:-1] - 2 * theta * inner + (tau**2 + rho) * square - far[1:],  # an equality
        "co-coercivity": inner - a[:-1] - wrong.get("share", 1 / (2 * lipschitz)) * square,
        "growth": np.where(inside, (1 + omega) * square - squares[1:], 0),
        "last": np.sqrt(far * squares) - squares / (2 * lipschitz) - a,
    }


@pytest.mark.parametrize("problem", [QUADRATIC, HUBER, LOPSIDED], ids=["quadratic", "huber", "lopsided"])
@pytest.mark.parametrize("scheme", ["SR", "SR_eps(0.3)", "signed_SR_eps(0.1)", "signed_SR_eps(0.6)"])
def test_each_inequality_of_the_proof_holds_in_each_step(problem, scheme):
    found = slacks(problem, scheme)
    for name, slack in found.items():
        assert np.all(slack >= -1e-7), name
    np.testing.assert_allclose(found["distance"], 0, atol=1e-7)


def test_for_quadratics_the_descent_is_an_equality_and_so_is_co_coercivity():
    found = slacks(QUADRATIC)
    for name in ("descent", "distance", "co-coercivity"):
        np.testing.assert_allclose(found[name], 0, atol=1e-7)


RATES = law_of(QUADRATIC).rates(4.0, 25, **known(QUADRATIC))
PLANTED = {
    "1 for 2 in s": ({"s": RATES.tau - RATES.tau**2 - RATES.rho}, "descent", "equality"),
    "s without the noise": ({"s": 2 * RATES.tau - RATES.tau**2}, "descent", "negative"),
    "L for 1/L in co-coercivity": ({"share": 1.0}, "co-coercivity", "negative"),
    "β with the other sign": ({"tau": 2 * RATES.stepsize - RATES.tau}, "distance", "equality"),
    "θ with the other sign": ({"theta": 2 * RATES.stepsize - RATES.theta}, "distance", "equality"),
    "the distance without the noise": ({"rho": np.zeros(25)}, "distance", "equality"),
    "ω without the noise": ({"omega": np.zeros(25), "x0": 1.0}, "growth", "negative"),
}


@pytest.mark.parametrize("fault", PLANTED)
def test_a_planted_fault_fails_in_its_inequality_and_in_no_other(fault):
    wrong, where, how = PLANTED[fault]
    found = slacks(QUADRATIC, **wrong)
    failing = {name for name, slack in found.items() if np.any(slack < -1e-6)}
    unequal = {name for name in ("descent", "distance", "co-coercivity") if np.max(np.abs(found[name])) > 1e-6}
    assert (failing if how == "negative" else unequal) == {where}


def by_hand(rates, radius):
    """D5 from its definition, with sums and products written out."""
    L, t = rates.lipschitz, rates.stepsize
    found = [L * radius**2 / 2]
    for K in range(1, len(rates.grad_sq) + 1):
        A = top = 0.0
        w, omega = [], []
        top = radius**2 / 2
        for k in range(K):
            G, P = rates.grad_sq[k], rates.grad_dot_distance[k]
            tau = t - rates.grad_dot_error[k] / G
            theta = t - rates.error_dot_distance[k] / P
            rho = (rates.noise[k] - (t - tau) ** 2 * G) / G
            alpha = max(0.0, theta)
            A += alpha
            w.append((A * (2 * tau - L * tau**2 - L * rho) + alpha / L - tau**2 - rho) / 2)
            omega.append(L * rho / (2 * tau - L * tau**2) if 0 < L * tau < 2 else math.inf)
            top += max(0.0, -w[k]) * G + (alpha - theta) * P
        W = sum(max(0.0, w[k]) / math.prod(1 + omega[j] for j in range(k, K)) for k in range(K))
        found.append(top / (A + 1 / (2 * L) + math.sqrt(2 * W + 1 / (4 * L**2))))
    return found


@given(
    numbers=st.lists(
        st.tuples(*[st.floats(0.1, 4)] * 2, st.floats(-2, 2), st.floats(-2, 2), st.floats(4.1, 50)),
        min_size=1,
        max_size=6,
    ),
    lipschitz=st.floats(0.1, 10),
    stepsize=st.floats(0.01, 2),
    radius=st.floats(0.01, 10),
)
def test_the_bound_is_its_formula(numbers, lipschitz, stepsize, radius):
    rates = Rates(lipschitz, stepsize, *np.array(numbers).T)
    if np.all(rates.noise * rates.grad_sq >= rates.grad_dot_error**2):  # Cauchy–Schwarz
        np.testing.assert_allclose(rates.bound(radius), by_hand(rates, radius), rtol=1e-9)


def exact(lipschitz, stepsize, steps):
    """The rates of exact arithmetic, with gradients that do not matter."""
    ones, none = np.ones(steps), np.zeros(steps)
    return Rates(lipschitz, stepsize, ones, ones, none, none, none)


@pytest.mark.parametrize("lipschitz", [0.5, 1.0, 4.0])
def test_without_rounding_it_tends_to_the_best_possible_bound_for_small_stepsizes(lipschitz):
    """LR²/(2 + 4LtK) of Drori and Teboulle (2014), for LtK fixed."""
    for steps, within in ((10, 0.2), (1000, 3e-3), (100_000, 3e-5)):
        bound = exact(lipschitz, 2 / (lipschitz * steps), steps).bound(3.0)
        best = lipschitz * 9 / (2 + 4 * 2)
        assert best <= bound[-1] <= best * (1 + within)
    assert bound[0] == pytest.approx(lipschitz * 9 / 2)


def test_at_a_minimiser_the_bound_goes_on_as_if_a_gradient_were_left():
    """Exact descent with t = 1/L is there after a step, and its bound is the formula of exact arithmetic."""
    steps, none = np.arange(1, 31), np.zeros(30)
    there = Rates(1.0, 1.0, np.array([9.0, *none[1:]]), np.array([9.0, *none[1:]]), none, none, none)
    w = np.cumsum((steps * (2 - 1) + 1 - 1) / 2)
    np.testing.assert_allclose(there.bound(3.0)[1:], 4.5 / (steps + 0.5 + np.sqrt(2 * w + 0.25)))


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("minimiser", [1e-130, 1e-158, 1e-162, 0.0])
def test_gradients_that_are_next_to_nothing_do_not_make_the_bound_too_small(scheme, minimiser):
    """E‖e‖²/G and τ² are beyond float64 there, or nearly."""
    problem = Convex(minimiser, [(1.0, 1e9)], [(1.0, 2.0)])
    law = law_of(problem, Format("any", 2, -2, 3), 1.5, scheme)
    for x0 in (0.0, 0.125, 1.0):
        bound = law.bound(x0, 12, **known(problem))
        assert np.all(law.expected(problem.f, x0, 12) <= bound * (1 + DIGITS) + TINY)


def test_a_state_without_gradient_and_error_adds_nothing():
    rates = Rates(1.0, 0.5, *np.array([[1.0, 1, 0, 0, 0], [0, 0, 0, 0, 0], [0, 0, 0, 0, 0]]).T)
    bound = rates.bound(1.0)
    assert np.all(np.isfinite(bound)) and np.all(np.diff(bound) < 0)
    assert rates.tau.tolist() == rates.theta.tolist() == [0.5] * 3 and rates.rho.tolist() == [0] * 3


def test_an_error_without_a_gradient_is_lost_as_noise():
    """The term ½(L·A + 1)·E‖e‖², by hand."""
    rates = Rates(2.0, 0.5, np.zeros(1), np.zeros(1), np.zeros(1), np.zeros(1), np.full(1, 0.3))
    assert rates.bound(1.0)[1] == pytest.approx((0.5 + (2 * 0.5 + 1) * 0.3 / 2) / (0.5 + 0.25 + 0.25))


@pytest.mark.parametrize("tau", [1e-17, -1e-17, 4e-9])
def test_where_the_descent_is_what_cancels_the_gradient_may_grow_without_limit(tau):
    """A law that stays where it is has τ = 0 up to roundoff, and no bound may rest on that remainder."""
    stay = Rates(1.0, 0.01, *np.array([[1.0], [1.0], [0.01 - tau], [0.01], [1e-4]]))
    free = dataclasses.replace(stay, grad_dot_error=np.array([0.01]))
    assert not stay.growing[0]
    np.testing.assert_allclose(stay.bound(1.0), free.bound(1.0), rtol=1e-6)


@pytest.mark.parametrize("tau", [2e-8, 1.0, 1.999])
def test_where_it_is_none_it_may_not(tau):
    assert Rates(1.0, 0.01, *np.array([[1.0], [1.0], [0.01 - tau], [0.0], [1.0]])).growing[0]


def test_a_stepsize_against_the_distance_adds_nothing_to_their_sum():
    rates = Rates(1.0, 0.25, *np.array([[1.0, 1.0, 0.0, 0.5, 0.4]]).T)  # θ = −0.25
    assert rates.theta[0] == -0.25
    assert rates.bound(2.0)[1] == pytest.approx(by_hand(rates, 2.0)[1])
    assert rates.bound(2.0)[1] > rates.bound(2.0)[0]


def test_the_bound_of_the_papers_kind_goes_on_through_noise_and_may_rise():
    rates = Rates(1.0, 0.5, np.full(2, 1.0), np.ones(2), np.zeros(2), np.zeros(2), np.array([0.1, 2.0]))
    s = 2 * 0.5 - 0.25 - np.array([0.1, 2.0])
    first = 3 / (1 + 3 * s[0] / 8)
    np.testing.assert_allclose(rates.bound_within(2.0, 3.0), [3, first, first - s[1] / 2])
    assert rates.bound_within(2.0, 3.0)[2] > rates.bound_within(2.0, 3.0)[1]


def test_rates_of_independent_components_add_up_and_have_a_bound_each():
    problems = [Convex(1.1, [(c, 1e9)], [(c, 1e9)]) for c in (1.0, 0.25)]
    one, other = [exact_law(p, "binary8", 0.25).rates(4.0, 10, **known(p)) for p in problems]
    names = ("grad_sq", "grad_dot_distance", "grad_dot_error", "error_dot_distance", "noise")
    both = Rates(
        np.array([1.0, 0.25]), 0.25, *(np.stack([getattr(one, name), getattr(other, name)], axis=1) for name in names)
    )
    whole = both.joint(1.0)
    assert whole.lipschitz == 1.0 and whole.stepsize == 0.25
    np.testing.assert_allclose(whole.grad_sq, one.grad_sq + other.grad_sq)
    np.testing.assert_allclose(whole.tau * whole.grad_sq, one.tau * one.grad_sq + other.tau * other.grad_sq)
    radii = np.array([2.9, 1.7])
    each = both.bound(radii)
    np.testing.assert_allclose(each, np.stack([one.bound(2.9), other.bound(1.7)], axis=1), rtol=1e-12)


def test_from_the_first_step_that_can_overflow_the_bound_is_infinite():
    steep = Convex(0.0, [(1.0, 1e9)], [(1.0, 1e9)])
    law = exact_law(steep, Format("small", 3, -3, 3), 3.0, gradient="RN", multiply="RN", update="RN")
    bound = law.bound(4.0, 4, **known(steep))
    assert np.isfinite(bound[0]) and np.all(np.isinf(bound[-2:])) and bound.shape == (5,)
    assert len(law.rates(4.0, 4, **known(steep)).grad_sq) < 4


FALSE = [
    (
        {"lipschitz": 0.2},
        r"⟨g, x̂ − x\*⟩ is .*; must be at least f\(x̂\) − f\* \+ ‖g‖²/\(2L\), .*, or L = 0.2 is too small",
    ),
    ({"minimiser": 1.2}, r"⟨g, x̂ − x\*⟩ is 8.12; must be .*, 8.405, or L = 1 is too small or x\* no minimiser"),
    ({"minimiser": 5.0}, r"f\(x̂\) − f\* is -3.4; must be at least 0, or x\* is no minimiser"),
    ({"lipschitz": 0.0}, "lipschitz is 0.0; must be finite and positive"),
    ({"lipschitz": "1"}, "lipschitz is '1'; must be a real number"),
    ({"minimiser": math.nan}, "minimiser is nan; must be finite"),
]


@pytest.mark.parametrize(("false", "message"), FALSE)
def test_false_hypotheses_are_refused_with_their_numbers(false, message):
    with pytest.raises((TypeError, ValueError), match=message):
        law_of(QUADRATIC).bound(4.0, 30, **(known(QUADRATIC) | false))


class TwoWells:
    def f(self, x):
        return (x**2 - 1) ** 2

    def gradient(self, x):
        return 4 * x * (x**2 - 1)


def test_a_function_that_is_not_convex_is_refused():
    with pytest.raises(ValueError, match="or f is not convex"):
        exact_law(TwoWells(), "binary8", 0.01).bound(-0.5, 5, lipschitz=40.0, minimiser=1.0)


class Slope:
    def gradient(self, x):
        return x - 1.1


def test_without_an_objective_the_bound_is_the_same():
    """The gradient alone is needed; what f would tell cannot be checked."""
    bound = exact_law(Slope(), "binary8", 0.25).bound(4.0, 10, lipschitz=1.0, minimiser=1.1)
    full = exact_law(QUADRATIC, "binary8", 0.25).bound(4.0, 10, lipschitz=1.0, minimiser=1.1)
    np.testing.assert_array_equal(bound, full)


def test_points_that_are_not_finite_are_not_looked_at():
    check_hypotheses([np.nan, 1.0], [-1.0, np.inf], [1.0, 1.0], 1.0)


def budget(problem, scheme="signed_SR_eps(0.1)", steps=25, stepsize=0.25, **wrong):
    """Rates along a law, with the objective and the distance, some of it replaced."""
    law = law_of(problem, update=scheme, stepsize=stepsize)
    rates = law.rates(4.0, steps, **known(problem))
    with np.errstate(all="ignore"):
        far = law.expected(lambda x: (x - problem.minimiser) ** 2, 4.0, steps)
        gap = law.expected(problem.f, 4.0, steps)
    rates = dataclasses.replace(rates, **{name: change(getattr(rates, name)) for name, change in wrong.items()})
    return rates, gap, far


FLAT, STEEP = Convex(1.1, [(0.25, 1e9)], [(0.25, 2.0)]), Convex(1.1, [(4.0, 0.5)], [(4.0, 1e9)])
CURVED = {"quadratic": QUADRATIC, "huber": HUBER, "lopsided": LOPSIDED, "L = 1/4": FLAT, "L = 4": STEEP}


@pytest.mark.parametrize("problem", CURVED.values(), ids=CURVED)
@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("stepsize", [0.25, 1.5])
def test_what_the_proof_gives_away_is_not_negative_and_adds_up_with_the_truth(problem, scheme, stepsize):
    rates, gap, far = budget(problem, scheme, stepsize=stepsize)
    shares = rates.proof_slack(gap, far)
    for name, share in shares.items():
        assert share.shape == (24,) and np.all(share >= -1e-7), name
    np.testing.assert_allclose(sum(shares.values()), 1, atol=1e-7)
    np.testing.assert_allclose(shares["truth"], (gap / rates.bound(far[0] ** 0.5))[1:-1], rtol=1e-9)


@pytest.mark.parametrize(
    ("wrong", "far_of"),
    [
        ({"grad_dot_error": np.negative}, lambda far: far),
        ({"error_dot_distance": np.negative}, lambda far: far),
        ({"noise": lambda noise: 0 * noise}, lambda far: far),
        ({}, lambda far: np.roll(far, -1)),
    ],
    ids=["β with the other sign", "θ with the other sign", "no noise", "R of the wrong step"],
)
def test_with_a_planted_fault_the_budget_does_not_add_up(wrong, far_of):
    rates, gap, far = budget(QUADRATIC, **wrong)
    shares = rates.proof_slack(gap, far_of(far))
    assert np.max(np.abs(sum(shares.values()) - 1)) > 1e-3 or min(share.min() for share in shares.values()) < -1e-3


def test_a_planted_fault_in_the_last_inequality_fails_there():
    """With 1/L for 1/(2L) it is false where the gradient is as large as L allows; without, it gives away more."""
    law = law_of(QUADRATIC)
    gap, far, square = (
        law.expected(f, 4.0, 20) for f in (QUADRATIC.f, lambda x: (x - 1.1) ** 2, lambda x: (x - 1.1) ** 2)
    )
    slack = {share: np.sqrt(far * square) - share * square - gap for share in (0.0, 0.5, 1.0)}
    assert np.all(slack[0.5] >= -1e-12) and np.any(slack[1.0] < -1e-3) and np.all(slack[0.0] >= slack[0.5])
