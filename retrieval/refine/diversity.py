"""Diversity: picking rows one by one that are relevant and unlike those picked before, as a pure function.

    mmr(d) = (1 - diversity) * r(d) - diversity * max over the rows picked before of  cos(d, picked)

Maximal marginal relevance: Carbonell and Goldstein, "The use of MMR, diversity-based reranking for reordering documents
and producing summaries", SIGIR 1998, whose lambda is 1 - diversity; OpenSearch and Qdrant call it ``diversity`` too.
r is the relevance on the scale of :mod:`retrieval.refine.scaling`.

Edge cases: the first pick is the most relevant row, whatever the diversity, since nothing is picked before it. A row
without a vector is like none and none is like it: its similarity is 0 (Qdrant leaves such rows out, which would lose
hits). Opposite vectors count as below 0. Of equal values the earlier candidate wins: the more relevant one, and of
those the one with the smaller key.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from retrieval.scores import score_block


class Picked(NamedTuple):
    """What was picked, in order: indices ``(m,)``, each one's ``similarity`` to those before it and its ``mmr``."""

    order: npt.NDArray[np.int64]
    similarity: npt.NDArray[np.float64]
    mmr: npt.NDArray[np.float64]


def pick(relevance: npt.NDArray[np.float64], vectors: npt.NDArray[np.float32], k: int, *, diversity: float) -> Picked:
    """Pick the first ``k`` candidates by maximal marginal relevance, all of them if there are fewer.

    ``relevance`` ``(n,)`` is from 0 to 1, best first; ``vectors`` ``(n, dim)`` are contiguous and of unit length, or
    zero for a row without one. Each pick costs one product of the vectors with the one that was picked.
    """
    n = min(k, len(relevance))
    order, similarity, mmr = np.empty(n, dtype=np.int64), np.zeros(n), np.empty(n)
    weighed = (1.0 - diversity) * relevance
    nearest = np.zeros(len(relevance), dtype=np.float32)
    for place in range(n):
        values = weighed - diversity * nearest.astype(np.float64)
        values[order[:place]] = -np.inf
        best = order[place] = values.argmax()
        similarity[place], mmr[place] = nearest[best], values[best]
        like = score_block(vectors[best], vectors)
        nearest = np.maximum(nearest, like) if place else like
    return Picked(order, similarity, mmr)
