"""From a Delta table to the first search: 200,000 rows with text and 384-d vectors, beside LanceDB in the same run.

Both start from the same Delta files and build a vector, a full-text and a scalar index; both stop the clock when the
first hybrid search has answered. Grebe's JVM start is printed apart: a scheduled sync on a cluster finds one running.

    .venv/bin/python -m benchmarks.sync [--quick] [--check]
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
from deltalake import DeltaTable, write_deltalake

from benchmarks.corpus import clustered, sentences
from benchmarks.harness import SEED, Goal, Report, run

ROWS, QUICK_ROWS = 200_000, 20_000
POOL = 20_000
FILES = 8
COLUMNS = ("topic", "year")
QUERY = "return the index of the first element"


def write_table(path: Path, rows: int) -> None:
    """Write the source: ``rows`` documents of two sentences with their vectors, in ``FILES`` files, change feed on."""
    pool, random = sentences(POOL), np.random.default_rng(SEED)
    first, second = random.integers(POOL, size=(2, rows))
    vectors = clustered(rows)
    flat = pa.array(vectors.reshape(-1), pa.float32())
    table = pa.table(
        {
            "id": np.arange(rows, dtype=np.int64),
            "body": [f"{pool[a]} {pool[b]}" for a, b in zip(first, second, strict=True)],
            "topic": [f"t{number}" for number in random.integers(50, size=rows)],
            "year": random.integers(1990, 2026, size=rows).astype(np.int32),
            "vector": pa.ListArray.from_arrays(np.arange(rows + 1, dtype=np.int32) * vectors.shape[1], flat),
        }
    )
    step = -(-rows // FILES)
    for start in range(0, rows, step):
        write_deltalake(
            str(path),
            table.slice(start, step),
            mode="append",
            configuration={"delta.enableChangeDataFeed": "true"},
        )


def time_grebe(table: Path, folder: Path, query: np.ndarray) -> tuple[float, float, str]:
    """Return the seconds of the JVM's start and of the sync with its first search, and how the vectors are indexed."""
    from connectors.delta_source import DeltaSource
    from connectors.session import spark_session
    from indexer.apply import apply
    from indexer.catalog import Catalog
    from indexer.format.store import Store
    from indexer.spec_file import parse_spec
    from indexer.sync import sync
    from retrieval.cache import LocalCache
    from retrieval.request import SearchRequest
    from retrieval.search import search
    from retrieval.snapshot import open_snapshot

    started = time.perf_counter()
    spark = spark_session("grebe-bench")
    spark.range(1).count()
    jvm = time.perf_counter() - started
    spec = parse_spec(
        f"name: bench\nsource: {{table: {table}}}\nkey: [id]\ncolumns: [{', '.join(COLUMNS)}]\n"
        "text: {fields: {body: 1.0}}\nvector: {column: vector}"
    )
    store = Store.at(str(folder / "store"))
    started = time.perf_counter()
    apply(store, spec)
    source = DeltaSource(spark, str(table), spec.source_columns)
    report = sync(store, "bench", lambda _: source, cache=folder / "sync-cache")
    snapshot = open_snapshot(Catalog.open(store, "bench"), LocalCache(folder / "cache"))
    request = SearchRequest(query=QUERY, vector=query, filter="topic = 't7' AND year > 2000", mode="hybrid")
    assert len(list(search(snapshot, request).results)) == request.k
    took = time.perf_counter() - started
    assert report.ledger.upserted == snapshot.n_chunks
    kinds = ", ".join(f"{view.segment.record.n_chunks:,} {view.segment.record.index.kind}" for view in snapshot.views)
    snapshot.close()
    spark.stop()
    return jvm, took, kinds


def time_lancedb(table: Path, folder: Path, query: np.ndarray) -> float:
    """Return the seconds of LanceDB's way from the same files to the same first search."""
    import lancedb
    from lancedb.index import FTS, Bitmap, BTree, IvfPq
    from lancedb.rerankers import RRFReranker

    started = time.perf_counter()
    database = lancedb.connect(folder / "lance")
    source = DeltaTable(str(table)).to_pyarrow_table()
    at = source.schema.get_field_index("vector")
    width = len(query)
    fixed = pa.FixedSizeListArray.from_arrays(source["vector"].combine_chunks().flatten(), width)
    lance = database.create_table("bench", source.set_column(at, "vector", fixed))
    lance.create_index("vector", config=IvfPq(distance_type="cosine"))
    lance.create_index("body", config=FTS(language="English", stem=True, remove_stop_words=True))
    lance.create_index("topic", config=Bitmap())
    lance.create_index("year", config=BTree())
    found = (
        lance.search(query_type="hybrid")
        .vector(query)
        .text(QUERY)
        .where("topic = 't7' AND year > 2000", prefilter=True)
        .rerank(RRFReranker())
        .limit(10)
        .to_list()
    )
    assert len(found) == 10
    return time.perf_counter() - started


def measure(arguments: argparse.Namespace) -> Report:
    """Time both from the same table."""
    rows = QUICK_ROWS if arguments.quick else ROWS
    folder = Path(tempfile.mkdtemp(prefix="grebe-bench-sync-"))
    try:
        write_table(folder / "table", rows)
        query = clustered(1)[0]
        jvm, ours, kinds = time_grebe(folder / "table", folder, query)
        theirs = time_lancedb(folder / "table", folder, query)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    report = Report(
        title=f"Sync: {rows:,} rows from Delta to the first hybrid search",
        columns=("seconds", "rows/s"),
        packages=("pyspark", "delta-spark", "faiss-cpu", "tantivy", "lancedb"),
    )
    goal = None if arguments.quick else Goal(least=1)
    report.add("grebe", ours, rows / ours)
    report.add("lancedb", theirs, rows / theirs)
    report.add("rows/s, grebe to lancedb", "", f"{theirs / ours:.2f}", value=theirs / ours, goal=goal)
    report.notes = [f"JVM start, apart: {jvm:.1f} s", f"grebe's segments: {kinds}"]
    if arguments.quick:
        report.notes.append("--quick is too small for the goal: Spark's fixed second weighs more than its rows")
    return report


if __name__ == "__main__":
    run(__doc__ or "", measure)
