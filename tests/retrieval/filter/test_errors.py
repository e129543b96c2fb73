"""What a wrong filter is told: a code, a sentence, the place in the text, and what to do."""

from __future__ import annotations

import polars as pl
import pytest

from retrieval.errors import FilterError, RetrievalError
from retrieval.filter import compile_filter, schema_of
from retrieval.filter.filter import MAX_BOUND_ITEMS
from retrieval.filter.parse import MAX_DEPTH, MAX_NESTING, MAX_TEXT_CHARACTERS, MAX_TOKENS
from tests.retrieval.filter.conftest import TABLE
from tests.retrieval.filter.naive import DIALECTS


def refusal(text: str, dialect: str = "databricks", **params: object) -> FilterError:
    with pytest.raises(FilterError) as caught:
        compile_filter(text, dialect=dialect, schema=TABLE.schema, params=params)
    return caught.value


NOT_ALLOWED = [
    ("id = (SELECT 1)", "SELECT", "a subquery is not allowed"),
    ("id IN (SELECT id FROM t)", "SELECT", "a subquery is not allowed"),
    ("EXISTS (SELECT 1)", "SELECT", "a subquery is not allowed"),
    ("SELECT 1", "SELECT", "a statement is not allowed"),
    ("DROP TABLE x", "DROP", "a statement is not allowed"),
    ("WITH a AS (SELECT 1) SELECT 1", "WITH", "a statement is not allowed"),
    ("id = 1; DROP TABLE x", ";", "';' is not allowed"),
    ("id = 1;", ";", "';' is not allowed"),
    ("id = 1 -- and more", "-- and more", "comments are not allowed"),
    ("id = /* 2 */ 1", "/* 2 */", "comments are not allowed"),
    ("id /*+ hint */ = 1", "/*+ hint */", "comments are not allowed"),
    ("sum(id) > 1", "sum(id)", "the function sum is not allowed"),
    ("active AND row_number() OVER (ORDER BY id) = 1", "row_number() OVER (ORDER BY id)", "a window function"),
    ("rand() > 0.5", "rand()", "the function rand is not allowed"),
    ("sleep(10) = 1", "sleep(10)", "the function sleep is not allowed"),
    ("replace(name, 'a', 'b') = 'b'", "replace(name, 'a', 'b')", "the function replace is not allowed"),
    ("t.id = 1", "t.id", "a name of several parts"),
    ("tags[0] = 'x'", "tags[0]", "an element by its place"),
    ("id = @x", "@x", "a parameter not written :name"),
    ("id = ?", "?", "parameters are written :name"),
    ("current_timestamp(3) > seen", "current_timestamp(3)", "current_timestamp is not allowed"),
    ("name NOT LIKE ANY ('a', 'b')", "name NOT LIKE ANY ('a', 'b')", "stands after LIKE without NOT"),
    ("name LIKE ALL ('a', 'b')", "('a', 'b')", "is not allowed here"),
    ("name > ANY (tags)", "(tags)", "ANY, but in x = ANY(array)"),
    ("CAST(name AS BINARY) = 'a'", "CAST(name AS BINARY)", "CAST to BINARY is not allowed"),
]


@pytest.mark.parametrize(("text", "place", "message"), NOT_ALLOWED, ids=[text for text, *_ in NOT_ALLOWED])
def test_what_is_not_on_the_list_is_refused_at_its_place(text: str, place: str, message: str) -> None:
    error = refusal(text)
    assert (error.code, text[error.start : error.start + error.length]) == ("filter_not_allowed", place)
    assert message in error.message


WRONG = [
    ("nmae = 'a'", "filter_unknown_column", "nmae", "there is no column 'nmae'", "did you mean name"),
    ("zzz = 'a'", "filter_unknown_column", "zzz", "there is no column 'zzz'", "columns are id, name"),
    ("zzz = 1", "filter_unknown_column", "zzz", "there is no column 'zzz'", "texts are searched for"),
    ("name = 5", "filter_type", "name = 5", "name is a STRING and 5 is a BIGINT", "write '5' in quotes"),
    ("id = 'high'", "filter_type", "id = 'high'", "id is a BIGINT and 'high' is a STRING", "without quotes"),
    ("id IN (1, 'a')", "filter_type", "id IN (1, 'a')", "id is a BIGINT and 'a' is a STRING", "without quotes"),
    (
        "active AND (name) + 1 > 2",
        "filter_type",
        "(name)",
        "(name) is a STRING, not a number",
        "CAST((name) AS DOUBLE)",
    ),
    ("name < seen", "filter_type", "name < seen", "name is a STRING and seen is a TIMESTAMP", "CAST(seen AS STRING)"),
    ("tags = 'x'", "filter_type", "tags = 'x'", "tags is an ARRAY<STRING>: it can't be compared", "array_contains"),
    (
        "array_contains(name, 'x')",
        "filter_type",
        "name",
        "name is a STRING, not an array",
        "array_contains(array, value)",
    ),
    ("id", "filter_type", "id", "id is a BIGINT, not a condition", "compare it with something"),
    ("NOT name", "filter_type", "name", "name is a STRING, not a condition", "compare it with something"),
    ("lower(id) = 'a'", "filter_type", "id", "lower takes a STRING, and id is a BIGINT", "CAST(id AS STRING)"),
    (
        "score % 2 = 0",
        "filter_type",
        "score",
        "a remainder takes a BIGINT, and score is a DOUBLE",
        "CAST(score AS BIGINT)",
    ),
    ("place = 1", "filter_type", "place", "column place", ""),
    ("INTERVAL '1' DAY = 1", "filter_type", "INTERVAL '1' DAY", "an interval can't stand alone", "add it to a date"),
    ("published - published = 1", "filter_type", "published - published", "move by an INTERVAL only", "CURRENT_DATE"),
    (
        "code + INTERVAL '1' DAY > seen",
        "filter_type",
        "code",
        "code is a STRING, not a date",
        "CAST(code AS TIMESTAMP)",
    ),
    ("CAST(score AS STRING) = '1'", "filter_type", "CAST(score AS STRING)", "can't be cast to STRING", "DECIMAL(p, s)"),
    ("CAST(name AS DECIMAL(50, 2)) = 1", "filter_type", "CAST(name AS DECIMAL(50, 2))", "no DECIMAL(50, 2)", ""),
    ("published > 'soon'", "filter_value", "'soon'", "'soon' is not a date", ""),
    ("published > DATE '2024-02-30'", "filter_value", "DATE '2024-02-30'", "is not a date: day is out of range", ""),
    ("seen > TIMESTAMP '2024'", "filter_value", "TIMESTAMP '2024'", "'2024' is not a timestamp", ""),
    ("CAST('x' AS INT) = 1", "filter_value", "CAST('x' AS INT)", "'x' can't be cast to BIGINT", ""),
    (
        "seen > now() - INTERVAL '1' FORTNIGHT",
        "filter_value",
        "INTERVAL '1' FORTNIGHT",
        "no interval unit FORTNIGHT",
        "YEAR",
    ),
    ("seen > now() - INTERVAL '99999' YEAR", "filter_value", "INTERVAL '99999' YEAR", "10,000 years at most", ""),
    ("id IN ()", "filter_syntax", "id IN ()", "the list is empty", ""),
    ("id = ", "filter_syntax", "=", "the SQL ends too early", ""),
    ("(id = 1", "filter_syntax", "1", "ends too early: ) is missing", ""),
    ("id = 1)", "filter_syntax", ")", "unexpected ')'", ""),
    ("id 1", "filter_syntax", "1", "unexpected '1'", ""),
    ("WHERE id = 1", "filter_syntax", "WHERE", "leave out the word WHERE", ""),
    ("id = 'x", "filter_syntax", "'x", "never closed: ' is missing", ""),
    ("id = :x", "filter_parameter", ":x", "no value was given for :x", "no parameters were given"),
]


@pytest.mark.parametrize(("text", "code", "place", "message", "hint"), WRONG, ids=[text for text, *_ in WRONG])
def test_error_names_the_place_and_what_to_do(text: str, code: str, place: str, message: str, hint: str) -> None:
    error = refusal(text)
    assert (error.code, text[error.start : error.start + error.length]) == (code, place)
    assert message in error.message
    assert hint in error.hint


@pytest.mark.parametrize(("n", "end"), [(50, "c48, c49; texts"), (51, "c48, c49 and 1 more; texts")])
def test_an_unknown_name_is_told_all_columns_there_are_up_to_fifty(n: int, end: str) -> None:
    with pytest.raises(FilterError) as caught:
        compile_filter("zzz = 1", dialect="duckdb", schema={f"c{at}": pl.Int64() for at in range(n)})

    assert caught.value.hint.startswith("columns are c0, c1, ")
    assert end in caught.value.hint


def test_a_text_field_is_called_one_and_how_to_filter_by_it_is_said() -> None:
    schema = schema_of({"year": pl.Int64(), "summary": pl.String()}, ["Title", "summary"])
    with pytest.raises(FilterError) as caught:
        compile_filter("title = 'x'", dialect="databricks", schema=schema)

    assert (caught.value.code, caught.value.message, caught.value.hint) == (
        "filter_unknown_column",
        "Title is a text field, which is searched, and not a column to filter by",
        "name it in the spec's `columns` too, which takes a rebuild, and it is both",
    )
    assert compile_filter("summary = 'x'", dialect="databricks", schema=schema).columns == {"summary"}


def test_place_is_given_by_line_and_column_with_an_excerpt() -> None:
    error = refusal("active\n  AND nmae = 'ü'\n  AND id = 1")
    assert (error.line, error.column, error.length) == (2, 7, 4)
    assert error.excerpt() == "  AND nmae = 'ü'\n      ^^^^"
    assert str(error).startswith("there is no column 'nmae' (line 2, column 7); did you mean")
    assert isinstance(error, RetrievalError)


def test_excerpt_of_a_long_line_shows_what_is_around_the_place() -> None:
    error = refusal("active AND " * 300 + "nmae = 1")
    assert error.excerpt().endswith("AND nmae = 1\n" + " " * 80 + "^^^^")


@pytest.mark.parametrize("text", ["", "  \n ", "-- only a comment"])
def test_empty_filter_is_an_error(text: str) -> None:
    assert refusal(text).code in ("filter_syntax", "filter_not_allowed")


def test_quoted_name_must_match_exactly_where_the_dialect_says_so() -> None:
    assert refusal('"mixed" = 1', "snowflake").hint == 'write one of: "Mixed"'


def test_name_that_could_be_two_columns_is_an_error() -> None:
    schema: dict[str, pl.DataType] = {"Id": pl.Int64(), "ID": pl.Int64()}
    with pytest.raises(FilterError, match="id could be Id or ID"):
        compile_filter("id = 1", dialect="postgres", schema=schema, params={})
    assert compile_filter("ID = 1", dialect="postgres", schema=schema, params={}).columns == {"ID"}


@pytest.mark.parametrize(
    "text",
    [
        "(" * 500 + "active" + ")" * 500,
        "NOT " * 500 + "active",
        "- " * 500 + "id = 1",
        "CASE WHEN " * 500 + "active" + " THEN active END" * 500,
        "lower(" * 500 + "name" + ")" * 500 + " = 'a'",
        "+".join(["id"] * (MAX_DEPTH + 2)) + " = 1",
        "id" + "::BIGINT" * (MAX_DEPTH + 2) + " = 1",
        "id = 1 AND " * MAX_TOKENS + "id = 1",
        "id IN (" + ", ".join(["1"] * 1_001) + ")",
        "x" * (MAX_TEXT_CHARACTERS + 1),
        "active = NOT " * 90 + "active",
    ],
    ids=lambda text: text[:20],
)
@pytest.mark.parametrize("dialect", DIALECTS)
def test_deep_and_long_filters_are_refused_cleanly(text: str, dialect: str) -> None:
    assert refusal(text, dialect).code in ("filter_limit", "filter_syntax")


@pytest.mark.parametrize("dialect", DIALECTS)
def test_nesting_up_to_the_limit_is_allowed(dialect: str) -> None:
    text = "(" * MAX_NESTING + "active" + ")" * MAX_NESTING
    assert compile_filter(text, dialect=dialect, schema=TABLE.schema, params={}).columns == {"active"}


def test_unknown_dialect_is_an_error() -> None:
    error = refusal("id = 1", "oracle")
    assert (error.code, error.length, error.excerpt()) == ("filter_dialect", 0, "")


def test_too_many_bound_items_are_refused() -> None:
    assert refusal("id IN (:x)", x=[1] * (MAX_BOUND_ITEMS + 1)).code == "filter_limit"


def test_filter_that_polars_cannot_evaluate_is_an_error() -> None:
    compiled = compile_filter("name = 'a'", dialect="duckdb", schema={"name": pl.String()}, params={})
    with pytest.raises(FilterError, match="can't be evaluated"):
        compiled.mask(pl.DataFrame({"name": [1]}))
