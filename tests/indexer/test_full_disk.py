from __future__ import annotations

from pathlib import Path

import pytest

from indexer.catalog import Catalog
from indexer.errors import BuildError, StoreError
from indexer.format.store import Store
from tests.indexer.parts import TEXTS, live_rows, publish, upsert
from tests.small_disk import fill


def test_a_full_disk_fails_the_batch_whole_and_the_next_one_goes_on(small_disk: Path, tmp_path: Path) -> None:
    catalog = Catalog.create(Store.at(str(small_disk / "store")), TEXTS)
    cache = tmp_path / "cache"
    before = publish(catalog, cache, 1, upsert(1))
    ballast = fill(small_disk)

    with pytest.raises((StoreError, BuildError), match=r"(?i)space"):
        publish(catalog, cache, 2, upsert(2), upsert(3, body="x y " * 50_000))

    assert Catalog.open(Store.at(str(small_disk / "store")), "texts").read() == before
    assert live_rows(catalog, cache) == {1: "body 1"}
    ballast.unlink()
    publish(catalog, cache, 2, upsert(2))
    assert live_rows(catalog, cache) == {1: "body 1", 2: "body 2"}
