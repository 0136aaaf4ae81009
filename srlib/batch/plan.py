"""What is to be run: the notebooks, what each declares, and the jobs that a request makes of them."""

import ast
import io
import json
import re
import tokenize
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_OPTIONS = {"profile": "--profile", "backend": "--backend", "output_dir": "--out"}  # parameters with their own option
_REQUIRED = (*_OPTIONS, "seed")


@dataclass(frozen=True)
class Parameter:
    """A parameter of a notebook: its name, its default as Python source, and the comment that explains it."""

    name: str
    default: str
    help: str


@dataclass(frozen=True)
class Notebook:
    """What a notebook declares: its title, its parameters, and the names of the figures that it saves."""

    path: Path
    title: str
    parameters: tuple[Parameter, ...]
    figures: tuple[str, ...]


@dataclass(frozen=True)
class Job:
    """One notebook to be run with the values of its parameters, all but `output_dir`."""

    notebook: Path
    parameters: Mapping[str, object]

    @property
    def name(self) -> str:
        """Stem of the notebook's file name, under which its results are kept."""
        return self.notebook.stem


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
    return Notebook(path, title, parameters, _figures(cell.source for cell in code))


def _title(sources):
    heading = re.search(r"^#+ +(.+?)[ #]*$", "\n".join(sources), flags=re.MULTILINE)
    return heading[1] if heading else ""


def _parameters(source):
    # Not papermill.inspect_notebook: that drops a parameter whose comment has an equals sign ("0 <= eps < 1").
    statements = ast.parse(source).body
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    comments = {token.start[0]: token.string.lstrip("# ") for token in tokens if token.type == tokenize.COMMENT}
    for statement in statements:
        match statement:
            case ast.Assign([ast.Name(name)], value) | ast.AnnAssign(ast.Name(name), _, ast.expr() as value):
                yield Parameter(name, ast.unparse(value), comments.get(statement.end_lineno, ""))


def _figures(sources):
    return tuple(dict.fromkeys(name for source in sources for name in _saved_names(source)))


def _saved_names(source):
    try:
        nodes = list(ast.walk(ast.parse(source)))
    except SyntaxError:  # an IPython magic
        return []
    found = []
    for node in nodes:
        match node:
            case ast.Call(
                ast.Name("save_figure") | ast.Attribute(attr="save_figure"), [_, ast.Constant(str(name)), *_]
            ):
                found.append((node.lineno, name))
    return [name for _, name in sorted(found)]


def parse_value(text: str) -> object:
    """Return the value that a text stands for: a JSON or Python literal, otherwise the text itself.

    The value is one that JSON has, so a tuple becomes a list.
    """
    for parse in (json.loads, ast.literal_eval):
        try:
            return json.loads(json.dumps(parse(text)))
        except (SyntaxError, TypeError, ValueError):
            continue
    return text


def plan_jobs(notebooks: Sequence[Notebook], profile: str, backend: str, values: Mapping[str, object]) -> list[Job]:
    """Return a job for each notebook, after checking everything that can be checked before running.

    Parameters
    ----------
    notebooks : sequence of Notebook
        What to run.
    profile, backend : str
        Values of the parameters of these names, which every notebook has.
    values : mapping
        Values of further parameters; each is passed to the notebooks that have a parameter of that name.

    Raises
    ------
    ValueError
        If a notebook lacks a parameter that all must have, if no notebook has one of those given or its default is of
        another type, or if two notebooks would write the same file.
    """
    for notebook in notebooks:
        _check_required(notebook)
    for name, value in values.items():
        _check_value(notebooks, name, value)
    _check_distinct(notebooks, "have the name", lambda notebook: [notebook.path.stem])
    _check_distinct(notebooks, "save a figure", lambda notebook: notebook.figures)
    return [Job(notebook.path, _own_values(notebook, profile, backend, values)) for notebook in notebooks]


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
    """Tell whether a value is of the type of a default; an int is a float too, and None or an expression is any."""
    try:
        expected = ast.literal_eval(default)
    except ValueError:
        return True
    if expected is None:
        return True
    if isinstance(value, bool) or isinstance(expected, bool):
        return isinstance(value, bool) and isinstance(expected, bool)
    allowed = {float: int | float, tuple: list}.get(type(expected), type(expected))
    return isinstance(value, allowed)


def _check_distinct(notebooks, what, names_of):
    owners = {}
    for notebook in notebooks:
        for name in names_of(notebook):
            if name in owners:
                raise ValueError(f"two notebooks {what} {name!r}: {owners[name]} and {notebook.path}")
            owners[name] = notebook.path
