import numpy as np
import pytest
from scipy.stats import bootstrap, false_discovery_control, ttest_rel

from srlib.results import holm, mean_band, paired, summary, table


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


def curves():
    errors = np.random.default_rng(4).uniform(0.1, 0.5, size=(3, 5, 4))
    errors[2] = errors[1] + np.array([0.01, 0.02, 0.03, 0.02, 0.01])[:, None]
    still = np.array([0.5, 1.0, 0.9, 1.0, 1.0])
    measured = {"steps": [0, 10, 20, 30], "loss": np.ones((5, 4)), "unmoved": np.tile(still, (5, 1))}
    named = dict(zip(["RN", "SR", "other"], errors, strict=True))
    found = {name: {"error": error, **measured} for name, error in named.items()}
    return found | {"RN": {key: value if key == "steps" else value[:1] for key, value in found["RN"].items()}}


def test_a_summary_has_the_final_and_best_error_and_when_things_happen():
    c = curves()
    c["SR"]["error"][:, 2] = [0.05, 0.05, 0.05, 0.05, 0.3]
    c["other"]["error"][:, 1] = 0.01
    c["other"]["unmoved"] = np.where(np.arange(5)[:, None] < 2, c["other"]["unmoved"], 0.5)
    rows = {row["scheme"]: row for row in summary(c, [0.06])}
    final, half = mean_band(100 * c["SR"]["error"][:, -1][None])
    assert rows["SR"]["final error (%)"] == f"{final[0]:.2f}\u00a0±\u00a0{half[0]:.2f}"
    assert rows["RN"]["best error (%)"] == f"{100 * c['RN']['error'].min():.2f}"
    assert (rows["RN"]["runs"], rows["SR"]["runs"]) == ("1", "5")
    assert [rows[name]["epochs to 6.0%"] for name in rows] == ["never", "4 of 5", "10.0\u00a0±\u00a00.0"]
    assert [rows[name]["stops after"] for name in rows] == ["3", "3.0\u00a0±\u00a00.0", "2 of 5"]


def test_paired_differences_are_those_of_the_paired_t_test():
    c = curves()
    rows = paired(c)
    assert [row["scheme"] for row in rows] == ["RN", "other"]
    p = [
        ttest_rel(np.broadcast_to(c[name]["error"][:, -1], 5), c["SR"]["error"][:, -1]).pvalue
        for name in ("RN", "other")
    ]
    assert [row["Holm's p"] for row in rows] == [f"{value:.1g}" for value in holm(p)]
    assert rows[1]["error − SR's (points)"].startswith("+1.80\u00a0±")


def test_without_replicates_nothing_is_significant():
    c = {name: {key: np.asarray(value)[:1] for key, value in runs.items()} for name, runs in curves().items()}
    assert [row["Holm's p"] for row in paired(c)] == ["1", "1"]


def test_holm_s_method_is_that_of_his_example():
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])
    p = np.random.default_rng(5).uniform(size=20) ** 3
    assert np.all(holm(p) <= np.minimum(20 * p, 1)) and np.all(holm(p) >= false_discovery_control(p) - 1e-15)


def test_a_table_is_markdown():
    assert table([{"a": "1", "b": "2"}]) == "| a | b |\n| --- | ---: |\n| 1 | 2 |"
