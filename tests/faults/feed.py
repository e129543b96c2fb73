"""A table that a schedule changes, in memory or in Delta, and its feed as a source that may stutter hands it on."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any, Protocol, cast

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.types import IntegerType, LongType, StringType, StructField, StructType

from connectors.contract import DELETE, POLL_SECONDS, UPSERT, ChangeBatch, Head, Position, Reads, Source
from connectors.memory_source import MemorySource
from tests.faults.local_session import LocalSession
from tests.scene import Scene

Row = dict[str, Any]
Changes = Mapping[int, Row | None]
"""What a commit does to each key: the row it has afterwards, None for none."""

SCHEMA = StructType([StructField("id", LongType()), StructField("body", StringType()), StructField("n", IntegerType())])


class Table(Protocol):
    """A table of ``id``, ``body`` and ``n`` that a schedule changes."""

    def source(self) -> Source:
        """Return what reads it."""

    def change(self, before: Mapping[int, Row], changes: Changes) -> None:
        """Commit ``changes`` to the rows ``before`` as one version."""

    def lose_history(self) -> None:
        """Make that no changes lead from here on any more."""

    def recreate(self) -> None:
        """Drop the table and make it anew, empty."""


class MemoryTable:
    """Rows in a :class:`MemorySource`; ``random`` decides in what order a commit has its changes."""

    def __init__(self, random: random.Random) -> None:
        self._random = random
        self._source = MemorySource(cast(SparkSession, LocalSession()), SCHEMA)

    def source(self) -> Source:
        return self._source

    def change(self, before: Mapping[int, Row], changes: Changes) -> None:
        rows = [(DELETE, before[key]) for key in changes if key in before]
        rows += [(UPSERT, row) for row in changes.values() if row is not None]
        self._source.commit(self._random.sample(rows, len(rows)))

    def lose_history(self) -> None:
        self._source.expire(self._source.head().position.version)

    def recreate(self) -> None:
        self._source.recreate()


class DeltaTable:
    """Rows in the table of a :class:`tests.scene.Scene`."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        scene.create()

    def source(self) -> Source:
        return self._scene.source_of(self._scene.spec())

    def change(self, before: Mapping[int, Row], changes: Changes) -> None:
        if not changes:
            return
        values = ", ".join(
            f"({key}, {_sql(row['body'])}, {row['n']}, false)" if row else f"({key}, NULL, NULL, true)"
            for key, row in changes.items()
        )
        self._scene.sql(
            f"MERGE INTO {{t}} AS t USING (SELECT * FROM VALUES {values} AS v(id, body, n, gone)) AS s ON t.id = s.id "
            "WHEN MATCHED AND s.gone THEN DELETE WHEN MATCHED THEN UPDATE SET body = s.body, n = s.n "
            "WHEN NOT MATCHED AND NOT s.gone THEN INSERT (id, body, n) VALUES (s.id, s.body, s.n)"
        )

    def lose_history(self) -> None:
        for on in ("false", "true"):
            self._scene.sql(f"ALTER TABLE {{t}} SET TBLPROPERTIES (delta.enableChangeDataFeed = {on})")

    def recreate(self) -> None:
        shutil.rmtree(self._scene.table)
        self._scene.create()


class Feed:
    """Reads ``table``; of its next stream a batch comes in pieces, some rows twice, or an old batch once more.

    ``cuts`` are the versions at which a batch is cut, ``doubled`` says whether each row comes twice, and ``replayed``
    whether the last batch that was taken is handed on first.
    """

    def __init__(self, table: Table) -> None:
        self._table = table
        self._last: ChangeBatch | None = None
        self.cuts: Callable[[int, int], list[int]] = lambda start, end: []
        self.doubled = False
        self.replayed = False

    @property
    def _source(self) -> Source:
        return self._table.source()

    def head(self) -> Head:
        return self._source.head()

    def reads(self) -> Reads:
        return self._source.reads()

    def require_followable(self) -> None:
        self._source.require_followable()

    def has_nothing_after(self, position: Position) -> bool:
        return self._source.has_nothing_after(position)

    def retention_seconds(self) -> float | None:
        return self._source.retention_seconds()

    def schema(self) -> StructType:
        return self._source.schema()

    def snapshot(self, position: Position) -> DataFrame:
        return self._source.snapshot(position)

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
        if self.replayed and self._last:
            self.replayed = False
            handle(self._last)

        def take(batch: ChangeBatch) -> None:
            for piece in self._pieces(batch):
                handle(piece)
                self._last = piece

        self._source.stream(
            start, take, continuous=continuous, interval_seconds=interval_seconds, stop=stop, until=until
        )

    def _pieces(self, batch: ChangeBatch) -> Iterator[ChangeBatch]:
        start, changes = batch.start, batch.changes
        if self.doubled:
            changes = changes.union(changes)
        for version in [*self.cuts(start.version, batch.end.version), batch.end.version]:
            end = replace(batch.end, version=version)
            piece = changes.where(f"_version <= {version}").where(f"_version > {start.version}")
            yield ChangeBatch(start, end, batch.committed_at, piece)
            start = end


def _sql(text: str | None) -> str:
    return "NULL" if text is None else f"'{text}'"
