"""The CUDA kernel, compiled by this machine's C compiler and compared with the kernel of the CPU, bit for bit."""

import ctypes
import os
import shutil
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import oracle
import pytest
from test_rounding import OVERLAPPING, assert_same_bits, directions, layouts, near_zero

from srlib import Philox, Scheme, round_to
from srlib.kernels import gpu
from srlib.rounding import _parsed

COMPILER = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
NVCC = shutil.which("nvcc")
each_dtype = pytest.mark.parametrize("dtype", [np.float32, np.float64])
each_scheme = pytest.mark.parametrize("scheme", oracle.SCHEMES)


@pytest.fixture(scope="session")
def kernels(tmp_path_factory):
    """The kernel for float32 and for float64, as functions of this process."""
    if COMPILER is None:
        pytest.skip("there is no C compiler: neither $CC nor cc, gcc or clang on the path")
    directory = tmp_path_factory.mktemp("gpu")
    source = directory / "gpu.c"
    source.write_text(gpu.source())
    found = {}
    for dtype, real in gpu.REALS.items():
        library = directory / f"{real}.so"
        strict = ["-std=c99", "-O2", "-Wall", "-Wextra", "-Werror", "-ffp-contract=off"]
        command = [COMPILER, *strict, f"-DREAL={real}", "-shared", "-fPIC", "-o", library, source, "-lm"]
        subprocess.run(command, check=True, capture_output=True, text=True)
        found[dtype] = ctypes.CDLL(str(library)).round_array
    return found


def run(kernels, x, fmt, scheme, rng=None, v=None, out=None):
    """`round_to` by the CUDA kernel on the CPU."""
    out = np.empty_like(x) if out is None else out
    rule = _parsed(fmt, scheme, x)[2]
    v = v if Scheme.parse(scheme).signed else None
    pointers = [0 if array is None else array.ctypes.data for array in (x, v, out)]
    task = gpu.make_task(x, v, out, pointers, rule, rng)
    kernels[x.dtype.name](ctypes.c_void_p(task.ctypes.data))
    return out


@pytest.mark.parametrize("fmt", oracle.FORMATS, ids=str)
@each_scheme
@each_dtype
def test_it_is_the_kernel_of_the_cpu_to_the_bit(kernels, fmt, scheme, dtype):
    bits = np.random.default_rng(1).integers(0, 2**32, 20_001, dtype=np.uint32).view(np.float32)
    with np.errstate(invalid="ignore"):
        x = np.concatenate([oracle.every_binary16(dtype), oracle.edges(fmt, dtype), bits.astype(dtype)])
    v = directions(x)
    for few in ({}, {"bits": 5}, {"bits": 5, "threshold": "floor"}, {"bits": 32, "threshold": "floor", "start": 7}):
        expected = round_to(x, fmt, scheme, Philox(2**40 + 3, **few), v=v)
        assert_same_bits(run(kernels, x, fmt, scheme, Philox(2**40 + 3, **few), v), expected)


@each_scheme
@each_dtype
@pytest.mark.parametrize("row", [1, 4, 7, 1000])
@pytest.mark.parametrize("start", [0, 4, 5, 2**32 + 2])
def test_replicates_have_the_words_of_their_numbers(kernels, scheme, dtype, row, start):
    x = np.random.default_rng(2).standard_normal((5, row)).astype(dtype)
    v, numbers = directions(x), range(2**32 - 10, 2**32, 2)
    streams = [Philox(7, replicates=numbers, start=start) for _ in range(2)]
    for stream in streams:
        stream.draws = 2**33 + 5
    for _ in range(2):
        expected = round_to(x, "e4m3", scheme, streams[0], v=v)
        assert_same_bits(run(kernels, x, "e4m3", scheme, streams[1], v), expected)


def more_layouts():
    yield from ((name, x) for name, x in layouts() if name != "big-endian")
    x = np.random.default_rng(3).standard_normal((3, 4, 5, 6)).astype(np.float32)
    yield "axes in another order", x.transpose(2, 0, 3, 1)
    yield "every second", x[:, ::2, ::-1, 1::2]
    yield "repeated", np.broadcast_to(x[:, :1, :, :1], x.shape)
    yield "not aligned", np.arange(41, dtype=np.float32)[1:] / 3
    yield "no axes", np.array(1.1, np.float32)
    yield "one element", np.full((1, 1, 1), 1.1, np.float32)
    yield "many axes", np.arange(2**14, dtype=np.float32).reshape((2,) * 14).transpose(range(13, -1, -1)) / 3


@pytest.mark.parametrize(
    ("layout", "x"), list(more_layouts()), ids=lambda value: value if isinstance(value, str) else ""
)
def test_it_takes_any_layout(kernels, layout, x):
    v = directions(x)
    expected = round_to(x, "binary8", "signed_SR_eps(0.1)", Philox(12), v=v)
    for order in "CF":
        out, other = np.empty(x.shape, x.dtype, order), np.array(v, order=order)
        run(kernels, x, "binary8", "signed_SR_eps(0.1)", Philox(12), other, out)
        assert_same_bits(out, expected)


def test_out_may_be_x(kernels):
    x = np.random.default_rng(4).standard_normal(1003)
    expected = round_to(x, "binary8", "SR", Philox(1))
    run(kernels, x, "binary8", "SR", Philox(1), out=x)
    assert_same_bits(x, expected)


def test_contiguous_arrays_are_accessed_sixteen_bytes_at_a_time():
    rule = _parsed("binary8", "SR", np.empty(0, np.float32))[2]

    def wide(x, rng, address=64):
        return bool(gpu.make_task(x, None, x, (address, 0, address), rule, rng)["wide"][0])

    x = np.empty((6, 8), np.float32)
    assert wide(x, Philox(1)) and wide(x, Philox(1, replicates=6)) and wide(x[:5, :7].copy(), Philox(1))
    assert not wide(x[:, :7].copy(), Philox(1, replicates=6))
    assert not wide(x, Philox(1), address=68) and not wide(x[:, ::2], Philox(1)) and not wide(x.T, Philox(1))


@pytest.mark.skipif(NVCC is None, reason="nvcc is not on the path")
@pytest.mark.parametrize("real", gpu.REALS.values())
def test_nvcc_compiles_it_for_the_h100_without_spilling(tmp_path, real):
    source = tmp_path / "gpu.c"
    source.write_text(gpu.source())
    options = ["-x", "cu", "-arch=sm_90", "-cubin", f"-DREAL={real}", *gpu.OPTIONS, "--resource-usage"]
    command = [NVCC, *options, "-o", tmp_path / "gpu.cubin", source]
    said = subprocess.run(command, check=True, capture_output=True, text=True)
    assert (tmp_path / "gpu.cubin").stat().st_size > 0
    assert "0 bytes spill stores, 0 bytes spill loads" in said.stdout + said.stderr


class HostArray(np.ndarray):
    """A NumPy array that tells its address as one of CuPy does."""

    @property
    def data(self):
        return SimpleNamespace(ptr=self.ctypes.data)


def on_host(x):
    return np.array(x, order="K").view(HostArray)


@pytest.fixture
def launches(kernels, monkeypatch):
    """Launches of kernels, run by the CPU in place of a GPU."""
    found = []

    def raw_kernel(source, name, options):
        assert name in source and options[1:] == gpu.OPTIONS
        kernel = kernels[{real: dtype for dtype, real in gpu.REALS.items()}[options[0].removeprefix("-DREAL=")]]

        def launch(grid, block, arguments):
            found.append((grid, block))
            kernel(ctypes.c_void_p(arguments[0].ctypes.data))

        return launch

    device = SimpleNamespace(attributes={"MultiProcessorCount": 2})
    fake = SimpleNamespace(
        RawKernel=raw_kernel,
        empty=lambda shape, dtype: on_host(np.empty(shape, dtype)),
        may_share_memory=np.may_share_memory,
        cuda=SimpleNamespace(Device=lambda: device),
    )
    monkeypatch.setitem(sys.modules, "cupy", fake)
    gpu._kernel.cache_clear()
    yield found
    gpu._kernel.cache_clear()


def test_a_call_is_one_launch_of_a_bounded_grid(launches):
    rule = _parsed("binary8", "signed_SR_eps(0.4)", np.empty(0))[2]
    for size in (0, 1, 1025, 100_003):
        x = on_host(np.random.default_rng(6).standard_normal(size))
        rounded = gpu.round_array(x, -x, None, rule, Philox(1))
        assert_same_bits(rounded, round_to(np.array(x), "binary8", "signed_SR_eps(0.4)", Philox(1), v=-np.array(x)))
    assert launches == [((1,), (256,)), ((2,), (256,)), ((32,), (256,))]


@pytest.mark.parametrize("shift", [0, 1, -1])
def test_out_may_overlap(launches, shift):
    rule = _parsed("binary8", "SR", np.empty(0))[2]
    buffer = on_host(np.random.default_rng(7).standard_normal(5001))
    x, out = {0: (buffer, buffer), 1: (buffer[:-1], buffer[1:]), -1: (buffer[1:], buffer[:-1])}[shift]
    expected = round_to(np.array(x), "binary8", "SR", Philox(2))
    assert gpu.round_array(x, None, out, rule, Philox(2)) is out
    assert_same_bits(np.array(out), expected)


@pytest.mark.parametrize("role", ["x", "v", "v, and out is x"])
@pytest.mark.parametrize("views", OVERLAPPING.values(), ids=OVERLAPPING)
def test_out_may_overlap_in_any_way_with_what_is_read(launches, views, role):
    """With the strides of another array at the same address, too: a transpose is written while it is read."""
    rule, rng = _parsed("binary8", "signed_SR_eps(0.4)", np.empty(0))[2], np.random.default_rng(8)
    read, out = views(on_host(near_zero(rng)))
    read, other = read.view(HostArray), on_host(rng.standard_normal(read.shape))
    x, v = {"x": (read, other), "v": (other, read)}.get(role, (out, read))
    expected = round_to(np.array(x), "binary8", "signed_SR_eps(0.4)", Philox(2), v=np.array(v))
    assert gpu.round_array(x, v, out, rule, Philox(2)) is out
    assert_same_bits(np.array(out), expected)


@pytest.fixture
def cupy():
    """CuPy, where it is installed and has a GPU."""
    cupy = pytest.importorskip("cupy")
    try:
        cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError as error:
        pytest.skip(f"there is no GPU: {error}")
    return cupy


@pytest.mark.parametrize("fmt", oracle.FORMATS, ids=str)
@each_scheme
@each_dtype
def test_a_gpu_rounds_as_the_cpu_does(cupy, fmt, scheme, dtype):
    x = np.concatenate([oracle.every_binary16(dtype), oracle.edges(fmt, dtype)])
    v = directions(x)
    expected = round_to(x, fmt, scheme, Philox(3), v=v)
    y, w = cupy.asarray(x), cupy.asarray(v)
    assert_same_bits(round_to(y, fmt, scheme, Philox(3), v=w).get(), expected)
    assert round_to(y, fmt, scheme, Philox(3), v=w, out=y) is y
    assert_same_bits(y.get(), expected)


@pytest.mark.parametrize(
    ("layout", "x"), list(more_layouts()), ids=lambda value: value if isinstance(value, str) else ""
)
def test_a_gpu_takes_any_layout(cupy, layout, x):
    expected = round_to(x, "binary8", "SR", Philox(12))
    assert_same_bits(round_to(cupy.asarray(x), "binary8", "SR", Philox(12)).get(), expected)


@pytest.mark.parametrize("shift", [1, -1])
def test_on_a_gpu_out_may_overlap(cupy, shift):
    x = np.random.default_rng(5).standard_normal(5000)
    expected = round_to(x, "binary8", "SR", Philox(13))
    buffer = cupy.zeros(5001)
    source, out = (buffer[:-1], buffer[1:]) if shift == 1 else (buffer[1:], buffer[:-1])
    source[:] = cupy.asarray(x)
    round_to(source, "binary8", "SR", Philox(13), out=out)
    assert_same_bits(out.get(), expected)
