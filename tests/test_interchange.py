"""Arrays and data types of other libraries: shared without a copy, rounded in place, converted without change."""

import json
from pathlib import Path

import array_api_strict
import ml_dtypes
import numpy as np
import pytest

from srlib import Format, Philox, round_to

CELLS = json.loads((Path(__file__).parents[1] / "notebooks" / "13_your_own_problem.ipynb").read_text())["cells"]
(TORCH_CELL,) = (
    "".join(c["source"]) for c in CELLS if c["cell_type"] == "code" and "import torch" in "".join(c["source"])
)


def test_an_array_of_a_dlpack_library_is_rounded_where_it_is():
    own = np.random.default_rng(1).standard_normal(1000).astype(np.float32)
    expected = round_to(own.copy(), "binary8", "SR", Philox(3))
    view = np.from_dlpack(array_api_strict.from_dlpack(own))
    assert np.shares_memory(view, own)
    round_to(view, "binary8", "SR", Philox(3), out=view)
    assert np.array_equal(own, expected)


@pytest.mark.parametrize("dtype", [ml_dtypes.float8_e5m2, ml_dtypes.float8_e4m3fn, ml_dtypes.bfloat16, np.float16])
def test_what_is_rounded_to_a_data_type_converts_to_it_without_change(dtype):
    x = np.random.default_rng(2).standard_normal(10_000).astype(np.float32)
    rounded = round_to(x, dtype, "SR", Philox(3))
    assert np.array_equal(rounded.astype(dtype).astype(np.float32), rounded)
    assert Format.parse(np.dtype(dtype)) == Format.parse(dtype)


def test_a_pytorch_tensor_is_rounded_as_such_and_in_place():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: its tensors were not tried")
    x = torch.arange(-40, 40, dtype=torch.float32) / 7
    expected = round_to(x.numpy().copy(), "binary8", "SR", Philox(3))
    nearest = round_to(x, "binary8")  # no random words as such: PyTorch cannot add uint64
    assert isinstance(nearest, torch.Tensor) and np.array_equal(nearest.numpy(), round_to(x.numpy(), "binary8"))
    view = x.numpy()
    round_to(view, "binary8", "SR", Philox(3), out=view)
    assert np.array_equal(x.numpy(), expected)


def test_the_pytorch_optimiser_of_the_notebook_keeps_its_parameters_in_the_format(capsys):
    pytest.importorskip("torch", reason="PyTorch is not installed: the optimiser was not run")
    import srlib

    words = np.random.default_rng(4)
    X = words.uniform(-0.5, 0.5, (200, 20))
    names = {"srlib": srlib, "seed": 1, "X": X, "y": (X[:, 0] > 0) * 1.0, "train": slice(0, 200)}
    exec(TORCH_CELL, names)
    for parameter in names["layer"].parameters():
        values = parameter.detach().numpy()
        assert np.array_equal(values, round_to(values, "binary8"))
    assert "loss after 20 steps" in capsys.readouterr().out
