"""Batches of a Snowflake result that break off or expire under a sync: it gets over that, or says so."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyspark.sql import DataFrame, SparkSession

from connectors.contract import ChangeBatch, Position
from connectors.errors import BatchLost, SourceError
from connectors.snowflake_session import SignIn
from connectors.snowflake_source import SnowflakeSource
from indexer.apply import apply
from indexer.catalog import Catalog
from indexer.format.store import Store
from indexer.spec_file import parse_spec
from indexer.sync import SyncReport, sync
from tests.served import served_rows
from tests.snowflake.server import SnowflakeServer

ROWS = 250
SEVERAL_BATCHES = 100
SPEC = """
name: notes
source: {{kind: snowflake, table: {table}}}
key: [id]
text: {{fields: {{body: 1}}}}
vector: {{model: 'hash:8'}}
"""


class Watched(SnowflakeSource):
    """Calls ``reading`` when a query has been run and its rows have not been fetched yet."""

    reading: Callable[[], None] = staticmethod(lambda: None)

    def snapshot(self, position: Position) -> DataFrame:
        rows = super().snapshot(position)
        self.reading()
        return rows

    def stream(self, start: Position, handle: Callable[[ChangeBatch], None], **options: Any) -> None:
        def watched(batch: ChangeBatch) -> None:
            self.reading()
            handle(batch)

        super().stream(start, watched, **options)


class Notes:
    """A table of the account, and a collection over it."""

    def __init__(
        self, spark: SparkSession, server: SnowflakeServer, schema: str, sign_in: SignIn, folder: Path
    ) -> None:
        self.server, self.folder = server, folder
        self.table = f"{schema}.NOTES"
        server.execute("CREATE TABLE notes (id NUMBER(9, 0), body VARCHAR) CHANGE_TRACKING = TRUE")
        server.rows_per_chunk(SEVERAL_BATCHES)
        spec = parse_spec(SPEC.format(table=self.table))
        self.source = Watched(spark, self.table, spec.source_columns, sign_in=sign_in, trail_seconds=0.0)
        self.store = Store.at(str(folder / "store"))
        apply(self.store, spec)

    def fill(self, first: int) -> None:
        """Insert as many rows as make several batches, in one commit."""
        ids = range(first, first + ROWS)
        self.server.load(self.table, pa.table({"ID": pa.array(ids, pa.int64()), "BODY": [f"note {n}" for n in ids]}))

    def change(self) -> None:
        """Insert many rows, update and delete some of those before."""
        self.fill(ROWS)
        self.server.execute("UPDATE notes SET body = 'again' WHERE id < 50")
        self.server.execute("DELETE FROM notes WHERE id >= 50 AND id < 70")

    def sync(self) -> SyncReport:
        return sync(self.store, "notes", lambda _: self.source, cache=self.folder / "cache")

    @property
    def live_rows(self) -> int:
        return Catalog.open(self.store, "notes").read().live_rows

    def served(self) -> dict[int, str]:
        return {key: row["body"] for key, row in served_rows(self.store, "notes")[0].items()}

    def rows(self) -> dict[int, str]:
        return {int(id_): body for id_, body in self.server.execute("SELECT id, body FROM notes")}


@pytest.fixture
def notes(spark: SparkSession, snowflake: SnowflakeServer, schema: str, sign_in: SignIn, tmp_path: Path) -> Notes:
    notes = Notes(spark, snowflake, schema, sign_in, tmp_path)
    notes.fill(0)
    return notes


Fault = Callable[[SnowflakeServer], None]


def drop_two(server: SnowflakeServer) -> None:
    server.drop_chunks(2)


def expire_addresses(server: SnowflakeServer) -> None:
    server.expire_addresses()


def expire_results(server: SnowflakeServer) -> None:
    server.expire_addresses()
    server.expire_results()


PASSING = [drop_two, expire_addresses, expire_results]
IN_THE_SOAK = [pytest.param(fault, marks=pytest.mark.soak) for fault in PASSING]


def once(notes: Notes, fault: Fault) -> Callable[[], None]:
    """Return what does ``fault`` the first time that it is called."""
    done: list[bool] = []

    def reading() -> None:
        if not done:
            done.append(True)
            fault(notes.server)

    return reading


@pytest.mark.parametrize("fault", [IN_THE_SOAK[0], expire_addresses, IN_THE_SOAK[2]])
def test_a_load_gets_over_batches_that_break_off_or_expire(notes: Notes, fault: Fault) -> None:
    notes.source.reading = once(notes, fault)

    report = notes.sync()

    assert (report.ledger.upserted, notes.live_rows) == (ROWS, ROWS)
    assert notes.served() == notes.rows()


def test_a_load_whose_batches_break_off_again_and_again_is_named_and_the_next_sync_gets_on(notes: Notes) -> None:
    notes.source.reading = lambda: notes.server.drop_chunks(10_000)

    with pytest.raises(SourceError, match=r"NOTES.*batch \d of \d of query .* cannot be fetched") as caught:
        notes.sync()

    assert caught.value.__cause__ is None  # Spark's text, in which an address may stand
    notes.source.reading = lambda: notes.server.drop_chunks(0)
    assert notes.sync().ledger.upserted == ROWS
    assert notes.served() == notes.rows()


@pytest.mark.parametrize("fault", [*IN_THE_SOAK[:2], expire_results])
def test_a_sync_gets_over_batches_of_changes_that_break_off_or_expire(notes: Notes, fault: Fault) -> None:
    notes.sync()
    notes.change()
    notes.source.reading = once(notes, fault)

    report = notes.sync()

    assert (report.ledger.upserted, report.ledger.deleted) == (ROWS + 50, 20)
    assert (report.healed, notes.live_rows) == ([], 2 * ROWS - 20)
    assert notes.served() == notes.rows()


@pytest.mark.soak
def test_a_connection_that_drops_again_and_again_is_named_and_the_next_sync_gets_on(notes: Notes) -> None:
    notes.sync()
    before = notes.served()
    notes.change()
    notes.source.reading = lambda: notes.server.drop_chunks(10_000)

    with pytest.raises(SourceError, match=r"NOTES.*batch \d of \d of query .* cannot be fetched"):
        notes.sync()

    assert notes.served() == before
    notes.source.reading = lambda: notes.server.drop_chunks(0)
    report = notes.sync()
    assert (report.ledger.upserted, report.ledger.deleted) == (ROWS + 50, 20)
    assert (notes.live_rows, notes.served()) == (2 * ROWS - 20, notes.rows())


@pytest.mark.soak
def test_batches_that_expire_each_time_are_named_and_the_next_sync_gets_on(notes: Notes) -> None:
    notes.sync()
    before = notes.served()
    notes.change()
    notes.source.reading = lambda: expire_results(notes.server)

    with pytest.raises(BatchLost, match=r"batch \d of \d of query .* no fresh address of it either"):
        notes.sync()

    assert notes.served() == before
    notes.source.reading = lambda: None
    notes.sync()
    assert (notes.live_rows, notes.served()) == (2 * ROWS - 20, notes.rows())
