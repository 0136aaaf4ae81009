"""What is committed in notebooks/ and figures/, and what notebooks do with other parameters."""

import ast
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pytest
from click.testing import CliRunner
from IPython.core.formatters import DisplayFormatter
from nbformat.v4 import new_code_cell
from shared import idx

from srlib.batch.identity import identity
from srlib.cli import main
from srlib.companion.claims import as_json, evaluate
from srlib.companion.notebook import find_notebooks, read_notebook
from srlib.companion.records import digest, load_record
from srlib.companion.report import gallery, results_page

ROOT = Path(__file__).parents[1]
NOTEBOOKS = find_notebooks(ROOT / "notebooks")
DECLARED = [read_notebook(path) for path in NOTEBOOKS]
each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
each_declared = pytest.mark.parametrize("notebook", DECLARED, ids=lambda notebook: notebook.path.stem)


def outputs(path):
    cells = nbformat.read(path, as_version=4).cells
    return [output for cell in cells if cell.cell_type == "code" for output in cell.outputs]


def without_pictures(path):
    """The text of a notebook; pictures are letters, too, among which anything can be found."""
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            output.get("data", {}).pop("image/png", None)
    return nbformat.writes(notebook)


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
    assert all(cell.metadata.keys() <= {"tags", "jupyter"} for cell in notebook.cells)
    assert not re.search(r"/(home|root|usr|tmp|work|Users)/", without_pictures(path))


@each_notebook
def test_code_is_folded_that_is_longer_than_a_reader_wants_but_for_parameters_and_what_one_copies(path):
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type == "code":
            tags = cell.metadata.get("tags", [])
            folded = cell.metadata.get("jupyter", {}).get("source_hidden", False)
            assert folded == ("hide-input" in tags)  # in JupyterLab as on the site
            if "parameters" in tags:
                assert not folded
            elif not path.stem.endswith("your_own_problem"):
                assert folded == (len(cell.source.splitlines()) > 8)


@each_notebook
def test_it_starts_with_a_question_and_ends_with_what_was_learned_or_how_to_go_on(path):
    cells = nbformat.read(path, as_version=4).cells
    assert cells[0].source.splitlines()[0].startswith("# ") and cells[0].source.splitlines()[0].endswith("?")
    assert cells[-1].cell_type == "markdown"


@each_notebook
def test_every_parameter_is_one_line_with_its_explanation(path):
    (cell,) = [c for c in nbformat.read(path, as_version=4).cells if "parameters" in c.metadata.get("tags", ())]
    assert all(re.fullmatch(r"\w+ = .+  # .+", line) for line in cell.source.splitlines())


def numbers_in(text):
    """The counts in a text or in code: 2,000 and 2_000, 10^5 and 10**5."""
    found = re.findall(r"(\d[\d,_]*)(?:(?:\^|\*\*)(\d+))?", text)
    return {int(re.sub("[,_]", "", base)) ** int(power or 1) for base, power in found}


@each_notebook
def test_the_extents_that_a_notebook_says_its_profiles_have_are_those_that_it_chooses(path):
    sources = [cell.source for cell in nbformat.read(path, as_version=4).cells]
    chosen = " ".join(sources)
    for profile, said in (("quick", r'"?quick"?(?: one)? \((.*?)\)'), ("paper", r'"paper" \((.*?)\)')):
        extents = set().union(*map(numbers_in, re.findall(rf"{profile}=([\d_*]+)", chosen)))
        assert numbers_in(" ".join(re.findall(said, chosen))) <= extents, profile


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


def test_figures_holds_png_pdf_and_record_of_each_figure_of_the_notebooks_gallery_claims_and_check():
    expected = {f"{name}.{suffix}" for name, _ in SHOWN for suffix in ("png", "pdf", "json")}
    assert {path.name for path in FIGURES.iterdir()} == expected | {"README.md", "claims.json", "regression_check.json"}


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
    "draws": 2,
    "seed": 7,
    "stepsizes": [0.25, 0.5],
    "problems": 1,
    "program_steps": 4,
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


@pytest.mark.slow
def test_twenty_replicates_in_one_job_and_as_three_pieces_merged_are_the_same(tmp_path, tmp_path_factory):
    notebook, out = on("logistic_regression"), {"one": [], "three": ["--split", "3"]}
    given = {"replicates": 20, "dataset_dir": write_data(tmp_path_factory.mktemp("data"), (5, 4), 3)}
    for name, options in out.items():
        result = regenerate(tmp_path / name, 2, [notebook], options, **given)
        assert result.exit_code == 0, result.output
    for figure in notebook.figures:
        one, three = (tmp_path / name / "figures" / f"{figure}.json" for name in out)
        assert one.read_bytes() == three.read_bytes()
        assert load_record(one)["identity"] == identity(notebook.path, load_record(one)["parameters"])
    stem = notebook.path.stem
    pieces = sorted(path.name for path in (tmp_path / "three" / "pieces" / stem).iterdir())
    assert pieces == ["0-5", "13-19", "6-12"]
    executed = (tmp_path / "three" / "notebooks" / f"{stem}.ipynb").read_text()
    assert f'\\"../pieces/{stem}/6-12/figures\\"' in executed
    assert str(tmp_path) not in executed
    again = regenerate(tmp_path / "three", 2, [notebook], ["--split", "3"], **given)
    assert again.output.count("  up to date") == 2 * 4


def write_data(directory, shape, classes, count=40, learnable=False):
    """Write the four files with random images, or with such as are told apart by their first pixels."""
    rng = np.random.default_rng(1)
    for part, size in (("train", count), ("t10k", count // 3)):
        images, labels = rng.integers(0, 256, (size, *shape)), rng.permutation(np.arange(size) % classes)
        if learnable:
            images = 255 * (np.arange(np.prod(shape)) == labels[:, None]).reshape(images.shape)
        (directory / f"{part}-images-idx3-ubyte").write_bytes(idx(images))
        (directory / f"{part}-labels-idx1-ubyte").write_bytes(idx(labels))
    return str(directory)


@pytest.fixture
def execute(tmp_path, monkeypatch):
    """Run the cells of a notebook in this process, which spares the time in which a kernel starts."""

    def laid_out_once(figure, kind, metadata):
        if kind == "png":
            figure.draw_without_rendering()
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
    monkeypatch.setattr("srlib.companion.figures._drawn", laid_out_once)
    with matplotlib.rc_context():
        yield run
    plt.close("all")


def test_logistic_regression_runs_on_data_of_another_size_and_number_of_classes(execute, tmp_path, capsys):
    execute(on("logistic_regression"), dataset_dir=write_data(tmp_path, (5, 4), 3, 39))
    said = capsys.readouterr().out
    assert "39 training and 13 test images" in said and "5 x 4 pixels, 3 classes, 60 weights" in said


EASY = {"no error at all": {"classes": 2, "learnable": True}, "one class": {"classes": 1}}


@pytest.mark.parametrize("data", EASY.values(), ids=EASY)
def test_logistic_regression_shows_its_curves_without_a_warning_where_no_image_is_wrong(execute, tmp_path, data):
    execute(on("logistic_regression"), dataset_dir=write_data(tmp_path, (3, 3), **data), steps=12)
    for axes in (axes for number in plt.get_fignums() for axes in plt.figure(number).axes):
        low, high = axes.get_ylim()
        assert low < high
        values = np.concatenate([np.ravel(line.get_ydata()) for line in axes.lines] or [np.zeros(1)])
        assert not np.any(np.isfinite(values)) or np.any((low <= values) & (values <= high))


def with_several_biases(notebook):
    return any(parameter.name == "eps" and parameter.default.startswith("[") for parameter in notebook.parameters)


SEVERAL = list(filter(with_several_biases, DECLARED))
assert len(SEVERAL) >= 5


# Four values an axis: a notebook gets each of them once in its four runs, and each combines them in another way.
AXES = {
    "fmt": ["e4m3", "bfloat16", "fixed(4,4)", "binary16"],
    "eps": [0, [0.0, 0.3], 0.2, [0.99]],
    "stepsize": [2.0**-30, 64.0, 0.25, 1.0],
    "problem": [
        {"start": 4, "minimiser": 4, "dimension": 1, "condition": 1, "images": 10},  # solved at the start
        {"start": -14.0, "minimiser": 0.5, "dimension": 30, "condition": 1e12, "largest_power": 8},  # hard
        {"start": 14, "minimiser": 1, "replicates": 1, "steps": 9, "terms": 100},
        {"start": 0.0, "minimiser": -2.0, "steps": 1, "terms": 1},
    ],
    "data": [
        {"shape": (5, 4), "classes": 3},
        {"shape": (28, 28), "classes": 10},  # as KMNIST
        {"shape": (2, 3), "classes": 3, "learnable": True},
        None,  # MNIST
    ],
}
FEW_VALUES = {"bfloat16": "binary8", "binary16": "fixed(5,3)"}  # where a notebook lists states of chains
LARGEST_STEPSIZE = dict.fromkeys(("stagnation", "convergence_bound", "exact_law", "sharper_bounds"), 1.0)
LARGEST_STEPSIZE["rate_and_floor"] = 0.5
TURNS = {"rate_and_floor": (0, 3)}  # five seconds each


def subject(notebook):
    """What a notebook is called after its number."""
    return notebook.path.stem[3:]


def on(name):
    """The notebook on a subject."""
    (found,) = [notebook for notebook in DECLARED if subject(notebook) == name]
    return found


GRID = [(notebook, turn) for notebook in DECLARED for turn in TURNS.get(subject(notebook), range(4))]


def grid_point(notebook, turn):
    """The parameters of a run, and what data it is on."""
    place = DECLARED.index(notebook)
    chosen = {axis: many[(turn + place // (1 + k)) % 4] for k, (axis, many) in enumerate(AXES.items())}
    fmt, eps, t, problem, data = chosen.values()
    if subject(notebook) in ("exact_law", "rate_and_floor"):
        fmt = FEW_VALUES.get(fmt, fmt)
    if notebook not in SEVERAL and isinstance(eps, list):
        eps = eps[-1]
    t = min(t, LARGEST_STEPSIZE.get(subject(notebook), t))
    given = {"fmt": fmt, "low_fmt": fmt if turn % 2 else "e4m3", "eps": eps, "schedules": [[0.2, 0.05]]}
    if subject(notebook) == "where_the_bias_pays":
        given["draws"] = 2 if turn == 1 else 1  # of a map of thousands of runs
    return given | dict.fromkeys(("stepsize", "low_stepsize", "stepsizes"), t) | problem, data


@pytest.mark.filterwarnings("ignore::RuntimeWarning", "ignore::UserWarning")  # NaN, and axes with nothing to show
@pytest.mark.parametrize(
    ("notebook", "turn"),
    [
        pytest.param(*point, id=f"{point[0].path.stem}-{point[1]}", marks=[pytest.mark.slow] * (point[1] > 0))
        for point in GRID
    ],
)
def test_it_runs_to_its_last_figure_on_other_data_problems_stepsizes_formats_and_biases(
    execute, tmp_path, notebook, turn
):
    parameters, data = grid_point(notebook, turn)
    if data:
        parameters["dataset_dir"] = write_data(tmp_path, **data)
        parameters["classes"] = [0, data["classes"] - 1]
    execute(notebook, **parameters)
    assert {path.stem for path in tmp_path.glob("*.json")} == set(notebook.figures)


WHERE_A_FINDING_FAILS = {
    "convergence_bound": {"dimension": 1},
    "logistic_regression": {"fmt": "bfloat16", "images": 100, "steps": 10},
    "neural_network": {"stepsize": 0.5, "images": 100, "steps": 10},
    "beyond_descent": {"terms": 100},
    "sharper_bounds": {"fmt": "binary8", "steps": 30},
    "where_the_bias_pays": {"fmt": "binary8", "low_fmt": "e4m3", "dimension": 10, "draws": 1, "steps": 8},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", WHERE_A_FINDING_FAILS)
def test_it_ends_with_its_figures_where_a_finding_does_not_hold(execute, tmp_path, name):
    execute(on(name), **WHERE_A_FINDING_FAILS[name])
    assert {path.stem for path in tmp_path.glob("*.json")} == set(on(name).figures)


NONSENSE = {
    "replicates": (0, "replicates is 0; must be at least 1"),
    "fmt": ("binary7", "format is 'binary7'"),
    "eps": ([], "eps is []; must not be empty"),
    "start": ("abc", "start is 'abc'; must be a real number"),
    "stepsize": (0.0, "stepsize is 0.0; must be finite and positive"),
    "stepsizes": ([], "stepsizes is []; must not be empty"),
}
HAVING = {name: [n for n in DECLARED if name in {parameter.name for parameter in n.parameters}] for name in NONSENSE}
assert all(len(having) >= 2 for having in HAVING.values())
REFUSED = [
    pytest.param(notebook, name, id=f"{notebook.path.stem}-{name}") for name in HAVING for notebook in HAVING[name]
]


@pytest.mark.parametrize(("notebook", "name"), REFUSED)
def test_a_parameter_that_makes_no_sense_is_refused(execute, notebook, name):
    value, message = NONSENSE[name]
    with pytest.raises((TypeError, ValueError)) as refused:
        execute(notebook, **{name: value})
    assert message in str(refused.value).splitlines()[0]


@pytest.mark.parametrize("name", NONSENSE)
def test_the_command_says_in_one_line_that_a_parameter_makes_no_sense_before_anything_runs(tmp_path, name):
    value, message = NONSENSE[name]
    result = regenerate(tmp_path / "out", 2, HAVING[name], **{name: value})
    assert result.exit_code == 2 and result.output.splitlines()[-1].startswith(f"Error: {message}")
    assert not (tmp_path / "out").exists()


BEYOND = {
    "neural_network": ("classes", [3, 3], "classes is [3, 3]; must be two different integers"),
    "stagnation": ("stepsize", 1.5, "stepsize is 1.5; must be at most 1"),
    "exact_law": ("stepsize", 1.5, "stepsize is 1.5; must be at most 1"),
    "beyond_descent": ("largest_power", 5, "largest_power is 5.0; must be at least 6"),
    "rate_and_floor": ("stepsizes", [0.5, 1.0], "stepsizes is 1.0; must be below 1"),
}
LISTED = "index rounding_schemes stagnation descent_bias sharper_bounds rate_and_floor explorer".split()
TOO_MANY = dict.fromkeys(LISTED, ("fmt", "binary32", "fmt is binary32, of 4278190079 values"))
TOO_MANY["exact_law"] = ("fmt", "bfloat16", "fmt is bfloat16, of 65279 values; must have at most 4096")
NARROW = ("fmt", "fixed(2,2)", "fmt is fixed(2,2), whose largest value is 3.75")
TOO_NARROW = dict.fromkeys(("exact_law", "rate_and_floor"), NARROW)


def test_the_command_says_in_one_line_what_a_notebook_cannot_take(tmp_path):
    result = regenerate(tmp_path, 2, [on("stagnation"), on("exact_law")], ["--keep-going"], stepsize=1.5)
    lines = [line for line in result.output.splitlines() if "FAILED" in line]
    assert len(lines) == 2 and all(BEYOND["stagnation"][2] in line for line in lines), result.output


ALL_BEYOND = [(where, *case) for cases in (BEYOND, TOO_MANY, TOO_NARROW) for where, case in cases.items()]


@pytest.mark.parametrize(("where", "name", "value", "message"), ALL_BEYOND)
def test_what_a_notebook_cannot_take_is_refused_before_it_computes_anything(execute, where, name, value, message):
    with pytest.raises(ValueError) as refused:
        execute(on(where), **{name: value})
    assert str(refused.value).startswith(message)
    called = [entry.name for entry in refused.traceback]
    assert {"format", "number", "numbers", "pair"} & set(called)


@each_notebook
def test_every_assertion_has_a_message(path):
    code = "\n".join(cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code")
    assertions = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Assert)]
    assert [ast.unparse(node) for node in assertions if node.msg is None] == []


@pytest.mark.slow
@pytest.mark.parametrize(
    "options", [[], ["--cwd", "notebooks"], ["--cwd", "elsewhere"]], ids=["root", "notebooks", "else"]
)
def test_papermill_runs_it_from_anywhere_and_figures_go_to_the_checkout(tmp_path, options):
    for name in ("notebooks", "elsewhere"):
        (tmp_path / name).mkdir()
    shutil.copy(ROOT / "notebooks" / "00_index.ipynb", tmp_path / "notebooks")
    notebook = nbformat.read(ROOT / "notebooks" / "05_logistic_regression.ipynb", as_version=4)
    if options:  # as far as its data, and a figure at once
        (loads,) = (i for i, cell in enumerate(notebook.cells) if "datasets.load(" in cell.source)
        save = 'save_figure(plt.figure(), "logistic_regression", {}, settings)'
        notebook.cells = [*notebook.cells[: loads + 1], new_code_cell(save)]
    nbformat.write(notebook, tmp_path / "notebooks" / "05_logistic_regression.ipynb")
    (tmp_path / "data").symlink_to(ROOT / "data")
    small = {"images": 100, "steps": 1, "replicates": 2}
    words = [word for name, value in small.items() for word in ("-p", name, str(value))]
    command = [
        sys.executable,
        "-m",
        "papermill",
        "notebooks/05_logistic_regression.ipynb",
        "out.ipynb",
        *options,
        *words,
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    record = load_record(tmp_path / "build" / "interactive" / "logistic_regression.json")
    assert record["parameters"]["dataset_dir"] == "../data/mnist"
    assert str(tmp_path) not in json.dumps([cell for cell in nbformat.read(tmp_path / "out.ipynb", 4).cells])
    assert not list(tmp_path.parent.glob("build")) and not list(tmp_path.parent.glob("data"))


SPECIFICATION = (ROOT / "docs" / "specification.md").read_text()


def test_the_specification_explains_every_claim_derivation_and_experiment_and_each_is_linked_once_from_its_notebook():
    explained = re.findall(r"^### ([CDE]\d+[pc]?)", SPECIFICATION, re.MULTILINE)
    sources = [ROOT / "README.md", ROOT / "RESULTS.md", *ROOT.glob("srlib/**/*.py")]
    texts = [*(path.read_text() for path in sources), *map(without_pictures, NOTEBOOKS)]
    letters = re.compile(r"\b(?:C[1-7]|D(?:[1-9]|1[01])[pc]?|E[1-4])\b")
    assert {found for text in texts for found in letters.findall(text)} <= set(explained)
    anchors = {heading.lower().replace(" ", "-") for heading in re.findall(r"^### (.+)$", SPECIFICATION, re.MULTILINE)}
    for path in NOTEBOOKS[1:]:
        linked = re.findall(r"specification\.md#([\w-]+)\)", nbformat.read(path, as_version=4).cells[0].source)
        assert linked and set(linked) <= anchors
