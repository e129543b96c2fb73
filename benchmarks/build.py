"""Building an index: vectors a second to a saved file, beside hnswlib and FAISS' HNSW on the same cores.

The vectors are those of seeded documents on few topics each (:func:`benchmarks.corpus.topical`). A build is timed with
what serving needs of it: calibration, the gate and the file; on a GPU, after a first small one that loads CUDA. Peers
are built with M=16 and efConstruction=100 on all cores, and given the least ``ef`` at which they reach the recall that
is asked of ours; one that is not done after a while is stopped, and what it added until then says how fast it is at
most, because a graph's growth slows. A graph that a GPU built, or here the lowest level of one that a CPU built, is
converted and searched on one thread beside the native graph over the same codes. Where there is a GPU, a million and
ten million vectors are built on it, the model embeds beside sentence-transformers' own ``encode``, a flat scan is held
against a copy on the device, and filtered searches go through it.

    .venv/bin/python -m benchmarks.build [--quick] [--check] [--only PART ...] [--keep FILE]
"""

from __future__ import annotations

import argparse
import math
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import faiss
import hnswlib
import numpy as np
import numpy.typing as npt

from benchmarks.corpus import sentences, topical
from benchmarks.harness import SEED, Goal, Report, gpu_driver, run
from benchmarks.search import BUCKETS, WIDTHS, Corpus, Grebe, build_grebe
from indexer.ann.build import build_index
from indexer.ann.device import Device, FaissGpu, find_gpu
from indexer.ann.graph import coded, from_neighbours
from indexer.format.vectors import Entries, save_index, within
from indexer.spec import IndexSpec
from retrieval.gpu import GpuSearch
from retrieval.scores import pointer, score_block
from retrieval.vector_plan import EXACT_FLOATS

PARTS = ("builds", "conversion", "scan", "filtered", "embedding", "large")
"""``large`` is ``builds`` at the sizes after the first."""

CPU_SIZES = ((100_000, 384),)
"""Of fewer vectors, a build of ours is mostly calibration and gate, whose questions are as many."""
GPU_SIZES, QUICK_GPU_SIZES = ((1_000_000, 384), (1_000_000, 768), (10_000_000, 384)), ((200_000, 384),)
QUERIES = 500
K, RECALL = 10, 0.95
M, CONSTRUCTION = 16, 100
CPU_ROUNDS, QUICK_CPU_ROUNDS = 2, 1
"""Where all builds use the same cores, each is done so often, in turn, and the faster one counts."""
PEER_SECONDS, PEER_BLOCK = 25.0, 50_000
"""At ``large`` sizes a peer's build is stopped after so long, when the block of vectors is done that it is adding then.
"""
WARM_UP = 60_000
"""Vectors of the first build on a GPU, which no clock sees."""
EFS = (*range(10, 64), *range(64, 128, 2), *range(128, 256, 8), *range(256, 513, 32))
"""In steps so small that two graphs of the same recall are compared."""
EMBEDDED = 20_000
ANSWERS, QUICK_ANSWERS, ASKING = 250_000, 20_000, 64
"""Answers of each filter on the GPU: four filters make a million; so many threads ask at once."""
CPU_ANSWERS = 20_000
SCANNED = 4
"""The flat scan is over so many times the vectors."""
ROUNDS = 5

raw_faiss: Any = faiss
"""What FAISS' type stubs do not know."""

Vectors = npt.NDArray[np.float32]
Ids = npt.NDArray[np.int64]


class Built(NamedTuple):
    """A build's seconds and the recall@10 that its index reaches; a peer's ``index``, for what else is measured of it.

    ``recall`` is None where a build was stopped: the seconds are those it would take at its rate until then.
    """

    seconds: float
    recall: float | None
    index: Any = None


def timed(build: Callable[[], Any]) -> tuple[float, Any]:
    """Return the seconds that ``build`` takes, and what it returns."""
    started = time.perf_counter()
    built = build()
    return time.perf_counter() - started, built


def ours(vectors: Vectors, spec: IndexSpec) -> Built:
    """Build, convert and serialise as a segment's index is."""

    def build() -> Any:
        index, record = build_index(vectors, spec)
        assert index is not None
        with tempfile.TemporaryDirectory() as folder:
            save_index(index, Path(folder) / "vectors.faiss")
        return record

    seconds, record = timed(build)
    assert record.device == spec.device, record.reason
    return Built(seconds, float(record.parameters["recall_at_10"]))


def hnswlib_built(vectors: Vectors, queries: Vectors, truth: Ids, patience: float) -> Built:
    """hnswlib, on all cores."""
    index = hnswlib.Index(space="ip", dim=vectors.shape[1])
    index.init_index(max_elements=len(vectors), M=M, ef_construction=CONSTRUCTION, random_seed=SEED)

    def found(ef: int) -> Ids:
        index.set_ef(ef)
        return np.asarray(index.knn_query(queries, k=K)[0], dtype=np.int64)

    return grown(index, index.add_items, found, vectors, truth, patience)


def faiss_hnsw_built(vectors: Vectors, queries: Vectors, truth: Ids, patience: float) -> Built:
    """FAISS' HNSW over whole vectors, on all cores."""
    index = faiss.IndexHNSWFlat(vectors.shape[1], M, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction = CONSTRUCTION
    return grown(index, index.add, lambda ef: index.search(queries, K, params=within(ef))[1], vectors, truth, patience)


def grown(
    index: Any,
    add: Callable[[Vectors], object],
    found: Callable[[int], Ids],
    vectors: Vectors,
    truth: Ids,
    patience: float,
) -> Built:
    """Add ``vectors`` to ``index`` block by block, for ``patience`` seconds at most, and measure its recall."""
    begun = time.perf_counter()
    for start in range(0, len(vectors), PEER_BLOCK):
        add(vectors[start : start + PEER_BLOCK])
        seconds = time.perf_counter() - begun
        added = min(start + PEER_BLOCK, len(vectors))
        if seconds > patience and added < len(vectors):
            return Built(seconds * len(vectors) / added, None)
    return Built(seconds, least_enough(found, truth)[1], index)


def least_enough(found: Callable[[int], Ids], truth: Ids) -> tuple[int, float]:
    """Return the least ef of the sweep that reaches the recall, or the largest, and its recall."""
    for ef in EFS:
        reached = recall(found(ef), truth)
        if reached >= RECALL:
            break
    return ef, reached


def recall(found: Ids, truth: Ids) -> float:
    """Return recall@10 of ``(n, k)`` ids."""
    return float((found[:, :, None] == truth[:, None, :]).any(axis=1).mean())


def add_build_rows(
    report: Report,
    vectors: Vectors,
    queries: Vectors,
    gpu: FaissGpu | None,
    *,
    rounds: int = 1,
    patience: float = math.inf,
) -> Any:
    """Ours on each device beside both peers, whose faster one is what a ratio is to; return FAISS' graph."""
    size, device = f"{len(vectors):,} × {vectors.shape[1]}", "gpu" if gpu else "cpu"
    truth = faiss.knn(queries, vectors, K, metric=faiss.METRIC_INNER_PRODUCT)[1]
    kinds = ("ivf", "cagra") if gpu else ("ivf", "hnsw")
    builds: dict[str, Callable[[], Built]] = {
        "hnswlib": partial(hnswlib_built, vectors, queries, truth, patience),
        "FAISS HNSW": partial(faiss_hnsw_built, vectors, queries, truth, patience),
    } | {kind: partial(ours, vectors, IndexSpec.model_validate({"kind": kind, "device": device})) for kind in kinds}
    turns = [{name: build() for name, build in builds.items()} for _ in range(rounds)]
    best = {name: min((built[name] for built in turns), key=lambda built: built.seconds) for name in builds}
    peers = ("hnswlib", "FAISS HNSW")
    fastest = min(best[name].seconds for name in peers)
    for name in peers:
        peer = best[name]
        rate, relative = f"{len(vectors) / peer.seconds:,.0f}", f"{fastest / peer.seconds:.2f}"
        if peer.recall is None:
            report.add(f"{size}, {name}, stopped after {patience:.0f} s", f"≤ {rate}", "", relative)
        else:
            report.add(f"{size}, {name}", rate, peer.recall, relative)
    for kind in kinds:
        built = best[kind]
        ratio, reached = fastest / built.seconds, built.recall or 0.0
        # A graph on the same cores costs what a graph costs: only lists are expected to be quicker there.
        least = 8.0 if gpu else {"ivf": 2.0}.get(kind)
        report.add(
            f"{size}, {kind} on the {device.upper()}",
            f"{len(vectors) / built.seconds:,.0f}",
            reached,
            f"{ratio:.2f}",
            value=ratio if reached >= RECALL else 0.0,
            goal=None if least is None else Goal(least=least),
        )
        report.add(f"{size}, {kind}: recall", "", reached, "", value=reached, goal=Goal(least=RECALL))
    return best["FAISS HNSW"].index


def add_conversion_rows(report: Report, vectors: Vectors, queries: Vectors, gpu: FaissGpu | None, native: Any) -> None:
    """A converted graph beside a native one over the same codes, one query at a time on one thread.

    ``native`` is FAISS' graph over whole vectors; it is given the codes of the converted one.
    """
    if gpu:
        from indexer.ann.admission import admitted

        plan = admitted(len(vectors), vectors.shape[1], IndexSpec(kind="cagra"), gpu)
        assert plan.graph is not None
        neighbours = gpu.graph(vectors, plan.graph)
    else:
        levels = native.hnsw
        starts = faiss.vector_to_array(levels.offsets)[:-1].astype(np.int64)
        neighbours = faiss.vector_to_array(levels.neighbors)[starts[:, None] + np.arange(2 * M)]
    converted, entries = from_neighbours(neighbours, coded(vectors)), Entries.of(vectors)
    whole, native.storage = native.storage, converted.storage
    truth = faiss.knn(queries, vectors, K, metric=faiss.METRIC_INNER_PRODUCT)[1]
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        own_ef, own = least_enough(lambda ef: native.search(queries, K, params=within(ef))[1], truth)
        ef, reached = least_enough(lambda ef: entries.walk(converted, queries, K, ef), truth)
        ratios, rates = [], []
        for _ in range(ROUNDS):
            ours_qps = qps(walked(converted, entries, ef), queries)
            theirs = qps(searched(native, own_ef), queries)
            ratios.append(ours_qps / theirs)
            rates.append((ours_qps, theirs))
    finally:
        faiss.omp_set_num_threads(threads)
        native.storage = whole
    ratio = float(np.median(ratios))
    name = f"converted graph of {'CAGRA' if gpu else 'a CPU'}, {len(vectors):,} × {vectors.shape[1]}"
    report.add(f"{name}: recall", "", reached, "", value=reached, goal=Goal(least=RECALL))
    median = np.median(rates, axis=0)
    report.add(f"{name}: QPS", f"{median[0]:,.0f}", reached, f"{ratio:.2f}", value=ratio, goal=Goal(least=0.9))
    report.add("native graph: QPS", f"{median[1]:,.0f}", own, "1.00")


def walked(converted: Any, entries: Entries, ef: int) -> Callable[[Vectors], None]:
    """A search of the converted graph as a server makes it: FAISS' own call, into memory that is there."""
    found, scores = np.empty(K, dtype=np.int64), np.empty(K, dtype=np.float32)
    at, at_scores, effort = pointer(found), pointer(scores), within(ef)

    def search(query: Vectors) -> None:
        near = score_block(query[0], entries.vectors)
        begin = int(near.argmax())
        first, its_score = entries.positions[begin : begin + 1], near[begin : begin + 1]
        converted.search_level_0(1, pointer(query), K, pointer(first), pointer(its_score), at_scores, at, 1, 1, effort)

    return search


def searched(native: Any, ef: int) -> Callable[[Vectors], None]:
    """The same of the native graph, all of its levels."""
    found, scores = np.empty(K, dtype=np.int64), np.empty(K, dtype=np.float32)
    at, at_scores, effort = pointer(found), pointer(scores), within(ef)
    return lambda query: native.search_c(1, pointer(query), K, at_scores, at, effort)


def qps(search: Callable[[Vectors], object], queries: Vectors) -> float:
    """Queries a second, one after the other."""
    each = [np.ascontiguousarray(query[None]) for query in queries]
    started = time.perf_counter()
    for query in each:
        search(query)
    return len(each) / (time.perf_counter() - started)


def add_embedding_row(report: Report, gpu: FaissGpu) -> None:
    """Sentences a second by our embedder and by sentence-transformers as it comes, on the same GPU."""
    from sentence_transformers import SentenceTransformer

    from indexer.embedding import _bundled_folder, load_embedder

    texts = sentences(EMBEDDED)
    embedder = load_embedder("bundled:all-MiniLM-L6-v2")
    theirs = SentenceTransformer(str(_bundled_folder()), device="cuda")
    # The first pass over each length of batch loads CUDA's kernels for it.
    own, peer = (
        [timed(partial(embed, texts))[0] for _ in range(3)][-1]
        for embed in (embedder.documents, partial(theirs.encode, show_progress_bar=False))
    )
    report.add(
        f"embedding on {gpu.name}, sentences/s",
        f"{len(texts) / own:,.0f}",
        "",
        f"{peer / own:.2f}",
        value=peer / own,
        goal=Goal(least=1.5),
    )
    report.add("sentence-transformers' encode, sentences/s", f"{len(texts) / peer:,.0f}", "", "1.00")


def add_scan_row(report: Report, vectors: Vectors, queries: Vectors, gpu: FaissGpu) -> None:
    """Bytes of vectors that a flat scan reads a second, beside those that a copy on the device reads."""
    import torch

    flat = gpu.flat(vectors.shape[1], half=False)
    for _ in range(SCANNED):
        flat.add(vectors)
    scanned = SCANNED * vectors.nbytes
    query = np.ascontiguousarray(queries[:1])
    flat.search(query, K)
    seconds = min(timed(lambda: flat.search(query, K))[0] for _ in range(20))
    source = torch.empty(scanned // 4, dtype=torch.float32, device="cuda")
    target = torch.empty_like(source)

    def copied() -> None:
        target.copy_(source)
        torch.cuda.synchronize()

    copied()
    copy_seconds = min(timed(copied)[0] for _ in range(20))
    ratio = copy_seconds / 2 / seconds  # a copy reads and writes each byte
    name = f"flat scan of {SCANNED * len(vectors):,} × {vectors.shape[1]} on {gpu.name}, GB/s"
    report.add(name, f"{scanned / seconds / 1e9:,.0f}", 1.0, f"{ratio:.2f}", value=ratio, goal=Goal(least=0.7))


def add_filtered_rows(report: Report, vectors: Vectors, queries: Vectors, gpu: Device, answers: int) -> None:
    """Filtered searches from many threads, by the GPU and by the CPU, and the forbidden rows among the answers."""
    n, told = len(vectors), list[str]()
    buckets = np.random.default_rng(SEED).permutation(n).astype(np.int32) % BUCKETS
    corpus = Corpus(["word"] * n, vectors, [""] * len(queries), queries, buckets)
    numbers = np.resize(np.arange(len(queries)), answers // K)
    forbidden = 0
    with tempfile.TemporaryDirectory() as folder:
        build_grebe(corpus, Path(folder))
        grebe, on_gpu = Grebe(corpus, Path(folder)), GpuSearch(gpu, report=told.append)
        for label, width in list(WIDTHS.items())[1:]:
            assert width is not None
            asked = partial(grebe.search, mode="vector", width=width, lows=None)
            rates = {}
            for where, some in ((None, numbers[: CPU_ANSWERS // K]), (on_gpu, numbers)):
                grebe.snapshot.gpu = where
                asked_by_many(asked, some[:ASKING])  # what the first searches with a filter make is not measured
                rates[where], found = asked_by_many(asked, some)
                forbidden += sum(int((buckets[ids] >= width).sum()) for ids in found)
            truth = corpus.truth(None, width)
            reached = float(np.mean([len(true.intersection(ids)) / K for true, ids in zip(truth, found, strict=False)]))
            report.add(
                f"{n:,} × {vectors.shape[1]}, {label} passing, {ASKING} asking: QPS by {gpu.name}",
                f"{rates[on_gpu]:,.0f}",
                reached,
                f"{rates[on_gpu] / rates[None]:.2f} of the CPU's",
                value=reached,
                goal=Goal(least=RECALL),
            )
        # A forbidden row that the device proposes is not returned: it ends the trust in it, and is told.
        forbidden += len(told)
        report.add(
            "forbidden rows answered, or the device's failures", forbidden, "", "", value=forbidden, goal=Goal(most=0)
        )
        report.notes += [*told, f"Where at most {EXACT_FLOATS:,} numbers pass, the CPU scans them and no GPU is asked."]
        on_gpu.close()
        grebe.snapshot.close()


def asked_by_many(search: Callable[[int], list[int]], numbers: Ids) -> tuple[float, list[list[int]]]:
    """Return the QPS of so many threads and the ids that each query found."""
    search(0)
    with ThreadPoolExecutor(ASKING) as pool:
        seconds, found = timed(lambda: list(pool.map(search, numbers.tolist())))
    return len(numbers) / seconds, found


def measure(arguments: argparse.Namespace) -> Report:
    """Run every row that this machine can, of the parts that were asked for."""
    gpu = find_gpu()
    sizes = CPU_SIZES if not gpu else QUICK_GPU_SIZES if arguments.quick else GPU_SIZES
    rounds = 1 if gpu else QUICK_CPU_ROUNDS if arguments.quick else CPU_ROUNDS
    report = Report(
        title=f"Building indexes{f' on {gpu.name}, driver {gpu_driver()}' if gpu else ': no GPU here, CPU rows only'}",
        columns=("vectors/s", "recall@10", "to the faster peer"),
        packages=("hnswlib", "numpy", "faiss-gpu-cuvs" if gpu else "faiss-cpu"),
    )
    asked = set(arguments.only)
    if gpu and asked & {"builds", "conversion", "large"}:
        for kind in ("ivf", "cagra"):
            ours(topical(WARM_UP), IndexSpec.model_validate({"kind": kind, "device": "gpu"}))
    vectors, queries = with_queries(*sizes[0])
    if asked & {"builds", "conversion"}:
        native = add_build_rows(report, vectors, queries, gpu, rounds=rounds)
        if "conversion" in asked:
            add_conversion_rows(report, vectors, queries, gpu, native)
        del native
    if gpu and "scan" in asked:
        add_scan_row(report, vectors, queries, gpu)
    if gpu and "filtered" in asked:
        add_filtered_rows(report, vectors, queries, gpu, QUICK_ANSWERS if arguments.quick else ANSWERS)
    if gpu and "embedding" in asked:
        add_embedding_row(report, gpu)
    for size in sizes[1:] if "large" in asked else ():
        vectors, queries = with_queries(*size)
        add_build_rows(report, vectors, queries, gpu, patience=PEER_SECONDS)
    return report


def with_queries(n: int, dim: int) -> tuple[Vectors, Vectors]:
    """Return ``n`` vectors and queries of their kind."""
    everything = topical(n + QUERIES, dim)
    return everything[:n], np.ascontiguousarray(everything[n:])


if __name__ == "__main__":
    run(__doc__ or "", measure, parts=PARTS)
