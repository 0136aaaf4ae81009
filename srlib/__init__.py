"""Biased stochastic rounding in low-precision gradient descent: the module behind the notebooks."""

from srlib.formats import Format
from srlib.philox import Philox
from srlib.rounding import round_to
from srlib.schemes import Scheme, mean_error, prob_up, variance

__all__ = ["Format", "Philox", "Scheme", "mean_error", "prob_up", "round_to", "variance"]
