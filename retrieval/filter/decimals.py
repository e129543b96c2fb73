"""Decimals of up to 38 digits in polars, which fails or rounds within their own scale where a result has no room."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

import polars as pl

from retrieval.filter.sqltypes import MAX_DECIMAL_DIGITS, SqlType, working_dtype

_NEARLY = 1 - 2.0**-50
"""What keeps a double below a bound that it was rounded up to."""


def unit(places: int) -> pl.Expr:
    """Return one in the last of so many places, with these places."""
    return pl.lit(Decimal(1).scaleb(-places)).cast(pl.Decimal(MAX_DECIMAL_DIGITS, places))


def in_38_digits(
    operator: Callable[[pl.Expr, pl.Expr], pl.Expr], left: pl.Expr, right: pl.Expr, kind: SqlType
) -> pl.Expr:
    """Return the sum, difference or product of two numbers in ``kind``, of 38 digits.

    It is NULL where these are not enough for it, or for one of the two numbers with as many places after the point.
    Doubles tell whether they are: up to one part in 2**50 of the largest result is taken for too large.
    """
    about = operator(left.cast(pl.Float64), right.cast(pl.Float64)).abs()
    left, right = (side.cast(working_dtype(kind), strict=False) for side in (left, right))
    return operator(pl.when(about < 10.0**kind.whole * _NEARLY).then(left), right)


def rounded(value: pl.Expr, kind: SqlType, places: int, result: SqlType) -> pl.Expr:
    """Return decimals of type ``kind`` rounded to so many places, fewer than they have, halves away from zero."""
    size = value.cast(working_dtype(kind)).abs()
    near, back = _nearest(size, kind, places)
    half = pl.lit(Decimal(5).scaleb(-places - 1)).cast(working_dtype(kind))
    near = pl.when((size - back == half).fill_null(False)).then(near + unit(places)).otherwise(near)
    zero = pl.lit(0, dtype=working_dtype(result))
    return pl.when(value < 0).then(zero - near).otherwise(near).cast(working_dtype(result))


def floor(value: pl.Expr, kind: SqlType, result: SqlType) -> pl.Expr:
    """Return the largest whole numbers that are no larger than decimals of type ``kind``."""
    near, back = _nearest(value, kind, 0)
    moved = pl.when((back > value).fill_null(near > 0)).then(near - unit(0))
    return moved.otherwise(near).cast(working_dtype(result))


def ceil(value: pl.Expr, kind: SqlType, result: SqlType) -> pl.Expr:
    """Return the smallest whole numbers that are no smaller than decimals of type ``kind``."""
    near, back = _nearest(value, kind, 0)
    moved = pl.when((back < value).fill_null(near < 0)).then(near + unit(0))
    return moved.otherwise(near).cast(working_dtype(result))


def _nearest(value: pl.Expr, kind: SqlType, places: int) -> tuple[pl.Expr, pl.Expr]:
    """Return a decimal to so many places, halves to the even neighbour, and that in its own scale; NULL beyond it."""
    near = value.cast(pl.Decimal(MAX_DECIMAL_DIGITS, places), strict=False)
    return near, near.cast(working_dtype(kind), strict=False)
