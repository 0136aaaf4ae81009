"""Biased stochastic rounding in low-precision gradient descent: the module behind the notebooks."""

from srlib.arithmetic import Arithmetic
from srlib.classifiers import LogisticRegression, TwoLayerNetwork
from srlib.descent import History, gradient_descent, iterates, skeleton
from srlib.exact import ExactLaw, exact_law
from srlib.formats import Format
from srlib.philox import Philox
from srlib.problems import DenseQuadratic, DiagonalQuadratic, Huber, LogisticLoss, nesterov_quadratic
from srlib.rounding import round_to
from srlib.schemes import Scheme, mean_error, prob_up, variance

__all__ = [
    "Arithmetic",
    "DenseQuadratic",
    "DiagonalQuadratic",
    "ExactLaw",
    "Format",
    "History",
    "Huber",
    "LogisticLoss",
    "LogisticRegression",
    "Philox",
    "Scheme",
    "TwoLayerNetwork",
    "exact_law",
    "gradient_descent",
    "iterates",
    "mean_error",
    "nesterov_quadratic",
    "prob_up",
    "round_to",
    "skeleton",
    "variance",
]
