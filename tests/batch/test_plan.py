from dataclasses import replace
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from srlib.batch.plan import plan_jobs, select
from srlib.batch.sweep import parse_value
from srlib.companion.notebook import Notebook, Parameter, find_notebooks, read_notebook

PARAMETERS = """\
profile = "quick"  # quick or paper
backend = "numpy"
seed: int = 2022  # 0 <= seed < 2**64
# a comment of its own
output_dir = "figures"
epsilons = [
    0.1,  # the smallest
    0.4,
]  # each with 0 <= eps < 1
width = 2**10
"""


def write(path, *cells):
    nbformat.write(new_notebook(cells=list(cells)), path)
    return path


def tagged(source):
    return new_code_cell(source, metadata={"tags": ["parameters"]})


def declared(stem, figures=(), **defaults):
    """A notebook as read, with the parameters that all have and some more."""
    common = {"profile": "'quick'", "backend": "'numpy'", "seed": "1", "output_dir": "'figures'"}
    parameters = tuple(Parameter(name, default, "") for name, default in (common | defaults).items())
    return Notebook(Path(f"/notebooks/{stem}.ipynb"), stem, parameters, figures)


@pytest.fixture(scope="module")
def read(tmp_path_factory):
    path = tmp_path_factory.mktemp("notebooks") / "03_example.ipynb"
    return read_notebook(
        write(
            path,
            new_markdown_cell("Some words.\n\n# When does rounding help? #\n\nMore words."),
            new_markdown_cell("## A section"),
            tagged(PARAMETERS),
            new_code_cell('save_figure(figure, "first")\nfigures.save_figure(other, "second", dpi=200)'),
            new_code_cell('if paper:\n    save_figure(figure, "third")\nsave_figure(figure, "first")'),
            new_code_cell('save_figure(figure, f"one_of_{count}")\nsave_figure(figure)\nsave_other(figure, "no")'),
            new_code_cell('%time save_figure(figure, "in a magic")'),
        )
    )


def test_a_notebook_has_the_title_of_its_first_heading(read):
    assert read.title == "When does rounding help?"


def test_parameters_have_their_defaults_and_the_comments_at_their_ends(read):
    assert read.parameters == (
        Parameter("profile", "'quick'", "quick or paper"),
        Parameter("backend", "'numpy'", ""),
        Parameter("seed", "2022", "0 <= seed < 2**64"),
        Parameter("output_dir", "'figures'", ""),
        Parameter("epsilons", "[0.1, 0.4]", "each with 0 <= eps < 1"),
        Parameter("width", "2 ** 10", ""),
    )


def test_figures_are_the_literal_names_that_are_saved_each_once_and_in_order(read):
    assert read.figures == ("first", "second", "third")


def test_a_notebook_without_heading_parameters_or_figures_has_none(tmp_path):
    path = write(tmp_path / "bare.ipynb", new_code_cell("1 + 1"))
    assert read_notebook(path) == Notebook(path, "", (), ())


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"nbformat": 4, "cells": 3}', '{"nbformat": 99, "cells": []}'])
def test_a_file_that_is_not_a_notebook_is_refused(tmp_path, content):
    (tmp_path / "a.ipynb").write_text(content)
    with pytest.raises(ValueError, match=r"a\.ipynb: not a notebook"):
        read_notebook(tmp_path / "a.ipynb")


def test_two_parameters_cells_are_refused(tmp_path):
    path = write(tmp_path / "a.ipynb", tagged("seed = 1"), tagged("seed = 2"))
    with pytest.raises(ValueError, match="2 cells are tagged 'parameters'; must be one"):
        read_notebook(path)


def test_a_parameters_cell_that_is_not_python_is_refused(tmp_path):
    path = write(tmp_path / "a.ipynb", tagged("seed = (1"))
    with pytest.raises(ValueError, match="the cell tagged 'parameters' is not Python"):
        read_notebook(path)


def test_notebooks_are_found_in_order_and_not_in_checkpoints(tmp_path):
    (tmp_path / ".ipynb_checkpoints").mkdir()
    for name in ("02_b.ipynb", "01_a.ipynb", "notes.txt", ".ipynb_checkpoints/01_a-checkpoint.ipynb"):
        (tmp_path / name).touch()
    assert find_notebooks(tmp_path) == [tmp_path / "01_a.ipynb", tmp_path / "02_b.ipynb"]


def test_a_directory_without_notebooks_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=f"no notebooks in {tmp_path}"):
        find_notebooks(tmp_path)


AVAILABLE = [Path(f"/notebooks/{stem}.ipynb") for stem in ("01_schemes", "02_stagnation", "02_other", "index")]


@pytest.mark.parametrize("name", ["01_schemes", "01", "01_schemes.ipynb"])
def test_a_notebook_is_named_by_stem_number_or_file_name(name):
    assert select(AVAILABLE, [name]) == AVAILABLE[:1]


def test_a_notebook_is_named_by_a_path_too(tmp_path, monkeypatch):
    write(tmp_path / "mine.ipynb")
    monkeypatch.chdir(tmp_path)
    assert select(AVAILABLE, ["./mine.ipynb"]) == [tmp_path / "mine.ipynb"]


def test_no_names_are_all_notebooks_and_a_repeated_one_is_taken_once():
    assert select(AVAILABLE, []) == AVAILABLE
    assert select(AVAILABLE, ["index", "01", "01_schemes"]) == [AVAILABLE[3], AVAILABLE[0]]


@pytest.mark.parametrize(
    ("name", "problem"),
    [("07", "'07' is no notebook"), ("no/where.ipynb", "is no notebook"), ("02", "'02' fits several notebooks")],
)
def test_a_name_that_does_not_fit_one_notebook_is_refused_with_what_there_is(name, problem):
    with pytest.raises(ValueError, match=f"{problem}; there are 01_schemes, 02_stagnation, 02_other, index"):
        select(AVAILABLE, [name])


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3),
        ("1e-3", 0.001),
        ("true", True),
        ("False", False),
        ("null", None),
        ("None", None),
        ("[0.1, 1e-2]", [0.1, 0.01]),
        ("(1, 2)", [1, 2]),
        ("'007'", "007"),
        ('{"a": 1}', {"a": 1}),
        ("binary8", "binary8"),
        ("007", "007"),
        ("../data/mnist", "../data/mnist"),
        ("{1, 2}", "{1, 2}"),
        ("", ""),
    ],
)
def test_a_value_is_a_literal_where_it_can_be_and_else_a_word(text, value):
    assert parse_value(text) == value
    assert type(parse_value(text)) is type(value)


def test_each_job_has_the_values_of_the_parameters_that_its_notebook_has():
    notebooks = [declared("01_a", epsilons="[0.1]"), declared("02_b")]
    first, second = plan_jobs(notebooks, "paper", "cupy", {"seed": 7, "epsilons": [0.2]})
    assert (first.name, second.name) == ("01_a", "02_b")
    assert first.parameters == {"profile": "paper", "backend": "cupy", "seed": 7, "epsilons": [0.2]}
    assert second.parameters == {"profile": "paper", "backend": "cupy", "seed": 7}


@pytest.mark.parametrize(
    ("default", "value"),
    [
        ("0.5", 1),
        ("1", 2),
        ("'a'", "b"),
        ("True", False),
        ("[0.1]", []),
        ("[0.1]", 0.2),
        ("[0.1]", 0),
        ("(1, 2)", [3]),
        ("None", "any"),
        ("2 ** 10", "any"),
    ],
)
def test_a_value_of_the_type_of_the_default_is_accepted(default, value):
    (job,) = plan_jobs([declared("a", width=default)], "quick", "numpy", {"width": value})
    assert job.parameters["width"] == value


@pytest.mark.parametrize("value", [0.5, "x", True, None, [1], {"a": 1}])
def test_what_a_parameter_of_the_readers_may_be_is_for_their_notebook_to_say(value):
    (job,) = plan_jobs([declared("a", width="1")], "quick", "numpy", {"width": value})
    assert job.parameters["width"] == value


def test_a_parameter_that_no_notebook_has_is_refused_with_those_there_are():
    notebooks = [declared("a", width="1"), declared("b", depth="1")]
    with pytest.raises(ValueError, match="no notebook to be run has a parameter 'with'; there are depth, seed, width"):
        plan_jobs(notebooks, "quick", "numpy", {"with": 3})


@pytest.mark.parametrize(
    ("name", "option"), [("profile", "--profile"), ("backend", "--backend"), ("output_dir", "--out")]
)
def test_a_parameter_with_an_option_of_its_own_is_refused(name, option):
    with pytest.raises(ValueError, match=f"parameter '{name}' has an option of its own, {option}"):
        plan_jobs([declared("a")], "quick", "numpy", {name: "x"})


def test_a_notebook_without_the_parameters_that_all_have_is_refused():
    bare = Notebook(Path("/notebooks/bare.ipynb"), "", (Parameter("seed", "1", ""),), ())
    with pytest.raises(ValueError, match=r"bare\.ipynb: no profile, backend, output_dir in a cell tagged 'parameters'"):
        plan_jobs([declared("a"), bare], "quick", "numpy", {})


def test_two_notebooks_that_would_write_the_same_file_are_refused():
    with pytest.raises(ValueError, match="two notebooks save a figure 'loss'"):
        plan_jobs([declared("a", figures=("loss",)), declared("b", figures=("loss",))], "quick", "numpy", {})
    with pytest.raises(ValueError, match="two notebooks have the name 'a'"):
        plan_jobs([declared("a"), declared("a")], "quick", "numpy", {})


def ensemble(stem="05_ensemble", figures=()):
    notebook = declared(stem, figures, replicates="None", replicate_range="None", pieces="[]")
    return replace(notebook, replicates={"quick": 5, "paper": 20})


def test_replicates_are_read_from_the_call_that_chooses_them(tmp_path):
    source = "numbers = settings.choose_replicates(quick=5, paper=20)"
    path = write(tmp_path / "a.ipynb", tagged("seed = 1"), new_code_cell(source))
    assert read_notebook(path).replicates == {"quick": 5, "paper": 20}


def test_replicates_are_divided_and_merged_by_a_job_that_needs_the_others():
    *parts, last = plan_jobs([ensemble()], "paper", "numpy", {"seed": 3}, split=3, out="/results")
    assert [part.parameters["replicate_range"] for part in parts] == [[0, 6], [6, 13], [13, 20]]
    assert [part.place for part in parts] == [f"pieces/05_ensemble/{span}" for span in ("0-5", "6-12", "13-19")]
    assert last.needs == tuple(parts) and last.place == ""
    assert last.parameters["pieces"] == [f"../results/{part.place}/figures" for part in parts]
    assert "replicate_range" not in last.parameters


def test_a_notebook_without_replicates_is_not_divided():
    jobs = plan_jobs([declared("01_schemes"), ensemble()], "quick", "numpy", {}, split=2)
    assert [job.name for job in jobs if job.stem == "01_schemes"] == ["01_schemes"]
    assert len(jobs) == 1 + 3


@pytest.mark.parametrize(
    ("values", "split", "message"),
    [
        ({}, 6, "split is 6; 05_ensemble has only 5 replicates"),
        ({"replicates": 3}, 4, "split is 4; 05_ensemble has only 3 replicates"),
        ({"replicate_range": [0, 2]}, 2, "parameter 'replicate_range' is given; it is for splitting to choose"),
        ({"pieces": ["a"]}, 2, "parameter 'pieces' is given; it is for splitting to choose"),
    ],
)
def test_what_cannot_be_divided_is_refused(values, split, message):
    with pytest.raises(ValueError, match=message):
        plan_jobs([ensemble()], "quick", "numpy", values, split=split)
