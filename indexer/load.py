"""Reading a whole table at one position, in parts, each of which is built once: the first load.

A load is planned once and its plan kept in the store, so that a load that was interrupted goes on where it stopped:
at the same source position, skipping the parts whose results are there. One commit makes all of it visible.
"""

from __future__ import annotations

import json
import math
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Set
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from pydantic import ValidationError
from pyspark import TaskContext
from pyspark.errors import PySparkException
from pyspark.sql import functions as F  # noqa: N812

from connectors.contract import Position, Source
from connectors.errors import HistoryExpired
from connectors.session import giving_way
from indexer.build import BuildJob, PartResult, build_part, merge_results
from indexer.catalog import Catalog, CatalogState, SourcePosition
from indexer.commit import after_load, commit_load
from indexer.errors import BuildError, ObjectNotFound, ProgressMoved
from indexer.format.records import SegmentRecord
from indexer.format.store import Store
from indexer.load_plan import BEGUN, PLAN, LoadPlan, compares_with, forget, loads_of
from indexer.lookup import NO_KEYS
from indexer.netting import PART, ROUTE, SHARD, SLOT
from indexer.publish import (
    RESULT_SCHEMA,
    named,
    of_shard,
    prepared,
    slot_of,
    tenant_hash,
    usual_width,
)
from indexer.spec import CollectionSpec
from indexer.tasks import raised_by_tasks

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame
    from pyspark.sql.types import StructType

ROWS_PER_PART = 100_000
"""Rows that one task holds in memory: some 300 MB with 384-d vectors and short texts."""
ROWS_WORTH_A_TASK = 1_000
"""Below this a second task costs more than it saves."""
PROGRESS_SECONDS = 1.0
LOST_FILE = ("FAILED_READ_FILE", "FILE_NOT_EXIST", "FileNotFoundException", "connectors.errors.HistoryExpired")
"""How Spark says that VACUUM took a data file of the version that is being read, or that it is too old."""

Progress = Callable[[str, int, int | None], None]
"""``progress(stage, done, total)`` in rows, called from the driver about once a second."""


def load(
    source: Source,
    catalog: Catalog,
    state: CatalogState,
    spec: CollectionSpec,
    cache: Path,
    progress: Progress | None = None,
) -> CatalogState:
    """Return the collection with every row of ``source``, in the place of what ``state`` holds; nothing is committed.

    ``spec`` is the catalog's own, or the one that a rebuild swaps in; then texts that did not change keep their vectors
    (:func:`donors_of`). What was built is kept for the next time until :func:`finish`.
    """
    loads = loads_of(catalog.store)
    plan = unfinished(loads, spec, state, source.head().position.epoch) or new_plan(source, spec, loads)
    types = column_types(spec, source.schema())
    job = BuildJob(
        store=catalog.store,
        spec=spec,
        dim=plan.dim,
        live=(),
        cache=cache,
        epoch=plan.position.epoch,
        replaces=True,
        donors=donors_of(state, spec, types),
        same_shards=state.spec.placing == spec.placing,
    )
    result = result_of(source, plan, job, loads, progress)
    return after_load(state, result, spec, end=plan.position, committed_at=plan.committed_at, types=types)


def finish(catalog: Catalog, seen: CatalogState, new: CatalogState, gone: np.ndarray = NO_KEYS) -> CatalogState:
    """Commit ``new`` in the place of ``seen`` as :func:`indexer.commit.commit_load` does, and forget its load.

    Raises :class:`indexer.errors.ProgressMoved` if another load or an apply came between.
    """
    loads = loads_of(catalog.store)
    if not any(name.endswith(PLAN) for name in loads.list("")):
        raise ProgressMoved(f"{new.spec.name}: the load was forgotten, because another was asked for; start anew")
    committed = commit_load(catalog, seen, new, gone)
    forget(loads)
    return committed


def donors_of(state: CatalogState, spec: CollectionSpec, types: Mapping[str, str]) -> tuple[SegmentRecord, ...]:
    """Return the segments of ``state`` whose vectors are those that ``spec`` wants of the same texts.

    None where nothing asks for another index, neither the spec nor the columns' ``types``: who has that built again
    wants new vectors, of a model whose files are others by now.
    """
    before = state.spec
    if (before.key, before.vector) != (spec.key, spec.vector) or spec.vector.model is None:
        return ()
    known = {name: kind for name, kind in state.types.items() if name in types}
    as_before = (before.source.rows, before.fingerprint, before.stored_columns, known)
    return () if as_before == (spec.source.rows, spec.fingerprint, spec.stored_columns, types) else state.segments


def column_types(spec: CollectionSpec, schema: StructType) -> dict[str, str]:
    """Return the types of the columns that the spec names, as Spark writes them."""
    types = {field.name: field.dataType.simpleString() for field in schema.fields}
    return {name: types[name] for name in spec.source_columns if name in types}


def result_of(source: Source, plan: LoadPlan, job: BuildJob, loads: Store, progress: Progress | None) -> PartResult:
    """Return the sum of all parts."""
    area = loads.child(plan.id)
    try:
        rows = source.snapshot(Position(plan.position.epoch, plan.position.version))
        return merge_results(_built(rows, plan, job, area, progress))
    except (HistoryExpired, PySparkException) as error:
        if not isinstance(error, HistoryExpired) and not any(sign in str(error) for sign in LOST_FILE):
            raise
        forget(area)
        raise HistoryExpired(
            f"{job.spec.name}: version {plan.position.version}, which the interrupted load was reading, is no longer "
            "kept by the table; sync again, and a load of the newest version begins"
        ) from error


def unfinished(
    loads: Store, spec: CollectionSpec, state: CatalogState, epoch: str, catalog: Catalog | None = None
) -> LoadPlan | None:
    """Return the plan of a load (with ``catalog``, of a resync) that was interrupted, if it still fits."""
    for name in sorted(loads.list("")):
        if name.endswith(PLAN):
            with suppress(ObjectNotFound, ValidationError):
                plan = LoadPlan.model_validate_json(loads.get(name))
                if plan.fits(spec, epoch) and compares_with(plan, state, catalog):
                    return plan
    return None


@raised_by_tasks()
def new_plan(source: Source, spec: CollectionSpec, loads: Store, compares: CatalogState | None = None) -> LoadPlan:
    """Plan a load (of a resync with what it ``compares`` with) at the source's head, and forget all others."""
    head, area = source.head(), uuid.uuid4().hex
    forget(loads)
    position = SourcePosition(epoch=head.position.epoch, version=head.position.version)
    loads.put(f"{area}{BEGUN}", position.model_dump_json().encode())
    rows = source.snapshot(head.position)
    count = rows.count()
    largest, large = skew(rows, spec) if spec.tenant else (math.ceil(count / spec.shards), {})
    plan = LoadPlan(
        id=area,
        position=position,
        committed_at=head.committed_at,
        source=spec.source,
        fingerprint=spec.fingerprint,
        stored_columns=spec.stored_columns,
        rows=count,
        parts=_parts(count, largest, spec.shards, rows.sparkSession.sparkContext.defaultParallelism),
        dim=spec.vector.dim or usual_width(rows, spec),
        compares=compares.version if compares else None,
        large=large,
    )
    loads.put(f"{plan.id}{PLAN}", plan.model_dump_json().encode())
    return plan


def _part(plan: LoadPlan, tenant: Column | None) -> Column:
    """Return the part that a prepared row belongs to: by its slot and, of a large ``tenant``, by its piece too."""
    slot = F.col(SLOT)
    if tenant is not None and plan.large:
        pieces = F.element_at(F.create_map(*(F.lit(each) for pair in plan.large.items() for each in pair)), tenant)
        slot = slot + F.coalesce(F.pmod(slot_of(F.col(ROUTE)), pieces), F.lit(0))
    return (F.col(SHARD) * F.lit(plan.parts) + F.pmod(slot, F.lit(plan.parts))).cast("int")


def _parts(rows: int, largest: int, shards: int, cores: int) -> int:
    """Parts per shard: enough to bound a task's memory, and to use the cores where that is worth it.

    ``largest`` is how many of the ``rows`` are of one shard, at most.
    """
    needed = math.ceil(largest / ROWS_PER_PART)
    useful = min(cores, math.ceil(rows / ROWS_WORTH_A_TASK)) / shards
    return max(1, needed, math.ceil(useful))


def skew(rows: DataFrame, spec: CollectionSpec) -> tuple[int, dict[int, int]]:
    """Return how many rows the largest shard has, and in how many pieces to cut each tenant that is too large."""
    parted = prepared(rows, spec)
    shards = [row["count"] for row in parted.groupBy(SHARD).count().collect()]
    counts = parted.groupBy(tenant_hash(parted, spec).alias("tenant")).count().where(F.col("count") > ROWS_PER_PART)
    large = {row["tenant"]: math.ceil(row["count"] / ROWS_PER_PART) for row in counts.collect()}
    return max(shards, default=0), large


def _built(rows: DataFrame, plan: LoadPlan, job: BuildJob, area: Store, progress: Progress | None) -> list[PartResult]:
    """Return the results of all parts, building those that are missing."""
    total = plan.total(job.spec)
    done = _finished(area)
    missing = frozenset(range(total)) - done.keys()
    if missing:
        parted = prepared(rows, job.spec)
        parted = parted.withColumn(PART, _part(plan, tenant_hash(parted, job.spec) if job.spec.tenant else None))
        if done:
            parted = parted.where(F.col(PART).isin(sorted(missing)))
        tasks = parted.repartitionById(total, F.col(PART)).mapInArrow(_task(job, area, plan, missing), RESULT_SCHEMA)
        first = "building" if job.spec.vector.column else "embedding"
        with _reporting(area, plan, progress, first), raised_by_tasks(), giving_way(rows.sparkSession):
            tasks.collect()
        done = _finished(area)
    if done.keys() != set(range(total)):
        raise ProgressMoved(f"{job.spec.name}: another load of the collection ended while this one ran; start anew")
    return list(done.values())


def _finished(area: Store) -> dict[int, PartResult]:
    """The results that are in the store, by part."""
    names = [name for name in area.list("") if name.startswith("part-")]
    return {
        int(name.removeprefix("part-").removesuffix(".json")): PartResult.model_validate_json(area.get(name))
        for name in names
    }


def _task(job: BuildJob, area: Store, plan: LoadPlan, missing: Set[int]):  # type: ignore[no-untyped-def]
    """Return the function that builds one part in a Spark task and keeps its result, empty or not, in the store."""

    def task(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        context = TaskContext.get()
        assert context is not None
        part = context.partitionId()
        held = [batch for batch in batches if batch.num_rows]
        if part not in missing:
            return
        result = PartResult()
        if held:
            table = named(held, job.spec)
            if not np.array_equal(np.unique(table[PART].to_numpy()), [part]):
                raise BuildError("a task got rows of another part; the shuffle did not keep them apart")
            table = table.drop_columns([ROUTE, SHARD, SLOT, PART])
            shard = part // plan.parts
            result = build_part(table, of_shard(job, shard), shard=shard, progress=_teller(area, part))
        area.put(f"part-{part}.json", result.model_dump_json().encode())
        yield pa.RecordBatch.from_pydict({"result": [str(part)]})

    return task


def _teller(area: Store, part: int) -> Callable[[str, int, int], None]:
    """Return a progress function for a task, which leaves a note in the store at most once a second."""
    last = 0.0

    def tell(stage: str, done: int, total: int) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= PROGRESS_SECONDS or done == total:
            last = now
            note = {"stage": stage, "done": done, "total": total}
            area.put(f"note-{part}-{stage}.json", json.dumps(note).encode())

    return tell


class _reporting:  # noqa: N801 - reads as the statement it is
    """While open, gathers the tasks' notes once a second and reports their sums, stage by stage.

    The ``first`` stage is told at once: a task has nothing to note until it has loaded its model.
    """

    def __init__(self, area: Store, plan: LoadPlan, progress: Progress | None, first: str) -> None:
        self._area, self._plan, self._progress, self._first = area, plan, progress, first
        self._open = progress is not None
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="grebe-progress")

    def __enter__(self) -> None:
        if self._progress:
            self._progress(self._first, 0, self._plan.rows)
            self._pool.submit(self._run)

    def __exit__(self, *exc: object) -> None:
        self._open = False
        self._pool.shutdown()
        if self._progress and exc[0] is None:
            self._progress("loaded", self._plan.rows, self._plan.rows)

    def _run(self) -> None:
        while self._open:
            self._report()
            time.sleep(PROGRESS_SECONDS)

    def _report(self) -> None:
        sums: dict[str, tuple[int, int]] = {}
        for name in self._area.list(""):
            if "note-" not in name:
                continue
            note = json.loads(self._area.get(name))
            done, total = sums.get(note["stage"], (0, 0))
            sums[note["stage"]] = (done + note["done"], total + note["total"])
        for stage, (done, total) in sums.items():
            assert self._progress is not None
            self._progress(stage, done, max(total, self._plan.rows))
