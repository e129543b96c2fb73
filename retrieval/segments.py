"""One open segment, shared by every snapshot that has it, and a snapshot's view of it.

A segment's files never change, so what is derived from them (the frame that filters run on, the key columns) is
derived once. What a version adds are tombstones: a :class:`SegmentView` is a segment less its tombstoned chunks.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
from pyroaring import BitMap

from indexer.format.records import SegmentRecord
from indexer.format.segment import OpenSegmentFiles
from indexer.format.vectors import Entries
from indexer.spec import CollectionSpec
from retrieval import bitmap
from retrieval.bitmap import Bitmap, Positions
from retrieval.cache import Lease
from retrieval.narrowed import PlainCodes, plain_codes
from retrieval.scores import lists_of_chunks, pointer, raw_faiss

if TYPE_CHECKING:
    from retrieval.passing import Selection

COLUMN_PREFIX = "column."
TEXT_PREFIX = "text."
START_PREFIX = "start."

Key = tuple[Any, ...]

ONE_BY_ONE = 11
"""FAISS' way through the lists that packs a query's table once and not for each list: a sixth quicker for one query."""


class OpenSegment:
    """A segment's files, open for reading; safe to share between threads.

    ``embedded`` is the bitmap of the chunks that have a vector. Closed by :meth:`release`, once for each
    :meth:`retain` and once for the opening.
    """

    def __init__(self, record: SegmentRecord, files: OpenSegmentFiles, lease: Lease) -> None:
        self.record = record
        self.number = record.number
        self.files = files
        self.n = record.n_chunks
        self.chunks: pa.Table = files.chunks()
        self.vectors = files.vectors
        # FAISS reads float32 alone; the pointer saves asking for it on each request.
        self.vectors_at: Any = pointer(self.vectors) if self.vectors.dtype == np.float32 and self.n else None
        self.index = files.index
        self.is_graph = isinstance(self.index, raw_faiss.IndexHNSW)
        if isinstance(self.index, raw_faiss.IndexIVFPQFastScan):
            self.index.implem = ONE_BY_ONE
        self.row_of_chunk = files.row_of_chunk
        self.chunks_per_row = -(-record.n_chunks // max(1, record.n_rows))
        self.one_chunk_rows = record.n_rows == record.n_chunks
        self.embedded: Bitmap = bitmap.pack(self.chunks.column("_embedded").to_numpy(zero_copy_only=False))
        self._polars_columns: dict[str, pl.Series] = {}
        self._readers: dict[str, Callable[[int], Any]] = {}
        self._chunks_with_text: dict[frozenset[str], Bitmap] = {}
        self._lease = lease
        self._holders = 1
        self._lock = threading.Lock()

    def retain(self) -> OpenSegment:
        """Add a holder."""
        with self._lock:
            self._holders += 1
        return self

    def release(self) -> None:
        """Take a holder away; after the last one the cache may evict the files."""
        with self._lock:
            self._holders -= 1
            last = self._holders == 0
        if last:
            self._lease.release()

    def frame(self, schema: Mapping[str, pl.DataType]) -> pl.DataFrame:
        """Return the columns of ``schema``, one row per chunk: what filters run on.

        A column that was added after the segment was written is null in it; one whose type has widened is cast.
        """
        columns = [self._frame_column(name, dtype) for name, dtype in schema.items()]
        return pl.DataFrame(columns)

    def _frame_column(self, name: str, dtype: pl.DataType) -> pl.Series:
        column = self._polars_columns.get(name)
        if column is None:
            if COLUMN_PREFIX + name not in self.chunks.column_names:
                return pl.Series(name, [None], dtype=dtype).new_from_index(0, self.n)
            column = pl.Series(name, self.chunks.column(COLUMN_PREFIX + name))
            self._polars_columns[name] = column
        return column if column.dtype == dtype else column.cast(dtype)

    @cached_property
    def lists_of_chunks(self) -> npt.NDArray[np.int32]:
        """The inverted list of each chunk, ``(n_chunks,) int32``; -1 for chunks outside the index, if there is one."""
        return lists_of_chunks(self.index, self.n)

    @cached_property
    def centroids(self) -> npt.NDArray[np.float32]:
        """The centres of the index's lists, ``(nlist, dim) float32``."""
        index: Any = self.index
        centres: npt.NDArray[np.float32] = index.quantizer.reconstruct_n(0, index.nlist)
        return centres

    @cached_property
    def entries(self) -> Entries:
        """Where searches of a graph begin."""
        return Entries.of(self.vectors)

    @cached_property
    def plain_codes(self) -> PlainCodes | None:
        """The index's codes, laid out plainly to be chosen from; None if it can't be narrowed."""
        return plain_codes(self.index)

    def reader(self, column: str) -> Callable[[int], Any]:
        """Return a function from chunk position to the Python value of a column of the chunk table."""
        reader = self._readers.get(column)
        if reader is None:
            known = column in self.chunks.column_names
            reader = self._readers[column] = _reader(self.chunks.column(column)) if known else _null
        return reader

    def comparable(self, hidden: frozenset[str]) -> Bitmap:
        """Return the chunks that have a vector which says nothing of the text fields ``hidden``."""
        return self.embedded & ~self.chunks_with_text(hidden) if hidden else self.embedded

    def chunks_with_text(self, fields: frozenset[str]) -> Bitmap:
        """Return the chunks that hold text of any of ``fields``."""
        chunks = self._chunks_with_text.get(fields)
        if chunks is None:
            holds = np.zeros(self.n, dtype=np.bool_)
            for name in fields:
                lengths = pc.fill_null(pc.binary_length(self.chunks.column(TEXT_PREFIX + name)), 0)
                holds |= lengths.to_numpy() > 0
            chunks = self._chunks_with_text[fields] = bitmap.pack(holds)
        return chunks

    @cached_property
    def first_chunks(self) -> Positions:
        """The positions of the rows' first chunks, ascending."""
        return np.flatnonzero(np.diff(self.row_of_chunk, prepend=np.uint32(0xFFFFFFFF)) != 0)

    def chunks_of_row(self, position: int) -> range:
        """Return the positions of all chunks of the row that chunk ``position`` belongs to."""
        row = self.row_of_chunk[position]
        first = int(np.searchsorted(self.row_of_chunk, row, side="left"))
        last = int(np.searchsorted(self.row_of_chunk, row, side="right"))
        return range(first, last)


class SegmentView:
    """A segment less its tombstones.

    ``token`` is unique to the view in this process, so that caches may be keyed by it. ``live`` has the chunks that
    count. ``everything`` is the selection without a filter, once a search has needed it. The view takes over one holder
    of the segment; it is closed by :meth:`release`, once for each :meth:`retain` and once for the making.
    """

    _tokens = itertools.count()

    def __init__(self, segment: OpenSegment, tombstones: BitMap | None) -> None:
        self.token = next(self._tokens)
        self.segment = segment
        self.tombstones = tombstones
        self.everything: Selection | None = None
        self._holders = 1
        self._lock = threading.Lock()
        if tombstones:
            gone = bitmap.from_positions(np.asarray(tombstones.to_array()), segment.n)
            self.live: Bitmap = bitmap.invert(gone, segment.n)
        else:
            self.live = bitmap.full(segment.n)
        self.n_live = segment.n - (len(tombstones) if tombstones else 0)

    def retain(self) -> SegmentView:
        """Add a holder, of the view and of its segment."""
        self.segment.retain()
        with self._lock:
            self._holders += 1
        return self

    def release(self) -> bool:
        """Take a holder away, and say whether it was the last."""
        with self._lock:
            self._holders -= 1
            last = self._holders == 0
        self.segment.release()
        return last

    def same_as(self, tombstones: BitMap | None) -> bool:
        """Say whether a view with ``tombstones`` would be this one."""
        return (self.tombstones or None) == (tombstones or None)


def keys_of(segment: OpenSegment, spec: CollectionSpec, positions: Sequence[int]) -> list[Key]:
    """Return the key of each chunk's row, as a tuple in spec order."""
    readers = [segment.reader(COLUMN_PREFIX + name) for name in spec.key]
    if len(readers) == 1:
        read = readers[0]
        return [(read(position),) for position in positions]
    return list(zip(*([read(position) for position in positions] for read in readers), strict=True))


def keys_at(
    views: Sequence[SegmentView], spec: CollectionSpec, places: Sequence[int], positions: Sequence[int]
) -> list[Key]:
    """Return the key of each chunk's row, whichever of the snapshot's segments it is in."""
    if len(set(places)) == 1:
        return keys_of(views[places[0]].segment, spec, positions)
    keys: list[Key] = [()] * len(places)
    for place in set(places):
        mine = [index for index, other in enumerate(places) if other == place]
        found = keys_of(views[place].segment, spec, [positions[index] for index in mine])
        for index, key in zip(mine, found, strict=True):
            keys[index] = key
    return keys


def _reader(column: pa.ChunkedArray) -> Callable[[int], Any]:
    """Return the fastest way to single values: numpy's for plain numbers, Arrow's for the rest."""
    array = column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)
    if isinstance(array, pa.ChunkedArray):
        array = array.chunk(0) if array.num_chunks else pa.array([], type=column.type)
    if (pa.types.is_integer(array.type) or pa.types.is_floating(array.type)) and not array.null_count:
        item: Callable[[int], Any] = array.to_numpy(zero_copy_only=True).item
        return item
    return lambda position: array[position].as_py()


def _null(position: int) -> None:
    """Read a column that was added after the segment was written."""
