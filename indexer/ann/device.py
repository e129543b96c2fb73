"""What an index is built on: the CPU, or one GPU by FAISS with cuVS. Builders know nothing else of either.

A GPU is used through three things only: an empty flat index (k-means, list assignment and exact search are its
searches), a graph of neighbours, and how much memory is free. The rest of a build is the same code on both.
"""

from __future__ import annotations

import functools
import importlib
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from indexer.ann.graph_plan import GraphPlan
from indexer.errors import BuildError, IndexerError
from indexer.format.vectors import Vectors

if TYPE_CHECKING:
    import faiss

DeviceKind = Literal["cpu", "gpu"]
Neighbours = npt.NDArray[np.int32]

_TEMPORARY_BYTES = 512 * 1024 * 1024
"""FAISS' own scratch memory on a GPU; by default it takes up to 1.5 GiB of whatever is there."""

_HALVED = 65_536
"""Vectors converted at a time by one thread."""

_CGROUP = Path("/sys/fs/cgroup")


class DeviceFailed(Exception):
    """A device gave up half-way: out of memory, or an error of the driver. The message is its first line."""


class Device(Protocol):
    """Where an index is built; ``name`` is for people."""

    kind: DeviceKind
    name: str

    def free_bytes(self) -> int:
        """Return how much of the device's memory is free now."""

    def flat(self, dim: int, *, half: bool) -> faiss.Index:
        """Return an empty exact inner-product index on the device; ``half`` keeps its vectors in float16."""

    def graph(self, vectors: Vectors, plan: GraphPlan) -> Neighbours:
        """Return each vector's neighbours in a graph to search by, ``(n, plan.degree)``."""


class Cpu:
    """This machine's processor."""

    kind: DeviceKind = "cpu"
    name = "CPU"

    def free_bytes(self) -> int:
        """Return the memory that programs can still have."""
        return free_host_bytes()

    def flat(self, dim: int, *, half: bool) -> faiss.Index:
        """Return an ``IndexFlatIP``; float16 would only slow a CPU down, so ``half`` changes nothing."""
        import faiss

        return faiss.IndexFlatIP(dim)

    def graph(self, vectors: Vectors, plan: GraphPlan) -> Neighbours:
        """Raise: a CPU builds HNSW graphs, whose levels are no table of neighbours (:mod:`indexer.ann.graph`)."""
        raise NotImplementedError


class FaissGpu:
    """One GPU, by ``faiss-gpu-cuvs``; ``number`` is CUDA's own, as seen by this process."""

    kind: DeviceKind = "gpu"

    def __init__(self, number: int = 0) -> None:
        import faiss

        self._faiss: Any = faiss
        self._number = number
        self._resources = self._faiss.StandardGpuResources()
        self._resources.setTempMemory(_TEMPORARY_BYTES)
        self.name = str(_torch_cuda().get_device_name(number))

    def free_bytes(self) -> int:
        """Return the device's free bytes by CUDA, through torch: FAISS does not tell."""
        return int(_torch_cuda().mem_get_info(self._number)[0])

    def flat(self, dim: int, *, half: bool) -> faiss.Index:
        """Return a ``GpuIndexFlatIP`` of cuVS."""
        config = self._faiss.GpuIndexFlatConfig()
        config.device, config.use_cuvs, config.useFloat16 = self._number, True, half
        index: faiss.Index = self._faiss.GpuIndexFlatIP(self._resources, dim, config)
        return index

    def graph(self, vectors: Vectors, plan: GraphPlan) -> Neighbours:
        """Build a CAGRA graph; the vectors stay in host memory and are not attached to what is built."""
        f = self._faiss
        config = f.GpuIndexCagraConfig()
        config.device, config.store_dataset, config.guarantee_connectivity = self._number, False, plan.connected
        config.graph_degree, config.intermediate_graph_degree = plan.degree, plan.intermediate_degree
        if plan.algorithm == "nn_descent":
            config.build_algo, config.nn_descent_niter = f.graph_build_algo_NN_DESCENT, plan.rounds
        else:
            config.build_algo = f.graph_build_algo_IVF_PQ
            lists, searched = f.IVFPQBuildCagraConfig(), f.IVFPQSearchCagraConfig()
            lists.n_lists, lists.kmeans_trainset_fraction = plan.n_lists, plan.train_share
            lists.pq_bits, lists.pq_dim, lists.conservative_memory_allocation = 8, plan.pq_dim, True
            searched.n_probes, searched.max_internal_batch_size = plan.n_probes, plan.search_batch
            config.ivf_pq_params, config.ivf_pq_search_params = lists, searched
        index = f.GpuIndexCagra(self._resources, vectors.shape[1], f.METRIC_INNER_PRODUCT, config)
        index.train(_halved(vectors) if plan.half else vectors, numeric_type=f.Float16 if plan.half else f.Float32)
        links = index.get_knngraph()  # int64
        table: npt.NDArray[np.int64] = f.rev_swig_ptr(links.data(), links.size())
        return table.reshape(len(vectors), -1).astype(np.int32)


def find_gpu() -> FaissGpu | None:
    """Return the GPU that this process may use, or None where FAISS sees none.

    In a Spark task that is the one that Spark gave it; see ``spark.task.resource.gpu.amount``.
    """
    import faiss

    if not faiss.get_num_gpus():
        return None
    if not getattr(faiss, "GpuIndexCagra", None):
        raise BuildError("this FAISS sees a GPU and has no cuVS: install Grebe's extra 'gpu' (faiss-gpu-cuvs)")
    return _gpu(task_gpu())


@functools.cache
def _gpu(number: int) -> FaissGpu:
    """Return a process's one handle of a GPU: FAISS keeps the scratch memory of each for good."""
    return FaissGpu(number)


def task_gpu() -> int:
    """Return the number of the GPU that Spark gave this task; 0 outside of one, or where Spark gives none."""
    spark: Any = sys.modules.get("pyspark")  # not there, no task: a server has no need of it
    context = spark.TaskContext.get() if spark else None
    given = context.resources().get("gpu") if context else None
    address = given.addresses[0] if given and given.addresses else "0"
    return int(address) if address.isdecimal() else 0  # a UUID names the one device that the process sees


@contextmanager
def failing_over(device: Device) -> Iterator[None]:
    """Raise :class:`DeviceFailed` for what FAISS, cuVS, torch and CUDA raise on a GPU; on a CPU nothing is changed."""
    try:
        yield
    except IndexerError:
        raise
    except Exception as error:
        if device.kind == "cpu":
            raise
        raise DeviceFailed(first_line(error)) from error


def first_line(error: Exception) -> str:
    """Return what an error says first; FAISS' errors go on with where they were raised."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def free_host_bytes() -> int:
    """Return the bytes of memory that programs can still have here: the machine's, or the container's if fewer."""
    with open("/proc/meminfo") as lines:
        free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    limit, used = _CGROUP / "memory.max", _CGROUP / "memory.current"
    try:
        return min(free, int(limit.read_text()) - int(used.read_text()))
    except (OSError, ValueError):  # no such controller; "max"
        return free


def _halved(vectors: Vectors) -> npt.NDArray[np.float16]:
    """Return ``vectors`` as float16, made by all cores: one takes longer for it than a GPU for the graph."""
    half = np.empty(vectors.shape, np.float16)

    def convert(start: int) -> None:
        half[start : start + _HALVED] = vectors[start : start + _HALVED]

    with ThreadPoolExecutor() as pool:
        list(pool.map(convert, range(0, len(vectors), _HALVED)))
    return half


def _torch_cuda() -> Any:
    return importlib.import_module("torch").cuda
