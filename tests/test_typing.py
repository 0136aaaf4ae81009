"""What a type checker knows of the public functions, in a program that uses them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("mypy.api")
pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]

GOOD = """
import numpy as np
from numpy.typing import NDArray

import srlib


class Bowl:
    shape = (2,)

    def f(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray((x * x).sum(axis=-1))

    def gradient(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        return 2 * x


x = np.ones((3, 2))
rng = srlib.Philox(seed=1, replicates=3)
rounded: NDArray[np.float64] = srlib.round_to(x, "binary8", "SR", rng, out=x)
number: float = srlib.round_to(1.1, srlib.Format.parse("e4m3"))
chance: NDArray[np.float64] = srlib.prob_up(x, "binary8", srlib.Scheme("SR_eps", 0.1))
up: float = srlib.prob_up(1.1, "binary8", "SR")
errors: NDArray[np.float64] = srlib.mean_error([1.1, 2], "binary8", "SR")
spread: NDArray[np.float64] = srlib.variance(x, "binary8", "signed_SR_eps(0.1)", x)
history: srlib.History = srlib.gradient_descent(Bowl(), x, stepsize=0.1, steps=3, fmt="binary8", rng=rng)
objective: np.ndarray = history.objective
listed: NDArray[np.float64] = srlib.round_to([1.1, 2], "half", "SR", rng)
history = srlib.gradient_descent(Bowl(), [0.0, 1.0], stepsize=0.1, steps=3, fmt="float16", rng=rng)
names: list[str] = [*srlib.FORMATS, *srlib.SCHEMES, srlib.__version__]
law: srlib.ExactLaw = srlib.exact_law(srlib.Huber(1.0, 0.5), "binary8", 0.25)
"""
BAD = {
    'srlib.round_to(x, 8)': "call-overload",
    'srlib.round_to(x, "binary8", rng=1)': "call-overload",
    'srlib.prob_up(x, 8, "SR")': "call-overload",
    'srlib.Philox("seed")': "arg-type",
    'srlib.Format("mine", precision=3)': "call-arg",
    'srlib.Scheme.parse("SR").epsilon': "attr-defined",
    'srlib.gradient_descent(1, x, stepsize=0.1, steps=3, fmt="binary8")': "arg-type",
    'srlib.rounding_to(x)': "attr-defined",
}  # fmt: skip


@pytest.fixture(scope="module")
def checked(tmp_path_factory):
    """What mypy says of both programs, a line each."""
    place = tmp_path_factory.mktemp("programs")
    (place / "good.py").write_text(GOOD)
    (place / "bad.py").write_text(GOOD + "\n".join(BAD))
    options = ["--strict", "--ignore-missing-imports", "--follow-imports=silent", "--no-error-summary"]
    command = [sys.executable, "-m", "mypy", *options, "--cache-dir", str(ROOT / ".mypy_cache"), "good.py", "bad.py"]
    found = os.environ | {"MYPYPATH": str(ROOT)}  # an editable installation is where mypy does not look
    return subprocess.run(
        command, cwd=place, env=found, stdout=subprocess.PIPE, text=True, check=False
    ).stdout.splitlines()


@pytest.mark.xdist_group("typing")
def test_a_program_in_good_order_passes(checked):
    assert [line for line in checked if not line.startswith("bad.py:")] == []


@pytest.mark.xdist_group("typing")
def test_each_mistake_is_found(checked):
    first = len(GOOD.splitlines()) + 1
    errors = [line for line in checked if " error: " in line]
    found = {line.split(":")[1]: line.rpartition("[")[2].rstrip("]") for line in errors}
    assert found == {str(first + number): code for number, code in enumerate(BAD.values())}, checked
