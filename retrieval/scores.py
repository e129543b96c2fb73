"""Exact inner products of a query with stored vectors, and scratch memory for FAISS' raw calls.

Both ways in (a contiguous block, vectors picked by position) add up in the same order, so that equal vectors have
bitwise equal scores wherever they are stored, and ties are ties.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any

import faiss
import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Vectors = npt.NDArray[np.float32] | npt.NDArray[np.float16]
Positions = npt.NDArray[np.int64]

_CONVERT_ROWS = 4096
"""Vectors of float16 are widened in blocks of this many: small enough for a core's cache."""

NARROW = 16
"""Up to this width FAISS scores some blocks (those 4, 8 and 12 wide) by kernels that add up in another order."""

raw_faiss: Any = faiss
"""FAISS' C++ calls, which its type stubs do not know."""

pointer = raw_faiss.swig_ptr


@dataclass(frozen=True, slots=True)
class Buffers:
    """Result memory of one FAISS search for ``size`` candidates, with its raw pointers."""

    size: int
    labels: Positions
    distances: Floats
    exact: Floats
    distances_at: Any
    labels_at: Any
    exact_at: Any


class Scratch(threading.local):
    """Per-thread memory; a thread that has one runs FAISS on itself alone."""

    def __init__(self) -> None:
        # One request, one thread: throughput comes from requests side by side.
        faiss.omp_set_num_threads(1)
        self._buffers: dict[int, Buffers] = {}

    def buffers(self, size: int) -> Buffers:
        """Return memory for ``size`` candidates, overwritten by this thread's next call for the same size."""
        found = self._buffers.get(size)
        if found is None:
            if len(self._buffers) >= 16:
                self._buffers.clear()
            distances, labels, exact = np.empty(size, np.float32), np.empty(size, np.int64), np.empty(size, np.float32)
            found = Buffers(size, labels, distances, exact, pointer(distances), pointer(labels), pointer(exact))
            self._buffers[size] = found
        return found


def score_block(query: Floats, vectors: Vectors) -> Floats:
    """Return the scores, ``(n,) float32``, of ``query`` ``(dim,)`` with contiguous ``vectors`` ``(n, dim)``."""
    n = len(vectors)
    scores = np.empty(n, dtype=np.float32)
    if vectors.dtype == np.float32:
        _score_rows(query, vectors, scores)
        return scores
    for start in range(0, n, _CONVERT_ROWS):
        block = vectors[start : start + _CONVERT_ROWS].astype(np.float32)
        _score_rows(query, block, scores[start : start + _CONVERT_ROWS])
    return scores


def _score_rows(query: Floats, vectors: Vectors, scores: Floats) -> None:
    """Put the scores of ``vectors`` ``(n, dim) float32`` into ``scores`` ``(n,)``."""
    n, dim = vectors.shape
    if not n:
        return
    if dim > NARROW:
        raw_faiss.fvec_inner_products_ny(pointer(scores), pointer(query), pointer(vectors), dim, n)
        return
    every = np.arange(n, dtype=np.int64)
    raw_faiss.fvec_inner_products_by_idx(pointer(scores), pointer(query), pointer(vectors), pointer(every), dim, 1, n)


def score_picked(query: Floats, vectors: Vectors, positions: Positions) -> Floats:
    """Return the scores, ``(m,) float32``, of ``query`` with the vectors at ``positions`` ``(m,) int64``."""
    if vectors.dtype != np.float32:
        starts = range(0, len(positions), _CONVERT_ROWS)
        parts = [score_block(query, vectors[positions[at : at + _CONVERT_ROWS]]) for at in starts]
        return np.concatenate(parts) if parts else np.empty(0, dtype=np.float32)
    scores = np.empty(len(positions), dtype=np.float32)
    if len(positions):
        raw_faiss.fvec_inner_products_by_idx(
            pointer(scores), pointer(query), pointer(vectors), pointer(positions), vectors.shape[1], 1, len(positions)
        )
    return scores


def lists_of_chunks(index: Any, n: int) -> npt.NDArray[np.int32]:
    """Return the inverted list of each of ``n`` chunks of an IVF index; -1 for chunks that it does not have."""
    lists = np.full(n, -1, dtype=np.int32)
    inverted = index.invlists
    for number in range(index.nlist):
        size = inverted.list_size(number)
        if size:
            ids = inverted.get_ids(number)
            lists[raw_faiss.rev_swig_ptr(ids, size)] = number
            inverted.release_ids(number, ids)
    return lists
