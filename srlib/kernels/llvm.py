"""Instructions that Numba does not give, and that keep a loop vectorised."""

from functools import partial

import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic, overload

from srlib.philox import INCREMENTS, MULTIPLIERS

LANES = 8  # counters at a time: one chain of AVX-512, or two of AVX2, of which neither waits for the other


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
floor = _llvm_function("llvm.floor", 1)


ceil = _llvm_function("llvm.ceil", 1)


rint = _llvm_function("llvm.rint", 1)


absolute = _llvm_function("llvm.fabs", 1)


@intrinsic
def binade(typing, magnitude, smallest, scale):
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
def times_sign(typing, x, y):
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
def scaled_sum(typing, x, scale, y):
    """Return x·scale + y for a power of two."""

    def generate(context, builder, signature, arguments):
        return _scaled(builder, context.get_value_type(x), *arguments)

    return x(x, x, x), generate


@intrinsic
def is_below(typing, word, shift, x, scale):
    """Tell whether word >> shift < nint(x·scale), for a uint32 and 0 ≤ x·scale < 2^32.

    A float64 is rounded by the sum with 2^52 and compared with 2^52 + word. A float32 becomes a word, modulo 2^32, as
    AVX2 converts to integers with a sign; beyond these limits the result depends on the machine.
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


def is_below_clipped(word, shift, threshold, full, v):
    """Tell whether word >> shift < clip(nint(threshold), 0, 2^bits), where full = 2^bits − ½.

    Without a `v` no threshold is negative. A float64 needs no clip: the comparison is one of numbers.
    """


@overload(is_below_clipped)
def _is_below_clipped(word, shift, threshold, full, v):
    if threshold == types.float64:
        return lambda word, shift, threshold, full, v: is_below(word, shift, threshold, 1.0)
    one, zero = np.float32(1), np.float32(0)
    if v == types.none:
        return lambda word, shift, threshold, full, v: is_below(word, shift, threshold, one) | (threshold >= full)

    def of_any_sign(word, shift, threshold, full, v):
        return is_below(word, shift, threshold if threshold > zero else zero, one) | (threshold >= full)

    return of_any_sign


@intrinsic
def like(typing, x, value):
    """Return a number in the type of x."""

    def generate(context, builder, signature, arguments):
        return context.cast(builder, arguments[1], value, x)

    return x(x, value), generate


@intrinsic
def fill_lanes(typing, words, start, counter, low, high, replicate, key0, key1):
    """Write the words of some counters, as many as lanes, from word `start` on.

    Each lane has 64 bits, whose upper half is masked only where it is multiplied, so that the widening multiply is one
    SIMD instruction and the mask none.
    """

    def generate(context, builder, signature, arguments):
        target = context.make_array(words)(context, builder, arguments[0])
        number, vector = ir.IntType(64), ir.VectorType(ir.IntType(64), LANES)
        mask, half = (ir.Constant(vector, [value] * LANES) for value in (0xFFFFFFFF, 32))
        multipliers = [ir.Constant(vector, [value] * LANES) for value in MULTIPLIERS]

        def order(lanes):
            return ir.Constant(ir.VectorType(ir.IntType(32), len(lanes)), lanes)

        def all_lanes(x):
            one = builder.insert_element(ir.Constant(vector, ir.Undefined), x, ir.IntType(32)(0))
            return builder.shuffle_vector(one, one, order([0] * LANES))

        def product(i, x):
            return builder.mul(multipliers[i], builder.and_(x, mask))

        def mixed(x, y, key):  # the upper half of x with the others
            return builder.xor(builder.xor(builder.lshr(x, half), y), all_lanes(key))

        def one_round(counters, keys):
            c0, c1, c2, c3 = counters
            p0, p1 = product(0, c0), product(1, c2)
            return mixed(p1, c1, keys[0]), p1, mixed(p0, c3, keys[1]), p0

        def next_keys(keys):
            raised = [builder.add(key, number(bump)) for key, bump in zip(keys, INCREMENTS, strict=True)]
            return [builder.and_(key, number(0xFFFFFFFF)) for key in raised]

        first, *others = (all_lanes(x) for x in arguments[2:6])
        counters = builder.add(first, ir.Constant(vector, list(range(LANES)))), *others
        keys = arguments[6:]
        for _ in range(10):
            counters, keys = one_round(counters, keys), next_keys(keys)
        c0, c1, c2, c3 = counters
        first, second = (
            builder.or_(builder.and_(even, mask), builder.shl(odd, half)) for even, odd in ((c0, c1), (c2, c3))
        )
        found = builder.shuffle_vector(first, second, order([k for j in range(LANES) for k in (j, LANES + j)]))
        place = builder.gep(target.data, [arguments[1]])
        builder.store(found, builder.bitcast(place, found.type.as_pointer()), align=4)
        return context.get_dummy_value()

    return types.void(words, start, counter, low, high, replicate, key0, key1), generate
