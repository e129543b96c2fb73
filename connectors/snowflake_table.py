"""One Snowflake table's or view's own facts: its identity, retention, change tracking and columns."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Any

from pyspark.sql.types import StructField, StructType

from connectors.columns import RESERVED, require_columns
from connectors.contract import Head, Position
from connectors.errors import (
    ChangesUnavailable,
    HistoryExpired,
    SchemaMismatch,
    SignInFailed,
    SourceNotFound,
    SourceRecreated,
)
from connectors.snowflake_session import Session
from connectors.snowflake_sql import (
    PRECISION,
    Identifier,
    changes,
    json_path,
    literal,
    microseconds_of,
    moment,
    quoted,
    readable,
    readable_at,
    table_name,
)
from connectors.snowflake_types import Kind, kind_of, path_kind

SECOND = 1_000_000
DAY_SECONDS = 86_400.0
RECENT_SECONDS = 10.0
"""For how long a table's settings may be taken for what they were: a heartbeat asks for them every second."""


@dataclass(frozen=True)
class Facts:
    """What SHOW says of a table: ``created`` in microseconds since 1970 UTC, ``retention_days`` where it keeps any."""

    database: str
    schema: str
    name: str
    view: bool
    created: int
    tracked: bool
    retention_days: float | None

    @property
    def sql(self) -> str:
        """The table's name in SQL."""
        return ".".join(map(quoted, (self.database, self.schema, self.name)))

    @property
    def travels(self) -> bool:
        """Whether the table can be read as it was."""
        return self.retention_days != 0

    @property
    def epoch(self) -> str:
        """The table's identity: a table that is dropped and created anew has another one.

        The name is in it because the tables of a cloned database may all have been created at one time.
        """
        return f"{readable(self.database, self.schema, self.name)}@{self.created}"


@dataclass(frozen=True)
class Layout:
    """How columns are read: the select list that gives them the caller's names, and what they are in Spark."""

    schema: StructType
    select: str


class SnowflakeTable:
    """A table or view by its name ``DB.SCHEMA.TABLE``; ``paths`` are the columns read out of semi-structured ones.

    A part of the name that is not in double quotes means itself where that exists and its upper case otherwise.
    ``named`` is what errors call the table, its name by default.
    """

    def __init__(
        self, session: Session, table: str, paths: Mapping[str, str] | None = None, *, named: str | None = None
    ) -> None:
        self.session = session
        self.named = named or table
        self._name = table_name(table)
        self._paths = {name: json_path(text) for name, text in (paths or {}).items()}
        self._known: Facts | None = None
        self._known_at = 0.0

    def facts(self) -> Facts:
        """Return what the table is now: one SHOW, which needs no warehouse. Raises :class:`SourceNotFound`."""
        for database, schema, view in self._places():
            found = self._shown(database, schema, view)
            if found is not None:
                self._known, self._known_at = found, monotonic()
                return found
        raise SourceNotFound(
            f"{self.named} does not exist, or the role may not see it. The role needs USAGE on the database and the "
            "schema and SELECT on the table (docs/snowflake.md has the grants); a name with small letters or dots goes "
            "in double quotes"
        )

    def recent_facts(self) -> Facts:
        """Return what the table was at most :data:`RECENT_SECONDS` ago."""
        if self._known is None or monotonic() - self._known_at > RECENT_SECONDS:
            return self.facts()
        return self._known

    def head(self, trail_seconds: float) -> Head:
        """Return the position ``trail_seconds`` behind the server's clock.

        A table that is younger than that is waited for: it cannot be read as of a time before it was there.
        """
        trail = round(trail_seconds * SECOND)
        while True:
            facts = self.facts()
            version = readable_at(self.session.clock() - trail)
            early = facts.created + PRECISION - version  # SHOW cuts creation times, too, to milliseconds
            if early <= 0:
                return Head(position=Position(facts.epoch, version), committed_at=moment(version))
            time.sleep(min(early / SECOND, trail_seconds))

    def token(self) -> str:
        """Return what changes when the table does. It is a token and no time: it can be compared, nothing else."""
        return str(self.session.value(f"SELECT SYSTEM$LAST_CHANGE_COMMIT_TIME({literal(self.sql)})"))

    @property
    def sql(self) -> str:
        """The table's name in SQL, looked up once."""
        return (self._known or self.facts()).sql

    def schema(self, columns: Sequence[str]) -> StructType:
        """Return the table's columns as Spark's: those of ``columns`` that it has, by these names, then its others.

        Raises :class:`SchemaMismatch` for one of ``columns`` that is of a type that Grebe does not read; others of such
        types are left out.
        """
        types = self._types()
        found = {name: own for name in columns if (own := self._found(name, types))}
        ours = [StructField(name, self._read(name, types)[0].spark) for name in found]
        taken = {*found, *found.values()}
        others = [(name, kind_of(text)) for name, text in types.items() if name not in taken]
        return StructType(ours + [StructField(name, kind.spark) for name, kind in others if kind])

    def layout(self, columns: Sequence[str]) -> Layout:
        """Return how ``columns`` are read; raise :class:`SchemaMismatch` for one that is missing or of another type."""
        return self._layout(columns, self._types())

    def require_epoch(self, position: Position) -> Facts:
        """Return the table's facts; raise :class:`SourceRecreated` when ``position`` is another table's."""
        facts = self.facts()
        if facts.epoch != position.epoch:
            raise SourceRecreated(
                f"{self.named} was dropped and created anew: it is {facts.epoch}, the one that was synced was "
                f"{position.epoch}; a sync compares the new table as a whole"
            )
        return facts

    def require_tracking(self, facts: Facts) -> None:
        """Raise :class:`ChangesUnavailable` when the table keeps no changes."""
        if not facts.tracked:
            kind = "VIEW" if facts.view else "TABLE"
            raise ChangesUnavailable(
                f"{self.named} keeps no changes; turn that on with: ALTER {kind} {facts.sql} SET CHANGE_TRACKING = TRUE"
            )
        if not facts.travels:
            raise ChangesUnavailable(
                f"{self.named} keeps changes for no time at all; give it some with: "
                f"ALTER TABLE {facts.sql} SET DATA_RETENTION_TIME_IN_DAYS = 1"
            )

    def require_history(self, facts: Facts, version: int) -> None:
        """Raise :class:`HistoryExpired` when the changes after ``version`` are no longer there or never were."""
        kept = self.retention_seconds(facts)
        if kept is not None and self.session.clock() - version > kept * SECOND:
            raise HistoryExpired(
                f"{self.named}: changes after {moment(version):%Y-%m-%d %H:%M:%S} UTC are older than the table's "
                f"retention of {facts.retention_days:g} days; a sync compares the whole table and goes on from "
                "there"
            )
        self.session.rows(f"SELECT 1 FROM {changes(facts.sql, version)} LIMIT 0")

    def retention_seconds(self, facts: Facts) -> float | None:
        """Return how long a change stays readable; None for a view, whose tables have retentions of their own."""
        return None if facts.retention_days is None else facts.retention_days * DAY_SECONDS

    def _places(self) -> Iterator[tuple[str, str, bool]]:
        if self._known:
            yield self._known.database, self._known.schema, self._known.view
        for database in self._name[0].candidates:
            for schema in self._name[1].candidates:
                yield from ((database, schema, view) for view in (False, True))

    def _shown(self, database: str, schema: str, view: bool) -> Facts | None:
        kind = "VIEWS" if view else "TABLES"
        place = f"{quoted(database)}.{quoted(schema)}"
        try:
            # LIKE knows no case, and its wildcards let through too much rather than too little.
            rows = self.session.records(f"SHOW {kind} LIKE {literal(self._name[2].text)} IN SCHEMA {place}")
        except SignInFailed:
            raise
        except SourceNotFound:
            return None
        by_name = {row["name"]: row for row in rows}
        name = self._name[2].match(list(by_name))
        return None if name is None else _facts(by_name[name], database, schema, name, view)

    def _types(self) -> dict[str, str]:
        facts = self.facts()
        kind = "VIEW" if facts.view else "TABLE"
        return {row["name"]: row["type"] for row in self.session.records(f"DESCRIBE {kind} {facts.sql}")}

    def _layout(self, columns: Sequence[str], types: Mapping[str, str]) -> Layout:
        unknown = [name for name in columns if name in RESERVED or self._found(name, types) is None]
        require_columns(self.named, unknown, list(types))
        alike = sorted(name for name in columns if sum(name.lower() == other.lower() for other in columns) > 1)
        if alike:
            raise SchemaMismatch(
                f"{self.named}: {', '.join(alike)} differ by case alone, which Spark does not tell apart"
            )
        read = [(name, *self._read(name, types)) for name in columns]
        return Layout(
            schema=StructType([StructField(name, kind.spark) for name, kind, _ in read]),
            select=", ".join(f"{kind.of(own)} AS {quoted(name)}" for name, kind, own in read),
        )

    def _read(self, column: str, types: Mapping[str, str]) -> tuple[Kind, str]:
        """Return what ``column`` is in Spark, and the table's own column that it is read from."""
        own = self._found(column, types)
        assert own is not None
        path = self._paths.get(column)
        kind = path_kind(path) if path else kind_of(types[own])
        if kind is None:
            came = f"a path read as {path.type}" if path else types[own]
            raise SchemaMismatch(
                f"{self.named}: column {column!r} is {came}, which Grebe does not read: cast it in a view"
            )
        return kind, own

    def _found(self, column: str, types: Mapping[str, str]) -> str | None:
        """Return the table's own column that ``column`` is, or is a path in."""
        path = self._paths.get(column)
        return (path.column if path else Identifier(column)).match(list(types))


def _facts(row: Mapping[str, Any], database: str, schema: str, name: str, view: bool) -> Facts:
    days = row.get("retention_time")
    return Facts(
        database=database,
        schema=schema,
        name=name,
        view=view,
        created=microseconds_of(row["created_on"]),
        tracked=_is_true(row.get("change_tracking")),
        retention_days=float(days) if days not in (None, "") and not view else None,
    )


def _is_true(value: object) -> bool:
    return str(value).upper() in {"ON", "TRUE", "Y", "YES"}
