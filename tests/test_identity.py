import json
from pathlib import Path

import pytest

from srlib.batch.identity import _modules_behind, essence, identity

CODE = """import srlib
from srlib.settings import Settings

x = srlib.round_to(1.1, fmt)
y = Settings
"""


def notebook(directory, code=CODE, prose="# Why?", parameters='fmt = "binary8"  # the format'):
    cells = [
        {"cell_type": "markdown", "metadata": {}, "source": [prose]},
        {"cell_type": "code", "metadata": {"tags": ["parameters"]}, "source": [parameters]},
        {"cell_type": "code", "metadata": {}, "source": code.splitlines(keepends=True)},
    ]
    path = directory / "some.ipynb"
    path.write_text(json.dumps({"cells": cells}))
    return path


def test_what_cannot_alter_numbers_leaves_the_identity_as_it_is(tmp_path):
    given = {"fmt": "binary8"}
    first = identity(notebook(tmp_path), given)
    commented = CODE.replace("fmt)", "fmt)  # to nearest\n# that is all").replace("(1.1, fmt)", "(\n    1.1, fmt)")
    assert identity(notebook(tmp_path, commented, "# Why not?", 'fmt = "e4m3"  # another'), given) == first


def test_code_parameters_and_data_are_part_of_the_identity(tmp_path):
    (tmp_path / "data").mkdir()
    images = tmp_path / "data" / "train-images-idx3-ubyte"
    images.write_bytes(b"1")
    given = {"fmt": "binary8", "dataset_dir": "data"}
    found = [identity(notebook(tmp_path), given), identity(notebook(tmp_path, CODE.replace("1.1", "1.2")), given)]
    found.append(identity(notebook(tmp_path), given | {"fmt": "e4m3"}))
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / images.name).write_bytes(b"2")
    found.append(identity(notebook(tmp_path), given | {"dataset_dir": "more"}))
    # All but the path of the data is the same here.
    assert len(set(found)) == 4


def test_device_code_is_part_of_the_identity_where_it_runs(tmp_path, monkeypatch):
    def both():
        return [identity(notebook(tmp_path), {"fmt": "binary8", "backend": name}) for name in ("numpy", "cupy")]

    before = both()
    monkeypatch.setattr("srlib.batch.identity._device_code", lambda: "another")
    assert [a == b for a, b in zip(before, both(), strict=True)] == [True, False]


def test_the_modules_behind_a_notebook_are_those_that_it_uses_directly_or_not():
    assert _modules_behind("from srlib import Format\nFormat") == {"formats", "checks"}
    behind = _modules_behind(CODE)
    assert behind >= {"rounding", "cpu", "schemes", "philox", "settings"}
    assert not behind & {"classifiers", "datasets", "figures", "batch"}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ('def f():\n    """Say."""\n    return 1\n', "def f():\n    return 1  # one\n"),
        ("x = [1,\n     2]\n\n\ny = 3\n", "x = [1, 2]\ny = 3\n"),
        ('"""A module."""\nx = 1\n', "x = 1\n"),
        (
            "from typing import Any\n\ndef f(x: int, *, y: Any = 0) -> Any:\n    return x\n",
            "def f(x, *, y=0):\n    return x\n",
        ),
        ("class A:\n    x = 1\n    def _repr_html_(self):\n        return '1'\n", "class A:\n    x = 1\n"),
    ],
)
def test_the_essence_has_no_comments_docstrings_layout_annotations_and_display(one, other):
    assert essence(one) == essence(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("if x:\n    y = 1\nz = 2\n", "if x:\n    y = 1\n    z = 2\n"),
        ("x = 1\n", "x = 2\n"),
        ('x = "a"\n', 'x = "b"\n'),
        ('f("a")\n', "f()\n"),
        ("from a import f\nf()\n", "from b import f\nf()\n"),
        ("x: int = 1\n", "x: float = 1\n"),
        ('f"{x!r}"\n', 'f"{x!s}"\n'),
    ],
)
def test_the_essence_has_the_rest(one, other):
    assert essence(one) != essence(other)


def test_each_module_of_srlib_has_an_essence():
    for path in (Path(__file__).parents[1] / "srlib").glob("*.py"):
        assert essence(path.read_text()) is not None
