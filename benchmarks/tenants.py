"""A thousand tenants of 100 rows: kept apart, beside the same rows in one index, in the same run.

Both collections have the policy that lets a member see its own tenant's rows, and an auditor all. Built is one batch,
without Spark and without embedding. A question is hybrid, 10 rows, one client, each of another tenant; *first* is a
tenant's first on an open version, *later* its second. *all tenants'* are the auditor's. *as alone* is the share of
tenants, of 20, whose answers have the keys and scores, to the bit, of a collection of that tenant's rows alone.
``--quick`` has 100 tenants.

    .venv/bin/python -m benchmarks.tenants [--quick] [--check]
"""

from __future__ import annotations

import argparse
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from benchmarks.batches import change_table, publish
from benchmarks.harness import SEED, Goal, Report, run
from connectors.contract import UPSERT
from indexer.catalog import Catalog
from indexer.format.store import Store
from indexer.spec import CollectionSpec
from indexer.spec_file import parse_spec
from retrieval.cache import LocalCache
from retrieval.policies import Caller
from retrieval.request import SearchRequest
from retrieval.search import search
from retrieval.snapshot import Snapshot, open_snapshot

TENANTS, QUICK_TENANTS = 1_000, 100
ROWS_EACH, DIM, WORDS = 100, 64, 5_000
ASKED, ALONE = 200, 20

TOGETHER = parse_spec(
    f"name: tenants\nsource: {{table: /none}}\nkey: [team, id]\ntext: {{fields: {{body: 1}}}}\n"
    f"vector: {{column: vector, dim: {DIM}}}\npolicies: [{{role: member, rows: 'team = :team'}}, {{role: auditor}}]"
)
AUDITOR = Caller(roles=frozenset({"auditor"}))
APART = CollectionSpec.model_validate(TOGETHER.model_dump() | {"isolation": {"tenant": "team"}})


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Rows in no order: ``teams`` ``(n,)``, ``bodies``, and ``vectors`` ``(n, DIM)`` of unit length."""

    teams: npt.NDArray[np.int64]
    bodies: list[str]
    vectors: npt.NDArray[np.float32]

    @classmethod
    def of(cls, tenants: int) -> Rows:
        """Draw the rows of so many tenants, their words Zipf-like."""
        random = np.random.default_rng(SEED)
        n = tenants * ROWS_EACH
        frequencies = 1 / np.arange(1, WORDS + 1)
        words = random.choice(WORDS, (n, 20), p=frequencies / frequencies.sum())
        vectors = random.standard_normal((n, DIM)).astype(np.float32)
        return cls(
            teams=random.permutation(np.repeat(np.arange(tenants), ROWS_EACH)),
            bodies=[" ".join(f"word{word}" for word in row) for row in words.tolist()],
            vectors=vectors / np.linalg.norm(vectors, axis=1, keepdims=True),
        )

    def changes(self, at: npt.NDArray[np.int64]) -> pa.Table:
        """Return the rows ``at`` these places as upserts of version 1."""
        return change_table(
            ids=at,
            body=[self.bodies[place] for place in at.tolist()],
            vectors=self.vectors[at],
            ops=[UPSERT] * len(at),
            contents=at,
            version=1,
            team=np.array([f"team {team}" for team in self.teams[at].tolist()]),
        )


@dataclass(frozen=True, kw_only=True)
class Built:
    """A collection that was built and opened, with an empty cache and then with a full one, and how long that took."""

    snapshot: Snapshot
    seconds: float
    opened: float
    reopened: float


def built(rows: Rows, at: npt.NDArray[np.int64], spec: CollectionSpec, folder: Path, stack: ExitStack) -> Built:
    """Build a collection of the rows ``at`` these places in ``folder``, and open it for as long as ``stack``."""
    catalog = Catalog.create(Store.at(str(folder / "store")), spec)
    changes, started = rows.changes(at), time.perf_counter()
    publish(catalog, changes, 1, folder / "sync")
    seconds, started = time.perf_counter() - started, time.perf_counter()
    snapshot = stack.enter_context(open_snapshot(catalog, LocalCache(folder / "cache")))
    opened, started = time.perf_counter() - started, time.perf_counter()
    open_snapshot(catalog, LocalCache(folder / "cache"), version=snapshot.version).close()
    return Built(snapshot=snapshot, seconds=seconds, opened=opened, reopened=time.perf_counter() - started)


def answer(snapshot: Snapshot, rows: Rows, tenant: int, caller: Caller | None = None) -> list[tuple[object, float]]:
    """Return what a member of ``tenant``, or else ``caller``, is answered: keys and scores."""
    member = caller or Caller(roles=frozenset({"member"}), claims={"team": f"team {tenant}"})
    request = SearchRequest(query="word3 word17 word200", vector=rows.vectors[tenant].tolist(), mode="hybrid", k=10)
    return [(hit.key, hit.score) for hit in search(snapshot, request, caller=member).results]


def milliseconds(snapshot: Snapshot, rows: Rows, tenants: range, caller: Caller | None = None) -> float:
    """Return the median time of a question of each of ``tenants``, asked by a member of it or by ``caller``."""
    taken = []
    for tenant in tenants:
        started = time.perf_counter()
        answer(snapshot, rows, tenant, caller)
        taken.append(time.perf_counter() - started)
    return float(np.median(taken)) * 1000


def measure(arguments: argparse.Namespace) -> Report:
    """Build both, open both, ask both."""
    tenants = QUICK_TENANTS if arguments.quick else TENANTS
    report = Report(
        title=f"{tenants:,} tenants of {ROWS_EACH} rows",
        columns=("apart", "together", "apart / together"),
        packages=("faiss-cpu", "tantivy", "polars", "deltalake"),
    )
    rows = Rows.of(tenants)
    every = np.arange(tenants * ROWS_EACH, dtype=np.int64)
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as stack:
        folder = Path(scratch)
        apart = built(rows, every, APART, folder / "apart", stack)
        together = built(rows, every, TOGETHER, folder / "together", stack)

        def add(name: str, ours: float, theirs: float, goal: Goal | None = None) -> None:
            report.add(name, ours, theirs, f"{ours / theirs:.2f}", value=ours / theirs, goal=goal)

        add("segments", float(len(apart.snapshot.segments)), float(len(together.snapshot.segments)))
        add("built, s", apart.seconds, together.seconds)
        add("opened, empty cache, s", apart.opened, together.opened)
        add("opened, full cache, s", apart.reopened, together.reopened)
        for built_ in (apart, together):
            answer(built_.snapshot, rows, 0)
        asked = range(1, 1 + min(ASKED, tenants - 1))
        for whose, tenants_asked, caller in (("", asked, None), ("all tenants' ", range(1), AUDITOR)):
            for which in ("first", "later"):
                goal = Goal(most=1.0) if (which, caller) == ("later", None) else None
                ours, theirs = (milliseconds(each.snapshot, rows, tenants_asked, caller) for each in (apart, together))
                add(f"{whose}{which} question, ms", ours, theirs, goal)
        equal = 0
        for tenant in range(ALONE):
            own = np.flatnonzero(rows.teams == tenant)
            alone = built(rows, own, TOGETHER, folder / f"alone-{tenant}", stack).snapshot
            equal += answer(alone, rows, tenant) == answer(apart.snapshot, rows, tenant)
        report.add("as alone", equal / ALONE, "", "", value=equal / ALONE, goal=Goal(least=1.0))
    return report


if __name__ == "__main__":
    run(__doc__ or "", measure)
