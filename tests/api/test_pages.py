"""Answers in pages over HTTP: all of one version, whatever is committed meanwhile and whichever server is asked."""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from api import open_versions, past, running, watcher
from api.identity.administration import create_key, grant
from api.identity.control import ControlTable
from api.opening import HereOpener
from indexer.apply import apply
from indexer.catalog import drop
from indexer.vacuum import vacuum
from retrieval.errors import SnapshotClosed
from retrieval.sql import run
from retrieval.version import OpenVersion
from tests.api.conftest import Serve, client_of, settings_for, until
from tests.api.library import Library, book

PATH, STATUS = "/v1/collections/books/search", "/v1/collections/books/status"
ALL: dict[str, Any] = {"filter": "id >= 0", "k": 7}


@pytest.fixture
def shelf(library: Library) -> Library:
    library.commit(1, [book(number) for number in range(40)])
    return library


def pages(*clients: httpx.Client, headers: dict[str, str] | None = None, **asked: Any) -> Iterator[dict[str, Any]]:
    """Ask for page after page, of the clients in turn."""
    cursor = "start"
    for client in itertools.cycle(clients):
        response = client.post(PATH, json=asked | {"cursor": cursor}, headers=headers)
        assert response.status_code == 200, response.text
        yield response.json()
        cursor = response.json()["next_cursor"]
        if cursor is None:
            return


def keys_of(answers: list[dict[str, Any]]) -> list[Any]:
    return [hit["key"] for answer in answers for hit in answer["results"]]


@pytest.mark.parametrize(
    "asked", [ALL, {"query": "otter river", "k": 9}, {"query": "heron", "mode": "vector", "k": 40}]
)
def test_pages_are_one_list(shelf: Library, serve: Serve, asked: dict[str, Any]) -> None:
    with serve() as client:
        answers = list(pages(client, **asked))
        whole = client.post(PATH, json=asked | {"k": 1000}).json()
    assert keys_of(answers) == [hit["key"] for hit in whole["results"]]
    assert [len(answer["results"]) for answer in answers[:-1]] == [asked["k"]] * (len(answers) - 1)
    assert whole["next_cursor"] is None


def test_pages_are_of_one_version_whatever_is_committed_on_the_way(shelf: Library, serve: Serve) -> None:
    with serve() as client:
        answers = []
        for number, answer in enumerate(pages(client, **ALL), 2):
            answers.append(answer)
            shelf.commit(number, [book(100 + number), book(39, pages=1)], [book(number * 2)])
            until(lambda number=number: client.post(PATH, json=ALL).json()["source"]["version"] == number)  # type: ignore[misc]
        newest = keys_of([client.post(PATH, json=ALL | {"k": 1000}).json()])
    assert keys_of(answers) == list(range(40))
    assert {answer["source"]["version"] for answer in answers} == {1}
    assert answers[-1]["results"][-1]["fields"]["pages"] == 390
    assert answers[-1]["age_seconds"] > 0
    assert set(newest) == {*range(40), *(100 + number for number in range(2, 8))} - {4, 6, 8, 10, 12, 14}


def test_another_server_goes_on_where_one_was_asked_before(shelf: Library, tmp_path: Path) -> None:
    table = ControlTable(shelf.store)
    grant(table, "reader", "books", ["search"])
    key, _ = create_key(table, "reader", roles=["reader"], claims={})
    other = settings_for(tmp_path, cache=tmp_path / "other")
    with client_of(settings_for(tmp_path)) as one, client_of(other) as two:
        headers = {"Authorization": f"Bearer {key}"}
        walk = pages(one, two, headers=headers, **ALL)
        answers = [next(walk)]
        shelf.commit(2, [book(50)], [book(8), book(9), book(20)])
        for client in (one, two):
            until(
                lambda client=client: client.post(PATH, json=ALL, headers=headers).json()["source"]["version"] == 2  # type: ignore[misc]
            )
        answers += walk
    assert keys_of(answers) == list(range(40))


def test_what_is_shown_and_how_many_at_once_may_change_on_the_way(shelf: Library, serve: Serve) -> None:
    with serve() as client:
        first = client.post(PATH, json=ALL | {"cursor": "start", "min_version": 1}).json()
        more = {"cursor": first["next_cursor"], "k": 100, "include": ["pages"], "deadline_ms": 5000}
        rest = client.post(PATH, json=ALL | more | {"min_version": 99}).json()
    assert keys_of([first, rest]) == list(range(40))
    assert rest["results"][0]["fields"] == {"pages": 70}
    assert rest["next_cursor"] is None


@pytest.mark.parametrize("cursor", ["", "stop", "AAAA", "x" * 70_000, "é", 7])
def test_what_is_no_cursor_is_refused(shelf: Library, serve: Serve, cursor: Any) -> None:
    with serve() as client:
        response = client.post(PATH, json=ALL | {"cursor": cursor})
    assert (response.status_code, response.json()["code"]) == (422, "invalid-request")
    assert [mistake["field"] for mistake in response.json()["errors"]] == ["cursor"]


def test_a_cursor_is_of_one_question_and_one_caller(shelf: Library, serve: Serve) -> None:
    table = ControlTable(shelf.store)
    grant(table, "reader", "books", ["search"])
    made = [create_key(table, name, roles=["reader"], claims={})[0] for name in ("one", "another")]
    one, another = ({"Authorization": f"Bearer {key}"} for key in made)
    with serve() as client:
        cursor = client.post(PATH, json=ALL | {"cursor": "start"}, headers=one).json()["next_cursor"]
        for body, headers in (
            (ALL | {"cursor": cursor}, another),
            (ALL | {"cursor": cursor, "filter": "id >= 1"}, one),
            (ALL | {"cursor": cursor, "query": "otter"}, one),
            (ALL | {"cursor": cursor[:-2] + ("AA" if cursor[-2:] != "AA" else "BB")}, one),
        ):
            response = client.post(PATH, json=body, headers=headers)
            assert response.status_code == 422, response.text
            assert "not a cursor of this question and caller" in response.json()["errors"][0]["message"]
        assert client.post(PATH, json=ALL | {"cursor": cursor}, headers=one).status_code == 200


def ended(client: httpx.Client, cursor: str) -> str:
    response = client.post(PATH, json=ALL | {"cursor": cursor})
    assert (response.status_code, response.json()["code"]) == (410, "cursor-ended"), response.text
    return str(response.json()["detail"])


def test_a_cursor_ends(shelf: Library, serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    with serve(search={"cursor_seconds": 60}) as client:
        cursor = client.post(PATH, json=ALL | {"cursor": "start"}).json()["next_cursor"]
        later = time.time() + 61
        monkeypatch.setattr("api.past.time.time", lambda: later)
        assert "more than 60 s ago" in ended(client, cursor)


def test_a_version_that_was_vacuumed_ends_its_cursors_once_no_server_has_it_open(
    shelf: Library, tmp_path: Path
) -> None:
    settings = settings_for(tmp_path)
    with client_of(settings) as client:
        cursor = client.post(PATH, json=ALL | {"cursor": "start"}).json()["next_cursor"]
        shelf.commit(2, [book(50)], [book(1)])
        until(lambda: client.post(PATH, json=ALL).json()["source"]["version"] == 2)
        vacuum(shelf.catalog, retain=timedelta(0))
        rest = client.post(PATH, json=ALL | {"cursor": cursor, "k": 100}).json()
        assert keys_of([rest]) == list(range(7, 40))
    with client_of(settings) as client:
        assert "not there any more" in ended(client, cursor)


def test_a_collection_that_was_built_anew_or_dropped_ends_its_cursors(shelf: Library, serve: Serve) -> None:
    with serve() as client:
        cursor = client.post(PATH, json=ALL | {"cursor": "start"}).json()["next_cursor"]
        drop(shelf.store, "books")
        until(lambda: client.post(PATH, json=ALL).status_code == 404)
        assert client.post(PATH, json=ALL | {"cursor": cursor}).status_code == 404
        again = Library(shelf.root.parent)
        again.commit(1, [book(number) for number in range(40)])
        again.commit(2, [book(41)])
        until(lambda: client.post(PATH, json=ALL).status_code == 200)
        assert "built anew" in ended(client, cursor)


def test_policies_that_come_on_the_way_hold_for_the_pages_that_are_left(shelf: Library, serve: Serve) -> None:
    table = ControlTable(shelf.store)
    grant(table, "reader", "books", ["search"])
    key, _ = create_key(table, "reader", roles=["reader"], claims={})
    headers = {"Authorization": f"Bearer {key}"}
    with serve() as client:
        walk = pages(client, headers=headers, **ALL)
        answers = [next(walk)]
        spec = shelf.spec.model_dump() | {"policies": [{"role": "reader", "rows": "pages < 200"}]}
        apply(shelf.store, type(shelf.spec).model_validate(spec))
        until(lambda: len(client.post(PATH, json=ALL | {"k": 100}, headers=headers).json()["results"]) == 20)
        answers += walk
    assert keys_of(answers) == list(range(20))


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT id, pages FROM books ORDER BY pages DESC",
        "SELECT id, body FROM books WHERE id % 2 = 0",
        "SELECT id % 17 AS n, count(*), min(current_timestamp) FROM books GROUP BY n",
        "SELECT id, score() FROM books WHERE search('otter river', k => 30)",
    ],
)
def test_a_statement_is_answered_in_pages_of_one_version(
    shelf: Library, serve: Serve, sql: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "DEFAULT_ROWS", 9)
    with serve() as client:
        whole = client.post("/v1/sql", json={"sql": f"{sql} LIMIT 100"}).json()
        rows: list[list[Any]] = []
        cursor: str | None = "start"
        for number in itertools.count(2):
            answer = client.post("/v1/sql", json={"sql": sql, "cursor": cursor}).json()
            rows += answer["rows"]
            cursor = answer["next_cursor"]
            assert (len(answer["rows"]), answer["source"]["version"]) == (9 if cursor else len(answer["rows"]), 1)
            if cursor is None:
                break
            shelf.commit(number, [book(100 + number)], [book(number)])
            until(
                lambda number=number: client.get(STATUS).json()["source"]["version"] == number  # type: ignore[misc]
            )
    if "current_timestamp" in sql:
        assert len({row[2] for row in rows}) == 1
        rows, whole["rows"] = [row[:2] for row in rows], [row[:2] for row in whole["rows"]]
    assert rows == whole["rows"]


def test_a_statement_with_a_limit_has_no_pages(shelf: Library, serve: Serve) -> None:
    with serve() as client:
        response = client.post("/v1/sql", json={"sql": "SELECT id FROM books LIMIT 5", "cursor": "start"})
    assert response.status_code == 422
    assert response.json()["errors"][0]["hint"] == "leave LIMIT out: each page has 1,000 rows"


@pytest.fixture
def reader(shelf: Library) -> dict[str, str]:
    """The headers of a caller who may search."""
    table = ControlTable(shelf.store)
    grant(table, "reader", "books", ["search", "sql"])
    key, _ = create_key(table, "reader", roles=["reader"], claims={})
    return {"Authorization": f"Bearer {key}"}


def hide_long_books(shelf: Library) -> None:
    """Make a policy that shows the reader twenty of the forty books."""
    spec = shelf.spec.model_dump() | {"policies": [{"role": "reader", "rows": "pages < 200"}]}
    apply(shelf.store, type(shelf.spec).model_validate(spec))


def test_policies_that_come_while_a_version_is_being_opened_hold_for_pages_too(
    shelf: Library, serve: Serve, reader: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    hiding, opens = threading.Event(), HereOpener.open

    def open_(self: HereOpener, catalog: Any, version: int, before: Any) -> Any:
        if hiding.is_set():  # after it was looked which version is the newest
            hiding.clear()
            hide_long_books(shelf)
        return opens(self, catalog, version, before)

    monkeypatch.setattr(HereOpener, "open", open_)
    with serve() as client:
        first = client.post(PATH, json=ALL | {"cursor": "start"}, headers=reader).json()
        hiding.set()
        shelf.commit(2, [book(50)])
        until(lambda: len(client.post(PATH, json=ALL | {"k": 100}, headers=reader).json()["results"]) == 20)
        rest = client.post(PATH, json=ALL | {"k": 100, "cursor": first["next_cursor"]}, headers=reader).json()
    assert keys_of([rest]) == list(range(7, 20))


def test_a_server_that_is_behind_does_not_put_older_policies_on_a_newer_version(
    shelf: Library, reader: dict[str, str], tmp_path: Path
) -> None:
    slow = settings_for(tmp_path, cache=tmp_path / "other", poll_interval_ms=60_000)
    with client_of(settings_for(tmp_path)) as one, client_of(slow) as behind:
        hide_long_books(shelf)
        shelf.commit(2, [book(number) for number in range(100, 130)])
        until(lambda: one.post(PATH, json=ALL, headers=reader).json()["source"]["version"] == 2)
        cursor = one.post(PATH, json=ALL | {"cursor": "start"}, headers=reader).json()["next_cursor"]
        assert behind.post(PATH, json=ALL, headers=reader).json()["source"]["version"] == 1
        rest = behind.post(PATH, json=ALL | {"k": 100, "cursor": cursor}, headers=reader).json()
    assert (keys_of([rest]), rest["source"]["version"]) == (list(range(7, 20)), 2)


def test_what_is_counted_is_not_gone_on_with_once_other_rows_are_seen(
    shelf: Library, serve: Serve, reader: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "DEFAULT_ROWS", 9)
    asked: dict[str, dict[str, Any]] = {
        PATH: {"query": "otter river", "k": 9},
        "/v1/sql": {"sql": "SELECT id FROM books"},
    }
    with serve() as client:
        begun = {
            path: client.post(path, json=body | {"cursor": "start"}, headers=reader) for path, body in asked.items()
        }
        hide_long_books(shelf)
        until(lambda: len(client.post(PATH, json=ALL | {"k": 100}, headers=reader).json()["results"]) == 20)
        for path, body in asked.items():
            more = body | {"cursor": begun[path].json()["next_cursor"]}
            response = client.post(path, json=more, headers=reader)
            assert (response.status_code, response.json()["code"]) == (410, "cursor-ended")
            assert response.json()["detail"].startswith("what you may see of the collection has changed since; begin")


def test_a_column_that_was_taken_out_ends_the_cursors(shelf: Library, serve: Serve) -> None:
    with serve() as client:
        cursor = client.post(PATH, json=ALL | {"cursor": "start"}).json()["next_cursor"]
        apply(shelf.store, type(shelf.spec).model_validate(shelf.spec.model_dump() | {"columns": ["shelf"]}))
        until(lambda: "pages" not in client.post(PATH, json=ALL).json()["results"][0]["fields"])
        assert "the collection has pages no longer" in ended(client, cursor)


def test_a_filter_by_the_time_goes_by_that_of_the_first_page(shelf: Library, serve: Serve) -> None:
    with serve() as client:
        soon = datetime.now(UTC) + timedelta(seconds=3)
        where = f"current_timestamp < TIMESTAMP '{soon.isoformat()}' OR id < 0"
        walk = pages(client, query="otter river", k=6, filter=where)
        answers = [next(walk)]
        until(lambda: datetime.now(UTC) > soon)
        answers += walk
    assert sorted(keys_of(answers)) == list(range(40))


@pytest.mark.parametrize("is_newest", [True, False])
def test_a_page_that_waits_while_its_collection_is_dropped_ends_at_once(
    shelf: Library, serve: Serve, monkeypatch: pytest.MonkeyPatch, is_newest: bool
) -> None:
    waiting, dropped = threading.Event(), threading.Event()
    looks, look = itertools.count(), past.past_view

    async def past_view(watched: watcher.Watcher, *arguments: Any, **named: Any) -> Any:
        view = await look(watched, *arguments, **named)
        if next(looks) == 0:
            waiting.set()
            await asyncio.to_thread(dropped.wait, 20)
        return view

    with serve() as client:
        cursor = client.post(PATH, json=ALL | {"cursor": "start"}).json()["next_cursor"]
        if not is_newest:
            shelf.commit(2, [book(50)])
            until(lambda: client.post(PATH, json=ALL).json()["source"]["version"] == 2)
        monkeypatch.setattr(running, "past_view", past_view)
        with ThreadPoolExecutor(1) as asking:
            answer = asking.submit(client.post, PATH, json=ALL | {"cursor": cursor})
            waiting.wait(20)
            drop(shelf.store, "books")
            until(lambda: client.get(STATUS).status_code == 404)
            dropped.set()
            assert answer.result().status_code == 404
    assert next(looks) < 5


def older_cursor(shelf: Library, client: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    """Return cursors of a version that is open no longer, and of one that is, older than the newest."""
    monkeypatch.setattr(open_versions, "MOST_KEPT", 1)
    cursors = []
    for number in (2, 3):
        cursors.append(client.post(PATH, json=ALL | {"cursor": "start"}).json()["next_cursor"])
        shelf.commit(number, [book(100 + number)])
        until(lambda number=number: client.post(PATH, json=ALL).json()["source"]["version"] == number)  # type: ignore[misc]
    return cursors[0], cursors[1]


def test_others_are_answered_while_a_version_is_opened_anew(
    shelf: Library, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on, reopen = threading.Event(), threading.Event(), HereOpener.reopen

    def slowly(self: HereOpener, *arguments: Any) -> Any:
        begun.set()
        go_on.wait(20)
        return reopen(self, *arguments)

    with serve(search={"threads": 1}) as client:
        closed, still_open = older_cursor(shelf, client, monkeypatch)
        monkeypatch.setattr(open_versions, "MOST_KEPT", 2)
        monkeypatch.setattr(HereOpener, "reopen", slowly)
        with ThreadPoolExecutor(2) as asking:
            slow = [asking.submit(client.post, PATH, json=ALL | {"cursor": closed}) for _ in range(2)]
            begun.wait(20)
            assert client.post(PATH, json=ALL).status_code == 200
            assert client.post(PATH, json=ALL | {"cursor": still_open}).status_code == 200
            late = client.post(PATH, json=ALL | {"cursor": closed, "deadline_ms": 200})
            assert (late.status_code, late.json()["code"]) == (504, "deadline-exceeded")
            go_on.set()
            assert [answer.result().json()["source"]["version"] for answer in slow] == [1, 1]


def test_a_version_is_opened_anew_though_the_newest_is_swapped_meanwhile(
    shelf: Library, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    reopen = HereOpener.reopen

    def swapped(self: HereOpener, catalog: Any, version: int, near: Any) -> Any:
        if near is not None:
            near.close()
        return reopen(self, catalog, version, near)

    with serve() as client:
        closed, _ = older_cursor(shelf, client, monkeypatch)
        monkeypatch.setattr(HereOpener, "reopen", swapped)
        answer = client.post(PATH, json=ALL | {"cursor": closed, "k": 100})
    assert keys_of([answer.json()]) == list(range(7, 40))


def is_closed(version: OpenVersion) -> bool:
    try:
        with version.pinned():
            return False
    except SnapshotClosed:
        return True


def test_a_version_that_is_opened_anew_as_the_collection_goes_is_closed_again(
    shelf: Library, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[Any] = []
    begun, go_on, reopen = threading.Event(), threading.Event(), HereOpener.reopen

    def slowly(self: HereOpener, *arguments: Any) -> Any:
        opened.append(reopen(self, *arguments))
        begun.set()
        go_on.wait(20)
        return opened[0]

    with serve() as client:
        closed, _ = older_cursor(shelf, client, monkeypatch)
        monkeypatch.setattr(HereOpener, "reopen", slowly)
        with ThreadPoolExecutor(1) as asking:
            answer = asking.submit(client.post, PATH, json=ALL | {"cursor": closed})
            begun.wait(20)
            drop(shelf.store, "books")
            until(lambda: client.get(STATUS).status_code == 404)
            go_on.set()
            assert answer.result().status_code in (404, 410)
        until(lambda: is_closed(opened[0]))


def test_stages_have_no_pages(shelf: Library, serve: Serve) -> None:
    with serve() as client:
        response = client.post(PATH, json={"query": "otter", "diversify": {}, "cursor": "start"})
    assert response.status_code == 422
    assert "has no pages" in response.json()["errors"][0]["message"]


def test_of_many_versions_with_pages_few_are_kept_open_and_the_others_are_opened_anew(
    shelf: Library, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(open_versions, "MOST_KEPT", 2)
    opened: list[watcher.Watcher] = []
    start = watcher.Watcher.start

    def noted(self: watcher.Watcher) -> None:
        opened.append(self)
        start(self)

    monkeypatch.setattr(watcher.Watcher, "start", noted)
    with serve() as client:
        begun = []
        for number in range(2, 7):
            begun.append(client.post(PATH, json=ALL | {"cursor": "start"}).json())
            shelf.commit(number, [book(number + 100)])
            until(lambda number=number: client.post(PATH, json=ALL).json()["source"]["version"] == number)  # type: ignore[misc]
        for version, first in enumerate(begun, 1):
            more = {"cursor": first["next_cursor"], "k": 1000}
            rest = client.post(PATH, json=ALL | more).json()
            assert rest["source"]["version"] == version
            assert len(keys_of([first, rest])) == 39 + version
        until(lambda: len(opened[0].versions.all) <= 3)
