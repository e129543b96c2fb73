"""A Snowflake table as a source, through the emulated account of the tests, by Snowflake's own connector.

First the whole table is read: by Spark, into one Arrow table in this process, beside the connector's own
``fetch_arrow_all`` of the same columns, in turn. Spark's tasks fetch the same batches as the connector, and then hand
them through the JVM; the goal of half the connector's rate leaves room for that and for nothing that works row by row.
Then a first sync, from the table to its commit. Then the table gets 200 rows a second by the connector, a continuous
sync follows it, and a client asks a server over HTTP for the last row of every commit, as in
:mod:`benchmarks.freshness`. Windows end two seconds behind the account's clock, the account is asked once a second, and
a window takes a second or so to be read, built, committed and opened: the goal for the slow twentieth is those two
seconds and three more, and no row may be lost.

The emulator is the one that ``tests/snowflake`` starts, so this runs in a checkout alone. Its own speed bounds both
readers: the ratio says something of Grebe, the rows a second say little of Snowflake.

    .venv/bin/python -m benchmarks.snowflake [--quick] [--check]
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from benchmarks.corpus import clustered, sentences
from benchmarks.freshness import NAME, QUICK_WARM_UP_COMMITS, WARM_UP_COMMITS, Lags, Writer, stream
from benchmarks.harness import SEED, Goal, Report, run
from tests.connectors.signing_in import connections_file
from tests.snowflake.server import SnowflakeServer, snowflake_server

if TYPE_CHECKING:
    from snowflake.connector import SnowflakeConnection

    from connectors.snowflake_source import SnowflakeSource
    from indexer.spec import CollectionSpec

ROWS, QUICK_ROWS = 100_000, 2_000
RATE = 200
SECONDS, QUICK_SECONDS = 60, 3
ROUNDS = 3
DIM = 384
POOL = 20_000
TRAIL_SECONDS = 2.0
TABLE = "BENCH.PUBLIC.ROWS_"
COLUMNS = "id NUMBER(18, 0), body VARCHAR, vector VECTOR(FLOAT, 384)"
SPEC = (
    f"name: {NAME}\nsource: {{kind: snowflake, table: {TABLE}}}\nkey: [id]\ntext: {{fields: {{body: 1}}}}\n"
    "vector: {column: vector}"
)


class SnowflakeWriter(Writer):
    """Inserts rows by the connector, which binds them as arrays."""

    def __init__(self, connection: SnowflakeConnection, rate: int, *, first: int) -> None:
        super().__init__(rate, vectors=True, first=first)
        self._connection = connection

    def commit(self, rows: pa.Table) -> None:
        """Insert ``rows`` in one statement."""
        values = [(row["id"], row["body"], json.dumps(row["vector"])) for row in rows.to_pylist()]
        with self._connection.cursor() as cursor:
            cursor.executemany(f"INSERT INTO {TABLE} SELECT ?, ?, PARSE_JSON(?)::VECTOR(FLOAT, {DIM})", values)


def fill(account: SnowflakeServer, rows: int) -> None:
    """Make the table, with ``rows`` rows of one commit."""
    pool, vectors = sentences(POOL), clustered(rows)
    at = np.random.default_rng(SEED).integers(POOL, size=rows)
    for statement in ("CREATE DATABASE BENCH", f"CREATE TABLE {TABLE} ({COLUMNS}) CHANGE_TRACKING = TRUE"):
        account.execute(statement)
    flat = pa.array(vectors.reshape(-1))
    table = {
        "ID": np.arange(rows, dtype=np.int64),
        "BODY": [f"{pool[i]} ({number})" for number, i in enumerate(at.tolist())],
        "VECTOR": pa.FixedSizeListArray.from_arrays(flat, DIM),
    }
    account.load(TABLE, pa.table(table))


def time_reads(source: SnowflakeSource, connection: SnowflakeConnection, rows: int) -> tuple[float, float, float]:
    """Return the median seconds of Spark's read and of the connector's, and the median of the ratios of their rates."""

    def by_spark() -> pa.Table:
        return source.snapshot(source.head().position).toArrow()

    def by_connector() -> pa.Table:
        with connection.cursor() as cursor:
            return cursor.execute(f"SELECT id, body, vector FROM {TABLE}").fetch_arrow_all()

    pairs = [(_seconds(by_spark, rows), _seconds(by_connector, rows)) for _ in range(ROUNDS)]
    spark, connector = (float(np.median(seconds)) for seconds in zip(*pairs, strict=True))
    return spark, connector, float(np.median([theirs / ours for ours, theirs in pairs]))


def _seconds(read: Callable[[], pa.Table], rows: int) -> float:
    started = time.perf_counter()
    assert len(read()) == rows
    return time.perf_counter() - started


def time_first_sync(source: SnowflakeSource, spec: CollectionSpec, folder: Path, rows: int) -> float:
    """Return the seconds from the table to the first commit of its collection."""
    from indexer.apply import apply
    from indexer.format.store import Store
    from indexer.sync import sync

    store = Store.at(str(folder / "store"))
    apply(store, spec)
    started = time.perf_counter()
    report = sync(store, NAME, lambda _: source, cache=folder / "sync")
    assert report.ledger.upserted == rows
    return time.perf_counter() - started


def measure(arguments: argparse.Namespace) -> Report:
    """Read, sync and stream, one after the other."""
    rows, seconds = (QUICK_ROWS, QUICK_SECONDS) if arguments.quick else (ROWS, SECONDS)
    folder = Path(tempfile.mkdtemp(prefix="grebe-bench-snowflake-"))
    try:
        with snowflake_server() as account:
            fill(account, rows)
            reads, synced, lags = measure_account(account, folder, rows, seconds)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    spark, connector, ratio = reads
    report = Report(
        title=f"Snowflake, emulated: {rows:,} rows with text and {DIM} dimensions, then {RATE} rows/s for {seconds} s",
        columns=("measured",),
        packages=("pyspark", "snowflake-connector-python", "pyarrow", "faiss-cpu", "tantivy"),
    )
    report.add("read by Spark into Arrow, rows/s", rows / spark)
    report.add("read by fetch_arrow_all, rows/s", rows / connector)
    goal = None if arguments.quick else Goal(least=0.5)
    report.add("Spark's rate to the connector's", f"{ratio:.2f}", value=ratio, goal=goal)
    report.add("first sync, rows/s", rows / synced)
    p50, p95, lost = lags.quantile(0.5), lags.quantile(0.95), lags.written - lags.served
    report.add(f"lag at {RATE} rows/s: p50, s", p50)
    report.add(
        f"lag at {RATE} rows/s: p95, s", p95, value=p95, goal=None if arguments.quick else Goal(most=TRAIL_SECONDS + 3)
    )
    report.add("rows written while it streamed", lags.written - rows)
    report.add("rows lost", lost, value=lost, goal=Goal(most=0))
    if arguments.quick:
        report.notes = ["--quick reads too few rows for a goal, and ends before Java has compiled what it runs"]
    return report


def measure_account(
    account: SnowflakeServer, folder: Path, rows: int, seconds: float
) -> tuple[tuple[float, float, float], float, Lags]:
    """Return what :func:`time_reads` does, the seconds of the first sync, and the lags of the stream."""
    from connectors.session import spark_session
    from connectors.snowflake_session import SignIn
    from connectors.snowflake_source import SnowflakeSource
    from indexer.spec_file import parse_spec

    spec = parse_spec(SPEC)
    file = connections_file(folder, account.connection_parameters())
    sign_in = SignIn(connection="emulated", connections_file=str(file), tag="grebe bench")
    spark = spark_session("grebe-bench")
    source = SnowflakeSource(spark, TABLE, spec.source_columns, sign_in=sign_in, trail_seconds=TRAIL_SECONDS)
    filled_at = account.now_us()
    while source.head().position.version < filled_at:
        time.sleep(0.1)
    with account.connect(paramstyle="qmark") as connection:
        reads = time_reads(source, connection, rows)
        synced = time_first_sync(source, spec, folder, rows)
        writer = SnowflakeWriter(connection, RATE, first=rows)
        warm_up = WARM_UP_COMMITS if seconds == SECONDS else QUICK_WARM_UP_COMMITS
        lags = stream(folder, spec, writer, source, seconds, warm_up)
    spark.stop()
    return reads, synced, lags


if __name__ == "__main__":
    run(__doc__ or "", measure)
