"""The SQL call: what it answers, what it refuses, and who may ask."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from api import selecting
from api.audit.reading import records
from api.identity.administration import create_key, grant
from api.identity.control import ControlTable
from indexer.apply import apply
from retrieval.sql import Statement, parse_statement
from tests.api.conftest import LogLines, Serve, client_of, settings_for
from tests.api.library import Library, book


def sql(client: httpx.Client, text: str, key: str | None = None, **more: Any) -> httpx.Response:
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    return client.post("/v1/sql", json={"sql": text} | more, headers=headers)


def answer(client: httpx.Client, text: str, key: str | None = None, **more: Any) -> Any:
    response = sql(client, text, key, **more)
    assert response.status_code == 200, response.text
    return response.json()


def test_an_answer_has_columns_rows_version_source_age_plan_and_times(client: httpx.Client) -> None:
    found = answer(
        client,
        "SELECT shelf, count(*) AS n, avg(pages) FROM books WHERE pages < :most GROUP BY shelf ORDER BY n DESC, 1",
        params={"most": 50},
    )

    assert found["columns"] == [
        {"name": "shelf", "type": "STRING", "masked": False},
        {"name": "n", "type": "BIGINT", "masked": False},
        {"name": "avg(pages)", "type": "DOUBLE", "masked": False},
    ]
    assert found["rows"] == [["plain", 3, 20.0], ["a/b, c", 2, 20.0]]
    assert (found["truncated"], found["masked"]) == (False, [])
    assert (found["version"], found["source"]["version"]) == (1, 3)
    assert 0 <= found["age_seconds"] < 600
    assert found["plan"] == {"rows": 5, "mode": "filter", "vector": None}
    assert set(found["took_ms"]) == {"plan", "find", "select", "total"}


def test_a_search_in_a_statement_finds_what_the_search_call_finds(client: httpx.Client) -> None:
    hits = client.post(
        "/v1/collections/books/search", json={"query": "otter river", "filter": "pages > 20", "k": 4}
    ).json()["results"]

    found = answer(
        client,
        "SELECT id, score(), passage() FROM books WHERE search(:q, k => 4) AND pages > 20",
        params={"q": "otter river"},
    )

    assert found["rows"] == [[hit["key"], pytest.approx(hit["score"]), hit["text"]] for hit in hits]
    assert found["plan"] == {"rows": 4, "mode": "hybrid", "vector": "exact"}


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        (
            "SELECT id\nFROM books WHERE nope = 1",
            {
                "code": "sql-unknown-column",
                "line": 2,
                "column": 18,
                "length": 4,
                "message": "there is no column 'nope'",
            },
        ),
        ("DROP TABLE books", {"code": "sql-not-allowed", "line": 1, "column": 1, "length": 4}),
        ("SELECT id FROM books WHERE search('x', mode => 'fast')", {"code": "sql-value", "column": 48}),
    ],
)
def test_a_wrong_statement_is_told_the_place(client: httpx.Client, text: str, mistake: dict[str, Any]) -> None:
    response = sql(client, text)

    assert (response.status_code, response.json()["code"]) == (422, "invalid-sql")
    (found,) = response.json()["errors"]
    assert found["field"] == "sql"
    assert found.items() >= mistake.items()


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        ({}, 422, "sql"),
        ({"sql": "SELECT 1 FROM books", "slq": 1}, 422, "slq"),
        ({"sql": ""}, 422, "sql"),
        ({"sql": "SELECT 1 FROM books", "dialect": "mysql"}, 422, "dialect"),
        ({"sql": "SELECT 1 FROM books", "min_version": 99, "deadline_ms": 50}, 412, "min_version"),
    ],
)
def test_other_mistakes_are_told_by_field(client: httpx.Client, body: dict[str, Any], status: int, field: str) -> None:
    response = client.post("/v1/sql", json=body)

    assert (response.status_code, response.json()["errors"][0]["field"]) == (status, field)


def test_a_collection_that_is_not_there_is_not_found(client: httpx.Client) -> None:
    response = sql(client, "SELECT 1 FROM nowhere")

    assert (response.status_code, response.json()["code"]) == (404, "collection-not-found")


def test_a_statement_is_counted_and_leaves_a_line_without_its_text(client: httpx.Client, logged: LogLines) -> None:
    response = sql(client, "SELECT 'confidential' FROM books LIMIT 2")

    line = next(line for line in logged.lines() if line.get("request_id") == response.headers["X-Request-ID"])
    assert (line["collection"], line["results"], line["version"]) == ("books", 2, 1)
    assert "confidential" not in str(line)
    assert 'grebe_sql_stage_seconds_count{collection="books",stage="select"}' in client.get("/metrics").text


@pytest.fixture(scope="module")
def governed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[httpx.Client, dict[str, str], Library, Path]]:
    """A server with keys: ``short`` sees short books, their shelf masked; ``searcher`` may search and no more."""
    root = tmp_path_factory.mktemp("governed")
    library = Library(root)
    library.commit(1, [book(number) for number in range(20)])
    policies = [{"role": "short", "rows": "pages < :most", "masks": {"shelf": "redact"}}, {"role": "searcher"}]
    apply(library.store, type(library.spec).model_validate(library.spec.model_dump() | {"policies": policies}))
    table = ControlTable(library.store)
    grant(table, "short", "books", ["sql"])
    grant(table, "searcher", "books", ["search"])
    made = {"short": {"most": 50}, "searcher": {}}
    keys = {role: create_key(table, role, roles=[role], claims=claims)[0] for role, claims in made.items()}
    with client_of(settings_for(root, audit={"folder": root / "audit"})) as client:
        yield client, keys, library, root / "audit"


Governed = tuple[httpx.Client, dict[str, str], Library, Path]


def test_each_caller_counts_its_own_rows_and_reckons_with_no_masked_value(governed: Governed) -> None:
    client, keys, *_ = governed

    counted = answer(client, "SELECT count(*), max(pages) FROM books", keys["short"])
    shown = answer(client, "SELECT id, shelf FROM books ORDER BY id DESC LIMIT 1", keys["short"])
    refused = sql(client, "SELECT shelf, count(*) FROM books GROUP BY shelf", keys["short"])

    assert (counted["rows"], counted["plan"]["rows"]) == ([[5, 40]], 5)
    assert (shown["rows"], shown["masked"]) == ([[4, None]], ["shelf"])
    assert refused.json()["errors"][0]["code"] == "sql-masked-column"


def test_sql_is_an_action_of_its_own(governed: Governed) -> None:
    client, keys, *_ = governed

    assert sql(client, "SELECT 1 FROM books", keys["searcher"]).json()["code"] == "forbidden"
    searched = client.post(
        "/v1/collections/books/search", json={"query": "otter"}, headers={"Authorization": f"Bearer {keys['short']}"}
    )
    assert searched.json()["code"] == "forbidden"
    missing, hidden = (sql(client, f"SELECT 1 FROM {name}", keys["short"]) for name in ("nowhere", "pairs"))
    assert missing.status_code == hidden.status_code == 404
    assert sql(client, "SELECT 1 FROM books").status_code == 401


def test_the_audit_log_names_the_rows_that_were_read_and_not_the_statement(governed: Governed) -> None:
    client, keys, library, folder = governed
    response = sql(client, "SELECT id AS secretly FROM books ORDER BY id LIMIT 2", keys["short"])
    grouped = sql(client, "SELECT count(*) FROM books", keys["short"])

    found = {
        (record["metadata"]["uid"].partition("/")[0], record["unmapped"]["phase"]): record["unmapped"]
        for record in records(library.store, folder, newest_first=False)
    }
    intent, outcome = (found[response.headers["X-Request-ID"], phase] for phase in ("intent", "outcome"))
    assert (intent["collection"], "sql_hmac" in intent) == ("books", True)
    assert (outcome["keys"], outcome["rows_read"], outcome["masked"]) == ([0, 1], 5, ["shelf"])
    assert found[grouped.headers["X-Request-ID"], "outcome"]["rows_read"] == 5
    assert "secretly" not in str(found)


def test_a_text_that_takes_long_to_parse_holds_up_nobody(serve: Serve, library: Library) -> None:
    library.commit(1, [book(1)])
    slow = threading.Event()

    def parse(text: str, dialect: str) -> Statement:
        slow.wait(10)
        return parse_statement(text, dialect)

    with serve(search={"threads": 1}) as client, pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor() as pool:
        patch.setattr(selecting, "parse_statement", parse)
        asked = pool.submit(sql, client, "SELECT count(*) FROM books")
        late = pool.submit(sql, client, "SELECT count(*) FROM books", deadline_ms=100)
        assert late.result().json()["code"] == "deadline-exceeded"
        assert client.get("/v1/collections").status_code == 200
        slow.set()
        assert asked.result().json()["rows"] == [[1]]


def test_whoever_is_refused_a_collection_is_in_the_audit_log_with_its_name(governed: Governed) -> None:
    client, keys, library, folder = governed
    refused = [sql(client, f"SELECT 1 FROM {name}", keys["searcher"]) for name in ("books", "nowhere")]

    found = {
        record["metadata"]["uid"].partition("/")[0]: (record["unmapped"]["decision"], record["unmapped"]["collection"])
        for record in records(library.store, folder)
        if record["unmapped"]["phase"] == "outcome"
    }
    assert [found[response.headers["X-Request-ID"]] for response in refused] == [
        ("denied", "books"),
        ("denied", "nowhere"),
    ]


def test_a_policy_that_cannot_be_used_is_told_to_who_runs_the_server(
    serve: Serve, library: Library, logged: LogLines
) -> None:
    library.commit(1, [book(1)])
    policies = [{"role": "short", "rows": "pages < :most"}]
    apply(library.store, type(library.spec).model_validate(library.spec.model_dump() | {"policies": policies}))
    table = ControlTable(library.store)
    grant(table, "short", "books", ["sql"])
    key, _ = create_key(table, "short", roles=["short"], claims={})
    log = LogLines()
    with serve(log) as client:
        found = answer(client, "SELECT count(*) FROM books", key)

    assert found["rows"] == [[0]]
    assert [line["closed_policies"] for line in log.lines() if line.get("event") == "request"] == [["short"]]
