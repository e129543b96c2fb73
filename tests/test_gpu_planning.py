"""What of a GPU build can be shown without one: admission, fallback, the gate, and the graph's conversion.

A stand-in takes the GPU's place behind :class:`indexer.ann.device.Device`: FAISS on the CPU does its searches, and its
graph is the lowest level of an HNSW built here. What no GPU has shown is said in docs/gpu.md.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import numpy.typing as npt
import pytest

from indexer.ann import build as building
from indexer.ann import device as devices
from indexer.ann.admission import CUDA_BYTES, admitted
from indexer.ann.build import build_index, is_as_asked
from indexer.ann.device import Cpu, DeviceKind, FaissGpu, Neighbours, find_gpu
from indexer.ann.graph import coded, from_neighbours
from indexer.ann.graph_plan import GraphPlan
from indexer.errors import BuildError, RecallTooLow
from indexer.format.vectors import Entries, Vectors, load_index, save_index
from indexer.spec import IndexSpec

GIB = 1024**3
N, DIM = 6_000, 32
Floats = npt.NDArray[np.float32]
Graph = Callable[[Vectors, int], Neighbours]


class StandIn:
    """A GPU as far as builders can tell."""

    kind: DeviceKind = "gpu"
    name = "stand-in"

    def __init__(self, free_bytes: int = 80 * GIB, fails: str = "", graph: Graph | None = None) -> None:
        self._free, self._fails, self._graph = free_bytes, fails, graph
        self.asked: list[str] = []

    def free_bytes(self) -> int:
        return self._free

    def flat(self, dim: int, *, half: bool) -> faiss.Index:
        self._step("flat")
        return faiss.IndexFlatIP(dim)

    def graph(self, vectors: Vectors, plan: GraphPlan) -> Neighbours:
        self._step("graph")
        return (self._graph or lowest_level)(vectors, plan.degree)

    def _step(self, name: str) -> None:
        self.asked.append(name)
        if name == self._fails:
            raise RuntimeError("Error in alloc: cudaMalloc error out of memory [2]\n at StandardGpuResources.cpp:512")


def lowest_level(vectors: Vectors, degree: int) -> Neighbours:
    """Return the lowest level of an HNSW graph over ``vectors``, ``(n, degree)``."""
    index = faiss.IndexHNSWFlat(vectors.shape[1], degree // 2, faiss.METRIC_INNER_PRODUCT)
    index.add(np.ascontiguousarray(vectors, dtype=np.float32))
    levels: Any = index.hnsw
    offsets = faiss.vector_to_array(levels.offsets)[:-1].astype(np.int64)
    links: Neighbours = faiss.vector_to_array(levels.neighbors)[offsets[:, None] + np.arange(degree)]
    return links


def to_itself(vectors: Vectors, degree: int) -> Neighbours:
    """Return a graph in which each vector knows itself alone."""
    return np.repeat(np.arange(len(vectors), dtype=np.int32)[:, None], degree, axis=1)


@pytest.fixture(scope="module")
def vectors() -> Floats:
    random = np.random.default_rng(20_261_126)
    centres = random.standard_normal((60, DIM))
    made = centres[random.integers(0, 60, N)] + 0.8 * random.standard_normal((N, DIM))
    unit: Floats = (made / np.linalg.norm(made, axis=1, keepdims=True)).astype(np.float32)
    return unit


@pytest.fixture(scope="module")
def converted(vectors: Floats) -> faiss.IndexHNSW:
    return from_neighbours(lowest_level(vectors, 32), coded(vectors))


class TestAdmission:
    """What is predicted before anything is allocated."""

    @pytest.mark.parametrize("kind", ["ivf", "cagra"])
    @pytest.mark.parametrize(("n", "dim"), [(1_000_000, 384), (1_000_000, 768), (10_000_000, 384)])
    def test_an_h100_takes_what_the_benchmark_builds(self, kind: Any, n: int, dim: int) -> None:
        plan = admitted(n, dim, IndexSpec(kind=kind), StandIn(), host_bytes=128 * GIB)

        assert plan.device == "gpu"
        assert CUDA_BYTES < plan.device_bytes + CUDA_BYTES <= 80 * GIB * 0.9

    @pytest.mark.parametrize("kind", ["ivf", "cagra"])
    def test_predictions_grow_with_what_is_built(self, kind: Any) -> None:
        sizes = [
            admitted(n, 384, IndexSpec(kind=kind), StandIn(), host_bytes=512 * GIB).device_bytes
            for n in (100_000, 1_000_000, 10_000_000)
        ]

        assert sizes == sorted(sizes)
        assert len(set(sizes)) == 3

    def test_a_smaller_device_gets_smaller_blocks(self) -> None:
        blocks = [
            admitted(1_000_000, 384, IndexSpec(kind="ivf"), StandIn(free), host_bytes=64 * GIB).block
            for free in (80 * GIB, 2 * GIB, int(1.35 * GIB))
        ]

        assert blocks == sorted(blocks, reverse=True)
        assert len(set(blocks)) == 3
        assert all(block & (block - 1) == 0 for block in blocks)

    def test_a_segment_larger_than_the_device_is_still_taken_in_blocks(self) -> None:
        whole = 50_000_000 * 384 * 4
        plan = admitted(50_000_000, 384, IndexSpec(kind="ivf"), StandIn(16 * GIB), host_bytes=256 * GIB)

        assert plan.device_bytes < 16 * GIB < whole

    def test_the_graphs_algorithm_and_batch_are_chosen_to_fit(self) -> None:
        def chosen(free: int) -> tuple[str, int]:
            plan = admitted(4_000_000, 384, IndexSpec(kind="cagra"), StandIn(free), host_bytes=256 * GIB)
            assert plan.graph is not None
            return plan.graph.algorithm, plan.graph.search_batch

        assert chosen(80 * GIB) == ("nn_descent", 0)
        assert chosen(8 * GIB) == ("ivf_pq", 512)
        assert chosen(6 * GIB) == ("ivf_pq", 256)

    def test_cuvs_own_search_batch_would_not_fit_where_ours_does(self) -> None:
        plan = admitted(4_000_000, 384, IndexSpec(kind="cagra"), StandIn(6 * GIB), host_bytes=256 * GIB)

        assert plan.graph is not None
        assert plan.graph.search_batch < 4_096
        assert plan.device_bytes < 6 * GIB < 12_800_000_000

    @pytest.mark.parametrize("kind", ["ivf", "cagra"])
    def test_what_fits_nowhere_is_refused_with_the_numbers(self, kind: Any) -> None:
        with pytest.raises(
            BuildError, match=r"over 10,000,000 vectors of 384 needs [\d.]+ GiB of stand-in, and [\d.]+ GiB"
        ):
            admitted(10_000_000, 384, IndexSpec(kind=kind), StandIn(GIB), host_bytes=256 * GIB)

    @pytest.mark.parametrize("kind", ["ivf", "cagra"])
    @pytest.mark.parametrize("device", [Cpu(), StandIn()], ids=["cpu", "gpu"])
    def test_this_machines_memory_is_asked_too(self, kind: Any, device: Any) -> None:
        with pytest.raises(BuildError, match=r"GiB of this machine's memory, and 0.9 GiB may be used"):
            admitted(10_000_000, 384, IndexSpec(kind=kind), device, host_bytes=GIB)

    def test_the_second_attempt_at_a_graph_takes_more_rounds_and_connects_it(self) -> None:
        first, second = (
            admitted(100_000, 384, IndexSpec(kind="cagra"), StandIn(), strength=strength, host_bytes=64 * GIB).graph
            for strength in (0, 1)
        )

        assert first is not None
        assert second is not None
        assert (first.connected, second.connected) == (False, True)
        assert first.rounds < second.rounds
        assert first.degree < second.degree

    @pytest.mark.parametrize("kind", ["ivf", "cagra"])
    @pytest.mark.parametrize("device", [Cpu(), StandIn()], ids=["cpu", "gpu"])
    def test_the_scan_that_an_index_is_measured_by_is_counted(self, kind: Any, device: Any) -> None:
        plan = admitted(60_000, 4_096, IndexSpec(kind=kind), device, host_bytes=64 * GIB)

        assert (plan.device_bytes if device.kind == "gpu" else plan.host_bytes) >= 2 * 60_000 * 4_096 * 4

    def test_a_device_that_the_scan_alone_would_fill_is_not_taken(self) -> None:
        free = int((CUDA_BYTES + 1.5 * 60_000 * 4_096 * 4) / 0.9)
        with pytest.raises(BuildError, match=r"needs 1\.8 GiB of stand-in"):
            admitted(60_000, 4_096, IndexSpec(kind="ivf"), StandIn(free), host_bytes=64 * GIB)

    def test_too_few_vectors_for_a_graph_are_the_cpus(self) -> None:
        with pytest.raises(BuildError, match="60 vectors are too few for a CAGRA graph of degree 32"):
            admitted(60, 384, IndexSpec(kind="cagra"), StandIn(), host_bytes=GIB)


class TestChoice:
    """Which device a segment is built on, and what its record says of it."""

    def test_a_large_segment_goes_to_the_gpu_unasked(self, vectors: Floats, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(building, "GPU_MIN_CHUNKS", N)
        gpu = StandIn()

        _, record = build_index(vectors, IndexSpec(kind="ivf"), gpu=lambda: gpu)

        assert (record.kind, record.device) == ("ivf", "gpu")
        assert record.reason == "the spec asks for ivf; built on stand-in"
        assert "flat" in gpu.asked

    def test_a_small_segment_does_not(self, vectors: Floats) -> None:
        _, record = build_index(vectors, IndexSpec(kind="cagra"), gpu=StandIn)
        assert record.reason == "the spec asks for cagra; fewer than 50000: HNSW on the CPU stands in for CAGRA"
        _, record = build_index(vectors, IndexSpec(kind="ivf"), gpu=StandIn)
        assert record.device == "cpu"

    def test_a_gpu_that_is_asked_for_and_missing_is_named(self, vectors: Floats) -> None:
        with pytest.raises(
            BuildError, match=r"index\.device is 'gpu' and FAISS sees none here: install Grebe's extra 'gpu'"
        ):
            build_index(vectors, IndexSpec(kind="ivf", device="gpu"), gpu=lambda: None)

    def test_the_cpu_that_is_asked_for_is_taken(self, vectors: Floats, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(building, "GPU_MIN_CHUNKS", 1)
        _, record = build_index(vectors, IndexSpec(kind="ivf", device="cpu"), gpu=StandIn)
        assert record.device == "cpu"

    def test_where_there_is_no_gpu_hnsw_stands_in_for_cagra(
        self, vectors: Floats, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(building, "GPU_MIN_CHUNKS", 1)
        index, record = build_index(vectors, IndexSpec(kind="cagra"), gpu=lambda: None)
        assert isinstance(index, faiss.IndexHNSW)
        assert (record.kind, record.device) == ("hnsw", "cpu")
        assert record.reason == "the spec asks for cagra; no GPU: HNSW on the CPU stands in for CAGRA"

    def test_an_index_of_a_gpu_is_that_of_a_cpu(self, vectors: Floats, tmp_path: Path) -> None:
        for device, spec in (("cpu", IndexSpec(kind="ivf")), ("gpu", IndexSpec(kind="ivf", device="gpu"))):
            index, _ = build_index(vectors, spec, gpu=StandIn)
            assert index is not None
            save_index(index, tmp_path / device)
        assert (tmp_path / "cpu").read_bytes() == (tmp_path / "gpu").read_bytes()

    def test_without_cuvs_a_gpu_is_refused_by_what_to_install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(faiss, "get_num_gpus", lambda: 1)
        with pytest.raises(BuildError, match=r"has no cuVS: install Grebe's extra 'gpu' \(faiss-gpu-cuvs\)"):
            find_gpu()

    def test_this_faiss_sees_no_gpu(self) -> None:
        if faiss.get_num_gpus():
            assert isinstance(find_gpu(), FaissGpu)
        else:
            assert find_gpu() is None


class TestFallback:
    """A GPU that gives up half-way costs time and nothing else."""

    @pytest.mark.parametrize(
        "error", [RuntimeError("CUDA driver version is insufficient\n at x"), AssertionError("no CUDA")]
    )
    def test_a_gpu_that_cannot_be_opened_is_left_alone_unless_it_is_asked_for(
        self, vectors: Floats, monkeypatch: pytest.MonkeyPatch, error: Exception
    ) -> None:
        monkeypatch.setattr(building, "GPU_MIN_CHUNKS", 1)

        def gpu() -> StandIn:
            raise error

        _, record = build_index(vectors, IndexSpec(kind="ivf"), gpu=gpu)

        said = str(error).splitlines()[0]
        assert (record.device, record.reason) == ("cpu", f"the spec asks for ivf; the GPU cannot be used: {said}")
        with pytest.raises(BuildError, match=f"index.device is 'gpu' and it cannot be used: {said}"):
            build_index(vectors, IndexSpec(kind="ivf", device="gpu"), gpu=gpu)

    def test_a_graph_of_another_degree_is_a_failure_of_the_device(self, vectors: Floats) -> None:
        gpu = StandIn(graph=lambda vectors, degree: lowest_level(vectors, degree - 2))

        _, record = build_index(vectors, IndexSpec(kind="cagra", device="gpu"), gpu=lambda: gpu)

        assert record.device == "cpu"
        assert "a graph of the shape (6000, 30) came instead of degree 32" in record.reason

    @pytest.mark.parametrize("n", [32, 40, 64, 65, 128])
    def test_the_smallest_segments_are_built_somewhere(self, vectors: Floats, n: int) -> None:
        _, record = build_index(vectors[:n], IndexSpec(kind="cagra", device="gpu"), gpu=StandIn)
        assert record.kind == "hnsw"

    def test_a_plan_counts_the_chunks_that_are_in_the_graph(self, vectors: Floats) -> None:
        embedded = np.arange(N) % 30 == 0
        zeroed = np.where(embedded[:, None], vectors, 0).astype(np.float32)

        index, record = build_index(zeroed, IndexSpec(kind="cagra", device="gpu"), embedded=embedded, gpu=StandIn)

        assert index is not None
        assert (index.ntotal, record.device) == (N, "gpu")

    @pytest.mark.parametrize(("kind", "step"), [("ivf", "flat"), ("cagra", "flat"), ("cagra", "graph")])
    def test_the_cpu_takes_over_and_the_record_says_why(self, vectors: Floats, kind: Any, step: str) -> None:
        gpu = StandIn(fails=step)

        index, record = build_index(vectors, IndexSpec(kind=kind, device="gpu"), gpu=lambda: gpu)

        assert index is not None
        assert index.ntotal == N
        assert record.device == "cpu"
        assert record.reason == (
            f"the spec asks for {kind}; stand-in: Error in alloc: cudaMalloc error out of memory [2]; built on the CPU"
        )
        assert float(record.parameters["recall_at_10"]) >= 0.95
        assert gpu.asked.count(step) == 1

    def test_a_gpu_that_is_too_small_is_not_even_asked(self, vectors: Floats) -> None:
        gpu = StandIn(free_bytes=GIB)

        _, record = build_index(vectors, IndexSpec(kind="cagra", device="gpu"), gpu=lambda: gpu)

        assert record.device == "cpu"
        assert "GiB of stand-in" in record.reason
        assert gpu.asked == []

    def test_an_error_of_ours_is_no_failure_of_a_device(self) -> None:
        with pytest.raises(RuntimeError, match="ours"), devices.failing_over(Cpu()):
            raise RuntimeError("ours")


class TestGate:
    """An index that finds too little is not kept."""

    def test_a_graph_that_leads_nowhere_is_built_again_and_then_on_the_cpu(self, vectors: Floats) -> None:
        gpu = StandIn(graph=to_itself)

        _, record = build_index(vectors, IndexSpec(kind="cagra", device="gpu"), gpu=lambda: gpu)

        assert gpu.asked.count("graph") == 2
        assert record.device == "cpu"
        assert re.fullmatch(
            r"the spec asks for cagra; recall@10 was 0\.\d+ at strength 0 of cagra on the GPU; "
            r"recall@10 was 0\.\d+ at strength 1 of cagra on the GPU; built on the CPU",
            record.reason,
        )
        assert float(record.parameters["recall_at_10"]) >= 0.95

    def test_what_no_attempt_reaches_fails_by_name(self, vectors: Floats, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(building, "recall_of", lambda *_: 0.5)
        with pytest.raises(
            RecallTooLow, match=r"must find 0.95 of the nearest ten \(index.min_recall\): recall@10 was 0.5"
        ):
            build_index(vectors, IndexSpec(kind="ivf"))

    def test_queries_that_the_index_serves_badly_count(self, vectors: Floats) -> None:
        far = np.random.default_rng(1).standard_normal((2_000, DIM)).astype(np.float32)
        far /= np.linalg.norm(far, axis=1, keepdims=True)

        _, plain = build_index(vectors, IndexSpec(kind="ivf", min_recall=0.5))
        _, asked = build_index(vectors, IndexSpec(kind="ivf", min_recall=0.5), queries=far)

        assert float(asked.parameters["recall_at_10"]) < float(plain.parameters["recall_at_10"])

    @pytest.mark.parametrize("kind", ["ivf", pytest.param("hnsw", marks=pytest.mark.soak), "cagra"])
    def test_texts_that_repeat_are_no_loss_of_recall(self, kind: Any) -> None:
        random = np.random.default_rng(2)
        few = random.standard_normal((150, 64)).astype(np.float32)
        few /= np.linalg.norm(few, axis=1, keepdims=True)
        spec = IndexSpec(kind=kind)

        _, record = build_index(few[random.permutation(np.repeat(np.arange(150), 80))], spec)

        assert float(record.parameters["recall_at_10"]) >= 0.95
        assert is_as_asked(record, 12_000, spec)

    @pytest.mark.parametrize("length", [1.0, 100.0])
    @pytest.mark.parametrize("kind", ["ivf", "hnsw"])
    def test_neighbours_that_are_all_equally_far_are_all_right(self, kind: Any, length: float) -> None:
        turned = np.linalg.qr(np.random.default_rng(4).standard_normal((400, 400)))[0].astype(np.float32)

        _, record = build_index(np.ascontiguousarray(turned * length), IndexSpec(kind=kind))

        assert float(record.parameters["recall_at_10"]) >= 0.95

    def test_where_a_graph_falls_apart_lists_stand_in(self, vectors: Floats, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(
            building,
            "build_graph",
            lambda *_: (from_neighbours(to_itself(vectors, 32), coded(vectors)), "none"),
        )
        spec = IndexSpec(kind="hnsw")

        index, record = build_index(vectors, spec)

        assert isinstance(index, faiss.IndexIVF)
        assert record.kind == "ivf"
        assert record.reason.endswith("at strength 1 of hnsw on the CPU; IVF stands in for a graph")
        assert is_as_asked(record, N, spec)
        assert not is_as_asked(record, N, IndexSpec(kind="ivf"))

    @pytest.mark.parametrize("kind", ["ivf", "hnsw"])
    @pytest.mark.parametrize("n", [32, 33, 40, 300])
    def test_the_smallest_indexes_pass(self, vectors: Floats, kind: Any, n: int) -> None:
        _, record = build_index(vectors[:n], IndexSpec(kind=kind))
        assert record.kind == kind

    def test_vectors_of_half_precision_pass(self, vectors: Floats) -> None:
        _, record = build_index(vectors.astype(np.float16), IndexSpec(kind="hnsw"))
        assert float(record.parameters["recall_at_10"]) >= 0.95


class TestConversion:
    """A table of neighbours becomes what a CPU searches."""

    def test_it_finds_what_a_native_graph_finds(self, vectors: Floats, converted: faiss.IndexHNSW) -> None:
        truth = faiss.knn(vectors[:500], vectors, 10, metric=faiss.METRIC_INNER_PRODUCT)[1]

        found = Entries.of(vectors).walk(converted, np.ascontiguousarray(vectors[:500]), 20, 64)

        recall = (found[:, :, None] == truth[:, None, :]).any(axis=1).mean()
        assert recall >= 0.95

    def test_it_is_a_cagra_of_the_lowest_level_over_codes(self, converted: Any) -> None:
        assert isinstance(converted, faiss.IndexHNSWCagra)  # type: ignore[attr-defined]
        assert converted.base_level_only
        assert isinstance(faiss.downcast_index(converted.storage), faiss.IndexScalarQuantizer)
        with pytest.raises(RuntimeError, match="base_level_only"):
            converted.add(np.zeros((1, DIM), dtype=np.float32))

    def test_it_survives_its_file(self, vectors: Floats, converted: Any, tmp_path: Path) -> None:
        save_index(converted, tmp_path / "vectors.faiss")
        opened: Any = load_index(tmp_path / "vectors.faiss")
        entries, queries = Entries.of(vectors), np.ascontiguousarray(vectors[:100])

        assert opened.base_level_only
        assert np.array_equal(entries.walk(opened, queries, 10, 48), entries.walk(converted, queries, 10, 48))

    def test_its_answers_do_not_depend_on_who_else_asks(self, vectors: Floats, converted: faiss.IndexHNSW) -> None:
        entries, queries = Entries.of(vectors), np.ascontiguousarray(vectors[:64])

        together = entries.walk(converted, queries, 10, 48)
        alone = [entries.walk(converted, np.ascontiguousarray(query[None]), 10, 48)[0] for query in queries]

        assert np.array_equal(together, alone)

    @pytest.mark.parametrize("shape", [(N - 1, 32), (N, 31), (0, 32)])
    def test_a_table_that_fits_no_graph_is_refused(self, vectors: Floats, shape: tuple[int, int]) -> None:
        with pytest.raises(ValueError, match="do not make a graph"):
            from_neighbours(np.zeros(shape, dtype=np.int32), coded(vectors))

    def test_what_a_gpu_built_is_recorded_and_searched(self, vectors: Floats) -> None:
        index, record = build_index(vectors, IndexSpec(kind="cagra", device="gpu"), gpu=StandIn)

        assert isinstance(index, faiss.IndexHNSWCagra)  # type: ignore[attr-defined]
        assert (record.kind, record.device) == ("hnsw", "gpu")
        assert record.parameters["factory"] == "HNSW16,SQ8 of CAGRA"
        assert float(record.parameters["recall_at_10"]) >= 0.95
