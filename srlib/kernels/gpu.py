"""The CUDA kernel for CuPy arrays, bit for bit the CPU's: one launch a call, any layout, on the current stream.

Its code, `gpu.c`, is C that a C compiler takes too, so that the tests run it without a GPU.
"""

from functools import lru_cache
from importlib import resources

import numpy as np

from srlib.kernels.rule import NUMBERS, Rule

DIMENSIONS, GROUP = 32, 4  # as in gpu.c
REALS = {"float32": "float", "float64": "double"}
OPTIONS = ("--fmad=false",)
_THREADS = 256
_BLOCKS_A_PROCESSOR = 16

_SHAPE = ("<i8", (DIMENSIONS,))
TASK = np.dtype(
    [(name, "<u8") for name in ("x", "v", "out")]
    + [(name, "<i8") for name in ("rows", "row", "first", "step")]
    + [(name, "<u8") for name in ("draw", "seed")]
    + [(name, "<f8") for name in NUMBERS]
    + [(name, "<i8") for name in ("bits", "floored", "origin", "wide", "dimensions")]
    + [(name, *_SHAPE) for name in ("shape", "x_strides", "v_strides", "out_strides")]
)


def source() -> str:
    """Return the code of the kernel; REAL is to be defined as one of `REALS`."""
    return (resources.files("srlib.kernels") / "gpu.c").read_text(encoding="utf-8")


def make_task(x, v, out, pointers, rule: Rule, rng=None) -> np.ndarray:
    """Return what the kernel takes: an array of one `TASK`.

    Parameters
    ----------
    x, v, out : arrays of one shape and dtype
        For their shapes and strides; `v` may be None.
    pointers : three ints
        Where they are, 0 for a `v` of None.
    rule, rng
        As for `cpu.round_array`.
    """
    task = np.zeros(1, TASK)
    replicates = rng.numbers() if rule.stochastic else range(1)
    words = {}
    if rule.stochastic:
        words = {"bits": rng.bits, "draw": rng.take(), "seed": rng.seed, "origin": rng.start}
        words["floored"] = rng.threshold == "floor"
    task["x"], task["v"], task["out"] = pointers
    task["rows"], task["row"] = len(replicates), x.size // len(replicates)
    task["first"], task["step"] = replicates.start, replicates.step
    numbers = dict(zip(NUMBERS, rule.numbers, strict=True))
    for name, value in (numbers | words).items():
        task[name] = value
    arrays = [x, x if v is None else v, out]
    shape, *strides = _collapsed(x.shape, *(array.strides for array in arrays))
    task["dimensions"] = len(shape)
    for name, values in zip(("shape", "x_strides", "v_strides", "out_strides"), (shape, *strides), strict=True):
        task[name][0, : len(shape)] = values
    contiguous = all(array.flags.c_contiguous for array in arrays)
    aligned = all(pointer % 16 == 0 for pointer in pointers)
    even = task["origin"][0] % GROUP == 0 and (len(replicates) == 1 or task["row"][0] % GROUP == 0)
    task["wide"] = contiguous and aligned and even
    return task


def _collapsed(shape, *strides):
    """Return a shape and strides for the same elements in the same order, with as few axes as possible."""
    axes = [axis for axis in zip(shape, *strides, strict=True) if axis[0] != 1]
    kept = axes[:1]
    for length, *steps in axes[1:]:
        outer, *outer_steps = kept[-1]
        if all(outer_step == length * step for outer_step, step in zip(outer_steps, steps, strict=True)):
            kept[-1] = (outer * length, *steps)
        else:
            kept.append((length, *steps))
    return zip(*kept, strict=True) if kept else ((),) * (1 + len(strides))


def round_array(x, v, out, rule: Rule, rng=None):
    """Return a CuPy array rounded, in `out` if that is given; parameters as for `cpu.round_array`."""
    import cupy

    reads = [] if out is None else [x] if v is None else [x, v]
    shared = [read for read in reads if cupy.may_share_memory(out, read)]
    shifted = any((read.data.ptr, read.strides) != (out.data.ptr, out.strides) for read in shared)
    target = cupy.empty(x.shape, x.dtype) if out is None or shifted else out
    pointers = [0 if array is None else array.data.ptr for array in (x, v, target)]
    task = make_task(x, v, target, pointers, rule, rng)
    groups = int(task["rows"][0]) * -(-int(task["origin"][0] % GROUP + task["row"][0]) // GROUP)
    if groups:
        processors = cupy.cuda.Device().attributes["MultiProcessorCount"]
        blocks = min(-(-groups // _THREADS), _BLOCKS_A_PROCESSOR * processors)
        _kernel(x.dtype.name)((blocks,), (_THREADS,), (task,))
    if shifted:
        out[...] = target
        return out
    return target


@lru_cache
def _kernel(dtype):
    import cupy

    return cupy.RawKernel(source(), "round_array", options=(f"-DREAL={REALS[dtype]}", *OPTIONS))
