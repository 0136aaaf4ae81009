"""What the benchmarks share: times, threads, and what machine it is."""

import platform
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from time import perf_counter

import numba
import numpy as np

from srlib.kernels import cpu


def best(function, repeats=9, budget=3.0):
    """Return the shortest of some times, in seconds, after one call that is not timed.

    Short calls are repeated for a millisecond at a time; long ones are timed twice at least, within the budget.
    """
    function()
    start = perf_counter()
    function()
    once = perf_counter() - start
    calls = max(1, int(1e-3 / max(once, 1e-9)))
    times = [once]
    for _ in range(max(1, min(repeats, int(budget / max(once, 1e-9))))):
        start = perf_counter()
        for _ in range(calls):
            function()
        times.append((perf_counter() - start) / calls)
    return min(times)


def least(timed, rounds=5):
    """Return the least of some times of each of a dict of functions that return a time, taken in turn."""
    times = [{name: time() for name, time in timed.items()} for _ in range(rounds)]
    return {name: min(row[name] for row in times) for name in timed}


def copy(x, out, threads):
    """Return the time of a copy in so many threads."""
    ends = np.linspace(0, x.size, threads + 1).astype(int)
    spans = [slice(start, end) for start, end in pairwise(ends)]
    if threads == 1:
        return best(lambda: np.copyto(out, x))
    with ThreadPoolExecutor(threads) as pool:
        return best(lambda: list(pool.map(lambda span: np.copyto(out[span], x[span]), spans)))


@numba.njit(nogil=True)
def _fill(words, blocks):
    for block in range(blocks):
        cpu.fill_words(words, np.uint64(block), np.uint64(0), np.uint64(0), np.uint64(1))


def fill(size, threads):
    """Return the time in which so many threads make a Philox word for each element, all in cache."""
    words = np.empty((threads, 1024), np.uint32)
    blocks = -(-size // (threads * 1024))
    if threads == 1:
        return best(lambda: _fill(words[0], blocks))
    with ThreadPoolExecutor(threads) as pool:
        return best(lambda: list(pool.map(lambda part: _fill(part, blocks), words)))


def machine():
    """Return what the times depend on."""
    found = {"system": platform.system(), "python": platform.python_version(), "numpy": np.__version__}
    found |= {"numba": numba.__version__, "threads": numba.config.NUMBA_NUM_THREADS}
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines() if Path("/proc/cpuinfo").exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    features = {word for line in lines if line.startswith("flags") for word in line.split() if word.startswith("avx")}
    return found | {"processor": models[0] if models else platform.machine(), "simd": sorted(features)}
