"""Classifiers of images, whose gradients can be evaluated with every operation rounded (SPEC E3, E4)."""

import math
from typing import Any

import numpy as np
from array_api_compat import array_namespace, device

from srlib import checks
from srlib.arithmetic import Arithmetic, matmul
from srlib.descent.problems import binary_cross_entropy
from srlib.formats import Format
from srlib.philox import Philox
from srlib.rounding import round_to
from srlib.typing import Array

_WHITE = 255  # the brightest pixel


class _ImageClassifier:
    """What the classifiers of images have in common: their data, and the pixels rounded to a format."""

    def __init__(
        self, images: Array, labels: Array, test_images: Array, test_labels: Array, classes: int | None
    ) -> None:
        xp = array_namespace(images, labels, test_images, test_labels)
        _check_images(xp, "images", images, "labels", labels)
        _check_images(xp, "test_images", test_images, "test_labels", test_labels)
        if images.shape[1] != test_images.shape[1]:
            raise ValueError(f"test_images have {test_images.shape[1]} pixels; images have {images.shape[1]}")
        classes = int(xp.max(labels)) + 1 if classes is None else checks.integer("classes", classes, 1, 256)
        top = max(int(xp.max(labels)), int(xp.max(test_labels)))
        if top >= classes:
            raise ValueError(f"labels go up to {top}; must be below the number of classes, {classes}")
        self._classes, self._test_labels = classes, xp.astype(test_labels, xp.int64)
        # Pixels as integers, an image a column; rounding to binary64 lays the columns out anew.
        self._images, self._test_images = (
            round_to(xp.astype(x, xp.float64).T, "binary64") for x in (images, test_images)
        )
        self._rounded: dict[Format | str, tuple[Array, Array]] = {}

    def gradient(self, x: Array) -> Array:
        """Return the gradient in float64, of the shape of `x`."""
        return self.rounded_gradient(x, Arithmetic("binary64"))  # type: ignore[attr-defined]

    def error(self, x: Array) -> Array:
        """Return the share of the test images that are put into the wrong class: `x` without its last axes."""
        wrong = self.wrong(x)  # type: ignore[attr-defined]
        xp = array_namespace(wrong)
        return xp.mean(xp.astype(wrong, xp.float64), axis=-1)

    def _pixels(self, fmt: Format | str) -> tuple[Array, Array]:
        """Return the training pixels rounded to a format, an image a column and an image a row.

        The last two formats are kept, for gradients in low precision beside exact ones.
        """
        if fmt not in self._rounded:
            if len(self._rounded) == 2:
                del self._rounded[next(iter(self._rounded))]
            columns = round_to(self._images / _WHITE, fmt)
            rows = round_to(columns.T, fmt)  # the same numbers, laid out anew for sums over images
            self._rounded[fmt] = columns, rows
        return self._rounded[fmt]


class LogisticRegression(_ImageClassifier):
    """Multinomial logistic regression without bias term (E3): mean cross-entropy of softmax(W·image).

    A point W has the shape (classes, pixels), so that the replicates and classes of an ensemble, (replicates, classes,
    pixels), share an axis in one matrix product with all images.

    Parameters
    ----------
    images, test_images : uint8 arrays of shape (count, pixels)
        0 to 255, which stand for 0 to 1.
    labels, test_labels : uint8 arrays of shape (count,)
        Class of each image, from 0 on.
    classes : int, optional
        One more than the largest training label if not given.

    Raises
    ------
    TypeError, ValueError
        If shapes or types do not fit, or a label is not below `classes`.
    """

    def __init__(
        self, images: Array, labels: Array, test_images: Array, test_labels: Array, classes: int | None = None
    ) -> None:
        super().__init__(images, labels, test_images, test_labels, classes)
        xp = array_namespace(images, labels)
        self.shape = (self._classes, images.shape[1])
        labels, place = xp.astype(labels, xp.int64), {"dtype": xp.int64, "device": device(images)}
        self._targets = xp.astype(labels[None, :] == xp.arange(self._classes, **place)[:, None], xp.float64)
        self._own = labels * labels.shape[0] + xp.arange(labels.shape[0], **place)  # where an image's own logit is

    def f(self, x: Array) -> Array:
        """Return the mean cross-entropy of the unrounded training images: `x` without its last two axes.

        exp, log and the mean are the array library's, whose last bits may differ from machine to machine.
        """
        xp = array_namespace(x)
        z = matmul(x, self._images, largest=_WHITE)
        z /= _WHITE
        z -= xp.max(z, axis=-2, keepdims=True)
        own = xp.take(xp.reshape(z, (*z.shape[:-2], -1)), self._own, axis=-1)
        return xp.mean(xp.log(xp.sum(xp.exp(z), axis=-2)) - own, axis=-1)

    def wrong(self, x: Array) -> Array:
        """Return which of the test images, unrounded, have their largest logit in another class: (..., test images).

        The lowest class wins a tie; NaN counts as the smallest logit.
        """
        xp = array_namespace(x)
        logits = matmul(x, self._test_images, largest=_WHITE)
        chosen = xp.argmax(xp.where(xp.isnan(logits), xp.full_like(logits, -math.inf), logits), axis=-2)
        return chosen != self._test_labels

    def rounded_gradient(self, x: Array, arithmetic: Arithmetic) -> Array:
        """Return the gradient with every operation rounded, in E3's order; pixels are rounded once, by RN."""
        xp = array_namespace(x)
        columns, rows = self._pixels(arithmetic.fmt)
        z = arithmetic.matmul(x, columns, largest=1.0)
        z = arithmetic.subtract(z, xp.max(z, axis=-2, keepdims=True), overwrite=True)
        e = arithmetic.exp(z)
        p = arithmetic.divide(e, arithmetic.sum(e, axis=-2, keepdims=True), overwrite=True)
        d = arithmetic.subtract(p, self._targets, overwrite=True)
        return arithmetic.matmul(d, rows, largest=1.0, divisor=rows.shape[0])


class TwoLayerNetwork(_ImageClassifier):
    """A network for two classes (E4): binary cross-entropy of sigmoid(w₂·max(W₁·image + b₁, 0) + b₂).

    A point is a vector: W₁ row by row, a row a unit; b₁; w₂; b₂. `layers` takes it apart.

    Parameters
    ----------
    images, labels, test_images, test_labels
        As for `LogisticRegression`; the labels are 0 and 1.
    units : int
        Number of hidden units.

    Raises
    ------
    TypeError, ValueError
        If shapes or types do not fit, or a label is neither 0 nor 1.
    """

    def __init__(self, images: Array, labels: Array, test_images: Array, test_labels: Array, units: int = 100) -> None:
        super().__init__(images, labels, test_images, test_labels, 2)
        self._units = checks.integer("units", units, 1)
        xp = array_namespace(labels)
        self._targets = xp.astype(labels, xp.float64)
        self.shape = (self._units * (images.shape[1] + 2) + 1,)

    def layers(self, x: Array) -> list[Array]:
        """Return W₁ (..., units, pixels), b₁ (..., units, 1), w₂ (..., 1, units) and b₂ (..., 1, 1) of a point `x`."""
        xp = array_namespace(x)
        pixels, units = self._images.shape[0], self._units
        shapes = [(units, pixels), (units, 1), (1, units), (1, 1)]
        ends = [units * pixels, units * (pixels + 1), units * (pixels + 2), units * (pixels + 2) + 1]
        starts = [0, *ends[:-1]]
        parts = (x[..., start:end] for start, end in zip(starts, ends, strict=True))
        return [xp.reshape(part, (*x.shape[:-1], *shape)) for part, shape in zip(parts, shapes, strict=True)]

    def initial(self, seed: int, replicate: int = 0) -> np.ndarray:
        """Return a point to start from, as a NumPy array: Glorot-uniform weights and biases of 0.

        Weights are uniform between ±√(6/(inputs + outputs)) of their layer (Glorot and Bengio 2010). The words are
        those of the replicate numbered 2³² − 1 less the given one, so that they have nothing to do with those by which
        any of the first 2³¹ rounds.
        """
        pixels, units = self._images.shape[0], self._units
        last = 2**32 - 1 - checks.integer("replicate", replicate, 0, 2**31 - 1)
        rng = Philox(seed, replicates=range(last, last + 1))
        first = math.sqrt(6 / (pixels + units)) * (2 * rng.uniform((1, units * pixels)) - 1)
        second = math.sqrt(6 / (units + 1)) * (2 * rng.uniform((1, units)) - 1)
        return np.concatenate([first[0], np.zeros(units), second[0], np.zeros(1)])

    def f(self, x: Array) -> Array:
        """Return the mean cross-entropy of the unrounded training images: `x` without its last axis.

        exp, log1p and the mean are the array library's, whose last bits may differ from machine to machine.
        """
        xp = array_namespace(x)
        z = self._logits(x, self._images) / _WHITE
        return xp.mean(binary_cross_entropy(xp, z, self._targets), axis=-1)

    def wrong(self, x: Array) -> Array:
        """Return which of the test images, unrounded, are put into the wrong class: (..., test images).

        That is class 1 where the logit is positive; 0 and NaN are class 0.
        """
        xp = array_namespace(x)
        return xp.astype(self._logits(x, self._test_images) > 0, xp.int64) != self._test_labels

    def _logits(self, x: Array, images: Array) -> Array:
        """Return 255 times the logits of images of integer pixels: (..., images)."""
        w1, b1, w2, b2 = self.layers(x)
        h = matmul(w1, images, largest=_WHITE)
        h += _WHITE * b1
        h[h < 0] = 0.0
        return (matmul(w2, h, 0.0) + _WHITE * b2)[..., 0, :]

    def rounded_gradient(self, x: Array, arithmetic: Arithmetic) -> Array:
        """Return the gradient with every operation rounded, in E4's order; pixels are rounded once, by RN."""
        xp = array_namespace(x)
        columns, rows = self._pixels(arithmetic.fmt)
        count = rows.shape[0]
        w1, b1, w2, b2 = self.layers(x)
        h = arithmetic.add(arithmetic.matmul(w1, columns, largest=1.0), b1, overwrite=True)
        h[h < 0] = 0.0
        z = arithmetic.add(arithmetic.matmul(w2, h), b2)
        q = arithmetic.divide(1.0, arithmetic.add(arithmetic.exp(-z), 1.0))
        d = arithmetic.subtract(q, self._targets)
        w2_gradient = arithmetic.matmul(h, xp.matrix_transpose(d), divisor=count)
        b2_gradient = arithmetic.sum(d, axis=-1, keepdims=True, divisor=count)
        h[h > 0] = 1.0
        b = arithmetic.multiply(xp.matrix_transpose(w2), d)
        b *= h
        w1_gradient = arithmetic.matmul(b, rows, largest=1.0, divisor=count)
        b1_gradient = arithmetic.sum(b, axis=-1, keepdims=True, divisor=count)
        parts = (w1_gradient, b1_gradient, w2_gradient, b2_gradient)
        return xp.concat([xp.reshape(part, (*x.shape[:-1], -1)) for part in parts], axis=-1)


def _check_images(xp: Any, name: str, images: Array, labels_name: str, labels: Array) -> None:
    for what, array, ndim in ((name, images, 2), (labels_name, labels, 1)):
        if array.dtype != xp.uint8:
            raise TypeError(f"{what} is of {array.dtype}; must be of uint8")
        if array.ndim != ndim or 0 in array.shape:
            shape = "(count, pixels)" if ndim == 2 else "(count,)"
            raise ValueError(f"{what} has shape {array.shape}; must be {shape}, none of them 0")
    if images.shape[0] != labels.shape[0]:
        raise ValueError(f"{labels_name} are {labels.shape[0]}; must be as many as {name}, {images.shape[0]}")
