"""A sync: from the catalog's position to the source's, once or for as long as it is wanted.

Progress is in the catalog alone. Whatever goes wrong between two commits, the next start reads the catalog and goes on
from there. Where no changes lead on from there (history that expired, a table created anew, a source that keeps none)
the whole table is compared with what is indexed.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from connectors.contract import POLL_SECONDS, ChangeBatch, Position, Source
from connectors.errors import HistoryBroken, SourceError
from indexer.build import PartResult
from indexer.cache import of_collection, sweep
from indexer.catalog import Catalog, CatalogState, Heartbeat, SourcePosition
from indexer.errors import CollectionHeld, IndexerError, ProgressMoved
from indexer.fit import HEALING, require_fit, require_same_types
from indexer.format.records import Ledger
from indexer.format.states import Hold
from indexer.format.store import Store
from indexer.hold import approval, hold, mass_delete, require_free, sentence
from indexer.load import Progress, finish, load
from indexer.merge import merge_once
from indexer.merger import Merger
from indexer.publish import publish
from indexer.rebuild import rebuild
from indexer.resync import resync
from indexer.rollback import release as release_rollback
from indexer.spec import CollectionSpec

HEARTBEAT_SECONDS = 1.0
"""How often a continuous sync asks the source whether there is something newer."""
RESTARTS = 5
"""How often a sync starts anew without a commit of its own, because another writer moved the catalog each time."""
SNAPSHOT_SECONDS = 60.0
"""How long a continuous sync of a source without changes waits, at least, between two snapshots."""
AS_LONG_AS_A_LOAD = (
    " What is indexed goes on being served; let the table keep its changes for as long as a load takes, and start the "
    "sync again."
)


@dataclass(kw_only=True)
class SyncReport:
    """What a sync did; ``healed`` has a sentence for each time that the whole table had to be compared."""

    name: str
    started_at: datetime
    commits: int = 0
    ledger: Ledger = field(default_factory=Ledger)
    healed: list[str] = field(default_factory=list)
    state: CatalogState | None = None

    def add(self, state: CatalogState) -> None:
        """Count one commit."""
        self.commits += 1
        self.ledger = self.ledger + state.ledger
        self.state = state


@dataclass(frozen=True, kw_only=True)
class SyncOptions:
    """How a sync goes about it, and who is told.

    It ends with the version that was newest at its start or, if ``continuous``, looks every ``interval_seconds`` until
    ``stop`` says so. ``approve`` grants the deletes that are held at that source version, ``release`` ends the hold of
    a rollback, and ``compare`` compares the whole table first, whether or not its changes could be read.

    ``progress`` hears how far a load is, ``following`` the position that changes are read from, ``committed`` of every
    commit, ``healing`` why the whole table is about to be compared, and ``resting``, in a sentence, why the index that
    a rebuild replaces takes no changes meanwhile, or what else is amiss with it; from any thread. The index of a spec
    that is ``postponed`` is not built while it is pending: the one that serves is followed.
    """

    continuous: bool = False
    interval_seconds: float = POLL_SECONDS
    stop: Callable[[], bool] = lambda: False
    approve: int | None = None
    release: bool = False
    compare: bool = False
    postponed: CollectionSpec | None = None
    progress: Progress | None = None
    following: Callable[[SourcePosition], None] = lambda position: None
    committed: Callable[[CatalogState], None] = lambda state: None
    healing: Callable[[str], None] = lambda reason: None
    resting: Callable[[str], None] = lambda reason: None


ONCE = SyncOptions()
"""To the newest version, telling nobody."""


def sync(
    store: Store, name: str, source_of: Callable[[CollectionSpec], Source], *, cache: Path, options: SyncOptions = ONCE
) -> SyncReport:
    """Bring the collection ``name`` to its source's newest version; ``source_of`` opens the source of a spec.

    Raises :class:`indexer.errors.CollectionHeld` when a person's word is wanted, any other
    :class:`indexer.errors.IndexerError` or :class:`connectors.errors.SourceError`; what was committed until then stays.
    """
    catalog = Catalog.open(store, name)
    report = SyncReport(name=name, started_at=datetime.now(UTC))
    if options.release:
        release_rollback(catalog)
    granted = approval(catalog.read(), options.approve)
    cache = of_collection(cache, catalog.store)
    restarts, commits, postponed = 0, 0, options.postponed
    while True:
        try:
            # A spec may come with another table or other columns: the source is opened anew at every start.
            state = catalog.read()
            require_free(state)
            put_off = postponed = state.pending if state.pending == postponed else None
            followed = state.spec if put_off else state.pending or state.spec
            run = _Run(catalog, source_of(followed), cache, options, granted, report, put_off)
            run.to_a_position(source_of)
            with run.company() if options.continuous else nullcontext():
                run.follow()
            break
        except ProgressMoved:
            restarts = restarts + 1 if report.commits == commits else 1
            commits = report.commits
            if restarts == RESTARTS:
                raise
    if not options.continuous:
        while merge_once(catalog, cache):
            pass
    report.state = catalog.read()
    sweep(cache, report.state.segments)
    return report


class _Run:
    """One sync's collaborators, from the catalog's position on; the index of ``pending`` is not for it to build."""

    def __init__(
        self,
        catalog: Catalog,
        source: Source,
        cache: Path,
        options: SyncOptions,
        granted: Hold | None,
        report: SyncReport,
        pending: CollectionSpec | None = None,
    ) -> None:
        self._catalog, self._source, self._cache = catalog, source, cache
        self._options, self._granted, self._report = options, granted, report
        self._pending = pending
        self._merger: Merger | None = None
        self._is_superseded = False

    def to_a_position(self, source_of: Callable[[CollectionSpec], Source]) -> None:
        """Load the table, or compare it, if that is due, so that there is a position to go on from."""
        state = self._catalog.read()
        pending = state.pending if state.pending != self._pending else None
        spec = pending or state.spec
        healing = AS_LONG_AS_A_LOAD if self._pending else HEALING
        require_fit(spec, self._source, state.types if not pending else {}, healing=healing)
        if state.position is None or pending:
            self._source.require_followable()
            if state.position is None:
                new = load(self._source, self._catalog, state, spec, self._cache, self._options.progress)
                self._committed(finish(self._catalog, state, new))
            else:
                self._committed(self._rebuild(spec, self._old(state, source_of)))
            self._beat(datetime.now(UTC))
        elif self._options.compare:
            self._resync(None)

    def _old(self, state: CatalogState, source_of: Callable[[CollectionSpec], Source]) -> _Run | None:
        """Return the run that lets the index of ``state`` take changes until the pending one is there."""
        try:
            source = source_of(state.spec)
            require_fit(state.spec, source, state.types, healing="")
            if source.reads() != "changes":
                raise SourceError("its table keeps none")
        except (SourceError, IndexerError) as error:
            self._options.resting(f"The index that serves takes no changes until the new one is there: {error}")
            return None
        return _Run(self._catalog, source, self._cache, self._options, self._granted, self._report, state.pending)

    def _rebuild(self, spec: CollectionSpec, old: _Run | None) -> CatalogState:
        return rebuild(
            self._source,
            self._catalog,
            spec,
            self._cache,
            old,
            judge=self._judge,
            progress=self._options.progress,
            resting=self._options.resting,
        )

    def take_changes(self) -> None:
        """Read on from the position to the source's head, by changes alone."""
        start = self._position()
        place = Position(start.epoch, start.version)
        if not self._source.has_nothing_after(place):
            self._source.stream(place, self._take, continuous=False)

    def wake(self) -> None:
        """Have what was committed merged, if that is done beside; raises what a merge raised."""
        if self._merger:
            self._merger.wake()

    def follow(self) -> None:
        """Read on from the position, by changes or, where there are none, by comparing snapshots."""
        self._options.following(self._position())
        if self._source.reads() == "snapshots":
            self._follow_snapshots()
            return
        broken: HistoryBroken | None = None
        while True:
            start = self._position()
            asked_at = datetime.now(UTC)
            try:
                self._source.stream(
                    Position(start.epoch, start.version),
                    self._handle,
                    continuous=self._options.continuous,
                    interval_seconds=self._options.interval_seconds,
                    stop=self._is_over,
                )
                break
            except HistoryBroken as error:
                if broken and self._position() == start:
                    raise  # comparing did not get us past it
                broken = error
                self._resync(str(error))
        self._require_pending()
        if not self._options.continuous:
            self._beat(asked_at)

    def _is_over(self) -> bool:
        return self._options.stop() or self._is_superseded

    def _require_pending(self) -> None:
        """Raise ProgressMoved if another spec waits by now than when the run began."""
        if self._is_superseded:
            raise ProgressMoved(f"{self._report.name}: another spec was applied; start anew from the catalog")

    def _follow_snapshots(self) -> None:
        waiting = threading.Event()
        continuous, stop = self._options.continuous, self._is_over
        while not (continuous and stop()):
            asked_at = datetime.now(UTC)
            start = self._position()
            if not self._source.has_nothing_after(Position(start.epoch, start.version)):
                self._resync(None)
            self._beat(asked_at)
            if not continuous:
                return
            due = asked_at.timestamp() + max(self._options.interval_seconds, SNAPSHOT_SECONDS)
            while not stop() and datetime.now(UTC).timestamp() < due:
                waiting.wait(POLL_SECONDS)
        self._require_pending()

    def _position(self) -> SourcePosition:
        state = self._catalog.read()
        if state.position is None:
            raise ProgressMoved(f"{state.spec.name}: a rollback put back the empty collection; start anew with a load")
        return state.position

    def _resync(self, reason: str | None) -> None:
        """Compare the whole table; ``reason`` says what is healed by it, if something is."""
        if reason:
            self._report.healed.append(reason)
            self._options.healing(reason)
        state = self._catalog.read()
        require_fit(state.spec, self._source, state.types)
        self._committed(
            resync(self._source, self._catalog, state, self._cache, self._options.progress, judge=self._judge)
        )
        self.wake()

    def _handle(self, batch: ChangeBatch) -> None:
        self._take(batch)
        self.wake()

    def _take(self, batch: ChangeBatch) -> None:
        state = self._catalog.read()
        start = SourcePosition(epoch=batch.start.epoch, version=batch.start.version)
        if state.position != start or state.pending != self._pending:
            raise ProgressMoved(f"{state.spec.name}: the catalog is at {state.position}, the batch starts at {start}")
        if batch.end == batch.start:
            return
        require_free(state)
        require_same_types(state.spec, batch.changes.schema, state.types)
        self._committed(publish(batch, self._source, self._catalog, state, self._cache, judge=self._judge))

    def _committed(self, state: CatalogState) -> None:
        self._report.add(state)
        self._options.committed(state)

    def _judge(self, state: CatalogState, result: PartResult, end: SourcePosition) -> None:
        """Hold what would delete too much: :class:`indexer.errors.CollectionHeld`."""
        held = mass_delete(state, result.removed, end, self._granted)
        if held:
            hold(self._catalog, state, held)
            raise CollectionHeld(sentence(state, held))

    def _beat(self, asked_at: datetime, state: CatalogState | None = None) -> None:
        """Leave a heartbeat if the source, asked now, has nothing newer than the catalog, which is at ``state``."""
        position = (state or self._catalog.read()).position
        if position and self._source.has_nothing_after(Position(position.epoch, position.version)):
            self._catalog.write_heartbeat(
                Heartbeat(
                    checked_at=asked_at,
                    epoch=position.epoch,
                    version=position.version,
                    reads=self._source.reads(),
                    retention_seconds=self._source.retention_seconds(),
                )
            )

    @contextmanager
    def company(self) -> Iterator[None]:
        """Keep a heartbeat and a merger beside a stream that goes on."""
        done = threading.Event()
        pulse = threading.Thread(target=self._pulse, args=(done,), name="grebe-heartbeat", daemon=True)
        pulse.start()
        self._merger = Merger(self._catalog, self._cache)
        try:
            yield
        finally:
            done.set()
            self._merger.close()
            self._merger = None
            pulse.join()

    def _pulse(self, done: threading.Event) -> None:
        while not done.wait(HEARTBEAT_SECONDS):
            # A beat that is missed shows as age, which is what it is; the stream itself raises what is wrong.
            with suppress(SourceError, IndexerError):
                state = self._catalog.read()
                self._is_superseded = state.pending != self._pending
                self._beat(datetime.now(UTC), state)
