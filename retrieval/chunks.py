"""A table of chunks and their vectors, from which rows are read: a segment's, or one of rows that were fetched."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from indexer.format.vectors import Vectors
from indexer.spec import CollectionSpec
from retrieval import bitmap
from retrieval.bitmap import Bitmap, Positions

COLUMN_PREFIX = "column."
TEXT_PREFIX = "text."
START_PREFIX = "start."

Key = tuple[Any, ...]


class Chunks:
    """Chunks by their position, those of one row side by side; safe to share between threads.

    ``table`` has a segment's columns (:mod:`indexer.format.check`), ``vectors`` is ``(n, dim)``, ``row_of_chunk`` each
    chunk's row ordinal, ``(n,) uint32``, ascending. A table that was fetched lacks what nobody will read of it.
    """

    def __init__(self, table: pa.Table, vectors: Vectors, row_of_chunk: npt.NDArray[np.uint32]) -> None:
        self.n: int = table.num_rows
        self.table = table
        self.vectors = vectors
        self.row_of_chunk = row_of_chunk
        self._polars_columns: dict[str, pl.Series] = {}
        self._readers: dict[str, Callable[[int], Any]] = {}
        self._chunks_with_text: dict[frozenset[str], Bitmap] = {}

    def frame(self, schema: Mapping[str, pl.DataType]) -> pl.DataFrame:
        """Return the columns of ``schema``, one row per chunk: what filters run on.

        A column that was added after the segment was written is null in it; one whose type has widened is cast.
        """
        columns = [self._frame_column(name, dtype) for name, dtype in schema.items()]
        return pl.DataFrame(columns)

    def _frame_column(self, name: str, dtype: pl.DataType) -> pl.Series:
        column = self._polars_columns.get(name)
        if column is None:
            if COLUMN_PREFIX + name not in self.table.column_names:
                return pl.Series(name, [None], dtype=dtype).new_from_index(0, self.n)
            column = pl.Series(name, self.table.column(COLUMN_PREFIX + name))
            self._polars_columns[name] = column
        return column if column.dtype == dtype else column.cast(dtype)

    def reader(self, column: str) -> Callable[[int], Any]:
        """Return a function from chunk position to the Python value of a column of the chunk table."""
        reader = self._readers.get(column)
        if reader is None:
            known = column in self.table.column_names
            reader = self._readers[column] = _reader(self.table.column(column)) if known else _null
        return reader

    @cached_property
    def embedded(self) -> Bitmap:
        """The chunks that have a vector."""
        return bitmap.pack(self.table.column("_embedded").to_numpy(zero_copy_only=False))

    def comparable(self, hidden: frozenset[str]) -> Bitmap:
        """Return the chunks that have a vector which says nothing of the text fields ``hidden``."""
        return self.embedded & ~self.chunks_with_text(hidden) if hidden else self.embedded

    def chunks_with_text(self, fields: frozenset[str]) -> Bitmap:
        """Return the chunks that hold text of any of ``fields``."""
        chunks = self._chunks_with_text.get(fields)
        if chunks is None:
            holds = np.zeros(self.n, dtype=np.bool_)
            for name in fields:
                if TEXT_PREFIX + name not in self.table.column_names:
                    continue
                lengths = pc.fill_null(pc.binary_length(self.table.column(TEXT_PREFIX + name)), 0)
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


def keys_of(chunks: Chunks, spec: CollectionSpec, positions: Sequence[int]) -> list[Key]:
    """Return the key of each chunk's row, as a tuple in spec order."""
    readers = [chunks.reader(COLUMN_PREFIX + name) for name in spec.key]
    if len(readers) == 1:
        read = readers[0]
        return [(read(position),) for position in positions]
    return list(zip(*([read(position) for position in positions] for read in readers), strict=True))


def keys_at(
    parts: Sequence[Chunks], spec: CollectionSpec, places: Sequence[int], positions: Sequence[int]
) -> list[Key]:
    """Return the key of each chunk's row, whichever of ``parts`` it is in."""
    columns = []
    for name in spec.key:
        readers = {place: parts[place].reader(COLUMN_PREFIX + name) for place in set(places)}
        columns.append([readers[place](position) for place, position in zip(places, positions, strict=True)])
    return list(zip(*columns, strict=True))


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
