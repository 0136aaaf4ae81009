"""The wheel, installed beside nothing of the repository: also read-only, and without a home that can be written."""

import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
ROUND = """
import numpy as np, srlib
x = np.random.default_rng(1).standard_normal((3, 40))
print(srlib.__file__)
print(float(srlib.round_to(x, "binary8", "SR", srlib.Philox(1, 3)).sum()).hex())
"""
READ_ONLY = """
set -e
mount --bind "$1" "$1"
mount -o remount,ro,bind "$1"
! touch "$1/here" 2> /dev/null
cd "$1"
HOME="$1/home" exec "$1/env/bin/python" -c "$2"
"""

CORE = """
import sys
import numpy as np, srlib
x = np.random.default_rng(1).standard_normal((3, 40))
assert [getattr(srlib, name) for name in srlib.__all__]
problem = srlib.DiagonalQuadratic(np.ones(40), x[0])
history = srlib.gradient_descent(problem, x, stepsize=0.5, steps=5, fmt="binary8", rng=srlib.Philox(1, 3))
law = srlib.exact_law(srlib.Huber(1.0, 0.5), "binary8", 0.25)
print(float(history.objective.sum()).hex(), float(law.expected(np.abs, 2.0, 5).sum()).hex())
"""
PACKAGES = ("array-api-compat", "lazy-loader", "mpmath", "numba", "numpy", "scipy")

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("wheel")]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    source, place = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    shutil.copytree(ROOT / "srlib", source / "srlib", ignore=shutil.ignore_patterns("__pycache__"))
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--quiet", "--wheel-dir", str(place)]
    subprocess.run([sys.executable, "-m", "pip", "wheel", *options, str(source)], check=True)
    (built,) = place.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(tmp_path_factory, wheel):
    """A directory with an environment of its own, `env`, that has the wheel and borrows the dependencies."""
    place = tmp_path_factory.mktemp("installed")
    python = place / "env" / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", place / "env"], check=True)
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*pip, str(wheel)], check=True)
    (packages,) = (place / "env" / "lib").glob("python*/site-packages")
    (packages / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return place


@pytest.fixture(scope="module")
def bare(tmp_path_factory, wheel):
    """A directory with an environment that has the wheel, the packages that it requires, and what these do."""
    place = tmp_path_factory.mktemp("bare")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", place / "env"], check=True)
    pip = [sys.executable, "-m", "pip", "--python", str(place / "env" / "bin" / "python"), "install", "--quiet"]
    subprocess.run([*pip, "--no-deps", "--no-index", str(wheel)], check=True)
    (packages,) = (place / "env" / "lib").glob("python*/site-packages")
    for name in closure(PACKAGES):
        found = distribution(name)
        for part in {file.parts[0] for file in found.files if ".." not in file.parts}:
            (packages / part).symlink_to(found.locate_file(part))
    return place


def closure(names):
    """Return packages and all that they require, without extras."""
    found, ahead = set(), [canonicalize_name(name) for name in names]
    while ahead:
        name = ahead.pop()
        found.add(name)
        required = [Requirement(text) for text in distribution(name).requires or ()]
        needed = [each.name for each in required if each.marker is None or each.marker.evaluate({"extra": ""})]
        ahead += [canonicalize_name(each) for each in needed if canonicalize_name(each) not in found]
    return found


def run(installed, *command, **options):
    found = {name: value for name, value in os.environ.items() if not name.startswith(("NUMBA_CACHE", "XDG_"))}
    options = {"cwd": installed, "env": found, "capture_output": True, "text": True, "check": False} | options
    return subprocess.run(list(map(str, command)), **options)


def test_the_wheel_holds_what_is_not_python_too(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert {"srlib/kernels/gpu.c", "srlib/__init__.pyi", "srlib/py.typed"} <= set(names)
    assert any(name.endswith("LICENSE") for name in names)
    assert not [name for name in names if not name.startswith(("srlib/", "srlib-"))]


def test_it_rounds_outside_of_the_repository(installed):
    here = run(installed, sys.executable, "-c", ROUND, cwd=ROOT)
    there = run(installed, installed / "env" / "bin" / "python", "-c", ROUND)
    assert there.returncode == 0, there.stderr
    assert there.stdout.splitlines()[0].startswith(str(installed))
    assert there.stdout.splitlines()[1] == here.stdout.splitlines()[1]
    assert there.stderr == ""


def test_the_command_says_that_notebooks_are_elsewhere_and_finds_them_where_they_are(installed):
    srlib = installed / "env" / "bin" / "srlib"
    missing = run(installed, srlib, "list")
    assert missing.returncode != 0
    assert "clone the repository" in missing.stderr and "Traceback" not in missing.stderr
    found = run(installed, srlib, "list", "--notebooks", ROOT / "notebooks")
    assert found.returncode == 0, found.stderr
    assert "01_rounding_schemes" in found.stdout


def test_it_rounds_where_nothing_can_be_written_but_temporary_files(installed):
    if shutil.which("unshare") is None or run(installed, "unshare", "--mount", "true").returncode != 0:
        pytest.skip("needs leave to mount: unshare --mount")
    place = installed / "home"
    place.mkdir()
    here = run(installed, sys.executable, "-c", ROUND, cwd=ROOT)
    for _ in range(2):  # to make the compiled code, and to find it
        there = run(installed, "unshare", "--mount", "sh", "-c", READ_ONLY, "sh", installed, ROUND)
        assert there.returncode == 0, there.stderr
        assert there.stdout.splitlines()[1] == here.stdout.splitlines()[1]
        assert there.stderr == ""


def test_six_packages_and_what_these_need_are_enough_for_the_core(bare):
    assert closure(PACKAGES) == {*PACKAGES, "llvmlite", "packaging"}
    here = run(bare, sys.executable, "-c", CORE, cwd=ROOT)
    there = run(bare, bare / "env" / "bin" / "python", "-c", CORE)
    assert there.returncode == 0, there.stderr
    assert (there.stdout, there.stderr) == (here.stdout, "")


def test_the_command_without_its_extra_says_which_one_in_a_line(bare):
    for command in (["srlib", "list"], ["python", "-m", "srlib"]):
        said = run(bare, bare / "env" / "bin" / command[0], *command[1:])
        assert said.returncode == 1 and said.stdout == ""
        assert said.stderr == "srlib: click is missing; the command needs: pip install 'srlib[companion]'\n"
