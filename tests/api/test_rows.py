"""Collections, their specs and status, and rows by key: one at its address, or many at once."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest

from indexer.format.keys import format_key
from tests.api.conftest import Serve, client_of, settings_for
from tests.api.library import Library, book
from tests.retrieval.library import Doc, spec_of
from tests.retrieval.library import Library as DocLibrary


def test_collections_are_listed_by_name(client: httpx.Client) -> None:
    assert client.get("/v1/collections").json() == {
        "collections": [
            {"name": "books", "state": "open", "version": 1},
            {"name": "pairs", "state": "open", "version": 1},
        ]
    }


def test_a_collection_shows_its_spec_and_columns(client: httpx.Client) -> None:
    found = client.get("/v1/collections/books").json()
    assert found["spec"]["text"]["fields"] == {"title": 2.0, "body": 1.0}
    assert found["columns"] == {"id": "BIGINT", "shelf": "STRING", "pages": "BIGINT"}
    assert (found["name"], found["dim"]) == ("books", 32)


def test_status_counts_and_says_how_fresh(client: httpx.Client) -> None:
    found = client.get("/v1/collections/books/status").json()
    counts = {name: found[name] for name in ("rows", "chunks", "deleted_chunks", "segments", "dead_letters")}
    assert counts == {"rows": 20, "chunks": 20, "deleted_chunks": 0, "segments": 1, "dead_letters": 0}
    assert (found["state"], found["version"], found["latest_version"], found["failure"]) == ("open", 1, 1, None)
    assert found["source"]["version"] == 3
    assert found["age_seconds"] >= 0
    assert found["size_bytes"] > 0


def test_a_row_comes_with_its_columns_and_whole_text(client: httpx.Client) -> None:
    found = client.get("/v1/collections/books/rows/7").json()
    assert found["fields"] == {
        "id": 7,
        "shelf": "a/b, c",
        "pages": 70,
        "title": "The badger",
        "body": "Story 7 of a badger by the river",
    }
    assert (found["key"], found["source_version"], found["version"], found["chunks"]) == (7, 3, 1, 1)


@pytest.mark.parametrize("key", [("a/b, c", 1), ("plain", 2)])
def test_a_composite_key_may_hold_commas_and_slashes(client: httpx.Client, key: tuple[Any, ...]) -> None:
    found = client.get(f"/v1/collections/pairs/rows/{format_key(key)}")
    assert (found.status_code, found.json()["key"]) == (200, list(key))


@pytest.mark.parametrize(
    "path",
    [
        "/v1/collections/books/%72ows/7",
        "/v1/collections/books/rows/%37",
        "/v1/collections%2Fbooks%2frows/7",
        "/%761/collections/books/rows%2F7",
    ],
)
def test_any_part_of_the_path_may_be_percent_encoded(client: httpx.Client, path: str) -> None:
    found = client.get(path)
    assert (found.status_code, found.json()["key"]) == (200, 7)


def test_a_collection_and_a_key_may_be_called_rows(serve: Serve, tmp_path: Path) -> None:
    library = Library(tmp_path, "rows", composite=True)
    library.commit(1, [book(1, shelf="/rows/")])
    with serve() as client:
        found = client.get(f"/v1/collections/rows/rows/{format_key(('/rows/', 1))}")
        assert (found.status_code, found.json()["key"]) == (200, ["/rows/", 1])


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("books/rows/999", 404, "row-not-found"),
        ("books/rows/seven", 422, "invalid-request"),
        ("books/rows/1,2", 422, "invalid-request"),
        ("pairs/rows/plain", 422, "invalid-request"),
        ("pairs/rows/a/b, c,1", 422, "invalid-request"),
        ("books/rows/", 422, "invalid-request"),
        ("books/rows/99999999999999999999", 422, "invalid-request"),
    ],
)
def test_a_key_that_is_absent_or_wrong(client: httpx.Client, path: str, status: int, code: str) -> None:
    response = client.get(f"/v1/collections/{path}")
    assert (response.status_code, response.json()["code"]) == (status, code)


def rows_of(client: httpx.Client, keys: Any, *, name: str = "books", **more: Any) -> Any:
    response = client.post(f"/v1/collections/{name}/rows", json={"keys": keys} | more)
    assert response.status_code == 200, response.text
    return response.json()


def test_many_rows_come_in_the_order_of_their_keys_and_each_as_by_itself(client: httpx.Client) -> None:
    found = rows_of(client, [7, 999, 3, [12], "998"])
    assert [row["key"] for row in found["rows"]] == [7, 3, 12]
    assert found["missing"] == [999, "998"]
    for row in found["rows"]:
        alone = client.get(f"/v1/collections/books/rows/{row['key']}").json()
        assert row | {name: found[name] for name in ("masked", "version", "source")} == alone
    assert 0 <= found["age_seconds"] < 600


def test_a_key_that_is_asked_for_twice_is_answered_once(client: httpx.Client) -> None:
    asked = {"keys": [3, 99, [3], "3", "03", 1, 99, 3], "include": ["pages"]}
    answer = client.post("/v1/collections/books/rows", json=asked).json()
    assert [row["key"] for row in answer["rows"]] == [3, 1]
    assert answer["missing"] == [99]


def test_composite_keys_are_lists_of_their_values(client: httpx.Client) -> None:
    keys = [["a/b, c", 3], ["plain", 2], ["plain", 3]]
    found = rows_of(client, keys, name="pairs", include=["pages", "body", "pages"])
    assert [row["key"] for row in found["rows"]] == keys[:2]
    assert [row["fields"] for row in found["rows"]] == [
        {"pages": 30, "body": "Story 3 of a kestrel by the river"},
        {"pages": 20, "body": "Story 2 of a badger by the river"},
    ]
    assert found["missing"] == keys[2:]


@pytest.mark.parametrize(
    "key",
    [["day"], ["at"], ["local"], ["amount"], ["price"], ["lang"], ["id"], ["amount", "local", "lang"]],
    ids="-".join,
)
def test_keys_of_every_type_are_asked_for_as_answers_show_them(tmp_path: Path, key: list[str]) -> None:
    library = DocLibrary(tmp_path, spec_of(key=key, columns=["size"]))
    first = datetime(1969, 12, 30, 23, 59, 59, 10_000, UTC)
    docs = [
        Doc(
            id=number - 3,
            lang="a,b/%2F é"[:number],
            at=first + number * timedelta(days=1, microseconds=1),
            price=(number - 3) * 1.1e15,
            amount=Decimal(number - 3) / 10,
            size=number,
        )
        for number in range(1, 7)
    ]
    library.add(*docs[:4])
    library.add(*docs[4:])
    with client_of(settings_for(tmp_path)) as client:
        search = {"filter": "size > 0", "include": []}
        hits = client.post("/v1/collections/docs/search", json=search).json()["results"]
        keys = [hit["key"] for hit in hits]
        found = rows_of(client, keys, name="docs", include=["size"])
    assert [row["key"] for row in found["rows"]] == keys
    assert (sorted(row["fields"]["size"] for row in found["rows"]), found["missing"]) == ([1, 2, 3, 4, 5, 6], [])


def test_a_row_has_the_fields_that_are_included(client: httpx.Client) -> None:
    path = "/v1/collections/books/rows/7"
    assert client.get(f"{path}?include=title&include=pages").json()["fields"] == {"title": "The badger", "pages": 70}
    wrong = client.get(f"{path}?include=titel").json()
    assert (wrong["code"], wrong["errors"][0]["field"]) == ("invalid-request", "include")
    assert wrong["errors"][0]["hint"] == "did you mean title?"


@pytest.mark.parametrize(
    ("body", "field", "message"),
    [
        ({}, "keys", "is required"),
        ({"keys": []}, "keys", "at least 1 item"),
        ({"keys": [1] * 1001}, "keys", "at most 1000 items"),
        ({"keys": [1, None]}, "keys.1", "expected a key"),
        ({"keys": [1, {"id": 1}]}, "keys.1", "expected a key"),
        ({"keys": [1, "seven"]}, "keys.1", "'seven' is not of type int64"),
        ({"keys": [1, True]}, "keys.1", "True is not of type int64"),
        ({"keys": [1, 2.5]}, "keys.1", "2.5 is not of type int64"),
        ({"keys": [1, 2, 2**70]}, "keys.2", "expected int64 for 'id'"),
        ({"keys": [1, [1, 2]]}, "keys.1", "the key has 1 components (id), not 2"),
        ({"keys": [1], "include": ["titel"]}, "include", "no field 'titel'"),
        ({"keys": [1], "inclued": []}, "inclued", "did you mean 'include'"),
        ({"key": [1]}, "key", "did you mean 'keys'"),
    ],
)
def test_what_is_wrong_with_many_keys_is_named(
    client: httpx.Client, body: dict[str, Any], field: str, message: str
) -> None:
    problem = client.post("/v1/collections/books/rows", json=body).json()
    assert (problem["status"], problem["code"]) == (422, "invalid-request")
    found = {mistake["field"]: mistake["message"] for mistake in problem["errors"]}
    assert message in found[field]


def test_rows_wait_for_the_version_that_is_asked_for(client: httpx.Client) -> None:
    assert rows_of(client, [1], min_version=3, max_staleness_seconds=600)["missing"] == []
    asked = {"keys": [1], "min_version": 4, "deadline_ms": 50}
    late = client.post("/v1/collections/books/rows", json=asked)
    assert (late.status_code, late.json()["code"]) == (412, "too-old")


def test_of_a_collection_without_rows_every_key_is_missing(serve: Serve, tmp_path: Path) -> None:
    Library(tmp_path)
    with serve() as client:
        assert rows_of(client, ["x", 2, ["x"], True, 1, 2])["missing"] == ["x", 2, True, 1]
        assert client.get("/v1/collections/books/rows/1").status_code == 404
