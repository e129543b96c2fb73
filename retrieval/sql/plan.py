"""From a statement to what is to be done with a version's rows, checked against one caller's columns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

import polars as pl

from retrieval.filter import CompiledFilter, FilterSchema, schema_of
from retrieval.policies import Sight
from retrieval.sql.grouped import GroupPlan, groups_plan, is_grouped
from retrieval.sql.outputs import entries_of
from retrieval.sql.parameters import Parameters, Searched, search_of, window_of
from retrieval.sql.rowwise import RowPlan, rows_plan
from retrieval.sql.scope import Scope
from retrieval.sql.statement import Statement
from retrieval.version import OpenVersion


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class SqlPlan:
    """Which rows (``where`` and ``searched``), what of them (``select``), and which part of that.

    ``columns`` are the stored columns, ``limit`` is None without LIMIT.
    """

    columns: FilterSchema

    where: CompiledFilter | None
    searched: Searched | None
    select: RowPlan | GroupPlan
    offset: int
    limit: int | None


def plan_of(
    statement: Statement, version: OpenVersion, sight: Sight, params: Mapping[str, object], now: datetime, skip: int
) -> SqlPlan:
    """Plan ``statement`` for who sees ``sight``, but for the first ``skip`` rows; raises FilterError for mistakes."""
    parameters = Parameters(statement, params)
    columns = _columns(version)
    scope = Scope(statement, parameters, schema=columns, sight=sight, now=now)
    where = _where(statement, scope)
    entries = entries_of(statement, scope)
    planned = groups_plan if is_grouped(statement, entries) else rows_plan
    select = planned(statement, scope, entries)
    offset, limit = window_of(statement, parameters)
    searched = search_of(statement, parameters)
    parameters.refuse_unused()
    return SqlPlan(columns=columns, where=where, searched=searched, select=select, offset=offset + skip, limit=limit)


def _where(statement: Statement, scope: Scope) -> CompiledFilter | None:
    if statement.condition is None:
        return None
    condition = scope.resolved(statement.condition)
    scope.refuse_unreadable(condition)
    return scope.filter_of(scope.condition(condition, scope.schema))


def _columns(version: OpenVersion) -> FilterSchema:
    """Return the stored columns; of a collection without rows all that is known is their names."""
    if version.schema:
        return version.filter_schema
    return schema_of(dict.fromkeys(version.spec.stored_columns, pl.Null()), version.spec.text.fields)
