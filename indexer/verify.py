"""Verifying: is what is indexed what the table holds, at the very version that was read last?

Both sides are reduced to a count and a sum of hashes per bucket of key hashes; only rows of buckets that differ are
compared one by one. Rows that cannot be indexed are left out on both sides.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyroaring import BitMap

from connectors.contract import Position, Source
from indexer.catalog import Catalog, CatalogState, SourcePosition
from indexer.errors import CatalogError
from indexer.fit import require_fit
from indexer.format.fetch import fetch_segment
from indexer.format.keys import column_hashes, format_key
from indexer.format.records import SegmentRecord
from indexer.format.segment import read_segment
from indexer.format.store import Store
from indexer.netting import ROW_HASH, SHARD, SLOT, judge
from indexer.publish import named, prepared
from indexer.spec import CollectionSpec
from indexer.tasks import raised_by_tasks

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

T = TypeVar("T")

BUCKETS = 4096
NAMED_KEYS = 1000
"""Keys of each kind of difference that are named; all are counted."""

_MIX = np.array([0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0xD6E8FEB86659FD93], dtype=np.uint64)

Buckets = npt.NDArray[np.uint64]
"""``(2, BUCKETS)``: the number of rows, and the sum of their mixed hashes modulo 2^64."""


@dataclass(frozen=True, kw_only=True)
class Verification:
    """What a comparison of table and index at one source position found.

    ``missing`` keys are in the table alone, ``extra`` ones in the index alone, ``different`` ones have other content;
    each as in a URL, at most ``NAMED_KEYS`` of them, and ``counts`` of all. ``source_rows`` counts all of the table's
    rows, ``set_aside`` those that cannot be indexed, among them ``duplicates``: rows beyond the first of their key.
    """

    name: str
    version: int
    position: SourcePosition
    source_rows: int
    index_rows: int
    set_aside: int
    duplicates: int
    counts: dict[str, int]
    missing: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()
    different: tuple[str, ...] = ()

    @property
    def equal(self) -> bool:
        """Whether the index is the table."""
        return not any(self.counts.values())


@raised_by_tasks()
def verify(source: Source, catalog: Catalog, cache: Path) -> Verification:
    """Compare the newest version with its table. Raises :class:`connectors.errors.HistoryBroken` if that is gone.

    Raises :class:`indexer.errors.CatalogError` before the first load.
    """
    state = catalog.read()
    if state.position is None:
        raise CatalogError(f"'{state.spec.name}' has not been loaded yet: `grebe sync {state.spec.name}` loads it")
    require_fit(state.spec, source, state.types)
    if state.types.keys() != set(state.spec.source_columns):
        raise CatalogError(
            f"'{state.spec.name}' has other columns than when its rows were last compared with the table; "
            f"`grebe sync {state.spec.name} --compare` compares them and puts right what differs"
        )
    rows = source.snapshot(Position(state.position.epoch, state.position.version))
    table = prepared(rows, state.spec).repartition(SHARD, SLOT)
    segments = _Segments(rows, catalog, state, cache)
    theirs, set_aside = _source_buckets(table, state)
    ours = _sum(segments.map(partial(_buckets_of_segment, catalog.store, cache)))
    differing = frozenset(np.flatnonzero((theirs != ours).any(axis=0)).tolist())
    found = _Differences()
    if differing:
        found.compare(
            table.mapInArrow(_rows_task(state.spec, state.dim, differing), _ROWS).collect(),
            segments.map(partial(_rows_of_segment, catalog.store, cache, state.spec, differing)),
        )
    return Verification(
        name=state.spec.name,
        version=state.version,
        position=state.position,
        source_rows=int(theirs[0].sum()) + set_aside,
        index_rows=int(ours[0].sum()),
        set_aside=set_aside + found.duplicates,
        duplicates=found.duplicates,
        counts={name: len(keys) for name, keys in found.named.items()},
        **{name: tuple(sorted(keys)[:NAMED_KEYS]) for name, keys in found.named.items()},
    )


class _Segments:
    """The live segments, each with its tombstones, as work for Spark's tasks."""

    def __init__(self, rows: DataFrame, catalog: Catalog, state: CatalogState, cache: Path) -> None:
        dead = catalog.tombstones(state)
        self._context = rows.sparkSession.sparkContext
        self._work = [(record, dead.get(record.number, BitMap())) for record in state.segments]

    def map(self, task: Callable[[SegmentRecord, BitMap], T]) -> list[T]:
        """Return ``task`` of each segment."""
        if not self._work:
            return []
        return self._context.parallelize(self._work, len(self._work)).map(lambda work: task(*work)).collect()


def _buckets(keys: npt.NDArray[np.uint8], contents: npt.NDArray[np.uint8]) -> Buckets:
    """Reduce rows by key hash and content hash, both ``(n, 16) uint8``."""
    words = np.concatenate([keys, contents], axis=1).view(np.uint64)
    mixed = np.bitwise_xor.reduce((words ^ (words >> np.uint64(31))) * _MIX, axis=1)
    at = _bucket(keys)
    buckets = np.zeros((2, BUCKETS), dtype=np.uint64)
    np.add.at(buckets[0], at, np.uint64(1))
    np.add.at(buckets[1], at, mixed)
    return buckets


def _bucket(keys: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
    return (keys[:, 0].astype(np.int64) << 8 | keys[:, 1]) % BUCKETS


def _sum(parts: Iterable[Buckets]) -> Buckets:
    return sum(parts, start=np.zeros((2, BUCKETS), dtype=np.uint64))


def _source_buckets(table: DataFrame, state: CatalogState) -> tuple[Buckets, int]:
    parts = table.mapInArrow(_buckets_task(state.spec, state.dim), "buckets binary, set_aside long").collect()
    arrays = (np.frombuffer(row.buckets, dtype=np.uint64).reshape(2, BUCKETS) for row in parts)
    return _sum(arrays), sum(row.set_aside for row in parts)


def _buckets_task(spec: CollectionSpec, dim: int | None):  # type: ignore[no-untyped-def]
    def task(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            rows = named([batch], spec)
            judged = judge(rows, spec, dim)
            contents = column_hashes(rows[ROW_HASH])
            found = _buckets(judged.hashes[judged.usable], contents[judged.usable])
            aside = int(np.count_nonzero(judged.verdicts))
            yield pa.RecordBatch.from_pydict({"buckets": [found.tobytes()], "set_aside": [aside]})

    return task


_ROWS = "key_hash binary, row_hash binary, key string"


def _rows_task(spec: CollectionSpec, dim: int | None, buckets: frozenset[int]):  # type: ignore[no-untyped-def]
    def task(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            rows = named([batch], spec)
            judged = judge(rows, spec, dim)
            at = np.flatnonzero(judged.usable & np.isin(_bucket(judged.hashes), list(buckets)))
            keys = rows.select(list(spec.key)).take(pa.array(at))
            yield pa.RecordBatch.from_pydict(
                {
                    "key_hash": pa.array([judged.hashes[i].tobytes() for i in at], pa.binary()),
                    "row_hash": rows[ROW_HASH].take(pa.array(at)).combine_chunks().cast(pa.binary()),
                    "key": pa.array(_names(keys), pa.string()),
                }
            )

    return task


def _names(keys: pa.Table) -> list[str]:
    columns = [column.to_pylist() for column in keys.columns]
    return [format_key(values) for values in zip(*columns, strict=True)]


def _live_rows(store: Store, cache: Path, record: SegmentRecord, dead: BitMap) -> pa.Table:
    """Return the first chunk of each live row."""
    chunks = read_segment(fetch_segment(store, record, cache)).chunks()
    first = np.flatnonzero(chunks["_chunk"].to_numpy() == 0)
    alive = first[~np.isin(first, np.asarray(dead.to_array()))]
    return chunks.take(pa.array(alive))


def _buckets_of_segment(store: Store, cache: Path, record: SegmentRecord, dead: BitMap) -> Buckets:
    rows = _live_rows(store, cache, record, dead)
    return _buckets(column_hashes(rows["_key"]), column_hashes(rows["_row_hash"]))


def _rows_of_segment(
    store: Store, cache: Path, spec: CollectionSpec, buckets: frozenset[int], record: SegmentRecord, dead: BitMap
) -> list[tuple[bytes, bytes, str]]:
    rows = _live_rows(store, cache, record, dead)
    keys = column_hashes(rows["_key"])
    rows = rows.filter(pa.array(np.isin(_bucket(keys), list(buckets))))
    names = _names(rows.select([f"column.{name}" for name in spec.key]))
    return list(zip(rows["_key"].to_pylist(), rows["_row_hash"].to_pylist(), names, strict=True))


class _Differences:
    """The keys that differ, by kind."""

    def __init__(self) -> None:
        self.named: dict[str, list[str]] = {"missing": [], "extra": [], "different": []}
        self.duplicates = 0

    def compare(
        self, theirs: Iterable[tuple[bytes, bytes, str]], ours: Iterable[list[tuple[bytes, bytes, str]]]
    ) -> None:
        """Compare the rows of buckets that differ, the table's and each segment's."""
        table: dict[bytes, tuple[set[bytes], str]] = {}
        for key, content, name in theirs:
            contents, _ = table.setdefault(bytes(key), (set(), name))
            self.duplicates += bool(contents)
            contents.add(bytes(content))
        for key, content, name in (row for rows in ours for row in rows):
            if key not in table:
                self.named["extra"].append(name)
            elif content not in table.pop(key)[0]:
                self.named["different"].append(name)
        self.named["missing"] = [name for _, name in table.values()]
