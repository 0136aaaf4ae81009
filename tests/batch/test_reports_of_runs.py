"""What people have reported of tools that run notebooks, and met here: paths, neighbours, YAML, encodings, clusters."""

import ast
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import fsspec
import nbformat
import pytest
from click.testing import CliRunner
from nbformat.v4 import new_code_cell, new_notebook

import srlib
from srlib.batch.identity import data_of, files_of
from srlib.batch.manifest import versions
from srlib.batch.plan import plan_jobs
from srlib.batch.run import _wait_for_workers
from srlib.batch.store import Store
from srlib.batch.sweep import read_sweep
from srlib.batch.verify import find_problems
from srlib.cli import main
from srlib.companion.datasets import load
from srlib.companion.notebook import Notebook, Parameter, find_notebooks
from srlib.companion.settings import Settings, resolve_path

ROOT = Path(__file__).parents[2]
PARAMETERS = 'profile = "quick"\nbackend = "numpy"\nseed = 1\noutput_dir = "figures"'


def write(path, *sources, tagged=PARAMETERS):
    cells = [new_code_cell(tagged, metadata={"tags": ["parameters"]})] if tagged else []
    nbformat.write(new_notebook(cells=cells + [new_code_cell(source) for source in sources]), path)


NEIGHBOURS = {
    "Untitled.ipynb": lambda path: write(path, "1 + 1", tagged=None),
    "Untitled1.ipynb": lambda path: write(path, tagged=None),
    "01_a-Copy1.ipynb": write,
    "02_b-Copy.ipynb": write,
    ".01_a.ipynb": write,
    "._01_a.ipynb": lambda path: path.write_bytes(bytes(range(256))),
    ".~01_a.ipynb": write,
}


@pytest.mark.parametrize(("name", "make"), NEIGHBOURS.items(), ids=NEIGHBOURS)
def test_a_neighbour_of_the_notebooks_is_left_out_and_named_where_it_is_seen(tmp_path, name, make):
    for own in ("01_a.ipynb", "02_b.ipynb"):
        write(tmp_path / own)
    make(tmp_path / name)
    assert [path.name for path in find_notebooks(tmp_path)] == ["01_a.ipynb", "02_b.ipynb"]
    command = ["regenerate", "--notebooks", str(tmp_path), "--out", str(tmp_path / "out"), "--dry-run"]
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 0
    assert [line.split()[0] for line in result.stdout.splitlines()] == ["01_a", "02_b"]
    said = f"{name} is left out: it is a copy, or has no cell tagged 'parameters'\n"
    assert result.stderr == ("" if name.startswith(".") else said)


def test_a_neighbour_can_be_run_by_its_path_and_a_damaged_notebook_is_named(tmp_path):
    write(tmp_path / "01_a.ipynb")
    write(tmp_path / "01_a-Copy1.ipynb")
    command = ["regenerate", "--notebooks", str(tmp_path), "--out", str(tmp_path / "out"), "--dry-run"]
    result = CliRunner().invoke(main, [*command, str(tmp_path / "01_a-Copy1.ipynb")])
    assert result.output.startswith("01_a-Copy1  would run")
    (tmp_path / "02_b.ipynb").write_text("")
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 2 and f"{tmp_path / '02_b.ipynb'}: not a notebook" in result.output


BESIDE = ["notebooks/.ipynb_checkpoints/a-checkpoint.ipynb", "figures/.DS_Store", "figures/Thumbs.db", "notebooks/._a"]


@pytest.mark.parametrize("place", ["", "eps=[0.1,0.2]/"])
@pytest.mark.parametrize("name", BESIDE)
def test_what_programs_keep_beside_results_is_no_problem_and_what_people_put_there_is(tmp_path, place, name):
    store = Store(tmp_path)
    store.write(f"{place}manifests/a.json", json.dumps({"job": "a", "made_from": {}, "outputs": {}}).encode())
    store.write(place + name, b"")
    assert find_problems(tmp_path) == (1, 0, [])
    assert find_problems(tmp_path / place) == (1, 0, [])
    store.write(f"{place}figures/mine.png", b"")
    assert find_problems(tmp_path) == (1, 0, [f"{place}figures/mine.png is in no manifest"])


def test_a_home_directory_is_meant_by_a_tilde(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "train-images-idx3-ubyte").write_bytes(b"1")
    assert resolve_path("~/figs") == tmp_path / "figs"
    assert Settings("quick", "numpy", 1, "~/figs").output_dir == tmp_path / "figs"
    assert Store("~/out").local == tmp_path / "out"
    assert list(data_of(ROOT / "notebooks" / "a.ipynb", {"dataset_dir": "~/data"})) == ["train-images-idx3-ubyte"]


def test_a_directory_or_a_dangling_link_in_place_of_a_data_file_is_none(tmp_path):
    (tmp_path / "train-images-idx3-ubyte").mkdir()
    (tmp_path / "train-labels-idx1-ubyte").symlink_to(tmp_path / "gone")
    assert files_of(tmp_path, "*-ubyte*") == {}
    with pytest.raises(FileNotFoundError) as error:
        load(tmp_path)
    assert str(error.value) == f"{tmp_path}: no train-images-idx3-ubyte, with or without .gz"


@pytest.mark.parametrize("part", ["figures", "notebooks", "manifests", "failed"])
@pytest.mark.parametrize("kind", ["a file", "a dangling link"])
def test_results_that_could_not_be_named_in_the_end_are_refused_at_the_start(tmp_path, part, kind):
    write(tmp_path / "01_a.ipynb")
    out = tmp_path / "out"
    out.mkdir()
    if kind == "a file":
        (out / part).write_text("")
    else:
        (out / part).symlink_to(tmp_path / "gone")
    result = CliRunner().invoke(main, ["regenerate", "--notebooks", str(tmp_path), "--out", str(out)])
    assert result.exit_code == 2
    assert result.output.splitlines()[-1].startswith(f"Error: --out {out}: cannot write there (")


class Refusing(fsspec.AbstractFileSystem):
    """A place where nothing can be written, such as a web server."""

    protocol = "refusing"

    def pipe_file(self, path, value, **options):
        raise self.error

    def cat_file(self, path, **options):
        raise FileNotFoundError


class Response(Exception):
    """As aiohttp has them: no OSError."""


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (Response("501, message='Unsupported method'\n more"), "501, message='Unsupported method'"),
        (NotImplementedError(), "NotImplementedError"),
        (PermissionError(13, "Permission denied"), "Permission denied"),
    ],
)
def test_a_place_that_refuses_to_be_written_to_is_told_in_a_line(tmp_path, monkeypatch, error, said):
    write(tmp_path / "01_a.ipynb")
    monkeypatch.setattr(Refusing, "error", error, raising=False)
    fsspec.register_implementation("refusing", Refusing, clobber=True)
    result = CliRunner().invoke(main, ["regenerate", "--notebooks", str(tmp_path), "--out", "refusing://there"])
    assert result.exit_code == 2
    assert result.output.splitlines()[-1] == f"Error: --out refusing://there: cannot write there ({said})"


YAML = {
    "stepsize: 1e-3": 1e-3,
    "stepsize: 1E+2": 100.0,
    "stepsize: .5": 0.5,
    "stepsize: 5.": 5.0,
    "stepsize: 0.25": 0.25,
    "stepsize: -.inf": float("-inf"),
    "count: 010": 10,
    "count: +7": 7,
    "word: 1_000": "1_000",
    "word: 2026-11-30": "2026-11-30",
    "word: 12:30": "12:30",
    "word: yes": "yes",
    "word: no": "no",
    "word: 1e-3x": "1e-3x",
    'word: "1e-3"': "1e-3",
    "flag: true": True,
    "none: ~": None,
    "none:": None,
}


@pytest.mark.parametrize(("line", "value"), YAML.items(), ids=YAML)
def test_a_sweep_has_the_values_that_one_reads(tmp_path, line, value):
    (tmp_path / "sweep.yml").write_text(f"parameters: {{{line}}}")
    (found,) = read_sweep(tmp_path / "sweep.yml").values.values()
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize("text", ["[01, 05]", '["01", "05"]', "[01, '05', ~]"])
def test_a_sweep_names_notebooks_by_number(tmp_path, text):
    (tmp_path / "sweep.yml").write_text(f"notebooks: {text}")
    assert read_sweep(tmp_path / "sweep.yml").notebooks[:2] == ("01", "05")


@pytest.mark.parametrize("value", ["!!timestamp 2026-11-30", "!!binary aGk=", "[!!set {a}]", "!!python/name:os.system"])
def test_a_sweep_of_what_no_parameter_can_be_is_refused(tmp_path, value):
    (tmp_path / "sweep.yml").write_text(f"parameters:\n  x: {value}\n")
    with pytest.raises(ValueError, match=r"must be numbers, truth values, texts and lists|cannot be read as YAML"):
        read_sweep(tmp_path / "sweep.yml")


PASSED = [
    ("images", 2e3, "images is 2000.0; must be an integer"),
    ("images", 0, "images is 0; must be at least 1"),
    ("stepsize", "1e-3x", "stepsize is '1e-3x'; must be a real number"),
    ("stepsize", -1, "stepsize is -1; must be finite and positive"),
    ("eps", [0.1, 1.5], "eps is 1.5; must be at least 0 and below 1"),
    ("fmt", "binary9", "format is 'binary9'; must be a Format, fixed(i,f) or one of"),
]


@pytest.mark.parametrize(("name", "value", "message"), PASSED, ids=str)
def test_a_value_that_would_end_a_notebook_is_refused_by_the_plan(name, value, message):
    defaults = {"profile": "'quick'", "backend": "'numpy'", "seed": "1", "output_dir": "'figures'", name: "None"}
    notebook = Notebook(Path("a.ipynb"), "a", tuple(Parameter(n, d, "") for n, d in defaults.items()), ())
    with pytest.raises(ValueError) as error:
        plan_jobs([notebook], "quick", "numpy", {name: value})
    assert str(error.value).startswith(message)


@pytest.mark.parametrize(("text", "value"), [("1e-3", 1e-3), ("2.5E-1", 0.25), ("5e+0", 5.0)])
def test_a_number_that_yaml_reads_as_a_text_is_a_number(text, value):
    """As papermill -f passes it on."""
    assert Settings("quick", "numpy", 1, "figures", stepsize=text).parameters["stepsize"] == value


TEXT_MODES = {"read_text", "write_text"}


def unencoded(path):
    """Lines of a program that read or write text in whatever encoding the machine has."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            words = {word.arg: ast.unparse(word.value) for word in node.keywords}
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            modes = [part.value for part in node.args if isinstance(part, ast.Constant)] + [words.get("mode", "")]
            binary = any(isinstance(mode, str) and "b" in mode for mode in modes)
            if (name in TEXT_MODES or (name in ("open", "fdopen") and not binary) or "text" in words) and (
                "encoding" not in words
            ):
                yield f"{path.relative_to(ROOT)}:{node.lineno}"


def test_every_file_is_utf8_and_said_so():
    programs = [path for place in ("srlib", "docs", "benchmarks") for path in (ROOT / place).rglob("*.py")]
    assert len(programs) > 60
    assert [line for path in programs for line in unencoded(path)] == []


def in_a_checkout(tmp_path, *command, **environment):
    """Run a command with the code on the path, but not installed, beside the packages of this environment."""
    shutil.copytree(ROOT / "srlib", tmp_path / "srlib", ignore=shutil.ignore_patterns("__pycache__"))
    site = tmp_path / "site"
    site.mkdir()
    packages = Path(nbformat.__file__).parents[1]
    for path in packages.iterdir():
        if "srlib" not in path.name and path.suffix != ".pth":
            (site / path.name).symlink_to(path)
    outer = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    outer |= {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(site)]), **environment}
    python = [sys.executable, "-S"]
    return subprocess.run([*python, *command], capture_output=True, env=outer, cwd=tmp_path, check=False)


SAVED = """
import matplotlib.pyplot as plt, srlib
from srlib.companion.figures import save_figure
from srlib.companion.settings import Settings
from srlib.batch.manifest import versions
save_figure(plt.figure(), "a", {"x": [1.0]}, Settings("quick", "numpy", 1, "figures"))
print(srlib.__version__, "numpy" in versions())
"""


def test_code_that_is_on_the_path_and_not_installed_knows_its_version(tmp_path):
    said = in_a_checkout(tmp_path, "-c", SAVED)
    assert said.stdout.decode().split() == [srlib.__version__, "True"], said.stderr.decode()
    record = json.loads((tmp_path / "figures" / "a.json").read_text())
    assert record["versions"]["srlib"] == srlib.__version__ and "numba" in record["versions"]
    assert versions()["python"] == record["versions"]["python"]


@pytest.mark.parametrize("encoding", ["cp1252", "latin-1", "utf-8"])
def test_a_terminal_of_any_encoding_can_be_listed_on(encoding):
    command = [sys.executable, "-m", "srlib", "list"]
    outer = os.environ | {"PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"}
    said = subprocess.run(command, capture_output=True, env=outer, cwd=ROOT, check=False)
    assert (said.returncode, said.stderr) == (0, b"")
    assert ("ε" in said.stdout.decode(encoding)) == (encoding == "utf-8")


class Scheduler:
    """A scheduler that gets its first worker after some questions."""

    def __init__(self, questions):
        self.questions = questions

    def scheduler_info(self):
        self.questions -= 1
        return {"workers": {"tcp://w": {"nthreads": 3}} if self.questions < 0 else {}}


@pytest.mark.parametrize(("questions", "words"), [(0, 0), (1, 0), (40, 1)])
def test_a_scheduler_without_workers_is_told_once_and_waited_for(monkeypatch, questions, words):
    said, now = [], [0.0]
    monkeypatch.setattr("srlib.batch.run.time.sleep", lambda seconds: now.__setitem__(0, now[0] + seconds))
    monkeypatch.setattr("srlib.batch.run.time.monotonic", lambda: now[0])
    assert list(_wait_for_workers(Scheduler(questions), lambda: said.append(1))) == [{"nthreads": 3}]
    assert len(said) == words
