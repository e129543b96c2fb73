"""What a Snowflake source does beyond the contract: windows, lost batches, lost history, quiet tables, other kinds."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

from connectors.contract import ChangeBatch, Position
from connectors.errors import (
    BatchLost,
    ChangesUnavailable,
    HistoryExpired,
    SchemaMismatch,
    SignInFailed,
    SourceNotFound,
    SourceRecreated,
)
from connectors.snowflake_session import SignIn
from connectors.snowflake_source import SnowflakeSource
from tests.connectors.signing_in import connections_file
from tests.connectors.tables import COLUMNS, TRAIL_SECONDS, SnowflakeTableInAccount, changes_after, rows_of
from tests.snowflake.server import SnowflakeServer, snowflake_server

DAY = 86_400
MANY = 2_500


@pytest.fixture
def table(spark: SparkSession, snowflake: SnowflakeServer, schema: str, sign_in: SignIn) -> SnowflakeTableInAccount:
    return SnowflakeTableInAccount(spark, snowflake, schema, sign_in)


def fill(table: SnowflakeTableInAccount, rows: int = MANY) -> None:
    table.sql(f"INSERT INTO {table.name} SELECT SEQ4(), 'x' FROM TABLE(GENERATOR(ROWCOUNT => {rows}))")


def windows(table: SnowflakeTableInAccount) -> list[str]:
    """Return the reads of changes that the account has seen, probes aside."""
    return [s.sql for s in table.server.statements() if "CHANGES(" in s.sql and "METADATA$ACTION" in s.sql]


def follow(table: SnowflakeTableInAccount, source: SnowflakeSource, start: Position, until: Callable[[], bool]) -> Any:
    """Follow ``source`` until ``until``; return the (start, end, rows) of each batch."""
    seen: list[tuple[int, int, int]] = []
    deadline = time.monotonic() + 60
    source.stream(
        start,
        lambda batch: seen.append((batch.start.version, batch.end.version, batch.changes.count())),
        continuous=True,
        interval_seconds=0.05,
        stop=lambda: until() or time.monotonic() > deadline,
    )
    return seen


def test_a_snapshot_of_many_batches_outlives_their_addresses(table: SnowflakeTableInAccount) -> None:
    table.server.rows_per_chunk(1_000)
    fill(table)
    rows = table.source.snapshot(table.source.head().position)
    table.server.expire_addresses()
    assert rows.rdd.getNumPartitions() == 3
    table.server.expire_addresses()  # those that the task has by now

    assert rows.count() == MANY
    selects = [s.sql for s in table.server.statements() if " AT(TIMESTAMP" in s.sql and "LIMIT 0" not in s.sql]
    assert len(selects) == 1


def test_a_snapshot_whose_result_is_gone_is_read_anew_at_the_same_time(table: SnowflakeTableInAccount) -> None:
    table.insert([(1, "a")])
    rows = table.source.snapshot(table.source.head().position)
    table.delete((1, "a"))
    table.server.expire_results()

    assert [row["id"] for row in rows.collect()] == [1]


def test_a_window_whose_batches_are_lost_is_planned_anew(table: SnowflakeTableInAccount) -> None:
    table.server.rows_per_chunk(1_000)
    start = table.source.head().position
    fill(table)
    counts: list[int] = []

    def handle(batch: ChangeBatch) -> None:
        if len(windows(table)) == 1:
            table.server.expire_addresses()
            table.server.expire_results()
        counts.append(batch.changes.count())

    table.source.stream(start, handle, continuous=False)

    assert counts == [MANY]
    assert len(windows(table)) == 2


@pytest.mark.soak
def test_a_window_that_is_lost_twice_is_an_error(table: SnowflakeTableInAccount) -> None:
    table.server.rows_per_chunk(1_000)
    start = table.source.head().position
    fill(table)

    def handle(batch: ChangeBatch) -> None:
        table.server.expire_addresses()
        table.server.expire_results()
        batch.changes.count()

    with pytest.raises(BatchLost, match="cannot be fetched"):
        table.source.stream(start, handle, continuous=False)


def test_a_transfer_that_breaks_while_a_window_is_read_costs_nothing(table: SnowflakeTableInAccount) -> None:
    table.server.rows_per_chunk(1_000)
    start = table.source.head().position
    fill(table)
    table.server.drop_chunks(2)

    ((_, _, rows),) = changes_after(table.source, start)

    assert sorted(row[0] for row in rows) == list(range(MANY))
    assert len(windows(table)) == 1


@pytest.mark.parametrize("how", ["sessions", "master tokens"])
def test_a_stream_outlives_its_session(table: SnowflakeTableInAccount, how: str) -> None:
    start = table.source.head().position
    seen: list[int] = []

    def handle(batch: ChangeBatch) -> None:
        rows = [row["id"] for row in batch.changes.collect()]
        seen.extend(rows)
        if rows == [1]:  # and not at an empty window after it
            if how == "sessions":
                table.server.end_sessions()
            else:
                table.server.expire_tokens(master=True)
            table.server.close()
            table.server.execute(f"INSERT INTO {table.name} VALUES (2, 'b')")

    table.insert([(1, "a")])
    table.source.stream(start, handle, continuous=True, interval_seconds=0.05, stop=lambda: len(seen) > 1)

    assert seen == [1, 2]


def test_windows_abut_and_every_change_is_in_one(table: SnowflakeTableInAccount) -> None:
    start = table.source.head().position
    seen: list[tuple[int, int, list[Any]]] = []
    done = threading.Event()

    def write() -> None:
        for number in range(40):
            table.server.execute(f"INSERT INTO {table.name} VALUES ({number}, 'x')")
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    table.source.stream(
        start,
        lambda batch: seen.append((batch.start.version, batch.end.version, rows_of(batch))),
        continuous=True,
        interval_seconds=0.05,
        stop=lambda: sum(len(rows) for *_, rows in seen) >= 40,
    )
    writer.join()

    assert seen[0][0] == start.version
    assert [end for _, end, _ in seen[:-1]] == [begin for begin, _, _ in seen[1:]]
    assert sorted(row[0] for *_, rows in seen for row in rows) == list(range(40))
    assert all(row[3] == end for _, end, rows in seen for row in rows)


def test_commits_that_are_seen_late_are_inside_the_trail(table: SnowflakeTableInAccount) -> None:
    source = table.reopened(trail_seconds=1.0)
    start = source.head().position
    table.server.delay_commits(0.5)
    seen: list[int] = []
    writer = threading.Thread(
        target=lambda: [table.server.execute(f"INSERT INTO {table.name} VALUES ({n}, 'x')") for n in range(8)]
    )
    writer.start()
    source.stream(
        start,
        lambda batch: seen.extend(row["id"] for row in batch.changes.collect()),
        continuous=True,
        interval_seconds=0.05,
        stop=lambda: len(seen) >= 8,
    )
    writer.join()

    assert sorted(seen) == list(range(8))


def test_a_quiet_table_is_asked_for_its_token_and_nothing_else(table: SnowflakeTableInAccount) -> None:
    table.insert([(1, "a")])
    start = table.source.head().position
    asked: list[int] = []

    def tokens() -> bool:
        asked.append(sum("LAST_CHANGE" in s.sql for s in table.server.statements()))
        return asked[-1] >= 25

    seen = follow(table, table.source, start, tokens)

    assert len(windows(table)) <= 2  # what was there at the start, and the token's own moment
    assert all(rows == 0 for *_, rows in seen)


def test_a_quiet_position_is_moved_on_without_reading(table: SnowflakeTableInAccount) -> None:
    source = table.reopened(refresh_seconds=0.5)
    start = source.head().position
    seen: list[ChangeBatch] = []
    deadline = time.monotonic() + 60

    source.stream(
        start,
        seen.append,
        continuous=True,
        interval_seconds=0.05,
        stop=lambda: len(seen) >= 4 or time.monotonic() > deadline,
    )

    assert len(seen) >= 4
    assert len(windows(table)) <= 2
    assert all(later.end.version - later.start.version > 400_000 for later in seen[2:])


def test_who_has_read_it_all_knows_so_by_what_the_stream_saw(table: SnowflakeTableInAccount) -> None:
    start = table.source.head().position
    table.insert([(1, "a")])
    handled: list[tuple[Position, float]] = []

    def quiet() -> bool:
        return bool(handled) and time.monotonic() - handled[-1][1] > 2

    table.source.stream(
        start,
        lambda batch: handled.append((batch.end, time.monotonic())),
        continuous=True,
        interval_seconds=0.05,
        stop=quiet,
    )

    end = handled[-1][0]
    assert table.source.has_nothing_after(end)  # its own first look at the token is long after the last window's end
    assert not table.reopened().has_nothing_after(end)
    table.insert([(2, "b")])
    assert not table.source.has_nothing_after(end)


def test_a_window_is_read_when_its_end_has_passed_the_news_and_not_before(table: SnowflakeTableInAccount) -> None:
    source = table.reopened(trail_seconds=1.5)
    start = source.head().position
    seen: list[int] = []
    writer = threading.Timer(3, lambda: table.server.execute(f"INSERT INTO {table.name} VALUES (1, 'a')"))

    def handle(batch: ChangeBatch) -> None:
        seen.extend(row["id"] for row in batch.changes.collect())
        if not writer.ident:
            writer.start()

    source.stream(start, handle, continuous=True, interval_seconds=0.05, stop=lambda: seen == [1])
    writer.join()

    assert len(windows(table)) <= 3  # at the start, the start's token, the row's


def test_a_scheduled_run_reads_up_to_the_head_at_its_call_and_no_further(table: SnowflakeTableInAccount) -> None:
    start = table.source.head().position
    table.insert([(1, "a")])
    ends: list[int] = []

    def handle(batch: ChangeBatch) -> None:
        ends.append(batch.end.version)
        table.insert([(100 + len(ends), "later")])

    before = table.source.head().position.version
    table.source.stream(start, handle, continuous=False)

    assert len(ends) == 1
    assert before <= ends[0] < table.source.head().position.version


def test_a_window_with_too_many_rows_is_halved(table: SnowflakeTableInAccount) -> None:
    start = table.source.head().position
    for first in (0, 10, 20):
        table.sql(f"INSERT INTO {table.name} SELECT SEQ4() + {first}, 'x' FROM TABLE(GENERATOR(ROWCOUNT => 10))")
        time.sleep(2.5)  # a window is not halved below a second
    table.insert([(99, "x")])

    batches = changes_after(table.reopened(max_rows=10), start)

    assert [len(rows) for *_, rows in batches if rows] == [10, 10, 10, 1]
    assert [end for _, end, _ in batches[:-1]] == [begin for begin, _, _ in batches[1:]]


def test_history_beyond_retention_is_named_before_reading(spark: SparkSession, tmp_path: Path) -> None:
    with snowflake_server() as server:  # its own, because its clock goes a day ahead
        server.execute("CREATE DATABASE SHOP")
        server.execute("CREATE SCHEMA SHOP.S")
        file = connections_file(tmp_path, server.connection_parameters())
        sign_in = SignIn(connection="emulated", connections_file=str(file))
        table = SnowflakeTableInAccount(spark, server, "SHOP.S", sign_in)
        start = table.source.head().position
        assert table.source.retention_seconds() == DAY
        server.advance_clock(DAY + 60)

        with pytest.raises(HistoryExpired, match=r"retention of 1 days; a sync compares"):
            changes_after(table.source, start)
        with pytest.raises(HistoryExpired, match="a sync compares the whole table"):
            table.source.snapshot(start)
        assert windows(table) == []


def test_history_that_is_gone_before_its_time_is_named_before_reading(table: SnowflakeTableInAccount) -> None:
    start = table.source.head().position
    table.insert([(1, "a")])
    table.server.expire_history(table.name)

    with pytest.raises(HistoryExpired, match="a sync compares the whole table"):
        changes_after(table.source, start)
    assert windows(table) == []


def test_changes_that_were_not_tracked_are_named_before_reading(
    spark: SparkSession, snowflake: SnowflakeServer, schema: str, sign_in: SignIn
) -> None:
    table = SnowflakeTableInAccount(spark, snowflake, schema, sign_in, tracked=False)
    start = table.source.head().position
    assert table.source.reads() == "snapshots"
    with pytest.raises(ChangesUnavailable, match=r"ALTER TABLE .* SET CHANGE_TRACKING = TRUE"):
        changes_after(table.source, start)
    table.insert([(1, "a")])
    table.keep_changes()

    assert table.reopened().reads() == "changes"
    with pytest.raises(HistoryExpired, match="change tracking was off for a part"):
        changes_after(table.source, start)
    assert windows(table) == []


def test_a_view_is_read_as_snapshots(table: SnowflakeTableInAccount, schema: str, sign_in: SignIn) -> None:
    table.insert([(1, "a"), (2, "b")])
    table.sql(f"CREATE VIEW {schema}.v AS SELECT id, text FROM {table.name} WHERE id > 1")
    view = SnowflakeSource(table.spark, f"{schema}.v", COLUMNS, sign_in=sign_in, trail_seconds=TRAIL_SECONDS)

    rows = view.snapshot(view.head().position)

    assert view.reads() == "snapshots"
    assert view.retention_seconds() is None
    assert [tuple(row[:3]) for row in rows.collect()] == [(2, "b", "upsert")]


def test_where_there_is_no_time_travel_a_snapshot_is_the_table_now(
    spark: SparkSession, snowflake: SnowflakeServer, schema: str, sign_in: SignIn
) -> None:
    table = SnowflakeTableInAccount(spark, snowflake, schema, sign_in, tracked=False)
    position = table.source.head().position
    table.insert([(1, "a")])
    snowflake.fail_next(2210, "0A000", "Time travel is not supported on a shared database.", containing="AT(TIMESTAMP")

    rows = table.source.snapshot(position)

    assert [tuple(row[:4]) for row in rows.collect()] == [(1, "a", "upsert", position.version)]


def test_a_table_without_retention_is_read_as_snapshots_of_now(table: SnowflakeTableInAccount) -> None:
    position = table.source.head().position
    table.sql(f"ALTER TABLE {table.name} SET DATA_RETENTION_TIME_IN_DAYS = 0")
    table.insert([(1, "a")])
    source = table.reopened()

    assert (source.reads(), source.retention_seconds()) == ("snapshots", 0)
    assert [row["id"] for row in source.snapshot(position).collect()] == [1]
    with pytest.raises(ChangesUnavailable, match="SET DATA_RETENTION_TIME_IN_DAYS = 1"):
        changes_after(source, position)


def test_a_table_without_a_token_may_always_have_something_new(
    spark: SparkSession, snowflake: SnowflakeServer, schema: str, sign_in: SignIn
) -> None:
    table = SnowflakeTableInAccount(spark, snowflake, schema, sign_in, tracked=False)
    snowflake.fail_next(1015, "0A000", "Not supported on a shared table.", containing="LAST_CHANGE", times=9)

    assert not table.source.has_nothing_after(table.source.head().position)


def test_a_table_made_anew_while_it_is_followed_ends_the_stream(table: SnowflakeTableInAccount) -> None:
    table.insert([(1, "a")])
    start = table.source.head().position
    recreated: list[bool] = []

    def stop() -> bool:
        if not recreated:
            recreated.append(True)
            table.recreate()
        return False

    with pytest.raises(SourceRecreated, match="created anew"):
        table.source.stream(start, lambda batch: None, continuous=True, interval_seconds=0.05, stop=stop)


def test_a_table_dropped_while_it_is_followed_ends_the_stream(table: SnowflakeTableInAccount) -> None:
    start = table.source.head().position
    dropped: list[bool] = []

    def stop() -> bool:
        if not dropped:
            dropped.append(True)
            table.server.execute(f"DROP TABLE {table.name}")
        return False

    with pytest.raises(SourceNotFound, match=r"does not exist, or the role may not"):
        table.source.stream(start, lambda batch: None, continuous=True, interval_seconds=0.05, stop=stop)


@pytest.mark.parametrize("missing", ["NO_SUCH.S.T", "{database}.NO_SUCH.T", "{schema}.NO_SUCH"])
def test_what_is_not_there_is_named_with_what_the_role_needs(
    spark: SparkSession, schema: str, sign_in: SignIn, missing: str
) -> None:
    name = missing.format(schema=schema, database=schema.split(".")[0])

    with pytest.raises(SourceNotFound, match=r"does not exist, or the role may not see it.*needs USAGE"):
        SnowflakeSource(spark, name, COLUMNS, sign_in=sign_in).head()


def test_a_refused_sign_in_is_not_taken_for_a_missing_table(table: SnowflakeTableInAccount) -> None:
    source = table.reopened()
    table.server.refuse_logins(1)

    with pytest.raises(SignInFailed):
        source.head()


def test_a_reserved_column_is_refused(table: SnowflakeTableInAccount) -> None:
    with pytest.raises(SchemaMismatch, match="_op are reserved"):
        table.reopened(["id", "_op"]).snapshot(table.source.head().position)


def test_a_young_table_is_waited_for(table: SnowflakeTableInAccount) -> None:
    table.server.execute(f"CREATE OR REPLACE TABLE {table.name} (id NUMBER(18, 0), text VARCHAR)")
    source = table.reopened(trail_seconds=1.0)

    assert source.snapshot(source.head().position).collect() == []
