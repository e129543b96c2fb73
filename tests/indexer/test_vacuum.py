from __future__ import annotations

import os
import threading
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from indexer.build import build_part
from indexer.catalog import Catalog, CatalogState, SourcePosition, drop
from indexer.commit import commit_batch
from indexer.compact import purge
from indexer.errors import CatalogError, ObjectNotFound, StoreError
from indexer.format.states import encode_table
from indexer.format.store import Store
from indexer.load_plan import LoadPlan
from indexer.merge import merge_once
from indexer.rollback import rollback
from indexer.vacuum import KINDS, Removed, vacuum
from indexer.versions import list_versions, named_files, read_versions
from tests.indexer.parts import NOON, TEXTS, changes, delete, job, live_rows, publish, upsert

NOTHING = {kind: Removed() for kind in KINDS}
NONE, HOUR = timedelta(0), timedelta(hours=1)


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def catalog(store: Store, cache: Path) -> Catalog:
    """Five versions, whose newest names one segment of three that there are."""
    catalog = Catalog.create(store, TEXTS)
    publish(catalog, cache, 1, upsert(1), upsert(2))
    publish(catalog, cache, 2, upsert(3, 2))
    publish(catalog, cache, 3, delete(3, 3), delete(1, 3))
    purge(catalog, cache)
    return catalog


def names(state: CatalogState) -> set[str]:
    return {file.path for file in named_files(state)}


def data_files(catalog: Catalog) -> set[str]:
    return {path for path in catalog.store.list() if not path.startswith("catalog/")}


def test_dropped_versions_go_with_the_files_that_they_alone_name(catalog: Catalog, cache: Path) -> None:
    newest, rows = catalog.read(), live_rows(catalog, cache)
    gone = data_files(catalog) - names(newest)
    dry = vacuum(catalog, retain=NONE, dry_run=True)
    before = catalog.store.list()

    done = vacuum(catalog, retain=NONE)

    assert before == catalog.store.list() or dry.dry_run
    assert (done.removed, done.versions_dropped, done.versions_kept) == (dry.removed, 4, 1)
    assert done.removed["segments"].files + done.removed["tombstones"].files == len(gone)
    assert (done.removed["segments"].files, done.removed["tombstones"].files, done.removed["letters"].files) == (
        4,
        1,
        0,
    )
    assert data_files(catalog) == names(newest)
    assert list_versions(catalog).versions == (newest.version, newest.version + 1)
    after = catalog.read()
    assert (after.operation, after.segments, live_rows(catalog, cache / "anew")) == ("vacuum", newest.segments, rows)


def test_a_dry_run_deletes_and_commits_nothing(catalog: Catalog) -> None:
    before = catalog.store.list()

    done = vacuum(catalog, retain=NONE, dry_run=True)

    assert done.total.files > 0
    assert done.total.size_bytes > 0
    assert catalog.store.list() == before


def test_what_a_retained_version_names_stays_whole(catalog: Catalog) -> None:
    before = catalog.store.list()

    assert vacuum(catalog).removed == NOTHING
    assert vacuum(catalog, retain=HOUR, longest_job=NONE).removed == NOTHING
    assert catalog.store.list() == before


def test_the_version_that_was_the_newest_when_the_time_began_stays(tmp_path: Path, cache: Path) -> None:
    catalog = Catalog.create(Store.at(str(tmp_path / "store")), TEXTS)
    states = [publish(catalog, cache, version, upsert(1, version)) for version in range(1, 5)]
    log = tmp_path / "store" / "texts" / "catalog" / "_delta_log"
    for hours, state in zip((9, 5, 3, 1), states, strict=True):
        written = (datetime.now(UTC) - timedelta(hours=hours)).timestamp()
        os.utime(log / f"{state.version:020d}.json", (written, written))
    os.utime(log / f"{0:020d}.json", (0, 0))

    vacuum(catalog, retain=timedelta(hours=4))

    assert list_versions(catalog).versions == (2, 3, 4, 5)
    assert list(read_versions(catalog.store, (2, 3, 4))) == states[1:]
    assert data_files(catalog) == set().union(*map(names, states[1:]))


def test_what_no_version_ever_named_stays_until_it_is_older_than_the_longest_job(catalog: Catalog, cache: Path) -> None:
    before = data_files(catalog)
    build_part(changes(upsert(9, 9)), job(catalog, cache))
    litter = data_files(catalog) - before

    assert vacuum(catalog, dry_run=True).removed == NOTHING
    assert (
        vacuum(catalog, longest_job=timedelta(hours=30), now=datetime.now(UTC) + timedelta(hours=25)).removed == NOTHING
    )
    done = vacuum(catalog, now=datetime.now(UTC) + timedelta(hours=25))

    assert done.removed["segments"].files == len(litter) == 2
    assert data_files(catalog) == before


def test_uploads_that_a_lost_commit_named_are_not_taken_for_committed(catalog: Catalog, cache: Path) -> None:
    """A sync that lost a race for a version is about to commit the same files in the next."""
    seen, result = catalog.read(), build_part(changes(upsert(9, 9)), job(catalog, cache))
    lost = seen.model_copy(update={"segments": result.segments, "commit_id": "0" * 32})
    catalog.store.put(f"catalog/{seen.version:020d}-{lost.commit_id}.parquet", encode_table(lost))
    catalog.commit(seen, seen.model_copy(update={"operation": "merge"}), batch_end=None)

    vacuum(catalog, retain=NONE)
    end = SourcePosition(epoch="e", version=9)
    commit_batch(catalog, seen, result, end=end, committed_at=NOON, cache=cache)

    assert live_rows(catalog, cache / "anew") == {2: "body 2", 9: "body 9"}


def load_plan(**fields: object) -> LoadPlan:
    return LoadPlan(
        id="a1",
        position=SourcePosition(epoch="e", version=9),
        committed_at=NOON,
        source=TEXTS.source,
        fingerprint=TEXTS.fingerprint,
        stored_columns=TEXTS.stored_columns,
        rows=1,
        parts=1,
        dim=8,
    ).model_copy(update=fields)


def interrupted_load(catalog: Catalog, cache: Path, plan: LoadPlan) -> set[str]:
    """Leave one finished part; return its files and what it names."""
    before = data_files(catalog)
    result = build_part(changes(upsert(9, 9)), job(catalog, cache))
    catalog.store.put(f"loads/{plan.id}/plan.json", plan.model_dump_json().encode())
    catalog.store.put(f"loads/{plan.id}/part-0.json", result.model_dump_json().encode())
    return data_files(catalog) - before


def test_a_load_that_can_be_resumed_keeps_its_parts_however_old(catalog: Catalog, cache: Path) -> None:
    state = catalog.read()
    pending = state.model_copy(update={"pending": state.spec, "operation": "apply"})
    catalog.commit(state, pending, batch_end=None)
    interrupted_load(catalog, cache, load_plan())
    before = catalog.store.list()

    assert vacuum(catalog, longest_job=NONE).removed == NOTHING
    assert catalog.store.list() == before


def test_a_load_that_nothing_can_use_goes_with_its_parts_once_it_is_old(catalog: Catalog, cache: Path) -> None:
    left = interrupted_load(catalog, cache, load_plan(fingerprint="another"))

    assert vacuum(catalog).removed == NOTHING
    done = vacuum(catalog, longest_job=NONE)

    assert (done.removed["loads"].files, done.removed["segments"].files) == (2, 2)
    assert not left & data_files(catalog)


def test_an_interrupted_comparison_keeps_its_parts_while_what_it_compares_with_is_the_state(
    catalog: Catalog, cache: Path
) -> None:
    interrupted_load(catalog, cache, load_plan(compares=catalog.latest()))
    before = catalog.store.list()

    assert vacuum(catalog, longest_job=NONE).removed == NOTHING
    assert catalog.store.list() == before


@pytest.mark.parametrize("how", ["the sync went on", "the version is dropped", "a load is due"])
def test_a_comparison_that_nothing_can_resume_goes_with_its_parts_once_it_is_old(
    catalog: Catalog, cache: Path, how: str
) -> None:
    left = interrupted_load(catalog, cache, load_plan(compares=catalog.latest()))
    state = catalog.read()
    if how == "the sync went on":
        publish(catalog, cache, 9, upsert(5, 9))
    elif how == "the version is dropped":
        catalog.commit(state, state.model_copy(update={"operation": "merge"}), batch_end=None)
    else:
        pending = state.model_copy(update={"pending": state.spec, "operation": "apply"})
        catalog.commit(state, pending, batch_end=None)

    vacuum(catalog, longest_job=NONE, retain=NONE if how == "the version is dropped" else None)

    assert not left & data_files(catalog)


def test_a_first_load_goes_with_its_parts_once_another_has_loaded(catalog: Catalog, cache: Path) -> None:
    left = interrupted_load(catalog, cache, load_plan())

    vacuum(catalog, longest_job=NONE)

    assert not left & data_files(catalog)


def test_no_version_can_be_read_after_a_file_of_it_went(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    delete_files = Store.delete
    broken: list[int] = []

    def delete_one_by_one(self: Store, paths: Iterable[str]) -> None:
        for path in paths:
            delete_files(self, [path])
            here = set(self.list())
            readable = read_versions(self, list_versions(catalog).versions)
            broken.extend(state.version for state in readable if not names(state) <= here)

    monkeypatch.setattr(Store, "delete", delete_one_by_one)
    assert vacuum(catalog, retain=NONE).total.files == 9
    assert broken == []


def test_a_vacuum_that_died_half_way_is_ended_by_the_next(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    newest = catalog.read()
    delete_files = Store.delete

    def delete_versions_only(self: Store, paths: Iterable[str]) -> None:
        wanted = list(paths)
        if any(path.startswith("segments/") for path in wanted):
            raise StoreError("the network is down")
        delete_files(self, wanted)

    with monkeypatch.context() as patched:
        patched.setattr(Store, "delete", delete_versions_only)
        with pytest.raises(StoreError, match="the network is down"):
            vacuum(catalog, retain=NONE)
    assert list_versions(catalog).versions == (newest.version, newest.version + 1)
    assert data_files(catalog) > names(newest)

    done = vacuum(catalog)

    assert done.removed["segments"].files == 4
    assert data_files(catalog) == names(newest)


def test_wherever_a_vacuum_dies_every_version_is_whole_and_the_next_one_ends_it(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = Store.at(str(tmp_path / "store"))
    delete_files, put = Store.delete, Store.put
    left, steps, ended = 0, 0, False

    def step() -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise StoreError("killed")

    def delete_one_by_one(self: Store, paths: Iterable[str]) -> None:
        for path in paths:
            step()
            delete_files(self, [path])

    def put_one(self: Store, path: str, data: bytes) -> None:
        step()
        put(self, path, data)

    while not ended:
        catalog = Catalog.create(root, TEXTS)
        publish(catalog, cache, 1, upsert(1), upsert(2))
        publish(catalog, cache, 2, delete(1, 2))
        newest = purge(catalog, cache).after
        with monkeypatch.context() as patched:
            left = steps
            patched.setattr(Store, "delete", delete_one_by_one)
            patched.setattr(Store, "put", put_one)
            with suppress(StoreError):
                vacuum(catalog, retain=NONE)
                ended = True
        here = data_files(catalog)
        for state in read_versions(catalog.store, list_versions(catalog).versions):
            assert names(state) <= here
        again = Catalog.open(root, "texts")
        assert again.read().segments == newest.segments

        vacuum(again, retain=NONE)

        assert data_files(again) == names(newest)
        drop(root, "texts")
        steps += 1
    assert steps > 5


def test_a_rollback_that_a_vacuum_overtakes_is_refused(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has read the version and seen its files; then the vacuum takes both."""
    commit = Catalog.commit
    vacuumed: list[bool] = []

    def vacuum_first(self: Catalog, *args: object, **kwargs: object) -> CatalogState:
        if not vacuumed:
            vacuumed.append(True)
            vacuum(Catalog.open(Store.at(self.store.url.rpartition("/")[0]), "texts"), retain=NONE)
        return commit(self, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(Catalog, "commit", vacuum_first)
    with pytest.raises(CatalogError, match=r"version 2 of 'texts' is no(t| longer) kept"):
        rollback(catalog, 2)

    assert names(catalog.read()) <= data_files(catalog)


def test_a_rollback_that_overtakes_a_vacuum_keeps_its_files(
    catalog: Catalog, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The vacuum has made its plan; then the rollback brings back what it wanted to drop."""
    put = Store.put
    rolled: list[CatalogState] = []

    def roll_back_first(self: Store, path: str, data: bytes) -> None:
        if path.startswith("vacuum/") and not rolled:
            rolled.append(rollback(catalog, 2))
        put(self, path, data)

    monkeypatch.setattr(Store, "put", roll_back_first)
    vacuum(catalog, retain=NONE)

    assert [state.operation for state in rolled] == ["rollback"]
    assert names(rolled[0]) <= data_files(catalog)
    assert live_rows(catalog, cache / "anew") == {1: "body 1", 2: "body 2", 3: "body 3"}


def test_what_killed_writers_left_goes_once_it_is_old(tmp_path: Path) -> None:
    catalog = Catalog.create(Store.at(str(tmp_path)), TEXTS)
    folder = tmp_path / "texts" / "segments" / "0000000001-00000000"
    folder.mkdir(parents=True)
    (folder / "segment.tar.abc.part").write_bytes(b"half")

    assert vacuum(catalog).removed == NOTHING
    assert vacuum(catalog, longest_job=NONE).removed == NOTHING | {"segments": Removed(files=1, size_bytes=4)}
    assert not folder.exists()


@pytest.mark.soak
def test_vacuums_beside_a_sync_and_merges_harm_nothing(store: Store, cache: Path) -> None:
    catalog = Catalog.create(store, TEXTS)
    ended = threading.Event()

    def sync_and_merge() -> None:
        try:
            for version in range(1, 15):
                publish(catalog, cache, version, upsert(version % 7, version, body=f"at {version}"), delete(9, version))
                merge_once(catalog, cache)
        finally:
            ended.set()

    def vacuum_again_and_again() -> int:
        mine, count = Catalog.open(store, "texts"), 0
        while not ended.is_set():
            count += vacuum(mine, retain=NONE).total.files
        return count

    with ThreadPoolExecutor(3) as pool:
        syncing = pool.submit(sync_and_merge)
        vacuums = [pool.submit(vacuum_again_and_again) for _ in range(2)]
        syncing.result()
        assert sum(vacuum.result() for vacuum in vacuums) > 10

    assert names(catalog.read()) <= data_files(catalog)
    newest = {number: max(v for v in range(1, 15) if v % 7 == number) for number in range(7)}
    assert live_rows(catalog, cache / "anew") == {number: f"at {version}" for number, version in newest.items()}
    # What lost commits wrote is in no version: it waits until no job can be at it.
    vacuum(catalog, retain=NONE, longest_job=NONE)
    assert data_files(catalog) == names(catalog.read())


def test_a_reader_of_a_dropped_version_is_told_so(catalog: Catalog, cache: Path) -> None:
    old = catalog.read(2)
    vacuum(catalog, retain=NONE)

    with pytest.raises(CatalogError, match=r"version 2 of 'texts' is no(t| longer) kept"):
        catalog.read(2)
    with pytest.raises(ObjectNotFound):
        catalog.store.read(old.segments[0].files[0])
