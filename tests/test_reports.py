"""What people have reported of libraries that do this job, and met here: a row an input, with what is right for it."""

import ctypes
import os
import platform
import subprocess
import sys
import threading
from contextlib import contextmanager
from types import ModuleType

import mpmath
import numpy as np
import oracle
import pytest

import srlib
from srlib import Arithmetic, Format, Philox, Scheme, mean_error, prob_up, round_to, variance

pytestmark = pytest.mark.xdist_group("kernels")

X = np.full(8, 2.0**-126 * 1.003, np.float32)


@contextmanager
def flushed():
    """Subnormal numbers taken for 0, as torch.set_flush_denormal(True) does."""
    if (platform.machine(), platform.libc_ver()[0]) != ("x86_64", "glibc"):
        pytest.skip("sets a register of x86-64 by glibc's fesetenv")
    libm, state = ctypes.CDLL("libm.so.6"), ctypes.create_string_buffer(32)
    libm.fegetenv(state)
    before = state.raw
    mxcsr = int.from_bytes(before[28:], "little") | 0x8040
    libm.fesetenv(before[:28] + mxcsr.to_bytes(4, "little"))
    try:
        yield
    finally:
        libm.fesetenv(before)


FLUSHED = {
    "a small array": lambda: round_to(X, "bfloat16"),
    "a large array": lambda: round_to(np.resize(X, 10**6), "bfloat16"),
    "a transposed array": lambda: round_to(np.ones((3, 4)).T, "bfloat16"),
    "a number": lambda: round_to(1.1, "bfloat16"),
    "a probability": lambda: prob_up(X, "bfloat16", "SR"),
    "neighbours": lambda: Format.parse("bfloat16").neighbours(X),
    "values": lambda: Format("deep", 2, -1022, -1000).values(),
    "a sum": lambda: Arithmetic("bfloat16").add(1.0, 2.0),
    "exp": lambda: Arithmetic("bfloat16").exp(np.ones(3)),
    "a law": lambda: srlib.exact_law(srlib.Huber(1.0, 0.5), "binary8", 0.25),
}


@pytest.mark.parametrize("call", FLUSHED.values(), ids=FLUSHED)
def test_a_thread_that_flushes_subnormal_numbers_is_refused_and_leaves_nothing_behind(call):
    with flushed(), pytest.raises(RuntimeError) as error:
        call()
    assert str(error.value) == (
        "subnormal numbers are flushed to zero in this thread; must be kept, as by torch.set_flush_denormal(False)"
    )
    np.testing.assert_array_equal(round_to(X, "bfloat16"), 2.0**-126)
    np.testing.assert_array_equal(prob_up(X, "bfloat16", "SR"), np.float32(X * 2.0**126 - 1) * 128)


@pytest.mark.parametrize("carrier", ["float32", "float64"])
def test_tables_of_a_format_are_made_of_integers(carrier):
    fmt = Format("anew", 3, -120, -90)
    with flushed():
        ends, gaps = fmt._binades(carrier)
    assert ends[0] == 2.0**-120 and gaps[0] == gaps[1] == 2.0**-122 and np.all(ends[1:] == 2 * ends[:-1])
    deepest = Format("deepest", 24 if carrier == "float32" else 53, -126 if carrier == "float32" else -1022, 0)
    with flushed():
        gaps = deepest._binades(carrier)[1]
    assert gaps[0] == np.finfo(carrier).smallest_subnormal and np.all(gaps > 0)


class Foreign:
    """An array of a library that is NumPy, but for what it makes of 64-bit words and subnormal numbers."""

    device, shape, ndim = "there", (8,), 1

    def __init__(self, word=np.uint64, least=0.0, fails=False):
        self.dtype = np.float32

        def asarray(value, *, dtype, device):
            if fails:
                raise RuntimeError("a tracer")
            array = np.asarray(value, word if dtype == np.uint64 else dtype)
            return np.where(np.abs(array) < least, 0, array).astype(array.dtype)

        self._namespace = ModuleType("foreign")
        self._namespace.asarray = asarray
        for name in ("float32", "float64", "uint64"):
            setattr(self._namespace, name, getattr(np, name))

    def __array_namespace__(self, api_version=None):
        return self._namespace

    def __array__(self):
        raise AssertionError("converted without a word")


LIBRARIES = {
    "words of 32 bits": (Foreign(word=np.uint32), "has no unsigned integers of 64 bits"),
    "words with a sign": (Foreign(word=np.int64), "has no unsigned integers of 64 bits"),
    "no subnormal numbers": (Foreign(least=2.0**-126), "flushes subnormal numbers to zero"),
    "no numbers": (Foreign(fails=True), "computes no numbers (RuntimeError)"),
}


@pytest.mark.parametrize(("x", "lacks"), LIBRARIES.values(), ids=LIBRARIES)
@pytest.mark.parametrize("call", ["round_to", "prob_up", "neighbours", "words", "v"])
def test_a_library_that_cannot_compute_it_is_refused(x, lacks, call):
    calls = {
        "round_to": lambda: round_to(x, "bfloat16", "SR", Philox(1)),
        "prob_up": lambda: prob_up(x, "bfloat16", "SR"),
        "neighbours": lambda: Format.parse("bfloat16").neighbours(x),
        "words": lambda: Philox(1).words(x),
        "v": lambda: round_to(np.ones(8), "bfloat16", "signed_SR_eps(0.1)", Philox(1), v=x),
    }
    with pytest.raises(TypeError) as error:
        calls[call]()
    name = "v" if call == "v" else "x"
    assert str(error.value) == f"{name} is an array of foreign, which here {lacks}; must be of another, such as NumPy"


def test_a_library_that_has_been_set_to_do_better_is_asked_again():
    x = Foreign(fails=True)
    with pytest.raises(TypeError, match="computes no numbers"):
        prob_up(x, "bfloat16", "SR")
    x._namespace.asarray = lambda value, *, dtype, device: np.asarray(value, dtype)
    with pytest.raises(AttributeError):  # it goes on, and needs what this library has not
        prob_up(x, "bfloat16", "SR")


AT_OVERFLOW = [
    (np.float32(1e30), "bfloat16", "RN", 0.0),
    (np.float32(3.4e38), "bfloat16", "RZ", 0.0),
    (2.0**1000, "bfloat16", "SR", 0.0),
    (-(2.0**1000), "binary8", "SR_eps(0.1)", 0.0),
    (1.7976931348623157e308, "binary64", "SR", 0.0),
    (1.5 * 2.0**520, "fixed(1,1)", "SR", 0.0),
    (1.25 * 2.0**500, "float4_e2m1fn", "SR", 2.0**998 / 4),
    (1.25 * 2.0**-530, Format("low", 2, -540, -500), "SR", 2.0**-1062 / 4),
]


@pytest.mark.parametrize(("x", "fmt", "scheme", "expected"), AT_OVERFLOW, ids=str)
def test_a_variance_is_a_number_wherever_it_is_one(x, fmt, scheme, expected):
    with np.errstate(all="raise"):
        assert variance(x, fmt, scheme) == expected


@pytest.mark.parametrize("fmt", oracle.FORMATS, ids=str)
@pytest.mark.parametrize("scheme", oracle.SCHEMES)
def test_closed_forms_warn_of_nothing(fmt, scheme):
    x = oracle.edges(fmt, np.float64)
    x = np.concatenate([x, [5e-324, 1.7e308, -1.7e308, 2.0**-1060 * 1.5, np.inf, np.nan]])
    with np.errstate(all="raise"):
        for closed_form in (prob_up, mean_error, variance):
            found = closed_form(x, fmt, scheme, v=x)
            assert np.array_equal(np.isnan(found), ~np.isfinite(x))
        fmt.neighbours(x), fmt.ulp(x), round_to(x, fmt, scheme, Philox(1), v=x)


PARTS = {"precision": np.int64(4), "emin": np.int8(-6), "emax": np.uint8(7), "largest_significand": np.int32(14)}
KEPT = {
    "largest": lambda: (Format("m", **PARTS).largest, 224.0),
    "subnormals": lambda: (Format("m", **PARTS, subnormals=np.False_).smallest_subnormal, 2.0**-6),
    "unit roundoff": lambda: (Format("m", **PARTS).unit_roundoff, 2.0**-4),
    "values": lambda: (Format("m", **PARTS).values().size, 2 * (7 + 14 * 8 - 1) + 1),
    "equality": lambda: (Format("m", **PARTS), Format("m", 4, -6, 7, largest_significand=14)),
    "fixed": lambda: (Format.fixed(np.int64(2), np.uint8(2)), Format.fixed(2, 2)),
    "name": lambda: (repr(Format(np.str_("m"), 4, -6, 7, overflow=np.str_("nan"))).count("np."), 0),
    "eps": lambda: (repr(Scheme("SR_eps", np.float32(0.5))), "Scheme(name='SR_eps', eps=0.5)"),
    "seed": lambda: (repr(Philox(np.uint64(2**64 - 1), np.int8(3), np.int16(4))).count("np."), 0),
}


@pytest.mark.parametrize("case", KEPT.values(), ids=KEPT)
def test_what_is_accepted_is_kept_as_python_has_it(case):
    found, expected = case()
    assert found == expected


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"subnormals": "off"}, "subnormals is 'off'; must be True or False"),
        ({"subnormals": 0}, "subnormals is 0; must be True or False"),
        ({"name": 5}, "name is 5; must be text"),
        ({"precision": 4.0}, "precision is 4.0; must be an integer"),
        ({"overflow": None}, "overflow is None; must be one of inf, nan, saturate"),
    ],
)
def test_what_a_format_does_not_take_is_refused(change, message):
    with pytest.raises((TypeError, ValueError)) as error:
        Format(**{"name": "m", "precision": 4, "emin": -6, "emax": 7, **change})
    assert str(error.value) == message


THREADING = """
import os, sys
{before}
import numba, numpy
from srlib import round_to
round_to(numpy.ones(10**6), "binary8")
{after}
@numba.njit
def other(x):
    return x + 1
print(other(3))
"""


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("os.environ['NUMBA_THREADING_LAYER'] = 'tbb'", ""),
        ("os.environ['NUMBA_THREADING_LAYER'] = 'none'", ""),
        ("", "os.environ['NUMBA_NUM_THREADS'] = '1'"),
        ("os.environ['NUMBA_NUM_THREADS'] = '1'", "os.environ['NUMBA_NUM_THREADS'] = '2'"),
    ],
    ids=["tbb is not there", "there is no such layer", "fewer threads later", "more threads later"],
)
def test_threads_of_numba_are_left_alone(before, after):
    code = THREADING.format(before=before, after=after)
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ, check=False)
    assert (said.stdout, said.returncode) == ("4\n", 0), said.stderr


def test_precision_of_mpmath_is_the_users_in_every_thread():
    arithmetic, before, seen = Arithmetic(Format("anew", 4, -9, 9)), mpmath.mp.prec, []

    def use():
        arithmetic.exp(np.ones(1))
        seen.append(mpmath.mp.prec)

    users = [threading.Thread(target=use) for _ in range(8)]
    for user in users:
        user.start()
    for user in users:
        seen.append(mpmath.mp.prec)
        user.join()
    assert {*seen, mpmath.mp.prec} == {before}
