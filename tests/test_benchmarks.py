"""That the benchmarks run and write what they say; none asserts a time."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


def run(name, *options):
    command = [sys.executable, BENCHMARKS / f"{name}.py", *map(str, options)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_the_kernels_are_timed_beside_their_floor_and_peers(tmp_path):
    said = run("rounding", "--largest", 3, "--out", tmp_path)
    assert said.returncode == 0, said.stderr
    found = json.loads((tmp_path / "rounding.json").read_text())
    assert found["machine"]["processor"] and (tmp_path / "rounding.png").stat().st_size > 0
    assert {row["dtype"] for row in found["kernels"]} == {"float32", "float64"}
    assert all(row["floor"] == max(row["copy"], row["words"]) > 0 for row in found["kernels"])
    text = (tmp_path / "rounding.md").read_text()
    assert text in said.stdout and found["machine"]["processor"] in text
    assert {"srlib, SR", "ml_dtypes, RN", "gfloat, RN", "NumPy by hand, SR"} <= found["peers"]["rows"][0].keys()


@pytest.mark.slow
def test_an_epoch_is_timed_beside_its_matrix_products():
    said = run("epoch", "--images", 300, "--replicates", 2)
    assert said.returncode == 0, said.stderr
    assert said.stdout.count("the limit") == 2


def test_without_a_gpu_its_benchmark_says_so_in_one_line(tmp_path):
    said = run("gpu", "--out", tmp_path)
    if said.returncode:
        assert said.stderr.startswith("Error: needs CuPy and a GPU: ") and len(said.stderr.splitlines()) == 1
    else:
        assert json.loads((tmp_path / "gpu.json").read_text())["rows"]


def test_the_speeds_that_are_told_are_those_of_the_committed_benchmarks():
    readme, guide = (
        " ".join((BENCHMARKS.parent / name).read_text().split()) for name in ("README.md", "docs/kernels.md")
    )
    schemes, ratios, calls = ("SR", "SR_eps(0.1)", "signed_SR_eps(0.1)"), {}, {}
    for place in ("", "avx2"):
        found = json.loads((BENCHMARKS / place / "rounding.json").read_text())
        for row in found["kernels"]:
            if (row["size"], row["threads"]) == (10**7, 2):
                ratios[place, row["dtype"]] = [f"{row[name] / row['floor']:.1f}" for name in schemes]
                if (place, row["dtype"]) == ("", "float32"):
                    time = f"{row['SR']:.2f}"
            if (row["size"], row["threads"]) == (1000, 1):
                calls[place] = max(calls.get(place, 0.0), *(row[name] for name in schemes))
        if not place:
            single = found["peers"]["rows"][0]
            assert min(single["gfloat, SR of 8 bits"], single["pychop, SR"]) > 100 * single["srlib, SR"]
    single, double = ratios["", "float32"], ratios["", "float64"]
    assert f"float32 to binary8 takes {time} ns per element with SR, {single[0]} times the floor" in readme
    assert f"takes {time} ns per element with SR (10⁷ elements): {single[0]} times the floor" in guide
    assert f"SR<sub>ε</sub> takes {single[1]}, signed-SR<sub>ε</sub> {single[2]} times the floor;" in guide
    assert f"float64 takes {double[0]}, {double[1]} and {double[2]} times its own. A call on 1000" in guide
    assert f"takes {calls['']:.0f} µs." in guide and f"and {calls['avx2']:.0f} µs per call" in guide
    slower = [f"{a}, {b} and {c} times" for a, b, c in (ratios["avx2", "float32"], ratios["avx2", "float64"])]
    assert f"it is {slower[0]} the floor for float32, {slower[1]} for float64" in guide
