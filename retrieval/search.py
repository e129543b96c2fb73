"""Searching one snapshot: filter, legs, fusion, stages. A pure library: no HTTP, no clock but for timing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING

from indexer.embedding import QueryEmbedder, load_embedder
from indexer.format.keys import parse_key
from retrieval.chunks import Key, keys_at
from retrieval.errors import RequestError
from retrieval.explanation import Explanation
from retrieval.filter import CompiledFilter, compile_filter
from retrieval.fused import KeysAt, fused
from retrieval.fusion import Ids
from retrieval.key_order import first_by_key
from retrieval.keyword_leg import KeywordSearch
from retrieval.legs import Legs, least_sure
from retrieval.likeness import LikedRow, liked_row
from retrieval.passing import Passing
from retrieval.policies import ANYONE, Caller, Sight
from retrieval.queries import Found, depth_of_query, pool_of_query, together
from retrieval.ranking import Ranked, rank_by_key, row_ids
from retrieval.refine.refiner import refiner_of
from retrieval.refine.rerank import Reranker
from retrieval.refine.stages import NO_STAGES
from retrieval.request import Mode, SearchRequest, query_vector, unknown_names
from retrieval.response import Hits, Plan, SearchResponse
from retrieval.rows import field_names
from retrieval.snapshot import Snapshot
from retrieval.stopwatch import Stopwatch
from retrieval.version import OpenVersion

if TYPE_CHECKING:
    from retrieval.scores import Floats


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
    mode, include = asked_of(snapshot, request)
    watch = Stopwatch()
    sight = snapshot.sight_of(caller) if sight is None else sight
    snapshot = snapshot.within(sight)
    passing = passing_of(snapshot, request, sight, where)  # before the model, which may have to be loaded
    watch.lap("filter")
    has_stages = request.stages is not NO_STAGES and request.stages.names
    refiner = refiner_of(snapshot, request, sight, reranker) if has_stages else None
    liked = liked_row(snapshot, request.like, sight) if request.like is not None else None
    vectors = vectors_of(snapshot, request, embedder, liked) if mode in ("hybrid", "vector") else {}
    watch.lap("embed")
    explanations: list[Explanation] | None = None
    if mode is None:
        ranked = in_key_order(snapshot, passing, request.pool, request.after)
        watch.lap("order")
        plan = _plan(snapshot, request, sight, passing, None)
    else:
        several = request.queries is not None
        legs = {
            place: Legs(
                snapshot=snapshot,
                passing=passing,
                text=text,
                pool=pool_of_query(mode, request.pool) if several else request.pool,
                hidden=sight.hidden_text,
                deadline=request.deadline,
                watch=Stopwatch() if several else watch,
                liked=liked,
            )
            for place, text in request.texts.items()
        }
        if several:
            lists = _each(snapshot, request, mode, legs, vectors)
            watch.lap("queries")
            ranked, explanations = _together(snapshot, request, lists)
        else:
            ranked, explanations = _fused(snapshot, request, legs[0].run(mode, vectors.get(0)))
        watch.lap("fuse")
        if refiner is not None:
            ranked, explanations = refiner.refine(snapshot.segments, ranked, explanations, watch)
        plan = _plan(snapshot, request, sight, passing, mode, list(legs.values()))
    ranked, explanations, has_more = paged(request, ranked, explanations)
    hits = Hits(snapshot.segments, snapshot.spec, ranked, include, sight, explanations, request.context)
    return response_of(snapshot, sight, hits, plan, watch, has_more=has_more)


def asked_of(version: OpenVersion, request: SearchRequest) -> tuple[Mode | None, Sequence[str]]:
    """Return the mode to run and the fields to show; raises RequestError for those that the version lacks."""
    spec = version.spec
    mode = request.resolved_mode(spec.vector)
    if request.include is None:
        return mode, spec.stored_columns
    unknown_names(request.include, field_names(spec), where="include")
    return mode, request.include


def paged(
    request: SearchRequest, ranked: Ranked, explanations: list[Explanation] | None
) -> tuple[Ranked, list[Explanation] | None, bool]:
    """Return the rows of the page that is asked for, if one is, and whether another one follows."""
    if request.page is None:
        return ranked, explanations, False
    start, stop = request.page.offset, request.page.offset + request.k
    explained = None if explanations is None else explanations[start:stop]
    return ranked.part(start, stop), explained, len(ranked) > stop


def response_of(
    version: OpenVersion, sight: Sight, hits: Hits, plan: Plan, watch: Stopwatch, *, has_more: bool
) -> SearchResponse:
    """Return the answer of a search of ``version``."""
    return SearchResponse(
        results=hits,
        has_more=has_more,
        masked=tuple(sorted(sight.masks)),
        closed_policies=tuple(sight.troubles),
        version=version.version,
        epoch=version.epoch,
        source_version=version.source_version,
        source_committed_at=version.source_committed_at,
        plan=plan,
        took_ms=watch.total(),
    )


def vectors_of(
    version: OpenVersion, request: SearchRequest, embedder: QueryEmbedder | None, liked: LikedRow | None
) -> dict[int, Floats | None]:
    """Return the vector of each of the request's texts, by their places; see :func:`_vector_of`."""
    return {place: _vector_of(version, request, text, embedder, liked) for place, text in request.texts.items()}


def _vector_of(
    version: OpenVersion,
    request: SearchRequest,
    text: str | None,
    embedder: QueryEmbedder | None,
    liked: LikedRow | None,
) -> Floats | None:
    """Return the query's vector, given or embedded; None where there is nothing it could be compared with."""
    if liked is not None:
        return liked.vector
    dim = version.dim
    if dim is None:
        return None
    spec = version.spec.vector
    normalise = spec.metric == "cosine"
    if request.vector is not None:
        return query_vector(request.vector, dim=dim, normalise=normalise)
    embedded = (embedder or load_embedder(spec)).query(text or "")
    if len(embedded) != dim:
        raise RequestError(
            f"the collection's vectors have {dim} numbers and its model {spec.model} gives {len(embedded)}",
            field="query",
            hint="give 'vector' instead",
        )
    # A text without a single word can embed to zeros, which are near nothing.
    return query_vector(embedded, dim=dim, normalise=normalise) if embedded.any() else None


def passing_of(snapshot: Snapshot, request: SearchRequest, sight: Sight, compiled: CompiledFilter | None) -> Passing:
    """Return the chunks that the caller sees and that pass the request's filter, per segment."""
    if compiled is None:
        compiled = filter_for(
            snapshot, sight, request.filter, dialect=request.dialect, params=request.params, now=request.now
        )
    else:
        sight.refuse_masked(compiled)
    return snapshot.passing(compiled, sight)


def filter_for(
    version: OpenVersion,
    sight: Sight,
    text: str | None,
    *,
    dialect: str,
    params: Mapping[str, object],
    now: datetime | None = None,
) -> CompiledFilter | None:
    """Return the filter of ``text`` for who sees ``sight``; None without a text, or where there are no rows yet.

    Raises FilterError.
    """
    if text is None or not version.schema:
        return None
    compiled = compile_filter(text, dialect=dialect, schema=version.filter_schema, params=params, now=now)
    sight.refuse_masked(compiled)
    return compiled


def _plan(
    snapshot: Snapshot,
    request: SearchRequest,
    sight: Sight,
    passing: Passing,
    mode: Mode | None,
    legs: Sequence[Legs] = (),
) -> Plan:
    """Return what the caller may be told of how the search ran."""
    segments = tuple(search for each in legs for search in each.segments)
    chunks, passed = counts_of(snapshot, sight, passing, filtered=request.filter is not None)
    return Plan(
        mode=mode,
        vector=least_sure(segments) if mode in ("hybrid", "vector") else None,
        chunks=chunks,
        passing=passed,
        segments=segments if sight.is_whole else (),
        keyword=KeywordSearch.of_all([each.keyword for each in legs]) if sight.is_whole else None,
    )


def counts_of(snapshot: Snapshot, sight: Sight, passing: Passing, *, filtered: bool) -> tuple[int | None, int | None]:
    """Return what a plan may tell of how many chunks there are for the caller, and how many of them pass."""
    if sight.hidden_text:
        return None, None
    if not filtered:
        return passing.count, passing.count
    return snapshot.n_chunks if sight.rows is None else snapshot.passing(None, sight).count, passing.count


def in_key_order(snapshot: Snapshot, passing: Passing, k: int, after: str | None) -> Ranked:
    """Return the first ``k`` passing rows by key, each at its first chunk, with score 0: those after key ``after``."""
    spec, schema = snapshot.spec, snapshot.schema
    behind = None if after is None else key_of(snapshot, after)
    positions = [first_by_key(selection, spec, schema, k, behind) for selection in passing.selections]
    return rank_by_key(snapshot.segments, positions, schema, spec, k, behind)


def key_of(version: OpenVersion, text: str) -> Key:
    """Return the key that ``text`` is in a URL; raises RequestError."""
    try:
        return parse_key(text, [version.arrow_schema.field(name) for name in version.spec.key])
    except (KeyError, ValueError) as error:
        raise RequestError(str(error), field="cursor") from error


def _each(
    snapshot: Snapshot,
    request: SearchRequest,
    mode: Mode,
    legs: Mapping[int, Legs],
    vectors: Mapping[int, Floats | None],
) -> dict[int, Found]:
    """Return the list of each query by its place; idle cores search for several of them at the same time."""
    places, limit = list(legs), depth_of_query(request.pool)

    def found(at: int) -> Found:
        place = places[at]
        return _fused(snapshot, request, legs[place].run(mode, vectors.get(place)), limit)

    return dict(zip(places, snapshot.helpers.each(found, len(places)), strict=True))


def _fused(snapshot: Snapshot, request: SearchRequest, legs: Mapping[str, Ranked], limit: int | None = None) -> Found:
    ids_of, keys = _named(snapshot)
    return fused(request, legs, snapshot.spec, ids_of=ids_of, keys_at=keys, limit=limit)


def _together(snapshot: Snapshot, request: SearchRequest, lists: Mapping[int, Found]) -> Found:
    ids_of, keys = _named(snapshot)
    return together(lists, ids_of=ids_of, keys_at=keys, limit=request.pool, explain=request.explain)


def _named(snapshot: Snapshot) -> tuple[Callable[[Ranked], Ids], KeysAt]:
    """Return what gives hits' rows as numbers, and chunks' keys."""
    segments, spec = snapshot.segments, snapshot.spec
    return partial(row_ids, segments=segments), partial(keys_at, segments, spec)
