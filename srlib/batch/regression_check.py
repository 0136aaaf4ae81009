"""The regression check: a small run of every notebook, whose digests tell whether code makes the same numbers.

It goes through all code at the extents that arrays have at paper scale, with few steps and replicates: what goes wrong
only late in a run, or in one replicate of many, it does not see.
"""

import hashlib
import io
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

from srlib.batch.identity import code_behind, identity
from srlib.batch.supervise import thread_limits
from srlib.companion.notebook import Notebook, literal, read_notebook
from srlib.companion.records import load_record, load_stamped, stamp, write_atomically

_UNRECORDED = {"output_dir", "pieces", "figures_dir"}  # parameters that say nothing about the numbers
KNOWN = "regression_check.json"  # among the figures


@dataclass(frozen=True)
class Finding:
    """What the check says of a notebook.

    Attributes
    ----------
    notebook : Notebook
    verdict : {"same", "redraw", "differs", "fails", "never checked", "no record"}
        Whether its figures have the numbers and the pixels that they had, other pixels alone, or other numbers; and
        whether there is nothing to compare, or no record that a batch has made of one of them.
    current : bool
        Whether the records of its figures are of the code, parameters and data as they are.
    digests : dict
        Of each figure, those of its numbers and pixels.
    problem : str
        Why it failed; else empty.
    """

    notebook: Notebook
    verdict: str
    current: bool
    digests: Mapping[str, Mapping[str, str]]
    problem: str = ""

    @property
    def must_run(self) -> bool:
        """Whether the figures are others than those of the code, or nobody knows."""
        return self.verdict in ("redraw", "differs", "no record") or (
            self.verdict == "never checked" and not self.current
        )


def read_known(figures: Path) -> dict[str, dict]:
    """Return parameters and digests by the stem of each notebook that has been checked.

    Raises
    ------
    ValueError
        If the file is there and holds no such thing.
    """
    path = figures / KNOWN
    try:
        content = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    except ValueError as error:
        raise ValueError(f"{path}: is not JSON ({error})") from None
    whole = isinstance(content, dict) and all(
        isinstance(entry, dict) and {"parameters", "figures"} <= entry.keys() for entry in content.values()
    )
    if not whole:
        raise ValueError(f"{path}: must hold parameters and figures of each notebook")
    return content


def write_known(figures: Path, findings: Iterable[Finding]) -> None:
    """Write the digests of some notebooks beside those that are known."""
    content = read_known(figures)
    for finding in findings:
        stem = finding.notebook.path.stem
        parameters = content.get(stem, {}).get("parameters", {})
        content[stem] = {"parameters": parameters, "figures": finding.digests}
    write_atomically(figures / KNOWN, (json.dumps(dict(sorted(content.items())), indent=1) + "\n").encode())


def check(notebooks: Sequence[Notebook], figures: Path, jobs: int) -> list[Finding]:
    """Run the check of some notebooks, so many at a time, and return what it says of each."""
    known = read_known(figures)
    findings = []
    with tempfile.TemporaryDirectory(prefix="srlib-") as place:
        tasks = []
        for notebook in notebooks:
            parameters = known.get(notebook.path.stem, {}).get("parameters", {})
            tasks.append((str(notebook.path), parameters, str(Path(place, notebook.path.stem))))
        for notebook, (digests, problem) in zip(notebooks, _run_all(tasks, jobs), strict=True):
            records = _records(notebook, figures)
            expected = known.get(notebook.path.stem, {}).get("figures", {})
            verdict = "fails" if problem else _verdict(expected, digests) if records else "no record"
            findings.append(Finding(notebook, verdict, _is_current(notebook, records), digests, problem))
    return findings


def _verdict(expected, found):
    if not expected:
        return "never checked"
    if expected == found:
        return "same"
    numbers = [{name: digests["numbers"] for name, digests in given.items()} for given in (expected, found)]
    return "redraw" if numbers[0] == numbers[1] else "differs"


def _records(notebook, figures):
    """Return the records of a notebook's figures by their paths; none if a batch has not made them all as declared."""
    paths = [figures / f"{name}.json" for name in notebook.figures]
    try:
        found = {path: load_stamped(path) for path in paths}
    except (OSError, ValueError):
        return {}
    return found if all(_is_declared(record, notebook) for record in found.values()) else {}


def _is_declared(record, notebook):
    """Tell whether the parameters of a record are those that the notebook declares, with its defaults."""
    declared = {parameter.name: parameter.default for parameter in notebook.parameters}
    fixed = {name: default for name, default in declared.items() if name not in (*_UNRECORDED, "profile")}
    given = {name: literal(default) for name, default in fixed.items() if default != "None"}
    recorded = record["parameters"]
    same_names = recorded.keys() == declared.keys() - _UNRECORDED
    return same_names and all(recorded[name] == value for name, value in given.items())


def _is_current(notebook, records):
    """Tell whether records are of a notebook's code, parameters and data as they are."""
    now = (identity(notebook.path, record["parameters"]) for record in records.values())
    return bool(records) and all(a == record["identity"] for a, record in zip(now, records.values(), strict=True))


def restamp(finding: Finding, figures: Path) -> bool:
    """Write the identity of what is there now into a notebook's records, if the check agrees; tell whether it has."""
    if finding.current or finding.verdict not in ("same", "redraw"):
        return False
    for path, record in _records(finding.notebook, figures).items():
        now = identity(finding.notebook.path, record["parameters"])
        stamp(path, now, record.get("computed_by", record["identity"]))
    return True


def failing_tests(notebooks: Iterable[Notebook], root: Path, jobs: int) -> str | None:
    """Run the quick unit tests of what notebooks reach; return what pytest says if one fails, else None.

    Raises
    ------
    FileNotFoundError
        If there are no tests below the directory.
    """
    modules = sorted({name for notebook in notebooks for name in code_behind(notebook.path, None)})
    paths = (Path(root, "tests", *rooms, f"test_{name}.py") for *rooms, name in (name.split(".") for name in modules))
    files = [path for path in paths if path.exists()]
    if not files:
        raise FileNotFoundError(f"{root}: there are no unit tests below it, which must pass")
    options = ["-q", "-x", "-m", "not slow and not exhaustive", "-n", str(jobs)]
    command = [sys.executable, "-m", "pytest", *options, *map(str, files)]
    limits = thread_limits(jobs) | os.environ
    said = subprocess.run(
        command, cwd=root, env=limits, capture_output=True, encoding="utf-8", errors="replace", check=False
    )
    return None if said.returncode == 0 else (said.stdout + said.stderr).strip()


def _run_all(tasks, jobs):
    """Run notebooks in so many processes, and return digests and problem of each."""
    with _environment(thread_limits(jobs)), ProcessPoolExecutor(jobs, get_context("spawn"), _prepare) as pool:
        return list(pool.map(_run, *zip(*tasks, strict=True))) if tasks else []


@contextmanager
def _environment(defaults):
    """Let processes that are started have these variables, where they have no others."""
    added = {name: value for name, value in defaults.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            del os.environ[name]


def _prepare():
    import matplotlib

    from srlib.companion import figures

    matplotlib.use("agg")
    figures.KINDS.remove("pdf")  # which has no digest


def _run(notebook, parameters, directory):
    """Run the code of a notebook in this process, which spares the start of a kernel."""
    import matplotlib.pyplot as plt

    path = Path(notebook)
    os.chdir(path.parent)
    names = {"__name__": "__main__"}
    try:
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
                if cell["cell_type"] == "code":
                    exec(compile("".join(cell["source"]), path.name, "exec"), names)
                if "parameters" in cell["metadata"].get("tags", ()):
                    names |= {"profile": "paper", **parameters, "output_dir": directory}
        return {name: _digests(Path(directory, name)) for name in read_notebook(path).figures}, ""
    except Exception as error:
        return {}, f"{type(error).__name__}: {error}".splitlines()[0]
    finally:
        plt.close("all")


def _digests(path):
    import matplotlib.pyplot as plt

    picture = plt.imread(path.with_suffix(".png"))
    pixels = hashlib.sha256(repr(picture.shape).encode() + picture.tobytes()).hexdigest()
    return {"numbers": load_record(path.with_suffix(".json"))["sha256"], "pixels": pixels}
