"""CAST: which types turn into which, and how. A value that can't be turned is NULL, for CAST as for TRY_CAST."""

from __future__ import annotations

from typing import Literal

import polars as pl

from retrieval.filter.sqltypes import Kind, SqlType, working_dtype
from retrieval.filter.values import DATE_TEXT, TIME_TEXT, ZONE_TEXT

_NUMERIC = (Kind.INTEGER, Kind.DECIMAL, Kind.FLOAT)
_ALLOWED: dict[Kind, tuple[Kind, ...]] = {
    Kind.NULL: tuple(kind for kind in Kind if kind not in (Kind.INTERVAL, Kind.ARRAY)),
    Kind.BOOLEAN: (Kind.BOOLEAN, Kind.INTEGER, Kind.STRING),
    Kind.INTEGER: (*_NUMERIC, Kind.BOOLEAN, Kind.STRING),
    Kind.DECIMAL: (*_NUMERIC, Kind.STRING),
    Kind.FLOAT: _NUMERIC,
    Kind.STRING: (Kind.STRING, Kind.BOOLEAN, *_NUMERIC, Kind.DATE, Kind.TIMESTAMP),
    Kind.DATE: (Kind.DATE, Kind.TIMESTAMP, Kind.STRING),
    Kind.TIMESTAMP: (Kind.TIMESTAMP, Kind.DATE, Kind.STRING),
}
_TRUE = ("true", "t", "yes", "y", "1")
_FALSE = ("false", "f", "no", "n", "0")
_NARROW = {8: pl.Int8(), 16: pl.Int16(), 32: pl.Int32()}
_WHITE = " \t\r\n\f\v"


def can_cast(source: SqlType, target: SqlType) -> bool:
    """Whether CAST may turn one type into another."""
    return target.kind in _ALLOWED.get(source.kind, ())


def cast(value: pl.Expr, source: SqlType, target: SqlType, *, rounding: str, bits: int) -> pl.Expr:
    """Turn a value; `rounding` is how fractions become whole, `bits` the width of the result."""
    if source.kind is Kind.NULL:
        return value.cast(working_dtype(target))
    if source.kind is Kind.STRING and target.kind is not Kind.STRING:
        return _from_text(value.str.strip_chars(_WHITE), target, bits)
    if target.kind is Kind.STRING:
        return _to_text(value, source)
    if target.kind is Kind.INTEGER:
        return _narrow(_rounded(value, source, rounding), bits)
    if target.kind is Kind.FLOAT:
        return _to_float(value, bits)
    if target.kind is Kind.DECIMAL and source.kind is not Kind.INTEGER:
        value = value.round(target.scale, mode="half_away_from_zero") if _loses_digits(source, target) else value
        return value.cast(_exact(target), strict=False).cast(working_dtype(target))
    if target.kind is Kind.DECIMAL:
        return value.cast(_exact(target), strict=False).cast(working_dtype(target))
    if target.kind is Kind.BOOLEAN and source.kind is Kind.INTEGER:
        return value != 0
    return value.cast(working_dtype(target))


def _exact(target: SqlType) -> pl.DataType:
    return pl.Decimal(target.whole + target.scale, target.scale)


def _loses_digits(source: SqlType, target: SqlType) -> bool:
    return source.kind is Kind.FLOAT or source.scale > target.scale


def _rounded(value: pl.Expr, source: SqlType, rounding: str) -> pl.Expr:
    if source.kind not in (Kind.FLOAT, Kind.DECIMAL) or rounding == "truncate":
        return value
    mode: Literal["half_to_even", "half_away_from_zero"] = (
        "half_to_even" if rounding == "half_to_even" else "half_away_from_zero"
    )
    return value.round(0, mode=mode)


def _narrow(value: pl.Expr, bits: int) -> pl.Expr:
    whole = value.cast(pl.Int64, strict=False)
    return whole.cast(_NARROW[bits], strict=False).cast(pl.Int64) if bits in _NARROW else whole


def _to_float(value: pl.Expr, bits: int) -> pl.Expr:
    return (value.cast(pl.Float32) if bits == 32 else value).cast(pl.Float64)


def _to_text(value: pl.Expr, source: SqlType) -> pl.Expr:
    """Whole seconds show no fraction, and a fraction no trailing zeros, as in Spark, DuckDB and Postgres."""
    if source.kind is Kind.TIMESTAMP:
        return value.dt.strftime("%Y-%m-%d %H:%M:%S%.6f").str.strip_chars_end("0").str.strip_chars_end(".")
    return value.cast(pl.String)


def _from_text(text: pl.Expr, target: SqlType, bits: int) -> pl.Expr:
    if target.kind is Kind.BOOLEAN:
        word = text.str.to_lowercase()
        return pl.when(word.is_in(_TRUE)).then(True).when(word.is_in(_FALSE)).then(False)
    if target.kind is Kind.INTEGER:
        return _narrow(text, bits)
    if target.kind is Kind.FLOAT:
        return _to_float(text.cast(pl.Float64, strict=False), bits)
    if target.kind is Kind.DECIMAL:
        widest = text.cast(pl.Decimal(38, 38 - target.whole), strict=False)
        rounded = widest.round(target.scale, mode="half_away_from_zero")
        return rounded.cast(_exact(target), strict=False).cast(working_dtype(target))
    return _moment(text, target)


def _moment(text: pl.Expr, target: SqlType) -> pl.Expr:
    """Read ISO text; a date takes the day as written, a timestamp is brought to UTC."""
    shape = text.str.extract_groups(rf"\A({DATE_TEXT})(?:[T ]({TIME_TEXT})(?: ?({ZONE_TEXT}))?)?\z")
    day = shape.struct[0]
    if target.kind is Kind.DATE:
        return day.str.to_date("%Y-%m-%d", strict=False)
    clock = shape.struct[1].fill_null("00:00")
    clock = pl.when(clock.str.len_chars() == 5).then(clock + ":00").otherwise(clock)
    local = (day + " " + clock).str.to_datetime("%Y-%m-%d %H:%M:%S%.f", time_unit="us", strict=False)
    zone = shape.struct[2].str.replace_all(r"[^0-9+-]", "")
    minutes = zone.str.slice(1, 2).cast(pl.Int64, strict=False) * 60
    minutes = (minutes + zone.str.slice(3, 2).cast(pl.Int64, strict=False).fill_null(0)).fill_null(0)
    ahead = pl.when(zone.str.starts_with("-")).then(-minutes).otherwise(minutes)
    return local - pl.duration(minutes=ahead, time_unit="us")
