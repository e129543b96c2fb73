"""The plan of a statement that shows groups of rows.

What is grouped by, and each aggregate, is a column of the table of groups. In the trees of what is selected, ordered by
and asked of groups that column takes its place; what then still names a column of rows is neither, and refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import polars as pl
from sqlglot import exp

from retrieval.filter import FilterSchema
from retrieval.filter.check import a
from retrieval.filter.sqltypes import Kind, SqlType, schema_of, working_dtype
from retrieval.sql.aggregates import KINDS, Aggregate, aggregate_of
from retrieval.sql.outputs import Entry, Order, Output, aliases_of, named_by, orders_of
from retrieval.sql.scope import Scope, columns_of
from retrieval.sql.statement import Statement, function_name, refused

CONSTANTS = (exp.Literal, exp.Boolean, exp.Null, exp.Placeholder)
"""What is the same in every group, and stays as it is: a pattern or an interval that is a column would not be one."""


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class GroupPlan:
    """How rows become groups, and what to show of each.

    ``keys`` and ``arguments`` are over rows, which need the stored columns ``reads``; ``aggregates`` over the arguments
    of a group; ``having``, ``order`` and ``outputs`` over keys and aggregates, which have these names.
    """

    keys: Mapping[str, pl.Expr]
    arguments: Mapping[str, pl.Expr]
    aggregates: Mapping[str, Aggregate]
    having: pl.Expr | None
    outputs: Sequence[Output]
    order: Sequence[Order]
    reads: frozenset[str]


def is_grouped(statement: Statement, entries: Sequence[Entry]) -> bool:
    """Say whether the statement is about groups."""
    if statement.distinct or statement.group is not None or statement.having is not None:
        return True
    return any(has_aggregate(entry.node) for entry in entries)


def has_aggregate(node: exp.Expr) -> bool:
    """Say whether there is an aggregate in ``node``."""
    return node.find(*KINDS) is not None


def groups_plan(statement: Statement, scope: Scope, entries: Sequence[Entry]) -> GroupPlan:
    """Plan a statement about groups; raises FilterError."""
    planner = _Planner(scope)
    for node in _grouped_by(statement, scope, entries):
        planner.add_key(node)
    outputs = []
    for entry in entries:
        kind, expression = planner.value(entry.node)
        outputs.append(Output.of_value(entry.name, kind, expression))
    order = orders_of(statement, scope, entries, lambda node: planner.value(node)[1])
    having = None
    if statement.having is not None:
        having = planner.condition(scope.resolved(statement.having, aliases_of(entries)))
    return GroupPlan(
        keys=planner.keys,
        arguments=planner.arguments,
        aggregates=planner.aggregates,
        having=having,
        outputs=outputs,
        order=order,
        reads=frozenset(planner.read),
    )


def _grouped_by(statement: Statement, scope: Scope, entries: Sequence[Entry]) -> list[exp.Expr]:
    if statement.distinct:
        if statement.group is not None or any(has_aggregate(entry.node) for entry in entries):
            raise refused(scope.parsed, scope.parsed.tree, "DISTINCT and groups do not go together: leave DISTINCT out")
        return [entry.node for entry in entries]
    if statement.group == ():
        return [entry.node for entry in entries if not has_aggregate(entry.node)]
    return [named_by(scope, entries, node, alias_first=False) for node in statement.group or ()]


class _Planner:
    def __init__(self, scope: Scope) -> None:
        self._scope = scope
        self._known: dict[exp.Expr, str] = {}
        self._dtypes: dict[str, pl.DataType] = {}
        self.keys: dict[str, pl.Expr] = {}
        self.arguments: dict[str, pl.Expr] = {}
        self.aggregates: dict[str, Aggregate] = {}
        self.read: set[str] = set()

    def add_key(self, node: exp.Expr) -> None:
        scope, node = self._scope, node.unnest()
        if has_aggregate(node):
            raise refused(scope.parsed, node, "an aggregate is over groups, and cannot make them")
        scope.refuse_unreadable(node)
        tree = scope.value(node, scope.found)
        if tree.type.kind is Kind.ARRAY:
            message = f"{scope.parsed.snippet(node)} is {a(tree.type)}: it cannot be grouped by"
            raise refused(scope.parsed, node, message, code="filter_type")
        self.read |= columns_of(tree)
        name = self._named(node, tree.type)
        expression = scope.expression(tree)
        self.keys[name] = expression + 0.0 if tree.type.kind is Kind.FLOAT else expression  # -0.0 is shown as 0.0

    def value(self, node: exp.Expr) -> tuple[SqlType, pl.Expr]:
        tree = self._scope.value(self._over_groups(node), self._groups)
        return tree.type, self._scope.expression(tree)

    def condition(self, node: exp.Expr) -> pl.Expr:
        return self._scope.expression(self._scope.condition(self._over_groups(node), self._groups))

    @property
    def _groups(self) -> FilterSchema:
        return schema_of(self._dtypes)

    def _named(self, node: exp.Expr, kind: SqlType) -> str:
        name = self._known[node.copy()] = f"\0{len(self._dtypes)}"
        exact = kind.kind is Kind.DECIMAL  # reckoned in 38 digits; how many there can be is for its type
        self._dtypes[name] = pl.Decimal(kind.whole + kind.scale, kind.scale) if exact else working_dtype(kind)
        return name

    def _over_groups(self, node: exp.Expr) -> exp.Expr:
        """Return ``node`` with the columns of the table of groups in it."""

        def swap(part: exp.Expr) -> exp.Expr:
            name = None if isinstance(part, CONSTANTS) else self._known.get(part)
            if name is None and isinstance(part, KINDS):
                name = self._add_aggregate(part)
            if name is not None:
                return self._scope.parsed.in_place_of(part, exp.column(exp.to_identifier(name, quoted=True)))
            if isinstance(part, exp.Filter):
                hint = "write sum(CASE WHEN ... THEN 1 ELSE 0 END)"
                raise refused(self._scope.parsed, part, "FILTER is not allowed", hint)
            if isinstance(part, exp.Window):
                raise refused(self._scope.parsed, part, "window functions are not allowed")
            if isinstance(part, exp.Column) or function_name(part) == "score":
                message = f"{part.name} is neither grouped by nor in an aggregate"
                hint = "add it to GROUP BY, or take min, max or another aggregate of it"
                raise refused(self._scope.parsed, part, message, hint)
            return part

        return node.copy().transform(swap, copy=False)

    def _add_aggregate(self, node: exp.Expr) -> str:
        self._scope.refuse_unreadable(node)
        aggregate = aggregate_of(self._scope, node, self._scope.found)
        name = self._named(node, aggregate.type)
        if aggregate.argument is not None:
            self.read |= columns_of(aggregate.argument)
            self.arguments[name] = self._scope.expression(aggregate.argument).cast(aggregate.dtype)
        self.aggregates[name] = aggregate
        return name
