"""One suite for every source: what `connectors.contract.Source` promises."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from connectors.contract import ChangeBatch, Position
from connectors.errors import SourceRecreated
from tests.connectors.tables import DeltaTableOnDisk, MemoryTable, Table, changes_after, rows_of


@pytest.fixture(params=["memory", "delta"])
def table(request: pytest.FixtureRequest, spark: SparkSession, tmp_path: Path) -> Table:
    return MemoryTable(spark) if request.param == "memory" else DeltaTableOnDisk(spark, tmp_path / "table")


def test_every_commit_moves_the_head_within_one_epoch(table: Table) -> None:
    empty = table.source.head()
    table.insert([(1, "a")])
    head = table.source.head()

    assert head.position == Position(epoch=empty.position.epoch, version=empty.position.version + 1)
    assert empty.committed_at <= head.committed_at
    assert abs(datetime.now(UTC) - head.committed_at) < timedelta(minutes=1)


def test_a_snapshot_is_the_table_at_its_version_however_it_changed_later(table: Table) -> None:
    table.insert([(1, "a"), (2, "b")])
    head = table.source.head()
    table.delete((1, "a"))

    rows = table.source.snapshot(head.position)

    assert rows.columns == ["id", "text", "_op", "_version", "_committed_at"]
    stamp = head.committed_at.replace(tzinfo=None)
    version = head.position.version
    assert sorted(tuple(row) for row in rows.collect()) == [
        (1, "a", "upsert", version, stamp),
        (2, "b", "upsert", version, stamp),
    ]


def test_a_snapshot_of_an_empty_table_has_no_row(table: Table) -> None:
    assert table.source.snapshot(table.source.head().position).collect() == []


def test_changes_of_several_versions_come_whole_each_with_its_version(table: Table) -> None:
    table.insert([(1, "a"), (2, "b")])
    start = table.source.head().position
    table.insert([(3, None)])
    table.update((2, "b"), (2, "B"))
    table.delete((1, "a"))
    v = start.version

    batches = changes_after(table.source, start)

    assert batches[0][0] == v
    assert batches[-1][1] == v + 3
    assert [end for _, end, _ in batches[:-1]] == [begin for begin, _, _ in batches[1:]]
    assert sorted(row for _, _, rows in batches for row in rows) == [
        (1, "a", "delete", v + 3),
        (2, "B", "upsert", v + 2),
        (2, "b", "delete", v + 2),
        (3, None, "upsert", v + 1),
    ]


def test_an_update_of_the_key_deletes_the_old_row_and_upserts_the_new(table: Table) -> None:
    table.insert([(1, "a"), (2, "b")])
    start = table.source.head().position
    table.update((1, "a"), (10, "a"))
    v = start.version + 1

    assert changes_after(table.source, start) == [(v - 1, v, [(1, "a", "delete", v), (10, "a", "upsert", v)])]


def test_a_batch_says_when_its_end_was_committed(table: Table) -> None:
    start = table.source.head().position
    table.insert([(1, "a")])
    seen: list[tuple[Position, datetime, list[datetime]]] = []

    def handle(batch: ChangeBatch) -> None:
        seen.append((batch.end, batch.committed_at, [row["_committed_at"] for row in batch.changes.collect()]))

    table.source.stream(start, handle, continuous=False)

    head = table.source.head()
    assert seen == [(head.position, head.committed_at, [head.committed_at.replace(tzinfo=None)])]


def test_nothing_new_makes_no_batch(table: Table) -> None:
    table.insert([(1, "a")])

    assert changes_after(table.source, table.source.head().position) == []


def test_any_range_can_be_read_again(table: Table) -> None:
    start = table.source.head().position
    table.insert([(1, "a")])

    assert changes_after(table.source, start) == changes_after(table.source, start)


def test_an_error_of_the_handler_is_raised_as_it_was(table: Table) -> None:
    start = table.source.head().position
    table.insert([(1, "a")])
    mine = ValueError("the index is full")

    def handle(batch: ChangeBatch) -> None:
        raise mine

    with pytest.raises(ValueError, match="the index is full") as caught:
        table.source.stream(start, handle, continuous=True)

    assert caught.value is mine


def test_a_table_created_anew_is_another_epoch(table: Table) -> None:
    table.insert([(1, "a")])
    old = table.source.head().position
    table.recreate()

    assert table.source.head().position.epoch != old.epoch
    with pytest.raises(SourceRecreated, match=r"created anew.*" + old.epoch):
        changes_after(table.source, old)
    with pytest.raises(SourceRecreated, match="created anew"):
        table.source.snapshot(old)


def test_a_continuous_stream_hands_on_commits_until_it_is_stopped(spark: SparkSession, table: Table) -> None:
    start = table.source.head().position
    goal = start.version + 3
    seen: list[tuple[int, int]] = []
    rows: list[tuple[int, str | None, str, int]] = []

    def handle(batch: ChangeBatch) -> None:
        seen.append((batch.start.version, batch.end.version))
        rows.extend(rows_of(batch))

    def write() -> None:
        for number in (1, 2, 3):
            table.insert([(number, "x")])

    writer = threading.Thread(target=write)
    writer.start()
    table.source.stream(
        start, handle, continuous=True, interval_seconds=0.1, stop=lambda: bool(seen) and seen[-1][1] == goal
    )
    writer.join()

    assert seen[0][0] == start.version
    assert [end for _, end in seen[:-1]] == [begin for begin, _ in seen[1:]]
    assert rows == [(n, "x", "upsert", start.version + n) for n in (1, 2, 3)]
    assert spark.streams.active == []
