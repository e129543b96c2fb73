"""Which declared types the columns of a query have, as far as they come straight from a table or a cast.

DuckDB keeps TIMESTAMP_LTZ and TIMESTAMP_TZ in one type, VARIANT, OBJECT and ARRAY in one; the wire tells them apart.
"""

from __future__ import annotations

from collections.abc import Callable

from sqlglot import exp

from tests.snowflake.emulator.column import Column, ColumnType, declared
from tests.snowflake.emulator.travel import METADATA

Known = dict[str, list[Column]]
Lookup = Callable[[exp.Table], list[Column]]

_FUNCTIONS = {
    exp.CurrentDate: ColumnType("DATE"),
    exp.ParseJSON: ColumnType("VARIANT"),
    exp.JSONExtract: ColumnType("VARIANT"),
    exp.Array: ColumnType("ARRAY"),
    exp.Struct: ColumnType("OBJECT"),
}


def result_columns(query: exp.Expression, lookup: Lookup, ctes: Known | None = None) -> list[Column | None] | None:
    """Return a query's columns, None for each that DuckDB must tell; None when not even their number is known."""
    known = dict(ctes or {})
    with_ = query.args.get("with_")
    for cte in with_.expressions if with_ else []:
        columns = result_columns(cte.this, lookup, known)
        if columns is not None and all(columns):
            known[cte.alias] = [c for c in columns if c]
    if isinstance(query, (exp.Subquery, exp.Paren)):
        return result_columns(query.this, lookup, known)
    if isinstance(query, exp.SetOperation):
        return result_columns(query.this, lookup, known)
    if not isinstance(query, exp.Select):
        return None
    sources = _sources(query, lookup, known)
    columns = []
    for item in query.expressions:
        if not item.is_star:
            columns.append(_column(item, sources))
            continue
        expanded = _star(item, sources)
        if expanded is None:
            return None
        columns += expanded
    return columns


def _sources(query: exp.Select, lookup: Lookup, known: Known) -> dict[str, list[Column] | None]:
    sources: dict[str, list[Column] | None] = {}
    from_ = query.args.get("from_")
    for item in [*([from_.this] if from_ else []), *(join.this for join in query.args.get("joins") or [])]:
        if isinstance(item, exp.Table):
            columns = known[item.name] if not item.db and item.name in known else lookup(item)
            if item.args.get("changes"):
                columns = [*columns, *METADATA]
            sources[item.alias_or_name] = columns or None
        elif isinstance(item, exp.Subquery):
            inner = result_columns(item.this, lookup, known)
            sources[item.alias_or_name] = [c for c in inner if c] if inner and all(inner) else None
        else:
            sources[item.alias_or_name] = None
    return sources


def _star(item: exp.Expression, sources: dict[str, list[Column] | None]) -> list[Column | None] | None:
    star = item.this if isinstance(item, exp.Column) else item
    wanted = [item.table] if isinstance(item, exp.Column) else list(sources)
    if star.args.get("rename") or star.args.get("replace"):
        return None
    left_out = {e.name for e in star.args.get("except_") or []}
    columns: list[Column | None] = []
    for name in wanted:
        found = sources.get(name)
        if found is None:
            return None
        columns += [c for c in found if c.name not in left_out]
    return columns


def _column(item: exp.Expression, sources: dict[str, list[Column] | None]) -> Column | None:
    name = item.alias_or_name
    inner = item.this if isinstance(item, exp.Alias) else item
    if isinstance(inner, exp.Column):
        places = [sources.get(inner.table)] if inner.table else list(sources.values())
        for columns in places:
            for column in columns or []:
                if column.name == inner.name:
                    return Column(name, column.type, column.nullable)
        return None
    if isinstance(inner, (exp.Cast, exp.TryCast)):
        return Column(name, declared(inner.to))
    if isinstance(inner, exp.CurrentTimestamp):
        kind = "TIMESTAMP_NTZ" if inner.args.get("sysdate") else "TIMESTAMP_LTZ"
        return Column(name, ColumnType(kind, scale=9))
    if isinstance(inner, exp.UnixToTime) and isinstance(inner.args.get("target_type"), exp.DataType):
        return Column(name, declared(inner.args["target_type"]))
    for function, of in _FUNCTIONS.items():
        if isinstance(inner, function):
            return Column(name, of)
    if isinstance(inner, (exp.Min, exp.Max, exp.Coalesce, exp.Paren, exp.AnyValue)):
        found = _column(inner.this, sources)
        return Column(name, found.type) if found else None
    return None
