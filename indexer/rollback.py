"""Rollback: an older version of a collection, put back as a new commit, and held until somebody releases it.

What a version *is* comes back: its segments, tombstones, letters, position and types. What somebody decided since
stays: the spec where it still fits, its policies always, so that a rollback opens nothing that was closed. Syncs are
refused until the release; then they read on from the position that came back, deletions among what they read.

The proof of deletions goes by what is true afterwards. The version's own logs come back with it. Of what was deleted
later, those records stay whose rows the version does not hold; a row that is back has not been deleted, until the sync
after the release deletes it again and says so.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt
from pyroaring import BitMap

from indexer.catalog import Catalog, CatalogState
from indexer.errors import CatalogError, CommitConflict, HoldError
from indexer.format.deletions import decode, encode
from indexer.format.keys import KeyIndex
from indexer.format.pack import KEYS_FILE
from indexer.format.records import FileRecord, Ledger
from indexer.format.states import DeletionLog, Hold
from indexer.spec import CollectionSpec
from indexer.versions import named_files


def rollback(catalog: Catalog, version: int) -> CatalogState:
    """Put ``version`` back, hold the collection, and return the new state.

    Raises :class:`indexer.errors.CatalogError` if the version is not kept, is the newest already, or lacks a file.
    """
    while True:
        newest = catalog.read()
        target = _target(catalog, newest, version)
        _require_files(catalog, target)
        new = target.model_copy(
            update={
                "spec": _spec(newest, target),
                "pending": None,
                "deletions": _deletions(catalog, newest, target),
                "held": _hold(newest),
                "ledger": Ledger(),
                "operation": "rollback",
            }
        )
        try:
            return catalog.commit(newest, new, batch_end=None)
        except CommitConflict:
            continue  # a vacuum may have dropped the version: look again


def require_possible(catalog: Catalog, version: int) -> None:
    """Raise what :func:`rollback` would raise now before it writes anything."""
    newest = catalog.read()
    target = _target(catalog, newest, version)
    _require_files(catalog, target)
    _spec(newest, target)


def require_rolled_back(state: CatalogState) -> None:
    """Raise :class:`indexer.errors.HoldError` unless a rollback is held, which :func:`release` could end."""
    if state.held is None or state.held.kind != "rollback":
        raise HoldError(f"{state.spec.name}: no rollback is held; run the sync without --release")


def release(catalog: Catalog) -> CatalogState:
    """End the hold of a rollback, and return the new state; raises :class:`indexer.errors.HoldError` without one."""
    while True:
        state = catalog.read()
        require_rolled_back(state)
        new = state.model_copy(update={"held": None, "ledger": Ledger(), "operation": "release"})
        try:
            return catalog.commit(state, new, batch_end=None)
        except CommitConflict:
            continue


def _target(catalog: Catalog, newest: CatalogState, version: int) -> CatalogState:
    name = newest.spec.name
    if newest.position is None:
        raise CatalogError(
            f"'{name}' holds nothing yet, so there is nothing to roll back; `grebe sync {name}` loads it"
        )
    if version == newest.version:
        raise CatalogError(f"version {version} of '{name}' is the newest already; `grebe history {name}` lists others")
    return catalog.read(version)


def _require_files(catalog: Catalog, target: CatalogState) -> None:
    """Raise unless every file that ``target`` names lies in the store, with its size."""
    wanted = {file.path: file.size_bytes for file in named_files(target)}
    sizes = {
        entry.path: entry.size_bytes
        for folder in sorted({path.split("/", 1)[0] for path in wanted})
        for entry in catalog.store.entries(folder)
    }
    missing = sorted(path for path, size_bytes in wanted.items() if sizes.get(path) != size_bytes)
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise CatalogError(
            f"version {target.version} of '{target.spec.name}' cannot be put back: {missing[0]}{more} is not in the "
            "store as it was written; choose another version, or resync the collection"
        )


def _spec(newest: CatalogState, target: CatalogState) -> CollectionSpec:
    """The newest spec if it fits the version's segments, else the version's own under the newest policies."""
    now, then = newest.spec, target.spec
    if (now.fingerprint, now.source) == (then.fingerprint, then.source) and set(now.columns) <= set(
        then.stored_columns
    ):
        return now
    try:
        return then.under(now)
    except ValueError as error:
        raise CatalogError(
            f"version {target.version} of '{then.name}' cannot be put back, because the policies of today do not fit "
            f"its columns: {error}; apply others first"
        ) from error


def _hold(newest: CatalogState) -> Hold:
    assert newest.position is not None
    before = newest.held if newest.held and newest.held.kind == "rollback" else None
    return Hold(kind="rollback", since=datetime.now(UTC), end=before.end if before else newest.position)


def _deletions(catalog: Catalog, newest: CatalogState, target: CatalogState) -> tuple[DeletionLog, ...]:
    """The version's logs, and what of the newest ones still holds true beside it."""
    known = {file.file.path for file in target.deletions}
    later = [log for log in newest.deletions if log.file.path not in known]
    if not later:
        return target.deletions
    told = {(log.epoch, record.tobytes()) for log in target.deletions for record in _records(catalog, log)}
    kept = []
    for log in later:
        records = _records(catalog, log)
        fresh = np.array([(log.epoch, record.tobytes()) not in told for record in records], dtype=bool)
        mask = fresh & ~_is_live(catalog, target, records["hash"])
        if mask.any():
            kept.append(_written(catalog, log, records[mask]))
    return (*target.deletions, *kept)


def _records(catalog: Catalog, log: DeletionLog) -> np.ndarray:
    return decode(catalog.store.read(log.file))


def _written(catalog: Catalog, log: DeletionLog, records: np.ndarray) -> DeletionLog:
    """The log of ``records``: as it is, if they are all that it holds."""
    if len(records) == log.count:
        return log
    file = catalog.store.put_record(f"deletions/{uuid.uuid4().hex}.npy", encode(records))
    return DeletionLog(file=file, epoch=log.epoch, count=len(records))


def _is_live(catalog: Catalog, state: CatalogState, hashes: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    """Say of each key hash, ``(n, 16) uint8``, whether ``state`` has a row of it: ``(n,) bool``."""
    live = np.zeros(len(hashes), dtype=bool)
    tombstones = catalog.tombstones(state)
    for segment in state.segments:
        file = _keys_file(segment.files)
        at, entries = KeyIndex.decode(catalog.store.read(file), name=file.path).lookup(np.ascontiguousarray(hashes))
        dead = tombstones.get(segment.number, BitMap())
        live[at] |= np.array([int(position) not in dead for position in entries["position"]], dtype=bool)
    return live


def _keys_file(files: Iterable[FileRecord]) -> FileRecord:
    return next(file for file in files if file.path.endswith(f"/{KEYS_FILE}"))
