from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import check_grad
from scipy.special import log_softmax, softmax

from srlib import Arithmetic, DiagonalQuadratic, LogisticRegression, Philox, datasets, round_to

MNIST = Path(__file__).parents[1] / "data" / "mnist"


def small_data(seed=0, images=40, pixels=6, classes=3):
    rng = np.random.default_rng(seed)
    x, t = rng.integers(0, 256, (images, pixels), np.uint8), rng.integers(0, 256, (images // 2, pixels), np.uint8)
    labels = np.arange(images, dtype=np.uint8) % classes
    return x, labels, t, labels[: images // 2]


@pytest.fixture
def logistic():
    return LogisticRegression(*small_data())


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


def test_the_cross_entropy_is_that_of_scipy(logistic):
    images, labels, _, _ = small_data()
    w = np.random.default_rng(2).standard_normal((5, 3, 6))
    logits = np.einsum("rcp,np->rnc", w, images / 255)
    expected = -np.mean(log_softmax(logits, axis=-1)[:, np.arange(40), labels], axis=-1)
    np.testing.assert_allclose(logistic.f(w), expected, rtol=1e-13)


def test_its_gradient_is_the_derivative_and_the_textbook_formula(logistic):
    images, labels, _, _ = small_data()
    w = np.random.default_rng(3).standard_normal((3, 6))
    assert (
        check_grad(
            lambda x: logistic.f(x.reshape(3, 6)), lambda x: logistic.gradient(x.reshape(3, 6)).ravel(), w.ravel()
        )
        < 1e-6
    )
    pixels = images / 255
    residual = softmax(pixels @ w.T, axis=1) - np.eye(3)[labels]
    np.testing.assert_allclose(logistic.gradient(w), residual.T @ pixels / 40, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("scheme", ["RN", "SR", "SR_eps(0.2)"])
def test_the_rounded_gradient_rounds_every_operation_in_the_order_of_the_specification(logistic, scheme):
    images, labels, _, _ = small_data()
    w = round_to(np.random.default_rng(4).standard_normal((2, 3, 6)), "binary8")
    rng = Philox(5, replicates=2)

    def fl(x):
        return round_to(x, "binary8", scheme, rng)

    pixels = round_to(images / 255, "binary8")
    z = fl(np.stack([w[r] @ pixels.T for r in range(2)]))
    z = fl(z - z.max(axis=1, keepdims=True))
    e = fl(np.exp(z))
    s = fl(e.sum(axis=1, keepdims=True))
    p = fl(e / s)
    d = fl(p - np.eye(3)[labels].T)
    expected = fl(np.stack([d[r] @ pixels for r in range(2)]) / 40)
    result = logistic.rounded_gradient(w, Arithmetic("binary8", scheme, Philox(5, replicates=2)))
    np.testing.assert_array_equal(result, expected)


def test_a_format_of_its_own_pixels_is_used_each_time(logistic):
    w = round_to(np.random.default_rng(6).standard_normal((3, 6)), "binary8")
    first = logistic.rounded_gradient(w, Arithmetic("binary8"))
    logistic.rounded_gradient(w, Arithmetic("e4m3"))
    np.testing.assert_array_equal(logistic.rounded_gradient(w, Arithmetic("binary8")), first)


def test_the_error_counts_images_whose_largest_logit_is_elsewhere_and_the_lowest_class_wins_ties(logistic):
    _, _, images, labels = small_data()
    w = np.random.default_rng(7).standard_normal((4, 3, 6))
    wrong = np.argmax(np.einsum("rcp,np->rnc", w, images.astype(float)), axis=-1) != labels
    np.testing.assert_array_equal(logistic.error(w), wrong.mean(axis=-1))
    assert logistic.error(np.zeros((3, 6))) == np.mean(labels != 0)
    assert logistic.error(np.full((3, 6), np.nan)) == np.mean(labels != 0)


def test_class_counts_beyond_the_labels_are_allowed_and_below_refused():
    data = small_data()
    assert LogisticRegression(*data, classes=5).shape == (5, 6)
    with pytest.raises(ValueError, match="labels go up to 2; must be below the number of classes, 2"):
        LogisticRegression(*data, classes=2)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({0: np.zeros((40, 6))}, TypeError, "images is of float64; must be of uint8"),
        ({1: np.zeros(40)}, TypeError, "labels is of float64; must be of uint8"),
        ({0: np.zeros((40, 2, 3), np.uint8)}, ValueError, r"images has shape \(40, 2, 3\); must be \(count, pixels\)"),
        ({1: np.zeros(39, np.uint8)}, ValueError, "labels are 39; must be as many as images, 40"),
        ({2: np.zeros((20, 5), np.uint8)}, ValueError, "test_images have 5 pixels; images have 6"),
    ],
)
def test_data_that_do_not_fit_are_refused(change, error, message):
    data = [change.get(i, array) for i, array in enumerate(small_data())]
    with pytest.raises(error, match=message):
        LogisticRegression(*data)


def test_mnist_is_a_problem_of_ten_classes_and_784_pixels():
    data = datasets.subset(datasets.load(MNIST), 100)
    problem = LogisticRegression(data.train_images, data.train_labels, data.test_images, data.test_labels, data.classes)
    assert problem.shape == (10, 784)
    assert problem.f(np.zeros((10, 784))) == pytest.approx(np.log(10))
    assert problem.error(np.zeros((10, 784))) == 0.902  # 980 zeros among 10,000
