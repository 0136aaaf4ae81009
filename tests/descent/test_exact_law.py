"""The exact law against an enumeration in exact rationals, one number at a time, and against ensembles."""

import math
from fractions import Fraction
from itertools import product

import numpy as np
import oracle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import coo_array

from srlib import DiagonalQuadratic, Format, Huber, Philox, exact_law, gradient_descent, round_to
from srlib.descent.exact_law import ExactLaw
from srlib.descent.separable import component_laws
from srlib.rounding import outcomes


class Quadratic:
    def __init__(self, curvature, minimiser):
        self.curvature, self.minimiser = curvature, minimiser

    def f(self, x):
        return 0.5 * self.curvature * (x - self.minimiser) ** 2

    def gradient(self, x):
        return self.curvature * (x - self.minimiser)


def options(y, fmt, scheme, bits, v=1.0):
    """What rounding makes of a number, each with its probability, as a dict."""
    overflow = {"inf": math.inf, "nan": math.nan, "saturate": oracle.largest(fmt)}[fmt.overflow]
    if math.isfinite(y) and (scheme == "RZ" or scheme == ("RU" if y < 0 else "RD")):
        overflow = oracle.largest(fmt)  # IEEE 754-2019, 7.4
    if not math.isfinite(y) or abs(y) >= oracle.magnitudes(fmt)[-1]:
        return {math.copysign(overflow, y): Fraction(1)}
    below, above, theta, odd = oracle.locate(abs(y), fmt)
    chance = Fraction(0) if theta == 0 else Fraction(oracle.prob_away(scheme, theta, odd, y, v, np.float64))
    chance = Fraction(round(2**bits * chance), 2**bits)
    found = {}
    for magnitude, p in ((below, 1 - chance), (above, chance)):
        end = math.copysign(overflow if magnitude > oracle.largest(fmt) else magnitude, y)
        found[end] = found.get(end, 0) + p
    return {end: p for end, p in found.items() if p}


def successors(x, problem, fmt, stepsize, gradient, multiply, update, bits):
    """Where a step from x can lead, each with its probability."""
    found = {}
    for g, p1 in options(problem.gradient(x), fmt, gradient, bits).items():
        for u, p2 in options(stepsize * g, fmt, multiply, bits).items():
            for end, p3 in options(x - u, fmt, update, bits, u).items():
                end = end + 0.0  # one zero
                found[end] = found.get(end, 0) + p1 * p2 * p3
    return found


FORMATS = st.builds(
    Format,
    st.just("small"),
    st.integers(2, 4),
    st.integers(-4, 0),
    st.integers(1, 4),
    subnormals=st.booleans(),
    overflow=st.sampled_from(["inf", "saturate"]),
)
UNSIGNED = ["RN", "RZ", "RU", "RD", "SR", "SR_eps(0.1)", "SR_eps(0.6)"]
QUADRATICS = st.builds(Quadratic, st.sampled_from([0.25, 0.7, 1.0, 3.0]), st.floats(-12, 12).map(lambda x: round(x, 2)))


DETERMINISTIC = ["RN", "RZ", "RU", "RD"]


@pytest.mark.parametrize("fmt", ["binary8", "e4m3", "fixed(4,4)", Format("flushed", 3, -6, 7, subnormals=False)])
@pytest.mark.parametrize("steep", [1.0, 2.0**14, 2.0**1020], ids=str)
def test_a_law_without_chance_is_the_run_at_overflow_too(fmt, steep):
    """One step from every value, by each triple of deterministic schemes."""
    fmt, problem = Format.parse(fmt), DiagonalQuadratic([0.3], [steep])
    for stepsize in (2.0**-20, 0.75):
        for sites in product(DETERMINISTIC, repeat=3):
            schemes = dict(zip(("gradient", "multiply", "update"), sites, strict=True))
            with np.errstate(all="raise"):
                law = exact_law(problem, fmt, stepsize, **schemes)
            x = fmt.values()
            runs = Philox(1, len(x))
            found = gradient_descent(problem, x[:, None], stepsize=stepsize, steps=1, fmt=fmt, rng=runs, **schemes).x
            finite = np.isfinite(law.values)
            np.testing.assert_array_equal(law.values[law.matrix[finite].argmax(axis=1)], found[:, 0], str(sites))


@pytest.mark.parametrize("fmt", oracle.FORMATS, ids=str)
@pytest.mark.parametrize("scheme", oracle.SCHEMES)
def test_outcomes_are_what_the_kernel_makes_and_no_others(fmt, scheme):
    x = oracle.edges(fmt, np.float64)
    x = np.concatenate([x[np.isfinite(x)], [2.0**1000, -(2.0**1000), 1.3 * fmt.largest]])
    v, runs = np.resize([1.0, -1.0, 0.0], x.shape), 64
    (lower, down), (upper, up) = outcomes(x, fmt, scheme, v)
    made = round_to(np.tile(x, (runs, 1)), fmt, scheme, Philox(7, runs), v=np.tile(v, (runs, 1)))
    is_lower, is_upper = (np.equal(made, end) | (np.isnan(made) & np.isnan(end)) for end in (lower, upper))
    assert np.all((is_lower & (down > 0)) | (is_upper & (up > 0)))
    assert np.all(down + up == 1)
    # Of an outcome with probability 0.3 or more, 64 words miss it with at most 2e-10; there are some 4,000 of them.
    both = (np.abs(up - 0.5) < 0.2) & (lower != upper)
    assert np.all(np.any(is_lower, axis=0)[both] & np.any(is_upper, axis=0)[both])


@settings(max_examples=60)
@given(
    FORMATS,
    QUADRATICS,
    st.sampled_from([2.0**-5, 0.1, 0.375, 1.0, 1.7]),
    st.sampled_from(UNSIGNED),
    st.sampled_from(UNSIGNED),
    st.sampled_from([*UNSIGNED, "signed_SR_eps(0.1)", "signed_SR_eps(0.6)"]),
    st.sampled_from([1, 3, 32]),
)
def test_it_is_the_law_that_rationals_give(fmt, problem, stepsize, gradient, multiply, update, bits):
    sites = {"gradient": gradient, "multiply": multiply, "update": update, "bits": bits}
    law = exact_law(problem, fmt, stepsize, **sites)
    dense = law.matrix.toarray()
    finite = fmt.values()
    for x in finite.tolist():
        expected = successors(x, problem, fmt, stepsize, *sites.values())
        row = dense[law.state(x)]
        assert {law.values[k] for k in np.flatnonzero(row)} == set(expected)
        for end, p in expected.items():
            assert row[law.state(end)] == pytest.approx(float(p), abs=1e-12)
    start = finite[len(finite) // 3]
    chain = {float(start): Fraction(1)}
    means = law.expected(np.arctan, start, 4)
    for k in range(5):
        assert means[k] == pytest.approx(sum(float(p) * math.atan(x) for x, p in chain.items()), abs=1e-12)
        ahead = {}
        for x, p in chain.items():
            moves = successors(x, problem, fmt, stepsize, *sites.values()) if math.isfinite(x) else {x: 1}
            for end, q in moves.items():
                ahead[end] = ahead.get(end, 0) + p * q
        chain = ahead


def test_states_without_a_number_are_kept():
    law = exact_law(Quadratic(1.0, 0.0), Format("small", 3, -2, 2, overflow="nan"), 30.0)
    assert np.isnan(law.values[-1]) and law.matrix[[len(law.values) - 1]].toarray()[0, -1] == 1
    assert law.distribution(3.0, 1)[law.state(math.nan)] == 1
    assert np.isnan(law.expected(lambda x: x, 3.0, 2)[1:]).all()
    law = exact_law(Quadratic(1.0, 0.0), "binary8", 2.0**15, update="RN")
    assert {law.values[0], law.values[-1]} == {-np.inf, np.inf}
    assert law.stagnant[[0, -1]].all()


@pytest.mark.parametrize("update", ["RN", "SR", "signed_SR_eps(0.2)"])
def test_an_ensemble_agrees_within_its_confidence_and_has_the_support(update):
    """24 means of 20,000 runs: |z| ≤ 6 fails by chance below once in 10^7."""
    replicates, steps = 20_000, 12
    problem = DiagonalQuadratic(np.array([1.0]), np.array([1024.0]))
    first = "RN" if update == "RN" else "SR"
    sites = {"gradient": first, "multiply": first, "update": update}
    law = exact_law(problem, "binary8", 0.0625, **sites)
    start = np.array([3584.0])
    run = gradient_descent(
        problem, start, stepsize=0.0625, steps=steps, fmt="binary8", rng=Philox(1, replicates), **sites
    )
    f = lambda x: 0.5 * (x - 1024.0) ** 2  # noqa: E731
    mean, square = law.expected(f, 3584.0, steps), law.expected(lambda x: f(x) ** 2, 3584.0, steps)
    deviation = np.sqrt(np.maximum(square - mean**2, 0) / replicates)
    assert np.all(np.abs(run.objective.mean(axis=1) - mean) <= 6 * deviation + 1e-9 * mean)
    reached = law.distribution(3584.0, steps) > 0
    assert set(np.unique(run.x)) <= set(law.values[reached])
    likely = law.distribution(3584.0, steps) > 0.005
    assert set(law.values[likely]) <= set(np.unique(run.x))


def test_hitting_times_are_those_of_first_steps_and_infinite_where_the_target_can_be_missed():
    law = exact_law(Quadratic(1.0, 1024.0), "binary8", 0.0625, update="signed_SR_eps(0.1)")
    target = law.state(1024.0)
    times = law.hitting_time([target])
    assert times[target] == 0
    inside = np.isfinite(times) & (np.arange(len(times)) != target)
    assert inside.sum() > 100
    np.testing.assert_allclose(times[inside], 1 + (law.matrix @ np.where(np.isfinite(times), times, 0))[inside])
    stuck = exact_law(Quadratic(1.0, 1024.0), "binary8", 0.0625, gradient="RN", multiply="RN", update="RN")
    assert np.isinf(stuck.hitting_time([target])[stuck.state(3584.0)])
    with_mask = law.hitting_time(law.values == 1024.0)
    np.testing.assert_array_equal(with_mask, times)


def test_hitting_times_of_a_chain_by_hand():
    """0 comes to 1 or is lost in 2; 3 waits for 1; 4 goes to 3; 5 goes to 0 or 1; 6 never meets any of them."""
    moves = {(0, 1): 1 / 2, (0, 2): 1 / 2, (1, 4): 1, (2, 2): 1, (3, 1): 1 / 3, (3, 3): 2 / 3, (4, 3): 1}
    moves |= {(5, 0): 1 / 2, (5, 1): 1 / 2, (6, 6): 1}
    law = chain(moves, 7)
    np.testing.assert_allclose(law.hitting_time([1]), [np.inf, 0, np.inf, 3, 4, np.inf, np.inf])
    np.testing.assert_allclose(law.hitting_time([1, 2]), [1, 0, 0, 3, 4, 1.5, np.inf])


@pytest.mark.parametrize("minimiser", [3.3, 2.0, 0.3])
@pytest.mark.parametrize("target", [2.0, 3.5, 0.25])
def test_a_hitting_time_is_finite_where_the_target_is_hit_almost_surely(minimiser, target):
    """By the chain that stops at the target, after 2^40 steps."""
    law = exact_law(Quadratic(1.0, minimiser), Format("small", 3, -3, 3, overflow="saturate"), 0.5)
    stopped, hit = law.matrix.toarray(), law.state(target)
    stopped[hit] = np.eye(len(stopped))[hit]
    ever = np.linalg.matrix_power(stopped / stopped.sum(axis=1, keepdims=True), 2**40)[:, hit]
    surely = ever > 1 - 1e-3
    assert np.all(surely | (ever < 1 - 1e-2))
    times = law.hitting_time([hit])
    np.testing.assert_array_equal(np.isfinite(times), surely)
    inner = surely & (np.arange(len(surely)) != hit)
    expected = np.linalg.solve(np.eye(inner.sum()) - stopped[inner][:, inner], np.ones(inner.sum()))
    np.testing.assert_allclose(times[inner], expected, rtol=1e-9)


def test_a_target_that_the_chain_can_miss_takes_infinitely_long():
    law = exact_law(Quadratic(1.0, 3.3), "binary8", 0.5)
    assert law.hitting_time([law.state(2.0)])[law.state(1.0)] == np.inf


def test_recurrent_classes_are_closed_and_the_stationary_law_is_kept():
    law = exact_law(Quadratic(1.0, 3.3), "binary8", 0.25)
    classes = law.recurrent_classes()
    (walking,) = [states for states in classes if len(states) > 1]
    assert law.matrix[walking][:, walking].sum() == pytest.approx(len(walking))
    stationary = law.stationary(walking)
    assert stationary.sum() == pytest.approx(1) and np.all(stationary[walking] > 0)
    np.testing.assert_allclose(law.matrix.T @ stationary, stationary, atol=1e-14)
    np.testing.assert_allclose(law.distribution(3.0, 3000), stationary, atol=1e-9)
    for states in classes:
        if len(states) == 1:
            assert law.stagnant[states[0]] and law.stationary(states)[states[0]] == 1


@pytest.mark.parametrize("fmt", ["bfloat16", "binary16"])
def test_formats_of_sixteen_bits_have_all_their_values(fmt):
    law = exact_law(Quadratic(1.0, 0.3), fmt, 0.125, update="signed_SR_eps(0.25)")
    assert len(law.values) >= len(Format.parse(fmt).values())
    np.testing.assert_allclose(law.matrix.sum(axis=1), 1, rtol=1e-14)
    assert np.diff(law.matrix.indptr).max() <= 8
    assert np.all(np.diff(law.expected(Quadratic(1.0, 0.3).f, 2.0, 20)[:15]) < 0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((Quadratic(1, 0), "binary7", 0.5), "format is 'binary7'"),
        ((Quadratic(1, 0), "binary8", 0.0), "stepsize is 0.0; must be finite and positive"),
        ((Quadratic(1, 0), "binary32", 0.5), "binary32"),
        ((Quadratic(1, 0), "binary8", 0.5, 0), "^bits is 0; must be from 1 to 32$"),
        ((Quadratic(1, 0), "binary8", 0.5, 33), "^bits is 33; must be from 1 to 32$"),
    ],
)
def test_bad_input_is_refused(arguments, message):
    *arguments, bits = [*arguments, 32][:4]
    with pytest.raises(ValueError, match=message):
        exact_law(*arguments, bits=bits)


def test_what_is_no_state_or_no_number_of_steps_is_refused():
    law = exact_law(Quadratic(1, 0), "binary8", 0.5)
    with pytest.raises(ValueError, match=r"x is 1\.1; must be one of"):
        law.state(1.1)
    for follow in (law.distribution, lambda x, steps: law.least_expected(np.abs, steps)):
        with pytest.raises(ValueError, match=r"^steps is -1; must be at least 0$"):
            follow(1.0, -1)


def test_after_no_step_a_chain_is_where_it_started():
    law = exact_law(Quadratic(1, 0), "binary8", 0.5)
    np.testing.assert_array_equal(law.distribution(1.5, 0), law.values == 1.5)
    assert law.expected(np.square, 1.5, 0).tolist() == [2.25]
    np.testing.assert_array_equal(law.least_expected(np.square, 0), [law.values**2])


def test_an_objective_that_is_no_number_or_infinite_somewhere_does_not_count_there():
    """From 1 with g = x − 1 the chain stays; from 2 it goes to 1.5."""
    law = exact_law(Quadratic(1, 1), Format.fixed(3, 1), 0.5, gradient="RN", multiply="RN", update="RN")
    assert law.expected(lambda x: 1 / x, 2.0, 1).tolist() == [0.5, 1 / 1.5]
    least = law.least_expected(np.log, 1)
    np.testing.assert_array_equal(least[0, law.values < 0], np.inf)
    assert least[:, law.state(2.0)].tolist() == [np.log(2), np.log(1.5)]


class Recorded:
    """½x², which keeps the shape of what its gradient is asked for."""

    def __init__(self, shape=None):
        if shape is not None:
            self.shape = shape

    def gradient(self, x):
        self.asked = x.shape
        return x


@pytest.mark.parametrize(("shape", "axes"), [(None, 1), ((1,), 2)])
def test_points_of_one_component_have_an_axis_of_it_and_numbers_none(shape, axes):
    objective = Recorded(shape)
    law = exact_law(objective, "binary8", 0.25)
    assert objective.asked == (len(Format.parse("binary8").values()), 1)[:axes]
    assert abs(law.matrix - exact_law(Quadratic(1.0, 0.0), "binary8", 0.25).matrix).max() == 0


class Steep:
    """The square root of |x|, whose slope at 0 is no number, and is in few bits elsewhere."""

    def gradient(self, x):
        return (np.sign(x) / (2 * np.sqrt(np.abs(x)))).astype(np.float32)


@pytest.mark.parametrize("overflow", ["inf", "nan", "saturate"])
def test_a_slope_that_is_no_number_leads_to_a_state_that_is_none(overflow):
    fmt = Format("small", 3, -2, 3, overflow=overflow)
    law = exact_law(Steep(), fmt, 0.1)
    assert law.distribution(0.0, 1)[law.state(math.nan)] == 1
    assert np.isnan(law.values).tolist() == [*[False] * len(fmt.values()), True]


def test_a_slope_of_few_bits_is_taken_as_the_number_that_it_is():
    class Wide(Steep):
        def gradient(self, x):
            return super().gradient(x).astype(np.float64)

    narrow, wide = (exact_law(kind(), "binary8", 0.1, update="SR_eps(0.1)") for kind in (Steep, Wide))
    np.testing.assert_array_equal(narrow.values, wide.values)
    assert abs(narrow.matrix - wide.matrix).max() == 0


@pytest.mark.parametrize(
    ("slope", "fmt", "before", "after"),
    [
        (0.0, "binary8", [], []),
        (-57344.0, "binary8", [], [np.inf]),
        (57344.0, "binary8", [-np.inf], []),
        (57344.0, "e4m3", [], [np.nan]),
        (57344.0, "fixed(4,4)", [], []),
    ],
)
def test_only_what_a_step_can_overflow_to_is_a_state(slope, fmt, before, after):
    class Constant:
        def gradient(self, x):
            return np.full_like(x, slope)

    law = exact_law(Constant(), fmt, 1.0)
    np.testing.assert_array_equal(law.values, [*before, *Format.parse(fmt).values(), *after])


def chain(moves, states):
    """A chain by hand, from the probability of each move."""
    rows, columns = np.transpose(list(moves))
    return ExactLaw(
        np.arange(float(states)), coo_array((list(moves.values()), (rows, columns)), (states, states)).tocsr()
    )


def test_the_states_of_interleaved_classes_are_listed_in_order():
    count = 1200
    law = chain({(i, (i + 3) % count): 1.0 for i in range(count)}, count)
    found = law.recurrent_classes()
    assert [states.tolist() for states in found] == [list(range(first, count, 3)) for first in range(3)]


def test_what_comes_after_the_target_does_not_count():
    """0 comes to 1, which is then lost in 2."""
    law = chain({(0, 1): 1.0, (1, 2): 1.0, (2, 2): 1.0}, 3)
    assert law.hitting_time([1]).tolist() == [1, 0, np.inf]


def test_a_scheme_can_be_a_function():
    problem = Quadratic(1.0, 0.3)
    own = exact_law(problem, "e4m3", 0.1, update=lambda theta, sign: np.clip(theta - 0.25 * sign, 0, 1))
    named = exact_law(problem, "e4m3", 0.1, update="signed_SR_eps(0.25)")
    assert np.array_equal(own.values, named.values, equal_nan=True)
    assert abs(own.matrix - named.matrix).max() < 2.0**-30


def brute_force(law, f, steps, state):
    """The least f over all paths."""
    reached = {state}
    for _ in range(steps):
        reached = {int(j) for i in reached for j in law.matrix[[i]].tocoo().col}
    return min(f(law.values[j]) for j in reached)


def test_the_best_policy_is_the_best_of_all_paths():
    problem = Quadratic(1.0, 1.3)
    law = exact_law(problem, Format("small", 3, -3, 2), 0.25)
    least = law.least_expected(problem.f, 6)
    steps = law.fewest_steps([law.state(1.25)])
    for x in (-7.0, -0.5, 0.0, 2.0, 6.0):
        state = law.state(x)
        found = [brute_force(law, problem.f, k, state) for k in range(7)]
        assert least[:, state].tolist() == found
        assert steps[state] == next(
            k for k in (*range(30), math.inf) if k > 29 or not brute_force(law, lambda y: y != 1.25, k, state)
        )
    one = exact_law(problem, "binary8", 0.25, gradient="RN", multiply="RN", update="RN")
    assert np.array_equal(
        one.least_expected(problem.f, 3)[3, 60:180], [one.expected(problem.f, x, 3)[3] for x in one.values[60:180]]
    )


def test_unreachable_targets_take_infinitely_many_steps():
    law = exact_law(Quadratic(1.0, 0.0), "binary8", 2.0**-5, gradient="RN", multiply="RN", update="RN")
    assert np.isinf(law.fewest_steps([law.state(0.0)])[law.state(1.0)])


class Gathering:
    """A slope and an objective that are one number for all points."""

    def gradient(self, x):
        return np.sum(x)


def test_a_function_that_is_not_one_number_for_each_point_is_refused():
    with pytest.raises(ValueError, match=r"gradient\(x\) has shape \(\) for x of shape \(247,\)"):
        exact_law(Gathering(), "binary8", 0.1)
    law = exact_law(Huber(1.0, 0.5), "binary8", 0.25)
    with pytest.raises(ValueError, match=r"f\(x\) has shape \(\)"):
        law.expected(np.sum, 1.0, 2)
    assert law.expected(lambda x: x > 1, 2.0, 0) == [1.0]


@pytest.mark.parametrize("threshold", ["nearest", "floor"])
@pytest.mark.parametrize("bits", [1, 3, 8])
@pytest.mark.parametrize("x0", [3.5, -3.5])
def test_a_law_of_few_bits_is_that_of_the_runs_that_take_them(threshold, bits, x0):
    """Also where x is negative, and of components; frequencies of 100,000 runs, false alarms below 1e-6."""
    problem = DiagonalQuadratic(np.ones(1), np.array([0.3]))
    few = {"bits": bits, "threshold": threshold}
    law = exact_law(problem, "binary8", 0.1875, update="signed_SR_eps(0.1)", **few)
    rng = Philox(6, 100_000, **few)
    run = gradient_descent(
        problem, [x0], stepsize=0.1875, steps=3, fmt="binary8", update="signed_SR_eps(0.1)", rng=rng, record_every=3
    )
    for value, chance in zip(law.values, law.distribution(x0, 3), strict=True):
        share = np.mean(run.x[:, 0] == value)
        assert abs(share - chance) <= 6 * np.sqrt(chance * (1 - chance) / 100_000) + 1e-12
    components = component_laws(
        problem, np.array([x0]), curvatures=np.ones(1), minimiser=np.array([0.3]), stepsize=0.1875, steps=3,
        fmt="binary8", update="signed_SR_eps(0.1)", **few,
    )  # fmt: skip
    np.testing.assert_allclose(components.gap[:, 0], law.expected(problem_f, x0, 3), rtol=1e-9)


def problem_f(x):
    return (x - 0.3) ** 2 / 2
