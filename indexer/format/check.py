"""What a segment's chunk table and vectors must be before they are written."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from indexer.errors import BuildError
from indexer.format.records import MAX_CHUNKS_PER_SEGMENT
from indexer.spec import CollectionSpec

UNIT_TOLERANCE = 0.01
"""How far a squared length may be from 1 under cosine: float16 rounds by up to a thousandth."""

_HASH = pa.binary(16)
_TYPES = {
    "_row": pa.uint32(),
    "_chunk": pa.uint32(),
    "_key": _HASH,
    "text": pa.string(),
    "start": pa.int64(),
    "_version": pa.int64(),
    "_committed_at": pa.timestamp("us", "UTC"),
    "_hash": _HASH,
    "_row_hash": _HASH,
    "_embedded": pa.bool_(),
}
"""The format's columns by name, those of text fields by what stands before the dot."""

_BLOCK = 65_536


def checked_chunks(chunks: pa.Table, spec: CollectionSpec) -> pa.Table:
    """Return the chunk table with its columns in the format's order and types.

    Raises :class:`indexer.errors.BuildError` that says which promise of the chunk table is broken.
    """
    if not 0 < chunks.num_rows <= MAX_CHUNKS_PER_SEGMENT:
        raise BuildError(f"a segment holds 1 to {MAX_CHUNKS_PER_SEGMENT} chunks, not {chunks.num_rows}")
    schema = _schema(chunks, spec)
    try:
        chunks = chunks.select(schema.names).cast(schema)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, ValueError) as error:
        raise BuildError(f"the chunk table has a column of another type than the format's: {error}") from error
    for name in schema.names:
        if name.startswith("_") and chunks.column(name).null_count:
            raise BuildError(f"column {name!r} of the chunk table has nulls")
    _check_order(chunks)
    return chunks


def chunk_columns(spec: CollectionSpec) -> list[str]:
    """Return the names of the chunk table's columns, in the format's order."""
    stored = [f"column.{name}" for name in spec.stored_columns]
    texts = [f"{part}.{name}" for name in spec.text.fields for part in ("text", "start")]
    return ["_row", "_chunk", "_key", *stored, *texts, "_version", "_committed_at", "_hash", "_row_hash", "_embedded"]


def _schema(chunks: pa.Table, spec: CollectionSpec) -> pa.Schema:
    names = chunk_columns(spec)
    expected, found = set(names), set(chunks.column_names)
    if expected != found or len(expected) != len(chunks.column_names):
        missing, extra = sorted(expected - found), sorted(found - expected)
        raise BuildError(f"the chunk table lacks columns {missing} and has {extra} that don't belong")
    return pa.schema([_field(chunks, name) for name in names])


def _field(chunks: pa.Table, name: str) -> pa.Field:
    """The field of one column: a stored column keeps the source's type, the others have the format's."""
    prefix = name.partition(".")[0]
    return chunks.schema.field(name) if prefix == "column" else pa.field(name, _TYPES[prefix])


def _check_order(chunks: pa.Table) -> None:
    """Rows count from 0 without gaps, and so do the chunks of each row, which share one key and version."""
    row = chunks.column("_row").to_numpy().astype(np.int64)
    chunk = chunks.column("_chunk").to_numpy().astype(np.int64)
    step = np.diff(row)
    if row[0] or not np.isin(step, (0, 1)).all():
        raise BuildError("column '_row' must count the rows from 0, ascending and without gaps")
    first = np.concatenate([[True], step == 1])
    position = np.arange(len(row))
    if not np.array_equal(chunk, position - position[first][row]):
        raise BuildError("column '_chunk' must count each row's chunks from 0")


def check_vectors(
    vectors: npt.NDArray[np.floating], embedded: npt.NDArray[np.bool_], spec: CollectionSpec, dim: int
) -> None:
    """Check ``vectors`` ``(n_chunks, dim)``: their shape, that they are finite and, under cosine, of unit length.

    Raises :class:`indexer.errors.BuildError`.
    """
    if vectors.shape != (len(embedded), dim) or vectors.dtype not in (np.float16, np.float32):
        raise BuildError(
            f"expected {len(embedded)} vectors of {dim} float32 or float16, not {vectors.shape} {vectors.dtype}"
        )
    for start in range(0, len(vectors), _BLOCK):
        block = np.asarray(vectors[start : start + _BLOCK], dtype=np.float32)
        squares = np.einsum("ij,ij->i", block, block, dtype=np.float64)
        if not np.isfinite(squares).all():
            raise BuildError(f"the vector of chunk {start + int(np.argmin(np.isfinite(squares)))} is not finite")
        wrong = embedded[start : start + _BLOCK] & (np.abs(squares - 1) > UNIT_TOLERANCE)
        if spec.vector.metric == "cosine" and wrong.any():
            at = int(np.argmax(wrong))
            raise BuildError(f"the vector of chunk {start + at} has length {squares[at] ** 0.5:.4g}, not 1")
