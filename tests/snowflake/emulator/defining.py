"""DDL statements of a session on tables and views."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from sqlglot import exp

from tests.snowflake.emulator import engine, listing
from tests.snowflake.emulator.column import Column
from tests.snowflake.emulator.definition import Definer, columns_of, options
from tests.snowflake.emulator.engine import Answer, Engine
from tests.snowflake.emulator.failure import already_exists
from tests.snowflake.emulator.naming import quoted, shown
from tests.snowflake.emulator.reading import Reader
from tests.snowflake.emulator.rows import Writer
from tests.snowflake.emulator.table import View
from tests.snowflake.emulator.transaction import Transactions


class Defining:
    """Executes CREATE, ALTER and DROP of tables and views."""

    def __init__(self, shared: Engine, duck: Any, reader: Reader, transactions: Transactions) -> None:
        self._engine = shared
        self._duck = duck
        self._reader = reader
        self._transactions = transactions

    def create_table(self, tree: exp.Create) -> Answer:
        """CREATE [OR REPLACE] TABLE, from columns, a query, another table's columns or its rows."""
        catalog, target = self._engine.catalog, tree.this.this if isinstance(tree.this, exp.Schema) else tree.this
        key = self._reader.key(target)
        exists = key in catalog.tables
        if exists and tree.args.get("exists"):
            return status(f"{shown(key[2])} already exists, statement succeeded.")
        if exists and not tree.args.get("replace"):
            raise already_exists(shown(key[2]))
        columns, defaults, query = self._source(tree)
        properties = tree.args.get("properties")
        chosen = options(properties.expressions if properties else [])
        rows = None if query is None else self._reader.translate(query)

        def act(definer: Definer, txn: int) -> None:
            if exists:
                # the query may read the table that it replaces
                self._duck.execute(f'CREATE OR REPLACE TEMPORARY TABLE "_NEW" AS {rows or "SELECT 1"}')
                definer.drop(catalog.tables[key])
            made = definer.create(
                key, columns, chosen, self._reader.now_us, default_retention=self._engine.retention_days
            )
            made.defaults = defaults
            if rows is not None:
                writer = Writer(self._duck, self._reader.translate, txn)
                writer.insert(made, made.names(), 'SELECT * FROM temp.main."_NEW"' if exists else rows)
                self._duck.execute(f"INSERT INTO {made.commits} VALUES ({txn}, {made.born_us})")

        self._transactions.define(act)
        return status(f"Table {shown(key[2])} successfully created.")

    def create_view(self, tree: exp.Create) -> Answer:
        """CREATE [OR REPLACE] VIEW."""
        catalog, target = self._engine.catalog, tree.this.this if isinstance(tree.this, exp.Schema) else tree.this
        key, query = self._reader.key(target), tree.expression
        if key in catalog.tables or (key in catalog.views and not tree.args.get("replace")):
            raise already_exists(shown(key[2]))
        columns = self._reader.typed_columns(query)
        if isinstance(tree.this, exp.Schema):
            columns = [replace(c, name=e.name) for e, c in zip(tree.this.expressions, columns, strict=True)]
        names = ", ".join(quoted(c.name) for c in columns)
        self._duck.execute(f"CREATE OR REPLACE VIEW {quoted(*key)} ({names}) AS {self._reader.translate(query)}")
        ctes = {cte.alias for cte in query.find_all(exp.CTE)}
        tables = [self._reader.key(t) for t in query.find_all(exp.Table) if t.db or t.name not in ctes]
        catalog.views[key] = View(key, columns, tables, tree.sql("snowflake"), self._reader.now_us)
        return status(f"View {shown(key[2])} successfully created.")

    def alter_table(self, tree: exp.Alter) -> Answer:
        """ALTER TABLE."""
        table = self._engine.catalog.table(self._reader.key(tree.this))
        self._transactions.define(lambda definer, _: definer.alter(table, tree))
        return status("Statement executed successfully.")

    def drop(self, tree: exp.Drop, kind: str) -> Answer:
        """DROP TABLE or VIEW."""
        catalog, target = self._engine.catalog, (tree.args.get("tables") or [tree.this])[0]
        key = self._reader.key(target)
        if key not in (catalog.tables if kind == "TABLE" else catalog.views) and tree.args.get("exists"):
            return status("Drop statement executed successfully.")
        if kind == "TABLE":
            table = catalog.table(key)
            self._transactions.define(lambda definer, _: definer.drop(table))
        else:
            catalog.under(key)
            self._duck.execute(f"DROP VIEW {quoted(*key)}")
            del catalog.views[key]
        return status(f"{shown(key[2])} successfully dropped.")

    def _source(self, tree: exp.Create) -> tuple[list[Column], dict[str, exp.Expression], exp.Expression | None]:
        """Return a new table's columns, their defaults and the query for its rows."""
        if like := tree.find(exp.LikeProperty):
            model = self._engine.catalog.table(self._reader.key(like.this))
            return list(model.columns), dict(model.defaults), None
        query: exp.Expression | None = tree.args.get("expression")
        if clone := tree.args.get("clone"):
            query = exp.select("*").from_(clone.this.copy())
        columns, defaults = columns_of(tree.this) if isinstance(tree.this, exp.Schema) else ([], {})
        if query is not None and not columns:
            columns = self._reader.typed_columns(query)
        return columns, defaults, query


def status(message: str, statement_type: int = engine.DDL) -> Answer:
    """Answer with a message."""
    return Answer(*listing.status(message), statement_type)
