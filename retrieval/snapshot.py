"""One version of a collection, open for searching.

A snapshot never changes, but for who may see what of it. The next version opens beside it, sharing every segment that
both have, and what requests have cached for them; then the caller swaps. A snapshot that is closed while requests use
it goes when the last is done.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import cached_property
from typing import Self

import polars as pl
import pyarrow as pa

from indexer.catalog import Catalog, CatalogState
from indexer.format.keywords import compose
from indexer.format.records import SegmentRecord
from indexer.format.segment import read_segment
from indexer.format.store import Store
from indexer.format.tombstones import Tombstones
from indexer.spec import CollectionSpec
from retrieval.cache import LocalCache, ScratchFolder
from retrieval.errors import SnapshotClosed
from retrieval.filter import CompiledFilter, FilterSchema, schema_of
from retrieval.gpu import GpuSearch
from retrieval.keyword_leg import KeywordLeg
from retrieval.keyword_query import KeywordQueries
from retrieval.passing import Passing, SearchCaches, selection_of
from retrieval.policies import Caller, Sight, Sights
from retrieval.segments import COLUMN_PREFIX, OpenSegment, SegmentView


class Snapshot:
    """An open version. Made by :func:`open_snapshot`; safe to share between threads.

    ``version`` is the catalog's; ``epoch`` and ``source_version`` name the source position (None before the first
    load) and ``source_committed_at`` (UTC) is when the source committed it. ``gpu`` proposes candidates if it is given.
    """

    def __init__(
        self, state: CatalogState, views: tuple[SegmentView, ...], scratch: ScratchFolder, caches: SearchCaches
    ) -> None:
        self.state = state
        self.spec: CollectionSpec = state.spec
        self.views = views
        self.caches = caches
        self.gpu: GpuSearch | None = None
        self._sights: Sights | None = None
        self._scratch = scratch
        self._lock = threading.Lock()
        self._users = 0
        self._closed = False
        self._gone = False
        folders = [view.segment.files.keywords for view in views]
        index = compose(folders, scratch.path / "keywords", self.spec)
        self.keywords = KeywordLeg(index, KeywordQueries(index, self.spec), views)

    @property
    def version(self) -> int:
        """The catalog version."""
        return self.state.version

    @property
    def epoch(self) -> str | None:
        """The id of the source table that was read."""
        return self.state.position.epoch if self.state.position else None

    @property
    def source_version(self) -> int | None:
        """The last source version that is in this snapshot."""
        return self.state.position.version if self.state.position else None

    @property
    def source_committed_at(self) -> datetime | None:
        """When the source committed that version (UTC)."""
        return self.state.source_committed_at

    @property
    def n_chunks(self) -> int:
        """Chunks that count."""
        return sum(view.n_live for view in self.views)

    @property
    def dim(self) -> int | None:
        """The width of the vectors; None while nothing is indexed and the spec does not say."""
        if self.views:
            return int(self.views[0].segment.vectors.shape[1])
        return self.state.dim or self.spec.vector.dim

    @cached_property
    def arrow_schema(self) -> pa.Schema:
        """The stored columns that the segments have, as Arrow types, in spec order; empty without segments."""
        fields: dict[str, pa.Field] = {}
        for view in sorted(self.views, key=lambda view: view.segment.record.created_at):
            for name in self.spec.stored_columns:
                index = view.segment.chunks.schema.get_field_index(COLUMN_PREFIX + name)
                if index >= 0:
                    fields[name] = view.segment.chunks.schema.field(index).with_name(name)
        return pa.schema([fields[name] for name in self.spec.stored_columns if name in fields])

    @cached_property
    def schema(self) -> dict[str, pl.DataType]:
        """The same as polars types: what a filter is checked against."""
        frame = pl.from_arrow(self.arrow_schema.empty_table())
        assert isinstance(frame, pl.DataFrame)
        return dict(frame.schema)

    @cached_property
    def filter_schema(self) -> FilterSchema:
        """The same in the form that filters compile against fastest."""
        return schema_of(self.schema)

    def govern(self, newer: CollectionSpec) -> None:
        """Put the policies of ``newer`` in force for searches that begin from now on.

        All else stays: the version's data, and what is cached by predicate. Raises ValueError if they do not fit.
        """
        self.spec = self.spec.under(newer)

    def sight_of(self, caller: Caller) -> Sight:
        """Return what ``caller`` sees of the collection."""
        spec, sights = self.spec, self._sights
        if sights is None or sights.spec is not spec:  # what a slower thread left behind is of older policies
            sights = self._sights = Sights(spec, self.filter_schema)
        return sights.of(caller)

    def passing(self, filter_: CompiledFilter | None, sight: Sight) -> Passing:
        """Return the chunks that ``sight`` has and ``filter_`` passes, from the caches where they have it."""
        return Passing(tuple(selection_of(view, filter_, self.schema, self.caches, sight) for view in self.views))

    @contextmanager
    def pinned(self) -> Iterator[Self]:
        """Keep the snapshot open for the block; raises :class:`SnapshotClosed` if it is closed already."""
        with self._lock:
            if self._closed:
                raise SnapshotClosed(f"version {self.version} has been closed: use the one that took its place")
            self._users += 1
        try:
            yield self
        finally:
            with self._lock:
                self._users -= 1
            self._go_if_unused()

    def close(self) -> None:
        """Let no new request in, and free everything once the last one is done; may be called twice."""
        with self._lock:
            self._closed = True
        self._go_if_unused()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _go_if_unused(self) -> None:
        with self._lock:
            going = self._closed and not self._users and not self._gone
            self._gone = self._gone or going
        if going:
            self.caches.forget({view.token for view in self.views if view.release()})
            self._scratch.release()


def open_snapshot(
    catalog: Catalog, cache: LocalCache, previous: Snapshot | None = None, *, version: int | None = None
) -> Snapshot:
    """Open the newest version (or ``version``) of a collection beside ``previous``, which stays as it is.

    ``previous`` must be open and of the same collection; its segments are shared. It is returned itself when nothing
    is newer. Whatever is raised (:class:`indexer.errors.IndexerError`, OSError) leaves nothing half-open.
    """
    if previous is not None and version is None and catalog.latest() == previous.version:
        return previous
    state = catalog.read(version)
    tombstones = catalog.tombstones(state)
    views: list[SegmentView] = []
    scratch: ScratchFolder | None = None
    try:
        views.extend(_view(record, tombstones, catalog.store, cache, previous) for record in state.segments)
        scratch = cache.scratch()
        snapshot = Snapshot(state, tuple(views), scratch, _caches(previous, state))
    except BaseException:
        for view in views:
            view.release()
        if scratch is not None:
            scratch.release()
        raise
    cache.evict_if_due()
    return snapshot


def _view(
    record: SegmentRecord, tombstones: Tombstones, store: Store, cache: LocalCache, previous: Snapshot | None
) -> SegmentView:
    """Return the view of one segment, reusing the open segment, and the view itself where it would be the same."""
    gone = tombstones.get(record.number)
    for view in previous.views if previous is not None else ():
        if view.segment.record == record:
            return view.retain() if view.same_as(gone) else SegmentView(view.segment.retain(), gone)
    folder, lease = cache.segment(store, record)
    try:
        segment = OpenSegment(record, read_segment(folder), lease)
    except BaseException:
        lease.release()
        raise
    return SegmentView(segment, gone)


def _caches(previous: Snapshot | None, state: CatalogState) -> SearchCaches:
    """Hand the caches on unless the columns changed in place, which changes what a filter means."""
    if previous is None or previous.spec.stored_columns != state.spec.stored_columns:
        return SearchCaches()
    return previous.caches
