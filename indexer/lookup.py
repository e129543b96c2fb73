"""Finding what a batch supersedes: its keys, looked up in the key files of live segments."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pyroaring import BitMap

from indexer.format.fetch import fetch_keys
from indexer.format.keys import ENTRY
from indexer.format.records import SegmentRecord
from indexer.format.store import Store
from indexer.format.tombstones import Tombstones

TOUCHED = np.dtype([("hash", "u1", (16,)), ("version", "<i8"), ("upsert", "?"), ("bad", "?"), ("removed", "?")])
"""A key that a batch changes, at its newest version there.

``bad`` marks a row that was set aside, ``removed`` one that is no longer indexed and that nothing takes the place of.
"""

NO_KEYS = np.zeros(0, dtype=TOUCHED)

OLDER_THAN_ALL = -1
"""What the version of another epoch counts as: versions of two tables do not compare."""


@dataclass(frozen=True, kw_only=True)
class Found:
    """Rows of live segments under a batch's keys: row i has ``touched[at[i]]``'s key, in ``live[place[i]]``."""

    live: tuple[SegmentRecord, ...]
    place: npt.NDArray[np.int64]
    at: npt.NDArray[np.int64]
    entries: np.ndarray

    def __len__(self) -> int:
        return len(self.at)

    def where(self, mask: npt.NDArray[np.bool_]) -> Found:
        """Return those rows for which ``mask``, ``(n,) bool``, is true."""
        return Found(live=self.live, place=self.place[mask], at=self.at[mask], entries=self.entries[mask])

    def less(self, dead: Tombstones) -> Found:
        """Return those rows that are not among the ``dead`` chunks."""
        alive = np.ones(len(self), dtype=bool)
        for record, mine in self.by_segment():
            positions = self.entries["position"][mine]
            gone = dead.get(record.number, BitMap()) & BitMap(positions)
            alive[mine] = ~np.isin(positions, np.asarray(gone.to_array()))
        return self.where(alive)

    def by_segment(self) -> Iterator[tuple[SegmentRecord, npt.NDArray[np.int64]]]:
        """Yield each segment that has such rows, and which of them: indices into ``at``."""
        for place in np.unique(self.place).tolist():
            yield self.live[place], np.flatnonzero(self.place == place)


def look_up(
    touched: np.ndarray,
    live: Iterable[SegmentRecord],
    store: Store,
    cache: Path,
    *,
    epoch: str | None = None,
) -> Found:
    """Find the rows of ``live`` segments that have a key of ``touched``, tombstoned ones among them.

    ``epoch`` is that of the changes: entries of another one get a version older than all.
    """
    records = tuple(live)
    hashes = np.ascontiguousarray(touched["hash"])
    places, ats, entries = [], [], []
    for place, record in enumerate(records if len(touched) else ()):
        at, rows = fetch_keys(store, record, cache).lookup(hashes)
        if epoch and record.epoch not in (None, epoch):
            rows["version"] = OLDER_THAN_ALL
        places.append(np.full(len(at), place, dtype=np.int64))
        ats.append(at)
        entries.append(rows)
    return Found(
        live=records,
        place=np.concatenate(places) if places else np.empty(0, dtype=np.int64),
        at=np.concatenate(ats) if ats else np.empty(0, dtype=np.int64),
        entries=np.concatenate(entries) if entries else np.empty(0, dtype=ENTRY),
    )


def overtakes(touched: np.ndarray, found: Found) -> npt.NDArray[np.bool_]:
    """Say of each row that was found whether its key's change supersedes it: ``(n,) bool``.

    An upsert at version v supersedes rows up to v, a delete at v those older than v: at equal version an upsert beats
    a delete.
    """
    mine, versions = touched[found.at], found.entries["version"]
    over: npt.NDArray[np.bool_] = np.where(mine["upsert"], versions <= mine["version"], versions < mine["version"])
    return over


def tombstones_of(found: Found) -> Tombstones:
    """Return the chunks of the rows that were found."""
    return {record.number: BitMap(chunk_positions(found.entries[at])) for record, at in found.by_segment()}


def superseded(
    touched: np.ndarray, live: Iterable[SegmentRecord], store: Store, cache: Path, *, epoch: str | None
) -> Tombstones:
    """Return the chunks in ``live`` segments that the changes of ``touched`` keys supersede."""
    found = look_up(touched, live, store, cache, epoch=epoch)
    return tombstones_of(found.where(overtakes(touched, found)))


def deleted(hashes: npt.NDArray[np.uint8], version: int) -> np.ndarray:
    """Return the keys of ``hashes``, ``(n, 16) uint8``, as deleted at the source's ``version``: ``TOUCHED`` records."""
    gone = np.zeros(len(hashes), dtype=TOUCHED)
    gone["hash"], gone["version"], gone["removed"] = hashes, version, True
    return gone


def not_among(entries: np.ndarray, positions: BitMap) -> npt.NDArray[np.bool_]:
    """Say of each key entry whether its first chunk is not one of ``positions``: ``(n,) bool``."""
    return ~np.isin(entries["position"], np.asarray(positions.to_array()))


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
