"""How long a row takes from its commit at the source to an answer over HTTP, while rows keep coming.

A writer commits once a second to a Delta table; a continuous sync follows it; a server in a process of its own follows
the sync; a client asks it over HTTP for the last row of every commit until it is there. First with the source's own
vectors at 500 rows/s (for ten minutes; ``--quick``: 6 s), then, but for ``--quick``, with the embedding model at a
rate that the CPU holds.

The peer is what one would write without Grebe, over the same stream in the same run: a ``foreachBatch`` that appends
the change feed to a LanceDB table, asked in process for the same rows. It knows no updates or deletes, keeps no index
and crosses no HTTP, so it is a floor of what Spark and an append cost.

    .venv/bin/python -m benchmarks.freshness [--quick] [--check]
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import numpy as np
import pyarrow as pa
from deltalake import write_deltalake

from benchmarks.corpus import MODEL, clustered, sentences
from benchmarks.harness import SEED, Goal, Report, run
from benchmarks.replicas import free_port
from connectors.contract import POLL_SECONDS

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

    from connectors.contract import Source
    from indexer.spec import CollectionSpec

RATE = 500
SECONDS, QUICK_SECONDS = 600, 6
FIRST_SECONDS = 60
OTHER_SECONDS, QUICK_OTHER_SECONDS = 60, 3
"""How long the stream with the model and the peer's take."""
WARM_UP_COMMITS, QUICK_WARM_UP_COMMITS = 12, 2
"""The first commits meet a JVM that has compiled nothing and workers that have imported nothing; the measured ones
begin when these are served."""
ASK_SECONDS = 0.02
DRAIN_SECONDS = 120
POOL = 20_000
DIM = 384
NAME = "fresh"

Served = Callable[[int], bool]
"""Says whether the row with this key can be found yet."""


@dataclass
class Lags:
    """What was measured of one stream: seconds of lag by commit, the live segments seen, and the rows at the end."""

    rate: int
    lags: list[float] = field(default_factory=list)
    most_segments: int = 0
    written: int = 0
    served: int = 0

    def quantile(self, share: float, commits: int | None = None) -> float:
        """Return a quantile of the lags of the first ``commits`` measured commits."""
        return float(np.quantile(self.lags[:commits], share))


class Writer(ABC):
    """Commits ``rate`` rows once a second, as a source's users would, to a table of ``first`` rows."""

    def __init__(self, rate: int, *, vectors: bool, first: int = 1) -> None:
        self.rate, self.first = rate, first
        self.committed_at: list[float] = []
        self._pool = sentences(POOL)
        self._vectors = clustered(POOL) if vectors else None
        self._random = np.random.default_rng(SEED)

    @abstractmethod
    def commit(self, rows: pa.Table) -> None:
        """Commit ``rows`` (``id``, ``body`` and perhaps ``vector``) to the table."""

    def run(self, seconds: float) -> None:
        """Write for ``seconds``."""
        started = time.monotonic()
        for number in range(int(seconds)):
            rows = self.rows(self.written, self.rate)
            time.sleep(max(0.0, started + number - time.monotonic()))
            self.commit(rows)
            self.committed_at.append(time.monotonic())

    @property
    def written(self) -> int:
        """Rows in the table."""
        return self.first + len(self.committed_at) * self.rate

    def last_key(self, commit: int) -> int:
        """The last key of the commit with this number."""
        return self.first + (commit + 1) * self.rate - 1

    def rows(self, first: int, count: int) -> pa.Table:
        """Return ``count`` rows with keys from ``first`` on."""
        at = self._random.integers(POOL, size=count)
        columns = {
            "id": pa.array(np.arange(first, first + count, dtype=np.int64)),
            "body": pa.array([f"{self._pool[i]} ({first + n})" for n, i in enumerate(at.tolist())]),
        }
        if self._vectors is not None:
            columns["vector"] = pa.array(list(self._vectors[at]), pa.list_(pa.float32()))
        return pa.table(columns)


class DeltaWriter(Writer):
    """Writes to a Delta table with a change feed in the folder ``table``."""

    def __init__(self, table: Path, rate: int, *, vectors: bool) -> None:
        super().__init__(rate, vectors=vectors)
        self._table = str(table)
        properties = {"delta.enableChangeDataFeed": "true", "delta.checkpointInterval": "100"}
        write_deltalake(self._table, self.rows(0, 1), configuration=properties)

    def commit(self, rows: pa.Table) -> None:
        """Append ``rows``."""
        write_deltalake(self._table, rows, mode="append")


@contextmanager
def server(folder: Path) -> Iterator[httpx.Client]:
    """Serve the store in ``folder`` from a process of its own; yield a client."""
    port = free_port()
    environment = {
        **os.environ,
        "GREBE_STORE": str(folder / "store"),
        "GREBE_CACHE": str(folder / "cache"),
        "HF_HUB_OFFLINE": "1",
    }
    grebe = [sys.executable, "-m", "jobs", "serve", "--port", str(port)]
    process = subprocess.Popen(grebe, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
            _wait_until_up(client)
            yield client
    finally:
        process.terminate()
        process.wait(30)


def _wait_until_up(client: httpx.Client) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            if client.get(f"/v1/collections/{NAME}").status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    raise TimeoutError("the server did not come up within a minute")


def follow(served: Served, writer: Writer, lags: list[float], commit: int, done: threading.Event) -> None:
    """Ask for the last row of each commit from ``commit`` on until it is served; note how long that took."""
    patience = 0.0
    while True:
        if commit < len(writer.committed_at):
            if served(writer.last_key(commit)):
                lags.append(time.monotonic() - writer.committed_at[commit])
                commit, patience = commit + 1, 0.0
                continue
        elif done.is_set():
            return
        patience += ASK_SECONDS
        if patience > DRAIN_SECONDS:
            return
        time.sleep(ASK_SECONDS)


def measured(writer: Writer, served: Served, seconds: float, warm_up: int) -> list[float]:
    """Write for ``seconds`` after ``warm_up`` commits that are not measured; return the seconds of lag by commit."""
    lags: list[float] = []
    done = threading.Event()
    writer.run(warm_up)
    done.set()
    follow(served, writer, [], 0, done)
    done.clear()
    arguments = (served, writer, lags, len(writer.committed_at), done)
    following = threading.Thread(target=follow, args=arguments, name="client")
    following.start()
    writer.run(seconds)
    done.set()
    following.join()
    return lags


def stream_delta(spark: SparkSession, rate: int, seconds: float, warm_up: int, *, vectors: bool) -> Lags:
    """Measure a stream of ``rate`` rows a second into a Delta table."""
    from connectors.delta_source import DeltaSource
    from indexer.spec_file import parse_spec

    folder = Path(tempfile.mkdtemp(prefix="grebe-bench-fresh-"))
    try:
        writer = DeltaWriter(folder / "table", rate, vectors=vectors)
        vector = "column: vector" if vectors else f"model: {MODEL}"
        spec = parse_spec(SPEC.format(name=NAME, table=str(folder / "table"), vector=vector))
        return stream(
            folder, spec, writer, DeltaSource(spark, str(folder / "table"), spec.source_columns), seconds, warm_up
        )
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def stream(
    folder: Path, spec: CollectionSpec, writer: Writer, source: Source, seconds: float, warm_up: int = WARM_UP_COMMITS
) -> Lags:
    """Run writer, sync, server and client together for ``seconds``, after ``warm_up`` commits, in ``folder``."""
    from indexer.apply import apply
    from indexer.catalog import Catalog, CatalogState
    from indexer.format.store import Store
    from indexer.sync import SyncOptions, sync

    lags, stopping = Lags(writer.rate), threading.Event()
    store = Store.at(str(folder / "store"))
    apply(store, spec)
    failures: list[BaseException] = []

    def committed(state: CatalogState) -> None:
        lags.most_segments = max(lags.most_segments, len(state.segments))

    def synced() -> None:
        try:
            sync(
                store,
                NAME,
                lambda _: source,
                cache=folder / "sync",
                options=SyncOptions(continuous=True, stop=stopping.is_set, committed=committed),
            )
        except BaseException as error:
            failures.append(error)

    syncing = threading.Thread(target=synced, name="sync")
    syncing.start()
    try:
        with server(folder) as client:
            lags.lags = measured(
                writer,
                lambda key: client.get(f"/v1/collections/{NAME}/rows/{key}").status_code == 200,
                seconds,
                warm_up,
            )
            lags.written = writer.written
            lags.served = int(client.get(f"/v1/collections/{NAME}/status").json()["rows"])
            lags.most_segments = max(lags.most_segments, len(Catalog.open(store, NAME).read().segments))
    finally:
        stopping.set()
        syncing.join()
    if failures:
        raise failures[0]
    return lags


def peer_lags(spark: SparkSession, seconds: float, warm_up: int) -> list[float]:
    """Stream the same rows by a plain ``foreachBatch`` into LanceDB; return the seconds of lag by commit."""
    import lancedb

    folder = Path(tempfile.mkdtemp(prefix="grebe-bench-lance-"))
    try:
        writer = DeltaWriter(folder / "table", RATE, vectors=True)
        fixed = pa.schema([("id", pa.int64()), ("body", pa.string()), ("vector", pa.list_(pa.float32(), DIM))])
        database = lancedb.connect(folder / "lance", read_consistency_interval=timedelta(0))
        written, asked = database.create_table("fresh", schema=fixed), database.open_table("fresh")

        def append(frame: DataFrame, _: int) -> None:
            written.add(frame.select(*fixed.names).toArrow().cast(fixed))

        def served(key: int) -> bool:
            return asked.count_rows(f"id = {key}") > 0

        changes = spark.readStream.format("delta").option("readChangeFeed", "true").option("startingVersion", "0")
        query = (
            changes.load(str(folder / "table"))
            .writeStream.foreachBatch(append)
            .option("checkpointLocation", str(folder / "checkpoint"))
            .trigger(processingTime=f"{POLL_SECONDS} seconds")
            .start()
        )
        try:
            return measured(writer, served, seconds, warm_up)
        finally:
            query.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


SPEC = "name: {name}\nsource: {{table: {table}}}\nkey: [id]\ntext: {{fields: {{body: 1}}}}\nvector: {{{vector}}}"


def rate_of_model() -> int:
    """Return the rows a second that one core embeds, less a third for everything else that runs here."""
    from indexer.embedding import load_embedder
    from indexer.spec import VectorSpec

    embedder = load_embedder(VectorSpec(model=MODEL), threads=1)
    texts = sentences(POOL)[:256]
    embedder.documents(texts[:32])
    started = time.perf_counter()
    embedder.documents(texts)
    return max(1, int(len(texts) / (time.perf_counter() - started) / 1.5))


def measure(arguments: argparse.Namespace) -> Report:
    """Run both streams."""
    from connectors.session import spark_session

    spark = spark_session("grebe-bench")
    seconds, other_seconds, warm_up = SECONDS, OTHER_SECONDS, WARM_UP_COMMITS
    if arguments.quick:
        seconds, other_seconds, warm_up = QUICK_SECONDS, QUICK_OTHER_SECONDS, QUICK_WARM_UP_COMMITS
    own = stream_delta(spark, RATE, seconds, warm_up, vectors=True)
    peer = peer_lags(spark, other_seconds, warm_up)
    model = None if arguments.quick else stream_delta(spark, rate_of_model(), other_seconds, warm_up, vectors=False)
    spark.stop()
    report = Report(
        title="Freshness: from the source's commit to an HTTP answer",
        columns=("measured", "foreachBatch into LanceDB"),
        packages=("pyspark", "delta-spark", "faiss-cpu", "tantivy", "uvicorn", "lancedb"),
    )
    first = min(FIRST_SECONDS, seconds)
    for share, most in ((0.5, 2), (0.95, 5)):
        lag, theirs = own.quantile(share, first), float(np.quantile(peer, share))
        goal = None if arguments.quick else Goal(most=most)
        report.add(f"p{share * 100:.0f} of {first} s at {RATE} rows/s, s", lag, theirs, value=lag, goal=goal)
    report.add(f"p50 of {seconds} s, s", own.quantile(0.5), "")
    report.add(f"p95 of {seconds} s, s", own.quantile(0.95), "")
    report.add("rows written", own.written, "")
    lost = own.written - own.served
    report.add("rows lost", lost, "", value=lost, goal=Goal(most=0))
    report.add(f"most live segments in {seconds} s", own.most_segments, "", value=own.most_segments, goal=Goal(most=39))
    if model is not None:
        report.add("with the model: rows/s", model.rate, "")
        report.add("with the model: p50, s", model.quantile(0.5), "")
        report.add("with the model: p95, s", model.quantile(0.95), "")
        lost = model.written - model.served
        report.add("with the model: rows lost", lost, "", value=lost, goal=Goal(most=0))
    else:
        report.notes = [
            "--quick ends before Java has compiled what it runs: the lags' goals are those of a minute.",
            "The model, which takes half of one to load, is left to the whole run.",
        ]
    return report


if __name__ == "__main__":
    run(__doc__ or "", measure)
