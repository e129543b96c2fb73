"""What Delta tables alone can do: every operation, table feature and way to lose history."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from connectors.contract import ChangeBatch, Position
from connectors.delta_source import DeltaSource
from connectors.delta_stream import end_version
from connectors.errors import (
    ChangesInterrupted,
    ChangesUnavailable,
    HistoryExpired,
    SchemaMismatch,
    SourceError,
    SourceNotFound,
)
from connectors.session import scratch_dir
from tests.connectors.tables import COLUMNS, DeltaTableOnDisk, changes_after

FEED = "delta.enableChangeDataFeed = true"


@pytest.fixture
def table(spark: SparkSession, tmp_path: Path) -> DeltaTableOnDisk:
    table = DeltaTableOnDisk(spark, tmp_path / "table")
    table.insert([(1, "a"), (2, "b"), (3, "c")])
    return table


def test_a_merge_comes_as_its_changes(table: DeltaTableOnDisk) -> None:
    start = table.source.head().position
    table.sql(f"""
        MERGE INTO {table.name} t
        USING (SELECT * FROM VALUES (1, NULL), (2, 'B'), (9, 'i') AS v (id, text)) s ON t.id = s.id
        WHEN MATCHED AND s.text IS NULL THEN DELETE WHEN MATCHED THEN UPDATE SET * WHEN NOT MATCHED THEN INSERT *
    """)

    assert changes_after(table.source, start) == [
        (1, 2, [(1, "a", "delete", 2), (2, "B", "upsert", 2), (2, "b", "delete", 2), (9, "i", "upsert", 2)])
    ]


def test_an_overwrite_of_many_files_is_one_batch(table: DeltaTableOnDisk) -> None:
    start = table.source.head().position
    table.sql(f"INSERT OVERWRITE {table.name} SELECT id + 10, 'new' FROM range(0, 8, 1, 4)")

    deleted = [(1, "a", "delete", 2), (2, "b", "delete", 2), (3, "c", "delete", 2)]
    inserted = [(n, "new", "upsert", 2) for n in range(10, 18)]
    assert changes_after(table.source, start) == [(1, 2, deleted + inserted)]


def test_optimize_and_a_property_move_the_position_without_a_change(table: DeltaTableOnDisk) -> None:
    table.insert([(4, "d")])
    start = table.source.head().position
    table.sql(f"OPTIMIZE {table.name}")
    table.sql(f"ALTER TABLE {table.name} SET TBLPROPERTIES (team = 'birds')")

    assert changes_after(table.source, start) == [(2, 4, [])]


def test_optimize_reaches_a_continuous_stream(table: DeltaTableOnDisk) -> None:
    start = table.source.head().position
    seen: list[tuple[int, int]] = []

    def write() -> None:
        table.insert([(4, "d")])
        while not seen:
            time.sleep(0.05)
        table.sql(f"OPTIMIZE {table.name}")

    writer = threading.Thread(target=write)
    writer.start()
    table.source.stream(
        start,
        lambda batch: seen.append((batch.end.version, batch.changes.count())),
        continuous=True,
        interval_seconds=0.1,
        stop=lambda: seen[-1:] == [(3, 0)],
    )
    writer.join()

    assert seen == [(2, 1), (3, 0)]


def test_deletion_vectors_and_column_mapping_are_read(spark: SparkSession, tmp_path: Path) -> None:
    properties = f"{FEED}, delta.enableDeletionVectors = true, delta.columnMapping.mode = 'name'"
    table = DeltaTableOnDisk(spark, tmp_path / "table", properties)
    table.insert([(1, "a"), (2, "b")])
    start = table.source.head().position
    table.delete((1, "a"))

    assert changes_after(table.source, start) == [(1, 2, [(1, "a", "delete", 2)])]
    rows = table.source.snapshot(table.source.head().position).collect()
    assert [tuple(row)[:4] for row in rows] == [(2, "b", "upsert", 2)]


def test_in_commit_timestamps_are_the_commits_times(spark: SparkSession, tmp_path: Path) -> None:
    table = DeltaTableOnDisk(spark, tmp_path / "table", f"{FEED}, delta.enableInCommitTimestamps = true")
    start = table.source.head()
    table.insert([(1, "a")])

    rows = table.source.snapshot(start.position)
    (row,) = table.source.snapshot(table.source.head().position).collect()

    assert rows.collect() == []
    assert row["_committed_at"] == table.source.head().committed_at.replace(tzinfo=None)
    assert DeltaSource(table.spark, str(table.path), COLUMNS)._table.committed_at(0) == start.committed_at


def test_a_feed_turned_on_later_is_read_from_there_and_not_before(spark: SparkSession, tmp_path: Path) -> None:
    table = DeltaTableOnDisk(spark, tmp_path / "table", properties="")
    table.insert([(1, "a")])
    before = table.source.head().position
    table.insert([(2, "b")])
    table.sql(f"ALTER TABLE {table.name} SET TBLPROPERTIES ({FEED})")
    since = table.source.head().position
    table.insert([(3, "c")])

    assert table.source.snapshot(since).count() == 2
    assert changes_after(table.source, since) == [(3, 4, [(3, "c", "upsert", 4)])]
    with pytest.raises(ChangesInterrupted, match=r"was off for a part.* a sync compares the whole table"):
        changes_after(table.source, before)


def test_a_feed_that_is_off_is_named_with_the_line_that_turns_it_on(spark: SparkSession, tmp_path: Path) -> None:
    table = DeltaTableOnDisk(spark, tmp_path / "table", properties="")
    position = table.source.head().position

    with pytest.raises(ChangesUnavailable) as caught:
        changes_after(table.source, position)

    with pytest.raises(ChangesUnavailable, match="keeps no change feed"):
        table.source.require_followable()

    wanted = f"ALTER TABLE delta.`{table.path}` SET TBLPROPERTIES (delta.enableChangeDataFeed = true)"
    assert str(caught.value).endswith(wanted)
    table.sql(wanted)
    assert changes_after(table.source, position) == [(0, 1, [])]
    table.source.require_followable()


@pytest.fixture
def named(spark: SparkSession) -> Iterator[str]:
    spark.sql("CREATE SCHEMA zoo")
    spark.sql(f"CREATE TABLE zoo.birds (id BIGINT, text STRING) USING delta TBLPROPERTIES ({FEED})")
    yield "zoo.birds"
    spark.sql("DROP SCHEMA zoo CASCADE")


@pytest.mark.parametrize("prefix", ["", "spark_catalog."])
def test_a_metastore_name_is_read_like_a_path(spark: SparkSession, named: str, prefix: str) -> None:
    source = DeltaSource(spark, prefix + named, COLUMNS)
    start = source.head().position
    spark.sql(f"INSERT INTO {named} VALUES (1, 'a')")

    assert changes_after(source, start) == [(0, 1, [(1, "a", "upsert", 1)])]
    assert [tuple(row)[:4] for row in source.snapshot(source.head().position).collect()] == [(1, "a", "upsert", 1)]


@pytest.mark.parametrize("missing", ["/no/such/table", "no_such_table", "zoo.nothing", "nowhere.zoo.birds"])
def test_a_missing_table_is_named(spark: SparkSession, missing: str) -> None:
    with pytest.raises(SourceNotFound, match=missing):
        DeltaSource(spark, missing, COLUMNS).head()


def test_a_table_whose_log_is_removed_is_not_found(table: DeltaTableOnDisk) -> None:
    table.source.head()
    shutil.rmtree(table.path / "_delta_log")

    with pytest.raises(SourceNotFound, match="its log is gone"):
        table.source.head()


def test_a_missing_column_is_named_with_the_nearest_one(table: DeltaTableOnDisk) -> None:
    source = DeltaSource(table.spark, str(table.path), ["id", "Text", "colour"])

    with pytest.raises(SchemaMismatch, match=r"no column 'Text' \(did you mean 'text'\?\), 'colour'; it has: id, text"):
        source.snapshot(source.head().position)


def test_a_column_name_of_the_contract_is_refused(table: DeltaTableOnDisk) -> None:
    source = DeltaSource(table.spark, str(table.path), ["id", "_version"])

    with pytest.raises(SchemaMismatch, match="_version are reserved"):
        source.snapshot(source.head().position)


def test_a_column_added_before_reading_is_taken_in_stride(table: DeltaTableOnDisk) -> None:
    start = table.source.head().position
    table.insert([(4, "d")])
    _add_column(table)

    assert changes_after(table.source, start) == [(1, 4, [(4, "d", "upsert", 2), (9, "z", "upsert", 4)])]


def test_another_column_dropped_before_reading_asks_for_a_resync(spark: SparkSession, tmp_path: Path) -> None:
    table = DeltaTableOnDisk(spark, tmp_path / "table", f"{FEED}, delta.columnMapping.mode = 'name'")
    table.sql(f"ALTER TABLE {table.name} ADD COLUMNS (colour STRING)")
    start = table.source.head().position
    table.sql(f"INSERT INTO {table.name} VALUES (1, 'a', 'red')")
    table.sql(f"ALTER TABLE {table.name} DROP COLUMN colour")

    with pytest.raises(ChangesInterrupted, match=r"renamed, dropped or retyped.* a sync compares the whole table"):
        changes_after(table.source, start)


def test_a_column_added_while_streaming_is_taken_in_stride(table: DeltaTableOnDisk) -> None:
    assert _streamed(table, lambda: _add_column(table)) == [(1, 4)]


def _add_column(table: DeltaTableOnDisk) -> None:
    table.sql(f"ALTER TABLE {table.name} ADD COLUMNS (colour STRING)")
    table.sql(f"INSERT INTO {table.name} VALUES (9, 'z', 'red')")


def test_a_column_dropped_while_streaming_is_named(spark: SparkSession, tmp_path: Path) -> None:
    table = DeltaTableOnDisk(spark, tmp_path / "table", f"{FEED}, delta.columnMapping.mode = 'name'")
    table.insert([(1, "a")])

    with pytest.raises(SchemaMismatch, match="no column 'text'; it has: id"):
        _streamed(table, lambda: table.sql(f"ALTER TABLE {table.name} DROP COLUMN text"))


def _streamed(table: DeltaTableOnDisk, change: object) -> list[tuple[int, int]]:
    """Stream from the head, make one insert, then ``change`` the table; return the span of versions handed on."""
    assert callable(change)
    start = table.source.head().position
    goal = start.version + 3
    ends: list[int] = []

    def write() -> None:
        table.insert([(8, "y")])
        while not ends:
            time.sleep(0.05)
        change()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        table.source.stream(
            start,
            lambda batch: ends.append(batch.end.version),
            continuous=True,
            interval_seconds=0.1,
            stop=lambda: ends[-1:] == [goal],
        )
    finally:
        writer.join()
    return [(start.version, ends[-1])]


def test_a_log_that_was_cleaned_up_is_found_before_reading(table: DeltaTableOnDisk) -> None:
    start = table.source.head().position
    table.insert([(4, "d")])
    table.insert([(5, "e")])
    table.sql(f"ALTER TABLE {table.name} SET TBLPROPERTIES (delta.checkpointInterval = '1')")
    table.insert([(6, "f")])
    for version in range(4):
        (table.path / "_delta_log" / f"{version:020d}.json").unlink()

    with pytest.raises(HistoryExpired, match=r"version 2 is gone from the log, which begins at 4; a sync compares"):
        changes_after(table.source, start)


def test_a_feed_that_vacuum_took_is_found_before_reading(table: DeltaTableOnDisk) -> None:
    start = table.source.head().position
    table.update((1, "a"), (1, "A"))
    for file in (table.path / "_change_data").glob("cdc-*"):
        file.unlink()

    with pytest.raises(HistoryExpired, match=r"a file of version 2 is gone \(VACUUM took it\): cdc-"):
        changes_after(table.source, start)


def test_a_feed_that_vanishes_while_it_is_handled_is_lost_history(table: DeltaTableOnDisk) -> None:
    start = table.source.head().position
    table.update((1, "a"), (1, "A"))

    def handle(batch: ChangeBatch) -> None:
        for file in (table.path / "_change_data").glob("cdc-*"):
            file.unlink()
        batch.changes.collect()

    with pytest.raises(HistoryExpired, match="VACUUM took a file of the changes"):
        table.source.stream(start, handle, continuous=False)


def test_a_snapshot_of_a_version_that_never_was_is_refused(table: DeltaTableOnDisk) -> None:
    with pytest.raises(HistoryExpired, match="version 99"):
        table.source.snapshot(Position(epoch=table.source.head().position.epoch, version=99))


def test_a_stream_leaves_no_scratch_behind(table: DeltaTableOnDisk) -> None:
    start = table.source.head().position
    table.insert([(4, "d")])

    changes_after(table.source, start)

    assert list(scratch_dir().glob("stream-*")) == []


@pytest.mark.parametrize(("index", "end"), [(-1, 3), (0, 4), (7, 4)])
def test_a_batch_ends_with_the_last_whole_version_that_its_offset_names(index: int, end: int) -> None:
    assert end_version(f'v1\n{{"batchWatermarkMs":0}}\n{{"reservoirVersion":4,"index":{index}}}') == end


def test_an_offset_of_an_unknown_kind_is_refused() -> None:
    with pytest.raises(SourceError, match="at a place that is unknown"):
        end_version('v1\n{}\n{"reservoirVersion":4,"index":-20}')
