"""Following a collection for as long as it is wanted, whatever fails it in between.

Most of what ends a sync passes: a store that was away, a table that a person mends, deletes that one approves. So it is
tried again, with its lease free in between. A collection that is gone does not come back, nor does Spark. And a rebuild
whose load the table's history does not outlast is put off, so that the index that serves can be followed.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from connectors.errors import HistoryExpired
from indexer.catalog import Catalog, CatalogState, SourcePosition
from indexer.errors import CollectionBusy, CollectionHeld, CollectionNotFound, IndexerError
from indexer.format.states import Hold
from indexer.format.store import Store
from indexer.lease import OnBusy
from indexer.spec import CollectionSpec
from indexer.sync import SyncOptions, SyncReport

AWAKE_SECONDS, LOOK_SECONDS = 0.2, 2.0
RETRY_SECONDS = (5.0, 60.0)
"""A sync that fails is tried again after so long, at first and at last; one that committed begins anew."""
HELD_SECONDS = (60.0, 900.0)
"""And one that is held, unless its hold ends before: each try builds all that the held batch would write."""
PUT_OFF = (
    "The new index is not built until this sync is started again or another spec is applied: twice the table did not "
    "keep its changes for as long as a load takes. The index that serves takes them meanwhile"
)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of one collection of a job: the report of its sync, the error that ended it, or both.

    A report beside an error is of a continuous sync, and counts what it committed before.
    """

    name: str
    report: SyncReport | None = None
    error: Exception | None = None


Attempt = Callable[[str, OnBusy, SyncOptions], Outcome]


def followed(
    store: Store,
    attempt: Attempt,
    on_busy: OnBusy,
    spark_is_alive: Callable[[], bool],
    retrying: Callable[[Outcome, float], None],
    name: str,
    options: SyncOptions,
) -> Outcome:
    """Attempt to sync the collection ``name`` of ``store`` until that ends well, is to stop, or cannot succeed.

    ``retrying`` hears of each failure, and in how many seconds the next attempt begins.
    """
    run = _Run(store, name, options)
    first, commits, seconds = True, 0, 0.0
    while True:
        outcome = run.counted(attempt(name, on_busy if first else "wait", run.options))
        if outcome.error is None or _lasts(outcome.error, first=first) or options.stop() or not spark_is_alive():
            return outcome
        least, most = HELD_SECONDS if isinstance(outcome.error, CollectionHeld) else RETRY_SECONDS
        seconds = least if run.total.commits > commits else min(max(least, 2 * seconds), most)
        retrying(outcome, seconds)
        run.put_off_after(outcome.error)
        if not run.wait(seconds):
            return outcome
        first, commits = False, run.total.commits


def _lasts(error: Exception, *, first: bool) -> bool:
    """Say whether ``error`` will be the same next time; what another process follows from the first on is its own."""
    return isinstance(error, CollectionNotFound) or (first and isinstance(error, CollectionBusy))


class _Run:
    """What the attempts have in common: what was committed, and what is still asked for."""

    def __init__(self, store: Store, name: str, options: SyncOptions) -> None:
        self.total = SyncReport(name=name, started_at=datetime.now(UTC))
        self.options = replace(options, committed=self._committed, following=self._following)
        self._asked, self._store, self._name = options, store, name
        self._held_first = self._held()
        self._outlived: CollectionSpec | None = None

    def counted(self, outcome: Outcome) -> Outcome:
        """Return ``outcome`` with the counts of all attempts; without a report if nothing is there to be told."""
        if outcome.report:
            self.total.state = outcome.report.state
            self.total.healed += outcome.report.healed
        return replace(outcome, report=self.total) if self.total.state else outcome

    def put_off_after(self, error: Exception) -> None:
        """Put a rebuild off whose loads outlived the table's history twice: once may be for want of a sync."""
        state = self._state() if isinstance(error, HistoryExpired) else None
        if not state or state.pending in (None, self.options.postponed):
            return
        if state.pending == self._outlived:
            self.options = replace(self.options, postponed=state.pending)
            self._asked.resting(PUT_OFF)
        self._outlived = state.pending

    def wait(self, seconds: float) -> bool:
        """Wait for so long, or until the hold changes; False if it is to stop."""
        state, began = self._state(), time.monotonic()
        held, looked = state.held if state else None, began
        if state:
            self._forget_unless_pending(state)
        while (now := time.monotonic()) - began < seconds:
            if self._asked.stop():
                return False
            if now - looked >= LOOK_SECONDS:
                looked = now
                if self._held() != held:
                    break
            time.sleep(AWAKE_SECONDS)
        if self._held() != self._held_first:  # what was granted was granted to that hold
            self.options = replace(self.options, approve=None, release=False)
        return True

    def _committed(self, state: CatalogState) -> None:
        self.total.add(state)
        self._forget_unless_pending(state)
        self._asked.committed(state)

    def _forget_unless_pending(self, state: CatalogState) -> None:
        """Forget what kept a rebuild from its end unless it is the one that waits: it came to it, or another came."""
        if state.pending != self._outlived:
            self._outlived = None
        if state.pending != self.options.postponed:
            self.options = replace(self.options, postponed=None)

    def _following(self, position: SourcePosition) -> None:
        self.options = replace(self.options, compare=False)  # it has been compared by now
        self._asked.following(position)

    def _held(self) -> Hold | None:
        state = self._state()
        return state.held if state else None

    def _state(self) -> CatalogState | None:
        try:
            return Catalog.open(self._store, self._name).read()
        except IndexerError:
            return None
