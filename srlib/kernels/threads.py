"""Work that is shared out to threads, whose number changes no bit."""

import os
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

import numba
from numba.np.ufunc import parallel

BLOCK = 1024  # elements at a time: what a block needs stays in the first-level cache


SMALL = 1 << 17  # fewer elements are not worth a second thread


def in_threads(size, span, work=None, unit=BLOCK):
    """Call span(begin, end) on parts of range(size), in as many threads as Numba would use.

    `work` counts elementary operations, `size` unless given; parts begin at multiples of `unit`.
    """
    if (size if work is None else work) < SMALL:
        span(0, size)
        return
    threads = _count()
    part = -(-size // (threads * unit)) * unit
    if part >= size:
        span(0, size)
        return
    list(_pool(os.getpid(), threads).map(lambda begin: span(begin, min(begin + part, size)), range(0, size, part)))


def _count():
    """Return what numba.get_num_threads() says, without starting Numba's own threads, which fixes their number."""
    return numba.get_num_threads() if parallel._is_initialized else numba.config.NUMBA_NUM_THREADS


@lru_cache(maxsize=1)
def _pool(process, threads):  # a forked process has none of its parent's threads
    return ThreadPoolExecutor(threads, thread_name_prefix="srlib")
