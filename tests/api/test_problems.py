"""Every error is a problem of RFC 9457, with an id and without a stack trace."""

from __future__ import annotations

import json
from html import escape
from typing import Any

import httpx
import pytest

from api.problems import KINDS, TOO_LARGE, Problem

SEARCH = "/v1/collections/books/search"
JSON = {"Content-Type": "application/json"}


def problem_of(response: httpx.Response, status: int, code: str) -> Any:
    assert (response.status_code, response.headers["content-type"]) == (status, "application/problem+json")
    problem = response.json()
    assert {"type", "title", "status", "detail", "code", "request_id", "errors"} <= set(problem)
    assert (problem["status"], problem["code"], problem["type"]) == (status, code, f"/problems/{code}")
    assert problem["request_id"] == response.headers["x-request-id"]
    assert "Traceback" not in response.text
    return problem


@pytest.mark.parametrize("path", ["/nope", "/v1", "/v1/collections/books/nope", "/v1/collections/", "/docs"])
def test_an_unknown_address_is_404(client: httpx.Client, path: str) -> None:
    problem_of(client.get(path), 404, "no-such-route")


@pytest.mark.parametrize("path", ["", "/status", "/rows/1"])
def test_an_unknown_collection_is_404(client: httpx.Client, path: str) -> None:
    problem_of(client.get(f"/v1/collections/nope{path}"), 404, "collection-not-found")


def test_searching_an_unknown_collection_is_404(client: httpx.Client) -> None:
    problem_of(client.post("/v1/collections/nope/search", json={"query": "x"}), 404, "collection-not-found")


def test_a_method_that_is_not_answered_is_405_and_names_those_that_are(client: httpx.Client) -> None:
    response = client.get(SEARCH)
    problem_of(response, 405, "method-not-allowed")
    assert response.headers["allow"] == "POST"


@pytest.mark.parametrize(
    ("raw", "line", "column"),
    [(b'{"query": "x"', 1, 13), (b"", 1, 1), (b"{\n'query': 1}", 2, 1), (b'{"q":"\xff"}', 1, 7)],
)
def test_a_body_that_is_not_json_is_400_with_the_place(
    client: httpx.Client, raw: bytes, line: int, column: int
) -> None:
    (mistake,) = problem_of(client.post(SEARCH, content=raw, headers=JSON), 400, "not-json")["errors"]
    assert (mistake["line"], mistake["column"]) == (line, column)


@pytest.mark.parametrize(
    ("method", "path", "field", "message"),
    [
        (
            "GET",
            "/v1/collections/books/rows/5?incude=pages",
            "incude",
            "unknown query parameter; did you mean 'include'?",
        ),
        ("GET", "/v1/collections/books/rows/5?include=pages&k=1", "k", "unknown query parameter"),
        ("POST", f"{SEARCH}?k=1", "k", "unknown query parameter"),
        ("POST", "/v1/sql?limit", "limit", "unknown query parameter"),
        ("POST", "/v1/collections/books/rows?include=pages", "include", "unknown query parameter"),
        ("POST", "/v1/mcp?tool=sql", "tool", "unknown query parameter"),
        ("GET", "/v1/collections?limit=5", "limit", "unknown query parameter"),
        ("GET", "/v1/collections/books?a=1&a=2", "a", "unknown query parameter"),
        ("GET", "/v1/collections/books/status?=1", "", "unknown query parameter"),
    ],
)
def test_an_unknown_query_parameter_is_a_mistake(
    client: httpx.Client, method: str, path: str, field: str, message: str
) -> None:
    (mistake,) = problem_of(client.request(method, path), 422, "invalid-request")["errors"]
    hint = {"hint": "what is asked goes into the body"} if method == "POST" else {}
    assert mistake == {"field": field, "message": message, "code": "unknown-parameter"} | hint


def test_the_calls_of_machines_take_any_query(client: httpx.Client) -> None:
    for path in ("/livez?verbose", "/metrics?name[]=grebe_node_up", "/v1/collections?", "/version?x=1"):
        assert client.get(path).status_code == 200


@pytest.mark.parametrize("path", [SEARCH, "/v1/sql", "/v1/collections/books/rows", "/v1/mcp"])
def test_a_compressed_body_is_415_and_names_its_encoding(client: httpx.Client, path: str) -> None:
    response = client.post(path, content=b"{}", headers=JSON | {"Content-Encoding": "gzip"})
    assert problem_of(response, 415, "unsupported-content-encoding")["detail"].endswith("got gzip")
    assert response.headers["accept-encoding"] == "identity"
    plain = client.post(SEARCH, json={"filter": "id = 1"}, headers={"Content-Encoding": "Identity"})
    assert plain.status_code == 200


@pytest.mark.parametrize("raw", [b"[1]", b'"text"', b"null", b"3"])
def test_json_that_is_no_object_is_422(client: httpx.Client, raw: bytes) -> None:
    problem_of(client.post(SEARCH, content=raw, headers=JSON), 422, "invalid-request")


def test_deeply_nested_json_is_400(client: httpx.Client) -> None:
    problem_of(client.post(SEARCH, content=b"[" * 4000, headers=JSON), 400, "not-json")


def test_a_body_of_another_media_type_is_415(client: httpx.Client) -> None:
    response = client.post(SEARCH, content=b'{"query": "x"}', headers={"Content-Type": "text/plain"})
    assert "got text/plain" in problem_of(response, 415, "unsupported-media-type")["detail"]


@pytest.mark.parametrize("size", [5_000, 60_000, 1_000_000])
def test_a_body_over_the_limit_is_413_however_large(client: httpx.Client, size: int) -> None:
    raw = json.dumps({"query": "x" * size}).encode()
    problem_of(client.post(SEARCH, content=raw, headers=JSON), 413, "too-large")
    assert client.get("/livez").status_code == 200


def test_a_streamed_body_over_the_limit_is_413(client: httpx.Client) -> None:
    parts = (b" " * 1000 for _ in range(20))
    problem_of(client.post(SEARCH, content=parts, headers=JSON), 413, "too-large")


def test_another_host_name_is_421(client: httpx.Client) -> None:
    problem_of(client.get("/v1/collections", headers={"Host": "attacker.example:80"}), 421, "misdirected")


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1234", "127.0.0.1:8080", "[::1]:8080"])
def test_every_name_of_this_machine_is_answered(client: httpx.Client, host: str) -> None:
    assert client.get("/v1/collections", headers={"Host": host}).status_code == 200


def test_the_type_of_every_problem_has_a_page(client: httpx.Client) -> None:
    for kind in KINDS.values():
        page = client.get(f"/problems/{kind.code}")
        assert page.status_code == 200
        assert escape(kind.title) in page.text
    problem_of(client.get("/problems/nope"), 404, "no-such-route")


def test_a_problem_has_the_members_of_the_standard_and_its_own() -> None:
    problem = Problem(TOO_LARGE, "too much", errors=[{"message": "m", "field": "f"}], extra={"limit": 3})
    assert json.loads(problem.body("id-1")) == {
        "type": "/problems/too-large",
        "title": "The body is too large",
        "status": 413,
        "detail": "too much",
        "code": "too-large",
        "request_id": "id-1",
        "errors": [{"message": "m", "field": "f"}],
        "limit": 3,
    }
