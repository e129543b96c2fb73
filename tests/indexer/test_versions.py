from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from indexer.apply import apply
from indexer.author import author
from indexer.catalog import Catalog
from indexer.errors import CatalogError
from indexer.format.records import FileRecord
from indexer.format.states import DeletionLog, encode_table
from indexer.format.store import Store
from indexer.history import Change, history
from indexer.spec import CollectionSpec
from indexer.versions import list_versions, named_files, read_versions
from tests.indexer.collection import PACK, SPEC, segment, sync


def test_every_kept_version_is_read_as_the_catalog_reads_it(store: Store) -> None:
    catalog = Catalog.create(store, SPEC)
    states = [catalog.read()]
    for version in range(25):
        states.append(sync(catalog, states[-1], version))
    told: list[tuple[str, int, int | None]] = []

    listing = list_versions(catalog)

    assert listing.versions == tuple(range(26))
    assert list(read_versions(catalog.store, (25, 3), lambda *news: told.append(news))) == [states[25], states[3]]
    assert list(read_versions(catalog.store, listing.versions)) == states
    assert told == [("versions", 2, 2)]
    catalog.expire(datetime.now(UTC) + timedelta(days=8))
    assert list_versions(catalog).versions == (25,)
    assert list(read_versions(catalog.store, listing.versions)) == states[25:]


def test_versions_that_are_kept_singly_are_read(tmp_path: Path) -> None:
    root = Store.at(str(tmp_path))
    Catalog.create(root, SPEC)
    catalog = Catalog(root.child("advisories"), "advisories", recent=5)
    states = [catalog.read()]
    for version in range(45):
        states.append(sync(catalog, states[-1], version))
    log = tmp_path / "advisories" / "catalog" / "_delta_log"
    hours_ago = (datetime.now(UTC) - timedelta(hours=5)).timestamp()
    for file in log.iterdir():
        if file.name[:20].isdigit() and int(file.name[:20]) < 30:
            os.utime(file, (hours_ago, hours_ago))
    catalog.expire()

    versions = list_versions(catalog).versions
    assert versions == (19, *range(39, 46))
    assert list(read_versions(catalog.store, versions)) == [states[version] for version in versions]


def test_the_file_of_a_commit_that_lost_is_not_taken_for_the_winners(tmp_path: Path) -> None:
    catalog = Catalog.create(Store.at(str(tmp_path)), SPEC)
    won = sync(catalog, catalog.read(), 1)
    lost = won.model_copy(update={"commit_id": "0" * 32, "segments": (segment(7),)})
    for version in (1, 2):
        catalog.store.put(f"catalog/{version:020d}-{lost.commit_id}.parquet", encode_table(lost))

    assert list_versions(catalog).versions == (0, 1)
    assert list(read_versions(catalog.store, (1, 2))) == [won]


def test_what_is_there_and_cannot_be_read_never_counts_as_gone(tmp_path: Path) -> None:
    catalog = Catalog.create(Store.at(str(tmp_path)), SPEC)
    state = catalog.read()
    catalog.store.put(f"catalog/{0:020d}-{state.commit_id}.parquet", b"spoilt")

    with pytest.raises(CatalogError, match="version 0 of a catalog is no Parquet file"):
        list(read_versions(catalog.store, (0,)))


def test_a_state_names_segments_tombstones_letters_and_deletions(tmp_path: Path) -> None:
    letters, log = (FileRecord(path=path, size_bytes=1, sha256="ef") for path in ("letters/a", "deletions/b"))
    state = (
        Catalog.create(Store.at(str(tmp_path)), SPEC)
        .read()
        .model_copy(
            update={
                "segments": (segment(1),),
                "packs": {0: PACK},
                "letters": (letters,),
                "deletions": (DeletionLog(file=log, epoch="e", count=1),),
            }
        )
    )

    assert list(named_files(state)) == [*segment(1).files, PACK, letters, log]


def test_history_is_newest_first(store: Store) -> None:
    catalog = Catalog.create(store, SPEC)
    states = [catalog.read()]
    for version in range(12):
        states.append(sync(catalog, states[-1], version))

    assert [past.state for past in history(catalog)] == states[::-1]
    assert [past.state for past in history(catalog, limit=3)] == states[:-4:-1]


def test_history_says_who_made_a_version_and_which_parts_of_the_spec_it_changed(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("LOGNAME", "ana")
    monkeypatch.setattr("socket.gethostname", lambda: "laptop")
    catalog = Catalog.create(store, SPEC)
    sync(catalog, catalog.read(), 1)
    policies = {"policies": [{"role": "analyst", "rows": "id = 1"}]}
    governed = CollectionSpec.model_validate(SPEC.model_dump() | policies | {"sync": {"max_delete_ratio": 0.9}})
    apply(store, governed)
    monkeypatch.setenv("LOGNAME", "ben")
    apply(store, CollectionSpec.model_validate(governed.model_dump() | {"shards": 3}), rebuild=True)

    told = [(past.state.operation, past.by, tuple(past.changed)) for past in history(catalog)]

    assert told == [
        ("apply", "ben@laptop", ("shards",)),
        ("apply", "ana@laptop", ("policies", "sync")),
        ("sync", "ana@laptop", ()),
        ("create", "ana@laptop", ("name", "source", "key", "text", "vector", "shards")),
    ]
    rebuilt, allowed = history(catalog, limit=2)
    assert rebuilt.changed == {"shards": Change(before=2, after=3)}
    assert allowed.changed["policies"] == Change(
        before=[], after=[{"role": "analyst", "rows": "id = 1", "dialect": "databricks", "masks": {}}]
    )


def test_history_tells_policies_that_wait_for_a_rebuild_from_those_in_force(store: Store) -> None:
    catalog = Catalog.create(store, SPEC)
    sync(catalog, catalog.read(), 1)
    before, after = ({"role": "analyst", "rows": f"id = {number}"} for number in (1, 2))
    masked = after | {"masks": {"extra": "redact"}}
    apply(store, CollectionSpec.model_validate(SPEC.model_dump() | {"policies": [before]}))
    wanted = {"columns": [*SPEC.columns, "extra"], "policies": [masked]}
    apply(store, CollectionSpec.model_validate(SPEC.model_dump() | wanted), rebuild=True)

    waiting, _ = history(catalog, limit=2)

    told = {part: change.after for part, change in waiting.changed.items()}
    rest = {"dialect": "databricks"}
    assert told["policies"] == [masked | rest]
    assert told["policies in force"] == [after | rest | {"masks": {}}]


def test_a_user_without_a_name_is_told_by_number(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody() -> str:
        raise KeyError("getpwuid(): uid not found: 1234")

    monkeypatch.setattr("getpass.getuser", nobody)
    monkeypatch.setattr("os.getuid", lambda: 1234)
    assert author().startswith("1234@")
