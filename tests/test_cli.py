import json
import shutil
import signal
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest
from click.testing import CliRunner
from inprocess import InProcess
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from srlib.__main__ import run
from srlib.batch import supervise
from srlib.cli import main

pytestmark = pytest.mark.xdist_group("cli")

PARAMETERS = """\
profile = "quick"  # quick or paper
backend = "numpy"
seed = 1  # 0 <= seed < 2**64
output_dir = "figures"
"""
SAVE = """
import pathlib
def save_figure(figure, name):
    (pathlib.Path(output_dir) / f"{name}.png").write_text(f"{profile} {seed} {figure}")
"""


def write_notebook(path, *sources, parameters=PARAMETERS):
    title = new_markdown_cell(f"# What does {path.stem} show?")
    tagged = new_code_cell(parameters, metadata={"tags": ["parameters"]})
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    cells = [title, tagged, *map(new_code_cell, sources)]
    nbformat.write(new_notebook(cells=cells, metadata={"kernelspec": kernel}), path)


@pytest.fixture(autouse=True, scope="module")
def without_kernels():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(supervise, "_Watched", InProcess)
        yield


@pytest.fixture(scope="module")
def notebooks(tmp_path_factory):
    directory = tmp_path_factory.mktemp("notebooks")
    write_notebook(directory / "01_good.ipynb", SAVE, 'save_figure("a", "loss")\nsave_figure("b", "bias")')
    more = PARAMETERS + "epsilons = [0.1, 0.4]  # 0 <= eps < 1\n"
    write_notebook(directory / "02_more.ipynb", SAVE, 'save_figure(epsilons, "more")', parameters=more)
    write_notebook(directory / "03_bad.ipynb", SAVE, 'save_figure("c", "bad")', "1 / 0")
    return directory


def srlib(notebooks, *arguments):
    return CliRunner().invoke(main, [*arguments, "--notebooks", str(notebooks)])


@pytest.fixture(scope="module")
def regenerated(notebooks, tmp_path_factory):
    """All notebooks, two at a time: the directory of results and what the command said."""
    out = tmp_path_factory.mktemp("build")
    values = ["-p", "seed", "5", "-p", "epsilons", "[0.25]"]
    return out, srlib(notebooks, "regenerate", "--profile", "paper", "--jobs", "2", "--out", str(out), *values)


def test_regenerate_keeps_figures_and_executed_notebooks_and_nothing_else(regenerated):
    out, _ = regenerated
    files = sorted(str(path.relative_to(out)) for path in out.rglob("*") if path.is_file())
    assert files == [
        "failed/03_bad.ipynb",
        "failed/03_bad.json",
        "failed/03_bad.log",
        "failed/03_bad/bad.png",
        "figures/bias.png",
        "figures/loss.png",
        "figures/more.png",
        "manifests/01_good.json",
        "manifests/02_more.json",
        "notebooks/01_good.ipynb",
        "notebooks/02_more.ipynb",
    ]
    assert sorted(path.name for path in out.iterdir()) == ["failed", "figures", "manifests", "notebooks"]


def test_options_and_parameters_reach_the_notebooks_that_have_them(regenerated):
    out, _ = regenerated
    assert (out / "figures" / "loss.png").read_text() == "paper 5 a"
    assert (out / "figures" / "more.png").read_text() == "paper 5 [0.25]"


def test_regenerate_says_a_line_for_each_notebook_and_ends_with_status_1_after_a_failure(regenerated):
    out, result = regenerated
    said, _, table = result.output.partition("\n\n")
    lines = {line.split()[0]: line for line in said.splitlines()}
    assert result.exit_code == 1
    assert lines["01_good"].startswith("01_good  ok  ") and lines["01_good"].endswith(" MB  2 figures")
    assert lines["02_more"].endswith(" MB  1 figure")
    assert lines["03_bad"].startswith("03_bad  FAILED  ")
    seen = f"(see {out}/failed/03_bad.ipynb and {out}/failed/03_bad.log)"
    assert lines["03_bad"].endswith(f" MB  cell [5]: ZeroDivisionError: division by zero  {seen}")
    rows = [row.split() for row in table.splitlines()]
    assert rows[0] == ["job", "outcome", "seconds", "memory", "figures"]
    assert [(row[0], row[1], row[-1]) for row in rows[1:4]] == [
        ("01_good", "ok", "2"),
        ("02_more", "ok", "1"),
        ("03_bad", "failed", "0"),
    ]
    assert f"Results are in {out}" in result.output
    assert "Error: 1 of 3 notebooks failed or did not run: 03_bad" in result.output


def test_a_dry_run_says_what_would_run_and_why_and_runs_nothing(regenerated, notebooks):
    out, _ = regenerated
    before = sorted(out.rglob("*"))
    result = srlib(notebooks, "regenerate", "--profile", "paper", "--out", str(out), "--dry-run", "-p", "seed", "5")
    assert result.exit_code == 0
    assert result.output.splitlines() == [
        "01_good  up to date",
        "02_more  would run: changed: parameters (epsilons)",
        "03_bad  would run: it has no manifest",
    ]
    assert sorted(out.rglob("*")) == before


def test_json_goes_to_standard_output_alone(notebooks, tmp_path):
    result = srlib(notebooks, "regenerate", "01", "--json", "--out", str(tmp_path))
    (found,) = json.loads(result.stdout)
    assert (found["job"], found["state"], found["problem"]) == ("01_good", "ok", None)
    assert found["figures"] == ["bias", "loss"] and found["seconds"] > 0 and found["memory"] > 0
    assert found["parameters"] == {"profile": "quick", "backend": "numpy"}
    assert "01_good  ok" in result.stderr


def test_a_sweep_runs_every_combination_into_a_directory_of_its_own(notebooks, tmp_path):
    text = "notebooks: ['01', 02_more]\nprofile: paper\nparameters:\n  seed: [1, 2]\n  epsilons: [[0.1], [0.1, 0.2]]\n"
    (tmp_path / "sweep.yml").write_text(text)
    arguments = ["regenerate", "--sweep", str(tmp_path / "sweep.yml"), "--out", str(tmp_path / "build"), "--jobs", "2"]
    assert srlib(notebooks, *arguments).exit_code == 0
    drawn = {str(p.relative_to(tmp_path / "build")): p.read_text() for p in (tmp_path / "build").rglob("*.png")}
    assert drawn == {
        "seed=1/figures/loss.png": "paper 1 a",
        "seed=1/figures/bias.png": "paper 1 b",
        "seed=2/figures/loss.png": "paper 2 a",
        "seed=2/figures/bias.png": "paper 2 b",
        "seed=1,epsilons=[0.1]/figures/more.png": "paper 1 [0.1]",
        "seed=2,epsilons=[0.1]/figures/more.png": "paper 2 [0.1]",
        "seed=1,epsilons=[0.1,0.2]/figures/more.png": "paper 1 [0.1, 0.2]",
        "seed=2,epsilons=[0.1,0.2]/figures/more.png": "paper 2 [0.1, 0.2]",
    }
    assert srlib(notebooks, *arguments).output.count("up to date") == 2 * 6


def test_a_long_combination_has_a_directory_with_a_short_name_of_its_own(notebooks, tmp_path):
    many = [[0.125] * 60, [0.125] * 61]
    (tmp_path / "sweep.yml").write_text(f"notebooks: '02'\nparameters: {{epsilons: {many}}}")
    arguments = ["regenerate", "--sweep", str(tmp_path / "sweep.yml"), "--out", str(tmp_path / "build")]
    result = srlib(notebooks, *arguments)
    assert result.exit_code == 0, result.output
    places = [path for path in (tmp_path / "build").iterdir() if path.name.startswith("epsilons=")]
    assert len(places) == 2 and all(len(path.name) < 200 for path in places)
    made = [json.loads((place / "manifests" / "02_more.json").read_text())["made_from"] for place in places]
    assert sorted(origin["parameters"]["epsilons"] for origin in made) == many


@pytest.mark.parametrize(
    ("text", "arguments", "message"),
    [
        ("a: [", [], "cannot be read as YAML"),
        ("[1]", [], "must be a mapping with keys among notebooks, profile, backend, parameters"),
        ("parameter: {}", [], "key 'parameter' is none of notebooks, profile, backend, parameters"),
        ("1: {}", [], "key 1 is none of notebooks, profile, backend, parameters"),
        ("profile: quick\nprofile: paper", [], "key 'profile' is given twice"),
        ("parameters: {seed: 1, seed: 2}", [], "key 'seed' is given twice"),
        ("parameters: {seed: []}", [], "parameter 'seed' has no value"),
        ("parameters: [seed]", [], "parameters must be a mapping of names to values"),
        ("parameters: {seed: [1, x]}", [], "seed is 'x'; must be an integer"),
        ("parameters: {seed: 1}", ["-p", "seed", "2"], "parameter 'seed' is given both by -p and in"),
        ("notebooks: ['01']", ["02"], "notebooks are named both on the command line and in"),
        ("profile: slow", [], "profile is 'slow'; must be one of quick, paper"),
    ],
)
def test_a_sweep_that_cannot_be_met_is_refused(notebooks, tmp_path, text, arguments, message):
    (tmp_path / "sweep.yml").write_text(text)
    out = tmp_path / "build"
    result = srlib(notebooks, "regenerate", *arguments, "--sweep", str(tmp_path / "sweep.yml"), "--out", str(out))
    assert result.exit_code == 2
    assert message in result.output
    assert not out.exists()


def test_list_shows_titles_parameters_and_figures(notebooks):
    result = srlib(notebooks, "list", "01", "02")
    assert result.exit_code == 0
    assert result.output.splitlines() == [
        "01_good  What does 01_good show?",
        "    profile = 'quick'       quick or paper",
        "    backend = 'numpy'",
        "    seed = 1                0 <= seed < 2**64",
        "    output_dir = 'figures'",
        "    figures: loss, bias",
        "02_more  What does 02_more show?",
        "    profile = 'quick'       quick or paper",
        "    backend = 'numpy'",
        "    seed = 1                0 <= seed < 2**64",
        "    output_dir = 'figures'",
        "    epsilons = [0.1, 0.4]   0 <= eps < 1",
        "    figures: more",
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["07"], "'07' is no notebook; there are 01_good, 02_more, 03_bad"),
        (["-p", "sed", "1"], "no notebook to be run has a parameter 'sed'; there are epsilons, seed"),
        (["01", "-p", "epsilons", "[1]"], "no notebook to be run has a parameter 'epsilons'; there are seed"),
        (["-p", "seed", "one"], "seed is 'one'; must be an integer"),
        (["-p", "output_dir", "x"], "parameter 'output_dir' has an option of its own, --out"),
        (["--jobs", "0"], "'--jobs': 0 is not in the range x>=1"),
        (["--profile", "slow"], "'slow' is not one of 'quick', 'paper'"),
    ],
)
def test_a_request_that_cannot_be_met_is_refused_before_anything_runs(notebooks, tmp_path, arguments, message):
    result = srlib(notebooks, "regenerate", "--out", str(tmp_path / "build"), *arguments)
    assert result.exit_code == 2
    assert message in result.output
    assert not (tmp_path / "build").exists()


@pytest.mark.parametrize("below", ["", "deeper"])
def test_results_cannot_go_to_a_file(notebooks, tmp_path, below):
    (tmp_path / "taken").write_text("precious")
    result = srlib(notebooks, "regenerate", "--out", str(tmp_path / "taken" / below))
    assert result.exit_code == 2
    assert "cannot write there" in result.output
    assert (tmp_path / "taken").read_text() == "precious"


@pytest.mark.parametrize("command", [["regenerate"], ["regenerate", "--dry-run"]])
@pytest.mark.parametrize(
    ("out", "message"),
    [
        ("", "--out is empty; must be a directory or a URL"),
        (" ", "--out is empty; must be a directory or a URL"),
        ("memory://results", "--out memory://results: what is there is lost when the command ends"),
        ("gone/build", "gone is a link to nowhere, which is not there"),
        (".", "--out .: results would replace what is kept in "),
        ("linked", "--out linked: results would replace what is kept in "),
    ],
)
def test_results_cannot_go_where_they_or_others_would_be_lost(tmp_path, monkeypatch, notebooks, command, out, message):
    shutil.copytree(notebooks, tmp_path / "notebooks")
    (tmp_path / "gone").symlink_to("nowhere")
    (tmp_path / "linked").symlink_to(tmp_path)
    monkeypatch.chdir(tmp_path)
    before = {path: path.read_bytes() for path in (tmp_path / "notebooks").iterdir()}
    result = srlib(tmp_path / "notebooks", *command, "--out", out)
    assert result.exit_code == 2
    assert message in result.output.replace("\n", " ")
    assert {path: path.read_bytes() for path in (tmp_path / "notebooks").iterdir()} == before
    assert {path.name for path in tmp_path.iterdir()} == {"gone", "linked", "notebooks"}


def test_results_cannot_go_where_the_figures_of_the_checkout_are(notebooks):
    result = srlib(notebooks, "regenerate", "--out", str(Path(__file__).parents[1]), "--dry-run")
    assert result.exit_code == 2 and "results would replace what is kept in" in result.output


def test_the_version_is_told():
    result = CliRunner().invoke(main, ["--version"], prog_name="srlib")
    assert (result.exit_code, result.output) == (0, f"srlib {version('srlib')}\n")


def test_an_interrupt_while_the_command_starts_shows_no_traceback(monkeypatch):
    def interrupted(**options):
        raise KeyboardInterrupt

    monkeypatch.setattr("srlib.cli.main", interrupted)
    with pytest.raises(SystemExit) as ended:
        run()
    assert ended.value.code == 130


def test_signals_are_as_they_were_after_the_command(notebooks, tmp_path):
    numbers = signal.SIGINT, signal.SIGTERM, signal.SIGHUP
    before = [signal.getsignal(number) for number in numbers]
    assert srlib(notebooks, "regenerate", "01", "--out", str(tmp_path)).exit_code == 0
    assert [signal.getsignal(number) for number in numbers] == before


def test_a_directory_without_notebooks_is_named(tmp_path):
    result = srlib(tmp_path, "list")
    assert result.exit_code == 2
    assert f"no notebooks in {tmp_path}" in result.output


def no_device(count):
    raise RuntimeError("no CUDA-capable device is detected")


@pytest.mark.parametrize(
    ("cupy", "message"),
    [
        (None, "backend is 'cupy', but CuPy cannot be imported"),
        (
            SimpleNamespace(arange=no_device),
            "backend is 'cupy', but there is no working GPU (no CUDA-capable device is detected)",
        ),
    ],
    ids=["not installed", "no device"],
)
def test_cupy_is_refused_where_it_does_not_work(notebooks, tmp_path, monkeypatch, cupy, message):
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    result = srlib(notebooks, "regenerate", "--backend", "cupy", "--out", str(tmp_path / "build"))
    assert result.exit_code == 2
    assert message in result.output
    assert not (tmp_path / "build").exists()


def test_the_command_starts_without_importing_papermill():
    program = "import sys, srlib.cli; sys.exit('papermill' in sys.modules or 'nbformat' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0
