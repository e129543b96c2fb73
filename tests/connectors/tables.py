"""Tables that tests write to, one small interface over each kind of source."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from pyspark.sql import SparkSession

from connectors.contract import DELETE, UPSERT, ChangeBatch, Position, Source
from connectors.delta_source import DeltaSource
from connectors.memory_source import MemorySource
from connectors.snowflake_session import SignIn
from connectors.snowflake_source import SnowflakeSource
from tests.snowflake.server import SnowflakeServer

COLUMNS = ("id", "text")
TRAIL_SECONDS = 0.05
"""How far the source stays behind the emulated account's clock: its commits are seen at once."""

Pair = tuple[int, str | None]
Row = tuple[int, str | None, str, int]


class Table(Protocol):
    """A table of ``id bigint, text string`` that a test writes and a source reads."""

    @property
    def source(self) -> Source:
        """Return the source that reads this table."""

    def insert(self, rows: Sequence[Pair]) -> None:
        """Commit ``rows``."""

    def update(self, old: Pair, new: Pair) -> None:
        """Commit the change of one row to another, its id too perhaps."""

    def delete(self, row: Pair) -> None:
        """Commit the removal of one row."""

    def recreate(self) -> None:
        """Drop the table and create it anew, empty."""

    def reopened(self) -> Source:
        """Return another source over the same table, as another process would open it."""

    def keep_changes(self) -> None:
        """From now on keep changes, which the table did not before."""


class MemoryTable:
    def __init__(self, spark: SparkSession) -> None:
        schema = spark.createDataFrame([], "id bigint, text string").schema
        self.source = MemorySource(spark, schema, COLUMNS)

    def insert(self, rows: Sequence[Pair]) -> None:
        self.source.commit([(UPSERT, _row(row)) for row in rows])

    def update(self, old: Pair, new: Pair) -> None:
        self.source.commit([(DELETE, _row(old)), (UPSERT, _row(new))])

    def delete(self, row: Pair) -> None:
        self.source.commit([(DELETE, _row(row))])

    def recreate(self) -> None:
        self.source.recreate()

    def reopened(self) -> Source:
        return self.source

    def keep_changes(self) -> None:
        self.source.expire(self.source.head().position.version)


class DeltaTableOnDisk:
    """A Delta table under ``path``, written by Spark; ``properties`` are its table properties."""

    def __init__(self, spark: SparkSession, path: Path, properties: str = "delta.enableChangeDataFeed = true") -> None:
        self.spark = spark
        self.path = path
        self.name = f"delta.`{path}`"
        self._properties = properties
        self._create()
        self.source = DeltaSource(spark, str(path), COLUMNS)

    def insert(self, rows: Sequence[Pair]) -> None:
        frame = self.spark.createDataFrame([*rows], "id bigint, text string").coalesce(1)
        frame.write.format("delta").mode("append").save(str(self.path))

    def update(self, old: Pair, new: Pair) -> None:
        self.sql(f"UPDATE {self.name} SET id = {new[0]}, text = '{new[1]}' WHERE id = {old[0]}")

    def delete(self, row: Pair) -> None:
        self.sql(f"DELETE FROM {self.name} WHERE id = {row[0]}")

    def recreate(self) -> None:
        shutil.rmtree(self.path)
        self._create()

    def reopened(self) -> Source:
        return DeltaSource(self.spark, str(self.path), COLUMNS)

    def keep_changes(self) -> None:
        self.sql(f"ALTER TABLE {self.name} SET TBLPROPERTIES (delta.enableChangeDataFeed = true)")

    def sql(self, text: str) -> None:
        self.spark.sql(text).collect()

    def _create(self) -> None:
        properties = f"TBLPROPERTIES ({self._properties})" if self._properties else ""
        self.sql(f"CREATE TABLE {self.name} (id BIGINT, text STRING) USING delta {properties}")


class SnowflakeTableInAccount:
    """A table of the emulated account; every commit is waited for until the source's head is past it."""

    def __init__(
        self, spark: SparkSession, server: SnowflakeServer, schema: str, sign_in: SignIn, *, tracked: bool = True
    ) -> None:
        self.spark, self.server, self.sign_in = spark, server, sign_in
        self.name = f"{schema}.T"
        self._tracked = tracked
        self._create("CREATE TABLE")
        self.source = self.reopened()
        self._wait()

    def insert(self, rows: Sequence[Pair]) -> None:
        values = ", ".join(f"({number}, {_sql(text)})" for number, text in rows)
        self.sql(f"INSERT INTO {self.name} VALUES {values}")

    def update(self, old: Pair, new: Pair) -> None:
        self.sql(f"UPDATE {self.name} SET id = {new[0]}, text = {_sql(new[1])} WHERE id = {old[0]}")

    def delete(self, row: Pair) -> None:
        self.sql(f"DELETE FROM {self.name} WHERE id = {row[0]}")

    def recreate(self) -> None:
        self._create("CREATE OR REPLACE TABLE")
        self._wait()

    def reopened(self, columns: Sequence[str] = COLUMNS, **options: Any) -> SnowflakeSource:
        options = {"sign_in": self.sign_in, "trail_seconds": TRAIL_SECONDS, "poll_seconds": 0.05, **options}
        return SnowflakeSource(self.spark, self.name, columns, **options)

    def keep_changes(self) -> None:
        self.sql(f"ALTER TABLE {self.name} SET CHANGE_TRACKING = TRUE")

    def sql(self, text: str) -> None:
        self.server.execute(text)
        self._wait()

    def _create(self, how: str) -> None:
        tracking = str(self._tracked).upper()
        self.server.execute(f"{how} {self.name} (id NUMBER(18, 0), text VARCHAR) CHANGE_TRACKING = {tracking}")

    def _wait(self) -> None:
        now = self.server.now_us()
        while self.source.head().position.version < now:
            time.sleep(TRAIL_SECONDS / 2)


def changes_after(source: Source, start: Position) -> list[tuple[int, int, list[Row]]]:
    """Return what one scheduled run after ``start`` hands on: start version, end version and sorted rows per batch."""
    batches: list[tuple[int, int, list[Row]]] = []
    source.stream(start, lambda b: batches.append((b.start.version, b.end.version, rows_of(b))), continuous=False)
    return batches


def rows_of(batch: ChangeBatch) -> list[Row]:
    """Return a batch's rows without their time, in one order."""
    return sorted((r["id"], r["text"], r["_op"], r["_version"]) for r in batch.changes.collect())


def _row(pair: Pair) -> dict[str, object]:
    return dict(zip(COLUMNS, pair, strict=True))


def _sql(text: str | None) -> str:
    return "NULL" if text is None else "'" + text.replace("'", "''") + "'"
