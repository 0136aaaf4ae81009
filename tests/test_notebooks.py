"""What is committed in notebooks/ and figures/, and what notebooks do with other parameters."""

import ast
import io
import json
import re
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pytest
from click.testing import CliRunner
from IPython.core.formatters import DisplayFormatter
from test_datasets import idx

from srlib.batch.identity import identity
from srlib.batch.plan import find_notebooks, read_notebook
from srlib.claims import as_json, evaluate
from srlib.cli import main
from srlib.records import digest, load_record
from srlib.report import gallery, results_page

ROOT = Path(__file__).parents[1]
NOTEBOOKS = find_notebooks(ROOT / "notebooks")
DECLARED = [read_notebook(path) for path in NOTEBOOKS]
each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
each_declared = pytest.mark.parametrize("notebook", DECLARED, ids=lambda notebook: notebook.path.stem)


def outputs(path):
    cells = nbformat.read(path, as_version=4).cells
    return [output for cell in cells if cell.cell_type == "code" for output in cell.outputs]


@each_notebook
def test_it_has_been_run_from_top_to_bottom(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    counts = [cell.execution_count for cell in notebook.cells if cell.cell_type == "code"]
    assert counts == list(range(1, len(counts) + 1))


@each_notebook
def test_outputs_have_no_warnings_errors_timings_or_paths(path):
    assert [o for o in outputs(path) if o.output_type == "error" or o.get("name") == "stderr"] == []
    notebook = nbformat.read(path, as_version=4)
    assert all(cell.metadata.keys() <= {"tags"} for cell in notebook.cells)
    assert not re.search(r"/(home|root|usr|tmp|work|Users)/", path.read_text())


@each_notebook
def test_it_starts_with_a_question_and_ends_with_what_was_learned_or_how_to_go_on(path):
    cells = nbformat.read(path, as_version=4).cells
    assert cells[0].source.splitlines()[0].startswith("# ") and cells[0].source.splitlines()[0].endswith("?")
    assert cells[-1].cell_type == "markdown"


@each_notebook
def test_every_parameter_is_one_line_with_its_explanation(path):
    (cell,) = [c for c in nbformat.read(path, as_version=4).cells if "parameters" in c.metadata.get("tags", ())]
    assert all(re.fullmatch(r"\w+ = .+  # .+", line) for line in cell.source.splitlines())


@each_notebook
def test_srlib_list_shows_the_parameters_that_papermill_sees(path):
    import papermill

    listed = {parameter.name: parameter for parameter in read_notebook(path).parameters}
    seen = papermill.inspect_notebook(str(path))
    assert list(listed) == list(seen)
    for name, parameter in listed.items():
        assert ast.literal_eval(parameter.default) == ast.literal_eval(seen[name]["default"])
        assert parameter.help == seen[name]["help"]


FIGURES = ROOT / "figures"
SHOWN = [(name, notebook) for notebook in DECLARED for name in notebook.figures]


def test_figures_holds_png_pdf_and_record_of_each_figure_of_the_notebooks_gallery_claims_and_probe():
    expected = {f"{name}.{suffix}" for name, _ in SHOWN for suffix in ("png", "pdf", "json")}
    assert {path.name for path in FIGURES.iterdir()} == expected | {"README.md", "claims.json", "probe.json"}


@pytest.mark.parametrize(("name", "notebook"), SHOWN, ids=[name for name, _ in SHOWN])
def test_a_committed_record_is_of_the_paper_profile_and_of_the_committed_code_parameters_and_data(name, notebook):
    """Else its figure is stale: `srlib restamp`, or `make update`."""
    record = json.loads((FIGURES / f"{name}.json").read_text())
    assert record["figure"] == name
    assert record["sha256"] == digest(record["numbers"])
    defaults = {parameter.name: ast.literal_eval(parameter.default) for parameter in notebook.parameters}
    assert record["parameters"].keys() == defaults.keys() - UNRECORDED
    given = {name: value for name, value in defaults.items() if value is not None and name not in UNRECORDED}
    assert {name: record["parameters"][name] for name in given} == given | {"profile": "paper"}
    assert record["identity"] == identity(notebook.path, record["parameters"])


def test_the_committed_results_gallery_and_claims_are_those_of_the_committed_records():
    assert (ROOT / "RESULTS.md").read_text() == results_page(FIGURES)
    assert (FIGURES / "README.md").read_text() == gallery(FIGURES, ROOT / "notebooks")
    assert (FIGURES / "claims.json").read_text() == as_json(evaluate(FIGURES))


UNRECORDED = {"output_dir", "pieces", "figures_dir"}  # they say nothing about the numbers
SMALL = {
    "images": 300,
    "steps": 3,
    "replicates": 2,
    "draws": 1000,
    "seed": 7,
    "stepsizes": [0.25, 0.5],
    "problems": 1,
    "dimension": 20,
    "terms": 600,
    "largest_power": 6,
}


def known_to(notebooks, parameters):
    """Of these parameters, and those that make it small, what the notebooks have."""
    known = {parameter.name for notebook in notebooks for parameter in notebook.parameters}
    return {name: value for name, value in (SMALL | parameters).items() if name in known}


def regenerate(out, jobs, notebooks=tuple(DECLARED), options=(), **parameters):
    given = known_to(notebooks, parameters)
    words = [word for name, value in given.items() for word in ("-p", name, str(value))]
    names = [notebook.path.stem for notebook in notebooks]
    return CliRunner().invoke(main, ["regenerate", *names, "--out", str(out), "--jobs", str(jobs), *options, *words])


def test_a_batch_stamps_records_with_the_identity_of_code_parameters_and_data(tmp_path):
    notebooks = [notebook for notebook in DECLARED if notebook.path.stem[:2] in ("01", "05")]
    result = regenerate(tmp_path, 2, notebooks)
    assert result.exit_code == 0, result.output
    made = [
        (notebook, load_record(tmp_path / "figures" / f"{n}.json")) for notebook in notebooks for n in notebook.figures
    ]
    assert len(made) == len(list((tmp_path / "figures").glob("*.json"))) == 3
    for notebook, record in made:
        assert record["identity"] == identity(notebook.path, record["parameters"])


def test_twenty_replicates_in_one_job_and_as_four_pieces_merged_are_the_same(tmp_path):
    stem = "05_logistic_regression"
    (notebook,) = (notebook for notebook in DECLARED if notebook.path.stem == stem)
    for name, options in (("one", []), ("four", ["--split", "4"])):
        result = regenerate(tmp_path / name, 2, [notebook], options, replicates=20)
        assert result.exit_code == 0, result.output
    one, four = ((tmp_path / name / "figures" / f"{notebook.figures[0]}.json").read_bytes() for name in ("one", "four"))
    assert one == four
    pieces = sorted(path.name for path in (tmp_path / "four" / "pieces" / stem).iterdir())
    assert pieces == ["0-4", "10-14", "15-19", "5-9"]
    executed = (tmp_path / "four" / "notebooks" / f"{stem}.ipynb").read_text()
    assert f'\\"../pieces/{stem}/5-9/figures\\"' in executed
    assert str(tmp_path) not in executed
    again = regenerate(tmp_path / "four", 2, [notebook], ["--split", "4"], replicates=20)
    assert again.output.count("  up to date") == 2 * 5


def test_logistic_regression_runs_on_data_of_another_size_and_number_of_classes(tmp_path):
    rng = np.random.default_rng(1)
    for part, count in (("train", 40), ("t10k", 12)):
        images, labels = rng.integers(0, 256, (count, 5, 4)), np.arange(count) % 3
        (tmp_path / f"{part}-images-idx3-ubyte").write_bytes(idx(images))
        (tmp_path / f"{part}-labels-idx1-ubyte").write_bytes(idx(labels))
    (e3,) = [notebook for notebook in DECLARED if notebook.path.stem == "05_logistic_regression"]
    result = regenerate(tmp_path, 1, [e3], dataset_dir=tmp_path)
    assert result.exit_code == 0, result.output
    text = (tmp_path / "notebooks" / e3.path.name).read_text()
    assert "40 training and 12 test images" in text and "5 x 4 pixels, 3 classes, 60 weights" in text


@pytest.fixture
def execute(tmp_path, monkeypatch):
    """Run the cells of a notebook in this process, which spares the time in which a kernel starts."""

    def drawn_once(figure, kind, metadata):
        figure.savefig(io.BytesIO(), format="png", dpi=40)
        return b""

    def run(notebook, **parameters):
        names, show = {"__name__": "__main__"}, DisplayFormatter().format
        for cell in nbformat.read(notebook.path, as_version=4).cells:
            if cell.cell_type == "code":
                body = ast.parse(cell.source).body
                last = body.pop() if body and isinstance(body[-1], ast.Expr) else None
                exec(compile(ast.Module(body, []), notebook.path.stem, "exec"), names)
                if last is not None:
                    show(eval(compile(ast.Expression(last.value), notebook.path.stem, "eval"), names))
            if "parameters" in cell.metadata.get("tags", ()):
                names |= known_to([notebook], parameters) | {"output_dir": str(tmp_path)}

    monkeypatch.chdir(ROOT / "notebooks")
    monkeypatch.setattr("srlib.figures._drawn", drawn_once)
    with matplotlib.rc_context():
        yield run
    plt.close("all")


FORMATS = ["bfloat16", "fixed(4,4)", "e4m3"]
OTHER = [pytest.param(n, FORMATS[i % 3], id=f"{n.path.stem}-{FORMATS[i % 3]}") for i, n in enumerate(DECLARED)]


@pytest.mark.parametrize(("notebook", "fmt"), OTHER)
def test_it_runs_with_another_format_and_one_step(execute, notebook, fmt):
    execute(notebook, fmt=fmt, steps=1, minimiser=4, start=14)


WHERE_A_FINDING_FAILS = {
    "04": {"dimension": 1},
    "05": {"fmt": "bfloat16", "images": 100, "steps": 10},
    "06": {"stepsize": 0.5, "images": 100, "steps": 10},
    "08": {"terms": 100},
    "10": {"fmt": "binary8", "low_fmt": "e4m3", "dimension": 10, "steps": 30},
}


@pytest.mark.parametrize("number", WHERE_A_FINDING_FAILS)
def test_it_ends_with_its_figures_where_a_finding_does_not_hold(execute, tmp_path, number):
    (notebook,) = [notebook for notebook in DECLARED if notebook.path.stem.startswith(number)]
    execute(notebook, **WHERE_A_FINDING_FAILS[number])
    assert {path.stem for path in tmp_path.glob("*.json")} == set(notebook.figures)


def with_several_biases(notebook):
    return any(parameter.name == "eps" and parameter.default.startswith("[") for parameter in notebook.parameters)


SEVERAL = list(filter(with_several_biases, DECLARED))
assert len(SEVERAL) >= 5


@pytest.mark.parametrize("notebook", SEVERAL, ids=lambda notebook: notebook.path.stem)
def test_it_runs_with_other_biases(execute, notebook):
    execute(notebook, eps=[0.0, 0.3], seed=2**64 - 1)


NONSENSE = {
    "replicates": (0, "replicates is 0; must be at least 1"),
    "fmt": ("binary7", "format is 'binary7'"),
    "stepsize": (0.0, "stepsize is 0.0; must be finite and positive"),
}
HAVING = {name: [n for n in DECLARED if name in {parameter.name for parameter in n.parameters}] for name in NONSENSE}
assert all(len(having) >= 4 for having in HAVING.values())
REFUSED = [
    pytest.param(notebook, name, id=f"{notebook.path.stem}-{name}") for name in HAVING for notebook in HAVING[name]
]


@pytest.mark.parametrize(("notebook", "name"), REFUSED)
def test_a_parameter_that_makes_no_sense_is_refused(execute, notebook, name):
    value, message = NONSENSE[name]
    with pytest.raises(ValueError) as refused:
        execute(notebook, **{name: value})
    assert message in str(refused.value).splitlines()[0]


@pytest.mark.parametrize("name", NONSENSE)
def test_the_command_says_in_one_line_that_a_parameter_makes_no_sense(tmp_path, name):
    value, message = NONSENSE[name]
    result = regenerate(tmp_path, 2, HAVING[name][:2], ["--keep-going"], **{name: value})
    lines = [line for line in result.output.splitlines() if "FAILED" in line]
    assert len(lines) == 2 and all(message in line for line in lines), result.output
