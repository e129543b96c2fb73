"""A session: its current names and parameters, its transaction, and one statement after another."""

from __future__ import annotations

from typing import Any

import duckdb
import pyarrow as pa
import snowflake.connector.errors
from sqlglot import exp

from tests.snowflake.emulator import binding, engine, listing
from tests.snowflake.emulator.column import Column, ColumnType
from tests.snowflake.emulator.defining import Defining, status
from tests.snowflake.emulator.duck_failure import of_duckdb
from tests.snowflake.emulator.engine import Answer, Engine
from tests.snowflake.emulator.failure import SqlFailure, unsupported
from tests.snowflake.emulator.naming import fold, parsed, shown
from tests.snowflake.emulator.places import Places
from tests.snowflake.emulator.reading import Reader
from tests.snowflake.emulator.transaction import Transactions
from tests.snowflake.emulator.translate import bound
from tests.snowflake.emulator.writing import KINDS, Writing

DEFAULT_TIME_ZONE = "America/Los_Angeles"
"""The service's own default (Snowflake docs, SQL reference, "Parameters", TIMEZONE)."""

DONE = "Statement executed successfully."


class Session:
    """Executes statements for one client, one at a time over the whole account."""

    def __init__(self, shared: Engine, database: str | None, schema: str | None, user: str) -> None:
        self._engine = shared
        self._fake = shared.connection()
        self._duck: Any = self._fake._duck_conn
        self.user = user
        self.role = "ACCOUNTADMIN"
        self.warehouse: str | None = None
        self.parameters: dict[str, str] = {}
        self._reader = Reader(shared, self._fake, self._said)
        self._transactions = Transactions(shared, self._duck)
        self._writing = Writing(shared, self._duck, self._reader, self._transactions)
        self._defining = Defining(shared, self._duck, self._reader, self._transactions)
        self._places = Places(self._fake, shared.catalog, self._transactions.define)
        self.set_time_zone(DEFAULT_TIME_ZONE)
        if database and self._places.exists(database, None):
            self._places.use(database, schema if schema and self._places.exists(database, schema) else None)
        self._variables: dict[str, exp.Expression] = {}
        self._last_query_id = ""

    @property
    def database(self) -> str | None:
        """The current database."""
        return shown(self._fake.database) if self._fake.database_set else None

    @property
    def schema(self) -> str | None:
        """The current schema."""
        return shown(self._fake.schema) if self._fake.schema_set else None

    @property
    def time_zone(self) -> str:
        """The session's TIMEZONE."""
        return self._reader.time_zone

    def set_parameter(self, name: str, value: str) -> None:
        """Set a session parameter; TIMEZONE decides what a timestamp without a zone means."""
        self.parameters[name.upper()] = value
        if name.upper() == "TIMEZONE":
            self.set_time_zone(value)
        if name.upper() == "AUTOCOMMIT":
            self._transactions.autocommit = value.lower() == "true"

    def set_time_zone(self, name: str) -> None:
        """Set what a timestamp without a zone means, and in which zone TIMESTAMP_LTZ is shown."""
        self._reader.time_zone = name
        self._duck.execute(f"SET TimeZone = '{name}'")

    def execute(
        self, sql: str, query_id: str, bindings: binding.Bindings | None = None, *, describe_only: bool = False
    ) -> Answer:
        """Run one statement."""
        tree = parsed(sql)
        with self._engine.lock:
            self._reader.now_us = self._engine.clock.now_us()
            try:
                answer = self._run(fold(tree), bindings or {}, describe_only)
            except (duckdb.Error, snowflake.connector.errors.Error) as error:
                raise of_duckdb(error) from error
            self._engine.committed_us[query_id] = (self._reader.now_us, self._engine.clock.now_us())
            self._last_query_id = query_id
            return answer

    def load(self, name: str, rows: pa.Table) -> int:
        """Insert rows into a table in one commit; columns go by name."""
        with self._engine.lock:
            return self._writing.load(name, rows)

    def close(self) -> None:
        """End the session; an open transaction is rolled back."""
        with self._engine.lock:
            self._transactions.rollback()
            self._duck.close()

    def _run(self, tree: exp.Expression, bindings: binding.Bindings, describe_only: bool) -> Answer:
        if bindings and not binding.is_batch(bindings):
            tree = bound(tree, binding.literals(bindings))
        tree = tree.transform(self._with_variables, copy=False)
        if not isinstance(tree, exp.Rollback):
            self._transactions.require_sound()
        if isinstance(tree, exp.Query):
            return self._reader.select(tree, describe_only=describe_only)
        if describe_only:
            return status("Statement described.", engine.OTHER)
        if type(tree) in KINDS:
            return self._writing.write(tree, bindings)
        if isinstance(tree, exp.TruncateTable):
            return self._writing.truncate(tree)
        if isinstance(tree, (exp.Transaction, exp.Commit, exp.Rollback)):
            return self._control(tree)
        if isinstance(tree, (exp.Show, exp.Describe)):
            return self._list(tree)
        return self._of_session(tree) or self._define(tree)

    def _control(self, tree: exp.Expression) -> Answer:
        if isinstance(tree, exp.Transaction):
            self._transactions.begin()
        elif isinstance(tree, exp.Commit):
            self._transactions.commit()
        else:
            self._transactions.rollback()
        return status(DONE, engine.TRANSACTION)

    def _define(self, tree: exp.Expression) -> Answer:
        self._transactions.commit()
        kind = str(tree.args.get("kind") or "").upper()
        if isinstance(tree, exp.Create) and kind == "TABLE":
            return self._defining.create_table(tree)
        if isinstance(tree, exp.Create) and kind == "VIEW":
            return self._defining.create_view(tree)
        if isinstance(tree, exp.Alter) and kind == "TABLE":
            return self._defining.alter_table(tree)
        if isinstance(tree, exp.Drop) and kind in ("TABLE", "VIEW"):
            return self._defining.drop(tree, kind)
        if isinstance(tree, exp.Create) and kind in ("DATABASE", "SCHEMA"):
            return status(self._places.create(tree, kind))
        if isinstance(tree, exp.Drop) and kind in ("DATABASE", "SCHEMA"):
            return status(self._places.drop(tree, kind))
        return self._pass_on(tree)

    def _pass_on(self, tree: exp.Expression) -> Answer:
        """What the emulator knows nothing of is fakesnow's to answer."""
        cursor = self._fake.cursor()
        cursor.execute(tree.sql(dialect="snowflake"))
        rows: pa.Table = cursor._arrow_table
        columns = [Column(field, ColumnType("TEXT")) for field in rows.column_names]
        text = pa.Table.from_arrays([column.cast(pa.string()) for column in rows.columns], names=rows.column_names)
        return Answer(text, columns, engine.SHOW if isinstance(tree, exp.Show) else engine.DDL)

    def _list(self, tree: exp.Expression) -> Answer:
        catalog = self._engine.catalog
        if isinstance(tree, exp.Describe):
            columns = catalog.columns(self._reader.key(tree.this))
            if columns is None:
                catalog.table(self._reader.key(tree.this))
            return Answer(*listing.describe(columns or []), engine.DESCRIBE)
        kind = str(tree.this).upper()
        if kind not in ("TABLES", "VIEWS"):
            return self._pass_on(tree)
        matches = listing.like(tree.args["like"].name) if tree.args.get("like") else None
        held: Any = catalog.tables if kind == "TABLES" else catalog.views
        found = [
            one
            for key, one in sorted(held.items())
            if self._in_scope(tree, key) and (matches is None or matches(shown(key[2])))
        ]
        if kind == "TABLES":
            return Answer(*listing.show_tables(found, self._reader.count), engine.SHOW)
        return Answer(*listing.show_views(found), engine.SHOW)

    def _in_scope(self, tree: exp.Expression, key: tuple[str, str, str]) -> bool:
        scope, of = tree.args.get("scope"), str(tree.args.get("scope_kind") or "").upper()
        if of == "ACCOUNT" or (scope is None and not self._fake.database_set):
            return True
        if of == "DATABASE":
            return bool(key[0] == (scope.name if scope else self._fake.database))
        if scope is not None:
            return key[:2] == (scope.db or self._fake.database, scope.name)
        return key[:2] == (self._fake.database, self._fake.schema)

    def _of_session(self, tree: exp.Expression) -> Answer | None:
        """ALTER SESSION, SET, USE and CALL; None for anything else."""
        done = status(DONE, engine.OTHER)
        if isinstance(tree, exp.Alter) and str(tree.args.get("kind")).upper() == "SESSION":
            self._alter(tree)
            return done
        if isinstance(tree, exp.Set):
            for item in tree.expressions:
                self._variables[item.this.this.name.upper()] = _literal(self._reader.value(item.this.expression))
            return done
        if isinstance(tree, exp.Use):
            if (kind := str(tree.args.get("kind") or "").upper()) in ("ROLE", "WAREHOUSE"):
                setattr(self, kind.lower(), shown(tree.this.name))
            else:
                self._places.switch(tree)
            return done
        if isinstance(tree, exp.Command) and str(tree.this).upper() == "CALL":
            return self._reader.select(fold(parsed(f"SELECT {tree.expression.name}")))
        if isinstance(tree, exp.Command):
            raise unsupported(f"the statement {str(tree.this).upper()}")
        return None

    def _alter(self, tree: exp.Alter) -> None:
        for action in tree.args["actions"]:
            for item in action.expressions:
                if not action.args.get("unset"):
                    self.set_parameter(item.this.this.name, item.this.expression.name)
                elif self.parameters.pop(item.this.name.upper(), None) and item.this.name.upper() == "TIMEZONE":
                    self.set_time_zone(DEFAULT_TIME_ZONE)

    def _with_variables(self, node: exp.Expression) -> exp.Expression:
        if not isinstance(node, exp.Parameter):
            return node
        name = node.this.name.upper()
        if name not in self._variables:
            raise SqlFailure(2211, "02000", f"SQL compilation error: Session variable '${name}' does not exist")
        return self._variables[name].copy()

    def _said(self, function: str) -> str | None:
        """What the functions on the session's own state return."""
        return {
            "LAST_QUERY_ID": self._last_query_id,
            "CURRENT_ROLE": self.role,
            "CurrentRole": self.role,
            "CURRENT_USER": self.user,
            "CurrentUser": self.user,
            "CURRENT_WAREHOUSE": self.warehouse,
            "CurrentWarehouse": self.warehouse,
            "CURRENT_DATABASE": self.database,
            "CurrentDatabase": self.database,
            "CURRENT_SCHEMA": self.schema,
            "CurrentSchema": self.schema,
        }.get(function)


def _literal(value: Any) -> Any:
    if hasattr(value, "isoformat"):
        kind = "TIMESTAMPLTZ" if getattr(value, "tzinfo", None) else "TIMESTAMPNTZ"
        return exp.cast(exp.Literal.string(value.isoformat(sep=" ")), kind)
    return exp.convert(value)
