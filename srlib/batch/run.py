"""Running a batch: jobs that are up to date are left alone, the others go to an executor as soon as they may."""

import os
import re
import shutil
import socket
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import psutil

from srlib.batch.manifest import made_from, reason_to_run
from srlib.batch.plan import Job
from srlib.batch.store import Store
from srlib.batch.supervise import STOP, Outcome, Task, perform

_LOOK_EVERY = 0.25  # seconds
_END_WITHIN = 20.0
_CONNECT_WITHIN = 10.0
_SILENT_FOR = 3.0
_STAGING = ".staging-"
_MADE = re.compile(re.escape(_STAGING) + r"(?P<host>.+)-(?P<process>\d+)-(?P<began>\d+)-\w+")
_BEAT_EVERY, _DEAD_AFTER = 10.0, 300.0  # seconds
_SLACK = 60.0  # of a clock that has been set


def run_jobs(
    jobs: Sequence[Job],
    store: Store,
    staging: Path,
    executor: Executor,
    *,
    share: int = 1,
    timeout: float | None = None,
    force: bool = False,
    keep_going: bool = False,
    watch: Callable[[], None] = lambda: None,
) -> Iterator[Outcome]:
    """Run the jobs and yield what becomes of each, in the order in which they finish.

    Parameters
    ----------
    jobs : sequence of Job
        What to run; the jobs that one needs are among them.
    store : Store
        Where results go: ``figures/``, ``notebooks/``, ``manifests/``, and ``failed/`` for notebooks executed in part
        and the figures that these have made.
    staging : Path
        Of `staging_directory`.
    executor : concurrent.futures.Executor
        What runs `perform`: threads, or a cluster.
    share, timeout
        As in `Task`.
    force : bool
        Run what is up to date, too.
    keep_going : bool
        Start further jobs after one has failed. Those that need a failed one are not run in any case.
    watch : callable
        Called a few times a second.
    """
    waiting, running, ended, next_beat = list(jobs), {}, {}, 0.0
    try:
        while waiting or running:
            if time.monotonic() >= next_beat:
                _beat(staging)
                next_beat = time.monotonic() + _BEAT_EVERY
            for job in [job for job in waiting if all(need.name in ended for need in job.needs)]:
                waiting.remove(job)
                lost = [need.name for need in job.needs if ended[need.name].state not in ("ok", "up to date")]
                if lost:
                    ended[job.name] = Outcome(job, "not run", problem=f"needs {', '.join(lost)}")
                elif not force and _is_up_to_date(job, store):
                    ended[job.name] = Outcome(job, "up to date")
                else:
                    task = Task(job, store.place, str(staging), share, timeout, keep_going)
                    running[executor.submit(perform, task)] = job
                    continue
                yield ended[job.name]
            done, _ = wait(running, _LOOK_EVERY, FIRST_COMPLETED) if running else ((), ())
            for future in done:
                job = running.pop(future)
                ended[job.name] = _result(future, job)
                yield ended[job.name]
            watch()
    except BaseException:
        with suppress(OSError):
            (staging / STOP).touch()
        wait([future for future in running if not future.cancel()], _END_WITHIN)
        raise


def _is_up_to_date(job, store):
    try:
        return reason_to_run(job, made_from(job), store) is None
    except (OSError, SyntaxError, ValueError):  # which the job itself will meet, and tell
        return False


def _result(future: Future, job):
    try:
        return future.result()
    except Exception as error:  # not the notebook's failure: what ran it has died
        killed = getattr(error, "allowed_failures", None)
        if killed is not None:  # Dask's KilledWorker
            return Outcome(job, "failed", problem=f"given up: {killed + 1} workers died while they ran it")
        return Outcome(job, "failed", problem=f"{type(error).__name__}: {error}".splitlines()[0])


@contextmanager
def staging_directory(store: Store) -> Iterator[Path]:
    """Make a directory in which jobs write until they have succeeded, and remove it afterwards.

    It lies in the store where that is local, and lets no other batch write there at the same time. What batches that
    were killed have left there is removed.

    Raises
    ------
    OSError
        If it cannot be made.
    RuntimeError
        If another batch is writing to the store.
    """
    if store.local is not None:
        store.local.mkdir(parents=True, exist_ok=True)
    prefix = f"{_STAGING}{socket.gethostname()}-{os.getpid()}-{time.time_ns()}-"
    directory = Path(tempfile.mkdtemp(prefix=prefix, dir=store.local))
    try:
        if store.local is not None:
            _check_alone(store.local, directory)
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _beat(staging):
    """Let others see that the batch of a staging directory is running: by when that was last changed."""
    with suppress(OSError):
        os.utime(staging)


def _check_alone(place, own):
    """Raise RuntimeError if a batch that began before ours is writing to a place; remove what dead ones have left."""
    now = own.stat().st_mtime  # by the clock of the file system
    batches = {path: made for path in place.glob(f"{_STAGING}*") if (made := _MADE.fullmatch(path.name))}
    ours = int(batches.pop(own)["began"])
    for left, made in sorted(batches.items()):
        host, process, began = made["host"], int(made["process"]), int(made["began"])
        if not _is_running(left, host, process, began / 1e9, now):
            shutil.rmtree(left, ignore_errors=True)
        elif began < ours:
            raise RuntimeError(f"process {process} on {host} is writing there; wait until it has ended")


def _is_running(staging, host, process, began, now):
    """Tell whether a batch has not ended: by its process, or on another machine by its last beat."""
    if host == socket.gethostname():
        with suppress(psutil.Error):
            return psutil.Process(process).create_time() <= began + _SLACK  # else its number is another's by now
        return False
    with suppress(OSError):
        return now - staging.stat().st_mtime < _DEAD_AFTER
    return False


def _wait_for_workers(client, say):
    since, told = time.monotonic(), False
    while not (workers := client.scheduler_info()["workers"]):
        if not told and time.monotonic() - since > _SILENT_FOR:
            say()
            told = True
        time.sleep(_LOOK_EVERY)
    return workers.values()


@contextmanager
def dask_executor(address: str, say: Callable[[str], None]) -> Iterator[tuple[Executor, int]]:
    """Connect to a Dask scheduler; yield an executor, and how many jobs at most share one of its machines.

    Where it has no workers, wait for one, and `say` so after a few seconds.

    Raises
    ------
    RuntimeError
        If `dask.distributed` is not installed, or there is no scheduler at the address.
    """
    try:
        from distributed import Client
    except ImportError as error:
        raise RuntimeError(f"a scheduler needs dask.distributed, the extra 'cluster' ({error})") from None
    with ExitStack() as stack:
        try:
            client = stack.enter_context(Client(address, timeout=_CONNECT_WITHIN))
            workers = _wait_for_workers(client, lambda: say(f"{address} has no workers; waiting for one"))
        except (OSError, TimeoutError, ValueError) as error:
            raise RuntimeError(f"no scheduler at {address} ({error})") from None
        yield client.get_executor(pure=False), max(worker["nthreads"] for worker in workers)
