"""Snowflake's types as Spark's: what each column is selected as, and how a result's Arrow becomes Spark's Arrow."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

import pyarrow as pa
from pyspark.sql.pandas.types import to_arrow_schema
from pyspark.sql.types import (
    ArrayType,
    BinaryType,
    BooleanType,
    DataType,
    DateType,
    DecimalType,
    DoubleType,
    FloatType,
    LongType,
    StringType,
    StructType,
    TimestampNTZType,
    TimestampType,
)

from connectors.errors import SourceError
from connectors.snowflake_sql import JsonPath, literal, quoted

MOST_DIGITS_OF_INT64 = 18
"""The widest NUMBER(p, 0) whose every value is an int64."""

_TYPE = re.compile(r"([A-Z_0-9]+(?: PRECISION| VARYING)?)\s*(?:\((.*)\))?", re.DOTALL)
_NUMBERS = {"NUMBER", "DECIMAL", "DEC", "NUMERIC", "INT", "INTEGER", "BIGINT", "SMALLINT", "TINYINT", "BYTEINT"}
_FLOATS = {"FLOAT", "FLOAT4", "FLOAT8", "DOUBLE", "DOUBLE PRECISION", "REAL"}
_TEXTS = {"VARCHAR", "TEXT", "STRING", "CHAR", "CHARACTER", "NCHAR", "NVARCHAR", "CHAR VARYING"}
_JSON = {"VARIANT", "OBJECT", "ARRAY", "MAP"}


COLUMN = "{}"


@dataclass(frozen=True)
class Kind:
    """What a Snowflake type is in Spark; ``select`` reads a column of it, whose place is ``{}``."""

    spark: DataType
    select: str = COLUMN

    def of(self, column: str) -> str:
        """Return the expression that reads the column of that name."""
        return self.select.replace(COLUMN, quoted(column), 1)


def kind_of(text: str) -> Kind | None:
    """Return what a type as DESCRIBE names it is in Spark, or None for one that Grebe does not read.

    >>> kind_of("NUMBER(18,0)").spark, kind_of("NUMBER(38,0)").spark, kind_of("VECTOR(FLOAT, 3)").spark
    (LongType(), DecimalType(38,0), ArrayType(FloatType(), True))
    """
    found = _TYPE.fullmatch(text.strip().upper())
    if not found:
        return None
    name, inside = found.groups()
    if name in _NUMBERS:
        return Kind(_number(inside))
    if name in _FLOATS:
        return Kind(DoubleType())
    if name in _TEXTS:
        return Kind(StringType())
    if name in _JSON:
        # A structured type (one with parts in parentheses) has to become a VARIANT before it can be written as JSON.
        return Kind(StringType(), "TO_JSON({}::VARIANT)" if inside else "TO_JSON({})")
    if name == "VECTOR":
        return Kind(ArrayType(FloatType()))
    simple = {
        "BOOLEAN": Kind(BooleanType()),
        "DATE": Kind(DateType()),
        "TIME": Kind(StringType(), "TO_VARCHAR({})"),
        "TIMESTAMP_NTZ": Kind(TimestampNTZType()),
        "DATETIME": Kind(TimestampNTZType()),
        "TIMESTAMP_LTZ": Kind(TimestampType()),
        "TIMESTAMP_TZ": Kind(TimestampType()),
        "BINARY": Kind(BinaryType()),
        "VARBINARY": Kind(BinaryType()),
    }
    return simple.get(name)


def _number(inside: str | None) -> DataType:
    digits, scale = ([int(part) for part in inside.split(",")] + [0])[:2] if inside else (38, 0)
    return LongType() if scale == 0 and digits <= MOST_DIGITS_OF_INT64 else DecimalType(digits, scale)


def path_kind(path: JsonPath) -> Kind | None:
    """Return what the value at ``path`` is, or None for a type that no path is read as.

    A value that is not of the wanted type is NULL, so that one row does not stop a sync.
    """
    kind = kind_of(path.type)
    if kind is None or kind.select != COLUMN or isinstance(kind.spark, ArrayType | BinaryType):
        return None
    text = f"GET_PATH({COLUMN}, {literal(path.path)})::VARCHAR"
    return Kind(kind.spark, text if isinstance(kind.spark, StringType) else f"TRY_CAST({text} AS {path.type})")


def spark_batches(table: pa.Table, schema: StructType) -> list[pa.RecordBatch]:
    """Return a result's rows with exactly the Arrow types that Spark wants of ``schema``; columns go by position.

    Times are cut to microseconds, which is Spark's precision. Raises :class:`SourceError` naming the column when a
    value does not fit.
    """
    wanted = to_arrow_schema(schema, timezone="UTC")
    columns = []
    for field, column in zip(wanted, table.columns, strict=True):
        try:
            columns.append(_cast(column, field.type))
        except (pa.ArrowException, ValueError, TypeError) as error:
            came, name = column.type, field.name
            raise SourceError(f"column {name!r} came as {came} and cannot be read as {field.type}: {error}") from error
    batches: list[pa.RecordBatch] = pa.Table.from_arrays(columns, schema=wanted).to_batches()
    return batches


def _cast(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    came = column.type
    if came == kind:
        return column
    if pa.types.is_list(kind) and (pa.types.is_string(came) or pa.types.is_binary(came)):
        values = [None if text is None else json.loads(text) for text in column.to_pylist()]
        return pa.chunked_array([pa.array(values, type=kind)])
    if pa.types.is_timestamp(kind) and pa.types.is_timestamp(came):
        if kind.tz and not came.tz:
            column = column.cast(pa.timestamp(came.unit, "UTC"), safe=False)  # the session's zone is UTC
        return column.cast(kind, safe=False)
    return column.cast(kind)
