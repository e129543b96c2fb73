"""Over HTTP: a tenant of an isolated collection is answered what a collection of its rows alone would answer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from api.identity.administration import create_key, grant
from api.identity.control import ControlTable
from tests.api.conftest import client_of, settings_for
from tests.api.library import Library, book

MASKS = {"body": "redact"}
CHUNK = {"fields": {"title": 2.0, "body": 1.0}, "chunk": {"per_field": True}}
POLICIES = [{"role": "member", "rows": "shelf = :shelf", "masks": MASKS}]
ALONE = [{"role": "member", "masks": MASKS}]
STAGES = {"decay": {"column": "pages", "origin": 100, "scale": 50}, "diversify": {"diversity": 0.4}}


@pytest.fixture(scope="module")
def member(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A server of ``books``, kept apart by shelf, and ``plain``, the rows of one shelf; asked by a member of that."""
    root = tmp_path_factory.mktemp("tenants")
    rows = [book(number) for number in range(60)]
    parts: dict[str, Any] = {"composite": True, "text": CHUNK}
    books = Library(root, isolation={"tenant": "shelf"}, policies=POLICIES, **parts)
    books.commit(1, rows)
    Library(root, "plain", policies=ALONE, **parts).commit(1, [row for row in rows if row["shelf"] == "plain"])
    table = ControlTable(books.store)
    grant(table, "member", "*", ["search", "sql", "read", "monitor"])
    key, _ = create_key(table, "member", roles=["member"], claims={"shelf": "plain"})
    with client_of(settings_for(root)) as client:
        client.headers["Authorization"] = f"Bearer {key}"
        yield client


@pytest.mark.parametrize(
    "body",
    [
        {"query": "the otter by the river", "k": 7},
        {"query": "the otter", "mode": "keyword", "k": 7, "explain": True},
        {"query": "heron", "mode": "vector", "k": 7, "filter": "pages > 50"},
        {"query": "a kestrel", "k": 7, "explain": True, **STAGES},
        {"like": ["plain", 4], "k": 7},
        {"filter": "pages BETWEEN 100 AND 300", "k": 7},
    ],
    ids=lambda body: ", ".join(body),
)
def test_a_tenants_search_is_that_of_a_collection_of_its_own(member: httpx.Client, body: dict[str, Any]) -> None:
    kept_apart, alone = (asked(member, name, body) for name in ("books", "plain"))

    assert kept_apart == alone
    assert len(kept_apart["results"]) >= 6


@pytest.mark.parametrize(
    ("question", "rows"),
    [
        ({"query": "the otter by the river"}, 24),
        ({"query": "otter", "mode": "keyword"}, 6),
        ({"filter": "id >= 0"}, 30),
    ],
)
def test_a_tenants_pages_are_those_of_a_collection_of_its_own(
    member: httpx.Client, question: dict[str, Any], rows: int
) -> None:
    kept_apart, alone = (list(pages(member, name, question)) for name in ("books", "plain"))

    assert kept_apart == alone
    assert sum(len(page) for page in kept_apart) == rows


def test_a_tenants_statements_and_rows_are_those_of_a_collection_of_its_own(member: httpx.Client) -> None:
    said = "SELECT pages > 300 AS long, count(*), sum(pages) FROM {} GROUP BY pages > 300 ORDER BY 2"
    counted, alone = (
        member.post("/v1/sql", json={"sql": said.format(name)}).json()["rows"] for name in ("books", "plain")
    )
    assert counted == alone
    assert sum(row[1] for row in counted) == 30
    assert member.get("/v1/collections/books/rows/plain,4").json()["fields"]["body"] is None
    assert member.get("/v1/collections/books/rows/a%2Fb%2C%20c,5").status_code == 404
    many = {"keys": [["plain", 4], ["a/b, c", 5], ["plain", 5], ["plain", 2]]}
    kept_apart, alone = (member.post(f"/v1/collections/{name}/rows", json=many).json() for name in ("books", "plain"))
    assert [row["fields"] for row in kept_apart["rows"]] == [row["fields"] for row in alone["rows"]]
    assert kept_apart["missing"] == alone["missing"] == [["a/b, c", 5], ["plain", 5]]


def test_the_status_counts_tenants(member: httpx.Client) -> None:
    found = {name: member.get(f"/v1/collections/{name}/status").json() for name in ("books", "plain")}

    assert {name: (status["tenants"], status["segments"]) for name, status in found.items()} == {
        "books": (2, 2),
        "plain": (None, 1),
    }


def asked(member: httpx.Client, name: str, body: dict[str, Any]) -> dict[str, Any]:
    """What ``name`` answers, but for when."""
    answer: dict[str, Any] = member.post(f"/v1/collections/{name}/search", json=body).raise_for_status().json()
    return {part: answer[part] for part in ("results", "masked", "plan")}


def pages(member: httpx.Client, name: str, question: dict[str, Any]) -> Iterator[list[Any]]:
    cursor = "start"
    while cursor:
        body = question | {"k": 9, "cursor": cursor}
        answer = member.post(f"/v1/collections/{name}/search", json=body).raise_for_status().json()
        yield answer["results"]
        cursor = answer["next_cursor"]
