"""What is to be run: the notebooks, what each declares, and the jobs that a request makes of them."""

import ast
import hashlib
import io
import json
import os
import re
import threading
import tokenize
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise, product
from pathlib import Path
from urllib.parse import quote

_OPTIONS = {"profile": "--profile", "backend": "--backend", "output_dir": "--out"}  # parameters with their own option
PIECES = "pieces"  # below the results, those of parts of the replicates
_LONGEST_NAME = 120  # characters; file systems take 255 bytes, and what is staged adds to it
_ONE_AT_A_TIME = threading.Lock()
_REQUIRED = (*_OPTIONS, "seed")


@dataclass(frozen=True)
class Parameter:
    """A parameter of a notebook: its name, its default as Python source, and the comment that explains it."""

    name: str
    default: str
    help: str


@dataclass(frozen=True)
class Notebook:
    """What a notebook declares: its title, its parameters, and the names of the figures that it saves.

    `replicates` is how many replicates it runs in each profile, where `replicate_range` can choose among them.
    """

    path: Path
    title: str
    parameters: tuple[Parameter, ...]
    figures: tuple[str, ...]
    replicates: Mapping[str, int] = field(default_factory=dict)


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


def find_notebooks(directory: str | Path) -> list[Path]:
    """Return the notebooks that lie in a directory, sorted by name.

    Raises
    ------
    FileNotFoundError
        If there is none.
    """
    found = sorted(Path(directory).resolve().glob("*.ipynb"))
    if not found:
        raise FileNotFoundError(f"no notebooks in {directory}")
    return found


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


def read_notebook(path: str | Path) -> Notebook:
    """Read what a notebook declares, without running it.

    The parameters are the assignments in the cell tagged ``parameters``, each with the comment at its end; the figures
    are the literal names in calls ``save_figure(figure, "name", ...)``. Cells that are not plain Python are skipped.

    Raises
    ------
    ValueError
        If the file is not a notebook, or its parameters cell is not Python, or there are several such cells.
    """
    import nbformat  # here, because it is slow to import and `srlib --help` does not need it

    path = Path(path)
    try:
        cells = nbformat.read(path, as_version=4).cells
    except (AttributeError, KeyError, TypeError, ValueError, nbformat.ValidationError) as error:
        raise ValueError(f"{path}: not a notebook ({str(error).splitlines()[0]})") from None
    code = [cell for cell in cells if cell.cell_type == "code"]
    tagged = [cell.source for cell in code if "parameters" in cell.metadata.get("tags", ())]
    if len(tagged) > 1:
        raise ValueError(f"{path}: {len(tagged)} cells are tagged 'parameters'; must be one")
    try:
        parameters = tuple(_parameters(tagged[0])) if tagged else ()
    except SyntaxError as error:
        raise ValueError(f"{path}: the cell tagged 'parameters' is not Python ({error.msg})") from None
    title = _title(cell.source for cell in cells if cell.cell_type == "markdown")
    calls = [call for cell in code for call in _calls(cell.source)]
    return Notebook(path, title, parameters, _figures(calls), _replicates(calls))


def _title(sources):
    heading = re.search(r"^#+ +(.+?)[ #]*$", "\n".join(sources), flags=re.MULTILINE)
    return heading[1] if heading else ""


def parse_code(source: str, mode: str = "exec") -> ast.AST:
    """Return the syntax tree of Python code, from one thread at a time: CPython 3.11 fails where two make one."""
    with _ONE_AT_A_TIME:
        return ast.parse(source, mode=mode)


def literal(source: str) -> object:
    """Return the value of a Python literal; raise SyntaxError or ValueError if it is none."""
    return ast.literal_eval(parse_code(source.strip(), "eval"))


def _parameters(source):
    # Not papermill.inspect_notebook: that drops a parameter whose comment has an equals sign ("0 <= eps < 1").
    statements = parse_code(source).body
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    comments = {token.start[0]: token.string.lstrip("# ") for token in tokens if token.type == tokenize.COMMENT}
    for statement in statements:
        match statement:
            case ast.Assign([ast.Name(name)], value) | ast.AnnAssign(ast.Name(name), _, ast.expr() as value):
                yield Parameter(name, ast.unparse(value), comments.get(statement.end_lineno, ""))


def _calls(source):
    """Return the calls in a cell in their order; none if it is not plain Python, but an IPython magic."""
    try:
        calls = [node for node in ast.walk(parse_code(source)) if isinstance(node, ast.Call)]
    except SyntaxError:
        return []
    return sorted(calls, key=lambda call: (call.lineno, call.col_offset))


def _figures(calls):
    names = []
    for call in calls:
        match call:
            case ast.Call(
                ast.Name("save_figure") | ast.Attribute(attr="save_figure"), [_, ast.Constant(str(name)), *_]
            ):
                names.append(name)
    return tuple(dict.fromkeys(names))


def _replicates(calls):
    for call in calls:
        match call:
            case ast.Call(ast.Attribute(attr="choose_replicates"), [], keywords):
                return {word.arg: ast.literal_eval(word.value) for word in keywords}
    return {}


def parse_value(text: str) -> object:
    """Return the value that a text stands for: a JSON or Python literal, otherwise the text itself.

    The value is one that JSON has, so a tuple becomes a list.
    """
    for parse in (json.loads, literal):
        try:
            return json.loads(json.dumps(parse(text)))
        except (SyntaxError, TypeError, ValueError):
            continue
    return text


@dataclass(frozen=True)
class Sweep:
    """What a sweep file asks for; None or empty is what it does not say."""

    notebooks: tuple[str, ...] = ()
    profile: str | None = None
    backend: str | None = None
    values: Mapping[str, object] = field(default_factory=dict)
    crossed: Mapping[str, Sequence] = field(default_factory=dict)


def read_sweep(path: str | Path) -> Sweep:
    """Read a sweep file: YAML with any of the keys of the example; lists of parameters are crossed.

    ::

        notebooks: ["05"]            # names or numbers, or one of them
        profile: quick
        backend: numpy
        parameters:
          fmt: [binary8, e4m3]       # two values
          eps: [[0.1], [0.1, 0.4]]   # two values that are lists
          steps: 30                  # one value

    Raises
    ------
    ValueError
        If it is not such a file.
    """
    import yaml

    try:
        text = Path(path).read_text(encoding="utf-8")
        twice = _given_twice(yaml.compose(text, yaml.SafeLoader), yaml.MappingNode)
        content = yaml.safe_load(text)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(f"{path}: cannot be read as YAML ({str(error).splitlines()[0]})") from None
    if twice:
        raise ValueError(f"{path}: key {twice!r} is given twice")
    allowed = ("notebooks", "profile", "backend", "parameters")
    if not isinstance(content, dict):
        raise ValueError(f"{path}: must be a mapping with keys among {', '.join(allowed)}")
    unknown = [key for key in content if key not in allowed]
    if unknown:
        raise ValueError(f"{path}: key {unknown[0]!r} is none of {', '.join(allowed)}")
    names, parameters = content.get("notebooks") or (), content.get("parameters") or {}
    if not isinstance(parameters, dict) or not all(isinstance(name, str) for name in parameters):
        raise ValueError(f"{path}: parameters must be a mapping of names to values")
    empty = [name for name, value in parameters.items() if value == []]
    if empty:
        raise ValueError(f"{path}: parameter {empty[0]!r} has no value")
    crossed = {name: value for name, value in parameters.items() if isinstance(value, list)}
    values = {name: value for name, value in parameters.items() if name not in crossed}
    names = [names] if isinstance(names, str | int) else names
    return Sweep(tuple(map(str, names)), content.get("profile"), content.get("backend"), values, crossed)


def _given_twice(node, mapping):
    """Return a key that is twice in one mapping, which YAML's loader would not mind; None if there is none."""
    if not isinstance(node, mapping):
        return None
    keys = [key.value for key, _ in node.value]
    twice = [key for key in keys if keys.count(key) > 1]
    return twice[0] if twice else next(filter(None, (_given_twice(value, mapping) for _, value in node.value)), None)


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
        If a notebook lacks a parameter that all must have, if no notebook has one of those given or its default is of
        another type, if two notebooks would write the same file, or if there is nothing to divide.
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
    parameters = [parameter for notebook in notebooks for parameter in notebook.parameters]
    defaults = [parameter.default for parameter in parameters if parameter.name == name]
    if not defaults:
        known = {parameter.name for parameter in parameters} - set(_OPTIONS)
        raise ValueError(f"no notebook to be run has a parameter {name!r}; there are {', '.join(sorted(known))}")
    for default in defaults:
        if not _fits(value, default):
            raise ValueError(f"parameter {name!r} is {value!r}; must be of the type of its default, {default}")


def _fits(value, default):
    """Tell whether a value is of the type of a default: an int is a float too, a number a list of one where the
    default is a list of numbers, and None or an expression is any."""
    try:
        expected = literal(default)
    except ValueError:
        return True
    if expected is None:
        return True
    if isinstance(expected, list) and expected and not isinstance(value, list):
        expected = expected[0] if _is_number(expected[0]) else expected
    if isinstance(value, bool) or isinstance(expected, bool):
        return isinstance(value, bool) and isinstance(expected, bool)
    allowed = {float: int | float, tuple: list}.get(type(expected), type(expected))
    return isinstance(value, allowed)


def _is_number(value):
    return isinstance(value, int | float) and not isinstance(value, bool)


def _check_distinct(notebooks, what, names_of):
    owners = {}
    for notebook in notebooks:
        for name in names_of(notebook):
            if name in owners:
                raise ValueError(f"two notebooks {what} {name!r}: {owners[name]} and {notebook.path}")
            owners[name] = notebook.path
