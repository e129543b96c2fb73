"""Scores of any leg on one scale, so that they can be multiplied and weighed against similarities.

    r(d) = (s(d) - floor) / (best - floor),   floor = min(0, the lowest score), best = the highest, over the candidates

Scores that are never negative (BM25, either fusion, a reranker's) are divided by the best one: multiplying them then
ranks as multiplying the scores themselves would, which is what Elasticsearch, OpenSearch and Milvus do. Scores that may
be negative (cosine, inner product) are first lifted until none is, because a factor below 1 would *raise* a negative
score and so turn the order round. Min-max was not taken: it gives the last of two candidates 0, however good it is.

Edge cases: scores that are all equal, whatever their sign, give 1 to each; so does a single candidate.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Scores = npt.NDArray[np.float64]


def relative(scores: Scores) -> Scores:
    """Return ``scores``, ``(n,)`` and finite, on the scale from 0 to 1, 1 being the best; the order stays.

    >>> relative(np.array([8.0, 6.0, 2.0])).tolist(), relative(np.array([0.5, 0.0, -0.5])).tolist()
    ([1.0, 0.75, 0.25], [1.0, 0.5, 0.0])
    """
    floor = scores.min(initial=0.0)
    span = scores.max(initial=floor) - floor
    return (scores - floor) / span if span > 0 else np.ones(len(scores))
