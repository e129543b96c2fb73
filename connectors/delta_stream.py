"""A Delta table's change feed by Structured Streaming, from a position to the caller's handler."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from time import monotonic

from pyspark.sql import DataFrame
from pyspark.sql import functions as F  # noqa: N812

from connectors.columns import column
from connectors.contract import COMMITTED_AT, DELETE, OP, UPSERT, VERSION, ChangeBatch, Head, Position
from connectors.delta_table import DeltaTable
from connectors.errors import SourceError
from connectors.scratch_stream import ScratchStream

# Delta splits a commit of plain adds and removes over micro-batches by files: this keeps versions whole.
ALL_FILES = 2**31 - 1
# How often a stream without changes asks whether the table is still the same one (Delta itself does not notice).
IDENTITY_SECONDS = 1.0


class DeltaStream(ScratchStream):
    """Reads the feed after ``start``, up to ``until`` if given; each :meth:`run` goes on from ``position``."""

    def __init__(
        self,
        table: DeltaTable,
        columns: Sequence[str],
        start: Position,
        handle: Callable[[ChangeBatch], None],
        *,
        until: Position | None = None,
    ) -> None:
        super().__init__(table.named, start, handle)
        self._last = until.version if until else sys.maxsize
        self.table = table
        self.columns = columns
        self._head: Head | None = None
        self._same_table_at = monotonic()

    def run(self, head: Head, *, interval_seconds: float | None, stop: Callable[[], bool] | None) -> None:
        """Handle changes up to ``head`` at least; with ``interval_seconds``, go on until ``stop`` says so."""
        self._head = head
        self.read(interval_seconds=interval_seconds, stop=stop)

    def feed(self) -> DataFrame:
        """Return the change feed from the first version that is wanted."""
        assert self._head is not None
        # A starting version past the newest one is an error, so that a stream with nothing to read yet begins with the
        # version that it already has, which is dropped.
        first = min(self.position.version + 1, self._head.position.version)
        reader = self.table.spark.readStream.format("delta").options(
            readChangeFeed="true", startingVersion=str(first), maxFilesPerTrigger=str(ALL_FILES)
        )
        return reader.load(self.table.location) if self.table.by_path else reader.table(self.table.location)

    def take(self, frame: DataFrame, offsets: str) -> None:
        """Hand on what is newer than ``position``."""
        version = min(end_version(offsets), self._last)
        if version <= self.position.version:
            return
        self._require_same_table()
        self.deliver(contract_changes(frame, self.columns, after=self.position.version, last=version), version)

    def deliver(self, changes: DataFrame, version: int) -> None:
        """Hand on ``changes``, which are all of those up to ``version``, and move the position."""
        end = Position(epoch=self.position.epoch, version=version)
        committed_at = self.table.committed_at(version)
        self.hand_on(ChangeBatch(start=self.position, end=end, committed_at=committed_at, changes=changes))

    def translate(self, error: BaseException) -> SourceError | None:
        """Return what an error about this table means."""
        return self.table.translate(error)

    def translated(self) -> AbstractContextManager[None]:
        """Translate what Delta and Spark raise within."""
        return self.table.translated()

    def lost(self, error: Exception) -> SourceError | None:
        """Return that VACUUM took a file of the changes, if that is what the handler met."""
        return self.table.lost_file(error)

    def watch(self) -> None:
        """Look once a second whether the table is still the same one."""
        if monotonic() - self._same_table_at > IDENTITY_SECONDS and not self.busy():
            self._require_same_table()

    def _require_same_table(self) -> None:
        self.table.require_epoch(self.table.head(), self.position)
        self._same_table_at = monotonic()


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


def contract_changes(feed: DataFrame, columns: Sequence[str], *, after: int, last: int) -> DataFrame:
    """Turn rows of Delta's change feed into those of the change contract: of versions after ``after``, to ``last``."""
    removed = F.col("_change_type").isin("delete", "update_preimage")
    return feed.where((F.col("_commit_version") > after) & (F.col("_commit_version") <= last)).select(
        *(column(name) for name in columns),
        F.when(removed, DELETE).otherwise(UPSERT).alias(OP),
        F.col("_commit_version").alias(VERSION),
        F.col("_commit_timestamp").alias(COMMITTED_AT),
    )
