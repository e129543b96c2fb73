"""A session without Spark: frames are Arrow tables, and what would be tasks runs here, one part after another.

With :func:`local_tasks` a whole sync of a :class:`connectors.memory_source.MemorySource` takes milliseconds. Replaced
is what publishing and loading have of Spark, and nothing else: hashing and routing rows, and running tasks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from hashlib import blake2b
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from pyspark.sql.pandas.types import to_arrow_schema
from pyspark.sql.types import StructType

from connectors.contract import DELETE, OP, ChangeBatch, Position, Source
from connectors.errors import HistoryExpired
from indexer.build import BuildJob, PartResult, build_part, merge_results
from indexer.format.store import Store
from indexer.load import Progress
from indexer.load_plan import LoadPlan, forget
from indexer.netting import BAD_TEXT, ROUTE, ROW_HASH, SHARD
from indexer.publish import of_shard
from indexer.spec import CollectionSpec


class LocalSession:
    """Makes frames; has what a load's plan asks of a session."""

    sparkContext = SimpleNamespace(defaultParallelism=1)  # noqa: N815 - Spark's name

    def createDataFrame(self, rows: Sequence[Sequence[Any]], schema: StructType) -> LocalFrame:  # noqa: N802
        """Return the frame of ``rows``."""
        columns = zip(*rows, strict=True) if rows else ([] for _ in schema.names)
        arrow = to_arrow_schema(schema, timezone="UTC")
        arrays = [pa.array(list(column), field.type) for column, field in zip(columns, arrow, strict=True)]
        return LocalFrame(self, schema, pa.table(arrays, schema=arrow))


class LocalFrame:
    """The part of a DataFrame that reading a source takes; ``table`` are its rows."""

    def __init__(self, session: LocalSession, schema: StructType, table: pa.Table) -> None:
        self.sparkSession, self.schema, self.table = session, schema, table

    def select(self, *names: str) -> LocalFrame:
        """Return the frame with the columns of ``names`` alone, in their order."""
        schema = StructType([self.schema[name] for name in names])
        return LocalFrame(self.sparkSession, schema, self.table.select(list(names)))

    def where(self, condition: str) -> LocalFrame:
        """Return the rows that fulfil ``_version <= n`` or ``_version > n``, which is all that a condition can be."""
        name, sign, number = condition.split()
        compare = {"<=": pc.less_equal, ">": pc.greater}[sign]
        return LocalFrame(self.sparkSession, self.schema, self.table.filter(compare(self.table[name], int(number))))

    def union(self, other: LocalFrame) -> LocalFrame:
        """Return the rows of both."""
        return LocalFrame(self.sparkSession, self.schema, pa.concat_tables([self.table, other.table]))

    def count(self) -> int:
        """Return how many rows there are."""
        return len(self.table)


def local_tasks(patch: pytest.MonkeyPatch) -> None:
    """Run the parts of batches and loads here, from frames of a :class:`LocalSession`."""
    patch.setattr("indexer.publish.prepared", prepared)
    patch.setattr("indexer.publish.run_parts", run_parts)
    patch.setattr("indexer.publish.read_again", read_again)
    patch.setattr("indexer.load.skew", lambda rows, _: (rows.count(), {}))
    patch.setattr("indexer.load.result_of", result_of)
    patch.setattr("indexer.resync.result_of", result_of)


def prepared(changes: LocalFrame, spec: CollectionSpec) -> pa.Table:
    """As :func:`indexer.publish.prepared`: with content hashes, routes and shards."""
    rows = changes.table.select([*spec.source_columns, *changes.table.column_names[-3:]])
    content = rows.select(list(spec.source_columns)).to_pylist()
    hashes = [blake2b(repr(row).encode(), digest_size=16).digest() for row in content]
    routes = _hashed(content, spec.key)
    places = _hashed(content, [spec.tenant]) if spec.tenant else routes
    rows = rows.append_column(ROW_HASH, pa.array(hashes, pa.binary()))
    rows = rows.append_column(BAD_TEXT, pa.array([False] * len(rows), pa.bool_()))
    rows = rows.append_column(ROUTE, pa.array(routes, pa.int64()))
    return rows.append_column(SHARD, pa.array([place % spec.shards for place in places], pa.int32()))


def _hashed(rows: Sequence[dict[str, Any]], names: Sequence[str]) -> list[int]:
    digests = (blake2b(repr([row[name] for name in names]).encode(), digest_size=8).digest() for row in rows)
    return [int.from_bytes(digest, signed=True) for digest in digests]


def run_parts(rows: pa.Table, job: BuildJob, *, doubting: bool) -> Iterator[PartResult]:
    """As :func:`indexer.publish.run_parts`: a part for each shard."""
    for shard in sorted(set(rows[SHARD].to_pylist())):
        part, routes = of_part(rows, shard)
        yield build_part(part, of_shard(job, shard), shard=shard, routes=routes if doubting else None)


def read_again(
    rows: pa.Table, batch: ChangeBatch, source: Source, spec: CollectionSpec, routes: Sequence[int]
) -> pa.Table:
    """As :func:`indexer.publish.read_again`: the table's own rows stand for the upserts of keys with these routes."""
    there: Any = source.snapshot(batch.end)
    wanted = pa.array(routes, pa.int64())
    kept = pc.or_(pc.invert(pc.is_in(rows[ROUTE], wanted)), pc.equal(rows[OP], DELETE))
    own = prepared(there, spec)
    return pa.concat_tables([rows.filter(kept), own.filter(pc.is_in(own[ROUTE], wanted))])


def of_part(rows: pa.Table, shard: int) -> tuple[pa.Table, npt.NDArray[np.int64]]:
    """Return the rows of one shard and their routes."""
    part = rows.filter(pc.equal(rows[SHARD], shard))
    return part.drop_columns([ROUTE, SHARD]), part[ROUTE].to_numpy()


def result_of(source: Source, plan: LoadPlan, job: BuildJob, loads: Store, progress: Progress | None) -> PartResult:
    """As :func:`indexer.load.result_of`: a part for each shard, kept in the store, built if it is not there yet."""
    area = loads.child(plan.id)
    try:
        frame: Any = source.snapshot(Position(plan.position.epoch, plan.position.version))
    except HistoryExpired as error:
        forget(area)
        raise HistoryExpired(f"{error}; sync again, and a load of the newest version begins") from error
    rows, parts = prepared(frame, job.spec), []
    for shard in range(plan.total(job.spec)):
        name = f"part-{shard}.json"
        if not area.exists(name):
            part, _ = of_part(rows, shard)
            built = build_part(part, of_shard(job, shard), shard=shard) if len(part) else PartResult()
            area.put(name, built.model_dump_json().encode())
        parts.append(PartResult.model_validate_json(area.get(name)))
    return merge_results(parts)
