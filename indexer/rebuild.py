"""A rebuild: the index of another spec is built while the one that serves takes changes, and then takes its place.

The new index holds the table at the version that its load was planned at, and then catches up: to exactly the place
that the old one has come to. So the swap moves no position, a row that was deleted meanwhile is gone in both, and what
the source deleted was noted when the old index lost it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Protocol

from connectors.contract import ChangeBatch, Position, Source
from connectors.errors import HistoryBroken, SourceError
from indexer.catalog import Catalog, CatalogState, SourcePosition
from indexer.commit import after_batch
from indexer.errors import CollectionHeld, ProgressMoved
from indexer.fit import require_same_types
from indexer.hold import require_free
from indexer.load import Progress, finish, forget, load, loads_of
from indexer.publish import built
from indexer.spec import CollectionSpec

FOLLOW_SECONDS = 10.0
"""How long the old index waits between two looks at its source."""


class OldIndex(Protocol):
    """The index that serves until the new one is there."""

    def take_changes(self) -> None:
        """Commit the changes that there are; raises whatever keeps it from that."""

    def company(self) -> AbstractContextManager[None]:
        """Keep what belongs to a stream of changes beside one: heartbeats and merges."""


def rebuild(
    source: Source,
    catalog: Catalog,
    spec: CollectionSpec,
    cache: Path,
    old: OldIndex | None,
    *,
    progress: Progress | None = None,
    resting: Callable[[str], None] = lambda reason: None,
) -> CatalogState:
    """Build the index of ``spec``, which the catalog has as pending, from ``source``; swap it in by one commit.

    The ``old`` index takes changes beside it, if there is somebody to read them; ``resting`` hears why it does not.
    Then the rows that are deleted by the swap are not noted as such. Raises :class:`indexer.errors.ProgressMoved` if
    an apply or a rollback came between, or the changes since the load are no longer kept, and
    :class:`indexer.errors.CollectionHeld` if what the old index takes is held.
    """
    follower = _Follower(old, resting)
    follower.turn()
    with follower:
        new = load(source, catalog, catalog.read(), spec, cache, progress)
        if source.reads() == "changes":
            with suppress(SourceError):  # tried again below, if it must be
                new = caught_up(new, source, catalog, cache)
    follower.turn()
    seen = catalog.read()
    require_free(seen)
    if seen.pending != spec:
        raise ProgressMoved(
            f"{spec.name}: another spec was applied while the index was built; start anew from the catalog"
        )
    if _is_behind(new, seen.position):
        try:
            new = caught_up(new, source, catalog, cache, until=seen.position)
        except HistoryBroken as error:
            forget(loads_of(catalog))
            raise ProgressMoved(
                f"{spec.name}: the changes since the load of version {_place(new).version} cannot be read any more "
                f"({error}); start anew with a load"
            ) from error
    return finish(catalog, seen, new)


def caught_up(
    new: CatalogState, source: Source, catalog: Catalog, cache: Path, until: SourcePosition | None = None
) -> CatalogState:
    """Return ``new``, which is not committed, with the changes up to ``until`` or the source's head."""

    def handle(batch: ChangeBatch) -> None:
        nonlocal new
        if batch.start != _place(new):
            raise ProgressMoved(f"{new.spec.name}: the index is at {_place(new)}, the batch starts at {batch.start}")
        require_same_types(new.spec, batch.changes.schema, new.types)
        result = built(batch, source, catalog.store, new, cache)
        end = SourcePosition(epoch=batch.end.epoch, version=batch.end.version)
        new = after_batch(catalog, new, result, end=end, committed_at=batch.committed_at)

    last = Position(until.epoch, until.version) if until else None
    source.stream(_place(new), handle, continuous=False, until=last)
    return new


def _is_behind(new: CatalogState, position: SourcePosition | None) -> bool:
    """Say whether ``new`` lacks what is at ``position``; of another table it has nothing to catch up with."""
    place = _place(new)
    return position is not None and position.epoch == place.epoch and position.version > place.version


def _place(state: CatalogState) -> Position:
    assert state.position is not None
    return Position(state.position.epoch, state.position.version)


class _Follower:
    """While open, lets the old index take its changes in a thread of its own."""

    def __init__(self, old: OldIndex | None, resting: Callable[[str], None]) -> None:
        self._old, self._resting = old, resting
        self._told = ""
        self._final: Exception | None = None
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, name="grebe-old-index", daemon=True)

    def turn(self) -> None:
        """Take the changes that there are. Whatever else fails, the new index has them too."""
        if self._old is None:
            return
        try:
            self._old.take_changes()
        except (CollectionHeld, ProgressMoved):
            raise
        except Exception as error:
            if str(error) != self._told:
                self._told = str(error)
                self._resting(self._told)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *exc: object) -> None:
        self._done.set()
        self._thread.join()
        if self._final and exc[0] is None:
            raise self._final

    def _run(self) -> None:
        if self._old is None:
            return
        try:
            with self._old.company():
                while not self._done.wait(FOLLOW_SECONDS):
                    self.turn()
        except Exception as error:
            self._final = error
