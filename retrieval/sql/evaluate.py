"""Evaluating a plan's expressions by polars, within bounds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from retrieval.errors import FilterError
from retrieval.sql.outputs import Order

MAX_ANSWER_BYTES = 64 << 20
CELL_BYTES = 32
"""What a value of an answer is taken to need, beside its text."""

MAX_CELLS = 50_000_000
"""Most values that one statement may have in memory at once."""


class Budget:
    """What is left of an answer's size, in bytes; ``what`` is what an error names."""

    def __init__(self, what: str = "the answer") -> None:
        self._what = what
        self._left = MAX_ANSWER_BYTES

    def spend(self, n_bytes: int) -> None:
        """Take ``n_bytes`` off; raises FilterError beyond the limit."""
        self._left -= n_bytes
        if self._left < 0:
            message = f"{self._what} would be larger than {MAX_ANSWER_BYTES >> 20} MiB"
            raise FilterError(message, code="filter_limit", hint="select fewer columns, or give a LIMIT")


def refuse_too_large(frame: pl.DataFrame, what: str) -> None:
    """Raise FilterError where all values of ``frame`` take more than an answer may; ``what`` is named."""
    budget = Budget(what)
    for column in frame:
        budget.spend(size_of(column))


def refuse_too_many(rows: int, columns: int) -> None:
    """Raise FilterError where ``columns`` of so many rows are more than may be in memory."""
    if rows * columns > MAX_CELLS:
        raise FilterError(
            f"the statement would reckon {columns:,} columns of {rows:,} rows; {MAX_CELLS:,} values are allowed",
            code="filter_limit",
            hint="narrow its WHERE, or ask for less at once",
        )


def size_of(column: pl.Series) -> int:
    """Return how many bytes the values of ``column`` take in an answer, roughly: text as often as it is there.

    >>> size_of(pl.Series(["ab", None])), size_of(pl.Series([[1, 2], [3]]))
    (66, 160)
    """
    size = CELL_BYTES * len(column)
    if column.dtype == pl.String:
        return size + int(column.str.len_bytes().sum())
    if column.dtype == pl.Binary:
        return size + int(column.bin.size().sum())
    if isinstance(column.dtype, pl.List | pl.Array):
        return size + size_of(column.explode())
    if isinstance(column.dtype, pl.Struct):
        return size + sum(map(size_of, column.struct.unnest()))
    return size


def reckoned(frame: pl.DataFrame, expressions: Mapping[str, pl.Expr], *kept: str) -> pl.DataFrame:
    """Return the columns ``kept`` of ``frame`` and those of ``expressions``, each as long as the frame.

    Raises FilterError where polars cannot reckon them.
    """
    made = [expression.alias(name) for name, expression in expressions.items()]
    try:
        # Beside a column of the frame, a constant becomes as long as the frame.
        return (
            frame.select(*kept, *made) if kept else frame.select(pl.first().alias("\0beside"), *made).drop("\0beside")
        )
    except pl.exceptions.ShapeError:
        # A CASE that goes one way in every row comes as one value, which polars does not take for a constant.
        columns = [frame.select(expression).to_series() for expression in made]
        return pl.DataFrame([*frame.select(kept), *(_as_long(column, frame.height) for column in columns)])
    except pl.exceptions.PolarsError as error:
        raise _failed(error) from error


def grouped(rows: pl.DataFrame, keys: Sequence[str], aggregates: Mapping[str, pl.Expr]) -> pl.DataFrame:
    """Return a row for each group of ``rows``: its ``keys`` and ``aggregates``; without keys the one group there is.

    Raises FilterError where polars cannot reckon them.
    """
    made = [expression.alias(name) for name, expression in aggregates.items()]
    try:
        return rows.group_by(keys).agg(*made) if keys else rows.select(pl.len().alias("\0rows"), *made)
    except pl.exceptions.PolarsError as error:
        raise _failed(error) from error


def ordered(frame: pl.DataFrame, order: Sequence[Order], ties: Sequence[str], number: str, *, cut: slice) -> Any:
    """Return the values of the column ``number`` in ``order``, equal ones by the columns ``ties``: those of ``cut``.

    ``(n,)``. polars sorts no more than that needs.
    """
    names = [f"\0by{place}" for place in range(len(order))]
    by = reckoned(frame, dict(zip(names, (entry.expression for entry in order), strict=True)), number, *ties).lazy()
    if names or ties:
        by = by.sort(
            [*names, *ties],
            descending=[entry.descending for entry in order] + [False] * len(ties),
            nulls_last=[not entry.nulls_first for entry in order] + [True] * len(ties),
        )
    return by.slice(cut.start, cut.stop - cut.start).collect()[number].to_numpy()


def _as_long(column: pl.Series, n: int) -> pl.Series:
    return column if len(column) == n else column.new_from_index(0, n)


def _failed(error: pl.exceptions.PolarsError) -> FilterError:
    reason = str(error).partition("\n")[0].replace("\0", "")
    if "i128" in reason:
        most = "38 digits" if "decimal" in reason else "64 bits"
        return FilterError(f"a sum does not fit {most}", code="filter_failed", hint="write sum(CAST(... AS DOUBLE))")
    return FilterError(f"the statement can't be evaluated: {reason}", code="filter_failed")
