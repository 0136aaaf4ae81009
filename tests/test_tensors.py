"""PyTorch tensors are rounded as the arrays of the same numbers, bit for bit: `make test-torch`."""

import re
import sys
from pathlib import Path

import numpy as np
import oracle
import pytest
from test_rounding import assert_same_bits

import srlib
from srlib import Philox, round_to

torch = pytest.importorskip("torch", reason="needs PyTorch: `make test-torch`")

DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
each_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=str)
each_scheme = pytest.mark.parametrize("scheme", oracle.SCHEMES)


def numbers(dtype, shape=(4, 60, 5), seed=1):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(shape) * np.exp2(rng.integers(-20, 20, shape))
    return torch.from_numpy(np.asarray(x)).to(dtype)


def as_array(tensor):
    """The numbers of a tensor as a NumPy array, of float32 for bfloat16."""
    tensor = tensor.detach().clone(memory_format=torch.contiguous_format)
    return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()


def expected(x, v, fmt, scheme, rng):
    return round_to(as_array(x), fmt, scheme, rng, v=as_array(v))


LAYOUTS = {
    "contiguous": lambda x: x,
    "transposed": lambda x: x.transpose(0, 2).contiguous().transpose(0, 2),
    "strided": lambda x: x.repeat_interleave(2, dim=1)[:, ::2],
    "a part": lambda x: torch.cat([x, x], dim=2)[..., 5:],
    "channels last": lambda x: x[..., None].contiguous(memory_format=torch.channels_last)[..., 0],
}


@each_dtype
@each_scheme
@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_a_tensor_has_the_bits_of_the_array(dtype, scheme, layout):
    x, v = layout(numbers(dtype)), layout(numbers(dtype, seed=2))
    rng, other = Philox(3, 4), Philox(3, 4)
    before = x.clone()
    found = round_to(x, "binary8", scheme, rng, v=v)
    assert isinstance(found, torch.Tensor) and found.dtype == dtype and found.shape == x.shape
    assert_same_bits(as_array(found), expected(x, v, "binary8", scheme, other))
    assert rng.draws == other.draws
    assert torch.equal(x, before)


@each_dtype
@each_scheme
@pytest.mark.parametrize("target", ["x", "v", "other"])
@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_it_is_written_to_out_which_may_be_what_is_read(dtype, scheme, target, layout):
    x, v, other = (layout(numbers(dtype, seed=seed)) for seed in (1, 2, 3))
    wanted = expected(x, v, "binary8", scheme, Philox(3, 4))
    out = {"x": x, "v": v, "other": other}[target]
    version = out._version
    assert round_to(x, "binary8", scheme, Philox(3, 4), v=v, out=out) is out
    assert_same_bits(as_array(out), wanted)
    assert out._version > version


@each_dtype
@pytest.mark.parametrize("shift", [1, -1])
def test_out_may_overlap_with_x(dtype, shift):
    memory = numbers(dtype, (5001,))
    x, out = (memory[:-1], memory[1:]) if shift == 1 else (memory[1:], memory[:-1])
    wanted = round_to(as_array(x), "binary8", "SR", Philox(3))
    round_to(x, "binary8", "SR", Philox(3), out=out)
    assert_same_bits(as_array(out), wanted)


@each_dtype
@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2)])
def test_tensors_without_axes_or_elements(dtype, shape):
    x = torch.full(shape, 1.1, dtype=dtype)
    for found in (round_to(x, "binary8"), round_to(x, "binary8", out=torch.empty_like(x))):
        assert found.dtype == dtype and found.shape == x.shape and bool((found == 1).all())


@each_dtype
def test_a_parameter_is_rounded_in_place_as_optimisers_do_it(dtype):
    parameter = torch.nn.Parameter(numbers(dtype))
    wanted = round_to(as_array(parameter), "binary8", "SR", Philox(3))
    with torch.no_grad():
        assert type(round_to(parameter, "binary8")) is torch.Tensor
        assert round_to(parameter, "binary8", "SR", Philox(3), out=parameter) is parameter
    assert parameter.requires_grad
    assert_same_bits(as_array(parameter), wanted)


def test_of_inference_no_versions_are_counted():
    with torch.inference_mode():
        x = torch.full((3,), 1.1)
        round_to(x, "binary8", out=x)
    assert bool((x == 1).all())


@each_dtype
def test_what_is_written_over_what_backward_needs_is_noticed(dtype):
    x = torch.ones(3, dtype=dtype, requires_grad=True)
    y = x * 1.1
    z = (y * y).sum()
    with torch.no_grad():
        round_to(y, "binary8", out=y)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        z.backward()


def test_the_negative_of_a_view_is_read_as_it_is():
    z = torch.complex(torch.ones(3), torch.full((3,), 1.1))
    x = z.conj().imag
    assert x.is_neg()
    assert round_to(x, "binary8").tolist() == [-1, -1, -1]
    with pytest.raises(ValueError, match="out is expanded or a negative view"):
        round_to(torch.ones(3), "binary8", out=x)


X = torch.ones(2, 3)
BAD = [
    (
        {"x": torch.ones(3, requires_grad=True)},
        TypeError,
        r"x records gradients; must not: use x.detach\(\), or round under",
    ),
    ({"x": torch.ones(3, requires_grad=True) * 2}, TypeError, "x records gradients"),
    ({"out": torch.ones(2, 3, requires_grad=True)}, TypeError, r"out records gradients; must not: use out.detach\(\)"),
    ({"v": torch.ones(2, 3, requires_grad=True)}, TypeError, "v records gradients"),
    ({"x": torch.ones(3, dtype=torch.int64)}, TypeError, "x is of torch.int64; must be of float16, bfloat16, float32"),
    ({"x": torch.ones(3).to(torch.float8_e5m2)}, TypeError, "x is of torch.float8_e5m2; must be of float16"),
    ({"x": torch.ones(3, 3).to_sparse()}, TypeError, "x is of layout torch.sparse_coo; must be strided"),
    ({"x": torch.ones(3, device="meta")}, ValueError, "x is on meta; must be on a CPU or a CUDA device"),
    ({"v": torch.ones(2, 3, device="meta")}, ValueError, "v is on meta; must be on cpu, as x is"),
    ({"v": np.ones((2, 3))}, TypeError, "v is a ndarray; must be a tensor, as x is"),
    ({"out": np.ones((2, 3))}, TypeError, "out is a ndarray; must be a tensor, as x is"),
    ({"out": torch.ones(2, 3, dtype=torch.float64)}, TypeError, "out is of torch.float64; must be of torch.float32"),
    ({"out": torch.ones(3, 2)}, ValueError, r"out has shape torch.Size\(\[3, 2\]\); must be"),
    ({"out": torch.ones(2, 1).expand(2, 3)}, ValueError, "out is expanded or a negative view; must have memory of its"),
    ({"v": torch.ones(3)}, ValueError, r"v has shape \(3,\); must be \(2, 3\)"),
    ({"rng": None}, TypeError, "rng is None; SR needs a Philox"),
    ({"rng": Philox(1, 3)}, ValueError, r"x has shape \(2, 3\); its first axis must be the 3 replicates"),
    ({"fmt": "binary64"}, ValueError, "format binary64 has precision 53; a float32 array has 24"),
    ({"x": X.to(torch.float16), "fmt": "bfloat16"}, ValueError, "exponents from -126 to 127; those of a float16 array"),
    ({"x": X.to(torch.bfloat16), "fmt": "binary16"}, ValueError, "precision 11; a bfloat16 array has 8"),
]


@pytest.mark.parametrize(("arguments", "error", "message"), BAD)
def test_bad_tensors_are_refused_in_one_line_and_take_no_draw(arguments, error, message):
    rng = Philox(1)
    arguments = {"x": X, "fmt": "binary8", "scheme": "SR", "rng": rng} | arguments
    with pytest.raises(error, match=message) as caught:
        round_to(arguments.pop("x"), arguments.pop("fmt"), **arguments)
    assert "\n" not in str(caught.value)
    assert rng.draws == 0


def test_a_tensor_beside_an_array_is_refused():
    for options in ({"v": X}, {"out": X}):
        with pytest.raises(TypeError, match=f"{next(iter(options))} is a"):
            round_to(np.ones((2, 3)), "binary8", "signed_SR_eps(0.1)", Philox(1), **({"v": np.ones((2, 3))} | options))


def test_words_are_not_those_of_a_tensor():
    with pytest.raises(TypeError, match=r"x is a Tensor; must be an array of another library, such as np.empty"):
        Philox(1).words(X)


def test_a_cuda_tensor_without_cupy_is_refused_in_a_sentence(monkeypatch):
    """There is no CUDA device here: a tensor that says that it is on one."""
    from contextlib import ExitStack

    from srlib import tensors

    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(RuntimeError, match=r"x is on cuda:0; must be on the CPU where CuPy cannot be imported \(.*\)$"):
        tensors._views(torch, torch.device("cuda:0"), ExitStack())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@each_dtype
@each_scheme
def test_a_cuda_tensor_has_the_bits_of_that_of_the_cpu(dtype, scheme):
    pytest.importorskip("cupy")
    x, v = numbers(dtype), numbers(dtype, seed=2)
    with torch.cuda.stream(torch.cuda.Stream()):
        found = round_to(x.cuda(), "binary8", scheme, Philox(3, 4), v=v.cuda())
        out = x.cuda()
        round_to(out, "binary8", scheme, Philox(3, 4), v=v.cuda(), out=out)
    torch.cuda.synchronize()
    assert found.is_cuda and found.dtype == dtype
    for result in (found, out):
        assert_same_bits(as_array(result.cpu()), expected(x, v, "binary8", scheme, Philox(3, 4)))


def test_the_example_of_the_guide_rounds_a_model_in_place():
    guide = Path(__file__).parents[1] / "docs" / "kernels.md"
    (example,) = re.findall(r"```python\n(.*?)```", guide.read_text(), flags=re.S)
    model = torch.nn.Linear(20, 3)
    before = [as_array(w) for w in model.parameters()]
    exec(example, {"torch": torch, "srlib": srlib, "model": model, "rng": Philox(5)})
    rng = Philox(5)
    for w, x in zip(model.parameters(), before, strict=True):
        assert_same_bits(as_array(w), round_to(x, "bfloat16", "SR", rng))
