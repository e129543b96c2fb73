"""Compaction on demand: the merges that a sync makes by policy, or the purge of what is tombstoned.

A *purge* writes every live segment again that has a tombstone, and nothing else, so that no live segment holds what was
deleted or replaced before it began; versions that came before still name the old files, until a vacuum drops both.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from indexer.catalog import Catalog, CatalogState
from indexer.errors import CatalogError, CommitConflict
from indexer.format import deletions
from indexer.format.records import FileRecord, Ledger, SegmentRecord
from indexer.keyfields import key_fields
from indexer.letterbox import decode_letters, encode_letters, letter_hashes
from indexer.merge import live_chunks, merge_job, plan_merge, run_merge
from indexer.versions import Progress


@dataclass(frozen=True, kw_only=True)
class Compaction:
    """What a compaction did: so many ``merges``, the state before and after, and dead letters that went."""

    merges: int
    letters: int
    before: CatalogState
    after: CatalogState


def compact(catalog: Catalog, cache: Path, *, progress: Progress | None = None) -> Compaction:
    """Merge until every tier is small enough; see :mod:`indexer.merge`."""
    before = state = catalog.read()
    merges = done = 0
    while inputs := plan_merge(state):
        planned = done + sum(live_chunks(state, segment) for segment in inputs)
        if progress:
            progress("merging", done, planned)
        merges += _merged(catalog, state, inputs, cache, "merge") is not None
        done, state = planned, catalog.read()
        if progress:
            progress("merging", done, planned)
    return Compaction(merges=merges, letters=0, before=before, after=state)


def purge(catalog: Catalog, cache: Path, *, progress: Progress | None = None) -> Compaction:
    """Write every live segment with a tombstone again, and drop the dead letters of rows that the source deleted.

    A row deleted while this runs may stay in what was written before. A segment that a merge takes away meanwhile is
    looked for again in what came of it.
    """
    before = state = catalog.read()
    merges, written, overtaken = 0, set[int](), True
    while overtaken:
        targets = [one for one in state.segments if state.deleted.get(one.number) and one.number not in written]
        rewritten = list(_rewritten(catalog, targets, cache, progress))
        written.update(number for number in rewritten if number is not None)
        merges, overtaken = merges + len(rewritten) - rewritten.count(None), None in rewritten
        state = catalog.read()
    letters = purge_letters(catalog)
    return Compaction(merges=merges, letters=letters, before=before, after=catalog.read())


def _rewritten(
    catalog: Catalog, targets: Sequence[SegmentRecord], cache: Path, progress: Progress | None
) -> Iterator[int | None]:
    """Write ``targets`` again, one by one; yield the number of each new segment, ``None`` if it was taken away."""
    done, total = 0, sum(segment.n_chunks for segment in targets)
    for segment in targets:
        if progress:
            progress("purging", done, total)
        state = catalog.read()
        current = tuple(live for live in state.segments if live.number == segment.number)
        yield _merged(catalog, state, current, cache, "purge") if current else None
        done += segment.n_chunks
    if progress and targets:
        progress("purging", total, total)


def purge_letters(catalog: Catalog) -> int:
    """Drop the letters of rows that the source deleted later, and return how many went."""
    while True:
        state = catalog.read()
        kept, gone = _letters_without_deleted(catalog, state)
        if not gone:
            return 0
        update = {"letters": kept, "letter_count": state.letter_count - gone, "ledger": Ledger(), "operation": "purge"}
        try:
            catalog.commit(state, state.model_copy(update=update), batch_end=None)
            return gone
        except CommitConflict:
            continue


def _letters_without_deleted(catalog: Catalog, state: CatalogState) -> tuple[tuple[FileRecord, ...], int]:
    deleted = _deleted_at(catalog, state) if state.letters else {}
    if not deleted:
        return state.letters, 0
    try:
        fields = key_fields(catalog.store, [state])
    except CatalogError:
        fields = []  # letters that carry the hashes of their keys can be told without
    kept, gone = list[FileRecord](), 0
    for file in state.letters:
        letters = decode_letters(catalog.store.read(file), file.path)
        pairs = zip(letter_hashes(letters, fields), letters["version"].to_pylist(), strict=True)
        stays = [hash_ is None or version >= deleted.get(hash_, version) for hash_, version in pairs]
        gone += stays.count(False)
        if all(stays):
            kept.append(file)
        elif any(stays):
            data = encode_letters(letters.filter(pa.array(stays)))
            kept.append(catalog.store.put_record(f"letters/{uuid.uuid4().hex}.parquet", data))
    return tuple(kept), gone


def _deleted_at(catalog: Catalog, state: CatalogState) -> dict[bytes, int]:
    """The last version of the source's epoch that deleted a key, by the key's hash."""
    found: dict[bytes, int] = {}
    for log in state.deletions:
        if state.position and log.epoch == state.position.epoch:
            for deletion in deletions.decode(catalog.store.read(log.file)):
                hash_ = deletion["hash"].tobytes()
                found[hash_] = max(found.get(hash_, 0), int(deletion["source"]))
    return found


def _merged(
    catalog: Catalog, state: CatalogState, inputs: tuple[SegmentRecord, ...], cache: Path, operation: str
) -> int | None:
    """Merge ``inputs`` of ``state``, which history calls ``operation``.

    Returns the new segment's number, ``None`` if another commit was faster.
    """
    try:
        job = merge_job(catalog, state, inputs, cache, operation)
        return job.number if run_merge(catalog, job) else None
    except CommitConflict:
        return None  # the state was replaced and vacuumed meanwhile
