"""Evaluating a plan's expressions by polars, within bounds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import polars as pl

from retrieval.errors import FilterError
from retrieval.sql.outputs import Order, Output

MAX_ANSWER_BYTES = 64 << 20

Values = list[list[Any]]
"""The values of each column."""


class Budget:
    """What is left of an answer's size."""

    def __init__(self) -> None:
        self._left = MAX_ANSWER_BYTES

    def spend(self, n_bytes: int) -> None:
        """Take ``n_bytes`` off; raises FilterError beyond the limit."""
        self._left -= n_bytes
        if self._left < 0:
            message = f"the answer would be larger than {MAX_ANSWER_BYTES >> 20} MiB"
            raise FilterError(message, code="filter_limit", hint="select fewer columns, or give a LIMIT")


def ordered(frame: pl.LazyFrame, order: Sequence[Order], ties: Sequence[str]) -> pl.LazyFrame:
    """Return ``frame`` in ``order``, what is equal in it by the columns ``ties``; polars sorts no more than is cut."""
    names = [f"\0by{place}" for place in range(len(order))]
    made = [entry.expression.alias(name) for name, entry in zip(names, order, strict=True)]
    if not names and not ties:
        return frame
    return frame.with_columns(made).sort(
        [*names, *ties],
        descending=[entry.descending for entry in order] + [False] * len(ties),
        nulls_last=[not entry.nulls_first for entry in order] + [True] * len(ties),
    )


def values_of(frame: pl.LazyFrame, outputs: Sequence[Output], *, beside: str, budget: Budget) -> Values:
    """Return what ``outputs``, values all of them, are in each row; ``beside`` is a column of the frame.

    Beside a column, a constant becomes as long as the frame.
    """
    made = [output.expression.alias(f"\0{n}") for n, output in enumerate(outputs) if output.expression is not None]
    shown = evaluated(frame.select(pl.col(beside).alias("\0beside"), *made)).drop("\0beside")
    budget.spend(int(shown.estimated_size()))
    return [column.to_list() for column in shown]


def evaluated(frame: pl.LazyFrame) -> pl.DataFrame:
    """Return the rows; raises FilterError where polars cannot reckon them."""
    try:
        return frame.collect()
    except pl.exceptions.PolarsError as error:
        reason = str(error).partition("\n")[0]
        if "i128" in reason:
            hint = "write sum(CAST(... AS DOUBLE))"
            raise FilterError("a sum does not fit 64 bits", code="filter_failed", hint=hint) from error
        raise FilterError(f"the statement can't be evaluated: {reason}", code="filter_failed") from error
