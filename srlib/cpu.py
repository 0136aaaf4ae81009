"""CPU kernels: Philox words, threshold and rounding fused in one pass; ordered matrix products; table look-up.

Nothing here knows a format or a scheme by name. A format comes as a `Grid`; a scheme as the thresholds that theta is
compared with, or as the amounts that are added to theta before a random word decides. `reference` is the specification
of what is computed, and the tests compare the two bit for bit.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial
from typing import NamedTuple

import numba
import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from srlib.philox import INCREMENTS, MULTIPLIERS

BLOCK = 1024  # elements at a time: what a block needs stays in the first-level cache
_SMALL = 1 << 17  # fewer elements are not worth a second thread

_MASK = np.uint64(0xFFFFFFFF)
_M0, _M1 = map(np.uint64, MULTIPLIERS)
_W0, _W1 = map(np.uint64, INCREMENTS)
_SHIFT = np.uint64(32)

_jit = numba.njit(nogil=True, cache=True, boundscheck=False)


class Grid(NamedTuple):
    """A format as the kernels want it; all but emin are of the type of the carrier."""

    emin: int
    to_integer: float  # 2^(p − 2): half of what makes a significand of |x| / 2^e
    from_integer: float  # 2^(1 − p)
    below: float  # 2^emin where there are no subnormals, else 0
    largest: float
    overflow: float  # what replaces a magnitude beyond the largest


def make_grid(precision, emin, below, largest, overflow, dtype) -> Grid:
    """Return the grid of a format in a carrier, float32 or float64."""
    scales = (2.0 ** (precision - 2), 2.0 ** (1 - precision), below, largest, overflow)
    return Grid(emin, *map(np.dtype(dtype).type, scales))


def _llvm_function(name, arity):
    @intrinsic
    def function(typing, x, y=types.none):
        def generate(context, builder, signature, arguments):
            kind = context.get_value_type(x)
            declared = builder.module.declare_intrinsic(name, [kind], ir.FunctionType(kind, [kind] * arity))
            return builder.call(declared, arguments[:arity])

        return x(x, y), generate

    return function


# NumPy's own are calls that keep a loop from being vectorised.
_floor = _llvm_function("llvm.floor", 1)
_rint = _llvm_function("llvm.rint", 1)
_abs = _llvm_function("llvm.fabs", 1)
_copysign = _llvm_function("llvm.copysign", 2)


@intrinsic
def _binade(typing, x, emin):
    """Return 2^e and 2^(1 − e) in the type of x, where e is the exponent of x but at least emin."""
    width, stored, bias = (32, 23, 127) if x == types.float32 else (64, 52, 1023)

    def generate(context, builder, signature, arguments):
        real, whole = context.get_value_type(x), ir.IntType(width)
        constant = partial(ir.Constant, whole)
        bits = builder.bitcast(arguments[0], whole)
        field = builder.and_(builder.lshr(bits, constant(stored)), constant(2 * bias + 1))
        lowest = builder.add(builder.trunc(arguments[1], whole) if width < 64 else arguments[1], constant(bias))
        field = builder.select(builder.icmp_signed("<", field, lowest), lowest, field)
        inverse = builder.sub(constant(2 * bias + 1), field)
        powers = [builder.bitcast(builder.shl(part, constant(stored)), real) for part in (field, inverse)]
        return context.make_tuple(builder, signature.return_type, powers)

    return types.UniTuple(x, 2)(x, types.int64), generate


@intrinsic
def _like(typing, x, value):
    """Return a number in the type of x."""

    def generate(context, builder, signature, arguments):
        return context.cast(builder, arguments[1], value, x)

    return x(x, value), generate


@_jit
def fill_words(words, counter, draw, replicate, seed):
    """Fill an array of uint32, of a length that is a multiple of 4, with the words of the counters from `counter` on.

    Philox4x32-10 in 64-bit lanes masked to 32 bits, so that the widening multiply is one SIMD instruction.
    """
    draw_low, draw_high = draw & _MASK, draw >> _SHIFT
    for j in range(words.size >> 2):
        c0, c1, c2, c3 = (counter + np.uint64(j)) & _MASK, draw_low, draw_high, replicate
        k0, k1 = seed & _MASK, seed >> _SHIFT
        for _ in range(10):
            p0, p1 = _M0 * c0, _M1 * c2
            c0, c1, c2, c3 = (p1 >> _SHIFT) ^ c1 ^ k0, p1 & _MASK, (p0 >> _SHIFT) ^ c3 ^ k1, p0 & _MASK
            k0, k1 = (k0 + _W0) & _MASK, (k1 + _W1) & _MASK
        words[4 * j] = np.uint32(c0)
        words[4 * j + 1] = np.uint32(c1)
        words[4 * j + 2] = np.uint32(c2)
        words[4 * j + 3] = np.uint32(c3)


@_jit
def _locate(x, grid):
    """Return the significand, theta, the unit of the significand, and 2^e: |x| = (significand + theta)·unit·2^e."""
    magnitude = _abs(x)
    up, down = _binade(x, grid.emin)
    deep = magnitude < grid.below
    scaled = magnitude * down * (_like(x, 0.5) if deep else grid.to_integer)
    significand = _floor(scaled)
    return significand, scaled - significand, _like(x, 1.0) if deep else grid.from_integer, up


@_jit
def _finish(x, significand, unit, up, away, grid):
    """Return the lower neighbour of x, or the one away from zero; x itself where it is a value of the format."""
    magnitude = _abs(x)
    away = away & (significand * unit * up != magnitude)
    rounded = (significand + _like(x, 1.0 if away else 0.0)) * unit * up
    # Written so that the NaN which 0·inf makes of an infinite x counts as too large.
    rounded = rounded if rounded <= grid.largest else grid.overflow
    return _copysign(rounded, x) if magnitude == magnitude else x


@_jit
def _is_above(probability, word, scale, shift, top):
    """Tell whether the word is below the threshold nint(scale·probability); one of `scale` or more is above all."""
    threshold = _rint(probability * scale)
    reached = min(max(threshold, _like(probability, 0.0)), top)
    return ((word >> shift) < np.uint32(reached)) | (threshold >= scale)


@_jit
def _deterministic(x, out, begin, end, grid, positive, negative):
    """Round elements begin to end: away from zero where theta is above the threshold of the sign of x.

    At the threshold it is away from zero where the significand is odd.
    """
    scratch = np.empty(BLOCK, x.dtype)
    for start in range(begin, end, BLOCK):
        count = min(BLOCK, end - start)
        source, target = x[start : start + count], scratch[:count]
        for i in range(count):
            significand, theta, unit, up = _locate(source[i], grid)
            threshold = negative if source[i] < 0 else positive
            half = significand * _like(theta, 0.5)
            away = (theta > threshold) | ((theta == threshold) & (half != _floor(half)))
            target[i] = _finish(source[i], significand, unit, up, away, grid)
        out[start : start + count] = target  # by way of scratch, as out may be x itself


@_jit
def _stochastic(x, v, out, begin, end, grid, upward, against, top, bits, row, replicates, draw, seed):
    """Round elements begin to end: away from zero with probability theta + upward − sign(x)·sign(v)·against.

    Element i is element i mod `row` of the replicate numbered ``replicates[i // row]``. Without elements in `v`,
    sign(v) is 0. `top` is the largest number of the carrier below 2^32.
    """
    scratch, words = np.empty(BLOCK, x.dtype), np.empty(BLOCK + 8, np.uint32)
    scale, shift = _like(upward, 2.0**bits), np.uint32(32 - bits)
    start = begin
    while start < end:
        element = start % row
        count = min(BLOCK, end - start, row - element)
        ahead = element & 3
        needed = (ahead + count + 3) & ~3
        fill_words(words[:needed], np.uint64(element >> 2), draw, np.uint64(replicates[start // row]), seed)
        source, target, word = x[start : start + count], scratch[:count], words[ahead : ahead + count]
        if v.size:
            direction = v[start : start + count]
            for i in range(count):
                significand, theta, unit, up = _locate(source[i], grid)
                opposed = (source[i] > 0) == (direction[i] < 0)
                push = against if opposed else -against
                push = push if (direction[i] < 0) | (direction[i] > 0) else _like(theta, 0.0)
                away = _is_above(theta + push, word[i], scale, shift, top)
                target[i] = _finish(source[i], significand, unit, up, away, grid)
        else:
            for i in range(count):
                significand, theta, unit, up = _locate(source[i], grid)
                away = _is_above(theta + upward, word[i], scale, shift, top)
                target[i] = _finish(source[i], significand, unit, up, away, grid)
        out[start : start + count] = target
        start += count


def round_deterministic(x, out, grid: Grid, positive: float, negative: float) -> None:
    """Round a contiguous NumPy array into `out`, a contiguous array like it that may be `x` itself.

    The magnitude moves up where theta is above the threshold of its sign, or equal to it and the significand odd.
    """
    x, out = x.reshape(-1), out.reshape(-1)
    positive, negative = x.dtype.type(positive), x.dtype.type(negative)
    _in_threads(x.size, lambda begin, end: _deterministic(x, out, begin, end, grid, positive, negative))


def round_stochastic(x, v, out, grid: Grid, upward, against, bits, replicates: range, draw: int, seed: int) -> None:
    """Round a contiguous NumPy array into `out`, a contiguous array like it that may be `x` itself.

    The magnitude moves up with probability theta + upward − sign(x)·sign(v)·against, by the random words of draw number
    `draw` of the stream `seed`; the leading axis is that of the replicates, if there are several.
    """
    row = max(x.size // len(replicates), 1)
    x, out = x.reshape(-1), out.reshape(-1)
    v = np.empty(0, x.dtype) if v is None else v.reshape(-1)
    upward, against = x.dtype.type(upward), x.dtype.type(against)
    top = np.nextafter(x.dtype.type(2**32), x.dtype.type(0))  # the largest that converts to uint32
    numbers, draw, seed = np.array(replicates, dtype=np.uint64), np.uint64(draw), np.uint64(seed)

    def span(begin, end):
        _stochastic(x, v, out, begin, end, grid, upward, against, top, bits, row, numbers, draw, seed)

    _in_threads(x.size, span)


@_jit
def _ordered_columns(a, b, out, begin, end):
    """Add up columns begin to end of each product a[i] @ b[i], one term after the other in index order."""
    rows, columns = 16, 256  # partial sums that stay in the first-level cache, for the usual ten rows or so
    partial = np.empty((rows, columns))
    inner = a.shape[2]
    for batch in range(a.shape[0]):
        left, right, result = a[batch], b[batch % b.shape[0]], out[batch]
        for top in range(0, left.shape[0], rows):
            height = min(rows, left.shape[0] - top)
            for start in range(begin, end, columns):
                width = min(columns, end - start)
                partial[:] = 0.0
                for k in range(0, inner - 3, 4):  # four terms at a time, so that sums are loaded and stored less often
                    t0, t1 = right[k, start : start + width], right[k + 1, start : start + width]
                    t2, t3 = right[k + 2, start : start + width], right[k + 3, start : start + width]
                    for i in range(height):
                        f0, f1, f2, f3 = (
                            left[top + i, k],
                            left[top + i, k + 1],
                            left[top + i, k + 2],
                            left[top + i, k + 3],
                        )
                        sums = partial[i, :width]
                        for j in range(width):
                            sums[j] = (((sums[j] + f0 * t0[j]) + f1 * t1[j]) + f2 * t2[j]) + f3 * t3[j]
                for k in range(inner - inner % 4, inner):
                    terms = right[k, start : start + width]
                    for i in range(height):
                        factor, sums = left[top + i, k], partial[i, :width]
                        for j in range(width):
                            sums[j] += factor * terms[j]
                result[top : top + height, start : start + width] = partial[:height, :width]


def ordered_matmul(a, b):
    """Return the products of float64 matrices, (batch, m, k) by (batch or 1, k, n), every sum in index order.

    No term is fused with a sum, so the bits are those of the plain loop on any machine.
    """
    a, b = np.ascontiguousarray(a), np.ascontiguousarray(b)
    out = np.empty((a.shape[0], a.shape[1], b.shape[2]))
    work = a.size * b.shape[2]
    _in_threads(b.shape[2], lambda begin, end: _ordered_columns(a, b, out, begin, end), work, unit=128)
    return out


@_jit
def _look_up(x, table, out, begin, end, shift, base):
    half, codes = table.size >> 1, x.view(np.int64)
    for i in range(begin, end):
        bits = codes[i]
        code = min(max(((bits & 0x7FFFFFFFFFFFFFFF) >> shift) - base, 0), half - 1)
        value = table[code + (half if bits < 0 else 0)]
        out[i] = value if x[i] == x[i] else x[i]


def look_up(x, table, out, shift: int, base: int) -> None:
    """Write the entry of each element of a contiguous float64 array to `out`, which may be `x` itself; NaN stays NaN.

    The code of an element is the bits of its magnitude, shifted to the right by `shift`, less `base`, and at least 0;
    the first half of the table is for the codes of positive elements, the second for those of negative ones.
    """
    x, out = x.reshape(-1), out.reshape(-1)
    _in_threads(x.size, lambda begin, end: _look_up(x, table, out, begin, end, shift, base))


@_jit
def _largest_bits(codes, begin, end):
    largest = 0
    for i in range(begin, end):
        magnitude = codes[i] & 0x7FFFFFFFFFFFFFFF
        largest = max(largest, magnitude if magnitude < 0x7FF0000000000000 else 0)
    return largest


def largest_magnitude(x) -> float:
    """Return the largest finite magnitude in a contiguous float64 array, 0 if there is none."""
    codes, found = x.reshape(-1).view(np.int64), [0]
    _in_threads(codes.size, lambda begin, end: found.append(_largest_bits(codes, begin, end)))
    return float(np.array(max(found)).view(np.float64))


def _in_threads(size, span, work=None, unit=BLOCK):
    """Call span(begin, end) on parts of range(size), in as many threads as numba.get_num_threads() says.

    `work` counts elementary operations, `size` unless given; parts begin at multiples of `unit`.
    """
    threads = numba.get_num_threads() if (size if work is None else work) >= _SMALL else 1
    part = -(-size // (threads * unit)) * unit
    if threads == 1 or part >= size:
        span(0, size)
        return
    list(_pool(os.getpid(), threads).map(lambda begin: span(begin, min(begin + part, size)), range(0, size, part)))


@lru_cache(maxsize=1)
def _pool(process, threads):  # a forked process has none of its parent's threads
    return ThreadPoolExecutor(threads, thread_name_prefix="srlib")
