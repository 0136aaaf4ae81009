"""Running jobs: each in a process of its own, its results moved to their final names when it has succeeded."""

import json
import logging
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from srlib.batch.identity import identity
from srlib.batch.plan import Job
from srlib.records import is_record, stamp

_THREAD_LIMITS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")

_stopped = threading.Event()  # in a worker: that it has been told to stop


@dataclass(frozen=True)
class Outcome:
    """What became of a job.

    Attributes
    ----------
    job : Job
    seconds : float
        How long it took.
    figures : tuple of str
        Names of the figures that it made; empty after a failure.
    problem : str or None
        Why it failed, in one line; None after success.
    notebook : Path or None
        The executed notebook, partly executed after a failure; None if it did not get that far.
    """

    job: Job
    seconds: float
    figures: tuple[str, ...]
    problem: str | None
    notebook: Path | None


def run_jobs(jobs: Sequence[Job], out: Path, staging: Path, executor: Executor) -> Iterator[Outcome]:
    """Run the jobs and yield what becomes of each, in the order in which they finish.

    Parameters
    ----------
    jobs : sequence of Job
        What to run.
    out : Path
        Where results go: ``figures/``, ``notebooks/``, and ``failed/`` for notebooks executed in part.
    staging : Path
        An empty directory on the same file system, in which the jobs write until they have succeeded.
    executor : concurrent.futures.Executor
        What runs them; a job needs a process, as it changes the working directory.
    """
    futures = {executor.submit(execute, job, out.resolve(), staging.resolve()): job for job in jobs}
    for future in as_completed(futures):
        try:
            yield future.result()
        except Exception as error:  # not the notebook's failure: the worker died
            yield Outcome(futures[future], 0.0, (), _one_line(error), None)


@contextmanager
def process_pool(workers: int) -> Iterator[ProcessPoolExecutor]:
    """Start processes that share the machine's cores evenly, and stop them and their kernels if an exception passes.

    The share is set by ``OMP_NUM_THREADS`` and the like, where they are not already set.
    """
    threads = max(1, _cores() // workers)
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _start_worker, (threads,))
    try:
        yield pool
    except BaseException:
        for worker in multiprocessing.active_children():
            worker.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _cores():
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _start_worker(threads):
    for name in _THREAD_LIMITS:
        os.environ.setdefault(name, str(threads))
    logging.getLogger("papermill").setLevel(logging.CRITICAL)  # what it would say is in the outcome
    signal.signal(signal.SIGTERM, _stop)
    # Ctrl-C reaches every process of the terminal; what it stops is the parent's to decide. Not SIG_IGN: kernels would
    # inherit that.
    signal.signal(signal.SIGINT, lambda number, frame: None)


def _stop(number, frame):
    if not _stopped.is_set():  # once, as papermill shuts its kernel down on the way out
        _stopped.set()
        raise SystemExit


def execute(job: Job, out: Path, staging: Path) -> Outcome:
    """Run one job in this process. Its files get their final names, each at once, after its last cell has succeeded."""
    if _stopped.is_set():
        raise SystemExit
    staged = staging / job.name  # laid out like `out`
    figures, notebook = staged / "figures", staged / "notebooks" / f"{job.name}.ipynb"
    kept, failed = out / "notebooks" / notebook.name, out / "failed" / notebook.name
    figures.mkdir(parents=True)
    notebook.parent.mkdir()
    failed.unlink(missing_ok=True)  # of an earlier run
    start = time.perf_counter()
    try:
        _execute_notebook(job, notebook, figures)
        names = tuple(sorted({path.stem for path in figures.iterdir()}))
        _stamp(job.notebook, figures)
        _name_finally(notebook, staged, out)
        _publish(staged, out)
    except Exception as error:
        problem = _describe(error, notebook)
        if notebook.exists():
            _move(notebook, failed)
        return Outcome(job, time.perf_counter() - start, (), problem, failed if failed.exists() else None)
    return Outcome(job, time.perf_counter() - start, names, None, kept)


def _stamp(notebook, figures):
    for path in filter(is_record, figures.glob("*.json")):
        stamp(path, identity(notebook, json.loads(path.read_text())["parameters"]))


def _execute_notebook(job, notebook, figures):
    import papermill  # here, because it is slow to import and `srlib list` does not need it

    papermill.execute_notebook(
        _literal(job.notebook),
        _literal(notebook),
        {**job.parameters, "output_dir": str(figures)},
        cwd=job.notebook.parent,
        progress_bar=False,
        shutdown_kernel="immediate",  # a kernel asked to stop on Ctrl-C prints tracebacks, a killed one does not
        extra_arguments=["--log-level=CRITICAL"],  # the kernel's: it would warn of unencrypted TCP at every start
    )


def _literal(path):
    """Return a path as papermill wants it, which takes it for a format string."""
    return str(path).replace("{", "{{").replace("}", "}}")


def _name_finally(notebook, staged, out):
    """Let an executed notebook, which knows only its staging directory, say where its files will be."""
    text = notebook.read_text(encoding="utf-8")
    for written in (str, _escaped):
        text = text.replace(written(staged), written(out))
    notebook.write_text(text, encoding="utf-8")


def _escaped(path):
    """Return a path as it is in a notebook's file where papermill has put it into a cell."""
    return json.dumps(str(path).encode("unicode_escape").decode())[1:-1]


def _publish(staged, out):
    for path in sorted(staged.rglob("*")):  # so the notebook comes after its figures
        if path.is_file():
            _move(path, out / path.relative_to(staged))


def _move(path, target):
    target.parent.mkdir(parents=True, exist_ok=True)
    os.replace(path, target)


def _describe(error, notebook):
    """Return the failure of a notebook in one line, with the number that Jupyter gives the cell."""
    from nbclient.exceptions import DeadKernelError
    from papermill import PapermillExecutionError

    if isinstance(error, PapermillExecutionError):
        return f"cell [{error.exec_count}]: {error.ename}: {_first_line(error.evalue)}"
    if isinstance(error, DeadKernelError):
        return f"cell [{_cells_started(notebook)}]: the kernel died"
    return _one_line(error)


def _cells_started(notebook):
    import nbformat

    code = [cell for cell in nbformat.read(notebook, as_version=4).cells if cell.cell_type == "code"]
    return sum(bool(cell.source.strip()) and cell.metadata.papermill.start_time is not None for cell in code)


def _one_line(error):
    return f"{type(error).__name__}: {_first_line(str(error))}"


def _first_line(text):
    return next((line.strip() for line in text.splitlines() if line.strip()), "")
