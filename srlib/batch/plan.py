"""What is to be run: the notebooks, what each declares, and the jobs that a request makes of them."""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise, product
from pathlib import Path
from urllib.parse import quote

from srlib.companion.notebook import Notebook
from srlib.companion.settings import checked

_OPTIONS = {"profile": "--profile", "backend": "--backend", "output_dir": "--out"}  # parameters with their own option
PIECES = "pieces"  # below the results, those of parts of the replicates
_LONGEST_NAME = 120  # characters; file systems take 255 bytes, and what is staged adds to it
_REQUIRED = (*_OPTIONS, "seed")


@dataclass(frozen=True)
class Job:
    """One notebook to be run with the values of its parameters, all but `output_dir`.

    `place` is the directory of its results, relative to that of the batch; `needs` are the jobs that must have
    succeeded before.
    """

    notebook: Path
    parameters: Mapping[str, object]
    place: str = ""
    needs: tuple["Job", ...] = ()

    @property
    def stem(self) -> str:
        """Stem of the notebook's file name, under which its results are kept."""
        return self.notebook.stem

    @property
    def name(self) -> str:
        """What the job is called: its place and its stem."""
        return f"{self.place}/{self.stem}".lstrip("/")

    def below(self, name: str) -> str:
        """Return the path of one of its files, relative to the directory of the batch."""
        return f"{self.place}/{name}".lstrip("/")


def select(available: Sequence[Path], names: Iterable[str]) -> list[Path]:
    """Return the notebooks that are named: by stem, by number ("05") or by path; all where no names are given.

    Raises
    ------
    ValueError
        If a name fits no notebook or several; the message lists what there is.
    """
    chosen = [_find(available, name) for name in names]
    return list(dict.fromkeys(chosen)) or list(available)


def _find(available, name):
    fitting = [path for path in available if name in (path.stem, path.name, path.stem.partition("_")[0])]
    if not fitting and Path(name).suffix == ".ipynb" and Path(name).is_file():
        return Path(name).resolve()
    if len(fitting) != 1:
        problem = "fits several notebooks" if fitting else "is no notebook"
        raise ValueError(f"{name!r} {problem}; there are {', '.join(path.stem for path in available)}")
    return fitting[0]


def plan_jobs(
    notebooks: Sequence[Notebook],
    profile: str,
    backend: str,
    values: Mapping[str, object],
    crossed: Mapping[str, Sequence] | None = None,
    split: int = 1,
    out: str | Path = "",
) -> list[Job]:
    """Return a job for each notebook, or several, after checking everything that can be checked before running.

    Parameters
    ----------
    notebooks : sequence of Notebook
        What to run.
    profile, backend : str
        Values of the parameters of these names, which every notebook has.
    values : mapping
        Values of further parameters; each is passed to the notebooks that have a parameter of that name.
    crossed : mapping of name to sequence
        Values of parameters of which every combination is run. What a notebook makes with one goes to a directory that
        is named after the values that it has parameters for.
    split : int
        Into how many jobs the replicates of a notebook are divided, where it has a parameter `replicate_range`; one
        more, which needs these, merges them.
    out : path
        Where results will be, for that one to find those of the others.

    Raises
    ------
    ValueError
        If a notebook lacks a parameter that all must have, if no notebook has one of those given, if `Settings` would
        refuse its value, if two notebooks would write the same file, or if there is nothing to divide.
    """
    crossed = dict(crossed or {})
    for notebook in notebooks:
        _check_required(notebook)
    for name, given in [*values.items(), *((name, value) for name, many in crossed.items() for value in many)]:
        _check_value(notebooks, name, given)
    _check_distinct(notebooks, "have the name", lambda notebook: [notebook.path.stem])
    _check_distinct(notebooks, "save a figure", lambda notebook: notebook.figures)
    jobs = {}
    for notebook in notebooks:
        names = {parameter.name for parameter in notebook.parameters}
        own = {name: many for name, many in crossed.items() if name in names}
        for point in product(*own.values()):
            chosen = dict(zip(own, point, strict=True))
            job = Job(notebook.path, _own_values(notebook, profile, backend, {**values, **chosen}), _place(chosen))
            for part in [job] if split == 1 else _divided(notebook, job, split, out):
                jobs[part.name] = part
    return list(jobs.values())


def _place(chosen):
    whole = ",".join(f"{name}={quote(_word(value), safe='()[], ')}" for name, value in chosen.items()).replace(" ", "")
    if len(whole) <= _LONGEST_NAME:
        return whole
    return f"{whole[:_LONGEST_NAME]}-{hashlib.sha256(whole.encode()).hexdigest()[:16]}"  # the manifest has the values


def _word(value):
    return value if isinstance(value, str) else json.dumps(value)


def _divided(notebook, job, split, out):
    """Return jobs that run the replicates of a job in parts, and one that merges them; just the job if it has none."""
    if not {"replicate_range", "pieces"} <= {parameter.name for parameter in notebook.parameters}:
        return [job]
    given = job.parameters.get("replicates")
    count = notebook.replicates[job.parameters["profile"]] if given is None else given
    for name in ("replicate_range", "pieces"):
        if job.parameters.get(name):
            raise ValueError(f"parameter {name!r} is given; it is for splitting to choose")
    if split > count:
        raise ValueError(f"split is {split}; {job.name} has only {count} replicates")
    ends = [count * part // split for part in range(split + 1)]
    parts = []
    for first, stop in pairwise(ends):
        place = job.below(f"{PIECES}/{job.stem}/{first}-{stop - 1}")
        parts.append(replace(job, parameters={**job.parameters, "replicate_range": [first, stop]}, place=place))
    pieces = [os.path.relpath(Path(out, part.place, "figures"), job.notebook.parent) for part in parts]
    return [*parts, replace(job, parameters={**job.parameters, "pieces": pieces}, needs=tuple(parts))]


def _own_values(notebook, profile, backend, values):
    names = {parameter.name for parameter in notebook.parameters}
    own = {name: value for name, value in sorted(values.items()) if name in names}
    return {"profile": profile, "backend": backend, **own}


def _check_required(notebook):
    names = {parameter.name for parameter in notebook.parameters}
    missing = [name for name in _REQUIRED if name not in names]
    if missing:
        raise ValueError(f"{notebook.path.name}: no {', '.join(missing)} in a cell tagged 'parameters'")


def _check_value(notebooks, name, value):
    if name in _OPTIONS:
        raise ValueError(f"parameter {name!r} has an option of its own, {_OPTIONS[name]}")
    known = {parameter.name for notebook in notebooks for parameter in notebook.parameters}
    if name not in known:
        known = ", ".join(sorted(known - set(_OPTIONS)))
        raise ValueError(f"no notebook to be run has a parameter {name!r}; there are {known}")
    try:
        checked(name, value)
    except (TypeError, ValueError) as error:
        raise ValueError(str(error)) from None


def _check_distinct(notebooks, what, names_of):
    owners = {}
    for notebook in notebooks:
        for name in names_of(notebook):
            if name in owners:
                raise ValueError(f"two notebooks {what} {name!r}: {owners[name]} and {notebook.path}")
            owners[name] = notebook.path
