"""The checked form of a filter: a small typed tree with no SQL left in it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import polars as pl

from retrieval.filter.sqltypes import SqlType


@dataclass(frozen=True, slots=True)
class Place:
    """A stretch of the filter's text: the first character's offset, and the length in characters."""

    start: int
    length: int


NOWHERE = Place(0, 0)
"""The place of what no single stretch is to blame for."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column's value; `dtype` is how the frame stores it, `type` how the filter reads it."""

    name: str
    dtype: pl.DataType
    type: SqlType


@dataclass(frozen=True, slots=True)
class Constant:
    """A canonical value (see `values`)."""

    value: object
    type: SqlType


@dataclass(frozen=True, slots=True)
class Parameter:
    """A value bound later, at `slot` of the bound values.

    `convert` brings the given value to canonical form in `type`, or raises ValueError; `place` is for that error.
    `is_list`: the value is a list, and stands for its items in an IN.
    """

    slot: int
    name: str
    type: SqlType
    is_list: bool
    convert: Callable[[object], object]
    place: Place


@dataclass(frozen=True, slots=True)
class Now:
    """The request's time, as DATE or TIMESTAMP."""

    type: SqlType


@dataclass(frozen=True, slots=True)
class Call:
    """An operation on arguments; `options` are fixed, such as LIKE's escape character."""

    op: str
    args: tuple[Node, ...]
    type: SqlType
    options: tuple[Any, ...] = ()


Node = Column | Constant | Parameter | Now | Call


def canonical(node: Node) -> str:
    """Return one text for all filters of the same checked form: a cache key, not for reading."""
    if isinstance(node, Column):
        return f"[{node.name!r}]"
    if isinstance(node, Constant):
        return f"{node.type}:{node.value!r}"
    if isinstance(node, Parameter):
        return f":{node.slot}{'*' if node.is_list else ''}:{node.type}"
    if isinstance(node, Now):
        return f"now:{node.type}"
    inside = ",".join(map(canonical, node.args))
    return f"{node.op}{node.options or ''}({inside}):{node.type}"


def implied(node: Node, column: str) -> Node | None:
    """Return a condition on ``column`` alone that is true wherever the condition ``node`` is; None if there is none.

    Of what is joined by AND, one part is enough; of what is joined by OR, every part has to say something.
    """
    if _reads_only(node, column):
        return node
    if not isinstance(node, Call) or node.op not in ("and", "or"):
        return None
    parts = [implied(part, column) for part in node.args]
    told = tuple(part for part in parts if part is not None)
    if not told or (node.op == "or" and len(told) < len(parts)):
        return None
    return told[0] if len(told) == 1 else Call(node.op, told, node.type)


def _reads_only(node: Node, column: str) -> bool:
    if isinstance(node, Call):
        return all(_reads_only(part, column) for part in node.args)
    return not isinstance(node, Now) and (not isinstance(node, Column) or node.name == column)


def names_values(node: Node, column: str) -> bool:
    """Say whether the condition ``node`` is true of named values of ``column`` alone, given in it or as parameters.

    That is an equality, IN or LIKE of what is reckoned of that column; joined by AND one is enough, by OR all must be.
    """
    if not isinstance(node, Call):
        return False
    if node.op in ("and", "or"):
        return (any if node.op == "and" else all)(names_values(part, column) for part in node.args)
    if node.op not in ("=", "same", "in", "like", "starts_with"):
        return False
    reading = [part for part in node.args if _columns_of(part)]
    return len(reading) == 1 and _columns_of(reading[0]) == {column}


def _columns_of(node: Node) -> set[str]:
    if isinstance(node, Call):
        return set().union(*map(_columns_of, node.args))
    return {node.name} if isinstance(node, Column) else set()
