"""One job from start to end: a process that runs its notebook, watched; its results named finally when it succeeds."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import psutil

from srlib.batch.identity import code_of, combined, hash_of
from srlib.batch.manifest import as_bytes, made_from, manifest_name, read_manifest
from srlib.batch.plan import PIECES, Job
from srlib.batch.store import Store
from srlib.companion.records import is_record, stamp, write_atomically

STOP, STATUS, FAILED, PROGRESS = "stop", "status.json", "failed", "progress"
_THREAD_LIMITS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
_OF_A_SESSION = re.compile(
    "MPLBACKEND|MATPLOTLIBRC|IPYTHON|JPY_|JUPYTER_(?!RUNTIME)|PYTHON(STARTUP|OPTIMIZE|WARNINGS|DEVMODE|INSPECT|IOENC)"
)
_WORKER = Path(__file__).with_name("worker.py")
_ORDER, _ANSWER = "task.json", "answer"
_MOST_ATTEMPTS = 3
_LOOK_EVERY = 0.1  # seconds
_SHARE_OF_LOOKS = 0.01  # of a core, at most: where there are thousands of processes a look is slow
_TELL_EVERY = 0.5


@dataclass(frozen=True)
class Task:
    """A job, and how it is to be run; it can be sent to another machine.

    Attributes
    ----------
    job : Job
    out : str
        Path or URL of the results.
    staging : str
        A directory of this batch, on the file system of `out` if that is local. A file `STOP` there ends the job.
    share : int
        How many jobs share the cores of a machine.
    timeout : float or None
        Seconds after which the job is ended.
    keep_going : bool
        Whether to start it after another job of the batch has failed.
    """

    job: Job
    out: str
    staging: str
    share: int
    timeout: float | None
    keep_going: bool


@dataclass(frozen=True)
class Outcome:
    """What became of a job.

    Attributes
    ----------
    job : Job
    state : {"ok", "up to date", "failed", "not run"}
    seconds : float
    memory : int
        The most bytes that its processes held together, as seen several times a second; less often on a machine with
        thousands of processes.
    figures : tuple of str
        Names of the figures that it made; empty after a failure.
    problem : str or None
        Why it failed or was not run, in one line; None after success.
    notebook, log : str or None
        Where the executed notebook is, partly executed after a failure, and then the log; None if there is none.
    """

    job: Job
    state: str
    seconds: float = 0.0
    memory: int = 0
    figures: tuple[str, ...] = ()
    problem: str | None = None
    notebook: str | None = None
    log: str | None = None


class Stopped(Exception):
    """The batch has been told to stop."""


def perform(task: Task) -> Outcome:
    """Run a job. Each of its files gets its final name at once, after the last cell has succeeded; the manifest last.

    Raises
    ------
    Stopped
        If there is a file `STOP` in the staging directory, or that is gone.
    """
    store, staging = Store(task.out), Path(task.staging)
    if store.local is None and not staging.is_dir():  # another machine than the one that sent the task
        with tempfile.TemporaryDirectory(prefix="srlib-") as directory:
            return _perform(task, store, Path(directory))
    if not staging.is_dir():
        raise Stopped(f"{socket.gethostname()} sees no {staging}: the batch has ended, or that is not shared")
    return _perform(task, store, staging)


def _perform(task, store, staging):
    if (staging / FAILED).exists() and not task.keep_going:
        return Outcome(task.job, "not run", problem="another job has failed")
    started, start = datetime.now(UTC), time.monotonic()
    prefix = f"{task.job.name.replace('/', '+')}@"
    attempts = sum(path.name.startswith(prefix) for path in staging.iterdir())
    if attempts == _MOST_ATTEMPTS:  # their directories are there, so they came to no end
        problem = f"given up: {attempts} workers died while they ran it"
        return Outcome(task.job, "failed", problem=problem)
    staged = Path(tempfile.mkdtemp(prefix=prefix, dir=staging))
    try:
        origin = made_from(task.job)  # now, since files may have changed while the job waited for its turn
        code = code_of(task.job.notebook, origin["parameters"].get("backend"))
        watched = _Watched(task, staged, staging)
        problem = watched.run()
        figures = tuple(sorted({path.stem for path in (staged / "figures").iterdir()}))
        spent = {"seconds": round(time.monotonic() - start, 3), "memory": watched.memory}
        when = {"started": started.isoformat(timespec="seconds"), "machine": socket.gethostname(), **spent}
        manifest = {"job": task.job.stem, **when, "made_from": origin}
        if problem is None:
            try:
                _publish(task, store, staged, manifest, code)
                kept = store.path(task.job.below(f"notebooks/{task.job.stem}.ipynb"))
                return Outcome(task.job, "ok", **spent, figures=figures, notebook=kept)
            except (OSError, ValueError) as error:
                problem = f"{type(error).__name__}: {error}"
        with suppress(OSError):
            (staging / FAILED).touch()
        kept = _keep_failed(task, store, staged, manifest | {"problem": problem})
        return Outcome(task.job, "failed", **spent, problem=problem, **kept)
    finally:
        shutil.rmtree(staged, ignore_errors=True)


class _Watched:
    """The process of a job, and what is known of it."""

    def __init__(self, task, staged, staging):
        self.task, self.staged, self.staging = task, staged, staging
        self.memory, self._family = 0, []
        self._began, self._began_at = time.monotonic(), time.time()  # a clock for durations, one for people
        self._next_look = self._next_word = 0.0  # seconds after the beginning

    def run(self):
        """Run it to its end; return None if the notebook has succeeded, else why not in one line."""
        # Not in the staging directory: the path of a socket must be short.
        with tempfile.TemporaryDirectory(prefix="srlib-", ignore_cleanup_errors=True) as sockets:
            return self._watch(self._begin(sockets))

    def _watch(self, process):
        try:
            while process.poll() is None:
                self._look(process)
                if self._is_stopped():
                    raise Stopped("the batch has been told to stop")
                if self.task.timeout is not None and self._seconds() > self.task.timeout:
                    return f"cell [{self._progress()[0]}]: took more than {self.task.timeout:g} s in all"
                time.sleep(_LOOK_EVERY)
            answer = (self.staged / _ANSWER).read_text(encoding="utf-8", errors="replace").strip()
            if process.returncode < 0:
                return f"its process was killed by signal {-process.returncode}"
            return answer or (None if process.returncode == 0 else f"its process ended with {process.returncode}")
        finally:
            family = {*self._family, *_processes(process.pid)}
            _kill(family | _in_sessions({process.pid, *(member.pid for member in family), *self._progress()[2:]}))
            process.kill()  # also if psutil has lost sight of it
            process.wait()

    def _begin(self, sockets):
        job, figures = self.task.job, self.staged / "figures"
        figures.mkdir()
        notebook = self.staged / f"{job.stem}.ipynb"
        parameters = dict(job.parameters) | {"output_dir": str(figures)}
        arguments = {"notebook": str(job.notebook), "staged": str(notebook), "parameters": parameters}
        arguments |= {"sockets": sockets, "progress": str(self.staged / PROGRESS)}
        order = self.staged / _ORDER
        order.write_text(json.dumps({"arguments": arguments, "parent": os.getpid()}), encoding="utf-8")
        command = [sys.executable, "-P", str(_WORKER), str(order)]
        # Not a pipe: one that nobody reads before the end holds up who says much.
        with (self.staged / "log").open("wb") as log, (self.staged / _ANSWER).open("wb") as answer:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=answer,
                stderr=log,
                env=surroundings(self.task.share, sockets),
                start_new_session=True,  # what Ctrl-C in a terminal stops is the batch's to decide
            )

    def _look(self, process):
        now = self._seconds()
        if now >= self._next_look:
            begun = time.thread_time()
            self._family = _processes(process.pid)
            self.memory = max(self.memory, sum(map(_resident, self._family)))
            self._next_look = self._seconds() + (time.thread_time() - begun) / _SHARE_OF_LOOKS
        if now >= self._next_word:
            self._next_word = now + _TELL_EVERY
            cell, cells, *_ = self._progress()
            status = {
                "job": self.task.job.name,
                "cell": cell,
                "cells": cells,
                "seconds": now,
                "started": self._began_at,
            }
            with suppress(OSError):  # a full disk is the notebook's to report
                write_atomically(self.staged / STATUS, json.dumps(status | {"memory": self.memory}).encode())

    def _seconds(self):
        return time.monotonic() - self._began

    def _is_stopped(self):
        # The order is gone when the staging directory has been removed, even if this job has written there since.
        return (self.staging / STOP).exists() or not (self.staged / _ORDER).exists()

    def _progress(self):
        """Return how many cells have been started, how many there are, and the kernel's process, as the worker says."""
        with suppress(OSError, ValueError):
            started, cells, *processes = map(int, (self.staged / PROGRESS).read_text(encoding="utf-8").split())
            return started, cells, *processes
        return 0, 0


def surroundings(share: int, ipython: str) -> dict[str, str]:
    """Return the environment of a job: without what a session or a person has set for their own work.

    Parameters
    ----------
    share : int
        How many jobs share this machine.
    ipython : str
        A directory in place of IPython's own, with its profiles.
    """
    kept = {name: value for name, value in os.environ.items() if not _OF_A_SESSION.match(name)}
    home = str(Path(__file__).parents[2])
    if home not in sysconfig.get_paths().values():  # a checkout: the code that the manifest is about
        kept["PYTHONPATH"] = os.pathsep.join([home, *filter(None, [kept.get("PYTHONPATH")])])
    return thread_limits(share) | kept | {"MATPLOTLIBRC": os.devnull, "IPYTHONDIR": ipython}


def thread_limits(share: int) -> dict[str, str]:
    """Return the variables that limit the threads of one of so many processes that share this machine."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return dict.fromkeys(_THREAD_LIMITS, str(max(1, cores // share)))


def _processes(pid):
    """Return a process and all that come from it."""
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.Error:
        return []


def _in_sessions(leaders):
    """Return the processes of some sessions, also those that have lost their parent since the last look."""
    found = set()
    for process in psutil.process_iter() if hasattr(os, "getsid") else ():
        with suppress(OSError):
            if os.getsid(process.pid) in leaders:
                found.add(process)
    return found


def _resident(process):
    try:
        return process.memory_info().rss
    except psutil.Error:
        return 0


def _kill(processes):
    for process in processes:
        with suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(processes, timeout=5)


def _publish(task, store, staged, manifest, code):
    """Give the results their final names, the manifest last, and remove what an earlier run made and this did not."""
    job, figures = task.job, staged / "figures"
    for path in filter(is_record, figures.glob("*.json")):
        parameters = json.loads(path.read_text(encoding="utf-8"))["parameters"]
        stamp(path, combined(code, manifest["made_from"]["data"], parameters))
    notebook = _tidied(staged / f"{job.stem}.ipynb", figures, "../figures", store, job)
    files = {f"figures/{path.relative_to(figures)}": path for path in sorted(figures.rglob("*")) if path.is_file()}
    files[f"notebooks/{job.stem}.ipynb"] = notebook
    outputs = {name: hash_of(path) for name, path in files.items()}
    before = read_manifest(store, manifest_name(job)) or {"outputs": {}}
    for name, path in files.items():
        store.take(path, job.below(name))
    for name in before["outputs"].keys() - outputs.keys():
        store.remove(job.below(name))
    store.write(manifest_name(job), as_bytes(manifest | {"outcome": "ok", "outputs": outputs}))
    _forget_failed(store, job)


def _forget_failed(store, job):
    """Remove what is kept of an earlier failure."""
    before = read_manifest(store, job.below(f"failed/{job.stem}.json")) or {"outputs": {}}
    names = [f"failed/{job.stem}.{suffix}" for suffix in ("ipynb", "log", "json")]
    for name in [*before["outputs"], *names]:
        store.remove(job.below(name))
    if store.local is not None:
        with suppress(OSError):  # it is not there, or another program has put something into it
            (store.local / job.below(f"failed/{job.stem}")).rmdir()


def _keep_failed(task, store, staged, manifest):
    """Keep notebook and figures as far as it got, its log and what is known of the failure; return where."""
    job, figures, kept, outputs = task.job, staged / "figures", {}, {}
    with suppress(OSError):
        _forget_failed(store, job)
        notebook = staged / f"{job.stem}.ipynb"
        if notebook.exists():
            with suppress(ValueError):  # it could not be written as a whole
                _tidied(notebook, figures, job.stem, store, job)
        for path in sorted(path for path in figures.rglob("*") if path.is_file()):
            name = f"failed/{job.stem}/{path.relative_to(figures)}"
            outputs[name] = hash_of(path)
            store.take(path, job.below(name))
        for what, suffix, path in (("notebook", "ipynb", notebook), ("log", "log", staged / "log")):
            if path.exists():
                name = job.below(f"failed/{job.stem}.{suffix}")
                store.take(path, name)
                kept[what] = store.path(name)
        made = {"outcome": "failed", "outputs": outputs}
        store.write(job.below(f"failed/{job.stem}.json"), as_bytes(manifest | made))
    return kept


def _tidied(path, figures, place, store, job):
    """Let an executed notebook say that its figures are in `place`, and nothing of when and where it was run.

    The same job gives the same bytes, wherever its results go.
    """
    import nbformat  # here, because it is slow to import and `srlib --help` does not need it

    up = "/".join([".."] * (1 + job.place.count("/") + bool(job.place)))
    replaced = {str(figures): place}
    if store.local is not None:
        replaced[f"{os.path.relpath(store.local, job.notebook.parent)}/{PIECES}"] = f"{up}/{PIECES}"
    content = _moved(json.loads(path.read_text(encoding="utf-8")), {**replaced, store.place: up})
    notebook = nbformat.reads(json.dumps(content), as_version=4)
    notebook.metadata.pop("papermill", None)
    for cell in notebook.cells:
        cell.metadata.pop("papermill", None)
        cell.metadata.pop("execution", None)
        if "injected-parameters" in cell.metadata.get("tags", ()):
            cell.id = "injected-parameters"
            cell.metadata["jupyter"] = {"source_hidden": True}
            cell.metadata["tags"] += ["hide-input"]
    write_atomically(path, nbformat.writes(notebook).encode())
    return path


def _moved(content, places):
    """Return what a JSON file holds with some paths replaced, in texts and in the code that papermill has written.

    A path that only ends or begins with the same letters is another.
    """
    if isinstance(content, dict):
        return {key: _moved(value, places) for key, value in content.items()}
    if isinstance(content, list):
        return [_moved(value, places) for value in content]
    if isinstance(content, str):
        for here, there in places.items():
            for written in {here, here.encode("unicode_escape").decode()} - {"/"}:
                content = re.sub(rf"(?<![\w./~-]){re.escape(written)}(?!\.?[\w-])", lambda _, to=there: to, content)
    return content
