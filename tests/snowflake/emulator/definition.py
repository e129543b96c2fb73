"""CREATE, ALTER and DROP TABLE: a table is a log, a view of its living rows and an entry in the catalog."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from sqlglot import exp

from tests.snowflake.emulator.column import Column, declared
from tests.snowflake.emulator.failure import SqlFailure, already_exists, unsupported
from tests.snowflake.emulator.naming import quoted, shown
from tests.snowflake.emulator.table import LOG, Catalog, Key, Table

MAX_RETENTION_DAYS = 90


def create_log(duck: Any, database: str) -> None:
    """Make a database ready to keep logs."""
    schema = quoted(database, LOG)
    duck.execute(
        f"CREATE SCHEMA IF NOT EXISTS {schema};"
        f"CREATE SEQUENCE IF NOT EXISTS {schema}.ROW_IDS;"
        f"CREATE TABLE IF NOT EXISTS {schema}.COMMITS (txn BIGINT, us BIGINT)"
    )


def options(items: list[exp.Expression]) -> dict[str, str]:
    """Return the ``NAME = value`` options of a CREATE or ALTER, by upper-case name."""
    found = {}
    for item in items:
        if isinstance(item, exp.SchemaCommentProperty):
            found["COMMENT"] = item.this.name
        elif isinstance(item, exp.Property) and isinstance(item.args.get("value"), exp.Expression):
            name = item.this if isinstance(item.this, str) else item.this.name
            found[name.upper()] = item.args["value"].sql()
    return {name: value.strip("'") for name, value in found.items()}


def columns_of(schema: exp.Schema) -> tuple[list[Column], dict[str, exp.Expression]]:
    """Return the columns that a CREATE TABLE declares, and their defaults."""
    keys = {part.name for key in schema.find_all(exp.PrimaryKey) for part in key.expressions}
    columns, defaults = [], {}
    for definition in schema.expressions:
        if isinstance(definition, exp.ColumnDef):
            column, default = column_of(definition)
            columns.append(replace(column, primary_key=True) if column.name in keys else column)
            if default is not None:
                defaults[column.name] = default
    return columns, defaults


def column_of(definition: exp.ColumnDef) -> tuple[Column, exp.Expression | None]:
    """Return a declared column and its default."""
    kinds = {type(c.kind): c.kind for c in definition.constraints}
    if exp.AutoIncrementColumnConstraint in kinds or exp.GeneratedAsIdentityColumnConstraint in kinds:
        raise unsupported("AUTOINCREMENT and IDENTITY")
    default = kinds[exp.DefaultColumnConstraint].this if exp.DefaultColumnConstraint in kinds else None
    comment = kinds[exp.CommentColumnConstraint].this.name if exp.CommentColumnConstraint in kinds else None
    not_null = kinds.get(exp.NotNullColumnConstraint)
    primary = exp.PrimaryKeyColumnConstraint in kinds
    column = Column(
        definition.name,
        declared(definition.args["kind"]),
        nullable=not primary and (not_null is None or bool(not_null.args.get("allow_null"))),
        default=default.sql("snowflake") if default is not None else None,
        primary_key=primary,
        comment=comment,
    )
    return column, default


class Definer:
    """Defines tables on one connection; what it does commits at ``us``."""

    def __init__(self, duck: Any, catalog: Catalog, us: int) -> None:
        self._duck = duck
        self._catalog = catalog
        self._us = us

    def create(
        self, key: Key, columns: list[Column], chosen: dict[str, str], created_us: int, *, default_retention: float
    ) -> Table:
        """Create a table; one that exists under the name is replaced, history and all.

        Snowflake docs, SQL reference, "CREATE TABLE": the replaced table is dropped, the new one is another object.
        """
        if key in self._catalog.views:
            raise already_exists(shown(key[2]))
        table = Table(
            key,
            self._catalog.number(),
            columns,
            created_us,
            self._us,
            retention_days=_retention(chosen, default_retention),
            tracked_since_us=self._us if _is_true(chosen.get("CHANGE_TRACKING")) else None,
            changed_us=self._us,
            comment=chosen.get("COMMENT", ""),
        )
        listed = ", ".join(f"{quoted(c.name)} {c.type.duck}{'' if c.nullable else ' NOT NULL'}" for c in columns)
        self._duck.execute(f"CREATE TABLE {table.log} ({listed}, _rid BIGINT, _new BOOLEAN, _from BIGINT, _to BIGINT)")
        self._views(table)
        self._catalog.tables[key] = table
        return table

    def drop(self, table: Table) -> None:
        """Drop a table; its history goes with it (the emulator has no UNDROP)."""
        self._duck.execute(f"DROP VIEW {table.duck}; DROP VIEW {quoted(*table.current)}; DROP TABLE {table.log}")
        del self._catalog.tables[table.key]

    def alter(self, table: Table, statement: exp.Alter) -> None:
        """ALTER TABLE: its options, columns and name."""
        for action in statement.args["actions"]:
            if isinstance(action, exp.AlterSet):
                items = [
                    i for p in action.expressions for i in (p.expressions if isinstance(p, exp.Properties) else [p])
                ]
                self._set(table, options(items))
            elif isinstance(action, exp.ColumnDef):
                self._add(table, action)
            elif isinstance(action, exp.Drop):
                for column in action.args["tables"]:
                    self._drop_column(table, column.name)
            elif isinstance(action, exp.RenameColumn):
                self._rename_column(table, action.this.name, action.args["to"].name)
            elif isinstance(action, exp.AlterRename):
                self._rename(table, action.this)
            else:
                raise unsupported(f"ALTER TABLE … {type(action).__name__}")

    def _set(self, table: Table, chosen: dict[str, str]) -> None:
        """Tracking starts with the statement that enables it: earlier changes can't be asked for.

        Snowflake docs, SQL reference, "CHANGES", usage notes; "ALTER TABLE", CHANGE_TRACKING.
        """
        if "CHANGE_TRACKING" in chosen:
            on = _is_true(chosen["CHANGE_TRACKING"])
            table.tracked_since_us = (table.tracked_since_us or self._us) if on else None
        table.retention_days = _retention(chosen, table.retention_days)
        table.comment = chosen.get("COMMENT", table.comment)

    def _add(self, table: Table, definition: exp.ColumnDef) -> None:
        column, default = column_of(definition)
        if column.name in table.names():
            raise SqlFailure(1430, "42601", f"SQL compilation error:\ncolumn '{shown(column.name)}' already exists")
        self._without_views(table, f"ADD COLUMN {quoted(column.name)} {column.type.duck}")
        table.columns.append(column)
        if default is not None:
            table.defaults[column.name] = default
        self._views(table)

    def _drop_column(self, table: Table, name: str) -> None:
        self._without_views(table, f"DROP COLUMN {quoted(name)}")
        table.columns = [column for column in table.columns if column.name != name]
        table.defaults.pop(name, None)
        self._views(table)

    def _rename_column(self, table: Table, old: str, new: str) -> None:
        self._without_views(table, f"RENAME COLUMN {quoted(old)} TO {quoted(new)}")
        table.columns = [replace(c, name=new) if c.name == old else c for c in table.columns]
        self._views(table)

    def _rename(self, table: Table, to: exp.Table) -> None:
        key = (to.catalog or table.key[0], to.db or table.key[1], to.name)
        if key in self._catalog.tables or key in self._catalog.views:
            raise already_exists(shown(to.name))
        self._duck.execute(f"DROP VIEW {table.duck}")
        del self._catalog.tables[table.key]
        table.key = key
        self._catalog.tables[key] = table
        self._views(table)

    def _without_views(self, table: Table, change: str) -> None:
        self._duck.execute(f"DROP VIEW {table.duck}; DROP VIEW {quoted(*table.current)}")
        self._duck.execute(f"ALTER TABLE {table.log} {change}")

    def _views(self, table: Table) -> None:
        columns, living = table.select_list(), f"FROM {table.log} WHERE _to IS NULL"
        self._duck.execute(
            f"CREATE OR REPLACE VIEW {table.duck} AS SELECT {columns} {living};"
            f"CREATE OR REPLACE VIEW {quoted(*table.current)} AS SELECT {columns}, _rid {living}"
        )


def _is_true(value: str | None) -> bool:
    return (value or "").upper() == "TRUE"


def _retention(chosen: dict[str, str], otherwise: float) -> float:
    days = float(chosen.get("DATA_RETENTION_TIME_IN_DAYS", otherwise))
    if not 0 <= days <= MAX_RETENTION_DAYS:
        raise SqlFailure(
            1008,
            "22023",
            f"SQL compilation error:\ninvalid value [{days:g}] for parameter 'DATA_RETENTION_TIME_IN_DAYS'",
        )
    return days
