"""A Delta table as a source: a batch read at one version, then its change feed by Structured Streaming."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812
from pyspark.sql.types import StructType

from connectors.columns import column
from connectors.contract import COMMITTED_AT, OP, POLL_SECONDS, UPSERT, VERSION, ChangeBatch, Head, Position, Reads
from connectors.delta_stream import DeltaStream
from connectors.delta_table import DeltaTable, SchemaChanged
from connectors.session import for_large_batches


class DeltaSource:
    """Implements :class:`connectors.contract.Source` over a Delta table.

    ``table`` is a path (``/data/t``, ``s3://bucket/t``, ``gs://bucket/t``) or a metastore name (``schema.table``,
    ``catalog.schema.table``); ``columns`` are those of the table that its DataFrames have, beside the contract's.
    ``_version`` is Delta's commit version, ``_committed_at`` its commit's time, and a position's epoch the table's id.
    """

    def __init__(self, spark: SparkSession, table: str, columns: Sequence[str]) -> None:
        self._table = DeltaTable(spark, table)
        self._columns = tuple(columns)

    def head(self) -> Head:
        """Return the newest position: a listing of the log's tail, no Spark job."""
        return self._table.head()

    def reads(self) -> Reads:
        """Return ``changes``: a Delta table without a change feed cannot be followed."""
        return "changes"

    def require_followable(self) -> None:
        """Raise :class:`ChangesUnavailable`, which says how to turn the change feed on, where it is off."""
        self._table.resolve()
        self._table.require_change_feed()

    def has_nothing_after(self, position: Position) -> bool:
        """Say whether ``position`` is the newest version."""
        return self._table.head().position == position

    def retention_seconds(self) -> float | None:
        """Return the shorter of the log's retention and that of removed files, which VACUUM goes by."""
        return self._table.retention_seconds()

    def schema(self) -> StructType:
        """Return the table's own columns at the newest version, whether or not ours are among them."""
        self._table.resolve()
        return self._table.schema()

    def snapshot(self, position: Position) -> DataFrame:
        """Return every row at exactly ``position``, each as an ``upsert`` of that version."""
        self._table.resolve()
        table = self._for_large_batches()
        table.require_epoch(table.head(), position)
        rows = table.at(position.version)
        self._table.require_columns(self._columns, rows.columns)
        committed_at = table.committed_at(position.version)
        return rows.select(
            *(column(name) for name in self._columns),
            F.lit(UPSERT).alias(OP),
            F.lit(position.version).cast("long").alias(VERSION),
            F.lit(committed_at).alias(COMMITTED_AT),
        )

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
        """Call ``handle`` with the changes after ``start``, whole versions only, as the contract says.

        Raises before reading: :class:`SourceRecreated`, :class:`ChangesUnavailable`, :class:`HistoryExpired` and
        :class:`SchemaMismatch`, each with what heals it.
        """
        interval = interval_seconds if continuous else None
        head = self._checked(start)
        goal = until or head.position
        if not continuous and goal == start:
            return
        table = self._table if continuous else self._for_large_batches()
        stream = DeltaStream(table, self._columns, start, handle, until=until)
        self._run(stream, head, interval, stop)
        if not continuous and stream.position.version < goal.version:
            stream.deliver(self._no_changes(goal.version), goal.version)

    def _run(self, stream: DeltaStream, head: Head, interval: float | None, stop: Callable[[], bool] | None) -> None:
        """Run ``stream``, again and with the table's new columns whenever its schema changes under it."""
        seen = -1
        while True:
            try:
                return stream.run(head, interval_seconds=interval, stop=stop)
            except SchemaChanged:
                if stream.position.version == seen:
                    raise  # the new schema did not get us past it either
                seen = stream.position.version
                head = self._checked(stream.position)

    def _checked(self, start: Position) -> Head:
        """Return the head, once everything that can be known to go wrong has been looked at."""
        self._table.require_columns(self._columns, self.schema().names)
        head = self._table.head()
        self._table.require_epoch(head, start)
        self._table.require_change_feed()
        if head.position.version > start.version:
            self._table.require_history(start.version + 1)
        return head

    def _for_large_batches(self) -> DeltaTable:
        return DeltaTable(for_large_batches(self._table.spark), self._table.named)

    def _no_changes(self, version: int) -> DataFrame:
        return self.snapshot(Position(epoch=self.head().position.epoch, version=version)).limit(0)
