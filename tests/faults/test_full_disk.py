"""A disk that is full under a sync: it says so, what was served is served on, and after some tidying all is well."""

from __future__ import annotations

from pathlib import Path

import pytest

from indexer.errors import IndexerError
from indexer.format.store import Store
from tests.faults.local_collection import LocalCollection
from tests.faults.local_session import local_tasks
from tests.scene import Scene
from tests.served import served_rows
from tests.small_disk import fill

PAGE_BYTES = 4096


def test_a_disk_that_is_full_fails_a_sync_in_a_sentence_and_the_next_one_goes_on(
    scene: Scene, small_disk: Path
) -> None:
    scene.store = Store.at(str(small_disk / "store"))
    scene.load()
    before = served_rows(scene.store, "scene")
    scene.sql("DELETE FROM {t} WHERE id = 1")
    scene.sql("UPDATE {t} SET body = 'zwei' WHERE id = 2")
    scene.sql("INSERT INTO {t} VALUES (4, 'four', 0)")
    ballast = fill(small_disk)

    with pytest.raises(IndexerError, match=r"could not be written: No space left on device: free some space"):
        scene.sync()

    assert served_rows(scene.store, "scene") == before
    ballast.unlink()
    scene.sync()
    assert scene.is_served()
    assert scene.state.live_rows == 3


@pytest.mark.soak
def test_wherever_a_sync_finds_the_disk_full_it_says_so_and_the_next_one_goes_on(
    small_disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has room for one page more each time, so that every one of its writes is the first that fails once."""
    local_tasks(monkeypatch)
    collection = LocalCollection(str(small_disk / "store"), tmp_path)
    failed: list[str] = []
    pages = 0
    for _ in range(2):
        collection.change()
        collection.sync()
    while len(failed) == pages:
        before = collection.served()
        collection.change()
        ballast = fill(small_disk, but_bytes=pages * PAGE_BYTES)
        try:
            collection.sync()
        except IndexerError as error:
            failed.append(str(error))
            assert collection.served() in (before, collection.rows)
        ballast.unlink()
        collection.sync()
        assert collection.is_served()
        pages += 1

    assert [sentence for sentence in failed if "space" not in sentence] == []
    folders = {"segments", "tombstones", "deletions", "letters", "catalog"}
    assert {folder for folder in folders if any(f"/{folder}/" in sentence for sentence in failed)} == folders
