"""Checks for others: whether a batch is what its manifests say, and whether two batches agree."""

from pathlib import Path

from srlib.batch.manifest import problems, read_manifest
from srlib.batch.store import Store
from srlib.companion.records import is_record, load_record

# What `srlib results` and `srlib claims` write beside the records.
_PAGES = {"figures/README.md", "figures/claims.json"}


def find_problems(directory: Path) -> tuple[int, int, list[str]]:
    """Check all manifests below a directory; return how many there are, how many outputs, and what is wrong.

    Every output must be there and have its hash, every record of a figure must have the numbers that its own digest is
    of, and no file may lie among the outputs that no manifest names, but hidden ones and the pages that are written
    from the records.

    Raises
    ------
    FileNotFoundError
        If there is no manifest.
    """
    store, found, claimed = Store(directory), [], set()
    names = store.names("**/manifests/*.json")
    if not names:
        raise FileNotFoundError(f"{directory}: there is no manifest below it")
    for name in names:
        place = name.rpartition("manifests/")[0].rstrip("/")
        manifest = read_manifest(store, name)
        if manifest is None:
            found.append(f"{name} is no manifest")
            continue
        within = f"{place}/" if place else ""
        found += [within + problem for problem in problems(manifest, store / place)]
        claimed |= {within + output for output in manifest["outputs"]}
    found += [problem for name in sorted(claimed) for problem in _record_problems(directory, name)]
    lying = {name for part in ("figures", "notebooks") for name in store.names(f"**/{part}/*")}
    found += [f"{name} is in no manifest" for name in sorted(lying - claimed - _PAGES) if not _is_hidden(name)]
    return len(names), len(claimed), found


def _is_hidden(name):
    """Tell whether a program keeps a file for itself, as Jupyter does in .ipynb_checkpoints."""
    parts = name.split("/")
    return any(part.startswith(".") for part in parts) or parts[-1] in ("Thumbs.db", "desktop.ini")


def _record_problems(directory, name):
    path = directory / name
    if path.suffix == ".json" and path.is_file() and is_record(path):
        try:
            load_record(path)
        except ValueError as error:
            yield str(error)
