"""A resync: the whole table, compared with what is indexed by key and content hash, where its changes cannot be read.

Rows that are the same stay, only text that changed is embedded, and what no part has met is deleted at the end, by one
commit that also moves the position. Like a load it is planned once and goes on where it stopped.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from pathlib import Path

import numpy as np
from pyroaring import BitMap

from connectors.contract import Source
from indexer.build import BuildJob, PartResult, packed
from indexer.catalog import Catalog, CatalogState, SourcePosition
from indexer.commit import commit_batch
from indexer.errors import CollectionHeld
from indexer.format.fetch import fetch_keys
from indexer.format.records import Ledger
from indexer.format.tombstones import merge
from indexer.load import Progress, column_types, new_plan, result_of, unfinished
from indexer.load_plan import forget, loads_of
from indexer.lookup import chunk_positions, deleted, not_among
from indexer.publish import restarting

Judge = Callable[[CatalogState, PartResult, SourcePosition], None]
"""``judge(state, result, end)`` raises if what a batch that ends at ``end`` does to ``state`` must not be done."""


def resync(
    source: Source,
    catalog: Catalog,
    state: CatalogState,
    cache: Path,
    progress: Progress | None = None,
    *,
    judge: Judge,
) -> CatalogState:
    """Compare every row of ``source`` with what is indexed, and commit the difference and the source's position.

    ``judge`` may refuse the result by raising. Raises :class:`indexer.errors.ProgressMoved` like :func:`load`.
    """
    spec, loads = state.spec, loads_of(catalog.store)
    plan = unfinished(loads, spec, state, source.head().position.epoch, catalog)
    plan = plan or new_plan(source, spec, loads, compares=state)
    compared = state if plan.compares == state.version else catalog.read(plan.compares)
    job = BuildJob(
        store=catalog.store,
        spec=spec,
        dim=state.dim or plan.dim,
        live=compared.segments,
        packs=compared.packs,
        cache=cache,
        epoch=plan.position.epoch,
        replaces=True,
    )
    with restarting(catalog, state):
        result = result_of(source, plan, job, loads, progress)
        result = with_absent(result, compared, catalog, cache, plan.position.version)
        try:
            judge(state, result, plan.position)
        except CollectionHeld:
            forget(loads)  # of rows that are put back, a comparison of this version would never know
            raise
        committed = commit_batch(
            catalog,
            state,
            result,
            end=plan.position,
            committed_at=plan.committed_at,
            cache=cache,
            known={segment.number for segment in compared.segments},
            types=column_types(spec, source.schema()),
            resync=True,
        )
    forget(loads)
    return committed


def with_absent(result: PartResult, compared: CatalogState, catalog: Catalog, cache: Path, version: int) -> PartResult:
    """Return ``result`` with the deletion of all rows of ``compared`` that no part matched: the table lacks them."""
    matched, dead = result.matches(), catalog.tombstones(compared)
    tombstones, touched = result.tombstones(), [result.touched_keys()]
    for record in compared.segments:
        keys = fetch_keys(catalog.store, record, cache)
        entries = keys.entries()
        there = matched.get(record.number, BitMap()) | dead.get(record.number, BitMap())
        absent = not_among(entries, there)
        if not absent.any():
            continue
        tombstones = merge(tombstones, {record.number: BitMap(chunk_positions(entries[absent]))})
        # Whatever version up to the snapshot's a row has, the snapshot lacks it.
        touched.append(deleted(keys.hashes()[absent], version + 1))
    count = sum(len(part) for part in touched[1:])
    return result.model_copy(
        update={
            "superseded": packed(tombstones),
            "touched": base64.b64encode(np.concatenate(touched).tobytes()).decode(),
            "removed": result.removed + count,
            "ledger": result.ledger + Ledger(deleted=count),
        }
    )
