import math

import array_api_strict
import mpmath
import numpy as np
import pytest
from scipy.linalg import eigvalsh
from scipy.optimize import approx_fprime, check_grad
from scipy.special import log_expit

from srlib import (
    DenseQuadratic,
    DiagonalQuadratic,
    Huber,
    LogisticLoss,
    Philox,
    gradient_descent,
    iterates,
    nesterov_quadratic,
)
from srlib.descent.problems import matrix_with_spectrum


def test_the_quadratic_is_half_the_weighted_square_and_has_its_derivative():
    a, minimiser = np.array([1.0, 0.1, 0.0]), np.array([1.0, -2.0, 3.0])
    quadratic = DiagonalQuadratic(a, minimiser)
    x = np.random.default_rng(1).standard_normal((4, 2, 3))
    np.testing.assert_allclose(quadratic.f(x), 0.5 * np.einsum("...i,i->...", (x - minimiser) ** 2, a), rtol=1e-14)
    assert check_grad(quadratic.f, quadratic.gradient, x[0, 0]) < 1e-6
    np.testing.assert_allclose(quadratic.error(x), np.linalg.norm(x - minimiser, axis=-1), rtol=1e-14)
    assert quadratic.shape == (3,)


@pytest.mark.parametrize(
    ("curvatures", "minimiser", "message"),
    [
        (np.ones(2), np.ones(3), r"have shapes \(2,\) and \(3,\); must both be \(n,\)"),
        (np.ones((2, 2)), np.ones((2, 2)), r"must both be \(n,\)"),
        (np.array([1.0, -1.0]), np.ones(2), "curvatures has negative or non-finite elements"),
        (np.array([1.0, np.inf]), np.ones(2), "curvatures has negative or non-finite elements"),
    ],
)
def test_a_quadratic_that_is_none_is_refused(curvatures, minimiser, message):
    with pytest.raises(ValueError, match=message):
        DiagonalQuadratic(curvatures, minimiser)


def test_a_dense_quadratic_is_half_the_form_and_has_its_derivative():
    matrix = matrix_with_spectrum(np.array([2.0, 1.0, 0.5, 0.1]), 1)
    minimiser = np.array([1.0, -2.0, 3.0, 0.0])
    quadratic = DenseQuadratic(matrix, minimiser)
    x = np.random.default_rng(1).standard_normal((5, 2, 4))
    d = x - minimiser
    np.testing.assert_allclose(quadratic.f(x), np.einsum("...i,ij,...j->...", d, matrix, d) / 2, rtol=1e-13)
    assert check_grad(quadratic.f, quadratic.gradient, x[0, 0]) < 1e-6
    np.testing.assert_allclose(quadratic.error(x), np.linalg.norm(d, axis=-1), rtol=1e-14)
    assert quadratic.shape == (4,)


@pytest.mark.parametrize("n", [1, 2, 7, 100])
def test_a_matrix_has_the_spectrum_that_was_asked_for_and_is_dense(n):
    eigenvalues = np.geomspace(1e-3, 1, n)
    matrix = matrix_with_spectrum(eigenvalues, 2)
    np.testing.assert_array_equal(matrix, matrix.T)
    np.testing.assert_allclose(eigvalsh(matrix), eigenvalues, atol=1e-14)
    assert n < 3 or np.mean(np.abs(matrix) > 1e-6) > 0.95
    np.testing.assert_array_equal(matrix, matrix_with_spectrum(eigenvalues, 2))
    assert n < 3 or not np.array_equal(matrix, matrix_with_spectrum(eigenvalues, 3))


def in_index_order(a, b):
    """The sum of products as a plain loop has it."""
    total = a[0] * b[0]
    for x, y in zip(a[1:], b[1:], strict=True):
        total += x * y
    return total


def test_a_matrix_is_of_cosines_whose_signs_and_eigenvalues_the_seed_has_shuffled_bit_by_bit():
    n, seed = 40, 7
    eigenvalues = np.geomspace(1e-3, 1, n)
    rng = Philox(seed)
    signs = [-1.0 if word < 0.5 else 1.0 for word in rng.uniform((n, 1))[:, 0]]
    shuffled = [float(value) for _, value in sorted(zip(rng.uniform((n,)), eigenvalues, strict=True))]
    assert {-1.0, 1.0} == set(signs) and shuffled != sorted(shuffled)
    with mpmath.workdps(60):
        cosines = [[float(mpmath.cospi(mpmath.mpf((2 * i + 1) * k) / (2 * n))) for k in range(n)] for i in range(n)]
    scales = [math.sqrt((2 if k else 1) / n) for k in range(n)]
    vectors = [
        [sign * (c * s) for c, s in zip(row, scales, strict=True)] for sign, row in zip(signs, cosines, strict=True)
    ]
    scaled = [[v * value for v, value in zip(row, shuffled, strict=True)] for row in vectors]
    product = np.array([[in_index_order(a, b) for b in vectors] for a in scaled])
    np.testing.assert_array_equal(matrix_with_spectrum(eigenvalues, seed), (product + product.T) / 2)


def sums(n=300):
    """Halves and numbers of full precision, whose sums of products depend on the order."""
    rng = np.random.default_rng(9)
    return rng.integers(-20, 20, n) / 2, rng.standard_normal(n)


def test_the_gradient_of_a_dense_quadratic_has_its_sums_in_index_order():
    x, b = sums()
    expected = [in_index_order(x, row) for row in np.outer(b, b)]
    np.testing.assert_array_equal(DenseQuadratic(np.outer(b, b), np.zeros(300)).gradient(x), expected)


def test_the_gradient_of_the_logistic_loss_has_its_sums_in_index_order():
    x, _ = sums()
    features = np.random.default_rng(10).standard_normal((300, 3))
    residual = np.where(x > 0, -0.5, 0.5)  # of probabilities 1/2
    expected = [in_index_order(residual, column) / 300 for column in features.T]
    np.testing.assert_array_equal(LogisticLoss(features, (x > 0).astype(float)).gradient(np.zeros(3)), expected)


def test_a_logit_has_its_sum_in_index_order():
    x, b = sums()
    x = np.where(b > 0, -np.abs(x), np.abs(x))
    logit = in_index_order(x, b)
    assert logit < -800  # where the loss of label 1 is −z, to the last bit
    assert LogisticLoss(b[None], np.ones(1)).f(x) == -logit


@pytest.mark.parametrize(
    ("matrix", "minimiser", "message"),
    [
        (np.ones((2, 2)), np.ones(3), r"have shapes \(2, 2\) and \(3,\); must be \(n, n\) and \(n,\)"),
        (np.ones(2), np.ones(2), r"must be \(n, n\)"),
        (np.array([[1.0, 2.0], [0.0, 1.0]]), np.ones(2), "matrix is not symmetric"),
        (np.full((2, 2), np.nan), np.ones(2), "matrix is not symmetric or not finite"),
    ],
)
def test_a_matrix_that_is_none_is_refused(matrix, minimiser, message):
    with pytest.raises(ValueError, match=message):
        DenseQuadratic(matrix, minimiser)


def observations(seed=3):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((30, 4)), rng.integers(0, 2, 30).astype(float)


def test_the_logistic_loss_is_that_of_scipy_and_has_its_derivatives():
    features, labels = observations()
    loss = LogisticLoss(features, labels)
    x = np.random.default_rng(4).standard_normal((5, 4))
    z = x @ features.T
    expected = -np.mean(labels * log_expit(z) + (1 - labels) * log_expit(-z), axis=-1)
    np.testing.assert_allclose(loss.f(x), expected, rtol=1e-13)
    assert check_grad(loss.f, loss.gradient, x[0]) < 1e-6
    np.testing.assert_allclose(loss.hessian(x[0]), approx_fprime(x[0], loss.gradient), atol=1e-6)
    assert loss.shape == (4,)


@pytest.mark.parametrize("label", [0.0, 1.0])
@pytest.mark.parametrize("logit", [-1000.0, -710.0, -40.0, -1.0, 0.0, 1.0, 40.0, 710.0, 1000.0])
def test_the_logistic_loss_and_its_gradient_are_right_for_logits_of_any_size(logit, label):
    """Beyond 709 exp overflows; from 37 on 1 + exp(−z) is 1, though the loss is as small as exp(−z)."""
    with mpmath.workdps(500):
        expected = mpmath.log(1 + mpmath.exp(logit)) - label * logit
        slope = 1 / (1 + mpmath.exp(-logit)) - label
    loss = LogisticLoss(np.array([[1.0]]), np.array([label]))
    assert loss.f(np.array([logit])) == pytest.approx(float(expected), rel=1e-14, abs=1e-15 * label * abs(logit))
    assert loss.gradient(np.array([logit])) == pytest.approx(float(slope), rel=1e-14, abs=1e-300 + 1e-15 * label)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({0: np.ones(30)}, r"features and labels have shapes \(30,\) and \(30,\)"),
        ({1: np.ones(29)}, r"must be \(observations, n\) and \(observations,\)"),
        ({1: np.full(30, 0.5)}, "labels has other elements than 0 and 1"),
    ],
)
def test_observations_that_are_none_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        LogisticLoss(*[change.get(i, array) for i, array in enumerate(observations())])


def test_hubers_function_has_its_derivative_and_is_the_worst_case_of_gradient_descent():
    """Drori and Teboulle: f after k steps is LR²/(4Ltk + 2)."""
    x = np.linspace(-3, 3, 601).reshape(601, 1)
    problem = Huber(2.0, 0.7)
    slope = (problem.f(x + 1e-6) - problem.f(x - 1e-6)) / 2e-6
    np.testing.assert_allclose(problem.gradient(x)[:, 0], slope, atol=2e-6)
    assert problem.f(np.array([[0.7]])) == 2.0 * 0.7**2 / 2
    for lipschitz, t, steps, radius in [(1.0, 1.0, 10, 1.0), (2.0, 0.25, 40, 3.0)]:
        problem = Huber(lipschitz, radius / (2 * lipschitz * t * steps + 1))
        run = gradient_descent(
            problem, np.array([radius]), stepsize=t, steps=steps, fmt="binary64",
            gradient="RN", multiply="RN", update="RN",
        )  # fmt: skip
        exact = lipschitz * radius**2 / (4 * lipschitz * t * steps + 2)
        np.testing.assert_allclose(run.objective[-1], exact, rtol=1e-9)
    both = Huber(1.0, 0.5, n=2)
    assert both.f(np.array([0.25, 2.0])) == 0.25**2 / 2 + 0.5 * 1.75


def test_nesterovs_quadratic_has_a_lipschitz_constant_of_1_unless_told_otherwise():
    np.testing.assert_array_equal(nesterov_quadratic(4).matrix, nesterov_quadratic(4, 1.0).matrix)


def test_nesterovs_quadratic_keeps_gradient_descent_in_its_first_components():
    n, lipschitz = 12, 3.0
    problem = nesterov_quadratic(n, lipschitz)
    x = np.random.default_rng(1).standard_normal(n)
    chain = lipschitz / 8 * (x[0] ** 2 + ((x[1:] - x[:-1]) ** 2).sum() + x[-1] ** 2) - lipschitz / 4 * x[0]
    constant = lipschitz / 8 * (1 - 1 / (n + 1))
    np.testing.assert_allclose(problem.f(x), chain + constant)
    assert 0.9 * lipschitz < np.linalg.eigvalsh(problem.matrix).max() < lipschitz
    walk = iterates(
        problem, np.zeros(n), stepsize=1 / lipschitz, steps=5, fmt="binary64",
        gradient="RN", multiply="RN", update="RN",
    )  # fmt: skip
    for k, point in enumerate(walk):
        np.testing.assert_allclose(point[k:], 0, atol=1e-15)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Huber(0.0, 1.0), "lipschitz is 0.0; must be finite and positive"),
        (lambda: Huber(1.0, -1.0), "width is -1.0; must be finite and positive"),
        (lambda: Huber(1.0, 1.0, 0), "n is 0; must be at least 1"),
        (lambda: nesterov_quadratic(0), "n is 0; must be at least 1"),
        (lambda: nesterov_quadratic(2, 0.0), "^lipschitz is 0.0; must be finite and positive"),
    ],
)
def test_worst_cases_that_are_none_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


PROBLEMS = {
    DiagonalQuadratic: {"curvatures": np.ones(2), "minimiser": np.ones(2)},
    DenseQuadratic: {"matrix": np.eye(2), "minimiser": np.ones(2)},
    LogisticLoss: {"features": np.eye(2), "labels": np.ones(2)},
}
ARGUMENTS = [(problem, name) for problem, arrays in PROBLEMS.items() for name in arrays]


@pytest.mark.parametrize(("problem", "name"), ARGUMENTS)
def test_an_array_of_integers_is_refused_by_its_name(problem, name):
    with pytest.raises(TypeError, match=f"^{name} is of int64; must be of float32 or float64"):
        problem(**PROBLEMS[problem] | {name: PROBLEMS[problem][name].astype(int)})


@pytest.mark.parametrize(("problem", "name"), ARGUMENTS)
def test_arrays_of_two_libraries_are_refused(problem, name):
    with pytest.raises(TypeError, match="namespaces"):
        problem(**PROBLEMS[problem] | {name: array_api_strict.asarray(PROBLEMS[problem][name])})


def test_eigenvalues_that_are_integers_are_refused():
    with pytest.raises(TypeError, match=r"^eigenvalues is of int64"):
        matrix_with_spectrum(np.arange(3), 1)
