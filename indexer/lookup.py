"""Finding what a batch supersedes: its keys, looked up in the key files of live segments."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pyroaring import BitMap

from indexer.format.fetch import fetch_keys
from indexer.format.records import SegmentRecord
from indexer.format.store import Store
from indexer.format.tombstones import Tombstones


def superseded(
    touched: np.ndarray, live: Iterable[SegmentRecord], store: Store, cache: Path
) -> tuple[Tombstones, npt.NDArray[np.int64]]:
    """Look ``touched`` keys up in ``live`` segments.

    ``touched`` has the fields ``hash`` (16 bytes), ``version`` and ``upsert``. An upsert at version v supersedes rows
    of its key up to v, a delete at v those older than v: at equal version an upsert beats a delete.

    Returns the chunks to tombstone, and the positions in ``touched`` of upserts that are older than what is indexed.
    """
    tombstones: Tombstones = {}
    stale: list[npt.NDArray[np.int64]] = []
    if not len(touched):
        return tombstones, np.empty(0, dtype=np.int64)
    hashes = np.ascontiguousarray(touched["hash"])
    for record in live:
        at, entries = fetch_keys(store, record, cache).lookup(hashes)
        if not len(at):
            continue
        mine = touched[at]
        overtaken = np.where(
            mine["upsert"], entries["version"] <= mine["version"], entries["version"] < mine["version"]
        )
        if overtaken.any():
            tombstones[record.number] = BitMap(chunk_positions(entries[overtaken]))
        stale.append(at[mine["upsert"] & (entries["version"] > mine["version"])])
    return tombstones, np.concatenate(stale) if stale else np.empty(0, dtype=np.int64)


def chunk_positions(entries: np.ndarray) -> npt.NDArray[np.uint32]:
    """Return the chunk positions that key ``entries`` (fields ``position`` and ``n_chunks``) cover.

    >>> entries = np.array([(4, 2), (9, 1)], dtype=[("position", "u4"), ("n_chunks", "u4")])
    >>> chunk_positions(entries).tolist()
    [4, 5, 9]
    """
    counts = entries["n_chunks"].astype(np.int64)
    ends = np.cumsum(counts)
    within = np.arange(ends[-1] if len(ends) else 0) - np.repeat(ends - counts, counts)
    positions: npt.NDArray[np.uint32] = (np.repeat(entries["position"].astype(np.int64), counts) + within).astype("u4")
    return positions
