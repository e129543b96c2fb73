from __future__ import annotations

import multiprocessing
import re
import shutil
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pytest
from deltalake import DeltaTable
from pyroaring import BitMap

from indexer.catalog import Catalog, CatalogState, Heartbeat, drop
from indexer.catalog_table import CatalogTable
from indexer.errors import (
    CatalogError,
    CollectionExists,
    CollectionNotFound,
    CommitConflict,
    CorruptFile,
    ObjectNotFound,
    StoreError,
)
from indexer.format.records import FileRecord, Ledger
from indexer.format.store import Store
from indexer.format.tombstones import encode
from tests.faulty_proxy import Fault, faulty_proxy
from tests.indexer.collection import NOON, PACK, SPEC, moved, named, position, segment, sync

LOG_ENTRY = r"_delta_log/.*\.json$"


class Bucket(NamedTuple):
    """An empty store in a bucket, its server's address, and the environment's variable that names that."""

    store: Store
    endpoint: str
    variable: str


@pytest.fixture(params=["s3", "azure"])
def bucket(request: pytest.FixtureRequest) -> Bucket:
    """One of each cloud whose server can be replaced by a proxy."""
    variable = {"s3": "AWS_ENDPOINT_URL", "azure": "AZURITE_BLOB_STORAGE_URL"}[request.param]
    store, endpoint = (request.getfixturevalue(f"{request.param}_{name}") for name in ("store", "endpoint"))
    return Bucket(store, endpoint, variable)


def test_a_new_collection_is_empty_and_listed(store: Store) -> None:
    catalog = Catalog.create(store, SPEC)

    state = catalog.read()
    assert state == CatalogState(
        version=0,
        spec=SPEC,
        fingerprint=SPEC.fingerprint,
        operation="create",
        commit_id=state.commit_id,
        committed_at=state.committed_at,
    )
    assert (Catalog.names(store), catalog.latest(), catalog.store) == (["advisories"], 0, store.child("advisories"))


def test_a_commit_is_read_back_whole_by_anyone(store: Store) -> None:
    catalog = Catalog.create(store, SPEC)
    seen = catalog.read()
    new = moved(
        seen,
        7,
        segments=(segment(5), segment(2**40 - 1, shard=1)),
        deleted={5: 3},
        packs={0: PACK},
        letters=(FileRecord(path="letters/a.parquet", size_bytes=1, sha256="ef"),),
        letter_count=1,
        ledger=Ledger(read=10, upserted=9, set_aside=1),
        pending=named("advisories"),
    )

    committed = catalog.commit(seen, new, batch_end=position(7))

    expected = new.model_copy(
        update={"version": 1, "commit_id": committed.commit_id, "committed_at": committed.committed_at}
    )
    assert committed == expected
    assert committed.n_chunks == 37
    assert (catalog.read(), Catalog.open(store, "advisories").read()) == (expected, expected)


def test_a_reader_follows_a_writer(store: Store) -> None:
    writer = Catalog.create(store, SPEC)
    reader = Catalog.open(store, "advisories")
    state = writer.read()

    for version in range(3):
        state = sync(writer, state, version)
        assert (reader.latest(), reader.read()) == (version + 1, state)


def test_older_versions_stay_readable(store: Store) -> None:
    catalog = Catalog.create(store, SPEC)
    states = [catalog.read()]

    for version in range(25):
        states.append(sync(catalog, states[-1], version))

    assert [catalog.read(version) for version in (0, 1, 19, 20, 25)] == [states[n] for n in (0, 1, 19, 20, 25)]


def test_a_version_that_was_never_made_is_refused(store: Store) -> None:
    catalog = Catalog.create(store, SPEC)

    with pytest.raises(CatalogError, match="version 3 of 'advisories' is not kept; the newest is 0"):
        catalog.read(3)


def test_the_batch_end_is_an_app_transaction(store: Store) -> None:
    catalog = Catalog.create(store, SPEC)
    state = sync(catalog, catalog.read(), 7)
    state = catalog.commit(state, state.model_copy(update={"operation": "merge"}), batch_end=None)

    assert (catalog.committed("t1"), catalog.committed("t2"), state.position) == (7, None, position(7))


def test_the_second_of_two_commits_is_refused(store: Store) -> None:
    first = Catalog.create(store, SPEC)
    second = Catalog.open(store, "advisories")
    seen = second.read()
    won = sync(first, seen, 1)

    with pytest.raises(CommitConflict, match="began at version 0 and the newest is 1; read the catalog again"):
        sync(second, seen, 2)

    assert second.read() == won


def test_of_writers_racing_for_a_version_one_wins(store: Store) -> None:
    Catalog.create(store, SPEC)
    catalogs = [Catalog.open(store, "advisories") for _ in range(4)]

    def attempt(catalog: Catalog, seen: CatalogState, letters: int) -> CatalogState | None:
        try:
            return sync(catalog, seen, seen.version, letter_count=letters)
        except CommitConflict:
            return None

    for _ in range(5):
        seen = catalogs[0].read()
        with ThreadPoolExecutor(len(catalogs)) as pool:
            outcomes = list(pool.map(attempt, catalogs, [seen] * len(catalogs), range(len(catalogs))))
        assert [state for state in outcomes if state] == [catalogs[0].read()]


def _count_up(url: str, times: int) -> int:
    """Add one to ``letter_count`` so often, each time against what is there; return how many attempts were lost."""
    catalog = Catalog.open(Store.at(url), "advisories")
    state, lost = catalog.read(), 0
    while times:
        try:
            state = sync(catalog, state, 1, letter_count=state.letter_count + 1)
            times -= 1
        except CommitConflict:
            state, lost = catalog.read(), lost + 1
    return lost


def test_no_commit_of_two_processes_is_lost(store: Store) -> None:
    catalog = Catalog.create(store, SPEC)

    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        list(pool.map(_count_up, [store.url] * 2, [8] * 2))

    state = catalog.read()
    assert (state.letter_count, state.version) == (16, 16)


def test_a_lost_reply_does_not_lose_the_commit(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    with faulty_proxy(bucket.endpoint) as proxy, monkeypatch.context() as environment:
        environment.setenv(bucket.variable, proxy.endpoint)
        catalog = Catalog.create(Store.at(bucket.store.url), SPEC)
        seen = catalog.read()
        proxy.fault = lost = Fault("drop", "PUT", LOG_ENTRY, forwarded=True)

        committed = sync(catalog, seen, 1)

    assert (committed.version, lost.met, Catalog.open(bucket.store, "advisories").read()) == (1, 1, committed)


def test_a_lost_reply_does_not_lose_the_creation(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    with faulty_proxy(bucket.endpoint) as proxy, monkeypatch.context() as environment:
        environment.setenv(bucket.variable, proxy.endpoint)
        proxy.fault = lost = Fault("drop", "PUT", LOG_ENTRY, forwarded=True)

        state = Catalog.create(Store.at(bucket.store.url), SPEC).read()

    assert (lost.met, Catalog.open(bucket.store, "advisories").read()) == (1, state)


def test_a_request_that_never_arrives_commits_nothing(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    with faulty_proxy(bucket.endpoint) as proxy, monkeypatch.context() as environment:
        environment.setenv(bucket.variable, proxy.endpoint)
        catalog = Catalog.create(Store.at(bucket.store.url), SPEC)
        seen = catalog.read()
        proxy.fault = Fault("drop", "PUT", LOG_ENTRY, times=1_000)

        with pytest.raises(
            CatalogError, match=r"version 1 of 'advisories' could not be committed.* Nothing was changed"
        ):
            sync(catalog, seen, 1)
        proxy.fault = None
        again = sync(catalog, catalog.read(), 1)

    assert (again.version, Catalog.open(bucket.store, "advisories").read()) == (1, again)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: moved(s, 2, segments=(segment(1), segment(1))), "two segments have the same number"),
        (lambda s: moved(s, 2, segments=(segment(2**40),)), "has more than 40 bits"),
        (lambda s: moved(s, 2, segments=(segment(1, fingerprint="x"),)), "segment 1 has another fingerprint"),
        (lambda s: moved(s, 2, segments=(segment(1, dim=5),)), "vectors of 5 values where 4 were expected"),
        (lambda s: moved(s, 2, segments=(segment(1, shard=2),)), "is of shard 2; the spec has 2"),
        (lambda s: moved(s, 2, deleted={9: 1}), "segment 9 has tombstones and is not live"),
        (
            lambda s: moved(s, 2, segments=(segment(1),), deleted={1: 21}, packs={0: PACK}),
            "has 21 tombstones for 20 chunks",
        ),
        (lambda s: moved(s, 2, segments=(segment(1),), deleted={1: 2}), "its shard 0 has no pack"),
        (lambda s: moved(s, 2, fingerprint="x"), "its fingerprint is not its spec's"),
        (lambda s: moved(s, 2, spec=named("other")), "it is of another collection, 'other'"),
        (lambda s: moved(s, 3), "the position is version 3 of t1 and the batch ends at version 2 of t1"),
        (lambda s: moved(s, 2, source_committed_at=None), "must be given together"),
    ],
)
def test_a_state_that_contradicts_itself_is_refused(
    tmp_path: Path, change: Callable[[CatalogState], CatalogState], message: str
) -> None:
    catalog = Catalog.create(Store.at(str(tmp_path)), SPEC)
    seen = sync(catalog, catalog.read(), 1)

    with pytest.raises(CatalogError, match=f"the commit after version 1 of 'advisories' is refused: .*{message}"):
        catalog.commit(seen, change(seen), batch_end=position(2))

    assert catalog.read() == seen


def test_the_position_moves_with_a_batch_and_never_back(tmp_path: Path) -> None:
    catalog = Catalog.create(Store.at(str(tmp_path)), SPEC)
    seen = sync(catalog, catalog.read(), 5)

    with pytest.raises(CatalogError, match="moves from version 5 of t1 to version 6 of t1 without a batch"):
        catalog.commit(seen, moved(seen, 6), batch_end=None)
    with pytest.raises(CatalogError, match="would go back from version 5 of t1 to version 4 of t1"):
        sync(catalog, seen, 4)
    other = catalog.commit(seen, moved(seen, 1, position=position(1, "t2")), batch_end=position(1, "t2"))

    assert (other.position, catalog.committed("t1"), catalog.committed("t2")) == (position(1, "t2"), 5, 1)


def test_tombstones_come_from_the_packs_of_all_shards(store: Store) -> None:
    catalog = Catalog.create(store, SPEC)
    packs = {
        0: catalog.store.put_record("tombstones/a.pack", encode({1: BitMap([1, 2]), 9: BitMap([5])})),
        1: catalog.store.put_record("tombstones/b.pack", encode({2: BitMap([19])})),
    }
    live = (segment(1), segment(2, shard=1), segment(3))

    state = sync(catalog, catalog.read(), 1, segments=live, deleted={1: 2, 2: 1}, packs=packs)

    assert catalog.tombstones(state) == {1: BitMap([1, 2]), 2: BitMap([19])}


def test_packs_that_are_not_what_was_committed_are_refused(tmp_path: Path) -> None:
    catalog = Catalog.create(Store.at(str(tmp_path)), SPEC)
    pack = catalog.store.put_record("tombstones/a.pack", encode({1: BitMap([1, 2])}))
    state = sync(catalog, catalog.read(), 1, segments=(segment(1),), deleted={1: 3}, packs={0: pack})

    with pytest.raises(CatalogError, match="counts other tombstones than its packs hold"):
        catalog.tombstones(state)
    catalog.store.put("tombstones/a.pack", b"GTMB")
    with pytest.raises(CorruptFile, match=re.escape("tombstones/a.pack is not what was written")):
        catalog.tombstones(state)


def test_a_reader_takes_the_next_version_when_the_newest_is_vacuumed_under_its_eyes(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = Catalog.create(store, SPEC)
    reader = Catalog.open(store, "advisories")
    state = sync(writer, writer.read(), 1)
    get, later = Store.get, list[CatalogState]()

    def commit_and_drop_first(self: Store, path: str) -> bytes:
        if not later:
            later.append(sync(writer, state, 2))
            self.delete([path])
        return get(self, path)

    monkeypatch.setattr(Store, "get", commit_and_drop_first)

    assert [reader.read()] == later


def test_a_commit_in_doubt_needs_no_more_than_the_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = Catalog.create(Store.at(str(tmp_path)), SPEC)
    second = Catalog.open(Store.at(str(tmp_path)), "advisories")
    seen = second.read()
    won = sync(first, seen, 1)
    first.store.delete([f"catalog/{1:020d}-{won.commit_id}.parquet"])
    monkeypatch.setattr(CatalogTable, "has_moved", lambda *_: False)

    with pytest.raises(CommitConflict, match="began at version 0 and the newest is 1"):
        sync(second, seen, 2)


def test_tombstones_of_a_state_that_was_replaced_and_vacuumed_are_a_conflict(store: Store) -> None:
    catalog = Catalog.create(store, SPEC)
    pack = catalog.store.put_record("tombstones/a.pack", encode({1: BitMap([3])}))
    state = sync(catalog, catalog.read(), 1, segments=(segment(1),), deleted={1: 1}, packs={0: pack})
    catalog.store.delete([pack.path])

    with pytest.raises(ObjectNotFound):
        catalog.tombstones(state)
    sync(catalog, state, 2, segments=(), deleted={}, packs={})
    with pytest.raises(CommitConflict, match="began at version 1 and the newest is 2"):
        catalog.tombstones(state)


def test_the_heartbeat_is_the_last_one_written(store: Store) -> None:
    catalog = Catalog.create(store, SPEC)
    before = catalog.read_heartbeat()

    for version in (3, 4):
        catalog.write_heartbeat(Heartbeat(checked_at=NOON, epoch="t1", version=version))

    assert (before, catalog.read_heartbeat()) == (None, Heartbeat(checked_at=NOON, epoch="t1", version=4))


def test_a_new_collection_knows_no_failure_of_one_that_had_its_name(store: Store) -> None:
    store.child(SPEC.name).put("sync-failure.json", b"{}")

    Catalog.create(store, SPEC)

    assert not store.child(SPEC.name).exists("sync-failure.json")


@pytest.mark.parametrize("found", [b"", b"{", b"{}", b"\xff\x00"])
def test_a_heartbeat_or_a_failure_that_cannot_be_parsed_counts_as_none(tmp_path: Path, found: bytes) -> None:
    catalog = Catalog.create(Store.at(str(tmp_path)), SPEC)
    catalog.store.put("heartbeat.json", found)
    catalog.store.put("sync-failure.json", found)

    assert (catalog.read_heartbeat(), catalog.read_failure()) == (None, None)


def test_a_name_that_is_taken_or_missing_is_said(store: Store) -> None:
    Catalog.create(store, SPEC)

    with pytest.raises(CollectionExists, match=r"there is a collection 'advisories' in .* already"):
        Catalog.create(store, SPEC)
    with pytest.raises(CollectionNotFound, match="there is no collection 'other' in"):
        Catalog.open(store, "other")
    with pytest.raises(CollectionNotFound, match="there is no collection 'other' in"):
        drop(store, "other")


def test_of_creators_racing_for_a_name_one_wins(store: Store) -> None:
    def attempt(_: int) -> Catalog | None:
        try:
            return Catalog.create(store, SPEC)
        except CollectionExists:
            return None

    for _ in range(5):
        with ThreadPoolExecutor(4) as pool:
            made = [catalog for catalog in pool.map(attempt, range(4)) if catalog]
        assert [catalog.read().version for catalog in made] == [0]
        drop(store, "advisories")


def test_a_folder_without_a_catalog_is_not_listed(store: Store) -> None:
    Catalog.create(store, named("b"))
    Catalog.create(store, named("a"))
    store.put("c/segments/1", b"")
    store.put("d", b"")

    assert Catalog.names(store) == ["a", "b"]


def test_what_is_dropped_is_gone_for_all_who_have_it_open(store: Store) -> None:
    catalog = Catalog.create(store, SPEC)
    state = sync(catalog, catalog.read(), 1)
    catalog.store.put("segments/1/file", b"")
    store.put("neighbour/file", b"")

    drop(store, "advisories")

    assert (Catalog.names(store), store.list()) == ([], ["neighbour/file"])
    for use in (catalog.latest, catalog.read, lambda: sync(catalog, state, 2)):
        with pytest.raises(CollectionNotFound, match="'advisories' is gone: the collection was dropped"):
            use()
    assert store.list() == ["neighbour/file"]


@pytest.mark.parametrize("commits", [1, 45])
def test_nobody_sees_an_early_version_of_what_is_being_dropped(
    store: Store, commits: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalog = Catalog.create(store, SPEC)
    for version in range(1, commits + 1):
        sync(catalog, catalog.read(), version)
    seen: list[str] = []

    def opened() -> CatalogState:
        return Catalog.open(store, "advisories").read()

    delete = Store.delete

    def delete_and_look(self: Store, paths: Iterable[str]) -> None:
        for path in paths:
            delete(self, [path])
            for read in (opened, catalog.read):
                try:
                    seen.append(f"version {read().version}")
                except CatalogError as error:
                    seen.append(type(error).__name__)

    monkeypatch.setattr(Store, "delete", delete_and_look)
    drop(store, "advisories")

    assert set(seen) <= {"CollectionNotFound", "CatalogError", f"version {commits}"}
    assert Catalog.names(store) == []


def test_a_drop_that_was_cut_short_is_ended_by_another(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(self: Store, prefix: str = "") -> list[str]:
        raise StoreError("the store is away")

    catalog = Catalog.create(store, SPEC)
    sync(catalog, catalog.read(), 1)
    with monkeypatch.context() as cut:
        cut.setattr(Store, "list", away)
        with pytest.raises(StoreError, match="away"):
            drop(store, "advisories")

    assert Catalog.names(store) == []
    with pytest.raises(CollectionExists, match=r"a drop of 'advisories' in .* was cut short; `grebe drop advisories`"):
        Catalog.create(store, SPEC)
    drop(store, "advisories")
    assert Catalog.create(store, SPEC).read().version == 0


@pytest.mark.parametrize("commits", [0, 1, 2])
def test_a_collection_made_anew_is_not_taken_for_the_old_one(store: Store, commits: int) -> None:
    old = Catalog.create(store, SPEC)
    sync(old, old.read(), 1)
    drop(store, "advisories")
    new = Catalog.create(store, SPEC)
    state = new.read()
    for version in range(commits):
        state = sync(new, state, version)

    with pytest.raises(CollectionNotFound, match="'advisories' was dropped and made anew; open it again"):
        old.read()

    assert Catalog.open(store, "advisories").read() == state


@pytest.mark.parametrize("commits", [0, 1, 2])
def test_the_next_poll_notices_that_a_collection_was_made_anew(store: Store, commits: int) -> None:
    old = Catalog.create(store, SPEC)
    sync(old, old.read(), 1)
    assert old.latest() == 1
    drop(store, "advisories")
    new = Catalog.create(store, SPEC)
    state = new.read()
    for version in range(commits):
        state = sync(new, state, version)

    assert new.latest() == commits
    with pytest.raises(CollectionNotFound, match="'advisories' was dropped and made anew; open it again"):
        old.latest()


def test_a_catalog_that_another_program_damaged_is_an_error(tmp_path: Path) -> None:
    catalog = Catalog.create(Store.at(str(tmp_path)), SPEC)
    sync(catalog, catalog.read(), 1)
    (tmp_path / "advisories" / "catalog" / "_delta_log" / f"{1:020d}.json").write_text("{not json")

    with pytest.raises(CatalogError, match="the catalog of 'advisories' cannot be read"):
        Catalog.open(Store.at(str(tmp_path)), "advisories").read()


def test_any_delta_reader_can_read_the_catalog(tmp_path: Path) -> None:
    catalog = Catalog.create(Store.at(str(tmp_path)), SPEC)
    sync(catalog, catalog.read(), 1, segments=(segment(5), segment(6)), deleted={6: 1}, packs={0: PACK})

    table = DeltaTable(str(tmp_path / "advisories" / "catalog")).to_pyarrow_table()

    assert table.drop_columns(["record"]).to_pylist() == [
        {"kind": "segment", "number": 5, "shard": 0, "tombstoned": 0},
        {"kind": "segment", "number": 6, "shard": 0, "tombstoned": 1},
        {"kind": "state", "number": None, "shard": None, "tombstoned": None},
    ]


def test_a_store_can_be_moved(tmp_path: Path) -> None:
    catalog = Catalog.create(Store.at(str(tmp_path / "here")), SPEC)
    state = sync(catalog, catalog.read(), 1)

    shutil.move(tmp_path / "here", tmp_path / "there")

    assert Catalog.open(Store.at(str(tmp_path / "there")), "advisories").read() == state
