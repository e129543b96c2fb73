"""Dead-letter files as maintenance sees them: whose rows they hold, by the key's hash.

A file that has no ``key_hash`` column, as the first ones had not, is read by the JSON list in its ``key``.
"""

from __future__ import annotations

import ast
import io
import json
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from indexer.errors import CorruptFile
from indexer.format.keys import key_hashes

KEY_HASH = "key_hash"


def decode_letters(data: bytes, path: str) -> pa.Table:
    """Return the letters of the file at ``path``; raises :class:`indexer.errors.CorruptFile`."""
    try:
        return pq.read_table(io.BytesIO(data))
    except (pa.ArrowInvalid, OSError) as error:
        raise CorruptFile(f"{path}: no letters can be read from it: {error}", path=path) from error


def encode_letters(letters: pa.Table) -> bytes:
    """Return the file of ``letters``."""
    buffer = io.BytesIO()
    pq.write_table(letters, buffer, compression="zstd")
    return buffer.getvalue()


def letter_hashes(letters: pa.Table, fields: Sequence[pa.Field]) -> list[bytes | None]:
    """Return the hash of each letter's key, whose columns are ``fields``; None for a key that is null or unreadable."""
    if KEY_HASH in letters.column_names:
        hashes: list[bytes | None] = letters[KEY_HASH].to_pylist()
        return hashes
    return [_hash(json.loads(key), fields) for key in letters["key"].to_pylist()]


def _hash(values: list[object], fields: Sequence[pa.Field]) -> bytes | None:
    if None in values:
        return None
    try:
        columns = {field.name: _column(value, field.type) for field, value in zip(fields, values, strict=True)}
        return key_hashes(pa.table(columns), [field.name for field in fields]).tobytes()
    except (pa.ArrowException, TypeError, ValueError, OverflowError, SyntaxError):
        return None


def _column(value: object, kind: pa.DataType) -> pa.Array:
    """Dates, times and decimals were written as text, bytes as Python writes them."""
    if isinstance(value, str) and pa.types.is_binary(kind):
        return pa.array([ast.literal_eval(value)], kind)
    as_text = isinstance(value, str) and (pa.types.is_temporal(kind) or pa.types.is_decimal(kind))
    return pa.array([value]).cast(kind) if as_text else pa.array([value], kind)
