"""Random statements give what SQLite gives for the same rows."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval.policies import OPERATOR
from retrieval.sql import parse_statement
from tests.retrieval.conftest import Shelf
from tests.retrieval.sql.conftest import run_anywhere

pytestmark = pytest.mark.usefixtures("wherever")

NUMBERS = (
    *("id", "size", "size + 1", "id % 7", "-size", "CASE WHEN size > 40 THEN 1 ELSE size END", "length(colour)"),
    *("abs(size - 40)", "nullif(size % 5, 2)"),
)
TEXTS = (
    *("colour", "upper(colour)", "coalesce(colour, 'none')", "CASE colour WHEN 'red' THEN 'warm' END"),
    *("substr(colour, 2, 2)", "colour || lang", "trim(colour || '  ')"),
)
CONDITIONS = (
    "size < 50",
    "colour = 'red'",
    "colour IS NULL",
    "NOT colour IN ('red', 'blue')",
    "size BETWEEN 20 AND 60",
    "id % 3 = 1",
    "colour <> 'green' OR size > 90",
    "id < 0",
)
AGGREGATES = (
    "count(*)",
    "count(colour)",
    "count(DISTINCT colour)",
    "count(DISTINCT size % 5)",
    "sum(size)",
    "sum(CASE WHEN colour = 'red' THEN size END)",
    "min(size)",
    "max(colour)",
    "avg(size)",
    "max(id) - min(id)",
    "sum(size) + count(*)",
)


@pytest.fixture(scope="module")
def database(shelf: Shelf) -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE TABLE docs (id INTEGER, lang TEXT, colour TEXT, size INTEGER)")
    rows = [(doc.id, doc.lang, doc.colour, doc.size) for doc in shelf.docs]
    connection.executemany("INSERT INTO docs VALUES (?, ?, ?, ?)", rows)
    yield connection
    connection.close()


@st.composite
def ordering(draw: st.DrawFn, choices: list[str]) -> list[str]:
    chosen = draw(st.lists(st.sampled_from(choices), max_size=2, unique=True))
    ways = st.sampled_from(["", " DESC", " ASC NULLS FIRST", " DESC NULLS LAST"])
    return [f"{entry}{draw(ways)}" for entry in chosen]


@st.composite
def statement(draw: st.DrawFn) -> tuple[str, str]:
    """Return a random statement, and the same with the order that Grebe gives to what is equal."""
    kind = draw(st.sampled_from(["rows", "groups", "one", "distinct"]))
    values = draw(st.lists(st.sampled_from((*NUMBERS, *TEXTS)), min_size=1, max_size=3, unique=True))
    aggregates = draw(st.lists(st.sampled_from(AGGREGATES), min_size=1, max_size=3, unique=True))
    where = " AND ".join(f"({part})" for part in draw(st.lists(st.sampled_from(CONDITIONS), max_size=2)))
    selected = {"rows": values, "groups": values + aggregates, "one": aggregates, "distinct": values}[kind]
    ties = {"rows": ["id"], "groups": values, "one": [], "distinct": values}[kind]
    order = draw(ordering(selected + ([str(n + 1) for n in range(len(selected))] if kind != "rows" else [])))
    text = "SELECT " + ("DISTINCT " if kind == "distinct" else "") + ", ".join(selected) + " FROM docs"
    text += f" WHERE {where}" if where else ""
    if kind == "groups":
        text += f" GROUP BY {', '.join(values)}"
        text += draw(st.sampled_from(["", " HAVING count(*) > 2", " HAVING sum(size) > 60 OR max(colour) IS NULL"]))
    window = draw(st.sampled_from(["", " LIMIT 5", " LIMIT 7 OFFSET 3", " LIMIT 0"]))
    ours = text + (f" ORDER BY {', '.join(order)}" if order else "") + window
    full = [entry if "NULLS" in entry else f"{entry} NULLS LAST" for entry in order] + [f"{t} NULLS LAST" for t in ties]
    return ours, text + (f" ORDER BY {', '.join(full)}" if full else "") + window


@settings(derandomize=True, deadline=None, max_examples=150)
@given(statement())
def test_a_statement_gives_what_sqlite_gives(
    shelf: Shelf, database: sqlite3.Connection, texts: tuple[str, str]
) -> None:
    ours, theirs = texts

    answer = run_anywhere(shelf.snapshot, parse_statement(ours, "duckdb"), caller=OPERATOR)

    assert rounded(answer.rows) == rounded(database.execute(theirs).fetchall()), ours


def rounded(rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    return [tuple(round(value, 9) if isinstance(value, float) else value for value in row) for row in rows]
