"""The legs of one search over the segments that are open here, each as a ranked list of rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from retrieval.keyword_leg import KeywordSearch
from retrieval.keyword_query import TermStatistics
from retrieval.likeness import LikedRow
from retrieval.passing import Passing
from retrieval.ranking import NOTHING, Candidates, Ranked, rank
from retrieval.request import FUSION_DEPTH, Mode
from retrieval.response import Effort
from retrieval.snapshot import Snapshot
from retrieval.stopwatch import Stopwatch
from retrieval.vector_leg import SegmentSearch, search_vectors

if TYPE_CHECKING:
    from retrieval.scores import Floats

EFFORTS: tuple[Effort, ...] = ("exact", "exhausted", "approximate")
"""From sure to least sure."""

WORTH_HELP = 20_000
"""Among fewer passing chunks words are found sooner than a helper begins."""


@dataclass(eq=False, kw_only=True, slots=True)
class Legs:
    """The legs of one search, over what passes, and how they ran.

    ``pool`` rows are wanted surely, ``liked`` is not among them. ``hidden`` are text fields that are not looked into.
    ``statistics`` are those of words, where they are not this snapshot's alone. ``deadline`` is time.monotonic()'s.
    """

    snapshot: Snapshot
    passing: Passing
    text: str | None
    pool: int
    hidden: frozenset[str]
    deadline: float | None
    watch: Stopwatch
    liked: LikedRow | None = None
    statistics: TermStatistics | None = None
    segments: Sequence[SegmentSearch] = ()
    keyword: KeywordSearch | None = None

    def run(self, mode: Mode, vector: Floats | None) -> dict[str, Ranked]:
        """Return what each leg of ``mode`` finds; without a ``vector`` that of vectors finds nothing."""
        depth = depth_of(mode, self.pool)
        helpers = self.snapshot.helpers
        legs: dict[str, Ranked] = {}
        worth = mode == "hybrid" and vector is not None and self.passing.count > WORTH_HELP
        with helpers.beside(partial(self._keyword_leg, depth), worth=worth) as words:
            if mode in ("hybrid", "vector"):
                legs["vector"] = NOTHING if vector is None else self._vector_leg(vector, depth)
                self.watch.lap("vector")
            if mode in ("hybrid", "keyword"):
                legs["keyword"] = words()
                self.watch.lap("keyword")
        return legs

    def _vector_leg(self, vector: Floats, depth: int) -> Ranked:
        more = int(self.liked is not None)
        found, self.segments = search_vectors(
            self.passing,
            vector,
            depth + more,
            self.snapshot.caches,
            sure=self.pool + more,
            gpu=self.snapshot.gpu,
            helpers=self.snapshot.helpers,
            deadline=self.deadline,
        )
        return self._ranked(found, depth)

    def _keyword_leg(self, depth: int) -> Ranked:
        more = int(self.liked is not None)
        found, self.keyword = self.snapshot.keywords.search(
            self.text or "",
            self.passing,
            depth + more,
            hidden=self.hidden,
            statistics=self.statistics,
            deadline=self.deadline,
        )
        return self._ranked(found, depth)

    def _ranked(self, found: Sequence[Candidates], depth: int) -> Ranked:
        snapshot = self.snapshot
        if self.liked is None:
            return rank(found, snapshot.segments, snapshot.spec, depth)
        return self.liked.left_out(rank(found, snapshot.segments, snapshot.spec, depth + 1), snapshot, depth)


def least_sure(segments: Sequence[SegmentSearch]) -> Effort:
    """Return the least sure way that any segment was searched in by vector."""
    return max((search.how for search in segments), key=EFFORTS.index, default="exact")


def depth_of(mode: Mode, pool: int) -> int:
    """Return how many rows each leg of ``mode`` is to bring where ``pool`` are wanted of them all."""
    return max(pool, FUSION_DEPTH) if mode == "hybrid" else pool
