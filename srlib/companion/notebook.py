"""What a notebook declares: its title, its parameters, its figures and their captions, read without running it."""

import ast
import io
import json
import re
import threading
import tokenize
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

_ONE_AT_A_TIME = threading.Lock()


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


def find_notebooks(directory: str | Path) -> list[Path]:
    """Return the notebooks of a directory that can be run as they are, sorted by name.

    These have a cell tagged ``parameters``, or cannot be read, which `read_notebook` tells. Hidden files are not among
    them, nor copies that JupyterLab has named so.

    Raises
    ------
    FileNotFoundError
        If there is none.
    """
    found = [path for path in sorted(Path(directory).resolve().glob("*.ipynb")) if _can_be_run(path)]
    if not found:
        raise FileNotFoundError(f"no notebooks in {directory}")
    return found


def _can_be_run(path):
    if path.name.startswith(".") or re.search(r"-Copy\d*$", path.stem):
        return False
    try:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        return any("parameters" in cell["metadata"].get("tags", ()) for cell in cells)
    except (AttributeError, KeyError, OSError, TypeError, ValueError):
        return path.is_file()


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


_SIGNS = {"varepsilon": "ε", "beta": "β", "theta": "θ", "rho": "ρ", "frac12": "½", "sqrt": "√", "le": "≤", "ge": "≥"}


def captions(cells):
    """Yield each saved figure: name, caption, in the next cell that starts as one, and number of its code cell."""
    name, number = None, 0
    for cell in cells:
        source = "".join(cell["source"])
        if cell["cell_type"] == "code":
            number += 1
            if saved := re.search(r'save_figure\(\s*\w+,\s*"(\w+)"', source):
                name, place = saved[1], number
        elif name and (caption := re.match(r"\*\*Figure \d+\.\*\* (.+?)(\n\n|$)", source, re.DOTALL)):
            yield name, caption[1], place
            name = None


def alt_text(caption):
    """Return the first sentence of a caption without marks of Markdown and mathematics: what stands for a figure."""
    text = re.sub(r"\[(.+?)\]\(.+?\)", r"\1", caption.replace("\n", " "))
    first = re.match(r".+?[.](?=\s|$)|.+", text)[0]
    named = re.sub(r"\\(frac12|[a-zA-Z]+)", lambda command: _SIGNS.get(command[1], ""), first)
    return re.sub(r"[\\{}$*_]", "", named)
