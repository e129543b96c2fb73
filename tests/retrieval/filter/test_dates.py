"""Dates moved and days counted by each dialect's functions, against rows worked out by hand."""

from __future__ import annotations

from datetime import date, datetime

import pytest

from retrieval.errors import FilterError
from tests.retrieval.filter.conftest import Passing


@pytest.mark.parametrize(
    ("text", "dialect", "rows"),
    [
        ("date_add(published, 1) = DATE '2024-01-02'", "databricks", [0]),
        ("date_add(published, -1) = DATE '2024-03-30'", "databricks", [1]),
        ("date_sub(published, 1) = DATE '2024-12-31'", "databricks", [3]),
        ("date_sub(published, :n) = DATE '2023-12-31'", "databricks", [0]),
        ("date_add(seen, 1) = DATE '2024-01-02'", "databricks", [0]),
        ("date_add('2024-01-01', 1) = published + INTERVAL 1 DAY", "databricks", [0]),
        ("published >= date_sub(current_date, 7)", "databricks", [1, 3]),
        ("date_add(published, NULL) IS NULL", "databricks", [0, 1, 2, 3]),
        ("dateadd(DAY, 1, published) = TIMESTAMP '2024-01-02 00:00:00'", "databricks", [0]),
        ("dateadd(MONTH, -1, published) = TIMESTAMP '2024-02-29 00:00:00'", "databricks", [1]),
        ("dateadd(HOUR, :n, seen) = TIMESTAMP '2024-01-01 13:00:00'", "databricks", [0]),
        ("timestampadd(MINUTE, 30, seen) = TIMESTAMP '2024-01-01 12:30:00'", "databricks", [0]),
        ("DATEADD(day, 1, published) = DATE '2024-01-02'", "snowflake", [0]),
        ("DATEADD('month', -1, published) = DATE '2024-02-29'", "snowflake", [1]),
        ("DATEADD(hour, 1, published) = TIMESTAMP '2024-01-01 01:00:00'", "snowflake", [0]),
        ("published >= DATEADD(day, -7, CURRENT_DATE)", "snowflake", [1, 3]),
        ("datediff('2024-01-10', published) = 9", "databricks", [0]),
        ("datediff(published, '2024-01-10') = -9", "databricks", [0]),
        ("datediff(TIMESTAMP '2024-01-03 00:00:00', seen) = 2", "databricks", [0]),
        ("datediff(DAY, seen, TIMESTAMP '2024-01-03 00:00:00') = 1", "databricks", [0]),
        ("datediff(DAY, TIMESTAMP '2024-01-03 00:00:00', seen) = -1", "databricks", [0]),
        ("DATEDIFF(day, seen, '2024-01-03') = 2", "snowflake", [0]),
        ("date_diff('day', seen, TIMESTAMP '2024-01-03 00:00:00') = 2", "duckdb", [0]),
        ("datediff(current_date, published) IS NULL", "databricks", [2]),
    ],
)
def test_dates_move_and_days_are_counted_as_the_dialect_does(
    text: str, dialect: str, rows: list[int], passing: Passing
) -> None:
    assert passing(text, dialect, **({"n": 1} if ":n" in text else {})) == rows


def test_dates_may_be_parameters(passing: Passing) -> None:
    assert passing("date_add(:start, 1) = published + INTERVAL 1 DAY", start=date(2024, 1, 1)) == [0]
    assert passing("date_add(:start, 1) = published + INTERVAL 1 DAY", start=datetime(2024, 1, 1, 23)) == [0]  # noqa: DTZ001
    assert passing("datediff(:end, published) = 9", end="2024-01-10") == [0]


@pytest.mark.parametrize(
    ("text", "dialect", "message"),
    [
        ("date_add(name, 1) = published", "databricks", r"name is a STRING, not a date .* CAST\(name AS TIMESTAMP\)"),
        ("date_add(published, id) = published", "databricks", "takes a number or a parameter"),
        ("date_add(published, 1.5) = published", "databricks", "moving a date takes a BIGINT"),
        ("date_add(published, 99999999) = published", "databricks", "10,000 years at most"),
        ("dateadd(FORTNIGHT, 1, published) = seen", "databricks", "no interval unit FORTNIGHT"),
        ("datediff(MONTH, published, seen) = 1", "databricks", "days are counted here, and no other unit"),
        ("date_add(published, 1) = published", "snowflake", "the function date_add is not allowed here"),
        ("datediff(seen, published) = 1", "postgres", "is not for postgres, .* INTERVAL"),
        ("date_add(published, INTERVAL 1 DAY) = published", "duckdb", "is not for duckdb, but for snowflake"),
    ],
)
def test_what_has_no_date_or_another_unit_is_refused(text: str, dialect: str, message: str, passing: Passing) -> None:
    with pytest.raises(FilterError, match=message):
        passing(text, dialect)
