"""A collection over several servers answers as over one, and goes on while one of each part's nodes is there."""

from __future__ import annotations

import asyncio
import re
import socket
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiohttp
import httpx
import pytest

from api import opening as opening_module
from api.cluster import routes_node
from api.cluster.failures import Failure
from api.cluster.wire import FAILED, frame, parts_of
from api.logs import open_log
from api.opening import HereOpener
from api.server import serving
from api.service import Service
from retrieval.share import Share
from retrieval.version import OpenVersion
from tests.api.cluster.conftest import PARTS, SECRET, ZONES, Cluster
from tests.api.conftest import LogLines, client_of, settings_for, until
from tests.api.library import Library, book

PATH = "/v1/collections/books/search"
QUESTIONS: list[dict[str, Any]] = [
    {"query": "otter by the river", "mode": "vector", "k": 12},
    {"filter": "pages > :least AND shelf = 'plain'", "params": {"least": 100}, "k": 100},
    {"query": "otter", "mode": "vector", "filter": "pages > 100", "include": ["title", "body", "pages"], "k": 5},
    {"like": 12, "k": 7},
    {"queries": ["otter by the river", "a heron", "story 9"], "mode": "vector", "k": 12, "explain": True},
    {
        "query": "heron",
        "mode": "vector",
        "k": 5,
        "explain": True,
        "decay": {"column": "pages", "origin": 100, "scale": 50},
    },
]


def test_the_shards_lie_on_both_parts(cluster: Cluster) -> None:
    held = []
    for part in range(PARTS):
        until(lambda part=part: bool(versions_of(cluster, "a", part)["collections"]["books"]))  # type: ignore[misc]
        held.append(versions_of(cluster, "a", part)["collections"]["books"][0]["schema_bytes"])
    assert all(len(schema) > 100 for schema in held)


@pytest.mark.parametrize("question", QUESTIONS)
def test_a_router_answers_as_one_server_does(cluster: Cluster, question: dict[str, Any]) -> None:
    with client_of(settings_for(cluster.root)) as one, cluster.router() as router:
        expected, found = one.post(PATH, json=question).json(), router.post(PATH, json=question).json()
    assert found["results"] == expected["results"]
    for name in ("version", "source", "masked"):
        assert found[name] == expected[name]
    assert (found["plan"]["chunks"], found["plan"]["passing"]) == (
        expected["plan"]["chunks"],
        expected["plan"]["passing"],
    )


def test_words_and_meaning_find_the_same_rows(cluster: Cluster) -> None:
    question = {"query": "otter story river", "k": 40}
    with client_of(settings_for(cluster.root)) as one, cluster.router() as router:
        expected, found = one.post(PATH, json=question).json(), router.post(PATH, json=question).json()
    assert {hit["key"] for hit in found["results"]} == {hit["key"] for hit in expected["results"]}
    scores = {hit["key"]: hit["score"] for hit in expected["results"]}
    assert [hit["score"] for hit in found["results"]] == pytest.approx(
        [scores[hit["key"]] for hit in found["results"]], abs=0.05
    )


def test_rows_status_and_the_list_are_those_of_the_collection(cluster: Cluster) -> None:
    with client_of(settings_for(cluster.root)) as one, cluster.router() as router:
        for path in ("", "/books", "/books/rows/5", "/books/rows/7", "/books/rows/five"):
            expected, found = one.get(f"/v1/collections{path}"), router.get(f"/v1/collections{path}")
            assert found.status_code == expected.status_code
            assert without_ids(found.json()) == without_ids(expected.json())
        status = router.get("/v1/collections/books/status").json()
    assert (status["rows"], status["state"], status["failure"]) == (40, "open", None)


def test_many_rows_at_a_router_are_those_of_one_server(cluster: Cluster) -> None:
    bodies = (
        {"keys": [41, 5, 7, [30], 999, 5]},
        {"keys": [*range(40)], "include": ["pages"]},
        {"keys": [1, "one"]},
        {"keys": [1], "include": ["pags"]},
    )
    with client_of(settings_for(cluster.root)) as one, cluster.router() as router:
        for body in bodies:
            expected, found = (client.post("/v1/collections/books/rows", json=body) for client in (one, router))
            assert found.status_code == expected.status_code
            same = {"age_seconds": 0}
            assert without_ids(found.json()) | same == without_ids(expected.json()) | same


def test_a_commit_reaches_the_router(cluster: Cluster, library: Library) -> None:
    with cluster.router() as router:
        library.commit(5, [book(100, title="A pelican", body="pelican")])
        question = {"query": "pelican", "mode": "keyword", "min_version": 5}
        found = router.post(PATH, json=question)
        assert [hit["key"] for hit in found.json()["results"]] == [100]


def test_the_status_names_the_parts_of_which_no_node_answers(cluster: Cluster) -> None:
    path = "/v1/collections/books/status"
    with cluster.router() as router:
        assert router.get(path).json()["warnings"] == []
        for zone in ZONES:
            cluster.stop(zone, 1)
        until(lambda: router.get(path).json()["warnings"] != [])
        assert router.get(path).json()["warnings"] == ["books: no node of part 1 answers, so searches get 503"]
        cluster.start("a", 1)
        until(lambda: router.get(path).json()["warnings"] == [])


def test_a_part_that_loses_a_node_is_asked_of_the_other_zones(cluster: Cluster) -> None:
    with cluster.router() as router:
        for part in range(PARTS):
            cluster.stop("a", part)
            answers = [router.post(PATH, json=QUESTIONS[0]) for _ in range(5)]
            assert [answer.status_code for answer in answers] == [200] * 5
        cluster.start("a", 0)
        cluster.stop("b", 0)
        until(lambda: router.post(PATH, json=QUESTIONS[0]).status_code == 200)


def test_without_any_node_of_a_part_there_is_no_answer_rather_than_half_of_one(cluster: Cluster) -> None:
    with cluster.router("a") as router:
        cluster.stop("a", 1)
        answer = router.post(PATH, json=QUESTIONS[0])
        assert (answer.status_code, answer.json()["code"]) == (503, "nodes-unavailable")
        assert "part 1 of 2" in answer.json()["detail"]
        assert answer.headers["retry-after"] == "1"
        cluster.start("a", 1)
        until(lambda: router.post(PATH, json=QUESTIONS[0]).status_code == 200)
    assert {"node lost", "part lost"} <= {line["event"] for line in cluster.logs["router"].lines()}


def test_no_request_fails_while_nodes_restart_and_versions_come(cluster: Cluster, library: Library) -> None:
    """The rolling restart of every node, with a commit between each, under four clients."""
    statuses: list[tuple[int, str]] = []
    over = threading.Event()

    def ask(router: httpx.Client) -> None:
        while not over.is_set():
            answer = router.post(PATH, json=QUESTIONS[0])
            statuses.append((answer.status_code, answer.json().get("code", "")))

    with cluster.router() as router:
        clients = [threading.Thread(target=ask, args=(router,)) for _ in range(4)]
        for client in clients:
            client.start()
        try:
            version = 5
            for zone, part in list(cluster.running):
                cluster.stop(zone, part)
                library.commit(version, [book(100 + version)])
                cluster.start(zone, part)
                until(lambda zone=zone, part=part: ready(cluster.url(zone, part)))  # type: ignore[misc]
                wanted = {"filter": "id >= 0", "min_version": version, "k": 1}
                assert router.post(PATH, json=wanted).status_code == 200
                version += 1
        finally:
            over.set()
            for client in clients:
                client.join()
    assert set(statuses) == {(200, "")}
    assert len(statuses) > 20


def test_a_slow_node_is_not_waited_for(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    answering, first, go_on = vars(routes_node)["answer_question"], threading.Event(), threading.Event()

    def slow(*args: Any, **named: Any) -> Any:
        if not first.is_set():
            first.set()
            go_on.wait(60)
        return answering(*args, **named)

    with cluster.router(cluster={"hedge_ms": 50}) as router:
        monkeypatch.setattr(routes_node, "answer_question", slow)
        try:
            assert router.post(PATH, json=QUESTIONS[1] | {"deadline_ms": 50_000}).status_code == 200
        finally:
            go_on.set()
        assert re.search(r"^grebe_node_hedged_total [1-9]", router.get("/metrics").text, re.MULTILINE)


def test_policies_hold_on_every_node_and_change_on_all(cluster: Cluster, library: Library) -> None:
    with cluster.router() as router:
        every = {"filter": "id >= 0", "k": 100}
        assert len(router.post(PATH, json=every).json()["results"]) == 40
        state = library.catalog.read()
        values = state.spec.model_dump(mode="json") | {"policies": [{"role": "reader", "rows": "pages > 100"}]}
        spec = type(state.spec).model_validate(values)
        library.catalog.commit(state, state.model_copy(update={"spec": spec, "operation": "apply"}), batch_end=None)
        answers = []

        def closed() -> bool:
            answers.append(router.post(PATH, json=every))
            return bool(answers[-1].json().get("results") == [])

        until(closed)
        assert [answer.text for answer in answers if answer.status_code != 200] == []


def test_a_filter_that_is_wrong_points_at_its_place(cluster: Cluster) -> None:
    with cluster.router() as router:
        answer = router.post(PATH, json={"filter": "pags > 3"})
    assert (answer.status_code, answer.json()["errors"][0]["column"]) == (422, 1)


@pytest.mark.parametrize(
    "statement",
    [
        {"sql": "SELECT * FROM books ORDER BY pages DESC, id LIMIT 7 OFFSET 2"},
        {"sql": "SELECT shelf, count(*) n, avg(pages), count(DISTINCT pages) FROM books GROUP BY shelf ORDER BY n"},
        {"sql": "SELECT id, score(), passage() FROM books WHERE search(:q, mode => 'vector') AND pages > :least",
         "params": {"q": "otter by the river", "least": 100}},
        {"sql": "SELECT DISTINCT shelf FROM books WHERE id < 0"},
    ],
)  # fmt: skip
def test_a_statement_gives_at_a_router_what_one_server_gives(cluster: Cluster, statement: dict[str, Any]) -> None:
    with client_of(settings_for(cluster.root)) as one, cluster.router() as router:
        expected, found = one.post("/v1/sql", json=statement).json(), router.post("/v1/sql", json=statement).json()
    assert found["rows"] == expected["rows"]
    for name in ("columns", "truncated", "masked", "version", "source", "plan"):
        assert found[name] == expected[name]


def test_pages_at_routers_are_of_one_version_while_commits_come(cluster: Cluster, library: Library) -> None:
    asked: dict[str, Any] = {"filter": "id >= 0", "k": 7}
    with cluster.router("a") as one, cluster.router("b") as another:
        whole = [hit["key"] for hit in one.post(PATH, json=asked | {"k": 100}).json()["results"]]
        cursor: str | None = "start"
        keys: list[int] = []
        for number, router in enumerate((one, another, one, another, one, another), 10):
            answer = router.post(PATH, json=asked | {"cursor": cursor})
            assert answer.status_code == 200, answer.text
            keys += [hit["key"] for hit in answer.json()["results"]]
            cursor = answer.json()["next_cursor"]
            library.commit(number, [book(100 + number)], [book(number)])
            for each in (one, another):
                serves(each, number)
        assert keys == whole
        assert cursor is None


def test_pages_go_on_though_routers_and_nodes_begin_anew(cluster: Cluster, library: Library) -> None:
    asked: dict[str, Any] = {"filter": "id >= 0", "k": 7}
    with cluster.router() as router:
        first = router.post(PATH, json=asked | {"cursor": "start"}).json()
        whole = [hit["key"] for hit in router.post(PATH, json=asked | {"k": 100}).json()["results"]]
        library.commit(10, [book(100)], [book(30)])
        serves(router, 10)
    for zone in ZONES:
        for part in range(PARTS):
            cluster.stop(zone, part)
            cluster.start(zone, part)
    with cluster.router() as router:
        serves(router, 10)
        rest = router.post(PATH, json=asked | {"cursor": first["next_cursor"], "k": 100})
    assert rest.status_code == 200, rest.text
    assert [hit["key"] for hit in rest.json()["results"]] == whole[7:]


def serves(router: httpx.Client, version: int) -> None:
    """Wait until the router serves what the source had at ``version``."""
    until(lambda: router.get("/v1/collections/books/status").json()["source"]["version"] == version)


def test_a_statement_that_is_wrong_points_at_its_place(cluster: Cluster) -> None:
    with cluster.router() as router:
        answer = router.post("/v1/sql", json={"sql": "SELECT pags FROM books"})
    assert (answer.status_code, answer.json()["errors"][0]["column"]) == (422, 8)


def test_a_node_answers_routers_alone(cluster: Cluster) -> None:
    node = cluster.url("a", 0)
    assert httpx.get(f"{node}/readyz").status_code in (200, 503)
    served: dict[str, Any] = {"collections": {}}
    assert httpx.post(f"{node}/node/v1/versions", json=served).status_code == 401
    wrong = {"Authorization": "Bearer wrong"}
    assert httpx.post(f"{node}/node/v1/versions", json=served, headers=wrong).status_code == 401
    assert httpx.get(f"{node}/v1/collections").status_code == 404
    assert httpx.post(f"{node}{PATH}", json={"k": 1}).status_code == 404


@pytest.mark.parametrize("key", [SECRET, "wrong", None])
def test_a_node_takes_questions_of_routers_alone(cluster: Cluster, key: str | None) -> None:
    async def ask() -> tuple[int, bytes] | int:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        async with aiohttp.ClientSession(headers=headers) as session:
            try:
                asking = await session.ws_connect(f"{cluster.url('a', 0)}/node/v1/questions")
            except aiohttp.WSServerHandshakeError as error:
                return error.status
            await asking.send_bytes(frame(7, 1000, b"{}"))
            number, word, message = parts_of(await asking.receive_bytes())
            await asking.send_str("no frame")
            assert (number, (await asking.receive()).type, asking.close_code) == (7, aiohttp.WSMsgType.CLOSE, 1003)
            return word, message

    found = asyncio.run(ask())
    if key != SECRET:
        assert found == 403
        return
    assert isinstance(found, tuple)
    assert found[0] == FAILED
    assert "no question that a node knows" in Failure.model_validate_json(found[1]).message


@pytest.mark.parametrize(
    "more", ["Content-Length: 1\r\n", "X: " + "x" * 9000 + "\r\n"], ids=["a body", "a long header"]
)
def test_a_handshake_that_is_refused_before_it_is_a_request_has_an_end(cluster: Cluster, more: str) -> None:
    """uvicorn left its connection open, and could not end it."""
    sent = f"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n{more}\r\nx"
    with socket.create_connection(("127.0.0.1", cluster.bases["a"]), timeout=20) as asking:
        asking.sendall(sent.encode())
        with suppress(ConnectionResetError):
            while asking.recv(65_536):
                pass


def test_a_node_that_ends_is_asked_no_more(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[Service] = []
    starting = Service.start

    def start(service: Service) -> None:
        started.append(service)
        starting(service)

    monkeypatch.setattr(Service, "start", start)
    cluster.stop("a", 0)
    cluster.start("a", 0)
    with cluster.router() as router:
        started[0].draining = True
        until(lambda: any(line["event"] == "node ends" for line in cluster.logs["router"].lines()))
        before = answered(cluster, "a")
        for _ in range(5):
            assert router.post(PATH, json=QUESTIONS[0]).status_code == 200
        assert answered(cluster, "a") == before


def answered(cluster: Cluster, zone: str) -> float:
    """Return how many questions the zone's node of part 0 has answered."""
    text = httpx.get(f"{cluster.url(zone, 0)}/metrics").text
    return sum(
        float(count) for count in re.findall(r"^grebe_node_question_seconds_count\{.*\} (.*)$", text, re.MULTILINE)
    )


def test_a_router_that_takes_a_node_for_another_says_so(cluster: Cluster, tmp_path: Path) -> None:
    wrong = {"nodes": [cluster.url("a", 1)], "parts": 1, "secret": SECRET}

    log = LogLines()
    with serving(settings_for(tmp_path, cluster=wrong), log=open_log(log)) as url:
        until(lambda: any(line["event"] == "node lost" for line in log.lines()))
        answer = httpx.get(f"{url}/readyz").json()
    assert answer["status"] == "unavailable"
    (line,) = [line for line in log.lines() if line["event"] == "node lost"]
    assert line["reason"] == "it holds the share 1/2 where 0/1 was expected"


@pytest.fixture
def short_linger(monkeypatch: pytest.MonkeyPatch) -> float:
    """Nodes that are started after this keep a version for half a second."""
    monkeypatch.setattr(opening_module, "LINGER_SECONDS", 0.5)
    return 0.5


def test_a_version_is_kept_by_nodes_while_a_part_has_not_the_next(
    short_linger: float, cluster: Cluster, library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A part that cannot open a version holds it back; it does not take the collection away."""
    opening, stuck = HereOpener.open, threading.Event()
    stuck.set()

    def slow(self: HereOpener, *args: Any) -> OpenVersion:
        if self._share == Share(1, 2) and stuck.is_set():
            raise OSError("no room")
        return opening(self, *args)

    with cluster.router() as router:
        before = router.post(PATH, json=QUESTIONS[0]).json()["version"]
        monkeypatch.setattr(HereOpener, "open", slow)
        library.commit(5, [book(100)])
        end = time.monotonic() + 6 * short_linger
        while time.monotonic() < end:
            answer = router.post(PATH, json=QUESTIONS[0])
            assert (answer.status_code, answer.json()["version"]) == (200, before)
            time.sleep(0.05)
        stuck.clear()
        assert router.post(PATH, json=QUESTIONS[0] | {"min_version": 5}).status_code == 200


def test_a_router_ends_soon_though_its_nodes_hang(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    answering, hanging = vars(routes_node)["answer_question"], threading.Event()

    def hang(*args: Any, **named: Any) -> Any:
        hanging.wait(20)
        return answering(*args, **named)

    def ask() -> None:
        with suppress(httpx.TransportError):
            router.post(PATH, json=QUESTIONS[0])

    monkeypatch.setattr(routes_node, "answer_question", hang)
    with cluster.router(shutdown_seconds=1) as router:
        asking = threading.Thread(target=ask)
        asking.start()
        time.sleep(0.5)
        began = time.monotonic()
    assert time.monotonic() - began < 5
    hanging.set()
    asking.join()


def versions_of(cluster: Cluster, zone: str, part: int) -> Any:
    headers = {"Authorization": f"Bearer {SECRET}"}
    served: dict[str, Any] = {"collections": {}}
    found = httpx.post(f"{cluster.url(zone, part)}/node/v1/versions", json=served, headers=headers).json()
    found["collections"].setdefault("books", [])
    return found


def ready(url: str) -> bool:
    return httpx.get(f"{url}/readyz").status_code == 200


def without_ids(answer: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in answer.items() if name != "request_id"}
