"""Bind the companion as one PDF: Sphinx makes one page of the notebooks and docs, which Chromium prints."""

import shutil
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright

from srlib.batch.site import lay_out, run_sphinx

ROOT = Path(__file__).parents[1]
NUMBER = '<div style="width: 100%; text-align: center; font-size: 8px"><span class="pageNumber"></span></div>'
MARGINS = {"top": "18mm", "bottom": "18mm", "left": "16mm", "right": "16mm"}
# Of the reference only the index and rounding; modules and the provenance of figures are for looking things up.
LEFT_OUT = ["*.py", "README.md", "api/[!rs]*", "api/sc*", "provenance.md"]
LINKS = ["ref.python", "toc", "myst.xref_missing"]  # checked where all pages are


def bind(batch: Path, out: Path) -> None:
    """Write the PDF of what is in the directory of a batch and of what is committed."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="srlib-") as work:
        source, built = Path(work, "source"), Path(work, "built")
        lay_out(source, ROOT / "docs", ROOT / "notebooks", ROOT / "figures", batch)
        options = {"exclude_patterns": LEFT_OUT, "suppress_warnings": LINKS, "html_theme": "basic"}
        run_sphinx(source, built, "singlehtml", **options)
        print_page(built / "index.html", out)


def print_page(page: Path, out: Path) -> None:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        tab = browser.new_page()
        tab.goto(page.as_uri(), wait_until="load")
        tab.evaluate("() => window.MathJax?.startup?.promise.then(() => null)")
        paper = {"format": "A4", "margin": MARGINS, "outline": True, "tagged": True}
        tab.pdf(path=out, display_header_footer=True, header_template="<i></i>", footer_template=NUMBER, **paper)
        browser.close()


if __name__ == "__main__":
    bind(Path(sys.argv[1]), Path(sys.argv[2]))
