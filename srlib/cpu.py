"""CPU kernels: Philox words, threshold and rounding fused in one pass.

Nothing here knows a format or a scheme by name: they come as a `Rule`, whose numbers are the scales of a format, and
what theta is compared with, or what is added to it before a random word decides. `reference` is the specification of
what is computed, and the tests compare the two bit for bit.
"""

import os
from collections import namedtuple
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial

import numba
import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic, overload

from srlib.cache import kept
from srlib.philox import INCREMENTS, MULTIPLIERS
from srlib.rules import NUMBERS, Rule

BLOCK = 1024  # elements at a time: what a block needs stays in the first-level cache
_LANES = 8  # counters at a time: one chain of AVX-512, or two of AVX2, of which neither waits for the other
SPARE = 4 * _LANES  # words that may be written beyond those of a block
_SMALL = 1 << 17  # fewer elements are not worth a second thread

_MASK = np.uint64(0xFFFFFFFF)
_SHIFT = np.uint64(32)


jit = partial(kept, numba.njit(nogil=True, cache=True, boundscheck=False))


_Grid = namedtuple("_Grid", (*NUMBERS, "inside", "flushed"))  # the numbers and the layout of a `Rule`


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
_ceil = _llvm_function("llvm.ceil", 1)
rint = _llvm_function("llvm.rint", 1)
_abs = _llvm_function("llvm.fabs", 1)


@intrinsic
def _binade(typing, magnitude, smallest, scale):
    """Return 2^e and scale·2^(1 − e) for a magnitude, where e is its exponent, but at least that of `smallest`.

    Both `smallest` and `scale` are powers of two. The exponent of an infinity is the one beyond the largest. The two
    must be normal numbers, but for a scale of None, which is 1: then the latter, of an infinity, is the smallest one.
    """
    width, stored, bias = (32, 23, 127) if magnitude == types.float32 else (64, 52, 1023)

    def generate(context, builder, signature, arguments):
        real, whole = context.get_value_type(magnitude), ir.IntType(width)
        one = 1 << stored  # of the exponent field
        constant = partial(ir.Constant, whole)

        def larger(x, y):  # one instruction of numbers everywhere, and of integers of 64 bits not with AVX2
            return builder.select(builder.fcmp_ordered(">", x, y), x, y)

        power = builder.bitcast(builder.and_(builder.bitcast(arguments[0], whole), constant(-one)), real)
        power = larger(power, arguments[1])
        pivot = constant((2 * bias + 1) * one)
        if scale != types.none:
            pivot = builder.add(constant((bias + 1) * one), builder.bitcast(arguments[2], whole))
        inverse = builder.bitcast(builder.sub(pivot, builder.bitcast(power, whole)), real)
        if scale == types.none:
            inverse = larger(inverse, builder.bitcast(constant(one), real))
        return context.make_tuple(builder, signature.return_type, [power, inverse])

    return types.UniTuple(magnitude, 2)(magnitude, magnitude, scale), generate


@intrinsic
def _times_sign(typing, x, y):
    """Return x, or −x where the sign bit of y is set."""
    width = 32 if x == types.float32 else 64

    def generate(context, builder, signature, arguments):
        real, whole = context.get_value_type(x), ir.IntType(width)
        number, other = (builder.bitcast(argument, whole) for argument in arguments)
        sign = builder.and_(other, ir.Constant(whole, 1 << (width - 1)))
        return builder.bitcast(builder.xor(number, sign), real)

    return x(x, x), generate


def _scaled(builder, kind, x, scale, y):
    """Build x·scale + y for a power of two: one rounding, and one instruction where there is such a one."""
    declared = builder.module.declare_intrinsic("llvm.fmuladd", [kind], ir.FunctionType(kind, [kind] * 3))
    return builder.call(declared, [x, scale, y])


@intrinsic
def _scaled_sum(typing, x, scale, y):
    """Return x·scale + y for a power of two."""

    def generate(context, builder, signature, arguments):
        return _scaled(builder, context.get_value_type(x), *arguments)

    return x(x, x, x), generate


@intrinsic
def _is_below(typing, word, shift, x, scale):
    """Tell whether a uint32, shifted to the right, is below the whole number that is nearest to x·scale.

    A float64 is rounded by the sum with 2^52 and compared with 2^52 + word. A float32 becomes a word, modulo 2^32, as
    AVX2 converts to integers with a sign; one that is not from 0 below 2^32 becomes what the machine likes.
    """

    def generate(context, builder, signature, arguments):
        bits, wide, double = builder.lshr(arguments[0], arguments[1]), ir.IntType(64), ir.DoubleType()
        if x == types.float64:
            number = builder.or_(builder.zext(bits, wide), ir.Constant(wide, (1023 + 52) << 52))
            whole = _scaled(builder, double, *arguments[2:], ir.Constant(double, 2.0**52))
            return builder.fcmp_ordered("<", builder.bitcast(number, double), whole)
        single, word = ir.FloatType(), ir.IntType(32)
        nearest = builder.module.declare_intrinsic("llvm.lrint", [word, single], ir.FunctionType(word, [single]))
        threshold = builder.fmul(*arguments[2:])
        large = builder.fcmp_ordered(">=", threshold, ir.Constant(single, 2.0**31))
        wrapped = builder.select(large, ir.Constant(single, 2.0**32), ir.Constant(single, 0.0))
        return builder.icmp_unsigned("<", bits, builder.call(nearest, [builder.fsub(threshold, wrapped)]))

    return types.boolean(types.uint32, types.uint32, x, x), generate


def _is_below_any(word, shift, threshold, full, v):
    """Tell the same of a threshold that may be 2^32 or more, or with v below 0; from `full` on every word is below."""


@overload(_is_below_any)
def _below_any(word, shift, threshold, full, v):
    if threshold == types.float64:
        return lambda word, shift, threshold, full, v: _is_below(word, shift, threshold, 1.0)
    one, zero = np.float32(1), np.float32(0)
    if v == types.none:
        return lambda word, shift, threshold, full, v: _is_below(word, shift, threshold, one) | (threshold >= full)

    def within(word, shift, threshold, full, v):
        return _is_below(word, shift, threshold if threshold > zero else zero, one) | (threshold >= full)

    return within


@intrinsic
def _like(typing, x, value):
    """Return a number in the type of x."""

    def generate(context, builder, signature, arguments):
        return context.cast(builder, arguments[1], value, x)

    return x(x, value), generate


@intrinsic
def _fill_lanes(typing, words, start, counter, low, high, replicate, key0, key1):
    """Write the words of some counters, as many as lanes, from word `start` on.

    Each lane has 64 bits, whose upper half is masked only where it is multiplied, so that the widening multiply is one
    SIMD instruction and the mask none.
    """

    def generate(context, builder, signature, arguments):
        target = context.make_array(words)(context, builder, arguments[0])
        number, vector = ir.IntType(64), ir.VectorType(ir.IntType(64), _LANES)
        mask, half = (ir.Constant(vector, [value] * _LANES) for value in (0xFFFFFFFF, 32))
        multipliers = [ir.Constant(vector, [value] * _LANES) for value in MULTIPLIERS]

        def order(lanes):
            return ir.Constant(ir.VectorType(ir.IntType(32), len(lanes)), lanes)

        def all_lanes(x):
            one = builder.insert_element(ir.Constant(vector, ir.Undefined), x, ir.IntType(32)(0))
            return builder.shuffle_vector(one, one, order([0] * _LANES))

        def product(i, x):
            return builder.mul(multipliers[i], builder.and_(x, mask))

        def mixed(x, y, key):  # the upper half of x with the others
            return builder.xor(builder.xor(builder.lshr(x, half), y), all_lanes(key))

        c0, c1, c2, c3 = (all_lanes(x) for x in arguments[2:6])
        c0 = builder.add(c0, ir.Constant(vector, list(range(_LANES))))
        keys = arguments[6:]
        for _ in range(10):
            p0, p1 = product(0, c0), product(1, c2)
            c0, c1, c2, c3 = mixed(p1, c1, keys[0]), p1, mixed(p0, c3, keys[1]), p0
            keys = [builder.add(key, number(bump)) for key, bump in zip(keys, INCREMENTS, strict=True)]
            keys = [builder.and_(key, number(0xFFFFFFFF)) for key in keys]
        first, second = (
            builder.or_(builder.and_(even, mask), builder.shl(odd, half)) for even, odd in ((c0, c1), (c2, c3))
        )
        found = builder.shuffle_vector(first, second, order([k for j in range(_LANES) for k in (j, _LANES + j)]))
        place = builder.gep(target.data, [arguments[1]])
        builder.store(found, builder.bitcast(place, found.type.as_pointer()), align=4)
        return context.get_dummy_value()

    return types.void(words, start, counter, low, high, replicate, key0, key1), generate


@jit
def fill_words(words, counter, draw, replicate, seed):
    """Fill an array of uint32, of a length that is a multiple of `SPARE`, with the words of Philox4x32-10.

    They are those of the counters from `counter` on.
    """
    low, high, key0, key1 = draw & _MASK, draw >> _SHIFT, seed & _MASK, seed >> _SHIFT
    for start in range(0, words.size, SPARE):
        _fill_lanes(words, start, counter + np.uint64(start >> 2), low, high, replicate, key0, key1)


@jit
def _locate(magnitude, grid):
    """Return significand, theta, outer and gap: magnitude = (significand + theta)·gap.

    The neighbour away from zero is outer·gap; outer is significand for a value of the format, else one more.
    """
    if grid.inside is not None:
        up, down = _binade(magnitude, grid.smallest_normal, grid.to_integer)
        scaled, gap = magnitude * down, grid.from_integer * up
    else:
        up, down = _binade(magnitude, grid.smallest_normal, None)
        if grid.flushed is None:
            scaled, gap = magnitude * down * grid.to_integer, grid.from_integer * up
        else:
            deep = magnitude < grid.below
            scaled = magnitude * down * (_like(magnitude, 0.5) if deep else grid.to_integer)
            gap = up if deep else grid.from_integer * up
    significand = _floor(scaled)
    if grid.inside is not None:
        outer = _ceil(scaled)
    else:  # scaled may be 0 by underflow
        outer = significand + _like(scaled, 1.0 if significand * gap != magnitude else 0.0)
    return significand, scaled - significand, outer, gap


@jit
def _finish(x, rounded, overflow, grid):
    """Return a rounded magnitude with the sign of x, or what overflow makes of it; NaN if it is NaN."""
    return _times_sign(overflow if rounded > grid.largest else rounded, x)


@jit
def _part(x, start, count, scratch):
    """Return `count` elements of x, in `scratch` if that has room for them."""
    part = x[start : start + count]
    if scratch.size == 0:
        return part
    for i in range(count):
        scratch[i] = part[i]
    return scratch[:count]


@jit
def make_grid(numbers, layout):
    n = numbers
    return _Grid(n[0], n[1], n[2], n[3], n[4], n[5], n[6], n[7], n[8], *layout)


@jit
def deterministic_block(source, target, grid, directed):
    """Round away from zero where theta is above the threshold of the sign of x, or at it and the significand odd.

    If it is `directed`, and not None, a finite number that goes toward zero becomes the largest at most.
    """
    for i in range(source.size):
        magnitude = _abs(source[i])
        significand, theta, outer, gap = _locate(magnitude, grid)
        threshold = grid.negative if source[i] < 0 else grid.positive
        half = significand * _like(theta, 0.5)
        away = (theta > threshold) | ((theta == threshold) & (half != _floor(half)))
        rounded = (outer if away else significand) * gap
        overflow = grid.overflow
        if directed is not None:
            overflow = grid.largest if (threshold > 1) & (rounded < np.inf) else overflow
        target[i] = _finish(source[i], rounded, overflow, grid)


@jit
def stochastic_block(source, v, target, word, grid, biased, bits):
    """Round away from zero with probability theta, theta + eps, or theta − sign(x)·sign(v)·eps.

    That is if it is not `biased`, for a `v` of None, and else.
    """
    zero, scale, shift = _like(grid.eps, 0.0), _like(grid.eps, 2.0**bits), np.uint32(32 - bits)
    full, outward = _like(grid.eps, 2.0**bits - 0.5), grid.eps * scale
    for i in range(source.size):
        magnitude = _abs(source[i])
        significand, theta, outer, gap = _locate(magnitude, grid)
        if biased is None:  # 0 <= theta < 1, and 0 for a value of the format
            away = _is_below(word[i], shift, theta, scale)
        else:
            leaning = outward
            if v is not None:
                leaning = _times_sign(_times_sign(-outward, v[i]), source[i]) if (v[i] < 0) | (v[i] > 0) else zero
            threshold = _scaled_sum(theta, scale, leaning)
            away = _is_below_any(word[i], shift, threshold, full, v)
        target[i] = _finish(source[i], (outer if away else significand) * gap, grid.overflow, grid)


@jit
def draw_words(words, start, count, draw, stream):
    """Return the words of elements from `start` on, of one replicate, in `words`, which has room for `SPARE` more.

    Element i is element i mod row of the replicate numbered first + (i // row)·step; see `stream_of`.
    """
    row, first, step, seed = stream[0], stream[1], stream[2], stream[3]
    element, replicate = start % row, np.uint64(first + start // row * step)
    ahead = element & 3
    needed = (ahead + count + SPARE - 1) & -SPARE
    fill_words(words[:needed], np.uint64(element >> 2), np.uint64(draw), replicate, np.uint64(seed))
    return words[ahead : ahead + count]


@jit
def _deterministic(begin, end, x, out, room, numbers, layout, directed):
    """Round elements begin to end; `room` is BLOCK where `out` is also `x`, else 0."""
    scratch, grid = np.empty(room, x.dtype), make_grid(numbers, layout)
    for start in range(begin, end, BLOCK):
        count = min(BLOCK, end - start)
        source, target = _part(x, start, count, scratch), out[start : start + count]
        deterministic_block(source, target, grid, directed)


@jit
def _stochastic(begin, end, x, v, out, room, numbers, layout, biased, draw, stream):
    """Round elements begin to end; `room` is BLOCK where `out` is also `x` or `v`, else 0."""
    grid, words = make_grid(numbers, layout), np.empty(BLOCK + SPARE, np.uint32)
    aside = np.empty((2, room), x.dtype)
    row, bits = stream[0], stream[4]
    start = begin
    while start < end:
        count = min(BLOCK, end - start, row - start % row)
        word = draw_words(words, start, count, draw, stream)
        source, target = _part(x, start, count, aside[0]), out[start : start + count]
        if v is None:
            stochastic_block(source, None, target, word, grid, biased, bits)
        else:
            direction = _part(v, start, count, aside[1])
            stochastic_block(source, direction, target, word, grid, biased, bits)
        start += count


@jit
def _step(begin, end, x, g, out, t, signed, layout, numbers2, variant2, draw2, numbers3, variant3, draw3, stream):
    """Write fl(x − fl(t·g)) for elements begin to end; `signed` is None if the outer rounding takes no direction.

    `draw2`, `draw3` are None if the inner, the outer rounding needs no words.
    """
    grid2, grid3, words = make_grid(numbers2, layout), make_grid(numbers3, layout), np.empty(BLOCK + SPARE, np.uint32)
    exact, u = np.empty(BLOCK, x.dtype), np.empty(BLOCK, x.dtype)
    row, bits = stream[0], stream[4]
    start = begin
    while start < end:
        count = min(BLOCK, end - start, row - start % row)
        now, slope, target = x[start : start + count], g[start : start + count], out[start : start + count]
        source, moved = exact[:count], u[:count]
        for i in range(count):
            source[i] = t * slope[i]
        if draw2 is None:
            deterministic_block(source, moved, grid2, variant2)
        else:
            word = draw_words(words, start, count, draw2, stream)
            stochastic_block(source, None, moved, word, grid2, variant2, bits)
        for i in range(count):
            source[i] = now[i] - moved[i]
        if draw3 is None:
            deterministic_block(source, target, grid3, variant3)
        else:
            word = draw_words(words, start, count, draw3, stream)
            if signed is None:
                stochastic_block(source, None, target, word, grid3, variant3, bits)
            else:
                stochastic_block(source, moved, target, word, grid3, variant3, bits)
        start += count


def round_step(x, g, stepsize: float, multiply: Rule, update: Rule, signed: bool, rng):
    """Return fl(x − fl(stepsize·g)) for NumPy arrays of float64 and one shape, in one pass.

    Parameters
    ----------
    multiply, update : Rule
        Of one format.
    signed : bool
        Whether the update takes the direction of the inner result.
    rng : Philox
        Of which a stochastic rule takes a draw, `multiply` first.
    """
    flat, slope = x.ravel(), g.ravel()
    out, sites = np.empty_like(flat), []
    for rule in (multiply, update):
        sites += rule.numbers, rule.variant, rng.take() if rule.stochastic else None
    constants = float(stepsize), True if signed else None, multiply.layout
    arguments = flat, slope, out, *constants, *sites, stream_of(flat.size, rng)
    in_threads(flat.size, lambda begin, end: _step(begin, end, *arguments))
    return out.reshape(x.shape)


def stream_of(size, rng):
    """Return what the kernels want to know of a Philox for arrays of a size, as int64: one array, soon passed.

    That is the size of a replicate, the number of the first, the step to the next, the seed, and the bits of a word.
    """
    return _stream(size, None, 0, 32) if rng is None else _stream(size, rng.replicates, rng.seed, rng.bits)


@lru_cache(maxsize=1024)
def _stream(size, replicates, seed, bits):
    count, first, step = (1, 0, 1) if replicates is None else (len(replicates), replicates.start, replicates.step)
    return np.array([size // count or 1, first, step, _signed(seed), bits], np.int64)


def round_array(x, v, out, rule: Rule, rng=None):
    """Return a NumPy array rounded, in `out` if that is given.

    Parameters
    ----------
    x, v, out : arrays of one shape
        `v` and `out` may be None; `out` may have any layout and byte order, and overlap with the others.
    rule : Rule
    rng : Philox
        Of which a stochastic rule takes a draw.
    """
    target, room = (np.empty(x.shape, x.dtype), 0) if out is None else _target(out, x, v)
    round_flat(x.ravel(), None if v is None else v.ravel(), target.ravel(), room, rule, rng)
    if out is None or target is out:
        return target
    out[...] = target
    return out


def round_flat(x, v, out, room: int, rule: Rule, rng) -> None:
    """Round a contiguous array with one axis to another; `room` is BLOCK if `out` is also `x` or `v`, else 0."""
    numbers, layout, variant, stochastic = rule
    size = x.size
    if stochastic:
        span, arguments = _stochastic, (x, v, out, room, numbers, layout, variant, rng.take(), stream_of(size, rng))
    else:
        span, arguments = _deterministic, (x, out, room, numbers, layout, variant)
    if size < _SMALL:
        span(0, size, *arguments)  # soon done
    else:
        in_threads(size, lambda begin, end: span(begin, end, *arguments))


def _signed(word):
    """Return the int64 with the bits of a uint64: Numba takes integers from Python as such."""
    return word - (1 << 64) if word >> 63 else word


def _target(out, x, v):
    """Return `out`, or an array for the kernels to write in its place, and the room that x and v need aside."""
    flags = out.flags
    if not flags.c_contiguous or not out.dtype.isnative:
        return np.empty(out.shape, x.dtype), 0
    room = 0
    for read in (x,) if v is None else (x, v):
        # Two arrays that own their memory share none of it.
        if read is out or (not (flags.owndata and read.flags.owndata) and np.may_share_memory(out, read)):
            if not read.flags.c_contiguous or read.ctypes.data != out.ctypes.data:
                return np.empty(out.shape, x.dtype), 0
            room = BLOCK
    return out, room


def in_threads(size, span, work=None, unit=BLOCK):
    """Call span(begin, end) on parts of range(size), in as many threads as numba.get_num_threads() says.

    `work` counts elementary operations, `size` unless given; parts begin at multiples of `unit`.
    """
    if (size if work is None else work) < _SMALL:
        span(0, size)
        return
    threads = numba.get_num_threads()
    part = -(-size // (threads * unit)) * unit
    if part >= size:
        span(0, size)
        return
    list(_pool(os.getpid(), threads).map(lambda begin: span(begin, min(begin + part, size)), range(0, size, part)))


@lru_cache(maxsize=1)
def _pool(process, threads):  # a forked process has none of its parent's threads
    return ThreadPoolExecutor(threads, thread_name_prefix="srlib")
