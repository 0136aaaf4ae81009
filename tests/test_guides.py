"""Every command of the guides is run, those that take long or need a cluster as far as `--dry-run` goes.

`make lint` and `make test` are what runs the tests; of the other targets, `make` says what it would run.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
from glob import glob
from pathlib import Path

import numpy as np
import pytest
from shared import idx

from srlib.batch.progress import counted

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
PIP = "--dry-run --no-deps --no-index --no-build-isolation --quiet"
NBCONVERT = "jupyter nbconvert --to notebook --execute --inplace --ExecutePreprocessor.record_timing=False"
NBCONVERT += " notebooks/01*.ipynb"
ADDED = {
    "srlib list": "",
    "srlib regenerate 01 -p fmt e4m3 -p eps 0.05 --out build/e4m3": "-p draws 1000",
    "srlib regenerate 05 -p dataset_dir /path/to/fashion --out build/fashion": "-p steps 2 -p replicates 2 -p eps 0.2",
    "srlib regenerate --dry-run": "",
    "srlib regenerate --sweep sweep.yml --jobs 4 --keep-going": "--dry-run",
    "srlib regenerate 05 --profile paper --split 4 --jobs 4": "--dry-run",
    "srlib regenerate --profile paper --scheduler tcp://10.0.0.1:8786": "--dry-run",
    "srlib restamp --jobs 2": "--notebooks notebooks --figures figures",
    "srlib verify build": "",
    "srlib compare figures build/figures": "",
    "srlib claims": "--figures figures",
    'pip install -e ".[cluster]"': PIP,
    'pip install -e ".[gpu]"': PIP,
    NBCONVERT: "--ExecutePreprocessor.extra_arguments=--log-level=ERROR",
}
ELSEWHERE = {"conda env create -f environment.yml"}  # no conda here; test_packaging compares the file with the lock
SAID = {
    "srlib list": "14_explorer",
    "srlib regenerate --dry-run": "01_rounding_schemes",
    "srlib restamp --jobs 2": "01_rounding_schemes  up to date",
    "srlib verify build": "of {jobs} are as they were made",
    "srlib compare figures build/figures": "explorer_run           identical",
}
DIFFERENT = {"srlib compare figures build/figures"}  # the second batch has one notebook

pytestmark = pytest.mark.xdist_group("guides")


def commands() -> list[str]:
    """The commands in the guides, without their comments and the directory of the environment."""
    found = []
    for guide in ("README.md", "CONTRIBUTING.md", "docs/kernels.md", "docs/batches.md", "docs/refresh.md"):
        text = (ROOT / guide).read_text()
        blocks = re.findall(r"```sh\n(.*?)```", text, flags=re.S)
        found += [line.partition("  #")[0].strip() for block in blocks for line in block.splitlines()]
        found += re.findall(r"`((?:make |conda |\.venv/bin/)[^`]+)`", re.sub(r"```.*?```", "", text, flags=re.S))
    return list(dict.fromkeys(command.removeprefix(".venv/bin/") for command in found))


TARGETS = [command for command in commands() if command.startswith("make ")]
PROGRAMS = [command for command in commands() if command not in TARGETS]


def test_each_command_has_its_test():
    assert set(PROGRAMS) == ADDED.keys() | ELSEWHERE
    assert {"make figures", "make test", "make lab", "make update"} <= set(TARGETS)


@pytest.mark.parametrize("command", TARGETS)
def test_make_knows_its_targets_and_variables(command):
    said = subprocess.run([*shlex.split(command), "-n"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stderr
    assert said.stdout
    for name in re.findall(r"(\w+)=", command):
        assert re.search(rf"^{name} \?=|\$\({name}\)", (ROOT / "Makefile").read_text(), flags=re.M)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A directory like that of the repository, to write in: figures, a notebook, the guide's sweep, other images."""
    place = tmp_path_factory.mktemp("checkout")
    shutil.copytree(ROOT / "figures", place / "figures", ignore=shutil.ignore_patterns("*.pdf", "*.png"))
    (place / "notebooks").mkdir()
    (place / "tests").mkdir()
    (place / "tests" / "test_rounding.py").write_text("def test_it():\n    pass\n")
    shutil.copy(ROOT / "notebooks" / "01_rounding_schemes.ipynb", place / "notebooks")
    (sweep,) = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / "batches.md").read_text(), flags=re.S)
    (place / "sweep.yml").write_text(sweep)
    rng = np.random.default_rng(1)
    (place / "fashion").mkdir()
    for part, count in (("train", 60), ("t10k", 20)):
        for kind, values in (
            ("images-idx3", rng.integers(0, 256, (count, 5, 4))),
            ("labels-idx1", np.arange(count) % 3),
        ):
            (place / "fashion" / f"{part}-{kind}-ubyte").write_bytes(idx(values))
    return place


@pytest.mark.slow
@pytest.mark.parametrize("command", [command for command in PROGRAMS if command not in ELSEWHERE])
def test_a_command_does_what_the_guide_says(checkout, command):
    if command.endswith(("verify build", "build/figures")) and not (checkout / "build" / "figures").exists():
        run(checkout, ["srlib", "regenerate", "14", "--profile", "paper", "--out", "build"])
    words = [word.replace("/path/to/fashion", str(checkout / "fashion")) for word in shlex.split(command)]
    words = [found for word in words for found in (glob(word, root_dir=checkout) if "*" in word else [word])]
    place = ROOT if words[0] == "pip" else checkout
    said = run(place, [*words, *ADDED[command].split()], status=command in DIFFERENT)
    jobs = counted(len(list((checkout / "build").rglob("manifests/*.json"))), "job")
    assert SAID.get(command, "").format(jobs=jobs) in said


def run(place, words, status=0):
    environment = os.environ | {"PYTHONWARNINGS": "ignore"}
    said = subprocess.run(
        [BIN / words[0], *words[1:]], cwd=place, env=environment, capture_output=True, text=True, check=False
    )
    assert said.returncode == status, said.stdout + said.stderr
    return said.stdout
