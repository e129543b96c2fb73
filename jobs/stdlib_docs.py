"""The demo's rows: the documentation of the standard library of the Python that runs this.

Python sources are read with :mod:`ast`, so that no module of the library is imported and none of their side effects
happens (``antigravity`` opens a browser, ``idlelib`` a window). The few modules that are written in C and that
everybody uses have no source to read; they are inspected.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import sys
import sysconfig
import types
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Literal

Kind = Literal["module", "class", "function", "method"]

# Not a library that one calls: test suites, an editor, parse tables, jokes.
LEFT_OUT = frozenset({"antigravity", "idlelib", "lib2to3", "pydoc_data", "test", "tests", "this", "turtledemo"})
# A hundred tables of character codes, each documented as "Python Character Mapping Codec".
SHALLOW = frozenset({"encodings"})
# Wholly or partly written in C and free of side effects.
INSPECTED = (
    *("array", "bisect", "builtins", "cmath", "collections", "csv", "datetime", "functools", "gc", "hashlib", "heapq"),
    *("io", "itertools", "math", "operator", "os", "random", "select", "signal", "struct", "sys", "time", "zlib"),
)


@dataclass(frozen=True, kw_only=True)
class DocRow:
    """One documented thing of the standard library.

    ``id`` is its dotted name, unique among the rows; ``name`` is that name within its module,
    ``summary`` the docstring's first paragraph on one line.
    """

    id: str
    name: str
    module: str
    kind: Kind
    signature: str
    parameters: tuple[str, ...]
    summary: str
    docstring: str


def collect() -> list[DocRow]:
    """Return every public module, class, function and method that has a docstring, sorted by id.

    A name defined twice (say, once per platform) is kept as it is defined first.
    """
    rows: dict[str, DocRow] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what the library's own sources warn of is not ours to report
        for row in chain(_from_sources(), _from_inspection()):
            rows.setdefault(row.id, row)
    return [rows[key] for key in sorted(rows)]


def read_source(module: str, source: str) -> Iterator[DocRow]:
    """Yield the rows of one module's source text, without running it.

    >>> [row.id for row in read_source("geometry", '''
    ... "Shapes."
    ... class Circle:
    ...     "A round shape."
    ...     def area(self, digits=2): "The surface."
    ...     def _hidden(self): "Not public."
    ... ''')]
    ['geometry', 'geometry.Circle', 'geometry.Circle.area']
    """
    try:
        tree = ast.parse(source)
    except SyntaxError:  # templates and deliberately bad sources lie beside the modules
        return
    yield from _row(module, module, "module", "", (), ast.get_docstring(tree))
    for node in tree.body:
        yield from _definition(module, module, node, inside_class=False)


def _from_sources() -> Iterator[DocRow]:
    for module, path in _sources(Path(sysconfig.get_path("stdlib"))):
        yield from read_source(module, path.read_text(encoding="utf-8", errors="replace"))


def _from_inspection() -> Iterator[DocRow]:
    for name in INSPECTED:
        yield from _inspect(importlib.import_module(name))


def _sources(root: Path) -> Iterator[tuple[str, Path]]:
    public = {name for name in sys.stdlib_module_names if not name.startswith("_")} - LEFT_OUT
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        if parts[-1] == "__init__":
            parts = parts[:-1]
        hidden = any(part.startswith("_") or part in LEFT_OUT for part in parts)
        shallow = len(parts) > 1 and parts[0] in SHALLOW
        if parts and parts[0] in public and not hidden and not shallow:
            yield ".".join(parts), path


def _definition(module: str, owner: str, node: ast.stmt, *, inside_class: bool) -> Iterator[DocRow]:
    if not isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) or node.name.startswith("_"):
        return
    name = f"{owner}.{node.name}"
    if isinstance(node, ast.ClassDef):
        bases = ", ".join(ast.unparse(base) for base in node.bases)
        yield from _row(name, module, "class", f"({bases})" if bases else "", (), ast.get_docstring(node))
        for inner in node.body:
            yield from _definition(module, name, inner, inside_class=True)
        return
    arguments = node.args
    named = [*arguments.posonlyargs, *arguments.args, arguments.vararg, *arguments.kwonlyargs, arguments.kwarg]
    parameters = tuple(argument.arg for argument in named if argument is not None)
    if inside_class and parameters[:1] in {("self",), ("cls",)}:
        parameters = parameters[1:]
    kind: Kind = "method" if inside_class else "function"
    yield from _row(name, module, kind, f"({ast.unparse(arguments)})", parameters, ast.get_docstring(node))


def _inspect(module: types.ModuleType) -> Iterator[DocRow]:
    name = module.__name__
    own = {name, f"_{name}", "posix", "nt", None}
    yield from _row(name, name, "module", "", (), inspect.getdoc(module))
    for member, value in sorted(vars(module).items()):
        if member.startswith("_") or getattr(value, "__module__", None) not in own:
            continue
        if inspect.isclass(value):
            yield from _row(f"{name}.{member}", name, "class", "", (), inspect.getdoc(value))
            for inner, method in sorted(vars(value).items()):
                if not inner.startswith("_") and callable(method):
                    yield from _callable(f"{name}.{member}.{inner}", name, "method", method)
        elif callable(value):
            yield from _callable(f"{name}.{member}", name, "function", value)


def _callable(dotted: str, module: str, kind: Kind, value: object) -> Iterator[DocRow]:
    try:
        signature = inspect.signature(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):  # many C functions tell only by their docstring
        yield from _row(dotted, module, kind, "(...)", (), inspect.getdoc(value))
        return
    parameters = tuple(name for name in signature.parameters if name not in {"self", "type"})
    yield from _row(dotted, module, kind, str(signature), parameters, inspect.getdoc(value))


def _row(
    dotted: str, module: str, kind: Kind, signature: str, parameters: tuple[str, ...], docstring: str | None
) -> Iterator[DocRow]:
    if not docstring or not docstring.strip():
        return
    yield DocRow(
        id=dotted,
        name=dotted.removeprefix(f"{module}."),
        module=module,
        kind=kind,
        signature=signature,
        parameters=parameters,
        summary=" ".join(docstring.strip().split("\n\n", 1)[0].split()),
        docstring=docstring.strip(),
    )
