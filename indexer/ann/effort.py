"""How far a search must go: measured on the index itself when it is built, and recorded with it.

``breadth`` is the number of lists probed (IVF) or the candidates kept on the way (``efSearch`` of a graph);
``k_factor`` candidates are rescored exactly for each hit.
"""

from __future__ import annotations

import bisect
import functools
from typing import TYPE_CHECKING, NamedTuple

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

_LIST_US, _CODE_US, _RESCORE_US, _STEP_US = 0.17, 0.0031, 0.28, 1.2
"""What a probed list, one of its codes, a rescored candidate and a step in a graph cost (one thread, 384 dimensions):
only the ratios matter, and only to choose among efforts of equal recall."""

_NEARER = 0.75
"""What calibration aims at: so much of the spec's shortfall from a recall of 1."""

Bits = npt.NDArray[np.uint8]


class Effort(NamedTuple):
    """What a search spends, in ``cost`` of arbitrary units, and the recall@10 that it reached."""

    cost: float
    breadth: int
    k_factor: float
    recall: float


class Searcher:
    """Asks an index for candidates as a search does, many queries at a time."""

    def __init__(self, index: faiss.Index, vectors: Vectors, present: Positions) -> None:
        import faiss

        self._index, self._n = index, len(vectors)
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

    @property
    def k_factors(self) -> tuple[float, ...]:
        """The candidates for each hit worth trying, ascending."""
        return _IVF_K_FACTORS if self._ivf else _GRAPH_K_FACTORS

    def cost(self, breadth: int, k_factor: float) -> float:
        """Return what an effort costs one query, in about a microsecond."""
        each = _STEP_US
        if self._ivf:
            each = _LIST_US + _CODE_US * self._ivf.ntotal / self._ivf.nlist
        return breadth * each + K * k_factor * _RESCORE_US

    def widest(self, breadth: int) -> int:
        """Return the most candidates that a search of ``breadth`` should be asked for."""
        most = int(K * max(self.k_factors)) + 1
        return min(most, self._index.ntotal) if self._ivf else min(most, self._index.ntotal, breadth)

    def candidates(
        self, queries: npt.NDArray[np.float32], breadth: int, width: int, bits: Bits | None = None
    ) -> Positions:
        """Return up to ``width`` positions of embedded chunks, or of ``bits``, for each query; -1 for none left."""
        import faiss

        bits = self._present if bits is None else bits
        selector = None if bits is None else faiss.IDSelectorBitmap(len(bits), faiss.swig_ptr(bits))
        if self._entries is not None:
            return self._entries.walk(self._index, queries, width, breadth, selector)
        effort = faiss.SearchParametersIVF()
        effort.nprobe, effort.sel = breadth, selector
        found: Positions = self._index.search(queries, width, params=effort)[1]
        return found

    def bits(self, passing: Positions) -> Bits | None:
        """Return the bitmap of positions; None for all that the index has."""
        if len(passing) == self._index.ntotal:
            return None
        mask = np.zeros(self._n, dtype=bool)
        mask[passing] = True
        return np.packbits(mask, bitorder="little")


def calibrate(searcher: Searcher, exam: Exam, min_recall: float) -> tuple[Effort, Effort | None]:
    """Find the cheapest effort whose recall@10 reaches ``min_recall`` on the queries for tuning.

    Queries are less like the vectors that the index was trained on than those are themselves, and the cheapest of many
    efforts is one that had luck: so the aim is a quarter nearer to 1, and the mean must reach it less its standard
    error. The best effort tried stands if none is enough. The second effort is that where a random tenth of the chunks
    passes; None where a tenth is too few to tell.
    """
    aim = 1 - (1 - min_recall) * _NEARER
    enough = len(exam.filtered.passing) > K * max(searcher.k_factors)
    return _cheapest(searcher, exam.tuning, aim), _cheapest(searcher, exam.filtered, aim) if enough else None


def _cheapest(searcher: Searcher, asked: Questions, aim: float) -> Effort:
    """Return the cheapest effort that reaches the recall ``aim``, or the best tried."""
    bits = searcher.bits(asked.passing)
    found = functools.cache(lambda breadth: _found(searcher, asked, breadth, bits))
    breadths = searcher.breadths
    # With the most candidates rescored, recall grows with the breadth.
    least = bisect.bisect_left(breadths, True, key=lambda breadth: _reaches(found(breadth)[:, -1], aim))
    best, tried = None, Effort(0.0, 0, 0, -1.0)
    for breadth in breadths[min(least, len(breadths) - 1) :]:
        if best and searcher.cost(breadth, searcher.k_factors[0]) >= best.cost:
            break
        for k_factor in searcher.k_factors:
            recalls = found(breadth)[:, min(int(K * k_factor), searcher.widest(breadth) - 1)]
            effort = Effort(searcher.cost(breadth, k_factor), breadth, k_factor, float(recalls.mean()))
            tried = max(tried, effort, key=lambda effort: effort.recall)
            if _reaches(recalls, aim):
                best = min(best, effort) if best else effort
                break
    return best or tried


def _reaches(recalls: npt.NDArray[np.float64], aim: float) -> bool:
    return bool(recalls.mean() - recalls.std() / len(recalls) ** 0.5 >= aim)


def _found(searcher: Searcher, asked: Questions, breadth: int, bits: Bits | None) -> npt.NDArray[np.float64]:
    """Return each query's recall by the number of candidates that are rescored (and one more, for its own chunk).

    Rescoring is exact, so that a true neighbour among the candidates is among the best ten of them.
    """
    truth = asked.nearest.positions
    candidates = searcher.candidates(asked.vectors, breadth, searcher.widest(breadth), bits)
    right = (candidates[:, :, None] == truth[:, None, :]).any(axis=2)
    recalls: npt.NDArray[np.float64] = right.cumsum(axis=1) / truth.shape[1]
    return recalls
