"""Speed of `round_to` on a GPU: its share of the bandwidth of a copy on the device, with CuPy's own timer."""

import json
from pathlib import Path

import click

from srlib import Philox, round_to

SCHEMES = ("RN", "SR", "SR_eps(0.1)", "signed_SR_eps(0.1)")


def seconds(function):
    """Return the shortest time that the GPU took for a call."""
    from cupyx.profiler import benchmark

    return float(benchmark(function, n_repeat=20, n_warmup=3).gpu_times.min())


def measure(dtype, size, fmt):
    """Return gigabytes a second of a copy and of each scheme, and their share of the copy's."""
    import cupy

    x = cupy.random.default_rng(1).standard_normal(size, dtype=dtype)
    v, out = -x, cupy.empty_like(x)
    copied = 2 * x.nbytes / seconds(lambda: cupy.copyto(out, x)) / 1e9
    row = {"dtype": dtype, "size": size, "format": fmt, "copy (GB/s)": copied}
    for scheme in SCHEMES:
        arrays = 3 if scheme.startswith("signed") else 2
        rng = Philox(1)
        time = seconds(lambda scheme=scheme, rng=rng: round_to(x, fmt, scheme, rng, v=v, out=out))
        row[f"{scheme} (GB/s)"] = arrays * x.nbytes / time / 1e9
        row[f"{scheme} / copy"] = row[f"{scheme} (GB/s)"] / copied
    return row


@click.command()
@click.option("--out", type=click.Path(path_type=Path), default=Path("build"), show_default=True)
def main(out):
    """Time rounding of 10^8 elements; write OUT/gpu.json."""
    try:
        import cupy

        name = cupy.cuda.runtime.getDeviceProperties(0)["name"].decode()
    except Exception as error:
        raise click.ClickException(f"needs CuPy and a GPU: {error}") from None
    rows = [measure(dtype, 10**8, fmt) for dtype in ("float32", "float64") for fmt in ("binary8", "bfloat16")]
    print(name)
    for row in rows:
        print(*(f"{key}: {value:.3g}" if isinstance(value, float) else value for key, value in row.items()), sep="  ")
    out.mkdir(parents=True, exist_ok=True)
    (out / "gpu.json").write_text(
        json.dumps({"gpu": name, "command": "make bench-gpu", "rows": rows}, indent=1) + "\n", encoding="utf-8"
    )


if __name__ == "__main__":
    main()
