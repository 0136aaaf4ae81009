"""The companion as web pages: what Sphinx makes of its notebooks, figures and docs, laid out in one tree."""

import io
import os
import re
import shutil
import tempfile
from pathlib import Path

from srlib.companion.records import load_stamped, records_in

_NOT_SHOWN = ("README.md", "claims.json", "regression_check.json")  # of the figures; the first is written anew


def build_site(directory: Path, notebooks: Path, figures: Path, docs: Path) -> Path:
    """Build ``site/`` in the directory of a batch, from what it has made; nothing is run.

    Executed notebooks are those of the batch, and where it has none, those given. Figures that pages link to, and the
    results and claims that are drawn from their records, are those given, whatever the batch has made.

    Parameters
    ----------
    directory : path
        Of the batch.
    notebooks, figures, docs : paths
        Of executed notebooks, of figures with their records, and of Sphinx's ``conf.py`` and pages.

    Returns
    -------
    path
        Of the first page.

    Raises
    ------
    RuntimeError
        If Sphinx is not installed, or warns of anything, such as a link that leads nowhere.
    FileNotFoundError, ValueError
        If there are no docs or no notebook, or a record is damaged or made by hand.
    """
    try:
        import furo  # noqa: F401
        import myst_nb  # noqa: F401
        import sphinx  # noqa: F401
    except ImportError as error:
        raise RuntimeError(f"a site needs Sphinx, the extra 'docs' ({error})") from None
    if not (docs / "conf.py").is_file():
        raise FileNotFoundError(f"{docs}: there is no conf.py of Sphinx in it")
    site = directory / "site"
    directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".site-", dir=directory) as work:
        source, built = Path(work, "source"), Path(work, "built")
        lay_out(source, docs, notebooks, figures, directory)
        run_sphinx(source, built, batch=str(directory.resolve()))
        shutil.rmtree(site, ignore_errors=True)
        os.replace(built, site)
    return site / "index.html"


def lay_out(source: Path, docs: Path, notebooks: Path, figures: Path, directory: Path) -> None:
    """Copy docs, notebooks and figures as they lie in the repository, so that links between them hold."""
    parts = {"notebooks": ("*.ipynb", (notebooks, directory / "notebooks")), "figures": ("*", (figures,))}
    shutil.copytree(docs, source, ignore=shutil.ignore_patterns("__pycache__"))
    if (readme := docs.parent / "README.md").is_file():
        shutil.copy(readme, source)
    for place in (figures, directory / "figures"):
        for path in records_in(place):
            load_stamped(path)  # an error names the record, not its copy
    for name, (pattern, places) in parts.items():
        (source / name).mkdir()
        for place in places:
            for path in sorted(place.glob(pattern)):
                if path.is_file() and path.name not in _NOT_SHOWN and not path.name.startswith("."):
                    shutil.copy(path, source / name)
    if not list((source / "notebooks").iterdir()):
        raise FileNotFoundError(f"no notebooks in {notebooks}")


def run_sphinx(source: Path, built: Path, builder: str = "html", **overrides: object) -> None:
    """Build web pages; raise RuntimeError if Sphinx warns of anything."""
    from sphinx.application import Sphinx
    from sphinx.errors import SphinxError
    from sphinx.util.docutils import docutils_namespace

    warnings = io.StringIO()
    places = {"srcdir": source, "confdir": source, "outdir": built, "doctreedir": source.parent / "doctrees"}
    try:
        with docutils_namespace():
            Sphinx(**places, buildername=builder, confoverrides=overrides, status=None, warning=warnings).build()
    except SphinxError as error:
        raise RuntimeError(f"the site cannot be built: {error}") from None
    said = re.sub(r"\x1b\[[\d;]*m", "", warnings.getvalue())
    found = [line for line in said.splitlines() if line.strip()]
    if found:
        raise RuntimeError("the site has faults:\n" + "\n".join(line.replace(f"{source}/", "") for line in found))
    for name in (".buildinfo", "objects.inv"):
        (built / name).unlink(missing_ok=True)
