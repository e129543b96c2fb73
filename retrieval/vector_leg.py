"""The vector leg: the rows whose best chunk has the largest inner product with the query.

Every score that leaves this module is exact, computed from the stored vectors; an index only proposes candidates.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Literal

import numpy as np

from retrieval.errors import DeadlineExceeded
from retrieval.lru import ByteLru
from retrieval.passing import Passing, SearchCaches
from retrieval.ranking import Candidates, best_rows, top
from retrieval.scores import Buffers, Floats, Positions, Scratch, pointer, raw_faiss, score_block, score_picked
from retrieval.vector_plan import PlanToken, VectorPlan

How = Literal["exact", "approximate", "exhausted"]

ROUNDS = (1, 8)
"""How much further the second round goes before the segment is scanned exhaustively."""

WORTH_PROBING = 4
"""Probing for more than this part of the passing chunks costs as much as scoring all of them."""

MIN_LISTS = 32
"""How many lists are ranked at least: their order costs little beside the distances."""

_candidates = Scratch()
_lists = Scratch()


@dataclass(frozen=True, kw_only=True, slots=True)
class SegmentSearch:
    """How one segment was searched: ``lists`` of its ``nlist`` were probed, ``refined`` chunks scored exactly.

    ``exhausted`` says that probing found too few rows, so that every passing chunk was scored.
    """

    segment: int
    how: How
    chunks: int
    passing: int
    refined: int
    lists: int | None = None


def search_vectors(
    passing: Passing, query: Floats, k: int, caches: SearchCaches, *, deadline: float | None = None
) -> tuple[list[Candidates], list[SegmentSearch]]:
    """Return candidates among which the best ``k`` distinct rows are, and how each segment was searched.

    ``query`` is contiguous ``(dim,) float32``. Raises :class:`retrieval.errors.DeadlineExceeded`.
    """
    candidates: list[Candidates] = []
    searches: list[SegmentSearch] = []
    for place, selection in enumerate(passing.selections):
        if deadline is not None and time.monotonic() > deadline:
            raise DeadlineExceeded("the deadline passed during the vector search; give it more time or filter more")
        plan = selection.vector_plan
        if plan.kind == "none":
            continue
        found, search = search_segment(plan, query, k, caches.blocks, place)
        candidates.append(found)
        searches.append(search)
    return candidates, searches


def search_segment(
    plan: VectorPlan, query: Floats, k: int, blocks: ByteLru[PlanToken, Floats], place: int
) -> tuple[Candidates, SegmentSearch]:
    """Search one segment as ``plan`` says; see :func:`search_vectors`."""
    how: How = "exact"
    if plan.kind == "approximate":
        for effort in ROUNDS:
            probed = _probe(plan, query, k, effort)
            if probed is None:
                break
            positions, scores, lists, refined = probed
            if _enough(plan, positions, k):
                return Candidates(place, positions, scores), _search(plan, "approximate", refined, lists)
        how = "exhausted"
    positions, scores = _scan(plan, query, k, blocks)
    return Candidates(place, positions, scores), _search(plan, how, plan.passing)


def _search(plan: VectorPlan, how: How, refined: int, lists: int | None = None) -> SegmentSearch:
    segment = plan.segment
    return SegmentSearch(
        segment=segment.number, how=how, chunks=segment.n, passing=plan.passing, refined=refined, lists=lists
    )


def _scan(plan: VectorPlan, query: Floats, k: int, blocks: ByteLru[PlanToken, Floats]) -> tuple[Positions, Floats]:
    """Score every passing chunk and return the best rows' chunks."""
    segment = plan.segment
    if plan.mostly:
        scores = score_block(query, segment.vectors)
        if plan.passing < segment.n:
            scores[plan.excluded] = -np.inf
        best = _best(plan, None, scores, k)
        best = best[scores[best] > -np.inf]
        return best, scores[best]
    scores = _score_passing(plan, query, blocks)
    best = _best(plan, plan.positions, scores, k)
    return plan.positions[best], scores[best]


def _score_passing(plan: VectorPlan, query: Floats, blocks: ByteLru[PlanToken, Floats]) -> Floats:
    """Score the passing chunks; from a plan's second use on, out of a block of their vectors in one piece."""
    block = blocks.get(plan.token)
    if block is None:
        plan.uses += 1
        if plan.uses < 2 or plan.kind != "exact":
            return score_picked(query, plan.segment.vectors, plan.positions)
        block = plan.segment.vectors[plan.positions].astype(np.float32, copy=False)
        blocks.put(plan.token, block, size_bytes=block.nbytes)
    return score_block(query, block)


def _best(plan: VectorPlan, positions: Positions | None, scores: Floats, k: int) -> Positions:
    if plan.segment.one_chunk_rows:
        return top(scores, k)
    rows = plan.segment.row_of_chunk
    return best_rows(rows if positions is None else rows[positions], scores, k)


def _enough(plan: VectorPlan, positions: Positions, k: int) -> bool:
    if plan.segment.one_chunk_rows:
        return len(positions) >= k
    return len(np.unique(plan.segment.row_of_chunk[positions])) >= k


def _probe(plan: VectorPlan, query: Floats, k: int, effort: int) -> tuple[Positions, Floats, int, int] | None:
    """Return the best rows' chunks by the index, how many lists were probed and how many candidates refined.

    None when that would cost as much as scoring all that passes.
    """
    wanted = k * effort * plan.segment.chunks_per_row
    query_at = pointer(query)
    if plan.list_counts is None:
        n, lists = wanted * plan.k_factor, min(plan.nlist, plan.nprobe * effort)
        if n * WORTH_PROBING > plan.passing:
            return None
        buffers = _candidates.buffers(n)
        plan.index.search_c(1, query_at, n, buffers.distances_at, buffers.labels_at, plan.parameters(lists))
    else:
        near, distances, lists, k_factor = _nearest_lists(plan, query_at, wanted, effort)
        n = wanted * k_factor
        if n * WORTH_PROBING > plan.passing:
            return None
        buffers = _candidates.buffers(n)
        plan.index.search_preassigned_c(
            1,
            query_at,
            n,
            pointer(near),
            pointer(distances),
            buffers.distances_at,
            buffers.labels_at,
            False,
            plan.parameters(lists),
        )
    return *_refined(plan, query, query_at, k, buffers), lists, n


def _nearest_lists(plan: VectorPlan, query_at: object, wanted: int, effort: int) -> tuple[Positions, Floats, int, int]:
    """Choose the lists to probe: the nearest that have passing chunks, until they hold enough of them.

    Return the lists, nearest first, with their scores, how many of them to probe, and the k factor for what they hold.
    """
    assert plan.list_counts is not None
    ranked = min(plan.nlist, max(MIN_LISTS, int(1.5 * plan.usual_lists * effort)))
    while True:
        buffers = _lists.buffers(ranked)
        plan.quantizer.search_c(1, query_at, ranked, buffers.distances_at, buffers.labels_at)
        near, distances = buffers.labels, buffers.distances
        counts = plan.list_counts[near]
        nearest = plan.nprobe if plan.nprobe < ranked else ranked
        boost, k_factor = plan.where(int(counts[:nearest].sum()) / (nearest * plan.chunks_per_list))
        if not counts.all():
            kept = counts > 0
            near, distances, counts = near[kept], distances[kept], counts[kept]
        held = np.cumsum(counts)
        target = max(plan.target * effort * boost, 2.0 * wanted)
        least = plan.nprobe * effort * boost
        if ranked == plan.nlist or (len(held) >= least and held[-1] >= target):
            break
        ranked = min(plan.nlist, ranked * 4)
    lists = min(len(near), max(least, int(np.searchsorted(held, target)) + 1))
    return near, distances, lists, k_factor


def _refined(plan: VectorPlan, query: Floats, query_at: object, k: int, buffers: Buffers) -> tuple[Positions, Floats]:
    """Score the candidates in ``buffers`` exactly and return the best rows' chunks, as copies."""
    found = buffers.size
    if buffers.labels[-1] < 0:
        found = int(np.count_nonzero(buffers.labels >= 0))
    labels, scores = buffers.labels[:found], buffers.exact[:found]
    vectors, vectors_at = plan.segment.vectors, plan.segment.vectors_at
    if vectors_at is None:
        scores = score_picked(query, vectors, labels)
    elif found:
        raw_faiss.fvec_inner_products_by_idx(
            buffers.exact_at, query_at, vectors_at, buffers.labels_at, vectors.shape[1], 1, found
        )
    best = _best(plan, labels, scores, k)
    return labels[best], scores[best]
