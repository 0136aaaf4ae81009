"""Speed of `round_to` and of what is made of it: nanoseconds an element, beside a copy, a floor and peers.

The floor of a fused kernel is the larger of two times, taken in as many threads as the kernel has: a copy of the same
array, and a fill of as many Philox words that stay in cache. Peers, which take long, are timed less often.
"""

import json
from functools import partial
from pathlib import Path

import click
import gfloat
import matplotlib.pyplot as plt
import ml_dtypes
import numba
import numpy as np
from gfloat.formats import format_info_ocp_e5m2
from timing import best, copy, fill, least, machine

from srlib import Arithmetic, Philox, round_to
from srlib.arithmetic import descend
from srlib.companion.figures import WIDTH, scheme_style, use_style
from srlib.companion.tables import table

SCHEMES = ("RN", "SR", "SR_eps(0.1)", "signed_SR_eps(0.1)")
FORMATS = ("binary8", "e4m3", "bfloat16", "binary16")
REALS = (np.float32, np.float64)


def arrays(dtype, size):
    """Return an array, a direction and room for a result."""
    x = np.random.default_rng(1).standard_normal(size, dtype=np.float32).astype(dtype, copy=False)
    return x, -x, np.empty_like(x)


def kernels(sizes):
    """Yield a row for each dtype, size and number of threads, to binary8 by all schemes."""
    for dtype in REALS:
        for size in sizes:
            x, v, out = arrays(dtype, size)
            for threads in range(1, numba.config.NUMBA_NUM_THREADS + 1):
                numba.set_num_threads(threads)
                row = {"dtype": np.dtype(dtype).name, "size": size, "threads": threads}
                timed = {"copy": partial(copy, x, out, threads), "words": partial(fill, size, threads)}
                for scheme in SCHEMES:
                    rounding = partial(round_to, x, "binary8", scheme, Philox(1), v=v, out=out)
                    timed[scheme] = partial(best, rounding)
                times = {name: time / size * 1e9 for name, time in least(timed).items()}
                yield row | times | {"floor": max(times["copy"], times["words"])}


def formats(size):
    """Yield a row for each format and few random bits: SR, float32, all threads."""
    x, _, out = arrays(np.float32, size)
    for fmt in FORMATS:
        for bits in (32, 8):
            time = best(partial(round_to, x, fmt, "SR", Philox(1, bits=bits), out=out))
            yield {"format": fmt, "bits": bits, "SR": time / size * 1e9}


def idiom(x, rng):
    """Round to binary8 as one does in NumPy alone; no subnormals, no overflow."""
    significand, exponent = np.frexp(x)
    return np.ldexp(np.floor(significand * 8 + rng.random(x.shape)), exponent - 3)


def peers(size):
    """Yield nanoseconds an element of other ways to round to binary8, for each dtype."""
    for dtype in REALS:
        x, _, out = arrays(dtype, size)
        timed = {name: partial(best, function, budget=0.5) for name, function in _ways(x, out).items()}
        yield {"dtype": np.dtype(dtype).name} | {name: t / size * 1e9 for name, t in least(timed, 3).items()}


def _ways(x, out):
    words = np.random.default_rng(1)
    info, stochastic = format_info_ocp_e5m2, gfloat.RoundMode.Stochastic
    bits = words.integers(0, 2**8, x.shape)
    return {
        "srlib, RN": lambda: round_to(x, "binary8", out=out),
        "srlib, SR": partial(round_to, x, "binary8", "SR", Philox(1), out=out),
        "ml_dtypes, RN": lambda: x.astype(ml_dtypes.float8_e5m2).astype(x.dtype),
        "NumPy by hand, SR": lambda: idiom(x, words),
        "gfloat, RN": lambda: gfloat.round_ndarray(info, x),
        "gfloat, SR of 8 bits": lambda: gfloat.round_ndarray(info, x, stochastic, srbits=bits, srnumbits=8),
    } | _pychop(x)


def _pychop(x):
    try:
        import pychop
    except ImportError:
        return {}
    pychop.backend("numpy")
    return {
        f"pychop, {name}": partial(pychop.Chop(exp_bits=5, sig_bits=2, rmode=mode, subnormal=True), x)
        for name, mode in (("RN", 1), ("SR", 5))
    }


def compounds(size):
    """Return seconds of a step of descent and of accumulated products, fused and not, in all threads."""
    rng = np.random.default_rng(1)
    x, g = (round_to(rng.standard_normal((20, size // 20)), "binary8") for _ in range(2))
    sites = [Arithmetic("binary8", scheme, Philox(1, 20)) for scheme in ("SR", "signed_SR_eps(0.1)")]
    sites[1] = Arithmetic("binary8", "signed_SR_eps(0.1)", sites[0].rng)

    def separate():
        u = sites[0].multiply(g, 0.5)
        return sites[1].subtract(x, u, v=u)

    a, b = (round_to(rng.standard_normal(shape), "binary8") for shape in ((128, 784), (784, 1024)))
    plain = Arithmetic("binary8", "SR", Philox(1))
    sums = a.shape[0] * b.shape[1] * a.shape[1]
    found = {
        "step, fused": best(lambda: descend(x, g, 0.5, *sites)) / size,
        "step, two operations": best(separate) / size,
        "copy": copy(x.reshape(-1), np.empty(size), numba.get_num_threads()) / size,
    }
    for scheme in ("RN", "SR"):
        options = {"accumulator": "bfloat16", "scheme": scheme}
        found[f"partial sum in bfloat16, {scheme}"] = best(lambda options=options: plain.matmul(a, b, **options)) / sums
    return {name: value * 1e9 for name, value in found.items()}


def draw(rows):
    """Return a figure of the times against size, with the floor, each in the number of threads that is fastest."""
    use_style()
    figure, axes = plt.subplots(1, 2, figsize=(WIDTH, 3.1), sharey=True)
    sizes = sorted({row["size"] for row in rows})
    for axis, dtype in zip(axes, REALS, strict=True):
        name = np.dtype(dtype).name

        def fastest(what, name=name):
            return [min(row[what] for row in rows if (row["dtype"], row["size"]) == (name, size)) for size in sizes]

        axis.fill_between(sizes, fastest("floor"), color="0.88", lw=0, label="floor")
        axis.plot(sizes, fastest("copy"), color="0.4", ls=":", label="copy")
        for scheme in SCHEMES:
            axis.plot(sizes, fastest(scheme), marker=".", ms=4, **scheme_style(scheme))
        axis.set(title=name, xlabel="elements", xscale="log", yscale="log")
    axes[0].set_ylabel("nanoseconds an element")
    figure.legend(*axes[0].get_legend_handles_labels(), ncols=3, loc="outside lower center")
    return figure


def rows_of_text(rows, names):
    """Return the columns with these names as a table in Markdown."""

    def text(value):
        return f"{value:.3g}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)

    return table([{name: text(row[name]) for name in names} for row in rows])


def _way(name):
    return "RN" if "RN" in name else "SR"


def report(found):
    """Return all that was found as Markdown."""
    machine, rows = found["machine"], found["kernels"]
    ratios = [row | {scheme: row[scheme] / row["floor"] for scheme in SCHEMES} for row in rows]
    size = found["peers"]["size"]
    compared = [
        {"dtype": row["dtype"], "to binary8": name, "ns": time, "by srlib": time / row[f"srlib, {_way(name)}"]}
        for row in found["peers"]["rows"]
        for name, time in row.items()
        if name != "dtype"
    ]
    compounds = [{"what": name, "ns": time} for name, time in found["compounds"].items()]
    versions = ", ".join(f"{name} {machine[name]}" for name in ("python", "numpy", "numba"))
    return "\n\n".join(
        [
            "# Speed",
            f"Nanoseconds an element, by `make bench` on {machine['processor']}, {machine['threads']} threads "
            f"({versions}).",
            "![Nanoseconds an element against size, with the floor](rounding.png)",
            "To binary8, `out=` given. The floor is the larger of a copy of the array and a fill of as many Philox "
            "words in cache, in as many threads, in the same run.",
            rows_of_text(rows, ["dtype", "size", "threads", "copy", "words", "floor", *SCHEMES]),
            "The same by the floor.",
            rows_of_text(ratios, ["dtype", "size", "threads", *SCHEMES]),
            "Other formats and fewer random bits: float32, SR.",
            rows_of_text(found["formats"], ["format", "bits", "SR"]),
            f"Peers: {size:,} elements.",
            rows_of_text(compared, ["dtype", "to binary8", "ns", "by srlib"]),
            "A step of descent x − t·g, its two roundings in one pass or in two (an element); sums of products with "
            "each partial sum rounded (a summand).",
            rows_of_text(compounds, ["what", "ns"]),
        ]
    )


@click.command()
@click.option("--largest", default=8, show_default=True, help="Power of ten of the largest size.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("build"), show_default=True)
def main(largest, out):
    """Time everything; print it and write it to OUT/rounding.json, rounding.md and rounding.png."""
    threads = numba.config.NUMBA_NUM_THREADS
    rows = list(kernels([10**power for power in range(3, largest + 1)]))
    numba.set_num_threads(threads)
    found = {"machine": machine(), "kernels": rows, "formats": list(formats(10 ** min(largest, 7)))}
    size = 10 ** min(largest, 7)
    found |= {"peers": {"size": size, "rows": list(peers(size))}, "compounds": compounds(10 ** min(largest, 6))}
    text = report(found)
    click.echo(text)
    out.mkdir(parents=True, exist_ok=True)
    (out / "rounding.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    (out / "rounding.md").write_text(text + "\n", encoding="utf-8")
    draw(rows).savefig(out / "rounding.png")


if __name__ == "__main__":
    main()
