import json
import re
import shutil
from pathlib import Path

import nbformat
import pytest

from srlib.companion.notebook import alt_text
from srlib.companion.records import digest
from srlib.companion.report import _ranked, gallery, results_page

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
    (above,) = [line for line in lines if line.startswith("- E3, final test error worse than SR's: ")]
    assert "signed_SR_eps(0.1) by " in above
    (alike,) = [
        line for line in lines if line.startswith("- E3, final test error neither better nor worse than SR's: ")
    ]
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
    assert all(" " in text and not re.search(r"[$\\]", text) for text in re.findall(r"!\[(.*?)\]", page))
    for name in names:
        entry = page.partition(f"## {name}\n")[2].partition("\n## ")[0]
        notebook, cell = re.search(r"\]\((\.\./notebooks/\w+\.ipynb)\), In \[(\d+)\]", entry).groups()
        cells = [c for c in nbformat.read(ROOT / "figures" / notebook, 4).cells if c.cell_type == "code"]
        assert f'"{name}"' in cells[int(cell) - 1].source and cells[int(cell) - 1].execution_count == int(cell)
        assert f"SHA-256 `{json.loads((ROOT / 'figures' / f'{name}.json').read_text())['sha256'][:12]}" in entry


@pytest.mark.parametrize(
    ("caption", "said"),
    [
        ("A bias\nhelps. Left: so.", "A bias helps."),
        (r"For $\varepsilon=0.1$ it is below $\frac12LR_0^2$, by *half*.", "For ε=0.1 it is below ½LR0^2, by half."),
        ("See [there](a.ipynb), 0.5 times", "See there, 0.5 times"),
    ],
)
def test_what_stands_for_a_figure_is_the_first_sentence_of_its_caption_in_plain_words(caption, said):
    assert alt_text(caption) == said


def test_bounds_that_are_not_below_exact_arithmetics_are_listed(tmp_path):
    def loose(numbers):
        numbers["t=1"]["signed_SR_eps(0.4)"] = numbers["t=1"]["SR"]
        numbers["t=0.0625"]["signed_SR_eps(0.1)"] = numbers["t=0.0625"]["exact"]

    (line,) = [
        line
        for line in no_help(results_page(with_numbers(tmp_path, "convergence_bound", loose))).splitlines()
        if line.startswith("- E2, bound not below that of exact arithmetic: ")
    ]
    for kind in ("D5p", "D5c", "D5 by components"):
        assert f"signed_SR_eps(0.4) at t=1 ({kind})" in line
        assert f"signed_SR_eps(0.1) at t=0.0625 ({kind})" in line
    assert "signed_SR_eps(0.4) at t=0.0625 (D5p)" not in line


def test_a_wide_table_is_sorted_with_its_best_in_bold_and_folded_after_twelve_rows():
    rows = [{"scheme": f"s{k}", "error (%)": f"{k:.2f} ± 0.10", "note": ""} for k in (3, 1, 2)]
    assert [line.split(" | ")[0] for line in _ranked(rows, "error (%)").splitlines()[2:]] == [
        "| **s1**",
        "| s2",
        "| s3",
    ]
    many = [{"scheme": f"s{k:02}", "error (%)": f"{k:+.2f}"} for k in range(20, 0, -1)]
    shown, _, folded = _ranked(many, "error (%)").partition("<details><summary>8 more rows</summary>")
    assert [f"s{k:02}" in shown for k in range(1, 21)] == [True] * 12 + [False] * 8
    assert [f"s{k:02}" in folded for k in range(1, 21)] == [False] * 12 + [True] * 8
