import numpy as np
import pytest
from scipy.stats import bootstrap, false_discovery_control
from scipy.stats import t as student

from srlib.companion.statistics import holm, mean_band, plus_minus


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


@pytest.mark.parametrize("confidence", [0.5, 0.95, 1 - 0.05 / 9])
@pytest.mark.parametrize("count", [2, 3, 20])
def test_a_band_is_students_interval_at_any_confidence(confidence, count):
    sample = np.random.default_rng(4).exponential(size=count)
    (mean,), (half,) = mean_band(sample[None], confidence)
    error = sample.std(ddof=1) / np.sqrt(count)
    np.testing.assert_allclose(
        [mean - half, mean + half], student.interval(confidence, count - 1, sample.mean(), error)
    )
    assert confidence != 0.95 or mean_band(sample[None])[1] == half
    shown, around = (float(part) for part in plus_minus(sample, 3).split(" ±\u00a0"))
    (half,) = mean_band(sample[None])[1]
    assert shown == round(mean, 3) and around <= half + 1.51e-3
    assert shown - around <= mean - half + 1e-8 and shown + around >= mean + half - 1e-8


@pytest.mark.parametrize("shape", [(4,), (4, 1)])
def test_without_replicates_there_is_no_band(shape):
    mean, half_width = mean_band(np.arange(4.0).reshape(shape))
    np.testing.assert_array_equal(mean, np.arange(4.0))
    np.testing.assert_array_equal(half_width, np.zeros(4), strict=True)


def test_the_mean_of_one_value_is_said_without_a_band():
    assert plus_minus(np.array([2.25]), 1) == "2.2"
    assert plus_minus(np.array([2.25, 2.25]), 1) == "2.2 ±\u00a00.1"
    assert plus_minus(np.array([2.5, 2.5]), 1) == "2.5 ±\u00a00.0"


@pytest.mark.parametrize(
    "statistic", [holm, lambda values: mean_band(values[None])[0], lambda values: mean_band(values)[0]]
)
def test_numbers_of_few_bits_are_treated_in_float64(statistic):
    values = np.linspace(0.01, 0.9, 11, dtype=np.float32)
    found = statistic(values)
    assert found.dtype == np.float64
    np.testing.assert_array_equal(found, statistic(np.array([float(value) for value in values])))


def test_holm_s_method_is_that_of_his_example():
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])
    p = np.random.default_rng(5).uniform(size=20) ** 3
    assert np.all(holm(p) <= np.minimum(20 * p, 1)) and np.all(holm(p) >= false_discovery_control(p) - 1e-15)
