import inspect
import itertools
from pathlib import Path

import array_api_strict
import ml_dtypes
import numba
import numpy as np
import oracle
import pytest
import scipy.optimize
import threadpoolctl
from scipy.special import softmax

from srlib import (
    DiagonalQuadratic,
    Format,
    LogisticRegression,
    Philox,
    Scheme,
    TwoLayerNetwork,
    gradient_descent,
    round_to,
    skeleton,
)
from srlib.companion import datasets
from srlib.descent.bounds import certify
from srlib.descent.steps import adam, iterates, unrounded_descent

MNIST = Path(__file__).parents[2] / "data" / "mnist"
SCHEMES = {"gradient": "SR", "multiply": "SR_eps(0.2)", "update": "signed_SR_eps(0.1)"}
QUADRATIC = DiagonalQuadratic(np.array([1.0, 0.25, 0.1]), np.array([3.0, -7.0, 0.3]))


def mnist(count):
    data = datasets.subset(datasets.load(MNIST), count)
    return data.train_images, data.train_labels, data.test_images, data.test_labels


def run(problem=QUADRATIC, x0=None, **changes):
    x0 = np.array([100.0, 10.0, 0.7]) if x0 is None else x0
    options = {"stepsize": 0.5, "steps": 20, "fmt": "binary8", **SCHEMES, "rng": Philox(1, replicates=4)}
    return gradient_descent(problem, x0, **(options | changes))


def assert_same(one, other):
    np.testing.assert_array_equal(np.asarray(one.x), np.asarray(other.x))
    for field in ("objective", "error", "unmoved", "steps"):
        np.testing.assert_array_equal(getattr(one, field), getattr(other, field))


def test_it_is_the_iteration_of_the_specification():
    history = run()
    rng = Philox(1, replicates=4)
    x = np.tile(round_to(np.array([100.0, 10.0, 0.7]), "binary8"), (4, 1))
    for step in range(20):
        assert history.objective[step] == pytest.approx(QUADRATIC.f(x), rel=1e-9)
        assert history.error[step] == pytest.approx(QUADRATIC.error(x), rel=1e-9)
        g = round_to(QUADRATIC.gradient(x), "binary8", "SR", rng)
        u = round_to(0.5 * g, "binary8", "SR_eps(0.2)", rng)
        moved = round_to(x - u, "binary8", "signed_SR_eps(0.1)", rng, v=u)
        np.testing.assert_array_equal(history.unmoved[step], (moved == x).mean(axis=1))
        x = moved
    np.testing.assert_array_equal(history.x, x)


def test_the_scheme_of_the_update_may_depend_on_the_step():
    schedule = ["signed_SR_eps(0.4)"] * 3 + ["SR"] * 2 + ["RN"] * 2
    history = run(steps=7, update=lambda step: schedule[step])
    rng, x = Philox(1, replicates=4), np.array([100.0, 10.0, 0.7])
    for scheme in schedule:
        x = run(x0=x, steps=1, update=scheme, rng=rng).x
    np.testing.assert_array_equal(history.x, x)


def test_the_skeleton_is_its_formula_and_without_eps_gradient_descent():
    stepsizes, eps, x = [0.5, 0.25, 0.5], [0.4, 0.1, 0.0], round_to(np.array([100.0, 10.0, 0.7]), "binary8")
    start = x
    for t, e in zip(stepsizes, eps, strict=True):
        g = QUADRATIC.gradient(x)
        x = x - t * g - e * Format.parse("binary8").ulp(x) * np.sign(g)
    history = skeleton(QUADRATIC, start, stepsize=stepsizes, eps=eps, fmt="binary8", steps=3)
    np.testing.assert_array_equal(history.x, x)
    plain = skeleton(QUADRATIC, start, stepsize=0.5, fmt="binary8", steps=9)
    assert_same(plain, run(x0=start, fmt="binary64", steps=9, rng=Philox(1)))


def test_a_skeleton_moves_each_component_against_the_sign_of_its_gradient():
    """By hand: in binary8 the ulp of 8 is 2 and that of 1 and 1.75 is 1/4; at 3 the gradient is 0."""
    problem = DiagonalQuadratic(np.array([1.0, 1.0, 1.0, 1.0]), np.array([0.0, 3.0, 2.0, 0.0]))
    history = skeleton(
        problem, np.array([8.0, 3.0, 1.0, 1.0]), stepsize=[0.5, 0.25], eps=[0.5, 0.0], fmt="binary8", steps=2
    )
    # After the first step 3, 3, 1 + 1/2 + 1/8 and 1 − 1/2 − 1/8.
    np.testing.assert_array_equal(history.x, [2.25, 3, 1.625 + 0.25 * 0.375, 0.75 * 0.375])
    assert history.steps.tolist() == [0, 1, 2]
    np.testing.assert_array_equal(history.unmoved, [0.25, 0.25])
    plain = skeleton(problem, np.array([8.0, 3.0, 1.0, 1.0]), stepsize=0.5, fmt="binary8", steps=1)
    np.testing.assert_array_equal(plain.x, [4, 3, 1.5, 0.5])


@pytest.mark.parametrize("fmt", ["binary8", "fixed(4,4)", Format("flushed", 3, -6, 7, subnormals=False)], ids=str)
def test_a_skeleton_leans_as_often_as_the_step_does_not_underflow(fmt):
    """w = min(1, t|g|/q) with q the smallest positive value, 2^emin without subnormals: by hand and by its rounding."""
    fmt, share = Format.parse(fmt), np.array([0.125, 0.5, 1.0, 3.0])
    q = 2.0 ** (fmt.emin - fmt.precision + 1) if fmt.subnormals else 2.0**fmt.emin
    g = share * q / 0.5
    problem = DiagonalQuadratic(np.ones(4), 1.0 - g)
    history = skeleton(problem, np.ones(4), stepsize=0.5, eps=0.25, fmt=fmt, steps=1)
    kept = np.minimum(share, 1)
    np.testing.assert_allclose(1 - history.x, share * q + 0.25 * fmt.ulp(1.0) * kept, rtol=1e-12)
    rounded = round_to(np.tile(0.5 * g, (4000, 1)), fmt, "SR", Philox(5, 4000))
    # 4000 words: beyond 5.5 standard errors with probability below 4e-8.
    assert np.all(np.abs(np.mean(rounded != 0, axis=0) - kept) <= 5.5 * np.sqrt(kept * (1 - kept) / 4000))
    full = skeleton(problem, np.ones(4), stepsize=0.5, eps=0.25, fmt=fmt, steps=1, underflow=False)
    np.testing.assert_allclose(1 - full.x, share * q + 0.25 * fmt.ulp(1.0), rtol=1e-12)


def test_the_skeleton_is_the_mean_of_a_step_where_no_clip_is_active():
    """10^5 replicates: beyond 5.5 standard errors, each at most a gap / √10^5, with probability below 2e-7."""
    x0 = np.array([80.0, 7.0, 0.875])
    mean = run(x0=x0, steps=1, stepsize=2.0**-6, multiply="SR", rng=Philox(2, replicates=100_000)).x.mean(axis=0)
    expected = skeleton(QUADRATIC, x0, steps=1, stepsize=2.0**-6, eps=0.1, fmt="binary8").x
    assert np.all(np.abs(mean - expected) < 5.5 * np.array([16.0, 1.0, 0.125]) / np.sqrt(100_000))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stepsize": [0.5, 0.5]}, r"stepsize is \[0.5, 0.5\]; must be a finite number that is not negative, or 3"),
        ({"eps": -0.1}, "eps is -0.1; must be a finite number"),
        ({"steps": 0}, "steps is 0; must be at least 1"),
        ({"record_every": 0}, "record_every is 0; must be at least 1"),
    ],
)
def test_a_skeleton_of_bad_parameters_is_refused(changes, message):
    options = {"stepsize": 0.5, "eps": 0.1, "steps": 3, "fmt": "binary8"}
    with pytest.raises(ValueError, match=message):
        skeleton(QUADRATIC, np.zeros(3), **(options | changes))


def test_numbers_are_recorded_to_ten_digits_at_the_start_the_end_and_in_between():
    history = run(steps=11, record_every=4)
    assert history.steps.tolist() == [0, 4, 8, 11]
    assert history.objective.shape == history.error.shape == (4, 4)
    assert history.unmoved.shape == (11, 4)
    assert all(float(f"{value:.9e}") == value for value in history.objective.ravel())


@pytest.mark.parametrize("scale", [1e-200, 1e-12, 1.0, 1e15, 1e300])
def test_ten_digits_are_those_of_the_decimal_notation(scale):
    quadratic = DiagonalQuadratic(np.array([1.0]), np.array([0.0]))
    x0 = np.sqrt(2 * scale * np.geomspace(1, 10, 50))[:, None]
    rng = Philox(1, replicates=50)
    history = run(quadratic, x0, steps=1, stepsize=1e-3, fmt="binary64", rng=rng)
    expected = [float(f"{value:.9e}") for value in quadratic.f(x0)]
    np.testing.assert_allclose(history.objective[0], expected, rtol=3e-16)


class Plane:
    """A matrix of components, of which a step moves those that are positive."""

    shape = (2, 3)

    def f(self, x):
        return x.sum(axis=(-2, -1))

    def gradient(self, x):
        return np.where(x > 0, 1.0, 0.0)


def test_of_a_matrix_the_stagnated_share_is_that_of_all_its_components():
    x0 = np.array([[[0, 0, 0], [0, 0, 8]], [[8, 0, 8], [0, 8, 0]], [[8, 8, 8], [8, 8, 8]], np.zeros((2, 3))])
    nearest = {"gradient": "RN", "multiply": "RN", "update": "RN", "stepsize": 1.0, "steps": 2}
    history = run(Plane(), x0, rng=Philox(1, replicates=4), **nearest)
    np.testing.assert_allclose(history.unmoved, [[5 / 6, 1 / 2, 0, 1]] * 2)
    assert history.error is None
    for alone, share in zip(x0, (5 / 6, 1 / 2, 0, 1), strict=True):
        np.testing.assert_allclose(run(Plane(), alone, rng=None, **nearest).unmoved, [share] * 2)


@pytest.mark.parametrize("replicates", [None, 2])
def test_of_a_classifier_the_weights_of_blank_pixels_stagnate(replicates):
    images, labels = np.array([[255, 0, 0, 0], [128, 0, 0, 0], [64, 0, 0, 0]], np.uint8), np.array([0, 1, 2], np.uint8)
    problem = LogisticRegression(images, labels, images, labels)
    rng, ensemble = Philox(1, replicates), () if replicates is None else (replicates,)
    history = run(problem, np.zeros(problem.shape), steps=3, fmt="binary32", rng=rng)
    np.testing.assert_array_equal(history.unmoved, np.full((3, *ensemble), 0.75))
    assert history.objective.shape == history.error.shape == (4, *ensemble)


@pytest.mark.parametrize("follow", [run, skeleton], ids=["descent", "skeleton"])
def test_a_start_outside_the_format_is_rounded_to_nearest(follow):
    x0 = np.array([100.0, 1.1, -0.3])
    start = x0.astype(ml_dtypes.float8_e5m2).astype(float)
    history = follow(QUADRATIC, x0, stepsize=0.5, steps=1, fmt="binary8")
    np.testing.assert_allclose(history.objective[0], QUADRATIC.f(start), rtol=1e-9)


def test_without_replicates_there_is_no_axis_of_them():
    history = run(rng=Philox(1))
    assert history.x.shape == (3,)
    assert history.objective.shape == (21,)
    assert_same_but_axis(history, run(rng=Philox(1, replicates=1)))


def assert_same_but_axis(plain, ensemble):
    np.testing.assert_array_equal(plain.x, ensemble.x[0])
    np.testing.assert_array_equal(plain.objective, ensemble.objective[:, 0])


def test_deterministic_schemes_need_no_random_words():
    history = run(gradient="RN", multiply="RZ", update="RD", rng=None)
    assert history.x.shape == (3,)


def test_each_replicate_may_start_elsewhere():
    x0 = np.arange(12.0).reshape(4, 3)
    history = run(x0=x0, steps=1, rng=Philox(1, replicates=4))
    np.testing.assert_allclose(history.objective[0], QUADRATIC.f(round_to(x0, "binary8")), rtol=1e-9)


def network(count):
    data = datasets.subset(datasets.select_classes(datasets.load(MNIST), (3, 8)), count)
    return TwoLayerNetwork(data.train_images, data.train_labels, data.test_images, data.test_labels, units=10)


@pytest.mark.parametrize("make", [lambda count: LogisticRegression(*mnist(count)), network], ids=["E3", "E4"])
@pytest.mark.parametrize("fmt", ["binary8", "bfloat16", "binary32"])
def test_a_replicate_is_the_same_alone_and_in_an_ensemble(fmt, make):
    problem = make(200)
    ensemble = run(problem, np.zeros(problem.shape), steps=4, fmt=fmt, rng=Philox(2, replicates=range(5, 8)))
    for r in range(3):
        alone = run(problem, np.zeros(problem.shape), steps=4, fmt=fmt, rng=Philox(2, replicates=range(5 + r, 6 + r)))
        np.testing.assert_array_equal(alone.x[0], ensemble.x[r])
        for field in ("objective", "error", "unmoved"):
            np.testing.assert_array_equal(getattr(alone, field)[:, 0], getattr(ensemble, field)[:, r])


@pytest.mark.parametrize("make", [lambda count: LogisticRegression(*mnist(count)), network], ids=["E3", "E4"])
@pytest.mark.parametrize("fmt", ["binary8", "binary32"])
def test_the_number_of_threads_does_not_change_a_run(fmt, make):
    problem = make(2000)

    def once(threads):
        before = numba.get_num_threads()
        numba.set_num_threads(min(threads, before))
        try:
            with threadpoolctl.threadpool_limits(threads):
                return run(problem, np.zeros(problem.shape), steps=3, fmt=fmt, rng=Philox(3, replicates=2))
        finally:
            numba.set_num_threads(before)

    assert_same(once(1), once(2))


@pytest.mark.parametrize("fmt", ["binary8", "bfloat16"])
def test_array_api_strict_arrays_give_the_same_run(fmt):
    data = mnist(30)
    images, labels, tests, test_labels = data[0][:, 300:400], data[1], data[2][:50, 300:400], data[3][:50]
    arrays = (images, labels, tests, test_labels)
    rng = [Philox(4, replicates=2) for _ in range(2)]
    strict = LogisticRegression(*(array_api_strict.asarray(array) for array in arrays))
    plain = LogisticRegression(*arrays)
    zeros = array_api_strict.zeros(strict.shape, dtype=array_api_strict.float64)
    history = run(strict, zeros, steps=3, fmt=fmt, rng=rng[0])
    assert type(history.x) is type(zeros)
    assert_same(history, run(plain, np.zeros(plain.shape), steps=3, fmt=fmt, rng=rng[1]))


def test_array_api_strict_arrays_train_the_network():
    data = datasets.subset(datasets.select_classes(datasets.load(MNIST), (3, 8)), 30)
    arrays = (data.train_images[:, 300:400], data.train_labels, data.test_images[:50, 300:400], data.test_labels[:50])
    strict = TwoLayerNetwork(*(array_api_strict.asarray(array) for array in arrays), units=5)
    plain = TwoLayerNetwork(*arrays, units=5)
    start = plain.initial(1)
    rng = [Philox(4, replicates=2) for _ in range(2)]
    assert_same(
        run(strict, array_api_strict.asarray(start), steps=3, rng=rng[0]), run(plain, start, steps=3, rng=rng[1])
    )


def test_array_api_strict_arrays_descend_a_quadratic():
    strict = DiagonalQuadratic(*(array_api_strict.asarray(a) for a in (QUADRATIC.curvatures, QUADRATIC.minimiser)))
    history = run(strict, array_api_strict.asarray([100.0, 10.0, 0.7]))
    assert_same(history, run())


def test_binary64_is_plain_gradient_descent():
    images, labels, tests, test_labels = mnist(500)
    problem = LogisticRegression(images, labels, tests, test_labels)
    history = run(problem, np.zeros(problem.shape), fmt="binary64", steps=10, rng=Philox(5))
    x, w = images / 255, np.zeros((784, 10))
    for _ in range(10):
        w -= 0.5 * x.T @ (softmax(x @ w, axis=1) - np.eye(10)[labels]) / 500
    np.testing.assert_allclose(history.x, w.T, rtol=1e-10, atol=1e-13)


@pytest.mark.slow
def test_unrounded_descent_on_all_of_mnist_has_the_orientation_figures():
    """SPEC E3: 31.96% test error after 1 epoch, 15.30% after 10."""
    problem = LogisticRegression(*mnist(60000))
    history = run(problem, np.zeros(problem.shape), fmt="binary64", steps=10, record_every=9, rng=Philox(6))
    assert history.steps.tolist() == [0, 9, 10]
    assert history.error[-1] == 0.1530
    first = run(problem, np.zeros(problem.shape), fmt="binary64", steps=1, rng=Philox(6))
    assert first.error[-1] == 0.3196


@pytest.mark.exhaustive
def test_binary32_on_all_of_mnist_has_the_orientation_figures_to_the_end():
    """SPEC E3: 15.30, 11.55, 10.00 and 9.47% test error after 10, 40, 100 and 150 epochs."""
    problem, nearest = LogisticRegression(*mnist(60000)), {"gradient": "RN", "multiply": "RN", "update": "RN"}
    history = run(problem, np.zeros(problem.shape), fmt="binary32", steps=150, record_every=10, rng=None, **nearest)
    found = dict(zip(history.steps.tolist(), history.error, strict=True))
    for epoch, error in {10: 0.1530, 40: 0.1155, 100: 0.1000, 150: 0.0947}.items():
        assert found[epoch] == pytest.approx(error, abs=0.001)


def test_nearest_stagnates_where_stochastic_rounding_goes_on():
    """C1 on (x − 1024)²/2 from 1024·1.75: a step t·g below half a gap never moves under RN."""
    problem, x0 = DiagonalQuadratic(np.array([1.0]), np.array([1024.0])), np.array([1792.0])
    nearest = run(problem, x0, stepsize=2.0**-4, steps=50, gradient="RN", multiply="RN", update="RN", rng=None)
    assert nearest.x[0] == 1792 and np.all(nearest.unmoved == 1)
    stochastic = run(problem, x0, stepsize=2.0**-4, steps=50, gradient="SR", multiply="SR", update="SR")
    assert np.all(stochastic.objective[-1] < nearest.objective[-1])


def test_overflow_shows_as_nan_or_inf_and_not_as_an_error():
    history = run(x0=np.array([5e4, 5e4, 5e4]), stepsize=1e6, steps=5)
    assert not np.any(np.isfinite(history.objective[-1]))


def test_what_overflows_in_binary64_is_recorded_as_it_is():
    steep = DiagonalQuadratic(np.array([1e200]), np.zeros(1))
    history = run(steep, np.array([1e200]), steps=2, fmt="binary64", rng=Philox(1))
    assert np.isposinf(history.objective[0])
    assert not np.any(np.isfinite(history.objective))


def test_without_schemes_all_three_roundings_are_stochastic():
    options = {"stepsize": 0.5, "steps": 5, "fmt": "binary8"}
    x0 = np.array([100.0, 10.0, 0.7])
    assert_same(
        gradient_descent(QUADRATIC, x0, rng=Philox(1, 4), **options),
        run(**options, gradient="SR", multiply="SR", update="SR"),
    )


def test_a_gradient_that_a_problem_rounds_itself_is_taken_as_it_is():
    class Rounded(DiagonalQuadratic):
        def rounded_gradient(self, x, arithmetic):
            return arithmetic.multiply(self.curvatures, arithmetic.subtract(x, self.minimiser))

    problem = Rounded(np.array([1.25]), np.array([0.375]))
    nearest = {"gradient": "RN", "multiply": "RN", "update": "RN"}
    found = run(problem, np.array([1.75]), stepsize=1.0, steps=1, fmt="binary8", rng=None, **nearest)
    # 1.75 − 0.375 = 1.375 becomes 1.5, and 1.25·1.5 = 1.875 becomes 2; rounded once, 1.25·1.375 would become 1.75.
    assert found.x == -0.25


def test_progress_wraps_the_steps():
    seen = []
    run(steps=3, progress=lambda steps: (seen.append(step) or step for step in steps))
    assert seen == [1, 2, 3]


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"stepsize": float("nan")}, ValueError, "stepsize is nan; must be finite and positive"),
        ({"stepsize": 0.0}, ValueError, "stepsize is 0.0; must be finite and positive"),
        ({"stepsize": "0.5"}, TypeError, "stepsize is '0.5'; must be a real number"),
        ({"steps": 0}, ValueError, "steps is 0; must be at least 1"),
        ({"steps": 2.5}, TypeError, "steps is 2.5; must be an integer"),
        ({"record_every": 0}, ValueError, "record_every is 0; must be at least 1"),
        ({"fmt": "binary7"}, ValueError, "format is 'binary7'"),
        ({"gradient": "SR_eps(1)"}, ValueError, r"scheme is 'SR_eps\(1\)': eps is 1.0"),
        ({"gradient": "signed_SR_eps(0.1)"}, ValueError, r"gradient is signed_SR_eps\(0.1\); a signed scheme can be"),
        ({"multiply": Scheme("signed_SR_eps")}, ValueError, "multiply is signed_SR_eps"),
        ({"rng": None}, TypeError, "rng is None; stochastic schemes need a Philox"),
        ({"x0": np.zeros(2)}, ValueError, r"x0 has shape \(2,\); must be \(3,\) or \(4, 3\)$"),
        ({"x0": np.zeros((3, 3))}, ValueError, r"x0 has shape \(3, 3\); must be \(3,\) or \(4, 3\)$"),
        ({"x0": np.zeros((4, 3)), "rng": Philox(1)}, ValueError, r"x0 has shape \(4, 3\); must be \(3,\)$"),
        ({"x0": np.zeros(3, np.float32)}, TypeError, "x0 is of float32; must be of float64"),
        ({"x0": np.zeros(3, int)}, TypeError, "x0 is of int64; must be of float32 or float64"),
    ],
)
def test_bad_parameters_are_refused(changes, error, message):
    with pytest.raises(error, match=message):
        run(**changes)


def with_returns(**changes):
    """The quadratic with other results of its functions; without `error` unless that is one of them."""

    class Spoilt:
        shape = QUADRATIC.shape

        def f(self, x):
            return changes.get("f", lambda y: y)(QUADRATIC.f(x))

        def gradient(self, x):
            return changes.get("gradient", lambda y: y)(QUADRATIC.gradient(x))

    for name in changes.keys() - {"f", "gradient"}:
        setattr(Spoilt, name, lambda self, x, *rest, name=name: changes[name](x))
    return Spoilt()


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        (
            {"gradient": lambda g: g[..., :1]},
            ValueError,
            r"gradient\(x\) has shape \(4, 1\) .*: axis 1 has length 1, not 3",
        ),
        ({"gradient": lambda g: g[0]}, ValueError, r"gradient\(x\) has shape \(3,\) .*; must be \(4, 3\), with 2 axes"),
        ({"gradient": lambda g: g.astype(np.float32)}, TypeError, r"gradient\(x\) is of float32; must be of float64"),
        ({"gradient": lambda g: str(g)}, TypeError, r"gradient\(x\) is a str; must be numbers or an array"),
        (
            {"f": lambda f: f.sum()},
            ValueError,
            r"f\(x\) has shape \(\) for x of shape \(4, 3\), points of \(3,\); must be \(4,\), with 1",
        ),
        ({"f": lambda f: f[:2]}, ValueError, r"f\(x\) has shape \(2,\) .*; must be \(4,\): axis 0 has length 2, not 4"),
        ({"error": lambda x: x}, ValueError, r"error\(x\) has shape \(4, 3\) for x of shape \(4, 3\)"),
        ({"rounded_gradient": lambda x: x[..., :1]}, ValueError, r"rounded_gradient\(x\) has shape \(4, 1\)"),
    ],
)
def test_what_a_problem_returns_must_have_its_shape(changes, error, message):
    rng = Philox(1, 4)
    with pytest.raises(error, match=message):
        run(with_returns(**changes), rng=rng)
    assert rng.draws == 0


def test_an_objective_of_scipy_that_takes_points_along_the_first_axis_is_refused_and_not_misread():
    problem = with_returns(f=lambda _: scipy.optimize.rosen(np.ones((4, 3))))
    with pytest.raises(ValueError, match=r"f\(x\) has shape \(3,\) for x of shape \(4, 3\)"):
        run(problem)


def test_numbers_and_lists_are_points_and_data_too():
    given = {"stepsize": 0.25, "steps": 5, "fmt": "binary8"}
    plain = run(DiagonalQuadratic(np.array([1.0, 0.5]), np.array([3.0, -1.0])), np.zeros(2), rng=Philox(2, 3), **given)
    lists = run(DiagonalQuadratic([1, 0.5], [3, -1]), [0.0, 0], rng=Philox(2, 3), **given)
    assert_same(lists, plain)


def test_an_option_that_is_not_there_is_named_with_the_function_that_was_called():
    with pytest.raises(TypeError, match=r"^gradient_descent\(\) got an unexpected keyword argument 'step'"):
        gradient_descent(QUADRATIC, np.zeros(3), step=0.1)
    for function in (gradient_descent, certify):
        assert {"stepsize", "fmt", "gradient", "multiply", "update", "rng"} <= inspect.signature(
            function
        ).parameters.keys()


def test_unrounded_descent_is_its_formula():
    """Heavy ball with both sign steps and falling stepsizes, written out; without them gradient descent."""
    x = before = start = np.array([8.0, 3.0, -1.0])
    stepsizes = [0.5, 0.25, 0.125]
    for t in stepsizes:
        g = QUADRATIC.gradient(x)
        x, before = x - t * g + 0.9 * (x - before) - (0.01 + 0.02 * np.abs(x)) * np.sign(g), x
    options = {"momentum": 0.9, "sign_step": 0.01, "relative_step": 0.02}
    history = unrounded_descent(QUADRATIC, start, stepsize=stepsizes, steps=3, **options)
    np.testing.assert_allclose(history.x, x, rtol=1e-14)
    assert history.objective.shape == (4,)
    plain = unrounded_descent(QUADRATIC, start, stepsize=0.5, steps=9)
    np.testing.assert_array_equal(plain.x, skeleton(QUADRATIC, start, stepsize=0.5, fmt="binary64", steps=9).x)


def test_the_heavy_ball_is_nesterovs_optimum_on_a_quadratic():
    """With t = 4/(√L + √μ)² and β = ((√κ − 1)/(√κ + 1))² the rate is √β (Polyak 1964)."""
    problem = DiagonalQuadratic(np.array([1.0, 1e-2]), np.zeros(2))
    root = 10.0
    momentum = ((root - 1) / (root + 1)) ** 2
    history = unrounded_descent(
        problem, np.ones(2), stepsize=4 / 1.1**2, steps=200, momentum=momentum, record_every=100
    )
    assert (history.error[2] / history.error[1]) ** 0.01 == pytest.approx(momentum**0.5, rel=0.02)


def test_nesterovs_method_and_adam_are_their_formulas():
    x = before = start = np.array([8.0, 3.0, -1.0])
    for t in (0.5, 0.25):
        y = x + 0.75 * (x - before)
        x, before = y - t * QUADRATIC.gradient(y), x
    found = unrounded_descent(QUADRATIC, start, stepsize=[0.5, 0.25], steps=2, momentum=0.75, nesterov=True)
    np.testing.assert_allclose(found.x, x, rtol=1e-14)
    x, m, v = start, 0.0, 0.0
    for k, t in enumerate((0.5, 0.25, 0.125), 1):
        g = QUADRATIC.gradient(x)
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        x = x - t * (m / (1 - 0.9**k)) / (np.sqrt(v / (1 - 0.999**k)) + 1e-8)
    found = adam(QUADRATIC, start, stepsize=[0.5, 0.25, 0.125], steps=3)
    np.testing.assert_allclose(found.x, x, rtol=1e-13)
    first = adam(QUADRATIC, start, stepsize=0.5, steps=1).x - start
    np.testing.assert_allclose(first, -0.5 * np.sign(QUADRATIC.gradient(start)), rtol=1e-6)


@pytest.mark.parametrize(
    "descent",
    [
        lambda x: unrounded_descent(QUADRATIC, x, stepsize=0.5, steps=4, momentum=0.5, sign_step=0.1),
        lambda x: skeleton(QUADRATIC, x, stepsize=0.5, steps=4, fmt="binary8", eps=0.25),
        lambda x: adam(QUADRATIC, x, stepsize=0.5, steps=4),
    ],
)
def test_several_starts_are_as_many_runs(descent):
    starts = np.array([[8.0, 3.0, -1.0], [0.0, 1.0, 2.0]])
    together = descent(starts)
    assert together.objective.shape == (5, 2) and together.unmoved.shape == (4, 2)
    for k, start in enumerate(starts):
        np.testing.assert_array_equal(descent(start).x, together.x[k])
    with pytest.raises(ValueError, match=r"x0 has shape \(2, 2\); must be \(3,\), or have one axis more, in front"):
        descent(starts[:, :2])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"momentum": 1.0}, r"^momentum is 1\.0; must be at least 0 and below 1"),
        ({"momentum": -0.1}, r"^momentum is -0\.1; must be"),
        ({"sign_step": -1.0}, r"^sign_step is -1\.0; must be a finite number that is not negative"),
        ({"relative_step": np.nan}, "^relative_step is nan; must be a finite number"),
        ({"stepsize": [0.1, 0.2]}, "^stepsize is .*; must be .* or 3 of them"),
        ({"x0": np.zeros(2)}, r"^x0 has shape \(2,\); must be \(3,\)"),
        ({"steps": 0}, "^steps is 0; must be at least 1"),
    ],
)
def test_unrounded_descent_of_bad_parameters_is_refused(changes, message):
    options = {"x0": np.zeros(3), "stepsize": 0.5, "steps": 3}
    with pytest.raises(ValueError, match=message):
        unrounded_descent(QUADRATIC, **(options | changes))


def test_a_skeleton_knows_that_a_step_can_underflow():
    """Of a step of a quarter of the smallest positive number û is 0 in three cases of four."""
    low = Format.parse("binary8")
    tiny = low.smallest_subnormal
    problem = DiagonalQuadratic(np.ones(3), np.array([1.0 - tiny / 4, 1.0 - 3 * tiny, 1.0]))
    options = {"stepsize": 1.0, "steps": 1, "fmt": low, "eps": 0.25}
    moved = np.ones(3) - skeleton(problem, np.ones(3), **options).x
    np.testing.assert_allclose(moved, [tiny / 4 + 0.25 * 0.25 / 4, 3 * tiny + 0.25 * 0.25, 0.0], rtol=1e-6)
    moved = np.ones(3) - skeleton(problem, np.ones(3), **options, underflow=False).x
    np.testing.assert_allclose(moved, [tiny / 4 + 0.25 * 0.25, 3 * tiny + 0.25 * 0.25, 0.0], rtol=1e-6)


def test_sign_steps_may_differ_from_step_to_step():
    start, sizes = np.array([8.0, 3.0, -1.0]), [0.25, 0.0]
    one = unrounded_descent(QUADRATIC, start, stepsize=0.5, steps=1, sign_step=0.25).x
    two = unrounded_descent(QUADRATIC, one, stepsize=0.5, steps=1).x
    np.testing.assert_array_equal(unrounded_descent(QUADRATIC, start, stepsize=0.5, steps=2, sign_step=sizes).x, two)


def one_by_one(x, v, steps, beta, words, fmt, velocity_fmt, schemes, stepsize):
    """Steps with momentum of one replicate, a number at a time in exact rationals; `words` gives those of a draw."""
    first, second, third = schemes
    draw = itertools.count()

    def fl(values, to, scheme, direction=None):
        stochastic = scheme.startswith(("SR", "signed"))
        drawn = words(next(draw)) if stochastic else [0] * len(values)
        directions = direction or [0.0] * len(values)
        return [
            oracle.rounded(y, to, scheme, int(w), d, np.float64)
            for y, w, d in zip(values, drawn, directions, strict=True)
        ]

    for _ in range(steps):
        g = fl([float(c * (a - b)) for c, a, b in zip(CURVATURES, x, MINIMISER, strict=True)], fmt, first)
        u = fl([stepsize * s for s in g], fmt, second)
        if beta:
            kept = fl([beta * a for a in v], velocity_fmt, second)
            v = fl([a + b for a, b in zip(kept, u, strict=True)], velocity_fmt, second)
        else:
            v = u
        x = fl([a - b for a, b in zip(x, v, strict=True)], fmt, third, v)
    return x


CURVATURES, MINIMISER = [1.0, 0.25, 0.5], [3.0, -7.0, 0.5]
HEAVY = {
    "SR": ("SR", "SR", "SR"),
    "signed": ("SR", "SR_eps(0.1)", "signed_SR_eps(0.6)"),
    "RN": ("RN", "RN", "RN"),
    "a random update": ("RN", "RN", "signed_SR_eps(0.1)"),
}


@pytest.mark.parametrize("beta", [0.0, 0.5, 0.875])
@pytest.mark.parametrize("schemes", HEAVY.values(), ids=HEAVY)
@pytest.mark.parametrize("velocity_fmt", [None, "bfloat16", "e4m3"])
def test_momentum_has_every_operation_rounded(beta, schemes, velocity_fmt):
    """Two steps and five, by an oracle in rationals that takes the words of each draw in turn."""
    problem = DiagonalQuadratic(CURVATURES, MINIMISER)
    start, fmt = [100.0, 10.0, 0.75], Format.parse("binary8")
    start = [float(a) for a in round_to(np.array(start), fmt)]
    sites = dict(zip(("gradient", "multiply", "update"), schemes, strict=True))
    options = {"momentum": beta, "velocity_fmt": velocity_fmt, "stepsize": 0.375, "fmt": fmt}
    for steps in (2, 5):
        rng = Philox(11, replicates=range(3, 5))
        found = gradient_descent(problem, start, steps=steps, rng=rng, **sites, **options).x
        taken = rng.draws
        for row, replicate in enumerate((3, 4)):

            def words(draw, replicate=replicate):
                stream = Philox(11, replicates=range(replicate, replicate + 1))
                stream.draws = draw
                return stream.words(np.empty((1, 3)))[0]

            other = Format.parse(velocity_fmt or fmt)
            expected = one_by_one(start, [0.0] * 3, steps, beta, words, fmt, other, schemes, 0.375)
            np.testing.assert_array_equal(found[row], expected)
        a_step = [scheme != "RN" for scheme in (schemes[0], schemes[1], *[schemes[1]] * (2 * bool(beta)), schemes[2])]
        assert taken == steps * sum(a_step)


def test_without_momentum_nothing_is_drawn_for_the_velocity_and_nothing_changes():
    assert_same(run(momentum=0.0), run())
    assert_same(run(momentum=0.0, velocity_fmt="bfloat16"), run())


def test_exact_momentum_is_the_heavy_ball():
    options = {"stepsize": 0.5, "steps": 30, "fmt": "binary64", "gradient": "RN", "multiply": "RN", "update": "RN"}
    x0 = np.array([100.0, 10.0, 0.7])
    found = gradient_descent(QUADRATIC, x0, momentum=0.75, **options).x
    expected = unrounded_descent(QUADRATIC, x0, stepsize=0.5, steps=30, momentum=0.75).x
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_momentum_is_the_same_for_replicates_alone_and_for_another_library():
    problem = network(100)
    start = np.array([problem.initial(1, r) for r in range(2)])
    options = {"steps": 3, "momentum": 0.875, "velocity_fmt": "bfloat16"}
    ensemble = run(problem, start, rng=Philox(2, replicates=2), **options)
    for r in range(2):
        alone = run(problem, start[r : r + 1], rng=Philox(2, replicates=range(r, r + 1)), **options)
        np.testing.assert_array_equal(alone.x[0], ensemble.x[r])
    strict = DiagonalQuadratic(array_api_strict.asarray([1.0, 0.25]), array_api_strict.asarray([3.0, -7.0]))
    plain = DiagonalQuadratic(np.array([1.0, 0.25]), np.array([3.0, -7.0]))
    options |= {"rng": Philox(5, 3), "steps": 6}
    other = options | {"rng": Philox(5, 3)}
    start = array_api_strict.asarray([64.0, 5.0])
    assert_same(run(strict, start, **options), run(plain, np.array([64.0, 5.0]), **other))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"momentum": 0.9}, "momentum is 0.9; must be a value of binary8, as are 0.875 and 1"),
        ({"momentum": 0.9, "velocity_fmt": "bfloat16"}, "momentum is 0.9; must be a value of bfloat16, as are 0.89"),
        ({"momentum": 1.0}, "momentum is 1.0; must be at least 0 and below 1"),
        ({"momentum": -0.5}, "momentum is -0.5; must be at least 0 and below 1"),
        ({"velocity_fmt": "binary7"}, "format is 'binary7'"),
        ({"averages": [0]}, "averages is 0; must be from 1 to 20"),
        ({"averages": [21]}, "averages is 21; must be from 1 to 20"),
    ],
)
def test_momentum_and_averages_that_make_no_sense_are_refused(changes, message):
    with pytest.raises(ValueError) as error:
        run(**changes)
    assert str(error.value).startswith(message)


def unrounded(**options):
    return unrounded_descent(QUADRATIC, np.array([100.0, 10.0, 0.7]), stepsize=0.5, steps=20, **options)


@pytest.mark.parametrize("descent", [run, unrounded], ids=["rounded", "binary64"])
def test_averages_are_means_of_the_last_iterates_and_have_their_own_objective_and_error(descent):
    counts = [1, 2, 20]
    found = descent(averages=counts)
    walk = list(iterates(QUADRATIC, np.array([100.0, 10.0, 0.7]), stepsize=0.5, steps=20, fmt="binary8",
                         **SCHEMES, rng=Philox(1, replicates=4)))  # fmt: skip
    assert list(found.averages) == counts
    np.testing.assert_array_equal(found.averages[1].x, found.x)
    np.testing.assert_array_equal(found.averages[1].objective, found.objective[-1])
    np.testing.assert_array_equal(found.averages[1].error, found.error[-1])
    for count in counts:
        average = found.averages[count]
        np.testing.assert_allclose(average.objective, QUADRATIC.f(average.x), rtol=1e-9)
        np.testing.assert_allclose(average.error, QUADRATIC.error(average.x), rtol=1e-9)
        if descent is run:
            np.testing.assert_allclose(average.x, np.mean(walk[-count:], axis=0), rtol=1e-14)
    assert run().averages == {}
