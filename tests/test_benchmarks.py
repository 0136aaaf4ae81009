"""That the benchmarks run and write what they say; none asserts a time."""

import json
import subprocess
import sys
from pathlib import Path

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


def run(name, *options):
    command = [sys.executable, BENCHMARKS / f"{name}.py", *map(str, options)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


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
