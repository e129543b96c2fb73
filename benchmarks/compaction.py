"""The index under 2,000 micro-batches of 500 rows, merging beside them, and a freshly built index beside it.

Each batch inserts 475 rows, updates 13 and deletes 12; it is built and committed as a sync does it, without Spark and
without a pause, so several times as fast as a sync's come, and the merger of a continuous sync runs beside it. Vectors
have 128 dimensions, which keeps the run within a quarter of an hour on two cores.

A server in a process of its own follows every version; a client in another asks it hybrid searches over HTTP all the
while. Then the live rows are built anew, as a first load builds them, and more batches go into the old index while the
client asks both in turn: so both meet the same load on the same cores, and the ratio of their slowest hundredths is
what many small segments, tombstones and swaps cost. Recall is compared when both hold the same rows. The whole run is
held against the same fresh index, which is fair only where nothing else uses the cores.

The outside peer is LanceDB: fewer of the same batches by ``merge_insert`` and ``delete``, with ``optimize`` after every
20 modifications as its documentation advises, searched in this process between batches once it has its indexes.

    .venv/bin/python -m benchmarks.compaction [--quick] [--check]
"""

from __future__ import annotations

import argparse
import itertools
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from benchmarks.batches import change_table, publish
from benchmarks.corpus import clustered, sentences
from benchmarks.freshness import NAME, server
from benchmarks.harness import SEED, Goal, Report, run
from connectors.contract import DELETE, UPSERT

if TYPE_CHECKING:
    from indexer.catalog import Catalog

INSERTS, UPDATES, DELETES = 475, 13, 12
DIM = 128
POOL, QUERIES, K = 20_000, 200, 10
PAUSE_SECONDS = 0.01
WARM_UP = 30
"""The first answers of a server, and of a client, are not counted."""
OPTIMIZE_EVERY = 10
"""Batches between two calls of LanceDB's ``optimize``: each is two modifications."""
INDEX_AFTER = 20
"""Batches after which LanceDB's indexes are made: a vector index is trained on 10,000 rows."""
SPEC = (
    f"name: {NAME}\nsource: {{table: /none}}\nkey: [id]\ntext: {{fields: {{body: 1}}}}\n"
    f"vector: {{column: vector, dim: {DIM}}}"
)

Ids = npt.NDArray[np.int64]
Vectors = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Size:
    """How many batches run, how many more while both indexes are asked, and how many LanceDB gets."""

    batches: int
    beside: int
    peer: int


FULL, QUICK = Size(batches=2_000, beside=200, peer=300), Size(batches=80, beside=32, peer=24)


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Keys and contents (see :class:`Stream`): a key in ``replaced`` is deleted, or updated if it is in ``ids`` too."""

    ids: Ids
    contents: Ids
    replaced: Ids
    old_contents: Ids


class Stream:
    """Seeded batches, and which row is live with which content: a content is a number that has a text and a vector."""

    def __init__(self, batches: int) -> None:
        self._random = np.random.default_rng(SEED)
        contents = batches * (INSERTS + UPDATES) + QUERIES
        self._vectors = clustered(contents, DIM)
        self._pool = sentences(POOL)
        self._sentences = self._random.integers(POOL, size=(contents, 2))
        self._content_of = np.full(batches * INSERTS, -1, dtype=np.int64)
        self._ids = self._contents = 0

    def next(self) -> Batch:
        """Return the next batch, and count it as written."""
        live = self.live()
        chosen = self._random.choice(live, size=min(len(live), UPDATES + DELETES), replace=False)
        inserted = np.arange(self._ids, self._ids + INSERTS)
        ids = np.concatenate([inserted, chosen[:UPDATES]])
        contents = np.arange(self._contents, self._contents + len(ids))
        batch = Batch(ids=ids, contents=contents, replaced=chosen, old_contents=self._content_of[chosen])
        self._ids += INSERTS
        self._contents += len(ids)
        self._content_of[chosen] = -1
        self._content_of[ids] = contents
        return batch

    def live(self) -> Ids:
        """Return the keys of the live rows."""
        return np.flatnonzero(self._content_of >= 0)

    def changes(self, batch: Batch, version: int) -> pa.Table:
        """Return ``batch`` as changes at ``version``; an update is a delete and an upsert."""
        contents = np.concatenate([batch.old_contents, batch.contents])
        return change_table(
            ids=np.concatenate([batch.replaced, batch.ids]),
            body=self.texts(contents),
            vectors=self._vectors[contents],
            ops=[DELETE] * len(batch.replaced) + [UPSERT] * len(batch.ids),
            contents=contents,
            version=version,
        )

    def all_rows(self) -> Batch:
        """Return the live rows as one batch."""
        live, none = self.live(), np.empty(0, dtype=np.int64)
        return Batch(ids=live, contents=self._content_of[live], replaced=none, old_contents=none)

    def texts(self, contents: Ids) -> list[str]:
        """Return the texts of ``contents``: two sentences each."""
        return [f"{self._pool[a]} {self._pool[b]}" for a, b in self._sentences[contents].tolist()]

    def vectors(self, contents: Ids) -> Vectors:
        """Return the vectors of ``contents``, ``(n, DIM)``."""
        return self._vectors[contents]

    def queries(self) -> tuple[list[str], Vectors]:
        """Return texts and vectors that no row has."""
        held_out = np.arange(len(self._vectors) - QUERIES, len(self._vectors))
        return [self._pool[a] for a in self._sentences[held_out, 0].tolist()], self._vectors[held_out]

    def truth(self) -> list[set[int]]:
        """Return the keys of the exact answers to the queries among the live rows."""
        rows = self.all_rows()
        vectors = self._vectors[rows.contents]
        return [set(rows.ids[np.argpartition(-(vectors @ query), K)[:K]].tolist()) for query in self.queries()[1]]


def ask(pipe: Connection, urls: list[str], bodies: list[dict[str, Any]]) -> None:
    """Ask each server in turn until told to stop; then send the seconds that each of their answers took."""
    path = f"/v1/collections/{NAME}/search"
    with ExitStack() as stack:
        clients = [stack.enter_context(httpx.Client(base_url=url, timeout=60)) for url in urls]
        taken: list[list[float]] = [[] for _ in urls]
        for number in itertools.count():
            if pipe.poll(PAUSE_SECONDS):
                break
            for client, seconds in zip(clients, taken, strict=True):
                started = time.perf_counter()
                client.post(path, json=bodies[number % len(bodies)]).raise_for_status()
                seconds.append(time.perf_counter() - started)
        pipe.send([seconds[WARM_UP:] for seconds in taken])


@contextmanager
def asking(urls: list[str], bodies: list[dict[str, Any]]) -> Iterator[list[list[float]]]:
    """Let a process ask the servers while the block runs; the list has their seconds when it has ended."""
    context = get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=ask, args=(theirs, urls, bodies), daemon=True)
    process.start()
    theirs.close()
    taken: list[list[float]] = []
    yield taken
    ours.send("stop")
    taken.extend(ours.recv())
    process.join()


class Index:
    """A collection in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        from indexer.catalog import Catalog
        from indexer.format.store import Store
        from indexer.spec_file import parse_spec

        self.folder = folder
        self.catalog: Catalog = Catalog.create(Store.at(str(folder / "store")), parse_spec(SPEC))

    def publish(self, changes: pa.Table, version: int) -> int:
        """Commit ``changes`` and return the number of live segments."""
        return len(publish(self.catalog, changes, version, self.folder / "sync").segments)

    def recall(self, queries: Vectors, truth: list[set[int]]) -> float:
        """Return the mean share of the exact answers that a vector search finds."""
        from retrieval.cache import LocalCache
        from retrieval.request import SearchRequest
        from retrieval.search import search
        from retrieval.snapshot import open_snapshot

        with open_snapshot(self.catalog, LocalCache(self.folder / "cache")) as snapshot:
            found = [
                search(snapshot, SearchRequest(vector=query, mode="vector", k=K)).results.keys() for query in queries
            ]
        hits = [len({key[0] for key in keys} & exact) for keys, exact in zip(found, truth, strict=True)]
        return float(np.mean(hits)) / K


@dataclass(kw_only=True)
class Measured:
    """Seconds of answers during the run, and of both indexes beside each other; recalls at the end of the run."""

    run: list[float]
    ours: list[float]
    fresh: list[float]
    recall: float
    fresh_recall: float
    most_segments: int
    rows_per_second: float
    fresh_rows_per_second: float
    live_rows: int


def measure_grebe(size: Size, stream: Stream, folder: Path) -> Measured:
    """Run the batches with a server and a client beside them, then again beside a freshly built index."""
    from indexer.merger import Merger

    texts, vectors = stream.queries()
    bodies: list[dict[str, Any]] = [
        {"query": text, "vector": vector.tolist(), "k": K} for text, vector in zip(texts, vectors, strict=True)
    ]
    ours, segments = Index(folder / "ours"), list[int]()
    merger = Merger(ours.catalog, ours.folder / "sync")

    def go(first: int, last: int) -> float:
        started = time.perf_counter()
        for version in range(first, last):
            segments.append(ours.publish(stream.changes(stream.next(), version), version))
            merger.wake()
        return (last - first) * (INSERTS + UPDATES + DELETES) / (time.perf_counter() - started)

    try:
        go(1, 2)
        with server(ours.folder) as client:
            url = str(client.base_url)
            with asking([url], bodies) as during:
                rate = go(2, size.batches + 1)
            fresh, started = Index(folder / "fresh"), time.perf_counter()
            rows = stream.all_rows()
            fresh.publish(stream.changes(rows, 1), 1)
            fresh_rate = len(rows.ids) / (time.perf_counter() - started)
            truth = stream.truth()
            recalls = [index.recall(vectors, truth) for index in (ours, fresh)]
            with server(fresh.folder) as other, asking([url, str(other.base_url)], bodies) as beside:
                go(size.batches + 1, size.batches + size.beside + 1)
    finally:
        merger.close()
    return Measured(
        run=during[0],
        ours=beside[0],
        fresh=beside[1],
        recall=recalls[0],
        fresh_recall=recalls[1],
        most_segments=max(segments),
        rows_per_second=rate,
        fresh_rows_per_second=fresh_rate,
        live_rows=len(rows.ids),
    )


def measure_lancedb(size: Size, stream: Stream, folder: Path) -> tuple[float, list[float]]:
    """Return LanceDB's rows a second, ``optimize`` included and searches left out, and the seconds of its searches."""
    os.environ.setdefault("LANCE_LOG", "error")  # it warns of each partition that it splits
    import lancedb
    from lancedb.index import FTS, IvfPq
    from lancedb.rerankers import RRFReranker

    kind = pa.schema([("id", pa.int64()), ("body", pa.string()), ("vector", pa.list_(pa.float32(), DIM))])
    table = lancedb.connect(folder).create_table("bench", schema=kind)
    texts, vectors = stream.queries()
    busy, taken = 0.0, []
    for number in range(size.peer):
        batch = stream.next()
        flat = pa.array(stream.vectors(batch.contents).reshape(-1))
        columns = [batch.ids, stream.texts(batch.contents), pa.FixedSizeListArray.from_arrays(flat, DIM)]
        rows = pa.Table.from_arrays([pa.array(column) for column in columns], schema=kind)
        deleted = np.setdiff1d(batch.replaced, batch.ids).tolist()
        started = time.perf_counter()
        table.merge_insert("id").when_matched_update_all().when_not_matched_insert_all().execute(rows)
        if deleted:
            table.delete(f"id IN ({', '.join(map(str, deleted))})")
        if number + 1 == INDEX_AFTER:
            table.create_index("vector", config=IvfPq(distance_type="cosine"))
            table.create_index("body", config=FTS(language="English", stem=True, remove_stop_words=True))
        elif (number + 1) % OPTIMIZE_EVERY == 0:
            table.optimize()
        busy += time.perf_counter() - started
        if number + 1 < INDEX_AFTER:
            continue
        for at in (2 * number, 2 * number + 1):
            started = time.perf_counter()
            query = table.search(query_type="hybrid").vector(vectors[at % QUERIES]).text(texts[at % QUERIES])
            query.rerank(RRFReranker()).limit(K).to_list()
            taken.append(time.perf_counter() - started)
    return size.peer * (INSERTS + UPDATES + DELETES) / busy, taken


def p99_ms(seconds: list[float]) -> float:
    """Return the 99th percentile in milliseconds."""
    return float(np.quantile(seconds, 0.99)) * 1000


def measure(arguments: argparse.Namespace) -> Report:
    """Run both."""
    size = QUICK if arguments.quick else FULL
    folder = Path(tempfile.mkdtemp(prefix="grebe-bench-compaction-"))
    try:
        ours = measure_grebe(size, Stream(size.batches + size.beside), folder)
        shutil.rmtree(folder)
        rate, taken = measure_lancedb(size, Stream(size.peer), folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    report = Report(
        title=f"Compaction: {size.batches:,} batches of 500 rows, {DIM} dimensions, {ours.live_rows:,} rows in the end",
        columns=("grebe", "peer", "peer's", "ratio"),
        packages=("faiss-cpu", "tantivy", "lancedb"),
    )
    recall, fresh_p99 = ours.recall / ours.fresh_recall, p99_ms(ours.fresh)
    beside, whole = p99_ms(ours.ours) / fresh_p99, p99_ms(ours.run) / fresh_p99
    most = ours.most_segments
    report.add("most live segments", most, "", "", "", value=most, goal=Goal(most=39))
    for name, mine, ratio in (("beside it", ours.ours, beside), ("the whole run", ours.run, whole)):
        report.add(
            f"search p99, {name}, ms",
            p99_ms(mine),
            "fresh index",
            fresh_p99,
            f"{ratio:.2f}",
            value=ratio,
            goal=Goal(most=2),
        )
    report.add(
        "search p50, beside it, ms", np.median(ours.ours) * 1000, "fresh index", np.median(ours.fresh) * 1000, ""
    )
    report.add(
        "recall@10 at the end",
        ours.recall,
        "fresh index",
        ours.fresh_recall,
        f"{recall:.3f}",
        value=recall,
        goal=Goal(least=0.99),
    )
    report.add("rows/s", ours.rows_per_second, "fresh index", ours.fresh_rows_per_second, "")
    report.add("rows/s", ours.rows_per_second, "LanceDB", rate, f"{ours.rows_per_second / rate:.2f}")
    report.add(
        "search p99, the whole run, ms",
        p99_ms(ours.run),
        "LanceDB",
        p99_ms(taken),
        f"{p99_ms(ours.run) / p99_ms(taken):.2f}",
    )
    report.notes = [
        f"answers: {len(ours.run):,} in the run, {len(ours.fresh):,} of each index beside the other, in {size.beside} "
        "batches more",
        f"LanceDB: {size.peer} of the batches, {len(taken):,} searches in this process, none while it writes",
    ]
    return report


if __name__ == "__main__":
    run(__doc__ or "", measure)
