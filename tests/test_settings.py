import sys
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.stats import bootstrap

from srlib.settings import Settings, mean_band, setups


def test_a_parameter_is_as_given_or_as_the_profile_says_and_is_recorded():
    given = Settings("quick", "numpy", 1, "out", replicates=7, steps=None)
    assert given.choose("replicates", quick=2, paper=20) == 7
    assert given.choose("steps", quick=60, paper=150) == 60
    assert given.parameters == {"profile": "quick", "backend": "numpy", "seed": 1, "replicates": 7, "steps": 60}
    assert Settings("paper", "numpy", 1, "out", steps=None).choose("steps", quick=60, paper=150) == 150


def test_the_stream_has_the_seed():
    rng = Settings("quick", "numpy", 5, "out").rng(replicates=3)
    assert (rng.seed, rng.replicates) == (5, range(3))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("slow", "numpy", 1), ValueError, "profile is 'slow'; must be one of quick, paper"),
        (("quick", "jax", 1), ValueError, "backend is 'jax'; must be one of numpy, cupy"),
        (("quick", "numpy", -1), ValueError, "seed is -1; must be from 0"),
    ],
)
def test_bad_settings_are_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        Settings(*arguments, "out")


@pytest.mark.parametrize(("value", "error"), [(0, ValueError), (2.5, TypeError), ("3", TypeError)])
def test_a_count_that_is_none_is_refused(value, error):
    with pytest.raises(error, match="replicates is"):
        Settings("quick", "numpy", 1, "out", replicates=value).choose("replicates", quick=1, paper=2)


def no_device(count):
    raise RuntimeError("no CUDA-capable device is detected")


def test_cupy_is_refused_without_cupy_and_without_a_gpu(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(RuntimeError, match="backend is 'cupy', but CuPy cannot be imported"):
        Settings("quick", "cupy", 1, "out")
    monkeypatch.setitem(sys.modules, "cupy", SimpleNamespace(arange=no_device))
    with pytest.raises(RuntimeError, match="there is no working GPU"):
        Settings("quick", "cupy", 1, "out")


def test_the_setups_are_those_of_the_specification():
    found = {
        setup.name: [str(setup.fmt), *map(str, list(setup.options.values())[1:])] for setup in setups("e4m3", [0.1])
    }
    assert found == {
        "binary32": ["binary32", "RN", "RN", "RN"],
        "RN": ["e4m3", "RN", "RN", "RN"],
        "SR": ["e4m3", "SR", "SR", "SR"],
        "SR_eps(0.1)": ["e4m3", "SR_eps(0.1)", "SR_eps(0.1)", "SR"],
        "signed_SR_eps(0.1)": ["e4m3", "SR", "SR", "signed_SR_eps(0.1)"],
        "both(0.1)": ["e4m3", "SR_eps(0.1)", "SR_eps(0.1)", "signed_SR_eps(0.1)"],
    }
    assert [setup.stochastic for setup in setups("e4m3", [0.1], baseline=None)] == [False, True, True, True, True]


def test_a_confidence_band_covers_the_mean_as_often_as_it_says():
    """2000 normal samples of 5: 1900 ± 49 bands cover; outside 1900 ± 60 with probability below 1e-6 is ± 4.9 sd."""
    samples = np.random.default_rng(1).standard_normal((2000, 5))
    mean, half_width = mean_band(samples)
    assert abs(np.sum(np.abs(mean) <= half_width) - 1900) < 4.9 * np.sqrt(2000 * 0.95 * 0.05)


def test_a_band_is_close_to_a_bootstrap_for_many_replicates():
    sample = np.random.default_rng(2).exponential(size=(1, 2000))
    mean, half_width = mean_band(sample)
    interval = bootstrap((sample[0],), np.mean, random_state=3).confidence_interval
    np.testing.assert_allclose([mean[0] - half_width[0], mean[0] + half_width[0]], interval, rtol=0.01)


@pytest.mark.parametrize("shape", [(4,), (4, 1)])
def test_without_replicates_there_is_no_band(shape):
    mean, half_width = mean_band(np.arange(4.0).reshape(shape))
    np.testing.assert_array_equal(mean, np.arange(4.0))
    np.testing.assert_array_equal(half_width, 0)
