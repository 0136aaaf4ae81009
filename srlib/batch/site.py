"""The companion as web pages: executed notebooks, results, figures with their provenance, and the reference."""

import io
import json
import os
import pkgutil
import re
import shutil
import tempfile
from collections.abc import Mapping
from importlib import resources
from pathlib import Path

import srlib
from srlib.batch.identity import public_names
from srlib.companion.claims import evaluate, ledger, settings_of
from srlib.companion.notebook import find_notebooks, read_notebook
from srlib.companion.records import load_stamped, records_in
from srlib.companion.report import gallery, results_page
from srlib.companion.tables import table

_NO_REFERENCE = {"srlib.__main__", "srlib.version"}
_COLUMNS = ("claim", "verdict", "statistic", "value", "margin", "figure")


def build_site(directory: Path, notebooks: Path, figures: Path) -> Path:
    """Build ``site/`` in the directory of a batch, from what it has made; nothing is run.

    Notebooks and figures that the batch has not made are taken from those given.

    Parameters
    ----------
    directory : path
        Of the batch.
    notebooks, figures : paths
        Of executed notebooks, and of figures with their records.

    Returns
    -------
    path
        Of the first page.

    Raises
    ------
    RuntimeError
        If Sphinx is not installed, or warns of anything, such as a link that leads nowhere.
    FileNotFoundError, ValueError
        If there is no notebook, or a record is damaged or made by hand.
    """
    try:
        import furo  # noqa: F401
        import myst_nb  # noqa: F401
        import sphinx  # noqa: F401
    except ImportError as error:
        raise RuntimeError(f"a site needs Sphinx, the extra 'docs' ({error})") from None
    site = directory / "site"
    directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".site-", dir=directory) as work:
        source, built = Path(work, "source"), Path(work, "built")
        _write_source(source, directory, notebooks, figures)
        _run_sphinx(source, built)
        shutil.rmtree(site, ignore_errors=True)
        os.replace(built, site)
    return site / "index.html"


def _write_source(source, directory, notebooks, figures):
    """Lay out the pages as the repository does, so that links between them hold."""
    for name, given in (("notebooks", notebooks), ("figures", figures)):
        (source / name).mkdir(parents=True)
        for place in (given, directory / name):
            for path in records_in(place):
                load_stamped(path)  # an error names the record, not its copy
            for path in sorted(place.glob("*.ipynb" if name == "notebooks" else "*")):
                if path.is_file() and path.name not in ("README.md", "claims.json", "probe.json"):
                    shutil.copy(path, source / name)
    for path in (source / "notebooks").iterdir():
        path.write_text(_for_the_site(path.read_text(encoding="utf-8")), encoding="utf-8")
    pages = _pages(source, directory)
    pages["index.md"] = _index(source, [name for name in pages if name.startswith("api/")])
    for name, text in pages.items():
        (source / name).parent.mkdir(exist_ok=True)
        (source / name).write_text(text, encoding="utf-8")


def _for_the_site(text):
    """Let links to modules lead to their reference."""
    return re.sub(r"\]\(\.\./srlib/([\w/]+)\.py\)", lambda link: f"](../api/{link[1].replace('/', '.')}.md)", text)


def _pages(source, directory):
    figures = source / "figures"
    found = evaluate(figures)
    rows = [{name: row[name] for name in _COLUMNS} for row in ledger(found)]
    claims = [f"**{claim.name}.** {claim.text} *{claim.verdict.capitalize()}.*" for claim in found]
    pages = {
        "RESULTS.md": results_page(figures),
        "figures/README.md": gallery(figures, source / "notebooks"),
        "claims.md": "\n\n".join(["# Claims", f"{_CLAIMS} {settings_of(figures)}", *claims, table(rows)]) + "\n",
        "provenance.md": _provenance(figures, directory),
    }
    for module in pkgutil.walk_packages(srlib.__path__, "srlib."):
        if not module.ispkg and module.name not in _NO_REFERENCE:
            pages[f"api/{module.name.removeprefix('srlib.')}.md"] = _MODULE.format(module=module.name)
    names = "\n".join(f"- {{py:obj}}`srlib.{home}.{name}`" for name, home in sorted(public_names().items()))
    pages["api/srlib.md"] = _PACKAGE.format(about=srlib.__doc__, names=names)
    return pages


_CLAIMS = """The claims of the paper's abstract, each with the test that it must pass and tests of its limits, evaluated
on the records of the figures. The margin is the value less its threshold."""

_PACKAGE = """# srlib

{about}

{names}
"""

_MODULE = """# {module}

```{{eval-rst}}
.. automodule:: {module}
   :members:
   :member-order: bysource
```
"""


def _provenance(figures, directory):
    made = {}
    for path in sorted(directory.glob("manifests/*.json")):
        manifest = json.loads(path.read_text())
        for name in manifest["outputs"]:
            made[name] = manifest
    parts = ["# Provenance", _PROVENANCE]
    for path in records_in(figures):
        record = load_stamped(path)
        rows = {"parameters": _listed(record["parameters"]), "versions": _listed(record["versions"])}
        rows |= {"numbers, SHA-256": f"`{record['sha256']}`", "made from, SHA-256": f"`{record.get('identity', '')}`"}
        if "computed_by" in record:
            rows["computed by, SHA-256"] = f"`{record['computed_by']}`"
        manifest = made.get(f"figures/{path.name}")
        if manifest:
            spent = f"{manifest['seconds']:.0f} s, {manifest['memory'] / 1e6:.0f} MB at most"
            rows["run"] = f"{manifest['started']}, {spent}, by {manifest['job']}"
        head = f"## {path.stem}\n\n[figure](figures/{path.stem}.png) · [record](figures/{path.name})"
        parts += [head, table([{"what": what, "is": text} for what, text in rows.items()])]
    return "\n\n".join(parts) + "\n"


_PROVENANCE = """What decides each figure. The hash of the numbers is in the record beside the figure; the other is of
the code of the notebook and of the definitions of `srlib` that it reaches, without comments and docstrings, of
parameters and data. Where other code has computed the numbers, a small run has shown that this one makes the same."""


def _listed(values: Mapping):
    return ", ".join(f"{name} {json.dumps(value, ensure_ascii=False)}" for name, value in values.items()).replace(
        "|", "\\|"
    )


def _index(source, reference):
    notebooks = find_notebooks(source / "notebooks")
    stems = [path.stem for path in notebooks]
    first = notebooks[0].read_text(encoding="utf-8")
    order = dict.fromkeys(re.findall(r"\]\((\w+)\.ipynb\)", first)) if stems[0].startswith("00") else {}
    listed = [stems[0], *(stem for stem in order if stem in stems[1:])]
    listed += [stem for stem in stems if stem not in listed]
    questions = [
        f"- [{read_notebook(source / 'notebooks' / f'{stem}.ipynb').title}](notebooks/{stem}.ipynb)" for stem in listed
    ]
    trees = {
        "Notebooks": [f"notebooks/{stem}" for stem in listed],
        "Results": ["RESULTS", "claims", "figures/README", "provenance"],
        "Reference": [name.removesuffix(".md") for name in reference],
    }
    tree = "\n\n".join(
        f"```{{toctree}}\n:hidden:\n:caption: {caption}\n\n" + "\n".join(pages) + "\n```"
        for caption, pages in trees.items()
    )
    return _INDEX.format(questions="\n".join(questions), tree=tree, version=srlib.__version__)


_INDEX = """# srlib

A reproducible companion to L. Xia, S. Massei, M. E. Hochstenbach and B. Koren, *On Stochastic Roundoff Errors in
Gradient Descent with Low-Precision Computation* ([arXiv:2202.12276](https://arxiv.org/abs/2202.12276)), version
{version}.

![Test error, training loss and share of unmoved weights](figures/logistic_regression.png)

## Questions

{questions}

## Answers

[Results](RESULTS.md), the [claims](claims.md) of the abstract tested on the numbers, all
[figures](figures/README.md), and the [provenance](provenance.md) of each. The kernels and everything else that the
notebooks use are in the [reference](api/srlib.md).

{tree}
"""


def _run_sphinx(source, built):
    from sphinx.application import Sphinx
    from sphinx.errors import SphinxError
    from sphinx.util.docutils import docutils_namespace

    warnings = io.StringIO()
    styles = resources.files("srlib") / "batch" / "site.css"
    (source / "style").mkdir()
    (source / "style" / "srlib.css").write_text(styles.read_text())
    try:
        with docutils_namespace():
            app = Sphinx(
                srcdir=source,
                confdir=None,
                outdir=built,
                doctreedir=source.parent / "doctrees",
                buildername="html",
                confoverrides=_CONFIGURATION,
                status=None,
                warning=warnings,
            )
            app.connect("autodoc-process-docstring", _escape, priority=100)
            app.connect("doctree-read", _leave_equations)
            app.build()
    except SphinxError as error:
        raise RuntimeError(f"the site cannot be built: {error}") from None
    said = re.sub(r"\x1b\[[\d;]*m", "", warnings.getvalue())
    found = [line for line in said.splitlines() if line.strip()]
    if found:
        raise RuntimeError("the site has faults:\n" + "\n".join(line.replace(f"{source}/", "") for line in found))
    for name in (".buildinfo", "objects.inv"):
        (built / name).unlink(missing_ok=True)


_CONFIGURATION = {
    "project": "srlib",
    "author": "The srlib authors",
    "copyright": "The srlib authors, MIT licence",
    "language": "en",
    "smartquotes": False,
    "extensions": [
        "myst_nb",
        "sphinx.ext.autodoc",
        "sphinx.ext.mathjax",
        "sphinx.ext.napoleon",
        "sphinx.ext.viewcode",
        "sphinx-mathjax-offline",
    ],
    "nb_execution_mode": "off",
    "nb_merge_streams": True,
    "nb_render_markdown_format": "myst",
    "myst_enable_extensions": ["amsmath", "dollarmath"],
    "myst_heading_anchors": 3,
    "autodoc_typehints": "none",
    "suppress_warnings": ["ref.python"],  # words of a type, such as "shape", that several classes have as an attribute
    "napoleon_google_docstring": False,
    "default_role": "py:obj",
    "add_module_names": False,
    "html_theme": "furo",
    "html_title": "srlib",
    "html_static_path": ["style"],
    "html_css_files": ["srlib.css"],
    "html_copy_source": False,
    "html_show_sphinx": False,
    "exclude_patterns": ["style"],
}


def _leave_equations(app, doctree):
    """Keep Sphinx from putting an equation that has lines into an environment in which it can have no tag."""
    from docutils import nodes

    for node in doctree.findall(nodes.math_block):
        if not node.get("no-wrap"):
            node["no-wrap"] = True
            node[:] = [nodes.Text(f"\\[{node.astext()}\\]")]


def _escape(app, what, name, obj, options, lines):
    """Take bars and stars in docstrings for themselves, as they are mathematics; keep a result in words together."""
    kept, returns = [], False
    for line in lines:
        returns = not line.startswith("Raises") and (returns or line == "Returns")
        if returns and kept and line[:1].strip(" -") and kept[-1][:1].strip(" -") and kept[-1] != "Returns":
            kept[-1] += f" {line}"
        else:
            kept.append(line)
    lines[:] = [re.sub(r"(?<!\\)([|*])", r"\\\1", line) for line in kept]
