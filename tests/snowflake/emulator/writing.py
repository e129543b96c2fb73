"""DML statements of a session, from the parsed statement to the counts that it answers with."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
from sqlglot import exp

from tests.snowflake.emulator import binding, engine, listing
from tests.snowflake.emulator.column import Column, ColumnType
from tests.snowflake.emulator.engine import Answer, Engine
from tests.snowflake.emulator.naming import given, table_name
from tests.snowflake.emulator.reading import Reader
from tests.snowflake.emulator.rows import Writer
from tests.snowflake.emulator.table import Table
from tests.snowflake.emulator.transaction import Transactions

KINDS = {exp.Insert: engine.INSERT, exp.Update: engine.UPDATE, exp.Delete: engine.DELETE, exp.Merge: engine.MERGE}
COUNTED = {
    "inserted": "number of rows inserted",
    "updated": "number of rows updated",
    "deleted": "number of rows deleted",
    "joined": "number of multi-joined rows updated",
}
BATCH = "_BATCH"


class Writing:
    """Executes INSERT, UPDATE, DELETE, MERGE and TRUNCATE."""

    def __init__(self, shared: Engine, duck: Any, reader: Reader, transactions: Transactions) -> None:
        self._catalog = shared.catalog
        self._duck = duck
        self._reader = reader
        self._transactions = transactions

    def write(self, tree: exp.Expression, bindings: binding.Bindings) -> Answer:
        """Run a statement and answer with its counts."""
        target = tree.this.this if isinstance(tree.this, exp.Schema) else tree.this
        table = self._catalog.table(self._reader.key(target))
        with self._transactions.writing(table) as txn:
            counts = self._counts(self._writer(txn), table, tree, bindings)
        columns = [Column(COUNTED[kind], ColumnType("FIXED")) for kind in counts]
        return Answer(*listing.rows_of(columns, [list(counts.values())]), KINDS[type(tree)])

    def truncate(self, tree: exp.TruncateTable) -> Answer:
        """TRUNCATE TABLE."""
        table = self._catalog.table(self._reader.key(tree.expressions[0]))
        with self._transactions.writing(table) as txn:
            self._writer(txn).truncate(table)
        return Answer(*listing.status("Statement executed successfully."), engine.DDL)

    def load(self, name: str, rows: pa.Table) -> int:
        """Insert rows into a table in one commit; columns go by name."""
        table = self._catalog.table(self._reader.key(table_name(name)))
        with self._transactions.writing(table) as txn:
            return self._insert_batch(self._writer(txn), table, [given(c) for c in rows.column_names], rows)

    def _counts(self, writer: Writer, table: Table, tree: exp.Expression, bindings: binding.Bindings) -> dict[str, int]:
        if isinstance(tree, exp.Update):
            return {"updated": writer.update(table, tree), "joined": 0}
        if isinstance(tree, exp.Delete):
            return {"deleted": writer.delete(table, tree)}
        if isinstance(tree, exp.Merge):
            return writer.merge(table, tree)
        assert isinstance(tree, exp.Insert)
        if tree.args.get("overwrite"):
            writer.truncate(table)
        names = [e.name for e in tree.this.expressions] if isinstance(tree.this, exp.Schema) else table.names()
        if binding.is_batch(bindings):
            return {"inserted": self._insert_batch(writer, table, names, binding.batch(bindings))}
        source = tree.expression
        if isinstance(source, exp.Values):
            source = exp.select("*").from_(_aliased(source, len(names)))
        return {"inserted": writer.insert(table, names, self._reader.translate(source))}

    def _insert_batch(self, writer: Writer, table: Table, names: list[str], rows: pa.Table) -> int:
        self._duck.register(BATCH, rows)
        count = writer.insert(table, names, f"SELECT * FROM temp.main.{BATCH}")
        self._duck.unregister(BATCH)
        return count

    def _writer(self, txn: int) -> Writer:
        return Writer(self._duck, self._reader.translate, txn)


def _aliased(values: exp.Values, width: int) -> exp.Values:
    names = [exp.to_identifier(f"V{i}", quoted=True) for i in range(width)]
    values = values.copy()
    values.set("alias", exp.TableAlias(this=exp.to_identifier("V", quoted=True), columns=names))
    return values
