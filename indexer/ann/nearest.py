"""The exact answer that an approximate one is measured by: a scan on whatever device builds the index, in blocks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from indexer.ann.device import Device
from indexer.format.vectors import Positions, Vectors, taken

Floats = npt.NDArray[np.float32]

BLOCK = 65_536
"""Vectors that are scanned at a time."""


class Nearest(NamedTuple):
    """Each query's nearest chunks, best first: ``scores`` ``(n, k) float32`` and ``positions`` ``(n, k) int64``."""

    scores: Floats
    positions: Positions

    def part(self, some: slice, k: int) -> Nearest:
        """Return the best ``k`` of the answers to some of the queries."""
        return Nearest(self.scores[some, :k], self.positions[some, :k])


def nearest(queries: Floats, own: Positions, vectors: Vectors, among: Positions, k: int, device: Device) -> Nearest:
    """Return the ``k`` nearest of the chunks ``among`` (ascending) to each of ``queries`` ``(n, dim)``.

    ``own`` ``(n,) int64`` is the chunk that each query is of, which is left out of its answer; -1: of none. ``k`` is
    less than ``len(among)``.
    """
    best = Nearest(np.full((len(queries), 0), -np.inf, dtype=np.float32), np.empty((len(queries), 0), dtype=np.int64))
    flat = device.flat(vectors.shape[1], half=False)
    for start in range(0, len(among), BLOCK):
        block = among[start : start + BLOCK]
        flat.reset()
        flat.add(taken(vectors, block))
        with _by_matrix_products():
            found, at = flat.search(queries, min(k + 1, len(block)))
        positions = np.where(at < 0, -1, block[at])
        found[positions == own[:, None]] = -np.inf
        scores = np.concatenate([best.scores, found], axis=1)
        order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        positions = np.concatenate([best.positions, positions], axis=1)
        best = Nearest(np.take_along_axis(scores, order, axis=1), np.take_along_axis(positions, order, axis=1))
    return best


@contextmanager
def _by_matrix_products() -> Iterator[None]:
    """Let FAISS multiply matrices: on a CPU it goes vector by vector up to 128,000 numbers of queries.

    With 250 queries of 384 numbers, that takes five times as long (1.15).
    """
    import faiss as typed

    variables: Any = typed.cvar
    usual = variables.distance_compute_blas_threshold
    variables.distance_compute_blas_threshold = 1
    try:
        yield
    finally:
        variables.distance_compute_blas_threshold = usual
