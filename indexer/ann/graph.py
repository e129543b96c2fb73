"""Graphs to search by: HNSW built on a CPU, or a GPU's CAGRA graph as HNSW's lowest level, over one-byte codes.

Either is searched on its lowest level alone, from the best of a few fixed entry points: FAISS draws those of a
converted graph at random for each search, and an answer must not depend on chance. Ids are chunk positions: chunks
without a vector are in the graph as zeros, and every search's bitmap leaves them out.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np

from indexer.ann.admission import Plan, graph_links
from indexer.ann.device import Device, DeviceFailed, Neighbours
from indexer.ann.ivf import SEED, drawn
from indexer.ann.threads import spare_threads, threads
from indexer.format.vectors import Vectors, taken

if TYPE_CHECKING:
    import faiss

_CONSTRUCTION = (100, 200)
"""``efConstruction`` by strength."""

_CODE_POINTS = 65_536
_BLOCK = 65_536


def build_graph(vectors: Vectors, plan: Plan, device: Device) -> tuple[faiss.IndexHNSW, str]:
    """Return the index over all ``vectors``, and the FAISS factory string of its like."""
    links = graph_links(plan.strength)
    if device.kind == "gpu":
        assert plan.graph is not None
        with ThreadPoolExecutor(1) as beside:  # the cores have nothing else to do while the device makes the graph
            coding = beside.submit(coded, vectors)
            neighbours = device.graph(vectors, plan.graph)
            codes = coding.result()
        if neighbours.shape != (len(vectors), plan.graph.degree):
            raise DeviceFailed(f"a graph of the shape {neighbours.shape} came instead of degree {plan.graph.degree}")
        return from_neighbours(neighbours, codes), f"HNSW{links},SQ8 of CAGRA"
    return _hnsw(vectors, links, _CONSTRUCTION[plan.strength]), f"HNSW{links},SQ8"


def _hnsw(vectors: Vectors, links: int, construction: int) -> faiss.IndexHNSW:
    import faiss as typed

    faiss: Any = typed
    index: typed.IndexHNSW = faiss.IndexHNSWSQ(
        vectors.shape[1], faiss.ScalarQuantizer.QT_8bit, links, faiss.METRIC_INNER_PRODUCT
    )
    index.hnsw.efConstruction = construction
    index.train(_code_sample(vectors))
    for start in range(0, len(vectors), _BLOCK):
        index.add(np.ascontiguousarray(vectors[start : start + _BLOCK], dtype=np.float32))
    return index


def coded(vectors: Vectors) -> faiss.IndexScalarQuantizer:
    """Return the one-byte codes of all ``vectors``."""
    import faiss

    with threads(spare_threads()):
        codes = faiss.IndexScalarQuantizer(vectors.shape[1], faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_INNER_PRODUCT)
        codes.train(_code_sample(vectors))
        for start in range(0, len(vectors), _BLOCK):
            codes.add(np.ascontiguousarray(vectors[start : start + _BLOCK], dtype=np.float32))
    return codes


def from_neighbours(neighbours: Neighbours, codes: faiss.IndexScalarQuantizer) -> faiss.IndexHNSW:
    """Return an ``IndexHNSWCagra`` of the lowest level alone from a table of neighbours, ``(n, degree) int32``.

    It owns the ``codes`` then. This is what ``GpuIndexCagra.copyTo`` does, but for the codes: its copy keeps whole
    vectors, which a segment has already.
    """
    import faiss as typed

    faiss: Any = typed  # its stubs lack the class
    n, degree = neighbours.shape
    if n != codes.ntotal or degree % 2 or not n:
        raise ValueError(f"{n} rows of {degree} neighbours do not make a graph over {codes.ntotal} vectors")
    index = faiss.IndexHNSWCagra(codes.d, degree // 2, faiss.METRIC_INNER_PRODUCT)
    index.base_level_only, index.keep_max_size_level0 = True, True
    replaced = index.storage
    index.storage = codes
    owned: Any = codes
    owned.this.disown()
    replaced.this.own(True)
    levels = index.hnsw
    faiss.copy_array_to_vector(np.ones(n, dtype=np.int32), levels.levels)
    faiss.copy_array_to_vector(np.arange(n + 1, dtype=np.uint64) * np.uint64(degree), levels.offsets)
    faiss.copy_array_to_vector(np.ascontiguousarray(neighbours, dtype=np.int32).reshape(-1), levels.neighbors)
    levels.entry_point, levels.max_level = 0, 0
    index.ntotal, index.is_trained = n, True
    made: typed.IndexHNSW = index
    return made


def _code_sample(vectors: Vectors) -> np.ndarray:
    """Return vectors to learn each dimension's range from: all of a small segment."""
    return taken(vectors, drawn(np.arange(len(vectors)), _CODE_POINTS, SEED))
