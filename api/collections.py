"""The collections of a store: one watcher each, begun and ended as collections appear and are dropped."""

from __future__ import annotations

import threading
import time

from api.logs import Logger
from api.metrics import Metrics
from api.opening import Opener
from api.problems import COLLECTION_NOT_FOUND, Problem
from api.watcher import Watcher, Watching, root_is_there
from indexer.catalog import Catalog
from indexer.errors import StoreError
from indexer.format.store import Store

DISCOVERY_SECONDS = 1.0
"""Listing a bucket costs more than a poll, and a new collection's first load takes longer than this."""
STOP_SECONDS = 10.0


def no_collection(*, denied: bool = False) -> Problem:
    """Return the 404 of a collection that is not there, and of one that its caller may not know of."""
    return Problem(COLLECTION_NOT_FOUND, "there is no collection of that name", denied=denied)


class Collections:
    """Every collection that the store has, by name."""

    def __init__(self, store: Store, opener: Opener, watching: Watching, *, log: Logger, metrics: Metrics) -> None:
        self._store = store
        self._opener = opener
        self._watching = watching
        self._log = log
        self._metrics = metrics
        self._watchers: dict[str, Watcher] = {}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="discover", daemon=True)
        self._root_seen = False
        self.discovered = False
        self.trouble: str | None = None

    def start(self) -> None:
        """Begin to look for collections."""
        self._thread.start()

    def stop(self) -> None:
        """End every thread, within ``STOP_SECONDS`` for the one that finds collections and as many for all others."""
        self._stopping.set()
        self._thread.join(STOP_SECONDS)
        watchers, end = self.all(), time.monotonic() + STOP_SECONDS
        for watcher in watchers:
            watcher.stop()
        for watcher in watchers:
            watcher.join(max(0.0, end - time.monotonic()))

    @property
    def alive(self) -> bool:
        """Whether every thread runs that should."""
        return self._thread.is_alive() and all(watcher.alive or watcher.gone for watcher in self.all())

    def all(self) -> list[Watcher]:
        """Return the watchers, by name."""
        return [watcher for _, watcher in sorted(self._watchers.items()) if not watcher.gone]

    def find(self, name: str) -> Watcher:
        """Return the watcher of ``name``, or raise the 404."""
        watcher = self._watchers.get(name)
        if watcher is None or watcher.gone:
            raise no_collection()
        return watcher

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._discover(self._names())
                self.discovered, self.trouble = True, None
                if all(watcher.view.tried for watcher in self.all()):  # what is about to be opened looks unused
                    self._opener.tidy()
            except Exception as error:  # a store that is away for a while must not end the search for collections
                if self.trouble is None:
                    self._log.error("store cannot be listed", exc_info=error)
                self.trouble = "the store cannot be listed"
            interval = self._watching.poll_interval_seconds
            self._stopping.wait(max(interval, DISCOVERY_SECONDS) if self.discovered else interval)

    def _names(self) -> set[str]:
        """Return the names of the store's collections.

        The first write makes a store's folder, so until it has been seen its absence means that nothing is there yet.
        """
        names = set(Catalog.names(self._store))
        there = root_is_there(self._store)
        if self._root_seen and not there:
            raise StoreError("the store's folder is not there")
        self._root_seen = there
        return names

    def _discover(self, names: set[str]) -> None:
        for name in sorted(self._watchers.keys() - names):
            self._end(name)
        for name in [name for name, watcher in self._watchers.items() if watcher.gone]:
            self._end(name)
        for name in sorted(names - self._watchers.keys()):
            watcher = Watcher(self._store, name, self._opener, self._watching, log=self._log, metrics=self._metrics)
            # Started first: one that is listed and does not run looks dead. A new dictionary: a request may be going
            # through the old one.
            watcher.start()
            self._watchers = {**self._watchers, name: watcher}

    def _end(self, name: str) -> None:
        watcher = self._watchers[name]
        watcher.gone = True
        watcher.stop()
        self._watchers = {other: kept for other, kept in self._watchers.items() if other != name}
        self._metrics.forget(name)
