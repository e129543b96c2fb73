"""Tiered merging: small segments become larger ones, so that a search opens few.

Segments are sorted into tiers by their number of live chunks, each tier ``FAN_IN`` times the one below; a tier that
holds ``FAN_IN`` segments is merged into one of the next, so that every chunk is written again at most once per tier. A
segment that is mostly dead, or whose index is of another kind than the spec asks for by now, is written again alone. A
merge never moves the collection's position and never blocks a sync: it rebases what was tombstoned while it ran.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Set
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
from pyroaring import BitMap

from indexer.ann.build import is_as_asked
from indexer.catalog import Catalog, CatalogState, SourcePosition
from indexer.commit import with_tombstones
from indexer.errors import BuildError, CommitConflict, ObjectNotFound
from indexer.format.check import chunk_columns
from indexer.format.fetch import fetch_keys, fetch_segment
from indexer.format.records import MAX_CHUNKS_PER_SEGMENT, Ledger, SegmentRecord
from indexer.format.segment import new_segment_number, publish_segment, read_segment
from indexer.format.store import Store
from indexer.format.tombstones import Tombstones
from indexer.lookup import chunk_positions
from indexer.spec import CollectionSpec

FAN_IN = 6
"""Segments of one tier that are merged at once: at most five stay per tier; a chunk is rewritten log6(n) times."""
SMALLEST_TIER_CHUNKS = 3_000
"""Below this all segments are of the lowest tier."""
DEAD_RATIO = 0.5
"""A segment more than half dead is written again on its own."""


@dataclass(frozen=True, kw_only=True)
class MergeJob:
    """What a merge needs to know; it travels to the process that does the work.

    ``base`` is where the source's epoch began: rows of another epoch are of that version from now on. ``number`` is the
    number of what the merge writes, ``operation`` what history calls it.
    """

    store: Store
    spec: CollectionSpec
    inputs: tuple[SegmentRecord, ...]
    tombstones: Tombstones
    cache: Path
    base: SourcePosition | None = None
    number: int = field(default_factory=new_segment_number)
    operation: str


def plan_merge(state: CatalogState, busy: Set[int] = frozenset()) -> tuple[SegmentRecord, ...]:
    """Return the segments to merge next, of one shard, tenant and tier, smallest first; empty when all is well.

    Segments whose numbers are in ``busy`` are left alone.
    """
    tiers: dict[tuple[int, int, str], list[SegmentRecord]] = defaultdict(list)
    for segment in state.segments:
        if segment.number in busy:
            continue
        live = live_chunks(state, segment)
        mostly_dead = live < segment.n_chunks * (1 - DEAD_RATIO)
        if mostly_dead or not is_as_asked(segment.index, segment.n_embedded, state.spec.index):
            return (segment,)
        tiers[tier(live), segment.shard, segment.tenant or ""].append(segment)
    for _, segments in sorted(tiers.items(), key=lambda item: (item[0][0], _due_since(item[1]), item[0])):
        segments.sort(key=lambda segment: (live_chunks(state, segment), segment.number))
        chosen = _fitting(state, segments)
        if len(segments) >= FAN_IN and len(chosen) > 1:
            return chosen
    return ()


def _due_since(segments: list[SegmentRecord]) -> float:
    """Return when the last segment came that these are merged for: whoever has waited longest is next, not a name."""
    came = sorted(segment.created_at.timestamp() for segment in segments)
    return came[FAN_IN - 1] if len(came) >= FAN_IN else math.inf


def merge_job(
    catalog: Catalog,
    state: CatalogState,
    inputs: tuple[SegmentRecord, ...],
    cache: Path,
    operation: str = "merge",
) -> MergeJob:
    """Return the job that merges ``inputs`` of ``state``, which history calls ``operation``."""
    return MergeJob(
        store=catalog.store,
        spec=state.spec,
        inputs=inputs,
        tombstones=catalog.tombstones(state),
        cache=cache,
        base=state.base,
        operation=operation,
    )


def tier(n_chunks: int) -> int:
    """Return the tier of a segment of ``n_chunks`` live chunks.

    >>> [tier(n) for n in (1, 2_999, 3_000, 17_999, 18_000, 108_000)]
    [0, 0, 1, 1, 2, 3]
    """
    if n_chunks < SMALLEST_TIER_CHUNKS:
        return 0
    return 1 + int(math.log(n_chunks / SMALLEST_TIER_CHUNKS, FAN_IN) + 1e-9)


def live_chunks(state: CatalogState, segment: SegmentRecord) -> int:
    """Chunks of ``segment`` that are not tombstoned in ``state``."""
    return segment.n_chunks - state.deleted.get(segment.number, 0)


def _fitting(state: CatalogState, segments: list[SegmentRecord]) -> tuple[SegmentRecord, ...]:
    """The smallest of ``segments`` that fit into one together."""
    sizes = np.cumsum([live_chunks(state, segment) for segment in segments])
    return tuple(segments[: int(np.searchsorted(sizes, MAX_CHUNKS_PER_SEGMENT, side="right"))])


def merge_segments(job: MergeJob) -> SegmentRecord | None:
    """Write the live chunks of the job's inputs as one segment; ``None`` if none is live."""
    tables, vectors, rows = [], [], 0
    for record in job.inputs:
        files = read_segment(fetch_segment(job.store, record, job.cache))
        alive = np.ones(record.n_chunks, dtype=bool)
        alive[np.fromiter(job.tombstones.get(record.number, BitMap()), dtype=np.int64)] = False
        if not alive.any():
            continue
        chunks = files.chunks().select(chunk_columns(job.spec)).filter(pa.array(alive))
        ordinal = np.unique(chunks["_row"].to_numpy(), return_inverse=True)[1] + rows
        rows = int(ordinal[-1]) + 1
        chunks = _replaced(chunks, "_row", pa.array(ordinal, pa.uint32()))
        if job.base and record.epoch not in (None, job.base.epoch):
            chunks = _replaced(chunks, "_version", pa.array(np.full(len(chunks), job.base.version, dtype=np.int64)))
        tables.append(chunks)
        vectors.append(np.asarray(files.vectors)[alive])
    if not tables:
        return None
    return publish_segment(
        job.store,
        _joined(tables, job),
        np.concatenate(vectors),
        job.spec,
        number=job.number,
        shard=job.inputs[0].shard,
        epoch=job.base.epoch if job.base else None,
    )


def _replaced(chunks: pa.Table, name: str, column: pa.Array) -> pa.Table:
    return chunks.set_column(chunks.column_names.index(name), name, column)


def _joined(tables: list[pa.Table], job: MergeJob) -> pa.Table:
    try:
        return pa.concat_tables(tables, promote_options="permissive")
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise BuildError(
            f"{job.spec.name}: a column changed its type between two segments, which cannot be merged: {error}; "
            "rebuild the collection with `grebe apply --rebuild`"
        ) from error


def commit_merge(catalog: Catalog, job: MergeJob, merged: SegmentRecord | None) -> CatalogState | None:
    """Put ``merged`` in the place of the job's inputs; ``None`` if one of them is no longer live.

    Rows that were tombstoned in an input while the merge ran are tombstoned in ``merged`` by key. A tombstone that is
    gone again, because a rollback brought its row back, ends the merge: ``merged`` lacks that row.
    """
    inputs = {segment.number for segment in job.inputs}
    while True:
        state = catalog.read()
        if not is_current(state, job):
            return None
        kept = tuple(segment for segment in state.segments if segment.number not in inputs)
        try:
            now = catalog.tombstones(state)
            if any(job.tombstones.get(number, BitMap()) - now.get(number, BitMap()) for number in inputs):
                return None
            late = _late_tombstones(now, job, merged) if merged else {}
            update = with_tombstones(catalog, state, kept + ((merged,) if merged else ()), late)
            new = state.model_copy(update={**update, "ledger": Ledger(), "operation": job.operation})
            return catalog.commit(state, new, batch_end=None)
        except CommitConflict:
            continue


def _late_tombstones(now: Tombstones, job: MergeJob, merged: SegmentRecord) -> Tombstones:
    keys = []
    for record in job.inputs:
        late = now.get(record.number, BitMap()) - job.tombstones.get(record.number, BitMap())
        if late:
            files = read_segment(fetch_segment(job.store, record, job.cache))
            keys.append(files.key_hashes()[np.fromiter(late, dtype=np.int64)])
    if not keys:
        return {}
    _, entries = fetch_keys(job.store, merged, job.cache).lookup(np.unique(np.concatenate(keys), axis=0))
    return {merged.number: BitMap(chunk_positions(entries))}


def run_merge(catalog: Catalog, job: MergeJob) -> CatalogState | None:
    """Merge and commit; ``None`` if another merge, a rebuild or a rollback took an input away meanwhile."""
    try:
        merged = merge_segments(job)
    except ObjectNotFound:
        if is_current(catalog.read(), job):
            raise
        return None  # replaced meanwhile, and vacuumed
    return commit_merge(catalog, job, merged)


def is_current(state: CatalogState, job: MergeJob) -> bool:
    """Whether all inputs of ``job`` are live in ``state``, under its spec and in its epoch."""
    live = {segment.number for segment in state.segments}
    same = (state.fingerprint, state.base) == (job.spec.fingerprint, job.base)
    return same and all(segment.number in live for segment in job.inputs)


def merge_once(catalog: Catalog, cache: Path) -> bool:
    """Do the most pressing merge, if there is one; say whether there was."""
    state = catalog.read()
    inputs = plan_merge(state)
    if inputs:
        with suppress(CommitConflict):  # the state was replaced and vacuumed: there is another to look at
            run_merge(catalog, merge_job(catalog, state, inputs, cache))
    return bool(inputs)
