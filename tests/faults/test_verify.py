"""Verifying names exactly the keys that differ, whatever the index or the table did."""

from __future__ import annotations

from pathlib import Path

import pytest

from indexer.apply import apply
from indexer.catalog import CatalogState, SourcePosition
from indexer.commit import commit_batch
from indexer.errors import CatalogError, CorruptFile, IndexerError, ObjectNotFound
from indexer.verify import Verification, verify
from tests.indexer.parts import NOON
from tests.scene import Scene


def verified(scene: Scene) -> Verification:
    return verify(scene.source_of(scene.spec()), scene.catalog, scene.folder / "verify")


def behind_its_back(scene: Scene, statement: str) -> CatalogState:
    """Change the table, and have the catalog say that it was read."""
    scene.sql(statement)
    state = scene.state
    assert state.position is not None
    end = SourcePosition(epoch=state.position.epoch, version=state.position.version + 1)
    from indexer.build import PartResult

    return commit_batch(scene.catalog, state, PartResult(), end=end, committed_at=NOON, cache=scene.folder / "cache")


def test_an_index_in_step_with_its_table_is_equal_after_every_kind_of_change(scene: Scene) -> None:
    scene.load("(1, 'one', 0), (2, 'two', 0), (3, 'three', 0), (NULL, 'keyless', 0)")
    scene.sql("UPDATE {t} SET body = 'zwei' WHERE id = 2")
    scene.sql("DELETE FROM {t} WHERE id = 3")
    scene.sql("INSERT INTO {t} VALUES (4, 'four', 0), (5, cast(X'ff' AS STRING), 0)")
    scene.sync()

    found = verified(scene)

    assert found.equal
    assert (found.source_rows, found.index_rows, found.set_aside) == (5, 3, 2)
    assert found.position == scene.state.position


def test_rows_that_differ_are_named_by_kind_and_a_comparing_sync_puts_them_right(scene: Scene) -> None:
    scene.load(", ".join(f"({number}, 'row {number}', 0)" for number in range(50)))
    behind_its_back(scene, "UPDATE {t} SET n = 1 WHERE id IN (7, 8)")
    behind_its_back(scene, "DELETE FROM {t} WHERE id = 9")
    behind_its_back(scene, "INSERT INTO {t} VALUES (50, 'new', 0)")

    found = verified(scene)

    assert not found.equal
    assert (found.missing, found.extra, found.different) == (("50",), ("9",), ("7", "8"))
    assert found.counts == {"missing": 1, "extra": 1, "different": 2}
    report = scene.sync(compare=True)
    assert (report.ledger.upserted, report.ledger.deleted, report.ledger.unchanged) == (3, 1, 47)
    assert verified(scene).equal
    assert scene.is_served()


@pytest.mark.soak
def test_a_key_that_the_table_has_twice_is_no_difference_as_long_as_one_of_its_rows_is_indexed(scene: Scene) -> None:
    scene.load()
    scene.sql("INSERT INTO {t} VALUES (1, 'another one', 0)")
    scene.sync()

    found = verified(scene)

    assert found.equal
    assert (found.source_rows, found.index_rows, found.set_aside, found.duplicates) == (4, 3, 1, 1)


def test_after_columns_were_dropped_in_place_rows_are_compared_first(scene: Scene) -> None:
    scene.load()
    apply(scene.store, scene.spec(columns=[]))
    narrow = scene.spec(columns=[])

    with pytest.raises(CatalogError, match=r"other columns than when .* `grebe sync scene --compare`"):
        verify(scene.source_of(narrow), scene.catalog, scene.folder / "verify")

    assert scene.sync(compare=True).ledger.embedded == 0
    assert verify(scene.source_of(narrow), scene.catalog, scene.folder / "verify").equal


def test_what_was_never_loaded_cannot_be_verified(scene: Scene) -> None:
    scene.create()
    apply(scene.store, scene.spec())

    with pytest.raises(CatalogError, match="has not been loaded yet: `grebe sync scene` loads it"):
        verified(scene)


@pytest.mark.parametrize(("damaged", "error"), [(True, CorruptFile), (False, ObjectNotFound)], ids=["damaged", "lost"])
def test_a_file_that_cannot_be_read_is_named(scene: Scene, damaged: bool, error: type[IndexerError]) -> None:
    scene.load()
    (archive,) = Path(scene.store.url).rglob("segment.tar")
    if damaged:
        content = bytearray(archive.read_bytes())
        content[len(content) // 2] ^= 255
        archive.write_bytes(content)
    else:
        archive.unlink()

    with pytest.raises(error, match=r"segment\.tar"):
        verified(scene)
