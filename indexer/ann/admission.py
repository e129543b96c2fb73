"""Admission: how and where a segment's index is built, settled by predicted memory before anything is allocated.

The formulas for CAGRA are those of cuVS' documentation ("CAGRA, memory footprint"): the graph's optimisation holds
``n * (4 + 5 * intermediate_degree)`` bytes on the device; the search for neighbours by IVF-PQ holds the codes, and a
workspace that grows with its batch: 12.8 GB at cuVS' default of 4,096 queries, so that the batch is set here. Versions
differ in whether they bring the vectors to the device then, so they are counted.
NN-descent holds all vectors in float16 and its lists of candidates. The exact scan that an index is measured by comes
before it, in blocks, and needs more than a small segment's build. Predictions err upwards, and an allocation that
fails all the same makes the segment fall back to the CPU.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from indexer.ann.device import Device, DeviceKind, free_host_bytes
from indexer.ann.graph_plan import Algorithm, GraphPlan
from indexer.ann.nearest import BLOCK as SCANNED
from indexer.errors import BuildError
from indexer.spec import IndexSpec

Kind = Literal["ivf", "hnsw"]

GPU_MIN_CHUNKS = 50_000
"""From here on a GPU is expected to gain: below, starting CUDA and copying take as long as a CPU's whole build."""

POINTS_PER_LIST = 100
LARGEST_BLOCK, SMALLEST_BLOCK = 262_144, 4_096
"""Vectors on a device at a time; the block is the largest power of two that fits."""

MARGIN = 0.9
"""The part of what is free that a build may count on."""

CUDA_BYTES = 1024**3
"""A CUDA context, cuBLAS and FAISS' scratch memory."""

WORKSPACE_BYTES_PER_QUERY = 12_800_000_000 // 4_096
NN_DESCENT_BYTES_PER_EDGE = 16
"""Candidates in and out with their distances, in cuVS' lists on the device."""

NN_DESCENT_ROUNDS = (4, 20)
"""By strength; 20 is cuVS' default. A million vectors took an H200 2.5 s in place of 6.4, for 0.93 and 0.91 of the
nearest ten with ef=64, and 0.96 and 0.97 with 128."""

SEARCH_BATCHES = (4_096, 2_048, 1_024, 512, 256, 128)
VECTORS_PER_LIST, TRAINED_AT_LEAST = 2_000, 100_000
"""Of the IVF-PQ that finds a graph's neighbours."""

GIB = 1024**3


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One attempt: ``strength`` 0 or 1 of ``kind`` on a device, ``block`` vectors on it at a time.

    ``device_bytes`` and ``host_bytes`` are predicted peaks beside the segment's own vectors.
    """

    kind: Kind
    device: DeviceKind
    strength: int
    block: int
    half: bool
    device_bytes: int
    host_bytes: int
    graph: GraphPlan | None = None


def admitted(
    n: int, dim: int, spec: IndexSpec, device: Device, *, strength: int = 0, host_bytes: int | None = None
) -> Plan:
    """Return the plan to build over ``n`` vectors of ``dim`` on ``device``, within what is free there and here.

    ``host_bytes`` is this machine's free memory; asked for if it is not given. Raises
    :class:`indexer.errors.BuildError` with the numbers if nothing fits.
    """
    kind: Kind = "ivf" if spec.kind in ("auto", "ivf") else "hnsw"
    room = int((free_host_bytes() if host_bytes is None else host_bytes) * MARGIN)
    if device.kind == "cpu":
        needed = _cpu_bytes(kind, n, dim, strength)
        if needed > room:
            raise _refusal(kind, n, dim, "this machine's memory", needed, room)
        return Plan(
            kind=kind, device="cpu", strength=strength, block=65_536, half=False, device_bytes=0, host_bytes=needed
        )
    free = int(device.free_bytes() * MARGIN) - CUDA_BYTES
    plan = _ivf_on_gpu if kind == "ivf" else _graph_on_gpu
    return plan(n, dim, strength, device.name, free, room)


def n_lists(n: int) -> int:
    """Return how many lists an IVF index over ``n`` vectors has: the square root, with 16 vectors to a list at least.

    >>> n_lists(10_000), n_lists(40)
    (100, 2)
    """
    return max(1, min(int(n**0.5), n // 16))


def _cpu_bytes(kind: Kind, n: int, dim: int, strength: int) -> int:
    if kind == "ivf":
        return _ivf_host_bytes(n, dim, strength)
    degree = 2 * graph_links(strength)
    return max(n * (dim + 4 * degree + 8 * 8) + 65_536 * dim * 4, _scan_bytes(n, dim))


def _ivf_host_bytes(n: int, dim: int, strength: int) -> int:
    sample = min(n, n_lists(n) * POINTS_PER_LIST) * dim * 4
    codes = n * (dim // (8 >> strength) + 8)
    return max(sample + codes + 65_536 * dim * 4, _scan_bytes(n, dim))


def _scan_bytes(n: int, dim: int) -> int:
    """Return what an exact scan holds of a segment: a block on its way, and as part of a flat index."""
    return 2 * min(n, SCANNED) * dim * 4


def graph_links(strength: int) -> int:
    """Return M, the links of a graph's node on all levels but the lowest, which has twice as many."""
    return (16, 32)[strength]


def _ivf_on_gpu(n: int, dim: int, strength: int, name: str, free: int, room: int) -> Plan:
    """Lists are trained and assigned on the device; codes are made here, so that the vectors pass through in blocks."""
    lists, host = n_lists(n), _ivf_host_bytes(n, dim, strength)
    if host > room:
        raise _refusal("ivf", n, dim, "this machine's memory", host, room)
    fixed = (min(n, lists * POINTS_PER_LIST) + lists) * dim * 4
    fitting = (free - fixed) // (4 * (dim + lists))
    least = max(fixed + SMALLEST_BLOCK * 4 * (dim + lists), _scan_bytes(n, dim))
    if least > free:
        raise _refusal("ivf", n, dim, name, least, free)
    block = min(LARGEST_BLOCK, 1 << (fitting.bit_length() - 1))
    return Plan(
        kind="ivf",
        device="gpu",
        strength=strength,
        block=block,
        half=strength == 0,
        device_bytes=max(fixed + block * 4 * (dim + lists), _scan_bytes(n, dim)),
        host_bytes=host,
    )


def _graph_on_gpu(n: int, dim: int, strength: int, name: str, free: int, room: int) -> Plan:
    """NN-descent where it fits, which is the faster one; else IVF-PQ with the largest search batch that fits."""
    degree = 2 * graph_links(strength)
    intermediate = 2 * degree
    if n <= intermediate:
        raise BuildError(f"{n} vectors are too few for a CAGRA graph of degree {degree}")
    host = n * (dim * 4 + dim + 4 * degree + 8 * degree + 4 * intermediate)
    if host > room:
        raise _refusal("cagra", n, dim, "this machine's memory", host, room)
    choices: list[tuple[Algorithm, int]] = [("nn_descent", 0), *(("ivf_pq", batch) for batch in SEARCH_BATCHES)]
    for algorithm, batch in choices:
        graph = GraphPlan(
            algorithm=algorithm,
            degree=degree,
            intermediate_degree=intermediate,
            half=strength == 0,
            n_lists=max(1, n // VECTORS_PER_LIST),
            train_share=min(1.0, max(0.1, TRAINED_AT_LEAST / n)),
            pq_dim=max(8, dim // 4 // 8 * 8),
            n_probes=max(8, round((n / VECTORS_PER_LIST) ** 0.5)),
            search_batch=batch,
            rounds=NN_DESCENT_ROUNDS[strength],
            connected=strength > 0,
        )
        needed = max(n * (4 + 5 * intermediate), _scan_bytes(n, dim))
        needed = max(needed, _search_bytes(n, dim, graph), _train_bytes(n, dim, graph))
        if needed <= free:
            return Plan(
                kind="hnsw",
                device="gpu",
                strength=strength,
                block=LARGEST_BLOCK,
                half=graph.half,
                device_bytes=needed,
                host_bytes=host,
                graph=graph,
            )
    raise _refusal("cagra", n, dim, name, needed, free)


def _search_bytes(n: int, dim: int, graph: GraphPlan) -> int:
    if graph.algorithm == "nn_descent":
        return n * (dim * 2 + NN_DESCENT_BYTES_PER_EDGE * graph.intermediate_degree)
    uploaded = n * dim * (2 if graph.half else 4)
    return uploaded + n * (graph.pq_dim + 8) + graph.n_lists * dim * 4 + graph.search_batch * WORKSPACE_BYTES_PER_QUERY


def _train_bytes(n: int, dim: int, graph: GraphPlan) -> int:
    if graph.algorithm == "nn_descent":
        return 0
    return int(n * graph.train_share) * (dim * 4 + 4) + graph.n_lists * dim * 4


def _refusal(kind: str, n: int, dim: int, where: str, needed: int, free: int) -> BuildError:
    return BuildError(
        f"an index ({kind}) over {n:,} vectors of {dim} needs {needed / GIB:.1f} GiB of {where}, and "
        f"{max(0, free) / GIB:.1f} GiB may be used; free some, use index.kind 'ivf', or give the collection more shards"
    )
