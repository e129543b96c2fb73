"""What a SELECT may hold, and what the others are told: a sentence, and the place in the text."""

from __future__ import annotations

from typing import Any

import pytest

from retrieval.errors import FilterError
from retrieval.filter.dialects import DIALECTS
from retrieval.sql import Searched, parse_statement, searched_by
from tests.retrieval.sql.conftest import place

NOT_ALLOWED = [
    ("DELETE FROM t", "DELETE", "only SELECT is allowed"),
    (";", ";", "only SELECT is allowed"),
    ("WITH x AS (SELECT 1) SELECT * FROM x", "WITH", "only SELECT is allowed"),
    ("SELECT a FROM t; SELECT b FROM t", ";", "one statement at a time"),
    ("SELECT 1 FROM a UNION SELECT 2 FROM b", "1 FROM a UNION SELECT 2 FROM b", "one SELECT is allowed"),
    ("SELECT a", "a", "FROM is missing"),
    ("SELECT a FROM b.t", "b.t", "by its name alone"),
    ("SELECT a FROM (SELECT 1)", "(SELECT 1)", "FROM names one collection"),
    ("SELECT a FROM t, u", "u", "joins nothing"),
    ("SELECT a FROM t JOIN u ON 1 = 1", "u ON 1 = 1", "joins nothing"),
    ("SELECT a FROM t TABLESAMPLE (5 ROWS)", "t TABLESAMPLE (5 ROWS)", "by its name alone"),
    ("SELECT u.a FROM t", "u.a", "there is no table 'u' in FROM"),
    ("SELECT t.a FROM t AS b", "t.a", "there is no table 't' in FROM"),
    ("SELECT u.t.a FROM t", "u.t.a", "there is no table 't' in FROM"),
    ("SELECT FROM t", "FROM", "SELECT names nothing"),
    ("SELECT a FROM t WHERE search('x', query => 'y')", "'y'", "search takes a text, k and mode"),
    ("SELECT a INTO x FROM t", "x", "INTO is not allowed"),
    ("SELECT a FROM t FOR UPDATE", "UPDATE", "LOCKS is not allowed"),
    ("SELECT a FROM t QUALIFY 1 = 1", "1 = 1", "QUALIFY is not allowed"),
    ("SELECT * EXCEPT (a) FROM t", "* EXCEPT (a)", "* stands alone"),
    ("SELECT a FROM t LIMIT 2 + 1", "2 + 1", "2 + 1 is not allowed here"),
    ("SELECT a FROM t LIMIT 10 PERCENT", "10 PERCENT", "10 PERCENT is not allowed here"),
    ("SELECT a FROM t FETCH FIRST 3 ROWS ONLY", "3 ROWS ONLY", "3 ROWS ONLY is not allowed here"),
    ("SELECT DISTINCT ON (a) a FROM t", "a", "DISTINCT ON is not allowed"),
    ("SELECT a FROM t WHERE search('x') AND search('y')", "search('y')", "one search is allowed"),
    ("SELECT a FROM t WHERE search(a)", "a", "search takes a text, k and mode"),
    ("SELECT a FROM t WHERE search('x', 'y')", "'y'", "search takes a text, k and mode"),
    ("SELECT a FROM t WHERE search('x', n => 3)", "3", "search takes a text, k and mode"),
    ("SELECT a FROM t WHERE search()", "search()", "search needs a text"),
]


@pytest.mark.parametrize(("text", "at", "message"), NOT_ALLOWED, ids=[text for text, *_ in NOT_ALLOWED])
def test_what_is_not_one_plain_select_is_refused_at_its_place(text: str, at: str, message: str) -> None:
    with pytest.raises(FilterError) as caught:
        parse_statement(text, "databricks")

    assert message in caught.value.message
    assert at in place(caught.value)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_every_dialect_reads_the_whole_form(dialect: str) -> None:
    text = (
        "SELECT b.size AS s, count(*) FROM Books AS b WHERE (search(:q, k => 5) AND b.size > 3) AND id < 9 "
        "GROUP BY s HAVING count(*) > 1 ORDER BY s DESC LIMIT :n OFFSET 2;"
    )

    statement = parse_statement(text, dialect)

    assert (statement.collection, len(statement.items), len(statement.order)) == ("books", 2, 1)
    assert statement.condition is not None
    assert statement.condition.sql() == "size > 3 AND id < 9"
    assert searched_by(statement, {"q": "birds", "n": 4}) == Searched(query="birds", k=5, mode=None)


@pytest.mark.parametrize(
    ("text", "name"),
    [("SELECT 1 FROM BOOKS", "books"), ("SELECT 1 FROM `my-books`", "my-books"), ("SELECT 1 FROM `Books`", "Books")],
)
def test_a_name_without_quotes_is_in_small_letters(text: str, name: str) -> None:
    assert parse_statement(text, "databricks").collection == name


SEARCHES: list[tuple[str, dict[str, Any], Searched]] = [
    ("search('x')", {}, Searched(query="x", k=100, mode=None)),
    ("search(:q, mode => :m, k => :k)", {"q": "x", "m": "vector", "k": 7}, Searched(query="x", k=7, mode="vector")),
    ("search('x') ORDER BY 1 LIMIT 400 OFFSET 50", {}, Searched(query="x", k=450, mode=None)),
    ("search('x') LIMIT 5", {}, Searched(query="x", k=100, mode=None)),
    ("search('x') LIMIT 9000", {}, Searched(query="x", k=1000, mode=None)),
]


@pytest.mark.parametrize(("where", "params", "searched"), SEARCHES, ids=[where for where, *_ in SEARCHES])
def test_a_search_finds_a_hundred_rows_or_as_many_as_are_asked_for(
    where: str, params: dict[str, Any], searched: Searched
) -> None:
    assert searched_by(parse_statement(f"SELECT a FROM t WHERE {where}", "duckdb"), params) == searched


@pytest.mark.parametrize(
    ("where", "params", "message"),
    [
        ("search('  ')", {}, "not blank"),
        ("search(:q)", {"q": 5}, "not blank"),
        ("search(:q)", {}, "no value was given for :q"),
        ("search('x', k => 0)", {}, "k takes a whole number from 1 to 1,000"),
        ("search('x', k => :k)", {"k": True}, "k takes a whole number"),
        ("search('x', mode => 'fast')", {}, "mode is one of 'hybrid', 'vector', 'keyword'"),
        ("search('x') LIMIT 10001", {}, "LIMIT takes a whole number from 0 to 10,000"),
        ("search('x') LIMIT :n", {"n": "5"}, "LIMIT takes a whole number"),
        ("search('x') LIMIT 1 OFFSET 2147483648", {}, "OFFSET takes a whole number"),
    ],
)
def test_arguments_out_of_range_are_refused(where: str, params: dict[str, Any], message: str) -> None:
    with pytest.raises(FilterError, match=message):
        searched_by(parse_statement(f"SELECT a FROM t WHERE {where}", "duckdb"), params)
