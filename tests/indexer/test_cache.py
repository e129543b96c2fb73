from __future__ import annotations

from pathlib import Path

from indexer.cache import of_collection, sweep
from indexer.catalog import Catalog
from indexer.format.fetch import folder_name
from indexer.format.store import Store
from indexer.merge import merge_once
from tests.indexer.parts import TEXTS, live_rows, publish, upsert


def test_what_is_no_longer_live_goes_once_it_is_old(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    catalog = Catalog.create(Store.at(str(tmp_path / "store")), TEXTS)
    for version in range(6):
        publish(catalog, cache, version, upsert(version, version))
    merge_once(catalog, cache)
    rows = live_rows(catalog, cache)
    (live,) = catalog.read().segments

    assert sweep(cache, [live]) == 0
    assert sweep(cache, [live], grace_seconds=-1) > 0

    left = {entry.name.split(".", 1)[0] for entry in cache.iterdir() if not entry.name.startswith(".")}
    assert left == {folder_name(live)}
    assert live_rows(catalog, cache) == rows


def test_collections_have_folders_of_their_own_and_locks_stay(tmp_path: Path) -> None:
    store = Store.at(str(tmp_path / "store"))
    one, two = (of_collection(tmp_path, store.child(name)) for name in ("one", "two"))
    one.mkdir()
    lock = one / ".fetch-a.lock"
    lock.touch()

    assert one != two
    assert sweep(one, [], grace_seconds=-1) == 0
    assert lock.exists()
