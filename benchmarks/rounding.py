"""Speed of `round_to`: nanoseconds an element, against the kernel's floor and a peer, all in one process.

The floor of a fused kernel is the larger of two times: a copy of the same array, and a fill with as many Philox words
that stay in cache, both in as many threads as the kernel has.
"""

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import pairwise
from time import perf_counter

import click
import gfloat
import numba
import numpy as np
from gfloat.formats import format_info_ocp_e5m2

from srlib import Philox, cpu, round_to

PEER_SIZE = 10**5  # it takes too long on more


@numba.njit(nogil=True)
def _fill(words, blocks):
    for block in range(blocks):
        cpu.fill_words(words, np.uint64(block), np.uint64(0), np.uint64(0), np.uint64(1))


def best(function, repeats):
    """Return the shortest of some times, in seconds, after one call that is not timed."""
    function()
    times = []
    for _ in range(repeats):
        start = perf_counter()
        function()
        times.append(perf_counter() - start)
    return min(times)


def measure(dtype, size, repeats):
    """Return {what: nanoseconds an element} for copy, words, each scheme and the peer, and the floor."""
    threads = numba.get_num_threads()
    x = np.random.default_rng(1).standard_normal(size).astype(dtype)
    v, out, rng = -x, np.empty_like(x), Philox(1)
    words, blocks = np.empty((threads, 1024), np.uint32), -(-size // (threads * 1024))
    ends = np.linspace(0, size, threads + 1).astype(int)
    spans = [slice(start, end) for start, end in pairwise(ends)]

    def time(function):
        return best(function, repeats) / size * 1e9

    with ThreadPoolExecutor(threads) as pool:
        copy = time(lambda: list(pool.map(lambda span: np.copyto(out[span], x[span]), spans)))
        fill = time(lambda: list(pool.map(lambda part: _fill(part, blocks), words)))
    rows = {"copy": copy, "Philox words, in cache": fill}
    for scheme in ("RN", "SR", "SR_eps(0.1)", "signed_SR_eps(0.1)"):
        rows[f"round_to {scheme}"] = time(partial(round_to, x, "binary8", scheme, rng, v=v, out=out))
    few = x[:PEER_SIZE].astype(np.float64)
    rows["gfloat, RN"] = best(lambda: gfloat.round_ndarray(format_info_ocp_e5m2, few), 3) / len(few) * 1e9
    return rows, max(copy, fill)


@click.command()
@click.option("--size", default=10**7, show_default=True, help="Elements of the array.")
@click.option("--repeats", default=9, show_default=True, help="The shortest of so many times counts.")
def main(size, repeats):
    """Time rounding to binary8, `out=` given, in float32 and float64."""
    print(f"{size} elements, {numba.get_num_threads()} threads; ns an element, best of {repeats}")
    print(f"{'':30} {'ns':>7} {'/ copy':>7} {'/ floor':>8}")
    for dtype in (np.float32, np.float64):
        rows, floor = measure(dtype, size, repeats)
        print(np.dtype(dtype).name)
        for name, value in rows.items():
            print(f"  {name:28} {value:7.3f} {value / rows['copy']:7.2f} {value / floor:8.2f}")


if __name__ == "__main__":
    main()
