"""The commit of a batch: atomic, from one source position to the next, rebased when a merge came first."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from pathlib import Path

import numpy as np
from pyroaring import BitMap

from indexer.build import PartResult
from indexer.catalog import Catalog, CatalogState, SourcePosition
from indexer.errors import CommitConflict, ProgressMoved
from indexer.format.deletions import DELETION, appended
from indexer.format.records import FileRecord, Ledger, SegmentRecord
from indexer.format.states import DeletionLog
from indexer.format.tombstones import Tombstones, encode, merge
from indexer.letters import uncleared
from indexer.lookup import NO_KEYS, superseded
from indexer.spec import CollectionSpec


def commit_batch(
    catalog: Catalog,
    seen: CatalogState,
    result: PartResult,
    *,
    end: SourcePosition,
    committed_at: datetime,
    cache: Path,
    known: Collection[int] | None = None,
    types: Mapping[str, str] | None = None,
    resync: bool = False,
) -> CatalogState:
    """Commit ``result``, which was built against ``seen`` (or, if given, its ``known`` segments); move to ``end``.

    ``types`` are the columns' types if they were looked at anew. A ``resync`` has compared the whole table: its letters
    are all there are, and its end begins the source's epoch if that is another.

    A merge that committed meanwhile is no obstacle: the batch's keys are looked up again in the segments it has not
    seen. A position that moved is: :class:`indexer.errors.ProgressMoved`.
    """
    looked = {segment.number for segment in seen.segments} if known is None else set(known)
    found, touched = result.tombstones(), result.touched_keys()
    state = catalog.read()
    while True:
        _require_unmoved(seen, state)
        unseen = [segment for segment in state.segments if segment.number not in looked]
        if unseen:
            late = superseded(touched, unseen, catalog.store, cache, epoch=end.epoch)
            found = merge(found, late)
            looked |= {segment.number for segment in unseen}
        try:
            new = _after(catalog, state, result, found, end=end, committed_at=committed_at, anew=resync).model_copy(
                update={
                    "deletions": _deletions(catalog, state, touched, end),
                    "types": dict(types) if types is not None else state.types,
                    "held": None,
                    "operation": "resync" if resync else "sync",
                    "ledger": result.ledger,
                }
            )
            return catalog.commit(state, new, batch_end=end)
        except CommitConflict:
            state = catalog.read()


def after_batch(
    catalog: Catalog, state: CatalogState, result: PartResult, *, end: SourcePosition, committed_at: datetime
) -> CatalogState:
    """Return ``state`` after a batch of changes that was built against it; nothing is committed.

    What was deleted is not noted: ``state`` is of an index that nobody has seen.
    """
    new = _after(catalog, state, result, result.tombstones(), end=end, committed_at=committed_at)
    return new.model_copy(update={"ledger": state.ledger + result.ledger})


def _after(
    catalog: Catalog,
    state: CatalogState,
    result: PartResult,
    found: Tombstones,
    *,
    end: SourcePosition,
    committed_at: datetime,
    anew: bool = False,
) -> CatalogState:
    return state.model_copy(
        update={
            **with_tombstones(catalog, state, state.segments + result.segments, found),
            **_letters(catalog, state, result, anew=anew),
            "dim": state.dim or result.dim,
            "live_rows": state.live_rows + result.ledger.upserted - result.replaced - result.removed,
            "base": state.base if state.base and state.base.epoch == end.epoch else end,
            "position": end,
            "source_committed_at": committed_at,
        }
    )


def after_load(
    seen: CatalogState,
    result: PartResult,
    spec: CollectionSpec,
    *,
    end: SourcePosition,
    committed_at: datetime,
    types: Mapping[str, str],
) -> CatalogState:
    """Return the collection with ``result`` under ``spec`` in place of what ``seen`` holds; nothing is committed."""
    return seen.model_copy(
        update={
            "spec": spec,
            "pending": None,
            "fingerprint": spec.fingerprint,
            "segments": result.segments,
            "deleted": {},
            "packs": {},
            "dim": result.dim,
            "live_rows": result.ledger.upserted,
            "letters": result.letters,
            "letter_count": result.letter_count,
            "base": end,
            "types": dict(types),
            "held": None,
            "operation": "load",
            "position": end,
            "source_committed_at": committed_at,
            "ledger": result.ledger,
        }
    )


def commit_load(catalog: Catalog, seen: CatalogState, new: CatalogState, gone: np.ndarray = NO_KEYS) -> CatalogState:
    """Commit ``new`` (of :func:`after_load`) in the place of ``seen``; what was deleted until then stays noted.

    ``gone`` (records of ``TOUCHED``) are rows of ``seen`` which ``new`` lacks because the source deleted them.
    Raises :class:`indexer.errors.ProgressMoved` if an apply or another load came between.
    """
    state, end = catalog.read(), new.position
    assert end is not None
    while True:
        _require_unmoved(seen, state)
        if (state.spec, state.pending) != (seen.spec, seen.pending):
            raise _moved(seen, state)
        try:
            noted = _deletions(catalog, state, gone, end)
            ledger = new.ledger + Ledger(deleted=len(gone))
            whole = new.model_copy(update={"deletions": noted, "ledger": ledger})
            return catalog.commit(state, whole, batch_end=end)
        except CommitConflict:
            state = catalog.read()


def _require_unmoved(seen: CatalogState, state: CatalogState) -> None:
    if (state.position, state.fingerprint, state.held) != (seen.position, seen.fingerprint, seen.held):
        raise _moved(seen, state)


def _moved(seen: CatalogState, state: CatalogState) -> ProgressMoved:
    return ProgressMoved(
        f"{seen.spec.name}: another writer, an apply or a rollback came between: the catalog is at "
        f"{state.position} and the batch starts at {seen.position}; start anew from the catalog"
    )


def _letters(catalog: Catalog, state: CatalogState, result: PartResult, *, anew: bool) -> dict[str, object]:
    """Return the fields for the letters: those that no change cleared, and the batch's own."""
    kept: tuple[FileRecord, ...] = ()
    count = 0
    if state.letters and not anew:
        keys = np.concatenate([result.touched_keys()["hash"], result.confirmed_keys()])
        kept, count = uncleared(state.letters, keys, result.freed_contents(), catalog.store)
    return {"letters": kept + result.letters, "letter_count": count + result.letter_count}


def _deletions(
    catalog: Catalog, state: CatalogState, touched: np.ndarray, end: SourcePosition
) -> tuple[DeletionLog, ...]:
    """Return the logs with what the source deleted of what was indexed."""
    gone = touched[touched["removed"] & ~touched["bad"]]
    deletions = np.zeros(len(gone), dtype=DELETION)
    deletions["hash"], deletions["catalog"] = gone["hash"], state.version + 1
    deletions["source"] = np.minimum(gone["version"], end.version)
    return appended(state.deletions, deletions, epoch=end.epoch, store=catalog.store)


def with_tombstones(
    catalog: Catalog, state: CatalogState, segments: Iterable[SegmentRecord], added: Tombstones
) -> dict[str, object]:
    """Return the fields of a state whose live segments are ``segments`` and whose tombstones grew by ``added``.

    A segment of which every chunk is tombstoned is dropped. Packs of shards that nothing changed are kept as they are.
    """
    live = {segment.number: segment for segment in segments}
    before = catalog.tombstones(state)
    after = {number: bits for number, bits in merge(before, added).items() if number in live}
    gone = {number for number, bits in after.items() if len(bits) == live[number].n_chunks}
    kept = tuple(segment for segment in live.values() if segment.number not in gone)
    after = {number: bits for number, bits in after.items() if number not in gone}
    return {
        "segments": kept,
        "deleted": {number: len(bits) for number, bits in after.items()},
        "packs": _packs(catalog, state, kept, before, after),
    }


def _packs(
    catalog: Catalog, state: CatalogState, segments: Iterable[SegmentRecord], before: Tombstones, after: Tombstones
) -> dict[int, FileRecord]:
    shard_of = {segment.number: segment.shard for segment in segments}
    by_shard: dict[int, dict[int, BitMap]] = {}
    for number, bits in after.items():
        by_shard.setdefault(shard_of[number], {})[number] = bits
    packs: dict[int, FileRecord] = {}
    for shard, tombstones in by_shard.items():
        unchanged = shard in state.packs and all(before.get(number) == bits for number, bits in tombstones.items())
        packs[shard] = (
            state.packs[shard]
            if unchanged
            else catalog.store.put_record(f"tombstones/{uuid.uuid4().hex}.pack", encode(tombstones))
        )
    return packs
