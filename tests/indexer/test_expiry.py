from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from indexer.catalog import EXPIRE_EVERY, Catalog
from indexer.errors import CatalogError
from indexer.format.store import Store
from tests.indexer.collection import SPEC, sync


def catalog_files(catalog: Catalog) -> int:
    return len(catalog.store.list("catalog"))


def test_versions_beyond_the_horizon_go_and_those_within_stay(store: Store) -> None:
    catalog = Catalog.create(store, SPEC)
    state = catalog.read()
    for version in range(25):
        state = sync(catalog, state, version)
    before = catalog_files(catalog)

    within = catalog.expire(datetime.now(UTC) + timedelta(days=6))
    beyond = catalog.expire(datetime.now(UTC) + timedelta(days=8))

    # Kept: the newest data, the log from its newest checkpoint (19) to 25, that checkpoint and the pointer to it.
    assert (within, before - beyond, catalog_files(catalog)) == (0, 10, 10)
    assert (catalog.read(), Catalog.open(store, "advisories").read(25), catalog.committed("t1")) == (state, state, 24)
    with pytest.raises(CatalogError, match="version 24 of 'advisories' is no longer kept"):
        catalog.read(24)
    with pytest.raises(CatalogError, match="version 18 of 'advisories' is not kept; the newest is 25"):
        catalog.read(18)
    assert sync(catalog, state, 60).version == 26


def test_the_version_that_was_the_newest_at_the_horizon_stays(tmp_path: Path) -> None:
    catalog = Catalog.create(Store.at(str(tmp_path)), SPEC)
    states = [catalog.read()]
    for version in range(25):
        states.append(sync(catalog, states[-1], version))
    old = (datetime.now(UTC) - timedelta(days=30)).timestamp()
    for version in range(23):
        os.utime(tmp_path / "advisories" / "catalog" / "_delta_log" / f"{version:020d}.json", (old, old))

    catalog.expire()

    assert [catalog.read(version) for version in (22, 23, 24, 25)] == states[22:]
    with pytest.raises(CatalogError, match="version 21 of 'advisories' is no longer kept"):
        catalog.read(21)


def test_of_a_busy_table_the_last_versions_and_one_an_hour_stay(tmp_path: Path) -> None:
    root = Store.at(str(tmp_path))
    Catalog.create(root, SPEC)
    catalog = Catalog(root.child("advisories"), "advisories", recent=10)
    this_hour = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    states = [catalog.read()]
    for version in range(1, 86):
        states.append(sync(catalog, states[-1], version))
        if version in (20, 60):
            date_back(tmp_path / "advisories" / "catalog" / "_delta_log", this_hour - timedelta(hours=100 - version))
        if version in (45, 66):
            catalog.expire()

    catalog.expire()

    # Checkpoints are 19, 39, 59 and 79: the first and third are the last of their hours, the fourth is recent anyway.
    kept = [version for version in range(86) if can_read(catalog, version)]
    assert kept == [19, 59, *range(75, 86)]
    assert [catalog.read(version) for version in kept] == [states[version] for version in kept]


def date_back(folder: Path, to: datetime) -> None:
    """Let the files of today be from then."""
    for file in folder.iterdir():
        if file.stat().st_mtime > to.timestamp() + 3600:
            os.utime(file, (to.timestamp(), to.timestamp()))


def can_read(catalog: Catalog, version: int) -> bool:
    try:
        return catalog.read(version).version == version
    except CatalogError:
        return False


def test_a_reader_that_slept_past_the_horizon_finds_the_newest_version(store: Store) -> None:
    writer = Catalog.create(store, SPEC)
    sleeper = Catalog.open(store, "advisories")
    state = writer.read()
    for version in range(25):
        state = sync(writer, state, version)
    writer.expire(datetime.now(UTC) + timedelta(days=8))

    assert (sleeper.latest(), sleeper.read()) == (25, state)


def test_commits_expire_old_versions_by_themselves(tmp_path: Path) -> None:
    root = Store.at(str(tmp_path))
    Catalog.create(root, SPEC)
    catalog = Catalog(root.child("advisories"), "advisories", horizon=timedelta(0))
    state = catalog.read()

    for version in range(EXPIRE_EVERY + 20):
        state = sync(catalog, state, version)

    assert catalog_files(catalog) < 100
    assert Catalog.open(root, "advisories").read() == state
