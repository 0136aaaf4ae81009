"""What a figure's numbers are made from, as one hash: code of notebook and `srlib`, parameters, data."""

import ast
import hashlib
import json
from collections.abc import Mapping, Set
from functools import cache
from importlib import resources
from pathlib import Path

from srlib.batch.plan import parse_code

# What arranges numbers that are already there, or runs what makes them.
_WITHOUT_NUMBERS = {"batch", "claims", "cli", "figures", "records", "report", "results"}
_ON_DEVICES = {"gpu"}


def identity(notebook: str | Path, parameters: Mapping) -> str:
    """Return the SHA-256 of all that decides the numbers of a notebook's figures, except versions of other packages.

    It does not change with comments, docstrings, the layout of code or prose, nor with modules of `srlib` that the
    notebook does not use, those for devices without `backend="cupy"` among them.

    Parameters
    ----------
    notebook : path
    parameters : mapping
        Resolved, as in the record of a figure. If there is a `dataset_dir`, relative to the notebook, the files there
        are part of the identity.

    Raises
    ------
    OSError, ValueError
        If a file cannot be read, or code is not Python.
    """
    notebook = Path(notebook)
    modules = code_behind(notebook, parameters.get("backend"), _WITHOUT_NUMBERS)
    device = modules.pop("gpu.c", None)
    data = parameters.get("dataset_dir")
    parts = {
        "notebook": essence(_code(notebook)),
        "srlib": modules,
        "device": device,
        "parameters": dict(parameters),
        "data": files_of(notebook.parent / data, "*-ubyte*") if data is not None else None,
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def source_of(notebook: str | Path) -> str:
    """Return the source of a notebook's cells as JSON, all but that of its parameters; without outputs and metadata."""
    return json.dumps([[cell["cell_type"], "".join(cell["source"])] for cell in _cells(notebook)])


def _cells(notebook):
    cells = json.loads(Path(notebook).read_text(encoding="utf-8"))["cells"]
    return [cell for cell in cells if "parameters" not in cell["metadata"].get("tags", ())]


def _code(notebook):
    return "\n".join("".join(cell["source"]) for cell in _cells(notebook) if cell["cell_type"] == "code")


def code_behind(notebook: str | Path, backend: str | None, ignored: Set[str] = frozenset({"batch", "cli"})) -> dict:
    """Return the code of the modules of `srlib` on which a notebook depends, directly or not, as `essence` has it.

    Modules for devices are there with the backend "cupy" alone, and then with the device code, "gpu.c".
    """
    modules = _modules_behind(_code(notebook), ignored) - (set() if backend == "cupy" else _ON_DEVICES)
    device = {"gpu.c": _device_code()} if modules & _ON_DEVICES else {}
    return {name: essence(_source(name)) for name in sorted(modules)} | device


def files_of(directory: Path, pattern: str) -> dict[str, str]:
    """Return the SHA-256 of each file of a directory whose name fits a pattern."""
    files = sorted(directory.glob(pattern))
    return {path.name: hash_of(path) for path in files}


def hash_of(path: Path) -> str:
    """Return the SHA-256 of a local file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@cache
def essence(source: str) -> str:
    """Return Python code without what cannot alter numbers, in a form that is the same for all versions of Python.

    That is the syntax tree, where comments and layout are none, without docstrings, annotations of functions, methods
    of rich display, and imports of names that then are not used.
    """
    return json.dumps(_plain(_bare(source)))


class _Strip(ast.NodeTransformer):
    def visit_FunctionDef(self, node):
        if node.name.startswith("_repr_"):
            return None
        node.returns = None
        return self.visit_body(node)

    def visit_arg(self, node):
        node.annotation = None
        return node

    def visit_body(self, node):
        match node.body:
            case [ast.Expr(ast.Constant(str())), *rest]:
                node.body = rest
        return self.generic_visit(node)

    visit_Module = visit_ClassDef = visit_body


class _StripImports(ast.NodeTransformer):
    def __init__(self, used):
        self.used = used

    def visit_Import(self, node):
        node.names = [alias for alias in node.names if (alias.asname or alias.name.partition(".")[0]) in self.used]
        return node if node.names else None

    visit_ImportFrom = visit_Import


def _bare(source):
    tree = _Strip().visit(parse_code(source))
    return _StripImports({node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}).visit(tree)


def _plain(node):
    """Return a syntax tree as lists and text, without the fields that are empty or that not all versions have."""
    if isinstance(node, ast.AST):
        fields = {name: _plain(value) for name, value in ast.iter_fields(node)}
        return [
            type(node).__name__,
            {name: value for name, value in sorted(fields.items()) if value not in ([], "None")},
        ]
    return [_plain(item) for item in node] if isinstance(node, list) else repr(node)


@cache
def _source(name):
    return (resources.files("srlib") / f"{name}.py").read_text()


@cache
def _device_code():
    return (resources.files("srlib") / "gpu.c").read_text()


def _modules_behind(source, ignored=_WITHOUT_NUMBERS):
    """Return the names of the modules of `srlib` on which some code depends, directly or not."""
    found, waiting = set(), set(_imported(source) - ignored)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting |= _imported(_source(name)) - found - ignored
    return found


@cache
def _imported(source):
    """Return the names of the modules of `srlib` that some code imports or takes public names from."""
    names, home = set(), public_names()
    for node in ast.walk(_bare(source)):
        match node:
            case ast.ImportFrom(module="srlib", names=aliases):
                names |= {home.get(alias.name, alias.name) for alias in aliases}
            case ast.ImportFrom(module=str(module)) if module.startswith("srlib."):
                names.add(module.split(".")[1])
            case ast.Attribute(ast.Name("srlib"), attribute):
                names.add(home[attribute])
    return frozenset(names)


@cache
def public_names() -> dict[str, str]:
    """Return the module of each public name of `srlib`."""
    code = (resources.files("srlib") / "__init__.pyi").read_text()
    imports = [node for node in parse_code(code).body if isinstance(node, ast.ImportFrom)]
    return {alias.name: node.module for node in imports for alias in node.names}
