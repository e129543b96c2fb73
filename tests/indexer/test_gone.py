"""Which rows of an old index a new one lacks, compared by the keys of both."""

from __future__ import annotations

import random
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from pyroaring import BitMap

from indexer import gone as module
from indexer.catalog import Catalog, CatalogState
from indexer.commit import with_tombstones
from indexer.format.keys import KeyIndex
from indexer.format.records import SegmentRecord
from indexer.format.store import Store
from indexer.gone import gone_rows
from tests.indexer.collection import SPEC, position, segment

Keys = list[bytes]


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    return Catalog.create(Store.at(str(tmp_path / "store")), SPEC)


def some_keys(seed: int, n_rows: int) -> Keys:
    return [random.Random(f"{seed}.{number}").randbytes(16) for number in range(n_rows)]


def of_keys(catalog: Catalog, number: int, keys: Keys, folder: Path) -> SegmentRecord:
    """Return a segment that has these keys, a row of one chunk each, and no other file."""
    hashes = np.frombuffer(b"".join(keys), dtype=np.uint8).reshape(-1, 16)
    one = np.ones(len(keys), dtype=np.int64)
    KeyIndex.build(hashes, np.arange(len(keys)), one, one).save(folder / "keys.npy")
    path = f"segments/{number:010x}-{number:08x}/keys.npy"
    record = catalog.store.put_record(path, (folder / "keys.npy").read_bytes())
    return segment(number, files=(record,), n_rows=len(keys), n_chunks=len(keys))


def index_of(catalog: Catalog, segments: Iterable[tuple[SegmentRecord, set[int]]]) -> CatalogState:
    """Return an index of ``segments``, each with the rows that are dead in it."""
    dead = {record.number: BitMap(rows) for record, rows in segments}
    state = catalog.read().model_copy(update={"types": {"id": "bigint"}, "position": position(5)})
    return state.model_copy(update=with_tombstones(catalog, state, [record for record, _ in segments], dead))


@pytest.mark.parametrize("at_once", [7, 1_000_000])
@pytest.mark.parametrize("seed", range(5))
def test_a_row_is_gone_that_lives_in_the_old_index_and_in_no_segment_of_the_new_one(
    catalog: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int, at_once: int
) -> None:
    monkeypatch.setattr(module, "KEYS_AT_ONCE", at_once)
    chance, keys = random.Random(seed), some_keys(seed, 60)
    indexes, living = [], []
    for first in (1, 100):
        segments: list[tuple[SegmentRecord, set[int]]] = []
        alive: set[bytes] = set()
        for number in range(first, first + 4):
            own = chance.sample(keys, chance.randint(1, 40))
            dead = {row for row, key in enumerate(own) if key in alive or chance.random() < 0.3}
            alive |= {key for row, key in enumerate(own) if row not in dead}
            segments.append((of_keys(catalog, number, own, tmp_path), dead))
        indexes.append(index_of(catalog, segments))
        living.append(alive)
    (old, new), told = indexes, list[str]()

    gone = gone_rows(old, new, catalog, tmp_path / "cache", told.append)

    assert sorted(key.tobytes() for key in gone["hash"]) == sorted(living[0] - living[1])
    assert {(row["version"].item(), row["removed"].item()) for row in gone} == {(5, True)}
    assert told == []


def test_each_segment_is_looked_at_once(catalog: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = some_keys(0, 80)
    old, new = (
        index_of(catalog, [(of_keys(catalog, first + at, keys[at::8], tmp_path), set()) for at in range(8)])
        for first in (1, 100)
    )
    opened: list[Path] = []
    real = KeyIndex.open

    def counted(path: Path) -> KeyIndex:
        opened.append(path)
        return real(path)

    monkeypatch.setattr(KeyIndex, "open", counted)

    assert len(gone_rows(old, new, catalog, tmp_path / "cache", print)) == 0
    assert len(opened) == 16


def test_an_index_without_rows_lacks_none_and_has_none(catalog: Catalog, tmp_path: Path) -> None:
    empty, full = index_of(catalog, []), index_of(catalog, [(of_keys(catalog, 1, some_keys(0, 3), tmp_path), set())])

    found = [len(gone_rows(old, new, catalog, tmp_path / "c", print)) for old in (empty, full) for new in (empty, full)]

    assert found == [0, 0, 3, 0]
