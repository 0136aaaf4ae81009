import os
from pathlib import Path
from tempfile import TemporaryDirectory

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from srlib.batch import Job, process_pool, run_jobs

PARAMETERS = 'profile = "quick"\nbackend = "numpy"\nseed = 1  # 0 <= seed\noutput_dir = "figures"\nepsilons = [0.1]'
SAVE = """
import os, pathlib
def save(name, text):
    for suffix in (".png", ".pdf", ".json"):
        (pathlib.Path(output_dir) / f"{name}{suffix}").write_text(text)
"""
GOOD = 'save("NAME_values", f"{profile} {seed} {epsilons}")\nsave("NAME_again", str(seed))\nprint(output_dir)'
SURROUNDINGS = """
limits = [os.environ[name] for name in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS")]
save("surroundings", f"{os.getcwd()} {limits}")
"""
BAD = 'save("unfinished", "")\nraise ValueError("no such format\\n\\nwith more to say")'
MOODY = 'save("mood", str(seed))\nassert seed != 13'
VALUES = {"profile": "paper", "backend": "numpy", "seed": 3, "epsilons": [0.5, 0.25]}


def write_notebook(path, *sources):
    parameters = new_code_cell(PARAMETERS, metadata={"tags": ["parameters"]})
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    cells = [parameters, *map(new_code_cell, sources)]
    nbformat.write(new_notebook(cells=cells, metadata={"kernelspec": kernel}), path)
    return path


def run(notebooks, out, workers=1, **values):
    """Run notebooks and return their outcomes by name."""
    jobs = [Job(path, VALUES | values) for path in notebooks]
    with TemporaryDirectory(dir=out) as staging, process_pool(workers) as pool:
        return {outcome.job.name: outcome for outcome in run_jobs(jobs, out, Path(staging), pool)}


def names(directory):
    return sorted(path.name for path in directory.iterdir())


@pytest.fixture(scope="module")
def notebooks(tmp_path_factory):
    # papermill takes paths for format strings: the braces show that ours are not
    directory = tmp_path_factory.mktemp("the {notebooks}")
    return {
        "one": write_notebook(directory / "one.ipynb", SAVE, GOOD.replace("NAME", "one")),
        "two": write_notebook(directory / "two.ipynb", SAVE, GOOD.replace("NAME", "two"), SURROUNDINGS),
        "bad": write_notebook(directory / "bad.ipynb", SAVE, "", BAD, "never = 1"),
        "dies": write_notebook(directory / "dies.ipynb", SAVE, 'save("unfinished", "")', "os._exit(1)", "never = 1"),
        "moody": write_notebook(directory / "moody.ipynb", SAVE, MOODY),
    }


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    return tmp_path_factory.mktemp("the {results} of ε")


@pytest.fixture(scope="module")
def outcomes(notebooks, out):
    """Two workers on two notebooks that succeed and two that do not."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS"):
            patch.delenv(name, raising=False)
        patch.setattr(os, "sched_getaffinity", lambda pid: range(6), raising=False)
        return run([notebooks[name] for name in ("one", "bad", "dies", "two")], out, workers=2)


def test_figures_and_executed_notebooks_of_the_successful_get_their_final_names(outcomes, out):
    figures = ["one_again", "one_values", "surroundings", "two_again", "two_values"]
    assert names(out / "figures") == [f"{name}.{suffix}" for name in figures for suffix in ("json", "pdf", "png")]
    assert names(out / "notebooks") == ["one.ipynb", "two.ipynb"]


def test_an_outcome_names_figures_and_notebook(outcomes, out):
    outcome = outcomes["one"]
    assert outcome.figures == ("one_again", "one_values")
    assert outcome.problem is None
    assert outcome.notebook == out / "notebooks" / "one.ipynb"
    assert 0 < outcome.seconds < 60


def test_parameters_reach_the_notebook(outcomes, out):
    assert (out / "figures" / "one_values.png").read_text() == "paper 3 [0.5, 0.25]"


def test_a_notebook_runs_in_its_directory_with_its_share_of_the_cores(outcomes, out, notebooks):
    assert (out / "figures" / "surroundings.png").read_text() == f"{notebooks['two'].parent} ['3', '3']"


def test_an_executed_notebook_says_where_its_figures_are_and_not_where_they_were(outcomes, out):
    executed = nbformat.read(out / "notebooks" / "one.ipynb", as_version=4)
    injected = {}
    exec(executed.cells[1].source, injected)
    assert injected["output_dir"] == str(out / "figures")
    assert executed.metadata.papermill.parameters["output_dir"] == str(out / "figures")
    assert executed.cells[-1].outputs[0].text == f"{out / 'figures'}\n"


def test_a_notebook_that_fails_is_kept_as_far_as_it_got_and_leaves_no_figures(outcomes, out):
    assert outcomes["bad"].figures == ()
    assert outcomes["bad"].notebook == out / "failed" / "bad.ipynb"
    cells = nbformat.read(out / "failed" / "bad.ipynb", as_version=4).cells
    assert [cell.source for cell in cells if cell.get("outputs")] == [BAD]
    assert not list((out / "figures").glob("unfinished*"))


def test_a_failure_is_told_in_one_line_with_the_number_of_the_cell_in_jupyter(outcomes):
    assert outcomes["bad"].problem == "cell [4]: ValueError: no such format"


def test_a_kernel_that_dies_is_told_with_the_cell_that_it_died_in(outcomes, out):
    assert outcomes["dies"].problem == "cell [5]: the kernel died"
    assert names(out / "failed") == ["bad.ipynb", "dies.ipynb"]


def test_one_worker_and_two_give_identical_figures(outcomes, out, notebooks, tmp_path):
    run([notebooks["two"], notebooks["one"]], tmp_path, workers=1)
    compared = [path for path in (out / "figures").iterdir() if path.stem != "surroundings"]
    assert len(compared) == 12
    assert all(path.read_bytes() == (tmp_path / "figures" / path.name).read_bytes() for path in compared)


def test_a_failure_keeps_the_results_of_an_earlier_success_and_a_success_clears_the_failure(notebooks, tmp_path):
    for seed, drawn, failed in ((1, "1", []), (13, "1", ["moody.ipynb"]), (2, "2", [])):
        run([notebooks["moody"]], tmp_path, seed=seed)
        assert (tmp_path / "figures" / "mood.png").read_text() == drawn
        assert [path.name for path in tmp_path.glob("failed/*")] == failed


def test_a_worker_that_is_killed_is_reported(tmp_path):
    path = write_notebook(tmp_path / "a.ipynb", "import os, signal\nos.kill(os.getppid(), signal.SIGKILL)")
    outcome = run([path], tmp_path)["a"]
    assert outcome.problem.startswith("BrokenProcessPool: ")
    assert outcome.notebook is None


def test_a_notebook_whose_kernel_is_not_installed_is_reported(tmp_path):
    path = write_notebook(tmp_path / "a.ipynb", "1")
    path.write_text(path.read_text().replace('"python3"', '"no-such-kernel"'))
    assert "no-such-kernel" in run([path], tmp_path)["a"].problem
