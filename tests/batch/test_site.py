"""A site with faults is refused, and nothing is lost; tests/test_pages.py looks at a whole one."""

import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from click.testing import CliRunner
from nbformat.v4 import new_markdown_cell, new_notebook

from srlib.cli import main

pytest.importorskip("furo", reason="needs Sphinx, the extra 'docs'")

ROOT = Path(__file__).parents[2]
SPHINX = "import sys, pathlib; from srlib.batch.site import run_sphinx; run_sphinx(*map(pathlib.Path, sys.argv[1:]))"


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
