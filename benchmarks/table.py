"""From a source's commit to a search that finds its rows: a Delta table of texts, and each stage's share of the time.

The texts are pairs of sentences from the docstrings of installed packages, which the model has to embed. What happens
between the commit and the first answer is what the one task of a first load does, in this process and without Spark
and its start: the table is read, chunked, embedded, indexed (vectors, keywords and keys, the gate included) and
uploaded, then committed and opened. Rows are asked for by their own text. A million rows where there is a GPU.

    .venv/bin/python -m benchmarks.table [--quick] [--check]
"""

from __future__ import annotations

import argparse
import itertools
import os
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
from deltalake import DeltaTable, write_deltalake

from benchmarks.batches import change_table, publish
from benchmarks.corpus import MODEL, sentences
from benchmarks.harness import SEED, Goal, Report, run
from connectors.contract import UPSERT
from indexer.ann.device import find_gpu
from indexer.ann.threads import threads
from indexer.catalog import Catalog
from indexer.embedding import load_embedder
from indexer.format.store import Store
from indexer.spec_file import parse_spec
from jobs.progress import bars
from retrieval.cache import LocalCache
from retrieval.request import SearchRequest
from retrieval.search import search
from retrieval.snapshot import Snapshot, open_snapshot

ROWS, QUICK_ROWS = 12_000, 1_500
GPU_ROWS, QUICK_GPU_ROWS = 1_000_000, 50_000
SENTENCES = 20_000
ASKED = 100
NAME = "table"
SPEC = f"name: {NAME}\nsource: {{table: /none}}\nkey: [id]\ntext: {{fields: {{body: 1}}}}\nvector: {{model: {MODEL}}}"


def texts(rows: int) -> list[str]:
    """Return ``rows`` distinct pairs of sentences, the same each time."""
    known = sentences(SENTENCES)
    pairs = np.random.default_rng(SEED).choice(len(known) ** 2, rows, replace=False)
    return [f"{known[pair // len(known)]} {known[pair % len(known)]}" for pair in pairs.tolist()]


def read(table: Path) -> pa.Table:
    """Read the table's version 0 as the changes of a first load."""
    rows = DeltaTable(table, version=0).to_pyarrow_table()
    ids = rows["id"].to_numpy()
    return change_table(ids=ids, body=rows["body"], vectors=None, ops=[UPSERT] * len(ids), contents=ids, version=0)


def found(snapshot: Snapshot, body: list[str]) -> float:
    """Ask for rows by their own text; return the share of them that are among the first ten."""
    asked = np.random.default_rng(SEED + 1).choice(len(body), ASKED, replace=False).tolist()
    embedder = load_embedder(snapshot.spec.vector)
    requests = [SearchRequest(query=body[at]) for at in asked]
    hits = [search(snapshot, request, embedder=embedder).results.keys() for request in requests]
    return float(np.mean([(at,) in keys for at, keys in zip(asked, hits, strict=True)]))


def measure(arguments: argparse.Namespace) -> Report:
    """Run the table through, once."""
    gpu = find_gpu()
    rows = (QUICK_GPU_ROWS if arguments.quick else GPU_ROWS) if gpu else QUICK_ROWS if arguments.quick else ROWS
    body = texts(rows)
    report = Report(
        title=f"A table of {rows:,} rows, from its commit to a search{f' on {gpu.name}' if gpu else ''}",
        columns=("seconds", "share", "rows/s"),
        packages=("deltalake", "sentence-transformers", "faiss-gpu-cuvs" if gpu else "faiss-cpu", "tantivy"),
    )
    load_embedder(parse_spec(SPEC).vector).query("The model is loaded before the clock starts, as in a service.")
    laps: list[tuple[str, float]] = []
    with tempfile.TemporaryDirectory(prefix="grebe-bench-table-") as at, bars(unit="rows") as shown:
        folder = Path(at)
        write_deltalake(folder / "source", pa.table({"id": np.arange(rows), "body": body}))
        laps.append(("", time.perf_counter()))
        changes = read(folder / "source")
        laps.append(("read", time.perf_counter()))

        def progress(stage: str, done: int, total: int) -> None:
            ended = {("embedding", 0): "net and chunk", ("building", 0): "embed"}.get((stage, done))
            if ended:
                laps.append((ended, time.perf_counter()))
            if stage == "building" and done == total:
                laps.append(("build and upload", time.perf_counter()))
            shown(stage, done, total)

        catalog = Catalog.create(Store.at(str(folder / "store")), parse_spec(SPEC))
        with threads(os.cpu_count() or 1):  # retrieval, imported above, leaves FAISS one
            publish(catalog, changes, 0, folder / "sync", progress)
        laps.append(("commit", time.perf_counter()))
        snapshot = open_snapshot(catalog, LocalCache(folder / "cache"))
        search(snapshot, SearchRequest(query=body[0]))
        laps.append(("open, first answer", time.perf_counter()))
        share = found(snapshot, body)
        index = [view.segment.record.index for view in snapshot.views]
        snapshot.close()
    whole = laps[-1][1] - laps[0][1]
    for (_, begun), (stage, ended) in itertools.pairwise(laps):
        took = ended - begun
        report.add(stage, took, f"{took / whole:.0%}", f"{rows / took:,.0f}")
    report.add("commit to searchable", whole, "100%", f"{rows / whole:,.0f}")
    report.add("rows found by their text", f"{share:.2f}", "", "", value=share, goal=Goal(least=0.95))
    report.notes += [f"{record.kind} on the {record.device.upper()}: {record.reason}" for record in index]
    return report


if __name__ == "__main__":
    run(__doc__ or "", measure)
