"""A watcher keeps one collection at its newest version.

Its thread polls the catalog, opens a new version beside the one that is served, and then puts it in place by setting
one reference. A request reads that reference once and keeps what it got, so no request ever sees half a swap or fails
for one. A version that cannot be opened leaves the old one in place, is reported, and is tried again ever more slowly.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from api.freshness import known_complete_at
from api.logs import Logger
from api.metrics import Metrics
from api.opening import Opener
from indexer.catalog import Catalog, Heartbeat, SyncFailure
from indexer.errors import CatalogError, CollectionNotFound, CorruptFile, ObjectNotFound, StoreError
from indexer.format.store import Store
from indexer.spec import CollectionSpec
from retrieval.errors import SnapshotClosed
from retrieval.version import OpenVersion

FIRST_RETRY_SECONDS = 0.5
LAST_RETRY_SECONDS = 60.0
LAST_POLL_RETRY_SECONDS = 5.0
"""A store that was away is noticed again within this long."""
MOST_KEPT = 16
"""Of one collection no more versions are kept open for pages: another one is opened anew when it is asked for."""
FAILURE_SECONDS = 5.0
"""How often it is looked up how a sync failed."""

_CAUSES: tuple[tuple[type[Exception], str], ...] = (
    (CorruptFile, "a file is not what was written"),
    (ObjectNotFound, "a file is missing"),
    (StoreError, "the store could not be read"),
    (CollectionNotFound, "the store is not there"),
    (CatalogError, "the catalog could not be read"),
    (OSError, "this machine's disk or network failed"),
)


@dataclass(frozen=True, kw_only=True)
class Failure:
    """Why a version (None: the catalog itself) could not be opened, and when that is tried again."""

    version: int | None
    error: str
    file: str | None
    attempts: int
    since: datetime
    retry_at: datetime


@dataclass(frozen=True, kw_only=True)
class View:
    """A collection at one moment: what is served, and what is known of what is not served yet."""

    snapshot: OpenVersion | None = None
    heartbeat: Heartbeat | None = None
    sync_failure: SyncFailure | None = None
    latest_version: int | None = None
    failure: Failure | None = None

    @property
    def tried(self) -> bool:
        """Whether opening has ended once, well or not."""
        return self.snapshot is not None or self.failure is not None

    @property
    def complete_at(self) -> datetime | None:
        """When the snapshot was last known to hold all that the source had; None before the first load."""
        if self.snapshot is None:
            return None
        state = self.snapshot.state
        return known_complete_at(state.position, state.source_committed_at, self.heartbeat)


class Watcher:
    """Watches the collection ``name`` of ``store``; ``view`` is its newest state.

    ``opened`` is called with each version before it is put in place, on the watcher's thread.
    """

    def __init__(
        self,
        store: Store,
        name: str,
        opener: Opener,
        *,
        poll_interval_seconds: float,
        opened: Callable[[OpenVersion], object],
        log: Logger,
        metrics: Metrics,
    ) -> None:
        self.name = name
        self.view = View()
        self.gone = False
        self._store = store
        self._opener = opener
        self._asked_until: dict[int, float] = {}
        self._newest: tuple[int, CollectionSpec] | None = None
        self._lingering: list[tuple[float, OpenVersion]] = []
        self._reopening: dict[int, Future[OpenVersion]] = {}
        self._reopener = ThreadPoolExecutor(1, thread_name_prefix=f"reopen-{name}")
        self._changing = threading.Lock()  # what lingers and for how long, whose policies hold, and the end
        self._ended = False
        self._opened = opened
        self._interval = poll_interval_seconds
        self._log = log.bind(collection=name)
        self._metrics = metrics
        self._catalog: Catalog | None = None
        self._look_for_failure_at = 0.0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"watch-{name}", daemon=True)

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def stop(self) -> None:
        """Ask the thread to end; what it opens at this moment is not put in place."""
        self._stopping.set()

    def join(self, timeout_seconds: float) -> None:
        """Wait until the thread has ended."""
        self._thread.join(timeout_seconds)

    @property
    def opened(self) -> list[OpenVersion]:
        """The versions that are open, the newest first: what is served, and what was until lately."""
        served = self.view.snapshot
        return [*([served] if served is not None else []), *(version for _, version in reversed(self._lingering))]

    def at(self, version: int) -> OpenVersion | None:
        """Return ``version`` if it is open."""
        return next((each for each in self.opened if each.version == version), None)

    def keep(self, version: int, seconds: float | None = None) -> None:
        """Keep ``version`` open for so long, if it is, or by default as long as one does after the next."""
        with self._changing:
            until = time.monotonic() + (self._opener.linger_seconds if seconds is None else seconds)
            kept = {**self._asked_until, version: max(until, self._asked_until.get(version, until))}
            if seconds is not None and len(kept) > MOST_KEPT:
                kept.pop(min(kept.keys() - {version}, key=kept.__getitem__))
            self._asked_until = kept

    def past(self, version: int, *, seconds: float | None = None) -> Future[OpenVersion]:
        """Return ``version``, which is opened anew if it is not open any more, and keep it as :meth:`keep` does.

        It comes with what opening raises, with :class:`indexer.errors.CatalogError` where the policies of now do not
        fit it, and with :class:`retrieval.errors.SnapshotClosed` once the watcher has ended.
        """
        self.keep(version, seconds)
        with self._changing:
            found, opening = self.at(version), self._reopening.get(version)
            if opening is not None and not opening.done():
                return opening
            opening = Future()
            if self._ended:
                opening.set_exception(SnapshotClosed("the collection is watched no longer"))
            elif found is not None:
                opening.set_result(found)
            else:
                opening = self._reopener.submit(self._reopen, version)
                self._reopening = {**self._reopening, version: opening}
            return opening

    def _reopen(self, version: int) -> OpenVersion:
        try:
            return self._reopened(version)
        finally:
            with self._changing:
                self._reopening = {number: one for number, one in self._reopening.items() if number != version}

    def _reopened(self, version: int) -> OpenVersion:
        catalog, near = Catalog.open(self._store, self.name), self.view.snapshot
        latest = catalog.latest()
        newest = catalog.read(latest).spec
        try:
            opened = self._opener.reopen(catalog, version, near)
        except SnapshotClosed:  # the one that was served is none any more
            opened = self._opener.reopen(catalog, version, None)
        self._learn(latest, newest)
        with self._changing:
            if self._ended or not self._governed(opened):
                opened.close()
                raise CatalogError(f"version {version} cannot be served any more")
            self._lingering = [*self._lingering, (time.monotonic(), opened)]
        self._log.info("earlier version open", version=version)
        return opened

    @property
    def ended(self) -> bool:
        """Whether nothing is served any more: the collection is gone, or the server stops."""
        return self._ended or self.gone or self._stopping.is_set()

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    def _run(self) -> None:
        while not self._stopping.is_set() and not self.gone:
            wait = self._interval
            try:
                self._poll()
            except Exception as error:  # the one place that must outlive any failure: it is reported, and tried again
                if isinstance(error, CollectionNotFound) and root_is_there(self._store):
                    self.gone = True
                    self._log.info("collection gone")
                else:
                    wait = max(wait, min(self._report(None, error), LAST_POLL_RETRY_SECONDS))
            self._stopping.wait(wait)
        with self._changing:
            self._ended = True
            versions, self._lingering = self.opened, []
        self._reopener.shutdown(wait=False)
        for version in versions:
            version.close()

    def _poll(self) -> None:
        if self._catalog is None:
            self._catalog = Catalog.open(self._store, self.name)
        latest = self._catalog.latest()
        heartbeat = self._catalog.read_heartbeat()
        self._show(heartbeat=heartbeat, latest_version=latest)
        if time.monotonic() >= self._look_for_failure_at:
            self._look_for_failure_at = time.monotonic() + FAILURE_SECONDS
            self._show(sync_failure=self._catalog.read_failure())
        if self.view.failure and self.view.failure.version is None:
            self._show(failure=None)
        self._end_lingering()
        wanted = latest
        try:
            if self._newest is None or self._newest[0] < latest:
                self._learn(latest, self._catalog.read(latest).spec)
            newest = self._opener.newest(self._catalog, latest)
            if newest is not None and self._is_wanted(newest):
                wanted = newest
                self._open(self._catalog, newest)
        except CollectionNotFound:
            raise
        except Exception as error:  # as in _run: the old version goes on being served
            self._report(wanted, error)

    def _show(self, **known: Any) -> None:
        with self._changing:
            self.view = replace(self.view, **known)

    def _is_behind(self, latest: int) -> bool:
        return self.view.snapshot is None or self.view.snapshot.version != latest

    def _is_wanted(self, newest: int) -> bool:
        failure = self.view.failure
        if not self._is_behind(newest):
            return False
        return failure is None or failure.version != newest or datetime.now(UTC) >= failure.retry_at

    def _learn(self, version: int, spec: CollectionSpec) -> None:
        """Put the policies of ``version`` in force on what is open, unless those of a newer one are.

        Opening the newest version may take long, or fail. What its policies do not fit is closed, so that nothing is
        served until it has been opened.
        """
        with self._changing:
            if self._newest is not None and self._newest[0] >= version:
                return
            self._newest = (version, spec)
            for open_version in self.opened:
                if not self._governed(open_version):
                    self._lingering = [kept for kept in self._lingering if kept[1] is not open_version]
                    if open_version is self.view.snapshot:
                        self.view = replace(self.view, snapshot=None)
                    open_version.close()

    def _governed(self, version: OpenVersion) -> bool:
        """Put the newest policies in force on a version, unless they are its own or do not fit it."""
        if self._newest is None or self._newest[0] <= version.version:
            return True
        newest, shown = self._newest[1], (*version.spec.stored_columns, *version.spec.text.fields)
        if newest.policies == version.spec.policies and set(shown) <= {*newest.stored_columns, *newest.text.fields}:
            return True
        try:
            version.govern(newest)
        except ValueError:
            self._log.error("policies do not fit a version that is open, so it is closed", version=version.version)
            return False
        return True

    def _open(self, catalog: Catalog, newest: int) -> None:
        started = time.perf_counter()
        before = self.view.snapshot
        snapshot = self._opener.open(catalog, newest, before)
        if snapshot is before:
            return
        self._learn(snapshot.version, snapshot.state.spec)  # it may be newer than what was looked at
        self._opened(snapshot)
        with self._changing:
            fits = self._governed(snapshot)
            if fits and before is not None:  # in both for a moment, so that who looks for it finds it
                self._lingering = [*self._lingering, (time.monotonic() + self._opener.linger_seconds, before)]
            if fits:
                self.view = replace(self.view, snapshot=snapshot, failure=None)
        if not fits:
            snapshot.close()
            return
        self._end_lingering()
        seconds = time.perf_counter() - started
        self._metrics.open_seconds.labels(self.name).observe(seconds)
        segments = len(snapshot.state.segments)
        self._log.info("version open", version=snapshot.version, segments=segments, seconds=round(seconds, 3))

    def _end_lingering(self) -> None:
        """Close the versions that have been open for long enough after the next."""
        with self._changing:
            now = time.monotonic()
            wanted = {number for number, until in self._asked_until.items() if until > now}
            over = [version for until, version in self._lingering if until <= now and version.version not in wanted]
            self._lingering = [kept for kept in self._lingering if all(kept[1] is not version for version in over)]
            self._asked_until = {number: until for number, until in self._asked_until.items() if number in wanted}
        for version in over:
            version.close()
        self._opener.serves(self.name, [version.version for version in self.opened])

    def _report(self, version: int | None, error: Exception) -> float:
        """Make the failure known, and return after how many seconds it is worth trying again."""
        last = self.view.failure
        again = last is not None and last.version == version
        attempts = last.attempts + 1 if last and again else 1
        now = datetime.now(UTC)
        wait: float = min(LAST_RETRY_SECONDS, FIRST_RETRY_SECONDS * 2 ** min(attempts - 1, 16))
        failure = Failure(
            version=version,
            error=_cause(error),
            file=error.path if isinstance(error, CorruptFile) else None,
            attempts=attempts,
            since=last.since if last and again else now,
            retry_at=now + timedelta(seconds=wait),
        )
        self._show(failure=failure)
        self._metrics.open_failures.labels(self.name).inc()
        self._log.error("version cannot be opened", version=version, attempts=attempts, exc_info=error)
        return wait


def root_is_there(store: Store) -> bool:
    """Return whether the root ``store`` can say what it holds: a directory that is away looks like one without files.

    A bucket that is away fails instead.
    """
    return store.url.startswith("s3://") or os.path.isdir(store.url)


def _cause(error: Exception) -> str:
    """Return the error's class and what it means. Its message is for the log: it may name files of this machine."""
    causes = (sentence for kind, sentence in _CAUSES if isinstance(error, kind))
    return f"{type(error).__name__}: {next(causes, 'unexpected')}; the server's log has the details"
