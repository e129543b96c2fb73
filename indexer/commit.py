"""The commit of a batch: atomic, from one source position to the next, rebased when a merge came first."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path

from pyroaring import BitMap

from indexer.build import PartResult
from indexer.catalog import Catalog, CatalogState, SourcePosition
from indexer.errors import CommitConflict, ProgressMoved
from indexer.format.records import FileRecord, SegmentRecord
from indexer.format.tombstones import Tombstones, encode, merge
from indexer.lookup import superseded
from indexer.spec import CollectionSpec


def commit_batch(
    catalog: Catalog,
    seen: CatalogState,
    result: PartResult,
    *,
    end: SourcePosition,
    committed_at: datetime,
    cache: Path,
    replace: CollectionSpec | None = None,
) -> CatalogState:
    """Commit ``result``, which was built against ``seen``, and move the position to ``end``.

    With ``replace`` the result is the whole collection under that spec, and takes the place of what was there.

    A merge that committed meanwhile is no obstacle: the batch's keys are looked up again in the segments it has not
    seen. A position that moved is: :class:`indexer.errors.ProgressMoved`.
    """
    known = {segment.number for segment in seen.segments}
    found = result.tombstones()
    state = catalog.read()
    while True:
        moved = (state.position, state.fingerprint) != (seen.position, seen.fingerprint)
        if moved or (replace and (state.spec, state.pending) != (seen.spec, seen.pending)):
            raise ProgressMoved(
                f"{seen.spec.name}: another writer, an apply or a rollback came between: the catalog is at "
                f"{state.position} and the batch starts at {seen.position}; start anew from the catalog"
            )
        unseen = [segment for segment in state.segments if segment.number not in known]
        if unseen and not replace:
            late, _ = superseded(result.touched_keys(), unseen, catalog.store, cache)
            found = merge(found, late)
            known |= {segment.number for segment in unseen}
        try:
            new = _replaced(state, result, replace) if replace else _added(catalog, state, result, found)
            update = {"position": end, "source_committed_at": committed_at, "ledger": result.ledger}
            return catalog.commit(state, new.model_copy(update=update), batch_end=end)
        except CommitConflict:
            state = catalog.read()


def _added(catalog: Catalog, state: CatalogState, result: PartResult, found: Tombstones) -> CatalogState:
    return state.model_copy(
        update={
            **with_tombstones(catalog, state, state.segments + result.segments, found),
            "dim": state.dim or result.dim,
            "letters": state.letters + result.letters,
            "letter_count": state.letter_count + result.letter_count,
            "operation": "sync",
        }
    )


def _replaced(state: CatalogState, result: PartResult, spec: CollectionSpec) -> CatalogState:
    return state.model_copy(
        update={
            "spec": spec,
            "pending": None,
            "fingerprint": spec.fingerprint,
            "segments": result.segments,
            "deleted": {},
            "packs": {},
            "dim": result.dim,
            "letters": result.letters,
            "letter_count": result.letter_count,
            "operation": "load",
        }
    )


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
