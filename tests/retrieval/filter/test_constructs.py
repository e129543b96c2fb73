"""Each construct, in every dialect that has it, against rows worked out by hand."""

from __future__ import annotations

import pytest

from retrieval.errors import FilterError
from tests.retrieval.filter.conftest import Passing
from tests.retrieval.filter.naive import DIALECTS

EVERYWHERE: list[tuple[str, list[int]]] = [
    ("id = 1", [0]),
    ("ID <> 1", [1, 2]),
    ("id != 1", [1, 2]),
    ("id > 1 AND id <= 3", [1, 2]),
    ("1 < id", [1, 2]),
    ("id = NULL", []),
    ("NOT (id = NULL)", []),
    ("id IS NULL", [3]),
    ("id IS NOT NULL", [0, 1, 2]),
    ("id IS DISTINCT FROM 1", [1, 2, 3]),
    ("id IS NOT DISTINCT FROM NULL", [3]),
    ("id IN (1, 3)", [0, 2]),
    ("id NOT IN (1, 3)", [1]),
    ("id NOT IN (1, NULL)", []),
    ("2 NOT IN (1, NULL)", []),
    ("2 IN (1, NULL) IS NULL", [0, 1, 2, 3]),
    ("id IN (Mixed, 7)", [0, 1, 2]),
    ("id BETWEEN 2 AND 3", [1, 2]),
    ("id NOT BETWEEN 2 AND 3", [0]),
    ("id = 99999999999", []),
    ("id < 99999999999", [0, 1, 2]),
    ("id < 99999999999999999999", [0, 1, 2]),
    ("id = 1.0", [0]),
    ("id > 1.5", [1, 2]),
    ("id = 1e0", [0]),
    ("Mixed > 3", [3]),
    ("active", [0, 3]),
    ("NOT active", [1]),
    ("active = FALSE", [1]),
    ("active IS TRUE", [0, 3]),
    ("active IS NOT TRUE", [1, 2]),
    ("active IS NOT FALSE", [0, 2, 3]),
    ("active OR id = 3", [0, 2, 3]),
    ("active AND NULL", []),
    ("NOT (active AND NULL)", [1]),
    ("TRUE", [0, 1, 2, 3]),
    ("NULL", []),
    ("1 = 1", [0, 1, 2, 3]),
    ("score = CAST('NaN' AS DOUBLE)", [1]),
    ("score > 1e300", [1]),
    ("score = 0", [3]),
    ("score < CAST('NaN' AS DOUBLE)", [0, 3]),
    ("score + 1 = 2", [0]),
    ("price = 1.25", [0]),
    ("price * 2 = 2.5", [0]),
    ("price + 0.001 > 2.5", [2]),
    ("price IN (1.25, 2.5)", [0, 2]),
    ("- price = 3.5", [3]),
    ("CAST(price AS DECIMAL(38, 2)) * 99999999999999999999.5 = 124999999999999999999.375", [0]),
    ("CAST(price AS DECIMAL(38, 2)) + 0.001 = 1.251", [0]),
    ("(CAST(price AS DECIMAL(38, 2)) * 1e0) * 0.1 < 1", [0, 2, 3]),
    ("CAST(price AS DECIMAL(38, 2)) * 300000000000000000000000000000000000 IS NULL", [1, 3]),
    ("CAST(price AS DECIMAL(38, 18)) * CAST(price AS DECIMAL(38, 18)) = 1.5625", [0]),
    ("CAST(price AS DECIMAL(38, 18)) + CAST('0.000000000000000001' AS DECIMAL(38, 18)) > price", [0, 2, 3]),
    ("CAST(price AS DECIMAL(38, 11)) * 3 - 0.00000000001 < 3.75 AND price > 0", [0]),
    ("id + 1 = 2", [0]),
    ("id - 1 = 2", [2]),
    ("id * 2 = 4", [1]),
    ("id % 2 = 1", [0, 2]),
    ("-id % 2 = -1", [0, 2]),
    ("-id = -1", [0]),
    ("id / 0 IS NULL", [0, 1, 2, 3]),
    ("id % 0 = 0 OR id = 1", [0]),
    ("id * 9223372036854775807 IS NULL", [1, 2, 3]),
    ("id > -9223372036854775808", [0, 1, 2]),
    ("lower(name) = 'b_%'", [1]),
    ("upper(name) = 'A'", [0]),
    ("length(name) = 2", [2]),
    ("length(blob) = 2", [0]),
    ("name = 'ü\n'", [2]),
    ("unit = 'a'", [0, 2]),
    ("unit IN ('a', 'b')", [0, 1, 2]),
    ("coalesce(name, 'none') = 'none'", [3]),
    ("coalesce(id, score, 0) = 0", [3]),
    ("CASE WHEN active THEN id ELSE 7 END = 7", [1, 2]),
    ("CASE WHEN active THEN id END IS NULL", [1, 2, 3]),
    ("CASE id WHEN 1 THEN 'one' WHEN 2 THEN 'two' ELSE 'more' END = 'more'", [2, 3]),
    ("published = '2024-01-01'", [0]),
    ("published >= DATE '2024-03-31'", [1, 3]),
    ("published BETWEEN '2024-01-01' AND '2024-12-31'", [0, 1]),
    ("published IN ('2024-01-01', DATE '2025-01-01')", [0, 3]),
    ("published = seen", [3]),
    ("seen > '2024-01-01'", [0, 1, 3]),
    ("seen = '2024-01-01T12:00:00Z'", [0]),
    ("seen = TIMESTAMP '2024-01-01 13:00:00+01:00'", [0]),
    ("CAST(seen AS DATE) = '2024-01-01'", [0]),
    ("published + INTERVAL '1' MONTH = DATE '2024-04-30'", [1]),
    ("published - INTERVAL '1' DAY = DATE '2024-12-31'", [3]),
    ("INTERVAL '1' DAY + published = DATE '2024-01-02'", [0]),
    ("seen + INTERVAL '12' HOUR = TIMESTAMP '2024-01-02 00:00:00'", [0]),
    ("seen + INTERVAL '1 day 12 hours' = TIMESTAMP '2024-01-03 00:00:00'", [0]),
    ("published = CURRENT_DATE", [1]),
    ("published < CURRENT_DATE - INTERVAL '7' DAY", [0]),
    ("seen < CURRENT_TIMESTAMP", [0, 1]),
    ("CAST(code AS BIGINT) = 7", [1]),
    ("CAST(code AS INT) IS NULL", [2, 3]),
    ("TRY_CAST(code AS DOUBLE) = 5", [0]),
    ("CAST(code AS DECIMAL(10, 2)) = 7.00", [1]),
    ("code::INT = 5", [0]),
    ("CAST(id AS STRING) = '1'", [0]),
    ("CAST(price AS STRING) = '2.50'", [2]),
    ("CAST(active AS STRING) = 'true'", [0, 3]),
    ("CAST('yes' AS BOOLEAN)", [0, 1, 2, 3]),
    ("CAST(published AS STRING) = '2024-03-31'", [1]),
    ("CAST(seen AS STRING) = '2024-01-01 12:00:00'", [0]),
    ("CAST(day_text AS DATE) = '2024-02-03'", [2]),
    ("CAST(day_text AS TIMESTAMP) = '2024-02-03 03:05:06.5'", [2]),
    ("CAST(day_text AS TIMESTAMP) IS NULL", [1, 3]),
    ("TRY_CAST('x' AS INT) IS NULL", [0, 1, 2, 3]),
    ("CAST(id AS SMALLINT) * 1000000 = 1000000", [0]),
]


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize(("text", "rows"), EVERYWHERE, ids=[text for text, _ in EVERYWHERE])
def test_construct_passes_the_same_rows_in_every_dialect(
    text: str, rows: list[int], dialect: str, passing: Passing
) -> None:
    assert passing(text, dialect) == rows


@pytest.mark.parametrize(
    ("text", "dialect", "rows"),
    [
        ("id <=> NULL", "databricks", [3]),
        ("id == 1", "databricks", [0]),
        ("id / 2 = 0.5", "databricks", [0]),
        ("id / 2 = 0.5", "snowflake", [0]),
        ("id / 2 = 0.5", "duckdb", [0]),
        ("id / 2 = 0", "postgres", [0]),
        ("-id / 2 = -1", "postgres", [1, 2]),
        ("id / 2.0 = 0.5", "postgres", [0]),
        ("id DIV 2 = 1", "databricks", [1, 2]),
        ("id // 2 = 1", "duckdb", [1, 2]),
        ("mod(id, 2) = 1", "snowflake", [0, 2]),
        ("CAST(price AS INT) = 2", "databricks", [2]),
        ("CAST(price AS INT) = 3", "postgres", [2]),
        ("CAST(2.5e0 AS INT) = 2", "databricks", [0, 1, 2, 3]),
        ("CAST(2.5e0 AS INT) = 3", "snowflake", [0, 1, 2, 3]),
        ("CAST(2.5e0 AS INT) = 2", "duckdb", [0, 1, 2, 3]),
        ("CAST(99999999999 AS INT) = 99999999999", "snowflake", [0, 1, 2, 3]),
        ("array_contains(tags, 'x')", "databricks", [0]),
        ("NOT array_contains(tags, 'x')", "databricks", [2]),
        ("array_contains(tags, NULL)", "databricks", []),
        ("list_contains(tags, 'x')", "duckdb", [0]),
        ("NOT list_has(tags, 'x')", "duckdb", [1, 2]),
        ("NOT array_contains(tags, 'x')", "duckdb", [1, 2]),
        ("ARRAY_CONTAINS('x'::VARIANT, tags)", "snowflake", [0]),
        ("NOT ARRAY_CONTAINS('x', tags)", "snowflake", [1, 2]),
        ("'x' = ANY(tags)", "postgres", [0]),
        ("NOT 'x' = ANY(tags)", "postgres", [2]),
        ("array_contains(sizes, id)", "databricks", [0]),
        ("array_contains(sizes, 3)", "databricks", [1]),
        ("NVL(name, 'none') = 'none'", "snowflake", [3]),
        ("IFNULL(name, 'none') = 'none'", "duckdb", [3]),
        ("LEN(name) = 2", "snowflake", [2]),
        ("char_length(name) = 2", "postgres", [2]),
        ("now() > seen", "databricks", [0, 1]),
        ("now() > seen", "duckdb", [0, 1]),
        ("now() > seen", "postgres", [0, 1]),
        ("current_date() = published", "snowflake", [1]),
        ("seen - INTERVAL 1 DAY < DATE '2024-01-01'", "databricks", [0]),
        ("seen - INTERVAL 1 DAY 2 HOURS < DATE '2024-01-01'", "databricks", [0]),
        ("seen - INTERVAL '1 day, 2 hours' < DATE '2024-01-01'", "snowflake", [0]),
        ("seen - INTERVAL 1 DAY < DATE '2024-01-01'", "duckdb", [0]),
        ("active IS UNKNOWN", "postgres", [2]),
        ("name ISNULL", "postgres", [3]),
        ("name NOTNULL", "postgres", [0, 1, 2]),
        ("\"name\" = 'a'", "postgres", [0]),
        ("\"NAME\" = 'a'", "duckdb", [0]),
        ("`NAME` = 'a'", "databricks", [0]),
        ('name = "a"', "databricks", [0]),
        ('"Mixed" = 1', "snowflake", [0]),
        ("mixed = 1", "snowflake", [0]),
        ("seen > timestamp_ntz '2024-12-31 00:00:00'", "databricks", [3]),
        ("id::number(10, 2) = 1", "snowflake", [0]),
    ],
)
def test_construct_follows_its_dialect(text: str, dialect: str, rows: list[int], passing: Passing) -> None:
    assert passing(text, dialect) == rows


def test_long_chains_of_and_and_or_are_allowed(passing: Passing) -> None:
    assert passing(" AND ".join(["id > 0"] * 800)) == [0, 1, 2]
    assert passing(" OR ".join(["id = 7"] * 799 + ["id = 1"])) == [0]


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("date_trunc('month', published) = DATE '2024-03-01'", [1]),
        ("date_trunc('year', published) = DATE '2024-01-01'", [0, 1]),
        ("date_trunc('quarter', seen) = TIMESTAMP '2024-01-01 00:00:00'", [0, 1]),
        ("date_trunc('week', published) = DATE '2024-03-25'", [1]),
        ("date_trunc('hour', seen) = TIMESTAMP '2024-01-01 12:00:00'", [0]),
        ("date_trunc('day', seen) IS NULL", [2]),
        ("year(published) = 2024 AND month(published) = 3", [1]),
        ("extract(day FROM published) = 31", [1]),
        ("extract(quarter FROM seen) = 1", [0, 1, 3]),
        ("hour(seen) = 12", [0]),
        ("year(published) + 1 = 2026", [3]),
    ],
)
def test_dates_are_cut_and_taken_apart(passing: Passing, dialect: str, text: str, rows: list[int]) -> None:
    assert passing(text, dialect) == rows


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("date_trunc('hour', published) = published", "published is a DATE and has no hour"),
        ("date_trunc('fortnight', published) = published", "there is no FORTNIGHT here"),
        ("month(id) = 1", "id is a BIGINT, and no date or timestamp"),
        ("extract(epoch FROM seen) = 1", "there is no EPOCH here"),
    ],
)
def test_what_a_date_does_not_have_is_refused(passing: Passing, text: str, message: str) -> None:
    with pytest.raises(FilterError, match=message):
        passing(text, "duckdb")


@pytest.mark.parametrize(
    "text",
    [
        "upper(CASE WHEN id = 1 THEN :l ELSE name END) = 'x'",
        "lower(:l) = name",
        "coalesce(name, :l) = 'x'",
        "CASE WHEN upper(coalesce(name, :l)) = 'A' THEN TRUE ELSE FALSE END",
    ],
)
def test_a_long_text_is_compared_and_not_computed_with(passing: Passing, text: str) -> None:
    long = "x" * 201
    with pytest.raises(
        FilterError, match="a text of 201 characters cannot be computed with; at most 200 can"
    ) as caught:
        passing(text, l=long)
    assert caught.value.text[caught.value.start :].startswith(":l")
    with pytest.raises(FilterError, match="cannot be computed with"):
        passing(text.replace(":l", f"'{long}'"))

    assert passing(text, l="x" * 200) is not None
    assert passing("name = :l OR name IN (:l, 'a') OR name LIKE :l", l=long) == [0]
