"""The tables that exist, and what each remembers of its past.

A table's rows are kept in a log, one DuckDB row per version of a row: ``_rid`` (the row, for life), ``_new`` (its first
version), ``_from`` and ``_to`` (the transactions that wrote and ended the version). The table itself is a view of the
versions that have no end. What a transaction's number means in time is in its database's ``_log.commits``. So a commit
costs what it writes, and any past state is a query.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlglot import exp

from tests.snowflake.emulator.column import Column
from tests.snowflake.emulator.failure import no_such_object
from tests.snowflake.emulator.naming import quoted, shown

LOG = "_LOG"
DAY_US = 86_400_000_000

Key = tuple[str, str, str]


@dataclass
class Table:
    """One table: ``created_us`` is what SHOW TABLES says, ``born_us`` the commit time of its first version."""

    key: Key
    number: int
    columns: list[Column]
    created_us: int
    born_us: int
    retention_days: float = 1
    tracked_since_us: int | None = None
    kept_since_us: int = 0
    changed_us: int = 0
    comment: str = ""
    defaults: dict[str, exp.Expression] = field(default_factory=dict)

    @property
    def duck(self) -> str:
        """The view with its current rows."""
        return quoted(*self.key)

    @property
    def log(self) -> str:
        """The log of all versions."""
        return quoted(self.key[0], LOG, f"T{self.number}")

    @property
    def current(self) -> tuple[str, str, str]:
        """The view with its current rows and their ``_rid``."""
        return (self.key[0], LOG, f"C{self.number}")

    @property
    def commits(self) -> str:
        """The commit times of its database."""
        return quoted(self.key[0], LOG, "COMMITS")

    @property
    def name(self) -> str:
        """Its own name, as a person reads it."""
        return shown(self.key[2])

    @property
    def full_name(self) -> str:
        """Its name with database and schema, as a person reads it."""
        return ".".join(map(shown, self.key))

    def names(self) -> list[str]:
        """Its columns' names."""
        return [column.name for column in self.columns]

    def select_list(self, prefix: str = "") -> str:
        """Its columns, quoted for DuckDB."""
        return ", ".join(prefix + quoted(name) for name in self.names())

    def remembers(self, at_us: int, now_us: int) -> bool:
        """Say whether time travel reaches a moment: after the creation and within the retention."""
        oldest_us = max(self.kept_since_us, now_us - int(self.retention_days * DAY_US))
        return at_us > self.born_us and at_us >= oldest_us


@dataclass
class View:
    """A view: the columns of its query and the tables under it."""

    key: Key
    columns: list[Column]
    tables: list[Key]
    text: str
    created_us: int


class Catalog:
    """All tables and views, by name as kept."""

    def __init__(self) -> None:
        self.tables: dict[Key, Table] = {}
        self.views: dict[Key, View] = {}
        self._numbers = 0

    def number(self) -> int:
        """Return a number that no table had before."""
        self._numbers += 1
        return self._numbers

    def table(self, key: Key) -> Table:
        """Return a table, or raise what Snowflake says of one that is not there."""
        if key not in self.tables:
            raise no_such_object(".".join(map(shown, key)))
        return self.tables[key]

    def under(self, key: Key) -> list[Table]:
        """Return the table of this name, or the tables under the view of this name."""
        if key in self.views:
            return [table for base in self.views[key].tables for table in self.under(base)]
        return [self.table(key)]

    def columns(self, key: Key) -> list[Column] | None:
        """Return the columns of a table or view, None for neither."""
        found = self.tables.get(key) or self.views.get(key)
        return found.columns if found else None

    def forget(self, database: str, schema: str | None = None) -> None:
        """Forget everything in a dropped database or schema."""
        for kind in (self.tables, self.views):
            for key in [k for k in kind if k[0] == database and schema in (None, k[1])]:
                del kind[key]


def moment(us: int) -> datetime:
    """Return a moment as a datetime in UTC."""
    return datetime.fromtimestamp(0, UTC) + timedelta(microseconds=us)


def microseconds(value: Any) -> int:
    """Return a datetime's moment; one without a zone is meant in UTC."""
    assert isinstance(value, datetime)
    aware = value if value.tzinfo else value.replace(tzinfo=UTC)
    return (aware - datetime.fromtimestamp(0, UTC)) // timedelta(microseconds=1)
