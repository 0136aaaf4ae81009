"""Objectives and their gradients, vectorised over leading axes such as that of the replicates (SPEC, Experiments).

A problem has ``shape``, that of one point; ``f(x)`` and ``gradient(x)``, in float64. It may have ``error(x)``, which is
recorded beside the objective, and ``rounded_gradient(x, arithmetic)``, the gradient with every operation rounded.
"""

import math

from array_api_compat import array_namespace, device

from srlib import checks
from srlib.arithmetic import Arithmetic, matmul
from srlib.formats import Format
from srlib.rounding import round_to

_WHITE = 255  # the brightest pixel


class DiagonalQuadratic:
    """½ Σ a_i (x_i − x*_i)², the quadratic with the diagonal matrix diag(a) (E1, E2 setting I).

    Parameters
    ----------
    curvatures : float64 array of shape (n,)
        a, finite and not negative.
    minimiser : float64 array of shape (n,)
        x*.

    Raises
    ------
    TypeError, ValueError
        If these are not such arrays.
    """

    def __init__(self, curvatures, minimiser):
        self.curvatures = checks.real_array("curvatures", curvatures)
        self.minimiser = checks.real_array("minimiser", minimiser)
        xp = array_namespace(self.curvatures, self.minimiser)
        if self.curvatures.ndim != 1 or self.curvatures.shape != self.minimiser.shape:
            shapes = f"{self.curvatures.shape} and {self.minimiser.shape}"
            raise ValueError(f"curvatures and minimiser have shapes {shapes}; must both be (n,)")
        if not bool(xp.all(xp.isfinite(self.curvatures) & (self.curvatures >= 0))):
            raise ValueError("curvatures has negative or non-finite elements; all must be at least 0")
        self.shape = self.curvatures.shape

    def f(self, x):
        """Return the objective: `x` without its last axis."""
        xp = array_namespace(x)
        return xp.sum(self.curvatures * (x - self.minimiser) ** 2, axis=-1) / 2

    def gradient(self, x):
        """Return a·(x − x*), of the shape of `x`."""
        return self.curvatures * (x - self.minimiser)

    def error(self, x):
        """Return the distance ‖x − x*‖ to the minimiser."""
        xp = array_namespace(x)
        return xp.sqrt(xp.sum((x - self.minimiser) ** 2, axis=-1))


class LogisticRegression:
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

    def __init__(self, images, labels, test_images, test_labels, classes: int | None = None):
        xp = array_namespace(images, labels, test_images, test_labels)
        _check_images(xp, "images", images, "labels", labels)
        _check_images(xp, "test_images", test_images, "test_labels", test_labels)
        if images.shape[1] != test_images.shape[1]:
            raise ValueError(f"test_images have {test_images.shape[1]} pixels; images have {images.shape[1]}")
        top = max(int(xp.max(labels)), int(xp.max(test_labels)))
        classes = int(xp.max(labels)) + 1 if classes is None else checks.integer("classes", classes, 1, 256)
        if top >= classes:
            raise ValueError(f"labels go up to {top}; must be below the number of classes, {classes}")
        self.shape = (classes, images.shape[1])
        self._test_labels = xp.astype(test_labels, xp.int64)
        # Pixels as integers, an image a column; the targets likewise.
        self._images, self._test_images = (xp.astype(x, xp.float64).T for x in (images, test_images))
        classes_column = xp.arange(classes, device=device(images))[:, None]
        self._targets = xp.astype(xp.astype(labels, xp.int64)[None, :] == classes_column, xp.float64)
        self._rounded = (None, None, None)

    def f(self, x):
        """Return the mean cross-entropy of the unrounded training images: `x` without its last two axes."""
        xp = array_namespace(x)
        logits = matmul(x, self._images, largest=_WHITE) / _WHITE
        shifted = logits - xp.max(logits, axis=-2, keepdims=True)
        normaliser = xp.log(xp.sum(xp.exp(shifted), axis=-2))
        return xp.mean(normaliser - xp.sum(shifted * self._targets, axis=-2), axis=-1)

    def gradient(self, x):
        """Return the gradient in float64, of the shape of `x`."""
        return self.rounded_gradient(x, Arithmetic("binary64"))

    def error(self, x):
        """Return the share of the test images, unrounded, whose largest logit is not that of their class.

        The lowest class wins a tie; NaN counts as the smallest logit.
        """
        xp = array_namespace(x)
        logits = matmul(x, self._test_images, largest=_WHITE)
        chosen = xp.argmax(xp.where(xp.isnan(logits), xp.full_like(logits, -math.inf), logits), axis=-2)
        return xp.mean(xp.astype(chosen != self._test_labels, xp.float64), axis=-1)

    def rounded_gradient(self, x, arithmetic: Arithmetic):
        """Return the gradient with every operation rounded, in E3's order; pixels are rounded once, by RN."""
        xp = array_namespace(x)
        columns, rows = self._pixels(arithmetic.fmt)
        z = arithmetic.matmul(x, columns, largest=1.0)
        z = arithmetic.subtract(z, xp.max(z, axis=-2, keepdims=True))
        e = arithmetic.exp(z)
        p = arithmetic.divide(e, arithmetic.sum(e, axis=-2))
        d = arithmetic.subtract(p, self._targets)
        return arithmetic.matmul(d, rows, largest=1.0, divisor=rows.shape[0])

    def _pixels(self, fmt: Format):
        """Return the training pixels rounded to a format, an image a column and an image a row."""
        if self._rounded[0] != fmt:
            rows = round_to(self._images.T / _WHITE, fmt)
            columns = round_to(rows.T, fmt)  # the same numbers, laid out anew for sums over pixels
            self._rounded = (fmt, columns, rows)
        return self._rounded[1:]


def _check_images(xp, name, images, labels_name, labels):
    for what, array, ndim in ((name, images, 2), (labels_name, labels, 1)):
        if array.dtype != xp.uint8:
            raise TypeError(f"{what} is of {array.dtype}; must be of uint8")
        if array.ndim != ndim or 0 in array.shape:
            shape = "(count, pixels)" if ndim == 2 else "(count,)"
            raise ValueError(f"{what} has shape {array.shape}; must be {shape}, none of them 0")
    if images.shape[0] != labels.shape[0]:
        raise ValueError(f"{labels_name} are {labels.shape[0]}; must be as many as {name}, {images.shape[0]}")
