"""IVF with product-quantised codes: lists by k-means, codes that fast scan reads, and the effort a search needs.

A device takes part through an empty flat index: k-means and the assignment to lists, nearly all of a build's work,
are searches of it. Codes are made on the CPU: fast scan wants the codes of the vectors themselves, and FAISS' GPU
indexes only encode what is left of them after their list's centre.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from indexer.ann.admission import POINTS_PER_LIST, Plan, n_lists
from indexer.ann.device import Device
from indexer.ann.threads import threads
from indexer.format.vectors import Positions, Vectors, taken

if TYPE_CHECKING:
    import faiss

FAST_SCAN_MIN_DIM = 32
"""Fast scan never returns a vector whose every nibble scores lowest; with eight nibbles or more that hardly occurs."""

SEED = 20_240_229
_LIST_ITERATIONS = 10
_CODE_POINTS = 4096
_CODE_ITERATIONS = 8


def build_ivf(vectors: Vectors, present: Positions, plan: Plan, device: Device) -> tuple[faiss.IndexIVF, str]:
    """Return the index over ``vectors[present]``, its ids their positions, and its FAISS factory string."""
    import faiss

    dim, lists = int(vectors.shape[1]), n_lists(len(present))
    factory = f"IVF{lists},{code(dim, plan.strength)}"
    sample = taken(vectors, drawn(present, lists * POINTS_PER_LIST, SEED))
    index = faiss.index_factory(dim, factory, faiss.METRIC_INNER_PRODUCT)
    assert isinstance(index, faiss.IndexIVF)
    index.by_residual = False
    coarse = device.flat(dim, half=plan.half)
    centres = _centres(sample, lists, coarse)
    index.quantizer.add(centres)
    if isinstance(index, faiss.IndexIVFPQFastScan):
        index.pq.cp.niter, index.pq.cp.min_points_per_centroid = _CODE_ITERATIONS, 1
    with threads(1):  # many tiny clusterings: on busy cores, threads that wait for each other take 50 times as long
        index.train(np.ascontiguousarray(sample[:: -(-len(sample) // _CODE_POINTS)]))
    with _assigned_by(index, coarse if device.kind == "gpu" else index.quantizer):
        for start in range(0, len(present), plan.block):
            ids = present[start : start + plan.block]
            index.add_with_ids(taken(vectors, ids), ids)
    return index, factory


def code(dim: int, strength: int) -> str:
    """Return the code: four dimensions to a nibble (two at strength 1) with fast scan, else a byte each.

    The vectors themselves are encoded, not what is left of them after their list's centre: fast scan rounds a query's
    tables to bytes, and a centre's share of the score would take up most of their range. At equal recall that took half
    as long again (100,000 sentences, all-MiniLM-L6-v2).

    Codes lie in blocks of 64, not FAISS' usual 32: each part of a query's table is loaded once for twice as many (a
    tenth of a scan's time, same machine).

    >>> code(384, 0), code(384, 1), code(30, 0)
    ('PQ96x4fs_64', 'PQ192x4fs_64', 'SQ8')
    """
    return f"PQ{dim // (4 >> strength)}x4fs_64" if dim % 4 == 0 and dim >= FAST_SCAN_MIN_DIM else "SQ8"


def drawn(present: Positions, count: int, seed: int) -> Positions:
    """Return ``count`` of the positions ``present``, ascending; all where there are no more."""
    if len(present) <= count:
        return present
    return np.sort(np.random.default_rng(seed).choice(present, count, replace=False))


def _centres(sample: npt.NDArray[np.float32], lists: int, coarse: faiss.Index) -> npt.NDArray[np.float32]:
    """Cluster ``sample`` by spherical k-means whose searches ``coarse`` does; it holds the centres afterwards."""
    import faiss

    settings = faiss.ClusteringParameters()
    settings.niter, settings.seed, settings.spherical = _LIST_ITERATIONS, SEED, True
    settings.min_points_per_centroid, settings.max_points_per_centroid = 1, POINTS_PER_LIST
    clustering = faiss.Clustering(sample.shape[1], lists, settings)
    clustering.train(sample, coarse)
    centres: npt.NDArray[np.float32] = faiss.vector_to_array(clustering.centroids).reshape(lists, -1)
    return centres


@contextmanager
def _assigned_by(index: faiss.IndexIVF, coarse: faiss.Index) -> Iterator[None]:
    """Let ``coarse``, which holds the same centres, say which list a vector belongs to."""
    own, owned = index.quantizer, index.own_fields
    index.own_fields, index.quantizer = False, coarse
    try:
        yield
    finally:
        index.quantizer, index.own_fields = own, owned
