from itertools import pairwise
from pathlib import Path

import array_api_strict
import numpy as np
import pytest
from scipy.optimize import check_grad
from scipy.special import expit, log_expit, log_softmax, softmax

from srlib import Arithmetic, LogisticRegression, Philox, TwoLayerNetwork, gradient_descent, round_to
from srlib.companion import datasets

MNIST = Path(__file__).parents[2] / "data" / "mnist"


def small_data(seed=0, images=40, pixels=6, classes=3):
    rng = np.random.default_rng(seed)
    x, t = rng.integers(0, 256, (images, pixels), np.uint8), rng.integers(0, 256, (images // 2, pixels), np.uint8)
    labels = np.arange(images, dtype=np.uint8) % classes
    return x, labels, t, labels[: images // 2]


@pytest.fixture
def logistic():
    return LogisticRegression(*small_data())


def test_the_cross_entropy_is_that_of_scipy(logistic):
    images, labels, _, _ = small_data()
    w = np.random.default_rng(2).standard_normal((5, 3, 6))
    logits = np.einsum("rcp,np->rnc", w, images / 255)
    expected = -np.mean(log_softmax(logits, axis=-1)[:, np.arange(40), labels], axis=-1)
    np.testing.assert_allclose(logistic.f(w), expected, rtol=1e-13)


@pytest.mark.parametrize("scale", [1e2, 1e4])
def test_large_logits_overflow_neither_cross_entropy_nor_gradient(logistic, scale):
    images, labels, _, _ = small_data()
    w = scale * np.random.default_rng(2).standard_normal((3, 6))
    logits = images / 255 @ w.T
    assert logits.max() > 1.5 * scale
    expected = -np.mean(log_softmax(logits, axis=1)[np.arange(40), labels])
    np.testing.assert_allclose(logistic.f(w), expected, rtol=1e-13)
    residual = softmax(logits, axis=1) - np.eye(3)[labels]
    np.testing.assert_allclose(logistic.gradient(w), residual.T @ (images / 255) / 40, rtol=1e-9, atol=1e-12)


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
    formats = ["binary8", "e4m3", "bfloat16", "binary8", "bfloat16", "e4m3"]
    alone = {fmt: LogisticRegression(*small_data(), 3).rounded_gradient(w, Arithmetic(fmt)) for fmt in formats}
    assert len({gradient.tobytes() for gradient in alone.values()}) == 3
    for fmt in formats:
        np.testing.assert_array_equal(logistic.rounded_gradient(w, Arithmetic(fmt)), alone[fmt])


def test_the_error_counts_images_whose_largest_logit_is_elsewhere_and_the_lowest_class_wins_ties(logistic):
    _, _, images, labels = small_data()
    w = np.random.default_rng(7).standard_normal((4, 3, 6))
    wrong = np.argmax(np.einsum("rcp,np->rnc", w, images.astype(float)), axis=-1) != labels
    np.testing.assert_array_equal(logistic.wrong(w), wrong)
    np.testing.assert_array_equal(logistic.error(w), wrong.mean(axis=-1))
    assert logistic.error(np.zeros((3, 6))) == np.mean(labels != 0)
    assert logistic.error(np.full((3, 6), np.nan)) == np.mean(labels != 0)
    rest = [[-1.0] * 6, [-2.0] * 6]
    assert logistic.error(np.array([[np.nan] * 6, *rest])) == np.mean(labels != 1)


def test_class_counts_beyond_the_labels_are_allowed_and_below_refused():
    data = small_data()
    assert LogisticRegression(*data, classes=5).shape == (5, 6)
    with pytest.raises(ValueError, match="labels go up to 2; must be below the number of classes, 2"):
        LogisticRegression(*data, classes=2)


def test_a_test_label_above_every_training_label_is_refused():
    images, labels, test_images, test_labels = small_data()
    with pytest.raises(ValueError, match="labels go up to 3; must be below the number of classes, 3"):
        LogisticRegression(images, labels, test_images, test_labels + np.uint8(1))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({0: np.zeros((40, 6))}, TypeError, "images is of float64; must be of uint8"),
        ({1: np.zeros(40)}, TypeError, "labels is of float64; must be of uint8"),
        ({0: np.zeros((40, 2, 3), np.uint8)}, ValueError, r"images has shape \(40, 2, 3\); must be \(count, pixels\)"),
        ({1: np.zeros(39, np.uint8)}, ValueError, "labels are 39; must be as many as images, 40"),
        ({2: np.zeros((20, 5), np.uint8)}, ValueError, "test_images have 5 pixels; images have 6"),
        ({2: np.zeros((20, 6))}, TypeError, "^test_images is of float64; must be of uint8"),
        ({3: np.zeros(20)}, TypeError, "^test_labels is of float64; must be of uint8"),
        (
            {1: np.zeros((40, 1), np.uint8)},
            ValueError,
            r"labels has shape \(40, 1\); must be \(count,\), none of them 0",
        ),
        ({0: np.zeros((40, 0), np.uint8)}, ValueError, r"images has shape \(40, 0\); must be .*, none of them 0"),
        ({0: np.zeros((0, 6), np.uint8), 1: np.zeros(0, np.uint8)}, ValueError, r"images has shape \(0, 6\)"),
    ],
)
def test_data_that_do_not_fit_are_refused(change, error, message):
    data = [change.get(i, array) for i, array in enumerate(small_data())]
    with pytest.raises(error, match=message):
        LogisticRegression(*data)


@pytest.mark.parametrize("problem", [LogisticRegression, TwoLayerNetwork])
@pytest.mark.parametrize("foreign", range(4))
def test_arrays_of_two_libraries_are_refused(problem, foreign):
    data = list(small_data(classes=2))
    data[foreign] = array_api_strict.asarray(data[foreign])
    with pytest.raises(TypeError, match="namespaces"):
        problem(*data)


@pytest.mark.parametrize("classes", [0, 257])
def test_a_number_of_classes_that_labels_cannot_have_is_refused(classes):
    with pytest.raises(ValueError, match=f"^classes is {classes}; must be from 1 to 256"):
        LogisticRegression(*small_data(), classes=classes)


def test_one_class_and_all_that_eight_bits_have_are_allowed():
    images, labels, test_images, test_labels = small_data()
    assert LogisticRegression(images, 0 * labels, test_images, 0 * test_labels, classes=1).shape == (1, 6)
    assert LogisticRegression(images, labels, test_images, test_labels, classes=256).shape == (256, 6)


@pytest.mark.parametrize("problem", [LogisticRegression, TwoLayerNetwork])
def test_array_api_strict_arrays_have_the_same_objective_error_and_gradient(problem):
    data = small_data(classes=2)
    ours = problem(*data)
    theirs = problem(*(array_api_strict.asarray(array) for array in data))
    x = np.random.default_rng(15).standard_normal((2, *ours.shape))
    strict = array_api_strict.asarray(x)
    np.testing.assert_allclose(np.asarray(theirs.f(strict)), ours.f(x), rtol=1e-14)
    np.testing.assert_array_equal(np.asarray(theirs.error(strict)), ours.error(x))
    np.testing.assert_allclose(np.asarray(theirs.gradient(strict)), ours.gradient(x), rtol=1e-12, atol=1e-15)


def test_mnist_is_a_problem_of_ten_classes_and_784_pixels():
    data = datasets.subset(datasets.load(MNIST), 100)
    problem = LogisticRegression(data.train_images, data.train_labels, data.test_images, data.test_labels, data.classes)
    assert problem.shape == (10, 784)
    assert problem.f(np.zeros((10, 784))) == pytest.approx(np.log(10))
    assert problem.error(np.zeros((10, 784))) == 0.902  # 980 zeros among 10,000


@pytest.fixture
def network():
    return TwoLayerNetwork(*small_data(classes=2), units=4)


def network_parts(x, units=4, pixels=6):
    w1, b1, w2, b2 = np.split(x, np.cumsum([units * pixels, units, units]), axis=-1)
    return w1.reshape(*x.shape[:-1], units, pixels), b1, w2, b2


def test_the_network_is_the_textbook_one(network):
    images, labels, test_images, test_labels = small_data(classes=2)
    points = np.random.default_rng(8).standard_normal((3, *network.shape))
    for x, f, error in zip(points, network.f(points), network.error(points), strict=True):
        w1, b1, w2, b2 = network_parts(x)
        z = np.maximum(images / 255 @ w1.T + b1, 0) @ w2 + b2
        assert f == pytest.approx(-np.mean(labels * log_expit(z) + (1 - labels) * log_expit(-z)), rel=1e-12)
        tested = np.maximum(test_images / 255 @ w1.T + b1, 0) @ w2 + b2
        assert error == np.mean((tested > 0) != test_labels)


@pytest.mark.parametrize("scale", [1e2, 1e4])
def test_large_logits_do_not_overflow_the_loss_of_the_network(network, scale):
    images, labels, _, _ = small_data(classes=2)
    x = np.random.default_rng(8).standard_normal(network.shape)
    x[-5:] *= scale  # the last layer
    w1, b1, w2, b2 = network_parts(x)
    z = np.maximum(images / 255 @ w1.T + b1, 0) @ w2 + b2
    assert np.abs(z).max() > scale
    assert network.f(x) == pytest.approx(-np.mean(labels * log_expit(z) + (1 - labels) * log_expit(-z)), rel=1e-12)


def test_the_loss_of_the_network_has_the_sums_of_its_logits_in_index_order():
    rng = np.random.default_rng(16)
    image, units = rng.integers(1, 256, (1, 6), np.uint8), 300
    network = TwoLayerNetwork(image, np.ones(1, np.uint8), image, np.ones(1, np.uint8), units=units)
    w1, w2 = rng.standard_normal((units, 6)), -rng.integers(80, 160, units) / 8
    hidden = []
    for weights in w1:
        total = 0.0
        for weight, pixel in zip(weights, image[0], strict=True):
            total += weight * float(pixel)
        hidden.append(max(total, 0.0))
    logit = 0.0
    for weight, value in zip(w2, hidden, strict=True):
        logit += weight * value
    assert logit / 255 < -800  # where the loss of label 1 is −z, to the last bit
    assert network.f(np.concatenate([w1.ravel(), np.zeros(units), w2, np.zeros(1)])) == -logit / 255


@pytest.mark.parametrize(
    ("bias", "chosen"), [(0.0, 0), (-0.0, 0), (5e-324, 1), (-5e-324, 0), (np.nan, 0), (np.inf, 1), (-np.inf, 0)]
)
def test_the_network_puts_an_image_into_class_1_if_its_logit_is_positive_and_no_other(bias, chosen):
    x = np.zeros(4 * 8 + 1)
    x[-1] = bias
    network = TwoLayerNetwork(*small_data(classes=2)[:3], np.arange(20, dtype=np.uint8) // 15, units=4)
    assert network.error(x) == (0.75 if chosen else 0.25)


def test_a_hidden_unit_at_zero_has_no_slope(network):
    x = np.ones(network.shape)
    x[: 4 * 6 + 4] = 0.0  # units without input: each is exactly at the corner
    w1_gradient, b1_gradient, w2_gradient, b2_gradient = network_parts(network.gradient(x))
    assert not w1_gradient.any() and not b1_gradient.any() and not w2_gradient.any()
    assert b2_gradient == pytest.approx(expit(1.0) - 0.5)  # half of the labels are 1


def test_the_gradient_of_the_network_is_the_derivative(network):
    x = np.random.default_rng(9).standard_normal(network.shape)
    assert check_grad(network.f, network.gradient, x) < 1e-6


@pytest.mark.parametrize("scheme", ["RN", "SR", "SR_eps(0.2)"])
def test_the_network_rounds_every_operation_in_the_order_of_the_specification(network, scheme):
    images, labels, _, _ = small_data(classes=2)
    x = round_to(np.random.default_rng(10).standard_normal((2, *network.shape)), "binary8")
    rng = Philox(5, replicates=2)

    def fl(x):
        return round_to(np.asarray(x), "binary8", scheme, rng)

    pixels = round_to(images / 255, "binary8")
    w1, b1, w2, b2 = network_parts(x)
    a = fl(fl(np.einsum("rup,np->run", w1, pixels)) + b1[..., None])
    h = np.maximum(a, 0)
    z = fl(fl(np.einsum("ru,run->rn", w2, h)) + b2)
    q = fl(1 / fl(1 + fl(np.exp(-z))))
    d = fl(q - labels)
    w2_gradient, b2_gradient = fl(np.einsum("run,rn->ru", h, d) / 40), fl(d.sum(axis=1, keepdims=True) / 40)
    b = fl(w2[..., None] * d[:, None, :]) * (a > 0)
    w1_gradient, b1_gradient = fl(np.einsum("run,np->rup", b, pixels) / 40), fl(b.sum(axis=2) / 40)
    expected = np.concatenate([w1_gradient.reshape(2, -1), b1_gradient, w2_gradient, b2_gradient], axis=1)
    result = network.rounded_gradient(x, Arithmetic("binary8", scheme, Philox(5, replicates=2)))
    np.testing.assert_array_equal(result, expected)


@pytest.mark.slow
def test_unrounded_descent_of_the_network_is_a_plain_loop_on_mnist():
    data = datasets.subset(datasets.select_classes(datasets.load(MNIST), (3, 8)), 500)
    network = TwoLayerNetwork(data.train_images, data.train_labels, data.test_images, data.test_labels)
    start = network.initial(11)
    options = {"gradient": "RN", "multiply": "RN", "update": "RN"}
    history = gradient_descent(network, start, stepsize=0.09375, steps=10, fmt="binary64", **options)
    pixels, labels = data.train_images / 255, data.train_labels.astype(float)
    w1, b1, w2, b2 = network_parts(start, units=100, pixels=784)
    for _ in range(10):
        h = np.maximum(pixels @ w1.T + b1, 0)
        d = (expit(h @ w2 + b2) - labels) / 500
        b = np.outer(d, w2) * (h > 0)
        w1, b1, w2, b2 = (y - 0.09375 * g for y, g in [(w1, b.T @ pixels), (b1, b.sum(0)), (w2, d @ h), (b2, d.sum())])
    expected = np.concatenate([w1.ravel(), b1, w2, b2])
    np.testing.assert_allclose(history.x, expected, rtol=1e-9, atol=1e-13)
    assert history.objective[-1] < history.objective[0]


def test_initial_weights_are_glorot_uniform_and_decided_by_the_seed(network):
    data = datasets.subset(datasets.select_classes(datasets.load(MNIST), (3, 8)), 10)
    network = TwoLayerNetwork(data.train_images, data.train_labels, data.test_images, data.test_labels)
    w1, b1, w2, b2 = network_parts(network.initial(12), units=100, pixels=784)
    assert not b1.any() and not b2.any()
    for weights, limit in ((w1, np.sqrt(6 / 884)), (w2, np.sqrt(6 / 101))):
        assert np.abs(weights).max() < limit
        # A mean of n uniform numbers is beyond 5.5 standard deviations with probability below 1e-7.
        assert abs(weights.mean()) < 5.5 * limit / np.sqrt(3 * weights.size)
        assert np.abs(weights).mean() == pytest.approx(limit / 2, abs=5.5 * limit / np.sqrt(12 * weights.size))
    assert network.initial(12).shape == network.shape
    np.testing.assert_array_equal(network.initial(12), network.initial(12))
    assert not np.array_equal(network.initial(12), network.initial(13))
    starts = [network.initial(12, replicate) for replicate in (0, 1, 2)]
    np.testing.assert_array_equal(starts[0], network.initial(12))
    moving = starts[0] != 0
    assert all(np.all(a[moving] != b[moving]) for a, b in pairwise(starts))
    with pytest.raises(ValueError, match=r"^replicate is -1; must be from 0"):
        network.initial(12, -1)


def test_initial_weights_take_the_words_of_the_last_replicate_there_is(network):
    """Words of a replicate that is run would correlate where it starts with how it is rounded."""
    rng = Philox(12, replicates=range(2**32 - 1, 2**32))
    first, second = rng.uniform((1, 24))[0], rng.uniform((1, 4))[0]
    w1, _, w2, _ = network_parts(network.initial(12))
    np.testing.assert_allclose(w1.ravel(), np.sqrt(6 / 10) * (2 * first - 1), rtol=1e-14)
    np.testing.assert_allclose(w2, np.sqrt(6 / 5) * (2 * second - 1), rtol=1e-14)
    others = Philox(12, replicates=50)
    words = np.concatenate([others.uniform((50, 24)), others.uniform((50, 4))], axis=1)
    assert not np.any(words == np.concatenate([first, second]))


def test_without_a_choice_of_units_there_are_a_hundred_and_labels_must_be_two():
    assert TwoLayerNetwork(*small_data(classes=2)).shape == (100 * 8 + 1,)
    with pytest.raises(ValueError, match="labels go up to 2; must be below the number of classes, 2"):
        TwoLayerNetwork(*small_data(classes=3))
    with pytest.raises(ValueError, match="units is 0; must be at least 1"):
        TwoLayerNetwork(*small_data(classes=2), units=0)
