"""Manifests: what a finished job was made from and what it made, so that nobody need run it again or take its word."""

import hashlib
import json
import platform
import re
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

from srlib.batch.identity import code_behind, data_of, files_of, source_of
from srlib.batch.plan import Job
from srlib.batch.store import Store
from srlib.companion.notebook import literal, read_notebook
from srlib.companion.records import versions_of

_INPUTS = ("figures_dir", "pieces")  # parameters that name directories of records, one or a list of them
_OF_COMPANION = re.compile("extra == ['\"]companion['\"]")


def manifest_name(job: Job) -> str:
    """Return the name of a job's manifest below OUT."""
    return job.below(f"manifests/{job.stem}.json")


def made_from(job: Job) -> dict:
    """Return all that decides what a job makes, each part by its hash or as it is.

    Returns
    -------
    dict
        ``notebook``: SHA-256 of the source of its cells; ``srlib``: of each module that it imports, without comments
        and docstrings; ``parameters``: all, resolved; ``data`` and ``inputs``: of each file that a parameter names the
        directory of; ``versions`` of Python and the packages that srlib requires.

    Raises
    ------
    OSError, SyntaxError, ValueError
        If a file cannot be read, or code is not Python.
    """
    parameters = resolved(job)
    where = job.notebook.parent
    named = [parameters.get(name) or [] for name in _INPUTS]
    directories = [name for names in named for name in ([names] if isinstance(names, str) else names)]
    return {
        "notebook": _hash(source_of(job.notebook)),
        "srlib": code_behind(job.notebook, parameters.get("backend")),
        "parameters": parameters,
        "data": data_of(job.notebook, parameters),
        "inputs": {name: files_of(where / Path(name).expanduser(), "*.json") for name in directories},
        "versions": versions(),
    }


def resolved(job: Job) -> dict:
    """Return the values of all parameters of a job but `output_dir`: those given, else the defaults."""
    defaults = {parameter.name: _value(parameter.default) for parameter in read_notebook(job.notebook).parameters}
    defaults.pop("output_dir", None)
    return defaults | dict(job.parameters)


def _value(source):
    try:
        return json.loads(json.dumps(literal(source)))
    except (SyntaxError, TypeError, ValueError):
        return source  # an expression, as it stands


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that srlib requires for the companion."""
    try:
        required = requires("srlib") or ()
    except PackageNotFoundError:  # the code is on the path and not installed
        required = ("ipykernel", "matplotlib", "mpmath", "numba", "numpy", "scipy")
    mine = (text for text in required if "extra ==" not in text or _OF_COMPANION.search(text))
    names = sorted(re.match(r"[\w.-]+", text)[0] for text in mine)
    return {"python": platform.python_version()} | versions_of(names)


def reason_to_run(job: Job, origin: Mapping, store: Store) -> str | None:
    """Return why a job must be run, None if its manifest says that it has been and every output is as it was."""
    manifest = read_manifest(store, manifest_name(job))
    if manifest is None:
        return "it has no manifest"
    changed = list(_changes(manifest["made_from"], origin))
    if changed:
        return f"changed: {', '.join(changed)}"
    return next(problems(manifest, store / job.place), None)


def read_manifest(store: Store, name: str) -> dict | None:
    """Return a manifest; None if there is none, or the file is no manifest."""
    try:
        manifest = json.loads(store.read(name) or b"")
    except ValueError:
        return None
    is_one = isinstance(manifest, dict) and {"job", "made_from", "outputs"} <= manifest.keys()
    return manifest if is_one else None


def problems(manifest: Mapping, store: Store):
    """Yield a line for each output that is missing, or is not what the manifest says."""
    for name, digest in manifest["outputs"].items():
        found = store.sha256(name)
        if found != digest:
            yield f"{name} is {'missing' if found is None else 'not as it was made'}"


def _changes(before, now):
    """Yield what differs between two origins, in a word or two each."""
    for part in now:
        old, new = before.get(part), now[part]
        if old == new:
            continue
        if isinstance(old, dict) and isinstance(new, dict):
            names = sorted(name for name in old.keys() | new.keys() if old.get(name) != new.get(name))
            yield f"{part} ({', '.join(names)})"
        else:
            yield part


def as_bytes(manifest: Mapping) -> bytes:
    """Return a manifest as its file holds it."""
    return (json.dumps(manifest, indent=1, ensure_ascii=False) + "\n").encode()


def _hash(text):
    return hashlib.sha256(text.encode()).hexdigest()
