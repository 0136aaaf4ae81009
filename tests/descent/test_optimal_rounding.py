import numpy as np
import pytest
from scipy.optimize import approx_fprime
from scipy.sparse import csr_array

from srlib import Format, exact_law
from srlib.descent.optimal_rounding import OptimalUpdate, _expected, downhill_from, optimal_update


class Quadratic:
    def __init__(self, minimiser):
        self.minimiser = minimiser

    def f(self, x):
        return (x - self.minimiser) ** 2 / 2

    def gradient(self, x):
        return x - self.minimiser


FAMILY = [Quadratic(c) for c in (1.1, -1.1, 1.7, -1.7)]
STARTS = [0.0, 0.0, 4.0, 4.0]


def mean(update, steps):
    laws = [exact_law(f, "binary8", 0.0625, update=update) for f in FAMILY]
    return np.mean([law.expected(f.f, x, steps)[-1] for law, f, x in zip(laws, FAMILY, STARTS, strict=True)])


@pytest.mark.parametrize("steps", [1, 12, 60])
def test_the_best_is_better_than_the_named_schemes_and_worse_than_any_policy(steps):
    best = optimal_update(FAMILY, STARTS, "binary8", 0.0625, steps, position=np.linspace(0, 1, 9))
    assert best.expected == pytest.approx(mean(best, steps), rel=1e-6)
    assert best.expected <= 1.0001 * min(mean(s, steps) for s in ("SR", "signed_SR_eps(0.1)", "signed_SR_eps(0.4)"))
    laws = [exact_law(f, "binary8", 0.0625) for f in FAMILY]
    least = [law.least_expected(f.f, steps)[-1, law.state(x)] for law, f, x in zip(laws, FAMILY, STARTS, strict=True)]
    assert best.expected >= np.mean(least) * (1 - 1e-12)
    assert np.all((best.probability >= 0) & (best.probability <= 1))


@pytest.mark.parametrize("problem", FAMILY, ids=["1.1", "-1.1", "1.7", "-1.7"])
@pytest.mark.parametrize(("named", "eps"), [("SR", 0.0), ("signed_SR_eps(0.25)", 0.25), ("signed_SR_eps(0.5)", 0.5)])
def test_knots_on_the_line_of_a_named_scheme_have_its_law(problem, named, eps):
    position = np.linspace(0, 1, 5)
    own = OptimalUpdate(position, np.minimum(position + eps, 1), 0.0)
    laws = [exact_law(problem, "binary8", 0.0625, update=update) for update in (own, named)]
    assert abs(laws[0].matrix - laws[1].matrix).max() < 2.0**-30


def test_the_position_is_counted_from_the_neighbour_that_is_uphill():
    """A quarter of the gap above the lower neighbour is 3/4 of the way down, and 1/4 of the way up."""
    up = OptimalUpdate(np.array([0.0, 1.0]), np.array([0.2, 1.0]), 0.0)(np.array([0.25, 0.25]), np.array([1.0, -1.0]))
    np.testing.assert_allclose(up, [1 - 0.8, 0.4])


def test_the_derivative_is_that_of_a_difference():
    rng = np.random.default_rng(1)
    matrix, *slopes = rng.random((3, 5, 5)) / 5
    law, f = rng.random(5), rng.random(5)

    def value(weights):
        now = matrix + sum(w * slope for w, slope in zip(weights, slopes, strict=True))
        return law @ np.linalg.matrix_power(now, 4) @ f

    found, derivative = _expected(csr_array(matrix), [csr_array(slope) for slope in slopes], law, f, 4)
    assert found == pytest.approx(value(np.zeros(2)))
    assert derivative == pytest.approx(approx_fprime(np.zeros(2), value), rel=1e-5)


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="starts has 1 elements; must have one for each of 4"):
        optimal_update(FAMILY, [0.0], "binary8", 0.0625, 3)
    for position in ([0.0, 0.5], [0.1, 1.0], [0.0, 0.7, 0.3, 1.0], [[0.0, 1.0]]):
        with pytest.raises(ValueError, match=r"^position is .*; must increase from 0 to 1"):
            optimal_update(FAMILY, STARTS, "binary8", 0.0625, 3, position=position)
    with pytest.raises(ValueError, match=r"^threshold is 1\.0; must be at least 0 and below 1"):
        downhill_from(1.0)
    with pytest.raises(ValueError, match=r"x is 0\.3; must be one of"):
        optimal_update(FAMILY, [0.3] * 4, "binary8", 0.0625, 3)


def test_the_threshold_rounds_to_the_neighbour_with_the_smaller_objective():
    """D11: of ½L(x − x*)², at all values whose step is short, when gradient and step are rounded without an error."""
    low = Format.parse("binary8")
    for minimiser, stepsize in ((1.1, 0.0625), (1.26, 0.25), (-1.7, 0.5)):
        problem = Quadratic(minimiser)
        x = low.values()[np.abs(low.values()) < 8]
        step = stepsize * (x - minimiser)
        below, above = (np.asarray(part) for part in low.neighbours(x - step))
        short = (below < above) & ((below == x) | (above == x))
        theta = ((x - step - below) / np.where(above > below, above - below, 1))[short]
        up = downhill_from(stepsize / 2)(theta, np.sign(step)[short])
        chosen = np.where(up > 0.5, above[short], below[short])
        other = np.where(up > 0.5, below[short], above[short])
        assert np.all(problem.f(chosen) <= problem.f(other)) and set(up) == {0.0, 1.0}


@pytest.mark.parametrize("stepsize", [2.0**-4, 2.0**-2])
def test_the_threshold_ends_at_the_floor_of_the_policy_that_knows_everything(stepsize):
    """From the third binade in any policy can be better on the way, but not in the end."""
    found, least = [], []
    for problem, x in zip(FAMILY, STARTS, strict=True):
        law = exact_law(problem, "binary8", stepsize, update=downhill_from(stepsize / 2))
        free = exact_law(problem, "binary8", stepsize)
        found.append(law.expected(problem.f, x, 300))
        least.append(free.least_expected(problem.f, 300)[:, free.state(x)])
    found, least = np.mean(found, axis=0), np.mean(least, axis=0)
    assert np.all(found >= least * (1 - 1e-9)) and found[-1] == pytest.approx(least[-1], rel=1e-6)
