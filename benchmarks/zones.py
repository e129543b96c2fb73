"""What clients notice when a zone is lost: three servers over one bucket, one killed, the others restarted meanwhile.

Each server is a zone: a process with a cache of its own. The bucket is moto's S3 server; a writer of another process
commits fifty rows a second to it and merges, as a sync does. 32 clients ask hybrid searches with an API key, five times
a second each. They are sent to the servers as a Kubernetes Service sends connections (`benchmarks/balancer.py`), ask
another server once where a connection fails, which is counted, and ask for no older version than they have seen.

One zone is killed; the others are restarted in turn meanwhile; the first comes back with an empty cache. Then a zone
falls silent, as one does whose network is lost: its connections stay, and say nothing. Then the bucket does, for half
a minute; the servers are told to trust keys for a minute without it. All of it runs on the cores of this machine, so
times are those of a crowded one. The peer is a server that ends at SIGTERM without draining, in the same run.

    .venv/bin/python -m benchmarks.zones [--quick] [--check]
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from multiprocessing import get_context
from multiprocessing.connection import Connection as Pipe
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np

from benchmarks.balancer import Load, Tally
from benchmarks.corpus import clustered, sentences
from benchmarks.harness import SEED, Goal, Report, run
from benchmarks.replicas import Replica, free_port, until

if TYPE_CHECKING:
    from indexer.catalog import Catalog, CatalogState

NAME, DIM, BATCH = "zones", 64, 50
ROWS, QUICK_ROWS = 20_000, 4_000
SECONDS, QUICK_SECONDS = 15.0, 4.0
SILENT_SECONDS, QUICK_SILENT_SECONDS = 10.0, 5.0
AWAY_SECONDS, QUICK_AWAY_SECONDS = 30.0, 12.0
"""How long the bucket is silent: longer than keys are trusted for by default, 10 s."""
STALE_SECONDS = 5.0
CLIENTS, PER_SECOND = 32, 5.0
COMMIT_SECONDS = 1.0
DRAIN_SECONDS = "3"
"""Longer than the second after which a balancer knows and the pause of any client between two requests."""
UNDRAINED = "the peer: b and c without draining"
STORE = "s3://zones/search"
PATH = f"/v1/collections/{NAME}/search"
SPEC = (
    f"name: {NAME}\nsource: {{table: /none}}\nkey: [id]\ntext: {{fields: {{body: 1}}}}\n"
    f"vector: {{column: vector, dim: {DIM}}}"
)


@contextmanager
def bucket() -> Iterator[subprocess.Popen[bytes]]:
    """Run an S3 server, with the bucket made and the environment pointing to it."""
    port = free_port()
    environment = {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ALLOW_HTTP": "true",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "us-east-1",
    }
    os.environ.update(environment)
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def made() -> bool:
        asked = urllib.request.Request(f"{environment['AWS_ENDPOINT_URL']}/{STORE.split('/')[2]}", method="PUT")
        try:
            urllib.request.urlopen(asked, timeout=5).close()
        except OSError:
            return False
        return True

    try:
        until(made, "the bucket")
        yield server
    finally:
        server.kill()
        server.wait()


class Rows:
    """The collection's rows, made the same in every process."""

    def __init__(self, rows: int) -> None:
        self.texts, self.vectors = sentences(ROWS), clustered(ROWS, DIM)
        self._rows = rows

    def publish(self, catalog: Catalog, version: int, cache: Path) -> CatalogState:
        """Commit all rows as source version 1, and fifty of them anew as any later one."""
        from benchmarks.batches import change_table, publish
        from connectors.contract import UPSERT

        random = np.random.default_rng((SEED, version))
        ids = np.arange(self._rows) if version == 1 else random.choice(self._rows, BATCH, replace=False)
        changes = change_table(
            ids=ids.astype(np.int64),
            body=[f"{self.texts[at]} ({version})" for at in ids.tolist()],
            vectors=self.vectors[ids],
            ops=[UPSERT] * len(ids),
            contents=ids.astype(np.int64) + version * self._rows,
            version=version,
        )
        return publish(catalog, changes, version, cache)

    def questions(self) -> list[dict[str, Any]]:
        """Return hybrid searches."""
        at = np.random.default_rng(SEED).choice(self._rows, 200, replace=False).tolist()
        return [{"query": self.texts[i][:60], "vector": self.vectors[i].round(4).tolist(), "k": 10} for i in at]


def commit(pipe: Pipe, rows: int, cache: str) -> None:
    """Commit once a second until told to stop, pausing while told to; runs in a process of its own."""
    from indexer.catalog import Catalog
    from indexer.format.store import Store
    from indexer.merger import Merger

    made, version = Rows(rows), 1
    catalog = Catalog.open(Store.at(STORE), NAME)
    merger = Merger(catalog, Path(cache))
    try:
        while True:
            began = time.monotonic()
            version += 1
            made.publish(catalog, version, Path(cache))
            merger.wake()
            while pipe.poll(max(0.0, began + COMMIT_SECONDS - time.monotonic())):
                word = pipe.recv()
                pipe.send(version)
                if word == "stop" or pipe.recv() == "stop":  # a pause lasts until the next word
                    return
    except EOFError:  # who told it what to do is gone
        return
    finally:
        merger.close()


class Writer:
    """Commits in a process of its own."""

    def __init__(self, rows: int, cache: Path) -> None:
        context = get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=commit, args=(theirs, rows, str(cache)))
        self._process.start()
        theirs.close()

    def pause(self) -> int:
        """Let it end what it commits, and return the newest source version."""
        self._pipe.send("pause")
        return int(self._pipe.recv())

    def resume(self) -> None:
        """Let it go on."""
        self._pipe.send("resume")

    def stop(self) -> int:
        """End it, and return the newest source version."""
        self._pipe.send("stop")
        version = int(self._pipe.recv())
        self._process.join()
        return version

    def close(self) -> None:
        """End it, whatever it does."""
        self._pipe.close()
        self._process.join(10)
        self._process.kill()


@dataclass(kw_only=True)
class Seen:
    """What is measured beside what the clients got."""

    ready_seconds: float = 0.0
    caught_up_seconds: float = 0.0
    together_seconds: float = 0.0
    versions: int = 0
    age_seconds: float = 0.0
    stale: list[int] = field(default_factory=list)
    back_seconds: float = 0.0
    tallies: dict[str, Tally] = field(default_factory=dict)


class Scene:
    """Three zones, their clients and a writer."""

    def __init__(self, zones: list[Replica], load: Load, writer: Writer, store: subprocess.Popen[bytes]) -> None:
        self.zones, self.load, self.writer, self.store = zones, load, writer, store
        self.seen = Seen()

    @contextmanager
    def phase(self, name: str) -> Iterator[Tally]:
        """Count what clients get while the block runs."""
        with self.load.phase() as tally:
            yield tally
        self.seen.tallies[name] = tally

    def lose_one(self, seconds: float) -> None:
        """Kill the first zone, restart the others in turn, and bring the first back with nothing."""
        first, *others = self.zones
        with self.phase("three zones"):
            time.sleep(seconds)
        with self.phase("zone a is killed"):
            first.kill()
            time.sleep(seconds)
        with self.phase("zones b and c are restarted"):
            for zone in others:
                zone.stop()
                zone.start()
                self.wait_ready(zone)
        with self.phase("zone a comes back with nothing"):
            first.forget()
            first.start()
            self.seen.ready_seconds = until(lambda: first.ready, "zone a ready")
            newest = max(zone.source_version(NAME) or 0 for zone in others)
            behind = until(lambda: (first.source_version(NAME) or 0) >= newest, "zone a at the others' version")
            self.seen.caught_up_seconds = self.seen.ready_seconds + behind
            time.sleep(seconds)

    def fall_silent(self, seconds: float) -> None:
        """Take the second zone's network away for a while."""
        with self.phase("zone b is silent"):
            self.zones[1].silence()
            time.sleep(seconds)
            self.zones[1].resume()
        self.wait_ready(self.zones[1])

    def lose_the_store(self, seconds: float) -> None:
        """Let the bucket fall silent for a while, when all zones have what it has."""
        newest = self.writer.pause()
        self.seen.together_seconds = self.together(newest)
        self.load.sessions = False  # zones that were caught at different versions would keep their clients waiting
        with self.phase("the bucket is silent") as tally:
            self.store.send_signal(signal.SIGSTOP)
            over = time.monotonic() + seconds
            while time.monotonic() < over:
                time.sleep(1)
                self._ask_for_fresh()
            self.seen.age_seconds = max(tally.ages)
        self.store.send_signal(signal.SIGCONT)
        self.load.sessions = True
        self.writer.resume()
        with self.phase("the bucket is back"):
            self.seen.back_seconds = self.together(newest + 1)
            time.sleep(2)

    def _ask_for_fresh(self) -> None:
        """Ask each zone for an answer that is not old; note what it says where it has none."""
        body = {"query": "a", "max_staleness_seconds": STALE_SECONDS, "deadline_ms": 100}
        for zone in self.zones:
            status = zone.client.get(f"/v1/collections/{NAME}/status")
            if status.status_code != 200:
                self.seen.stale.append(status.status_code)
            elif status.json()["age_seconds"] > STALE_SECONDS:
                self.seen.stale.append(zone.client.post(PATH, json=body).status_code)

    def together(self, version: int) -> float:
        """Return how long it takes until every zone serves ``version`` or a later one."""
        return until(lambda: all((z.source_version(NAME) or 0) >= version for z in self.zones), f"version {version}")

    def wait_ready(self, zone: Replica) -> None:
        """Wait until ``zone`` is ready and the clients' balancer knows."""
        until(lambda: zone.ready, "a zone ready")
        until(lambda: zone.port in self.load.balancer.ready, "a zone known to be ready")

    def restart_undrained(self) -> None:
        """Restart the same zones as servers end that do not drain."""
        others = self.zones[1:]
        for zone in others:
            zone.stop()
            zone.start(drain_seconds="0")
            self.wait_ready(zone)
        with self.phase(UNDRAINED):
            for zone in others:
                zone.stop()
                zone.start()
                self.wait_ready(zone)


@contextmanager
def scene(rows: int, folder: Path) -> Iterator[Scene]:
    """Make the collection and the key, and start the zones, the writer and the clients."""
    from api.identity.administration import create_key, grant
    from api.identity.control import ControlTable
    from indexer.catalog import Catalog
    from indexer.format.store import Store
    from indexer.spec_file import parse_spec

    with ExitStack() as stack:
        server = stack.enter_context(bucket())
        made = Rows(rows)
        made.publish(Catalog.create(Store.at(STORE), parse_spec(SPEC)), 1, folder / "sync")
        key, _ = create_key(ControlTable(Store.at(STORE)), "clients", roles=["reader"], claims={})
        grant(ControlTable(Store.at(STORE)), "reader", "*", ["search"])
        settings = {"drain_seconds": DRAIN_SECONDS, "identity__trust_seconds": "60"}
        zones = [Replica(folder / name, STORE, key=key, settings=settings) for name in "abc"]
        for zone in zones:
            stack.callback(zone.close)
            zone.start()
        for zone in zones:
            until(lambda zone=zone: zone.ready, "a zone ready")  # type: ignore[misc]
        writer = Writer(rows, folder / "sync")
        stack.callback(writer.close)
        load = Load(
            [zone.port for zone in zones], PATH, made.questions(), clients=CLIENTS, per_second=PER_SECOND, key=key
        )
        load.start()
        stack.callback(load.stop)
        stack.callback(server.send_signal, signal.SIGCONT)  # a run that fails in between must end too
        yield Scene(zones, load, writer, server)


def measure(arguments: argparse.Namespace) -> Report:
    """Run everything, and tell."""
    quick = bool(arguments.quick)
    away = QUICK_AWAY_SECONDS if quick else AWAY_SECONDS
    folder = Path(tempfile.mkdtemp(prefix="grebe-bench-zones-"))
    try:
        with scene(QUICK_ROWS if quick else ROWS, folder) as here:
            time.sleep(2)  # the first search of a server is slower than the rest
            here.lose_one(QUICK_SECONDS if quick else SECONDS)
            here.fall_silent(QUICK_SILENT_SECONDS if quick else SILENT_SECONDS)
            here.lose_the_store(away)
            here.restart_undrained()
            here.seen.versions = here.writer.stop()
            seen = here.seen
    except (TimeoutError, httpx.HTTPError):
        for log in sorted(folder.glob("?/log")):
            print(log.read_text()[-3000:], file=sys.stderr)
        raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return told(seen, QUICK_ROWS if quick else ROWS, away)


NO_FAILURE = Goal(most=0)


def _causes(counts: Mapping[Any, int]) -> str:
    return f" ({', '.join(f'{count} {cause}' for cause, count in sorted(counts.items()))})" if counts else ""


def told(seen: Seen, rows: int, away: float) -> Report:
    """Return the table."""
    report = Report(
        title=f"Zones: three servers over one bucket, {rows:,} rows, {CLIENTS} clients, a commit a second",
        columns=("answers/s", "p50, ms", "p99, ms", "asked again", "without an answer"),
        packages=("uvicorn", "fastapi", "obstore", "moto"),
    )
    for name, tally in seen.tallies.items():
        drains = name not in ("zone a is killed", "zone b is silent", UNDRAINED)
        value = tally.failed + (tally.retried if drains else 0)
        goal = None if name == UNDRAINED else NO_FAILURE
        report.add(
            name,
            tally.rate,
            tally.quantile_ms(0.5),
            tally.quantile_ms(0.99),
            f"{tally.retried}{_causes(tally.errors)}",
            f"{tally.failed}{_causes(tally.statuses)}",
            value=value,
            goal=goal,
        )

    def figure(name: str, value: float, goal: Goal | None = None) -> None:
        report.add(name, value, "", "", "", "", value=value, goal=goal)

    back = sum(tally.went_back for tally in seen.tallies.values())
    figure("zone a: seconds until ready, its cache empty", seen.ready_seconds, Goal(most=60))
    figure("zone a: seconds until at the others' version", seen.caught_up_seconds, Goal(most=60))
    figure("source versions committed", seen.versions)
    figure("answers older than their client had seen", back, NO_FAILURE)
    figure("seconds from the last commit to all zones", seen.together_seconds, Goal(most=5))
    figure(f"{away:g} s without the bucket: oldest answer, s", seen.age_seconds, Goal(least=away - 5))
    wrong = sum(status != 412 for status in seen.stale)
    figure(f"answers but 412 to 'at most {STALE_SECONDS:g} s old' then", wrong, NO_FAILURE)
    figure(f"412 to 'at most {STALE_SECONDS:g} s old' then", len(seen.stale) - wrong, Goal(least=3))
    figure("seconds until all zones served a commit after it", seen.back_seconds, Goal(most=30))
    report.notes = [
        "asked again: another server was asked after a connection failed. Where servers drain, or only the bucket is",
        "lost, the goal is that nobody had to be; where a zone is lost, that the second server answered.",
    ]
    return report


if __name__ == "__main__":
    run(__doc__ or "", measure)
