import math

import numpy as np
import pytest
from scipy.stats import norm, ttest_1samp, ttest_rel

from srlib.companion.comparisons import (
    at_best_stepsize,
    averaged,
    best_stepsize,
    brief,
    differences,
    errors_at_best,
    final_errors,
    gain_of_bound,
    of_average,
    over_images,
    paired,
    proposed,
    summary,
)
from srlib.companion.statistics import holm, mean_band
from srlib.companion.tables import table, verdict


def bits_of(wrong):
    """Which images are wrong, as `compare` says it."""
    return np.packbits([*wrong, True]).tobytes().hex()


def curves():
    errors = np.random.default_rng(4).uniform(0.1, 0.5, size=(3, 5, 4))
    errors[2] = errors[1] + np.array([0.01, 0.02, 0.03, 0.02, 0.01])[:, None]
    still = np.array([0.5, 1.0, 0.9, 1.0, 1.0])
    measured = {"steps": [0, 10, 20, 30], "loss": np.ones((5, 4)), "unmoved": np.tile(still, (5, 1))}
    errors[:, :, 2] = errors[:, :, 3]  # the final error is a mean of the last two
    named = dict(zip(["RN", "SR", "other"], errors, strict=True))
    wrong = {name: bits_of(np.arange(100 * r, 100 * r + 12) % (7 + r) == 0) for r, name in enumerate(named)}
    found = {name: {"error": error, "wrong": np.array([wrong[name]] * 5)} | measured for name, error in named.items()}
    return found | {"RN": {key: value if key == "steps" else value[:1] for key, value in found["RN"].items()}}


def test_a_summary_has_the_final_and_best_error_and_when_things_happen():
    c = curves()
    c["SR"]["error"][:, 2] = [0.05, 0.05, 0.05, 0.05, 0.3]
    c["other"]["error"][:, 1] = 0.01
    c["other"]["unmoved"] = np.where(np.arange(5)[:, None] < 2, c["other"]["unmoved"], 0.5)
    rows = {row["scheme"]: row for row in summary(c, [0.06])}
    final, half = mean_band(100 * c["SR"]["error"][:, -2:].mean(axis=1)[None])
    shown, around = (float(part) for part in rows["SR"]["final error (%)"].split(" ±\u00a0"))
    assert shown == round(final[0], 2) and half[0] <= around + abs(shown - final[0]) <= half[0] + 0.02
    assert rows["RN"]["error after 10 (%)"] == f"{100 * c['RN']['error'][0, 1]:.2f}"
    assert rows["RN"]["best error (%)"] == f"{100 * c['RN']['error'].min():.2f}"
    assert (rows["RN"]["runs"], rows["SR"]["runs"]) == ("1", "5")
    assert [rows[name]["epochs to 6.0%"] for name in rows] == ["never", "4 of 5", "10.0 ±\u00a00.0"]
    assert [rows[name]["stops after"] for name in rows] == ["3", "3.0 ±\u00a00.0", "2 of 5"]


@pytest.mark.parametrize(
    ("error", "best", "reached"),
    [
        ([0.9, 0.2, 0.1, 0.3], "10.00", "5"),  # it crosses the level, falls further and rises again
        ([0.9, 0.25, 0.2, 0.1], "10.00", "7"),  # the level itself is reached
        ([0.9, 0.8, 0.7, 0.1], "10.00", "11"),
        ([0.2, 0.3, 0.4, 0.5], "20.00", "1"),
        ([0.9, 0.8, 0.3, 0.21], "21.00", "never"),
    ],
)
def test_a_level_is_reached_where_the_error_is_first_at_or_below_it(error, best, reached):
    curve = {"error": [error], "loss": [[4.0, 1.0, 3.0, 2.0]], "unmoved": [[0.5]], "steps": [1, 5, 7, 11]}
    (row,) = summary({"RN": curve}, [0.2])
    assert (row["best error (%)"], row["epochs to 20.0%"]) == (best, reached)
    assert (row["final error (%)"], row["final loss"]) == (f"{50 * (error[-1] + error[-2]):.2f}", "2.0000")


@pytest.mark.parametrize(
    ("unmoved", "stop"),
    [
        ([0.5, 0.9, 1.0, 1.0], "2"),
        ([0.5, 1.0, 0.9, 1.0], "3"),
        ([1.0, 1.0, 1.0], "0"),
        ([1.0, 1.0, 0.9999], "never"),
    ],
)
def test_a_run_stops_after_the_last_step_that_moves_anything(unmoved, stop):
    (row,) = summary({"RN": {"error": [[0.5]], "loss": [[1.0]], "unmoved": [unmoved], "steps": [0]}}, [])
    assert row["stops after"] == stop


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
    assert paired(c, "other")[1]["error − other's (points)"].startswith("-1.80 ±")


def test_a_difference_is_the_final_error_less_that_of_the_reference_and_p_is_adjusted_for_all():
    c = curves()
    found = differences(c, "other")
    assert list(found) == ["RN", "SR"]
    assert [list(row)[:2] for row in paired(c, "other")] == 2 * [["scheme", "error − other's (points)"]]
    assert [row["scheme"] for row in paired(c, "other")] == ["RN", "SR"]
    plain = []
    for name, (values, _) in found.items():
        own = [run[-1] for run in c[name]["error"]] * (5 if name == "RN" else 1)
        expected = [100 * (ours - theirs[-1]) for ours, theirs in zip(own, c["other"]["error"], strict=True)]
        np.testing.assert_allclose(values, expected, atol=1e-12)
        plain.append(ttest_1samp(expected, 0).pvalue)
    smaller, larger = sorted([0, 1], key=lambda i: plain[i])
    adjusted = {smaller: 2 * plain[smaller], larger: max(plain[larger], 2 * plain[smaller])}
    np.testing.assert_allclose([p for _, p in found.values()], [min(adjusted[i], 1) for i in (0, 1)], rtol=1e-9)


@pytest.mark.parametrize(
    ("apart", "p"), [([0.0, 0.0], "1"), ([0.01, 0.01], "< 1e-6"), ([-0.01, -0.01], "< 1e-6"), ([0.01], "1")]
)
def test_without_spread_a_difference_is_certain_if_there_is_one_in_several_replicates(apart, p):
    named = {"SR": [[0.5]] * len(apart), "other": [[0.5 + value] for value in apart]}
    (row,) = paired({name: {"error": error, "wrong": ["01"] * len(apart)} for name, error in named.items()})
    assert row["Holm's p"] == p


def test_without_replicates_nothing_is_significant():
    c = {name: {key: np.asarray(value)[:1] for key, value in runs.items()} for name, runs in curves().items()}
    assert [row["Holm's p"] for row in paired(c)] == ["1", "1"]


def test_a_difference_that_all_replicates_share_has_no_spread_though_its_last_digits_differ():
    c = curves()
    c["SR"]["error"][:, -2:] = 0.1 * np.arange(1, 6)[:, None]
    c["other"]["error"][:, -2:] = c["SR"]["error"][:, -2:] + 0.01
    assert 0 < np.ptp(100 * c["other"]["error"][:, -1] - 100 * c["SR"]["error"][:, -1]) < 1e-12
    assert paired({name: c[name] for name in ("SR", "other")})[0]["Holm's p"] == "< 1e-6"


def test_a_table_is_markdown():
    rows = [{"a": "1", "b": "-2", "c": "c ≤ 0"}, {"a": "1", "b": "never", "c": "-"}]
    assert table(rows) == "| a | b | c |\n| --- | ---: | --- |\n| 1 | -2 | c ≤ 0 |\n| 1 | never | - |"


def test_a_table_may_have_one_row():
    assert table([{"a": "1", "b": "2"}]) == "| a | b |\n| --- | ---: |\n| 1 | 2 |"


def test_a_bar_in_a_table_ends_no_cell():
    assert table([{"a": "|x|", "b": "2"}]) == "| a | b |\n| --- | ---: |\n| \\|x\\| | 2 |"


def test_what_happens_in_both_of_two_replicates_has_a_mean_with_a_digit():
    curve = {"error": [[0.5, 0.1]] * 2, "loss": [[1.0, 1.0]] * 2, "unmoved": [[1.0, 0.5, 1.0], [0.5, 1.0, 1.0]]}
    (row,) = summary({"SR": curve | {"steps": [0, 3]}}, [0.1])
    assert row["epochs to 10.0%"] == "3.0 ±\u00a00.0"
    assert row["stops after"].startswith("1.5 ±")


def test_what_is_not_finite_is_text_in_a_record_and_counts_as_a_number():
    """A run that overflows has an infinite loss, then none, and the error of whatever class is left."""
    curve = {"error": [["nan", 0.5, "0.5"]], "loss": [["inf", "nan", "nan"]], "unmoved": [["nan", 0.5]]}
    curve["steps"] = [0, 1, 2]
    (row,) = summary({"RN": curve}, [0.6])
    assert (row["epochs to 60.0%"], row["final error (%)"], row["final loss"]) == ("1", "50.00", "nan")
    assert row["stops after"] == "never"
    found = differences({"SR": {"error": [[0.25, "0.5", 0.5]]}, "other": {"error": [["nan", 0.75, 0.75]]}})
    assert found["other"][0] == [25.0]
    points = [{"t": 0.5, "held_out": ["inf"], "error": ["inf"], "loss": ["inf"]}]
    points.append({"t": 1.0, "held_out": [9.0, "9.0"], "error": ["8.5", 8.5], "loss": ["inf", 1.0]})
    assert best_stepsize(points) == 1
    assert errors_at_best({"SR": points})["SR"].tolist() == [8.5, 8.5]
    (row,) = at_best_stepsize({"SR": [points[0] | {"wrong": [bits_of([True, False])]}]})
    assert row["loss"] == "inf"


def test_the_best_stepsize_is_picked_on_held_out_images_and_another_by_the_loss():
    points = [
        {"t": 0.5, "held_out": np.array([3.0, 5.0]), "error": np.array([1.0, 1.0]), "loss": np.array([0.1, 0.1])},
        {"t": 0.125, "held_out": np.array([2.0, 4.0]), "error": np.array([9.0, 9.0]), "loss": np.array([0.25, 0.25])},
    ]
    points[1]["wrong"] = [bits_of([True, False])] * 2
    assert (best_stepsize(points), best_stepsize(points, "loss")) == (1, 0)
    (row,) = at_best_stepsize({"SR": points}, "schedule")
    assert (row["schedule"], row["best t by error"], row["best t by loss"]) == ("SR", "0.125 (end)", "0.5 (end)")
    assert row["held-out error (%)"].startswith("3.00") and row["test error (%)"].startswith("9.00")
    assert row["loss"].startswith("0.250")
    assert row["least loss"].startswith("0.100") and row["test error there (%)"].startswith("1.00")


def test_a_best_stepsize_between_others_has_no_mark_and_a_page_shows_fewer_columns():
    points = [{"t": t, "held_out": [abs(t - 2)], "error": [9.0], "loss": [t], "wrong": ["c0"]} for t in (1.0, 2.0, 4.0)]
    (row,) = at_best_stepsize({"SR": points})
    assert (row["best t by error"], row["best t by loss"]) == ("2", "1 (end)")
    (shown,) = brief([row])
    assert row.keys() - shown.keys() == {"loss", "best t by loss", "test error there (%)"}


def test_averages_are_compared_as_last_iterates_are():
    mean = {"average 5 loss": [[1.0]], "average 5 error": [[0.25]], "average 5 wrong": ["c0"]}
    found = of_average({"SR": curves()["SR"] | mean}, 5)
    assert found == {"SR": {"loss": [[1.0]], "error": [[0.25]], "wrong": ["c0"]}}
    assert final_errors(found["SR"]).tolist() == [25.0]
    points = {"SR": [{"t": 0.5, "held_out": [1.0], "average": {"held_out": [2.0], "error": [3.0]}}]}
    assert averaged(points) == {"SR": [{"t": 0.5, "held_out": [2.0], "error": [3.0]}]}


def test_errors_at_the_best_stepsizes_are_compared_with_the_first_scheme_s_and_so_are_their_images():
    rng = np.random.default_rng(7)
    wrong = {name: rng.random((3, 500)) < share for name, share in {"exact": 0.1, "a": 0.2, "b": 0.3}.items()}
    sweep = {
        name: [{"t": 1.0, "held_out": [1.0], "error": [1.0], "loss": [1.0], "wrong": [*map(bits_of, bits)]}]
        for name, bits in wrong.items()
    }
    rows, z = at_best_stepsize(sweep), norm.ppf(1 - 0.05 / 4)  # two-sided, for two schemes
    title = "less exact's (± over images)"
    assert [row["scheme"] for row in rows] == list(wrong) and rows[0][title] == ""
    for name, row in zip("ab", rows[1:], strict=True):
        apart = 100 * (wrong[name].mean(axis=0) - wrong["exact"].mean(axis=0))
        half = z * np.std(apart, ddof=1) / np.sqrt(500)
        assert row[title] == f"{np.mean(apart):+.2f}\u00a0±\u00a0{half:.2f}"


def test_a_final_error_is_the_mean_of_the_last_two_records():
    assert final_errors({"error": [[0.9, 0.08, 0.09], [0.9, "0.1", 0.2]]}).tolist() == pytest.approx([8.5, 15.0])
    assert final_errors({"error": [[0.25]]}).tolist() == [25.0]


@pytest.mark.parametrize("count", [1, 7, 8, 9, 200])
def test_the_interval_over_images_is_that_of_paired_differences(count):
    rng = np.random.default_rng(count)
    mine, theirs = rng.random((3, count)) < 0.4, rng.random((2, count)) < 0.2
    mean, half = over_images({"wrong": [bits_of(w) for w in mine]}, {"wrong": [bits_of(w) for w in theirs]})
    apart = 100 * (mine.mean(axis=0) - theirs.mean(axis=0))
    assert mean == pytest.approx(apart.mean())
    assert half == pytest.approx(1.96 * apart.std(ddof=1) / count**0.5 if count > 1 else 0.0, rel=1e-4)


def test_the_interval_over_images_is_that_of_a_bootstrap():
    """2000 samples of 400 images: its width is off by 5% with a chance below 1e-6."""
    rng = np.random.default_rng(2)
    mine, theirs = rng.random(400) < 0.3, rng.random(400) < 0.25
    _, half = over_images({"wrong": [bits_of(mine)]}, {"wrong": [bits_of(theirs)]})
    drawn = rng.integers(0, 400, size=(2000, 400))
    means = 100 * (mine[drawn].mean(axis=1) - theirs[drawn].mean(axis=1))
    assert half == pytest.approx(1.96 * means.std(ddof=1), rel=0.08)


@pytest.mark.parametrize(
    ("shift", "images", "said"),
    [(0.02, 0, "worse"), (-0.02, 0, "better"), (0.02, 40, "neither"), (0.0, 0, "neither")],
)
def test_better_and_worse_are_said_where_both_intervals_exclude_0(shift, images, said):
    error = np.tile([[0.5], [0.51], [0.52], [0.5], [0.49]], 3)
    wrong = bits_of(np.arange(400) < images), bits_of(np.arange(400) >= 400 - images)
    c = {"SR": {"error": error, "wrong": [wrong[0]] * 5}, "other": {"error": error + shift, "wrong": [wrong[1]] * 5}}
    assert paired(c)[0]["so"] == said


def test_the_interval_over_images_holds_for_all_schemes_together():
    """36 of 400 images are put right, 20 wrong: 4 points, with a half-width of 3.65 alone and 4.46 as one of three."""
    right = bits_of(np.arange(400) < 36), bits_of(np.arange(400) >= 380)
    c = {name: {"error": [[0.5 + shift]] * 9, "wrong": [right[0]] * 9} for name, shift in (("SR", 0.0), ("a", 0.0))}
    c["other"] = {"error": [[0.46]] * 9, "wrong": [right[1]] * 9}
    assert paired({name: c[name] for name in ("SR", "other")})[0]["so"] == "better"
    assert paired({**c, "b": c["a"]})[1]["so"] == "neither"


def test_the_errors_at_the_best_stepsize_are_those_of_the_test_set_where_the_held_out_mean_is_least():
    sweep = {
        "SR": [  # the least of the smallest, of the means, and of the largest
            {"held_out": [1.0, 9.0], "error": [1.0, 2.0]},
            {"held_out": [2.0, 6.0], "error": [8.0, 9.0]},
            {"held_out": [4.5, 5.0], "error": [3.0, 4.0]},
        ],
        "RN": [{"held_out": [5.0], "error": [6.0]}, {"held_out": [5.5], "error": [0.0]}],
    }
    found = errors_at_best(sweep)
    assert {name: values.tolist() for name, values in found.items()} == {"SR": [8.0, 9.0], "RN": [6.0]}


def test_the_paper_proposes_all_schemes_with_a_bias_and_no_other():
    schemes = ["SR_eps(0.2)", "signed_SR_eps(0.1)", "both(0.4)"]
    assert proposed(["binary32", "RN", "SR", *schemes, "skeleton(0.1)"]) == schemes


def test_the_gain_of_a_bound_is_the_share_that_the_last_one_is_below_another():
    case = {"exact": {"d": [9.0, 4.0]}, "SR": {"d": [9.0, 5.0]}, "signed": {"d": [9.0, 3.0]}}
    assert gain_of_bound(case, "signed", "d") == 0.25
    assert gain_of_bound(case, "signed", "d", "SR") == pytest.approx(0.4)
    assert gain_of_bound(case, "SR", "d") == -0.25


@pytest.mark.parametrize(
    ("margin", "said"),
    [(0.25, "holds, margin 0.25"), (0.0, "does not hold here, margin 0"), (math.nan, "does not hold here, margin nan")],
)
def test_a_finding_holds_if_its_margin_is_positive(margin, said):
    assert verdict("it rains", margin) == f"it rains: {said}"
