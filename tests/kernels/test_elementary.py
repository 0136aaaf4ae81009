import decimal
import hashlib
from fractions import Fraction

import array_api_strict
import mpmath
import numpy as np
import pytest
from test_rounding import assert_same_bits

from srlib import Format, Philox
from srlib.arithmetic import exp
from srlib.kernels import elementary

kernels = pytest.mark.parametrize("function", [exp, elementary.exp])


def uniform(low, high, size, seed=1):
    return low + (high - low) * Philox(seed).uniform((size,))


@kernels
def test_exp_is_within_one_ulp(function):
    """Over all exponents, near 0, and in the middle and at both ends of each piece of the reduction."""
    ends = np.arange(-2149, 2048) * np.log(2) / 2
    small = uniform(-1, 1, 500) * 2.0 ** -uniform(0, 60, 500, seed=2)
    x = np.concatenate([uniform(-745, 709.7, 3000), uniform(-1, 1, 2000), small, ends, np.nextafter(ends, 0)])
    with mpmath.workprec(120):
        exact = [mpmath.exp(mpmath.mpf(float(value))) for value in x]
        errors = [abs(mpmath.mpf(float(y)) - e) / float(np.spacing(y)) for y, e in zip(function(x), exact, strict=True)]
    assert max(errors) < 1


@kernels
def test_exp_where_it_is_0_or_infinite(function):
    x = np.array([np.inf, 710.0, 709.8, -0.0, 0.0, -745.2, -1e300, -np.inf, np.nan])
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(function(x), [np.inf, np.inf, np.inf, 1, 1, 0, 0, 0, np.nan])
    assert function(np.array(-745.0)) == 2.0**-1074
    assert function(np.array(0.0)).shape == () and function(np.empty((0, 3))).shape == (0, 3)


@pytest.mark.parametrize("size", [1, 7, 300_001])
def test_the_kernel_of_exp_is_its_specification_to_the_bit(size):
    rng = np.random.default_rng(size)
    codes = rng.integers(-(2**63), 2**63, size)
    for x in (codes.view(np.float64), rng.uniform(-750, 720, size), rng.uniform(-2, 2, (size, 2))[:, 1]):
        with np.errstate(over="ignore"):
            assert_same_bits(exp(x), elementary.exp(x))


@pytest.mark.parametrize("name", ["binary8", "binary16", "bfloat16"])
def test_the_table_of_exp_is_correctly_rounded(name):
    """By Python's decimal numbers of 60 digits: normal results, and subnormal ones, which have fewer bits."""
    values, results = (column[1:-1] for column in elementary.exp_table(Format.parse(name)))
    near = np.flatnonzero(np.abs(values) < 760)
    chosen = np.union1d(near[:: max(1, near.size // 3000)], np.flatnonzero((values > -746) & (values < -708)))
    with decimal.localcontext(prec=60):
        exact = [Fraction(decimal.Decimal(x).exp()) for x in values[chosen].tolist()]
    expected = [float(y) if y < 2**1024 - 2**970 else np.inf for y in exact]
    np.testing.assert_array_equal(results[chosen], expected)


def test_the_bits_of_exp_are_frozen():
    """So that a result can be had again with another version."""
    x = np.concatenate([uniform(-745, 709, 100_000), uniform(-1, 1, 100_000, seed=2)])
    digest = "96cc761053fa11758a09508614351b920ae775b89bddaffff8ad61c1d30fb6cf"
    for result in (exp(x), np.asarray(elementary.exp(array_api_strict.asarray(x)))):
        assert hashlib.sha256(result.astype("<f8").tobytes()).hexdigest() == digest
