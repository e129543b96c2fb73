"""Aggregate functions: what they take, the type they give, and how polars reckons them over a group.

Over rows that lie on several machines, each reckons columns of which the whole is made: sums are added up, of what is
counted but once each sends its values.

All skip NULL, and over nothing but NULLs give NULL, but for ``count``, which gives 0. Whole numbers add up to whole
numbers, or to an error beyond 64 bits; decimals to decimals of ten more digits, of 38 at most, or to an error beyond
these; an average is a double. NaN counts as a number above all others, as it does in comparisons.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import polars as pl
from sqlglot import exp

from retrieval.filter import FilterSchema
from retrieval.filter.check import a
from retrieval.filter.decimals import unit
from retrieval.filter.sqltypes import (
    FLOAT,
    INTEGER,
    MAX_DECIMAL_DIGITS,
    NULL,
    Kind,
    SqlType,
    capped_decimal,
    working_dtype,
)
from retrieval.filter.tree import Node
from retrieval.sql.scope import Scope
from retrieval.sql.statement import refused

SUM_DIGITS = 10
"""Digits that a sum may have more than what is added up: enough for as many rows as a snapshot can hold."""

_HALF_DIGITS = MAX_DECIMAL_DIGITS // 2
_HALF = pl.lit(10**_HALF_DIGITS, dtype=pl.Int128)
_TOO_LARGE = pl.lit(10**MAX_DECIMAL_DIGITS, dtype=pl.Int128)

Over = Callable[[pl.Expr], pl.Expr]


@dataclass(frozen=True, kw_only=True, slots=True)
class Aggregate:
    """An aggregate in a statement: ``over`` is applied to the column of ``argument``, None for ``count(*)``.

    ``dtype`` is what the argument is reckoned in; the result is cast to the working type of ``type``. Each of several
    machines applies all of ``each`` (by default ``over``), and ``together`` takes these columns.
    """

    argument: Node | None
    dtype: pl.DataType
    type: SqlType
    over: Over
    each: tuple[Over, ...] = ()
    together: Callable[..., pl.Expr] | None = None

    def whole(self, name: str) -> pl.Expr:
        """Return the aggregate of the column ``name``."""
        return self._cast(self.over(pl.col(name)))

    def parts(self, name: str) -> Mapping[str, pl.Expr]:
        """Return what each of several machines reckons of the column ``name``, by the names of the columns made."""
        each = self.each or (self.over,)
        return {_part(name, place): over(pl.col(name)) for place, over in enumerate(each)}

    def merged(self, name: str) -> pl.Expr:
        """Return the aggregate of the column ``name`` that is made of all machines' parts."""
        together = self.together or self.over
        return self._cast(together(*(pl.col(part) for part in self.parts(name))))

    def _cast(self, value: pl.Expr) -> pl.Expr:
        return value.cast(working_dtype(self.type))


def _part(name: str, place: int) -> str:
    return f"{name}.{place}"


KINDS = (exp.Count, exp.Sum, exp.Avg, exp.Min, exp.Max)


def aggregate_of(scope: Scope, node: exp.Expr, schema: FilterSchema) -> Aggregate:
    """Check an aggregate over rows with the columns of ``schema``; raises FilterError at its place."""
    inner, distinct = _argument(scope, node)
    if isinstance(node, exp.Count) and inner is None:
        return Aggregate(argument=None, dtype=pl.Null(), type=INTEGER, over=lambda _: pl.len(), together=pl.Expr.sum)
    if inner is None:
        raise refused(scope.parsed, node, f"{scope.parsed.snippet(node)}: only count takes *")
    argument = scope.value(inner, schema)
    if argument.type.kind is Kind.ARRAY:
        message = f"{scope.parsed.snippet(inner)} is {a(argument.type)}: it cannot be aggregated"
        raise refused(scope.parsed, inner, message, code="filter_type")
    return _of_value(scope, node, inner, argument, distinct)


def _of_value(scope: Scope, node: exp.Expr, inner: exp.Expr, argument: Node, distinct: bool) -> Aggregate:
    kind = argument.type
    if isinstance(node, exp.Count):
        dtype = working_dtype(kind)
        if not distinct:
            return Aggregate(argument=argument, dtype=dtype, type=INTEGER, over=pl.Expr.count, together=pl.Expr.sum)
        return Aggregate(
            argument=argument, dtype=dtype, type=INTEGER, over=_distinct, each=(_values,), together=_distinct_of_lists
        )
    if isinstance(node, exp.Min | exp.Max):  # DISTINCT changes nothing about them
        over = pl.Expr.min if isinstance(node, exp.Min) else _highest(kind)
        return Aggregate(argument=argument, dtype=working_dtype(kind), type=kind, over=over)
    if distinct:
        raise refused(scope.parsed, node, "DISTINCT is for count alone")
    if not (kind.is_numeric or kind == NULL):
        message = f"{scope.parsed.snippet(inner)} is {a(kind)}: it cannot be added up"
        hint = f"write CAST({scope.parsed.snippet(inner)} AS DOUBLE)"
        raise refused(scope.parsed, inner, message, hint, "filter_type")
    if isinstance(node, exp.Avg):
        return Aggregate(
            argument=argument,
            dtype=pl.Float64(),
            type=FLOAT,
            over=pl.Expr.mean,
            each=(pl.Expr.sum, pl.Expr.count),
            together=_mean,
        )
    result = _sum_of(kind)
    if _may_overflow(kind):
        return Aggregate(
            argument=argument,
            dtype=working_dtype(kind),
            type=result,
            over=lambda value: _joined(_high(value), _low(value), result.scale),
            each=(lambda value: _sent(_high(value)), lambda value: _sent(_low(value))),
            together=lambda high, low: _joined(_sum_of_sent(high), _sum_of_sent(low), result.scale),
        )
    if result != INTEGER:
        return Aggregate(argument=argument, dtype=working_dtype(result), type=result, over=_sum)
    # A sum of 64-bit numbers never leaves 128 bits; whether it leaves 64 shows when the result is cast.
    return Aggregate(
        argument=argument, dtype=pl.Int128(), type=result, over=_sum, each=(_sent_sum,), together=_sum_of_sent
    )


def _argument(scope: Scope, node: exp.Expr) -> tuple[exp.Expr | None, bool]:
    """Return what is aggregated (None for ``*``), and whether DISTINCT stands before it."""
    extra = [name for name, part in node.args.items() if part and name not in ("this", "big_int")]
    inner = node.this
    distinct = isinstance(inner, exp.Distinct)
    if distinct:
        extra += ["expressions"] if len(inner.expressions) != 1 else []
        inner = inner.expressions[0]
    if extra or inner is None:
        raise refused(scope.parsed, node, f"{scope.parsed.snippet(node)}: an aggregate takes one value")
    return (None if isinstance(inner, exp.Star) else inner), distinct


def _sum_of(kind: SqlType) -> SqlType:
    if kind.kind is Kind.DECIMAL:
        return capped_decimal(kind.whole + SUM_DIGITS, kind.scale)
    return INTEGER if kind == NULL else kind


def _may_overflow(kind: SqlType) -> bool:
    return kind.kind is Kind.DECIMAL and kind.whole + kind.scale + SUM_DIGITS > MAX_DECIMAL_DIGITS


def _sum(value: pl.Expr) -> pl.Expr:
    return pl.when(value.count() > 0).then(value.sum())


def _highest(kind: SqlType) -> Callable[[pl.Expr], pl.Expr]:
    """For the lowest, ``min`` is right: it passes over NaN unless there is nothing else."""
    return pl.Expr.nan_max if kind.kind is Kind.FLOAT else pl.Expr.max


def _mean(sums: pl.Expr, counts: pl.Expr) -> pl.Expr:
    return pl.when(counts.sum() > 0).then(sums.sum() / counts.sum())


def _high(value: pl.Expr) -> pl.Expr:
    """Add up the upper halves of decimals, without their points: such sums stay far within 128 bits.

    Polars does not notice where a group's sum of decimals leaves them.
    """
    return _sum(value.to_physical() // _HALF)


def _low(value: pl.Expr) -> pl.Expr:
    """Add up the lower halves, which are never below 0."""
    return _sum(value.to_physical() % _HALF)


def _joined(high: pl.Expr, low: pl.Expr, scale: int) -> pl.Expr:
    """Return the decimal that two sums of halves make; one of more than 38 digits becomes what no cast lets through."""
    carried = high + low // _HALF
    fits = carried.is_between(-(10**_HALF_DIGITS), 10**_HALF_DIGITS - 1)
    whole = pl.when(fits | carried.is_null()).then(carried * _HALF + low % _HALF).otherwise(_TOO_LARGE)
    return whole.cast(pl.Decimal(MAX_DECIMAL_DIGITS, 0)) * unit(scale)


def _sent_sum(value: pl.Expr) -> pl.Expr:
    return _sent(_sum(value))


def _sent(value: pl.Expr) -> pl.Expr:
    """Arrow has no whole numbers of 128 bits."""
    return value.cast(pl.Decimal(MAX_DECIMAL_DIGITS, 0))


def _sum_of_sent(value: pl.Expr) -> pl.Expr:
    return _sum(value.cast(pl.Int128))


def _distinct(value: pl.Expr) -> pl.Expr:
    return value.drop_nulls().n_unique()


def _values(value: pl.Expr) -> pl.Expr:
    return value.drop_nulls().unique().implode()


def _distinct_of_lists(values: pl.Expr) -> pl.Expr:
    return _distinct(values.explode())
