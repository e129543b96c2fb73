"""A source that lives in memory: the change contract for tests, without a table format."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.types import LongType, StringType, StructField, StructType, TimestampType

from connectors.contract import (
    COMMITTED_AT,
    DELETE,
    OP,
    POLL_SECONDS,
    UPSERT,
    VERSION,
    ChangeBatch,
    Head,
    Position,
    Reads,
)
from connectors.errors import ChangesUnavailable, HistoryExpired, SchemaMismatch, SourceRecreated

Change = tuple[str, Mapping[str, Any]]


@dataclass(frozen=True)
class _Commit:
    committed_at: datetime
    changes: tuple[tuple[str, tuple[Any, ...]], ...]


class MemorySource:
    """Implements :class:`connectors.contract.Source` over a list of commits; version 0 is the empty table.

    ``schema`` is the table's, ``columns`` those that its DataFrames have (all by default). Safe to commit to from
    another thread than the one that streams.
    """

    def __init__(
        self,
        spark: SparkSession,
        schema: StructType,
        columns: Sequence[str] | None = None,
        *,
        reads: Reads = "changes",
        retention_seconds: float | None = None,
    ) -> None:
        self._spark = spark
        self._reads: Reads = reads
        self._retention_seconds = retention_seconds
        self._schema = schema
        self._columns = tuple(schema.names if columns is None else columns)
        self._changed = threading.Condition()
        self._begin()

    def commit(self, changes: Sequence[Change]) -> int:
        """Commit ``(op, row)`` pairs as one version and return it; an update is a delete and an upsert.

        A delete names the whole old row; deleting a row that is not there raises ``ValueError``.
        """
        rows = tuple((op, tuple(row[name] for name in self._schema.names)) for op, row in changes)
        with self._changed:
            _replay((*self._commits, _Commit(datetime.now(UTC), rows)))
            self._commits.append(_Commit(datetime.now(UTC), rows))
            self._changed.notify_all()
            return len(self._commits) - 1

    def recreate(self) -> None:
        """Drop the table and create it anew, empty: another epoch."""
        with self._changed:
            self._begin()

    def expire(self, version: int) -> None:
        """Forget the changes of every version up to ``version``."""
        with self._changed:
            self._expired = version

    def head(self) -> Head:
        """Return the newest position."""
        with self._changed:
            return self._head_at(Position(self._epoch, len(self._commits) - 1))

    def reads(self) -> Reads:
        """Return what the constructor was told."""
        return self._reads

    def require_followable(self) -> None:
        """Return: snapshots can always be compared."""

    def has_nothing_after(self, position: Position) -> bool:
        """Say whether ``position`` is the head."""
        return self.head().position == position

    def retention_seconds(self) -> float | None:
        """Return what the constructor was told."""
        return self._retention_seconds

    def schema(self) -> StructType:
        """Return the table's own columns."""
        return self._schema

    def snapshot(self, position: Position) -> DataFrame:
        """Return every row at exactly ``position``, each as an ``upsert`` of that version."""
        self._require_columns()
        self._require(position)
        commits = self._commits[: position.version + 1]
        stamp = commits[-1].committed_at
        return self._frame([(*row, UPSERT, position.version, stamp) for row in _replay(commits)])

    def stream(
        self,
        start: Position,
        handle: Callable[[ChangeBatch], None],
        *,
        continuous: bool,
        interval_seconds: float = POLL_SECONDS,
        stop: Callable[[], bool] | None = None,
        until: Position | None = None,
    ) -> None:
        """Call ``handle`` with the changes after ``start``: one batch of everything that is there at each look."""
        if self._reads != "changes":
            raise ChangesUnavailable("the table keeps no changes: compare snapshots")
        self._require_columns()
        while not (continuous and stop is not None and stop()):
            self._require(start)
            head = self._head_at(until) if until else self.head()
            if head.position.version > start.version:
                handle(ChangeBatch(start, head.position, head.committed_at, self._changes(start, head.position)))
                start = head.position
            if not continuous:
                return
            with self._changed:
                self._changed.wait(timeout=interval_seconds)

    def _begin(self) -> None:
        self._epoch = str(uuid.uuid4())
        self._commits = [_Commit(datetime.now(UTC), ())]
        self._expired = 0

    def _require_columns(self) -> None:
        missing = [name for name in self._columns if name not in self._schema.names]
        if missing:
            raise SchemaMismatch(f"no column {', '.join(missing)}; there is: {', '.join(self._schema.names)}")

    def _head_at(self, position: Position) -> Head:
        return Head(position, self._commits[position.version].committed_at)

    def _require(self, position: Position) -> None:
        if position.epoch != self._epoch:
            raise SourceRecreated(f"the table was created anew: its id is {self._epoch}, not {position.epoch}")
        if position.version < self._expired:
            raise HistoryExpired(f"version {position.version + 1} is gone; the oldest kept is {self._expired + 1}")

    def _changes(self, start: Position, end: Position) -> DataFrame:
        return self._frame(
            [
                (*row, op, version, self._commits[version].committed_at)
                for version in range(start.version + 1, end.version + 1)
                for op, row in self._commits[version].changes
            ]
        )

    def _frame(self, rows: Sequence[tuple[Any, ...]]) -> DataFrame:
        contract = [
            StructField(OP, StringType(), nullable=False),
            StructField(VERSION, LongType(), nullable=False),
            StructField(COMMITTED_AT, TimestampType(), nullable=False),
        ]
        frame = self._spark.createDataFrame(list(rows), StructType([*self._schema.fields, *contract]))
        return frame.select(*self._columns, OP, VERSION, COMMITTED_AT)


def _replay(commits: Sequence[_Commit]) -> list[tuple[Any, ...]]:
    """Return the rows that ``commits`` leave, deletes of a version before its upserts; the table is a bag of rows."""
    rows: list[tuple[Any, ...]] = []
    for commit in commits:
        for op, row in commit.changes:
            if op == DELETE:
                rows.remove(row)
        rows += [row for op, row in commit.changes if op == UPSERT]
    return rows
