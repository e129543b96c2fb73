"""SELECT: a query of tables as they are or were, and the declared types of what comes back."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
from sqlglot import exp

from tests.snowflake.emulator.clock import MS
from tests.snowflake.emulator.column import Column, of_duck
from tests.snowflake.emulator.engine import SELECT, Answer, Engine
from tests.snowflake.emulator.failure import SqlFailure, no_such_object, statement_not_found, unsupported
from tests.snowflake.emulator.lineage import result_columns
from tests.snowflake.emulator.listing import information_columns, information_tables
from tests.snowflake.emulator.naming import shown, table_name
from tests.snowflake.emulator.table import LOG, Key, Table, microseconds
from tests.snowflake.emulator.translate import duck_sql
from tests.snowflake.emulator.travel import as_of, changes

LAST_CHANGE = "SYSTEM$LAST_CHANGE_COMMIT_TIME"


class Reader:
    """Runs one session's queries; ``fake`` is its fakesnow connection, ``named`` what CURRENT_… functions say."""

    def __init__(self, engine: Engine, fake: Any, named: Callable[[str], str | None]) -> None:
        self._engine = engine
        self._fake = fake
        self._duck = fake._duck_conn
        self._named = named
        self.time_zone = "UTC"
        self.now_us = 0

    def select(self, tree: exp.Expression, *, describe_only: bool = False) -> Answer:
        """Run a query."""
        known = self.columns(tree)
        relation = self._duck.sql(self.translate(tree))
        if describe_only:
            relation = relation.limit(0)
        types, names = [str(t) for t in relation.types], list(relation.columns)
        rows: pa.Table = relation.to_arrow_table()
        if known is None or len(known) != len(names):
            known = [None] * len(names)
        outputs = self._names(tree, names)
        columns = [
            Column(name, c.type, c.nullable) if c else Column(name, of_duck(t))
            for c, t, name in zip(known, types, outputs, strict=True)
        ]
        return Answer(rows, columns, SELECT, text=False)

    def columns(self, tree: exp.Expression) -> list[Column | None] | None:
        """Return what is declared of a query's columns."""
        return result_columns(tree, self._lookup)

    def typed_columns(self, tree: exp.Expression) -> list[Column]:
        """Return the columns that a table or view made from a query has."""
        return [Column(c.name, c.type) for c in self.select(tree, describe_only=True).columns]

    def translate(self, tree: exp.Expression) -> str:
        """Return DuckDB's SQL for a query."""
        tree = self._with_functions(tree.copy())
        ctes = {cte.alias for cte in tree.find_all(exp.CTE)}

        def instead(table: exp.Table) -> str | None:
            return None if not table.db and table.name in ctes else self._instead(table)

        return duck_sql(tree, self._fake.cursor(), self.now_us, instead, self.time_zone)

    def key(self, table: exp.Table) -> Key:
        """Return a table's full name; without a current database or schema that is an error of its own."""
        database, schema = table.catalog or self._fake.database, table.db or self._fake.schema
        if not database or (not table.db and not self._fake.database_set):
            raise SqlFailure(
                90105,
                "22000",
                "Cannot perform operation. This session does not have a current database. Call "
                "'USE DATABASE', or use a qualified name.",
            )
        if not schema or (not table.db and not self._fake.schema_set):
            raise SqlFailure(
                90106,
                "22000",
                "Cannot perform operation. This session does not have a current schema. Call "
                "'USE SCHEMA', or use a qualified name.",
            )
        return database, schema, table.name

    def value(self, tree: exp.Expression) -> Any:
        """Evaluate an expression that stands alone."""
        ((value,),) = self._duck.sql(self.translate(exp.select(tree.copy()))).fetchall()
        return value

    def moment(self, when: exp.HistoricalData) -> int:
        """Return the moment that AT, BEFORE or END name, to the millisecond.

        Snowflake docs, SQL reference, "AT | BEFORE": a timestamp without a zone, and a string that is not cast to one,
        is in UTC whatever the session's zone; an offset is in seconds; a statement is named by its query id.
        """
        kind, before = when.args["kind"].upper(), when.this.upper() == "BEFORE"
        value = self.value(when.expression)
        if kind == "OFFSET":
            us = self.now_us + int(Decimal(str(value)) * 1_000_000)
        elif kind == "STATEMENT":
            if value not in self._engine.committed_us:
                raise statement_not_found(value)
            us = self._engine.committed_us[value][0 if before else 1]
        elif kind == "TIMESTAMP" and isinstance(value, str):
            without_zone = re.sub(r" ?([+-]\d\d:?\d\d|Z)$", "", value)
            us = microseconds(self.value(exp.cast(exp.Literal.string(without_zone), "TIMESTAMPNTZ")))
        elif kind == "TIMESTAMP" and isinstance(value, datetime):
            us = microseconds(value)
        else:
            raise unsupported(f"{when.this.upper()}({kind} => …) with such a value")
        return us // MS * MS

    def _lookup(self, table: exp.Table) -> list[Column]:
        if not isinstance(table.this, exp.Identifier):
            return []
        if table.db == "INFORMATION_SCHEMA" and table.name in ("TABLES", "COLUMNS"):
            return self._information(table)[1]
        key = self.key(table)
        if key[1] == LOG:
            return [c for t in self._engine.catalog.tables.values() if t.current == key for c in t.columns]
        return self._engine.catalog.columns(key) or []

    def _instead(self, table: exp.Table) -> str | None:
        if not isinstance(table.this, exp.Identifier):
            return None
        if table.db == "INFORMATION_SCHEMA" and table.name in ("TABLES", "COLUMNS"):
            rows, columns = self._information(table)
            name = f"_INFORMATION_{table.name}"
            self._duck.register(name, rows.rename_columns([c.name for c in columns]))
            return f'SELECT * FROM temp.main."{name}"'
        if table.db in ("INFORMATION_SCHEMA", LOG):
            return None
        key = self.key(table)
        asked, when = table.args.get("changes"), table.args.get("when")
        if self._engine.catalog.columns(key) is None:
            raise no_such_object(".".join(map(shown, key)))
        if not asked and not when:
            return None
        if key in self._engine.catalog.views:
            raise unsupported("time travel and CHANGES on views")
        found = self._engine.catalog.table(key)
        if asked:
            return self._changes(found, asked)
        return self._as_of(found, when) if when else None

    def _as_of(self, table: Table, when: exp.HistoricalData) -> str:
        before = when.this.upper() == "BEFORE"
        return as_of(table, self.moment(when), self.now_us, before=before and when.args["kind"].upper() != "STATEMENT")

    def _changes(self, table: Table, asked: exp.Changes) -> str:
        end = asked.args.get("end")
        append_only = asked.args["information"].name.upper() == "APPEND_ONLY"
        after_us = self.moment(asked.args["at_before"])
        until_us = self.moment(end) if end else self.now_us
        return changes(table, after_us, until_us, self.now_us, append_only=append_only)

    def _information(self, table: exp.Table) -> tuple[pa.Table, list[Column]]:
        database = table.catalog or self._fake.database
        if table.name == "COLUMNS":
            return information_columns(self._engine.catalog, database)
        return information_tables(self._engine.catalog, database, self.count)

    def count(self, table: Table) -> int:
        """Return how many rows a table has."""
        return int(self._duck.execute(f"SELECT count(*) FROM {table.duck}").fetchall()[0][0])

    def _with_functions(self, tree: exp.Expression) -> exp.Expression:
        def replaced(node: exp.Expression) -> exp.Expression:
            if isinstance(node, exp.Anonymous) and str(node.this).upper() == LAST_CHANGE:
                tables = self._engine.catalog.under(self.key(table_name(node.expressions[0].name)))
                token = max(t.changed_us for t in tables) * 1000
                return exp.cast(exp.Literal.number(token), "DECIMAL(38, 0)")
            said = self._named(str(node.this).upper() if isinstance(node, exp.Anonymous) else type(node).__name__)
            return exp.Literal.string(said) if said is not None else node

        return tree.transform(replaced, copy=False)

    def _names(self, tree: exp.Expression, names: list[str]) -> list[str]:
        """An expression without a name is called by its text."""
        items = tree.expressions if isinstance(tree, exp.Select) else []
        if len(items) != len(names) or any(item.is_star for item in items):
            return names
        return [item.alias_or_name or item.sql("snowflake").upper() for item in items]
