"""A collection over a Snowflake table, from its spec to rows that are served."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

from connectors.snowflake_session import SignIn
from connectors.snowflake_source import SnowflakeSource
from indexer.apply import apply
from indexer.format.store import Store
from indexer.spec import CollectionSpec
from indexer.spec_file import parse_spec
from indexer.sync import SyncReport, sync
from jobs.sources import open_source
from tests.served import served_rows
from tests.snowflake.server import SnowflakeServer

SPEC = """
name: books
source:
  kind: snowflake
  table: {table}
  connection: emulated
  warehouse: READING
  role: READER
  paths: {{owner: "attributes:owner.name"}}
key: [isbn]
columns: [owner, price, printed, added]
text: {{fields: {{title: 1.0}}}}
vector: {{column: embedding}}
"""


@pytest.fixture
def table(snowflake: SnowflakeServer, schema: str) -> str:
    snowflake.execute("""
        CREATE TABLE books (isbn NUMBER(13, 0), title VARCHAR, attributes VARIANT, price NUMBER(6, 2),
        printed TIMESTAMP_NTZ, added TIMESTAMP_LTZ, embedding VECTOR(FLOAT, 2)) CHANGE_TRACKING = TRUE
    """)
    snowflake.execute("""
        INSERT INTO books
        SELECT 1, 'Birds', PARSE_JSON('{"owner": {"name": "Ada"}}'), 1.50, '2024-01-02 03:04:05'::TIMESTAMP_NTZ,
               '2024-01-02 03:04:05 +0100'::TIMESTAMP_LTZ, [1, 0]::VECTOR(FLOAT, 2)
        UNION ALL SELECT 2, 'Fish', PARSE_JSON('{}'), NULL, NULL, NULL, [0, 1]::VECTOR(FLOAT, 2)
    """)
    return f"{schema}.books"


def test_a_collection_follows_a_table(
    spark: SparkSession, snowflake: SnowflakeServer, table: str, sign_in: SignIn, tmp_path: Path
) -> None:
    store = Store.at(str(tmp_path / "store"))
    apply(store, parse_spec(SPEC.format(table=table)))

    def source_of(spec: CollectionSpec) -> SnowflakeSource:
        return SnowflakeSource(
            spark, spec.source.table, spec.source_columns, sign_in=sign_in, paths=spec.source.paths, trail_seconds=0.0
        )

    def run() -> SyncReport:
        return sync(store, "books", source_of, cache=tmp_path / "cache")

    def row(isbn: int, title: str, **more: Any) -> dict[str, Any]:
        return {"isbn": isbn, "title": title, "owner": None, "price": None, "printed": None, "added": None, **more}

    first = run()
    rows, version = served_rows(store, "books")
    assert first.ledger.upserted == 2
    assert rows[2] == row(2, "Fish")
    assert rows[1]["owner"] == "Ada"
    assert str(rows[1]["price"]) == "1.50"
    assert rows[1]["printed"] == datetime(2024, 1, 2, 3, 4, 5)  # noqa: DTZ001 - it has no zone
    assert rows[1]["added"] == datetime(2024, 1, 2, 2, 4, 5, tzinfo=UTC)

    snowflake.execute("UPDATE books SET title = 'Whales', isbn = 22 WHERE isbn = 2")
    snowflake.execute("DELETE FROM books WHERE isbn = 1")
    second = run()

    assert (second.ledger.upserted, second.ledger.deleted) == (1, 2)
    rows, later = served_rows(store, "books")
    assert rows == {22: row(22, "Whales")}
    assert version is not None
    assert later is not None
    assert later > version


@dataclass(frozen=True)
class Notes:
    """A collection over the table ``notes``."""

    store: Store
    sync: Callable[[], SyncReport]

    def served(self) -> dict[int, str]:
        rows, _ = served_rows(self.store, "notes")
        return {key: row["body"] for key, row in rows.items()}


@pytest.fixture
def notes(spark: SparkSession, snowflake: SnowflakeServer, schema: str, sign_in: SignIn, tmp_path: Path) -> Notes:
    store = Store.at(str(tmp_path / "store"))
    apply(
        store,
        parse_spec(
            f"name: notes\nsource: {{kind: snowflake, table: {schema}.notes}}\nkey: [id]\n"
            "text: {fields: {body: 1}}\nvector: {model: 'hash:8'}"
        ),
    )

    def run() -> SyncReport:
        return sync(
            store,
            "notes",
            lambda spec: SnowflakeSource(
                spark, spec.source.table, spec.source_columns, sign_in=sign_in, trail_seconds=0.0
            ),
            cache=tmp_path / "cache",
        )

    return Notes(store, run)


@pytest.mark.parametrize("how", ["untracked", pytest.param("expired", marks=pytest.mark.soak), "recreated"])
def test_what_cannot_be_followed_by_changes_is_compared(
    snowflake: SnowflakeServer, schema: str, notes: Notes, how: str
) -> None:
    tracking = "" if how == "untracked" else "CHANGE_TRACKING = TRUE"
    snowflake.execute(f"CREATE TABLE notes (id NUMBER(9, 0), body VARCHAR) {tracking}")
    snowflake.execute("INSERT INTO notes VALUES (1, 'one'), (2, 'two'), (3, 'three')")
    notes.sync()
    if how == "recreated":
        snowflake.execute("CREATE OR REPLACE TABLE notes (id NUMBER(9, 0), body VARCHAR) CHANGE_TRACKING = TRUE")
        snowflake.execute("INSERT INTO notes VALUES (1, 'one'), (2, 'zwei'), (3, 'three'), (4, 'four')")
    else:
        snowflake.execute("UPDATE notes SET body = 'zwei' WHERE id = 2")
        snowflake.execute("INSERT INTO notes VALUES (4, 'four')")
    if how == "expired":
        snowflake.expire_history(f"{schema}.NOTES")
    second = notes.sync()

    assert notes.served() == {1: "one", 2: "zwei", 3: "three", 4: "four"}
    assert second.ledger.upserted == 2


@pytest.mark.soak
def test_deleting_one_of_two_rows_of_a_key_leaves_the_other(snowflake: SnowflakeServer, notes: Notes) -> None:
    snowflake.execute("CREATE TABLE notes (id NUMBER(9, 0), body VARCHAR) CHANGE_TRACKING = TRUE")
    snowflake.execute("INSERT INTO notes VALUES (1, 'a'), (1, 'b'), (2, 'two')")
    notes.sync()
    (gone,) = {"a", "b"} & set(notes.served().values())
    snowflake.execute(f"DELETE FROM notes WHERE body = '{gone}'")

    report = notes.sync()

    (left,) = {"a", "b"} - {gone}
    assert notes.served() == {1: left, 2: "two"}
    assert report.state is not None
    assert report.state.letter_count == 0
    snowflake.execute("INSERT INTO notes VALUES (2, 'zwei')")
    assert notes.sync().ledger.set_aside == 1
    snowflake.execute("DELETE FROM notes WHERE body = 'two'")
    notes.sync()
    assert notes.served() == {1: left, 2: "zwei"}


def test_a_spec_opens_its_source_without_signing_in(spark: SparkSession) -> None:
    spec = parse_spec(SPEC.format(table="SHOP.PUBLIC.BOOKS"))

    source = open_source(spark, spec)

    assert isinstance(source, SnowflakeSource)
    assert source._session.sign_in == SignIn(
        connection="emulated", role="READER", warehouse="READING", tag="grebe books"
    )


def test_the_documented_spec_is_one() -> None:
    page = (Path(__file__).parents[2] / "docs" / "snowflake.md").read_text(encoding="utf-8")
    (text,) = re.findall(r"^```yaml\n(.*?)^```$", page, flags=re.MULTILINE | re.DOTALL)

    assert parse_spec(text).source.table == "SHOP.PUBLIC.BOOKS"
