"""Health, metrics, logs and request ids."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from api import watcher
from indexer.catalog import SyncFailure
from tests.api.conftest import LogLines, Serve, until
from tests.api.library import Library, book

SEARCH = "/v1/collections/books/search"
TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/startupz"])
def test_a_server_that_has_started_is_well(client: httpx.Client, path: str) -> None:
    response = client.get(path)
    assert (response.status_code, response.json()) == (200, {"status": "ok", "reasons": []})


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/startupz"])
def test_a_probe_by_head_is_answered_as_by_get_without_a_body(client: httpx.Client, path: str) -> None:
    by_head, by_get = client.head(path), client.get(path)
    assert (by_head.status_code, by_head.content) == (by_get.status_code, b"")
    for name in ("content-type", "content-length"):
        assert by_head.headers[name] == by_get.headers[name]
    assert client.get(path).status_code == 200  # on the same connection: no body was left on it


def test_the_version_is_told(client: httpx.Client) -> None:
    assert client.get("/version").json().keys() == {"version", "format_version", "python"}


def test_a_request_id_is_made(client: httpx.Client) -> None:
    ids = {client.get("/version").headers["x-request-id"] for _ in range(3)}
    assert len(ids) == 3
    assert all(re.fullmatch("[0-9a-f]{32}", request_id) for request_id in ids)


def test_a_callers_request_id_is_kept_when_it_is_plain(client: httpx.Client) -> None:
    def returned(given: str) -> str:
        return client.get("/version", headers={"X-Request-ID": given}).headers["x-request-id"]

    assert returned("order-7.retry~2") == "order-7.retry~2"
    for unusable in ("a b", '{"x":1}', "x" * 129, ""):
        assert re.fullmatch("[0-9a-f]{32}", returned(unusable))


def test_each_call_has_one_log_line_without_the_query(client: httpx.Client, logged: LogLines) -> None:
    body = {"query": "confidential otter", "k": 3, "filter": "shelf <> 'secret shelf'"}
    client.post(SEARCH, json=body, headers={"X-Request-ID": "log-1", "traceparent": TRACE})
    client.post(SEARCH, json={"filter": "nope = 'private'"}, headers={"X-Request-ID": "log-2", "traceparent": "no"})
    lines = {line["request_id"]: line for line in logged.lines() if line.get("request_id") in ("log-1", "log-2")}
    assert lines["log-1"].pop("latency_ms") > 0
    assert lines["log-1"].pop("time").endswith("Z")
    assert lines["log-1"] == {
        "event": "request",
        "level": "info",
        "request_id": "log-1",
        "method": "POST",
        "route": "/v1/collections/{name}/search",
        "status": 200,
        "actor": "anonymous",
        "collection": "books",
        "version": 1,
        "k": 3,
        "mode": "hybrid",
        "results": 3,
        "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",
        "span_id": "00f067aa0ba902b7",
    }
    assert (lines["log-2"]["status"], lines["log-2"]["code"], "trace_id" in lines["log-2"]) == (
        422,
        "invalid-filter",
        False,
    )
    for secret in (b"confidential", b"secret", b"private"):
        assert secret not in logged.getvalue()


def test_requests_and_collections_are_measured(client: httpx.Client) -> None:
    client.post(SEARCH, json={"query": "heron"})
    client.request("PROPFIND", "/nowhere/at/all")
    client.request("BREW", "/nowhere/at/all")  # no method of HTTP: not even read
    text = client.get("/metrics").text
    for line in (
        'grebe_http_requests_total{method="POST",route="/v1/collections/{name}/search",status="200"}',
        'grebe_http_requests_total{method="other",route="unmatched",status="404"} 1.0',
        'grebe_http_requests_total{method="other",route="unmatched",status="400"} 1.0',
        'grebe_http_request_seconds_count{route="/v1/collections/{name}/search"}',
        'grebe_search_stage_seconds_count{collection="books",stage="vector"}',
        "grebe_http_in_flight 1.0",
        "grebe_search_queue_depth 0.0",
        'grebe_collection_catalog_version{collection="books"} 1.0',
        'grebe_collection_source_version{collection="books"} 3.0',
        'grebe_collection_segments{collection="books"} 1.0',
        'grebe_collection_rows{collection="pairs"} 4.0',
        'grebe_collection_age_seconds{collection="books"}',
        'grebe_collection_open_failing{collection="books"} 0.0',
    ):
        assert line in text


def test_a_sync_that_failed_is_told_without_its_reason(
    library: Library, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watcher, "FAILURE_SECONDS", 0.0)
    state = library.commit(1, [book(1)])
    failed_at = datetime.now(UTC)
    library.catalog.write_failure(SyncFailure(at=failed_at, position=state.position, error="/srv/secret is away"))

    def status(client: httpx.Client) -> dict[str, Any]:
        found: dict[str, Any] = client.get("/v1/collections/books/status").json()
        return found

    with serve() as client:
        until(lambda: status(client)["sync_failed_at"] is not None)
        told = status(client)
        assert datetime.fromisoformat(told["sync_failed_at"]) == failed_at
        assert len(told["warnings"]) == 1
        assert "`grebe status books` says how" in told["warnings"][0]
        assert "secret" not in json.dumps(told)
        assert 'grebe_collection_sync_failing{collection="books"} 1.0' in client.get("/metrics").text

        library.beat(1, datetime.now(UTC))
        until(lambda: status(client)["sync_failed_at"] is None)
        assert status(client)["warnings"] == []
        assert 'grebe_collection_sync_failing{collection="books"} 0.0' in client.get("/metrics").text
