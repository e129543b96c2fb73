"""Which rows of an old index a new one lacks, by the keys of both."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pyroaring import BitMap

from indexer.catalog import Catalog, CatalogState
from indexer.errors import CorruptFile, ObjectNotFound
from indexer.format.fetch import fetch_keys
from indexer.format.keys import HASH_BYTES, KeyIndex, among, column_hashes, hash_alike
from indexer.format.tombstones import Tombstones
from indexer.letters import read_letters
from indexer.lookup import NO_KEYS, deleted, not_among

KEYS_AT_ONCE = 1_000_000
"""Of each index, so many keys are held in memory when the two are compared."""
NO_HASHES = np.zeros((0, HASH_BYTES), dtype=np.uint8)


def gone_rows(
    seen: CatalogState, new: CatalogState, catalog: Catalog, cache: Path, resting: Callable[[str], None]
) -> np.ndarray:
    """Return the rows of ``seen`` whose keys ``new`` has neither as a row nor as a dead letter: records of ``TOUCHED``.

    None where the hashes of their keys do not compare, because a key column is of another type by now; ``resting``
    hears of files of ``seen`` that cannot be read.
    """
    if not all(hash_alike(seen.types.get(name, ""), new.types.get(name, "")) for name in new.spec.key):
        resting("The key is of another type by now, so that which rows are deleted cannot be told")
        return NO_KEYS
    assert new.position is not None
    old = _keys_that_are_left(seen, catalog, cache, resting)
    own = [(record.number, fetch_keys(catalog.store, record, cache)) for record in new.segments]
    parts = max(1, *(math.ceil(sum(len(keys) for _, keys in side) / KEYS_AT_ONCE) for side in (old, own)))
    before = _live_hashes(old, catalog.tombstones(seen), parts)
    now = _live_hashes(own, catalog.tombstones(new), parts)
    gone = np.concatenate([rows[~among(rows, others)] for rows, others in zip(before, now, strict=True)])
    aside = column_hashes(read_letters(new.letters, catalog.store)["key_hash"].drop_null())
    return deleted(gone[~among(gone, aside)], new.position.version)


def _keys_that_are_left(
    seen: CatalogState, catalog: Catalog, cache: Path, resting: Callable[[str], None]
) -> list[tuple[int, KeyIndex]]:
    """Return the number and the keys of each segment of ``seen`` that can be read; ``resting`` hears of the others."""
    left = []
    for record in seen.segments:
        try:
            left.append((record.number, fetch_keys(catalog.store, record, cache)))
        except (ObjectNotFound, CorruptFile) as error:
            if catalog.latest() != seen.version:
                raise
            resting(f"Which rows are deleted cannot be told of all: {error}")
    return left


def _live_hashes(
    segments: Iterable[tuple[int, KeyIndex]], dead: Tombstones, parts: int
) -> Iterator[npt.NDArray[np.uint8]]:
    """Yield the key hashes of live rows, ``(n, 16) uint8``, in each of ``parts`` equal ranges in turn."""
    shares = [(keys.shares(parts), dead.get(number, BitMap())) for number, keys in segments]
    for part in range(parts):
        live = [own[part].hashes()[not_among(own[part].entries(), gone)] for own, gone in shares]
        yield np.concatenate([NO_HASHES, *live])
