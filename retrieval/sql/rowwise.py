"""The plan of a statement that shows rows as they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl
from sqlglot import exp

from retrieval.filter.sqltypes import Kind, SqlType, type_name
from retrieval.sql.outputs import Entry, Order, Output, orders_of
from retrieval.sql.scope import Scope, columns_of
from retrieval.sql.statement import Statement, function_name


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class RowPlan:
    """What to show of each row. ``orders`` and ``shows`` are the stored columns that ``order`` and ``outputs`` read."""

    outputs: Sequence[Output]
    order: Sequence[Order]
    orders: frozenset[str]
    shows: frozenset[str]


def rows_plan(statement: Statement, scope: Scope, entries: Sequence[Entry]) -> RowPlan:
    """Plan a statement without groups; raises FilterError."""
    planner = _Planner(scope, searches=statement.search is not None)
    outputs = [planner.output(entry) for entry in entries]
    shows, planner.read = planner.read, set()
    order = orders_of(statement, scope, entries, lambda node: planner.value(node)[1])
    return RowPlan(outputs=outputs, order=order, orders=frozenset(planner.read), shows=frozenset(shows))


class _Planner:
    def __init__(self, scope: Scope, *, searches: bool) -> None:
        self._scope = scope
        self._searches = searches
        self.read: set[str] = set()

    def output(self, entry: Entry) -> Output:
        text = self._scope.text_field(entry.node)
        if text:
            return Output(name=entry.name, type=Kind.STRING.value, reading="text", source=text)
        if function_name(entry.node) == "passage" and not entry.node.expressions and self._searches:
            return Output(name=entry.name, type=Kind.STRING.value, reading="passage")
        if isinstance(entry.node, exp.Column):
            return self._column(entry.name, entry.node.name)
        kind, expression = self.value(entry.node, is_computed=False)
        return Output.of_value(entry.name, kind, expression)

    def value(self, node: exp.Expr, *, is_computed: bool = True) -> tuple[SqlType, pl.Expr]:
        self._scope.refuse_unreadable(node)
        tree = self._scope.value(node, self._scope.found)
        self.read |= columns_of(tree)
        return tree.type, self._scope.expression(tree, is_computed=is_computed)

    def _column(self, name: str, column: str) -> Output:
        dtype = self._scope.schema.by_name[column]
        is_hash = self._scope.sight.masks.get(column) == "hash"
        shown = Kind.STRING.value if is_hash else type_name(dtype)
        self.read.add(column)
        return Output(name=name, type=shown, reading="column", source=column)
