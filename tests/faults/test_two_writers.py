"""Two writers of one collection: one lands, the other notices, and the rows are the table's."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from threading import Barrier

import pytest

from connectors.contract import ChangeBatch, Position
from indexer.compact import purge
from indexer.errors import CollectionHeld, HoldError, ProgressMoved
from indexer.format.store import Store
from indexer.merge import FAN_IN, merge_once
from indexer.publish import publish
from indexer.rollback import release, rollback
from indexer.sync import SyncReport
from indexer.vacuum import vacuum
from tests.faults.local_collection import LocalCollection
from tests.faults.local_session import local_tasks
from tests.faults.points import Point

ROUNDS = 12
NONE = timedelta(0)


@pytest.fixture(params=["directory", pytest.param("s3", marks=pytest.mark.soak)])
def collection(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LocalCollection:
    """A collection that has been synced twice."""
    local_tasks(monkeypatch)
    bucket: Store | None = request.getfixturevalue("s3_store") if request.param == "s3" else None
    collection = LocalCollection(bucket.url if bucket else str(tmp_path / "store"), tmp_path)
    for _ in range(2):
        collection.change()
        collection.sync()
    return collection


def meanwhile(point: str, rival: Callable[[], object], job: Callable[[], object]) -> None:
    """Run ``job`` with ``rival`` coming between at ``point``, which must be reached."""
    between = Point(point, rival)
    with pytest.MonkeyPatch.context() as patch:
        between.install(patch)
        try:
            job()
        finally:
            assert between.reached, f"{point} was never reached"


def the_batch(collection: LocalCollection) -> ChangeBatch:
    """Return the batch of what was not synced yet."""
    found: list[ChangeBatch] = []
    position = collection.catalog.read().position
    assert position is not None
    collection.source.stream(Position(position.epoch, position.version), found.append, continuous=False)
    return found[0]


@pytest.mark.parametrize("point", ["before:put_file:1", "after:put_file:2", "before:put_record:1", "before:commit:1"])
def test_of_two_syncs_one_lands_and_the_other_finds_nothing_left(collection: LocalCollection, point: str) -> None:
    reports: list[SyncReport] = []
    collection.change()

    meanwhile(point, lambda: reports.append(collection.sync()), lambda: reports.append(collection.sync()))

    assert [report.commits for report in reports] == [1, 0]
    assert collection.is_served()


def test_of_two_loads_one_lands(collection: LocalCollection, tmp_path: Path) -> None:
    fresh = LocalCollection(f"{collection.url}-fresh", tmp_path / "fresh")
    reports: list[SyncReport] = []
    fresh.change()

    meanwhile("before:commit:1", lambda: reports.append(fresh.sync()), lambda: reports.append(fresh.sync()))

    assert [report.commits for report in reports] == [1, 0]
    assert fresh.is_served()


def test_a_batch_that_is_published_already_is_refused(collection: LocalCollection, tmp_path: Path) -> None:
    collection.change()
    batch, seen = the_batch(collection), collection.catalog.read()
    publish(batch, collection.source, collection.catalog, seen, tmp_path / "cache")

    with pytest.raises(ProgressMoved, match="start anew from the catalog"):
        publish(batch, collection.source, collection.catalog, seen, tmp_path / "cache")

    assert collection.is_served()


def test_syncs_that_race_from_threads_land_each_batch_once(collection: LocalCollection) -> None:
    barrier = Barrier(2)

    def run() -> SyncReport:
        barrier.wait()
        return LocalCollection.sync(collection)

    with ThreadPoolExecutor(2) as pool:
        for _ in range(ROUNDS):
            collection.change()
            reports = [one.result() for one in [pool.submit(run), pool.submit(run)]]
            assert sum(report.commits for report in reports) == 1
            assert collection.is_served()


@pytest.mark.parametrize("merging", [merge_once, purge])
def test_a_batch_and_a_merge_both_land(
    collection: LocalCollection, tmp_path: Path, merging: Callable[..., object]
) -> None:
    while len(collection.catalog.read().segments) < FAN_IN - 1:
        collection.change()
        collection.sync()
    collection.change()
    position = collection.catalog.read().position
    assert position is not None
    publish(the_batch(collection), collection.source, collection.catalog, collection.catalog.read(), tmp_path / "cache")
    before = {segment.number for segment in collection.catalog.read().segments}

    collection.change()
    meanwhile("before:commit:1", lambda: merging(collection.catalog, tmp_path / "cache"), collection.sync)

    after = {segment.number for segment in collection.catalog.read().segments}
    assert before - after
    assert collection.is_served()


@pytest.mark.parametrize("merging", [merge_once, purge])
@pytest.mark.parametrize("point", ["before:put_file:1", "before:commit:1"])
def test_a_merge_that_a_batch_overtakes_loses_and_resurrects_nothing(
    collection: LocalCollection, tmp_path: Path, merging: Callable[..., object], point: str
) -> None:
    while len(collection.catalog.read().segments) < FAN_IN - 1:
        collection.change()
        collection.sync()
    collection.change()
    publish(the_batch(collection), collection.source, collection.catalog, collection.catalog.read(), tmp_path / "cache")

    collection.change()
    batch, merged = the_batch(collection), collection.catalog.read().segments

    def land() -> None:  # without the merges that a sync makes in the end, which would take this one away
        publish(batch, collection.source, collection.catalog, collection.catalog.read(), tmp_path / "rival")

    meanwhile(point, land, lambda: merging(collection.catalog, tmp_path / "cache"))

    assert {one.number for one in merged} - {one.number for one in collection.catalog.read().segments}
    assert collection.is_served()


def test_a_sync_that_a_rollback_overtakes_stops_and_lands_nothing(collection: LocalCollection) -> None:
    old, rows = collection.catalog.read(), collection.served()
    collection.change()
    collection.sync()
    collection.change()

    def overtaken() -> None:
        with pytest.raises(CollectionHeld, match=r"rolled back to source version 2 .*--release"):
            collection.sync()

    meanwhile("before:commit:1", lambda: rollback(collection.catalog, old.version), overtaken)

    assert (collection.catalog.read().operation, collection.served()) == ("rollback", rows)
    collection.sync(release=True)
    assert collection.is_served()


def test_a_sync_that_a_rollback_and_a_release_overtake_starts_anew(collection: LocalCollection) -> None:
    old = collection.catalog.read().version - 1
    collection.change()

    def back_and_on() -> None:
        rollback(collection.catalog, old)
        release(collection.catalog)

    meanwhile("before:commit:1", back_and_on, collection.sync)

    assert collection.is_served()


def test_a_sync_under_which_the_empty_collection_is_put_back_loads_anew(
    collection: LocalCollection, tmp_path: Path
) -> None:
    fresh = LocalCollection(f"{collection.url}-fresh", tmp_path / "fresh")
    fresh.change()

    def back_to_nothing() -> None:
        rollback(fresh.catalog, 0)
        release(fresh.catalog)

    meanwhile("after:commit:1", back_to_nothing, fresh.sync)

    assert fresh.is_served()


def test_a_rollback_that_a_sync_overtakes_lands_after_it(collection: LocalCollection) -> None:
    old, rows = collection.catalog.read(), collection.served()
    collection.change()
    collection.sync()
    collection.change()

    meanwhile("before:commit:1", collection.sync, lambda: rollback(collection.catalog, old.version))

    held = collection.catalog.read().held
    assert held is not None
    assert (held.end.version, collection.served()) == (4, rows)
    collection.sync(release=True)
    assert collection.is_served()


def test_of_two_releases_one_lands(collection: LocalCollection) -> None:
    rollback(collection.catalog, collection.catalog.read().version - 1)
    collection.change()

    def released_before() -> None:
        with pytest.raises(HoldError, match="no rollback is held"):
            collection.sync(release=True)

    meanwhile("before:commit:1", lambda: collection.sync(release=True), released_before)

    assert collection.is_served()


@pytest.mark.parametrize("point", ["before:put_file:1", "after:put_file:2", "before:put_record:1", "before:commit:1"])
def test_a_vacuum_spares_what_a_running_sync_has_uploaded(collection: LocalCollection, point: str) -> None:
    purge(collection.catalog, collection.folder / "purge")
    collection.change()

    meanwhile(point, lambda: vacuum(collection.catalog, retain=NONE), collection.sync)

    assert collection.is_served()


@pytest.mark.parametrize("point", ["before:put:1", "before:swap:1", "before:commit:1", "after:commit:1"])
def test_a_vacuum_spares_what_a_sync_commits_meanwhile(collection: LocalCollection, point: str) -> None:
    purge(collection.catalog, collection.folder / "purge")
    collection.change()

    meanwhile(point, collection.sync, lambda: vacuum(collection.catalog, retain=NONE))

    assert collection.is_served()
