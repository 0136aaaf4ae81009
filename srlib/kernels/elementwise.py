"""What is computed element by element on the CPU: exp, look-ups in tables, the largest magnitude."""

import numpy as np
from numba import literal_unroll

from srlib.kernels.cache import jit
from srlib.kernels.elementary import HIGHEST, LN2_HIGH, LN2_LOW, LOG2_E, LOWEST, POWERS, TAYLOR
from srlib.kernels.llvm import rint
from srlib.kernels.threads import in_threads


@jit
def _look_up(x, table, out, shift, base):
    half, codes = table.size >> 1, x.view(np.int64)
    for i in range(x.size):
        bits = codes[i]
        code = min(max(((bits & 0x7FFFFFFFFFFFFFFF) >> shift) - base, 0), half - 1)
        value = table[np.uint64(code + (half if bits < 0 else 0))]
        out[i] = value if x[i] == x[i] else x[i]


def look_up(x, table, out, shift: int, base: int) -> None:
    """Write the entry of each element of a contiguous float64 array to `out`, which may be `x` itself; NaN stays NaN.

    The code of an element is the bits of its magnitude, shifted to the right by `shift`, less `base`, and at least 0;
    the first half of the table is for the codes of positive elements, the second for those of negative ones.
    """
    x, out = x.reshape(-1), out.reshape(-1)
    in_threads(x.size, lambda begin, end: _look_up(x[begin:end], table, out[begin:end], shift, base))


@jit
def _exponentials(x, out):
    middle = np.int32(POWERS.size >> 1)
    for i in range(x.size):
        number = x[i] if x[i] == x[i] else 0.0
        inside = min(max(number, LOWEST), HIGHEST)
        k = rint(inside * LOG2_E)
        high, low = inside - k * LN2_HIGH, k * LN2_LOW
        r = high - low
        series = 0.0
        for coefficient in literal_unroll(TAYLOR):
            series = series * r + coefficient
        y = 1 + (high + (series * (r * r) - low))
        whole = np.int32(k)
        half = whole >> np.int32(1)
        y = y * POWERS[np.uint32(middle + half)] * POWERS[np.uint32(middle + whole - half)]
        out[i] = y if x[i] == x[i] else x[i]


def exponentials(x):
    """Return exp of each element of a float64 array, as `srlib.kernels.elementary.exp` does."""
    out = np.empty(x.shape)
    flat, target = np.ascontiguousarray(x).reshape(-1), out.reshape(-1)
    in_threads(x.size, lambda begin, end: _exponentials(flat[begin:end], target[begin:end]))
    return out


@jit
def _largest_bits(codes, begin, end):
    largest = 0
    for i in range(begin, end):
        magnitude = codes[i] & 0x7FFFFFFFFFFFFFFF
        largest = max(largest, magnitude if magnitude < 0x7FF0000000000000 else 0)
    return largest


def largest_magnitude(x) -> float:
    """Return the largest finite magnitude in a contiguous float64 array, 0 if there is none."""
    codes, found = x.reshape(-1).view(np.int64), [0]
    in_threads(codes.size, lambda begin, end: found.append(_largest_bits(codes, begin, end)))
    return float(np.array(max(found)).view(np.float64))
