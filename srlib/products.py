"""Matrix products on the CPU whose every sum is taken in index order, rounded on the way or not; exp; tables.

No term is fused with a sum, so that the bits are those of the plain loop on any machine.
"""

import numpy as np
from numba import literal_unroll

from srlib.cpu import (
    SPARE,
    Rule,
    deterministic_block,
    draw_words,
    in_threads,
    jit,
    make_grid,
    rint,
    stochastic_block,
    stream_of,
)
from srlib.elementary import HIGHEST, LN2_HIGH, LN2_LOW, LOG2_E, LOWEST, POWERS, TAYLOR


@jit
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
    in_threads(b.shape[2], lambda begin, end: _ordered_columns(a, b, out, begin, end), work, unit=128)
    return out


@jit
def _accumulated(lines, columns, a, b, out, block, numbers, layout, variant, draw, stream):
    """Accumulate part of the products a[i] @ b[i]: some lines, counted over all i, and columns of the result.

    After each `block` terms the sums are rounded, by the words of draw after draw; `draw` is None if they need none.
    """
    width = 256  # columns at a time: what a block needs stays in the first-level cache
    grid, words = make_grid(numbers, layout), np.empty(width + SPARE, np.uint32)
    sums, terms = np.empty(width), np.empty(width)
    rows, inner, across = a.shape[1], a.shape[2], b.shape[2]
    for start in range(columns[0], columns[1], width):
        count = min(width, columns[1] - start)
        total, exact = sums[:count], terms[:count]
        for line in range(lines[0], lines[1]):
            factors, right = a[line // rows, line % rows], b[line // rows % b.shape[0]]
            total[:] = 0.0
            for k in range(0, inner, block):
                exact[:] = 0.0
                for inside in range(k, min(k + block, inner)):
                    factor, column = factors[inside], right[inside, start : start + count]
                    for j in range(count):
                        exact[j] += factor * column[j]
                for j in range(count):
                    exact[j] += total[j]
                if draw is not None:
                    element = line * across + start
                    word = draw_words(words, element, count, draw + k // block, stream)
                    stochastic_block(exact, None, total, word, grid, variant, stream[4])
                else:
                    deterministic_block(exact, total, grid, variant)
            out[line // rows, line % rows, start : start + count] = total


def accumulated_matmul(a, b, rule: Rule, rng, block: int):
    """Return the products of float64 matrices, (batch, m, k) by (batch or 1, k, n), accumulated in a low format.

    Parameters
    ----------
    rule : Rule
        By which a sum is rounded after each `block` terms, which are added up among themselves first.
    rng : Philox
        Of which a stochastic rule takes a draw each time; the result is the array that it rounds.
    """
    a, b = np.ascontiguousarray(a), np.ascontiguousarray(b)
    out = np.empty((a.shape[0], a.shape[1], b.shape[2]))
    lines, columns, draws = out.shape[0] * out.shape[1], out.shape[2], -(-a.shape[2] // block)
    draw = rng.draws if rule.stochastic else None
    arguments = a, b, out, block, rule.numbers, rule.layout, rule.variant, draw, stream_of(out.size, rng)
    work = 8 * a.size * columns
    if columns > lines:
        in_threads(columns, lambda *part: _accumulated((0, lines), part, *arguments), work, unit=128)
    else:
        in_threads(lines, lambda *part: _accumulated(part, (0, columns), *arguments), work, unit=1)
    if rule.stochastic:
        rng.draws += draws
    return out


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
    """Return exp of each element of a float64 array, as `srlib.elementary.exp` does."""
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
