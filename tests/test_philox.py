import copy
import pickle
import re

import array_api_strict
import numpy as np
import pytest

from srlib import Philox, round_to
from srlib.kernels import cpu
from srlib.philox import philox4x32

# kat_vectors of Random123: counter, key, result.
KNOWN = [
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]
each_known = pytest.mark.parametrize(("counter", "key", "result"), KNOWN)


@each_known
@pytest.mark.parametrize("xp", [np, array_api_strict])
def test_the_published_answers(xp, counter, key, result):
    words = philox4x32([xp.asarray([word], dtype=xp.uint64) for word in counter], key)
    assert tuple(int(word[0]) for word in words) == result


@each_known
def test_the_published_answers_from_the_kernel(counter, key, result):
    words = np.zeros(cpu.SPARE, np.uint32)
    draw, seed = counter[1] + (counter[2] << 32), key[0] + (key[1] << 32)
    cpu.fill_words(words, *(np.uint64(value) for value in (counter[0], draw, counter[3], seed)))
    assert tuple(words[:4].tolist()) == result
    following = (counter[0] + np.arange(words.size // 4, dtype=np.uint64)) % 2**32
    rest = (np.full_like(following, word) for word in counter[1:])
    assert np.array_equal(words, np.stack(philox4x32((following, *rest), key), axis=1).ravel())


@pytest.mark.parametrize(("seed", "draw"), [(0, 0), (2**64 - 1, 2**40 + 5)])
def test_a_word_is_the_one_of_its_replicate_draw_and_element(seed, draw):
    rng = Philox(seed, replicates=range(5, 8))
    rng.draws = draw
    words = rng.words(np.empty((3, 2, 5)))
    assert rng.draws == draw + 1
    key = (seed % 2**32, seed // 2**32)
    for r in range(3):
        for i in range(10):
            counter = [np.array(word, dtype=np.uint64) for word in (i // 4, draw % 2**32, draw // 2**32, 5 + r)]
            assert words[r].ravel()[i] == philox4x32(counter, key)[i % 4]


@pytest.mark.parametrize(("shape", "replicates"), [((3, 2, 5), range(5, 8)), ((3, 0), 3), ((2, 7), None), ((), None)])
def test_words_have_the_shape_library_and_device_of_the_array(shape, replicates):
    place = array_api_strict.Device("device1")
    strict = Philox(8, replicates).words(array_api_strict.empty(shape, device=place))
    words = Philox(8, replicates).words(np.empty(shape))
    assert (strict.shape, strict.device, strict.dtype) == (shape, place, array_api_strict.uint64)
    assert (words.shape, words.dtype) == (shape, np.uint64)
    np.testing.assert_array_equal(np.asarray(strict.to_device(array_api_strict.Device("CPU_DEVICE"))), words)


@pytest.mark.parametrize("shape", [(2, 3), (1, 3), (4,), ()])
def test_words_are_refused_where_the_first_axis_is_not_that_of_the_replicates(shape):
    rng = Philox(1, replicates=3)
    for take in (lambda: rng.words(np.empty(shape)), lambda: rng.uniform(shape)):
        with pytest.raises(ValueError, match=rf"^x has shape {re.escape(str(shape))}; its first axis must be the 3"):
            take()
    assert rng.draws == 0


def test_as_many_replicates_as_there_are_numbers_for_them_are_soon_counted():
    assert len(Philox(1, replicates=2**32).replicates) == 2**32


@pytest.mark.parametrize("numbers", [range(0, 8, 4), range(9, 0, -3), range(2**32 - 7, 2**32, 5)], ids=str)
@pytest.mark.parametrize("row", [1, 6, 1031])
def test_replicates_of_a_range_with_a_step_have_the_words_of_their_numbers(numbers, row):
    """In the specification, and in the kernel, which rounds 4.5 to 5 where the word is below 2^31."""
    blocks = np.arange(-(-row // 4), dtype=np.uint64)
    counters = [(blocks, *(np.full_like(blocks, word) for word in (0, 0, number))) for number in numbers]
    expected = [np.stack(philox4x32(counter, (77, 0)), axis=1).ravel()[:row] for counter in counters]
    x = np.full((len(numbers), row), 4.5)
    np.testing.assert_array_equal(Philox(77, numbers).words(x), expected)
    away = round_to(x, "binary8", "SR", Philox(77, numbers)) == 5
    np.testing.assert_array_equal(away, np.array(expected) < 2**31)


def test_the_words_are_frozen():
    rng = Philox(2022, replicates=range(2, 4))
    rng.draws = 9
    assert rng.words(np.empty((2, 3))).tolist() == [
        [1314550650, 803930980, 856737689],
        [722577525, 2183467608, 3178966406],
    ]


def test_the_bits_of_the_words_are_balanced_and_unrelated():
    """Each bit, and each pair of neighbours, draws and replicates: false alarms together below 1e-6.

    Each of 32 means and 3 correlations of 2^18 words is normal to within what matters; |z| < 6 has 2e-9 each.
    """
    rng = Philox(19, replicates=2)
    first, second = rng.words(np.empty((2, 2**17))), rng.words(np.empty((2, 2**17)))
    for bit in range(32):
        mean = ((first >> np.uint64(bit)) & np.uint64(1)).mean()
        assert abs(mean - 0.5) * 2 * 2**9 < 6
    centred = [words / 2.0**32 - 0.5 for words in (first, second)]
    pairs = [(centred[0][:, 1:], centred[0][:, :-1]), (centred[0], centred[1]), (centred[0][:1], centred[0][1:])]
    for a, b in pairs:
        assert abs((a * b).sum()) * 12 / np.sqrt(a.size) < 6


def test_uniform_numbers_lie_strictly_between_0_and_1():
    rng = Philox(3)
    np.testing.assert_array_equal(rng.uniform((100,)), (Philox(3).words(np.empty(100)) + 0.5) / 2**32)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"seed": -1}, ValueError, "seed is -1; must be from 0 to 18446744073709551615"),
        ({"seed": 2**64}, ValueError, "seed is 18446744073709551616; must be from 0"),
        ({"seed": 1.5}, TypeError, "seed is 1.5; must be an integer"),
        ({"seed": True}, TypeError, "seed is True; must be an integer"),
        ({"bits": 0}, ValueError, "bits is 0; must be from 1 to 32"),
        ({"threshold": "ceil"}, ValueError, "threshold is 'ceil'; must be one of nearest, floor"),
        ({"start": -1}, ValueError, "start is -1; must be from 0 to 17179869184"),
        ({"start": 0.5}, TypeError, "start is 0.5; must be an integer"),
        ({"bits": 33}, ValueError, "bits is 33; must be from 1 to 32"),
        ({"replicates": 0}, ValueError, "replicates is 0; must be from 1"),
        (
            {"replicates": range(3, 3)},
            ValueError,
            r"replicates is range\(3, 3\); must be a count or a range of numbers",
        ),
        ({"replicates": range(-1, 3)}, ValueError, r"replicates is range\(-1, 3\); must be"),
        ({"replicates": range(1, -2, -1)}, ValueError, r"replicates is range\(1, -2, -1\); must be"),
        ({"replicates": range(2**32 - 1, 2**32 + 1)}, ValueError, "a range of numbers from 0 to 4294967295$"),
        ({"replicates": 2**32 + 1}, ValueError, "replicates is 4294967297; must be from 1 to 4294967296"),
        ({"replicates": [1, 2]}, TypeError, r"replicates is \[1, 2\]; must be an integer"),
    ],
)
def test_bad_parameters_are_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        Philox(**({"seed": 1} | arguments))


@pytest.mark.parametrize(
    ("name", "value", "error", "message"),
    [
        ("draws", 1.5, TypeError, "draws is 1.5; must be an integer"),
        ("draws", -1, ValueError, "draws is -1; must be from 0 to 18446744073709551615"),
        ("draws", True, TypeError, "draws is True; must be an integer"),
        ("bits", 40, ValueError, "bits is 40; must be from 1 to 32"),
        ("seed", 2**64, ValueError, "seed is 18446744073709551616; must be from 0"),
        ("replicates", 0, ValueError, "replicates is 0; must be from 1"),
        (
            "draw",
            3,
            AttributeError,
            "a Philox has no draw; must be one of replicates, seed, bits, start, draws, threshold",
        ),
    ],
)
def test_what_is_set_later_is_checked_too(name, value, error, message):
    rng = Philox(1, 3)
    before = repr(rng)
    with pytest.raises(error, match=message):
        setattr(rng, name, value)
    assert repr(rng) == before


def test_what_is_set_later_holds():
    rng = Philox(1)
    rng.seed, rng.replicates, rng.bits, rng.draws = 5, 2, 7, 9
    other = Philox(5, 2, 7)
    other.draws = 9
    x = np.full((2, 300), 1.1)
    np.testing.assert_array_equal(round_to(x, "binary8", "SR", rng), round_to(x, "binary8", "SR", other))
    assert copy.copy(rng).draws == pickle.loads(pickle.dumps(rng)).draws == 10


@pytest.mark.parametrize(
    ("shape", "replicates"), [((2**34 + 1,), None), ((2, 2**17, 2**17 + 1), 2), ((2, 2**34), None)]
)
def test_more_elements_than_a_replicate_has_words_are_refused(shape, replicates):
    rng, x = Philox(1, replicates), np.broadcast_to(np.float32(1.1), shape)
    for use in (rng.words, lambda x: round_to(x, "binary8", "SR", rng)):
        with pytest.raises(ValueError, match=r"a replicate must have at most 2\^34 elements"):
            use(x)
    assert rng.draws == 0
    rng.check_shape((2**34,) if replicates is None else (2, 2**34))
