"""The stages after fusion on one list of candidates, as a request asks for them; see :mod:`retrieval.refine.stages`.

Whatever a stage looks at is what the caller sees: passages without hidden text, vectors of chunks without it, and no
masked column.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import numpy.typing as npt

from indexer.embedding import normalised
from indexer.spec import CollectionSpec
from retrieval import bitmap
from retrieval.chunks import Chunks, Key, keys_at
from retrieval.deadline import check_deadline
from retrieval.errors import RequestError
from retrieval.explanation import Collapsed, Decayed, Diversified, Explanation, Reranked, StagePart
from retrieval.policies import Sight
from retrieval.ranking import Ranked, ties_by_key
from retrieval.refine.collapse import CollapseColumn
from retrieval.refine.cross_encoder import load_reranker
from retrieval.refine.decay import factors, weighed
from retrieval.refine.decay_column import DecayColumn
from retrieval.refine.diversity import pick
from retrieval.refine.rerank import Reranker, raw_scores, sigmoid
from retrieval.refine.scaling import relative
from retrieval.refine.stages import Decay, StageName
from retrieval.request import SearchRequest
from retrieval.rows import passage
from retrieval.stopwatch import Stopwatch
from retrieval.version import OpenVersion

Indices = npt.NDArray[np.int64]
Scores = npt.NDArray[np.float64]
Parts = dict[int, dict[StageName, StagePart]]
"""By a candidate's place in the list that the first stage got: what each stage made of it."""


@dataclass(frozen=True, slots=True)
class Pool:
    """Candidates, best first, ``(n,)`` each: segment ``places``, ``positions``, ``scores``, and where each ``came``."""

    places: Indices
    positions: Indices
    scores: Scores
    came: Indices

    @classmethod
    def of(cls, ranked: Ranked) -> Pool:
        """Return the candidates of a ranked list."""
        return cls(
            np.array(ranked.places, dtype=np.int64),
            np.array(ranked.positions, dtype=np.int64),
            np.array(ranked.scores, dtype=np.float64),
            np.arange(len(ranked)),
        )

    def __len__(self) -> int:
        return len(self.came)

    def take(self, order: Indices, scores: Scores | None = None) -> Pool:
        """Return the candidates of ``order`` (indices), with other ``scores``, in the old order, if they are given."""
        scores = self.scores if scores is None else scores
        return Pool(self.places[order], self.positions[order], scores[order], self.came[order])

    def ranked(self) -> Ranked:
        """Return the candidates as a ranked list."""
        return Ranked(self.places.tolist(), self.positions.tolist(), self.scores.tolist())


@dataclass(frozen=True, kw_only=True)
class Refiner:
    """The stages of one request, checked; made by :func:`refiner_of`."""

    spec: CollectionSpec
    dim: int | None
    request: SearchRequest
    sight: Sight
    reranker: Reranker | None
    column: DecayColumn | None
    collapsed_by: CollapseColumn | None
    parts: Parts = field(default_factory=dict)

    def refine(
        self, chunks: Sequence[Chunks], ranked: Ranked, explanations: Sequence[Explanation] | None, watch: Stopwatch
    ) -> tuple[Ranked, list[Explanation] | None]:
        """Return the first ``k`` of ``ranked`` after every stage, and with ``explanations`` what each stage did.

        The list's places are among ``chunks``.

        Raises DeadlineExceeded and RerankError.
        """
        pool = Pool.of(ranked)
        for name, depth in self.request.stages.depths(self.request.k).items():
            check_deadline(self.request.deadline, f"before the stage {name}", "give it more time")
            pool = self._run(name, chunks, pool.take(np.arange(min(depth, len(pool)))))
            watch.lap(name)
        pool = pool.take(np.arange(min(self.request.k, len(pool))))
        if explanations is None:
            return pool.ranked(), None
        explained = [replace(explanations[at], stages=self.parts[at]) for at in pool.came.tolist()]
        return pool.ranked(), explained

    def _run(self, name: StageName, chunks: Sequence[Chunks], pool: Pool) -> Pool:
        if not len(pool):
            return pool
        match name:
            case "rerank":
                return self._rerank(chunks, pool)
            case "decay":
                return self._decay(chunks, pool)
            case "collapse":
                return self._collapse(chunks, pool)
            case "diversify":
                return self._diversify(chunks, pool)

    def _rerank(self, chunks: Sequence[Chunks], pool: Pool) -> Pool:
        assert self.reranker is not None
        passages = [
            passage(chunks[place], self.spec, position, self.sight.hidden_text)
            for place, position in zip(pool.places.tolist(), pool.positions.tolist(), strict=True)
        ]
        raw = raw_scores(self.reranker, self.request.text or "", passages, deadline=self.request.deadline)
        scores = sigmoid(raw)
        if self.request.explain:
            told = _lines(pool.scores, raw, scores)
            parts = [
                Reranked(rank_before=rank, score_before=before, raw_score=raw_score, score=score)
                for rank, (before, raw_score, score) in enumerate(told, start=1)
            ]
            self._note("rerank", pool, parts)
        return self._reordered(chunks, pool, scores)

    def _decay(self, chunks: Sequence[Chunks], pool: Pool) -> Pool:
        decay = self.request.stages.decay
        assert decay is not None
        distance, factor = self._factors(chunks, pool, decay)
        relevance = relative(pool.scores)
        scores = weighed(relevance, factor, decay.weight)
        if self.request.explain:
            told = _lines(pool.scores, relevance, distance, factor, scores)
            parts = [
                Decayed(
                    rank_before=rank,
                    score_before=before,
                    relevance=relevant,
                    distance=far if math.isfinite(far) else None,
                    factor=factor_,
                    weight=decay.weight,
                    score=score,
                )
                for rank, (before, relevant, far, factor_, score) in enumerate(told, start=1)
            ]
            self._note("decay", pool, parts)
        return self._reordered(chunks, pool, scores)

    def _factors(self, chunks: Sequence[Chunks], pool: Pool, decay: Decay) -> tuple[Scores, Scores]:
        """Return how far each candidate is from the origin (NaN: unknown), and its factor."""
        column = self.column
        if column is None:  # no segment has it yet: NULL in every row
            unknown = np.full(len(pool), np.nan)
            return unknown, factors(unknown, decay.kind, scale=1.0, midpoint=decay.midpoint)
        distance = column.distances(chunks, pool.places, pool.positions)
        return distance, factors(distance, decay.kind, scale=column.scale, midpoint=decay.midpoint)

    def _collapse(self, chunks: Sequence[Chunks], pool: Pool) -> Pool:
        collapse = self.request.stages.collapse
        assert collapse is not None
        if self.collapsed_by is None:  # no segment has the column yet: NULL in every row
            turns = np.zeros(len(pool), dtype=np.int64)
        else:
            turns = self.collapsed_by.turns(chunks, pool.places, pool.positions)
        kept = np.flatnonzero(turns <= collapse.most)
        chosen = pool.take(kept)
        if self.request.explain:
            told = _lines(kept + 1, chosen.scores, turns[kept])
            parts = [
                Collapsed(rank_before=rank, score_before=before, turn=turn, most=collapse.most)
                for rank, before, turn in told
            ]
            self._note("collapse", chosen, parts)
        return chosen

    def _diversify(self, chunks: Sequence[Chunks], pool: Pool) -> Pool:
        asked = self.request.stages.diversify
        assert asked is not None
        relevance = relative(pool.scores)
        picked = pick(relevance, self._vectors(chunks, pool), self.request.k, diversity=asked.diversity)
        chosen = pool.take(picked.order)
        if self.request.explain:
            told = _lines(picked.order + 1, chosen.scores, relevance[picked.order], picked.similarity, picked.mmr)
            parts = [
                Diversified(
                    rank_before=rank,
                    score_before=before,
                    relevance=relevant,
                    similarity=similarity,
                    diversity=asked.diversity,
                    penalty=asked.diversity * similarity,
                    mmr=mmr,
                )
                for rank, before, relevant, similarity, mmr in told
            ]
            self._note("diversify", chosen, parts)
        return chosen

    def _vectors(self, chunks: Sequence[Chunks], pool: Pool) -> npt.NDArray[np.float32]:
        """Return the chunks' vectors at unit length, ``(n, dim)``; zero where there is none, or none to be seen."""
        vectors = np.zeros((len(pool), self.dim or 1), np.float32)
        for place in np.unique(pool.places).tolist():
            mine = np.flatnonzero(pool.places == place)
            part, positions = chunks[place], pool.positions[mine]
            usable = bitmap.contains(part.comparable(self.sight.hidden_text), positions)
            vectors[mine[usable]] = part.vectors[positions[usable]]
        return normalised(vectors)

    def _reordered(self, chunks: Sequence[Chunks], pool: Pool, scores: Scores) -> Pool:
        """Return the candidates by ``scores``, ties by key."""
        order = (-scores).argsort(kind="stable")
        ordered = scores[order]
        if (ordered[1:] == ordered[:-1]).any():
            order = ties_by_key(order, ordered, len(order), lambda tied: self._keys(chunks, pool, tied))
        return pool.take(order, scores)

    def _keys(self, chunks: Sequence[Chunks], pool: Pool, at: Indices) -> list[Key]:
        return keys_at(chunks, self.spec, pool.places[at].tolist(), pool.positions[at].tolist())

    def _note(self, name: StageName, pool: Pool, parts: Sequence[StagePart]) -> None:
        """Keep what a stage made of each candidate of ``pool``."""
        for came, part in zip(pool.came.tolist(), parts, strict=True):
            self.parts.setdefault(came, {})[name] = part


def _lines(*columns: npt.NDArray[Any]) -> Iterator[tuple[Any, ...]]:
    """Yield the arrays' items side by side, as Python's numbers."""
    return zip(*(column.tolist() for column in columns), strict=True)


def refiner_of(version: OpenVersion, request: SearchRequest, sight: Sight, reranker: Reranker | None) -> Refiner:
    """Return what runs the request's stages; without a ``reranker`` the process's own is taken, loaded if need be.

    Raises RequestError for stages that the collection or the caller cannot have, and RerankError.
    """
    column, collapsed_by = None, None
    decay: Decay | None = request.stages.decay
    if decay is not None:
        column = DecayColumn.of(decay, version.spec, version.schema, sight, datetime.now(UTC))
    if request.stages.collapse is not None:
        collapsed_by = CollapseColumn.of(request.stages.collapse, version.spec, version.schema, sight)
    if request.stages.rerank is not None:
        if version.spec.rerank is None:
            raise RequestError(
                "this collection has no reranking model",
                field="rerank",
                hint="leave it out, or name one in the collection's spec: rerank: {model: ...}",
            )
        reranker = reranker or load_reranker(version.spec.rerank)
    return Refiner(
        spec=version.spec,
        dim=version.dim,
        request=request,
        sight=sight,
        reranker=reranker,
        column=column,
        collapsed_by=collapsed_by,
    )
