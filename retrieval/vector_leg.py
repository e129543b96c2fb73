"""The vector leg: the rows whose best chunk has the largest inner product with the query.

Every score that leaves this module is exact, computed from the stored vectors; an index only proposes candidates.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from indexer.ann.device import DeviceKind
from indexer.format.vectors import within
from retrieval import bitmap
from retrieval.deadline import check_deadline
from retrieval.gpu import Asked, GpuSearch
from retrieval.helpers import ALONE, Helpers
from retrieval.lru import ByteLru
from retrieval.passing import Passing, SearchCaches
from retrieval.ranking import Candidates, best_rows, top
from retrieval.scores import Buffers, Floats, Positions, Scratch, pointer, raw_faiss, score_block, score_picked
from retrieval.vector_plan import EXACT_FLOATS, MEASURED_K, PLAIN_SHARE, THIN, Gathered, PlanToken, VectorPlan, all_of

How = Literal["exact", "approximate", "exhausted"]

ROUNDS = (1, 8)
"""How much further the second round goes before the segment is scanned exhaustively."""

WORTH_PROBING = 4
"""Probing for more than this part of the passing chunks costs as much as scoring all of them."""

TAIL_FACTOR = 4
"""Candidates for each row beyond those that are to be found surely."""

WORTH_HELP = 400_000
"""Scanning this many numbers takes as long as it takes a helper to begin, some 0.1 ms."""

AROUND = 48
"""So many chunks near the query tell whether a filter leaves its neighbourhood."""

_candidates = Scratch()


@dataclass(frozen=True, kw_only=True, slots=True)
class SegmentSearch:
    """How one segment was searched: ``lists`` of its IVF index were probed, or ``breadth`` candidates of its graph
    kept on the way; ``refined`` chunks were scored exactly.

    ``exhausted`` says that probing found too few rows, so that every passing chunk was scored.
    """

    segment: int
    how: How
    chunks: int
    passing: int
    refined: int
    lists: int | None = None
    breadth: int | None = None
    device: DeviceKind = "cpu"


def search_vectors(
    passing: Passing,
    query: Floats,
    k: int,
    caches: SearchCaches,
    *,
    sure: int | None = None,
    gpu: GpuSearch | None = None,
    helpers: Helpers = ALONE,
    deadline: float | None = None,
) -> tuple[list[Candidates], list[SegmentSearch]]:
    """Return candidates among which the best ``k`` distinct rows are, and how each segment was searched.

    ``query`` is contiguous ``(dim,) float32``. The best ``sure`` rows, ``k`` if it is not given, are found as surely as
    the spec asks; for the others fewer candidates are looked at. ``helpers`` search segments at the same time, if there
    are several large ones. Raises :class:`retrieval.errors.DeadlineExceeded`.
    """
    selections = passing.selections
    asked = [_ask(gpu, selection.vector_plan, query, k) for selection in selections] if gpu else []

    def searched(place: int) -> tuple[Candidates, SegmentSearch] | None:
        check_deadline(deadline, "during the vector search", "give it more time or filter more")
        plan = selections[place].vector_plan
        if plan.kind == "none":
            return None
        proposed = waiting.wait(deadline) if asked and (waiting := asked[place]) else None
        return search_segment(plan, query, k, caches.blocks, place, proposed, sure=sure)

    large = sum(selection.count * len(query) > WORTH_HELP for selection in selections)
    each = helpers.each if large > 1 and not asked else ALONE.each
    found = [result for result in each(searched, len(selections)) if result is not None]
    return [candidates for candidates, _ in found], [search for _, search in found]


def search_segment(
    plan: VectorPlan,
    query: Floats,
    k: int,
    kept: ByteLru[PlanToken, Gathered],
    place: int,
    proposed: Positions | None = None,
    *,
    sure: int | None = None,
) -> tuple[Candidates, SegmentSearch]:
    """Search one segment as ``plan`` says, or take what a GPU ``proposed``; see :func:`search_vectors`."""
    if proposed is not None:
        taken = _taken(plan, query, k, proposed)
        if taken is not None:
            return Candidates(place, *taken), _search(plan, "exact", len(proposed), device="gpu")
    how: How = "exact"
    if plan.kind == "approximate":
        attempt = _walk if plan.segment.is_graph else _probe
        for effort in ROUNDS:
            tried = attempt(plan, query, k, min(k, sure or k), effort, kept)
            if tried is None:
                break
            positions, scores, spent, refined = tried
            if _enough(plan, positions, k):
                return Candidates(place, positions, scores), _search(plan, "approximate", refined, spent)
        how = "exhausted"
    positions, scores = _scan(plan, query, k, kept)
    return Candidates(place, positions, scores), _search(plan, how, plan.passing)


def _ask(gpu: GpuSearch, plan: VectorPlan, query: Floats, k: int) -> Asked | None:
    """Ask the GPU where more passes than is scanned here in no time."""
    if plan.passing * plan.segment.vectors.shape[1] <= EXACT_FLOATS:
        return None
    return gpu.ask(plan, query, k * plan.segment.chunks_per_row)


def _taken(plan: VectorPlan, query: Floats, k: int, proposed: Positions) -> tuple[Positions, Floats] | None:
    """Score what a GPU proposed from the stored vectors and return the best rows' chunks.

    None where it is too few rows, or where chunks that were left out may score as much as the last of them.
    """
    scores = score_picked(query, plan.segment.vectors, proposed)
    best = _best(plan, proposed, scores, k)
    all_of_it = len(proposed) == plan.passing
    if not all_of_it and (not _enough(plan, proposed[best], k) or scores[best].min() <= scores.min()):
        return None
    return proposed[best], scores[best]


def _search(
    plan: VectorPlan, how: How, refined: int, spent: int | None = None, device: DeviceKind = "cpu"
) -> SegmentSearch:
    segment = plan.segment
    return SegmentSearch(
        segment=segment.number,
        how=how,
        chunks=segment.n,
        passing=plan.passing,
        refined=refined,
        lists=None if segment.is_graph else spent,
        breadth=spent if segment.is_graph else None,
        device=device,
    )


def _scan(plan: VectorPlan, query: Floats, k: int, kept: ByteLru[PlanToken, Gathered]) -> tuple[Positions, Floats]:
    """Score every passing chunk and return the best rows' chunks."""
    segment = plan.segment
    if plan.mostly:
        scores = score_block(query, segment.vectors)
        if plan.passing < segment.n:
            scores[plan.excluded] = -np.inf
        best = _best(plan, None, scores, k)
        best = best[scores[best] > -np.inf]
        return best, scores[best]
    scores = _score_passing(plan, query, kept)
    best = _best(plan, plan.positions, scores, k)
    return plan.positions[best], scores[best]


def _score_passing(plan: VectorPlan, query: Floats, kept: ByteLru[PlanToken, Gathered]) -> Floats:
    """Score the passing chunks; from a plan's second use on, out of a block of their vectors in one piece."""
    if plan.kind != "exact":
        return score_picked(query, plan.segment.vectors, plan.positions)
    block = kept.get(plan.token)
    if block is None:
        plan.uses += 1
        if plan.uses < 2:
            return score_picked(query, plan.segment.vectors, plan.positions)
        block = plan.segment.vectors[plan.positions].astype(np.float32, copy=False)
        kept.put(plan.token, block, size_bytes=block.nbytes)
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


def _probe(
    plan: VectorPlan, query: Floats, k: int, sure: int, effort: int, kept: ByteLru[PlanToken, Gathered]
) -> tuple[Positions, Floats, int, int] | None:
    """Return the best rows' chunks by the index, how many lists were probed and how many candidates refined.

    None when that would cost as much as scoring all that passes.
    """
    wanted, surely = _chunks(plan, k, sure, effort)
    broader, more = plan.deeper(surely / effort)
    near: Positions | None = None
    lists, k_factor = min(plan.nlist, math.ceil(plan.nprobe * effort * broader)), plan.k_factor
    if plan.list_counts is not None:
        near, near_scores, k_factor = _nearest_lists(plan, plan.list_counts, query, wanted, effort * broader)
        lists = len(near)
    n = surely * k_factor * more
    if wanted > surely:
        n = max(n, wanted * min(k_factor * plan.deeper(wanted / effort)[1], TAIL_FACTOR))
    n = math.ceil(n)
    if n * WORTH_PROBING > plan.passing:
        return None
    query_at, buffers = pointer(query), _candidates.buffers(n)
    if near is None:
        plan.index.search_c(1, query_at, n, buffers.distances_at, buffers.labels_at, plan.parameters(lists))
    else:
        own = plan.narrowed_index(kept)
        index, parameters = (plan.index, plan.parameters(lists)) if own is None else (own, all_of(lists))
        index.search_preassigned_c(
            1,
            query_at,
            n,
            pointer(near),
            pointer(near_scores),
            buffers.distances_at,
            buffers.labels_at,
            False,
            parameters,
        )
    return *_refined(plan, query, query_at, k, buffers), lists, n


def _walk(
    plan: VectorPlan, query: Floats, k: int, sure: int, effort: int, kept: ByteLru[PlanToken, Gathered]
) -> tuple[Positions, Floats, int, int] | None:
    """Return the best rows' chunks by the graph, how many candidates it kept on the way and how many were refined.

    None when that would cost as much as scoring all that passes, or when the filter excludes the query's neighbourhood:
    a graph leads there, and not to what is left.
    """
    wanted, surely = _chunks(plan, k, sure, effort)
    broader, more = plan.deeper(surely)
    n = math.ceil(max(surely * plan.k_factor * more, wanted))
    # What is kept on the way need not pass, so that a filter takes its share of it.
    breadth = math.ceil(max(n / plan.share, plan.ef * broader * plan.widening))
    if breadth * WORTH_PROBING > plan.passing:
        return None
    entries = plan.segment.entries
    scores = score_block(query, entries.vectors)
    nearest = int(scores.argmax())
    query_at = pointer(query)

    def step(size: int, parameters: object) -> Buffers:
        buffers = _candidates.buffers(size)
        plan.index.search_level_0(
            1,
            query_at,
            size,
            pointer(entries.positions[nearest : nearest + 1]),
            pointer(scores[nearest : nearest + 1]),
            buffers.distances_at,
            buffers.labels_at,
            1,
            1,
            parameters,
        )
        return buffers

    if plan.share < PLAIN_SHARE:
        around = step(AROUND, within(AROUND)).labels
        if bitmap.contains(plan.bits, around[around >= 0]).mean() < THIN * plan.share:
            return None
    return *_refined(plan, query, query_at, k, step(n, plan.parameters(breadth))), breadth, n


def _chunks(plan: VectorPlan, k: int, sure: int, effort: int) -> tuple[int, int]:
    """Return how many chunks are wanted, and how many of them surely: no fewer than effort was measured for."""
    each = effort * plan.segment.chunks_per_row
    return k * each, max(sure * each, MEASURED_K)


def _nearest_lists(
    plan: VectorPlan, holds: npt.NDArray[np.int64], query: Floats, wanted: float, effort: float
) -> tuple[Positions, Floats, float]:
    """Choose the lists to probe: the nearest that have passing chunks, until they hold enough of them.

    ``holds`` says how many each list has. Return the lists with their scores, and the k factor for what they hold.
    """
    scores = score_block(query, plan.segment.centroids)
    near = scores.argsort()[::-1]
    counts = holds[near]
    boost, k_factor = plan.where(int(counts[: plan.nprobe].sum()) / (plan.nprobe * plan.chunks_per_list))
    if not counts.all():
        holding = counts > 0
        near, counts = near[holding], counts[holding]
    least = math.ceil(plan.nprobe * effort * boost)
    target = max(plan.target * effort * boost, 2.0 * wanted)
    lists = min(len(near), max(least, int(counts.cumsum().searchsorted(target)) + 1))
    near = near[:lists].copy()
    return near, scores[near], k_factor


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
