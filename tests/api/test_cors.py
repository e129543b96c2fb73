"""Pages of other origins, as browsers ask for them: a preflight first, then the call with its origin."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from api.audit.reading import records
from api.errors import SettingsError
from api.identity.administration import create_key, grant
from api.identity.control import ControlTable
from api.settings import ServeSettings
from tests.api.conftest import LogLines, Serve, client_of, settings_for
from tests.api.library import Library, book

SEARCH = "/v1/collections/books/search"
APP, OTHER = "https://app.example.com", "https://other.example.com"
PREFLIGHT = {
    "Origin": APP,
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "authorization,content-type,traceparent,x-request-id",
}


@dataclass
class Scene:
    """A server that pages of ``APP`` may call, with a key, and what it wrote down."""

    client: httpx.Client
    library: Library
    audit: Path
    key: str
    log: LogLines

    def ask(self, path: str = SEARCH, origin: str = APP, key: str | None = None, **headers: str) -> httpx.Response:
        sent = {"Origin": origin, "Authorization": f"Bearer {key or self.key}"} | headers
        return self.client.post(path, json={"query": "otter"}, headers=sent)


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    library, log = Library(tmp_path), LogLines()
    library.commit(1, [book(number) for number in range(5)])
    table = ControlTable(library.store)
    grant(table, "reader", "books", ["search"])
    key = create_key(table, "page", roles=["reader"], claims={})[0]
    audit = tmp_path / "audit"
    given: dict[str, Any] = {"cors": {"origins": [APP]}, "quota": "2/hour", "audit": {"folder": audit}}
    with client_of(settings_for(tmp_path, **given), log) as client:
        yield Scene(client, library, audit, key, log)


def test_a_preflight_needs_no_key_and_is_no_call(scene: Scene) -> None:
    answer = scene.client.options(SEARCH, headers=PREFLIGHT)

    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == APP
    assert "access-control-allow-credentials" not in answer.headers
    assert "POST" in answer.headers["access-control-allow-methods"]
    scene.ask(**{"X-Request-ID": "the-call"})
    assert [line["method"] for line in scene.log.lines() if line.get("event") == "request"] == ["POST"]
    written = records(scene.library.store, scene.audit, newest_first=True)
    assert {record["http_request"]["http_method"] for record in written if "http_request" in record} == {"POST"}


@pytest.mark.parametrize(
    "asked",
    [
        {"Origin": OTHER},
        {"Origin": "null"},
        {"Access-Control-Request-Method": "DELETE"},
        {"Access-Control-Request-Headers": "x-other"},
    ],
)
def test_a_preflight_for_what_is_not_allowed_is_refused(scene: Scene, asked: dict[str, str]) -> None:
    answer = scene.client.options(SEARCH, headers=PREFLIGHT | asked)

    assert answer.status_code == 400
    assert answer.headers.get("access-control-allow-origin") in (None, APP)


def test_a_page_reads_answers_and_problems_with_what_they_say_of_themselves(scene: Scene) -> None:
    found, again, refused = (scene.ask(**{"X-Request-ID": f"page-{number}"}) for number in range(3))
    stranger = scene.ask(key="nobody")
    misdirected = scene.ask(Host="attacker.example")
    nowhere = scene.ask("/v1/nowhere")

    answers = (found, again, refused, stranger, misdirected, nowhere)
    assert [answer.status_code for answer in answers] == [200, 200, 429, 401, 421, 404]
    for answer in answers:
        assert answer.headers["access-control-allow-origin"] == APP
        assert answer.headers["vary"] == "Origin"
        shown = answer.headers["access-control-expose-headers"].split(", ")
        assert {"X-Request-ID", "RateLimit-Remaining", "Retry-After"} <= set(shown)
    assert found.headers["x-request-id"] == "page-0"
    assert found.headers["ratelimit-remaining"] == "1"
    assert int(refused.headers["retry-after"]) > 0


def test_a_page_of_another_origin_reads_nothing(scene: Scene) -> None:
    assert "access-control-allow-origin" not in scene.ask(origin=OTHER).headers


def test_only_calls_are_for_pages(scene: Scene) -> None:
    for path in ("/", "/metrics", "/livez", "/openapi.json"):
        answer = scene.client.get(path, headers={"Origin": APP})
        assert "access-control-allow-origin" not in answer.headers


def test_an_agent_in_a_page_is_answered(scene: Scene) -> None:
    asked = PREFLIGHT | {"Access-Control-Request-Headers": "authorization,content-type,mcp-protocol-version"}
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
    headers = {"Authorization": f"Bearer {scene.key}"}

    assert scene.client.options("/v1/mcp", headers=asked).status_code == 200
    statuses = [
        scene.client.post("/v1/mcp", json=message, headers=headers | {"Origin": origin}).status_code
        for origin in (APP, OTHER)
    ]
    assert statuses == [200, 403]


def test_without_the_setting_no_page_is_answered(client: httpx.Client) -> None:
    assert client.options(SEARCH, headers=PREFLIGHT).status_code == 405
    answer = client.post(SEARCH, json={"query": "otter"}, headers={"Origin": APP})
    assert not [name for name in answer.headers if name.startswith("access-control")]


def test_any_page_may_call_where_every_caller_says_who_it_is(library: Library, serve: Serve) -> None:
    library.commit(1, [book(1)])
    with serve(cors={"origins": ["*"]}, identity={"required": True}) as client:
        preflight = client.options(SEARCH, headers=PREFLIGHT | {"Origin": OTHER})
        answer = client.post(SEARCH, json={"query": "otter"}, headers={"Origin": OTHER})
    assert (preflight.status_code, preflight.headers["access-control-allow-origin"]) == (200, "*")
    assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (401, "*")


def test_the_origins_come_from_the_environment_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GREBE_CORS__ORIGINS", f'["{APP}", "http://localhost:3000"]')
    assert ServeSettings.load().cors.origins == (APP, "http://localhost:3000")


@pytest.mark.parametrize(
    ("origins", "message"),
    [
        ([f"{APP}/"], r"cors\.origins\.0: .* is no origin as browsers send it"),
        (["app.example.com"], "is no origin"),
        (["https://App.example.com"], "in small letters"),
        (["https://*.example.com"], "is no origin"),
        ([f"{APP}:443"], "a port that is not the usual one"),
        (["null"], "is no origin"),
        (["*", APP], r"cors: '\*' is every origin: name it alone"),
        (["*"], r"cors: with the origin '\*' any page .*: set identity\.required, or name the origins"),
    ],
)
def test_a_wrong_origin_is_told(origins: list[str], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        ServeSettings.load(cors={"origins": origins})
