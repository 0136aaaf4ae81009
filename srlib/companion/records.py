"""Records: the numbers of a figure as JSON, with all that decides them."""

import hashlib
import json
import os
from collections.abc import Iterable
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np


def as_text(record):
    """Return a record as JSON with each list of numbers and words on one line."""
    return f"{_as_text(record, 0)}\n"


def _as_text(value, depth):
    nested = isinstance(value, dict) or (isinstance(value, list) and any(isinstance(i, dict | list) for i in value))
    if not (nested and value):
        return json.dumps(value)
    start, end = "\n" + " " * (depth + 1), "\n" + " " * depth
    if isinstance(value, list):
        return f"[{start}{f',{start}'.join(_as_text(item, depth + 1) for item in value)}{end}]"
    parts = (f"{json.dumps(key)}: {_as_text(item, depth + 1)}" for key, item in value.items())
    return f"{{{start}{f',{start}'.join(parts)}{end}}}"


def stamp(path: Path, identity: str, computed_by: str | None = None) -> None:
    """Write into the record of a figure what it was made from: the identity of code, parameters and data.

    Where other code has computed the numbers, and the regression check has found no difference, that is `computed_by`.
    """
    record = json.loads(path.read_text(encoding="utf-8"))
    numbers = record.pop("numbers")
    record.pop("computed_by", None)
    stamps = {"identity": identity}
    if computed_by not in (None, identity):
        stamps["computed_by"] = computed_by
    write_atomically(path, as_text(record | stamps | {"numbers": numbers}).encode())


def is_record(path: Path) -> bool:
    """Tell whether a file is the record of a figure, and not another that a notebook has written."""
    return _read_record(path) is not None


def records_in(directory: Path) -> list[Path]:
    """Return the paths of the records in a directory, and of what must be one: files beside a figure, broken JSON."""
    found = sorted(Path(directory).glob("*.json"))
    return [path for path in found if path.with_suffix(".png").is_file() or is_record(path) or not _is_json(path)]


def _is_json(path):
    try:
        json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return False
    return True


def load_record(path: Path) -> dict:
    """Return the record beside a figure.

    Raises
    ------
    FileNotFoundError, ValueError
        If there is none, the file is no record, or its numbers have another digest than it says.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path}: there is no such record of a figure")
    record = _read_record(Path(path))
    if record is None:
        raise ValueError(f"{path}: is not the record of a figure")
    if record["sha256"] != digest(record["numbers"]):
        raise ValueError(f"{path}: the numbers are not those that its sha256 is of")
    return record


def load_stamped(path: Path) -> dict:
    """Return the record of a figure that a batch has made, from which results may be drawn.

    Raises
    ------
    FileNotFoundError, ValueError
        As `load_record` does, or if the record was made by hand: only a batch knows, and says, what it made it from.
    """
    record = load_record(path)
    if "identity" not in record:
        raise ValueError(f"{path}: was made by hand, as it has no identity; `srlib regenerate` makes what counts")
    return record


def _read_record(path):
    """Return what a file holds if it is a record, else None."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return None
    is_one = isinstance(content, dict) and {"figure", "parameters", "sha256", "numbers"} <= content.keys()
    return content if is_one else None


def digest(numbers: dict) -> str:
    """Return the SHA-256 of numbers, as they are in a sidecar."""
    return hashlib.sha256(json.dumps(numbers, sort_keys=True).encode()).hexdigest()


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file that others see as a whole or not at all."""
    staged = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        staged.write_bytes(content)
        os.replace(staged, path)
    finally:
        staged.unlink(missing_ok=True)


def versions_of(packages: Iterable[str]) -> dict[str, str]:
    """Return the versions of those packages that are installed."""
    found = {}
    for package in packages:
        with suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


def plain(value):
    """Return a value as JSON has it: arrays and ranges as lists, and what is not finite as text."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist())
    if isinstance(value, list | tuple | range):
        return [plain(item) for item in value]
    if isinstance(value, float) and not np.isfinite(value):
        return str(value)
    return value
