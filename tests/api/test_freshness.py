"""Age, and waiting for a version or an age: 412 rather than stale."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from api.freshness import age_seconds, known_complete_at, reaches
from api.models.requests import MinVersion
from indexer.catalog import Heartbeat, SourcePosition
from tests.api.conftest import Serve, until
from tests.api.library import EPOCH, Library, book

PATH = "/v1/collections/books/search"
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
AT_5 = SourcePosition(epoch="a", version=5)


@pytest.mark.parametrize(
    ("position", "heartbeat", "expected"),
    [
        (AT_5, None, NOON),
        (AT_5, Heartbeat(checked_at=NOON + MINUTE, epoch="a", version=5), NOON + MINUTE),
        (AT_5, Heartbeat(checked_at=NOON + MINUTE, epoch="a", version=4), NOON + MINUTE),
        (AT_5, Heartbeat(checked_at=NOON + MINUTE, epoch="a", version=6), NOON),
        (AT_5, Heartbeat(checked_at=NOON + MINUTE, epoch="b", version=5), NOON),
        (AT_5, Heartbeat(checked_at=NOON - MINUTE, epoch="a", version=5), NOON),
    ],
)
def test_a_heartbeat_counts_when_the_index_had_all_that_it_saw(
    position: SourcePosition, heartbeat: Heartbeat | None, expected: datetime
) -> None:
    assert known_complete_at(position, NOON, heartbeat) == expected


def test_before_the_first_load_there_is_no_age() -> None:
    assert known_complete_at(None, None, Heartbeat(checked_at=NOON, epoch="a", version=5)) is None
    assert age_seconds(None, NOON) is None


def test_an_age_is_never_below_zero() -> None:
    assert age_seconds(NOON + MINUTE, NOON) == 0
    assert age_seconds(NOON, NOON + MINUTE) == 60


@pytest.mark.parametrize(
    ("position", "wanted", "expected"),
    [
        (None, None, True),
        (None, MinVersion(version=0), False),
        (AT_5, MinVersion(version=5), True),
        (AT_5, MinVersion(version=6), False),
        (AT_5, MinVersion(epoch="a", version=5), True),
        (AT_5, MinVersion(epoch="b", version=1), False),
    ],
)
def test_a_version_is_reached_within_its_epoch(
    position: SourcePosition | None, wanted: MinVersion | None, expected: bool
) -> None:
    assert reaches(position, wanted) is expected


def test_a_search_waits_for_the_version_it_wants(library: Library, serve: Serve) -> None:
    library.commit(3, [book(1)])
    with serve() as client, soon(lambda: library.commit(4, [book(2)])):
        for wanted in (4, {"epoch": EPOCH, "version": 4}):
            found = answer(client, min_version=wanted, deadline_ms=60_000)
            assert (found["source"]["version"], len(found["results"])) == (4, 2)


def test_a_version_that_does_not_come_is_412_with_what_was_reached(library: Library, serve: Serve) -> None:
    library.commit(3, [book(1)])
    with serve() as client:
        started = time.monotonic()
        response = search(client, min_version={"epoch": "another", "version": 1}, deadline_ms=200)
        assert time.monotonic() - started >= 0.15
        problem = response.json()
        assert (response.status_code, problem["code"]) == (412, "too-old")
        assert problem["detail"] == (
            "min_version: wanted source version 1 of epoch another, reached version 3 of epoch table-1"
        )
        assert (problem["reached"]["version"], problem["reached"]["source"]["version"]) == (1, 3)


def test_a_quiet_table_is_as_young_as_its_last_check(library: Library, serve: Serve) -> None:
    now = datetime.now(UTC)
    library.commit(3, [book(1)], at=now - timedelta(hours=1))
    with serve() as client:
        assert 3600 <= answer(client)["age_seconds"] < 3700
        assert search(client, max_staleness_seconds=600, deadline_ms=50).status_code == 412
        library.beat(3, now)
        assert answer(client, max_staleness_seconds=600, deadline_ms=60_000)["age_seconds"] < 600


def test_a_check_that_found_something_newer_does_not_make_the_index_younger(library: Library, serve: Serve) -> None:
    now = datetime.now(UTC)
    library.commit(3, [book(1)], at=now - timedelta(hours=1))
    library.beat(4, now)
    with serve() as client:
        until(lambda: status(client)["sync"] is not None)
        assert status(client)["sync"]["version"] == 4
        assert answer(client)["age_seconds"] >= 3600


def test_a_collection_before_its_first_load_is_empty_and_has_no_age(library: Library, serve: Serve) -> None:
    with serve() as client:
        found = answer(client)
        assert (found["results"], found["source"], found["age_seconds"]) == ([], None, None)
        assert search(client, max_staleness_seconds=9, deadline_ms=20).status_code == 412
        assert search(client, min_version=0, deadline_ms=20).status_code == 412
        assert client.get("/v1/collections/books/rows/1").status_code == 404
        assert client.get("/v1/collections/books").json()["columns"] == {}


def search(client: httpx.Client, **body: Any) -> httpx.Response:
    return client.post(PATH, json={"query": "river", "mode": "keyword", **body})


def answer(client: httpx.Client, **body: Any) -> Any:
    response = search(client, **body)
    assert response.status_code == 200, response.text
    return response.json()


def status(client: httpx.Client) -> Any:
    return client.get("/v1/collections/books/status").json()


@contextmanager
def soon(work: Callable[[], object]) -> Iterator[None]:
    """Do ``work`` a moment after the block has begun."""
    timer = threading.Timer(0.2, work)
    timer.start()
    try:
        yield
    finally:
        timer.join()
