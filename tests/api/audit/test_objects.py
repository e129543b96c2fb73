"""What is shipped is Parquet that SQL can ask, and holds each record as it was hashed."""

from __future__ import annotations

import io
from datetime import UTC, datetime

import polars as pl

from api.audit.chain import START, canonical, sealed
from api.audit.objects import Row, columns_of, from_parquet, object_path, place_in_store, to_parquet
from tests.api.audit.scene import TIME_MS, answer, search

ENTRIES = sealed(START, [canonical(search(1)), canonical(answer())])


def test_sql_sees_who_did_what_where_and_how_it_ended() -> None:
    table = pl.read_parquet(io.BytesIO(to_parquet(ENTRIES)))

    sql = "SELECT seq, phase, request_id, actor, operation, collection, status, decision FROM self ORDER BY seq"
    search_call = "POST /v1/collections/{name}/search"
    assert table.sql(sql).rows() == [
        (1, "intent", "r-1", "k-7", search_call, "books", None, None),
        (2, "outcome", "r-1", "k-7", search_call, "books", 200, "allowed"),
    ]
    assert table["time"].to_list()[1] == datetime.fromtimestamp((TIME_MS + 12) / 1000, UTC)
    assert table["record"].to_list() == [entry.body.decode() for entry in ENTRIES]
    assert table["hash"].to_list() == [entry.hash for entry in ENTRIES]
    assert table["prev"].to_list() == [entry.prev for entry in ENTRIES]


def test_a_file_comes_back_as_it_went() -> None:
    rows = from_parquet(to_parquet(ENTRIES), "it")

    assert rows == [
        Row(entry, columns_of(record)) for entry, record in zip(ENTRIES, (search(1), answer()), strict=True)
    ]


def test_a_path_says_which_part_of_which_chain_it_is() -> None:
    path = object_path("a" * 32, 12, 345)

    assert path == f"_audit/v1/writer={'a' * 32}/00000000000000000012-345.parquet"
    assert place_in_store(path) == ("a" * 32, 12)
    assert place_in_store(f"_audit/v1/writer={'a' * 32}/key.pem") is None
