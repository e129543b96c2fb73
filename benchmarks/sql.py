"""Statements a second over 1,000,000 rows: `retrieval.sql` beside DuckDB, whose table is in memory, in the same run.

Both read the same columns with as many threads as there are cores, and give the same rows in the same order, or the
benchmark stops. DuckDB is given prepared data and no policy; in the row *under a policy* its text has the predicate.
``--quick`` takes 100,000 rows, where no ratio is judged.

    .venv/bin/python -m benchmarks.sql [--quick] [--check]
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from benchmarks.batches import change_table, publish
from benchmarks.harness import SEED, Goal, Report, run
from connectors.contract import UPSERT
from indexer.catalog import Catalog
from indexer.format.store import Store
from indexer.spec_file import parse_spec
from retrieval.cache import LocalCache
from retrieval.policies import OPERATOR, Caller
from retrieval.snapshot import Snapshot, open_snapshot
from retrieval.sql import parse_statement, run_statement

ROWS, QUICK_ROWS = 1_000_000, 100_000
SECONDS = 2.0
"""How long each side runs each statement."""

SPEC = (
    "name: facts\nsource: {table: /none}\nkey: [id]\ncolumns: [team, size, price, day]\n"
    "text: {fields: {body: 1}}\nvector: {column: vector, dim: 4}\nindex: {kind: exact}\n"
    'policies: [{role: reader, rows: "size < :most"}]'
)
READER = Caller(roles=frozenset({"reader"}), claims={"most": 500})
STATEMENTS: dict[str, tuple[str, float | None]] = {
    "count": ("SELECT count(*) FROM facts", None),
    "one row by a column": ("SELECT id, team, price FROM facts WHERE id = 77777", None),
    "filter and count": ("SELECT count(*) FROM facts WHERE size < 100 AND team LIKE 'team 1%'", None),
    "the twenty largest": ("SELECT id, size, price FROM facts ORDER BY price DESC, id LIMIT 20", 0.5),
    "a thousand groups": (
        "SELECT team, count(*) AS n, avg(price) AS p FROM facts GROUP BY team ORDER BY n DESC, team LIMIT 20",
        0.5,
    ),
    "groups of a filter": (
        "SELECT day, max(price) AS p, count(DISTINCT team) AS n FROM facts WHERE size < 50 GROUP BY day ORDER BY day",
        0.5,
    ),
    "a hundred rows": ("SELECT * FROM facts WHERE size = 7 ORDER BY id LIMIT 100", None),
}
POLICY = "SELECT team, sum(size) AS s FROM facts{} GROUP BY team ORDER BY s DESC, team LIMIT 20"


def columns_of(rows: int) -> dict[str, Any]:
    """The rows' columns, Zipf-like in ``team``."""
    random = np.random.default_rng(SEED)
    teams = np.minimum(random.zipf(1.3, rows), 1_000)
    days = np.datetime64("2020-01-01") + random.integers(0, 365, rows).astype("timedelta64[D]")
    return {
        "team": pa.array([f"team {team}" for team in teams.tolist()]),
        "size": random.integers(0, 1_000, rows).astype(np.int32),
        "price": np.round(random.random(rows) * 1000, 6),
        "day": pa.array(days.astype("datetime64[D]")),
    }


def snapshot_of(columns: dict[str, Any], folder: Path) -> Snapshot:
    """Build a collection of the columns and open it."""
    rows = len(columns["size"])
    ids = np.arange(rows, dtype=np.int64)
    changes = change_table(
        ids=ids,
        body=["a fact"] * rows,
        vectors=np.ones((rows, 4), dtype=np.float32),
        ops=[UPSERT] * rows,
        contents=ids,
        version=1,
        **columns,
    )
    catalog = Catalog.create(Store.at(str(folder / "store")), parse_spec(SPEC))
    publish(catalog, changes, 1, folder / "sync")
    return open_snapshot(catalog, LocalCache(folder / "cache"))


def rate(ask: Callable[[], object]) -> float:
    """How often a second ``ask`` can be asked."""
    asked, started = 0, time.perf_counter()
    while time.perf_counter() - started < SECONDS:
        ask()
        asked += 1
    return asked / (time.perf_counter() - started)


def add_row(
    report: Report, name: str, ours: Callable[[], list[Any]], theirs: Callable[[], list[Any]], least: float | None
) -> None:
    """Run both sides of one statement in turn, after they have agreed."""
    mine, other = ours(), theirs()
    if [tuple(map(_plain, row)) for row in mine] != [tuple(map(_plain, row)) for row in other]:
        raise SystemExit(f"{name}: the answers differ: {mine[:2]} and {other[:2]}")
    pairs = [(rate(ours), rate(theirs)) for _ in range(3)]
    ratio = float(np.median([a / b for a, b in pairs]))
    report.add(
        name,
        float(np.median([a for a, _ in pairs])),
        float(np.median([b for _, b in pairs])),
        f"{ratio:.2f}",
        value=ratio,
        goal=Goal(least=least) if least is not None else None,
    )


def _plain(value: object) -> object:
    if isinstance(value, float):
        return round(value, 6)
    return value.isoformat() if isinstance(value, date) else value


def measure(arguments: argparse.Namespace) -> Report:
    """Run every statement on both."""
    rows = QUICK_ROWS if arguments.quick else ROWS
    report = Report(
        title=f"SQL over {rows:,} rows",
        columns=("Grebe/s", "DuckDB/s", "ratio"),
        packages=("polars", "duckdb", "sqlglot"),
    )
    columns = columns_of(rows)
    peer = duckdb.connect()
    peer.register("given", pa.table({"id": np.arange(rows, dtype=np.int64), **columns}))
    peer.execute("CREATE TABLE facts AS SELECT * FROM given")
    with tempfile.TemporaryDirectory() as folder, snapshot_of(columns, Path(folder)) as snapshot:

        def asking(text: str, caller: Caller = OPERATOR) -> Callable[[], list[Any]]:
            return lambda: run_statement(snapshot, parse_statement(text, "duckdb"), caller=caller).rows

        def answering(text: str) -> Callable[[], list[Any]]:
            return lambda: peer.execute(text).fetchall()

        for name, (text, least) in STATEMENTS.items():
            theirs = text.replace("*", "*, 'a fact' AS body") if "SELECT *" in text else text
            add_row(report, name, asking(text), answering(theirs), None if arguments.quick else least)
        under = answering(POLICY.format(" WHERE size < 500"))
        add_row(report, "under a policy", asking(POLICY.format(""), READER), under, None if arguments.quick else 0.5)
    report.notes.append(
        "Grebe keeps the trees of short texts and what filters say of a segment, as it does between requests; DuckDB "
        "knows the range of each block of ids. Rows without a goal are of what one side keeps, or of no work at all."
    )
    return report


if __name__ == "__main__":
    run(__doc__ or "", measure)
