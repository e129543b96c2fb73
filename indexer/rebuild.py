"""A rebuild: the index of another spec is built while the one that serves takes changes, and then takes its place.

The new index holds the table at the version that its load was planned at, and then catches up: to exactly the place
that the old one has come to. So the swap moves no position, a row that was deleted meanwhile is gone in both, and what
the source deleted was noted when the old index lost it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path
from typing import Protocol

from connectors.contract import ChangeBatch, Position, Source
from connectors.errors import HistoryBroken, HistoryExpired, SourceError
from connectors.session import cancellable
from indexer.build import PartResult
from indexer.catalog import Catalog, CatalogState, SourcePosition
from indexer.commit import after_batch
from indexer.errors import CollectionHeld, CollectionNotFound, IndexerError, ProgressMoved
from indexer.fit import require_same_types
from indexer.gone import gone_rows
from indexer.hold import require_free
from indexer.load import Progress, finish, load
from indexer.load_plan import forget, loads_of
from indexer.lookup import NO_KEYS
from indexer.publish import built, restarting
from indexer.resync import Judge
from indexer.spec import CollectionSpec

FOLLOW_SECONDS = 10.0
"""How long the old index waits between two looks at its source."""
CANCEL_SECONDS = 1.0
"""A load that is called off is cancelled again after so long: a job that begins just then was not."""
CALLED_OFF = (CollectionHeld, CollectionNotFound, ProgressMoved)
"""What ends a rebuild whatever else goes on."""


class OldIndex(Protocol):
    """The index that serves until the new one is there."""

    def take_changes(self) -> None:
        """Commit the changes that there are; raises whatever keeps it from that."""

    def wake(self) -> None:
        """Have what was committed merged by the company; raises what a merge raised."""

    def company(self) -> AbstractContextManager[None]:
        """Keep what belongs to a stream of changes beside one: heartbeats and merges."""


def rebuild(
    source: Source,
    catalog: Catalog,
    spec: CollectionSpec,
    cache: Path,
    old: OldIndex | None,
    *,
    judge: Judge,
    progress: Progress | None = None,
    resting: Callable[[str], None] = lambda reason: None,
) -> CatalogState:
    """Build the index of ``spec``, which the catalog has as pending, from ``source``; swap it in by one commit.

    The ``old`` index takes changes beside it, if there is somebody to read them; ``resting`` hears, in a sentence, why
    it does not, or what else is amiss with it. What the new one lacks of it then is compared, noted, and put before
    ``judge``, who may refuse it by raising.

    Raises, at once if need be, :class:`indexer.errors.ProgressMoved` if an apply or a rollback came between,
    :class:`indexer.errors.CollectionHeld` if what the old index takes is held, and
    :class:`indexer.errors.CollectionNotFound` if the collection was dropped; and
    :class:`connectors.errors.HistoryExpired` if the changes since the load are no longer kept.
    """
    follower = _Follower(old, resting, lambda: _require_wanted(catalog.read(), spec))
    follower.turn()
    with old.company() if old else nullcontext(), cancellable() as follower.cancel, follower:
        new = load(source, catalog, catalog.read(), spec, cache, progress)
        if source.reads() == "changes":
            try:
                new = caught_up(new, source, catalog, cache)
            except HistoryExpired:
                raise
            except SourceError:  # tried again below, if it must be
                pass
    follower.turn()
    seen = catalog.read()
    _require_wanted(seen, spec)
    if _is_behind(new, seen.position):
        new = caught_up(new, source, catalog, cache, until=seen.position)
    gone = NO_KEYS
    if new.position != seen.position and _is_same_table(seen, new):
        with restarting(catalog, seen):
            gone = gone_rows(seen, new, catalog, cache, resting)
        fewer = seen.live_rows - new.live_rows - new.letter_count  # at least, also where keys do not compare
        _judged(judge, seen, max(len(gone), fewer, 0), new, source, catalog)
    return finish(catalog, seen, new, gone)


def _require_wanted(state: CatalogState, spec: CollectionSpec) -> None:
    require_free(state)
    if state.pending != spec:
        raise ProgressMoved(
            f"{spec.name}: another spec was applied while the index was built; start anew from the catalog"
        )


def _judged(
    judge: Judge, seen: CatalogState, removed: int, new: CatalogState, source: Source, catalog: Catalog
) -> None:
    assert new.position is not None
    try:
        judge(seen, PartResult(removed=removed), new.position)
    except CollectionHeld:
        if source.reads() == "snapshots":
            forget(loads_of(catalog.store))  # nothing would tell this load of rows that are put back
        raise


def _is_same_table(seen: CatalogState, new: CatalogState) -> bool:
    return (seen.spec.key, seen.spec.source.rows) == (new.spec.key, new.spec.source.rows)


def caught_up(
    new: CatalogState, source: Source, catalog: Catalog, cache: Path, until: SourcePosition | None = None
) -> CatalogState:
    """Return ``new``, which is not committed, with the changes up to ``until`` or the source's head.

    Raises :class:`connectors.errors.HistoryExpired`, and forgets the load, if they are no longer kept.
    """

    def handle(batch: ChangeBatch) -> None:
        nonlocal new
        if batch.start != _place(new):
            raise ProgressMoved(f"{new.spec.name}: the index is at {_place(new)}, the batch starts at {batch.start}")
        require_same_types(new.spec, batch.changes.schema, new.types)
        result = built(batch, source, catalog.store, new, cache)
        end = SourcePosition(epoch=batch.end.epoch, version=batch.end.version)
        new = after_batch(catalog, new, result, end=end, committed_at=batch.committed_at)

    last = Position(until.epoch, until.version) if until else None
    try:
        source.stream(_place(new), handle, continuous=False, until=last)
    except HistoryBroken as error:
        forget(loads_of(catalog.store))
        raise HistoryExpired(
            f"{new.spec.name}: the changes since version {_place(new).version}, which the new index was loaded from, "
            f"cannot be read any more: {error}. The table must keep its changes for as long as a load takes; sync "
            "again, and another load begins"
        ) from error
    return new


def _is_behind(new: CatalogState, position: SourcePosition | None) -> bool:
    """Say whether ``new`` lacks what is at ``position``; of another table it has nothing to catch up with."""
    place = _place(new)
    return position is not None and position.epoch == place.epoch and position.version > place.version


def _place(state: CatalogState) -> Position:
    assert state.position is not None
    return Position(state.position.epoch, state.position.version)


class _Follower:
    """While open, lets the old index, if there is one, take its changes in a thread of its own.

    What calls the rebuild off, there or in ``look``, which is asked beside, has ``cancel`` called until this is closed,
    and is raised then, whatever the cancelled jobs raise.
    """

    cancel: Callable[[], None]

    def __init__(self, old: OldIndex | None, resting: Callable[[str], None], look: Callable[[], None]) -> None:
        self._old, self._resting, self._look = old, resting, look
        self._told: dict[str, str] = {}
        self._ended_by: BaseException | None = None
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, name="grebe-old-index", daemon=True)

    def turn(self) -> None:
        """Take the changes that there are. Whatever else fails, the new index has them too."""
        if self._old is not None:
            self._try(self._old.take_changes, "The index that serves takes no changes for now")
            self._try(self._old.wake, "The segments of the index that serves are not merged for now")

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, kind: type[BaseException] | None, *exc: object) -> None:
        self._done.set()
        self._thread.join()
        if self._ended_by and (kind is None or issubclass(kind, Exception)):
            raise self._ended_by

    def _run(self) -> None:
        try:
            while not self._done.wait(FOLLOW_SECONDS):
                self._next_turn()
        except BaseException as error:  # raised by whoever waits for the thread
            self._ended_by = error
            while not self._done.wait(CANCEL_SECONDS):
                with suppress(Exception):  # Spark has ended, and the load with it
                    self.cancel()

    def _next_turn(self) -> None:
        with suppress(ProgressMoved):  # a merge of somebody else's, after which the next turn goes on from the catalog
            self.turn()
        try:
            self._look()
        except CALLED_OFF:
            raise
        except IndexerError:  # a catalog that cannot be read now says nothing else
            pass

    def _try(self, step: Callable[[], None], failing: str) -> None:
        try:
            step()
            self._told.pop(failing, None)
        except CALLED_OFF:
            raise
        except Exception as error:
            if self._told.get(failing) != str(error):
                self._told[failing] = str(error)
                self._resting(f"{failing}: {error}")
