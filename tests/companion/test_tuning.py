from math import inf, nan, sqrt

import numpy as np
import pytest

from srlib import DiagonalQuadratic, Philox, gradient_descent
from srlib.companion import tuning
from srlib.companion.experiments import Control, setups
from srlib.companion.tuning import Task, tune

QUADRATIC = DiagonalQuadratic(np.array([1.0, 0.25]), np.array([3.0, -7.0]))


class Labelled:
    """A quadratic that calls two images wrong."""

    shape, f, gradient, error = QUADRATIC.shape, QUADRATIC.f, QUADRATIC.gradient, QUADRATIC.error

    def wrong(self, x):
        return x[..., :1] > np.array([0.0, 9.0])


class Held:
    def error(self, x):
        return np.abs(x[..., 0])


def task(start=(0.0, 0.0), replicates=range(3), steps=10):
    return Task(Labelled(), np.array(start), Held(), steps, lambda replicates: Philox(3, replicates), replicates)


def test_a_point_is_the_end_of_a_run_and_of_the_mean_of_its_last_tenth():
    sr = setups("binary8", [0.1], None)[1]
    point = task(steps=20).point(sr, 0.25)
    rng = Philox(3, range(3))
    run = gradient_descent(QUADRATIC, [0.0, 0.0], stepsize=0.25, steps=20, fmt="binary8", rng=rng, averages=[2])
    np.testing.assert_array_equal(point["loss"], run.objective[-1])
    np.testing.assert_array_equal(point["error"], 100 * run.error[-1])
    np.testing.assert_array_equal(point["held_out"], 100 * np.abs(run.x[:, 0]))
    mean = run.averages[2]
    np.testing.assert_array_equal(point["average"]["loss"], mean.objective)
    np.testing.assert_array_equal(point["average"]["held_out"], 100 * np.abs(mean.x[:, 0]))
    assert point["t"] == 0.25 and [len(point["wrong"]), len(point["average"]["wrong"])] == [3, 3]
    assert "wrong" not in task(steps=20).numbers(sr, 0.25)


def test_a_deterministic_method_has_one_end_or_one_for_each_start():
    exact = Control("binary64")
    assert task().point(exact, 0.5)["loss"].shape == (1,)
    several = task([[0.0, 0.0], [1.0, 8.0], [2.0, 2.0]]).point(exact, 0.5)
    alone = task([1.0, 8.0]).point(exact, 0.5)
    assert several["loss"].shape == (3,) and several["loss"][1] == alone["loss"][0]


class Known:
    """A task whose held-out error, that of the average, and loss are known functions of t."""

    def __init__(self, last, mean=None, loss=None):
        self.last, self.mean, self.loss = last, mean or last, loss or last

    def point(self, method, t):
        end = {"error": [0.0], "wrong": ["80"]}
        mean = end | {"held_out": [self.mean(t)], "loss": [0.0]}
        return {"t": t, "held_out": [self.last(t)], "loss": [self.loss(t)]} | end | {"average": mean}


def around(best):
    return lambda t: abs(np.log2(t / best))


def stepsizes(points):
    return [point["t"] for point in points]


@pytest.mark.parametrize("best", [2.0**-6, 0.25, 1.0, 2.0**5])
def test_a_search_ends_on_both_sides_of_the_best_with_neighbours_at_a_factor_of_a_root(best):
    found = stepsizes(tune(Known(around(best)), Control("any"), [0.25, 0.5, 1.0]))
    assert found == sorted(found) and len(set(found)) == len(found)
    for wanted in (best, best / sqrt(2), best * sqrt(2)):
        assert any(t == pytest.approx(wanted, rel=1e-8) for t in found)


def test_a_finer_search_has_the_fourth_root_as_well():
    found = stepsizes(tune(Known(around(0.5)), Control("any"), [0.25, 0.5, 1.0], finest=4))
    assert any(abs(t / 0.5 - 2**0.25) < 1e-8 for t in found) and any(abs(t / 0.5 - 2**-0.25) < 1e-8 for t in found)


def test_the_best_by_error_by_average_and_by_loss_are_each_looked_for_and_images_kept_of_the_first_two():
    points = tune(Known(around(0.5), around(4.0), around(1 / 16)), Control("any"), [0.25, 0.5, 1.0])
    found = stepsizes(points)
    assert min(found) < 1 / 16 and max(found) > 4.0
    assert [point["t"] for point in points if "wrong" in point] == [0.5]
    assert [point["t"] for point in points if "wrong" in point["average"]] == [4.0]


def test_a_search_that_never_turns_ends_all_the_same_and_what_overflows_is_never_the_best():
    found = stepsizes(tune(Known(lambda t: -t), Control("any"), [1.0]))
    assert max(found) == pytest.approx(2.0**tuning._FURTHER * sqrt(2))
    points = tune(Known(lambda t: nan if t > 1 else inf if t > 0.5 else -t), Control("any"), [0.5, 1.0, 2.0])
    assert [point["t"] for point in points if "wrong" in point] == [0.5]
