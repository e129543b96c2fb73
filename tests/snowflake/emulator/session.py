"""A session: its current names and parameters, its transaction, and one statement after another."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import duckdb
import pyarrow as pa
import snowflake.connector.errors
from sqlglot import exp

from tests.snowflake.emulator import binding, engine, listing
from tests.snowflake.emulator.column import Column, ColumnType
from tests.snowflake.emulator.definition import Definer, columns_of, options
from tests.snowflake.emulator.duck_failure import of_duckdb
from tests.snowflake.emulator.engine import Answer, Engine
from tests.snowflake.emulator.failure import SqlFailure, already_exists, unsupported
from tests.snowflake.emulator.naming import fold, given, parsed, quoted, shown, table_name
from tests.snowflake.emulator.places import Places
from tests.snowflake.emulator.reading import Reader
from tests.snowflake.emulator.rows import Writer
from tests.snowflake.emulator.table import Table, View
from tests.snowflake.emulator.translate import bound

DEFAULT_TIME_ZONE = "America/Los_Angeles"
"""The service's own default (Snowflake docs, SQL reference, "Parameters", TIMEZONE)."""

COUNTED = {
    "inserted": "number of rows inserted",
    "updated": "number of rows updated",
    "deleted": "number of rows deleted",
}
DML = {exp.Insert: engine.INSERT, exp.Update: engine.UPDATE, exp.Delete: engine.DELETE, exp.Merge: engine.MERGE}


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
        self._places = Places(self._fake, shared.catalog, self._defining)
        self.set_time_zone(DEFAULT_TIME_ZONE)
        if database and self._places.exists(database, None):
            self._places.use(database, schema if schema and self._places.exists(database, schema) else None)
        self._variables: dict[str, exp.Expression] = {}
        self._last_query_id = ""
        self._open: int | None = None
        self._touched: set[str] = set()

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
        table = self._engine.catalog.table(self._reader.key(table_name(name)))
        self._duck.register("_BATCH", rows)
        with self._transaction(table.key[0]) as txn:
            self._touched.add(".".join(table.key))
            writer = Writer(self._duck, self._reader.translate, txn)
            return writer.insert(table, [given(c) for c in rows.column_names], "SELECT * FROM temp.main._BATCH")

    def close(self) -> None:
        """End the session; an open transaction is rolled back."""
        with self._engine.lock:
            self._end_transaction("ROLLBACK")
            self._duck.close()

    def _run(self, tree: exp.Expression, bindings: binding.Bindings, describe_only: bool) -> Answer:
        if bindings and not binding.is_batch(bindings):
            tree = bound(tree, binding.literals(bindings))
        tree = tree.transform(self._with_variables, copy=False)
        if isinstance(tree, exp.Query):
            return self._reader.select(tree, describe_only=describe_only)
        if describe_only:
            return _status("Statement described.", engine.OTHER)
        if type(tree) in DML:
            return self._write(tree, bindings)
        if isinstance(tree, (exp.Transaction, exp.Commit, exp.Rollback)):
            return self._control(tree)
        if isinstance(tree, (exp.Show, exp.Describe)):
            return self._list(tree)
        if isinstance(tree, (exp.Alter, exp.Set, exp.Use, exp.Command)):
            changed = self._session_statement(tree)
            if changed:
                return changed
        return self._define(tree)

    # Rows

    def _write(self, tree: exp.Expression, bindings: binding.Bindings) -> Answer:
        target = tree.this.this if isinstance(tree.this, exp.Schema) else tree.this
        table = self._engine.catalog.table(self._reader.key(target))
        with self._transaction(table.key[0]) as txn:
            counts = self._counts(Writer(self._duck, self._reader.translate, txn), table, tree, bindings)
            self._touched.add(".".join(table.key))
        columns = [Column(COUNTED[kind], ColumnType("FIXED")) for kind in counts]
        if isinstance(tree, exp.Update):
            columns.append(Column("number of multi-joined rows updated", ColumnType("FIXED")))
            counts["multi"] = 0
        return Answer(*listing.rows_of(columns, [list(counts.values())]), DML[type(tree)])

    def _counts(self, writer: Writer, table: Table, tree: exp.Expression, bindings: binding.Bindings) -> dict[str, int]:
        if isinstance(tree, exp.Update):
            return {"updated": writer.update(table, tree)}
        if isinstance(tree, exp.Delete):
            return {"deleted": writer.delete(table, tree)}
        if isinstance(tree, exp.Merge):
            return writer.merge(table, tree)
        assert isinstance(tree, exp.Insert)
        if tree.args.get("overwrite"):
            writer.truncate(table)
        names = [e.name for e in tree.this.expressions] if isinstance(tree.this, exp.Schema) else table.names()
        if bindings and binding.is_batch(bindings):
            rows = binding.batch(bindings)
            self._duck.register("_BATCH", rows)
            return {"inserted": writer.insert(table, names, "SELECT * FROM temp.main._BATCH")}
        source = tree.expression
        if isinstance(source, exp.Values):
            source = exp.select("*").from_(_aliased(source, len(names)))
        return {"inserted": writer.insert(table, names, self._reader.translate(source))}

    # Transactions

    def _control(self, tree: exp.Expression) -> Answer:
        if isinstance(tree, exp.Transaction):
            if self._open is None:
                self._duck.begin()
                self._open = self._engine.transaction()
        else:
            self._end_transaction("COMMIT" if isinstance(tree, exp.Commit) else "ROLLBACK")
        return _status("Statement executed successfully.", engine.TRANSACTION)

    @contextmanager
    def _transaction(self, database: str) -> Iterator[int]:
        """Give a transaction's number: the open one's, or that of one for a single statement."""
        if self._open is not None or self.parameters.get("AUTOCOMMIT", "true").lower() == "false":
            if self._open is None:
                self._control(exp.Transaction())
            assert self._open is not None
            yield self._open
            return
        self._duck.begin()
        self._open = self._engine.transaction()
        try:
            yield self._open
        except BaseException:
            self._end_transaction("ROLLBACK")
            raise
        self._end_transaction("COMMIT")

    def _end_transaction(self, how: str) -> None:
        """All of a transaction's changes get the time of its commit (Snowflake docs, user guide, "Transactions")."""
        if self._open is None:
            return
        txn, touched = self._open, [t for t in self._engine.catalog.tables.values() if ".".join(t.key) in self._touched]
        self._open, self._touched = None, set()
        if how == "ROLLBACK":
            self._duck.rollback()
            return
        us = self._engine.clock.now_us()
        for commits in {table.commits for table in touched}:
            self._duck.execute(f"INSERT INTO {commits} VALUES ({txn}, {us})")
        if self._engine.commit_delay_s:
            # the moment is chosen, but others see the rows only later: a late commit
            self._engine.lock.wait(self._engine.commit_delay_s)
        self._duck.commit()
        for table in touched:
            table.changed_us = us

    # Definitions

    def _define(self, tree: exp.Expression) -> Answer:
        """DDL commits what is open and then itself (Snowflake docs, user guide, "Transactions", DDL)."""
        self._end_transaction("COMMIT")
        kind = str(tree.args.get("kind") or "").upper()
        if isinstance(tree, exp.TruncateTable):
            return self._truncate(tree)
        if isinstance(tree, exp.Create) and kind == "TABLE":
            return self._create_table(tree)
        if isinstance(tree, exp.Create) and kind == "VIEW":
            return self._create_view(tree)
        if isinstance(tree, exp.Drop) and kind in ("TABLE", "VIEW"):
            return self._drop(tree, kind)
        if isinstance(tree, exp.Alter) and kind == "TABLE":
            table = self._engine.catalog.table(self._reader.key(tree.this))
            self._defining(lambda definer, _: definer.alter(table, tree))
            return _status("Statement executed successfully.", engine.DDL)
        if isinstance(tree, exp.Create) and kind in ("DATABASE", "SCHEMA"):
            return _status(self._places.create(tree, kind), engine.DDL)
        if isinstance(tree, exp.Drop) and kind in ("DATABASE", "SCHEMA"):
            return _status(self._places.drop(tree, kind), engine.DDL)
        return self._pass_on(tree)

    def _defining(self, act: Callable[[Definer, int], object]) -> None:
        """Run a definition as a transaction of its own; a failure leaves the catalog as it was."""
        before = dict(self._engine.catalog.tables)
        self._duck.begin()
        try:
            us, txn = self._engine.clock.now_us(), self._engine.transaction()
            act(Definer(self._duck, self._engine.catalog, us), txn)
            self._duck.commit()
        except BaseException:
            self._duck.rollback()
            self._engine.catalog.tables = before
            raise

    def _create_table(self, tree: exp.Create) -> Answer:
        target = tree.this.this if isinstance(tree.this, exp.Schema) else tree.this
        key = self._reader.key(target)
        exists = key in self._engine.catalog.tables
        if exists and tree.args.get("exists"):
            return _status(f"{shown(key[2])} already exists, statement succeeded.", engine.DDL)
        if exists and not tree.args.get("replace"):
            raise already_exists(shown(key[2]))
        properties = tree.args.get("properties")
        chosen = options(properties.expressions if properties else [])
        query = tree.args.get("expression")
        if clone := tree.args.get("clone"):
            query = exp.select("*").from_(clone.this.copy())
        columns, defaults = columns_of(tree.this) if isinstance(tree.this, exp.Schema) else ([], {})
        if like := tree.find(exp.LikeProperty):
            model = self._engine.catalog.table(self._reader.key(like.this))
            columns, defaults = list(model.columns), dict(model.defaults)
        if query is not None and not columns:
            columns = [Column(c.name, c.type) for c in self._reader.typed_columns(query)]
        sql = self._reader.translate(query) if query is not None else None

        def act(definer: Definer, txn: int) -> None:
            if exists:
                self._duck.execute(f'CREATE OR REPLACE TEMPORARY TABLE "_NEW" AS {sql or "SELECT 1"}')
                definer.drop(self._engine.catalog.tables[key])
            made = definer.create(
                key, columns, chosen, self._reader.now_us, default_retention=self._engine.retention_days
            )
            made.defaults = defaults
            if sql is not None:
                Writer(self._duck, self._reader.translate, txn).insert(
                    made, made.names(), 'SELECT * FROM temp.main."_NEW"' if exists else sql
                )
                self._duck.execute(f"INSERT INTO {made.commits} VALUES ({txn}, {made.born_us})")

        self._defining(act)
        return _status(f"Table {shown(key[2])} successfully created.", engine.DDL)

    def _create_view(self, tree: exp.Create) -> Answer:
        target = tree.this.this if isinstance(tree.this, exp.Schema) else tree.this
        key, query = self._reader.key(target), tree.expression
        if key in self._engine.catalog.tables or (key in self._engine.catalog.views and not tree.args.get("replace")):
            raise already_exists(shown(key[2]))
        columns = [Column(c.name, c.type) for c in self._reader.typed_columns(query)]
        if isinstance(tree.this, exp.Schema):
            columns = [Column(e.name, c.type) for e, c in zip(tree.this.expressions, columns, strict=True)]
        names = ", ".join(quoted(c.name) for c in columns)
        self._duck.execute(f"CREATE OR REPLACE VIEW {quoted(*key)} ({names}) AS {self._reader.translate(query)}")
        ctes = {cte.alias for cte in query.find_all(exp.CTE)}
        tables = [self._reader.key(t) for t in query.find_all(exp.Table) if t.db or t.name not in ctes]
        created = self._reader.now_us // 1000 * 1000
        self._engine.catalog.views[key] = View(key, columns, tables, tree.sql("snowflake"), created)
        return _status(f"View {shown(key[2])} successfully created.", engine.DDL)

    def _drop(self, tree: exp.Drop, kind: str) -> Answer:
        (target,) = tree.args.get("tables") or [tree.this]
        key = self._reader.key(target)
        held = self._engine.catalog.tables if kind == "TABLE" else self._engine.catalog.views
        if key not in held and tree.args.get("exists"):
            return _status("Drop statement executed successfully.", engine.DDL)
        if kind == "TABLE":
            table = self._engine.catalog.table(key)
            self._defining(lambda definer, _: definer.drop(table))
        else:
            self._engine.catalog.under(key)
            self._duck.execute(f"DROP VIEW {quoted(*key)}")
            del self._engine.catalog.views[key]
        return _status(f"{shown(key[2])} successfully dropped.", engine.DDL)

    def _truncate(self, tree: exp.TruncateTable) -> Answer:
        table = self._engine.catalog.table(self._reader.key(tree.expressions[0]))
        with self._transaction(table.key[0]) as txn:
            Writer(self._duck, self._reader.translate, txn).truncate(table)
            self._touched.add(".".join(table.key))
        return _status("Statement executed successfully.", engine.DDL)

    def _pass_on(self, tree: exp.Expression) -> Answer:
        """What the emulator knows nothing of is fakesnow's to answer."""
        cursor = self._fake.cursor()
        cursor.execute(tree.sql(dialect="snowflake"))
        rows: pa.Table = cursor._arrow_table
        columns = [Column(field, ColumnType("TEXT")) for field in rows.column_names]
        text = pa.Table.from_arrays([column.cast(pa.string()) for column in rows.columns], names=rows.column_names)
        return Answer(text, columns, engine.SHOW if isinstance(tree, exp.Show) else engine.DDL)

    # Listings and the session itself

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

    def _session_statement(self, tree: exp.Expression) -> Answer | None:
        done = _status("Statement executed successfully.", engine.OTHER)
        if isinstance(tree, exp.Alter) and str(tree.args.get("kind")).upper() == "SESSION":
            for action in tree.args["actions"]:
                for item in action.expressions:
                    if action.args.get("unset"):
                        self.parameters.pop(item.this.name.upper(), None)
                    else:
                        self.set_parameter(item.this.this.name, item.this.expression.name)
            return done
        if isinstance(tree, exp.Set):
            for item in tree.expressions:
                name, value = item.this.this.name.upper(), item.this.expression
                (row,) = self._reader.select(exp.select(value.copy())).rows.to_pylist()
                self._variables[name] = _literal(next(iter(row.values())))
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


def _aliased(values: exp.Values, width: int) -> exp.Values:
    names = [exp.to_identifier(f"V{i}", quoted=True) for i in range(width)]
    values = values.copy()
    values.set("alias", exp.TableAlias(this=exp.to_identifier("V", quoted=True), columns=names))
    return values


def _literal(value: Any) -> Any:
    if hasattr(value, "isoformat"):
        kind = "TIMESTAMPLTZ" if getattr(value, "tzinfo", None) else "TIMESTAMPNTZ"
        return exp.cast(exp.Literal.string(value.isoformat(sep=" ")), kind)
    return exp.convert(value)


def _status(message: str, statement_type: int) -> Answer:
    return Answer(*listing.status(message), statement_type)
