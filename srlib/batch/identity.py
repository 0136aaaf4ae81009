"""What a figure's numbers are made from, as one hash: the definitions that a notebook reaches, parameters, data."""

import hashlib
import json
from collections.abc import Mapping
from functools import cache
from importlib import resources
from pathlib import Path

from srlib.batch.reach import Reach

# What arranges numbers that are already there, or runs what makes them.
_RUNNING = ("srlib.batch", "srlib.cli")
_ARRANGING = ("claims", "figures", "records", "report", "tables")
_WITHOUT_NUMBERS = (*_RUNNING, *(f"srlib.companion.{name}" for name in _ARRANGING))
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

    That is its own, all but the parameters, and every definition of `srlib` that it reaches; see `Reach`. Names and
    places of these definitions are not part of it, nor is what draws or runs. With the backend "cupy" the code for
    devices is.
    """
    form, definitions = _reached(notebook, backend, _WITHOUT_NUMBERS)
    return _hash([form, [definition for _, definition in definitions], _device_code() if backend == "cupy" else None])


def code_behind(notebook: str | Path, backend: str | None) -> dict[str, str]:
    """Return the SHA-256 of what a notebook reaches of each module of `srlib`, those that draw among them."""
    found: dict = {"gpu.c": _device_code()} if backend == "cupy" else {}
    for module, definition in _reached(notebook, backend, _RUNNING, named=True)[1]:
        found.setdefault(module.removeprefix("srlib."), []).append(definition)
    return {name: _hash(sorted(forms, key=json.dumps)) for name, forms in sorted(found.items())}


def _reached(notebook, backend, ignored, named=False):
    """Return the form of a notebook's code, and module and form of each definition that it reaches."""
    ignored += () if backend == "cupy" else _ON_DEVICES
    return _walk(_code(notebook), tuple(_sources().items()), ignored, named)


@cache
def _walk(code, sources, ignored, named):
    reach = Reach(dict(sources), ignored, named)
    form, definitions = reach.notebook(code), reach.definitions()
    return form, [(module, definition) for (module, _), definition in zip(reach.keys(), definitions, strict=True)]


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


def public_names() -> dict[str, str]:
    """Return the module of each public name of `srlib`, without the package's name."""
    targets = Reach(_sources()).imports("srlib")
    return {name: target.removeprefix("srlib.").rpartition(".")[0] for name, (target,) in targets.items()}


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
