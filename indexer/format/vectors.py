"""The vector index of a segment: none (scanned exactly) while it is small, else IVF with product-quantised codes.

Index ids are chunk positions. Scores are inner products, for cosine too (unit vectors). Codes are coarse: ask for
``k * k_factor`` candidates with ``nprobe`` lists and rescore them with ``vectors.npy``. Both numbers are measured when
the index is built and stand in its record; a filter that passes few chunks needs more of both.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from indexer.errors import BuildError, CorruptFile
from indexer.format.records import IndexKind, IndexRecord
from indexer.spec import IndexSpec

if TYPE_CHECKING:
    import faiss

EXACT_MAX_CHUNKS = 10_000
"""Up to here an exact scan takes about a millisecond and needs no training."""

FEWEST_TRAINABLE = 32
"""An index cannot be trained on fewer vectors: 4-bit codes have 16 centroids."""

FAST_SCAN_MIN_DIM = 32
"""Fast scan never returns a vector whose every nibble scores lowest; with eight nibbles or more that hardly occurs."""

_SEED = 20_240_229
_POINTS_PER_LIST = 100
_LIST_ITERATIONS = 10
_CODE_POINTS = 4096
_CODE_ITERATIONS = 8
_BLOCK = 65_536
_QUERIES = 250
_TRIAL_QUERIES = 100
"""So many are searched with and held in memory at a time."""
_K = 10
_NPROBES = (2, 4, 6, 8, 12, 16, 20, 24, 32, 40, 48, 56, 64, 80, 96, 128, 160, 192, 256, 384)
_K_FACTORS = (4, 6, 8, 10, 12, 16, 24, 32, 64)
"""The efforts that calibration tries: lists probed, and candidates rescored for each hit."""

_LIST_US, _CODE_US, _RESCORE_US = 0.17, 0.0031, 0.28
"""What a probed list, one of its codes and a rescored candidate cost (one thread, 384 dimensions): only the ratios
matter, and only to choose among efforts of equal recall."""

_NEARER = 0.75
"""What calibration aims at: so much of the spec's shortfall from a recall of 1."""

_FILTERED_SHARE = 10
"""One chunk in so many passes the filter under which the lists' growth is measured."""

Vectors = npt.NDArray[np.float32] | npt.NDArray[np.float16]
Positions = npt.NDArray[np.int64]


def build_index(
    vectors: Vectors, spec: IndexSpec, *, embedded: npt.NDArray[np.bool_] | None = None, device: str = "auto"
) -> tuple[faiss.IndexIVF | None, IndexRecord]:
    """Build the index over ``vectors`` ``(n_chunks, dim)``, leaving out chunks that are not ``embedded``.

    ``device``, unless ``auto``, overrides the spec's. One core is left to the keyword index, which is built at the same
    time. Raises :class:`indexer.errors.BuildError` if the device has no builder.
    """
    _check_device(spec.device if device == "auto" else device)
    present = np.arange(len(vectors)) if embedded is None else np.flatnonzero(embedded)
    reason = _why_exact(len(present), spec)
    if reason:
        return None, IndexRecord(kind="exact", reason=reason)
    dim = int(vectors.shape[1])
    n_lists = max(1, min(int(len(present) ** 0.5), len(present) // 16))
    factory = f"IVF{n_lists},{_code(dim)}"
    with _threads(_spare_threads()):
        index = _trained(_sample(vectors, present, n_lists * _POINTS_PER_LIST), factory, n_lists)
        _add(index, vectors, present)
        measured = _calibrate(index, vectors, present, spec.min_recall)
    reason = f"{len(present)} vectors: more than {EXACT_MAX_CHUNKS} are searched approximately"
    if spec.kind == "ivf":
        reason = "the spec asks for ivf"
    return index, IndexRecord(kind="ivf", reason=reason, parameters={"factory": factory, "nlist": n_lists, **measured})


def index_kind(n_embedded: int, spec: IndexSpec) -> IndexKind:
    """Return the kind of index that :func:`build_index` makes over so many vectors.

    >>> index_kind(10_000, IndexSpec()), index_kind(10_001, IndexSpec())
    ('exact', 'ivf')
    """
    return "exact" if _why_exact(n_embedded, spec) else "ivf"


def save_index(index: faiss.IndexIVF, path: Path) -> None:
    """Write an index to ``path``."""
    import faiss

    faiss.write_index(index, str(path))


def load_index(path: Path) -> faiss.IndexIVF:
    """Read an index into private memory (fast-scan codes cannot be mapped); ids are chunk positions.

    It is an IVF index: search it with ``faiss.SearchParametersIVF(nprobe=..., sel=...)``. Raises
    :class:`indexer.errors.CorruptFile`.
    """
    import faiss

    try:
        index = faiss.read_index(str(path))
    except RuntimeError as error:
        raise CorruptFile(f"{path}: not a vector index: {str(error).splitlines()[0]}") from error
    if not isinstance(index, faiss.IndexIVF):
        raise CorruptFile(f"{path}: expected an IVF index, found {type(index).__name__}")
    return index


def _check_device(device: str) -> None:
    """Refuse what this build cannot do; the one place that chooses where an index is built."""
    if device == "gpu":
        raise BuildError("indexes are built on the CPU: set index.device to 'auto' or 'cpu'")


def _why_exact(n: int, spec: IndexSpec) -> str:
    """Return the reason to scan ``n`` vectors exactly, or an empty string."""
    if spec.kind == "exact":
        return "the spec asks for exact"
    if n < FEWEST_TRAINABLE:
        return f"{n} vectors: too few to train an index"
    if spec.kind == "auto" and n <= EXACT_MAX_CHUNKS:
        return f"{n} vectors: up to {EXACT_MAX_CHUNKS} are scanned exactly"
    return ""


def _code(dim: int) -> str:
    """Return the code: four dimensions to a nibble with fast scan, else a byte each.

    The vectors themselves are encoded, not what is left of them after their list's centre: fast scan rounds a query's
    tables to bytes, and a centre's share of the score would take up most of their range. At equal recall that took half
    as long again (100,000 sentences, all-MiniLM-L6-v2).
    """
    return f"PQ{dim // 4}x4fs" if dim % 4 == 0 and dim >= FAST_SCAN_MIN_DIM else "SQ8"


def _sample(vectors: Vectors, present: Positions, size: int) -> npt.NDArray[np.float32]:
    chosen = present
    if len(present) > size:
        chosen = np.sort(np.random.default_rng(_SEED).choice(present, size, replace=False))
    return np.ascontiguousarray(vectors[chosen], dtype=np.float32)


def _trained(sample: npt.NDArray[np.float32], factory: str, n_lists: int) -> faiss.IndexIVF:
    import faiss

    dim = sample.shape[1]
    index = faiss.index_factory(dim, factory, faiss.METRIC_INNER_PRODUCT)
    assert isinstance(index, faiss.IndexIVF)
    lists = faiss.Kmeans(
        dim,
        n_lists,
        niter=_LIST_ITERATIONS,
        seed=_SEED,
        spherical=True,
        min_points_per_centroid=1,
        max_points_per_centroid=_POINTS_PER_LIST,
    )
    lists.train(sample)
    assert lists.centroids is not None
    index.quantizer.add(lists.centroids)
    if isinstance(index, faiss.IndexIVFPQFastScan):
        index.pq.cp.niter, index.pq.cp.min_points_per_centroid = _CODE_ITERATIONS, 1
    with _threads(1):  # many tiny clusterings: on busy cores, threads that wait for each other take 50 times as long
        index.train(np.ascontiguousarray(sample[:: -(-len(sample) // _CODE_POINTS)]))
    return index


@contextmanager
def _threads(number: int) -> Iterator[None]:
    """Let FAISS use ``number`` threads; OpenMP keeps the setting for the calling thread only."""
    import faiss

    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(number)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)


def _spare_threads() -> int:
    import faiss

    return max(1, faiss.omp_get_max_threads() - 1)


def _add(index: faiss.IndexIVF, vectors: Vectors, present: Positions) -> None:
    for start in range(0, len(present), _BLOCK):
        ids = present[start : start + _BLOCK]
        index.add_with_ids(np.ascontiguousarray(vectors[ids], dtype=np.float32), ids)


def _calibrate(
    index: faiss.IndexIVF, vectors: Vectors, present: Positions, min_recall: float
) -> dict[str, int | float | str]:
    """Find the cheapest effort whose recall@10 reaches ``min_recall`` on a sample of the segment's own vectors.

    Queries are less like the vectors that the index was trained on than those are themselves, and the cheapest of many
    efforts is one that had luck: so the aim is a quarter nearer to 1, and the mean must reach it less its standard
    error. Each query's own chunk is left out of the truth; the best effort tried stands if none is enough.
    ``nprobe_tenth`` and ``k_factor_tenth`` are the same where a random tenth of the chunks passes.
    """
    aim = 1 - (1 - min_recall) * _NEARER
    ids = np.sort(np.random.default_rng(_SEED + 1).choice(present, min(_QUERIES, len(present)), replace=False))
    queries = np.ascontiguousarray(vectors[ids], dtype=np.float32)
    trial = _Trial(index, vectors, queries, ids)
    effort = trial.cheapest(present, aim)
    measured: dict[str, int | float | str] = {
        "nprobe": effort.nprobe,
        "k_factor": effort.k_factor,
        "recall_at_10": round(effort.recall, 4),
    }
    tenth = np.sort(np.random.default_rng(_SEED + 2).choice(present, len(present) // _FILTERED_SHARE, replace=False))
    if len(tenth) <= _K * max(_K_FACTORS):
        return measured
    filtered = trial.cheapest(tenth, aim)
    return measured | {"nprobe_tenth": filtered.nprobe, "k_factor_tenth": filtered.k_factor}


class _Effort(NamedTuple):
    """What a search spends, in ``cost`` of arbitrary units, and the recall@10 that it reached."""

    cost: float
    nprobe: int
    k_factor: int
    recall: float


class _Trial:
    """Searches an index with queries whose answers are known."""

    def __init__(
        self, index: faiss.IndexIVF, vectors: Vectors, queries: npt.NDArray[np.float32], own: Positions
    ) -> None:
        self._index, self._vectors, self._queries, self._own = index, vectors, queries, own
        self._nprobes = [nprobe for nprobe in _NPROBES if nprobe < index.nlist] + [min(index.nlist, 2 * _NPROBES[-1])]

    def cheapest(self, passing: Positions, aim: float) -> _Effort:
        """Return the cheapest effort that reaches the recall ``aim`` among ``passing`` chunks, or the best tried."""
        truth = _exact_neighbours(self._queries, self._own, self._vectors, passing)
        bits = self._bits(passing)
        best, tried = None, _Effort(0.0, 0, 0, -1.0)
        for nprobe in self._nprobes:
            if best and self._cost(nprobe, _K_FACTORS[0]) >= best.cost:
                break
            found = self._found(nprobe, bits, truth)
            for k_factor in _K_FACTORS:
                recalls = found[:, min(_K * k_factor, found.shape[1] - 1)]
                recall = float(recalls.mean())
                effort = _Effort(self._cost(nprobe, k_factor), nprobe, k_factor, recall)
                tried = max(tried, effort, key=lambda effort: effort.recall)
                if recall - float(recalls.std()) / len(recalls) ** 0.5 >= aim:
                    best = min(best, effort) if best else effort
                    break
        return best or tried

    def _bits(self, passing: Positions) -> npt.NDArray[np.uint8] | None:
        if len(passing) == self._index.ntotal:
            return None
        mask = np.zeros(len(self._vectors), dtype=bool)
        mask[passing] = True
        return np.packbits(mask, bitorder="little")

    def _cost(self, nprobe: int, k_factor: int) -> float:
        per_list = _LIST_US + _CODE_US * self._index.ntotal / self._index.nlist
        return nprobe * per_list + _K * k_factor * _RESCORE_US

    def _found(
        self, nprobe: int, bits: npt.NDArray[np.uint8] | None, truth: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.float64]:
        """Return each query's recall by the number of candidates that are rescored (and one more, for its own chunk).

        Rescoring is exact, so that a true neighbour among the candidates is among the best ten of them.
        """
        import faiss

        effort = faiss.SearchParametersIVF()
        effort.nprobe = nprobe
        selector = None if bits is None else faiss.IDSelectorBitmap(len(self._vectors), faiss.swig_ptr(bits))
        effort.sel = selector
        width = min(_K * max(_K_FACTORS) + 1, self._index.ntotal)
        recalls = np.empty((len(truth), width))
        for start in range(0, len(truth), _TRIAL_QUERIES):
            some = slice(start, start + _TRIAL_QUERIES)
            candidates = self._index.search(self._queries[some], width, params=effort)[1]
            found = (candidates[:, :, None] == truth[some, None, :]).any(axis=2)
            recalls[some] = found.cumsum(axis=1) / truth.shape[1]
        return recalls


def _exact_neighbours(
    queries: npt.NDArray[np.float32], own: Positions, vectors: Vectors, present: Positions
) -> npt.NDArray[np.int64]:
    """Return each query's nearest chunks other than its own: ``(n_queries, up to 10)``."""
    scores = np.empty((len(queries), 0), dtype=np.float32)
    ids = np.empty((len(queries), 0), dtype=np.int64)
    kth = min(_K, len(present) - 1) - 1
    for start in range(0, len(present), _BLOCK):
        block = present[start : start + _BLOCK]
        product = queries @ np.asarray(vectors[block], dtype=np.float32).T
        product[own[:, None] == block[None, :]] = -np.inf
        scores = np.concatenate([scores, product], axis=1)
        ids = np.concatenate([ids, np.broadcast_to(block, product.shape)], axis=1)
        best = np.argpartition(-scores, kth, axis=1)[:, : kth + 1]
        scores, ids = np.take_along_axis(scores, best, axis=1), np.take_along_axis(ids, best, axis=1)
    return ids
