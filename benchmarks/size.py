"""How large a machine: what a million rows take of a store, of a server's disk and of its memory, and how it answers.

A row is three sentences, a vector of 384 float32, a number, a word and a time; it is one chunk. Built is one batch, as
a task of a load builds it, without Spark and without embedding. A server of its own process then opens it and answers
eight clients, ten hits a question; none may fail. *raw* is the text, the vectors and the columns, uncompressed; sizes
are of files as they lie there. Memory is that beyond a server's without collections: *of its own* is what cannot be
given back (RssAnon), *of files* is what of mapped files is in memory at the end (RssFile), which the kernel takes away
and reads again where there is too little.

    .venv/bin/python -m benchmarks.size [--quick] [--check]
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.batches import change_table, publish
from benchmarks.cluster import clients
from benchmarks.corpus import sentences, topical
from benchmarks.harness import SEED, Goal, Report, run
from benchmarks.replicas import Replica, until
from connectors.contract import UPSERT
from indexer.catalog import Catalog
from indexer.format.store import Store
from indexer.spec_file import parse_spec

NAME, DIM = "size", 384
ROWS, QUICK_ROWS = 1_000_000, 50_000
TEXTS, SENTENCES_EACH, KINDS = 20_000, 3, 100
CLIENTS, QUESTIONS, SECONDS, QUICK_SECONDS = 8, 400, 8.0, 2.0
SPEC = parse_spec(
    f"name: {NAME}\nsource: {{table: /none}}\nkey: [id]\ntext: {{fields: {{body: 1}}}}\ncolumns: [kind, published]\n"
    f"vector: {{column: vector, dim: {DIM}}}"
)
MB = 1e6


def publish_rows(store: str, rows: int, cache: Path) -> tuple[int, list[str], list[list[float]]]:
    """Make the collection; return the bytes of its raw data, and some of its texts and vectors to ask with."""
    random = np.random.default_rng(SEED)
    known = sentences(TEXTS)
    body = [
        " ".join(known[at] for at in picked) for picked in random.integers(TEXTS, size=(rows, SENTENCES_EACH)).tolist()
    ]
    kinds = np.array([f"kind-{number:02}" for number in range(KINDS)])[random.integers(KINDS, size=rows)]
    published = np.datetime64("2026-01-01", "us") + random.integers(10**13, size=rows).astype("timedelta64[us]")
    vectors = topical(rows, DIM)
    changes = change_table(
        ids=np.arange(rows, dtype=np.int64),
        body=body,
        vectors=vectors,
        ops=[UPSERT] * rows,
        contents=np.arange(rows, dtype=np.int64),
        version=1,
        kind=kinds,
        published=published,
    )
    publish(Catalog.create(Store.at(store), SPEC), changes, 1, cache)
    raw = sum(map(len, body)) + vectors.nbytes + rows * (8 + 8 + 7)
    return raw, body[:QUESTIONS], vectors[:: max(1, rows // QUESTIONS)][:QUESTIONS].round(4).tolist()


def sizes(folder: Path) -> Counter[str]:
    """Return the bytes of the files below ``folder`` by what they hold."""
    found: Counter[str] = Counter()
    for file in folder.rglob("*"):
        if file.is_file() and not file.is_symlink():
            part = "keywords" if "keywords" in file.parts or file.suffix == ".tar" else file.name
            found[part] += file.stat().st_size
    return found


def memory(replica: Replica) -> dict[str, int]:
    """Return bytes of a server's memory, by the kernel's names."""
    lines = Path(f"/proc/{replica.pid}/status").read_text().splitlines()
    return {line.split(":")[0]: 1024 * int(line.split()[1]) for line in lines if line.startswith("Rss")}


def questions(rows: int, texts: list[str], vectors: list[list[float]]) -> dict[str, list[dict[str, Any]]]:
    """Return questions of each kind."""
    words = [" ".join(text.split()[:8]) for text in texts]
    return {
        "vector": [{"vector": vector} for vector in vectors],
        "keyword": [{"query": text, "mode": "keyword"} for text in words],
        "hybrid": [{"query": text, "vector": vector} for text, vector in zip(words, vectors, strict=True)],
        "hybrid, 1 % passing": [
            {"query": text, "vector": vector, "filter": "kind = :kind", "params": {"kind": f"kind-{at % KINDS:02}"}}
            for at, (text, vector) in enumerate(zip(words, vectors, strict=True))
        ],
        "filter": [{"filter": "id >= :first", "params": {"first": at * rows // QUESTIONS}} for at in range(QUESTIONS)],
    }


def measure(arguments: argparse.Namespace) -> Report:
    """Run everything, and tell."""
    rows, seconds = (QUICK_ROWS, QUICK_SECONDS) if arguments.quick else (ROWS, SECONDS)
    report = Report(
        title=f"Size: {rows:,} rows of one chunk, {DIM} dimensions",
        columns=("MB", "of the raw data", "bytes a row"),
        packages=("faiss-cpu", "tantivy", "pyarrow"),
    )
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="grebe-bench-size-")))
        empty = Replica(folder / "empty", str(folder / "nothing"))
        stack.callback(empty.close)
        empty.start()
        until(lambda: empty.ready, "a server ready")
        before = memory(empty)
        empty.close()
        began = time.perf_counter()
        raw, texts, vectors = publish_rows(str(folder / "store"), rows, folder / "sync")
        built = time.perf_counter() - began

        def told(name: str, size: float, goal: Goal | None = None) -> None:
            report.add(name, size / MB, size / raw, size / rows, value=size / raw, goal=goal)

        told("raw", raw)
        stored = sizes(folder / "store")
        told("in the store", stored.total(), Goal(most=1.5))
        for part, size in stored.most_common(5):
            told(f"  {part}", size)
        server = Replica(folder / "server", str(folder / "store"))
        stack.callback(server.close)
        server.start()
        opened = until(lambda: server.ready, "a server ready")
        url, rates = f"http://127.0.0.1:{server.port}", {}
        for kind, asked in questions(rows, texts, vectors).items():
            bodies = [json.dumps(question | {"k": 10}).encode() for question in asked]
            with clients(url, bodies, CLIENTS, f"/v1/collections/{NAME}/search") as answers:
                time.sleep(seconds)
            rates[kind] = answers
        told("on a server's disk", sizes(folder / "server" / "cache").total())
        used = {kind: size - before[kind] for kind, size in memory(server).items()}
        own = used["RssAnon"] / MB
        report.add("memory of its own", own, "", "", value=own, goal=Goal(most=500))
        told("memory of files", used["RssFile"])
        for kind, answers in rates.items():
            cells = (answers.rate, answers.quantile_ms(0.5), answers.quantile_ms(0.99))
            report.add(f"{kind}: answers/s, p50, p99 in ms", *cells)
        failed = sum(len(answers.failed) for answers in rates.values())
        report.add("questions that failed", failed, "", "", value=failed, goal=Goal(most=0))
    report.notes = [
        f"Rows made and built in {built:.0f} s; a server with an empty cache had them open after {opened:.0f} s."
    ]
    return report


if __name__ == "__main__":
    run(__doc__ or "", measure)
