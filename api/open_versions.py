"""The versions of one collection that are open here: the one that is served, and earlier ones that somebody asks for.

A version stays open for a while after the next (:attr:`api.opening.Opener.linger_seconds`), and for as long as pages
of it are asked for; one that is closed already is opened anew. On all of them the newest policies are in force.
"""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor

from api.logs import Logger
from api.opening import Opener
from indexer.catalog import Catalog
from indexer.errors import CatalogError
from indexer.format.store import Store
from indexer.spec import CollectionSpec
from retrieval.errors import SnapshotClosed
from retrieval.version import OpenVersion

MOST_KEPT = 16
"""Of one collection no more versions are kept open for pages: another one is opened anew when it is asked for."""


class OpenVersions:
    """The open versions of the collection ``name`` of ``store``; safe to share between threads.

    ``served`` is the newest of them, None while there is none; ``ended`` says that they are closed for good. Between
    :meth:`suspend` and :meth:`resume` it is as if none were open.
    """

    def __init__(self, store: Store, name: str, opener: Opener, log: Logger) -> None:
        self.ended = False
        self._served: OpenVersion | None = None
        self._suspended = False
        self._store, self._name, self._opener, self._log = store, name, opener, log
        self._newest: tuple[int, CollectionSpec] | None = None
        self._lingering: list[tuple[float, OpenVersion]] = []
        self._asked_until: dict[int, float] = {}
        self._reopening: dict[int, Future[OpenVersion]] = {}
        self._reopener = ThreadPoolExecutor(1, thread_name_prefix=f"reopen-{name}")
        self._changing = threading.Lock()

    @property
    def served(self) -> OpenVersion | None:
        """The newest version that is open; None while there is none."""
        return None if self._suspended else self._served

    @property
    def all(self) -> list[OpenVersion]:
        """The versions that are open, the newest first: what is served, and what was until lately."""
        return [] if self._suspended else self._every

    @property
    def _every(self) -> list[OpenVersion]:
        served = self._served
        return [*([served] if served is not None else []), *(version for _, version in reversed(self._lingering))]

    def at(self, version: int) -> OpenVersion | None:
        """Return ``version`` if it is open."""
        return next((each for each in self.all if each.version == version), None)

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
        fit it, and with :class:`retrieval.errors.SnapshotClosed` once all is closed.
        """
        self.keep(version, seconds)
        with self._changing:
            found, opening = self.at(version), self._reopening.get(version)
            if opening is not None and not opening.done():
                return opening
            opening = Future()
            if self.ended:
                opening.set_exception(SnapshotClosed("the collection is watched no longer"))
            elif found is not None:
                opening.set_result(found)
            else:
                opening = self._reopener.submit(self._reopen, version)
                self._reopening = {**self._reopening, version: opening}
            return opening

    def learn(self, version: int, spec: CollectionSpec) -> None:
        """Put the policies of ``version`` in force on what is open, unless those of a newer one are.

        Opening the newest version may take long, or fail. What its policies do not fit is closed, so that nothing is
        served until it has been opened.
        """
        with self._changing:
            if self._newest is not None and self._newest[0] >= version:
                return
            self._newest = (version, spec)
            for open_version in self._every:
                if not self._governed(open_version):
                    self._lingering = [kept for kept in self._lingering if kept[1] is not open_version]
                    if open_version is self._served:
                        self._served = None
                    open_version.close()

    @property
    def newest_spec(self) -> CollectionSpec | None:
        """The spec whose policies are in force."""
        return self._newest[1] if self._newest is not None else None

    def suspend(self) -> bool:
        """Serve nothing, because the policies in force are not known; return whether anything was served until now."""
        with self._changing:
            was_serving, self._suspended = self.served is not None, True
        return was_serving

    def resume(self) -> None:
        """Serve what is open, on which the newest policies are in force."""
        self._suspended = False

    def is_known(self, version: int) -> bool:
        """Say whether the policies of ``version``, or of a newer one, are in force."""
        return self._newest is not None and self._newest[0] >= version

    def serve(self, version: OpenVersion) -> bool:
        """Put ``version`` in the place of the one that is served, or close it if the newest policies do not fit it."""
        with self._changing:
            fits, before = self._governed(version), self._served
            if fits and before is not None:  # in both for a moment, so that who looks for it finds it
                self._lingering = [*self._lingering, (time.monotonic() + self._opener.linger_seconds, before)]
            if fits:
                self._served = version
        if not fits:
            version.close()
        return fits

    def close_unwanted(self) -> None:
        """Close the versions that have been open for long enough after the next."""
        with self._changing:
            now = time.monotonic()
            wanted = {number for number, until in self._asked_until.items() if until > now}
            over = [version for until, version in self._lingering if until <= now and version.version not in wanted]
            self._lingering = [kept for kept in self._lingering if all(kept[1] is not version for version in over)]
            self._asked_until = {number: until for number, until in self._asked_until.items() if number in wanted}
        for version in over:
            version.close()
        self._opener.serves(self._name, [version.version for version in self._every])

    def close(self) -> None:
        """Close all of them, for good."""
        with self._changing:
            self.ended = True
            versions, self._lingering = self._every, []
        self._reopener.shutdown(wait=False)
        for version in versions:
            version.close()

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

    def _reopen(self, version: int) -> OpenVersion:
        try:
            return self._reopened(version)
        finally:
            with self._changing:
                self._reopening = {number: one for number, one in self._reopening.items() if number != version}

    def _reopened(self, version: int) -> OpenVersion:
        catalog, near = Catalog.open(self._store, self._name), self.served
        latest = catalog.latest()
        newest = catalog.read(latest).spec
        try:
            opened = self._opener.reopen(catalog, version, near)
        except SnapshotClosed:  # the one that was served is none any more
            opened = self._opener.reopen(catalog, version, None)
        self.learn(latest, newest)
        with self._changing:
            if self.ended or not self._governed(opened):
                opened.close()
                raise CatalogError(f"version {version} cannot be served any more")
            self._lingering = [*self._lingering, (time.monotonic(), opened)]
        self._log.info("earlier version open", version=version)
        return opened
