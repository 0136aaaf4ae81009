"""Imports go one way, from floor to floor, and the core knows nothing of the companion."""

import ast
import graphlib
import subprocess
import sys
from pathlib import Path

SRLIB = Path(__file__).parents[1] / "srlib"
# Modules and rooms, from the ground up; those on one floor may know each other.
FLOORS = [
    {"typing", "version"},
    {"checks"},
    {"digits", "html"},
    {"formats", "philox"},
    {"schemes", "tensors"},
    {"kernels"},
    {"rounding"},
    {"arithmetic"},
    {"descent"},
    {"companion"},
    {"batch"},
    {"cli"},
    {"__main__"},
]
LEVEL = {name: level for level, floor in enumerate(FLOORS) for name in floor}


def modules():
    """The names of all modules, without that of the package, and their paths."""
    paths = {".".join(path.relative_to(SRLIB).with_suffix("").parts): path for path in SRLIB.rglob("*.py")}
    return {name: path for name, path in paths.items() if not name.endswith("__init__")}


def imported(path, known):
    """The modules that a file imports anywhere, inside functions too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return {name.removeprefix("srlib.") for name in found if name.startswith("srlib.")} & known


GRAPH = {name: imported(path, modules().keys()) for name, path in modules().items()}


def test_every_module_is_on_a_floor_and_imports_from_below():
    assert {name.partition(".")[0] for name in GRAPH} == LEVEL.keys()
    upward = {
        (name, other)
        for name, others in GRAPH.items()
        for other in others
        if LEVEL[name.partition(".")[0]] < LEVEL[other.partition(".")[0]]
    }
    assert upward == set()


def test_there_is_no_circle():
    order = list(graphlib.TopologicalSorter(GRAPH).static_order())
    assert set(order) == GRAPH.keys()


def test_what_jupyter_shows_is_made_of_nothing_of_srlib():
    assert GRAPH["html"] == set()


def test_rooms_have_empty_doors():
    assert {path.read_text() for path in SRLIB.glob("*/__init__.py")} == {""}


def test_tests_mirror_the_rooms():
    tests = Path(__file__).parent
    for path in tests.glob("*/test_*.py"):
        assert (SRLIB / path.parent.name).is_dir(), path


def test_the_core_loads_nothing_of_the_companion():
    """All public names, resolved."""
    program = "import sys, srlib; [getattr(srlib, name) for name in srlib.__all__]; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert not [name for name in loaded if name.startswith(("srlib.companion", "srlib.batch", "srlib.cli"))]
    assert not {"IPython", "click", "matplotlib", "nbformat", "papermill", "sympy"} & set(loaded)
