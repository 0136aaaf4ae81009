"""The wheel, installed beside nothing of the repository: also read-only, and without a home that can be written."""

import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

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

pytestmark = pytest.mark.xdist_group("wheel")


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


def run(installed, *command, **options):
    found = {name: value for name, value in os.environ.items() if not name.startswith(("NUMBA_CACHE", "XDG_"))}
    options = {"cwd": installed, "env": found, "capture_output": True, "text": True, "check": False} | options
    return subprocess.run(list(map(str, command)), **options)


def test_the_wheel_holds_what_is_not_python_too(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert {"srlib/kernels/gpu.c", "srlib/__init__.pyi", "srlib/py.typed", "srlib/batch/site.css"} <= set(names)
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
