"""Results as the service sends them: Arrow streams with Snowflake's metadata on each field, or JSON text.

The physical types are those that the connector's converters accept (``CArrowIterator`` in its sources): integers and
decimals unscaled in the narrowest width that holds a result's values (the same in all its chunks: the connector reads
later ones as it read the first), times as a count, timestamps as one count up to
milliseconds and as a struct of seconds and nanoseconds beyond, JSON as indented text, vectors as fixed-size lists.
"""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tests.snowflake.emulator.column import JSON_KINDS, Column
from tests.snowflake.emulator.naming import shown

UTC_OFFSET = 1440
EPOCH_DAY = date(1970, 1, 1)
_WIDTHS = [(8, pa.int8(), "SB1"), (16, pa.int16(), "SB2"), (32, pa.int32(), "SB4"), (64, pa.int64(), "SB8")]


def streams(rows: pa.Table, columns: list[Column], rows_per_chunk: int) -> list[tuple[int, bytes]]:
    """Return a result in chunks, at least one, each its number of rows and an Arrow IPC stream."""
    fields, arrays = [], []
    for place, column in enumerate(columns):
        array, physical = _encoded(rows.column(place), column)
        fields.append(_field(column, array.type, physical))
        arrays.append(array)
    whole = pa.RecordBatch.from_arrays(arrays, schema=pa.schema(fields))
    starts = range(0, max(1, whole.num_rows), rows_per_chunk)
    return [_stream(whole.slice(start, rows_per_chunk)) for start in starts]


def _stream(batch: pa.RecordBatch) -> tuple[int, bytes]:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return batch.num_rows, sink.getvalue().to_pybytes()


def _field(column: Column, arrow: pa.DataType, physical: str) -> pa.Field:
    metadata = {
        "logicalType": column.type.kind,
        "precision": str(column.type.precision),
        "scale": str(column.type.scale),
        "charLength": str(column.type.length if column.type.kind in ("TEXT", "BINARY") else 0),
        "byteLength": str(_byte_length(column)),
        "finalType": "T",
        "physicalType": physical,
    }
    if column.type.kind == "VECTOR":
        metadata["vectorDimension"] = str(column.type.dimension)
    return pa.field(shown(column.name), arrow, nullable=column.nullable, metadata=metadata)


def json_rows(rows: pa.Table, columns: list[Column]) -> list[list[str | None]]:
    """Return rows as the JSON format has them: everything as text."""
    values = [[_text(v, column) for v in rows.column(i).to_pylist()] for i, column in enumerate(columns)]
    return [list(row) for row in zip(*values, strict=True)]


def _byte_length(column: Column) -> int:
    if column.type.kind == "TIMESTAMP_TZ":
        return 8 if column.type.scale <= 3 else 16
    return column.type.length if column.type.kind in ("TEXT", "BINARY") else 0


def _encoded(values: pa.ChunkedArray, column: Column) -> tuple[pa.Array, str]:
    array = values.combine_chunks() if values.num_chunks != 1 else values.chunk(0)
    kind = column.type.kind
    if kind == "FIXED":
        return _fixed(array, column)
    if kind.startswith("TIMESTAMP"):
        return _timestamp(array, column)
    if kind == "TIME":
        ticks = pc.divide(array.cast(pa.time64("us")).cast(pa.int64()), 1)
        return _integers(*_numbers(ticks), factor=1, scale=column.type.scale)
    if kind in JSON_KINDS:
        return pa.array([_json(v) for v in array.to_pylist()], pa.string()), "LOB"
    if kind == "VECTOR":
        element = pa.float32() if column.type.element == "FLOAT" else pa.int32()
        return array.cast(pa.list_(pa.field("", element, False), column.type.dimension)), "VECTOR"
    wanted = {"REAL": pa.float64(), "BOOLEAN": pa.bool_(), "DATE": pa.date32(), "BINARY": pa.binary()}
    return array.cast(wanted.get(kind, pa.string())), {"REAL": "DOUBLE", "DATE": "SB4", "BOOLEAN": "SB1"}.get(
        kind, "LOB"
    )


def _numbers(array: pa.Array) -> tuple[Any, Any]:
    """Return an integer array's values and which of them are null."""
    return array.fill_null(0).to_numpy(zero_copy_only=False), array.is_null().to_numpy(zero_copy_only=False)


def _integers(values: Any, nulls: Any, *, factor: int, scale: int) -> tuple[pa.Array, str]:
    """Times: microseconds to the unit of ``scale``."""
    ticks = values * 10 ** (scale - 6) * factor if scale >= 6 else values * factor // 10 ** (6 - scale)
    return pa.array(ticks, pa.int64(), mask=nulls), "SB8"


def _fixed(array: pa.Array, column: Column) -> tuple[pa.Array, str]:
    decimal = array.cast(pa.decimal128(38, column.type.scale))
    halves = np.frombuffer(decimal.buffers()[1], dtype=np.int64)[
        2 * decimal.offset : 2 * (decimal.offset + len(decimal))
    ]
    nulls = decimal.is_null().to_numpy(zero_copy_only=False)
    low, high = np.where(nulls, 0, halves[0::2]), np.where(nulls, 0, halves[1::2])
    if not np.array_equal(high, low >> 63):
        return decimal, "SB16"
    largest = int(max(low.max(initial=0), -1 - low.min(initial=0)))
    width, physical = next((t, p) for bits, t, p in _WIDTHS if largest < 2 ** (bits - 1))
    return pa.array(low, pa.int64(), mask=nulls).cast(width), physical


def _timestamp(array: pa.Array, column: Column) -> tuple[pa.Array, str]:
    zoned = column.type.kind == "TIMESTAMP_TZ"
    us, nulls = _numbers(array.cast(pa.timestamp("us", getattr(array.type, "tz", None))).cast(pa.int64()))
    mask = pa.array(nulls)
    offsets = pa.array(np.full(len(us), UTC_OFFSET, dtype=np.int32))
    if column.type.scale <= 3:
        count = us // 10 ** (6 - column.type.scale)
        if not zoned:
            return pa.array(count, pa.int64(), mask=nulls), "SB8"
        fields = [pa.field("epoch", pa.int64(), False), pa.field("timezone", pa.int32(), False)]
        return pa.StructArray.from_arrays([pa.array(count), offsets], fields=fields, mask=mask), "SB16"
    step = 10 ** max(0, 6 - column.type.scale)
    seconds, fraction = us // 1_000_000, (us % 1_000_000 // step * step * 1000).astype(np.int32)
    arrays = [pa.array(seconds), pa.array(fraction)]
    fields = [pa.field("epoch", pa.int64(), False), pa.field("fraction", pa.int32(), False)]
    if zoned:
        arrays.append(offsets)
        fields.append(pa.field("timezone", pa.int32(), False))
    return pa.StructArray.from_arrays(arrays, fields=fields, mask=mask), "SB16"


def _json(value: Any) -> str | None:
    """Indented by two and, in objects, ordered by key, as the service prints VARIANT, OBJECT and ARRAY."""
    if value is None:
        return None
    parsed = json.loads(value) if isinstance(value, str) else value
    return json.dumps(parsed, indent=2, sort_keys=True, ensure_ascii=False, default=str)


def _text(value: Any, column: Column) -> str | None:
    if value is None:
        return None
    if column.type.kind in JSON_KINDS:
        return _json(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime):
        since = value.replace(tzinfo=value.tzinfo or UTC) - datetime.fromtimestamp(0, UTC)
        text = f"{since // timedelta(seconds=1)}.{since % timedelta(seconds=1) // timedelta(microseconds=1):06d}000"
        return f"{text} {UTC_OFFSET}" if column.type.kind == "TIMESTAMP_TZ" else text
    if isinstance(value, date):
        return str((value - EPOCH_DAY).days)
    if isinstance(value, time):
        since = timedelta(hours=value.hour, minutes=value.minute, seconds=value.second, microseconds=value.microsecond)
        return f"{since.total_seconds():.9f}"
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, Decimal):
        return f"{value:f}"
    return str(value)
