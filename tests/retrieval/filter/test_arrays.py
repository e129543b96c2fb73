"""What is in arrays: each dialect's spelling, NULL in and beside them, and what is told where there is no array."""

from __future__ import annotations

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval.errors import FilterError
from retrieval.filter import compile_filter
from retrieval.filter.arrays import MAX_LIST_ITEMS
from tests.retrieval.filter.conftest import TABLE, Passing
from tests.retrieval.filter.naive import DIALECTS, overlap

ITEMS = st.one_of(st.none(), st.sampled_from(["a", "A", "b", ""]))
LISTS = st.lists(ITEMS, max_size=3)


@pytest.mark.parametrize("dialect", DIALECTS)
@settings(max_examples=100, deadline=None, derandomize=True)
@given(groups=LISTS, rows=st.lists(st.one_of(st.none(), LISTS), min_size=1, max_size=6), swapped=st.booleans())
def test_a_list_and_a_column_overlap_where_a_plain_reading_says_so(
    dialect: str, groups: list[object], rows: list[list[object] | None], swapped: bool
) -> None:
    frame = pl.DataFrame({"allowed": rows}, schema={"allowed": pl.List(pl.String())})
    text = "arrays_overlap(:groups, allowed)" if swapped else "arrays_overlap(allowed, :groups)"

    made = compile_filter(text, dialect=dialect, schema=frame.schema, params={"groups": groups}).expression()

    expected = [None if row is None else overlap(dialect, row, groups) for row in rows]
    assert frame.select(made).to_series().to_list() == expected


@pytest.mark.parametrize(
    ("text", "dialect", "rows"),
    [
        ("arrays_overlap(tags, array('q', 'z'))", "databricks", [1]),
        ("arrays_overlap(array('x'), tags)", "databricks", [0]),
        ("NOT arrays_overlap(tags, array('q'))", "databricks", [0, 2]),
        ("arrays_overlap(tags, array('q')) IS NULL", "databricks", [1, 3]),
        ("NOT arrays_overlap(tags, array('q', NULL))", "databricks", [2]),
        ("NOT arrays_overlap(tags, array())", "databricks", [0, 1, 2]),
        ("arrays_overlap(tags, array(:one, :two))", "databricks", [0, 1]),
        ("arrays_overlap(array(:one), array('x', :two))", "databricks", [0, 1, 2, 3]),
        ("arrays_overlap(tags, tags)", "databricks", [0, 1]),
        ("arrays_overlap(tags, NULL) IS NULL", "databricks", [0, 1, 2, 3]),
        ("arrays_overlap(sizes, array(2, 300))", "databricks", [0]),
        ("arrays_overlap(sizes, array(2.0, 0.5e0))", "databricks", [0]),
        ("arrays_overlap(sizes, sizes)", "databricks", [0, 1]),
        ("ARRAYS_OVERLAP(tags, ['x', 'y'])", "snowflake", [0]),
        ("ARRAYS_OVERLAP(tags, ARRAY_CONSTRUCT('z'))", "snowflake", [1]),
        ("ARRAYS_OVERLAP(tags, [NULL])", "snowflake", [1]),
        ("list_has_any(tags, ['x', 'z'])", "duckdb", [0, 1]),
        ("array_has_any(tags, ['x', 'z'])", "duckdb", [0, 1]),
        ("tags && ['x', 'z']", "duckdb", [0, 1]),
        ("NOT tags && ['q']", "duckdb", [0, 1, 2]),
        ("tags && ARRAY['x', 'z']", "postgres", [0, 1]),
        ("NOT tags && ARRAY['q', NULL]", "postgres", [0, 1, 2]),
        ("size(tags) = 0", "databricks", [2]),
        ("cardinality(tags) = 2", "databricks", [0, 1]),
        ("array_size(tags) IS NULL", "databricks", [3]),
        ("size(array(:one, :two)) = 2", "databricks", [0, 1, 2, 3]),
        ("ARRAY_SIZE(sizes) = 0", "snowflake", [2]),
        ("len(tags) = 0 OR array_length(tags) = 2", "duckdb", [0, 1, 2]),
        ("array_length(tags, 1) = 0", "duckdb", [2]),
        ("array_length(tags, 1) IS NULL", "postgres", [2, 3]),
        ("cardinality(tags) = 0", "postgres", [2]),
    ],
)
def test_each_dialect_looks_into_arrays_in_its_own_words(
    text: str, dialect: str, rows: list[int], passing: Passing
) -> None:
    params = {name: value for name, value in {"one": "x", "two": "z"}.items() if f":{name}" in text}

    assert passing(text, dialect, **params) == rows


@pytest.mark.parametrize(
    ("element", "values"),
    [
        (pl.Boolean(), [True, False]),
        (pl.Binary(), [b"a", b""]),
        (pl.Float64(), [float("nan"), 1.5]),
        (pl.Float32(), [1.5, -0.0]),
        (pl.Categorical(), ["a", "b"]),
        (pl.Datetime("ms", "UTC"), [1_000, 2_000]),
        (pl.Decimal(10, 2), ["1.25", "2.50"]),
        (pl.UInt64(), [2**63, 1]),
    ],
    ids=str,
)
def test_arrays_of_every_type_overlap(element: pl.DataType, values: list[object]) -> None:
    one, two = pl.Series(values).cast(element)
    column = pl.Series("left", [[one], [one, two], [], None], dtype=pl.List(element))
    frame = pl.DataFrame({"left": column, "right": pl.Series([[two], [two], [two], [two]], dtype=pl.List(element))})

    together = compile_filter("arrays_overlap(left, right)", dialect="databricks", schema=frame.schema)
    with_list = compile_filter(
        "arrays_overlap(left, :items)", dialect="databricks", schema=frame.schema, params={"items": [two]}
    )

    assert together.mask(frame).tolist() == [False, True, False, False]
    assert with_list.mask(frame).tolist() == [False, True, False, False]


@pytest.mark.parametrize(
    ("text", "dialect", "message"),
    [
        ("arrays_overlap(name, :groups)", "databricks", r"name is a STRING, not an array .* write name IN \(:groups\)"),
        ("arrays_overlap(tags, :one)", "databricks", ":one is a STRING, not an array .* give :one as a list"),
        (
            "arrays_overlap(sizes, :groups)",
            "databricks",
            "sizes is an ARRAY<BIGINT> and :groups is an ARRAY<STRING>: they can't have an element in common",
        ),
        ("arrays_overlap(tags, sizes)", "databricks", "arrays whose elements have one type"),
        ("arrays_overlap(tags, array('a', 1))", "databricks", "1 is a BIGINT and 'a' is a STRING"),
        ("arrays_overlap(tags, array(name))", "databricks", "an array in the text holds values and parameters"),
        ("tags && 'x'", "postgres", "'x' is a STRING, not an array"),
        ("size(name) = 1", "databricks", "name is a STRING, not an array"),
        ("array_length(tags, 2) = 1", "postgres", "arrays have one dimension: 1"),
        ("array_contains(tags, :groups)", "databricks", r"is a list; .* write arrays_overlap\(tags, :groups\) to find"),
        ("list_contains(tags, :groups)", "duckdb", r"is a list; .* write list_has_any\(tags, :groups\) to find"),
        (":groups = ANY(tags)", "postgres", "is a list; .* write tags && :groups to find"),
        ("tags IN (:groups)", "databricks", r"can't be compared .* arrays_overlap\(tags, :names\) for any of several"),
        ("array_contains(array('x'), name)", "databricks", "the function array is not allowed here"),
    ],
)
def test_what_is_no_array_or_holds_something_else_is_refused(
    text: str, dialect: str, message: str, passing: Passing
) -> None:
    given = {"groups": ["x"], "one": "x"}
    params = {name: value for name, value in given.items() if f":{name}" in text}

    with pytest.raises(FilterError, match=message):
        passing(text, dialect, **params)


def test_an_array_in_the_text_is_no_longer_than_a_list() -> None:
    text = "arrays_overlap(sizes, array(" + ", ".join(["1"] * (MAX_LIST_ITEMS + 1)) + "))"

    with pytest.raises(FilterError, match="at most 1000 are allowed in the text") as caught:
        compile_filter(text, dialect="databricks", schema=TABLE.schema)

    assert caught.value.code == "filter_limit"
