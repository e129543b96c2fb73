"""Collections, their specs and status, and single rows by key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest

from indexer.format.keys import format_key
from tests.api.conftest import Serve
from tests.api.library import Library, book


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
