"""One run of Structured Streaming over a Delta table's change feed, from a position to the caller's handler."""

from __future__ import annotations

import json
import shutil
import tempfile
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from time import monotonic

from pyspark.errors import StreamingQueryException
from pyspark.sql import DataFrame
from pyspark.sql import functions as F  # noqa: N812
from pyspark.sql.streaming.query import StreamingQuery

from connectors.contract import COMMITTED_AT, DELETE, OP, UPSERT, VERSION, ChangeBatch, Head, Position
from connectors.delta_table import DeltaTable
from connectors.errors import SourceError
from connectors.session import scratch_dir

# Delta splits a commit of plain adds and removes over micro-batches by files: this keeps versions whole.
ALL_FILES = 2**31 - 1
POLL_SECONDS = 0.1
# How often a stream without changes asks whether the table is still the same one (Delta itself does not notice).
IDENTITY_SECONDS = 1.0


class DeltaStream:
    """Reads changes after ``start`` in order and keeps ``position``: what ``handle`` has been given.

    Each :meth:`run` goes on from ``position`` with a query and a scratch checkpoint of its own, and ends both.
    """

    def __init__(
        self, table: DeltaTable, columns: Sequence[str], start: Position, handle: Callable[[ChangeBatch], None]
    ) -> None:
        self.table = table
        self.columns = columns
        self.position = start
        self._handle = handle
        self._lock = threading.Lock()
        self._closing = False
        self._failure: BaseException | None = None
        self._same_table_at = monotonic()

    def run(self, head: Head, *, interval_seconds: float | None, stop: Callable[[], bool] | None) -> None:
        """Handle changes up to ``head`` at least; with ``interval_seconds``, go on until ``stop`` says so."""
        self._closing, self._failure = False, None
        scratch = Path(tempfile.mkdtemp(prefix="stream-", dir=scratch_dir()))
        try:
            self._run(scratch, head, interval_seconds, stop)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)

    def _run(self, scratch: Path, head: Head, interval_seconds: float | None, stop: Callable[[], bool] | None) -> None:
        query = self._start(scratch, head, interval_seconds)
        try:
            self._wait(query, stop if interval_seconds is not None else None)
        except StreamingQueryException as error:
            if self._failure is None:
                raise self.table.translate(error) or SourceError(f"{self.table.named}: {error}") from error
        except (KeyboardInterrupt, SystemExit):
            query.stop()  # with the jobs of a batch that is being handled, which would keep us waiting below
            raise
        finally:
            with self._lock:  # no batch is being handled any more, and none begins
                self._closing = True
            query.stop()
        if self._failure is not None:
            raise self._failure

    def _start(self, scratch: Path, head: Head, interval_seconds: float | None) -> StreamingQuery:
        # A starting version past the newest one is an error, so that a stream with nothing to read yet begins with the
        # version that it already has, which is dropped.
        first = min(self.position.version + 1, head.position.version)
        reader = self.table.spark.readStream.format("delta").options(
            readChangeFeed="true", startingVersion=str(first), maxFilesPerTrigger=str(ALL_FILES)
        )
        with self.table.translated():
            feed = reader.load(self.table.location) if self.table.by_path else reader.table(self.table.location)
            writer = feed.writeStream.option("checkpointLocation", scratch.as_uri())
            writer = writer.foreachBatch(lambda frame, batch: self._on_batch(frame, scratch / "offsets" / str(batch)))
            if interval_seconds is None:
                return writer.trigger(availableNow=True).start()
            return writer.trigger(processingTime=f"{round(interval_seconds * 1000)} milliseconds").start()

    def _wait(self, query: StreamingQuery, stop: Callable[[], bool] | None) -> None:
        """Return when the query ends by itself or a batch failed, or, between two batches, when ``stop`` says so."""
        while self._failure is None and not query.awaitTermination(POLL_SECONDS):  # type: ignore[arg-type]
            if stop is not None and stop():
                return
            if monotonic() - self._same_table_at > IDENTITY_SECONDS and not self._lock.locked():
                self._require_same_table()

    def _on_batch(self, frame: DataFrame, offsets: Path) -> None:
        with self._lock:
            if self._closing:
                return
            try:
                self._deliver(frame, end_version(offsets.read_text()))
            except BaseException as error:
                # Kept for run() to raise as it was. Raised here, it would come back as text, and on the terminal too.
                self._failure = error
                self._closing = True

    def _deliver(self, frame: DataFrame, version: int) -> None:
        if version <= self.position.version:
            return
        self._require_same_table()
        changes = contract_changes(frame, self.columns, after=self.position.version)
        self.deliver(changes, version)

    def _require_same_table(self) -> None:
        self.table.require_epoch(self.table.head(), self.position)
        self._same_table_at = monotonic()

    def deliver(self, changes: DataFrame, version: int) -> None:
        """Hand on ``changes``, which are all of those up to ``version``, and move the position."""
        end = Position(epoch=self.position.epoch, version=version)
        batch = ChangeBatch(
            start=self.position, end=end, committed_at=self.table.committed_at(version), changes=changes
        )
        try:
            self._handle(batch)
        except Exception as error:
            lost = self.table.lost_file(error)
            if lost is None:
                raise
            raise lost from error
        self.position = end


def end_version(offsets: str) -> int:
    """Read the last whole version out of a streaming offset file.

    Delta writes the place up to which a batch goes as ``reservoirVersion`` and ``index``. Index -1 is before everything
    of that version. From 0 on it is the last file of the batch, and that is the version's last with changes, because
    ``ALL_FILES`` admits every file (the commits of UPDATE, DELETE and MERGE end so). Below -1 are the barriers of
    schema tracking, which is not in use.
    """
    offset = json.loads(offsets.splitlines()[-1])
    version, index = int(offset["reservoirVersion"]), int(offset["index"])
    if index < -1:
        raise SourceError(f"Delta ended a batch at a place that is unknown: {offset}")
    return version if index >= 0 else version - 1


def contract_changes(feed: DataFrame, columns: Sequence[str], *, after: int) -> DataFrame:
    """Turn rows of Delta's change feed into those of the change contract, dropping versions up to ``after``."""
    removed = F.col("_change_type").isin("delete", "update_preimage")
    return feed.where(F.col("_commit_version") > after).select(
        *(F.col(quoted(name)) for name in columns),
        F.when(removed, DELETE).otherwise(UPSERT).alias(OP),
        F.col("_commit_version").alias(VERSION),
        F.col("_commit_timestamp").alias(COMMITTED_AT),
    )


def quoted(column: str) -> str:
    """Quote a column's name for Spark: a dot in it is no path into a structure."""
    return "`" + column.replace("`", "``") + "`"
