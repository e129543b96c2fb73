"""The types that a filter reckons with, and how they meet.

Every column is read as one of few kinds: whole numbers (64 bit), decimals (up to 38 digits), doubles, strings,
booleans, dates, timestamps (microseconds, UTC; one without a zone is taken as UTC), binary, and arrays of these.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

import polars as pl
import pyarrow as pa
from polars.datatypes import DataTypeClass

MAX_DECIMAL_DIGITS = 38
"""Digits of the widest decimal, in Spark, Snowflake, DuckDB and polars alike."""

INTEGER_DIGITS = 19
"""Digits of the largest 64-bit integer."""


class Kind(StrEnum):
    """What sort of value an expression gives; the text is how messages name it."""

    NULL = "NULL"
    BOOLEAN = "BOOLEAN"
    INTEGER = "BIGINT"
    DECIMAL = "DECIMAL"
    FLOAT = "DOUBLE"
    STRING = "STRING"
    BINARY = "BINARY"
    DATE = "DATE"
    TIMESTAMP = "TIMESTAMP"
    INTERVAL = "INTERVAL"
    ARRAY = "ARRAY"


@dataclass(frozen=True, slots=True)
class SqlType:
    """A type; decimals have digits before (`whole`) and after the point (`scale`), arrays an element."""

    kind: Kind
    whole: int = 0
    scale: int = 0
    element: SqlType | None = None

    def __str__(self) -> str:
        if self.kind is Kind.DECIMAL:
            return f"DECIMAL({self.whole + self.scale}, {self.scale})"
        if self.kind is Kind.ARRAY:
            return f"ARRAY<{self.element}>"
        return self.kind.value

    @property
    def is_numeric(self) -> bool:
        """Whole number, decimal or double."""
        return self.kind in (Kind.INTEGER, Kind.DECIMAL, Kind.FLOAT)

    @property
    def is_temporal(self) -> bool:
        """Date or timestamp."""
        return self.kind in (Kind.DATE, Kind.TIMESTAMP)


NULL = SqlType(Kind.NULL)
BOOLEAN = SqlType(Kind.BOOLEAN)
INTEGER = SqlType(Kind.INTEGER)
FLOAT = SqlType(Kind.FLOAT)
STRING = SqlType(Kind.STRING)
BINARY = SqlType(Kind.BINARY)
DATE = SqlType(Kind.DATE)
TIMESTAMP = SqlType(Kind.TIMESTAMP)
INTERVAL = SqlType(Kind.INTERVAL)


def decimal(whole: int, scale: int) -> SqlType:
    """Return the decimal type with that many digits before and after the point, or DOUBLE where 38 are not enough."""
    return SqlType(Kind.DECIMAL, whole, scale) if whole + scale <= MAX_DECIMAL_DIGITS else FLOAT


def capped_decimal(whole: int, scale: int) -> SqlType:
    """Return that decimal type, with fewer digits before the point where 38 are not enough: what needs more overflows.

    >>> str(capped_decimal(29, 2)), str(capped_decimal(39, 2))
    ('DECIMAL(31, 2)', 'DECIMAL(38, 2)')
    """
    return SqlType(Kind.DECIMAL, min(whole, MAX_DECIMAL_DIGITS - scale), scale)


def array(element: SqlType) -> SqlType:
    """Return the type of arrays of that element."""
    return SqlType(Kind.ARRAY, element=element)


def unify(left: SqlType, right: SqlType) -> SqlType | None:
    """Return the type in which two values can be compared without loss, or None where they can't.

    A whole number or decimal meets a double as a double, as in all four dialects; a decimal meets a wider one as
    the type that holds both, or as a double when 38 digits don't.
    """
    if left == right or right.kind is Kind.NULL:
        return left
    if left.kind is Kind.NULL:
        return right
    if left.is_numeric and right.is_numeric:
        if Kind.FLOAT in (left.kind, right.kind):
            return FLOAT
        a, b = as_decimal(left), as_decimal(right)
        return decimal(max(a.whole, b.whole), max(a.scale, b.scale))
    if left.is_temporal and right.is_temporal:
        return TIMESTAMP
    return None


def as_decimal(kind: SqlType) -> SqlType:
    """Return the decimal type that holds a whole number or decimal."""
    return decimal(INTEGER_DIGITS, 0) if kind.kind is Kind.INTEGER else kind


_WORKING: dict[Kind, pl.DataType] = {
    Kind.NULL: pl.Null(),
    Kind.BOOLEAN: pl.Boolean(),
    Kind.INTEGER: pl.Int64(),
    Kind.FLOAT: pl.Float64(),
    Kind.STRING: pl.String(),
    Kind.BINARY: pl.Binary(),
    Kind.DATE: pl.Date(),
    Kind.TIMESTAMP: pl.Datetime("us"),
}


def working_dtype(kind: SqlType) -> pl.DataType:
    """Return the polars type in which values of a type are reckoned."""
    if kind.kind is Kind.DECIMAL:
        return pl.Decimal(MAX_DECIMAL_DIGITS, kind.scale)
    if kind.kind is Kind.ARRAY:
        return pl.List(working_dtype(kind.element or NULL))
    return _WORKING[kind.kind]


def type_name(dtype: pl.DataType) -> str:
    """Return how answers name the type of a column: as SQL does, or as polars does what a filter cannot read.

    >>> type_name(pl.Int32()), type_name(pl.Datetime("us")), type_name(pl.Time())
    ('BIGINT', 'TIMESTAMP', 'Time')
    """
    return str(type_of_column(dtype) or dtype)


def type_of_column(dtype: pl.DataType) -> SqlType | None:
    """Return the type under which a column is read, or None when a filter can't read it (structs, maps, times)."""
    if isinstance(dtype, pl.List | pl.Array):
        element = type_of_column(_instance(dtype.inner))
        return array(element) if element and element.kind is not Kind.ARRAY else None
    if isinstance(dtype, pl.Decimal):
        return SqlType(Kind.DECIMAL, (dtype.precision or MAX_DECIMAL_DIGITS) - dtype.scale, dtype.scale)
    for classes, kind in _COLUMNS:
        if isinstance(dtype, classes):
            return kind
    return None


_COLUMNS: tuple[tuple[tuple[type[pl.DataType], ...], SqlType], ...] = (
    ((pl.Int8, pl.Int16, pl.Int32, pl.Int64, pl.UInt8, pl.UInt16, pl.UInt32), INTEGER),
    ((pl.UInt64,), decimal(20, 0)),
    ((pl.Float32, pl.Float64), FLOAT),
    ((pl.String, pl.Categorical, pl.Enum), STRING),
    ((pl.Boolean,), BOOLEAN),
    ((pl.Binary,), BINARY),
    ((pl.Date,), DATE),
    ((pl.Datetime,), TIMESTAMP),
    ((pl.Null,), NULL),
)


def _instance(dtype: pl.DataType | DataTypeClass) -> pl.DataType:
    return dtype() if isinstance(dtype, type) else dtype


@dataclass(frozen=True, slots=True, eq=False)
class FilterSchema:
    """The columns that a filter may name, in order; made once per schema by `schema_of` and compared by identity.

    `texts` are the text fields that are no columns: none can be filtered by, and errors say so.
    """

    columns: tuple[tuple[str, pl.DataType], ...]
    by_name: dict[str, pl.DataType]
    by_folded: dict[str, tuple[str, ...]]
    texts: tuple[str, ...] = ()


def schema_of(
    schema: FilterSchema | pa.Schema | dict[str, pl.DataType] | pl.Schema, texts: Iterable[str] = ()
) -> FilterSchema:
    """Return the FilterSchema of an Arrow or polars schema: the same object for equal schemas, so it keys caches.

    `texts` are the collection's text fields, those that are columns too among them.
    """
    if isinstance(schema, FilterSchema):
        return schema
    if isinstance(schema, pa.Schema):
        return _from_arrow(schema, tuple(texts))
    return _from_columns(tuple(schema.items()), tuple(texts))


@lru_cache(maxsize=256)
def _from_arrow(schema: pa.Schema, texts: tuple[str, ...]) -> FilterSchema:
    frame = pl.from_arrow(schema.empty_table())
    assert isinstance(frame, pl.DataFrame)
    return _from_columns(tuple(frame.schema.items()), texts)


@lru_cache(maxsize=256)
def _from_columns(columns: tuple[tuple[str, pl.DataType | DataTypeClass], ...], texts: tuple[str, ...]) -> FilterSchema:
    by_name = {name: _instance(dtype) for name, dtype in columns}
    folded: dict[str, tuple[str, ...]] = {}
    for name in by_name:
        folded[name.casefold()] = (*folded.get(name.casefold(), ()), name)
    return FilterSchema(tuple(by_name.items()), by_name, folded, tuple(name for name in texts if name not in by_name))
