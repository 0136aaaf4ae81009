"""Compiled code that is kept on disk is that of the sources as they are."""

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from srlib.kernels import cache, cpu, elementwise, products

SRLIB = Path(cpu.__file__).parents[1]
pytestmark = pytest.mark.xdist_group("cache")

IMPORTS = "import numpy as np; from srlib.kernels import cpu; words = np.zeros(cpu.SPARE, np.uint32); "
PROGRAMS = {
    "a product": """
from srlib.kernels.products import accumulated_matmul
from srlib.rounding import rounding_rule
a = np.full((1, 1, 64), 1.25)
print(accumulated_matmul(a, a.reshape(1, 64, 1), rounding_rule("binary8", "RN", a, None), None).item())
""",
    "a value": "from srlib import round_to; print(float(round_to(np.full(1, 1.1), 'binary8')[0]))",
    "a word": "cpu.fill_words(words, np.uint64(0), np.uint64(0), np.uint64(0), np.uint64(1)); print(int(words[0]))",
    "exp": "from srlib.kernels.elementwise import exponentials; print(exponentials(np.ones(1)).item())",
}

# A planted change of each source, and which of the numbers it alters.
PLANTED = {
    "cpu": ("(theta > threshold)", "(theta > 0.5 * threshold)", "a product"),
    "products": ("total[j] + factor * column[j]", "total[j] + 2 * factor * column[j]", "a product"),
    "elementary": ("range(13, 1, -1)", "range(5, 1, -1)", "exp"),
    "elementwise": ("* POWERS[np.uint32(middle + half)]", "* POWERS[np.uint32(middle + half + 1)]", "exp"),
    "llvm": ("one = 1 << stored", "one = 1 << (stored - 1)", "a value"),
    "../philox": ("0xD2511F53", "0xD2511F55", "a word"),
    "rule": ("2.0 ** (precision - 2)", "2.0 ** (precision - 3)", "a value"),
    "cache": ("boundscheck=False", "boundscheck=False, fastmath={'contract', 'reassoc'}", "exp"),
    "threads": None,  # how work is shared out changes no number
}


@pytest.fixture(scope="module")
def warm(tmp_path_factory):
    """A copy of the package whose compiled code is kept, and the numbers that it gives by their names."""
    place = tmp_path_factory.mktemp("warm")
    shutil.copytree(SRLIB, place / "srlib", ignore=shutil.ignore_patterns("__pycache__"))
    return place, {name: number(place, name, place / "cache") for name in PROGRAMS}


def number(place, name, kept):
    environment = os.environ | {"NUMBA_CACHE_DIR": str(kept), "PYTHONPATH": str(place)}
    command = [sys.executable, "-c", IMPORTS + PROGRAMS[name]]
    said = subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True, check=True)
    return float(said.stdout)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, planted in PLANTED.items() if planted])
def test_a_change_of_any_source_of_the_kernels_is_compiled(warm, tmp_path, name):
    place, before = warm
    kept = shutil.copytree(place / "cache", tmp_path / "cache")  # what the last change has left there is not warm
    path, (old, new, altered) = place / "srlib" / "kernels" / f"{name}.py", PLANTED[name]
    text = path.read_text()
    assert text.count(old) == 1
    path.write_text(text.replace(old, new))
    try:
        after = number(place, altered, kept)
    finally:
        path.write_text(text)
    assert after != before[altered]


def test_the_sources_are_the_modules_of_kernels_and_those_whose_constants_they_take():
    found, met = [SRLIB / "kernels" / f"{name}.py" for name in ("products", "elementwise")], set()
    while found:
        path = found.pop()
        met.add(path)
        for node in ast.walk(ast.parse(path.read_text())):
            names = [node.module] if isinstance(node, ast.ImportFrom) else []
            names += [f"{node.module}.{alias.name}" for alias in node.names] if names else []
            paths = {SRLIB.parent / f"{name.replace('.', '/')}.py" for name in names}
            found += [path for path in paths - met if path.exists()]
    # Formats are passed on to kernels as numbers, of arrays whose type Numba sees.
    formats = {SRLIB / f"{name}.py" for name in ("checks", "formats", "html", "typing")}
    assert met - formats == {(SRLIB / "kernels" / f"{name}.py").resolve() for name in cache.SOURCES}
    assert PLANTED.keys() == set(cache.SOURCES)


def test_every_kernel_has_the_stamp_of_all_sources():
    kernels = [
        kernel
        for module in (cpu, elementwise, products)
        for kernel in vars(module).values()
        if hasattr(kernel, "py_func")
    ]
    assert len(kernels) > 10
    assert {kernel._cache._cache_file._source_stamp for kernel in kernels} == {cache.stamp()}
