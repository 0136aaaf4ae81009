"""A figure's identity changes with all that can alter its numbers, and with nothing else that can be helped."""

import ast
import json
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path

import pytest

from srlib.batch import identity as module
from srlib.batch.identity import code_behind, code_of, combined, data_of, identity, public_names, source_of
from srlib.batch.reach import Reach
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


PLANTED = {
    "a band over replicates": ("companion.statistics", "ddof=1", "ddof=0"),
    "a confidence": ("companion.statistics", "CONFIDENCE = 0.95", "CONFIDENCE = 0.9"),
    "what is measured": ("companion.experiments", "history.stagnated", "history.objective"),
    "how kernels are compiled": ("kernels.cache", "nogil=True", "nogil=True, fastmath=True"),
}


def with_a_fault(monkeypatch, name, old, new):
    source = SOURCES[f"srlib.{name}"]
    assert old in source
    monkeypatch.setattr(module, "_sources", lambda: SOURCES | {f"srlib.{name}": source.replace(old, new)})


@pytest.mark.parametrize(("name", "old", "new"), PLANTED.values(), ids=PLANTED)
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


def forms(sources, code, ignored=()):
    reach = Reach({"p": "", **sources}, ignored)
    return json.dumps([reach.notebook(code), reach.definitions()])


def reached(sources, code):
    reach = Reach({"p": "", **sources})
    reach.notebook(code)
    reach.definitions()
    return {".".join(key) for key in reach.keys()}


def in_function(code):
    return "def f():\n" + "\n".join(f"    {line}" for line in code.splitlines())


SAME = {
    "docstring": ('def f():\n    """Say."""\n    return 1\n', "def f():\n    return 1  # one\n"),
    "layout": ("def f():\n    return [1,\n     2]\n\n\n", "def f(): return [1, 2]\n"),
    "docstring of a module": ('"""A module."""\nf = 1\n', "f = 1\n"),
    "annotations": ("def f(x: int, *, y: Any = 0) -> Any:\n    return x\n", "def f(x, *, y=0):\n    return x\n"),
    "display": ("class f:\n    x = 1\n    def _repr_html_(self):\n        return '1'\n", "class f:\n    x = 1\n"),
    "message": ("def f(): raise ValueError(f'{x} is not')\n", "def f(): raise ValueError('no')\n"),
    "message of an assertion": ("def f(x): assert x, 'no'\n", "def f(x): assert x\n"),
    "warning": (
        "import warnings as w\ndef f(): w.warn('a', stacklevel=2)\n",
        "from warnings import warn\ndef f(): warn('b', stacklevel=2)\n",
    ),
    "function beside": ("f = 1\n", "f = 1\ndef g(): return f\n"),
    "class beside": ("f = 1\n", "f = 1\nclass G:\n    f = f\n"),
    "import beside": ("f = 1\n", "import numpy\nfrom p import q\nf = 1\n"),
    "name of what is reached": ("def g(): return 1\ndef f(): return g()\n", "def h(): return 1\ndef f(): return h()\n"),
    "order": ("def g(): return 1\ndef f(): return g()\n", "def f(): return g()\ndef g(): return 1\n"),
    "alias": ("import numpy as np\nf = np.linalg.norm\n", "from numpy import linalg\nf = linalg.norm\n"),
    "plain decorator beside": ("f = 1\n@g\ndef h(): return 1\n", "f = 1\n@g\ndef h(): return 2\n"),
    "annotation of a variable number of arguments": ("def f(*x: int, **y: int): pass\n", "def f(*x, **y): pass\n"),
    "annotations of an asynchronous function": (
        "async def f(x: int) -> int:\n    'Say.'\n    return x\n",
        "async def f(x):\n    return x\n",
    ),
    "annotations of a method": (
        "class f:\n    def g(self, x: int) -> int: pass\n",
        "class f:\n    def g(self, x): pass\n",
    ),
    "docstring of a class": ("class f:\n    'A class.'\n    x = 1\n", "class f:\n    x = 1\n"),
    "docstring of a method": (
        "class f:\n    def g(self):\n        'Do.'\n        return 1\n",
        "class f:\n    def g(self):\n        return 1\n",
    ),
    "docstring of a nested function": (
        in_function("def g():\n    'Do.'\n    return 1\nreturn g"),
        in_function("def g():\n    return 1\nreturn g"),
    ),
    "message with a cause": ("def f(): raise ValueError('a') from e\n", "def f(): raise ValueError('b') from e\n"),
    "pass beside": ("f = 1\n", "f = 1\npass\n"),
    "name of a class": ("class G: pass\ndef f(): return G()\n", "class H: pass\ndef f(): return H()\n"),
    "import inside": (
        "import numpy as np\ndef f(): return np.pi\n",
        "def f():\n    import numpy\n    return numpy.pi\n",
    ),
}


@pytest.mark.parametrize("what", SAME)
def test_what_cannot_alter_numbers_is_not_in_the_form(what):
    one, other = SAME[what]
    assert forms({"p.m": one}, "from p.m import f\nf") == forms({"p.m": other}, "from p.m import f\nf")


DIFFERENT = {
    "indentation": (
        "def f(x):\n    if x:\n        y = 1\n    z = 2\n",
        "def f(x):\n    if x:\n        y = 1\n        z = 2\n",
    ),
    "constant": ("f = 1\n", "f = 2\n"),
    "text": ("f = 'a'\n", "f = 'b'\n"),
    "argument": ("def f(): g('a')\n", "def f(): g()\n"),
    "package": ("from a import g\nf = g()\n", "from b import g\nf = g()\n"),
    "field": ("class f:\n    x: int = 1\n", "class f:\n    x: float = 1\n"),
    "formatting": ("f = f'{1!r}'\n", "f = f'{1!s}'\n"),
    "default": ("x = 1\ndef f(x=x): return x\n", "x = 2\ndef f(x=x): return x\n"),
    "default of a lambda": ("x = 1\nf = lambda x=x: x\n", "x = 2\nf = lambda x=x: x\n"),
    "first iterable": ("x = [1]\nf = [x for x in x]\n", "x = [2]\nf = [x for x in x]\n"),
    "class attribute": ("x = 1\nclass f:\n    x = x\n", "x = 2\nclass f:\n    x = x\n"),
    "base": ("class B:\n    y = 1\nclass f(B): pass\n", "class B:\n    y = 2\nclass f(B): pass\n"),
    "method": ("class f:\n    def g(self): return 1\n", "class f:\n    def g(self): return 2\n"),
    "decorator": ("def d(g): return 1\n@d\ndef f(): pass\n", "def d(g): return 2\n@d\ndef f(): pass\n"),
    "exception": ("def f(): raise ValueError\n", "def f(): raise TypeError\n"),
    "cause": ("def f(): raise ValueError from None\n", "def f(): raise ValueError\n"),
    "value of an exception of its own": (
        "class E(Exception): pass\ndef f(): raise E(1)\n",
        "class E(Exception): pass\ndef f(): raise E(2)\n",
    ),
    "value of a generator": ("def f(): raise StopIteration(1)\n", "def f(): raise StopIteration(2)\n"),
    "second binding": ("f = 1\nf = f + 1\n", "f = 1\nf = f + 2\n"),
    "order of bindings": ("f = 1\nf = 2\n", "f = 2\nf = 1\n"),
    "augmented": ("f = [1]\nf += [1]\n", "f = [1]\nf += [2]\n"),
    "branch": ("if a:\n    f = 1\nelse:\n    f = 2\n", "if a:\n    f = 2\nelse:\n    f = 1\n"),
    "condition": ("if a == 1:\n    f = 1\n", "if a == 2:\n    f = 1\n"),
    "other than an import": (
        "try:\n    from n import f\nexcept ImportError:\n    f = 1\n",
        "try:\n    from n import f\nexcept ImportError:\n    f = 2\n",
    ),
    "handled exception": (
        "try:\n    from n import f\nexcept ImportError:\n    f = 1\n",
        "try:\n    from n import f\nexcept OSError:\n    f = 1\n",
    ),
    "statement": ("f = {}\nf.update(a=1)\n", "f = {}\nf.update(a=2)\n"),
    "item": ("f = {}\nf['a'] = 1\n", "f = {}\nf['a'] = 2\n"),
    "loop": ("f = []\nfor i in range(3): f.append(i)\n", "f = []\nfor i in range(4): f.append(i)\n"),
    "registered": (
        "def f(): pass\n@overload(f)\ndef _(): return 1\n",
        "def f(): pass\n@overload(f)\ndef _(): return 2\n",
    ),
    "registered by a method": (
        "f = F()\n@f.register\ndef _(): return 1\n",
        "f = F()\n@f.register\ndef _(): return 2\n",
    ),
    "exchanged": (
        "def a(): return 1\ndef b(): return 2\nf = a() - b()\n",
        "def a(): return 1\ndef b(): return 2\nf = b() - a()\n",
    ),
    "order of fields": ("class f:\n    a = 1\n    b = 2\n", "class f:\n    b = 1\n    a = 2\n"),
    "order of declared fields": ("class f(T):\n    a: int\n    b: int\n", "class f(T):\n    b: int\n    a: int\n"),
    "condition of an import": (
        "if X == 1:\n    from p.k import f\nelse:\n    from p.j import f\n",
        "if X == 2:\n    from p.k import f\nelse:\n    from p.j import f\n",
    ),
    "what keeps from an import": (
        "try:\n    import q as f\nexcept ImportError:\n    pass\n",
        "try:\n    import q as f\nexcept OSError:\n    pass\n",
    ),
    "registered elsewhere": (
        "import n\ndef f(): pass\n@n.overload(n.clip)\ndef _(): return 1\n",
        "import n\ndef f(): pass\n@n.overload(n.clip)\ndef _(): return 2\n",
    ),
    "function that is named like display": (
        "def _repr_(): return 1\ndef f(): return _repr_()\n",
        "def _repr_(): return 2\ndef f(): return _repr_()\n",
    ),
    "class that is named like an exception": (
        "class ValueError(Exception): pass\ndef f(): raise ValueError(1)\n",
        "class ValueError(Exception): pass\ndef f(): raise ValueError(2)\n",
    ),
    "names in a module that is used as an object": (
        "from p import k\nf = getattr(k, 'a')\n",
        "from p import j\nf = getattr(j, 'a')\n",
    ),
    "item beside": ("g = {}\nx = g['a'] = 1\nf = g", "g = {}\nx = g['a'] = 2\nf = g"),
    "bound by a condition": ("if (f := 1): pass", "if (f := 2): pass"),
    "bound by a loop": ("for f in [1]: pass", "for f in [2]: pass"),
    "everything of a module": ("from p.k import *\nf = g", "from p.k import *\nf = h"),
    "exception with a message": ("def f(): raise ValueError('a')\n", "def f(): raise TypeError('a')\n"),
    "cause of an exception with a message": (
        "def f(): raise ValueError('a') from e\n",
        "def f(): raise ValueError('a') from None\n",
    ),
    "keyword of a warning": (
        "import warnings\ndef f(): warnings.warn('a', category=UserWarning)\n",
        "import warnings\ndef f(): warnings.warn('a', category=FutureWarning)\n",
    ),
    "argument of what a call returns": ("def f(): return g()('a', 1)\n", "def f(): return g()('b', 1)\n"),
    "definition in a comprehension": (
        "def g(): return 1\ndef f(): return [g() for _ in x]\n",
        "def g(): return 2\ndef f(): return [g() for _ in x]\n",
    ),
    "exchanged targets": ("a, b = 1, 2\nf = a\n", "b, a = 1, 2\nf = a\n"),
    "exchanged targets that are imported too": (
        "from n import a, b\na, b = 1, 2\nf = a\n",
        "from n import a, b\nb, a = 1, 2\nf = a\n",
    ),
    "attribute of an imported definition": (
        "from p.m import g as h\ndef g(): pass\ndef f(): return h.a\n",
        "from p.m import g as h\ndef g(): pass\ndef f(): return h.b\n",
    ),
    "positional argument": ("def f(a, /, b=1): return a\n", "def f(a, b=1): return a\n"),
    "keyword argument": ("def f(*, a, b=1): return a\n", "def f(a, b=1): return a\n"),
    "unpacked": ("def f(x): return g(*x)\n", "def f(x): return g(x)\n"),
    "unpacked in a dictionary": ("def f(x): return {**x, 1: 2}\n", "def f(x): return {x: 2, **1}\n"),
    "name of a nested function": (
        in_function("def g(): return 1\ndef h(): return 2\nreturn g()"),
        in_function("def h(): return 1\ndef g(): return 2\nreturn g()"),
    ),
    "name of a local": (in_function("a, b = 1, 2\nreturn a"), in_function("b, a = 1, 2\nreturn a")),
    "name of a parameter": ("def f(a, b): return a\n", "def f(b, a): return a\n"),
    "attribute": ("def f(x): return x.a.b\n", "def f(x): return x.b.a\n"),
    "attribute of a result": ("def f(x): return x().a\n", "def f(x): return x().b\n"),
    "attribute of a definition": ("def g(): pass\ndef f(): return g.a\n", "def g(): pass\ndef f(): return g.b\n"),
    "attribute from outside": (
        "import numpy as np\ndef f(): return np.sin(1)\n",
        "import numpy as np\ndef f(): return np.cos(1)\n",
    ),
    "name from outside": (
        "from numpy import sin as s\ndef f(): return s(1)\n",
        "from numpy import cos as s\ndef f(): return s(1)\n",
    ),
    "import inside a function": (
        in_function("import numpy as n\nreturn n.sin(1)"),
        in_function("import scipy as n\nreturn n.sin(1)"),
    ),
    "built-in function": ("def f(x): return min(x)\n", "def f(x): return max(x)\n"),
    "operator": ("def f(x): return x + 1\n", "def f(x): return x - 1\n"),
    "comparison": ("def f(x): return x < 1\n", "def f(x): return x <= 1\n"),
    "comparison with none": ("def f(x): return x is None\n", "def f(x): return x is not None\n"),
    "kind of comprehension": ("def f(x): return [y for y in x]\n", "def f(x): return {y for y in x}\n"),
    "condition of a comprehension": (
        "def f(x): return [y for y in x if y]\n",
        "def f(x): return [y for y in x if not y]\n",
    ),
    "later iterable": ("x = [1]\nf = [x for _ in y for x in x]\n", "x = [1]\nf = [x for _ in z for x in x]\n"),
    "element of a comprehension": ("x = [1]\nf = [y + 1 for y in x]\n", "x = [1]\nf = [y + 2 for y in x]\n"),
    "handler": (
        in_function("try:\n    g()\nexcept A as e:\n    pass"),
        in_function("try:\n    g()\nexcept B as e:\n    pass"),
    ),
    "level of a warning": (
        "import warnings\ndef f(): warnings.warn('a', UserWarning)\n",
        "import warnings\ndef f(): warnings.warn('a', FutureWarning)\n",
    ),
    "what is no warning": ("import logs\ndef f(): logs.warn('a', 1)\n", "import logs\ndef f(): logs.warn('b', 1)\n"),
    "condition of an assertion": ("def f(x): assert x\n", "def f(x): assert not x\n"),
    "text that is no docstring": ("def f():\n    return 'a'\n", "def f():\n    return 'b'\n"),
    "text after the docstring": ("def f():\n    'a'\n    g('a')\n", "def f():\n    'a'\n    g('b')\n"),
    "asynchronous": ("async def f(): return 1\n", "def f(): return 1\n"),
    "body of an asynchronous function": ("async def f(): return 1\n", "async def f(): return 2\n"),
    "nothing and a result": ("def f(): return 0\n", "def f(): return\n"),
    "branch beside an import": (
        "if a:\n    f = 1\nelse:\n    from n import f\n",
        "if b:\n    f = 1\nelse:\n    from n import f\n",
    ),
    "condition of the other branch": (
        "if a:\n    pass\nelse:\n    f = 1\n",
        "if b:\n    pass\nelse:\n    f = 1\n",
    ),
    "one branch and the other": ("if a:\n    pass\nelse:\n    f = 1\n", "if a:\n    f = 1\n"),
    "inner condition": (
        "if a:\n    if b:\n        f = 1\n",
        "if a:\n    if c:\n        f = 1\n",
    ),
    "outer condition": (
        "if a:\n    if b:\n        f = 1\n",
        "if c:\n    if b:\n        f = 1\n",
    ),
    "statement in a branch": ("f = {}\nif a:\n    f.update(a=1)\n", "f = {}\nif b:\n    f.update(a=1)\n"),
    "else of a try": (
        "try:\n    g()\nexcept E:\n    pass\nelse:\n    f = 1\n",
        "try:\n    g()\nexcept E:\n    pass\nelse:\n    f = 2\n",
    ),
    "end of a try": ("try:\n    g()\nfinally:\n    f = 1\n", "try:\n    g()\nfinally:\n    f = 2\n"),
    "without an exception": ("try:\n    g()\nexcept:\n    f = 1\n", "try:\n    g()\nexcept:\n    f = 2\n"),
    "registered under a condition": (
        "def f(): pass\nif a:\n    @overload(f)\n    def _(): return 1\n",
        "def f(): pass\nif b:\n    @overload(f)\n    def _(): return 1\n",
    ),
    "registered by a keyword": (
        "def f(): pass\n@overload(of=[f])\ndef _(): return 1\n",
        "def f(): pass\n@overload(of=[f])\ndef _(): return 2\n",
    ),
    "registered class": (
        "f = F()\n@f.register\nclass G:\n    x = 1\n",
        "f = F()\n@f.register\nclass G:\n    x = 2\n",
    ),
    "registered with a choice": (
        "f = F()\n@f.register(int)\ndef _(): return 1\n",
        "f = F()\n@f.register(int)\ndef _(): return 2\n",
    ),
    "walrus": ("def f(): return (y := x)\nx = 1", "def f(): return (y := x)\nx = 2"),
}


@pytest.mark.parametrize("what", DIFFERENT)
def test_what_can_alter_numbers_is_in_the_form(what):
    others = {"p.k": "a = 1\nb = 2", "p.j": "b = 1\na = 2"}
    one, other = (forms({"p.m": text, **others}, "from p.m import f\nf()") for text in DIFFERENT[what])
    assert one != other


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("from numpy import *\nsin(1)", "from mpmath import *\nsin(1)"),
        ("class A:\n    a = 1\n    b = 2", "class A:\n    b = 1\n    a = 2"),
        ("from p import m, n\nh(m)", "from p import m, n\nh(n)"),
    ],
)
def test_what_can_alter_numbers_is_in_the_form_of_a_notebook(one, other):
    assert forms(STUB, one) != forms(STUB, other)


IN_A_NOTEBOOK = [
    ("a, b = 1, 2\nh(a)", "b, a = 1, 2\nh(a)"),
    ("import p\np.f.a.x", "import p\np.f.a.y"),
    ("import p\np.f.a.x", "import p\np.f.b.x"),
    ("from p import f\nf.a", "from p import f\nf.b"),
    ("from p import m\nm is None", "from p import m\nm is not None"),
    ("from p import m\nm.f.a", "from p import m\nm.f.b"),
    ("from p import f\nf(1)", "from p import f\nf(2)"),
    ("# a\nx = 1", "# a\nx = 2"),
]


@pytest.mark.parametrize(("one", "other"), IN_A_NOTEBOOK)
def test_what_a_notebook_does_with_what_it_reaches_is_in_the_form(one, other):
    assert forms(STUB, one) != forms(STUB, other)


STUB = {
    "p": "from .m import f as f",
    "p.m": "from p.n import g\ndef f(): return g()\ndef beside(): pass\n",
    "p.n": "g = 1",
}
WAYS = [
    "import p\np.f()",
    "import p as q\nq.f()",
    "import p.m\np.m.f()",
    "import p.m as q\nq.f()",
    "from p import f\nf()",
    "from p import f as q\nq()",
    "from p import m\nm.f()",
    "from p.m import f\nf()",
    "def h():\n    import p\n    return p.f()",
    "def h():\n    from p.m import f as k\n    return lambda: [k() for _ in range(2)]",
    "class A:\n    from p import f\n    g = f()",
    "try:\n    from p import f\nexcept ImportError:\n    f = None\nf()",
    "try:\n    from p import f\nexcept ImportError:\n    from numpy import f\nf()",
    "try:\n    from numpy import f\nexcept ImportError:\n    from p import f\nf()",
]


@pytest.mark.parametrize("code", WAYS)
def test_a_definition_is_reached_by_whatever_way_it_is_imported(code):
    assert reached(STUB, code) == {"p.m.f", "p.n.g"}
    changed = STUB | {"p.n": "g = 2"}
    assert forms(STUB, code) != forms(changed, code)


@pytest.mark.parametrize(
    "code",
    [
        "import p\nh(p)",
        "import p as q\nq.none",
        "from p import *",
        "if x:\n    from p import *",
        "import p\np.m.g.x(p)",
    ],
)
def test_of_a_package_that_is_used_as_an_object_everything_counts(code):
    assert reached(STUB, code) == {"p.m.f", "p.m.beside", "p.n.g"}


def test_of_a_module_that_is_used_as_an_object_everything_counts_but_not_if_it_is_compared_with_none():
    assert reached(STUB, "from p import m\nh(m)") == {"p.m.f", "p.m.beside", "p.n.g"}
    assert reached(STUB, "from p import m\nm is not None") == set()


def test_of_what_is_not_below_a_module_nothing_counts():
    beside = STUB | {"p.mm": "x = 1", "p.o": "y = 1", "p.m.k": "z = 1"}
    assert reached(beside, "from p import m\nh(m)") == {"p.m.f", "p.m.beside", "p.n.g", "p.m.k.z"}


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("p.m", "from .n import g\ndef f(): return g"),
        ("p.m", "if x:\n    from .n import g\ndef f(): return g"),
        ("p.m", "import p.n as k\ndef f(): return k.g"),
        ("p.m", "from . import n\ndef f(): return n.g"),
        ("p.m", "from . import n as k\ndef f(): return k.g"),
        ("p.q.m", "from ..n import g\ndef f(): return g"),
        ("p.q.m", "from .. import n\ndef f(): return n.g"),
        ("p.q.m", "from .k import g\ndef f(): return g"),
        ("p.q.r.m", "from ...n import g\ndef f(): return g"),
        ("p.q.r.m", "from ..k import g\ndef f(): return g"),
    ],
)
def test_what_is_imported_from_a_place_beside_is_reached(name, code):
    sources = {"p.n": "g = 1", "p.o": "g = 2", "p.q": "", "p.q.k": "from p.n import g", "p.q.r": "", name: code}
    assert reached(sources, f"from {name} import f\nf()") - {"p.m.g"} == {f"{name}.f", "p.n.g"}


def test_a_module_that_is_used_as_an_object_may_be_renamed():
    renamed = {"p": "from .k import f as f", "p.k": STUB["p.m"], "p.n": STUB["p.n"]}
    assert forms(STUB, "from p import m\nh(m)") == forms(renamed, "from p import k\nh(k)")


def test_imports_in_a_circle_end_and_a_module_may_have_a_definition_of_its_own_name():
    assert reached({"p": "from .m import f", "p.m": "from p import f\nx = 1"}, "from p import f\nf()") <= {"p.m.x"}
    assert reached({"p": "from .m import m", "p.m": "def m(): return 1"}, "from p import m\nm()") == {"p.m.m"}


def test_names_in_full_are_those_of_modules_and_definitions():
    reach = Reach({"p": "", **STUB}, ["p.n"], named=True)
    form = json.dumps(reach.notebook("from p import m, f, n\nh(m, f, n)"))
    assert (
        '["definition", "p.m.f"]' in form
        and '["module", [["f", "p.m.f"], ["beside", "p.m.beside"]]]' in form
        and '["ignored", "p.n"]' in form
    )
    assert len(reach.definitions()) == len(reach.keys()) == 2


LOCAL = [
    "def h(f): f()",
    "def h(f, /): f()",
    "def h(*, f): f()",
    "def h(*f): f()",
    "def h(**f): f()",
    "async def h(f): f()",
    "h = lambda f: f()",
    "h = lambda *f: f()",
    "[f() for f in x]",
    "{f() for f in x}",
    "{f: f() for f in x}",
    "(f() for f in x)",
    "[f() for i in x for f in i if f]",
    "[[f() for i in x] for f in x]",
    "[lambda: f() for f in x]",
    *map(
        in_function,
        [
            "f = 1\nf()",
            "f: int = 1\nf()",
            "f += 1\nf()",
            "f()\ndel f",
            "a, (b, *f) = x\nf()",
            "for f in x: f()",
            "with x as f: f()",
            "while (f := x): f()",
            "[f := i for i in x]\nf()",
            "[lambda: (f := i) for i in x]\n[f := 1 for i in x]\nf()",
            "try:\n    x()\nexcept E as f:\n    f()",
            "match x:\n    case f: f()",
            "match x:\n    case [*f]: f()",
            "match x:\n    case {**f}: f()",
            "match x:\n    case A() as f: f()",
            "match x:\n    case [1, f]: f()",
            "import numpy as f\nf()",
            "import f.g\nf.g()",
            "from numpy import pi as f\nf()",
            "class f: pass\nf()",
            "def f(): pass\nf()",
            "async def f(): pass\nf()",
            "if x:\n    f = 1\nelse:\n    f()",
            "f = 1\ndef g():\n    return f()",
            "f = 1\ndef g():\n    nonlocal f\n    f()",
            "f = 1\nclass A:\n    y = f()",
            "f = 1\nclass A:\n    def g(self): return f()",
        ],
    ),
]


@pytest.mark.parametrize("code", LOCAL)
def test_a_local_name_is_no_definition(code):
    assert reached(STUB, f"{code}") == set()
    assert reached(STUB, f"from p import f\n{code}") == set()
    assert reached(STUB | {"p.q": f"from p import f\n{code}\nz = 1"}, "from p.q import z\nz") <= {"p.q.z", "p.q."}
    changed = STUB | {"p.n": "g = 2"}
    assert forms(STUB, f"from p import f\n{code}") == forms(changed, f"from p import f\n{code}")


NOT_LOCAL = [
    "def h(x=f()): pass",
    "def h(*, x=f()): pass",
    "h = lambda x=f(): x",
    "@f()\ndef h(): pass",
    "class h(f()): pass",
    "class h(x=f()): pass",
    "@f()\nclass h: pass",
    "[f for f in f()]",
    "[i for i in x for f in f()]\n[i for i in x if f()]",
    "[lambda: (f := 1) for i in x]\nf()",
    "class A:\n    x = [i for i in f()]",
    "class A:\n    f = 1\n    x = [f() for i in x]",
    "class A:\n    f = 1\n    class B:\n        x = f()",
    "class A:\n    f = 1\n    g = lambda self: f()",
    "class A:\n    def f(self): return 1\nf()",
    "def h():\n    def f(): pass\nf()",
    "def h():\n    f = 1\n    return f\nf()",
    "def h():\n    global f\n    f()",
    "def h():\n    global f\n    f()\n    f = 1",
    "def h():\n    x.f = 1\n    f()",
    "def h():\n    f[0] = 1\n    f()",
    "def h():\n    g(f=1)\n    f()",
    "def h():\n    match x:\n        case f.y: pass\n    f()",
    "def h():\n    lambda f: f\n    f()",
    "def h():\n    [f for f in x]\n    f()",
    "def h():\n    import f.g as y\n    f()",
    "async def h():\n    await f()",
    "with f() as x: pass",
    "try:\n    x()\nexcept f() as y:\n    w = 1",
    "match f():\n    case _ if f(): pass",
    "x = f'{f()}'",
    "x: f() = 1",
    "def h():\n    return (yield f())",
    "del x[f()]",
]


@pytest.mark.parametrize("code", NOT_LOCAL)
def test_a_name_that_is_bound_in_another_scope_is_the_definition(code):
    assert reached(STUB, f"from p import f\n{code}") == {"p.m.f", "p.n.g"}
    assert reached(STUB | {"p.q": f"from p import f\n{code}\nz = 1"}, "from p import q\nq") >= {"p.m.f", "p.n.g"}


def test_a_name_is_taken_from_the_function_around_and_not_from_the_class():
    code = "from p import f\nclass A:\n    f = 1\n    def g(self): return f()"
    assert reached(STUB, code) == {"p.m.f", "p.n.g"}


def test_what_a_package_does_at_its_import_is_reached_with_its_modules():
    sources = {"p.q": "import os\nos.umask(0)", "p.q.m": "f = 1"}
    assert reached(sources, "from p.q.m import f\nf") == {"p.q.m.f", "p.q."}


def test_of_a_module_that_is_imported_as_a_whole_everything_counts():
    sources = {"p.m": "from p.n import *\nf = g", "p.n": "g = 1"}
    assert reached(sources, "from p.m import f\nf") == {"p.m.f", "p.m.", "p.n.g"}


def test_a_moved_definition_a_moved_file_and_a_moved_package_have_the_same_form():
    code = "from p import f\nf(1)"
    moved = {
        "p": "from .q.k import f as f",
        "p.q": "",
        "p.q.k": "from p.q.o import h as g\ndef f(): return g()",
        "p.q.o": "h = 1",
    }
    together = {"p": "from .m import f as f", "p.m": "g = 1\ndef f(): return g()"}
    assert forms(STUB, code) == forms(moved, code) == forms(together, code)


def test_two_definitions_of_one_name_are_told_apart():
    """A bag of what is reached would be the same for both."""
    sources = {"p.a": "def exp(): return 1", "p.b": "def exp(): return 2"}
    one, other = (f"from p import a, b\n{x}.exp() - {y}.exp()" for x, y in ("ab", "ba"))
    assert forms(sources, one) != forms(sources, other)


def test_modules_that_are_ignored_are_not_followed():
    code = "from p.m import f\nf()"
    assert forms(STUB, code, ["p.n"]) == forms(STUB | {"p.n": "g = 2"}, code, ["p.n"])
    assert forms(STUB, code, ["p.n"]) != forms(STUB | {"p.m": "def f(): return 1"}, code, ["p.n"])


def test_modules_that_are_ignored_may_be_renamed_and_are_no_part_of_a_package_used_as_an_object():
    code = "from p.n import g\nh(g)"
    renamed = STUB | {"p.k": "g = 1"}
    assert forms(STUB, code, ["p.n"]) == forms(renamed, "from p.k import g\nh(g)", ["p.k"])
    assert json.loads(forms(STUB, "from p.n import g\ng.a", ["p.n"])) == [
        [[["Expr", {"value": [["ignored", "*"]]}]], []],
        [],
    ]
    whole = STUB | {"p.m": "x = 1"}
    assert forms(whole, "import p\nh(p)", ["p.n"]) == forms(whole | {"p.n": "g = 2"}, "import p\nh(p)", ["p.n"])


def test_what_type_checkers_alone_read_does_not_count():
    plain = "def f(x):\n    return x"
    kinds = "".join(f"@overload\ndef f(x: {kind}) -> {kind}: ...\n" for kind in ("int", "str"))
    typed = f"from typing import overload\n{kinds}{plain}"
    assert forms({"p.m": plain}, "from p.m import f\nf(1)") == forms({"p.m": typed}, "from p.m import f\nf(1)")


def identities(monkeypatch, sources):
    monkeypatch.setattr(module, "_sources", lambda: sources)
    return [code_of(path, "numpy") for path in NOTEBOOKS]


@pytest.mark.slow
def test_a_moved_file_a_rename_a_message_and_a_function_beside_change_no_notebook(monkeypatch):
    before = identities(monkeypatch, SOURCES)
    moved = {
        name.replace("srlib.kernels.rule", "srlib.fast.rules"): text.replace("srlib.kernels.rule", "srlib.fast.rules")
        for name, text in SOURCES.items()
    }
    moved["srlib.fast"] = ""
    renamed = SOURCES | {
        name: text.replace("make_rule", "rule_of").replace("draw_words", "some_words") for name, text in SOURCES.items()
    }
    said = SOURCES["srlib.philox"].replace("must be", "should be")
    assert said != SOURCES["srlib.philox"]
    beside = SOURCES | {
        name: f"{text}\n\ndef beside():\n    return 1\n" for name, text in SOURCES.items() if name != "srlib"
    }
    for sources in (moved, renamed, SOURCES | {"srlib.philox": said}, beside):
        assert identities(monkeypatch, sources) == before


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


@pytest.mark.slow
@pytest.mark.parametrize(("name", "old", "new"), [(name, *pair) for name, pairs in PLANTED.items() for pair in pairs])
def test_a_threshold_or_a_constant_of_a_kernel_changes_every_notebook(monkeypatch, name, old, new):
    text = SOURCES[f"srlib.{name}"]
    assert old in text
    before = identities(monkeypatch, SOURCES)
    after = identities(monkeypatch, SOURCES | {f"srlib.{name}": text.replace(old, new)})
    assert all(a != b for a, b in zip(before, after, strict=True))


def test_the_code_behind_a_notebook_is_told_by_module(tmp_path):
    assert code_behind(notebook(tmp_path, "from srlib import Format\nFormat"), "numpy").keys() == {"checks", "formats"}
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


def test_the_code_behind_a_notebook_has_names_in_full(tmp_path, monkeypatch):
    """What is reached anew has no effect on what stands for the rest."""
    before = code_behind(notebook(tmp_path), "numpy")
    changed = SOURCES["srlib.rounding"].replace(
        "\ndef round_to(", "\ndef beside(): return 1\n\n\n@beside\ndef round_to("
    )
    assert changed != SOURCES["srlib.rounding"]
    monkeypatch.setattr(module, "_sources", lambda: SOURCES | {"srlib.rounding": changed})
    after = code_behind(notebook(tmp_path), "numpy")
    assert {name for name in before if before[name] != after[name]} == {"rounding"}


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


def decorators(node):
    return getattr(node, "decorator_list", ())


def names_bound_by(node):
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return [node.name]
    if isinstance(node, ast.Import | ast.ImportFrom):
        return [alias.asname or alias.name for alias in node.names]
    binding = [part for part in ast.walk(node) if isinstance(part, ast.Assign | ast.AnnAssign | ast.AugAssign)]
    targets = [target for part in binding for target in getattr(part, "targets", [getattr(part, "target", None)])]
    stored = [part for target in targets for part in ast.walk(target) if isinstance(part, ast.Name)]
    return {part.id for part in stored if isinstance(part.ctx, ast.Store)}


def test_the_package_has_nothing_that_hides_what_it_reaches():
    """No names made of text, or bound in a function or twice; nothing imported as a whole or from beside."""
    hiding = {"globals", "import_module", "__import__", "eval", "exec", "vars", "locals"}
    running = ("srlib.batch", "srlib.cli")  # which no notebook imports
    for name, text in SOURCES.items():
        if name.startswith(running):
            continue
        tree = ast.parse(text)
        aliases = [alias for node in ast.walk(tree) for alias in getattr(node, "names", ()) if hasattr(alias, "asname")]
        modules = {alias.asname or alias.name for alias in aliases if f"srlib.{alias.name}" in SOURCES} | {"srlib"}
        read = [node for node in tree.body if not any("overload" == getattr(d, "id", "") for d in decorators(node))]
        bound = [target for node in read for target in names_bound_by(node)]
        assert len(bound) == len(set(bound)), name
        for node in ast.walk(tree):
            assert not isinstance(node, ast.Global), name
            if isinstance(node, ast.ImportFrom):
                assert all(alias.name != "*" for alias in node.names) and (node.level == 0 or name == "srlib"), name
            if isinstance(node, ast.Name | ast.Attribute):
                assert getattr(node, "id", getattr(node, "attr", None)) not in hiding, name
            match node:
                case ast.Call(ast.Name("getattr" | "setattr"), [ast.Name(given), *_]):
                    assert given not in modules, name


@pytest.mark.slow
def test_identities_can_be_made_in_several_threads():
    """CPython 3.11 cannot make two syntax trees at once."""
    code = "\n".join(f"def f{k}(x):\n    return [x + {k} for _ in range(x)]" for k in range(500))
    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(lambda i: forms({"p.m": f"{code}\n# {i}"}, "import p\np"), range(16)))) == 1


@pytest.mark.slow
def test_every_notebook_reaches_the_kernels_that_it_needs():
    for path in NOTEBOOKS:
        assert {"kernels.cpu", "rounding", "formats"} <= code_behind(path, "numpy").keys(), path.stem
        assert read_notebook(path).figures
