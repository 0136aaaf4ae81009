"""What a figure's numbers are made from, as one hash: a notebook's code, the modules it imports, parameters, data."""

import ast
import builtins
import hashlib
import json
from collections.abc import Mapping
from functools import cache
from importlib import resources
from pathlib import Path

from srlib.companion.notebook import parse_code

# What arranges numbers that are already there, or runs what makes them.
_RUNNING = ("srlib.batch", "srlib.cli")
_ARRANGING = ("claims", "figures", "records", "report", "tables")
_SHOWING = ("srlib.html", "srlib.tensors", "srlib.typing")
_WITHOUT_NUMBERS = (*_RUNNING, *_SHOWING, *(f"srlib.companion.{name}" for name in _ARRANGING))
_ON_DEVICES = ("srlib.kernels.gpu",)


def identity(notebook: str | Path, parameters: Mapping) -> str:
    """Return the SHA-256 of all that decides the numbers of a notebook's figures, except versions of other packages.

    Parameters
    ----------
    notebook : path
    parameters : mapping
        Resolved, as in the record of a figure. If there is a `dataset_dir`, relative to the notebook, the files there
        are part of the identity.

    Raises
    ------
    OSError, SyntaxError, ValueError
        If a file cannot be read, or code is not Python.
    """
    return combined(code_of(notebook, parameters.get("backend")), data_of(notebook, parameters), parameters)


def combined(code: str, data: Mapping, parameters: Mapping) -> str:
    """Return the identity of code and data, as `code_of` and `data_of` have them, and parameters."""
    return _hash({"code": code, "data": dict(data), "parameters": dict(parameters)})


def code_of(notebook: str | Path, backend: str | None) -> str:
    """Return the SHA-256 of the code that decides a notebook's numbers, from the files as they are.

    That is its own, all but the parameters, and every module of `srlib` that it imports, directly or by others, but
    those that draw or run. With the backend "cupy" the code for devices is.
    """
    behind = _behind(notebook, backend, _WITHOUT_NUMBERS)
    return _hash([_form(_code(notebook)), behind])


def code_behind(notebook: str | Path, backend: str | None) -> dict[str, str]:
    """Return the SHA-256 of each module of `srlib` that a notebook imports, those that draw among them."""
    return {name.removeprefix("srlib."): _hash(form) for name, form in _behind(notebook, backend, _RUNNING).items()}


def _behind(notebook, backend, ignored):
    """Return the forms of all modules that a notebook imports, by their names in their order."""
    sources, ignored = _sources(), ignored + (() if backend == "cupy" else _ON_DEVICES)
    found, coming = {}, [_code(notebook)]
    while coming:
        for name in {module for used in _used(coming.pop()) for module in _modules_of(used, sources)} - found.keys():
            if not f"{name}.".startswith(tuple(f"{other}." for other in ignored)):
                found[name] = _form(sources[name])
                coming.append(sources[name])
    return {name: found[name] for name in sorted(found)} | ({"gpu.c": _device_code()} if backend == "cupy" else {})


def public_names() -> dict[str, str]:
    """Return the module of each public name of `srlib`, without the package's name."""
    found = _exported(_sources()["srlib"])
    return {name: module.removeprefix("srlib.") for name, module in found.items()}


@cache
def _exported(stub):
    """Return the modules of the public names, as the stub of the package has them."""
    return {alias.asname: f"srlib.{line.module}" for line in parse_code(stub).body for alias in line.names}


@cache
def _used(code):
    """Return what code imports, anywhere in it, and what it takes from the package as an object: dotted names."""
    found, nodes = set(), list(ast.walk(parse_code(code)))
    inner = {id(node.value) for node in nodes if isinstance(node, ast.Attribute)}
    for node in nodes:
        match node:
            case ast.Import(names):
                found |= {alias.name for alias in names if alias.asname or alias.name != "srlib"}
            case ast.ImportFrom(str(module), names):
                found |= {f"{module}.{alias.name}" for alias in names}
            case ast.Name() | ast.Attribute() if id(node) not in inner:
                found.add(ast.unparse(node))
    return {name for name in found if name.partition(".")[0] == "srlib"}


def _modules_of(used, sources):
    """Return the modules that a dotted name stands for: of a package, or of a name that is not found, all below it."""
    parts, public = used.split("."), _exported(sources["srlib"])
    if len(parts) > 1 and parts[1] in public:
        return [public[parts[1]]]
    end = next(end for end in range(len(parts), 0, -1) if ".".join(parts[:end]) in sources)
    there = ".".join(parts[:end])
    return [name for name in sources if name != "srlib" and f"{name}.".startswith(f"{there}.")]


@cache
def _form(code):
    return _plain(_Strip().visit(parse_code(code)))


def _plain(node):
    """Return a syntax tree as lists and text, without the fields that are empty or that not all versions have."""
    if isinstance(node, list):
        return [_plain(item) for item in node]
    if not isinstance(node, ast.AST):
        return repr(node)
    fields = [[name, _plain(value)] for name, value in ast.iter_fields(node) if value not in (None, [])]
    return [type(node).__name__, *fields]


class _Strip(ast.NodeTransformer):
    """Remove what cannot alter a number: docstrings, annotations, overloads, rich display, messages."""

    def visit_FunctionDef(self, node):
        if any(isinstance(decorator, ast.Name) and decorator.id == "overload" for decorator in node.decorator_list):
            return None  # type checkers alone read it
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

    def visit_ClassDef(self, node):
        node.body = [part for part in node.body if not getattr(part, "name", "").startswith("_repr_")]
        return self.visit_body(node)

    visit_Module = visit_body

    def visit_Raise(self, node):
        match node.exc:
            case ast.Call(ast.Name(name)) if hasattr(builtins, name) and name != "StopIteration":
                node.exc = ast.Name(name, ast.Load())
        return self.generic_visit(node)

    def visit_Assert(self, node):
        node.msg = None
        return self.generic_visit(node)

    def visit_Call(self, node):
        match node.func:
            case ast.Attribute(ast.Name("warnings"), "warn"):
                node.args = node.args[1:]
        return self.generic_visit(node)


def data_of(notebook: str | Path, parameters: Mapping) -> dict[str, str]:
    """Return the SHA-256 of each file in the `dataset_dir`, where there is such a parameter."""
    data = parameters.get("dataset_dir")
    return files_of(Path(notebook).parent / Path(data).expanduser(), "*-ubyte*") if isinstance(data, str) else {}


def source_of(notebook: str | Path) -> str:
    """Return the source of a notebook's cells as JSON, all but that of its parameters; without outputs and metadata."""
    return json.dumps([[cell["cell_type"], "".join(cell["source"])] for cell in _cells(notebook)])


def _cells(notebook):
    cells = json.loads(Path(notebook).read_text(encoding="utf-8"))["cells"]
    return [cell for cell in cells if "parameters" not in cell["metadata"].get("tags", ())]


def _code(notebook):
    return "\n".join("".join(cell["source"]) for cell in _cells(notebook) if cell["cell_type"] == "code")


def files_of(directory: Path, pattern: str) -> dict[str, str]:
    """Return the SHA-256 of each file of a directory whose name fits a pattern."""
    files = sorted(path for path in directory.glob(pattern) if path.is_file())
    return {path.name: hash_of(path) for path in files}


def hash_of(path: Path) -> str:
    """Return the SHA-256 of a local file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sources():
    """Return the code of all modules of `srlib` by their names; that of a package is its stub, where it has one."""
    return dict(_modules(resources.files("srlib"), "srlib"))


def _modules(place, name):
    files = {path.name: path for path in place.iterdir()}
    for own in ("__init__.pyi", "__init__.py"):
        if own in files:
            yield name, files[own].read_text(encoding="utf-8")
            break
    for file in sorted(files):
        stem = file.removesuffix(".py")
        if files[file].is_dir() and "__init__.py" in {path.name for path in files[file].iterdir()}:
            yield from _modules(files[file], f"{name}.{file}")
        elif stem != file and stem != "__init__":
            yield f"{name}.{stem}", files[file].read_text(encoding="utf-8")


def _device_code():
    return (resources.files("srlib") / "kernels" / "gpu.c").read_text(encoding="utf-8")


def _hash(content):
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
