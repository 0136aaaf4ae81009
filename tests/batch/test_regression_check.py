"""Records are restamped where a small run has the digests that it has always had, and nowhere else."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
from click.testing import CliRunner
from nbformat.v4 import new_code_cell, new_notebook
from nbformat.v4 import writes as as_notebook
from shared import DISPATCHED

from srlib.batch import regression_check as module
from srlib.batch.identity import identity
from srlib.batch.regression_check import Finding, check, failing_tests
from srlib.cli import main
from srlib.companion.notebook import Notebook, Parameter, find_notebooks, read_notebook
from srlib.companion.records import digest, load_record

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("check")]

PARAMETERS = """profile = "quick"  # or "paper"
backend = "numpy"  # where arrays are
seed = 7  # of nothing
output_dir = "../build/figures"  # where figures go
steps = 20  # how many numbers"""
CODE = """import matplotlib.pyplot as plt
from srlib.companion.figures import save_figure
from srlib.rounding import round_to
from srlib.companion.settings import Settings

settings = Settings(profile, backend, seed, output_dir, steps=steps)
numbers = [round_to(1.1 * k, "binary8") for k in range(steps)]
figure, axes = plt.subplots(figsize=(2, 1))
axes.plot(numbers)
axes.set(title="NAME")
save_figure(figure, "NAME", {"numbers": numbers}, settings)
print("said")"""


class Checkout:
    """Two notebooks of one figure each, records of them, and a unit test."""

    def __init__(self, place):
        self.place, self.figures = place, place / "figures"

    def create(self):
        for name in ("notebooks", "figures", "tests"):
            (self.place / name).mkdir()
        for name in ("one", "two"):
            self.write(name)
        known = {name: {"parameters": {"steps": 5}, "figures": {}} for name in ("one", "two")}
        (self.figures / "regression_check.json").write_text(json.dumps(known))
        return self

    def write(self, name, old="", new=""):
        assert old in CODE
        cells = [new_code_cell(PARAMETERS, metadata={"tags": ["parameters"]})]
        cells.append(new_code_cell((CODE.replace(old, new) if old else CODE).replace("NAME", name)))
        kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
        notebook = new_notebook(cells=cells, metadata={"kernelspec": kernel})
        (self.place / "notebooks" / f"{name}.ipynb").write_text(as_notebook(notebook))

    def run(self, *words):
        options = ["--notebooks", str(self.place / "notebooks"), "--figures", str(self.figures)]
        result = CliRunner().invoke(main, [*words, *options])
        return result.exit_code, result.output

    def record(self, name):
        return load_record(self.figures / f"{name}.json")

    def files(self):
        return {path.name: path.read_bytes() for path in self.figures.iterdir()}

    def now(self, name):
        return identity(self.place / "notebooks" / f"{name}.ipynb", self.record(name)["parameters"])


@pytest.fixture(scope="module")
def updated(tmp_path_factory):
    """A checkout that `srlib update` has brought up to date."""
    made = Checkout(tmp_path_factory.mktemp("updated")).create()
    with pytest.MonkeyPatch.context() as patch:
        here(patch, made.place)
        code, said = made.run("update", "--out", str(made.place / "out"))
    assert code == 0, said
    return made


def here(patch, place):
    """Let the check run in this process, and every unit test pass."""
    patch.setattr(module, "_run_all", lambda tasks, jobs: [module._run(*task) for task in tasks])
    patch.setattr(module, "failing_tests", lambda *given: None)
    patch.chdir(place)


@pytest.fixture
def checkout(updated, tmp_path, monkeypatch):
    """A copy of it."""
    here(monkeypatch, tmp_path)
    copy = shutil.copytree(updated.place, tmp_path / "copy", ignore=shutil.ignore_patterns("out"))
    return Checkout(copy)


def test_what_was_never_checked_is_run_at_paper_scale_and_has_digests(checkout):
    assert {path.name for path in checkout.figures.iterdir()} == {"regression_check.json"} | {
        f"{name}.{suffix}" for name in ("one", "two") for suffix in ("json", "pdf", "png")
    }
    for name in ("one", "two"):
        assert (
            checkout.record(name)["parameters"] | {"profile": "paper", "steps": 20}
            == checkout.record(name)["parameters"]
        )
        assert checkout.record(name)["identity"] == checkout.now(name)
    known = json.loads((checkout.figures / "regression_check.json").read_text())
    assert known["one"]["parameters"] == {"steps": 5}
    assert {len(digest) for digest in known["one"]["figures"]["one"].values()} == {64}


def test_where_nothing_has_changed_nothing_is_written(checkout):
    before = checkout.files()
    assert checkout.run("restamp") == (0, "one  up to date\ntwo  up to date\n")
    assert checkout.run("update")[0] == 0
    assert checkout.files() == before


def test_digests_alone_are_added_where_the_records_are_those_of_the_code(checkout):
    (checkout.figures / "regression_check.json").unlink()
    records = {name: content for name, content in checkout.files().items()}
    assert checkout.run("restamp")[0] == 0
    assert checkout.files() == records
    code, said = checkout.run("update", "--out", "nowhere")
    assert code == 0 and not Path("nowhere").exists(), said
    assert json.loads((checkout.figures / "regression_check.json").read_text())["one"]["figures"].keys() == {"one"}


def test_other_code_with_the_same_numbers_is_restamped_and_the_record_says_who_computed_them(checkout):
    first = checkout.record("one")
    for form in ("1.1 * (k + 0)", "1.1 * (0 + k)"):
        checkout.write("one", "1.1 * k", form)
        assert checkout.run("restamp") == (0, "one  restamped\ntwo  up to date\n")
        record = checkout.record("one")
        assert record["identity"] == checkout.now("one") != first["identity"]
        assert record["computed_by"] == first["identity"]
        assert record["numbers"] == first["numbers"]
    checkout.write("one")
    assert checkout.run("restamp")[0] == 0
    assert checkout.record("one") == first


def test_other_numbers_are_told_and_nothing_is_written(checkout):
    before = checkout.files()
    checkout.write("two", "1.1 * k", "1.2 * k")
    code, said = checkout.run("restamp")
    assert code == 1
    assert "two  differs" in said and "to be run at paper scale: two\n" in said
    assert checkout.files() == before
    code, said = checkout.run("update", "--out", "out")
    assert code == 0, said
    assert checkout.record("two")["identity"] == checkout.now("two")
    assert "computed_by" not in checkout.record("two")
    assert checkout.record("two")["numbers"]["numbers"][-1] == 24.0  # 22.8 among 20, 24
    assert checkout.run("restamp") == (0, "one  up to date\ntwo  up to date\n")
    assert checkout.files()["one.json"] == before["one.json"]


def test_a_difference_that_only_the_paper_scale_would_show_is_not_seen(checkout):
    """It is what the check is too short for."""
    checkout.write("two", "1.1 * k", "(1.1 * k if k < 10 else 0.0)")
    assert checkout.run("restamp") == (0, "one  up to date\ntwo  restamped\n")


def test_other_pixels_with_the_same_numbers_are_to_be_drawn_anew(checkout):
    checkout.write("two", 'title="NAME"', 'title="2"')
    code, said = checkout.run("restamp")
    assert code == 1 and "two  restamped, redraw" in said and "to be run at paper scale: two\n" in said
    picture = checkout.files()["two.png"]
    assert checkout.run("update", "--out", "out")[0] == 0
    assert checkout.files()["two.png"] != picture
    assert checkout.run("restamp")[0] == 0


def test_notebooks_that_are_named_are_run_in_any_case(checkout):
    checkout.write("one", "1.1 * k", "(1.1 * k if k < 10 else 0.0)")
    code, said = checkout.run("update", "one", "--out", "out")
    assert code == 0, said
    assert checkout.record("one")["numbers"]["numbers"][-1] == 0.0
    assert "computed_by" not in checkout.record("one")


@pytest.mark.parametrize(
    "lose",
    [
        lambda path: path.unlink(),
        lambda path: path.write_text("{"),
        lambda path: path.write_text(path.read_text().replace('"identity"', '"by hand"')),
    ],
    ids=["missing", "damaged", "made by hand"],
)
def test_a_record_that_no_batch_has_made_is_not_restamped_and_its_notebook_is_run(checkout, lose):
    lose(checkout.figures / "two.json")
    before = checkout.files()
    code, said = checkout.run("restamp")
    assert code == 1 and "two  no record\n" in said and "to be run at paper scale: two\n" in said
    assert checkout.files() == before
    assert checkout.run("update", "--out", "out")[0] == 0
    assert checkout.record("two")["identity"] == checkout.now("two")


def test_while_a_unit_test_fails_nothing_is_written(checkout, monkeypatch):
    checkout.write("one", "1.1 * k", "1.1 * (k + 0)")
    checkout.write("two", "1.1 * k", "1.2 * k")
    before = checkout.files()
    monkeypatch.setattr(module, "failing_tests", lambda *given: "FAILED test_rounding.py")
    for command in ("restamp", "update"):
        code, said = checkout.run(command)
        assert code == 1
        assert said == "Error: nothing is written\ntwo  differs\n\na unit test fails:\n\nFAILED test_rounding.py\n"
    assert checkout.files() == before


def test_while_a_notebook_fails_nothing_is_written(checkout):
    checkout.write("one", "1.1 * k", "1.1 * (k + 0)")
    checkout.write("two", "range(steps)", "range(nonsense)")
    before = checkout.files()
    code, said = checkout.run("restamp")
    assert code == 1 and "two fails: NameError: name 'nonsense' is not defined" in said
    assert checkout.files() == before


@pytest.mark.parametrize("content", ["", "[]", '{"one": {}}', '{"one": {"parameters": {}}}'])
def test_a_damaged_check_is_refused(checkout, content):
    (checkout.figures / "regression_check.json").write_text(content)
    code, said = checkout.run("restamp")
    assert code == 2 and "regression_check.json: " in said


@pytest.mark.slow
def test_the_unit_tests_are_those_of_the_modules_that_notebooks_reach(checkout, monkeypatch):
    monkeypatch.undo()
    notebooks = [read_notebook(path) for path in find_notebooks(checkout.place / "notebooks")]
    with pytest.raises(FileNotFoundError, match="no unit tests"):
        failing_tests(notebooks, checkout.place, 1)
    (checkout.place / "pytest.ini").write_text("[pytest]\nmarkers =\n    slow: s\n    exhaustive: e\n")
    (checkout.place / "tests" / "test_bounds.py").write_text("def test_it():\n    assert False, 'not reached'\n")
    (checkout.place / "tests" / "test_rounding.py").write_text("def test_it():\n    pass\n")
    assert failing_tests(notebooks, checkout.place, 1) is None
    (checkout.place / "tests" / "test_formats.py").write_text("def test_it():\n    assert False, 'as planted'\n")
    assert "as planted" in failing_tests(notebooks, checkout.place, 1)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", r"regression_check\.json: is not JSON \("),
        ("[]", r"regression_check\.json: must hold parameters and figures of each notebook"),
        ('{"one": []}', "must hold parameters and figures"),
        ('{"one": {"parameters": {}}}', "must hold parameters and figures"),
        ('{"one": {"figures": {}}}', "must hold parameters and figures"),
        ('{"one": {"parameters": {}, "figures": {}}, "two": 2}', "must hold parameters and figures"),
    ],
)
def test_a_file_that_holds_no_such_digests_is_named(tmp_path, content, message):
    (tmp_path / "regression_check.json").write_text(content)
    with pytest.raises(ValueError, match=message):
        module.read_known(tmp_path)


NOTEBOOK = Notebook(Path("some.ipynb"), "Title", (Parameter("steps", "None", ""),), ("one", "two"))


def found(verdict, current, digests=None):
    return Finding(NOTEBOOK, verdict, current, digests or {})


@pytest.mark.parametrize(
    ("verdict", "current", "expected"),
    [
        ("same", True, False),
        ("same", False, False),
        ("redraw", True, True),
        ("redraw", False, True),
        ("differs", True, True),
        ("differs", False, True),
        ("fails", True, False),
        ("fails", False, False),
        ("never checked", True, False),
        ("never checked", False, True),
    ],
)
def test_a_notebook_must_be_run_where_its_figures_are_others_or_nobody_knows(verdict, current, expected):
    assert found(verdict, current).must_run is expected


@pytest.mark.parametrize(
    ("expected", "now", "verdict"),
    [
        ({}, {"one": {"numbers": "1", "pixels": "2"}}, "never checked"),
        ({}, {}, "never checked"),
        ({"one": {"numbers": "1", "pixels": "2"}}, {"one": {"numbers": "1", "pixels": "2"}}, "same"),
        ({"one": {"numbers": "1", "pixels": "2"}}, {"one": {"numbers": "1", "pixels": "3"}}, "redraw"),
        ({"one": {"numbers": "1", "pixels": "2"}}, {"one": {"numbers": "3", "pixels": "2"}}, "differs"),
        ({"one": {"numbers": "1", "pixels": "2"}}, {"two": {"numbers": "1", "pixels": "2"}}, "differs"),
        ({"one": {"numbers": "1", "pixels": "2"}}, {}, "differs"),
    ],
)
def test_the_verdict_is_by_the_digests_of_numbers_before_those_of_pixels(expected, now, verdict):
    assert module._verdict(expected, now) == verdict


def test_digests_are_written_beside_those_that_are_known(tmp_path):
    assert module.read_known(tmp_path) == {}
    before = {"some": {"parameters": {"ε": 1}, "figures": {}}, "zero": {"parameters": {}, "figures": {"a": {}}}}
    (tmp_path / "regression_check.json").write_text(json.dumps(before))
    other = Finding(Notebook(Path("b/other.ipynb"), "", (), ()), "same", True, {"c": {"numbers": "2"}})
    module.write_known(tmp_path, [found("same", True, {"one": {"numbers": "1"}}), other])
    expected = {
        "other": {"parameters": {}, "figures": {"c": {"numbers": "2"}}},
        "some": {"parameters": {"ε": 1}, "figures": {"one": {"numbers": "1"}}},
        "zero": before["zero"],
    }
    assert module.read_known(tmp_path) == expected
    assert (tmp_path / "regression_check.json").read_text() == json.dumps(expected, indent=1) + "\n"


@pytest.mark.parametrize(
    ("verdict", "current", "stamped"),
    [
        ("same", False, True),
        ("redraw", False, True),
        ("same", True, False),
        ("differs", False, False),
        ("fails", False, False),
        ("never checked", False, False),
    ],
)
def test_records_are_stamped_where_numbers_are_the_same_and_the_code_is_another(
    tmp_path, monkeypatch, verdict, current, stamped
):
    monkeypatch.setattr(module, "identity", lambda path, parameters: f"{path.name} {parameters['steps']}")
    for name, more in (("one", {}), ("two", {"computed_by": "first"})):
        record = {"figure": name, "parameters": {"steps": name}, "sha256": digest({}), "numbers": {}}
        (tmp_path / f"{name}.json").write_text(json.dumps(record | {"identity": "before"} | more))
    before = {path.name: path.read_text() for path in tmp_path.iterdir()}

    def is_current():
        return module._is_current(NOTEBOOK, module._records(NOTEBOOK, tmp_path))

    assert not is_current()
    assert module.restamp(found(verdict, current), tmp_path) is stamped
    assert is_current() is stamped
    if stamped:
        one, two = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("one", "two"))
        assert (one["identity"], one["computed_by"]) == ("some.ipynb one", "before")
        assert (two["identity"], two["computed_by"]) == ("some.ipynb two", "first")
        (tmp_path / "two.json").write_text(json.dumps(two | {"identity": "before"}))
        assert not is_current()  # of two figures one is stale
        (tmp_path / "two.json").unlink()
        assert not is_current()
    else:
        assert {path.name: path.read_text() for path in tmp_path.iterdir()} == before


def test_the_digest_of_a_picture_is_of_its_shape_and_its_pixels(tmp_path):
    pixels = np.arange(24, dtype=np.uint8).reshape(2, 3, 4) * 10
    plt.imsave(tmp_path / "one.png", pixels)
    shown = (pixels.astype(np.float64) / 255).astype(np.float32)
    record = {"figure": "one", "parameters": {}, "sha256": digest({"x": 1}), "numbers": {"x": 1}}
    (tmp_path / "one.json").write_text(json.dumps(record))
    found = module._digests(tmp_path / "one")
    assert found == {
        "numbers": digest({"x": 1}),
        "pixels": hashlib.sha256(b"(2, 3, 4)" + shown.tobytes()).hexdigest(),
    }


def test_what_a_notebook_raises_is_told_in_one_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cells = [new_code_cell('steps = 1\nprofile = "quick"', metadata={"tags": ["parameters"]})]
    cells.append(new_code_cell("raise KeyError(__name__, profile, steps, output_dir)"))
    (tmp_path / "some.ipynb").write_text(as_notebook(new_notebook(cells=cells)))
    told = module._run(str(tmp_path / "some.ipynb"), {"steps": 5}, "there")
    assert told == ({}, "KeyError: ('__main__', 'paper', 5, 'there')")
    cells[1] = new_code_cell("raise ValueError('one\\ntwo')")
    (tmp_path / "some.ipynb").write_text(as_notebook(new_notebook(cells=cells)))
    assert module._run(str(tmp_path / "some.ipynb"), {}, "there") == ({}, "ValueError: one")


def test_every_notebook_has_a_check_with_a_digest_of_each_figure():
    known = module.read_known(ROOT / "figures")
    declared = {path.stem: read_notebook(path) for path in find_notebooks(ROOT / "notebooks")}
    assert known.keys() == declared.keys()
    for stem, notebook in declared.items():
        assert list(known[stem]["figures"]) == list(notebook.figures)
        assert known[stem]["parameters"].keys() <= {parameter.name for parameter in notebook.parameters}


@pytest.mark.slow
@pytest.mark.xdist_group("other threads")
def test_the_check_has_its_digests_with_other_threads_blas_kernels_and_simd_width(monkeypatch):
    """Two threads of ours, OpenBLAS for Haswell, and NumPy without what it dispatches; `srlib restamp` takes others."""
    settings = {"NUMBA_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    settings |= {"OPENBLAS_CORETYPE": "Haswell", "NPY_DISABLE_CPU_FEATURES": DISPATCHED}
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    findings = check([read_notebook(path) for path in find_notebooks(ROOT / "notebooks")], ROOT / "figures", 1)
    assert {finding.notebook.path.stem: finding.verdict for finding in findings if finding.verdict != "same"} == {}


def test_the_processes_of_the_check_have_limits_and_leave_the_environment_as_it_is():
    code = "import os, srlib.batch.regression_check as p\nwith p._environment({'A_LIMIT': '1', 'PATH': ''}):\n    print(os.environ['A_LIMIT'], len(os.environ['PATH']) > 0)\nprint('A_LIMIT' in os.environ)"  # fmt: skip  # noqa: E501
    said = subprocess.run([sys.executable, "-c", code], env=os.environ, capture_output=True, text=True, check=True)
    assert said.stdout == "1 True\nFalse\n"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("steps = 20  # how many numbers", "steps = 20  # how many numbers\nmore = 1  # of them"),
        ("steps = 20  # how many numbers", "stages = 20  # how many numbers"),
        ("steps = 20  # how many numbers", "steps = 30  # how many numbers"),
        ("seed = 7  # of nothing", "seed = 8  # of nothing"),
    ],
    ids=["another", "renamed", "another default", "another seed"],
)
def test_a_record_with_other_parameters_than_are_declared_is_none(tmp_path, old, new):
    made = Checkout(tmp_path).create()
    made.write("one")
    path = tmp_path / "notebooks" / "one.ipynb"
    parameters = {"profile": "paper", "backend": "numpy", "seed": 7, "steps": 20}
    record = {"figure": "one", "parameters": parameters, "sha256": digest({}), "identity": "", "numbers": {}}
    (tmp_path / "figures" / "one.json").write_text(json.dumps(record))
    assert module._records(read_notebook(path), made.figures)
    text = path.read_text()
    changed = text.replace(json.dumps(old)[1:-1], json.dumps(new)[1:-1])
    assert changed != text
    path.write_text(changed)
    assert module._records(read_notebook(path), made.figures) == {}
