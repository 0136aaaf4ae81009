"""Which definitions some code reaches, and each of them in a form without what cannot alter numbers."""

import ast
import builtins
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache

from srlib.companion.notebook import parse_code

_FUNCTIONS = ast.FunctionDef | ast.AsyncFunctionDef
_COMPREHENSIONS = ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp
_IMPORTS = ast.Import | ast.ImportFrom
_STATEMENTS, _ALL = "", "*"  # in place of a name: what a module does when it is imported; all that it holds


@dataclass
class _Scope:
    """Names that a function, a comprehension, a class or a module binds: what an import stands for, None for others."""

    names: Mapping[str, list[str] | None]
    outer: "_Scope | None" = None
    of_class: bool = False


@dataclass
class _Module:
    name: str
    scope: _Scope
    bindings: dict = field(default_factory=dict)  # by name, pairs of context and statement
    statements: list = field(default_factory=list)  # such pairs


class Reach:
    """The definitions of a package that code reaches, in the order in which a walk meets them.

    A name stands for every binding that it has in its module. Imports are followed to the definition, those inside
    functions too; a class counts as a whole. What a decorator registers, and statements of a module that bind no name,
    count as soon as anything of their module is reached. Of modules used as objects everything counts, unless they are
    compared with None.

    Forms are syntax trees, where comments and layout are none, without docstrings, annotations of functions, methods of
    rich display, and the arguments of built-in exceptions that are raised and of warnings. A name that stands for a
    definition is what that is called in full if `named`; else it is a place in a list of numbers, in the order of the
    walk, that comes with the form. Names from outside the package are in full. Forms are the same for all versions of
    Python.

    Parameters
    ----------
    sources : mapping
        Code of all modules, by their full names.
    ignored : sequence of str
        Modules and packages whose definitions are not followed.
    named : bool
    """

    def __init__(self, sources: Mapping[str, str], ignored: Sequence[str] = (), named: bool = False):
        self._package = _package(tuple(sources.items()), tuple(ignored), named)
        self._numbers: dict[tuple[str, str], int] = {}
        self._met: set[str] = set()

    def notebook(self, code: str) -> list:
        """Return the form of code that is run from top to bottom; the walk starts with what it reaches."""
        body = _tree(code).body
        return self._numbered(*_Form(self._package, None, _Scope(_names(body))).of(body))

    def definitions(self) -> list:
        """Return the forms of all definitions that have been reached, in their order."""
        forms: list = []
        while len(forms) < len(self._numbers):
            forms.append(self._numbered(*self._package.form(*self.keys()[len(forms)])))
        return forms

    def keys(self) -> list[tuple[str, str]]:
        """Return module and name of the definitions met so far; what a module does at its import has no name."""
        return list(self._numbers)

    def imports(self, module: str) -> dict[str, list[str]]:
        """Return what the names stand for that a module imports."""
        return {name: targets for name, targets in self._package.module(module).scope.names.items() if targets}

    def _numbered(self, form, references):
        numbers = [self._number(*key) for key in references]
        return form if self._package.named else [form, numbers]

    def _number(self, module, name):
        """Return the number of a definition; what its module does at its import is reached with it."""
        key = module, name
        if key not in self._numbers:
            self._numbers[key] = len(self._numbers)
            parts = module.split(".")
            for imported in (".".join(parts[:end]) for end in range(len(parts), 0, -1)):
                if imported not in self._met:
                    self._met.add(imported)
                    for other in self._package.at_import(imported):
                        self._number(imported, other)
        return self._numbers[key]


class _Package:
    """The modules of a package: what names stand for in them, and the forms of their definitions, each made once."""

    def __init__(self, sources, ignored, named):
        self.sources, self._ignored, self.named = dict(sources), ignored, named
        self.form, self.at_import = cache(self._form), cache(self._at_import)

    def module(self, name):
        return _module(name, self.sources[name])

    def _form(self, module, name):
        """Return the form of a definition, and the keys of the definitions that it refers to."""
        found = self.module(module)
        pairs = found.statements if name == _STATEMENTS else found.bindings[name]
        return _Form(self, found, found.scope).of([[*context, statement] for context, statement in pairs])

    def _at_import(self, module):
        """Return what is reached with anything of a module: its statements, and definitions that are registered."""
        found = self.module(module)
        names = [_STATEMENTS] if found.statements else []
        for name, pairs in found.bindings.items():
            decorators = [decorator for _, node in pairs for decorator in getattr(node, "decorator_list", ())]
            if any(self._registers(decorator, found) for decorator in decorators):
                names.append(name)
        return names

    def _registers(self, decorator, module):
        """Tell whether a decorator is given anything but constants, or is itself an attribute of a definition."""
        given: list = []
        if isinstance(decorator, ast.Call):
            given, decorator = [*decorator.args, *decorator.keywords], decorator.func
        if any(isinstance(node, ast.Name) for argument in given for node in ast.walk(argument)):
            return True
        root, attributes = _chain(decorator)
        own = self.resolve(module.scope, module, root, attributes) if root is not None else ()
        return any(kind == "definition" and rest for kind, _, rest in own)

    def resolve(self, scope, module, name, attributes):
        """Yield all that a name with attributes may stand for: kind, what it is, and the attributes that are left."""
        while scope.outer is not None:
            if name in scope.names:
                targets = scope.names[name]
                if targets:
                    yield from self._follow_all(targets, attributes)
                    return
                yield "local", name, attributes
                if not scope.of_class:  # before a class binds a name, it is that from around
                    return
            scope = scope.outer
            while scope.of_class:
                scope = scope.outer
        if name not in scope.names:
            yield "builtin", name, attributes
            return
        yield from self._follow_all(scope.names[name] or (), attributes)
        if module is None:
            if not scope.names[name]:
                yield "local", name, attributes
        elif name in module.bindings:
            yield "definition", (module.name, name), attributes

    def _follow_all(self, targets, attributes):
        for target in targets:
            yield from self._follow(target.split("."), attributes)

    def _follow(self, parts, attributes, seen=frozenset()):
        """Yield what a dotted name stands for, from the package down."""
        parts = [*parts, *attributes]
        if parts[0] not in self.sources:
            yield "external", ".".join(parts), ()
            return
        module = parts[0]
        for i, part in enumerate(parts[1:], 1):
            if self.is_ignored(module):
                break
            found = self.module(module)
            if part in found.scope.names and (module, part) not in seen:
                for target in found.scope.names[part] or ():
                    yield from self._follow(target.split("."), parts[i + 1 :], seen | {(module, part)})
                if part in found.bindings:
                    yield "definition", (module, part), tuple(parts[i + 1 :])
                return
            if f"{module}.{part}" not in self.sources:  # nothing that is seen here: anything of it may be meant
                yield "module", module, tuple(parts[i:])
                return
            module = f"{module}.{part}"
        yield ("ignored" if self.is_ignored(module) else "module"), module, ()

    def is_ignored(self, module):
        return any(module == name or module.startswith(f"{name}.") for name in self._ignored)


@cache
def _package(sources, ignored, named):
    return _Package(sources, ignored, named)


class _Form:
    """The form of a part of a module, or of a notebook's code, and the definitions that it refers to."""

    def __init__(self, package: _Package, module: _Module | None, scope: _Scope):
        self._package, self._module, self._scope = package, module, scope
        self._places: dict[tuple[str, str], int] = {}

    def of(self, nodes: list) -> tuple[list, list[tuple[str, str]]]:
        """Return the form of syntax trees, and module and name of each definition in the order of its places."""
        return self._plain(nodes, self._scope), list(self._places)

    def _place(self, module, name):
        place = self._places.setdefault((module, name), len(self._places))
        return f"{module}.{name}" if self._package.named else place

    def _whole(self, module):
        """Refer to all of a module and of those below it; return their names, by which it may be asked for."""
        if module.partition(".")[0] not in self._package.sources:
            return module
        names = [name for name in sorted(self._package.sources) if name == module or name.startswith(f"{module}.")]
        return [
            [binding, self._place(name, binding)]
            for name in names
            if not self._package.is_ignored(name)
            for binding in self._package.module(name).bindings
        ]

    def _reference(self, scope, name, attributes, only_bound=False):
        """Return the form of a name with attributes; of one that is bound here, not what else it may stand for."""
        found: list = []
        for kind, what, rest in self._resolve(scope, name, attributes):
            if only_bound and kind not in ("definition", "local"):
                continue
            if kind == "definition":
                what = self._place(*what)
            elif kind == "module":
                what = self._whole(what)
            elif kind == "ignored":
                what = what if self._package.named else _ALL
            found.append([kind, what, *rest])
        return found

    def _resolve(self, scope, name, attributes):
        return self._package.resolve(scope, self._module, name, attributes)

    def _plain(self, node, scope):
        """Return a syntax tree as lists and text, without the fields that are empty or that not all versions have."""
        if isinstance(node, list):
            parts = [self._plain(item, scope) for item in node]
            return [part for part in parts if part is not None]
        if not isinstance(node, ast.AST):
            return repr(node)
        root, attributes = _chain(node)
        if root is not None:
            return self._reference(scope, root, attributes, only_bound=_is_bound(node))
        inner = {}
        match node:
            case ast.Import() | ast.ImportFrom():
                return [self._whole(target) for target in _stars([node])] or None
            case ast.Compare(ast.Name(name), [ast.Is() | ast.IsNot()], [ast.Constant(None)]):
                kinds = {kind for kind, *_ in self._resolve(scope, name, ())}
                if "module" in kinds:
                    return ["module compared with None", type(node.ops[0]).__name__]
            case ast.Raise(ast.Call(ast.Name(name)) as call) if self._is_builtin_error(name, scope):
                node = ast.Raise(ast.Call(call.func, [], []), node.cause)
            case ast.Assert():
                node = ast.Assert(node.test, None)
            case ast.Call(function, [_, *others], keywords) if self._is_warning(function, scope):
                node = ast.Call(function, others, keywords)
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.Lambda():
                inner = {"body": _Scope(_inside(node), scope)}
            case ast.ClassDef():
                inner = {"body": _Scope(_inside(node), scope, of_class=True)}
            case ast.ListComp() | ast.SetComp() | ast.DictComp() | ast.GeneratorExp():
                return self._comprehension(node, scope)
        return self._fields(node, scope, inner)

    def _fields(self, node, scope, inner):
        fields = {}
        for name, value in ast.iter_fields(node):
            if name == "name" and self._module is not None and scope is self._module.scope and isinstance(value, str):
                form = self._reference(scope, value, ())  # of a definition, which may be renamed
            else:
                form = self._plain(value, inner.get(name, scope))
            if form not in (None, [], "None"):
                fields[name] = form
        return [type(node).__name__, dict(sorted(fields.items()))]

    def _comprehension(self, node, scope):
        """Return the form of a comprehension, whose first iterable is evaluated outside."""
        inside = _Scope(_inside(node), scope)
        first = self._plain(node.generators[0].iter, scope)
        fields = {name: self._plain(value, inside) for name, value in ast.iter_fields(node)}
        return [type(node).__name__, first, dict(sorted(fields.items()))]

    def _is_builtin_error(self, name, scope):
        kinds = {kind for kind, *_ in self._resolve(scope, name, ())}
        return kinds == {"builtin"} and hasattr(builtins, name) and name != "StopIteration"

    def _is_warning(self, function, scope):
        root, attributes = _chain(function)
        if root is None:
            return False
        return ("external", "warnings.warn", ()) in self._resolve(scope, root, attributes)


class _Strip(ast.NodeTransformer):
    def visit_FunctionDef(self, node):
        if any(isinstance(decorator, ast.Name) and decorator.id == "overload" for decorator in node.decorator_list):
            return None  # type checkers alone read it
        node.returns = None
        return self.visit_body(node)

    visit_AsyncFunctionDef = visit_FunctionDef

    def visit_arg(self, node):
        node.annotation = None
        return node

    def visit_body(self, node):
        match node.body:
            case [ast.Expr(ast.Constant(str())), *rest]:
                node.body = rest
        return self.generic_visit(node)

    def visit_ClassDef(self, node):
        shown = [part for part in node.body if isinstance(part, _FUNCTIONS) and part.name.startswith("_repr_")]
        node.body = [part for part in node.body if part not in shown]
        return self.visit_body(node)

    visit_Module = visit_body


@cache
def _tree(source):
    return _Strip().visit(parse_code(source))


@cache
def _module(name, source):
    body = _tree(source).body
    found = _Module(name, _Scope(_names(body, name)))
    for context, statement in _flat(body, ()):
        for bound in _names([statement]) if context else _bound_by(statement):
            found.bindings.setdefault(bound, []).append((context, statement))
        if not _only_binds(statement):
            found.statements.append((context, statement))
    for statement in body:  # names that a condition or a handler of exceptions binds
        for bound in _bound_by(statement):
            found.bindings.setdefault(bound, [((), statement)])
    return found


def _bound_by(statement):
    return [name for name, targets in _names([statement]).items() if not targets]


def _only_binds(statement):
    """Tell whether all that a statement does is to bind names."""
    if isinstance(statement, _IMPORTS):
        return all(alias.name != _ALL for alias in statement.names)
    if isinstance(statement, ast.Assign | ast.AnnAssign | ast.AugAssign):
        targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
        inside = [part for target in targets for part in ast.walk(target)]
        return not any(isinstance(part, ast.Attribute | ast.Subscript) for part in inside)
    return isinstance(statement, ast.Pass | ast.ClassDef | _FUNCTIONS)


def _flat(body, context) -> Iterator[tuple]:
    """Yield the statements inside those with branches, each with what decides whether it is run."""
    for node in body:
        match node:
            case ast.If(test, first, second):
                yield from _flat(first, (*context, test))
                yield from _flat(second, (*context, ast.UnaryOp(ast.Not(), test)))
            case ast.Try(first, handlers, otherwise, last):
                caught = [handler.type for handler in handlers if handler.type]
                yield from _flat([*first, *otherwise, *last], (*context, *caught))
                for handler in handlers:
                    yield from _flat(handler.body, (*context, *([handler.type] if handler.type else [])))
            case _:
                yield context, node


def _chain(node):
    """Return the name and the attributes of `name.a.b`; None for the name if it is nothing like that."""
    attributes: list[str] = []
    while isinstance(node, ast.Attribute):
        attributes.insert(0, node.attr)
        node = node.value
    return (node.id, tuple(attributes)) if isinstance(node, ast.Name) else (None, ())


def _is_bound(node):
    return isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load)


@cache
def _inside(node):
    """Return the names that a function, a class or a comprehension binds inside, as `_names` does."""
    if isinstance(node, _COMPREHENSIONS):
        return _names([generator.target for generator in node.generators])
    names = _names(node.body) if isinstance(node.body, list) else {}
    if isinstance(node, ast.ClassDef):
        return names
    given = node.args
    every = [*given.posonlyargs, *given.args, *given.kwonlyargs, given.vararg, given.kwarg]
    return {argument.arg: None for argument in every if argument is not None} | names


def _names(body, module="") -> dict:
    """Return the names that statements bind in their scope, with what they stand for if they are imported."""
    found: dict[str, list[str] | None] = {}
    elsewhere: set[str] = set()
    for name, target in _bound(body, module):
        if name is None:
            elsewhere.add(target)
        elif target is None:
            found.setdefault(name, None)
        else:
            found[name] = [*(found.get(name) or ()), target]
    return {name: targets for name, targets in found.items() if name not in elsewhere}


def _bound(nodes, module):
    """Yield name and target of each binding in a scope; no name, and the target, for what is declared global."""
    for node in nodes:
        inside: list = list(ast.iter_child_nodes(node))
        match node:
            case ast.FunctionDef(name) | ast.AsyncFunctionDef(name) | ast.ClassDef(name):
                yield name, None
                inside = node.decorator_list
            case ast.Lambda():
                inside = []
            case ast.ListComp() | ast.SetComp() | ast.DictComp() | ast.GeneratorExp():
                inside = [part for part in ast.walk(node) if isinstance(part, ast.NamedExpr)]
            case ast.Import(aliases):
                for alias in aliases:
                    first = alias.name.partition(".")[0]
                    yield alias.asname or first, alias.name if alias.asname else first
            case ast.ImportFrom():
                home = _home(node, module)
                for alias in node.names:
                    if alias.name != _ALL:
                        yield alias.asname or alias.name, f"{home}.{alias.name}"
            case ast.Name(name, ast.Store() | ast.Del()):
                yield name, None
            case ast.ExceptHandler(_, str(name)) | ast.MatchAs(_, str(name)) | ast.MatchStar(str(name)):
                yield name, None
            case ast.MatchMapping(rest=str(name)):
                yield name, None
            case ast.Global(names) | ast.Nonlocal(names):
                for name in names:
                    yield None, name
        yield from _bound(inside, module)


def _home(node, module):
    """Return the full name of the module that is imported from; relative ones are of a package's stub, or beside."""
    if node.level == 0:
        return node.module
    parts = module.split(".")
    base = parts if len(parts) == 1 else parts[: len(parts) - node.level]
    return ".".join([*base, *([node.module] if node.module else [])])


def _stars(body):
    """Yield the modules of which everything is imported."""
    for node in body:
        if isinstance(node, ast.ImportFrom) and node.level == 0 and any(alias.name == _ALL for alias in node.names):
            yield node.module
