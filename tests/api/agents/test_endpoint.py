"""Agents over HTTP, by the protocol's own client: what they may call, what they see, and what is logged of it."""

from __future__ import annotations

import asyncio
import json
import re
import socket
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp_types import CallToolResult, TextContent

from api.audit.reading import records
from api.identity.administration import create_key, grant
from api.identity.control import ControlTable
from indexer.apply import apply
from tests.api.conftest import LogLines, Serve, client_of, settings_for, until
from tests.api.library import Library, book

POLICIES = [{"role": "short", "rows": "pages < :most", "masks": {"body": "redact"}}, {"role": "everything"}]
ERAS = ["legacy", "2026-07-28"]
"""A client of the protocol's first years, which shakes hands, and one of today's."""

ABOUT: dict[str, Any] = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {},
    "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
}


@dataclass
class Scene:
    http: httpx.Client
    library: Library
    keys: dict[str, str]
    log: LogLines
    audit: Path

    def agent(self, who: str, use: Callable[[Client], Awaitable[Any]], era: str = "auto") -> Any:
        """Return what ``use`` makes of a client with the key of ``who``."""

        async def session() -> Any:
            headers = {"Authorization": f"Bearer {self.keys[who]}", "X-Request-ID": f"asked-by-{who}"}
            url = str(self.http.base_url.join("/v1/mcp"))
            async with (
                httpx2.AsyncClient(headers=headers, timeout=60) as http,
                Client(streamable_http_client(url, http_client=http), mode=era) as client,
            ):
                return await use(client)

        return asyncio.run(session())

    def call(self, who: str, tool: str, era: str = "auto", **arguments: Any) -> CallToolResult:
        result = self.agent(who, lambda client: client.call_tool(tool, arguments), era)
        assert isinstance(result, CallToolResult)
        return result


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    root = tmp_path_factory.mktemp("agents")
    library = Library(root)
    library.commit(3, [book(number) for number in range(20)], at=datetime.now(UTC))
    apply(library.store, type(library.spec).model_validate(library.spec.model_dump() | {"policies": POLICIES}))
    Library(root, "pairs", composite=True).commit(1, [book(number) for number in range(4)])
    table = ControlTable(library.store)
    grant(table, "short", "books", ["search", "read", "sql"])
    grant(table, "everything", "*", ["search", "read", "sql"])
    keys = {
        "short": create_key(table, "short", roles=["short"], claims={"most": 50})[0],
        "everything": create_key(table, "everything", roles=["everything"], claims={})[0],
    }
    log = LogLines()
    with client_of(settings_for(root, audit={"folder": root / "audit"}), log) as http:
        yield Scene(http, library, keys, log, root / "audit")


@pytest.mark.parametrize("era", ERAS)
def test_an_agent_of_either_era_finds_the_tools_and_searches(scene: Scene, era: str) -> None:
    async def use(client: Client) -> tuple[list[str], CallToolResult]:
        listed = await client.list_tools()
        found = await client.call_tool("search", {"collection": "books", "query": "an otter by the river", "k": 3})
        return [tool.name for tool in listed.tools], found

    names, found = scene.agent("everything", use, era)

    assert names == ["list_collections", "describe_collection", "search", "sql", "get_row"]
    answer = scene.http.post(
        "/v1/collections/books/search",
        json={"query": "an otter by the river", "k": 3},
        headers={"Authorization": f"Bearer {scene.keys['everything']}"},
    ).json()
    assert not found.is_error
    assert found.structured_content["results"] == answer["results"]
    assert json.loads(text_of(found)) == found.structured_content


def test_an_agent_sees_what_its_key_may_see(scene: Scene) -> None:
    asked: dict[str, Any] = {"collection": "books", "filter": "pages >= 0", "k": 100}
    short, everything = (scene.call(who, "search", **asked).structured_content for who in ("short", "everything"))

    assert [hit["key"] for hit in short["results"]] == [0, 1, 2, 3, 4]
    assert short["masked"] == ["body"]
    assert len(everything["results"]) == 20
    assert scene.call("short", "list_collections").structured_content["collections"][0]["name"] == "books"
    assert len(scene.call("short", "list_collections").structured_content["collections"]) == 1
    counted = scene.call("short", "sql", sql="SELECT count(*) AS n FROM books")
    assert counted.structured_content["rows"] == [[5]]


def test_a_row_and_what_a_collection_is_made_of(scene: Scene) -> None:
    row = scene.call("everything", "get_row", collection="pairs", key=["a/b, c", 3]).structured_content
    assert (row["key"], row["fields"]["title"]) == (["a/b, c", 3], "The kestrel")

    described = scene.call("everything", "describe_collection", collection="books").structured_content
    assert described["columns"] == {"id": "BIGINT", "shelf": "STRING", "pages": "BIGINT"}
    assert described["spec"]["text"]["fields"] == {"title": 2.0, "body": 1.0}


@pytest.mark.parametrize(
    ("tool", "arguments", "told"),
    [
        ("search", {"query": "x"}, "search needs 'collection': The collection's name."),
        ("search", {"collection": "books", "qery": "x"}, "search has no argument 'qery'; did you mean 'query'?"),
        ("search", {"collection": "books", "filter": "pagse > 3"}, "pagse"),
        ("search", {"collection": "books", "query": "x", "k": 0}, "greater than or equal to 1"),
        ("search", {"collection": "nowhere", "query": "x"}, "list_collections has their names."),
        ("describe_collection", {"collection": "books/rows/1"}, "'books/rows/1' is no name of a collection"),
        ("sql", {"sql": "DROP TABLE books"}, "SELECT"),
        ("get_row", {"collection": "books", "key": 99}, "row-not-found"),
        ("get_row", {"collection": "books", "key": {"id": 1}}, "a key is a value or, where it is of several"),
        ("get_row", {"collection": "pairs", "key": "plain,2"}, "in JSON they are a list"),
        ("search", {"collection": "", "query": "x"}, "'' is no name of a collection"),
        ("get_row", {"collection": "books", "key": "x" * 20_000}, "the key has 20,000 characters in a URL"),
        ("rank", {}, "there is no tool 'rank'; there are list_collections, describe_collection, search, sql, get_row"),
    ],
)
def test_a_call_that_cannot_be_answered_says_why_to_the_agent(
    scene: Scene, tool: str, arguments: dict[str, Any], told: str
) -> None:
    result = scene.call("everything", tool, **arguments)

    assert result.is_error
    assert told in text_of(result)


@pytest.mark.parametrize("credentials", [{}, {"Authorization": "Bearer grebe_nobody_x"}])
def test_who_is_nobody_gets_no_further_than_the_door(scene: Scene, credentials: dict[str, str]) -> None:
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}

    answer = scene.http.post("/v1/mcp", json=message, headers=credentials)

    assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated")
    assert "www-authenticate" in answer.headers


def test_a_call_is_logged_and_audited_as_the_call_that_it_is(scene: Scene) -> None:
    scene.keys["audited"] = scene.keys["short"]
    scene.call("audited", "search", collection="books", query="a newt by the river", k=2)

    lines = [line for line in scene.log.lines() if line.get("request_id") == "asked-by-audited"]
    told = [{name: line.get(name) for name in ("route", "status", "collection", "tool")} for line in lines]
    assert {"route": "/v1/collections/{name}/search", "status": 200, "collection": "books", "tool": None} in told
    assert {"route": "/v1/mcp", "status": 200, "collection": None, "tool": "search"} in told
    assert len({line["actor"] for line in lines}) == 1
    written = records(scene.library.store, scene.audit, newest_first=True)
    ours = [record for record in written if record["metadata"]["uid"].startswith("asked-by-audited/")]
    audited = [record["http_request"]["url"]["path"] for record in ours]
    assert audited.count("/v1/collections/books/search") == 2
    assert audited.count("/v1/mcp") == len([t for t in told if t["route"] == "/v1/mcp" and not t["tool"]])


@pytest.mark.parametrize(("origin", "status"), [("http://evil.example", 403), ("http://localhost:3000", 200)])
def test_a_page_of_another_site_is_not_answered(scene: Scene, origin: str, status: int) -> None:
    headers = {"Authorization": f"Bearer {scene.keys['short']}", "Origin": origin}
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}

    assert scene.http.post("/v1/mcp", json=message, headers=headers).status_code == status


def test_there_is_nothing_to_get_or_delete_where_no_session_is(scene: Scene) -> None:
    headers = {"Authorization": f"Bearer {scene.keys['short']}"}

    assert [scene.http.request(method, "/v1/mcp", headers=headers).status_code for method in ("GET", "DELETE")] == [
        405
    ] * 2


def test_numbers_arrive_as_they_were_sent(scene: Scene) -> None:
    sent = """{"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "search", "arguments":
        {"collection": "books", "filter": "pages < :most", "params": {"most": MOST}, "k": 100}}}"""
    headers = {"Authorization": f"Bearer {scene.keys['everything']}", "Content-Type": "application/json"}

    large, endless = (
        scene.http.post("/v1/mcp", content=sent.replace("MOST", most), headers=headers).json()["result"]
        for most in ("18446744073709551616", "1e400")
    )

    assert len(large["structuredContent"]["results"]) == 20
    assert (endless["isError"], endless["structuredContent"]["detail"]) == (
        True,
        "params: 'most' is not a finite number",
    )


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize(
    ("sent", "kind", "status", "code"),
    [
        (b"{", "text/plain", 415, "unsupported-media-type"),
        (b"{" + b" " * (1 << 21), "application/json", 413, "too-large"),
    ],
)
def test_what_is_no_message_is_a_problem(
    scene: Scene, era: str, sent: bytes, kind: str, status: int, code: str
) -> None:
    headers = {"Authorization": f"Bearer {scene.keys['short']}", "Content-Type": kind}
    headers |= {"MCP-Protocol-Version": era} if era != "legacy" else {}

    answer = scene.http.post("/v1/mcp", content=sent, headers=headers)

    assert (answer.status_code, answer.json()["code"]) == (status, code)


def test_what_is_not_there_to_listen_to_is_answered(scene: Scene) -> None:
    headers = {"Authorization": f"Bearer {scene.keys['short']}", "Accept": "application/json, text/event-stream"}
    headers |= {"MCP-Protocol-Version": "2026-07-28", "Mcp-Method": "subscriptions/listen"}
    message = {"jsonrpc": "2.0", "id": 1, "method": "subscriptions/listen", "params": {"_meta": ABOUT}}

    answer = scene.http.post("/v1/mcp", json=message, headers=headers)

    assert "error" in answer.json()


def test_a_client_that_hangs_up_is_no_failure_of_the_server(scene: Scene) -> None:
    head = (
        "POST /v1/mcp HTTP/1.1\r\nHost: localhost\r\nX-Request-ID: hung-up\r\n"
        f"Authorization: Bearer {scene.keys['short']}\r\n"
        "Content-Type: application/json\r\nContent-Length: 500\r\n\r\n{"
    )
    with socket.create_connection((scene.http.base_url.host, scene.http.base_url.port), timeout=60) as connection:
        connection.sendall(head.encode())

    until(lambda: "hung-up" in [line.get("request_id") for line in scene.log.lines()])
    (line,) = [line for line in scene.log.lines() if line.get("request_id") == "hung-up"]
    assert (line["level"], line["status"]) == ("info", 400)


def test_a_call_beyond_the_quota_says_when_to_try_again(serve: Serve, library: Library) -> None:
    library.commit(1, [book(1)])
    call = {"name": "list_collections", "arguments": {}}
    with serve(quota="1/hour") as client:
        _, refused = (
            client.post("/v1/mcp", json={"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": call}).json()
            for _ in range(2)
        )

    assert refused["result"]["isError"]
    assert re.fullmatch(r"Try again in \d+ seconds\.", refused["result"]["content"][1]["text"])


def test_a_message_that_is_too_large_is_refused(serve: Serve) -> None:
    with serve(max_body_bytes=2048) as client:
        answer = client.post("/v1/mcp", json={"jsonrpc": "2.0", "id": 1, "method": "x" * 4096})

    assert answer.status_code == 413


def test_agents_are_answered_only_where_they_are_to_be(serve: Serve) -> None:
    with serve(agents=False) as client:
        answer = client.post("/v1/mcp", json={"jsonrpc": "2.0", "id": 1, "method": "ping"})

    assert (answer.status_code, answer.json()["code"]) == (404, "no-such-route")


def text_of(result: CallToolResult) -> str:
    return "\n".join(part.text for part in result.content if isinstance(part, TextContent))
