"""Which chunks of a snapshot pass a filter: one bitmap per segment, evaluated once and shared by all legs.

Two caches: what a filter says of a segment (it holds for every version that has the segment) and that AND the view's
live chunks, with the plans that the legs make for it (it holds until the segment gets new tombstones). The second holds
open segments, so what it has of a view goes with the last snapshot that has the view.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import tantivy

from retrieval import bitmap
from retrieval.bitmap import Bitmap, Positions
from retrieval.keyword_query import KeywordQueries
from retrieval.lru import ByteLru
from retrieval.policies import Sight
from retrieval.segments import OpenSegment, SegmentView
from retrieval.vector_plan import PlanToken, VectorPlan

if TYPE_CHECKING:
    from retrieval.filter import CompiledFilter
    from retrieval.scores import Floats

FILTER_BITMAPS_BYTES = 64 << 20
SELECTIONS_BYTES = 128 << 20
VECTOR_BLOCKS_BYTES = 256 << 20
RESTRICTED_MAX = 4096
"""Up to this many passing chunks a keyword query may be restricted to them by name."""


class Selection:
    """The chunks of one view that count and pass; ``filtered`` says whether there is a filter at all.

    The vectors of chunks with text of ``hidden_text`` do not take part: they say what the text does.
    It knows the segment and not the view: a cycle would keep a dead view's files open until the garbage collector runs.
    """

    def __init__(self, view: SegmentView, passing: Bitmap | None, hidden_text: frozenset[str] = frozenset()) -> None:
        self.segment = view.segment
        self._view_token = view.token
        self.filtered = passing is not None
        self.bits: Bitmap = view.live if passing is None else passing & view.live
        self.count = view.n_live if passing is None else bitmap.count(self.bits)
        self._hidden_text = hidden_text
        self._keyword_rows: tantivy.Query | None = None

    @cached_property
    def positions(self) -> Positions:
        """The chunks' positions, ascending."""
        return bitmap.positions_of(self.bits, self.segment.n)

    @cached_property
    def n_rows(self) -> int:
        """How many rows they are of."""
        if self.segment.one_chunk_rows:
            return self.count
        return int(np.count_nonzero(bitmap.contains(self.bits, self.segment.first_chunks)))

    @cached_property
    def vector_plan(self) -> VectorPlan:
        """How the vector leg searches among these chunks."""
        bits = self.bits & self.segment.comparable(self._hidden_text)
        return VectorPlan.of(self.segment, bits, view_token=self._view_token)

    def keyword_rows(self, queries: KeywordQueries) -> tantivy.Query:
        """Return the keyword query for exactly these chunks, made at the first call."""
        if self._keyword_rows is None:
            self._keyword_rows = queries.rows(self.segment.number, self.positions.tolist())
        return self._keyword_rows

    @property
    def size_bytes(self) -> int:
        """Bytes that the selection may come to hold, its positions and its plan included."""
        return self.bits.nbytes + 2 * 8 * self.count + 200 * min(self.count, RESTRICTED_MAX) + 8192


@dataclass(frozen=True, slots=True)
class SearchCaches:
    """What is remembered between the requests and the versions of one collection, bounded by bytes.

    ``bitmaps``: (segment number, filter) to what the filter says; ``selections``: (view, filter) to the same AND live;
    ``blocks``: (view, plan) to the gathered vectors of selections that are scanned again and again.
    """

    bitmaps: ByteLru[tuple[int, Hashable], Bitmap] = field(
        default_factory=lambda: ByteLru(max_bytes=FILTER_BITMAPS_BYTES)
    )
    selections: ByteLru[tuple[int, Hashable], Selection] = field(
        default_factory=lambda: ByteLru(max_bytes=SELECTIONS_BYTES)
    )
    blocks: ByteLru[PlanToken, Floats] = field(default_factory=lambda: ByteLru(max_bytes=VECTOR_BLOCKS_BYTES))

    def forget(self, views: Collection[int]) -> None:
        """Let go of all that is held for the views with these tokens, their segments' open files among it."""
        if views:
            self.selections.drop_where(lambda key: key[0] in views)
            self.blocks.drop_where(lambda key: key[0] in views)


class Passing:
    """The chunks of a whole snapshot that pass one filter (or none)."""

    def __init__(self, selections: tuple[Selection, ...]) -> None:
        self.selections = selections
        self.count = sum(selection.count for selection in selections)
        self.filtered = any(selection.filtered for selection in selections)

    def keyword_rows(self, queries: KeywordQueries) -> list[tantivy.Query]:
        """Return keyword queries that together find exactly these chunks; for few chunks."""
        return [selection.keyword_rows(queries) for selection in self.selections if selection.count]


def selection_of(
    view: SegmentView,
    filter_: CompiledFilter | None,
    schema: Mapping[str, pl.DataType],
    caches: SearchCaches,
    sight: Sight,
) -> Selection:
    """Return the chunks of ``view`` that ``sight`` has and ``filter_`` passes, from the caches where they have it.

    ``filter_`` and the sight's are made for ``schema``. What is kept is kept apart for each of their pairs.
    """
    if filter_ is None and sight.rows is None and not sight.hidden_text:
        if view.everything is None:
            view.everything = Selection(view, None)
        return view.everything
    key = (view.token, (filter_ and filter_.cache_key, sight.rows and sight.rows.cache_key, sight.hidden_text))
    cacheable = all(part is None or part.cacheable for part in (filter_, sight.rows))
    selection = caches.selections.get(key) if cacheable else None
    if selection is None:
        selection = Selection(view, _bits(view.segment, filter_, sight, schema, caches), sight.hidden_text)
        if cacheable:
            caches.selections.put(key, selection, size_bytes=selection.size_bytes)
    return selection


def _bits(
    segment: OpenSegment,
    filter_: CompiledFilter | None,
    sight: Sight,
    schema: Mapping[str, pl.DataType],
    caches: SearchCaches,
) -> Bitmap | None:
    """Return the chunks that pass both; ``filter_`` is never shown a row that ``sight`` does not have.

    Else what fails on it, or how long it takes, would tell of it.
    """
    rows = sight.rows
    if rows is None:
        return None if filter_ is None else _kept(segment, (filter_,), caches, lambda: _mask(segment, filter_, schema))
    allowed = sight.seen.get(segment.number)
    if allowed is None:
        allowed = _kept(segment, (rows,), caches, lambda: _mask(segment, rows, schema))
        sight.seen[segment.number] = allowed
    if filter_ is None:
        return allowed
    return _kept(segment, (filter_, rows), caches, lambda: _mask_among(segment, filter_, allowed, schema))


def _kept(
    segment: OpenSegment, filters: tuple[CompiledFilter, ...], caches: SearchCaches, make: Callable[[], Bitmap]
) -> Bitmap:
    """Return what ``make`` makes of ``filters``, or what it made before."""
    if not all(filter_.cacheable for filter_ in filters):
        return make()
    key = (segment.number, tuple(filter_.cache_key for filter_ in filters))
    bits = caches.bitmaps.get(key)
    if bits is None:
        bits = make()
        caches.bitmaps.put(key, bits, size_bytes=bits.nbytes + 256)
    return bits


def _mask(segment: OpenSegment, filter_: CompiledFilter, schema: Mapping[str, pl.DataType]) -> Bitmap:
    return bitmap.pack(filter_.mask(segment.frame(schema)))


def _mask_among(
    segment: OpenSegment, filter_: CompiledFilter, allowed: Bitmap, schema: Mapping[str, pl.DataType]
) -> Bitmap:
    positions = bitmap.positions_of(allowed, segment.n)
    named = filter_.columns or list(schema)[:1]  # a filter of constants wants a frame with as many rows all the same
    frame = segment.frame({name: schema[name] for name in named})[positions]
    return bitmap.from_positions(positions[filter_.mask(frame)], segment.n)
