"""A Sphinx extension: the pages that are written from records and modules, and what docstrings and links need."""

import inspect
import json
import pkgutil
import re
from pathlib import Path

from slider import slider_page

import srlib
from srlib.batch.identity import public_names
from srlib.companion.claims import evaluate, ledger, settings_of, wordings
from srlib.companion.notebook import alt_text
from srlib.companion.records import load_stamped, records_in
from srlib.companion.report import gallery, results_page
from srlib.companion.tables import table

CLAIMS = """# Claims

What the paper's abstract claims, as published and in its first version, and whether that is found here. A claim that
passes its own test and not all tests of its conditions holds under conditions; the first version leaves out "typically"
and "on average", and so must pass them all. {settings}

{wordings}

The tests, each a number that must be above a threshold:

{ledger}
"""
PROVENANCE = """# Provenance

What decides each figure. The hash of the numbers is in the record beside the figure; the other is of
the code of the notebook and of the modules of `srlib` that it imports, without comments and docstrings, of
parameters and data. Where other code has computed the numbers, a small run has shown that this one makes the same.

{figures}
"""
SUBJECTS = {
    "Rounding": ["rounding", "schemes"],
    "Formats and random words": ["formats", "philox"],
    "Arithmetic and gradient descent": ["arithmetic", "descent.steps"],
    "Exact laws and bounds": ["descent.exact_law"],
    "Problems": ["descent.problems", "descent.classifiers"],
}
NUMBERS = {"FORMATS": "The formats by their names.", "SCHEMES": "The names of the schemes, without ε."}
MODULE = """# {module}

```{{eval-rst}}
.. automodule:: {module}
   :members:
   :member-order: bysource
```
"""


def setup(app):
    app.add_config_value("batch", "", "env")  # the directory of a batch, for what its manifests say of a run
    app.connect("builder-inited", write_pages)
    app.connect("source-read", link_to_the_reference)
    app.connect("doctree-read", leave_equations)
    app.connect("doctree-resolved", say_what_is_shown)
    app.connect("autodoc-process-docstring", keep_mathematics, priority=100)
    return {"parallel_read_safe": True}


def write_pages(app):
    source = Path(app.srcdir)
    figures = source / "figures"
    pages = {
        "RESULTS": results_page(figures),
        "claims": claims(figures),
        "figures/README": gallery(figures, source / "notebooks"),
        "provenance": provenance(figures, Path(app.config.batch)),
        "api/srlib": package(),
    }
    if app.builder.name == "html":  # on paper nothing slides
        pages["slider"] = slider_page(source / "notebooks" / "14_explorer.ipynb")
    for module in pkgutil.walk_packages(srlib.__path__, "srlib."):
        if not module.ispkg and module.name not in ("srlib.__main__", "srlib.version"):
            pages[f"api/{module.name.removeprefix('srlib.')}"] = MODULE.format(module=module.name)
    for name, text in pages.items():
        path = source / f"{name}.md"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")


def claims(figures):
    found = evaluate(figures)
    return CLAIMS.format(settings=settings_of(figures), wordings=table(wordings(found)), ledger=table(ledger(found)))


def provenance(figures, batch):
    manifests = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(batch.glob("manifests/*.json"))]
    made = {name: manifest for manifest in manifests for name in manifest["outputs"]}
    parts = []
    for path in records_in(figures):
        head = f"## {path.stem}\n\n[figure]({path.with_suffix('.png').relative_to(figures.parent)})"
        rows = facts(load_stamped(path))
        again = batch / "figures" / path.name
        if (manifest := made.get(f"figures/{path.name}")) and again.is_file():
            rows["made again by this batch"] = run(load_stamped(again), manifest)
        parts += [
            f"{head} · [record](figures/{path.name})",
            table([{"what": what, "is": is_} for what, is_ in rows.items()]),
        ]
    return PROVENANCE.format(figures="\n\n".join(parts))


def facts(record):
    rows = {"parameters": listed(record["parameters"]), "versions": listed(record["versions"])}
    rows |= {"numbers, SHA-256": f"`{record['sha256']}`", "made from, SHA-256": f"`{record['identity']}`"}
    if "computed_by" in record:
        rows["computed by, SHA-256"] = f"`{record['computed_by']}`"
    return rows


def run(record, manifest):
    spent = f"{manifest['seconds']:.0f} s, {manifest['memory'] / 1e6:.0f} MB at most"
    return (
        f"{record['parameters']['profile']} profile, {manifest['started']}, {spent}, by {manifest['job']}; "
        f"numbers, SHA-256: `{record['sha256']}`"
    )


def listed(values):
    return ", ".join(f"{name} {json.dumps(value, ensure_ascii=False)}" for name, value in values.items())


def package():
    """The public names by subject, each with the first sentence of its docstring."""
    homes = public_names()
    parts = ["# srlib", srlib.__doc__]
    for subject, modules in SUBJECTS.items():
        names = sorted((modules.index(home), name) for name, home in homes.items() if home in modules)
        parts += [f"## {subject}", "\n".join(summary(name, modules[place]) for place, name in names)]
    return "\n\n".join(parts) + "\n"


def summary(name, home):
    there = getattr(srlib, name)
    said = inspect.getdoc(there) if callable(there) else NUMBERS[name]
    first = re.sub(r"\s*\(SPEC.*?\)", "", said.partition("\n\n")[0].replace("\n", " "))
    plain = re.sub(r"([*_|<])", r"\\\1", first)
    return f"- {{py:obj}}`{name} <srlib.{home}.{name}>`: {plain}"


def link_to_the_reference(app, name, source):
    """Let links to modules and to the docs, which lie elsewhere in the repository, lead to pages of the site."""
    up, number = "", re.match(r"notebooks/(\d\d)_", name)
    if number:
        up, source[0] = "../", re.sub(r'"# ', f'"# {int(number[1])} · ', source[0], count=1)
    pattern = r"\]\((?:\.\./)?srlib/([\w/]+)\.py\)"
    text = re.sub(pattern, lambda link: f"]({up}api/{link[1].replace('/', '.')}.md)", source[0])
    text = re.sub(r"\]\((?:\.\./)?docs/", f"]({up}", text)
    source[0] = text if "/" in name else text.replace("](../", "](")  # docs lie at the root of the site


def say_what_is_shown(app, doctree, name):
    """Let the text for a figure of a notebook, in place of a file's name, be the caption that follows it."""
    from docutils import nodes

    shown = []
    for node in doctree.findall(lambda node: isinstance(node, nodes.image | nodes.paragraph)):
        if isinstance(node, nodes.image):
            shown += [] if node.get("alt") else [node]
        elif caption := re.match(r"Figure \d+\. (.+)", node.astext(), re.DOTALL):
            for image in shown:
                image["alt"] = alt_text(caption[1])
            shown = []


def leave_equations(app, doctree):
    """Keep Sphinx from putting an equation that has lines into an environment in which it can have no tag."""
    from docutils import nodes

    for node in doctree.findall(nodes.math_block):
        if not node.get("no-wrap"):
            node["no-wrap"] = True
            node[:] = [nodes.Text(f"\\[{node.astext()}\\]")]


def keep_mathematics(app, what, name, obj, options, lines):
    """Take bars and stars in docstrings for themselves; keep a result that is described in words together."""
    kept, returns = [], False
    for line in lines:
        returns = not line.startswith("Raises") and (returns or line == "Returns")
        in_words = returns and kept and line[:1].strip(" -") and kept[-1][:1].strip(" -") and kept[-1] != "Returns"
        if in_words:
            kept[-1] += f" {line}"
        else:
            kept.append(line)
    plain = [re.sub(r"(?<!\\)([|*])", r"\\\1", line) for line in kept]
    lines[:] = [re.sub(r"SPEC ([CDE]\d+[pc]?)", _defined, line) for line in plain]


def _defined(found):
    return f"`{found[1]} <../specification.html#{found[1].lower()}>`__"
