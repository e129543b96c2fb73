"""Searching one snapshot: filter, legs, fusion, stages. A pure library: no HTTP, no clock but for timing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from indexer.embedding import QueryEmbedder, load_embedder
from retrieval import bitmap
from retrieval.errors import RequestError
from retrieval.explanation import Explanation
from retrieval.filter import CompiledFilter, compile_filter
from retrieval.fusion import Contribution, Leg, contributions, fuse
from retrieval.keyword_leg import KeywordSearch
from retrieval.likeness import LikedRow, liked_row
from retrieval.passing import Passing
from retrieval.policies import ANYONE, Caller, Sight
from retrieval.ranking import NOTHING, Candidates, Ranked, rank, row_ids
from retrieval.refine.refiner import refiner_of
from retrieval.refine.rerank import Reranker
from retrieval.refine.stages import NO_STAGES
from retrieval.request import FUSION_DEPTH, Mode, SearchRequest, query_vector, unknown_names
from retrieval.response import Effort, Hits, Plan, SearchResponse
from retrieval.rows import field_names
from retrieval.segments import Key, keys_at
from retrieval.snapshot import Snapshot
from retrieval.stopwatch import Stopwatch
from retrieval.vector_leg import SegmentSearch, search_vectors

if TYPE_CHECKING:
    from retrieval.scores import Floats

EFFORTS: tuple[Effort, ...] = ("exact", "exhausted", "approximate")
"""From sure to least sure."""


def search(
    snapshot: Snapshot,
    request: SearchRequest,
    *,
    caller: Caller = ANYONE,
    embedder: QueryEmbedder | None = None,
    reranker: Reranker | None = None,
    where: CompiledFilter | None = None,
    sight: Sight | None = None,
) -> SearchResponse:
    """Run one search on a snapshot, which is kept open (:meth:`Snapshot.pinned`) meanwhile.

    Nothing but what ``caller`` may see takes part in it. ``embedder`` and ``reranker`` are the collection's models
    where they are ready; else the process's own are taken, and loaded first if this is their first use. ``where`` is a
    filter that is compiled already, in place of the request's, and ``sight`` what ``caller`` was found to see.

    Raises :class:`retrieval.errors.RequestError`, :class:`retrieval.errors.FilterError`,
    :class:`retrieval.errors.DeadlineExceeded` and :class:`indexer.errors.ModelError`.
    """
    spec = snapshot.spec
    mode = request.resolved_mode(has_model=spec.vector.model is not None)
    include = spec.stored_columns if request.include is None else request.include
    if request.include is not None:
        unknown_names(include, field_names(spec), where="include")
    watch = Stopwatch()
    sight = snapshot.sight_of(caller) if sight is None else sight
    passing = _passing(snapshot, request, sight, where)  # before the model, which may have to be loaded
    watch.lap("filter")
    has_stages = request.stages is not NO_STAGES and request.stages.names
    refiner = refiner_of(snapshot, request, sight, reranker) if has_stages else None
    liked = liked_row(snapshot, request.like, sight) if request.like is not None else None
    vector = _vector(snapshot, request, embedder, liked) if mode in ("hybrid", "vector") else None
    watch.lap("embed")
    explanations: list[Explanation] | None = None
    if mode is None:
        ranked = _in_key_order(snapshot, passing, request.k)
        watch.lap("order")
        plan = _plan(snapshot, request, sight, passing, None)
    else:
        legs = _Legs(snapshot, request, sight, passing, watch, liked)
        ranked, explanations = legs.run(mode, vector)
        watch.lap("fuse")
        if refiner is not None:
            ranked, explanations = refiner.refine(ranked, explanations, watch)
        plan = _plan(snapshot, request, sight, passing, mode, legs.segments, legs.keyword)
    return SearchResponse(
        results=Hits(snapshot.views, spec, ranked, include, sight, explanations),
        masked=tuple(sorted(sight.masks)),
        closed_policies=tuple(sight.troubles),
        version=snapshot.version,
        epoch=snapshot.epoch,
        source_version=snapshot.source_version,
        source_committed_at=snapshot.source_committed_at,
        plan=plan,
        took_ms=watch.total(),
    )


@dataclass(eq=False, slots=True)
class _Legs:
    """The legs of one search, over what passes, and how they ran; ``liked`` is not found by them."""

    snapshot: Snapshot
    request: SearchRequest
    sight: Sight
    passing: Passing
    watch: Stopwatch
    liked: LikedRow | None
    segments: Sequence[SegmentSearch] = ()
    keyword: KeywordSearch | None = None

    def run(self, mode: Mode, vector: Floats | None) -> tuple[Ranked, list[Explanation] | None]:
        """Return the legs of ``mode`` as one list and, if wanted, what made its scores."""
        depth = max(self.request.pool, FUSION_DEPTH) if mode == "hybrid" else self.request.pool
        legs: dict[str, Ranked] = {}
        if mode in ("hybrid", "vector"):
            legs["vector"], self.segments = self._vector_leg(vector, depth)
            self.watch.lap("vector")
        if mode in ("hybrid", "keyword"):
            legs["keyword"], self.keyword = self._keyword_leg(depth)
            self.watch.lap("keyword")
        return _fused(self.snapshot, self.request, legs)

    def _vector_leg(self, vector: Floats | None, depth: int) -> tuple[Ranked, Sequence[SegmentSearch]]:
        if vector is None:
            return NOTHING, ()
        more = int(self.liked is not None)
        found, segments = search_vectors(
            self.passing,
            vector,
            depth + more,
            self.snapshot.caches,
            sure=self.request.pool + more,
            gpu=self.snapshot.gpu,
            deadline=self.request.deadline,
        )
        return self._ranked(found, depth), segments

    def _keyword_leg(self, depth: int) -> tuple[Ranked, KeywordSearch]:
        more = int(self.liked is not None)
        found, how = self.snapshot.keywords.search(
            self.request.text or "",
            self.passing,
            depth + more,
            hidden=self.sight.hidden_text,
            deadline=self.request.deadline,
        )
        return self._ranked(found, depth), how

    def _ranked(self, found: Sequence[Candidates], depth: int) -> Ranked:
        if self.liked is None:
            return rank(found, self.snapshot.views, self.snapshot.spec, depth)
        return self.liked.left_out(
            rank(found, self.snapshot.views, self.snapshot.spec, depth + 1), self.snapshot, depth
        )


def _vector(
    snapshot: Snapshot, request: SearchRequest, embedder: QueryEmbedder | None, liked: LikedRow | None
) -> Floats | None:
    """Return the query's vector, given or embedded; None where there is nothing it could be compared with."""
    if liked is not None:
        return liked.vector
    dim = snapshot.dim
    if dim is None:
        return None
    spec = snapshot.spec.vector
    normalise = spec.metric == "cosine"
    if request.vector is not None:
        return query_vector(request.vector, dim=dim, normalise=normalise)
    embedded = (embedder or load_embedder(spec)).query(request.text or "")
    if len(embedded) != dim:
        raise RequestError(
            f"the collection's vectors have {dim} numbers and its model {spec.model} gives {len(embedded)}",
            field="query",
            hint="give 'vector' instead",
        )
    # A text without a single word can embed to zeros, which are near nothing.
    return query_vector(embedded, dim=dim, normalise=normalise) if embedded.any() else None


def _passing(
    snapshot: Snapshot, request: SearchRequest, sight: Sight, compiled: CompiledFilter | None = None
) -> Passing:
    """Return the chunks that the caller sees and that pass the request's filter, per segment."""
    if compiled is None and request.filter is not None and snapshot.views:
        compiled = compile_filter(
            request.filter, dialect=request.dialect, schema=snapshot.filter_schema, params=request.params
        )
    if compiled is not None:
        sight.refuse_masked(compiled)
    return snapshot.passing(compiled, sight)


def _plan(
    snapshot: Snapshot,
    request: SearchRequest,
    sight: Sight,
    passing: Passing,
    mode: Mode | None,
    segments: Sequence[SegmentSearch] = (),
    keyword: KeywordSearch | None = None,
) -> Plan:
    """Return what the caller may be told of how the search ran."""
    chunks, passed = _counts(snapshot, request, sight, passing)
    return Plan(
        mode=mode,
        vector=_least_sure(segments) if mode in ("hybrid", "vector") else None,
        chunks=chunks,
        passing=passed,
        segments=tuple(segments) if sight.is_whole else (),
        keyword=keyword if sight.is_whole else None,
    )


def _counts(
    snapshot: Snapshot, request: SearchRequest, sight: Sight, passing: Passing
) -> tuple[int | None, int | None]:
    """Return what a plan may tell of how many chunks there are for the caller, and how many of them pass."""
    if sight.hidden_text:
        return None, None
    if request.filter is None:
        return passing.count, passing.count
    return snapshot.n_chunks if sight.rows is None else snapshot.passing(None, sight).count, passing.count


def _in_key_order(snapshot: Snapshot, passing: Passing, k: int) -> Ranked:
    """Return the first ``k`` passing rows by key, each at its first chunk, with score 0."""
    names = list(snapshot.spec.key)
    parts = []
    for place, selection in enumerate(passing.selections):
        segment = selection.segment
        first = segment.first_chunks
        positions = first[bitmap.contains(selection.bits, first)]
        keys = segment.frame(snapshot.schema).select(names)[positions]
        parts.append(keys.with_columns(pl.lit(place).alias("_place"), pl.Series("_position", positions)))
    if not parts:
        return NOTHING
    best = pl.concat(parts).bottom_k(k, by=names).sort(names)
    return Ranked(best["_place"].to_list(), best["_position"].to_list(), [0.0] * best.height)


def _fused(
    snapshot: Snapshot, request: SearchRequest, legs: Mapping[str, Ranked]
) -> tuple[Ranked, list[Explanation] | None]:
    """Return the legs as one list; a single leg keeps its own scores."""
    if len(legs) == 1:
        return _explained_leg(legs) if request.explain else (next(iter(legs.values())), None)
    chunks: dict[int, tuple[int, int]] = {}
    scored: dict[str, Leg] = {}
    # The keyword leg's passage shows the words that were asked for; it is named last and so wins.
    for name, ranked in sorted(legs.items(), reverse=True):
        ids = row_ids(ranked, snapshot.views)
        chunks.update(zip(ids.tolist(), zip(ranked.places, ranked.positions, strict=True), strict=True))
        scored[name] = Leg(ids, np.array(ranked.scores, dtype=np.float64))

    def keys_of(rows: list[int]) -> list[Key]:
        places, positions = zip(*(chunks[row] for row in rows), strict=True)
        return keys_at(snapshot.views, snapshot.spec, places, positions)

    kind, weights = request.fusion.kind, request.fusion.weights
    fused = fuse(kind, scored, weights, keys_of=keys_of, limit=request.pool)
    ranked = Ranked([chunks[row][0] for row in fused.ids], [chunks[row][1] for row in fused.ids], fused.scores)
    if not request.explain:
        return ranked, None
    return ranked, [Explanation(legs=parts) for parts in contributions(kind, scored, weights, fused.ids)]


def _explained_leg(legs: Mapping[str, Ranked]) -> tuple[Ranked, list[Explanation]]:
    """Explain a single leg: its raw scores are the scores."""
    ((name, ranked),) = legs.items()
    return ranked, [
        Explanation(legs={name: Contribution(rank=rank, raw_score=score, normalised=score, weight=1.0)})
        for rank, score in enumerate(ranked.scores, start=1)
    ]


def _least_sure(segments: Sequence[SegmentSearch]) -> Effort:
    return max((search.how for search in segments), key=EFFORTS.index, default="exact")
