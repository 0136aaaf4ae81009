import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from srlib.companion.comparisons import gain_of_bound
from srlib.companion.records import digest
from srlib.companion.report import gallery, results_page
from srlib.descent.bounds import convergence_bound

ROOT = Path(__file__).parents[2]


def with_numbers(tmp_path, figure, alter):
    """Return a directory with the committed records, one of them changed."""
    directory = tmp_path / "figures"
    directory.mkdir()
    for path in (ROOT / "figures").glob("*.json"):
        shutil.copy(path, directory)
    path = directory / f"{figure}.json"
    record = json.loads(path.read_text())
    alter(record["numbers"])
    path.write_text(json.dumps(record | {"sha256": digest(record["numbers"])}))
    return directory


def no_help(page):
    return page.partition("## Where the proposed schemes do not help")[2]


def test_the_list_of_where_nothing_is_gained_follows_the_numbers(tmp_path):
    def worse(numbers):
        numbers["signed_SR_eps(0.1)"]["error"] = [[1.0] * len(run) for run in numbers["SR"]["error"]]
        numbers["both(0.1)"] = numbers["SR"]

    lines = no_help(results_page(with_numbers(tmp_path, "logistic_regression", worse))).splitlines()
    (above,) = [line for line in lines if line.startswith("- E3, final test error above SR's: ")]
    assert "signed_SR_eps(0.1) by " in above
    (alike,) = [line for line in lines if line.startswith("- E3, final test error not to be told from SR's: ")]
    assert "both(0.1) (p = 1)" in alike


def test_results_have_a_section_for_each_experiment_and_link_to_files_that_exist():
    page = results_page(ROOT / "figures")
    assert [title for title in ("E1", "E2", "E3", "E4") if f"({title})" in page] == ["E1", "E2", "E3", "E4"]
    links = re.findall(r"\]\(([^)]+)\)", page)
    assert links and all((ROOT / link).is_file() for link in links)


def test_the_gallery_has_each_figure_once_with_its_caption():
    page = gallery(ROOT / "figures", ROOT / "notebooks")
    names = re.findall(r"^## (\w+)$", page, re.MULTILINE)
    assert sorted(names) == sorted(path.stem for path in (ROOT / "figures").glob("*.png"))
    assert "**Figure" not in page
    links = re.findall(r"\]\(([^)]+)\)", page)
    assert all((ROOT / "figures" / link).is_file() for link in links if not link.startswith("0"))


@pytest.mark.parametrize("c", [0.5, 1.0, 1.5])
def test_the_gain_of_a_bound_is_that_over_exact_arithmetic(c):
    steps, L, t, radius = 40, 3.0, 0.25, 7.0
    bound = convergence_bound(L, t, radius, np.full(steps, c))
    gain = gain_of_bound({"certified": steps, "bound": list(bound), "c": [c] * steps})
    assert gain == pytest.approx(1 - (4 + L * t * steps) / (4 + L * t * c * steps))
    assert gain_of_bound({"certified": 0, "bound": [1.0], "c": [-1.0]}) == 0
