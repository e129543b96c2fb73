"""Queries a second at recall@10 ≥ 0.95, one thread: 100,000 sentences, beside hnswlib and FAISS in the same run.

The corpus is the sentences of the docstrings of installed packages, embedded once by all-MiniLM-L6-v2 and cached; the
queries are sentences held out of it. Filters pass 50, 10, 1 and 0.1 % of the rows. *Warm* filters have been seen on
this version; *cold* ones have new values every time, and FAISS gets polars to evaluate them. *Policies* are the same
conditions as row policies, their bounds the caller's claims. FAISS is IVF fast-scan with exact refinement, its selector
given the bitmap; its and hnswlib's settings are the fastest of a sweep that reach the recall on these very queries.
Grebe runs with its defaults. ``--quick`` takes fewer rows, where recall alone is judged: the ratios' goals are those of
100,000.

    .venv/bin/python -m benchmarks.search [--quick] [--check]
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import faiss
import hnswlib
import httpx
import numpy as np
import numpy.typing as npt
import polars as pl

from benchmarks.corpus import embedded, sentences
from benchmarks.freshness import server
from benchmarks.harness import SEED, Goal, Report, run

ROWS, QUERIES = 100_000, 1_000
QUICK_ROWS, QUICK_QUERIES = 20_000, 200
K, RECALL = 10, 0.95
DEEP_K = 100
"""As many as go into a reranker."""

ROUNDS = 3
BUCKETS = 1_000
WIDTHS = {"all": None, "50 %": 500, "10 %": 100, "1 %": 10, "0.1 %": 1}
NAME = "fresh"
SPEC = (
    f"name: {NAME}\nsource: {{table: /none}}\nkey: [id]\ncolumns: [bucket]\ntext: {{fields: {{body: 1}}}}\n"
    "vector: {column: vector, dim: 384}"
)
POLICY = 'policies: [{role: reader, rows: "bucket >= :low AND bucket < :high"}]'
EFFORTS = [(n, k) for n in (2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256) for k in (4, 8, 16, 32)]

Vectors = npt.NDArray[np.float32]
Ids = npt.NDArray[np.int64]
Search = Callable[[int], Iterable[int]]
"""Answers query number n with ids, best first."""


@dataclass(frozen=True)
class Corpus:
    """The rows, the held-out queries, and which rows lie in which bucket."""

    texts: list[str]
    vectors: Vectors
    queries: list[str]
    query_vectors: Vectors
    buckets: npt.NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.texts)

    def truth(self, lows: npt.NDArray[np.int64] | None, width: int | None, k: int = K) -> list[set[int]]:
        """The exact answers of all queries among the rows of buckets ``low`` to ``low + width``."""
        answers = []
        for number, query in enumerate(self.query_vectors):
            scores = self.vectors @ query
            if width is not None:
                low = 0 if lows is None else int(lows[number])
                scores[(self.buckets < low) | (self.buckets >= low + width)] = -np.inf
            answers.append(set(np.argpartition(-scores, k)[:k].tolist()))
        return answers


def load_corpus(rows: int, queries: int) -> Corpus:
    """Read or make the corpus; the first time embeds all of its sentences, which takes minutes."""
    texts = sentences(rows + queries)
    vectors = embedded(texts, "search")
    buckets = np.random.default_rng(SEED).permutation(rows).astype(np.int32) % BUCKETS
    return Corpus(texts[:rows], vectors[:rows], texts[rows:], vectors[rows:], buckets)


def build_grebe(corpus: Corpus, folder: Path, spec: str = SPEC) -> None:
    """Write the collection as one part of a sync writes it."""
    from benchmarks.batches import change_table, publish
    from connectors.contract import UPSERT
    from indexer.catalog import Catalog
    from indexer.format.store import Store
    from indexer.spec_file import parse_spec

    ids = np.arange(len(corpus), dtype=np.int64)
    rows = change_table(
        ids=ids,
        body=corpus.texts,
        vectors=corpus.vectors,
        ops=[UPSERT] * len(corpus),
        contents=ids,
        version=1,
        bucket=corpus.buckets,
    )
    catalog = Catalog.create(Store.at(str(folder / "store")), parse_spec(spec))
    publish(catalog, rows, 1, folder / "sync")


class Grebe:
    """The collection, searched in this process with its defaults."""

    def __init__(self, corpus: Corpus, folder: Path) -> None:
        from indexer.catalog import Catalog
        from indexer.format.store import Store
        from retrieval.cache import LocalCache
        from retrieval.policies import Caller
        from retrieval.request import SearchRequest
        from retrieval.search import search
        from retrieval.snapshot import open_snapshot

        # Kept, because an import statement takes microseconds of each search.
        self._corpus, self._request, self._search, self._caller = corpus, SearchRequest, search, Caller
        catalog = Catalog.open(Store.at(str(folder / "store")), NAME)
        self.snapshot = open_snapshot(catalog, LocalCache(folder / "cache"))

    def search(self, number: int, mode: str, width: int | None, lows: Ids | None, k: int = K) -> list[int]:
        """Search with query ``number``; ``lows`` gives each query a filter value of its own."""
        low = 0 if lows is None else int(lows[number])
        request = self._request(
            query=None if mode == "vector" else self._corpus.queries[number],
            vector=None if mode == "keyword" else self._corpus.query_vectors[number],
            mode=mode,  # type: ignore[arg-type]
            k=k,
            filter=None if width is None else "bucket >= :low AND bucket < :high",
            params={} if width is None else {"low": low, "high": low + width},
        )
        return [key[0] for key in self._search(self.snapshot, request).results.keys()]  # noqa: SIM118

    def search_as_reader(self, number: int, width: int) -> list[int]:
        """Search with query ``number`` as a reader whose policy lets ``width`` buckets through."""
        caller = self._caller(roles=frozenset({"reader"}), claims={"low": 0, "high": width})
        request = self._request(vector=self._corpus.query_vectors[number], k=K)
        return [key[0] for key in self._search(self.snapshot, request, caller=caller).results.keys()]  # noqa: SIM118


class Faiss:
    """IVF fast-scan with exact refinement, as its users would set it up."""

    def __init__(self, corpus: Corpus) -> None:
        faiss.omp_set_num_threads(1)
        started = time.perf_counter()
        lists = 2 ** round(np.log2(4 * np.sqrt(len(corpus))))
        self.index = faiss.index_factory(384, f"IVF{lists},PQ96x4fsr,RFlat", faiss.METRIC_INNER_PRODUCT)
        self.index.train(corpus.vectors)
        self.index.add(corpus.vectors)
        self.build_seconds = time.perf_counter() - started
        self._corpus = corpus
        self._frame = pl.DataFrame({"bucket": corpus.buckets})
        self.bytes = len(faiss.serialize_index(self.index))

    def bitmap(self, low: int, width: int) -> npt.NDArray[np.uint8]:
        """Evaluate the filter by polars: the packed bits of the rows that pass."""
        passing = self._frame.select((pl.col("bucket") >= low) & (pl.col("bucket") < low + width)).to_series()
        return np.packbits(passing.to_numpy(), bitorder="little")

    def parameters(self, effort: tuple[int, int], bits: npt.NDArray[np.uint8] | None) -> Any:
        """Search parameters for an effort ``(nprobe, k_factor)`` and a bitmap."""
        selector = None if bits is None else faiss.IDSelectorBitmap(len(self._corpus), faiss.swig_ptr(bits))
        base, refined = faiss.SearchParametersIVF(), faiss.IndexRefineSearchParameters()
        base.nprobe, base.sel = effort[0], selector
        refined.k_factor, refined.base_index_params = effort[1], base
        # FAISS holds bare pointers: what they point to lives as long as the parameters.
        refined.kept = (base, selector, bits)  # type: ignore[attr-defined]
        return refined

    def search(self, number: int, parameters: Any) -> list[int]:
        """Search with query ``number``."""
        found: list[int] = self.index.search(self._corpus.query_vectors[number : number + 1], K, params=parameters)[1][
            0
        ].tolist()
        return found

    def search_cold(self, number: int, effort: tuple[int, int], width: int, lows: Ids) -> list[int]:
        """Evaluate the filter, then search."""
        return self.search(number, self.parameters(effort, self.bitmap(int(lows[number]), width)))


def recall(search: Search, truth: list[set[int]]) -> float:
    """The mean share of the exact answers that ``search`` finds."""
    return float(np.mean([len(best.intersection(search(number))) / len(best) for number, best in enumerate(truth)]))


def qps(search: Search, queries: int) -> float:
    """Queries a second over all queries, one after the other."""
    started = time.perf_counter()
    for number in range(queries):
        search(number)
    return queries / (time.perf_counter() - started)


def fastest(peer: Faiss, truth: list[set[int]], bits: npt.NDArray[np.uint8] | None, queries: int) -> tuple[int, int]:
    """The peer's fastest effort of the sweep that reaches the recall; the largest if none does."""

    def search(effort: tuple[int, int]) -> Search:
        return partial(peer.search, parameters=peer.parameters(effort, bits))

    reached = [effort for effort in EFFORTS if recall(search(effort), truth[:200]) >= RECALL]
    return max(reached, key=lambda effort: qps(search(effort), min(200, queries))) if reached else EFFORTS[-1]


def paired(ours: Search, theirs: Search, queries: int) -> tuple[float, float, float]:
    """Both in turn, ``ROUNDS`` times: the median QPS of each and the median of the ratios."""
    pairs = [(qps(ours, queries), qps(theirs, queries)) for _ in range(ROUNDS)]
    return (
        float(np.median([a for a, _ in pairs])),
        float(np.median([b for _, b in pairs])),
        float(np.median([a / b for a, b in pairs])),
    )


def judged(corpus: Corpus, reached: float, ratio: float, least: float | None) -> tuple[float, Goal | None]:
    """What a row is judged by: its ratio at the recall; a smaller corpus than ``least`` is meant for, the recall."""
    if len(corpus) < ROWS:
        return reached, Goal(least=RECALL)
    return (ratio if reached >= RECALL else 0.0), (None if least is None else Goal(least=least))


def add_beside_faiss(
    report: Report,
    corpus: Corpus,
    peer: Faiss,
    label: str,
    ask: Search,
    truth: list[set[int]],
    bits: npt.NDArray[np.uint8] | None,
    least: float | None,
) -> tuple[int, int]:
    """One row: ``ask`` beside FAISS with ``bits``, at its fastest effort that reaches the recall; return that."""
    queries = len(corpus.queries)
    effort = fastest(peer, truth, bits, queries)
    reached = recall(ask, truth)
    ours, theirs, ratio = paired(ask, partial(peer.search, parameters=peer.parameters(effort, bits)), queries)
    value, goal = judged(corpus, reached, ratio, least)
    report.add(label, ours, reached, "FAISS", theirs, f"{ratio:.2f}", value=value, goal=goal)
    return effort


def add_vector_rows(report: Report, corpus: Corpus, grebe: Grebe, peer: Faiss) -> None:
    """One row for each filter, warm and cold, beside FAISS."""
    queries = len(corpus.queries)
    random = np.random.default_rng(SEED)
    for label, width in WIDTHS.items():
        truth = corpus.truth(None, width)
        bits = None if width is None else peer.bitmap(0, width)

        warm = partial(grebe.search, mode="vector", width=width, lows=None)
        least = 0.8 if width is not None else None
        effort = add_beside_faiss(report, corpus, peer, f"vector, {label}, warm", warm, truth, bits, least)
        if width is None:
            continue
        lows = random.integers(0, BUCKETS - width, size=queries)
        cold = partial(grebe.search, mode="vector", width=width, lows=lows)
        truth = corpus.truth(lows, width)
        # First the clock, then the recall: asked once, a filter is no longer new.
        ours = qps(cold, queries)
        theirs = qps(partial(peer.search_cold, effort=effort, width=width, lows=lows), queries)
        report.add(
            f"vector, {label}, cold", ours, recall(cold, truth), "FAISS + polars", theirs, f"{ours / theirs:.2f}"
        )


def add_hnswlib_row(report: Report, corpus: Corpus, grebe: Grebe) -> tuple[float, int]:
    """The unfiltered rows beside hnswlib; returns its build seconds and bytes."""
    queries = len(corpus.queries)
    started = time.perf_counter()
    index = hnswlib.Index(space="ip", dim=384)
    index.init_index(max_elements=len(corpus), M=16, ef_construction=200, random_seed=SEED)
    index.add_items(corpus.vectors, num_threads=1)
    seconds = time.perf_counter() - started
    index.set_num_threads(1)

    def search(number: int, k: int) -> list[int]:
        found: list[int] = index.knn_query(corpus.query_vectors[number], k=k)[0][0].tolist()
        return found

    for k, label in ((K, "vector, all"), (DEEP_K, f"vector, all, top {DEEP_K}")):
        truth, theirs = corpus.truth(None, None, k), partial(search, k=k)
        for effort in (10, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384):
            index.set_ef(effort)
            if effort >= k and recall(theirs, truth) >= RECALL:
                break
        warm = partial(grebe.search, mode="vector", width=None, lows=None, k=k)
        our_qps, their_qps, ratio = paired(warm, theirs, queries)
        reached = recall(warm, truth)
        value, goal = judged(corpus, reached, ratio, 0.7) if k == K else (reached, Goal(least=RECALL))
        report.add(label, our_qps, reached, "hnswlib", their_qps, f"{ratio:.2f}", value=value, goal=goal)
    return seconds, int(index.index_file_size())


def add_policy_rows(report: Report, corpus: Corpus, folder: Path, peer: Faiss) -> None:
    """Searches under a row policy, beside FAISS that is given the policy's bitmap."""
    from indexer.apply import apply
    from indexer.format.store import Store
    from indexer.spec_file import parse_spec

    apply(Store.at(str(folder / "store")), parse_spec(f"{SPEC}\n{POLICY}"))
    grebe = Grebe(corpus, folder)
    for label, width in WIDTHS.items():
        if width is None:
            continue
        truth, bits = corpus.truth(None, width), peer.bitmap(0, width)
        ask = partial(grebe.search_as_reader, width=width)
        add_beside_faiss(report, corpus, peer, f"policy, {label}", ask, truth, bits, 0.8)
    grebe.snapshot.close()


def add_other_modes(report: Report, corpus: Corpus, grebe: Grebe) -> None:
    """Keyword and hybrid, which the peers do not have."""
    queries = len(corpus.queries)
    for mode in ("keyword", "hybrid"):
        for label, width in WIDTHS.items():
            warm = partial(grebe.search, mode=mode, width=width, lows=None)
            for number in range(min(queries, 20)):
                warm(number)
            report.add(f"{mode}, {label}, warm", qps(warm, queries), "", "", "", "")


def add_http_rows(report: Report, corpus: Corpus, folder: Path) -> None:
    """The same over HTTP, one client, one request after the other."""
    queries = min(len(corpus.queries) // 2, 300)
    with server(folder) as client:
        for mode in ("vector", "keyword", "hybrid"):
            for label, width in WIDTHS.items():
                ask = partial(_ask, client, corpus, mode=mode, width=width)
                for number in range(10):
                    ask(number)
                report.add(f"{mode}, {label}, warm, HTTP", qps(ask, queries), "", "", "", "")


def _ask(client: httpx.Client, corpus: Corpus, number: int, *, mode: str, width: int | None) -> list[int]:
    body: dict[str, object] = {"mode": mode, "k": K}
    if mode != "keyword":
        body["vector"] = corpus.query_vectors[number].tolist()
    if mode != "vector":
        body["query"] = corpus.queries[number]
    if width is not None:
        body |= {"filter": "bucket >= :low AND bucket < :high", "params": {"low": 0, "high": width}}
    answer = client.post(f"/v1/collections/{NAME}/search", json=body)
    answer.raise_for_status()
    return [hit["key"] for hit in answer.json()["results"]]


def add_build_rows(report: Report, grebe: Grebe, peer: Faiss, corpus: Corpus, hnsw: tuple[float, int]) -> None:
    """Vectors a second of each index's build on one thread, and the bytes it holds."""
    from indexer.ann.build import build_index
    from indexer.spec import IndexSpec

    faiss.omp_set_num_threads(1)
    started = time.perf_counter()
    build_index(corpus.vectors, IndexSpec())
    seconds = time.perf_counter() - started
    ours = sum(
        path.stat().st_size for view in grebe.snapshot.views for path in view.segment.files.folder.glob("vectors.*")
    )
    for name, took, size in (("grebe", seconds, ours), ("FAISS", peer.build_seconds, peer.bytes), ("hnswlib", *hnsw)):
        report.add(f"build, {name}", f"{len(corpus) / took:,.0f} vectors/s", "", "", f"{size / 2**20:,.0f} MiB", "")


def measure(arguments: argparse.Namespace) -> Report:
    """Run every row."""
    corpus = load_corpus(*((QUICK_ROWS, QUICK_QUERIES) if arguments.quick else (ROWS, QUERIES)))
    report = Report(
        title=f"Search: {len(corpus):,} × 384, {len(corpus.queries)} held-out queries, top {K}, one thread",
        columns=("QPS", "recall", "peer", "peer's QPS", "ratio"),
        packages=("faiss-cpu", "tantivy", "polars", "hnswlib", "numpy"),
    )
    folder = Path(tempfile.mkdtemp(prefix="grebe-bench-search-"))
    try:
        build_grebe(corpus, folder)
        faiss.omp_set_num_threads(1)
        grebe, peer = Grebe(corpus, folder), Faiss(corpus)
        hnsw = add_hnswlib_row(report, corpus, grebe)
        add_vector_rows(report, corpus, grebe, peer)
        add_other_modes(report, corpus, grebe)
        add_build_rows(report, grebe, peer, corpus, hnsw)
        add_http_rows(report, corpus, folder)
        grebe.snapshot.close()
        add_policy_rows(report, corpus, folder, peer)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return report


if __name__ == "__main__":
    run(__doc__ or "", measure)
