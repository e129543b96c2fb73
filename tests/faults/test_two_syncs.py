"""Two syncs of one collection at once: the second stops or waits, and the index is the table's, whatever happens."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from indexer.apply import apply
from indexer.catalog import CatalogState
from indexer.errors import CollectionBusy
from indexer.sync import SyncOptions, SyncReport
from jobs.following import Outcome
from jobs.pipeline import run_sync, run_syncs
from tests.scene import Scene

ROOT = Path(__file__).parents[2]
CHILD_SECONDS = 240


def sync(scene: Scene, committed: Callable[[CatalogState], None] = lambda state: None) -> SyncReport:
    return run_sync(scene.store, "scene", cache=scene.folder / "cache", options=SyncOptions(committed=committed))


def sync_patiently(scene: Scene, waiting: threading.Event) -> Outcome:
    (outcome,) = run_syncs(
        scene.store,
        ["scene"],
        cache=scene.folder / "cache",
        continuous=False,
        options_of=lambda name: SyncOptions(),
        on_busy="wait",
        waiting=lambda sentence: waiting.set(),
    )
    return outcome


def prepare(scene: Scene) -> None:
    scene.create()
    scene.sql("INSERT INTO {t} VALUES (1, 'one', 0), (2, 'two', 0)")
    apply(scene.store, scene.spec())


def test_a_second_sync_stops_while_the_first_is_at_it(scene: Scene) -> None:
    prepare(scene)
    refused: list[CollectionBusy] = []

    def attempt(_: CatalogState) -> None:
        with pytest.raises(CollectionBusy) as busy:
            sync(scene)
        refused.append(busy.value)

    first = sync(scene, committed=attempt)

    assert (first.commits, len(refused)) == (1, 1)
    assert f"(process {os.getpid()} on " in str(refused[0])
    assert scene.is_served()
    scene.sql("DELETE FROM {t} WHERE id = 1")
    assert sync(scene).ledger.deleted == 1


def test_a_second_sync_waits_and_reads_on_where_the_first_ended(scene: Scene) -> None:
    prepare(scene)
    seconds: list[Future[Outcome]] = []
    with ThreadPoolExecutor(1) as pool:

        def committed(state: CatalogState) -> None:
            assert state.position is not None
            if state.position.version == 2:  # what this sync ends with
                waiting = threading.Event()
                seconds.append(pool.submit(sync_patiently, scene, waiting))
                assert waiting.wait(60)
            scene.sql(f"INSERT INTO {{t}} VALUES ({state.position.version + 10}, 'more', 0)")

        first = sync(scene, committed=committed)
        second = seconds[0].result(120).report

    assert second is not None
    assert (first.commits, second.commits, second.ledger.upserted) == (2, 1, 1)
    assert scene.is_served()


@pytest.mark.parametrize("phase", ["load", "changes"])
def test_two_syncs_whose_leases_are_lost_leave_the_tables_rows(scene: Scene, phase: str) -> None:
    prepare(scene)
    if phase == "changes":
        scene.sync()
        scene.sql("UPDATE {t} SET body = 'zwei' WHERE id = 2")
        scene.sql("DELETE FROM {t} WHERE id = 1")
        scene.sql("INSERT INTO {t} VALUES (1, 'one again', 1), (3, 'three', 0)")
    together = threading.Barrier(2)

    def unleased(_: int) -> SyncReport:
        together.wait()
        return scene.sync()

    with ThreadPoolExecutor(2) as pool:
        reports = list(pool.map(unleased, range(2)))

    assert sum(report.commits for report in reports) >= 1
    assert scene.is_served()


@contextmanager
def following(scene: Scene) -> Iterator[subprocess.Popen[str]]:
    """Run ``grebe sync --continuous`` in a process of its own, which has loaded the table."""
    options = ["--continuous", "--interval", "0.2", "--store", scene.store.url, "--output", "json"]
    with subprocess.Popen(
        [sys.executable, "-m", "jobs", "sync", "scene", *options],
        env={**os.environ, "GREBE_CACHE": str(scene.folder / "cache")},
        cwd=ROOT,
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as child:
        try:
            deadline = time.monotonic() + CHILD_SECONDS
            while scene.state.position is None:
                assert child.poll() is None, child.communicate()
                assert time.monotonic() < deadline
                time.sleep(0.1)
            yield child
        finally:
            if child.poll() is None:
                os.killpg(child.pid, signal.SIGKILL)


@pytest.mark.soak
def test_a_sync_that_was_killed_holds_nobody_up(scene: Scene) -> None:
    prepare(scene)
    with following(scene) as child:
        os.killpg(child.pid, signal.SIGKILL)
        child.wait(60)
    assert len(scene.store.child("scene").list("sync-lease")) == 1
    scene.sql("INSERT INTO {t} VALUES (3, 'three', 0)")

    assert sync(scene).ledger.upserted == 1
    assert scene.is_served()


@pytest.mark.soak
def test_a_continuous_sync_in_another_process_is_waited_for_until_it_is_interrupted(scene: Scene) -> None:
    prepare(scene)
    waiting = threading.Event()
    with following(scene) as child, ThreadPoolExecutor(1) as pool:
        with pytest.raises(CollectionBusy, match=rf"\(process {child.pid} on .*--on-busy wait"):
            sync(scene)
        second = pool.submit(sync_patiently, scene, waiting)
        assert waiting.wait(60)
        child.send_signal(signal.SIGINT)
        out, err = child.communicate(timeout=CHILD_SECONDS)
        assert second.result(120).error is None

    assert (child.returncode, json.loads(out)["outcome"]) == (0, "synced"), err
    assert "Stopping after the batch under way" in err
    assert scene.is_served()


@pytest.mark.soak
def test_a_continuous_sync_ends_with_its_jvm(scene: Scene) -> None:
    prepare(scene)
    with following(scene) as child:
        jvms = subprocess.run(["pgrep", "-P", str(child.pid), "java"], capture_output=True, text=True, check=True)
        os.kill(int(jvms.stdout), signal.SIGKILL)
        out, err = child.communicate(timeout=CHILD_SECONDS)

    assert (child.returncode, json.loads(out)["outcome"]) == (1, "failed"), err
    assert "Trying again" not in err
