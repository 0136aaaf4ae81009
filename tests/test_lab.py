"""JupyterLab as a reader uses it, in Debian's Chromium: open a notebook, change a parameter, run all, look.

Two notebooks by default, as all of them take minutes: `make test-browser SCREENSHOTS=build/lab` looks at each and keeps
pictures.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from urllib.request import Request, urlopen

import nbformat
import pytest

ROOT = Path(__file__).parents[1]
EVERY = sorted(path.stem for path in (ROOT / "notebooks").glob("*.ipynb"))
EXPLORER = "14_explorer"
CHOSEN = EVERY if "SCREENSHOTS" in os.environ else ["01_rounding_schemes", EXPLORER]
START = re.search(r"jupyter lab (.*)", (ROOT / "Makefile").read_text())[1].split()
SETTINGS = {
    "notebook-extension/tracker": {"windowingMode": "none"},  # so that all cells are in the page
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
}
PICTURES = """() => [...document.querySelectorAll('.jp-Notebook .jp-OutputArea-output img')]
    .map(image => image.naturalWidth > 0 && image.getBoundingClientRect().width > 0)"""
RUN = """() => {
    const notebook = jupyterapp.shell.currentWidget;
    const cells = notebook.content.widgets.filter(cell => cell.model.type === 'code');
    const failed = cell => cell.model.outputs.toJSON().some(output => output.output_type === 'error');
    const ended = cells.every(cell => cell.model.executionCount !== null) || cells.some(failed);
    return ended && notebook.sessionContext.session.kernel.status === 'idle';
}"""  # of the model: a folded cell shows no number
ANOTHER = "before => ![before, undefined].includes(document.querySelector('.widget-vbox img')?.getAttribute('src'))"
MINUTES = 10

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("lab")]


@pytest.fixture(scope="module")
def lab(tmp_path_factory, browser):
    """A copy of the repository's notebooks, and the address of a JupyterLab on it, as `make lab` starts it."""
    root = tmp_path_factory.mktemp("lab")
    for name in ("notebooks", "figures"):  # a server shows no file outside its root
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns(".ipynb_checkpoints"))
    (root / "data").symlink_to(ROOT / "data")
    for name, values in SETTINGS.items():
        path = root / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(values))
    places = {"JUPYTER_CONFIG_DIR": "config", "JUPYTERLAB_SETTINGS_DIR": "settings", "JUPYTER_DATA_DIR": "share"}
    places |= {"JUPYTERLAB_WORKSPACES_DIR": "workspaces", "JUPYTER_RUNTIME_DIR": "runtime"}
    options = [
        "--no-browser",
        "--LabApp.expose_app_in_browser=True",
        "--allow-root",
        "--ServerApp.port=0",
        "--IdentityProvider.token=known",
    ]
    options += START
    with (root / "log").open("w") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "jupyterlab", *options],
            cwd=root,
            env=os.environ | {name: str(root / folder) for name, folder in places.items()},
            stdout=log,
            stderr=log,
        )
    try:
        yield root, _address(root, server)
    finally:
        server.terminate()
        server.wait(30)


def _address(root, server):
    for _ in range(600):
        if found := re.search(r"http://(?:localhost|127\.0\.0\.1):\d+", (root / "log").read_text()):
            return found[0]
        assert server.poll() is None, (root / "log").read_text()
        time.sleep(0.1)
    pytest.fail("JupyterLab does not start")


@pytest.fixture(autouse=True)
def alone(lab):
    """A test has the server to itself: what it has started ends with it."""
    _, address = lab
    yield
    for session in _sessions(address):
        urlopen(Request(f"{address}/api/sessions/{session['id']}?token=known", method="DELETE"))


@pytest.fixture
def opened(lab, browser):
    """Open a notebook by its name and return its page; at the end nothing has been said on the console."""
    root, address = lab
    said, pages = [], []

    def open_notebook(name):
        shutil.copy(ROOT / "notebooks" / f"{name}.ipynb", root / "notebooks")  # not what the last test has saved
        page = browser.new_page(viewport={"width": 1400, "height": 1000})
        pages.append(page)
        page.on("console", lambda message: said.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: said.append(str(error)))
        page.goto(f"{address}/lab/tree/notebooks/{name}.ipynb?token=known&reset")
        _wait_for_kernel(page)
        page.locator(".cm-line", has_text="seed = ").first.click()
        return page

    yield open_notebook
    for page in pages:
        page.close()
    assert said == []


def _wait_for_kernel(page):
    page.locator(".jp-Toolbar-kernelName", has_text="Python 3 (ipykernel)").first.wait_for(timeout=60_000)


def _sessions(address):
    with urlopen(f"{address}/api/sessions?token=known") as answer:
        return json.load(answer)


def _change(page, old, new):
    """Replace a line of code as a person does."""
    page.locator(".cm-line", has_text=old).first.click()
    page.keyboard.press("Home")
    page.keyboard.press("Shift+End")
    page.keyboard.type(new)


def _run_all(page, path):
    """Run all cells, save, and return the notebook as it was saved."""
    for menu, entry in (("Edit", "Clear Outputs of All Cells"), ("Run", "Run All Cells")):
        page.get_by_role("menuitem", name=menu, exact=True).click()
        page.get_by_text(entry, exact=True).click()
    page.wait_for_function(RUN, timeout=60_000 * MINUTES)
    before = path.stat().st_mtime_ns
    page.keyboard.press("Control+s")
    for _ in range(100):
        time.sleep(0.1)
        if path.stat().st_mtime_ns > before and path.read_text().endswith("}\n"):  # not while it is written
            return nbformat.read(path, as_version=4)
    pytest.fail("the notebook was not saved")


def _keep(page, name):
    if "SCREENSHOTS" in os.environ:
        folder = Path(os.environ["SCREENSHOTS"])
        folder.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=folder / f"{name}.png")


def test_it_starts_with_the_index_and_its_figure(lab, browser):
    page = browser.new_page()
    page.goto(f"{lab[1]}/?token=known")
    page.get_by_role("heading", name="Does a little bias help low-precision gradient descent?").wait_for(timeout=60_000)
    assert page.evaluate(PICTURES)[0]
    _wait_for_kernel(page)  # else it would start after its page has been closed, beside that of the next test
    page.close()


@pytest.mark.parametrize("name", CHOSEN)
def test_a_parameter_is_changed_and_all_is_run(lab, opened, name):
    root, _ = lab
    path, page = root / "notebooks" / f"{name}.ipynb", opened(name)
    assert page.locator(".jp-Dialog").count() == 0
    assert page.locator("[data-mime-type='application/vnd.jupyter.stderr']").count() == 0
    headings = re.findall(
        r"^#+ .+", "\n".join(c.source for c in nbformat.read(path, 4).cells if c.cell_type != "code"), re.M
    )
    page.get_by_role("tab", name=re.compile("Table of Contents")).click()
    page.locator(".jp-tocItem-content").nth(len(headings) - 1).wait_for()
    assert page.locator(".jp-tocItem-content").count() == len(headings)
    _keep(page, f"{name}-opened")

    _change(page, "seed = ", "seed = 7")
    run = _run_all(page, path)
    code = [cell for cell in run.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell.outputs]
    assert [output for output in outputs if output.output_type == "error" or output.get("name") == "stderr"] == []
    (parameters,) = (cell for cell in code if "parameters" in cell.metadata.get("tags", ()))
    assert "seed = 7\n" in parameters.source
    shown = page.evaluate(PICTURES)
    assert all(shown) and len(shown) >= sum(cell.source.count("save_figure(") for cell in code)
    for index, picture in enumerate(page.locator(".jp-Notebook .jp-OutputArea-output img").all()):
        picture.scroll_into_view_if_needed()
        _keep(page, f"{name}-{index + 1}")
    if name == EXPLORER:
        _assert_that_its_controls_draw_anew(page)


def _assert_that_its_controls_draw_anew(page):
    controls = page.locator(".jp-OutputArea-output .widget-vbox").first
    picture = controls.locator("img")
    picture.wait_for()
    for change in (
        lambda: controls.locator("select").first.select_option("e4m3"),
        lambda: controls.locator(".widget-readout").first.fill("0.6"),
    ):
        before = picture.get_attribute("src")
        change()
        page.keyboard.press("Enter")
        page.wait_for_function(ANOTHER, arg=before)
    picture.scroll_into_view_if_needed()
    _keep(page, f"{EXPLORER}-controls")
