import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from srlib.claims import Claim, Test, as_json, evaluate, ledger
from srlib.cli import main
from srlib.records import digest

FIGURES = Path(__file__).parents[1] / "figures"


@pytest.fixture
def records(tmp_path):
    """The committed records, to be changed."""
    directory = tmp_path / "figures"
    directory.mkdir()
    for path in FIGURES.glob("*.json"):
        shutil.copy(path, directory)
    return directory


def change(records, figure, alter):
    path = records / f"{figure}.json"
    record = json.loads(path.read_text())
    alter(record["numbers"])
    path.write_text(json.dumps(record | {"sha256": digest(record["numbers"])}))


def verdicts(records):
    return {claim.name: claim.verdict for claim in evaluate(records)}


def test_a_claim_holds_under_conditions_or_fails_by_its_tests():
    passed, missed = Test("s", 1.0, 0.5, "f"), Test("s", 0.5, 0.5, "f")
    assert passed.margin == 0.5 and passed.passed and not missed.passed
    assert Claim("C", "", passed, (passed,)).verdict == "holds"
    assert Claim("C", "", passed, (passed, missed)).verdict == "holds under conditions"
    assert Claim("C", "", missed, (passed,)).verdict == "fails"


def test_each_claim_is_tested_on_figures_that_exist():
    claims = evaluate(FIGURES)
    assert [claim.name for claim in claims] == [f"C{i}" for i in range(1, 8)]
    assert {row["figure"] for row in ledger(claims)} <= {path.stem.replace("_", " ") for path in FIGURES.glob("*.png")}


def unstick(numbers):
    numbers["RN"]["loss"] = [[0.9 * loss for loss in numbers["SR"]["loss"][0]]]


def biased(numbers):
    numbers["survival"]["inside a binade"]["SR"][3] += 1e-3


def unhelpful(numbers):
    for where in numbers["survival"].values():
        where["signed_SR_eps(0.1)"] = where["SR"]


def uphill(numbers):
    numbers["downhill"]["both(0.2)"][4] = -0.01


def loose(numbers):
    for case in numbers.values():
        case["signed_SR_eps(0.1)"] = case["RN"]


def same_as_sr(numbers):
    for name in numbers:
        if "eps" in name or "both" in name:
            numbers[name] = numbers["SR"]


@pytest.mark.parametrize(
    ("claim", "figure", "alter"),
    [
        ("C1", "logistic_regression", unstick),
        ("C2", "survival", biased),
        ("C3", "survival", unhelpful),
        ("C4", "descent_bias", uphill),
        ("C5", "convergence_bound", loose),
        ("C6", "logistic_regression", same_as_sr),
        ("C7", "neural_network", same_as_sr),
    ],
)
def test_a_claim_fails_where_the_numbers_do_not_support_it(records, claim, figure, alter):
    before = verdicts(records)
    change(records, figure, alter)
    after = verdicts(records)
    assert after[claim] == "fails"
    assert {name for name in after if after[name] != before[name]} <= {claim, "C1", "C6"}


def test_a_bound_that_the_objective_exceeds_is_a_limit_of_c5(records):
    def exceed(numbers):
        numbers["setting I"]["SR"]["upper_limit"][5] = 1e9

    change(records, "convergence_bound", exceed)
    (claim,) = [claim for claim in evaluate(records) if claim.name == "C5"]
    assert not claim.limits[0].passed


def test_the_gain_at_the_best_stepsize_is_over_binary64_at_any(records):
    def limit():
        (claim,) = [claim for claim in evaluate(records) if claim.name == "C6"]
        return claim.limits[-1]

    def helpless(numbers):
        for point in numbers["sweep"]["binary64"]:
            point["error"] = [99.0]

    def lucky(numbers):
        numbers["sweep"]["binary64"][-1] |= {"error": [0.0], "held_out": [99.0]}

    change(records, "stepsizes", helpless)
    assert limit().passed
    change(records, "stepsizes", lucky)
    assert not limit().passed


def test_srlib_claims_prints_a_table_and_writes_claims_json(records):
    (records / "claims.json").unlink()
    result = CliRunner().invoke(main, ["claims", "--figures", str(records)])
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert lines[0].split()[:3] == ["claim", "verdict", "statistic"]
    assert [line.split()[0] for line in lines if line.startswith("C")] == [f"C{i}" for i in range(1, 8)]
    assert (records / "claims.json").read_text() == as_json(evaluate(records))


def test_srlib_results_writes_the_page_and_the_gallery(records):
    result = CliRunner().invoke(main, ["results", "--figures", str(records)])
    assert result.exit_code == 0, result.output
    assert (records.parent / "RESULTS.md").read_text().startswith("# Results\n")
    assert "](logistic_regression.png)" in (records / "README.md").read_text()


@pytest.mark.parametrize("command", ["claims", "results"])
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.unlink(), "survival.json: there is no such record"),
        (
            lambda path: path.write_text(path.read_text().replace("0.4", "0.5")),
            "survival.json: the numbers are not those",
        ),
        (lambda path: path.write_text("{"), "survival.json: is not the record"),
    ],
)
def test_a_missing_or_damaged_record_is_named_and_nothing_is_written(records, command, damage, message):
    for name in ("survival", "stepsizes"):
        damage(records / f"{name}.json")
    (records / "claims.json").unlink()
    result = CliRunner().invoke(main, [command, "--figures", str(records)])
    assert result.exit_code == 2
    assert message in result.output.replace("stepsizes", "survival")
    assert not (records.parent / "RESULTS.md").exists() and not (records / "claims.json").exists()
