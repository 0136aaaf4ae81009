"""A figure's identity changes with all that can alter its numbers, and with nothing else that can be helped."""

import ast
import json
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path

import pytest

from srlib.batch import identity as module
from srlib.batch.identity import code_behind, code_of, combined, data_of, identity, public_names, source_of
from srlib.companion.notebook import find_notebooks, read_notebook

ROOT = Path(__file__).parents[2]
NOTEBOOKS = find_notebooks(ROOT / "notebooks")
SOURCES = module._sources()

CODE = """import srlib
from srlib.companion.settings import Settings

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
    images.write_bytes(b"2")
    found.append(identity(notebook(tmp_path), given))
    (tmp_path / "data" / "t10k-images-idx3-ubyte").write_bytes(b"2")
    found.append(identity(notebook(tmp_path), given))
    assert len(set(found)) == 5


def test_device_code_is_part_of_the_identity_where_it_runs(tmp_path, monkeypatch):
    def both():
        return [code_of(notebook(tmp_path), name) for name in ("numpy", "cupy")]

    before = both()
    monkeypatch.setattr(module, "_device_code", lambda: "another")
    assert [a == b for a, b in zip(before, both(), strict=True)] == [True, False]
    monkeypatch.undo()
    changed = SOURCES["srlib.kernels.gpu"].replace("_THREADS = ", "_THREADS = 1 + ")
    assert changed != SOURCES["srlib.kernels.gpu"]
    monkeypatch.setattr(module, "_sources", lambda: SOURCES | {"srlib.kernels.gpu": changed})
    assert [a == b for a, b in zip(before, both(), strict=True)] == [True, False]


FAULTS = {
    "a band over replicates": ("companion.statistics", "ddof=1", "ddof=0"),
    "a confidence": ("companion.statistics", "CONFIDENCE = 0.95", "CONFIDENCE = 0.9"),
    "what is measured": ("companion.experiments", "history.unmoved", "history.objective"),
    "how kernels are compiled": ("kernels.cache", "nogil=True", "nogil=True, fastmath=True"),
}


def with_a_fault(monkeypatch, name, old, new):
    source = SOURCES[f"srlib.{name}"]
    assert old in source
    monkeypatch.setattr(module, "_sources", lambda: SOURCES | {f"srlib.{name}": source.replace(old, new)})


@pytest.mark.parametrize(("name", "old", "new"), FAULTS.values(), ids=FAULTS)
def test_a_fault_in_what_decides_numbers_changes_the_identity(monkeypatch, name, old, new):
    path = ROOT / "notebooks" / "05_logistic_regression.ipynb"
    before = code_of(path, "numpy")
    with_a_fault(monkeypatch, name, old, new)
    assert code_of(path, "numpy") != before


def test_a_private_method_counts_and_one_of_rich_display_does_not(tmp_path, monkeypatch):
    sources = SOURCES | {
        "srlib.mine": "class A:\n    def _of(self):\n        return 1\n    def _repr_html_(self):\n        return 2\n"
    }
    code, found = "from srlib.mine import A\nA()._of()\n", []
    for change in ({}, {"return 1": "return 3"}, {"return 2": "return 4"}):
        text = sources["srlib.mine"]
        for old, new in change.items():
            text = text.replace(old, new)
        monkeypatch.setattr(module, "_sources", lambda text=text: sources | {"srlib.mine": text})
        found.append(code_of(notebook(tmp_path, code), "numpy"))
    assert found[0] != found[1] and found[0] == found[2]


def identities(monkeypatch, sources):
    monkeypatch.setattr(module, "_sources", lambda: sources)
    return [code_of(path, "numpy") for path in NOTEBOOKS]


SAME = {
    "docstring": ('def f():\n    """Say."""\n    return 1\n', "def f():\n    return 1  # one\n"),
    "layout": ("def f():\n    return [1,\n     2]\n\n\n", "def f(): return [1, 2]\n"),
    "docstring of a module": ('"""A module."""\nf = 1\n', "f = 1\n"),
    "docstring of a class": ("class f:\n    'A class.'\n    x = 1\n", "class f:\n    x = 1\n"),
    "annotations": ("def f(x: int, *y: int, z: Any = 0) -> Any: return x\n", "def f(x, *y, z=0): return x\n"),
    "overloads": ("@overload\ndef f(x: int) -> int: ...\ndef f(x): return x\n", "def f(x): return x\n"),
    "display": ("class f:\n    x = 1\n    def _repr_html_(self):\n        return '1'\n", "class f:\n    x = 1\n"),
    "message": ("def f(): raise ValueError(f'{x} is not')\n", "def f(): raise ValueError\n"),
    "message with a cause": ("def f(): raise ValueError('a') from e\n", "def f(): raise ValueError('b') from e\n"),
    "message of an assertion": ("def f(x): assert x, 'no'\n", "def f(x): assert x\n"),
    "warning": ("warnings.warn('a', stacklevel=2)\n", "warnings.warn('b', stacklevel=2)\n"),
}


@pytest.mark.parametrize("what", SAME)
def test_what_cannot_alter_numbers_is_not_in_the_form(what):
    one, other = map(module._form, SAME[what])
    assert one == other


DIFFERENT = {
    "indentation": ("if x:\n    y = 1\nz = 2\n", "if x:\n    y = 1\n    z = 2\n"),
    "constant": ("f = 1\n", "f = 2\n"),
    "field": ("class f:\n    x: int = 1\n", "class f:\n    x: float = 1\n"),
    "order of fields": ("class f:\n    a: int\n    b: int\n", "class f:\n    b: int\n    a: int\n"),
    "default": ("def f(x=1): return x\n", "def f(x=2): return x\n"),
    "positional argument": ("def f(a, /, b=1): return a\n", "def f(a, b=1): return a\n"),
    "exception": ("def f(): raise ValueError('a')\n", "def f(): raise TypeError('a')\n"),
    "cause": ("def f(): raise ValueError('a') from None\n", "def f(): raise ValueError('a')\n"),
    "value of an exception of its own": ("def f(): raise E(1)\n", "def f(): raise E(2)\n"),
    "value of a generator": ("def f(): raise StopIteration(1)\n", "def f(): raise StopIteration(2)\n"),
    "level of a warning": ("warnings.warn('a', UserWarning)\n", "warnings.warn('a', FutureWarning)\n"),
    "what is no warning": ("logs.warn('a', 1)\n", "logs.warn('b', 1)\n"),
    "text that is no docstring": ("def f():\n    return 'a'\n", "def f():\n    return 'b'\n"),
    "text after the docstring": ("def f():\n    'a'\n    g('a')\n", "def f():\n    'a'\n    g('b')\n"),
    "comparison with none": ("x is None", "x is not None"),
    "nothing and a result": ("def f(): return None\n", "def f(): return 0\n"),
    "item of a dictionary": ("{**x, 1: 2}", "{x: 2, **1}"),
}


@pytest.mark.parametrize("what", DIFFERENT)
def test_what_can_alter_numbers_is_in_the_form(what):
    one, other = map(module._form, DIFFERENT[what])
    assert one != other


STUB = {"srlib": "from .m import f as f", "srlib.m": "from srlib.n import g", "srlib.n": "g = 1", "srlib.o": "h = 1"}
WAYS = [
    "import srlib\nsrlib.f()",
    "from srlib import f as q\nq()",
    "import srlib.m as q\nq.f()",
    "from srlib import m\nm.f()",
    "from srlib.m import f\nf()",
    "import srlib.m\nsrlib.m.f()",
    "import srlib\nsrlib.m.f()",
    "import srlib\nx = [srlib.m]",
    "def h():\n    from srlib.m import f as k\n    return k()",
    "try:\n    from srlib import f\nexcept ImportError:\n    f = None\nf()",
]


ALL = [
    "import srlib as s\ns.f()",
    "from srlib import *\nf()",
    "import srlib\ngetattr(srlib, 'f')()",
    "import srlib\nprint(vars(srlib))",
]


@pytest.mark.parametrize("code", ALL)
def test_all_modules_are_behind_a_notebook_that_may_mean_any(tmp_path, monkeypatch, code):
    monkeypatch.setattr(module, "_sources", lambda: dict(STUB))
    assert code_behind(notebook(tmp_path, code), None).keys() == {"m", "n", "o"}


@pytest.mark.parametrize("code", WAYS)
def test_a_module_is_behind_a_notebook_by_whatever_way_it_is_imported(tmp_path, monkeypatch, code):
    monkeypatch.setattr(module, "_sources", lambda: dict(STUB))
    assert code_behind(notebook(tmp_path, code), None).keys() == {"m", "n"}


DEEP = {"srlib": "from .p.a import f as f"} | {f"srlib.{n}": "" for n in ("p", "p.a", "p.b", "p.q", "p.q.c", "pp", "o")}
BELOW = {
    "import srlib\nsrlib.f()": {"p.a"},
    "import srlib\nsrlib.p.b.g()": {"p.b"},
    "import srlib.p.b": {"p.b"},
    "import srlib.p as p\np.b.g()": {"p", "p.a", "p.b", "p.q", "p.q.c"},
    "from srlib import p\np.b.g()": {"p", "p.a", "p.b", "p.q", "p.q.c"},
    "from srlib.p import b": {"p.b"},
    "from srlib.p import *": {"p", "p.a", "p.b", "p.q", "p.q.c"},
    "from srlib.p.q import c as d": {"p.q.c"},
    "from srlib.p.q import anything": {"p.q", "p.q.c"},
    "import srlib\nsrlib.unheard_of": {"p", "p.a", "p.b", "p.q", "p.q.c", "pp", "o"},
    "import srlib\nprint(1)": set(),
    "srlib_of_mine = 1\nsrlib_of_mine.p": set(),
}


@pytest.mark.parametrize(("code", "expected"), BELOW.items())
def test_of_a_package_used_as_an_object_all_modules_are_behind_a_notebook(tmp_path, monkeypatch, code, expected):
    monkeypatch.setattr(module, "_sources", lambda: dict(DEEP))
    assert code_behind(notebook(tmp_path, code), None).keys() == expected


def test_identities_can_be_made_in_several_threads():
    """CPython 3.11 cannot make two syntax trees at once."""
    code = "\n".join(f"def f{k}(x):\n    return [x + {k} for _ in range(x)]" for k in range(500))
    with ThreadPoolExecutor(8) as pool:
        assert len({repr(form) for form in pool.map(lambda i: module._form(f"{code}\n# {i}"), range(16))}) == 1


def test_the_package_has_nothing_that_hides_what_it_imports():
    """No modules by names made of text, or from beside; the package itself is known by its attributes alone."""
    for name, text in SOURCES.items():
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ImportFrom):
                assert node.level == 0 or name == "srlib", name
            if isinstance(node, ast.Name | ast.Attribute):
                assert getattr(node, "id", getattr(node, "attr", None)) not in {"import_module", "__import__"}, name
            if isinstance(node, ast.Import) and not name.startswith(("srlib.batch", "srlib.cli")):
                assert not [alias for alias in node.names if alias.name == "srlib" and alias.asname], name


PLANTED = {
    "kernels.cache": [("boundscheck=False", "boundscheck=False, fastmath=True")],
    "kernels.llvm": [("LANES = 8", "LANES = 16")],
    "kernels.cpu": [
        ("half != floor(half)", "half == floor(half)"),
        ("1.0 if significand", "2.0 if significand"),
    ],
    "kernels.rule": [("2.0 ** (precision - 2)", "2.0 ** (precision - 3)"), ("precision > 2", "precision > 3")],
    "kernels.reference": [("probability == 1", "probability >= 1")],
    "philox": [("0xD2511F53", "0xD2511F55")],
    "rounding": [('"RN": (0.5, 0.5)', '"RN": (0.5, 0.25)'), ("cpu = None", "cpu = 0")],
}


@pytest.mark.parametrize(("name", "old", "new"), [(name, *pair) for name, pairs in PLANTED.items() for pair in pairs])
def test_a_threshold_or_a_constant_of_a_kernel_changes_every_notebook(monkeypatch, name, old, new):
    text = SOURCES[f"srlib.{name}"]
    assert old in text
    before = identities(monkeypatch, SOURCES)
    after = identities(monkeypatch, SOURCES | {f"srlib.{name}": text.replace(old, new)})
    assert all(a != b for a, b in zip(before, after, strict=True))


def test_the_code_behind_a_notebook_is_told_by_module(tmp_path):
    assert code_behind(notebook(tmp_path, "from srlib import Format\nFormat"), "numpy").keys() == {
        "checks",
        "formats",
        "html",
        "typing",
    }
    behind = code_behind(notebook(tmp_path), "numpy").keys()
    assert behind >= {"rounding", "kernels.cpu", "schemes", "philox", "companion.settings"}
    assert not {name.rpartition(".")[2] for name in behind} & {"classifiers", "datasets", "figures", "run", "gpu"}
    assert code_behind(notebook(tmp_path), "cupy").keys() - behind == {"kernels.gpu", "gpu.c"}


def test_the_code_behind_a_notebook_changes_in_the_module_that_is_changed(tmp_path, monkeypatch):
    before = code_behind(notebook(tmp_path), "numpy")
    changed = SOURCES["srlib.philox"].replace("0xD2511F53", "0xD2511F55")
    monkeypatch.setattr(module, "_sources", lambda: SOURCES | {"srlib.philox": changed})
    after = code_behind(notebook(tmp_path), "numpy")
    assert {name for name in before if before[name] != after[name]} == {"philox"}


def test_public_names_have_the_modules_of_the_stub():
    stub = ast.parse((ROOT / "srlib" / "__init__.pyi").read_text())
    assert public_names() == {alias.asname: line.module for line in stub.body for alias in line.names}


def test_the_source_of_a_notebook_is_that_of_its_cells_but_its_parameters(tmp_path):
    path = notebook(tmp_path, "a = 1\nb = 2")
    cells = json.loads(path.read_text())["cells"]
    cells.append({"cell_type": "code", "metadata": {"tags": ["other"]}, "source": "é"})
    path.write_text(json.dumps({"cells": cells}, ensure_ascii=False), encoding="utf-8")
    expected = [["markdown", "# Why?"], ["code", "a = 1\nb = 2"], ["code", "é"]]
    assert json.loads(source_of(path)) == expected
    assert code_of(path, None) != code_of(notebook(tmp_path, "a = 1\nb = 2"), None)


def test_cells_are_lines_of_one_program(tmp_path):
    path = notebook(tmp_path, "if x:\n    y = 1")
    cells = json.loads(path.read_text())["cells"]
    path.write_text(json.dumps({"cells": [*cells, cells[-1] | {"source": ["y = 2"]}]}))
    assert code_of(path, None) == code_of(notebook(tmp_path, "if x:\n    y = 1\ny = 2"), None)


def test_data_are_the_files_of_images_and_labels_by_their_sha_256(tmp_path):
    (tmp_path / "data").mkdir()
    for name in ("a-ubyte", "b-ubyte.gz", "c.txt"):
        (tmp_path / "data" / name).write_bytes(name.encode())
    expected = {name: sha256(name.encode()).hexdigest() for name in ("a-ubyte", "b-ubyte.gz")}
    assert data_of(tmp_path / "some.ipynb", {"dataset_dir": "data"}) == expected
    assert list(data_of(tmp_path / "some.ipynb", {"dataset_dir": "data"})) == sorted(expected)
    for parameters in ({}, {"dataset_dir": None}, {"dataset_dir": 5}):
        assert data_of(tmp_path / "some.ipynb", parameters) == {}


def test_an_identity_is_the_hash_of_code_data_and_parameters(tmp_path):
    path, parameters = notebook(tmp_path), {"b": 1, "a": [2], "backend": "cupy"}
    content = {"code": code_of(path, "cupy"), "data": {}, "parameters": parameters}
    expected = sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    assert identity(path, parameters) == combined(code_of(path, "cupy"), {}, parameters) == expected
    assert identity(path, dict(reversed(parameters.items()))) == expected
    assert code_of(path, "cupy") != code_of(path, "numpy")


def test_what_draws_is_behind_a_notebook_and_not_in_its_identity(tmp_path, monkeypatch):
    path = notebook(tmp_path, "from srlib.companion.figures import save_figure\nsave_figure(1)")
    assert code_behind(path, "numpy").keys() >= {"companion.figures"}
    before = code_of(path, "numpy"), code_behind(path, "numpy")
    drawn = SOURCES | {
        "srlib.companion.figures": SOURCES["srlib.companion.figures"].replace(
            "def save_figure(", "def save_figure(a_way, "
        )
    }
    assert drawn != SOURCES
    monkeypatch.setattr(module, "_sources", lambda: drawn)
    assert code_of(path, "numpy") == before[0]
    assert {name for name, found in code_behind(path, "numpy").items() if before[1][name] != found} == {
        "companion.figures"
    }


ARRANGING = [f"companion.{name}" for name in ("claims", "figures", "records", "report", "tables")]


@pytest.mark.parametrize("name", ["batch.run", "cli", *ARRANGING])
def test_what_arranges_numbers_or_runs_what_makes_them_is_not_in_the_identity(tmp_path, monkeypatch, name):
    path = notebook(tmp_path, f"from srlib import rounding\nimport srlib.{name}\nsrlib.{name}.it(rounding)")
    before = code_of(path, "numpy")
    monkeypatch.setattr(module, "_sources", lambda: SOURCES | {f"srlib.{name}": "def it(x): pass"})
    assert code_of(path, "numpy") == before
    monkeypatch.setattr(module, "_sources", lambda: SOURCES | {"srlib.rounding": "def it(x): pass"})
    assert code_of(path, "numpy") != before


def test_the_modules_of_a_package_are_all_files_and_packages_below_it(tmp_path, monkeypatch):
    files = ["__init__.py", "__init__.pyi", "a.py", "a.txt", "data/b.py", "q/__init__.py", "q/c.py", "q/r/__init__.py"]
    for name in [*files, "q/r/d.py", "kernels/gpu.c"]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(f"é = {name!r}", encoding="utf-8")
    monkeypatch.setattr(module.resources, "files", lambda name: tmp_path)
    named = {"srlib": "__init__.pyi", "srlib.a": "a.py", "srlib.q": "q/__init__.py", "srlib.q.c": "q/c.py"}
    named |= {"srlib.q.r": "q/r/__init__.py", "srlib.q.r.d": "q/r/d.py"}
    assert module._sources() == {name: f"é = {file!r}" for name, file in named.items()}
    assert module._device_code() == "é = 'kernels/gpu.c'"


def test_identities_are_taken_from_the_files_as_they_are(tmp_path, monkeypatch):
    package = tmp_path / "srlib"
    package.mkdir()
    monkeypatch.setattr(module.resources, "files", lambda name: package)
    (package / "__init__.pyi").write_text("from .rounding import round_to as round_to")
    (package / "settings.py").write_text("Settings = 1")
    found = []
    for value in ("1", "2", "1"):
        (package / "rounding.py").write_text(f"round_to = {value}")
        found.append(code_of(notebook(tmp_path), "numpy"))
    assert found[0] == found[2] != found[1]


@pytest.mark.slow
def test_every_notebook_reaches_the_kernels_that_it_needs():
    for path in NOTEBOOKS:
        assert {"kernels.cpu", "rounding", "formats"} <= code_behind(path, "numpy").keys(), path.stem
        assert read_notebook(path).figures
