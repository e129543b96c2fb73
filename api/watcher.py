"""A watcher keeps one collection at its newest version.

Its thread polls the catalog, opens a new version beside the one that is served, and then puts it in place by setting
one reference. A request reads that reference once and keeps what it got, so no request ever sees half a swap or fails
for one. A version that cannot be opened leaves the old one in place, is reported, and is tried again ever more slowly.
One whose policies cannot even be read does so for a while only: who may see what is not known then.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from api.freshness import known_complete_at
from api.logs import Logger
from api.metrics import Metrics
from api.open_versions import OpenVersions
from api.opening import Opener
from indexer.catalog import Catalog, Heartbeat, SyncFailure
from indexer.errors import (
    CatalogError,
    CollectionNotFound,
    CorruptFile,
    ModelError,
    NewerCatalog,
    ObjectNotFound,
    StoreError,
)
from indexer.format.store import Store
from indexer.spec import CollectionSpec
from retrieval.version import OpenVersion

FIRST_RETRY_SECONDS = 0.5
LAST_RETRY_SECONDS = 60.0
LAST_POLL_RETRY_SECONDS = 5.0
"""A store that was away is noticed again within this long."""
FAILURE_SECONDS = 5.0
"""How often it is looked up how a sync failed."""

_CAUSES: tuple[tuple[type[Exception], str], ...] = (
    (CorruptFile, "a file is not what was written"),
    (ObjectNotFound, "a file is missing"),
    (StoreError, "the store could not be read"),
    (CollectionNotFound, "the store is not there"),
    (NewerCatalog, "a newer release of Grebe wrote the catalog, so this server has to be upgraded"),
    (CatalogError, "the catalog could not be read"),
    (ModelError, "its model cannot be loaded"),
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


@dataclass(frozen=True, kw_only=True)
class Watching:
    """How collections are watched, all of them alike.

    ``ready`` is asked before a version with this spec is opened in the place of another one, and again until it says
    yes; ``opened`` is called with each version before it is put in place. Both are called on the watcher's thread, and
    what they raise is a version that cannot be opened. What is open is served for ``trust_seconds`` while the policies
    in force cannot be read, and on, but for those of a newer release, if ``governed`` says that no caller has rights.
    """

    poll_interval_seconds: float
    trust_seconds: float
    governed: Callable[[], bool]
    ready: Callable[[CollectionSpec, CollectionSpec], bool]
    opened: Callable[[OpenVersion], object]


class Watcher:
    """Watches the collection ``name`` of ``store``; ``view`` is its newest state."""

    def __init__(
        self, store: Store, name: str, opener: Opener, watching: Watching, *, log: Logger, metrics: Metrics
    ) -> None:
        self.name = name
        self.gone = False
        self._log = log.bind(collection=name)
        self.versions = OpenVersions(store, name, opener, self._log)
        self._known = View()
        self._store = store
        self._opener = opener
        self._watching = watching
        self._unread_since: float | None = None
        self._metrics = metrics
        self._catalog: Catalog | None = None
        self._look_for_failure_at = self._look_again_at = 0.0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"watch-{name}", daemon=True)

    @property
    def view(self) -> View:
        """What there is at this moment."""
        return replace(self._known, snapshot=self.versions.served)

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
    def ended(self) -> bool:
        """Whether nothing is served any more: the collection is gone, or the server stops."""
        return self.versions.ended or self.gone or self._stopping.is_set()

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    def _run(self) -> None:
        while not self._stopping.is_set() and not self.gone:
            wait = self._watching.poll_interval_seconds
            try:
                self._poll()
            except Exception as error:  # the one place that must outlive any failure: it is reported, and tried again
                if isinstance(error, CollectionNotFound) and root_is_there(self._store):
                    self.gone = True
                    self._log.info("collection gone")
                else:
                    wait = max(wait, min(self._report(None, error), LAST_POLL_RETRY_SECONDS, self._trusted_for(error)))
            self._stopping.wait(wait)
        self.versions.close()

    def _poll(self) -> None:
        if self._catalog is None:
            self._catalog = Catalog.open(self._store, self.name)
        latest = self._catalog.latest()
        self._show(latest_version=latest)
        if not self.versions.is_known(latest):
            self.versions.learn(latest, self._catalog.read(latest).spec)
        self._unread_since = None
        self.versions.resume()
        if self._known.failure and self._known.failure.version is None:
            self._show(failure=None)
        self.versions.close_unwanted()
        self._look(self._catalog)
        wanted = latest
        try:
            newest = self._opener.newest(self._catalog, latest)
            if newest is not None and self._is_wanted(newest):
                wanted = newest
                self._open(self._catalog, newest)
        except CollectionNotFound:
            raise
        except Exception as error:  # as in _run: the old version goes on being served
            self._report(wanted, error)

    def _look(self, catalog: Catalog) -> None:
        """Read what syncs left beside the catalog; what cannot be read shows as age, and is tried again."""
        now = time.monotonic()
        if now < self._look_again_at:
            return
        try:
            self._show(heartbeat=catalog.read_heartbeat())
        except Exception as error:  # it does not say what may be served
            self._look_again_at = now + FAILURE_SECONDS
            self._log.error("heartbeat cannot be read", exc_info=error)
        if now >= self._look_for_failure_at:
            self._look_for_failure_at = now + FAILURE_SECONDS
            try:
                self._show(sync_failure=catalog.read_failure())
            except Exception as error:
                self._log.error("how the last sync failed cannot be read", exc_info=error)

    def _trusted_for(self, error: Exception) -> float:
        """Return for how many seconds the policies are trusted that were in force last; then serve nothing.

        They count from the first time that they could not be read: while a version was opened nobody looked.
        """
        if not self._watching.governed() and not isinstance(error, NewerCatalog):
            return LAST_POLL_RETRY_SECONDS
        now = time.monotonic()
        if self._unread_since is None:
            self._unread_since = now
        left = self._unread_since + self._watching.trust_seconds - now
        if left > 0:
            return left
        if self.versions.suspend():
            self._log.error("closed, because the policies in force cannot be read")
        return LAST_POLL_RETRY_SECONDS

    def _show(self, **known: Any) -> None:
        self._known = replace(self._known, **known)

    def _is_wanted(self, newest: int) -> bool:
        served, failure = self.versions.served, self._known.failure
        if served is not None and served.version == newest:
            return False
        return failure is None or failure.version != newest or datetime.now(UTC) >= failure.retry_at

    def _open(self, catalog: Catalog, newest: int) -> None:
        started = time.perf_counter()
        before = self.versions.served
        if before is not None and not self._watching.ready(before.spec, self.versions.newest_spec or before.spec):
            return
        snapshot = self._opener.open(catalog, newest, before)
        if snapshot is before:
            return
        self.versions.learn(snapshot.version, snapshot.state.spec)  # it may be newer than what was looked at
        try:
            is_ready = before is None or self._watching.ready(before.spec, snapshot.state.spec)
        except BaseException:
            snapshot.close()
            raise
        if not is_ready:
            snapshot.close()
            return
        self._watching.opened(snapshot)
        if not self.versions.serve(snapshot):
            return
        self._show(failure=None)
        self.versions.close_unwanted()
        seconds = time.perf_counter() - started
        self._metrics.open_seconds.labels(self.name).observe(seconds)
        segments = len(snapshot.state.segments)
        self._log.info("version open", version=snapshot.version, segments=segments, seconds=round(seconds, 3))

    def _report(self, version: int | None, error: Exception) -> float:
        """Make the failure known, and return after how many seconds it is worth trying again."""
        last = self._known.failure
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
    return store.directory is None or store.directory.is_dir()


def _cause(error: Exception) -> str:
    """Return the error's class and what it means. Its message is for the log: it may name files of this machine."""
    causes = (sentence for kind, sentence in _CAUSES if isinstance(error, kind))
    return f"{type(error).__name__}: {next(causes, 'unexpected')}; the server's log has the details"
