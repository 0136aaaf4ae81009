"""The same jobs on a Dask cluster: a scheduler and workers of this machine, on loopback."""

import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from click.testing import CliRunner
from test_interrupts import SAVE, hashes, manifests, processes_about, start, wait_until, write_notebook

from srlib.cli import main

distributed = pytest.importorskip("distributed", reason="needs dask.distributed, the extra 'cluster'")
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("dask")]


@contextmanager
def cluster(directory, workers):
    """Start a scheduler and workers, and no nannies, which start anew what is killed; yield address and workers."""
    address = directory / "scheduler.json"
    common = ["--scheduler-file", str(address)]
    dask, started = [str(Path(sys.executable).with_name("dask"))], []

    def begin(*command):
        quiet = {"stderr": subprocess.DEVNULL, "stdout": subprocess.DEVNULL}
        started.append(subprocess.Popen([*dask, *command, *common], cwd=directory, **quiet))

    begin("scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard")
    wait_until(address.exists)
    for _ in range(workers):
        begin("worker", "--host", "127.0.0.1", "--nthreads", "1", "--no-dashboard", "--no-nanny")
    try:
        with distributed.Client(scheduler_file=str(address)) as client:
            if workers:
                client.wait_for_workers(workers, timeout=60)
            yield client.scheduler.address, started[1:]
    finally:
        for process in started:
            process.kill()
            process.wait()


@pytest.fixture(scope="module")
def notebooks(tmp_path_factory):
    directory = tmp_path_factory.mktemp("notebooks")
    for number in range(3):
        save = f'save_figure(seed + {number}, "figure_{number}")'
        write_notebook(directory / f"{number}.ipynb", SAVE, save, "time.sleep(0.5)")
    return directory


@pytest.fixture(scope="module")
def alone(notebooks, tmp_path_factory):
    """What one process makes."""
    out = tmp_path_factory.mktemp("alone")
    assert start(notebooks, out, "--jobs", "1", stdout=subprocess.DEVNULL).wait() == 0
    return hashes(out)


def test_a_cluster_makes_the_same_files_though_a_worker_is_killed(notebooks, alone, tmp_path):
    out = tmp_path / "out"
    with cluster(tmp_path, 2) as (address, workers):
        batch = start(notebooks, out, "--scheduler", address, stdout=subprocess.PIPE)
        wait_until(lambda: manifests(out))  # so that it is in the middle

        def busy():
            return [worker for worker in workers if psutil.Process(worker.pid).children()]

        wait_until(busy)
        victim = busy()[0]
        kernels = psutil.Process(victim.pid).children(recursive=True)
        victim.kill()
        said, _ = batch.communicate(timeout=120)
        wait_until(lambda: not any(kernel.is_running() for kernel in kernels))
    assert batch.returncode == 0
    assert said.count("  ok  ") >= 2 * 3
    assert hashes(out) == alone
    assert not processes_about(out)


def test_a_job_that_kills_workers_is_given_up_by_name(tmp_path):
    kill = "import psutil\npsutil.Process().parent().parent().kill()\ntime.sleep(600)"
    write_notebook(tmp_path / "01_kills.ipynb", SAVE, kill)
    write_notebook(tmp_path / "02_works.ipynb", SAVE, 'save_figure(1, "works")')
    with cluster(tmp_path, 4) as (address, workers):
        batch = start(tmp_path, tmp_path / "out", "--scheduler", address, "--keep-going", stdout=subprocess.PIPE)
        said, _ = batch.communicate(timeout=120)
        assert sorted(worker.poll() is None for worker in workers) == [False, False, False, True]
    assert batch.returncode == 1
    lines = {line.split()[0]: line for line in said.partition("\n\n")[0].splitlines()}
    assert lines["01_kills"].endswith("given up: 3 workers died while they ran it")
    assert "  ok  " in lines["02_works"]


def test_a_scheduler_without_workers_is_told_in_one_line(notebooks, tmp_path):
    with cluster(tmp_path, 0) as (address, _):
        batch = start(notebooks, tmp_path / "out", "--scheduler", address, stdout=subprocess.PIPE)
        with batch.stdout as said:
            assert said.readline() == f"{address} has no workers; waiting for one\n"
            batch.terminate()
            assert batch.wait(timeout=30) == 130


def test_a_scheduler_that_is_not_there_is_told_in_one_line(notebooks, tmp_path, monkeypatch):
    monkeypatch.setattr("srlib.batch.run._CONNECT_WITHIN", 0.5)
    command = ["regenerate", "--notebooks", str(notebooks), "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(main, [*command, "--scheduler", "tcp://127.0.0.1:9"])
    assert result.exit_code == 2
    assert result.output.splitlines()[-1].startswith("Error: no scheduler at tcp://127.0.0.1:9 (")
