"""The vector index of a segment as a file: IVF codes, or a graph of which the lowest level is searched.

There is none where a segment is scanned exactly. Index ids are chunk positions. Scores are inner products, for cosine
too (unit vectors). Codes are coarse: ask for ``k * k_factor`` candidates and rescore them with ``vectors.npy``. How far
to search was measured when the index was built (:mod:`indexer.ann`) and stands in its record; a filter that passes few
chunks needs more.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from indexer.errors import CorruptFile

if TYPE_CHECKING:
    import faiss

Vectors = npt.NDArray[np.float32] | npt.NDArray[np.float16]
Positions = npt.NDArray[np.int64]

_MAPPED = 1 << 9
"""``faiss.IO_FLAG_MMAP_IFC``: map what can be mapped."""

_ENTRIES = 64
"""A graph's fixed entry points; scoring them costs as much as a few steps."""


class Entries(NamedTuple):
    """Where searches of a graph begin: ``positions`` ``(n,) int32`` and their ``vectors`` ``(n, dim) float32``."""

    positions: npt.NDArray[np.int32]
    vectors: npt.NDArray[np.float32]

    @classmethod
    def of(cls, vectors: Vectors) -> Entries:
        """Return evenly spaced entries of a segment's ``vectors``, the same whenever they are asked for."""
        positions = np.unique(np.linspace(0, len(vectors) - 1, _ENTRIES).astype(np.int32))
        return cls(positions, np.ascontiguousarray(vectors[positions], dtype=np.float32))

    def walk(
        self,
        index: faiss.Index,
        queries: npt.NDArray[np.float32],
        width: int,
        breadth: int,
        selector: faiss.IDSelector | None = None,
        not_from: Positions | None = None,
    ) -> Positions:
        """Return each query's best ``width`` positions by the graph's codes, -1 where there are fewer.

        ``queries`` is contiguous ``(n, dim)``; ``breadth`` is FAISS' ``efSearch``; no walk begins at a position in
        ``not_from``.
        """
        import faiss as typed

        faiss: Any = typed  # its stubs lack the wrappers
        graph: Any = index
        scores = queries @ self.vectors.T
        if not_from is not None:
            scores[:, np.isin(self.positions, not_from)] = -np.inf
        nearest = scores.argmax(axis=1)
        begin, begin_scores = self.positions[nearest], scores[np.arange(len(queries)), nearest]
        found = np.empty((len(queries), width), dtype=np.int64)
        distances = np.empty((len(queries), width), dtype=np.float32)
        graph.search_level_0(
            len(queries),
            faiss.swig_ptr(queries),
            width,
            faiss.swig_ptr(begin),
            faiss.swig_ptr(begin_scores),
            faiss.swig_ptr(distances),
            faiss.swig_ptr(found),
            1,
            1,
            within(breadth) if selector is None else faiss.SearchParametersHNSW(efSearch=breadth, sel=selector),
        )
        return found


@functools.lru_cache(maxsize=256)
def within(breadth: int) -> Any:
    """Return FAISS' parameters for ``efSearch`` in a graph without a selector; shared, never changed."""
    import faiss as typed

    faiss: Any = typed
    return faiss.SearchParametersHNSW(efSearch=breadth)


def taken(vectors: Vectors, positions: Positions) -> npt.NDArray[np.float32]:
    """Return ``vectors[positions]`` as contiguous float32; ``positions`` ascend, and what is consecutive is not copied.

    >>> vectors = np.arange(8, dtype=np.float32).reshape(4, 2)
    >>> taken(vectors, np.array([1, 3])).tolist(), np.shares_memory(vectors, taken(vectors, np.array([1, 2])))
    ([[2.0, 3.0], [6.0, 7.0]], True)
    """
    first, last = int(positions[0]), int(positions[-1])
    consecutive = last - first + 1 == len(positions)
    return np.ascontiguousarray(vectors[first : last + 1] if consecutive else vectors[positions], dtype=np.float32)


def save_index(index: faiss.Index, path: Path) -> None:
    """Write an index to ``path``."""
    import faiss

    faiss.write_index(index, str(path))


def load_index(path: Path) -> faiss.Index:
    """Open an index: fast-scan codes come into private memory (they cannot be mapped), a graph is memory-mapped.

    It is an ``IndexIVF``, or an ``IndexHNSW`` that :class:`Entries` walks. Raises
    :class:`indexer.errors.CorruptFile`.
    """
    import faiss

    try:
        index: faiss.Index = faiss.read_index(str(path), _MAPPED)
    except RuntimeError as error:
        raise CorruptFile(f"{path}: not a vector index: {str(error).splitlines()[0]}") from error
    if not isinstance(index, faiss.IndexIVF | faiss.IndexHNSW):
        raise CorruptFile(f"{path}: expected an IVF index or a graph, found {type(index).__name__}")
    return index
