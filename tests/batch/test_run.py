import errno
import json
import os
import platform
import re
import socket
import subprocess
import sys
import tempfile
import time
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace

import nbformat
import psutil
import pytest
from inprocess import InProcess
from nbformat.v4 import new_code_cell, new_notebook, new_output
from test_interrupts import wait_until

from srlib.batch import supervise
from srlib.batch.manifest import as_bytes, made_from, manifest_name, reason_to_run
from srlib.batch.plan import Job
from srlib.batch.run import run_jobs, staging_directory
from srlib.batch.store import Store
from srlib.batch.supervise import Outcome, Task, perform
from srlib.batch.verify import find_problems

pytestmark = pytest.mark.xdist_group("run")

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


def run_all(jobs, out, workers=1, **options):
    """Run jobs and return their outcomes by name."""
    store = Store(out)
    with staging_directory(store) as staging, ThreadPoolExecutor(workers) as pool:
        found = run_jobs(jobs, store, staging, pool, share=workers, keep_going=True, **options)
        return {outcome.job.name: outcome for outcome in found}


def run(notebooks, out, workers=1, **values):
    return run_all([Job(path, VALUES | values) for path in notebooks], out, workers)


def names(directory):
    return sorted(path.name for path in directory.iterdir())


@pytest.fixture
def quickly(monkeypatch):
    """Run notebooks without kernels, where what is kept and said of them is the question."""
    monkeypatch.setattr(supervise, "_Watched", InProcess)
    for name, value in supervise.thread_limits(1).items():
        monkeypatch.setenv(name, value)


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
    assert outcome.state == "ok"
    assert outcome.notebook == str(out / "notebooks" / "one.ipynb")
    assert 0 < outcome.seconds < 60
    assert outcome.memory > 10**7


@pytest.mark.slow
def test_watching_takes_a_hundredth_of_a_core_even_where_a_look_is_slow(notebooks, tmp_path, monkeypatch):
    processes, looks = supervise._processes, []

    def slow(pid):
        begun = time.thread_time()
        while time.thread_time() - begun < 0.1:
            pass
        looks.append(pid)
        return processes(pid)

    monkeypatch.setattr(supervise, "_processes", slow)
    outcome = run([notebooks["one"]], tmp_path)["one"]
    assert outcome.state == "ok"
    assert 2 <= len(looks) <= 2 + outcome.seconds / 10  # the first, and the last that ends what is left


def test_parameters_reach_the_notebook(outcomes, out):
    assert (out / "figures" / "one_values.png").read_text() == "paper 3 [0.5, 0.25]"


def test_a_notebook_runs_in_its_directory_with_its_share_of_the_cores(outcomes, out, notebooks):
    assert (out / "figures" / "surroundings.png").read_text() == f"{notebooks['two'].parent} ['3', '3']"


def test_an_executed_notebook_says_where_its_figures_are_from_where_it_is(outcomes, out):
    executed = nbformat.read(out / "notebooks" / "one.ipynb", as_version=4)
    injected = {}
    exec(executed.cells[1].source, injected)
    assert injected["output_dir"] == "../figures"
    assert executed.cells[-1].outputs[0].text == "../figures\n"


def test_an_executed_notebook_tells_nothing_of_when_and_where_it_was_run(outcomes, out, notebooks):
    text = (out / "notebooks" / "one.ipynb").read_text()
    assert not any(word in text for word in ("time", "duration", str(out), str(notebooks["one"].parent)))


def test_a_manifest_has_origin_and_the_hash_of_every_output(outcomes, out, notebooks):
    manifest = json.loads((out / "manifests" / "one.json").read_text())
    assert manifest["outcome"] == "ok"
    assert manifest["made_from"] == made_from(outcomes["one"].job)
    assert manifest["made_from"]["parameters"] == VALUES
    made = [path for path in out.rglob("one*") if path.parent.name in ("figures", "notebooks")]
    assert manifest["outputs"] == {str(p.relative_to(out)): sha256(p.read_bytes()).hexdigest() for p in made}
    assert names(out / "manifests") == ["one.json", "two.json"]


def test_a_notebook_that_fails_is_kept_as_far_as_it_got_and_its_figures_are_no_results(outcomes, out):
    assert outcomes["bad"].figures == ()
    assert outcomes["bad"].notebook == str(out / "failed" / "bad.ipynb")
    assert "ValueError: no such format" in Path(outcomes["bad"].log).read_text()
    cells = nbformat.read(out / "failed" / "bad.ipynb", as_version=4).cells
    assert [cell.source for cell in cells if cell.get("outputs")] == [BAD]
    assert not list((out / "figures").glob("unfinished*"))


@pytest.mark.parametrize("name", ["bad", "dies"])
def test_the_figures_made_before_a_failure_are_beside_the_notebook_which_says_where(outcomes, out, name):
    assert names(out / "failed" / name) == ["unfinished.json", "unfinished.pdf", "unfinished.png"]
    cells = nbformat.read(out / "failed" / f"{name}.ipynb", as_version=4).cells
    (injected,) = [cell.source for cell in cells if "injected-parameters" in cell.metadata.get("tags", ())]
    assert f'output_dir = "{name}"' in injected
    known = json.loads((out / "failed" / f"{name}.json").read_text())
    assert known["outcome"] == "failed"
    assert known["outputs"] == {
        f"failed/{name}/{path.name}": sha256(path.read_bytes()).hexdigest()
        for path in (out / "failed" / name).iterdir()
    }


def test_a_failure_is_told_in_one_line_with_the_number_of_the_cell_in_jupyter(outcomes):
    assert outcomes["bad"].problem == "cell [4]: ValueError: no such format"


def test_a_kernel_that_dies_is_told_with_the_cell_that_it_died_in(outcomes, out):
    assert outcomes["dies"].problem == "cell [5]: the kernel died"
    assert names(out / "failed") == [
        f"{name}{suffix}" for name in ("bad", "dies") for suffix in ("", ".ipynb", ".json", ".log")
    ]


@pytest.mark.slow
def test_one_worker_and_two_give_identical_files_wherever_they_go(outcomes, out, notebooks, tmp_path):
    run([notebooks["two"], notebooks["one"]], tmp_path, workers=1)
    compared = [path for name in ("figures", "notebooks") for path in (out / name).iterdir()]
    compared = [path for path in compared if path.stem not in ("surroundings", "two")]
    assert len(compared) == 13
    assert all(path.read_bytes() == (tmp_path / path.relative_to(out)).read_bytes() for path in compared)


def test_a_failure_keeps_the_results_of_an_earlier_success_and_a_success_clears_the_failure(
    quickly, notebooks, tmp_path
):
    kept = ["moody", "moody.ipynb", "moody.json", "moody.log"]
    for seed, drawn, failed in ((1, "1", []), (13, "1", kept), (13, "1", kept), (2, "2", [])):
        run([notebooks["moody"]], tmp_path, seed=seed)
        assert (tmp_path / "figures" / "mood.png").read_text() == drawn
        assert sorted(path.name for path in tmp_path.glob("failed/*")) == failed


def test_a_job_is_run_again_for_a_reason_only(quickly, tmp_path):
    path, out = write_notebook(tmp_path / "a.ipynb", SAVE, 'save("x", str(seed))'), tmp_path / "out"
    job, store = Job(path, VALUES), Store(out)

    def state(job=job, **options):
        reason = reason_to_run(job, made_from(job), store)
        return reason, run_all([job], out, **options)["a"].state

    assert state() == ("it has no manifest", "ok")
    assert state() == (None, "up to date")
    assert state(force=True) == (None, "ok")
    (out / "figures" / "x.png").write_text("another")
    assert state() == ("figures/x.png is not as it was made", "ok")
    (out / "figures" / "x.png").unlink()
    assert state() == ("figures/x.png is missing", "ok")
    assert (out / "figures" / "x.png").read_text() == "3"
    assert state(replace(job, parameters=VALUES | {"seed": 4})) == ("changed: parameters (seed)", "ok")
    write_notebook(path, SAVE, 'save("y", str(seed))')
    assert state() == ("changed: notebook, parameters (seed)", "ok")
    assert names(out / "figures") == ["y.json", "y.pdf", "y.png"]
    (out / "manifests" / "a.json").write_text('{"job": ')
    assert state() == ("it has no manifest", "ok")
    assert state() == (None, "up to date")


def test_code_and_versions_and_data_are_reasons_too(quickly, tmp_path, monkeypatch):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "train-images-idx3-ubyte").write_bytes(b"1")
    path = write_notebook(tmp_path / "a.ipynb", "from srlib import round_to\nround_to(1.0, 'binary8')")
    job, store = Job(path, VALUES | {"dataset_dir": "data"}), Store(tmp_path / "out")
    run_all([job], tmp_path / "out")
    before = made_from(job)
    assert reason_to_run(job, before, store) is None
    (tmp_path / "data" / "train-images-idx3-ubyte").write_bytes(b"2")
    changed = before | {"srlib": before["srlib"] | {"cpu": ""}, "versions": before["versions"] | {"numpy": "1"}}
    assert reason_to_run(job, changed, store) == "changed: srlib (cpu), versions (numpy)"
    assert reason_to_run(job, made_from(job), store) == "changed: data (train-images-idx3-ubyte)"


def wait_until_gone(pid):
    wait_until(lambda: not psutil.pid_exists(pid), seconds=10)


def tell_pid(path):
    """Code that leaves the process id of the kernel in a file."""
    return f"import os, pathlib, signal, time\npathlib.Path({str(path)!r}).write_text(str(os.getpid()))"


@pytest.fixture
def temporary(monkeypatch):
    """Make a directory of a name the one for temporary files."""
    with tempfile.TemporaryDirectory(dir="/tmp") as directory:

        def use(name):
            place = Path(directory, name)
            place.mkdir()
            monkeypatch.setattr(tempfile, "tempdir", str(place))
            return place

        yield use


@pytest.mark.slow
def test_a_job_that_takes_too_long_is_ended_with_its_kernel(tmp_path, temporary):
    place = temporary("x")
    path = write_notebook(tmp_path / "a.ipynb", tell_pid(tmp_path / "pid"), "time.sleep(600)")
    outcome = run_all([Job(path, VALUES)], tmp_path, timeout=6)["a"]
    assert outcome.problem == "cell [4]: took more than 6 s in all"
    assert outcome.seconds < 20
    wait_until_gone(int((tmp_path / "pid").read_text()))
    assert not list(place.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("victim", "problem"),
    [("os.getpid()", "cell [5]: the kernel died"), ("os.getppid()", "its process was killed by signal 9")],
    ids=["kernel", "its parent"],
)
def test_what_is_killed_ends_its_job_within_seconds_and_what_the_notebook_has_started_too(tmp_path, victim, problem):
    child = "import subprocess\nsleeping = subprocess.Popen(['sleep', '600'])\n"
    child += f"open({str(tmp_path / 'child')!r}, 'w').write(str(sleeping.pid))"
    kill = f"os.kill({victim}, signal.SIGKILL)\ntime.sleep(600)"
    path = write_notebook(tmp_path / "a.ipynb", tell_pid(tmp_path / "pid"), child, kill)
    outcome = run([path], tmp_path)["a"]
    assert outcome.problem == problem
    assert outcome.seconds < 30
    assert Path(outcome.notebook) == tmp_path / "failed" / "a.ipynb"
    for name in ("pid", "child"):
        wait_until_gone(int((tmp_path / name).read_text()))


CONNECTION = "import json\nfrom ipykernel.connect import get_connection_info\n"
CONNECTION += 'save("transport", json.loads(get_connection_info())["transport"])'


@pytest.mark.slow
@pytest.mark.parametrize(("name", "transport"), [("x", "ipc"), ("x" * 80, "tcp")])
def test_a_kernel_is_reached_through_files_if_their_paths_are_short(tmp_path, temporary, name, transport):
    place = temporary(name)
    path = write_notebook(tmp_path / "a.ipynb", SAVE, CONNECTION)
    assert run([path], tmp_path / "out")["a"].state == "ok"
    assert (tmp_path / "out" / "figures" / "transport.png").read_text() == transport
    assert not list(place.iterdir())


def test_a_full_disk_is_told_in_one_line_and_leaves_no_manifest(quickly, tmp_path, monkeypatch):
    def full(self, path, name):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Store, "take", full)
    path = write_notebook(tmp_path / "a.ipynb", SAVE, 'save("x", "1")')
    outcome = run([path], tmp_path / "out")["a"]
    assert (outcome.state, outcome.problem) == ("failed", "OSError: [Errno 28] No space left on device")
    assert not list((tmp_path / "out").rglob("manifests/*"))


def sleeping(tmp_path):
    """Return a job that sleeps, and where the process id of its kernel will be."""
    pid = tmp_path / "pid"
    tell = f"{tell_pid(tmp_path / 'new')}\nos.rename({str(tmp_path / 'new')!r}, {str(pid)!r})"
    return Job(write_notebook(tmp_path / "a.ipynb", tell, "time.sleep(600)"), VALUES), pid


@pytest.mark.slow
def test_an_interrupted_batch_goes_on_to_end_when_its_jobs_have_ended(tmp_path):
    job, pid = sleeping(tmp_path)
    store = Store(tmp_path / "out")

    def interrupt():
        if pid.exists():
            raise KeyboardInterrupt

    with staging_directory(store) as staging, ThreadPoolExecutor(1) as pool:
        with pytest.raises(KeyboardInterrupt):
            list(run_jobs([job], store, staging, pool, watch=interrupt))
        assert not psutil.pid_exists(int(pid.read_text()))
        assert [path.name for path in staging.iterdir()] == [supervise.STOP]


@pytest.mark.slow
def test_a_job_ends_when_what_its_batch_has_staged_is_removed_while_something_writes_there(tmp_path):
    job, pid = sleeping(tmp_path)
    store = Store(tmp_path / "out")
    with staging_directory(store) as staging, ThreadPoolExecutor(1) as pool:
        running = pool.submit(perform, Task(job, store.place, str(staging), 1, None, False))
        wait_until(pid.exists)
        (staged,) = staging.iterdir()
        (staged / "task.json").unlink()  # as `shutil.rmtree` does first, before it finds that there is a new file
        with pytest.raises(supervise.Stopped):
            running.result(timeout=20)
        wait_until_gone(int(pid.read_text()))
        assert not list(staging.iterdir())


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_job_says_why_it_failed_though_nothing_can_be_written_to_its_log(notebooks, tmp_path):
    arguments = {"notebook": str(notebooks["bad"]), "staged": str(tmp_path / "bad.ipynb")}
    arguments |= {"parameters": VALUES | {"output_dir": str(tmp_path)}, "sockets": str(tmp_path)}
    arguments["progress"] = str(tmp_path / "progress")
    (tmp_path / "task.json").write_text(json.dumps({"arguments": arguments, "parent": os.getpid()}))
    command = [sys.executable, "-P", supervise.__file__.replace("supervise", "worker"), str(tmp_path / "task.json")]
    with Path("/dev/full").open("w") as full:
        said = subprocess.run(command, stdout=subprocess.PIPE, stderr=full, text=True, check=False)
    assert said.stdout == "cell [4]: ValueError: no such format"


@pytest.mark.parametrize(("keep_going", "state"), [(False, "not run"), (True, "ok")])
def test_after_a_failure_no_job_is_started_unless_told_to_keep_going(quickly, notebooks, tmp_path, keep_going, state):
    jobs, store = [Job(notebooks[name], VALUES) for name in ("bad", "one")], Store(tmp_path)
    with staging_directory(store) as staging, ThreadPoolExecutor(1) as pool:
        found = list(run_jobs(jobs, store, staging, pool, keep_going=keep_going))
    assert {outcome.job.stem: outcome.state for outcome in found} == {"bad": "failed", "one": state}


def test_a_job_is_run_after_those_that_it_needs_and_not_if_one_fails(quickly, notebooks, tmp_path):
    first, bad = Job(notebooks["two"], VALUES, place="early"), Job(notebooks["bad"], VALUES)
    last, never = Job(notebooks["one"], VALUES, needs=(first,)), Job(notebooks["moody"], VALUES, needs=(first, bad))
    outcomes = run_all([never, last, first, bad], tmp_path, workers=2)
    assert {name: outcome.state for name, outcome in outcomes.items()} == {
        "early/two": "ok",
        "one": "ok",
        "bad": "failed",
        "moody": "not run",
    }
    assert outcomes["moody"].problem == "needs bad"
    assert list(outcomes).index("early/two") < list(outcomes).index("one")
    assert (tmp_path / "early" / "figures" / "two_values.png").exists()
    assert (tmp_path / "early" / "manifests" / "two.json").exists()


class Scripted(Executor):
    """Runs nothing: each job ends in the state that is said, at once."""

    def __init__(self, states):
        self.states, self.tasks = states, []

    def submit(self, call, task):
        self.tasks.append(task)
        future = Future()
        future.set_result(Outcome(task.job, self.states.get(task.job.stem, "ok")))
        return future


def up_to_date(store, job):
    store.write(manifest_name(job), as_bytes({"job": job.stem, "made_from": made_from(job), "outputs": {}}))


@pytest.mark.parametrize(("state", "runs"), [("ok", True), ("up to date", True), ("failed", False), ("not run", False)])
def test_a_job_is_run_if_what_it_needs_succeeds_now_or_has_succeeded_before(notebooks, tmp_path, state, runs):
    needed, other = (Job(notebooks[name], VALUES) for name in ("one", "two"))
    last, store = Job(notebooks["moody"], VALUES, needs=(other, needed)), Store(tmp_path)
    executor = Scripted({"one": state})
    if state == "up to date":
        up_to_date(store, needed)
    found = {outcome.job.stem: outcome for outcome in run_jobs([last, needed, other], store, tmp_path, executor)}
    assert {name: outcome.state for name, outcome in found.items()} == {
        "one": state,
        "two": "ok",
        "moody": "ok" if runs else "not run",
    }
    assert found["moody"].problem == (None if runs else "needs one")
    assert {task.job.stem for task in executor.tasks} == {"two", *["moody"] * runs, *["one"] * (state != "up to date")}


def test_a_task_has_all_that_it_is_to_be_run_with(notebooks, tmp_path):
    job, executor = Job(notebooks["one"], VALUES), Scripted({})
    up_to_date(Store(tmp_path), job)
    options = {"share": 3, "timeout": 7.0, "force": True, "keep_going": True}
    list(run_jobs([job], Store(tmp_path), tmp_path / "staging", executor, **options))
    assert executor.tasks == [Task(job, str(tmp_path), str(tmp_path / "staging"), 3, 7.0, True)]


def test_results_can_go_to_any_place_that_fsspec_knows(quickly, notebooks):
    place = "memory://somewhere/deep"
    assert run([notebooks["one"]], place)["one"].state == "ok"
    assert run([notebooks["one"]], place)["one"].state == "up to date"
    store = Store(place)
    assert store.read("figures/one_values.png") == b"paper 3 [0.5, 0.25]"
    assert store.names("*/*.json") == ["figures/one_again.json", "figures/one_values.json", "manifests/one.json"]
    assert run([notebooks["bad"]], place)["bad"].notebook == f"{place}/failed/bad.ipynb"


def test_what_a_killed_batch_has_left_is_removed_and_what_another_one_uses_is_not(tmp_path):
    with staging_directory(Store(tmp_path)) as mine:
        pass
    host = socket.gethostname()
    began = re.fullmatch(rf"\.staging-{re.escape(host)}-{os.getpid()}-(\d+)-\w+", mine.name)[1]
    dead = {
        "its process has ended": f".staging-{host}-4194999-{began}-abc",
        "its number is another's": f".staging-{host}-{os.getpid()}-{10**18}-abc",
        "its machine is silent": f".staging-other-host-4194999-{began}-abc",
    }
    for name in dead.values():
        (tmp_path / name).mkdir()
    silent = time.time() - 3600
    os.utime(tmp_path / dead["its machine is silent"], (silent, silent))
    (tmp_path / ".staging-abc").mkdir()
    with staging_directory(Store(tmp_path)) as mine:
        assert sorted(tmp_path.iterdir()) == sorted([mine, tmp_path / ".staging-abc"])
    assert [path.name for path in tmp_path.iterdir()] == [".staging-abc"]


@pytest.mark.parametrize("host", [socket.gethostname(), "other-host-2"])
def test_a_second_batch_at_the_same_place_is_refused_and_leaves_the_first_alone(tmp_path, host):
    running = tmp_path / f".staging-{host}-{os.getpid()}-{time.time_ns()}-abc"
    running.mkdir()
    with (
        pytest.raises(RuntimeError, match=f"process {os.getpid()} on {host} is writing there; wait until it has ended"),
        staging_directory(Store(tmp_path)),
    ):
        pass
    assert list(tmp_path.iterdir()) == [running]


def test_of_two_batches_that_begin_at_once_one_goes_on(tmp_path):
    """Each has made its directory before it looks at the others: only the one that began first sees none before it."""
    later = tmp_path / f".staging-{socket.gethostname()}-{os.getpid()}-{time.time_ns() + 10**10}-abc"
    later.mkdir()
    with staging_directory(Store(tmp_path)) as mine:
        assert sorted(tmp_path.iterdir()) == sorted([mine, later])


def test_a_running_batch_shows_that_it_is(notebooks, tmp_path, monkeypatch):
    monkeypatch.setattr("srlib.batch.run._BEAT_EVERY", 0.0)
    store, seen = Store(tmp_path), []
    with staging_directory(store) as staging, ThreadPoolExecutor(1) as pool:

        def age():
            seen.append(time.time() - staging.stat().st_mtime)
            os.utime(staging, (0, 0))

        list(run_jobs([Job(notebooks["one"], VALUES)], store, staging, pool, watch=age))
    assert len(seen) > 2 and max(seen) < 60


def test_results_may_lie_on_another_disk(quickly, notebooks, tmp_path, monkeypatch):
    replace_, across = os.replace, []

    def refusing(source, target):
        if ".staging" in str(source) and "figures" in str(target):
            across.append(target)
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        return replace_(source, target)

    monkeypatch.setattr(os, "replace", refusing)
    assert run([notebooks["one"]], tmp_path)["one"].state == "ok"
    assert len(across) == 6
    assert sorted(path.name for path in (tmp_path / "figures").iterdir()) == [
        f"one_{name}.{suffix}" for name in ("again", "values") for suffix in ("json", "pdf", "png")
    ]
    assert (tmp_path / "figures" / "one_values.png").read_text() == "paper 3 [0.5, 0.25]"


def test_a_directory_may_have_any_name(quickly, notebooks, tmp_path):
    place = tmp_path / "eps=[0.1,0.2] *? {x} é%#& a::b 'c' ~"
    assert run([notebooks["one"]], place)["one"].state == "ok"
    assert run([notebooks["one"]], place)["one"].state == "up to date"
    assert find_problems(place) == (1, 7, [])
    executed = (place / "notebooks" / "one.ipynb").read_text()
    assert str(tmp_path) not in executed and 'output_dir = \\"../figures\\"' in executed


NEAR = ["/data", "/d", "/data/mnist", "/mnt/data"]


@pytest.mark.parametrize("out", NEAR)
def test_paths_that_only_look_like_that_of_the_results_are_left_alone(tmp_path, out):
    """Of the parameters, those that hold `out` as a part of another path; in texts, what begins with it is replaced."""
    figures = Path(out, ".staging-x", "figures")
    source = f'dataset_dir = "../data/mnist"\nother = "x{out}"\noutput_dir = "{figures}"\nnear = "{out}-2"'
    output = new_output("stream", text=f"in {out}/notebooks: {out}, {out}. {out}.d\n{out}base ../{out.lstrip('/')}/x\n")
    path = tmp_path / "a.ipynb"
    nbformat.write(new_notebook(cells=[new_code_cell(source, outputs=[output])]), path)
    supervise._tidied(path, figures, "../figures", SimpleNamespace(local=Path(out), place=out), Job(path, {}))
    (cell,) = nbformat.read(path, 4).cells
    assert (
        cell.source == f'dataset_dir = "../data/mnist"\nother = "x{out}"\noutput_dir = "../figures"\nnear = "{out}-2"'
    )
    assert cell.outputs[0].text == f"in ../notebooks: .., ... {out}.d\n{out}base ../{out.lstrip('/')}/x\n"


def test_a_worker_of_another_machine_that_sees_no_staging_says_so(notebooks, tmp_path):
    with ThreadPoolExecutor(1) as pool:
        (outcome,) = run_jobs([Job(notebooks["one"], VALUES)], Store(tmp_path), tmp_path / "gone", pool)
    assert outcome.state == "failed"
    assert f"sees no {tmp_path / 'gone'}: the batch has ended, or that is not shared" in outcome.problem


@pytest.mark.slow
def test_a_job_may_say_much_of_why_it_failed(tmp_path):
    path = write_notebook(tmp_path / "a.ipynb", 'raise ValueError("ε" * 200_000)')
    outcome = run_all([Job(path, VALUES)], tmp_path / "out", timeout=60)["a"]
    assert outcome.problem == "cell [3]: ValueError: " + "ε" * 200_000


SESSION = {
    "MPLBACKEND": "Agg",
    "MATPLOTLIBRC": "{home}",
    "MPLCONFIGDIR": "{home}",
    "JUPYTER_PATH": "{home}",
    "IPYTHONDIR": "{home}",
    "PYTHONSTARTUP": "{home}/startup.py",
    "PYTHONOPTIMIZE": "1",
    "PYTHONWARNINGS": "error",
}
SEEN = """
import matplotlib, sys, warnings
import matplotlib.pyplot as plt
plt.plot([1])
plt.show()
seen = [matplotlib.rcParams[name] for name in ("savefig.bbox", "text.usetex")]
save("seen", f"{sys.executable} {sys.flags.optimize} {seen} {'from_profile' in globals()} {warnings.filters[0][0]}")
"""


def test_a_job_sets_its_own_surroundings(tmp_path, monkeypatch):
    """Interpreter, Matplotlib's defaults, no IPython profile: whatever a session, a machine or a notebook says."""
    home = tmp_path / "home"
    for name, value in SESSION.items():
        monkeypatch.setenv(name, value.format(home=home))
    (home / "kernels" / "python3").mkdir(parents=True)
    other = {"argv": ["/bin/false", "{connection_file}"], "display_name": "Other", "language": "python"}
    (home / "kernels" / "python3" / "kernel.json").write_text(json.dumps(other))
    (home / "matplotlibrc").write_text("savefig.bbox: tight\ntext.usetex: True\n")
    (home / "profile_default" / "startup").mkdir(parents=True)
    (home / "profile_default" / "startup" / "00.py").write_text("from_profile = True")
    path = write_notebook(tmp_path / "a.ipynb", SAVE, SEEN)
    path.write_text(path.read_text().replace('"python3"', '"conda-env-ml-py"'))
    outcome = run([path], tmp_path / "out")["a"]
    assert outcome.state == "ok", outcome.problem
    seen = (tmp_path / "out" / "figures" / "seen.json").read_text()
    assert seen.startswith(f"{sys.executable} 0 [None, False] False ") and not seen.endswith("error")
    shown = [output for cell in nbformat.read(outcome.notebook, 4).cells[3:] for output in cell.outputs]
    assert [list(output.get("data", ())) for output in shown] == [["image/png", "text/plain"]]
    assert f'"python": "{platform.python_version()}"' in (tmp_path / "out" / "manifests" / "a.json").read_text()
