"""Databases and schemas: CREATE, DROP and USE."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fakesnow import info_schema, macros
from sqlglot import exp

from tests.snowflake.emulator.definition import Definer, create_log
from tests.snowflake.emulator.failure import SqlFailure, already_exists, unsupported
from tests.snowflake.emulator.naming import quoted, shown
from tests.snowflake.emulator.table import LOG, Catalog

NOWHERE = quoted("memory", "main")
Defining = Callable[[Callable[[Definer, int], object]], None]


class Places:
    """One session's databases and schemas; its fakesnow connection, ``fake``, keeps the current ones."""

    def __init__(self, fake: Any, catalog: Catalog, defining: Defining) -> None:
        self._fake = fake
        self._duck = fake._duck_conn
        self._catalog = catalog
        self._defining = defining

    def create(self, tree: exp.Create, kind: str) -> str:
        """CREATE DATABASE or SCHEMA; the new one becomes current, a database with its schema PUBLIC."""
        if tree.args.get("clone"):
            raise unsupported(f"CREATE {kind} … CLONE")
        database = tree.this.name if kind == "DATABASE" else tree.this.catalog or self._database()
        schema = "PUBLIC" if kind == "DATABASE" else tree.this.db
        name = database if kind == "DATABASE" else schema
        if self._exists(database, None if kind == "DATABASE" else schema):
            if tree.args.get("exists"):
                return f"{shown(name)} already exists, statement succeeded."
            if not tree.args.get("replace"):
                raise already_exists(shown(name))
            self._remove(database, None if kind == "DATABASE" else schema)
        if kind == "DATABASE":
            self._create_database(database)
        self._duck.execute(f"CREATE SCHEMA {quoted(database, schema)}")
        self.use(database, schema)
        return f"{kind.title()} {shown(name)} successfully created."

    def drop(self, tree: exp.Drop, kind: str) -> str:
        """DROP DATABASE or SCHEMA with all that is in it."""
        target = (tree.args.get("tables") or [tree.this])[0]
        database = target.name if kind == "DATABASE" else target.catalog or self._database()
        schema = None if kind == "DATABASE" else target.db or target.name
        if not self._exists(database, schema):
            if tree.args.get("exists"):
                return "Drop statement executed successfully."
            raise _missing(kind, schema or database)
        self._remove(database, schema)
        return f"{shown(schema or database)} successfully dropped."

    def switch(self, tree: exp.Use) -> None:
        """USE [DATABASE | SCHEMA] name; a database's schema PUBLIC comes with it."""
        kind = str(tree.args.get("kind") or "").upper()
        if kind == "SCHEMA" or tree.this.db:
            self.use(tree.this.db or self._database(), tree.this.name)
        else:
            self.use(tree.this.name, "PUBLIC" if self._exists(tree.this.name, "PUBLIC") else None)

    def use(self, database: str, schema: str | None) -> None:
        """Make a database and a schema current."""
        if not self._exists(database, None):
            raise _missing("DATABASE", database)
        if schema is not None and not self._exists(database, schema):
            raise _missing("SCHEMA", f"{database}.{schema}")
        self._duck.execute("SET schema = '" + quoted(database, schema or "main") + "'")
        self._fake.database, self._fake._schema = database, schema
        self._fake.database_set, self._fake.schema_set = True, schema is not None

    def exists(self, database: str, schema: str | None) -> bool:
        """Say whether a database, or a schema of it, is there."""
        return self._exists(database, schema)

    def _create_database(self, name: str) -> None:
        self._duck.execute(f"ATTACH DATABASE ':memory:' AS {quoted(name)}")
        catalog = name if name.isidentifier() else quoted(name)
        self._duck.execute(info_schema.per_db_creation_sql(catalog))
        self._duck.execute(macros.creation_sql(catalog))
        create_log(self._duck, name)

    def _remove(self, database: str, schema: str | None) -> None:
        if schema is None:
            self._catalog.forget(database)
        for table in [t for k, t in self._catalog.tables.items() if k[:2] == (database, schema)]:
            self._defining(lambda definer, _, table=table: definer.drop(table))  # type: ignore[misc]
        self._catalog.forget(database, schema)
        if self._fake.database == database and schema in (None, self._fake._schema):
            self._duck.execute(f"SET schema = '{NOWHERE}'")
            self._fake.schema_set = False
            self._fake.database_set = schema is not None
        if schema is None:
            self._duck.execute(f"DETACH {quoted(database)}")
        else:
            self._duck.execute(f"DROP SCHEMA {quoted(database, schema)} CASCADE")

    def _exists(self, database: str, schema: str | None) -> bool:
        where = "" if schema is None else " AND schema_name = ?"
        values = [database] if schema is None else [database, schema]
        found = self._duck.execute(f"SELECT 1 FROM duckdb_schemas() WHERE database_name = ?{where} LIMIT 1", values)
        return bool(found.fetchall()) and schema != LOG

    def _database(self) -> str:
        if not self._fake.database_set:
            raise SqlFailure(90105, "22000", "Cannot perform operation. This session does not have a current database.")
        return str(self._fake.database)


def _missing(kind: str, name: str) -> SqlFailure:
    """Error 002043 (02000), for what holds tables and is not there."""
    return SqlFailure(
        2043,
        "02000",
        f"SQL compilation error:\n{kind.title()} '{shown(name)}' does not exist or not authorized.",
    )
