"""Fused CPU kernels: Philox words and rounding in one pass over the bits of an array.

Nothing here knows a format or a scheme by name; `rounding` passes integers. A magnitude lies between
two neighbours of the format, at a fraction theta above the lower one, held as an integer of B bits
(B = 30 in a float32 carrier, 62 in a float64 carrier). It moves away from zero where

    uniform - (nearest and lower is odd) < theta + toward_away + sign(x) upward - sign(x) sign(v) against,

`uniform` being B bits made of one random word, or one half for round-to-nearest. `reference` holds the
same in plain array operations, and the tests compare the two bit for bit.
"""

import os
from concurrent.futures import ThreadPoolExecutor

import numba
import numpy as np

LANES = 64
BLOCK = 4 * LANES

_MASK = np.uint64(0xFFFFFFFF)
_M0, _M1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_W0, _W1 = np.uint64(0x9E3779B9), np.uint64(0xBB67AE85)
_SHIFT = np.uint64(32)

_jit = numba.njit(nogil=True, cache=True, boundscheck=False)


@_jit
def fill_words(words, block, count, draw, replicate, seed):
    """The random words of elements ``BLOCK * block`` to ``+ count`` of one replicate in one draw.

    Lane j of the block runs Philox4x32-10 on the counter (LANES * block + j, draw, replicate); its word w
    belongs to element ``LANES * w + j``. Lanes are 64 bits wide and masked to 32, which makes the widening
    multiply one SIMD instruction.
    """
    draw_low, draw_high = draw & _MASK, draw >> _SHIFT
    for j in range(min(count, LANES)):
        c0, c1, c2, c3 = np.uint64(block * LANES + j), draw_low, draw_high, replicate
        k0, k1 = seed & _MASK, seed >> _SHIFT
        for _ in range(10):
            p0, p1 = _M0 * c0, _M1 * c2
            c0, c1, c2, c3 = (p1 >> _SHIFT) ^ c1 ^ k0, p1 & _MASK, (p0 >> _SHIFT) ^ c3 ^ k1, p0 & _MASK
            k0, k1 = (k0 + _W0) & _MASK, (k1 + _W1) & _MASK
        words[j] = np.uint32(c0)
        words[j + LANES] = np.uint32(c1)
        words[j + 2 * LANES] = np.uint32(c2)
        words[j + 3 * LANES] = np.uint32(c3)


@_jit
def _round32(x, v, out, words, grid, rule, scale):
    i32, u32 = np.int32, np.uint32
    drop0, emin, smallest, largest, overflow, infinity = grid
    toward_away, upward, against, nearest, _ = rule
    drop0, emin = i32(drop0), i32(emin + drop0)
    smallest, largest, overflow, infinity = i32(smallest), i32(largest), i32(overflow), i32(infinity)
    toward_away, upward, against, nearest = i32(toward_away), i32(upward), i32(against), i32(nearest)
    s0, s1 = scale
    bits_in, bits_out = x.view(np.int32), out.view(np.int32)
    signed = v.size > 0
    for i in range(x.size):
        bits = bits_in[i]
        negative = i32(bits >> i32(31))
        magnitude = i32(bits & i32(0x7FFFFFFF))
        drop = i32(max(i32(emin - i32(max(i32(magnitude >> i32(23)), i32(1)))), drop0)) & i32(31)
        step = i32(i32(1) << drop)
        lower = i32(magnitude & i32(-step))
        theta = i32(i32(magnitude - lower) << i32(i32(30) - drop))
        odd = i32(i32(i32(lower & step) != i32(0)) & nearest)
        deep = magnitude < smallest
        theta = i32(np.abs(x[i]) * s0 * s1) if deep else theta
        upper = smallest if deep else i32(lower + step)
        lower = i32(0) if deep else lower
        odd = i32(0) if deep else odd
        push = upward
        if signed:
            push = i32((against if v[i] < 0 else i32(0)) - (against if v[i] > 0 else i32(0)))
        push = i32(i32(push ^ negative) - negative)
        uniform = i32(i32(words[i] >> u32(2)) - odd)
        away = uniform < i32(theta + i32(toward_away + push))
        rounded = upper if (away & (magnitude != lower)) else lower
        rounded = overflow if rounded > largest else rounded
        special = infinity if magnitude == i32(0x7F800000) else magnitude
        rounded = rounded if magnitude < i32(0x7F800000) else special
        bits_out[i] = i32(rounded | i32(bits & i32(-0x80000000)))
