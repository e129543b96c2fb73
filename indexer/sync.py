"""A sync: from the catalog's position to the source's, once or for as long as it is wanted.

Progress is in the catalog alone. Whatever goes wrong between two commits, the next start reads the catalog and goes on
from there.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from connectors.contract import COMMITTED_AT, OP, POLL_SECONDS, VERSION, ChangeBatch, Position, Source
from connectors.errors import SchemaMismatch, SourceError
from indexer.cache import of_collection, sweep
from indexer.catalog import Catalog, CatalogState, Heartbeat, SourcePosition
from indexer.errors import IndexerError, ProgressMoved
from indexer.format.records import Ledger
from indexer.format.store import Store
from indexer.load import PART, Progress, load
from indexer.merge import merge_once
from indexer.merger import Merger
from indexer.netting import BAD_TEXT, ROW_HASH
from indexer.publish import SHARD, SLOT, publish
from indexer.spec import CollectionSpec

HEARTBEAT_SECONDS = 1.0
"""How often a continuous sync asks the source whether there is something newer."""
RESTARTS = 5
"""How often a sync starts anew without a commit of its own, because another writer moved the catalog each time."""

TEXT_TYPES = {"string", "varchar", "char"}
OPAQUE_TYPES = {"map", "variant", "interval", "void"}
OWN_NAMES = {OP, VERSION, COMMITTED_AT, ROW_HASH, BAD_TEXT, SHARD, SLOT, PART}
KEYLESS_TYPES = {"array", "map", "struct", "float", "double", "variant"}


@dataclass(kw_only=True)
class SyncReport:
    """What a sync did."""

    name: str
    started_at: datetime
    commits: int = 0
    ledger: Ledger = field(default_factory=Ledger)
    state: CatalogState | None = None

    def add(self, state: CatalogState) -> None:
        """Count one commit."""
        self.commits += 1
        self.ledger = self.ledger + state.ledger
        self.state = state


def sync(
    store: Store,
    name: str,
    source_of: Callable[[CollectionSpec], Source],
    *,
    cache: Path,
    continuous: bool = False,
    interval_seconds: float = POLL_SECONDS,
    stop: Callable[[], bool] = lambda: False,
    progress: Progress | None = None,
    committed: Callable[[CatalogState], None] = lambda state: None,
) -> SyncReport:
    """Bring the collection ``name`` to its source's newest version; ``source_of`` opens the source of a spec.

    Returns when the version that was newest at the start is committed, or, if ``continuous``, when ``stop`` says so.
    ``committed`` is called after every commit. Raises :class:`indexer.errors.IndexerError` or
    :class:`connectors.errors.SourceError`; what was committed until then stays.
    """
    catalog = Catalog.open(store, name)
    report = SyncReport(name=name, started_at=datetime.now(UTC))

    def note(state: CatalogState) -> None:
        report.add(state)
        committed(state)

    cache = of_collection(cache, catalog.store)
    restarts, commits = 0, 0
    while True:
        try:
            # A spec may come with another table or other columns: the source is opened anew at every start.
            state = catalog.read()
            run = _Run(catalog, source_of(state.pending or state.spec), cache, note)
            run.load_if_needed(progress)
            with run.company(continuous):
                run.stream(continuous=continuous, interval_seconds=interval_seconds, stop=stop)
            break
        except ProgressMoved:
            restarts = restarts + 1 if report.commits == commits else 1
            commits = report.commits
            if restarts == RESTARTS:
                raise
    if not continuous:
        while merge_once(catalog, cache):
            pass
    report.state = catalog.read()
    sweep(cache, report.state.segments)
    return report


class _Run:
    """One sync's collaborators, from the catalog's position on."""

    def __init__(
        self, catalog: Catalog, source: Source, cache: Path, committed: Callable[[CatalogState], None]
    ) -> None:
        self._catalog, self._source, self._cache, self._committed = catalog, source, cache, committed
        self._merger: Merger | None = None

    def load_if_needed(self, progress: Progress | None) -> None:
        state = self._catalog.read()
        spec = state.pending or state.spec
        check_schema(spec, self._source)
        if state.position is None or state.pending:
            asked_at = datetime.now(UTC)
            self._committed(load(self._source, self._catalog, state, spec, self._cache, progress))
            self._beat(asked_at)

    def stream(self, *, continuous: bool, interval_seconds: float, stop: Callable[[], bool]) -> None:
        position = self._catalog.read().position
        assert position is not None
        asked_at = datetime.now(UTC)
        self._source.stream(
            Position(position.epoch, position.version),
            self._handle,
            continuous=continuous,
            interval_seconds=interval_seconds,
            stop=stop,
        )
        if not continuous:
            self._beat(asked_at)

    def _handle(self, batch: ChangeBatch) -> None:
        state = self._catalog.read()
        start = SourcePosition(epoch=batch.start.epoch, version=batch.start.version)
        if state.position != start or state.pending:
            raise ProgressMoved(f"{state.spec.name}: the catalog is at {state.position}, the batch starts at {start}")
        if batch.end == batch.start:
            return
        self._committed(publish(batch, self._catalog, state, self._cache))
        if self._merger:
            self._merger.wake()

    def _beat(self, asked_at: datetime) -> None:
        """Leave a heartbeat if the source, asked now, has nothing newer than the catalog."""
        position = self._catalog.read().position
        head = self._source.head().position
        if position and (head.epoch, head.version) == (position.epoch, position.version):
            self._catalog.write_heartbeat(
                Heartbeat(checked_at=asked_at, epoch=position.epoch, version=position.version)
            )

    @contextmanager
    def company(self, continuous: bool) -> Iterator[None]:
        """Keep a heartbeat and a merger beside a continuous stream."""
        if not continuous:
            yield
            return
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
                self._beat(datetime.now(UTC))


def check_schema(spec: CollectionSpec, source: Source) -> None:
    """Raise :class:`connectors.errors.SchemaMismatch` unless the table has what the spec names, in usable types."""
    types = {field.name: field.dataType.simpleString() for field in source.schema().fields}
    problems = [f"'{name}' is missing" for name in spec.source_columns if name not in types]
    problems += [f"'{name}' is a name that Grebe uses itself" for name in spec.source_columns if name in OWN_NAMES]
    problems += [
        f"column '{name}' is {types[name]}, which can be neither filtered nor compared"
        for name in spec.stored_columns
        if types.get(name, "string").split("<")[0].split(" ")[0] in OPAQUE_TYPES
    ]
    problems += [
        f"text field '{name}' is {types[name]}, expected string"
        for name in spec.text.fields
        if types.get(name, "string").split("(")[0] not in TEXT_TYPES
    ]
    vector = spec.vector.column
    if vector and types.get(vector, "array<float>") not in {"array<float>", "array<double>"}:
        problems.append(f"vector column '{vector}' is {types[vector]}, expected array<float> or array<double>")
    problems += [
        f"key column '{name}' is {types[name]}, which cannot identify a row"
        for name in spec.key
        if types.get(name, "string").split("<")[0] in KEYLESS_TYPES
    ]
    if problems:
        raise SchemaMismatch(
            f"{spec.name}: {'; '.join(problems)}. The table has: {', '.join(f'{n} {t}' for n, t in types.items())}"
        )
