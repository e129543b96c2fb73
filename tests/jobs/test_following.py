"""A followed collection outlives what fails it: when it is tried again, with what, and when that ends."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from connectors.errors import HistoryExpired
from indexer.apply import apply
from indexer.catalog import SourcePosition
from indexer.errors import CollectionBusy, CollectionHeld, CollectionNotFound, StoreError
from indexer.lease import OnBusy
from indexer.spec import CollectionSpec
from indexer.sync import SyncOptions, SyncReport
from jobs import following
from jobs.following import Outcome, followed
from tests.api.library import Library, book

AWAY, HELD = StoreError("the store is away"), CollectionHeld("books: is held")
AT = SourcePosition(epoch="t", version=1)

Attempted = Exception | None | Callable[[SyncOptions], Exception | None]


class Attempts:
    """Plays attempts in turn: an error, None for one that ends well, or what a function of its options returns."""

    def __init__(self, library: Library, *attempts: Attempted) -> None:
        self.library, self.left = library, list(attempts)
        self.options: list[SyncOptions] = []
        self.waits: list[float] = []

    def __call__(self, name: str, on_busy: OnBusy, options: SyncOptions) -> Outcome:
        self.options.append(options)
        played = self.left.pop(0)
        error = played(options) if callable(played) else played
        if error:
            return Outcome(name=name, error=error)
        report = SyncReport(name=name, started_at=datetime.now(UTC), state=self.library.catalog.read())
        return Outcome(name=name, report=report)

    def run(self, *, alive: bool = True, **asked: Any) -> Outcome:
        def retrying(outcome: Outcome, seconds: float) -> None:
            assert outcome.error is not None
            self.waits.append(seconds)

        options = SyncOptions(continuous=True, **asked)
        return followed(self.library.store, self, "stop", lambda: alive, retrying, "books", options)

    def commit(self, version: int, *upserts: int) -> Callable[[SyncOptions], Exception]:
        """An attempt that commits books and then fails."""

        def attempt(options: SyncOptions) -> Exception:
            options.following(AT)
            options.committed(self.library.commit(version, [book(number) for number in upserts]))
            return AWAY

        return attempt


@pytest.fixture
def library(tmp_path: Path) -> Library:
    return Library(tmp_path)


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "AWAKE_SECONDS", 0.001)
    monkeypatch.setattr(following, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(following, "RETRY_SECONDS", (0.01, 0.04))
    monkeypatch.setattr(following, "HELD_SECONDS", (0.02, 0.03))


def test_waits_double_up_to_a_limit_and_begin_anew_after_a_commit(library: Library) -> None:
    attempts = Attempts(library)
    attempts.left = [AWAY, AWAY, AWAY, AWAY, attempts.commit(1, 1), AWAY, None]

    outcome = attempts.run()

    assert attempts.waits == [0.01, 0.02, 0.04, 0.04, 0.01, 0.02]
    assert outcome.error is None


def test_what_was_committed_before_a_failure_counts_at_the_end(library: Library) -> None:
    attempts = Attempts(library)
    seen: list[int] = []
    attempts.left = [attempts.commit(1, 1, 2), attempts.commit(2, 3), None]

    report = attempts.run(committed=lambda state: seen.append(state.version)).report

    assert report is not None
    assert report.state is not None
    assert (report.commits, report.ledger.upserted, report.state.live_rows) == (2, 3, 3)
    assert len(seen) == 2


def test_stopped_while_it_waits_it_ends_with_its_error_and_its_counts(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "RETRY_SECONDS", (60.0, 60.0))
    stopping = threading.Event()
    attempts = Attempts(library)
    attempts.left = [attempts.commit(1, 1)]
    timer = threading.Timer(0.2, stopping.set)
    timer.start()

    outcome = attempts.run(stop=stopping.is_set)

    timer.join()
    assert outcome.error is AWAY
    assert outcome.report is not None
    assert outcome.report.commits == 1


@pytest.mark.parametrize("asked", [{"alive": False}, {"stop": lambda: True}], ids=["without spark", "stopped"])
def test_without_spark_or_when_it_is_to_stop_nothing_is_tried_again(library: Library, asked: dict[str, Any]) -> None:
    attempts = Attempts(library, AWAY)

    outcome = attempts.run(**asked)

    assert (outcome.error, outcome.report, attempts.waits) == (AWAY, None, [])


def test_a_collection_that_is_gone_is_not_tried_again(library: Library) -> None:
    gone = CollectionNotFound("there is no collection 'books'", name="books", others=list)

    assert Attempts(library, AWAY, gone).run().error is gone


def test_one_that_another_process_follows_is_that_ones_only_from_the_beginning(library: Library) -> None:
    busy = CollectionBusy("books: another sync has been running")

    assert Attempts(library, busy).run().error is busy
    assert Attempts(library, AWAY, busy, busy, None).run().error is None


def test_a_hold_is_waited_for_longer_and_no_longer_than_it_lasts(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    library.commit(1, [book(1)])
    library.hold("mass_delete", 7)
    attempts = Attempts(library, HELD, HELD, HELD, None)
    attempts.run()
    assert attempts.waits == [0.02, 0.03, 0.03]

    monkeypatch.setattr(following, "HELD_SECONDS", (60.0, 60.0))
    attempts = Attempts(library, HELD, None)
    timer = threading.Timer(0.1, lambda: _end_hold(library))
    timer.start()
    assert attempts.run().error is None
    timer.join()


def test_what_was_granted_is_granted_to_the_hold_that_was_there(library: Library) -> None:
    library.commit(1, [book(1)])
    library.hold("mass_delete", 7)

    def approved(options: SyncOptions) -> Exception:
        _end_hold(library)
        return AWAY

    attempts = Attempts(library, AWAY, approved, AWAY, None)
    attempts.run(approve=7)
    assert [options.approve for options in attempts.options] == [7, 7, None, None]

    library.hold("rollback", 7)

    def rolled_back_again(options: SyncOptions) -> Exception:
        _end_hold(library)
        library.hold("rollback", 9)
        return HELD

    attempts = Attempts(library, rolled_back_again, None)
    attempts.run(release=True)
    assert [options.release for options in attempts.options] == [True, False]


def test_the_whole_table_is_compared_once(library: Library) -> None:
    attempts = Attempts(library)
    attempts.left = [AWAY, attempts.commit(1, 1), AWAY, None]

    attempts.run(compare=True)

    assert [options.compare for options in attempts.options] == [True, True, False, False]


def test_a_rebuild_whose_load_outlives_the_tables_history_twice_is_put_off(library: Library) -> None:
    library.commit(1, [book(1)])
    apply(library.store, library.spec, rebuild=True)
    expired, told = HistoryExpired("books: the changes since version 1 cannot be read any more"), list[str]()
    attempts = Attempts(library, expired, AWAY, expired, expired, AWAY, None)

    attempts.run(resting=told.append)

    assert [options.postponed for options in attempts.options] == [None] * 3 + [library.spec] * 3
    assert told == [following.PUT_OFF]


def test_a_rebuild_that_was_put_off_is_tried_again_where_another_came_between(library: Library) -> None:
    library.commit(1, [book(1)])
    apply(library.store, library.spec, rebuild=True)
    expired = HistoryExpired("books: the changes since version 1 cannot be read any more")

    def applied(spec: CollectionSpec) -> Callable[[SyncOptions], Exception]:
        def attempt(_: SyncOptions) -> Exception:
            apply(library.store, spec, rebuild=True)
            return AWAY

        return attempt

    other = library.spec.model_copy(update={"shards": 2})
    attempts = Attempts(library, expired, expired, applied(other), applied(library.spec), expired, None)

    attempts.run()

    assert [options.postponed for options in attempts.options] == [None, None, library.spec, None, None, None]


def test_a_history_that_expired_without_a_rebuild_puts_nothing_off(library: Library) -> None:
    expired = HistoryExpired("books: version 1 is no longer kept")
    attempts = Attempts(library, expired, expired, expired, None)

    attempts.run()

    assert {options.postponed for options in attempts.options} == {None}


def _end_hold(library: Library) -> None:
    state = library.catalog.read()
    library.catalog.commit(state, state.model_copy(update={"held": None, "operation": "release"}), batch_end=None)
