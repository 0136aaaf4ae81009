"""What is laid out for a site, and said on its pages; tests/test_pages.py looks at a whole one in a browser."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from click.testing import CliRunner
from nbformat.v4 import new_markdown_cell, new_notebook

import srlib
from srlib.batch.site import lay_out
from srlib.cli import main
from srlib.companion.records import digest

pytest.importorskip("furo", reason="needs Sphinx, the extra 'docs'")

ROOT = Path(__file__).parents[2]
SPHINX = "import sys, pathlib; from srlib.batch.site import run_sphinx; run_sphinx(*map(pathlib.Path, sys.argv[1:]))"


@pytest.fixture
def pages(monkeypatch):
    """The extension of Sphinx that writes pages."""
    monkeypatch.syspath_prepend(ROOT / "docs")
    return pytest.importorskip("pages")


def record(name, value, profile, **more):
    numbers = {"SR": {"error": [value]}}
    parameters = {"profile": profile, "seed": 3, "fmt": "binary8"}
    made = {"figure": name, "parameters": parameters, "versions": {"python": "3.13.1"}, "identity": "of the code"}
    return json.dumps(made | more | {"sha256": digest(numbers), "numbers": numbers})


@pytest.fixture
def places(tmp_path):
    """Committed notebooks and figures, and a batch that has made one of each anew."""
    committed, batch = tmp_path / "committed", tmp_path / "batch"
    for place, profile, names in ((committed, "paper", ("loss", "other")), (batch, "quick", ("loss",))):
        for part in ("figures", "notebooks", "manifests"):
            (place / part).mkdir(parents=True)
        for number, name in enumerate(names):
            notebook = new_notebook(cells=[new_markdown_cell(f"![{name}](../figures/{name}.png) {profile}")])
            nbformat.write(notebook, place / "notebooks" / f"0{number}_{name}.ipynb")
            (place / "figures" / f"{name}.json").write_text(record(name, 0.5, profile))
            for suffix in ("png", "pdf"):
                (place / "figures" / f"{name}.{suffix}").write_text(f"{name} {suffix} {profile}")
    spent = {"started": "2026-11-30T10:00:00+00:00", "seconds": 12.4, "memory": 345_600_000}
    manifest = {"job": "00_loss", "made_from": {}, "outputs": {"figures/loss.json": ""}, **spent}
    (batch / "manifests" / "00_loss.json").write_text(json.dumps(manifest))
    return committed, batch


def test_what_is_said_to_be_committed_is_the_committed_file_after_a_batch_too(places, tmp_path):
    committed, batch = places
    lay_out(tmp_path / "source", ROOT / "docs", committed / "notebooks", committed / "figures", batch)
    for path in (committed / "figures").iterdir():
        assert (tmp_path / "source" / "figures" / path.name).read_bytes() == path.read_bytes()
    shown = {path.stem: path.read_text() for path in (tmp_path / "source" / "notebooks").iterdir()}
    assert "quick" in shown["00_loss"] and "paper" in shown["01_other"]


def test_the_page_of_provenance_says_what_decides_a_figure_and_what_a_batch_has_made(places, pages):
    committed, batch = places
    sections = pages.provenance(committed / "figures", batch).split("## ")[1:]
    rows = [dict(line.strip("| ").split(" | ", 1) for line in text.splitlines() if "|" in line) for text in sections]
    sha = json.loads((committed / "figures" / "loss.json").read_text())["sha256"]
    assert [text.splitlines()[0] for text in sections] == ["loss", "other"]
    assert "[figure](figures/loss.png)" in sections[0] and "[record](figures/loss.json)" in sections[0]
    assert rows[1] == {
        "what": "is",
        "---": "---",
        "parameters": 'profile "paper", seed 3, fmt "binary8"',
        "versions": 'python "3.13.1"',
        "numbers, SHA-256": f"`{sha}`",
        "made from, SHA-256": "`of the code`",
    }
    assert rows[0].pop("made again by this batch") == (
        f"quick profile, 2026-11-30T10:00:00+00:00, 12 s, 346 MB at most, by 00_loss; numbers, SHA-256: `{sha}`"
    )
    assert rows[0].keys() == rows[1].keys()


def test_a_record_that_was_restamped_says_by_which_code_it_was_computed(pages):
    found = pages.facts(json.loads(record("loss", 1.0, "paper", computed_by="older code")))
    assert found["computed by, SHA-256"] == "`older code`"


def test_the_index_of_the_reference_has_each_public_name_with_its_first_sentence(pages):
    text = pages.package()
    lines = [line for line in text.splitlines() if line.startswith("- ")]
    assert len(lines) == len([name for name in srlib.__all__ if name != "__version__"])
    assert "`round_to <srlib.rounding.round_to>`: Round each element to a value of a format.\n" in text
    assert "`FORMATS <srlib.formats.FORMATS>`: The formats by their names.\n" in text


LINKS = {
    ("notebooks/05_x", "[a](../srlib/descent/steps.py)"): "[a](../api/descent.steps.md)",
    ("notebooks/05_x", "[a](../docs/specification.md#c1)"): "[a](../specification.md#c1)",
    ("README", "[a](srlib/rounding.py)"): "[a](api/rounding.md)",
    ("README", "[a](docs/kernels.md)"): "[a](kernels.md)",
    ("batches", "[a](../figures/loss.png)"): "[a](figures/loss.png)",
    ("notebooks/05_x", '"# Why?"'): '"# 5 · Why?"',
}


@pytest.mark.parametrize(("page", "expected"), LINKS.items(), ids=str)
def test_links_of_the_repository_lead_to_pages_of_the_site(pages, page, expected):
    name, text = page
    source = [text]
    pages.link_to_the_reference(None, name, source)
    assert source == [expected]


@pytest.mark.slow
@pytest.mark.parametrize("there", [True, False])
def test_a_link_of_a_notebook_that_leads_nowhere_is_a_fault(tmp_path, there):
    source = tmp_path / "source"
    (source / "notebooks").mkdir(parents=True)
    (source / "conf.py").write_text((ROOT / "docs" / "conf.py").read_text() + 'extensions.remove("pages")\n')
    for name in ("srlib.css", "favicon.svg"):
        shutil.copy(ROOT / "docs" / name, source)
    (source / "index.md").write_text("# All\n\n```{toctree}\nnotebooks/a\n```\n")
    notebook = new_notebook(cells=[new_markdown_cell(f"# Why?\n\n[so](../{'index' if there else 'none'}.md)")])
    nbformat.write(notebook, source / "notebooks" / "a.ipynb")
    command = [sys.executable, "-c", SPHINX, str(source), str(tmp_path / "built")]
    said = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (said.returncode == 0) == there, said.stderr
    assert ("the site has faults:" in said.stderr and "none.md" in said.stderr) != there


def test_a_site_with_faults_is_refused_and_leaves_the_one_before(tmp_path, monkeypatch):
    def faulty(source, built, **overrides):
        raise RuntimeError("the site has faults:\na link")

    monkeypatch.setattr("srlib.batch.site.run_sphinx", faulty)
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "index.html").write_text("before")
    result = CliRunner().invoke(main, ["site", str(tmp_path)])
    assert result.exit_code == 1 and result.output == "Error: the site has faults:\na link\n"
    assert [path.name for path in tmp_path.iterdir()] == ["site"]
    assert (tmp_path / "site" / "index.html").read_text() == "before"


@pytest.mark.parametrize("damage", ["{", '{"figure": "loss"}'])
def test_a_site_of_a_damaged_record_names_the_record(tmp_path, damage):
    figures = tmp_path / "figures"
    figures.mkdir()
    (figures / "loss.png").touch()
    (figures / "loss.json").write_text(damage)
    result = CliRunner().invoke(main, ["site", str(tmp_path)])
    assert result.exit_code == 1
    assert result.output == f"Error: {figures / 'loss.json'}: is not the record of a figure\n"


def test_a_place_without_docs_is_named(tmp_path):
    result = CliRunner().invoke(main, ["site", str(tmp_path / "batch"), "--docs", str(tmp_path)])
    assert result.exit_code == 1
    assert result.output == f"Error: {tmp_path}: there is no conf.py of Sphinx in it\n"
