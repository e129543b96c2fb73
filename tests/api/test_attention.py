"""What a person must know of a collection: from the catalog, over HTTP and in the metrics."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from api.attention import held_answer, retention_used, warnings_of
from indexer.apply import apply
from indexer.rollback import release
from tests.api.conftest import Serve, until
from tests.api.library import EPOCH, Library, book

NOW = datetime(2026, 5, 8, tzinfo=UTC)
DAY = 86_400.0


@pytest.fixture
def loaded(library: Library) -> Library:
    """Books whose newest version was committed ten days ago, and whose table keeps changes for eight days."""
    library.commit(3, [book(number) for number in range(4)], at=NOW - timedelta(days=10))
    return library


def used_and_warnings(library: Library) -> tuple[float | None, list[str]]:
    state, heartbeat = library.catalog.read(), library.catalog.read_heartbeat()
    return retention_used(state, heartbeat, NOW), warnings_of(state, heartbeat, None, NOW)


@pytest.mark.parametrize(
    ("days_ago", "used", "warnings"),
    [
        (3, 0.375, []),
        (
            4,
            0.5,
            [
                "books: the source was last read 4.0 days ago and keeps changes for 8.0 days; run `grebe sync books` "
                "within 4.0 days, after which the whole table may have to be compared"
            ],
        ),
        (
            9,
            1.125,
            [
                "books: the source was last read 9.0 days ago and keeps changes for 8.0 days only, so that some may be "
                "gone unread; `grebe sync books` reads them or, where they are gone, compares the whole table"
            ],
        ),
    ],
)
def test_from_half_of_the_retention_without_a_sync_on_there_is_a_warning(
    loaded: Library, days_ago: int, used: float, warnings: list[str]
) -> None:
    loaded.beat(3, NOW - timedelta(days=days_ago), retention_seconds=8 * DAY)

    assert used_and_warnings(loaded) == (used, warnings)


@pytest.mark.parametrize("told", [{}, {"retention_seconds": 8 * DAY, "reads": "snapshots"}, {"retention_seconds": 0.0}])
def test_where_no_retention_is_known_or_needed_there_is_none_to_use_up(loaded: Library, told: dict[str, Any]) -> None:
    loaded.beat(3, NOW - timedelta(days=9), **told)

    assert used_and_warnings(loaded) == (None, [])


def test_before_the_first_load_nothing_can_be_missed(library: Library) -> None:
    library.beat(3, NOW - timedelta(days=9), retention_seconds=8 * DAY)

    assert used_and_warnings(library) == (None, [])


def test_after_a_rollback_the_unread_changes_begin_at_the_older_version(loaded: Library) -> None:
    loaded.beat(7, NOW, retention_seconds=8 * DAY)
    loaded.hold("rollback", 7)

    used, warnings = used_and_warnings(loaded)

    assert used == 1.25
    assert warnings[0].startswith("books: was rolled back to source version 3 and is held there; `grebe sync books --r")
    assert "last read 10.0 days ago" in warnings[1]


def test_after_a_release_that_no_sync_has_followed_yet_they_still_do(loaded: Library) -> None:
    loaded.beat(7, NOW, retention_seconds=8 * DAY)
    loaded.hold("rollback", 7)
    release(loaded.catalog)

    used, (warning,) = used_and_warnings(loaded)

    assert used == 1.25
    assert "last read 10.0 days ago" in warning


def test_a_server_tells_what_waits_for_a_person(library: Library, serve: Serve) -> None:
    now = datetime.now(UTC)
    library.commit(3, [book(number) for number in range(4)], at=now - timedelta(days=10))
    library.commit(4, [book(9)], [book(0)], at=now - timedelta(days=9))
    library.beat(4, now - timedelta(days=6), retention_seconds=8 * DAY)
    with serve() as client:
        until(lambda: client.get("/v1/collections/books/status").json()["sync"] is not None)
        calm = client.get("/v1/collections/books/status").json()
        held = library.hold("mass_delete", 6, deletes=3, rows=4)
        until(lambda: client.get("/v1/collections/books/status").json()["held"] is not None)
        status = client.get("/v1/collections/books/status").json()
        metrics = client.get("/metrics").text.splitlines()

    assert (calm["held"], len(calm["warnings"])) == (None, 1)
    assert (status["rows"], status["reads"], status["retention_seconds"]) == (4, "changes", 8 * DAY)
    assert status["retention_used"] == pytest.approx(0.75, abs=0.001)
    assert datetime.fromisoformat(status["held"].pop("since")) == held.since
    assert status["held"] == {"kind": "mass_delete", "epoch": EPOCH, "version": 6, "deletes": 3, "rows": 4}
    assert status["warnings"] == [
        "books: the changes up to source version 6 would delete 3 of 4 rows, more than sync.max_delete_ratio (0.5) "
        "allows, and are held; searches see the rows as before. If it is meant: `grebe sync books --approve 6`; if "
        "not, put the rows back at the source and sync again",
        "books: the source was last read 6.0 days ago and keeps changes for 8.0 days; run `grebe sync books` within "
        "2.0 days, after which the whole table may have to be compared",
    ]
    assert 'grebe_collection_held{collection="books"} 1.0' in metrics
    (used,) = [line for line in metrics if line.startswith("grebe_collection_retention_used_ratio{")]
    assert float(used.split()[-1]) == pytest.approx(0.75, abs=0.001)


def test_what_is_not_held_says_nothing(loaded: Library) -> None:
    assert held_answer(loaded.catalog.read()) is None


def test_a_server_tells_of_a_rebuild_until_it_is_called_off(library: Library, serve: Serve) -> None:
    library.commit(3, [book(number) for number in range(4)])
    wider = library.spec.model_copy(update={"columns": ("shelf", "pages", "body")})
    with serve() as client:

        def is_pending() -> bool:
            return bool(client.get("/v1/collections/books/status").json()["rebuild_pending"])

        assert not is_pending()
        apply(library.store, wider, rebuild=True)
        until(is_pending)
        apply(library.store, library.spec)
        until(lambda: not is_pending())
