import json
import platform
import re
import tomllib
from hashlib import sha256
from pathlib import Path

import nbformat
import numpy as np
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from srlib.batch import manifest
from srlib.batch.manifest import as_bytes, made_from, manifest_name, reason_to_run
from srlib.batch.plan import Job
from srlib.batch.store import Store
from srlib.companion import records

ROOT = Path(__file__).parents[2]
PARAMETERS = """profile = "quick"
backend = "numpy"
seed = 1  # 0 <= seed
steps = None
scale = 2 * 3
output_dir = "figures"
dataset_dir = "data"
figures_dir = "made"
pieces = ["first", "second"]"""
REQUIRED = ["numpy>=2.1,<3", "mpmath>=1.3", "click>=8 ; extra == 'companion'", "gfloat>=0.5; extra == 'dev'"]
FILES = {
    "data/train-images-idx3-ubyte": b"1",
    "data/train-labels-idx1-ubyte.gz": b"2",
    "made/loss.json": b"3",
    "first/loss.json": b"4",
    "second/loss.json": b"5",
}


def write_notebook(directory, code="round_to(1.0)", parameters=PARAMETERS, outputs=()):
    cells = [new_markdown_cell("# Title"), new_code_cell(parameters, metadata={"tags": ["parameters"]})]
    cells.append(new_code_cell(code, outputs=list(outputs)))
    nbformat.write(new_notebook(cells=cells), directory / "a.ipynb")


def modules(notebook, backend, *_):
    assert notebook.name == "a.ipynb"
    return {"cpu": "1" * 64, "rules": "2" * 64} | ({"gpu": "3" * 64} if backend == "cupy" else {})


@pytest.fixture
def job(tmp_path, monkeypatch):
    """A job whose notebook depends on two modules, known files and two packages."""
    for name, content in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    (tmp_path / "data" / "README.md").write_text("is no data")
    write_notebook(tmp_path)
    monkeypatch.setattr(manifest, "code_behind", modules)
    monkeypatch.setattr(manifest, "requires", lambda _: REQUIRED)
    return Job(tmp_path / "a.ipynb", {"profile": "paper", "seed": 5})


def hashed(content):
    return sha256(content).hexdigest()


def test_an_origin_has_the_hash_of_every_text_and_file_and_all_parameters(job):
    origin = made_from(job)
    assert origin["srlib"] == {"cpu": "1" * 64, "rules": "2" * 64}
    assert origin["data"] == {name.partition("/")[2]: hashed(FILES[name]) for name in FILES if "ubyte" in name}
    assert origin["inputs"] == {
        name: {"loss.json": hashed(FILES[f"{name}/loss.json"])} for name in ("made", "first", "second")
    }
    assert origin["parameters"] == {
        "profile": "paper",
        "backend": "numpy",
        "seed": 5,
        "steps": None,
        "scale": "2 * 3",
        "dataset_dir": "data",
        "figures_dir": "made",
        "pieces": ["first", "second"],
    }
    assert origin["versions"].keys() == {"python", "click", "numpy", "mpmath"}
    assert (origin["versions"]["python"], origin["versions"]["numpy"]) == (platform.python_version(), np.__version__)


def test_the_code_is_that_behind_the_backend(job):
    on_device = Job(job.notebook, {**job.parameters, "backend": "cupy"})
    assert made_from(on_device)["srlib"] == made_from(job)["srlib"] | {"gpu": "3" * 64}


def test_a_manifest_is_named_after_the_notebook_in_the_place_of_the_job(job):
    assert manifest_name(job) == "manifests/a.json"
    assert manifest_name(Job(job.notebook, {}, place="seed=5")) == "seed=5/manifests/a.json"


def test_a_manifest_is_json_with_a_line_for_each_item_and_signs_as_they_are():
    assert (
        as_bytes({"job": "a", "made_from": {"ε": 1}}) == '{\n "job": "a",\n "made_from": {\n  "ε": 1\n }\n}\n'.encode()
    )


def test_versions_are_those_of_what_the_project_requires():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    required = project["dependencies"] + project["optional-dependencies"]["companion"]
    names = {re.match("[A-Za-z0-9_-]+", text)[0].lower() for text in required}
    found = manifest.versions()
    assert {name.lower() for name in found} == names | {"python"}
    assert found["numpy"] == np.__version__


def test_a_notebook_need_not_have_an_output_directory(tmp_path):
    write_notebook(tmp_path, parameters='profile = "quick"')
    assert manifest.resolved(Job(tmp_path / "a.ipynb", {"seed": 5})) == {"profile": "quick", "seed": 5}


def test_all_that_has_changed_is_named(job, tmp_path, monkeypatch):
    store = Store(tmp_path / "out")
    store.write(manifest_name(job), as_bytes({"job": "a", "made_from": made_from(job), "outputs": {}}))
    CHANGES["notebook"](tmp_path, None)
    CHANGES["data (train-images-idx3-ubyte)"](tmp_path, None)
    assert reason_to_run(job, made_from(job), store) == "changed: notebook, data (train-images-idx3-ubyte)"


def rewrite(name):
    return lambda directory, patch: (directory / name).write_bytes(b"x")


CHANGES = {
    "notebook": lambda directory, patch: write_notebook(directory, "round_to(2.0)"),
    "srlib (cpu)": lambda directory, patch: patch(
        manifest, "code_behind", lambda *_: {"cpu": "4" * 64, "rules": "2" * 64}
    ),
    "srlib (rules)": lambda directory, patch: patch(manifest, "code_behind", lambda *_: {"cpu": "1" * 64}),
    "parameters (steps)": lambda directory, patch: write_notebook(
        directory, parameters=PARAMETERS.replace("None", "9")
    ),
    "data (train-images-idx3-ubyte)": rewrite("data/train-images-idx3-ubyte"),
    "data (train-labels-idx1-ubyte.gz)": lambda directory, patch: (
        directory / "data/train-labels-idx1-ubyte.gz"
    ).unlink(),
    "inputs (made)": rewrite("made/loss.json"),
    "inputs (first)": rewrite("first/loss.json"),
    "inputs (second)": rewrite("second/another.json"),
    "versions (click, mpmath, numpy)": lambda directory, patch: patch(records, "version", lambda name: "0"),
    "versions (python)": lambda directory, patch: patch(platform, "python_version", lambda: "0"),
}


@pytest.mark.parametrize("reason", CHANGES)
def test_all_that_decides_a_result_is_a_reason_to_make_it_again_and_is_named_alone(job, tmp_path, monkeypatch, reason):
    store = Store(tmp_path / "out")
    store.write("figures/loss.json", b"6")
    made = {"job": "a", "made_from": made_from(job), "outputs": {"figures/loss.json": hashed(b"6")}}
    store.write(manifest_name(job), as_bytes(made))
    assert reason_to_run(job, made_from(job), store) is None
    CHANGES[reason](tmp_path, monkeypatch.setattr)
    assert reason_to_run(job, made_from(job), store) == f"changed: {reason}"


@pytest.mark.parametrize("part", ["notebook", "srlib", "parameters", "data", "inputs", "versions"])
def test_a_manifest_that_does_not_say_all_is_a_reason_too(job, tmp_path, part):
    store, origin = Store(tmp_path / "out"), made_from(job)
    less = {name: value for name, value in origin.items() if name != part}
    store.write(manifest_name(job), as_bytes({"job": "a", "made_from": less, "outputs": {}}))
    assert reason_to_run(job, origin, store) == f"changed: {part}"


@pytest.mark.parametrize(
    "change",
    [
        lambda directory: write_notebook(directory, outputs=[nbformat.v4.new_output("stream", text="1")]),
        lambda directory: write_notebook(directory, parameters=PARAMETERS.replace("0 <= seed", "any")),
        lambda directory: write_notebook(directory, parameters=PARAMETERS.replace("seed = 1", "seed = 2")),
        lambda directory: write_notebook(directory, parameters=PARAMETERS.replace('"figures"', '"elsewhere"')),
        lambda directory: (directory / "data" / "README.md").write_text("is no data either"),
        lambda directory: (directory / "made" / "loss.png").touch(),
    ],
    ids=["outputs", "comment", "default of a parameter that is given", "output_dir", "no data", "picture"],
)
def test_what_decides_no_result_is_not_in_its_origin(job, tmp_path, change):
    before = made_from(job)
    change(tmp_path)
    assert made_from(job) == before


@pytest.mark.parametrize(
    ("content", "problem"), [(None, "missing"), (b"", "not as it was made"), (b"66", "not as it was made")]
)
def test_an_output_that_is_missing_or_another_is_a_reason_to_make_it_again(job, tmp_path, content, problem):
    job = Job(job.notebook, job.parameters, place="seed=5")
    store, outputs = Store(tmp_path / "out"), {name: hashed(b"6") for name in ("figures/a.json", "figures/b.json")}
    store.write("seed=5/figures/a.json", b"6")
    if content is not None:
        store.write("seed=5/figures/b.json", content)
    store.write(manifest_name(job), as_bytes({"job": "a", "made_from": made_from(job), "outputs": outputs}))
    assert reason_to_run(job, made_from(job), store) == f"figures/b.json is {problem}"


WHOLE = {"job": "a", "made_from": {}, "outputs": {}}


@pytest.mark.parametrize(
    "content",
    ["", "{", "null", "[1]", *(json.dumps({key: WHOLE[key] for key in WHOLE if key != part}) for part in WHOLE)],
)
def test_a_file_that_is_no_json_or_lacks_a_part_is_no_manifest(job, tmp_path, content):
    store = Store(tmp_path / "out")
    store.write(manifest_name(job), content.encode())
    assert reason_to_run(job, made_from(job), store) == "it has no manifest"
