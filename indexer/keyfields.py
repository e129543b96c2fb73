"""The types of a collection's key columns, without which the text of a key has no hash.

The catalog notes them at a load; for a collection that was loaded before it did, a segment's own rows tell.
"""

from __future__ import annotations

import io
import re
import tarfile
from collections.abc import Iterable, Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from indexer.errors import CatalogError
from indexer.format.keys import key_hashes, parse_key
from indexer.format.pack import PACK_FILE, ROWS_FILE
from indexer.format.records import SegmentRecord
from indexer.format.states import CatalogState
from indexer.format.store import Store

_SPARK_TYPES = {
    "boolean": pa.bool_(),
    "tinyint": pa.int8(),
    "smallint": pa.int16(),
    "int": pa.int32(),
    "bigint": pa.int64(),
    "string": pa.string(),
    "varchar": pa.string(),
    "char": pa.string(),
    "date": pa.date32(),
    "timestamp": pa.timestamp("us", tz="UTC"),
    "timestamp_ntz": pa.timestamp("us"),
    "binary": pa.binary(),
}


def key_fields(store: Store, states: Iterable[CatalogState]) -> list[pa.Field]:
    """Return the key's columns with their Arrow types, from the first of ``states`` that knows them.

    Raises :class:`indexer.errors.CatalogError` if none does, because nothing was ever loaded.
    """
    name = ""
    for state in states:
        name = state.spec.name
        types = [arrow_type(state.types.get(column, "")) for column in state.spec.key]
        if all(kind is not None for kind in types):
            return [pa.field(*pair) for pair in zip(state.spec.key, types, strict=True)]
        if state.segments:
            schema = _rows_schema(store, min(state.segments, key=lambda segment: segment.size_bytes))
            return [pa.field(column, schema.field(f"column.{column}").type) for column in state.spec.key]
    raise CatalogError(
        f"the types of the key of '{name}' are not known, because no kept version holds a row; `grebe sync` loads some"
    )


def arrow_type(spark_type: str) -> pa.DataType | None:
    """Return the Arrow type of a key column that Spark calls ``spark_type``; None if no key has such a type.

    >>> arrow_type("decimal(10,2)"), arrow_type("varchar(3)"), arrow_type("map<int,int>")
    (Decimal128Type(decimal128(10, 2)), DataType(string), None)
    """
    if match := re.fullmatch(r"decimal\((\d+),\s*(-?\d+)\)", spark_type):
        return pa.decimal128(int(match[1]), int(match[2]))
    return _SPARK_TYPES.get(re.sub(r"\(\d+\)$", "", spark_type))


def hash_key(text: str, fields: Sequence[pa.Field]) -> bytes:
    """Return the hash of the key that ``text`` writes as a URL does; raises ``ValueError`` for one that is none."""
    values = parse_key(text, fields)
    try:
        columns = {field.name: pa.array([value], field.type) for field, value in zip(fields, values, strict=True)}
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError) as error:
        raise ValueError(f"the key {text!r} is not of the collection's types: {error}") from error
    return key_hashes(pa.table(columns), [field.name for field in fields]).tobytes()


def _rows_schema(store: Store, segment: SegmentRecord) -> pa.Schema:
    packed = next((file for file in segment.files if file.path.endswith(f"/{PACK_FILE}")), None)
    if packed is None:
        rows = store.read(next(file for file in segment.files if file.path.endswith(f"/{ROWS_FILE}")))
        return pq.read_schema(io.BytesIO(rows))
    with tarfile.open(fileobj=io.BytesIO(store.read(packed))) as archive:
        member = archive.extractfile(ROWS_FILE)
        assert member is not None
        return pq.read_schema(io.BytesIO(member.read()))
