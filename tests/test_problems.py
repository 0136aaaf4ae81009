import numpy as np
import pytest
from scipy.linalg import eigvalsh
from scipy.optimize import approx_fprime, check_grad
from scipy.special import log_expit

from srlib import DenseQuadratic, DiagonalQuadratic, LogisticLoss
from srlib.problems import matrix_with_spectrum


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
