"""SHOW TABLES, SHOW VIEWS, DESCRIBE and INFORMATION_SCHEMA, from the catalog."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pyarrow as pa

from tests.snowflake.emulator.column import MAX_TEXT, Column, ColumnType
from tests.snowflake.emulator.naming import shown
from tests.snowflake.emulator.table import Catalog, Table, View, moment

TEXT = ColumnType("TEXT")
NUMBER = ColumnType("FIXED")
TIME = ColumnType("TIMESTAMP_LTZ", scale=3)

Rows = tuple[pa.Table, list[Column]]

_ARROW = {"TEXT": pa.string(), "FIXED": pa.int64(), "TIMESTAMP_LTZ": pa.timestamp("us", "UTC")}


def rows_of(columns: list[Column], rows: list[list[Any]]) -> Rows:
    """Return listed values as a result."""
    values = [list(column) for column in zip(*rows, strict=True)] or [[] for _ in columns]
    arrays = [pa.array(v, _ARROW[c.type.kind]) for v, c in zip(values, columns, strict=True)]
    return pa.Table.from_arrays(arrays, names=[str(i) for i in range(len(columns))]), columns


def like(pattern: str) -> Callable[[str], bool]:
    """SHOW … LIKE is case-insensitive, with the wildcards ``%`` and ``_``."""
    parts = (".*" if c == "%" else "." if c == "_" else re.escape(c) for c in pattern.replace("\\\\_", "_"))
    return re.compile("".join(parts), re.IGNORECASE | re.DOTALL).fullmatch  # type: ignore[return-value]


def show_tables(tables: list[Table], count: Callable[[Table], int]) -> Rows:
    """Snowflake docs, SQL reference, "SHOW TABLES", output."""
    texts = ["name", "database_name", "schema_name", "kind", "comment", "cluster_by"]
    more = [
        "owner",
        "retention_time",
        "automatic_clustering",
        "change_tracking",
        "is_external",
        "enable_schema_evolution",
        "owner_role_type",
        "is_event",
        "budget",
        "is_hybrid",
        "is_iceberg",
        "is_dynamic",
        "is_immutable",
    ]
    columns = [
        Column("created_on", TIME),
        *(Column(name, TEXT) for name in texts),
        Column("rows", NUMBER),
        Column("bytes", NUMBER),
        *(Column(name, TEXT) for name in more),
    ]
    rows = []
    for t in tables:
        database, schema, name = map(shown, t.key)
        tracking = "OFF" if t.tracked_since_us is None else "ON"
        rows.append(
            [
                moment(t.created_us),
                name,
                database,
                schema,
                "TABLE",
                t.comment,
                "",
                count(t),
                1024,
                "ACCOUNTADMIN",
                f"{t.retention_days:g}",
                "OFF",
                tracking,
                "N",
                "N",
                "ROLE",
                "N",
                None,
                "N",
                "N",
                "N",
                "N",
            ]
        )
    return rows_of(columns, rows)


def show_views(views: list[View]) -> Rows:
    """Snowflake docs, SQL reference, "SHOW VIEWS", output (its first columns)."""
    names = [
        "name",
        "reserved",
        "database_name",
        "schema_name",
        "owner",
        "comment",
        "text",
        "is_secure",
        "is_materialized",
    ]
    columns = [Column("created_on", TIME), *(Column(name, TEXT) for name in names)]
    rows = []
    for v in views:
        database, schema, name = map(shown, v.key)
        rows.append([moment(v.created_us), name, "", database, schema, "ACCOUNTADMIN", "", v.text, "false", "false"])
    return rows_of(columns, rows)


def describe(described: list[Column]) -> Rows:
    """Snowflake docs, SQL reference, "DESCRIBE TABLE", output."""
    names = [
        "name",
        "type",
        "kind",
        "null?",
        "default",
        "primary key",
        "unique key",
        "check",
        "expression",
        "comment",
        "policy name",
        "privacy domain",
    ]
    rows: list[list[Any]] = [
        [
            shown(c.name),
            c.type.label,
            "COLUMN",
            "Y" if c.nullable else "N",
            c.default,
            "Y" if c.primary_key else "N",
            "N",
            None,
            None,
            c.comment,
            None,
            None,
        ]
        for c in described
    ]
    return rows_of([Column(name, TEXT) for name in names], rows)


def information_tables(catalog: Catalog, database: str, count: Callable[[Table], int]) -> Rows:
    """Snowflake docs, SQL reference, "TABLES view": one row for each table and view of the database."""
    texts = [
        "TABLE_CATALOG",
        "TABLE_SCHEMA",
        "TABLE_NAME",
        "TABLE_OWNER",
        "TABLE_TYPE",
        "IS_TRANSIENT",
        "CLUSTERING_KEY",
    ]
    columns = [
        *(Column(name, TEXT) for name in texts),
        *(Column(name, NUMBER) for name in ("ROW_COUNT", "BYTES", "RETENTION_TIME")),
        *(Column(name, TIME) for name in ("CREATED", "LAST_ALTERED", "LAST_DDL")),
        Column("COMMENT", TEXT),
        *(Column(name, TEXT) for name in ("IS_TEMPORARY", "IS_ICEBERG", "IS_DYNAMIC", "IS_HYBRID")),
    ]
    rows: list[list[Any]] = []
    for t in [t for t in catalog.tables.values() if t.key[0] == database]:
        born = moment(t.created_us)
        rows.append(
            [
                *map(shown, t.key),
                "ACCOUNTADMIN",
                "BASE TABLE",
                "NO",
                None,
                count(t),
                1024,
                int(t.retention_days),
                born,
                moment(max(t.changed_us, t.created_us)),
                born,
                t.comment or None,
                "NO",
                "NO",
                "NO",
                "NO",
            ]
        )
    for v in [v for v in catalog.views.values() if v.key[0] == database]:
        born = moment(v.created_us)
        rows.append(
            [
                *map(shown, v.key),
                "ACCOUNTADMIN",
                "VIEW",
                None,
                None,
                None,
                None,
                None,
                born,
                born,
                born,
                None,
                "NO",
                "NO",
                "NO",
                "NO",
            ]
        )
    return rows_of(columns, rows)


def information_columns(catalog: Catalog, database: str) -> Rows:
    """Snowflake docs, SQL reference, "COLUMNS view"."""
    columns = [
        *(Column(name, TEXT) for name in ("TABLE_CATALOG", "TABLE_SCHEMA", "TABLE_NAME", "COLUMN_NAME")),
        Column("ORDINAL_POSITION", NUMBER),
        *(Column(name, TEXT) for name in ("COLUMN_DEFAULT", "IS_NULLABLE", "DATA_TYPE")),
        *(Column(n, NUMBER) for n in ("CHARACTER_MAXIMUM_LENGTH", "NUMERIC_PRECISION", "NUMERIC_SCALE")),
        Column("DATETIME_PRECISION", NUMBER),
        Column("COMMENT", TEXT),
    ]
    rows: list[list[Any]] = []
    everything: list[Table | View] = [*catalog.tables.values(), *catalog.views.values()]
    for held in everything:
        if held.key[0] != database:
            continue
        for place, c in enumerate(held.columns, 1):
            of, fixed = c.type, c.type.kind == "FIXED"
            name = {"FIXED": "NUMBER", "REAL": "FLOAT"}.get(of.kind, of.kind)
            rows.append(
                [
                    *map(shown, held.key),
                    shown(c.name),
                    place,
                    c.default,
                    "YES" if c.nullable else "NO",
                    name,
                    of.length if of.kind == "TEXT" else None,
                    of.precision if fixed else None,
                    of.scale if fixed else None,
                    of.scale if of.kind.startswith("TIME") else None,
                    c.comment,
                ]
            )
    return rows_of(columns, rows)


def status(message: str) -> Rows:
    """The one row that most statements answer with."""
    return rows_of([Column("status", ColumnType("TEXT", length=MAX_TEXT))], [[message]])
