"""One Delta table's own facts, read from its log without a Spark job: its id, newest version, settings and commits.

Delta's JVM objects are touched here alone, and its errors are translated here alone.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cached_property, reduce
from typing import Any

from delta.tables import DeltaTable as DeltaHandle
from py4j.protocol import Py4JError, Py4JJavaError  # type: ignore[import-untyped]
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.types import StructType
from pyspark.sql.utils import is_remote

from connectors.columns import require_columns
from connectors.contract import Head, Position
from connectors.errors import (
    ChangesInterrupted,
    ChangesUnavailable,
    HistoryExpired,
    SourceError,
    SourceNotFound,
    SourceRecreated,
)
from connectors.hadoop import hadoop_address, hadoop_cloud

CHANGE_FEED = "delta.enableChangeDataFeed"
# Feed files looked for before reading. VACUUM takes the oldest first, so that a few of the first commit's tell.
FEED_FILES_CHECKED = 16


class SchemaChanged(ChangesInterrupted):
    """The table's schema changed under a running stream: it can be started anew with the new schema."""


class DeltaTable:
    """A Delta table by path (``/data/t``, ``s3://bucket/t``) or by metastore name (``schema.table``)."""

    def __init__(self, spark: SparkSession, table: str) -> None:
        if is_remote():
            raise SourceError("a Delta source needs a classic Spark session: Spark Connect hides the table's log")
        self.spark = spark
        self.named = table
        self.by_path = _is_path(table)
        self.location = _spark_path(table) if self.by_path else table
        self.sql_name = sql_name(table)

    def head(self) -> Head:
        """Return the newest position and its commit's time; raise :class:`SourceNotFound` without a table."""
        snapshot = self._newest()
        return Head(
            position=Position(epoch=snapshot.metadata().id(), version=snapshot.version()),
            committed_at=_utc(snapshot.timestamp()),
        )

    def resolve(self) -> None:
        """Look the table up again: a metastore name may point to another location than before."""
        self.__dict__.pop("_log", None)

    def schema(self) -> StructType:
        """Return the table's own columns at the newest version."""
        with self.translated():
            return self._reader().schema

    def at(self, version: int) -> DataFrame:
        """Return the table's rows at exactly ``version``; raise :class:`HistoryExpired` when they are gone."""
        with self.translated():
            return self._reader(versionAsOf=str(version))

    def require_epoch(self, head: Head, position: Position) -> None:
        """Raise :class:`SourceRecreated` when ``position`` is another table's."""
        if head.position.epoch != position.epoch:
            raise SourceRecreated(
                f"{self.named} was dropped and created anew: its id is {head.position.epoch}, "
                f"the one that was synced had {position.epoch}; a sync compares the new table as a whole"
            )

    def require_change_feed(self) -> None:
        """Raise :class:`ChangesUnavailable` when the newest version keeps no change feed."""
        setting = self._newest().metadata().configuration().get(CHANGE_FEED)
        if setting.isEmpty() or str(setting.get()).lower() != "true":
            raise without_change_feed(self.named)

    def retention_seconds(self) -> float:
        """Return for how long a change stays readable: VACUUM takes its files, clean-up its log entry."""
        metadata = self._newest().metadata()
        with self.translated():
            config = self._delta("DeltaConfigs")
            kept = (config.LOG_RETENTION(), config.TOMBSTONE_RETENTION())
            milliseconds = [config.getMilliSeconds(item.fromMetaData(metadata)) for item in kept]
        return float(min(milliseconds)) / 1000

    def require_history(self, version: int) -> None:
        """Raise :class:`HistoryExpired` unless the log and the feed from ``version`` on are still there."""
        with self.translated():
            earliest = self._delta("DeltaHistoryManager").getEarliestDeltaFile(self._log)
            if earliest > version:
                raise self.expired(f"version {version} is gone from the log, which begins at {earliest}")
            if not self._exists(self._commit_path(version)):
                return  # a catalog keeps the newest commits elsewhere, and those are not old
            for path in self._feed_files(version):
                if not self._exists(path):
                    raise self.expired(f"a file of version {version} is gone (VACUUM took it): {path.getName()}")

    def require_columns(self, columns: Sequence[str], found: Sequence[str]) -> None:
        """Raise :class:`SchemaMismatch` when ``found`` lacks one of ``columns``, naming what is nearest."""
        require_columns(self.named, columns, found)

    def committed_at(self, version: int) -> datetime:
        """Return when ``version`` was committed: its in-commit timestamp, or else its log file's time."""
        newest = self._newest()
        if newest.version() == version:
            return _utc(newest.timestamp())
        with self.translated():
            for action in self._actions(version):
                stamp = action.get("commitInfo", {}).get("inCommitTimestamp")
                if stamp is not None:
                    return _utc(stamp)
            path = self._commit_path(version)
            return _utc(path.getFileSystem(self._conf).getFileStatus(path).getModificationTime())

    def expired(self, why: str) -> HistoryExpired:
        """Return the error that says that changes are lost, and what heals it."""
        return HistoryExpired(f"{self.named}: {why}; a sync compares the whole table and goes on from there")

    def translate(self, error: BaseException) -> SourceError | None:
        """Return what a Delta or Spark error about this table means in our terms, or None for any other."""
        text = str(error)
        for conditions, meaning in _MEANINGS:
            if any(condition in text for condition in conditions):
                return meaning(self, _reason(error))
        return None

    def lost_file(self, error: BaseException) -> HistoryExpired | None:
        """Return what an error met while working on changes means when a file of the table was gone, else None."""
        text = str(error)
        if "FILE_NOT_EXIST" not in text or self._log.logPath().getParent().getName() not in text:
            return None
        return self.expired(f"VACUUM took a file of the changes while they were read: {_reason(error)}")

    @contextmanager
    def translated(self) -> Iterator[None]:
        """Translate what Delta and Spark raise within."""
        try:
            yield
        except (PySparkException, Py4JError) as error:
            raise self.translate(error) or SourceError(f"{self.named}: {_reason(error)}") from error

    @cached_property
    def _log(self) -> Any:
        with self.translated():
            find = DeltaHandle.forPath if self.by_path else DeltaHandle.forName
            return find(self.spark, self.location)._jdt.deltaLog()

    @property
    def _jvm(self) -> Any:
        return self.spark._jvm

    def _delta(self, name: str) -> Any:
        """Return Delta's JVM object ``name``, from the log's own package: on Databricks that is another one."""
        package = self._log.getClass().getPackage().getName()
        return reduce(getattr, f"{package}.{name}".split("."), self._jvm)

    @property
    def _conf(self) -> Any:
        return self._log.newDeltaHadoopConf()

    def _newest(self) -> Any:
        with self.translated():
            none = self._jvm.scala.Option.empty()
            snapshot = self._log.update(False, none, none)
        if snapshot.version() < 0:
            self.resolve()
            raise SourceNotFound(f"{self.named} is not a Delta table (any more): its log is gone")
        return snapshot

    def _reader(self, **options: str) -> DataFrame:
        reader = self.spark.read.format("delta").options(**options)
        return reader.load(self.location) if self.by_path else reader.table(self.location)

    def _commit_path(self, version: int) -> Any:
        return self._jvm.org.apache.hadoop.fs.Path(self._log.logPath(), f"{version:020d}.json")

    def _exists(self, path: Any) -> bool:
        return bool(path.getFileSystem(self._conf).exists(path))

    def _actions(self, version: int) -> Iterator[dict[str, Any]]:
        lines = self._log.store().read(self._commit_path(version), self._conf).mkString("\n")
        return (json.loads(line) for line in lines.splitlines() if line)

    def _feed_files(self, version: int) -> Iterator[Any]:
        """Yield the Hadoop paths of some files that hold the changes of ``version``."""
        actions = list(self._actions(version))
        files = [a["cdc"] for a in actions if "cdc" in a]
        if not files:
            changes = [a.get("add") or a.get("remove") or {} for a in actions]
            files = [change for change in changes if change.get("dataChange")]
        path = self._jvm.org.apache.hadoop.fs.Path
        root = self._log.logPath().getParent()
        for file in files[:FEED_FILES_CHECKED]:
            yield path(root, path(self._jvm.java.net.URI(file["path"])))  # paths in the log are encoded as in a URI


def sql_name(table: str) -> str:
    """Return how SQL calls the Delta table of that path or metastore name."""
    return f"delta.`{_spark_path(table)}`" if _is_path(table) else table


def without_change_feed(table: str) -> ChangesUnavailable:
    """Return the error of a table that keeps no change feed, with the statement that turns it on."""
    return ChangesUnavailable(
        f"{table} keeps no change feed; turn it on with: "
        f"ALTER TABLE {sql_name(table)} SET TBLPROPERTIES ({CHANGE_FEED} = true)"
    )


def _is_path(table: str) -> bool:
    return "/" in table or os.sep in table or os.path.isdir(table)


def _spark_path(table: str) -> str:
    table = hadoop_address(table)
    return table if re.match(r"[A-Za-z][A-Za-z0-9+.-]*:/", table) else os.path.abspath(table)


def _utc(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, tz=UTC)


def _reason(error: BaseException) -> str:
    """Return the one line of a vendor's error that says what happened."""
    text = error.java_exception.toString() if isinstance(error, Py4JJavaError) else str(error)
    text = text.split("terminated with exception: ", 1)[-1].strip()
    return text.splitlines()[0] if text else type(error).__name__


def _not_found(table: DeltaTable, reason: str) -> SourceError:
    if "TABLE_OR_VIEW_NOT_FOUND" in reason and "." not in table.named:
        reason = f"there is no folder {os.path.abspath(table.named)}, and Spark knows no table of that name"
    return SourceNotFound(f"{table.named} cannot be read as a Delta table: {reason}")


def _no_catalog(table: DeltaTable, reason: str) -> SourceError:
    return SourceNotFound(
        f"{table.named}: this Spark session knows no catalog '{table.named.split('.')[0]}'; give the table's path, or "
        "sync in a session that knows it, as Databricks' do"
    )


def _lost(table: DeltaTable, reason: str) -> SourceError:
    return table.expired(reason)


def _no_feed(table: DeltaTable, reason: str) -> SourceError:
    return ChangesInterrupted(
        f"{table.named}: its change feed was off for a part of what is to be read; "
        f"a sync compares the whole table and goes on from there ({reason})"
    )


def _changed(table: DeltaTable, reason: str) -> SourceError:
    return SchemaChanged(
        f"{table.named}: a column was renamed, dropped or retyped, and the change feed cannot be read across that; "
        f"a sync compares the whole table and goes on from there ({reason})"
    )


def _no_client(table: DeltaTable, reason: str) -> SourceError:
    cloud = hadoop_cloud(table.named)
    if cloud is None:
        return _not_found(table, reason)
    return SourceNotFound(
        f"{table.named} is in a bucket and this Spark session has no client for it: start it with clouds=['{cloud}']"
    )


_MEANINGS = (
    (("DELTA_MISSING_CHANGE_DATA",), _no_feed),
    (("DELTA_SCHEMA_CHANGED", "DELTA_STREAMING_INCOMPATIBLE_SCHEMA", "DELTA_BLOCK_COLUMN_MAPPING_AND_CDC"), _changed),
    (
        (
            "DELTA_VERSION_NOT_FOUND",
            "DELTA_LOG_FILE_NOT_FOUND",
            "DELTA_FILE_NOT_FOUND",
            "DELTA_VERSIONS_NOT_CONTIGUOUS",
            "DELTA_TRUNCATED_TRANSACTION_LOG",
            "FAILED_READ_FILE.FILE_NOT_EXIST",
        ),
        _lost,
    ),
    (("REQUIRES_SINGLE_PART_NAMESPACE",), _no_catalog),
    (("FileSystem not found", "No FileSystem for scheme"), _no_client),
    (
        (
            "DELTA_MISSING_DELTA_TABLE",
            "DELTA_TABLE_NOT_FOUND",
            "DELTA_PATH_DOES_NOT_EXIST",
            "DELTA_PATH_BASED_ACCESS",
            "DELTA_SCHEMA_NOT_SET",
            "TABLE_OR_VIEW_NOT_FOUND",
            "SCHEMA_NOT_FOUND",
            "CATALOG_NOT_FOUND",
            "PATH_NOT_FOUND",
            "PARSE_SYNTAX_ERROR",
            "AccessDeniedException",
            "UnknownHostException",
            "FileNotFoundException",
        ),
        _not_found,
    ),
)
