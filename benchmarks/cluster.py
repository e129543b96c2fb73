"""One collection over several servers: what a router costs beside one server, and what callers notice of lost nodes.

Six processes over one store: a server that holds the collection whole, the peer; nodes of two parts in two zones; and
a router that asks zone a first. All of them run on the cores of this machine, so this says what spreading costs, and
nothing of what it gains. The same questions go to the peer and to the router, by one client in turn and by eight.
Then zone a's nodes are killed under eight clients, come back, and fall silent, as nodes do whose network is lost.

    .venv/bin/python -m benchmarks.cluster [--quick] [--check]
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from benchmarks.corpus import clustered, sentences
from benchmarks.harness import SEED, Goal, Report, run
from benchmarks.replicas import Replica, adjacent_ports, until

NAME, DIM, SHARDS, PARTS = "spread", 64, 8, 2
ROWS, QUICK_ROWS = 100_000, 8_000
SECONDS, QUICK_SECONDS = 6.0, 2.0
CLIENTS, QUESTIONS, K = 8, 100, 10
EXACT = ("filter", "SQL, rows", "SQL, groups")
SECRET = "only-of-this-benchmark"
PATH, SQL_PATH = f"/v1/collections/{NAME}/search", "/v1/sql"
ROWS_SQL = f"SELECT id, body FROM {NAME} WHERE id >= :first ORDER BY id % 1000 DESC LIMIT {K}"
GROUPS_SQL = f"SELECT id % 100 AS bucket, count(*), avg(id) FROM {NAME} WHERE id >= :first GROUP BY bucket ORDER BY 2"
SPEC = (
    f"name: {NAME}\nsource: {{table: /none}}\nkey: [id]\ntext: {{fields: {{body: 1}}}}\ncolumns: [id]\n"
    f"vector: {{column: vector, dim: {DIM}}}\nshards: {SHARDS}"
)


def publish(store: str, rows: int, cache: Path) -> dict[str, list[dict[str, Any]]]:
    """Make the collection, each shard built as a task of a load builds it, and return questions of each kind."""
    from benchmarks.batches import EPOCH, change_table
    from connectors.contract import UPSERT
    from indexer.build import BuildJob, build_part, merge_results
    from indexer.catalog import Catalog, SourcePosition
    from indexer.commit import commit_batch
    from indexer.format.store import Store
    from indexer.spec_file import parse_spec

    texts, vectors = sentences(rows), clustered(rows, DIM)
    catalog = Catalog.create(Store.at(store), parse_spec(SPEC))
    state = catalog.read()
    job = BuildJob(store=catalog.store, spec=state.spec, dim=DIM, live=(), cache=cache, epoch=EPOCH)
    results = []
    for shard in range(SHARDS):
        ids = np.arange(shard, rows, SHARDS, dtype=np.int64)
        changes = change_table(
            ids=ids,
            body=[texts[at] for at in ids.tolist()],
            vectors=vectors[ids],
            ops=[UPSERT] * len(ids),
            contents=ids,
            version=1,
        )
        results.append(build_part(changes, dataclasses.replace(job), shard=shard))
    end = SourcePosition(epoch=EPOCH, version=1)
    commit_batch(catalog, state, merge_results(results), end=end, committed_at=datetime.now(UTC), cache=cache)
    at = np.random.default_rng(SEED).choice(rows, QUESTIONS, replace=False).tolist()
    return {
        "vector": [{"vector": vectors[i].round(4).tolist(), "k": K} for i in at],
        "keyword": [{"query": texts[i][:60], "mode": "keyword", "k": K} for i in at],
        "hybrid": [{"query": texts[i][:60], "vector": vectors[i].round(4).tolist(), "k": K} for i in at],
        "filter": [{"filter": "id >= :first", "params": {"first": i}, "k": K} for i in at],
        "SQL, rows": [{"sql": ROWS_SQL, "params": {"first": i}} for i in at],
        "SQL, groups": [{"sql": GROUPS_SQL, "params": {"first": i}} for i in at],
    }


@dataclass(kw_only=True)
class Asked:
    """What clients got: seconds of each answer, and the statuses of what was none."""

    seconds: list[float] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    took: float = 0.0

    @property
    def rate(self) -> float:
        """Answers a second."""
        return len(self.seconds) / self.took

    def quantile_ms(self, share: float) -> float:
        """The time within which this share was answered."""
        return float(np.quantile(self.seconds, share)) * 1000


@contextmanager
def clients(url: str, bodies: list[bytes], count: int, path: str = PATH) -> Iterator[Asked]:
    """Have ``count`` clients ask for as long as the block runs, each the next question once it has its answer."""
    asked, over = Asked(), threading.Event()

    def ask(first: int) -> None:
        with httpx.Client(base_url=url, timeout=30, headers={"Content-Type": "application/json"}) as client:
            at = first
            while not over.is_set():
                at += count
                began = time.perf_counter()
                try:
                    answer = client.post(path, content=bodies[at % len(bodies)])
                except httpx.TransportError as error:
                    asked.failed.append(type(error).__name__)
                    continue
                if answer.status_code == 200:
                    asked.seconds.append(time.perf_counter() - began)
                else:
                    asked.failed.append(str(answer.json()["code"]))

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(count)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    try:
        yield asked
    finally:
        over.set()
        for thread in threads:
            thread.join()
        asked.took = time.perf_counter() - began


class Scene:
    """The peer, the nodes by zone, and the router."""

    def __init__(self, stack: ExitStack, folder: Path, store: str) -> None:
        def started(name: str, port: int | None = None, **settings: str) -> Replica:
            replica = Replica(folder / name, store, settings=settings, port=port)
            stack.callback(replica.close)
            replica.start()
            return replica

        bases = {zone: adjacent_ports(PARTS) for zone in "ab"}
        self.peer = started("peer")
        self.nodes = {
            zone: [
                started(f"{zone}{part}", base + part, cluster__share=f"{part}/{PARTS}", cluster__secret=SECRET)
                for part in range(PARTS)
            ]
            for zone, base in bases.items()
        }
        addresses = json.dumps([f"http://127.0.0.1:{base // 10}{{part}}" for base in bases.values()])
        self.router = started(
            "router", cluster__nodes=addresses, cluster__parts=str(PARTS), cluster__secret=SECRET, search__threads="16"
        )
        for replica in (self.peer, *self.nodes["a"], *self.nodes["b"], self.router):
            until(lambda replica=replica: replica.ready, "a server ready")  # type: ignore[misc]


def path_of(question: dict[str, Any]) -> str:
    """Return where a question is asked."""
    return SQL_PATH if "sql" in question else PATH


def found(replica: Replica, question: dict[str, Any]) -> set[Any]:
    """Return the rows of an answer: a search's by their keys."""
    answer = replica.client.post(path_of(question), json=question).json()
    return set(map(tuple, answer["rows"])) if "sql" in question else {hit["key"] for hit in answer["results"]}


def agreement(scene: Scene, questions: list[dict[str, Any]]) -> float:
    """Return which share of what the peer finds the router finds as well."""
    shares = []
    for question in questions:
        one, several = (found(replica, question) for replica in (scene.peer, scene.router))
        shares.append(len(one & several) / max(1, len(one)))
    return float(np.mean(shares))


def measure(arguments: argparse.Namespace) -> Report:
    """Run everything, and tell."""
    rows, seconds = (QUICK_ROWS, QUICK_SECONDS) if arguments.quick else (ROWS, SECONDS)
    report = Report(
        title=f"Cluster: a router and nodes of {PARTS} parts in two zones, {rows:,} rows, beside one server",
        columns=("one server", "router", "router / one", "same rows"),
        packages=("uvicorn", "fastapi", "aiohttp", "faiss-cpu", "tantivy"),
    )
    folder = Path(tempfile.mkdtemp(prefix="grebe-bench-cluster-"))
    try:
        with ExitStack() as stack:
            questions = publish(str(folder / "store"), rows, folder / "sync")
            scene = Scene(stack, folder, str(folder / "store"))
            _compare(report, scene, questions, seconds)
            _lose(report, scene, questions["hybrid"], seconds)
    except (TimeoutError, httpx.HTTPError):
        for log in sorted(folder.glob("*/log")):
            print(log.read_text()[-2000:], file=sys.stderr)
        raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    report.notes = [
        "Times are medians in ms by one client, then answers a second by eight; all processes share this machine's",
        "cores. Goals: a router finds what one server does, and no question fails while one zone's nodes are lost.",
    ]
    return report


def _compare(report: Report, scene: Scene, questions: dict[str, list[dict[str, Any]]], seconds: float) -> None:
    urls = [f"http://127.0.0.1:{replica.port}" for replica in (scene.peer, scene.router)]
    for kind, asked in questions.items():
        bodies = [json.dumps(question).encode() for question in asked]
        same = agreement(scene, asked)  # and each of them has been asked once
        medians, rates = [], []
        for url in urls:
            with clients(url, bodies, 1, path_of(asked[0])) as alone:
                time.sleep(seconds / 2)
            medians.append(alone.quantile_ms(0.5))
            with clients(url, bodies, CLIENTS, path_of(asked[0])) as many:
                time.sleep(seconds)
            rates.append(many.rate)
        goal = Goal(least=1.0 if kind in EXACT else 0.95)
        report.add(f"{kind}, one client: ms", *medians, medians[1] / medians[0], same, value=same, goal=goal)
        report.add(f"{kind}, {CLIENTS} clients: answers/s", *rates, rates[1] / rates[0], "")


def _lose(report: Report, scene: Scene, questions: list[dict[str, Any]], seconds: float) -> None:
    bodies = [json.dumps(question).encode() for question in questions]
    url = f"http://127.0.0.1:{scene.router.port}"

    def told(name: str, asked: Asked) -> None:
        cells = (f"p99 {asked.quantile_ms(0.99):.0f} ms", f"longest {asked.quantile_ms(1):.0f} ms", asked.rate)
        failed = f"{len(asked.failed)} failed {sorted(set(asked.failed)) or ''}"
        report.add(name, *cells, failed, value=len(asked.failed), goal=Goal(most=0))

    with clients(url, bodies, CLIENTS) as asked:
        time.sleep(seconds)
    told("all nodes: p99, longest, answers/s", asked)
    with clients(url, bodies, CLIENTS) as asked:
        for node in scene.nodes["a"]:
            time.sleep(seconds / 2)
            node.kill()
        time.sleep(seconds)
    told("zone a's nodes are killed one by one", asked)
    with clients(url, bodies, CLIENTS) as asked:
        for node in scene.nodes["a"]:
            node.forget()
            node.start()
            until(lambda node=node: node.ready, "a node ready")  # type: ignore[misc]
        time.sleep(seconds)
    told("they come back with nothing", asked)
    with clients(url, bodies, CLIENTS) as asked:
        for node in scene.nodes["a"]:
            node.silence()
        time.sleep(2 * seconds)
        for node in scene.nodes["a"]:
            node.resume()
        time.sleep(seconds)
    told("zone a falls silent", asked)


if __name__ == "__main__":
    run(__doc__ or "", measure)
