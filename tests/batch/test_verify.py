import json

import numpy as np
import pytest
from click.testing import CliRunner

from srlib.batch.verify import compare, find_problems, meaning
from srlib.cli import main
from srlib.records import as_text, digest, plain


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


def test_a_directory_without_manifests_is_named(tmp_path):
    result = CliRunner().invoke(main, ["verify", str(tmp_path)])
    assert result.exit_code == 2
    assert f"{tmp_path}: there is no manifest below it" in result.output
