"""The gate: an index is kept only if it finds enough of what an exact scan finds, on queries it was not tuned with.

A neighbour counts if its exact score is among the best ten's, whatever its id: where texts repeat, many chunks are
equally near, and any of them is right.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from indexer.ann.questions import Questions
from indexer.format.vectors import Vectors

if TYPE_CHECKING:
    from indexer.ann.effort import Effort, Searcher

_RESCORED = 25_000_000
"""Numbers of candidates' vectors in memory at a time."""

_SAME = 1e-5
"""Scores this near, as a part of the two lengths' product, are the same: two exact scans differ by rounding."""


def recall_of(searcher: Searcher, effort: Effort, vectors: Vectors, asked: Questions) -> float:
    """Return the mean recall@10 at ``effort``, its candidates rescored exactly as a search does."""
    last = asked.nearest.positions[:, -1]
    tolerance = _SAME * np.linalg.norm(vectors[last].astype(np.float32), axis=1) * np.linalg.norm(asked.vectors, axis=1)
    least, wanted = asked.nearest.scores[:, -1] - tolerance, asked.nearest.scores.shape[1]
    found, width = [], searcher.width(effort.breadth, effort.k_factor, asked.k)
    block = max(1, _RESCORED // (width * vectors.shape[1]))
    for start in range(0, len(asked.vectors), block):
        some = slice(start, start + block)
        queries = asked.vectors[some]
        ids = searcher.candidates(queries, effort.breadth, width, own=asked.own[some])
        scores = np.einsum("qd,qcd->qc", queries, np.asarray(vectors[ids], dtype=np.float32))
        right = (scores >= least[some, None]) & (ids >= 0)
        right &= ids != asked.own[some, None]
        found.append(np.minimum(right.sum(axis=1), wanted) / wanted)
    return float(np.concatenate(found).mean())
