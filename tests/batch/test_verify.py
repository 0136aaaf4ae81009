import json

import numpy as np
import pytest
from click.testing import CliRunner

from srlib.batch.compare import VERDICTS, Comparison, compare, meaning
from srlib.batch.verify import find_problems
from srlib.cli import main
from srlib.companion.records import as_text, digest, plain


def record(directory, figure="loss", parameters=(), **numbers):
    """Write the record of a figure as `save_figure` does."""
    shown = plain(numbers)
    content = {
        "figure": figure,
        "parameters": {"seed": 1, "fmt": "binary8"} | dict(parameters),
        "sha256": digest(shown),
    }
    directory.mkdir(parents=True, exist_ok=True)
    (directory / f"{figure}.json").write_text(as_text(content | {"numbers": shown}))


def verdict(tmp_path, one, other, parameters=()):
    record(tmp_path / "a" / "figures", **one)
    record(tmp_path / "b", parameters=parameters, **other)
    (found,) = compare(tmp_path / "a", tmp_path / "b")
    return found.verdict


CURVE = np.linspace(1, 2, 50)
NOISE = np.random.default_rng(2022).standard_normal((2, 8, 50))


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ({"x": CURVE, "text": "a"}, {"x": CURVE, "text": "a"}, "identical"),
        ({"x": CURVE}, {"x": CURVE * (1 + 1e-12)}, "same digits"),
        ({"x": [1.0, float("nan")]}, {"x": [1.0 + 1e-12, float("nan")]}, "same digits"),
        ({"x": CURVE}, {"x": CURVE * (1 + 1e-6)}, "different"),
        ({"x": CURVE}, {"x": CURVE[1:]}, "different"),
        ({"x": CURVE, "text": "a"}, {"x": CURVE, "text": "b"}, "different"),
        ({"x": CURVE}, {"x": CURVE, "y": CURVE}, "different"),
        ({"x": CURVE}, {"x": CURVE, "y": None}, "different"),
        ({"x": [0.0, 1]}, {"x": [-0.0, 1.0]}, "same digits"),
        ({"x": CURVE, "x_half": CURVE / 9}, {"x": CURVE, "x_half": CURVE / 8}, "within bands"),
        ({"x": CURVE, "x_half": CURVE / 9}, {"x": CURVE, "x_half": CURVE / 9 * (1 + 1e-12)}, "same digits"),
        ({"x": CURVE, "x_half": CURVE / 9}, {"x": CURVE}, "different"),
        ({"a": {"x": CURVE, "x_half": CURVE / 9}}, {"a": {"x": CURVE * 1.1, "x_half": CURVE / 9}}, "within bands"),
        ({"a": {"x": CURVE, "x_half": CURVE / 99}}, {"a": {"x": CURVE * 1.1, "x_half": CURVE / 99}}, "different"),
        ({"mean": CURVE, "half_width": CURVE / 9}, {"mean": CURVE * 0.9, "half_width": CURVE / 9}, "within bands"),
        (
            {"loss": CURVE + NOISE[0], "replicates": range(8)},
            {"loss": CURVE + NOISE[1], "replicates": range(8)},
            "within bands",
        ),
        (
            {"loss": CURVE + NOISE[0], "replicates": range(8)},
            {"loss": CURVE + 5 + NOISE[1], "replicates": range(8)},
            "different",
        ),
    ],
)
def test_numbers_are_told_apart_by_how_far_they_agree(tmp_path, one, other, expected):
    assert verdict(tmp_path, one, other) == expected


def moved(size, index=7, numbers=CURVE):
    """The numbers, the largest of which is 2, with one moved by a share of that."""
    numbers = numbers.copy()
    numbers[index] += size * 2
    return numbers


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize(("size", "expected"), [(0.9e-9, "same digits"), (1.1e-9, "different"), (1e-8, "different")])
def test_one_number_off_by_more_than_a_billionth_of_the_largest_is_another(tmp_path, size, sign, expected):
    assert verdict(tmp_path, {"x": sign * CURVE}, {"x": sign * moved(size)}) == expected


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ([0.0, 0.0], [0.0, 1e-10], "different"),  # the second has the largest
        ([0.0, 1e-10], [0.0, 0.0], "different"),
        ([1.0, np.inf], [1 + 1e-12, np.inf], "same digits"),
        ([1.0, np.inf], [1 + 1e-6, np.inf], "different"),  # the largest of the finite ones counts
        ([1.0, np.inf], [1.0, -np.inf], "different"),
        ([1.0, np.inf], [1.0, 9.0], "different"),
        ([1.0, np.nan], [1.0, 1.0], "different"),
        ([1.0, 1.0], [1.0, np.nan], "different"),
        ([1e-30, 1e-30], [1e-30, 1.1e-30], "different"),
        ([[1.0, 2.0]], [1.0, 2.0], "different"),
        ({"of": 1.0}, [1.0], "different"),
        ([1.0], {"of": 1.0}, "different"),
    ],
)
def test_only_what_is_not_finite_in_both_alike_is_the_same(tmp_path, one, other, expected):
    assert verdict(tmp_path, {"x": one}, {"x": other}) == expected


def bands(kind, apart, halves, points=20):
    """Two curves with bands of these half-widths, as records have them, so far apart at the first points."""
    found = []
    for mean, half in zip((np.zeros(points), np.resize(apart, points)), halves, strict=True):
        if kind == "replicates":  # two with a mean m and half-width h are m ± h/12.706, by Student's t with 1 degree
            away = half / 12.7062047361747
            found.append({"x": [mean - away, mean + away], "replicates": [0, 1]})
        else:
            found.append({"x": mean, kind: np.full(points, half)})
    return found


@pytest.mark.parametrize("kind", ["x_half", "half_width", "replicates"])
@pytest.mark.parametrize("halves", [(1.0, 0.75), (0.75, 1.0), (0.0, 1.75)])
@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize(("apart", "expected"), [(1.74, "within bands"), (1.76, "different")])
def test_bands_meet_where_the_sum_of_their_half_widths_spans_the_distance(
    tmp_path, kind, halves, sign, apart, expected
):
    assert verdict(tmp_path, *bands(kind, [sign * apart], halves)) == expected


@pytest.mark.parametrize("kind", ["x_half", "half_width", "replicates"])
@pytest.mark.parametrize(
    ("meeting", "expected"), [(20, "within bands"), (19, "within bands"), (18, "different"), (16, "different")]
)
def test_bands_must_meet_at_95_percent_of_the_points(tmp_path, kind, meeting, expected):
    assert verdict(tmp_path, *bands(kind, [1.0] * meeting + [3.0] * (20 - meeting), (1.0, 1.0))) == expected


PAIRS = {  # numbers of two records, by the verdict on them
    "identical": ({"x": CURVE}, {"x": CURVE}),
    "same digits": ({"x": CURVE}, {"x": moved(1e-12)}),
    "within bands": bands("x_half", [1.0], (1.0, 1.0)),
    "different": ({"x": CURVE}, {"x": moved(0.1)}),
}


@pytest.mark.parametrize("better", PAIRS)
@pytest.mark.parametrize("worse", PAIRS)
def test_the_worst_number_of_a_figure_decides(tmp_path, better, worse):
    pairs = zip(PAIRS[better], PAIRS[worse], strict=True)
    found = verdict(tmp_path, *({"first": {"of": a}, "then": b} for a, b in pairs))
    assert VERDICTS == (*PAIRS, "not comparable")
    assert found == max(better, worse, key=VERDICTS.index)


@pytest.mark.parametrize(
    ("one", "other", "details"),
    [
        ({"x": CURVE, "y": 1}, {"x": CURVE, "y": 1.0}, []),
        ({"x": [0.0, 2.0]}, {"x": [0.0, 2 + 2e-10]}, ["x differs by 1.0e-10 of its largest"]),
        ({"x": [0.0, 0.0]}, {"x": [0.0, -0.0]}, []),
        ({"a": {"x": [1.0, 2.0]}}, {"a": {"x": [1.0, 3.0]}}, ["a/x is not the same, and has no band"]),
        ({"a": {"b": {"text": "a"}}}, {"a": {"b": {"text": "b"}}}, ["a/b/text is not the same"]),
        ({"x": 1.0}, {"y": 1.0}, ["x is not the same", "y is not the same"]),
        (
            {"x": 1.0, "z": 1.0},
            {"x": 2.0, "y": 1.0, "z": 1.0},
            ["x is not the same, and has no band", "y is not the same"],
        ),
        (
            {"x": [1.0, 2.0], "x_half": [1.0, 1.0]},
            {"x": [1.0, 2.0, 3.0], "x_half": [1.0, 1.0, 1.0]},
            ["x has other points", "x_half is not the same"],
        ),
        (
            {"x": [0.0] * 4, "x_half": [1.0] * 4},
            {"x": [2.0, 2.0, 2.5, 2.0], "x_half": [1.0] * 4},
            ["x has bands that meet at 75% of the points"],
        ),
        (  # its own half-width goes before that of all, where it has as many points
            {"x": [0.0, 0.0], "x_half": [9.0, 9.0], "half_width": [0.1, 0.1]},
            {"x": [2.0, 2.0], "x_half": [9.0, 9.0], "half_width": [0.1, 0.1]},
            ["x has bands that meet at 100% of the points"],
        ),
        (
            {"x": [0.0, 0.0], "x_half": [9.0], "half_width": [0.1, 0.1]},
            {"x": [2.0, 2.0], "x_half": [9.0], "half_width": [0.1, 0.1]},
            ["x has bands that meet at 0% of the points"],
        ),
        (  # as many rows as there are replicates are replicates, and no other
            {"x": [[0.0, 9.0], [1.0, 9.0]], "replicates": [0, 1, 2]},
            {"x": [[0.5, 9.0], [1.0, 9.0]], "replicates": [0, 1, 2]},
            ["x is not the same, and has no band"],
        ),
        (
            {"x": [0.0, 1.0], "replicates": [0, 1]},
            {"x": [0.5, 1.0], "replicates": [0, 1]},
            ["x is not the same, and has no band"],
        ),
        ({"x": [[0.0]], "replicates": 1}, {"x": [[0.5]], "replicates": 1}, ["x is not the same, and has no band"]),
    ],
)
def test_each_number_that_is_not_identical_has_a_line(tmp_path, one, other, details):
    record(tmp_path / "a", **one)
    record(tmp_path / "b", **other)
    (found,) = compare(tmp_path / "a", tmp_path / "b")
    assert list(found.details) == details


def test_parameters_that_make_figures_incomparable_are_named_in_order(tmp_path):
    record(tmp_path / "a", parameters={"steps": 5, "seed": 1}, x=1.0)
    record(tmp_path / "b", parameters={"fmt": "e4m3", "seed": 2}, x=1.0)
    (found,) = compare(tmp_path / "a", tmp_path / "b")
    assert found.verdict == "not comparable"
    assert found.details == ("fmt is 'binary8' and 'e4m3'", "steps is 5 and None")


@pytest.mark.parametrize("parameter", ["seed", "backend", "replicates", "replicate_range"])
def test_parameters_under_which_results_should_be_the_same_may_differ(tmp_path, parameter):
    assert verdict(tmp_path, {"x": CURVE}, {"x": CURVE}, {parameter: 9}) == "identical"


@pytest.mark.parametrize(
    "parameter", "profile fmt eps stepsize steps record images units classes dataset_dir condition new".split()
)
def test_with_any_other_parameter_a_record_is_not_comparable(tmp_path, parameter):
    assert verdict(tmp_path, {"x": CURVE}, {"x": CURVE}, {parameter: 9}) == "not comparable"


@pytest.mark.parametrize(
    ("verdicts", "expected"),
    [
        (["identical"], "All numbers of 1 figure are identical"),
        (["identical", "same digits"], "All numbers of 2 figures agree to nine digits"),
        (["within bands", "same digits"], "All numbers of 2 figures agree within their confidence bands"),
        (["different", "within bands", "identical"], "1 of 3 figures disagree by more than their bands"),
        (["different", "not comparable", "identical"], "2 of 3 figures disagree or cannot be compared"),
    ],
)
def test_the_worst_figure_decides_what_a_comparison_means(verdicts, expected):
    assert meaning([Comparison("f", verdict) for verdict in verdicts]).startswith(expected)


def test_other_random_numbers_can_be_compared_and_other_experiments_cannot(tmp_path):
    assert verdict(tmp_path, {"x": CURVE}, {"x": CURVE}, {"seed": 2, "replicates": 9}) == "identical"
    assert verdict(tmp_path, {"x": CURVE}, {"x": CURVE}, {"fmt": "e4m3"}) == "not comparable"


def test_a_figure_that_only_one_has_is_named(tmp_path):
    record(tmp_path / "a", "loss", x=CURVE)
    record(tmp_path / "b", "loss", x=CURVE)
    record(tmp_path / "b", "bias", x=CURVE)
    found = compare(tmp_path / "a", tmp_path / "b")
    assert [(c.figure, c.verdict, c.details) for c in found] == [
        ("bias", "not comparable", ("only the second has it",)),
        ("loss", "identical", ()),
    ]
    assert meaning(found).startswith("1 of 2 figures disagree or cannot be compared")


def test_what_only_the_first_has_is_named_and_what_is_no_record_is_left_alone(tmp_path):
    for name in "ab":
        record(tmp_path / name, "loss", x=CURVE)
        (tmp_path / name / "claims.json").write_text(f'["{name}"]')
    record(tmp_path / "a", "bias", x=CURVE)
    found = compare(tmp_path / "a", tmp_path / "b")
    assert [(c.figure, c.verdict, c.details) for c in found] == [
        ("bias", "not comparable", ("only the first has it",)),
        ("loss", "identical", ()),
    ]


def test_the_command_says_what_the_outcome_means_and_ends_accordingly(tmp_path):
    record(tmp_path / "a", x=CURVE)
    record(tmp_path / "b", x=CURVE)
    record(tmp_path / "c", x=-CURVE)
    same, other = (CliRunner().invoke(main, ["compare", str(tmp_path / "a"), str(tmp_path / name)]) for name in "bc")
    assert (same.exit_code, other.exit_code) == (0, 1)
    assert (
        same.output == "loss  identical\n\nAll numbers of 1 figure are identical: this is a reproduction to the bit.\n"
    )
    assert other.output.endswith("1 of 1 figure disagree by more than their bands: this is no reproduction of them.\n")


def test_a_directory_without_records_or_with_a_damaged_one_is_named(tmp_path):
    record(tmp_path / "a", x=CURVE)
    (tmp_path / "none").mkdir()
    result = CliRunner().invoke(main, ["compare", str(tmp_path / "a"), str(tmp_path / "none")])
    assert result.exit_code == 2 and "there are no records of figures in it" in result.output
    path = tmp_path / "a" / "loss.json"
    path.write_text(path.read_text().replace("2.0", "3.0"))
    result = CliRunner().invoke(main, ["compare", str(tmp_path / "a"), str(tmp_path / "a")])
    assert result.exit_code == 2 and "the numbers are not those that its sha256 is of" in result.output


@pytest.mark.parametrize("damage", ["", "{", '{"figure": "loss"}', "[]"])
def test_a_record_that_cannot_be_read_is_named_and_not_passed_over(tmp_path, damage):
    for name in "ab":
        record(tmp_path / name, x=CURVE)
        record(tmp_path / name, "bias", x=CURVE)
        (tmp_path / name / "loss.png").touch()
    (tmp_path / "b" / "loss.json").write_text(damage)
    result = CliRunner().invoke(main, ["compare", str(tmp_path / "a"), str(tmp_path / "b")])
    assert result.exit_code == 2
    assert f"{tmp_path / 'b' / 'loss.json'}: is not the record of a figure" in result.output


def test_batches_of_two_profiles_are_told_apart_in_the_last_line(tmp_path):
    record(tmp_path / "a", x=CURVE)
    record(tmp_path / "b", parameters={"profile": "paper"}, x=CURVE)
    result = CliRunner().invoke(main, ["compare", str(tmp_path / "a"), str(tmp_path / "b")])
    assert result.exit_code == 1
    assert result.output.splitlines()[-1].endswith("this is no reproduction of all. One is of another profile.")


@pytest.fixture
def batch(tmp_path):
    """Two jobs as a batch leaves them, one of them a point of a sweep."""
    from hashlib import sha256

    for place in (tmp_path, tmp_path / "seed=2"):
        record(place / "figures", x=CURVE)
        (place / "notebooks").mkdir()
        (place / "notebooks" / "05.ipynb").write_text("{}")
        (place / "manifests").mkdir()
        made = [path for part in ("figures", "notebooks") for path in (place / part).iterdir()]
        outputs = {str(path.relative_to(place)): sha256(path.read_bytes()).hexdigest() for path in made}
        manifest = {"job": "05", "outcome": "ok", "made_from": {}, "outputs": outputs}
        (place / "manifests" / "05.json").write_text(json.dumps(manifest))
    return tmp_path


def test_a_batch_as_it_was_made_has_no_problems(batch):
    assert find_problems(batch) == (2, 4, [])
    result = CliRunner().invoke(main, ["verify", str(batch)])
    assert (result.exit_code, result.output) == (0, "4 files of 2 jobs are as they were made.\n")


def test_pages_that_are_written_from_the_records_are_no_problem_but_others_are(batch):
    for name in ("README.md", "claims.json", "notes.md"):
        (batch / "figures" / name).write_text("written later")
    assert find_problems(batch)[2] == ["figures/notes.md is in no manifest"]


def test_every_change_of_a_batch_is_found(batch):
    (batch / "notebooks" / "05.ipynb").unlink()
    (batch / "figures" / "extra.png").touch()
    path = batch / "seed=2" / "figures" / "loss.json"
    path.write_text(path.read_text().replace("2.0", "3.0"))
    assert find_problems(batch)[2] == [
        "notebooks/05.ipynb is missing",
        "seed=2/figures/loss.json is not as it was made",
        f"{path}: the numbers are not those that its sha256 is of",
        "figures/extra.png is in no manifest",
    ]
    (batch / "seed=2" / "manifests" / "05.json").write_text("{")
    result = CliRunner().invoke(main, ["verify", str(batch)])
    assert result.exit_code == 1
    assert "seed=2/manifests/05.json is no manifest" in result.output
    assert "seed=2/figures/loss.json is in no manifest" in result.output


def test_a_damaged_manifest_does_not_hide_what_comes_after_it(batch):
    (batch / "manifests" / "05.json").write_text("{")
    (batch / "seed=2" / "notebooks" / "05.ipynb").write_text("{ }")
    assert find_problems(batch) == (
        2,
        2,
        [
            "manifests/05.json is no manifest",
            "seed=2/notebooks/05.ipynb is not as it was made",
            "figures/loss.json is in no manifest",
            "notebooks/05.ipynb is in no manifest",
        ],
    )


@pytest.mark.parametrize("name", ["figures/claims.json", "figures/loss.txt"])
def test_what_is_no_record_of_a_figure_has_no_digest_of_its_own(batch, name):
    from hashlib import sha256

    (batch / name).write_text('{"figure": 1}' if name.endswith("json") else (batch / "figures/loss.json").read_text())
    (batch / name).write_text((batch / name).read_text().replace("2.0", "3.0"))
    path = batch / "manifests" / "05.json"
    manifest = json.loads(path.read_text())
    manifest["outputs"][name] = sha256((batch / name).read_bytes()).hexdigest()
    path.write_text(json.dumps(manifest))
    assert find_problems(batch) == (2, 5, [])


def test_a_directory_without_manifests_is_named(tmp_path):
    result = CliRunner().invoke(main, ["verify", str(tmp_path)])
    assert result.exit_code == 2
    assert f"{tmp_path}: there is no manifest below it" in result.output
