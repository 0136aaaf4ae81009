"""Potentials: the program's solution is a proof by itself, and its bound lies between the law and D5."""

import dataclasses
import sys

import numpy as np
import pytest
import sympy
from hypothesis import given, settings
from hypothesis import strategies as st
from rationals import constant, proved
from test_rates import HUBER, LOPSIDED, QUADRATIC, Convex, known, law_of, side

from srlib import DiagonalQuadratic, Format, Philox, exact_law
from srlib.descent import bounds, potentials
from srlib.descent.bounds import certify
from srlib.descent.potentials import Knowledge, best_potential
from srlib.descent.rates import Rates

pytest.importorskip("clarabel", reason="needs Clarabel, the extra 'pep'")


# LR²/(2 + 4LtK) is the best possible without noise for Lt ≤ 1.5; with noise the worst case of all convex functions, by
# performance estimation, is 0.01623 and 0.01640, and the bound of D5 0.01872 and 0.02070 (SPEC D5c).
TRIALS = [
    (0.25, 0.0, 1 / 42, 1e-5),
    (1.0, 0.0, 1 / 162, 1e-5),
    (1.5, 0.0, 1 / 242, 1e-5),
    (0.375, 0.02, 0.016308, 1e-4),
    (0.375, 0.05, 0.016585, 1e-4),
]


@pytest.mark.parametrize(("tau", "rho", "expected", "digits"), TRIALS)
def test_it_has_the_numbers_of_the_trial(tau, rho, expected, digits):
    given_rates = constant(40, tau, tau, rho)
    (found,) = best_potential(given_rates, 1.0).bounds(given_rates, 1.0)[-1:]
    assert found == pytest.approx(expected, rel=digits) and found >= expected * (1 - 5e-5)


@pytest.mark.parametrize("tau", [0.0625, 1.0, 1.9])
@pytest.mark.parametrize("rho", [0.0, 0.05])
def test_a_proof_holds_in_rationals(tau, rho):
    given_rates = constant(8, tau, 0.9 * tau if rho else tau, rho)
    proof = best_potential(given_rates, 1.0)
    assert proved(proof, given_rates, 1.0) == pytest.approx(proof.bounds(given_rates, 1.0)[-1], rel=1e-9)


@pytest.mark.parametrize("problem", [QUADRATIC, HUBER, LOPSIDED], ids=["quadratic", "huber", "lopsided"])
@pytest.mark.parametrize("scheme", ["SR", "signed_SR_eps(0.6)"])
def test_a_proof_for_a_law_holds_in_rationals_where_noise_wins_too(problem, scheme):
    rates = law_of(problem, update=scheme).rates(4.0, 12, **known(problem))
    radius, given_rates = abs(4.0 - problem.minimiser), rates.knowledge()
    proof = best_potential(given_rates, radius)
    bound = problem.lipschitz * proved(proof, given_rates, radius)
    assert bound == pytest.approx(problem.lipschitz * proof.bounds(given_rates, radius)[-1], rel=1e-9)


# Entries of the form by their places in (X, g, h, n), and by what factor they are wrong.
FAULTS = {(0, 1): -1.0, (0, 2): -1.0, (1, 1): 1.5, (1, 2): 0.5, (1, 3): -1.0, (2, 2): 1.5, (2, 3): 0.0, (3, 3): 2.0}


@pytest.mark.parametrize(("place", "factor"), FAULTS.items())
def test_a_solution_of_a_wrong_form_is_no_proof(monkeypatch, place, factor):
    """What the program is solved for is planted; the check has the form of the theorem."""
    right, given_rates = potentials._entries, constant(6, 0.375, 0.3, 0.02)

    def wrong(about, of):
        entries = right(about, of)
        return entries | {place: entries[place] * factor}

    monkeypatch.setattr(potentials, "_entries", wrong)
    found = potentials._solved(given_rates, 1.0, 1e-7)
    monkeypatch.setattr(potentials, "_entries", right)
    assert found is None or not found.is_proof(given_rates)
    assert potentials._solved(given_rates, 1.0, 1e-7).is_proof(given_rates)


def test_the_form_is_the_one_that_expectations_bound():
    """By SymPy: the inequalities of interpolation, weighted, with the potentials before and after a step."""
    names = "c c1 W W1 m r alpha gamma p y q s z lg lp tau rho A A1"
    v = dict(zip(names.split(), sympy.symbols(names), strict=True))
    dot = {pair: sympy.Symbol("".join(pair)) for pair in [(a, b) for a in "Xghn" for b in "Xghn" if a <= b]}

    def product(a, b):
        """The scalar product of two combinations of X, g, h, n."""
        total = sum(a[i] * b[j] * dot[min(i, j), max(i, j)] for i in a for j in b)
        return sympy.expand(total)

    def vector(**parts):
        return parts

    step = vector(g=-v["tau"], n=1)  # of x
    after = vector(X=1, g=-v["tau"], n=1)
    apart = vector(g=1, h=-1)
    half = sympy.Rational(1, 2)
    back = {name: -value for name, value in step.items()}
    form = v["m"] * (product(vector(h=1), back) + half * product(apart, apart))
    form += v["r"] * (product(vector(g=1), step) + half * product(apart, apart))
    form += v["alpha"] * (half * dot["g", "g"] - dot["X", "g"])
    form += v["gamma"] * (half * dot["h", "h"] - product(vector(h=1), after))
    form += half * v["c"] * dot["X", "X"] - half * v["c1"] * product(after, after)
    form += v["W"] * dot["g", "g"] - v["W1"] * dot["h", "h"]
    form += v["p"] * dot["g", "n"] + v["y"] * dot["g", "g"] + v["q"] * (dot["n", "n"] - v["rho"] * dot["g", "g"])
    form += v["s"] * dot["X", "n"] + v["z"] * dot["X", "g"] + v["lg"] * dot["g", "g"] + v["lp"] * dot["X", "g"]
    of = {name: np.array([v[name]], dtype=object) for name in ("m", "r", "alpha", "gamma", "p", "y", "q", "s", "z")}
    of |= {"c": np.array([v["c"], v["c1"]]), "W": np.array([v["W"], v["W1"]])}
    of |= {"square_lost": np.array([v["lg"]]), "inner_lost": np.array([v["lp"]])}
    about = Knowledge(*(np.array([v[name]] if name else [0]) for name in ("tau", "", "", "", "rho", "", "", "", "")))
    entries = potentials._entries(about, of)
    order, total = "Xghn", 0
    for (i, j), (value,) in entries.items():
        a, b = order[i], order[j]
        total += value * dot[min(a, b), max(a, b)] * (half if i == j else 1)
    assert sympy.simplify(sympy.expand(total - form)) == 0


def test_the_last_step_gives_away_nothing_that_it_could_keep():
    """½c‖X‖² + W‖g‖² − μ(⟨g, X⟩ − ½‖g‖²) is nonnegative for the largest μ, and for no larger one."""
    for c, W in ((1.0, 0.0), (0.25, 3.0), (0.9, 40.0)):
        mu = (c + (c * c + 8 * c * W) ** 0.5) / 2
        for factor, holds in ((1.0, True), (1.001, False)):
            matrix = np.array([[c, -factor * mu], [-factor * mu, 2 * W + factor * mu]])
            assert (np.linalg.eigvalsh(matrix)[0] >= -1e-12) == holds


LAWS = given(
    problem=st.builds(Convex, st.floats(-3, 3), side, side),
    fmt=st.builds(Format, st.just("any"), st.integers(2, 5), st.integers(-6, -2), st.integers(3, 5)),
    stepsize=st.sampled_from([0.0625, 0.25, 0.5, 1.0, 1.5, 1.9]),
    scheme=st.sampled_from(["RN", "SR", "SR_eps(0.3)", "signed_SR_eps(0.1)", "signed_SR_eps(0.6)"]),
    place=st.integers(0, 200),
    steps=st.integers(1, 30),
)


def is_between(problem, fmt, stepsize, scheme, place, steps):
    law = exact_law(problem, fmt, stepsize / problem.lipschitz, update=scheme)
    values = fmt.values()
    x0 = float(values[np.abs(values) <= fmt.largest / 2][place % 7])
    rates = law.rates(x0, steps, **known(problem))
    with np.errstate(all="ignore"):
        truth = law.expected(problem.f, x0, len(rates.grad_sq))
    radius = abs(x0 - problem.minimiser)
    closed = rates.bound(radius)
    if len(rates.grad_sq):
        found = rates.bound(radius, "potential")
        assert np.all(found <= closed) and np.all(found >= truth * (1 - 1e-9) - 1e-300)


test_it_is_never_above_d5_and_never_below_the_law = settings(max_examples=60)(LAWS(is_between))
test_nor_is_it_for_a_thousand_random_laws = pytest.mark.slow(settings(max_examples=1000)(LAWS(is_between)))


def test_the_bound_of_a_law_and_a_certificate_may_be_of_this_kind():
    law = exact_law(QUADRATIC, "binary8", 0.25)
    known_of = known(QUADRATIC)
    found = law.bound(2.0, 9, kind="potential", **known_of)
    np.testing.assert_array_equal(
        found, law.rates(2.0, 9, **known_of).bound(abs(2.0 - QUADRATIC.minimiser), "potential")
    )
    several = DiagonalQuadratic(np.geomspace(1, 0.05, 6), np.linspace(1, 2, 6))
    curved = {"smoothness": several.curvatures}
    for options in ({}, curved):
        closed, sharper = (certified_of(several, kind=kind, **options) for kind in ("D5", "potential"))
        for name in ("bound", "components"):
            one, other = getattr(closed, name), getattr(sharper, name)
            assert np.all(other <= one) and other[-1] < 0.99 * one[-1]
            assert np.all(sharper.gap[:, 0] <= other * (1 + 1e-12))
    nearest = {"gradient": "RN", "multiply": "RN", "update": "RN"}
    assert np.all(certified_of(several, kind="potential", **nearest).bound <= certified_of(several, **nearest).bound)


def certified_of(problem, **options):
    start = np.zeros(problem.shape)
    return certify(problem, start, **{"minimiser": problem.minimiser, "lipschitz": 1.0, "stepsize": 0.75} | options
                   | {"steps": 12, "fmt": "bfloat16"})  # fmt: skip


def test_an_estimated_bound_is_above_the_certified_one_and_below_d5():
    several = DiagonalQuadratic(np.geomspace(1, 0.01, 20), np.linspace(1, 2, 20))
    for update in ("SR", "signed_SR_eps(0.4)"):
        law = certified_of(several, kind="potential", update=update).bound
        for replicates, within in ((20, 1.5), (400, 1.05)):
            rng = Philox(3, replicates)
            found, closed = (
                certified_of(several, kind=kind, update=update, rng=rng).bound for kind in ("potential", "D5")
            )
            assert np.all(found >= law * (1 - 1e-9)) and np.all(found <= within * law)
            assert found[-1] < closed[-1]


def test_limits_of_equal_replicates_are_the_rates(monkeypatch):
    """Of what potentials may use, too, but for roundoff."""
    rates = Rates(2.0, 0.25, *np.random.default_rng(5).uniform(0.5, 1, (5, 6)) * [[1], [1], [0.1], [0.1], [0.2]])
    several = dataclasses.replace(rates, **{name: np.repeat(getattr(rates, name)[:, None], 9, axis=1) for name in
        ("grad_sq", "grad_dot_distance", "grad_dot_error", "error_dot_distance", "noise")})  # fmt: skip
    seen = []
    monkeypatch.setattr(bounds, "by_potentials", lambda *given: seen.append(given) or np.full(7, np.inf))
    flat = np.ones((7, 9))
    bounds._estimate(several, flat, flat, 0.95, "potential")
    ((lipschitz, radius, found, horizons),) = seen
    assert (lipschitz, radius, horizons) == (2.0, 1.0, None)
    for name, limit in found._asdict().items():
        np.testing.assert_allclose(limit, getattr(rates.knowledge(), name), rtol=1e-6, atol=1e-8, err_msg=name)


def test_without_noise_it_is_half_of_what_d5_gives_away_at_most():
    """D5 is 3% above the best possible at Lt = ¼ and 17% at 1; this is at it."""
    for tau, excess in ((0.25, 0.03), (1.0, 0.17)):
        ones = np.ones(40)
        rates = Rates(1.0, tau, ones, ones, 0 * ones, 0 * ones, 0 * ones)
        best = 1 / (2 + 160 * tau)
        assert rates.bound(1.0)[-1] / best - 1 == pytest.approx(excess, abs=0.02)
        assert rates.bound(1.0, "potential", [40])[-1] / best - 1 < 1e-5


@pytest.mark.parametrize("lipschitz", [0.25, 4.0])
def test_units_do_not_matter(lipschitz):
    one = Rates(1.0, 0.5, *np.random.default_rng(3).uniform(0.5, 1, (5, 12)) * [[1], [1], [0.05], [0.05], [0.1]])
    scaled = dataclasses.replace(
        one,
        lipschitz=lipschitz,
        stepsize=0.5 / lipschitz,
        grad_sq=one.grad_sq * lipschitz**2,
        grad_dot_distance=one.grad_dot_distance * lipschitz,
        grad_dot_error=one.grad_dot_error * lipschitz,
    )
    expected = lipschitz * one.bound(2.0, "potential", [12])
    np.testing.assert_allclose(scaled.bound(2.0, "potential", [12]), expected, rtol=1e-6)


def test_components_have_a_bound_each_and_only_horizons_that_there_are_are_taken():
    rates = Rates(np.array([1.0, 0.25]), 0.5, *np.full((5, 6, 2), 0.1) * np.array([10, 10, 1, 1, 1])[:, None, None])
    found = rates.bound(np.array([1.0, 2.0]), "potential")
    alone = [rates._component(i).bound(radius, "potential", [6]) for i, radius in enumerate((1.0, 2.0))]
    np.testing.assert_allclose(found, np.stack(alone, axis=1), rtol=1e-12)
    same = [rates.bound(radius, "potential") for radius in (2.0, np.array([2.0, 2.0]))]
    np.testing.assert_array_equal(*same)  # one radius is that of each
    with pytest.raises(ValueError, match="horizons is 7; must be from 1 to 6"):
        rates._component(0).bound(1.0, "potential", [7])
    with pytest.raises(ValueError, match="kind is 'D6'; must be one of D5, potential"):
        rates.bound(1.0, "D6")


def test_at_a_minimiser_and_from_an_error_without_a_gradient_on_it_is_d5():
    still = Rates(1.0, 0.5, *np.zeros((5, 3)))
    np.testing.assert_array_equal(still.bound(0.0, "potential"), still.bound(0.0))
    moved = dataclasses.replace(still, grad_sq=np.array([1.0, 0, 1]), noise=np.array([0.0, 1, 0]))
    moved = dataclasses.replace(moved, grad_dot_distance=np.array([1.0, 0, 1]))
    found, closed = moved.bound(1.0, "potential"), moved.bound(1.0)
    assert found[1] < closed[1] and np.array_equal(found[2:], closed[2:])


def test_without_the_solver_it_is_d5_and_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "clarabel", None)
    rates = Rates(1.0, 0.5, *np.full((5, 4), 0.1))
    with pytest.warns(UserWarning, match="potentials need Clarabel, the extra 'pep'.*: the bound is that of D5"):
        found = rates.bound(1.0, "potential")
    np.testing.assert_array_equal(found, rates.bound(1.0))


def test_a_limit_of_what_is_known_makes_no_bound_smaller():
    exact = constant(20, 0.375, 0.375, 0.02)
    wide = exact._replace(off=exact.off + 0.01, theta_low=exact.theta_low - 0.01, theta_high=exact.theta_high + 0.01)
    bounds = [
        best_potential(about, 1.0).bounds(about, 1.0)[-1] for about in (exact, wide, wide._replace(rho=wide.rho * 2))
    ]
    assert bounds[0] < bounds[1] < bounds[2] < 1.5 * bounds[0]
