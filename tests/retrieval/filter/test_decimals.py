"""Decimals that need all of 38 digits, or more, against Python's."""

from __future__ import annotations

import operator
from collections.abc import Callable
from decimal import Decimal, localcontext
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval.filter.decimals import in_38_digits
from retrieval.filter.sqltypes import capped_decimal

NUMBERS = st.integers(-(10**36) + 1, 10**36 - 1).flatmap(
    lambda digits: st.integers(0, 36).map(lambda cut: Decimal(digits // 10**cut).scaleb(-2))
)
"""Numbers of DECIMAL(38, 2) of all sizes up to where a product's scale has no room for them."""


@pytest.mark.parametrize(
    ("reckon", "scale"), [(operator.add, 2), (operator.sub, 2), (operator.mul, 4)], ids=["+", "-", "*"]
)
@settings(max_examples=200, deadline=None, derandomize=True)
@given(pairs=st.lists(st.tuples(NUMBERS, NUMBERS), min_size=1, max_size=5))
def test_what_38_digits_hold_is_exact_and_what_they_do_not_is_null(
    reckon: Callable[..., Any], scale: int, pairs: list[tuple[Decimal, Decimal]]
) -> None:
    with localcontext(prec=80):
        results = [reckon(left, right) for left, right in pairs]
        largest = [max(map(abs, (*pair, result))) for pair, result in zip(pairs, results, strict=True)]
        fits = [number < Decimal(10) ** (38 - scale) for number in largest]
        expected = [result if fit else None for result, fit in zip(results, fits, strict=True)]
        frame = pl.DataFrame(
            {"left": [left for left, _ in pairs], "right": [right for _, right in pairs]},
            schema=dict.fromkeys(("left", "right"), pl.Decimal(38, 2)),
        )

        made = in_38_digits(reckon, pl.col("left"), pl.col("right"), capped_decimal(38, scale))

        assert frame.select(made).to_series().to_list() == expected
