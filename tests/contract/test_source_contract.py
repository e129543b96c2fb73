"""One suite for every source: what `connectors.contract.Source` promises."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from connectors.contract import ChangeBatch, Position
from connectors.errors import HistoryBroken, SourceRecreated
from connectors.snowflake_session import SignIn
from tests.connectors.tables import (
    DeltaTableOnDisk,
    MemoryTable,
    SnowflakeTableInAccount,
    Table,
    changes_after,
    rows_of,
)
from tests.snowflake.server import SnowflakeServer

Make = Callable[[bool], Table]
Batches = list[tuple[int, int, list[tuple[int, str | None, str, int]]]]


@pytest.fixture(params=["memory", "delta", "snowflake"])
def make(request: pytest.FixtureRequest, spark: SparkSession, tmp_path: Path) -> Make:
    """Return what makes a table that keeps changes, or not."""
    if request.param == "memory":
        return lambda keeps: MemoryTable(spark)
    if request.param == "delta":
        return lambda keeps: DeltaTableOnDisk(
            spark, tmp_path / "table", "delta.enableChangeDataFeed = true" if keeps else ""
        )
    server: SnowflakeServer = request.getfixturevalue("snowflake")
    schema: str = request.getfixturevalue("schema")
    sign_in: SignIn = request.getfixturevalue("sign_in")
    return lambda keeps: SnowflakeTableInAccount(spark, server, schema, sign_in, tracked=keeps)


@pytest.fixture
def table(make: Make) -> Table:
    return make(True)


def version_of(table: Table) -> int:
    return table.source.head().position.version


def seen_at(table: Table, batches: Batches, version: int) -> int:
    """Return the version that a row of the commit ``version`` comes with: its own, or that of its window's end."""
    if isinstance(table, SnowflakeTableInAccount):
        return next(end for _, end, _ in batches if end >= version)
    return version


def everything(table: Table) -> Position | None:
    """Return the head, once the source knows that it has all that there is."""
    position = table.source.head().position
    return position if table.source.has_nothing_after(position) else None


def soon(ask: Callable[[], Position | None]) -> Position:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if answer := ask():
            return answer
        time.sleep(0.02)
    raise AssertionError("it never came")


def rows_in(batches: Batches) -> list[tuple[int, str | None, str, int]]:
    return sorted((row for _, _, rows in batches for row in rows), key=repr)


def unnumbered(batches: Batches) -> list[tuple[int, str | None, str]]:
    return [row[:3] for row in rows_in(batches)]


def test_every_commit_moves_the_head_within_one_epoch(table: Table) -> None:
    empty = table.source.head()
    table.insert([(1, "a")])
    head = table.source.head()

    assert head.position.epoch == empty.position.epoch
    assert head.position.version > empty.position.version
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
    inserted = version_of(table)
    table.update((2, "b"), (2, "B"))
    updated = version_of(table)
    table.delete((1, "a"))
    deleted = version_of(table)

    batches = changes_after(table.source, start)

    assert batches[0][0] == start.version
    assert batches[-1][1] >= deleted
    assert [end for _, end, _ in batches[:-1]] == [begin for begin, _, _ in batches[1:]]
    assert rows_in(batches) == [
        (1, "a", "delete", seen_at(table, batches, deleted)),
        (2, "B", "upsert", seen_at(table, batches, updated)),
        (2, "b", "delete", seen_at(table, batches, updated)),
        (3, None, "upsert", seen_at(table, batches, inserted)),
    ]


def test_an_update_of_the_key_deletes_the_old_row_and_upserts_the_new(table: Table) -> None:
    table.insert([(1, "a"), (2, "b")])
    start = table.source.head().position
    table.update((1, "a"), (10, "a"))
    updated = version_of(table)

    batches = changes_after(table.source, start)

    version = seen_at(table, batches, updated)
    assert rows_in(batches) == [(1, "a", "delete", version), (10, "a", "upsert", version)]


def test_a_row_deleted_and_inserted_anew_comes_as_both_with_the_upsert_last(table: Table) -> None:
    table.insert([(1, "a")])
    start = table.source.head().position
    table.delete((1, "a"))
    table.insert([(1, "A")])

    batches = changes_after(table.source, start)

    assert unnumbered(batches) == [(1, "A", "upsert"), (1, "a", "delete")]
    (upserted,) = [version for _, _, op, version in rows_in(batches) if op == "upsert"]
    assert all(version <= upserted for *_, version in rows_in(batches))


def test_a_batch_says_when_its_end_was_committed(table: Table) -> None:
    start = table.source.head().position
    table.insert([(1, "a")])
    before = table.source.head()
    seen: list[tuple[Position, datetime, list[datetime]]] = []

    def handle(batch: ChangeBatch) -> None:
        seen.append((batch.end, batch.committed_at, [row["_committed_at"] for row in batch.changes.collect()]))

    table.source.stream(start, handle, continuous=False)

    after = table.source.head()
    ((end, committed_at, stamps),) = seen
    assert before.position.version <= end.version <= after.position.version
    assert before.committed_at <= committed_at <= after.committed_at
    assert stamps == [committed_at.replace(tzinfo=None)]


def test_a_stream_ends_exactly_where_it_is_told_to(table: Table) -> None:
    start = table.source.head().position
    table.insert([(1, "a")])
    until = soon(lambda: everything(table))
    table.insert([(2, "b")])
    batches: list[tuple[Position, list[int]]] = []

    def handle(batch: ChangeBatch) -> None:
        batches.append((batch.end, [row["id"] for row in batch.changes.collect()]))

    table.source.stream(start, handle, continuous=False, until=until)

    assert batches[-1][0] == until
    assert {key for _, keys in batches for key in keys} == {1}


def test_nothing_new_is_no_row(table: Table) -> None:
    table.insert([(1, "a")])

    assert rows_in(changes_after(table.source, table.source.head().position)) == []


def test_any_range_can_be_read_again(table: Table) -> None:
    start = table.source.head().position
    table.insert([(1, "a")])
    table.update((1, "a"), (1, "b"))

    first = changes_after(table.source, start)

    assert unnumbered(changes_after(table.source, start)) == unnumbered(first) != []


def test_another_process_goes_on_where_one_stopped(table: Table) -> None:
    start = table.source.head().position
    table.insert([(1, "a")])
    first = changes_after(table.source, start)
    table.insert([(2, "b")])

    again = changes_after(table.reopened(), Position(start.epoch, first[-1][1]))

    assert (unnumbered(first), unnumbered(again)) == ([(1, "a", "upsert")], [(2, "b", "upsert")])


def test_a_table_that_has_all_says_so_until_the_next_commit(table: Table) -> None:
    start = table.source.head().position
    table.insert([(1, "a")])
    assert not table.source.has_nothing_after(start)

    position = soon(lambda: everything(table))
    assert table.source.has_nothing_after(position)
    table.insert([(2, "b")])
    assert not table.source.has_nothing_after(position)


def test_changes_kept_late_are_read_from_there_and_not_before(make: Make) -> None:
    table = make(False)
    table.insert([(1, "a")])
    before = table.source.head().position
    table.insert([(2, "b")])
    table.keep_changes()
    since = table.source.head().position
    table.insert([(3, "c")])

    assert unnumbered(changes_after(table.source, since)) == [(3, "c", "upsert")]
    with pytest.raises(HistoryBroken):
        changes_after(table.source, before)


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
    seen: list[tuple[int, int]] = []
    rows: list[tuple[int, str | None, str]] = []

    def handle(batch: ChangeBatch) -> None:
        seen.append((batch.start.version, batch.end.version))
        rows.extend(row[:3] for row in rows_of(batch))

    def write() -> None:
        for number in (1, 2, 3):
            table.insert([(number, "x")])

    writer = threading.Thread(target=write)
    writer.start()
    table.source.stream(start, handle, continuous=True, interval_seconds=0.1, stop=lambda: len(rows) >= 3)
    writer.join()

    assert seen[0][0] == start.version
    assert [end for _, end in seen[:-1]] == [begin for begin, _ in seen[1:]]
    assert rows == [(n, "x", "upsert") for n in (1, 2, 3)]
    assert spark.streams.active == []
