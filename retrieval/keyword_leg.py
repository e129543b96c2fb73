"""The keyword leg: BM25 over the composed index of a snapshot's segments.

Filters and tombstones never lose a hit. Where few chunks pass, the query is restricted to them; otherwise hits are
fetched deeper and deeper, best first, until enough of them pass or there are no more. Scores are the same either way,
because the statistics are always those of the whole collection.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import tantivy

from indexer.format.records import POSITION_BITS
from retrieval import bitmap
from retrieval.deadline import check_deadline
from retrieval.keyword_query import KeywordQueries, TermStatistics
from retrieval.passing import RESTRICTED_MAX, Passing
from retrieval.ranking import Candidates, rows_of
from retrieval.segments import OpenSegment

Way = Literal["deepened", "restricted", "nothing"]

DEEPENING_SAVES = 8
"""Restricting costs about 4 us a passing chunk, deepening 0.5 us a hit (measured on 100,000 documents)."""

TIES_MAX = 8192
"""How deep the leg goes only to see all hits that tie with the last one; beyond, those of the lowest chunk win."""

GROWTH = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class KeywordSearch:
    """How the keyword leg went: ``restricted`` to the passing chunks, or ``deepened`` until ``fetched`` hits."""

    way: Way
    fetched: int
    passing: int

    @classmethod
    def of_all(cls, searches: Sequence[KeywordSearch | None]) -> KeywordSearch | None:
        """Return how several went together: as the one that fetched the most; None where there were none."""
        known = [search for search in searches if search is not None]
        if not known:
            return None
        return cls(
            way=max(known, key=lambda search: search.fetched).way,
            fetched=sum(search.fetched for search in known),
            passing=sum(search.passing for search in known),
        )


@dataclass(frozen=True, slots=True)
class _Hits:
    """Hits best first: segment ``places``, ``positions``, ``scores`` ``(n,)``; those that pass, of ``fetched``."""

    places: npt.NDArray[np.int64]
    positions: npt.NDArray[np.int64]
    scores: npt.NDArray[np.float32]
    fetched: int
    last_score: float


class KeywordLeg:
    """Searches one snapshot's composed index; safe to share between threads."""

    def __init__(self, index: tantivy.Index, queries: KeywordQueries, segments: Sequence[OpenSegment]) -> None:
        self._searcher = index.searcher()
        self._queries = queries
        self._segments = segments
        numbers = np.array([segment.number for segment in segments], dtype=np.uint64)
        self._by_number = np.argsort(numbers)
        self._numbers = numbers[self._by_number]
        self._n_documents = self._searcher.num_docs
        self._one_chunk_rows = all(segment.one_chunk_rows for segment in segments)

    def search(
        self,
        text: str,
        passing: Passing,
        k: int,
        *,
        hidden: frozenset[str] = frozenset(),
        statistics: TermStatistics | None = None,
        deadline: float | None = None,
    ) -> tuple[list[Candidates], KeywordSearch]:
        """Return candidates among which the best ``k`` distinct rows are, and how they were found.

        Text of the ``hidden`` fields is not looked into. ``statistics``, of the same text, take the place of the
        index's own (:meth:`statistics`). Raises :class:`retrieval.errors.DeadlineExceeded`.
        """
        query = self._query(text, hidden, statistics) if passing.count else None
        if query is None:
            return [], KeywordSearch(way="nothing", fetched=0, passing=passing.count)
        way: Way = "restricted" if self._should_restrict(passing, k) else "deepened"
        if way == "restricted":
            query = self._queries.among_rows(query, passing.keyword_rows(self._queries))
        limit = self._first_limit(passing, k, way)
        while True:
            check_deadline(deadline, "during the keyword search", "give it more time")
            hits = self._fetch(query, passing, limit)
            if hits.fetched < limit or self._complete(hits, k, limit):
                break
            if way == "deepened" and passing.count <= RESTRICTED_MAX and limit * GROWTH > 4 * passing.count:
                query = self._queries.among_rows(query, passing.keyword_rows(self._queries))
                way, limit = "restricted", max(2 * k, 64)
            else:
                limit *= GROWTH
        return self._candidates(hits), KeywordSearch(way=way, fetched=hits.fetched, passing=passing.count)

    def statistics(self, text: str, hidden: frozenset[str] = frozenset()) -> TermStatistics:
        """Return what of the index the scores of ``text`` depend on, text of the ``hidden`` fields left aside."""
        return self._queries.statistics(self._searcher, text, hidden)

    def _query(self, text: str, hidden: frozenset[str], statistics: TermStatistics | None) -> tantivy.Query | None:
        if statistics is None:
            return self._queries.of_text(text, hidden)
        return self._queries.of_text(text, hidden, weights=statistics.weights_over(self.statistics(text, hidden)))

    def _should_restrict(self, passing: Passing, k: int) -> bool:
        if not passing.filtered or passing.count > RESTRICTED_MAX:
            return False
        return passing.count**2 * DEEPENING_SAVES < k * self._n_documents

    def _first_limit(self, passing: Passing, k: int, way: Way) -> int:
        """Fetch somewhat more than needed, for the hits that do not pass, a row's further chunks, and ties."""
        share = 1.0 if way == "restricted" else passing.count / max(1, self._n_documents)
        return min(max(16, int(1.3 * k / share) + k), max(1, self._n_documents))

    def _complete(self, hits: _Hits, k: int, limit: int) -> bool:
        """Say whether the best ``k`` rows are among ``hits``, with all that tie with the last of them."""
        if len(hits.scores) < k:
            return False
        if self._one_chunk_rows:
            kth = float(hits.scores[k - 1])
        else:
            rows = rows_of(hits.places, hits.positions, self._segments)
            _, first = np.unique(rows, return_index=True)
            if len(first) < k:
                return False
            kth = float(hits.scores[np.sort(first)[k - 1]])
        return hits.last_score < kth or limit >= TIES_MAX

    def _fetch(self, query: tantivy.Query, passing: Passing, limit: int) -> _Hits:
        found = self._searcher.search(query, limit, count=False).hits
        rows = np.array(self._searcher.fast_field_values("row", [address for _, address in found]), dtype=np.uint64)
        scores = _steady(np.array([score for score, _ in found], dtype=np.float32))
        places = self._by_number[np.searchsorted(self._numbers, rows >> np.uint64(POSITION_BITS))]
        positions = (rows & np.uint64((1 << POSITION_BITS) - 1)).astype(np.int64)
        keep = self._passes(passing, places, positions)
        last = float(scores[-1]) if len(scores) else 0.0
        return _Hits(places[keep], positions[keep], scores[keep], len(found), last)

    def _passes(
        self, passing: Passing, places: npt.NDArray[np.int64], positions: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.bool_]:
        if len(self._segments) == 1:
            return bitmap.contains(passing.selections[0].bits, positions)
        keep = np.zeros(len(places), dtype=np.bool_)
        for place in np.unique(places).tolist():
            mine = places == place
            keep[mine] = bitmap.contains(passing.selections[place].bits, positions[mine])
        return keep

    def _candidates(self, hits: _Hits) -> list[Candidates]:
        if len(self._segments) == 1:
            return [Candidates(0, hits.positions, hits.scores)]
        parts = []
        for place in np.unique(hits.places).tolist():
            mine = hits.places == place
            parts.append(Candidates(place, hits.positions[mine], hits.scores[mine]))
        return parts


def _steady(scores: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Round to 20 bits of mantissa: tantivy adds a document's terms in varying order, and ties must stay ties.

    Rounding keeps the order of hits, so best first stays best first.
    """
    rounded = (scores.view(np.uint32) + np.uint32(8)) & np.uint32(0xFFFFFFF0)
    return rounded.view(np.float32)
