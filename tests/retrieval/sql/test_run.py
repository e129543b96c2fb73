"""SELECT over small collections: what is shown, grouped and ordered, and what is refused once the columns are known."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from retrieval.errors import DeadlineExceeded
from retrieval.policies import OPERATOR, Caller
from retrieval.request import SearchRequest
from retrieval.search import search
from retrieval.snapshot import Snapshot
from retrieval.sql import SqlColumn, evaluate, here, parse_statement, run
from retrieval.sql.plan import plan_of
from tests.retrieval.conftest import Shelf
from tests.retrieval.library import Doc, Library, spec_of
from tests.retrieval.sql.conftest import ask, on_one_machine, place, refusal, run_anywhere

pytestmark = pytest.mark.usefixtures("wherever")

NOON = datetime(2024, 1, 1, 12, tzinfo=UTC)
NAN, INF = float("nan"), float("inf")


@pytest.fixture(scope="module")
def typed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Snapshot]:
    """One row of each kind of trouble, over two segments."""
    columns = ["colour", "size", "amount", "price", "at", "tags"]
    library = Library(tmp_path_factory.mktemp("typed"), spec_of(columns=columns))
    library.add(
        Doc(id=1, title="One", bodies=("a first ", "chunk"), vectors=(None, None), amount=Decimal("1.10"), at=NOON),
        Doc(id=2, colour="blue", size=7, amount=Decimal("2.20"), price=0.5, tags=("x", "y")),
    )
    library.add(
        Doc(id=3, colour="blue", size=None, price=NAN, at=NOON.replace(year=2025)),
        Doc(id=4, colour=None, size=2**31 - 1, amount=Decimal("-0.30"), price=-0.0),
    )
    with library.open() as snapshot:
        yield snapshot


def test_a_star_is_the_stored_columns_and_the_whole_text_fields(typed: Snapshot) -> None:
    answer = ask(typed, "SELECT * FROM docs WHERE id = 1")

    assert [column.name for column in answer.columns] == [*typed.spec.stored_columns, "title", "body"]
    assert answer.rows == [(1, "red", 0, Decimal("1.10"), None, NOON, None, "One", "a first chunk")]
    assert (answer.keys, answer.truncated, answer.read) == ([(1,)], False, 1)


def test_columns_have_the_names_and_types_of_what_is_selected(typed: Snapshot) -> None:
    text = "SELECT Size, size + 1 AS More, amount * 2, at, tags, max(price), count(*) n FROM docs"
    with_groups = text + " GROUP BY size, amount, at, tags"
    assert refusal(typed, with_groups).message == "tags is an ARRAY<STRING>: it cannot be grouped by"

    answer = ask(typed, "SELECT Size, size + 1 AS More, amount * 2, at, tags, `body` FROM docs LIMIT 0")

    assert answer.columns == (
        SqlColumn(name="size", type="BIGINT"),
        SqlColumn(name="More", type="BIGINT"),
        SqlColumn(name="amount * 2", type="DECIMAL(11, 2)"),
        SqlColumn(name="at", type="TIMESTAMP"),
        SqlColumn(name="tags", type="ARRAY<STRING>"),
        SqlColumn(name="body", type="STRING"),
    )
    assert answer.rows == []


def test_aggregates_skip_null_keep_decimals_and_take_nan_for_the_largest(typed: Snapshot) -> None:
    aggregates = "sum(amount), avg(amount), min(price), max(price), count(price), max(at), sum(size), min(colour)"

    answer = ask(typed, f"SELECT {aggregates} FROM docs")

    (row,) = answer.rows
    assert str(row[3]) == "nan"
    assert row[:3] == (Decimal("3.00"), pytest.approx(1.0), -0.0)
    assert row[4:] == (3, NOON.replace(year=2025), 2**31 + 6, "blue")
    assert [column.type for column in answer.columns[:2]] == ["DECIMAL(20, 2)", "DOUBLE"]
    assert (answer.keys, answer.read) == ([(1,), (2,), (3,), (4,)], 4)


def test_over_nothing_there_is_one_row_of_nulls_and_zeros_but_no_group(typed: Snapshot) -> None:
    assert ask(typed, "SELECT count(*), count(size), sum(size), max(at) FROM docs WHERE id < 0").rows == [
        (0, 0, None, None)
    ]
    assert ask(typed, "SELECT colour, count(*) FROM docs WHERE id < 0 GROUP BY colour").rows == []


def test_a_sum_beyond_64_bits_is_an_error_and_not_another_number(typed: Snapshot) -> None:
    error = refusal(typed, "SELECT sum(9223372036854775807) FROM docs")

    assert (error.code, error.message) == ("filter_failed", "a sum does not fit 64 bits")
    assert ask(typed, "SELECT sum(CAST(9223372036854775807 AS DOUBLE)) FROM docs").rows == [(4 * 2.0**63,)]


def test_null_and_nan_are_groups(typed: Snapshot) -> None:
    assert ask(typed, "SELECT colour, count(*) FROM docs GROUP BY colour ORDER BY 1 DESC NULLS FIRST").rows == [
        (None, 1),
        ("red", 1),
        ("blue", 2),
    ]
    prices = ask(typed, "SELECT DISTINCT price IS NULL, price FROM docs ORDER BY price DESC NULLS LAST").rows
    assert [(missing, str(value).lstrip("-")) for missing, value in prices] == [
        (False, "nan"),
        (False, "0.5"),
        (False, "0.0"),
        (True, "None"),
    ]


@pytest.mark.parametrize(
    ("dialect", "first", "last"),
    [("databricks", None, "red"), ("snowflake", "blue", None), ("postgres", "blue", None), ("duckdb", "blue", None)],
)
def test_nulls_stand_where_the_dialect_puts_them(typed: Snapshot, dialect: str, first: Any, last: Any) -> None:
    rows = ask(typed, "SELECT colour FROM docs ORDER BY colour", dialect=dialect).rows

    assert (rows[0][0], rows[-1][0]) == (first, last)


def test_rows_that_compare_equal_and_those_of_no_order_come_by_key(shelf: Shelf) -> None:
    ids = sorted(doc.id for doc in shelf.docs)

    assert [key for (key,) in ask(shelf.snapshot, "SELECT id FROM docs").rows] == ids
    assert [key for (key,) in ask(shelf.snapshot, "SELECT id FROM docs ORDER BY lang LIMIT 5").rows] == ids[:5]


def test_without_a_limit_an_answer_stops_at_a_thousand_and_says_so(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "DEFAULT_ROWS", 3)

    assert [(len(a.rows), a.truncated) for a in (
        ask(shelf.snapshot, "SELECT id FROM docs"),
        ask(shelf.snapshot, "SELECT id FROM docs WHERE id IN (1, 2, 3)"),
        ask(shelf.snapshot, "SELECT id FROM docs LIMIT 4"),
        ask(shelf.snapshot, "SELECT id, count(*) FROM docs GROUP BY id"),
        ask(shelf.snapshot, "SELECT id FROM docs WHERE search('solar', mode => 'keyword')"),
        ask(shelf.snapshot, "SELECT id FROM docs WHERE search('solar', mode => 'keyword') LIMIT 2"),
    )] == [(3, True), (3, False), (4, False), (3, True), (3, True), (2, False)]  # fmt: skip


@pytest.mark.parametrize("tail", ["ORDER BY size DESC", "WHERE size > 30", "GROUP BY colour, id, size"])
def test_a_page_is_what_comes_after_the_rows_before_it(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch, tail: str
) -> None:
    statement = parse_statement(f"SELECT id, size FROM docs {tail}", "duckdb")
    whole = run_anywhere(shelf.snapshot, statement, caller=OPERATOR)
    monkeypatch.setattr(run, "DEFAULT_ROWS", 11)

    page = run_anywhere(shelf.snapshot, statement, caller=OPERATOR, skip=22)

    assert (page.rows, page.truncated, page.read) == (whole.rows[22:33], True, whole.read)


def test_a_search_in_where_ranks_what_the_rest_passes(shelf: Shelf) -> None:
    hits = search(
        shelf.snapshot, SearchRequest(query="solar wind", mode="keyword", filter="size < 60", k=5), caller=OPERATOR
    ).results

    answer = ask(
        shelf.snapshot,
        "SELECT id, score(), passage() AS why, title FROM docs "
        "WHERE search('solar wind', mode => 'keyword', k => 5) AND size < 60",
    )

    found, expected = [row[:3] for row in answer.rows], [(hit.key[0], hit.score, hit.text) for hit in hits]
    if on_one_machine():  # elsewhere a node's own mean length weighs in the scores
        assert found == expected
    assert [row[1] for row in found] == sorted((row[1] for row in found), reverse=True)
    assert found[0][1] == pytest.approx(expected[0][1], rel=0.1)
    assert [column.name for column in answer.columns] == ["id", "score", "why", "title"]
    assert answer.search is not None
    assert (answer.search.mode, answer.read) == ("keyword", 5)


def test_hits_can_be_ordered_and_grouped_as_other_rows(shelf: Shelf) -> None:
    where = "WHERE search(:q, mode => 'keyword', k => 40)"
    hits = ask(shelf.snapshot, f"SELECT id, colour, score() AS s FROM docs {where}", q="solar").rows

    by_id = ask(shelf.snapshot, f"SELECT id, colour, score() FROM docs {where} ORDER BY id DESC", q="solar").rows
    best = ask(
        shelf.snapshot, f"SELECT colour, max(score()) m FROM docs {where} GROUP BY colour ORDER BY m DESC", q="solar"
    )

    assert by_id == sorted(hits, key=lambda row: -row[0])
    scores: dict[Any, float] = {}
    for _, colour, score in hits:
        scores[colour] = max(score, scores.get(colour, 0.0))
    assert dict(best.rows) == scores


def test_names_mean_aliases_in_order_by_and_columns_first_in_group_by(shelf: Shelf) -> None:
    assert ask(shelf.snapshot, "SELECT -id AS id FROM docs ORDER BY id LIMIT 1").rows == [(-304,)]
    grouped = ask(shelf.snapshot, "SELECT size % 2 AS size, count(*) FROM docs GROUP BY size % 2 ORDER BY size")
    assert [row[0] for row in grouped.rows] == [0, 1]
    assert refusal(shelf.snapshot, "SELECT size % 2 AS size, id FROM docs GROUP BY size").message == (
        "id is neither grouped by nor in an aggregate"
    )
    every = ask(
        shelf.snapshot, "SELECT colour AS c, count(*) AS n FROM docs GROUP BY ALL HAVING n > 0 ORDER BY 2 DESC, c"
    )
    assert sum(n for _, n in every.rows) == len(shelf.docs)


REFUSED = [
    ("SELECT nope FROM docs", "filter_unknown_column", "nope", "there is no column 'nope'"),
    ("SELECT upper(title) FROM docs", "filter_type", "title", "title is a text field"),
    ("SELECT id FROM docs WHERE title = 'x'", "filter_type", "title", "title is a text field"),
    ("SELECT title FROM docs ORDER BY 1", "filter_type", "title", "title is a text field"),
    ("SELECT DISTINCT title FROM docs", "filter_type", "title", "title is a text field"),
    ("SELECT sum(colour) FROM docs", "filter_type", "colour", "colour is a STRING: it cannot be added up"),
    ("SELECT sum(count(*)) FROM docs", "filter_not_allowed", "count(*)", "the function count is not allowed here"),
    ("SELECT sum(*) FROM docs", "filter_not_allowed", "sum(*)", "only count takes *"),
    ("SELECT id FROM docs WHERE count(*) > 1", "filter_not_allowed", "count(*)", "the function count is not allowed"),
    ("SELECT avg(DISTINCT size) FROM docs", "filter_not_allowed", "avg(DISTINCT size)", "DISTINCT is for count alone"),
    ("SELECT count(DISTINCT size, id) FROM docs", "filter_not_allowed", "count(DISTINCT size, id)", "takes one value"),
    ("SELECT row_number() OVER (ORDER BY id) FROM docs", "filter_not_allowed", "row_number()", "is not allowed here"),
    ("SELECT sleep(9) FROM docs", "filter_not_allowed", "sleep(9)", "the function sleep is not allowed here"),
    ("SELECT score() FROM docs", "filter_not_allowed", "score()", "score() is that of a search"),
    ("SELECT passage(1) FROM docs WHERE search('x')", "filter_not_allowed", "passage(1)", "stands alone"),
    ("SELECT passage() FROM docs", "filter_not_allowed", "passage()", "of rows that are searched"),
    ("SELECT id FROM docs WHERE search('x') AND score() > 1", "filter_not_allowed", "score()", "stands in SELECT"),
    ("SELECT id FROM docs WHERE id = 1 OR search('x')", "filter_not_allowed", "search('x')", "to the rest by AND"),
    ("SELECT id FROM docs WHERE NOT search('x')", "filter_not_allowed", "search('x')", "joined to the rest by AND"),
    ("SELECT search('x') FROM docs", "filter_not_allowed", "search('x')", "stands in WHERE"),
    ("SELECT id FROM docs ORDER BY 2", "filter_value", "2", "there is no entry 2 in SELECT, which has 1"),
    ("SELECT * FROM docs GROUP BY id", "filter_not_allowed", "*", "lang is neither grouped by nor in an aggregate"),
    ("SELECT DISTINCT id FROM docs ORDER BY size", "filter_not_allowed", "size", "neither grouped by"),
    ("SELECT DISTINCT count(*) FROM docs", "filter_not_allowed", "DISTINCT", "DISTINCT and groups do not go together"),
    ("SELECT count(*) FROM docs GROUP BY max(id)", "filter_not_allowed", "max(id)", "cannot make them"),
    ("SELECT id FROM docs WHERE id = :x", "filter_parameter", ":x", "no value was given for :x"),
    ("SELECT id, size FROM docs WHERE size + colour > 1", "filter_type", "colour", "not a number"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "code", "at", "message"), REFUSED, ids=[text for text, *_ in REFUSED])
def test_what_the_columns_do_not_allow_is_refused_at_its_place(
    shelf: Shelf, text: str, code: str, at: str, message: str
) -> None:
    error = refusal(shelf.snapshot, text)

    assert (error.code, message in error.message) == (code, True)
    assert at in place(error)


def test_a_name_that_is_none_is_told_the_text_fields_that_may_be_selected(shelf: Shelf) -> None:
    texts = "; text fields, which are searched and can be selected by name, are title, body"

    assert refusal(shelf.snapshot, "SELECT titel FROM docs").hint == f"did you mean title{texts}"
    every = refusal(shelf.snapshot, "SELECT zzz FROM docs").hint
    assert (every.startswith("columns are id, lang, "), every.endswith(texts)) == (True, True)
    assert (
        "name it in the spec's `columns` too" in refusal(shelf.snapshot, "SELECT id FROM docs WHERE title = 'x'").hint
    )


def test_a_parameter_is_bound_wherever_it_stands_and_an_unused_one_refused(shelf: Shelf) -> None:
    text = "SELECT id + :more, :word FROM docs WHERE id IN (:ids) ORDER BY id * :sign LIMIT :n"

    rows = ask(shelf.snapshot, text, more=1, word="x", ids=[1, 2, 3], sign=-1, n=2).rows

    assert rows == [(4, "x"), (3, "x")]
    assert refusal(shelf.snapshot, "SELECT id FROM docs", z=1).message == "the SQL has no parameter :z"


def test_the_time_is_the_same_all_over_a_statement(shelf: Shelf) -> None:
    text = "SELECT current_date, current_timestamp, now() FROM docs WHERE now() = current_timestamp LIMIT 1"

    answer = run_anywhere(shelf.snapshot, parse_statement(text, "duckdb"), caller=OPERATOR, now=NOON)

    assert answer.rows == [(date(2024, 1, 1), NOON, NOON)]


def test_a_collection_without_rows_answers_with_its_columns(tmp_path: Path) -> None:
    with Library(tmp_path).open() as snapshot:
        assert ask(snapshot, "SELECT * FROM docs WHERE size > 3 ORDER BY size").rows == []
        assert ask(snapshot, "SELECT count(*), sum(size), max(colour) FROM docs").rows == [(0, None, None)]
        assert ask(snapshot, "SELECT id, score() FROM docs WHERE search('x', mode => 'keyword')").rows == []
        assert refusal(snapshot, "SELECT nope FROM docs").code == "filter_unknown_column"


def test_a_statement_ends_at_its_deadline_and_within_its_bounds(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    statement = parse_statement("SELECT * FROM docs", "duckdb")
    with pytest.raises(DeadlineExceeded):
        run_anywhere(shelf.snapshot, statement, caller=OPERATOR, deadline=time.monotonic() - 1)

    monkeypatch.setattr(evaluate, "MAX_ANSWER_BYTES", 1_000)
    assert "larger than" in refusal(shelf.snapshot, "SELECT * FROM docs").message
    monkeypatch.setattr(evaluate, "MAX_CELLS", 10)
    assert "10 values are allowed" in refusal(shelf.snapshot, "SELECT id FROM docs ORDER BY size").message
    assert "10 values are allowed" in refusal(shelf.snapshot, "SELECT sum(size) FROM docs").message
    assert ask(shelf.snapshot, "SELECT count(*) FROM docs").rows == [(len(shelf.docs),)]


SHAPES = [
    "SELECT id, 1 = CASE WHEN size > 1000 THEN 1 ELSE 0 END FROM docs WHERE id IN (1, 2)",
    "SELECT count(1 < coalesce(1, size)) FROM docs",
    "SELECT 1 = CASE WHEN size > 1000 THEN 1 ELSE 0 END AS x, count(*) FROM docs GROUP BY x",
    "SELECT DISTINCT 1 = CASE WHEN size > 1000 THEN 1 ELSE 0 END FROM docs",
    "SELECT id FROM docs WHERE id IN (1, 2) ORDER BY 1 = CASE WHEN size > 1000 THEN 1 ELSE 0 END, id",
    "SELECT colour FROM docs GROUP BY colour HAVING 1 = CASE WHEN count(*) > 0 THEN 1 ELSE 0 END",
]


@pytest.mark.parametrize("text", SHAPES)
def test_a_case_that_goes_one_way_in_every_row_is_a_column_all_the_same(shelf: Shelf, text: str) -> None:
    assert ask(shelf.snapshot, text).rows


@pytest.mark.parametrize(
    "text",
    [
        "SELECT 2, CAST(sum(size) AS DECIMAL(10,2)) FROM docs GROUP BY 1",
        "SELECT 'r%' AS pat, max(colour) LIKE 'r%' FROM docs GROUP BY ALL",
        "SELECT '7' AS d, current_date + INTERVAL '7' DAY, count(*) FROM docs GROUP BY ALL",
        "SELECT :n AS d, count(*) + :n FROM docs GROUP BY d",
    ],
)
def test_a_constant_that_is_grouped_by_stays_one(shelf: Shelf, text: str) -> None:
    params: dict[str, Any] = {"n": 2} if ":n" in text else {}

    assert len(ask(shelf.snapshot, text, **params).rows) == 1


@pytest.mark.parametrize(
    ("expression", "name"),
    [
        ("-id + 1", "-id + 1"),
        ("CAST(id AS STRING) = '1'", "CAST(id AS STRING) = '1'"),
        ("count( *  )", "count( * )"),
        ("coalesce(size, 1,  2)", "coalesce(size, 1, 2)"),
        ("`size`", "size"),
        ("1", "1"),
    ],
)
def test_a_column_without_an_alias_is_called_what_was_written(shelf: Shelf, expression: str, name: str) -> None:
    assert ask(shelf.snapshot, f"SELECT {expression}, 5 AS five FROM docs LIMIT 1").columns[0].name == name


def test_distinct_is_no_part_of_a_name(shelf: Shelf) -> None:
    assert ask(shelf.snapshot, "SELECT DISTINCT size + 1 FROM docs LIMIT 1").columns[0].name == "size + 1"


def test_of_two_equal_aliases_the_first_is_meant_and_parentheses_group_nothing_else(shelf: Shelf) -> None:
    assert ask(shelf.snapshot, "SELECT id AS x, -id AS x FROM docs ORDER BY x LIMIT 1").rows == [(1, -1)]
    grouped = ask(shelf.snapshot, "SELECT size % 2, count(*) FROM docs GROUP BY (size % 2) ORDER BY 1")
    assert [row[0] for row in grouped.rows] == [0, 1]


def test_times_are_told_in_utc_however_they_are_selected(typed: Snapshot) -> None:
    rows = ask(typed, "SELECT at, max(at) FROM docs WHERE id = 1 GROUP BY at").rows

    assert rows == [(NOON, NOON)]
    assert ask(typed, "SELECT at FROM docs WHERE id = 1").rows == [(NOON,)]


def test_the_rows_that_groups_are_made_of_are_known_while_they_are_few(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "SELECT colour, count(*) FROM docs WHERE id IN (1, 2) GROUP BY colour"
    assert ask(shelf.snapshot, text).keys == [(1,), (2,)]

    monkeypatch.setattr(run, "KEYS_KEPT", 1)

    assert ask(shelf.snapshot, text).keys is None


def test_one_look_at_what_the_caller_sees_holds_for_all_of_a_statement(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    narrow = [{"role": "r", "rows": "colour = 'red'"}]
    wide = [{"role": "r", "masks": {"title": "redact"}}]
    library = Library(tmp_path, spec_of(policies=narrow))
    library.add(Doc(id=1, title="open", bodies=("solar",)), Doc(id=2, colour="blue", title="secret", bodies=("solar",)))
    with library.open() as snapshot:

        def governed_meanwhile(*arguments: Any) -> Any:
            plan = plan_of(*arguments)
            snapshot.govern(spec_of(policies=wide))
            return plan

        monkeypatch.setattr(here, "plan_of", governed_meanwhile)
        caller = Caller(roles=frozenset({"r"}))

        text = "SELECT id, title FROM docs WHERE search('solar', mode => 'keyword')"

        assert ask(snapshot, text, caller=caller).rows == [(1, "open")]


@pytest.mark.parametrize(
    "value", ["DATE '9999-12-31' + INTERVAL 100000 DAYS", "max(TIMESTAMP '9999-12-31 23:59:59' + INTERVAL 3 DAYS)"]
)
def test_a_date_that_python_does_not_have_is_a_mistake_and_no_failure(shelf: Shelf, value: str) -> None:
    assert refusal(shelf.snapshot, f"SELECT {value} FROM docs").message == (
        "a date or time is not in the years 1 to 9999"
    )


def test_arrays_are_looked_into_wherever_a_value_stands(typed: Snapshot) -> None:
    text = "SELECT id, size(tags), arrays_overlap(tags, :groups) FROM docs WHERE size(tags) > 1 OR tags IS NULL"
    assert ask(typed, text, groups=["y"]).rows == [(1, None, None), (2, 2, True), (3, None, None), (4, None, None)]

    counted = "SELECT arrays_overlap(tags, array('x')) AS x, count(*), sum(size(tags)) FROM docs GROUP BY x ORDER BY x"
    assert ask(typed, counted).rows == [(None, 3, None), (True, 1, 2)]
    assert ask(typed, "SELECT id FROM docs WHERE tags && :groups", dialect="postgres", groups=["z", "x"]).rows == [(2,)]


def test_rows_are_counted_by_month(typed: Snapshot) -> None:
    answer = ask(
        typed, "SELECT date_trunc('month', at) AS m, count(*) FROM docs WHERE at IS NOT NULL GROUP BY m ORDER BY m"
    )

    assert answer.rows == [(NOON.replace(hour=0), 1), (NOON.replace(year=2025, hour=0), 1)]


@pytest.mark.parametrize(
    ("text", "at", "message"),
    [
        (
            "SELECT repeat(CAST(id AS STRING), 7) FROM docs",
            "repeat(CAST(id AS STRING), 7)",
            "the function repeat",
        ),
        ("SELECT initcap(colour) FROM docs", "initcap(colour)", "the function initcap is not allowed here"),
        ("SELECT count(*) FILTER (WHERE size > 1) FROM docs", "FILTER", "FILTER is not allowed"),
        ("EXPLAIN SELECT 1", "EXPLAIN", "only SELECT is allowed"),
        ("SELECT count(*) OVER () FROM docs", "OVER", "window functions are not allowed"),
    ],
)
def test_what_is_not_there_is_called_by_its_name(shelf: Shelf, text: str, at: str, message: str) -> None:
    error = refusal(shelf.snapshot, text)

    assert message in error.message
    assert at in place(error)
