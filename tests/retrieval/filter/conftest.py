"""One small table with something of every type, and how a test asks a filter which of its rows pass."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal

import polars as pl
import pytest

from retrieval.filter import compile_filter

Passing = Callable[..., list[int]]

NOON = datetime(2024, 1, 1, 12, tzinfo=UTC)
FEBRUARY = datetime(2024, 2, 1, tzinfo=UTC)
YEAR = datetime(2025, 1, 1, tzinfo=UTC)
TABLE = pl.DataFrame(
    {
        "id": [1, 2, 3, None],
        "name": ["a", "B_%", "ü\n", None],
        "score": [1.0, float("nan"), None, -0.0],
        "published": [date(2024, 1, 1), date(2024, 3, 31), None, date(2025, 1, 1)],
        "seen": [NOON, FEBRUARY, None, YEAR],
        "tags": [["x", "y"], [None, "z"], [], None],
        "sizes": [[1, 2], [None, 3], [], None],
        "active": [True, False, None, True],
        "price": [Decimal("1.25"), None, Decimal("2.50"), Decimal("-3.50")],
        "code": ["5", " 7 ", "x", None],
        "blob": [b"\xff\x00", b"", None, b"a"],
        "day_text": ["2024-01-01", "2024-13-01", "2024-02-03T04:05:06.5+01:00", None],
        "Mixed": [1, 2, 3, 4],
        "unit": ["a", "b", "a", None],
        "place": [{"x": 1}, None, None, None],
    },
    schema={
        "id": pl.Int32,
        "name": pl.String,
        "score": pl.Float64,
        "published": pl.Date,
        "seen": pl.Datetime("us", "UTC"),
        "tags": pl.List(pl.String),
        "sizes": pl.List(pl.Int8),
        "active": pl.Boolean,
        "price": pl.Decimal(10, 2),
        "code": pl.String,
        "blob": pl.Binary,
        "day_text": pl.String,
        "Mixed": pl.UInt64,
        "unit": pl.Categorical,
        "place": pl.Struct({"x": pl.Int64}),
    },
)

NOW = datetime(2024, 3, 31, 10, tzinfo=UTC)


@pytest.fixture
def passing() -> Passing:
    """Return the function that gives the numbers (from 0) of the table's rows that pass."""

    def rows(text: str, dialect: str = "databricks", **params: object) -> list[int]:
        compiled = compile_filter(text, dialect=dialect, schema=TABLE.schema, params=params, now=NOW)
        return [int(row) for row in compiled.mask(TABLE).nonzero()[0]]

    return rows
