import numpy as np
from scipy.stats import ttest_rel

from srlib.results import at_best_stepsize, best_stepsize, paired, summary, table
from srlib.statistics import holm, mean_band


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
    assert rows["SR"]["final error (%)"] == f"{final[0]:.2f} ±\u00a0{half[0]:.2f}"
    assert rows["RN"]["best error (%)"] == f"{100 * c['RN']['error'].min():.2f}"
    assert (rows["RN"]["runs"], rows["SR"]["runs"]) == ("1", "5")
    assert [rows[name]["epochs to 6.0%"] for name in rows] == ["never", "4 of 5", "10.0 ±\u00a00.0"]
    assert [rows[name]["stops after"] for name in rows] == ["3", "3.0 ±\u00a00.0", "2 of 5"]


def test_paired_differences_are_those_of_the_paired_t_test():
    c = curves()
    rows = paired(c)
    assert [row["scheme"] for row in rows] == ["RN", "other"]
    p = [
        ttest_rel(np.broadcast_to(c[name]["error"][:, -1], 5), c["SR"]["error"][:, -1]).pvalue
        for name in ("RN", "other")
    ]
    assert [row["Holm's p"] for row in rows] == [f"{value:.1g}" for value in holm(p)]
    assert rows[1]["error − SR's (points)"].startswith("+1.80 ±")


def test_without_replicates_nothing_is_significant():
    c = {name: {key: np.asarray(value)[:1] for key, value in runs.items()} for name, runs in curves().items()}
    assert [row["Holm's p"] for row in paired(c)] == ["1", "1"]


def test_a_difference_that_all_replicates_share_has_no_spread_though_its_last_digits_differ():
    c = curves()
    c["SR"]["error"][:, -1] = 0.1 * np.arange(1, 6)
    c["other"]["error"][:, -1] = c["SR"]["error"][:, -1] + 0.01
    assert 0 < np.ptp(100 * c["other"]["error"][:, -1] - 100 * c["SR"]["error"][:, -1]) < 1e-12
    assert paired({name: c[name] for name in ("SR", "other")})[0]["Holm's p"] == "< 1e-6"


def test_a_table_is_markdown():
    rows = [{"a": "1", "b": "-2", "c": "c ≤ 0"}, {"a": "1", "b": "never", "c": "-"}]
    assert table(rows) == "| a | b | c |\n| --- | ---: | --- |\n| 1 | -2 | c ≤ 0 |\n| 1 | never | - |"


def test_the_best_stepsize_is_picked_on_held_out_images_and_the_test_set_reports():
    points = [
        {"held_out": np.array([3.0, 5.0]), "error": np.array([1.0, 1.0]), "loss": np.array([0.5, 0.5])},
        {"held_out": np.array([2.0, 4.0]), "error": np.array([9.0, 9.0]), "loss": np.array([0.25, 0.25])},
    ]
    assert best_stepsize(points) == 1
    (row,) = at_best_stepsize({"SR": points}, [0.5, 0.125], "schedule")
    assert row["schedule"] == "SR" and row["best t"] == "0.125"
    assert row["held-out error (%)"].startswith("3.00") and row["test error (%)"].startswith("9.00")
    assert row["loss"].startswith("0.250")
