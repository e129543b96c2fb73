"""A version of a collection whose segments are open on this machine.

The next version opens beside it, sharing every segment that both have, and what requests have cached for them; then the
caller swaps.
"""

from __future__ import annotations

from datetime import datetime
from functools import cached_property

import pyarrow as pa

from indexer.catalog import Catalog, CatalogState
from indexer.format.keywords import compose
from indexer.format.records import SegmentRecord
from indexer.format.segment import read_segment
from indexer.format.store import Store
from indexer.format.tombstones import Tombstones
from retrieval.cache import LocalCache, ScratchFolder
from retrieval.chunks import COLUMN_PREFIX
from retrieval.filter import CompiledFilter
from retrieval.gpu import GpuSearch
from retrieval.keyword_leg import KeywordLeg
from retrieval.keyword_query import KeywordQueries
from retrieval.passing import Passing, SearchCaches, selection_of
from retrieval.policies import Sight
from retrieval.segments import OpenSegment, SegmentView
from retrieval.share import Share
from retrieval.version import OpenVersion


class Snapshot(OpenVersion):
    """A version whose segments are open here. Made by :func:`open_snapshot`; ``gpu`` proposes candidates if given."""

    def __init__(
        self, state: CatalogState, views: tuple[SegmentView, ...], scratch: ScratchFolder, caches: SearchCaches
    ) -> None:
        super().__init__(state)
        self.views = views
        self.segments = tuple(view.segment for view in views)
        self.caches = caches
        self.gpu: GpuSearch | None = None
        self._scratch = scratch
        self._adopted: pa.Schema | None = None
        folders = [segment.files.keywords for segment in self.segments]
        index = compose(folders, scratch.path / "keywords", self.spec)
        self.keywords = KeywordLeg(index, KeywordQueries(index, self.spec), self.segments)

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
    def own_columns(self) -> tuple[pa.Schema, list[datetime]]:
        """The stored columns that the segments open here have, and when the one was written that each is as in."""
        found: dict[str, tuple[pa.Field, datetime]] = {}
        for segment in sorted(self.segments, key=lambda segment: segment.record.created_at):
            for name in self.spec.stored_columns:
                index = segment.table.schema.get_field_index(COLUMN_PREFIX + name)
                if index >= 0:
                    found[name] = (segment.table.schema.field(index).with_name(name), segment.record.created_at)
        names = [name for name in self.spec.stored_columns if name in found]
        return pa.schema([found[name][0] for name in names]), [found[name][1] for name in names]

    @cached_property
    def own_columns_bytes(self) -> bytes:
        """Their schema as bytes (:func:`pyarrow.ipc.read_schema` reads them)."""
        data: bytes = self.own_columns[0].serialize().to_pybytes()
        return data

    @property
    def arrow_schema(self) -> pa.Schema:
        """The stored columns that the segments have, as Arrow types, in spec order; empty without segments."""
        return self.own_columns[0] if self._adopted is None else self._adopted

    def adopt(self, schema: pa.Schema) -> None:
        """Take the columns and their types from ``schema``: that of the whole version, of which a share is open here.

        It is one and the same for a version, so who comes at the same time may as well do it again.
        """
        if not self.arrow_schema.equals(schema):
            self._adopted = schema
            self.__dict__.pop("schema", None)
            self.__dict__.pop("filter_schema", None)
            self._sights = None

    def passing(self, filter_: CompiledFilter | None, sight: Sight) -> Passing:
        """Return the chunks that ``sight`` has and ``filter_`` passes, from the caches where they have it."""
        return Passing(tuple(selection_of(view, filter_, self.schema, self.caches, sight) for view in self.views))

    def _free(self) -> None:
        self.caches.forget({view.token for view in self.views if view.release()})
        self._scratch.release()


def open_snapshot(
    catalog: Catalog,
    cache: LocalCache,
    previous: Snapshot | None = None,
    *,
    version: int | None = None,
    share: Share | None = None,
) -> Snapshot:
    """Open the newest version (or ``version``) of a collection beside ``previous``, which stays as it is.

    ``previous`` must be open and of the same collection and ``share``; its segments are shared. It is returned itself
    when nothing is newer. Of a ``share``, the segments of its shards are opened alone. Whatever is raised
    (:class:`indexer.errors.IndexerError`, OSError) leaves nothing half-open.
    """
    if previous is not None and version is None and catalog.latest() == previous.version:
        return previous
    state = catalog.read(version)

    def holds(shard: int) -> bool:
        return share is None or share.holds(state.spec.name, shard)

    tombstones = catalog.tombstones(state, holds)
    views: list[SegmentView] = []
    scratch: ScratchFolder | None = None
    try:
        views.extend(
            _view(record, tombstones, catalog.store, cache, previous)
            for record in state.segments
            if holds(record.shard)
        )
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
