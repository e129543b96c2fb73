"""How far a search must go: measured on the index itself when it is built, and recorded with it.

``breadth`` is the number of lists probed (IVF) or the candidates kept on the way (``efSearch`` of a graph);
``k_factor`` candidates are rescored exactly for each hit.
"""

from __future__ import annotations

import bisect
import functools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from indexer.ann.questions import Exam, K, Questions
from indexer.format.vectors import Entries, Positions, Vectors

if TYPE_CHECKING:
    import faiss

_NPROBES = (2, 4, 6, 8, 12, 16, 20, 24, 32, 40, 48, 56, 64, 80, 96, 128, 160, 192, 256, 384)
_EFS = (16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768)
_IVF_K_FACTORS = (4, 6, 8, 10, 12, 16, 24, 32, 64)
_GRAPH_K_FACTORS = (1.5, 2, 3, 4, 8)
_DEEP_K_FACTOR = 24
"""No more candidates are rescored for each of many hits."""

_CUT_SHARE, _CUT_MOST = 1_000, 64
"""A node's own links are cut while it is asked for: of one chunk in so many at a time, and of so many at most, because
a graph that has lost more of them finds less."""

_LIST_US, _CODE_US, _RESCORE_US, _STEP_US = 0.17, 0.0031, 0.28, 1.2
"""What a probed list, one of its codes, a rescored candidate and a step in a graph cost (one thread, 384 dimensions):
only the ratios matter, and only to choose among efforts of equal recall."""

_NEARER = 0.75
"""What calibration aims at: so much of the spec's shortfall from a recall of 1."""

Bits = npt.NDArray[np.uint8]


class Effort(NamedTuple):
    """What a search spends, in ``cost`` of arbitrary units, and the recall that it reached."""

    cost: float
    breadth: int
    k_factor: float
    recall: float


class Searcher:
    """Asks an index for candidates as a search does, many queries at a time."""

    def __init__(self, index: faiss.Index, vectors: Vectors, present: Positions) -> None:
        import faiss

        self._index, self._n = index, len(vectors)
        self._cut = max(1, min(_CUT_MOST, len(present) // _CUT_SHARE))
        self._present = self.bits(present)
        self._ivf = index if isinstance(index, faiss.IndexIVF) else None
        self._entries = None if self._ivf else Entries.of(vectors)

    @property
    def breadths(self) -> tuple[int, ...]:
        """The breadths worth trying, ascending."""
        if self._ivf is None:
            return _EFS
        lists = self._ivf.nlist
        return (*(nprobe for nprobe in _NPROBES if nprobe < lists), min(lists, 2 * _NPROBES[-1]))

    def k_factors(self, k: int) -> tuple[float, ...]:
        """Return the candidates for each of ``k`` hits worth trying, ascending."""
        factors = _IVF_K_FACTORS if self._ivf else _GRAPH_K_FACTORS
        return factors if k == K else tuple(factor for factor in factors if factor <= _DEEP_K_FACTOR)

    def cost(self, breadth: int, k_factor: float, k: int) -> float:
        """Return what an effort for ``k`` hits costs one query, in about a microsecond."""
        each = _STEP_US
        if self._ivf:
            each = _LIST_US + _CODE_US * self._ivf.ntotal / self._ivf.nlist
        return breadth * each + k * k_factor * _RESCORE_US

    def width(self, breadth: int, k_factor: float, k: int) -> int:
        """Return the candidates to ask for: those to rescore and one more, for the query's own chunk."""
        most = min(int(k * k_factor) + 1, self._index.ntotal)
        return most if self._ivf else min(most, breadth)

    def candidates(
        self,
        queries: npt.NDArray[np.float32],
        breadth: int,
        width: int,
        bits: Bits | None = None,
        *,
        own: Positions,
    ) -> Positions:
        """Return up to ``width`` positions of embedded chunks, or of ``bits``, for each query; -1 for none left.

        ``own`` ``(n,)`` is the chunk that each query is of, or -1. A graph neither begins nor leads on there: its links
        are the query's neighbours, and no query from outside is led by them. With ``efSearch`` 16 and 100,000 sentences
        a chunk's own links made a recall of 0.97; queries from outside had 0.84, and so had these with the links cut.
        """
        import faiss

        bits = self._present if bits is None else bits
        selector = None if bits is None else faiss.IDSelectorBitmap(len(bits), faiss.swig_ptr(bits))
        if self._ivf:
            effort = faiss.SearchParametersIVF()
            effort.nprobe, effort.sel = breadth, selector
            found: Positions = self._ivf.search(queries, width, params=effort)[1]
            return found
        assert self._entries is not None
        walked = np.empty((len(queries), width), dtype=np.int64)
        turns = -(-len(queries) // self._cut)
        for turn in range(turns):
            some = slice(turn, None, turns)  # far from each other: neighbouring chunks may have the same text
            asked = np.ascontiguousarray(queries[some])
            with _links_cut(self._index, own[some]):
                walked[some] = self._entries.walk(self._index, asked, width, breadth, selector, not_from=own[some])
        return walked

    def bits(self, passing: Positions) -> Bits | None:
        """Return the bitmap of positions; None for all that the index has."""
        if len(passing) == self._index.ntotal:
            return None
        mask = np.zeros(self._n, dtype=bool)
        mask[passing] = True
        return np.packbits(mask, bitorder="little")


class Efforts(NamedTuple):
    """The effort for ten hits, for ten of a random tenth of the chunks, and for a hundred.

    The latter two are None where there are too few chunks to tell.
    """

    plain: Effort
    tenth: Effort | None
    hundred: Effort | None


def calibrate(searcher: Searcher, exam: Exam, min_recall: float) -> Efforts:
    """Find the cheapest efforts whose recall reaches ``min_recall`` on the queries for tuning.

    Queries are less like the vectors that the index was trained on than those are themselves, and the cheapest of many
    efforts is one that had luck: so the aim is a quarter nearer to 1, and the mean must reach it less its standard
    error. The best effort tried stands if none is enough. No fewer lists are probed for a hundred hits than for ten.
    """
    aim = 1 - (1 - min_recall) * _NEARER

    def grown(asked: Questions, least: int = 0) -> Effort | None:
        enough = len(asked.passing) > asked.k * max(searcher.k_factors(asked.k))
        return _cheapest(searcher, asked, aim, least) if enough else None

    plain = _cheapest(searcher, exam.tuning, aim)
    return Efforts(plain, grown(exam.filtered), grown(exam.deep, plain.breadth))


def _cheapest(searcher: Searcher, asked: Questions, aim: float, at_least: int = 0) -> Effort:
    """Return the cheapest effort of a breadth ``at_least`` that reaches the recall ``aim``, or the best tried."""
    k, k_factors, bits = asked.k, searcher.k_factors(asked.k), searcher.bits(asked.passing)
    found = functools.cache(lambda breadth: _found(searcher, asked, breadth, bits))
    breadths = [breadth for breadth in searcher.breadths if breadth >= at_least]
    # With the most candidates rescored, recall grows with the breadth.
    least = bisect.bisect_left(breadths, True, key=lambda breadth: _reaches(found(breadth)[:, -1], aim))
    best, tried = None, Effort(0.0, 0, 0, -1.0)
    for breadth in breadths[min(least, len(breadths) - 1) :]:
        if best and searcher.cost(breadth, k_factors[0], k) >= best.cost:
            break
        for k_factor in k_factors:
            recalls = found(breadth)[:, searcher.width(breadth, k_factor, k) - 1]
            effort = Effort(searcher.cost(breadth, k_factor, k), breadth, k_factor, float(recalls.mean()))
            tried = max(tried, effort, key=lambda effort: effort.recall)
            if _reaches(recalls, aim):
                best = min(best, effort) if best else effort
                break
    return best or tried


def _reaches(recalls: npt.NDArray[np.float64], aim: float) -> bool:
    return bool(recalls.mean() - recalls.std() / len(recalls) ** 0.5 >= aim)


def _found(searcher: Searcher, asked: Questions, breadth: int, bits: Bits | None) -> npt.NDArray[np.float64]:
    """Return each query's recall by the number of candidates that are rescored (and one more, for its own chunk).

    Rescoring is exact, so that a true neighbour among the candidates is among the best of them.
    """
    truth = asked.nearest.positions
    width = searcher.width(breadth, max(searcher.k_factors(asked.k)), asked.k)
    candidates = searcher.candidates(asked.vectors, breadth, width, bits, own=asked.own)
    right = np.zeros(candidates.shape, dtype=bool)
    for nearest in truth.T:  # all at once takes five times as long: the comparisons do not fit in a cache
        right |= candidates == nearest[:, None]
    recalls: npt.NDArray[np.float64] = right.cumsum(axis=1) / truth.shape[1]
    return recalls


@contextmanager
def _links_cut(graph: Any, nodes: Positions) -> Iterator[None]:
    """Let the lowest level of ``graph`` lead on from none of ``nodes`` (-1: none)."""
    import faiss as typed

    faiss: Any = typed  # its stubs lack the wrappers
    links = faiss.rev_swig_ptr(graph.hnsw.neighbors.data(), graph.hnsw.neighbors.size())
    offsets = faiss.rev_swig_ptr(graph.hnsw.offsets.data(), graph.hnsw.offsets.size())
    cut = offsets[nodes[nodes >= 0]].astype(np.int64)[:, None] + np.arange(graph.hnsw.nb_neighbors(0))
    kept = links[cut]
    links[cut] = -1
    try:
        yield
    finally:
        links[cut] = kept
