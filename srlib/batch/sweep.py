"""What a sweep file or an option of the command asks for."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import ClassVar

from srlib.companion.notebook import literal


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
        node = yaml.compose(Path(path).read_text(encoding="utf-8"), _loader(yaml))
        content = None if node is None else _loader(yaml)("").construct_document(node)
    except (OSError, UnicodeDecodeError, ValueError, yaml.YAMLError) as error:
        raise ValueError(f"{path}: cannot be read as YAML ({str(error).splitlines()[0]})") from None
    allowed = ("notebooks", "profile", "backend", "parameters")
    if not isinstance(content, dict):
        raise ValueError(f"{path}: must be a mapping with keys among {', '.join(allowed)}")
    unknown = [key for key in content if key not in allowed]
    if unknown:
        raise ValueError(f"{path}: key {unknown[0]!r} is none of {', '.join(allowed)}")
    parameters = content.get("parameters") or {}
    if not isinstance(parameters, dict) or not all(isinstance(name, str) for name in parameters):
        raise ValueError(f"{path}: parameters must be a mapping of names to values")
    empty = [name for name, value in parameters.items() if value == []]
    if empty:
        raise ValueError(f"{path}: parameter {empty[0]!r} has no value")
    for name, value in parameters.items():
        if not _is_json(value):
            raise ValueError(f"{path}: parameter {name!r} is {value!r}; must be numbers, truth values, texts and lists")
    crossed = {name: value for name, value in parameters.items() if isinstance(value, list)}
    values = {name: value for name, value in parameters.items() if name not in crossed}
    names = _as_written(node, "notebooks", yaml.ScalarNode)
    return Sweep(names, content.get("profile"), content.get("backend"), values, crossed)


def _is_json(value):
    try:
        json.dumps(value)
    except (TypeError, ValueError):
        return False
    return True


@cache
def _loader(yaml):
    """Return a loader of YAML 1.2's core schema: 1e-3 is a number, and 01:30, 2026-11-30, yes and 1_000 are text."""

    class Loader(yaml.SafeLoader):
        yaml_implicit_resolvers: ClassVar[dict] = {}

        def construct_mapping(self, node, deep=False):
            keys = [key.value for key, _ in node.value]
            if twice := [key for key in keys if keys.count(key) > 1]:
                raise ValueError(f"key {twice[0]!r} is given twice")
            return super().construct_mapping(node, deep)

    for tag, pattern, first in (
        ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
        ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
        ("int", r"[-+]?[0-9]+", list("-+0123456789")),
        ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", list("-+.0123456789")),
        ("float", r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)", list("-+.")),
    ):
        Loader.add_implicit_resolver(f"tag:yaml.org,2002:{tag}", re.compile(f"(?:{pattern})$"), first)
    Loader.add_constructor("tag:yaml.org,2002:int", lambda loader, node: int(node.value))
    return Loader


def _as_written(node, key, scalar):
    """Return the texts of a list, or of one of its items, below a key of a mapping; 01 is no 1 there."""
    found = next((value for name, value in node.value if name.value == key), None)
    items = [] if found is None else [found] if isinstance(found, scalar) else found.value
    return tuple(item.value for item in items if item.value)
