"""LIKE and ILIKE against every special character, and each dialect's escapes."""

from __future__ import annotations

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval.errors import FilterError
from retrieval.filter import compile_filter
from retrieval.filter.like import MAX_PATTERN_CHARACTERS
from tests.retrieval.filter.naive import DIALECTS, like

TEXTS = ["", "a", "A", "ab", "a%", "a_", "a\\b", "a.b", "axb", "a\nb", "(a", "[a]", "😀", "a😀b", "*", "^a$", "ÄB"]
FRAME = pl.DataFrame({"s": TEXTS})


def found(text: str, dialect: str, **params: object) -> list[str]:
    compiled = compile_filter(text, dialect=dialect, schema=FRAME.schema, params=params)
    return FRAME.filter(compiled.mask(FRAME))["s"].to_list()


@pytest.mark.parametrize(
    ("pattern", "texts"),
    [
        ("a", ["a"]),
        ("", [""]),
        ("%", TEXTS),
        ("_", ["a", "A", "😀", "*"]),
        ("a%", ["a", "ab", "a%", "a_", "a\\b", "a.b", "axb", "a\nb", "a😀b"]),
        ("%b", ["ab", "a\\b", "a.b", "axb", "a\nb", "a😀b"]),
        ("%%.%%", ["a.b"]),
        ("a.b", ["a.b"]),
        ("a_b", ["a\\b", "a.b", "axb", "a\nb", "a😀b"]),
        ("a!%", ["a%"]),
        ("a!_", ["a_"]),
        ("(%", ["(a"]),
        ("[a]", ["[a]"]),
        ("^a$", ["^a$"]),
        ("*", ["*"]),
        ("a\n_", ["a\nb"]),
        ("a%_b", ["a\\b", "a.b", "axb", "a\nb", "a😀b"]),
    ],
)
@pytest.mark.parametrize("dialect", DIALECTS)
def test_only_percent_and_underscore_are_special(pattern: str, texts: list[str], dialect: str) -> None:
    assert found("s LIKE :p ESCAPE '!'", dialect, p=pattern) == texts


@pytest.mark.parametrize("dialect", DIALECTS)
def test_ilike_ignores_case_beyond_ascii(dialect: str) -> None:
    assert found("s ILIKE 'äb'", dialect) == ["ÄB"]
    assert found("s NOT ILIKE :p", dialect, p="%a%") == ["", "😀", "*", "ÄB"]


@pytest.mark.parametrize(
    ("text", "dialect", "texts"),
    [
        (r"s LIKE 'a\%'", "databricks", ["a%"]),
        (r"s LIKE 'a\%'", "postgres", ["a%"]),
        (r"s LIKE 'a\\b'", "duckdb", []),
        (r"s LIKE 'a\b'", "duckdb", ["a\\b"]),
        (r"s LIKE 'a\\b'", "snowflake", ["a\\b"]),
        (r"s LIKE 'a\\b'", "postgres", ["a\\b"]),
        (r"s LIKE 'a\b'", "postgres", ["ab"]),
        (r"s LIKE 'a\\%' ESCAPE '\\'", "snowflake", ["a%"]),
        (r"s LIKE 'a\b' ESCAPE ''", "postgres", ["a\\b"]),
    ],
)
def test_escape_is_the_dialects_own_unless_named(text: str, dialect: str, texts: list[str]) -> None:
    assert found(text, dialect) == texts


def test_null_pattern_is_unknown() -> None:
    assert found("s LIKE :p OR s NOT LIKE :p", "databricks", p=None) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("s LIKE 'a!' ESCAPE '!'", "can't end with its escape character '!'"),
        ("s LIKE 'a!b' ESCAPE '!'", "before %, _ and itself only, not 'b'"),
        ("s LIKE 'a' ESCAPE '!!'", "ESCAPE takes one character"),
        ("s LIKE s", "must be a string in quotes or a parameter"),
        (f"s LIKE '{'a' * (MAX_PATTERN_CHARACTERS + 1)}'", "may have 1000 characters, not 1001"),
    ],
)
def test_misused_pattern_is_an_error(text: str, message: str) -> None:
    with pytest.raises(FilterError, match=message):
        found(text, "databricks")


def test_misused_pattern_in_a_parameter_is_an_error_at_the_parameter() -> None:
    with pytest.raises(FilterError, match="can't end with its escape character") as caught:
        found("s LIKE :p ESCAPE '!'", "databricks", p="a!")
    assert (caught.value.column, caught.value.length) == (8, 2)


def test_longest_pattern_of_underscores_compiles() -> None:
    assert found("s LIKE :p", "duckdb", p="_" * MAX_PATTERN_CHARACTERS) == []


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    pattern=st.lists(st.sampled_from(["%", "_", "!%", "!_", "!!", "a", "b", ".", "\\", "\n"]), max_size=6).map("".join),
    texts=st.lists(st.text(st.sampled_from("ab%_!.\\\n"), max_size=5), min_size=1, max_size=20),
)
def test_like_is_what_trying_every_way_finds(pattern: str, texts: list[str]) -> None:
    frame = pl.DataFrame({"s": texts})
    compiled = compile_filter(
        "s LIKE :p ESCAPE '!'", dialect="databricks", schema={"s": pl.String()}, params={"p": pattern}
    )
    assert compiled.mask(frame).tolist() == [like(text, pattern, "!") for text in texts]
