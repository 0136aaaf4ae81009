"""What importing srlib brings, at once and when it is first used, with Numba and without."""

import importlib.metadata
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import srlib
from srlib.arithmetic import descend

WITHOUT_NUMBA = """
import sys
sys.modules["numba"] = None
sys.path.insert(0, {tests!r})
from test_import import results
print(" ".join(value.hex() for value in results()))
"""


def results():
    """A sum of everything that has a compiled kernel, and of what uses one."""
    x = np.random.default_rng(1).standard_normal((3, 40))
    rng = srlib.Philox(1, 3)
    arithmetic = srlib.Arithmetic("binary8", "SR", rng)
    rounded = arithmetic.round(x)
    signed = srlib.Arithmetic("binary8", "signed_SR_eps(0.1)", rng)
    products = arithmetic.matmul(rounded[:, :, None], rounded[:, None, :], accumulator="bfloat16", scheme="SR")
    problem = srlib.DiagonalQuadratic(np.ones(40), np.full(40, 1.3))
    history = srlib.gradient_descent(problem, np.zeros((3, 40)), stepsize=0.5, steps=5, fmt="e4m3", rng=rng)
    arrays = (rounded, products, descend(rounded, rounded, 0.5, arithmetic, signed), arithmetic.exp(rounded), history.x)
    return [float(np.sum(array)) for array in (*arrays, arithmetic.sum(x, 1), srlib.round_to(1.1, "binary8"))]


def test_importing_srlib_imports_nothing_heavy():
    program = "import sys, srlib; sys.exit(bool({'numpy', 'numba', 'scipy'} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_every_public_name_is_there():
    assert {"round_to", "Philox", "Format", "exact_law", "gradient_descent"} <= set(srlib.__all__)
    named = set(srlib.__all__) - {"FORMATS", "SCHEMES", "__version__"}
    assert all(getattr(srlib, name).__module__.startswith("srlib.") for name in named)
    assert srlib.__version__ == importlib.metadata.version("srlib")
    assert srlib.SCHEMES[:2] == ("RN", "RZ") and "SR" in srlib.SCHEMES
    assert set(srlib.__all__) <= set(dir(srlib))
    with pytest.raises(AttributeError, match="round_up"):
        srlib.round_up  # noqa: B018


def test_without_numba_the_specification_serves_with_one_warning_and_the_same_bits():
    program = WITHOUT_NUMBA.format(tests=str(Path(__file__).parent))
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stderr
    assert said.stdout.split() == [value.hex() for value in results()]
    assert said.stderr.count("UserWarning") == 1
    assert "Numba cannot be imported: NumPy arrays are rounded by slow reference code" in said.stderr


UNCHANGED = """
import os, sys
before = dict(os.environ)
{first}
import numba
cache = numba.config.CACHE_DIR
import srlib, srlib.kernels.products
assert srlib.round_to(1.1, "binary8") == 1.0
assert dict(os.environ) == before and numba.config.CACHE_DIR == cache
if {windows}:
    assert not hasattr(os, "getuid")
"""


@pytest.mark.parametrize("first", ["import numba", "import srlib"])
@pytest.mark.parametrize("windows", [False, True])
def test_importing_srlib_changes_nothing_in_the_process(first, windows):
    """On Windows `os` has no getuid."""
    program = ("import os; del os.getuid\n" if windows else "") + UNCHANGED.format(first=first, windows=windows)
    said = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stderr
