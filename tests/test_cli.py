import os
import signal
import subprocess
import sys
import time
from functools import partial
from types import SimpleNamespace

import nbformat
import pytest
from click.testing import CliRunner
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from srlib.cli import main

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
        "figures/bias.png",
        "figures/loss.png",
        "figures/more.png",
        "notebooks/01_good.ipynb",
        "notebooks/02_more.ipynb",
    ]
    assert sorted(path.name for path in out.iterdir()) == ["failed", "figures", "notebooks"]


def test_options_and_parameters_reach_the_notebooks_that_have_them(regenerated):
    out, _ = regenerated
    assert (out / "figures" / "loss.png").read_text() == "paper 5 a"
    assert (out / "figures" / "more.png").read_text() == "paper 5 [0.25]"


def test_regenerate_says_a_line_for_each_notebook_and_ends_with_status_1_after_a_failure(regenerated):
    out, result = regenerated
    lines = {line.split()[0]: line for line in result.output.splitlines()}
    assert result.exit_code == 1
    assert lines["01_good"].startswith("01_good  ok  ") and lines["01_good"].endswith(" s  2 figures")
    assert lines["02_more"].endswith(" s  1 figure")
    assert lines["03_bad"].startswith("03_bad  FAILED  ")
    assert lines["03_bad"].endswith(f"  cell [5]: ZeroDivisionError: division by zero  (see {out}/failed/03_bad.ipynb)")
    assert f"3 figures in {out}/figures" in result.output
    assert "Error: 1 of 3 notebooks failed: 03_bad" in result.output


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
        (["-p", "seed", "one"], "parameter 'seed' is 'one'; must be of the type of its default, 1"),
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


def wait_until(condition, seconds=30):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"still not so after {seconds} s"
        time.sleep(0.05)


def is_gone(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_leaves_no_kernel_and_nothing_unfinished(tmp_path, number):
    started = tmp_path / "started"
    tell = f'import os, pathlib, time\npathlib.Path({str(tmp_path)!r}, "pid").write_text(str(os.getpid()))'
    tell += f"\nos.rename({str(tmp_path / 'pid')!r}, {str(started)!r})"
    write_notebook(tmp_path / "01_sleeps.ipynb", SAVE, 'save_figure("a", "loss")', tell, "time.sleep(600)")
    write_notebook(tmp_path / "02_waits.ipynb", SAVE, 'save_figure("b", "bias")')
    command = ["-m", "srlib", "regenerate", "--notebooks", str(tmp_path), "--out", str(tmp_path / "build")]
    # A process started in the background may inherit that SIGINT is ignored.
    heed = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    process = subprocess.Popen([sys.executable, *command], stderr=subprocess.PIPE, text=True, preexec_fn=heed)
    wait_until(started.exists)
    process.send_signal(number)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 130
    assert said == "Interrupted; notebooks that had not finished left nothing.\n"
    assert list((tmp_path / "build").iterdir()) == []
    wait_until(lambda: is_gone(int(started.read_text())), seconds=5)
