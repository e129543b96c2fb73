"""A version of a collection whose segments are open on this machine.

The next version opens beside it, sharing every segment that both have, and what requests have cached for them; then the
caller swaps.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from functools import cached_property

import numpy as np
import polars as pl
import pyarrow as pa
from pyroaring import BitMap

from indexer.catalog import Catalog, CatalogState
from indexer.format.records import SegmentRecord
from indexer.format.segment import read_segment
from indexer.format.store import Store
from retrieval.cache import LocalCache
from retrieval.chunks import COLUMN_PREFIX
from retrieval.filter import CompiledFilter
from retrieval.gpu import GpuSearch
from retrieval.helpers import ALONE, Helpers
from retrieval.keyword_leg import KeywordLeg
from retrieval.keyword_legs import KeywordLegs
from retrieval.lru import ByteLru
from retrieval.passing import Passing, SearchCaches, selection_of
from retrieval.policies import Sight
from retrieval.segments import OpenSegment, SegmentView
from retrieval.share import Share
from retrieval.version import OpenVersion

OPENED_AT_ONCE = 4
"""Segments are fetched and opened so many at a time: where tenants are kept apart, there are thousands."""

PARTS_BYTES = 16 << 20
"""Memory for the parts of a version that callers reach, where its spec keeps tenants apart."""


class Snapshot(OpenVersion):
    """A version whose segments are open here. Made by :func:`open_snapshot`.

    ``gpu`` proposes candidates if given, ``helpers`` are who may help with a search.
    """

    def __init__(
        self, state: CatalogState, views: tuple[SegmentView, ...], legs: KeywordLegs, caches: SearchCaches
    ) -> None:
        super().__init__(state)
        self.views = views
        self.segments = tuple(view.segment for view in views)
        self.legs = legs
        self.caches = caches
        self.gpu: GpuSearch | None = None
        self.helpers: Helpers = ALONE
        self._adopted: pa.Schema | None = None
        self._keywords: KeywordLeg | None = None
        self._is_part = False
        self._parts: ByteLru[Hashable, Snapshot] = ByteLru(max_bytes=PARTS_BYTES)

    @property
    def keywords(self) -> KeywordLeg:
        """The keyword leg over all segments; a whole version keeps its own, those of parts go when others are asked."""
        if self._keywords is not None:
            return self._keywords
        leg = self.legs.of(self.segments, self.spec)
        self._keywords = None if self._is_part else leg
        return leg

    def within(self, sight: Sight) -> Snapshot:
        """Return the part of the version that has the rows of the tenants whom ``sight`` reaches.

        That is all of it where the spec does not keep tenants apart, or ``sight`` is not bound to any. The part is
        open for as long as the whole is.
        """
        reached = sight.tenants
        if reached is None:
            return self
        part = self._parts.get(reached.cache_key)
        if part is None or (part.spec, part._adopted) != (self.spec, self.arrow_schema):
            places = np.flatnonzero(reached.mask(self._tenants)) if self.views else ()
            part = Snapshot(self.state, tuple(self.views[place] for place in places), self.legs, self.caches)
            part.spec, part._adopted, part._is_part = self.spec, self.arrow_schema, True
            part.gpu, part.helpers = self.gpu, self.helpers
            self._parts.put(reached.cache_key, part, size_bytes=1024 + 64 * len(places))
        return part

    @cached_property
    def _tenants(self) -> pl.DataFrame:
        """The tenant of each segment, in the column's name and type."""
        assert self.spec.tenant is not None
        name = COLUMN_PREFIX + self.spec.tenant
        firsts = [segment.table.select([name]).slice(0, 1) for segment in self.segments]
        frame = pl.from_arrow(pa.concat_tables(firsts, promote_options="permissive").combine_chunks())
        assert isinstance(frame, pl.DataFrame)
        return frame.rename({name: self.spec.tenant}).cast({self.spec.tenant: self.schema[self.spec.tenant]})

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
            self._parts.drop_where(lambda _: True)
            self.__dict__.pop("schema", None)
            self.__dict__.pop("_tenants", None)
            self.__dict__.pop("filter_schema", None)
            self._sights = None

    def passing(self, filter_: CompiledFilter | None, sight: Sight) -> Passing:
        """Return the chunks that ``sight`` has and ``filter_`` passes, from the caches where they have it."""
        return Passing(tuple(selection_of(view, filter_, self.schema, self.caches, sight) for view in self.views))

    def _free(self) -> None:
        self.caches.forget({view.token for view in self.views if view.release()})
        self._parts.drop_where(lambda _: True)
        self._keywords = None
        self.legs.clear()


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
    records = [record for record in state.segments if holds(record.shard)]
    held = {view.segment.number: view for view in previous.views} if previous is not None else {}
    opened = _opened([record for record in records if not _has(held.get(record.number), record)], catalog.store, cache)
    views: list[SegmentView] = []
    try:
        for record in records:
            number, gone = record.number, tombstones.get(record.number)
            views.append(SegmentView(opened[number], gone) if number in opened else _view(held[number], gone))
            opened.pop(number, None)  # the view has it
        numbers = {view.segment.number for view in views}
        legs = KeywordLegs(cache) if previous is None else previous.legs.for_segments(numbers)
        snapshot = Snapshot(state, tuple(views), legs, _caches(previous, state))
        if snapshot.spec.tenant is None:
            _ = snapshot.keywords  # now, before anybody waits for it; of tenants, whoever asks has their own
    except BaseException:
        for view in views:
            view.release()
        for segment in opened.values():
            segment.release()
        raise
    cache.evict_if_due()
    return snapshot


def _has(view: SegmentView | None, record: SegmentRecord) -> bool:
    return view is not None and view.segment.record == record


def _view(before: SegmentView, gone: BitMap | None) -> SegmentView:
    """Return the view ``before``, or another one of its segment where something else is ``gone`` of it."""
    return before.retain() if before.same_as(gone) else SegmentView(before.segment.retain(), gone)


def _opened(records: Sequence[SegmentRecord], store: Store, cache: LocalCache) -> dict[int, OpenSegment]:
    """Fetch and open segments, several at a time, and return them by number; all or none."""
    with ThreadPoolExecutor(OPENED_AT_ONCE) as pool:
        opening = [pool.submit(_open, record, store, cache) for record in records]
    try:
        return {record.number: each.result() for record, each in zip(records, opening, strict=True)}
    except BaseException:
        for each in opening:
            if each.exception() is None:
                each.result().release()
        raise


def _open(record: SegmentRecord, store: Store, cache: LocalCache) -> OpenSegment:
    folder, lease = cache.segment(store, record)
    try:
        return OpenSegment(record, read_segment(folder), lease)
    except BaseException:
        lease.release()
        raise


def _caches(previous: Snapshot | None, state: CatalogState) -> SearchCaches:
    """Hand the caches on unless the columns changed in place, which changes what a filter means."""
    if previous is None or previous.spec.stored_columns != state.spec.stored_columns:
        return SearchCaches()
    return previous.caches
