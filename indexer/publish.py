"""Publishing: a batch of changes, wherever its rows are, becomes one catalog commit.

Spark is touched here and in ``load`` alone. The batch is shuffled so that all changes of a key meet in one task; each
task builds and uploads its part; the driver makes the one commit that lets the parts be seen. Keys that the table has
more than once are read from the table, because their changes do not tell what is left.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from pyspark.sql import Column
from pyspark.sql import functions as F  # noqa: N812
from pyspark.sql.types import BinaryType, DataType, DecimalType, IntegralType, StringType, TimestampType

from connectors.columns import column
from connectors.contract import COMMITTED_AT, DELETE, OP, VERSION, ChangeBatch, Source
from connectors.errors import HistoryBroken
from indexer.build import BuildJob, PartResult, build_part, merge_results
from indexer.catalog import Catalog, CatalogState, SourcePosition
from indexer.commit import commit_batch
from indexer.duplicates import MAX_KEYS
from indexer.errors import CommitConflict, ObjectNotFound, ProgressMoved
from indexer.format.records import SegmentRecord
from indexer.format.store import Store
from indexer.letters import letters_by_key
from indexer.netting import BAD_TEXT, ROUTE, ROW_HASH, SHARD, SLOT
from indexer.spec import CollectionSpec
from indexer.tasks import raised_by_tasks

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

NUMBERED = "_source_"
SLOTS = 1024
"""Slots per shard: the finest grain in which a batch can be spread over tasks."""

SLOT_SHIFT = 16
"""The slot is taken from other bits of the key's hash than the shard."""

WIDTHS_SEEN = 1000

RESULT_SCHEMA = "result string"


def publish(
    batch: ChangeBatch,
    source: Source,
    catalog: Catalog,
    state: CatalogState,
    cache: Path,
    *,
    judge: Callable[[CatalogState, PartResult, SourcePosition], None] = lambda state, result, end: None,
) -> CatalogState:
    """Build ``batch`` and commit it on top of ``state``, whose position must be the batch's start.

    Returns the state as committed. ``judge`` may refuse the result by raising. Raises
    :class:`indexer.errors.ProgressMoved` if another writer moved the catalog's position meanwhile, or replaced what was
    being read; then nothing of the batch is visible. Raises :class:`connectors.errors.HistoryBroken` if the table has
    too many of the keys more than once to read their rows from it, or keeps the batch's end no longer.
    """
    end = SourcePosition(epoch=batch.end.epoch, version=batch.end.version)
    with restarting(catalog, state):
        result = built(batch, source, catalog.store, state, cache)
        judge(state, result, end)
        return commit_batch(catalog, state, result, end=end, committed_at=batch.committed_at, cache=cache)


def built(batch: ChangeBatch, source: Source, store: Store, state: CatalogState, cache: Path) -> PartResult:
    """Return what ``batch`` makes of ``state``, whose position is its start; raises like :func:`publish`."""
    spec = state.spec
    job = BuildJob(
        store=store,
        spec=spec,
        dim=state.dim or spec.vector.dim or usual_width(batch.changes, spec),
        live=state.segments,
        packs=state.packs,
        cache=cache,
        epoch=batch.end.epoch,
        aside=letters_by_key(state.letters, store),
    )
    changes = prepared(batch.changes, spec)
    result = merge_results(list(run_parts(changes, job, doubting=True)))
    if result.ambiguous:
        changes = read_again(changes, batch, source, spec, result.ambiguous_routes())
        result = merge_results(list(run_parts(changes, job, doubting=False)))
    return result


@contextmanager
def restarting(catalog: Catalog, seen: CatalogState) -> Iterator[None]:
    """Raise :class:`indexer.errors.ProgressMoved` for a file of ``seen`` that is gone because the catalog moved on.

    Another writer has merged segments then, and vacuumed the old ones.
    """
    try:
        yield
    except (ObjectNotFound, CommitConflict) as error:
        if catalog.latest() == seen.version:
            raise
        raise ProgressMoved(
            f"{seen.spec.name}: a file of version {seen.version} was removed while it was read, because another writer "
            "replaced it; start anew from the catalog"
        ) from error


def read_again(
    changes: DataFrame, batch: ChangeBatch, source: Source, spec: CollectionSpec, routes: Sequence[int]
) -> DataFrame:
    """Return ``changes`` with the rows that the table has at the batch's end in the place of the upserts of some keys.

    These are the keys with one of ``routes``. Their deletes stay, for those of which the table has nothing any more.
    """
    if len(routes) > MAX_KEYS:
        raise HistoryBroken(
            f"{spec.name}: the changes up to version {batch.end.version} touch {len(routes)} keys that the table has "
            f"more than once, more than the {MAX_KEYS} that are read one by one"
        )
    wanted = F.col(ROUTE).isin(list(routes))
    rows = _narrowed(source.snapshot(batch.end), changes.where(wanted), spec)
    return changes.where(~wanted | (F.col(OP) == DELETE)).unionByName(prepared(rows, spec).where(wanted))


def _narrowed(rows: DataFrame, wanted: DataFrame, spec: CollectionSpec) -> DataFrame:
    """Leave out rows that have no key of the (prepared) ``wanted`` ones, by conditions that a table can skip files by.

    Some others may stay. Only numbers and valid text are the same here as in the table.
    """
    kinds = {field.name: field.dataType for field in rows.schema.fields}
    plain = [name for name in spec.key if isinstance(kinds[name], IntegralType | StringType)]
    numbers = [f"{NUMBERED}{spec.source_columns.index(name)}" for name in plain]
    keys = wanted.select(*numbers, BAD_TEXT).distinct().collect()
    if any(key[BAD_TEXT] for key in keys):
        return rows
    for name, number in zip(plain, numbers, strict=True):
        rows = rows.where(column(name).isin(sorted({key[number] for key in keys})))
    return rows


def usual_width(rows: DataFrame, spec: CollectionSpec) -> int | None:
    """The most common width among the first thousand of the rows' own vectors, which the rest must agree with."""
    if spec.vector.column is None:
        return None
    sizes = rows.select(F.size(column(spec.vector.column)).alias("width"))
    seen = [row.width for row in sizes.where("width > 0").limit(WIDTHS_SEEN).collect()]
    return max(sorted(set(seen)), key=seen.count) if seen else None


def prepared(changes: DataFrame, spec: CollectionSpec) -> DataFrame:
    """Add what building needs and only the JVM computes fast: content hash, UTF-8 check, route, shard and slot.

    The route is a hash of the key, by which Spark finds its rows again. Shard and slot go by the key too or, where the
    spec keeps tenants apart, by the tenant, so that a task has all rows of those that it has any of.

    The source's columns go by number, because Spark resolves the names of a function's input anew, dots and backticks
    and all; :func:`named` gives them their names again.
    """
    names = spec.source_columns
    kinds = {field.name: field.dataType for field in changes.schema.fields}
    strings = [name for name in names if isinstance(kinds[name], StringType)]
    bad = reduce(Column.__or__, (_is_broken(name) for name in strings), F.lit(False))
    hashed = [part for name in names for part in (F.isnull(column(name)), column(name))]
    routed = F.xxhash64(*(_canonical(name, kinds[name]) for name in spec.key))
    placed = F.xxhash64(_canonical(spec.tenant, kinds[spec.tenant])) if spec.tenant else routed
    return changes.select(
        *(
            (F.make_valid_utf8(column(name)) if name in strings else column(name)).alias(f"{NUMBERED}{at}")
            for at, name in enumerate(names)
        ),
        OP,
        F.col(VERSION).cast("long").alias(VERSION),
        COMMITTED_AT,
        F.concat(_bytes(F.xxhash64(*hashed)), _bytes(F.xxhash64(F.lit(1), *hashed))).alias(ROW_HASH),
        bad.alias(BAD_TEXT),
        routed.alias(ROUTE),
        F.pmod(placed, F.lit(spec.shards)).cast("int").alias(SHARD),
        slot_of(placed).alias(SLOT),
    )


def tenant_hash(changes: DataFrame, spec: CollectionSpec) -> Column:
    """Return the hash (long) of the tenant in a :func:`prepared` frame."""
    assert spec.tenant is not None
    name = f"{NUMBERED}{spec.source_columns.index(spec.tenant)}"
    return F.xxhash64(_canonical(name, changes.schema[name].dataType))


def slot_of(hashed: Column) -> Column:
    """Return the slot of rows with this hash (long)."""
    return F.pmod(F.shiftrightunsigned(hashed, SLOT_SHIFT), F.lit(SLOTS)).cast("int")


def named(batches: list[pa.RecordBatch], spec: CollectionSpec) -> pa.Table:
    """Join the batches that a task got of a :func:`prepared` frame, under the source's own names."""
    table = pa.Table.from_batches(batches)
    own = {f"{NUMBERED}{at}": name for at, name in enumerate(spec.source_columns)}
    return table.rename_columns([own.get(name, name) for name in table.column_names])


def _is_broken(name: str) -> Column:
    return F.coalesce(~F.is_valid_utf8(column(name)), F.lit(False))


def _canonical(name: str, kind: DataType) -> Column:
    """A key column as text that is the same for equal values, whatever the session's time zone or the type's width."""
    if isinstance(kind, TimestampType):
        return F.unix_micros(column(name)).cast("string")
    if isinstance(kind, DecimalType) and kind.scale:
        return F.regexp_replace(column(name).cast("string"), r"\.?0+$", "")
    if isinstance(kind, BinaryType):
        return F.hex(column(name))
    return column(name).cast("string")


def _bytes(column: Column) -> Column:
    """A long as its eight bytes."""
    return F.unhex(F.lpad(F.hex(column), 16, "0"))


def run_parts(changes: DataFrame, job: BuildJob, *, doubting: bool) -> Iterator[PartResult]:
    """Build ``changes`` (see :func:`prepared`) in as many tasks as adaptive execution thinks it worth.

    If ``doubting``, a part with ambiguous keys is not built and names them. Raises the
    :class:`indexer.errors.IndexerError` of a task.
    """
    results = changes.repartition(SHARD, SLOT).mapInArrow(_task(job, doubting), RESULT_SCHEMA)
    with raised_by_tasks():
        rows = results.collect()
    for row in rows:
        yield PartResult.model_validate_json(row.result)


def of_shard(job: BuildJob, shard: int) -> BuildJob:
    """Return ``job`` with the segments of one shard alone: a key is in no other."""

    def own(segments: tuple[SegmentRecord, ...]) -> tuple[SegmentRecord, ...]:
        return tuple(segment for segment in segments if segment.shard == shard)

    return dataclasses.replace(job, live=own(job.live), donors=own(job.donors) if job.same_shards else job.donors)


def _task(job: BuildJob, doubting: bool):  # type: ignore[no-untyped-def]
    """Return the function that Spark runs on one partition's record batches."""

    def task(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        held = [batch for batch in batches if batch.num_rows]
        if not held:
            return
        table = named(held, job.spec)
        shards = table[SHARD].to_numpy()
        for shard in np.unique(shards).tolist():
            part = table.filter(pa.array(shards == shard))
            routes = part[ROUTE].to_numpy() if doubting else None
            part = part.drop_columns([ROUTE, SHARD, SLOT])
            result = build_part(part, of_shard(job, shard), shard=shard, routes=routes)
            yield pa.RecordBatch.from_pydict({"result": [result.model_dump_json()]})

    return task
