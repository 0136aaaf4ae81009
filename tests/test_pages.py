"""The web pages, as a browser shows them: Debian's Chromium, driven by playwright."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import srlib

pytest.importorskip("furo", reason="needs Sphinx, the extra 'docs'")

ROOT = Path(__file__).parents[1]
LOOK = """() => {
    const page = document.body.cloneNode(true);
    page.querySelectorAll('.highlight, pre, script, style, mjx-container').forEach(part => part.remove());
    return {
        equations: document.querySelectorAll('.math').length,
        typeset: document.querySelectorAll('mjx-container').length,
        faults: [...document.querySelectorAll('mjx-merror')].map(part => part.textContent),
        unsaid: [...document.images].filter(image => !/ /.test(image.alt)).map(image => image.src),
        missing: [...document.images].filter(image => !image.naturalWidth).map(image => image.src),
        raw: page.textContent.match(/[$][^$]+[$]/g),
    };
}"""
BEYOND = "document.documentElement.scrollWidth - window.innerWidth"
CUT_ON_PAPER = """() => [...document.querySelectorAll('table, mjx-container, img, .skip-to-content')]
    .filter(part => part.getBoundingClientRect().right > window.innerWidth + 1 || part.matches('.skip-to-content'))
    .filter(part => part.getBoundingClientRect().width).map(part => part.outerHTML.slice(0, 99))"""
A4 = 673  # between margins of 16 mm, in pixels of CSS
GOOD = {"faults": [], "unsaid": [], "missing": [], "raw": None}

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("pages")]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The site, built in a process of its own: Sphinx's packages warn of what will be removed from them."""
    command = [sys.executable, "-m", "srlib", "site", str(tmp_path_factory.mktemp("batch"))]
    said = subprocess.run(command, capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stderr
    return Path(said.stdout.strip()).parent


def test_every_page_shows_as_it_should_on_a_screen_on_a_phone_and_on_paper(site, browser):
    page, said, asked = browser.new_page(), [], []
    page.on("console", lambda message: said.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("requestfailed", lambda request: said.append((request.url, request.failure)))
    page.on("request", lambda request: asked.append(request.url))
    listings = sorted(site.glob("_modules/**/*.html"))  # of sources, all alike
    pages, equations = sorted({*site.rglob("*.html")} - {*listings[3:]}), 0
    for path in pages:
        page.goto(path.as_uri(), wait_until="load")
        page.evaluate("() => window.MathJax?.startup?.promise.then(() => null)")
        seen = page.evaluate(LOOK)
        assert {name: seen[name] for name in GOOD} == GOOD, path
        assert seen["equations"] == seen["typeset"], path
        for width in (1300, 390):
            page.set_viewport_size({"width": width, "height": 900})
            assert page.evaluate(BEYOND) <= 0, (path, width)
        page.set_viewport_size({"width": A4, "height": 900})
        page.emulate_media(media="print")
        assert page.evaluate(CUT_ON_PAPER) == [], path
        page.emulate_media(media="screen")
        equations += seen["typeset"]
    # An icon may be on its way still when the next page is opened.
    assert [what for what in said if what != (f"{site.as_uri()}/_static/favicon.svg", "net::ERR_ABORTED")] == []
    assert {url.partition(":")[0] for url in asked} <= {"file", "data", "blob"}
    assert equations > 700 and len(pages) > 50


def test_every_notebook_figure_and_module_has_its_place(site):
    for path in (ROOT / "notebooks").glob("*.ipynb"):
        assert (site / "notebooks" / f"{path.stem}.html").exists()
    provenance = (site / "provenance.html").read_text()
    for path in (ROOT / "figures").glob("*.pdf"):
        assert f'id="{path.stem.replace("_", "-")}"' in provenance
    for name in ("rounding", "batch.plan", "kernels.cpu", "descent.steps", "companion.claims"):
        assert (site / "api" / f"{name}.html").exists()
    assert (
        "../api/descent.steps.html" in (site / "notebooks" / "02_stagnation.html").read_text()
    )  # in place of the file
    assert "srlib.schemes.Scheme" in (site / "api" / "rounding.html").read_text()  # a link there


@pytest.mark.parametrize(
    ("word", "page"), [("stagnation", "notebooks/02_stagnation"), ("eps", "api/schemes"), ("round_to", "api/rounding")]
)
def test_a_search_finds(site, browser, word, page):
    there = browser.new_page()
    there.goto((site / "search.html").as_uri() + f"?q={word}")
    there.wait_for_selector(f"#search-results a[href*='{page}']")


def test_a_slider_shows_another_picture_and_its_value_without_a_kernel_or_a_network(site, browser):
    page = browser.new_page()
    page.goto((site / "slider.html").as_uri())
    for name, first, last in (("t", "0.0625", "1"), ("ε", "0.5", "0.9")):
        box = page.locator(".slider", has=page.get_by_label(name, exact=True))
        assert box.locator("output").inner_text() == first
        before = box.locator("img:visible").get_attribute("src")
        box.locator("input").press("End")
        assert box.locator("output").inner_text() == last
        shown = box.locator("img:visible")
        assert shown.count() == 1 and shown.get_attribute("src") != before


def test_the_first_page_has_the_answer_of_the_readme_and_the_reference_every_public_name_by_subject(site):
    first, reference = ((site / page).read_text() for page in ("index.html", "api/srlib.html"))
    words = re.sub(r"<[^>]+>", "", first)
    for line in ("make lab", "Does a little bias help", "What was found", "7 · Why can eight bits beat thirty-two?"):
        assert line in words
    shown = words[words.index("A reproducible companion") :]
    assert shown.index("What was found") < shown.index("make figures") < shown.index("7 · Why can")
    assert (site / "_static" / "favicon.svg").exists() and "favicon.svg" in first
    named = [reference.index(f">{name}<") for name in srlib.__all__ if name != "__version__"]
    assert reference.index(">round_to<") == min(named)


@pytest.mark.xdist_group("document")
@pytest.mark.parametrize(
    ("kept", "pages"), [("00|01|13", 20), pytest.param("..", 100, marks=pytest.mark.exhaustive)], ids=["three", "all"]
)
def test_the_companion_is_bound_as_one_document_with_an_outline(tmp_path, browser, kept, pages):
    for name in ("docs", "figures"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "README.md", tmp_path)
    index = tmp_path / "docs" / "index.md"
    index.write_text(re.sub(rf"^notebooks/(?!{kept}).*\n", "", index.read_text(), flags=re.M))
    (tmp_path / "notebooks").mkdir()
    for path in (ROOT / "notebooks").glob("*.ipynb"):
        if re.match(kept, path.stem):
            shutil.copy(path, tmp_path / "notebooks")
    out = tmp_path / "new" / "srlib.pdf"
    command = [sys.executable, str(tmp_path / "docs" / "pdf.py"), str(tmp_path), str(out)]
    said = subprocess.run(command, capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stderr
    content = out.read_bytes()
    assert len(re.findall(rb"/Type /Page\b", content)) > pages
    outline = set(re.findall(rb"/Title \((.*?)\)", content))
    assert {b"The question in one picture", b"What we learned", b"Claims", b"Specification", b"Rounding"} <= outline
