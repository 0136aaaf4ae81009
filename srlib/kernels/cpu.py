"""CPU kernels: Philox words, threshold and rounding fused in one pass.

Nothing here knows a format or a scheme by name: they come as a `Rule`, whose numbers are the scales of a format, and
what theta is compared with, or what is added to it before a random word decides. `reference` is the specification of
what is computed, and the tests compare the two bit for bit.
"""

from collections import namedtuple
from functools import lru_cache

import numpy as np

from srlib.kernels import threads
from srlib.kernels.cache import jit
from srlib.kernels.llvm import (
    LANES,
    absolute,
    binade,
    ceil,
    fill_lanes,
    floor,
    is_below,
    is_below_clipped,
    like,
    scaled_sum,
    times_sign,
)
from srlib.kernels.rule import NUMBERS, Rule, flag
from srlib.kernels.threads import BLOCK as BLOCK
from srlib.kernels.threads import in_threads

SPARE = 4 * LANES  # words that may be written beyond those of a block

_MASK = np.uint64(0xFFFFFFFF)
_SHIFT = np.uint64(32)


_Grid = namedtuple("_Grid", (*NUMBERS, "inside", "flushed"))  # the numbers and the layout of a `Rule`


@jit
def fill_words(words, counter, draw, replicate, seed):
    """Fill an array of uint32, of a length that is a multiple of `SPARE`, with the words of Philox4x32-10.

    They are those of the counters from `counter` on.
    """
    low, high, key0, key1 = draw & _MASK, draw >> _SHIFT, seed & _MASK, seed >> _SHIFT
    for start in range(0, words.size, SPARE):
        fill_lanes(words, start, counter + np.uint64(start >> 2), low, high, replicate, key0, key1)


@jit
def _locate(magnitude, grid):
    """Return significand, theta, outer and gap: magnitude = (significand + theta)·gap.

    The neighbour away from zero is outer·gap; outer is significand for a value of the format, else one more.
    """
    if grid.inside is not None:
        up, down = binade(magnitude, grid.smallest_normal, grid.to_integer)
        scaled, gap = magnitude * down, grid.from_integer * up
    else:
        up, down = binade(magnitude, grid.smallest_normal, None)
        if grid.flushed is None:
            scaled, gap = magnitude * down * grid.to_integer, grid.from_integer * up
        else:
            deep = magnitude < grid.below
            scaled = magnitude * down * (like(magnitude, 0.5) if deep else grid.to_integer)
            gap = up if deep else grid.from_integer * up
    significand = floor(scaled)
    if grid.inside is not None:
        outer = ceil(scaled)
    else:  # scaled may be 0 by underflow
        outer = significand + like(scaled, 1.0 if significand * gap != magnitude else 0.0)
    return significand, scaled - significand, outer, gap


@jit
def _finish(x, rounded, overflow, grid):
    """Return a rounded magnitude with the sign of x, or what overflow makes of it; NaN if it is NaN."""
    return times_sign(overflow if rounded > grid.largest else rounded, x)


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
        magnitude = absolute(source[i])
        significand, theta, outer, gap = _locate(magnitude, grid)
        threshold = grid.negative if source[i] < 0 else grid.positive
        half = significand * like(theta, 0.5)
        away = (theta > threshold) | ((theta == threshold) & (half != floor(half)))
        rounded = (outer if away else significand) * gap
        overflow = grid.overflow
        if directed is not None:
            overflow = grid.largest if (threshold > 1) & (rounded < np.inf) else overflow
        target[i] = _finish(source[i], rounded, overflow, grid)


@jit
def stochastic_block(source, v, target, word, grid, biased, bits, floored):
    """Round away from zero: with probability theta; if `biased`, theta + eps, or with v theta − sign(x)·sign(v)·eps.

    The probability is rounded to a multiple of 2^−bits: to the nearest, or if `floored` to the one below.
    """
    zero, one, scale, shift = like(grid.eps, 0.0), like(grid.eps, 1.0), like(grid.eps, 2.0**bits), np.uint32(32 - bits)
    full, outward = like(grid.eps, 2.0**bits - 0.5), grid.eps * scale
    for i in range(source.size):
        magnitude = absolute(source[i])
        significand, theta, outer, gap = _locate(magnitude, grid)
        if biased is None:  # 0 <= theta < 1, and 0 for a value of the format
            if floored is None:
                away = is_below(word[i], shift, theta, scale)
            else:
                away = is_below(word[i], shift, floor(theta * scale), one)
        else:
            leaning = outward
            if v is not None:
                leaning = times_sign(times_sign(-outward, v[i]), source[i]) if (v[i] < 0) | (v[i] > 0) else zero
            threshold = scaled_sum(theta, scale, leaning)
            if floored is not None:
                threshold = floor(threshold)
            away = is_below_clipped(word[i], shift, threshold, full, v)
        target[i] = _finish(source[i], (outer if away else significand) * gap, grid.overflow, grid)


@jit
def draw_words(words, start, count, draw, stream):
    """Return the words of elements from `start` on, of one replicate, in `words`, which has room for `SPARE` more.

    Element i is element origin + i mod row of the replicate numbered first + (i // row)·step; see `stream_of`.
    """
    row, first, step, seed = stream[0], stream[1], stream[2], stream[3]
    element, replicate = stream[5] + start % row, np.uint64(first + start // row * step)
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
def _stochastic(begin, end, x, v, out, room, numbers, layout, biased, draw, stream, floored):
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
            stochastic_block(source, None, target, word, grid, biased, bits, floored)
        else:
            direction = _part(v, start, count, aside[1])
            stochastic_block(source, direction, target, word, grid, biased, bits, floored)
        start += count


@jit
def _step(begin, end, arrays, t, signed, layout, rules, draw2, draw3, stream, floored):
    """Write fl(x − fl(t·g)) for elements begin to end; `arrays` are x, g and that.

    `signed` is None if the outer rounding takes no direction. `rules` are the numbers of the inner and of the outer
    rounding, and whether they are biased and directed; `draw2` and `draw3` their draws, or None if they need no words.
    """
    x, g, out = arrays
    (numbers2, biased2, directed2), (numbers3, biased3, directed3) = rules
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
            deterministic_block(source, moved, grid2, directed2)
        else:
            word = draw_words(words, start, count, draw2, stream)
            stochastic_block(source, None, moved, word, grid2, biased2, bits, floored)
        for i in range(count):
            source[i] = now[i] - moved[i]
        if draw3 is None:
            deterministic_block(source, target, grid3, directed3)
        else:
            word = draw_words(words, start, count, draw3, stream)
            if signed is None:
                stochastic_block(source, None, target, word, grid3, biased3, bits, floored)
            else:
                stochastic_block(source, moved, target, word, grid3, biased3, bits, floored)
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
    out = np.empty_like(flat)
    draws = [rng.take() if rule.stochastic else None for rule in (multiply, update)]
    rules = tuple((rule.numbers, rule.biased, rule.directed) for rule in (multiply, update))
    arguments = (
        (flat, slope, out),
        float(stepsize),
        flag(signed),
        multiply.layout,
        rules,
        *draws,
        *stream_of(flat.size, rng),
    )
    in_threads(flat.size, lambda begin, end: _step(begin, end, *arguments))
    return out.reshape(x.shape)


def stream_of(size, rng):
    """Return what the kernels need of a Philox for arrays of a size, and whether its threshold is "floor", as a flag.

    The first is one array of int64, which is cheap to pass: size of a replicate, number of the first, step to the next,
    seed, bits of a word, number of the first element.
    """
    if rng is None:
        return _stream(size, None, 0, 32, 0, "nearest")
    return _stream(size, rng.replicates, rng.seed, rng.bits, rng.start, rng.threshold)


@lru_cache(maxsize=1024)
def _stream(size, replicates, seed, bits, start, threshold):
    count, first, step = (1, 0, 1) if replicates is None else (len(replicates), replicates.start, replicates.step)
    found = np.array([size // count or 1, first, step, _signed(seed), bits, start], np.int64)
    return found, flag(threshold == "floor")


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
    numbers, layout, biased, directed, stochastic = rule
    size = x.size
    if stochastic:
        stream = stream_of(size, rng)
        span, arguments = _stochastic, (x, v, out, room, numbers, layout, biased, rng.take(), *stream)
    else:
        span, arguments = _deterministic, (x, out, room, numbers, layout, directed)
    if size < threads.SMALL:
        span(0, size, *arguments)
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
