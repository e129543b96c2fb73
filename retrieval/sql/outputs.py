"""What a statement shows and by what it orders, whether of rows or of groups."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import polars as pl
from sqlglot import exp

from retrieval.filter.sqltypes import Kind, SqlType
from retrieval.sql.scope import Scope
from retrieval.sql.statement import Statement, function_name, refused

Reading = Literal["value", "column", "text", "passage"]


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Output:
    """A column of the answer.

    A ``value`` is what ``expression`` gives; a stored ``column`` or ``text`` field, ``source``, is shown as it is, or
    masked; a ``passage`` is a hit's best chunk.
    """

    name: str
    type: str
    reading: Reading
    expression: pl.Expr | None = None
    source: str = ""

    @classmethod
    def of_value(cls, name: str, kind: SqlType, expression: pl.Expr) -> Output:
        """Return the output of a value in its working type; times are told in UTC."""
        if kind.kind is Kind.TIMESTAMP:
            expression = expression.dt.replace_time_zone("UTC")
        return cls(name=name, type=str(kind), reading="value", expression=expression)


def in_utc(column: pl.Series) -> pl.Series:
    """Return a stored column as it is shown: times in UTC, which is what those without a zone are taken for."""
    if not isinstance(column.dtype, pl.Datetime):
        return column
    return column.dt.convert_time_zone("UTC") if column.dtype.time_zone else column.dt.replace_time_zone("UTC")


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Order:
    """An expression to order by."""

    expression: pl.Expr
    descending: bool
    nulls_first: bool


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Entry:
    """One thing that is selected, its names resolved unless it is a text field."""

    name: str
    node: exp.Expr
    aliased: bool = False


def entries_of(statement: Statement, scope: Scope) -> list[Entry]:
    """Return what is selected, with ``*`` written out: the stored columns, then the text fields."""
    entries: list[Entry] = []
    for item in statement.items:
        if item.is_star:
            for name in (*scope.schema.by_name, *scope.text_fields):
                column = exp.column(exp.to_identifier(name, quoted=True))
                entries.append(Entry(name=name, node=scope.parsed.in_place_of(item.node, column)))
            continue
        node = item.node if scope.text_field(item.node) else scope.resolved(item.node)
        name = item.name if item.aliased else _name_of(scope, node) or item.name
        entries.append(Entry(name=name, node=node, aliased=item.aliased))
    return entries


def aliases_of(entries: Sequence[Entry]) -> Mapping[str, exp.Expr]:
    """Return what the aliases stand for, in small letters; of two that are the same, the first."""
    return {entry.name.casefold(): entry.node for entry in reversed(entries) if entry.aliased}


def named_by(scope: Scope, entries: Sequence[Entry], node: exp.Expr, *, alias_first: bool) -> exp.Expr:
    """Return what an entry of ORDER BY or GROUP BY is about: the nth of SELECT, an alias, or an expression."""
    if isinstance(node, exp.Literal) and not node.args.get("is_string"):
        text = node.name
        if not (text.isascii() and text.isdigit() and 1 <= int(text) <= len(entries)):
            message = f"there is no entry {text} in SELECT, which has {len(entries)}"
            raise refused(scope.parsed, node, message, code="filter_value")
        return entries[int(text) - 1].node.copy()
    return scope.resolved(node, aliases_of(entries), alias_first=alias_first)


def orders_of(
    statement: Statement, scope: Scope, entries: Sequence[Entry], expression: Callable[[exp.Expr], pl.Expr]
) -> list[Order]:
    """Return what ``statement`` orders by, each made by ``expression`` of its node."""
    return [
        Order(
            expression=expression(named_by(scope, entries, ordering.node, alias_first=True)),
            descending=ordering.descending,
            nulls_first=ordering.nulls_first,
        )
        for ordering in statement.order
    ]


def _name_of(scope: Scope, node: exp.Expr) -> str | None:
    if isinstance(node, exp.Column):
        return scope.text_field(node) or node.name
    return function_name(node)
