"""Functions of texts and numbers, in every dialect that has them, against rows worked out by hand."""

from __future__ import annotations

from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_UP, Decimal, localcontext

import polars as pl
import pytest

from retrieval.errors import FilterError
from retrieval.filter import compile_filter
from tests.retrieval.filter.conftest import Passing
from tests.retrieval.filter.naive import DIALECTS

EVERYWHERE: list[tuple[str, list[int]]] = [
    ("name || '!' = 'a!'", [0]),
    ("name || '!' IS NULL", [3]),
    ("concat(name, code, '!') = 'a5!'", [0]),
    ("substr(name, 2) = '_%'", [1]),
    ("substring(name, 1, 1) = 'B'", [1]),
    ("substring(name FROM 2 FOR 1) = '_'", [1]),
    ("substr(name, 2, 0) = ''", [0, 1, 2]),
    ("substr(name, 9) = ''", [0, 1, 2]),
    ("substr(name, NULL) IS NULL", [0, 1, 2, 3]),
    ("left(name, 2) = 'B_'", [1]),
    ("right(name, 2) = 'ü\n'", [2]),
    ("right(name, 0) = ''", [0, 1, 2]),
    ("trim(code) = '7'", [1]),
    ("ltrim(code) = '7 '", [1]),
    ("rtrim(code) = ' 7'", [1]),
    ("trim(name) = 'ü\n'", [2]),  # spaces are taken away, and no line ends
    ("starts_with(name, 'B_')", [1]),
    ("NOT starts_with(name, 'B_')", [0, 2]),
    ("contains(name, '%')", [1]),
    ("contains(name, '')", [0, 1, 2]),
    ("abs(price) = 3.5", [3]),
    ("abs(0 - id) = 2", [1]),
    ("abs(score) = 0", [3]),
    ("abs(-9223372036854775808) IS NULL", [0, 1, 2, 3]),
    ("floor(price) = -4", [3]),
    ("ceil(price) = 2", [0]),
    ("ceiling(score + 0.5e0) = 2", [0]),
    ("floor(id) = 1", [0]),
    ("round(price) = 3", [2]),
    ("round(price) = -4", [3]),
    ("round(price, 1) = 1.3", [0]),
    ("round(price, 5) = 1.25", [0]),
    ("round(id, 2) = 3", [2]),
    ("round(1.4e0) = 1", [0, 1, 2, 3]),
    ("nullif(id, 1) IS NULL", [0, 3]),
    ("nullif(id, NULL) = 1", [0]),
    ("nullif(id, 1.5) = 1", [0]),
    ("nullif(name, 'a') = 'B_%'", [1]),
    ("nullif(published, '2024-01-01') IS NULL", [0, 2]),
    ("length(name || coalesce(code, '')) = 2", [0]),
]


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize(("text", "rows"), EVERYWHERE, ids=[text for text, _ in EVERYWHERE])
def test_a_function_passes_the_same_rows_in_every_dialect(
    text: str, rows: list[int], dialect: str, passing: Passing
) -> None:
    assert passing(text, dialect) == rows


@pytest.mark.parametrize(
    ("text", "dialect", "rows"),
    [
        ("concat(name, '!') = '!'", "databricks", []),
        ("concat(name, '!') = '!'", "snowflake", []),
        ("concat(name, '!') = '!'", "duckdb", [3]),
        ("concat(name, '!') = '!'", "postgres", [3]),
        ("startswith(name, 'a')", "snowflake", [0]),
        ("if(active, id, 7) = 7", "databricks", [1, 2]),
        ("iff(active, id, 7) = 7", "snowflake", [1, 2]),
        ("if(active, id, 7) = 7", "duckdb", [1, 2]),
        ("if(active, 'yes', NULL) = 'yes'", "databricks", [0, 3]),
        ("round(2.5e0) = 3", "databricks", [0, 1, 2, 3]),
        ("round(2.5e0) = 3", "snowflake", [0, 1, 2, 3]),
        ("round(2.5e0) = 3", "duckdb", [0, 1, 2, 3]),
        ("round(2.5e0) = 2", "postgres", [0, 1, 2, 3]),
        ("round(-2.5e0) = -3", "duckdb", [0, 1, 2, 3]),
        ("round(2.25e0, 1) = 2.3", "databricks", [0, 1, 2, 3]),
        ("btrim(code) = '7'", "postgres", [1]),
        ("trim(name || '\u00a0') = 'a'", "duckdb", [0]),
        ("trim(name || '\u00a0') = 'a'", "databricks", []),
        ("trim(LEADING FROM code) = '7 '", "postgres", [1]),
    ],
)
def test_a_function_follows_its_dialect(text: str, dialect: str, rows: list[int], passing: Passing) -> None:
    assert passing(text, dialect) == rows


def test_places_and_counts_may_be_parameters(passing: Passing) -> None:
    assert passing("substr(name, :first, :count) = '_'", first=2, count=1) == [1]
    assert passing("left(name, :count) = 'B'", count=1) == [1]
    assert passing("left(name, :count) IS NULL", count=None) == [0, 1, 2, 3]
    assert passing("nullif(:x, id) = 1", x=1) == [1, 2, 3]
    assert passing("starts_with(:long, name)", long="a" * 300) == [0]
    with pytest.raises(FilterError, match=":first: substr takes a whole number from 1 here, not 0"):
        passing("substr(name, :first) = ''", first=0)


@pytest.mark.parametrize(
    ("text", "dialect", "code", "message"),
    [
        ("substr(name, 0) = 'a'", "duckdb", "filter_value", "substr takes a whole number from 1 here, not 0"),
        ("substr(name, -2) = 'a'", "duckdb", "filter_value", "substr takes a whole number from 1 here, not -2"),
        ("left(name, -1) = 'a'", "postgres", "filter_value", "left takes a whole number from 0 here, not -1"),
        ("substr(name, id) = 'a'", "duckdb", "filter_not_allowed", "substr takes a number or a parameter here"),
        ("substr(name, 1.5) = 'a'", "duckdb", "filter_type", "substr takes a BIGINT"),
        ("left(id, 1) = '1'", "duckdb", "filter_type", "left takes a STRING, and id is a BIGINT"),
        ("name || id = 'a1'", "duckdb", "filter_type", r"joining texts takes a STRING, .*CAST\(id AS STRING\)"),
        ("abs(name) = 1", "duckdb", "filter_type", "abs takes a DOUBLE, and name is a STRING"),
        ("round(name) = 1", "duckdb", "filter_type", "round takes a DOUBLE, and name is a STRING"),
        ("round(price, -1) = 0", "duckdb", "filter_value", "round takes a number of places from 0 to 38"),
        ("round(price, id) = 0", "duckdb", "filter_value", "round takes a number of places from 0 to 38"),
        ("round(score, 2) = 0", "postgres", "filter_type", r"write round\(CAST\(score AS DECIMAL\(18, 2\)\), 2\)"),
        ("trim('x' FROM code) = 'x'", "duckdb", "filter_not_allowed", "trim takes spaces away here, and no other"),
        ("nullif(id, name) = 1", "duckdb", "filter_type", "they can't be compared"),
        ("if(id, 1, 2) = 1", "databricks", "filter_type", "id is a BIGINT, not a condition"),
        ("replace(name, 'a', 'b') = 'b'", "duckdb", "filter_not_allowed", "allowed are lower, upper, length, trim"),
        (" || ".join(["name"] * 17) + " = 'x'", "duckdb", "filter_limit", "more than 16 texts"),
        ("concat(name, " + "'x', " * 15 + "'y') = 'x'", "duckdb", "filter_limit", "more than 16 texts"),
        ("concat(" + "name || code, " * 8 + "name) = 'x'", "duckdb", "filter_limit", "more than 16 texts"),
        (f"substr('{'x' * 201}', 2) = name", "duckdb", "filter_limit", "cannot be computed with"),
    ],
)
def test_what_a_function_does_not_take_is_refused(
    text: str, dialect: str, code: str, message: str, passing: Passing
) -> None:
    with pytest.raises(FilterError, match=message) as caught:
        passing(text, dialect)
    assert caught.value.code == code


def test_texts_of_sixteen_columns_are_joined(passing: Passing) -> None:
    assert passing(" || ".join(["name"] * 16) + f" = '{'a' * 16}'") == [0]


EDGES = ["99999999999999999999.500000000000000000", "-99999999999999999999.5", "1.5", "-2.5", "2.500000000000000001"]


@pytest.mark.parametrize(
    ("values", "scale"), [(EDGES, 18), (["0.5", "-0.25", "0.99"], 38)], ids=["twenty digits", "no whole digit"]
)
@pytest.mark.parametrize(
    ("name", "way"),
    [("floor", ROUND_FLOOR), ("ceil", ROUND_CEILING), ("round", ROUND_HALF_UP)],
    ids=["floor", "ceil", "round"],
)
def test_decimals_are_rounded_where_their_own_scale_has_no_room(
    name: str, way: str, values: list[str], scale: int
) -> None:
    decimals = [Decimal(text) for text in values]
    frame = pl.DataFrame({"d": pl.Series([*decimals, None], dtype=pl.Decimal(38, scale))})
    for at, value in enumerate(decimals):
        with localcontext(prec=80):
            expected = value.quantize(Decimal(1), way)
        text = f"{name}(d) = CAST('{expected}' AS DECIMAL(38, 0)) AND d = CAST('{value}' AS DECIMAL(38, {scale}))"
        assert compile_filter(text, dialect="duckdb", schema=frame.schema, params={}).mask(frame).nonzero()[0] == [at]


def test_a_double_that_has_nothing_after_so_many_places_stays_as_it_is(passing: Passing) -> None:
    assert passing("round(2.5e0, 37) = 2.5e0 AND round(1e300, 2) = 1e300", "duckdb") == [0, 1, 2, 3]
