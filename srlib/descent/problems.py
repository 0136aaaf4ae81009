"""Convex objectives and their gradients, vectorised over leading axes such as that of the replicates (SPEC E1, E2).

A problem has ``shape``, that of one point; ``f(x)`` and ``gradient(x)``, in float64. It may have ``error(x)``, which is
recorded beside the objective, and ``rounded_gradient(x, arithmetic)``, the gradient with every operation rounded (see
`srlib.descent.classifiers`).
"""

import math
from typing import Any

import mpmath
import numpy as np
from array_api_compat import array_namespace

from srlib import checks
from srlib.arithmetic import exp, matmul
from srlib.philox import Philox
from srlib.typing import Array


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

    def __init__(self, curvatures: Array, minimiser: Array) -> None:
        self.curvatures = checks.float64_array("curvatures", curvatures)
        self.minimiser = checks.float64_array("minimiser", minimiser)
        xp = array_namespace(self.curvatures, self.minimiser)
        if self.curvatures.ndim != 1 or self.curvatures.shape != self.minimiser.shape:
            shapes = f"{self.curvatures.shape} and {self.minimiser.shape}"
            raise ValueError(f"curvatures and minimiser have shapes {shapes}; must both be (n,)")
        if not bool(xp.all(xp.isfinite(self.curvatures) & (self.curvatures >= 0))):
            raise ValueError("curvatures has negative or non-finite elements; all must be at least 0")
        self.shape = self.curvatures.shape

    def f(self, x: Array) -> Array:
        """Return the objective: `x` without its last axis."""
        xp = array_namespace(x)
        return xp.sum(self.curvatures * (x - self.minimiser) ** 2, axis=-1) / 2

    def terms(self, x: Array) -> Array:
        """Return the summands of the objective, of the shape of `x`."""
        return self.curvatures * (x - self.minimiser) ** 2 / 2

    def gradient(self, x: Array) -> Array:
        """Return a·(x − x*), of the shape of `x`."""
        return self.curvatures * (x - self.minimiser)

    def error(self, x: Array) -> Array:
        """Return the distance ‖x − x*‖ to the minimiser."""
        return distance(x, self.minimiser)


class DenseQuadratic:
    """½ (x − x*)ᵀA(x − x*) (E2 setting II).

    Parameters
    ----------
    matrix : float64 array of shape (n, n)
        A, symmetric and positive semidefinite (which is not checked).
    minimiser : float64 array of shape (n,)
        x*.

    Raises
    ------
    TypeError, ValueError
        If these are not such arrays, or the matrix is not symmetric.
    """

    def __init__(self, matrix: Array, minimiser: Array) -> None:
        self.matrix = checks.float64_array("matrix", matrix)
        self.minimiser = checks.float64_array("minimiser", minimiser)
        xp = array_namespace(self.matrix, self.minimiser)
        if self.matrix.shape != 2 * self.minimiser.shape or self.minimiser.ndim != 1:
            shapes = f"{self.matrix.shape} and {self.minimiser.shape}"
            raise ValueError(f"matrix and minimiser have shapes {shapes}; must be (n, n) and (n,)")
        if not bool(xp.all(self.matrix == self.matrix.T)):
            raise ValueError("matrix is not symmetric or not finite; must be both")
        self.shape = self.minimiser.shape

    def f(self, x: Array) -> Array:
        """Return the objective: `x` without its last axis."""
        xp = array_namespace(x)
        return xp.sum((x - self.minimiser) * self.gradient(x), axis=-1) / 2

    def gradient(self, x: Array) -> Array:
        """Return A(x − x*), of the shape of `x`, each sum in index order."""
        return matmul(x - self.minimiser, self.matrix, 0.0)

    def error(self, x: Array) -> Array:
        """Return the distance ‖x − x*‖ to the minimiser."""
        return distance(x, self.minimiser)


def nesterov_quadratic(n: int, lipschitz: float = 1.0) -> DenseQuadratic:
    """Return Nesterov's worst quadratic, L/8·(x_1² + Σ (x_i − x_{i+1})² + x_n²) − L/4·x_1 up to a constant (SPEC D7).

    From x = 0 the iterate after k steps of gradient descent is 0 beyond its first k components.

    Parameters
    ----------
    n : int
        Number of components.
    lipschitz : float
        L, which the largest eigenvalue is below and comes near to.
    """
    n, lipschitz = checks.integer("n", n, 1), checks.positive("lipschitz", lipschitz)
    chain = 2 * np.eye(n) - np.eye(n, k=1) - np.eye(n, k=-1)
    return DenseQuadratic(lipschitz / 4 * chain, 1 - np.arange(1, n + 1) / (n + 1))


class Huber:
    """Huber's function Σ h(x_i): h is L/2·x² up to |x| = w, and beyond it the tangent, L·w·(|x| − w/2) (SPEC D7).

    With one component and w = R/(2Ltk + 1), k steps of gradient descent from R end at f = LR²/(4Ltk + 2), and no convex
    function with this L and R is worse for Lt ≤ 1 (Drori and Teboulle 2014).

    Parameters
    ----------
    lipschitz, width : float
        L and w.
    n : int
        Number of components.

    Raises
    ------
    TypeError, ValueError
        If L or w is not finite and positive, or n not a positive integer.
    """

    def __init__(self, lipschitz: float, width: float, n: int = 1) -> None:
        self.lipschitz = checks.positive("lipschitz", lipschitz)
        self.width = checks.positive("width", width)
        self.shape = (checks.integer("n", n, 1),)

    def f(self, x: Array) -> Array:
        """Return the objective: `x` without its last axis."""
        return array_namespace(x).sum(self.terms(x), axis=-1)

    def terms(self, x: Array) -> Array:
        """Return the summands of the objective, of the shape of `x`."""
        xp = array_namespace(x)
        inner = xp.clip(xp.abs(x), 0.0, self.width)
        return self.lipschitz * inner * (xp.abs(x) - inner / 2)

    def gradient(self, x: Array) -> Array:
        """Return L·min(|x|, w)·sign(x), of the shape of `x`."""
        return self.lipschitz * array_namespace(x).clip(x, -self.width, self.width)


def distance(x: Array, y: Array) -> Array:
    """Return ‖x − y‖ along the last axis."""
    xp = array_namespace(x)
    return xp.sqrt(xp.sum((x - y) ** 2, axis=-1))


def matrix_with_spectrum(eigenvalues: Array, seed: int | None) -> np.ndarray:
    """Return a dense symmetric matrix with the given eigenvalues, as a NumPy array of shape (n, n).

    Its eigenvectors are those of the discrete cosine transform; the seed decides the order of the eigenvalues and signs
    of the components. It is made of products and sums in index order: the same bits on any machine.

    Parameters
    ----------
    eigenvalues : float64 array of shape (n,)
    seed : int or None
        If None, the eigenvectors are smooth: eigenvalue i is that of the cosine with i half-waves.
    """
    eigenvalues = np.asarray(checks.float64_array("eigenvalues", eigenvalues))
    n = len(eigenvalues)
    precise = mpmath.MPContext()  # its own: that of `mpmath.mp` is the user's, in all threads
    precise.prec = 100
    cosines = np.array([float(precise.cospi(precise.mpf(k) / (2 * n))) for k in range(4 * n)])
    i = np.arange(n)
    vectors = cosines[np.outer(2 * i + 1, i) % (4 * n)] * np.where(i > 0, math.sqrt(2 / n), math.sqrt(1 / n))
    if seed is not None:
        rng = Philox(seed)
        vectors *= np.where(rng.uniform((n, 1)) < 0.5, -1.0, 1.0)
        eigenvalues = eigenvalues[np.argsort(rng.uniform((n,)), kind="stable")]
    product = matmul(vectors * eigenvalues, np.ascontiguousarray(vectors.T), 0.0)
    return (product + product.T) / 2


class LogisticLoss:
    """Mean of log(1 + exp(z)) − y·z over the observations, z = features·x: convex, not quadratic.

    A gradient has the same bits on any machine; the objective takes exp and log1p from the array library, whose last
    bits may differ.

    Parameters
    ----------
    features : float64 array of shape (observations, n)
    labels : float64 array of shape (observations,)
        y, 0 or 1.

    Raises
    ------
    TypeError, ValueError
        If these are not such arrays.
    """

    def __init__(self, features: Array, labels: Array) -> None:
        self.features = checks.float64_array("features", features)
        self.labels = checks.float64_array("labels", labels)
        xp = array_namespace(self.features, self.labels)
        if self.features.ndim != 2 or self.labels.shape != self.features.shape[:1]:
            shapes = f"{self.features.shape} and {self.labels.shape}"
            raise ValueError(f"features and labels have shapes {shapes}; must be (observations, n) and (observations,)")
        if not bool(xp.all((self.labels == 0) | (self.labels == 1))):
            raise ValueError("labels has other elements than 0 and 1")
        self.shape = self.features.shape[1:]

    def f(self, x: Array) -> Array:
        """Return the objective: `x` without its last axis."""
        xp = array_namespace(x)
        return xp.mean(binary_cross_entropy(xp, self._logits(x), self.labels), axis=-1)

    def gradient(self, x: Array) -> Array:
        """Return the gradient, of the shape of `x`, each sum in index order."""
        residual = self._probabilities(x) - self.labels
        return matmul(residual, self.features, 0.0) / self.features.shape[0]

    def hessian(self, x: Array) -> Array:
        """Return the matrix of second derivatives at one point, (n, n)."""
        p = self._probabilities(x)
        return (self.features.T * (p * (1 - p))) @ self.features / self.features.shape[0]

    def _logits(self, x: Array) -> Array:
        return matmul(x, self.features.T, 0.0)

    def _probabilities(self, x: Array) -> Array:
        return 1 / (1 + exp(-self._logits(x)))


def binary_cross_entropy(xp: Any, z: Array, y: Array) -> Array:
    """Return log(1 + exp(z)) − y·z, the loss of an observation with logit z and label y."""
    return xp.log1p(xp.exp(-xp.abs(z))) + xp.maximum(z, xp.zeros_like(z)) - y * z
