"""Plain SQL on a Delta table by delta-rs: a hundred times as fast as by Spark, for what a test changes on its way.

What is not plain is left to Spark, whose own change feeds are tested in tests/connectors, tests/contract and
tests/test_model.py.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import deltalake
import pyarrow as pa
import sqlglot
from sqlglot import exp

TYPES = {
    "BIGINT": pa.int64(),
    "INT": pa.int32(),
    "STRING": pa.string(),
    "DOUBLE": pa.float64(),
    "BOOLEAN": pa.bool_(),
    "ARRAY<FLOAT>": pa.list_(pa.float32()),
}


def created(path: Path, columns: str) -> bool:
    """Make a table with a change feed and ``columns`` as in SQL; False: Spark is to do it."""
    named = [column.strip().split(" ", 1) for column in columns.split(",")]
    if any(len(column) != 2 or column[1] not in TYPES for column in named):
        return False
    schema = pa.schema([(name, TYPES[of]) for name, of in named])
    deltalake.DeltaTable.create(str(path), schema, configuration={"delta.enableChangeDataFeed": "true"})
    return True


def executed(path: Path, statement: str) -> bool:
    """Run an INSERT of plain values, an UPDATE or a DELETE on the table at ``path``; False: Spark is to do it."""
    tree = sqlglot.parse_one(statement.format(t="t"), dialect="databricks")
    if not isinstance(tree, exp.Insert | exp.Update | exp.Delete) or (table := _plain(path)) is None:
        return False
    if isinstance(tree, exp.Insert):
        return _inserted(table, tree)
    where = tree.args.get("where")
    predicate = where and where.this.sql("postgres")
    try:
        if isinstance(tree, exp.Update):
            changes = {change.this.name: change.expression.sql("postgres") for change in tree.expressions}
            table.update(updates=changes, predicate=predicate)
        else:
            table.delete(predicate)
    except Exception:  # whatever delta-rs has for a function or bytes that it does not take
        return False
    return True


def rows(path: Path, columns: tuple[str, ...], version: int | None) -> list[dict[str, Any]] | None:
    """Return the table's rows at ``version``, or at the newest one; None: Spark is to read them."""
    table = _plain(path, version)
    if table is None:
        return None
    found: list[dict[str, Any]] = table.to_pyarrow_table(columns=list(columns)).to_pylist()
    return found


def _plain(path: Path, version: int | None = None) -> deltalake.DeltaTable | None:
    """Return the table; None where it has features of readers: mapped columns are read as nulls, without a word."""
    table = deltalake.DeltaTable(str(path), version=version)
    return table if table.protocol().min_reader_version == 1 else None


def _inserted(table: deltalake.DeltaTable, insert: exp.Insert) -> bool:
    said = {name for name, value in insert.args.items() if value}
    if said != {"this", "expression"} or not isinstance(insert.expression, exp.Values):
        return False  # a query, an OVERWRITE
    if not isinstance(insert.this, exp.Table):
        return False  # columns by name
    cells = [row.expressions for row in insert.expression.expressions]
    if not all(isinstance(cell, exp.Literal | exp.Null | exp.Boolean | exp.Neg) for row in cells for cell in row):
        return False
    schema = pa.schema(table.schema().to_arrow())
    values = zip(*([cell.to_py() for cell in row] for row in cells), strict=True)
    columns = [pa.array(column, field.type) for column, field in zip(values, schema, strict=True)]
    deltalake.write_deltalake(table, pa.table(columns, schema=schema), mode="append")
    return True
