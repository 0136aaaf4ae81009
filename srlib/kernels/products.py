"""Matrix products on the CPU whose every sum is taken in index order, rounded on the way or not.

No term is fused with a sum, so that the bits are those of the plain loop on any machine.
"""

import math

import numpy as np

from srlib.kernels.cache import jit
from srlib.kernels.cpu import SPARE, deterministic_block, draw_words, make_grid, stochastic_block, stream_of
from srlib.kernels.rule import Rule
from srlib.kernels.threads import in_threads


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
                # Four terms at a time: a sum is loaded and stored once for four of them, and four rows of b and their
                # factors still fit into the registers.
                for k in range(0, inner - 3, 4):
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


def _operand(array):
    """Return a contiguous array that is read-only, whatever it was: Numba compiles for each of the two anew."""
    operand = np.ascontiguousarray(array).view()
    operand.flags.writeable = False
    return operand


def ordered_matmul(a, b):
    """Return the products of float64 matrices, (batch, m, k) by (batch or 1, k, n), every sum in index order.

    No term is fused with a sum, so the bits are those of the plain loop on any machine.
    """
    a, b = _operand(a), _operand(b)
    out = np.empty((a.shape[0], a.shape[1], b.shape[2]))
    work = a.size * b.shape[2]
    in_threads(b.shape[2], lambda begin, end: _ordered_columns(a, b, out, begin, end), work, unit=128)
    return out


@jit
def _accumulated(lines, columns, a, b, out, numbers, layout, kinds, draw, stream, floored):
    """Accumulate part of the products a[i] @ b[i]: some lines, counted over all i, and columns of the result.

    After each term the sums are rounded, by the words of draw after draw; `draw` is None if they need none.
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
            for k in range(inner):
                factor, column = factors[k], right[k, start : start + count]
                for j in range(count):
                    exact[j] = total[j] + factor * column[j]
                if draw is not None:
                    element = line * across + start
                    word = draw_words(words, element, count, draw + k, stream)
                    stochastic_block(exact, None, total, word, grid, kinds[0], stream[4], floored)
                else:
                    deterministic_block(exact, total, grid, kinds[1])
            out[line // rows, line % rows, start : start + count] = total


def accumulated_matmul(a, b, rule: Rule, rng):
    """Return the products of float64 matrices, (batch, m, k) by (batch or 1, k, n), accumulated in a low format.

    Parameters
    ----------
    rule : Rule
        By which a sum is rounded after each term.
    rng : Philox
        Of which a stochastic rule takes a draw each time; the result is the array that it rounds.
    """
    shape, draws = (a.shape[0], a.shape[1], b.shape[2]), a.shape[2]
    stream, floored = stream_of(math.prod(shape), rng)
    if b.shape[::2] == (1, 1) and a.size:  # by a vector: the rows of a replicate become columns, rounded together
        rows = np.reshape(a, (-1, stream[0], a.shape[2]))
        a, b = np.broadcast_to(b[:, :, 0], (len(rows), 1, a.shape[2])), np.swapaxes(rows, 1, 2)
    a, b = _operand(a), _operand(b)
    out = np.empty((a.shape[0], a.shape[1], b.shape[2]))
    lines, columns = out.shape[0] * out.shape[1], out.shape[2]
    draw = rng.draws if rule.stochastic else None
    arguments = a, b, out, rule.numbers, rule.layout, (rule.biased, rule.directed), draw, stream, floored
    work = 8 * a.size * columns
    if columns > lines:
        in_threads(columns, lambda *part: _accumulated((0, lines), part, *arguments), work, unit=128)
    else:
        in_threads(lines, lambda *part: _accumulated(part, (0, columns), *arguments), work, unit=1)
    if rule.stochastic:
        rng.draws += draws
    return out.reshape(shape)
