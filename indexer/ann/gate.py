"""The gate: an index is kept only if it finds enough of what an exact scan finds, on queries it was not tuned with.

A neighbour counts if its exact score is among the best ten's, whatever its id: where texts repeat, many chunks are
equally near, and any of them is right.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from indexer.ann.device import Device
from indexer.ann.nearest import Floats, nearest
from indexer.format.vectors import Positions, Vectors, taken

if TYPE_CHECKING:
    from indexer.ann.effort import Effort, Searcher

K = 10
OWN_QUERIES = 500
"""Of the segment's own vectors, so many are asked for; each is left out of its own answer."""

_QUERY_BLOCK = 100
_SAME = 1e-5
"""Scores this near, as a part of the two lengths' product, are the same: two exact scans differ by rounding."""


@dataclass(frozen=True, kw_only=True)
class Questions:
    """Queries ``(n, dim)``, the position that each is of (-1: of none), and the score that is among its best ten."""

    vectors: Floats
    own: Positions
    enough: Floats
    wanted: int


def questions(vectors: Vectors, present: Positions, queries: Floats | None, device: Device, *, seed: int) -> Questions:
    """Draw queries from the segment, add ``queries`` of people's kind, and find their answers by an exact scan.

    The scan runs on the ``device``.
    """
    own = np.sort(np.random.default_rng(seed).choice(present, min(OWN_QUERIES, len(present)), replace=False))
    asked = taken(vectors, own)
    if queries is not None and len(queries):
        asked = np.concatenate([asked, queries])
        own = np.concatenate([own, np.full(len(queries), -1, dtype=np.int64)])
    wanted = min(K, len(present) - 1)
    scores, positions = nearest(asked, own, vectors, present, wanted, device)
    last = np.asarray(vectors[positions[:, -1]], dtype=np.float32)
    tolerance = _SAME * np.linalg.norm(last, axis=1) * np.linalg.norm(asked, axis=1)
    return Questions(vectors=asked, own=own, enough=scores[:, -1] - tolerance, wanted=wanted)


def recall_of(searcher: Searcher, effort: Effort, vectors: Vectors, asked: Questions) -> float:
    """Return the mean recall@10 at ``effort``, its candidates rescored exactly as a search does."""
    found, width = [], min(int(K * effort.k_factor) + 1, searcher.widest(effort.breadth))
    for start in range(0, len(asked.vectors), _QUERY_BLOCK):
        some = slice(start, start + _QUERY_BLOCK)
        queries, enough = asked.vectors[some], asked.enough[some]
        ids = searcher.candidates(queries, effort.breadth, width)
        scores = np.einsum("qd,qcd->qc", queries, np.asarray(vectors[ids], dtype=np.float32))
        right = (scores >= enough[:, None]) & (ids >= 0)
        right &= ids != asked.own[some, None]
        found.append(np.minimum(right.sum(axis=1), asked.wanted) / asked.wanted)
    return float(np.concatenate(found).mean())
