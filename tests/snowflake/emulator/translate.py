"""From a folded Snowflake statement to DuckDB's SQL: time travel, clock and generators here, the rest by fakesnow."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import sqlglot
from sqlglot import exp

from tests.snowflake.emulator.column import declared
from tests.snowflake.emulator.failure import SqlFailure, unsupported
from tests.snowflake.emulator.naming import quoted
from tests.snowflake.emulator.table import LOG, moment

Query = Callable[[exp.Table], str | None]
"""Says what to read in place of a table: a DuckDB query, or None for the table itself."""

MARKER = "_emulated_"


def duck_sql(tree: exp.Expression, cursor: Any, now_us: int, instead: Query, time_zone: str) -> str:
    """Translate a query; ``cursor`` is fakesnow's, ``instead`` gives the queries to read in place of tables."""
    tree = tree.copy()
    queries: dict[str, str] = {}
    for table in list(tree.find_all(exp.Table)):
        query = instead(table)
        if query is None:
            continue
        marker = f"{MARKER}{len(queries)}"
        queries[marker] = query
        alias = table.args.get("alias") or exp.TableAlias(this=table.this.copy())
        replacement = exp.Table(this=exp.to_identifier(marker, quoted=True), alias=alias)
        for part in ("db", "catalog"):
            # fakesnow wants to know where a table is; the marker goes whole
            replacement.set(part, exp.to_identifier(MARKER, quoted=True))
        for kept in ("joins", "pivots", "laterals"):
            if table.args.get(kept):
                replacement.set(kept, table.args[kept])
        table.replace(replacement)
    tree = _with_clock(tree, now_us, time_zone)
    tree = _with_generators(tree)
    tree = tree.transform(_vector, copy=False).transform(_function, copy=False)
    sql: str = cursor._transform(tree, None).sql(dialect="duckdb")
    for marker, query in queries.items():
        sql = sql.replace(quoted(MARKER, MARKER, marker), f"({query})")
    return sql


def bound(tree: exp.Expression, values: list[Any]) -> exp.Expression:
    """Put values in place of ``?`` and ``:1`` placeholders, in order."""
    for place, node in enumerate(list(tree.find_all(exp.Placeholder, bfs=False))):
        index = int(node.name) - 1 if node.name.isdigit() else place
        if index >= len(values):
            raise SqlFailure(2049, "42601", f"SQL compilation error: Bind variable :{index + 1} not set.")
        node.replace(values[index].copy())
    return tree


def _with_clock(tree: exp.Expression, now_us: int, time_zone: str) -> exp.Expression:
    """CURRENT_TIMESTAMP is the server's clock in the session's zone, SYSDATE the same in UTC without a zone."""

    def replaced(node: exp.Expression) -> exp.Expression:
        utc = moment(now_us).strftime("%Y-%m-%d %H:%M:%S.%f")
        if isinstance(node, exp.CurrentTimestamp):
            if node.args.get("sysdate"):
                return exp.Cast(this=exp.Literal.string(utc), to=exp.DataType.build("TIMESTAMPNTZ"))
            return exp.Cast(this=exp.Literal.string(f"{utc}+00"), to=exp.DataType.build("TIMESTAMPLTZ"))
        if isinstance(node, exp.CurrentDate):
            from zoneinfo import ZoneInfo

            local = moment(now_us).astimezone(ZoneInfo(time_zone))
            return exp.Cast(this=exp.Literal.string(local.strftime("%Y-%m-%d")), to=exp.DataType.build("DATE"))
        return node

    return tree.transform(replaced, copy=False)


def _with_generators(tree: exp.Expression) -> exp.Expression:
    """TABLE(GENERATOR(ROWCOUNT => n)) has n rows; SEQ4() and SEQ8() count them from 0."""

    def replaced(node: exp.Expression) -> exp.Expression:
        if isinstance(node, exp.TableFromRows) and isinstance(node.this, exp.Generator):
            rows = node.this.args.get("rowcount")
            if rows is None:
                raise unsupported("GENERATOR without ROWCOUNT")
            source = sqlglot.parse_one(f'SELECT * FROM range({rows.sql()}) AS g("_SEQ")', read="duckdb")
            alias = node.args.get("alias") or exp.TableAlias(this=exp.to_identifier("_GENERATOR", quoted=True))
            return exp.Subquery(this=source, alias=alias)
        if type(node).__name__ in ("Seq1", "Seq2", "Seq4", "Seq8"):
            return exp.column(exp.to_identifier("_SEQ", quoted=True))
        return node

    return tree.transform(replaced, copy=False)


def _vector(node: exp.Expression) -> exp.Expression:
    """A vector is DuckDB's array of FLOAT; spelt so that fakesnow does not widen it to DOUBLE."""
    if isinstance(node, exp.DataType) and getattr(node.this, "name", "") == "VECTOR":
        return exp.DataType(this=exp.DataType.Type.USERDEFINED, kind=declared(node).duck)
    return node


def _function(node: exp.Expression) -> exp.Expression:
    """What fakesnow leaves to DuckDB, which means something else by it."""
    if isinstance(node, exp.UnixToTime) and isinstance(node.args.get("scale"), exp.Literal):
        # exact to the microsecond, where a division would round; the type as the name says
        scale = int(node.args["scale"].name)
        unit = f"* {10 ** (6 - scale)}" if scale <= 6 else f"// {10 ** (scale - 6)}"
        count = sqlglot.parse_one(f"CAST(CAST(? AS HUGEINT) {unit} AS BIGINT)", read="duckdb")
        count = count.transform(lambda n: node.this.copy() if isinstance(n, exp.Placeholder) else n)
        zoned = "LTZ" in str(node.args.get("target_type"))
        return exp.Anonymous(this="make_timestamptz" if zoned else "make_timestamp", expressions=[count])
    if isinstance(node, exp.Anonymous) and str(node.this).upper() == "HASH":
        # Snowflake's is signed
        unsigned = exp.Anonymous(this="hash", expressions=node.expressions)
        shifted = exp.Sub(this=exp.cast(unsigned, "INT128"), expression=exp.Literal.number(2**63))
        return exp.cast(exp.Paren(this=shifted), "BIGINT")
    return node


def hidden(key: tuple[str, str, str], alias: exp.TableAlias | None, name: str) -> exp.Table:
    """A table node that reads a view of the emulator's own under the name of the table it stands for."""
    assert key[1] == LOG
    database, schema, view = (exp.to_identifier(part, quoted=True) for part in key)
    alias = alias.copy() if alias else exp.TableAlias(this=exp.to_identifier(name, quoted=True))
    return exp.Table(this=view, db=schema, catalog=database, alias=alias)
