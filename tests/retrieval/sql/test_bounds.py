"""What one statement may cost, whatever it says: time to parse, memory, the size of its answer, its deadline."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from retrieval.errors import DeadlineExceeded, FilterError
from retrieval.filter import compile_filter
from retrieval.filter.dialects import DIALECTS
from retrieval.policies import OPERATOR, Caller
from retrieval.snapshot import Snapshot
from retrieval.sql import evaluate, parse_statement
from tests.retrieval.conftest import Shelf
from tests.retrieval.library import Doc, Library, spec_of
from tests.retrieval.sql.conftest import ask, on_one_machine, refusal, run_anywhere

pytestmark = pytest.mark.usefixtures("wherever")

NESTED = {
    "arrays": "ARRAY[" * 17 + "1" + "]" * 17,
    "dates": "DATE (" * 17 + "'2020-01-01'" + ")" * 17,
    "structs": "STRUCT(" * 20 + "1" + ")" * 20,
    "cases": "CASE WHEN 1 = 1 THEN " * 20 + "1" + " END" * 20,
}


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("what", NESTED)
def test_no_text_takes_long_to_parse(what: str, dialect: str) -> None:
    began = time.perf_counter()
    with suppress(FilterError):
        parse_statement(f"SELECT {NESTED[what]} FROM t", dialect)
    with pytest.raises(FilterError):
        compile_filter(NESTED[what], dialect=dialect, schema={})
    assert time.perf_counter() - began < 5  # it took forty seconds, and twice as long for each further level


@pytest.mark.parametrize(
    ("text", "dialect"),
    [
        ("date_trunc()", "databricks"),
        ("MAP(1)", "databricks"),
        ("x -> 1.5BD", "databricks"),
        ("OBJECT_CONSTRUCT(1)", "snowflake"),
        ("LEVENSHTEIN_LESS_EQUAL()", "postgres"),
    ],
)
def test_what_makes_the_parser_stumble_is_a_mistake_of_the_text(shelf: Shelf, text: str, dialect: str) -> None:
    assert refusal(shelf.snapshot, f"SELECT {text} FROM docs", dialect=dialect).code in (
        "filter_syntax",
        "filter_not_allowed",
    )
    with pytest.raises(FilterError):
        compile_filter(text, dialect=dialect, schema=shelf.snapshot.schema)


def test_the_parser_says_nothing_of_the_text_in_a_log(shelf: Shelf, capfd: pytest.CaptureFixture[str]) -> None:
    refusal(shelf.snapshot, "SELECT lang -> '4 john.doe@secret' FROM docs")

    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    "text",
    [
        "SELECT :p, :p FROM docs LIMIT 3",  # a parameter as often as it is shown
        "SELECT body, body FROM docs WHERE id = 1",
        "SELECT body FROM docs ORDER BY id LIMIT 50",
        "SELECT colour, upper(colour), colour FROM docs WHERE search('solar', mode => 'keyword')",
        "SELECT passage() FROM docs WHERE search('solar', mode => 'keyword')",
        "SELECT colour, max(lang) FROM docs GROUP BY colour",
        "SELECT id, count(*) FROM docs GROUP BY id",
        "SELECT 1, 2, 3, 4, 5, 6, 7 FROM docs LIMIT 5",
    ],
)
def test_an_answer_is_as_large_as_its_values_are_together(
    shelf: Shelf, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    params: dict[str, Any] = {"p": "x" * 100} if ":p" in text else {}
    assert ask(shelf.snapshot, text, **params).rows

    monkeypatch.setattr(evaluate, "MAX_ANSWER_BYTES", 90)

    assert "would be larger than" in refusal(shelf.snapshot, text, **params).message


def test_text_counts_in_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library = Library(tmp_path)
    library.add(Doc(id=1, bodies=("\u00fc" * 100,)))
    with library.open() as snapshot:
        for limit, fits in ((232, True), (231, False)):
            monkeypatch.setattr(evaluate, "MAX_ANSWER_BYTES", limit)
            if fits:
                assert ask(snapshot, "SELECT body FROM docs").rows == [("\u00fc" * 100,)]
            else:
                refusal(snapshot, "SELECT body FROM docs")


@pytest.fixture(scope="module")
def masked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Snapshot]:
    policies = [{"role": "redacted", "masks": {"title": "redact", "colour": "redact"}}]
    library = Library(tmp_path_factory.mktemp("masked"), spec_of(policies=policies))
    library.add(Doc(id=1, title="t" * 5000, colour="c" * 5000), Doc(id=2))
    with library.open() as snapshot:
        yield snapshot


def test_how_long_a_redacted_value_is_shows_in_no_limit(masked: Snapshot, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluate, "MAX_ANSWER_BYTES", 1000)
    caller = Caller(roles=frozenset({"redacted"}))

    assert ask(masked, "SELECT id, title, colour, title FROM docs", caller=caller).rows == [
        (1, None, None, None),
        (2, None, None, None),
    ]


@pytest.mark.parametrize(
    "text",
    [
        "SELECT id, size + 1, size + 2 FROM docs",
        "SELECT count(*) FROM docs GROUP BY size, size + 1",
        "SELECT sum(size + 1), sum(size + 2) FROM docs",
        "SELECT id FROM docs ORDER BY size, size + 1",
        "SELECT id, id, count(*) FROM docs GROUP BY id",
    ],
)
def test_values_in_memory_are_counted_before_they_are_there(
    shelf: Shelf, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluate, "MAX_CELLS", len(shelf.docs) + 50)

    assert "values are allowed" in refusal(shelf.snapshot, text).message


@pytest.mark.parametrize(
    "text",
    [
        "SELECT id FROM docs ORDER BY :l",
        "SELECT id FROM docs ORDER BY CASE WHEN id > 0 THEN :l END",
        "SELECT count(*) FROM docs GROUP BY CASE WHEN id > 0 THEN :l END",
        "SELECT count(DISTINCT coalesce(colour, :l)) FROM docs",
        "SELECT id, upper(:l) FROM docs",
    ],
)
def test_no_row_gets_a_copy_of_a_long_text(shelf: Shelf, text: str) -> None:
    assert "cannot be computed with" in refusal(shelf.snapshot, text, l="x" * 201).message
    assert ask(shelf.snapshot, "SELECT :l FROM docs LIMIT 1", l="x" * 201).rows == [("x" * 201,)]


def test_what_is_long_is_not_kept(shelf: Shelf) -> None:
    short, long = "SELECT id FROM docs", f"SELECT id{' ' * 1000} FROM docs"

    assert parse_statement(short, "duckdb") is parse_statement(short, "duckdb")
    assert parse_statement(long, "duckdb") is not parse_statement(long, "duckdb")


def test_many_aggregates_are_planned_in_no_time(shelf: Shelf) -> None:
    text = f"SELECT {', '.join(f'sum(size + {n})' for n in range(300))} FROM docs"

    began = time.perf_counter()

    assert len(ask(shelf.snapshot, text).rows[0]) == 300
    assert time.perf_counter() - began < (5 if on_one_machine() else 25)  # a router and four nodes plan it, in turn


@pytest.mark.parametrize(
    "text",
    [
        "SELECT title FROM docs",
        "SELECT colour, count(*) FROM docs GROUP BY colour",
        "SELECT id FROM docs WHERE search('solar', mode => 'keyword')",
    ],
)
@pytest.mark.parametrize("after", range(3))
def test_the_deadline_is_looked_at_again_and_again(
    shelf: Shelf, text: str, after: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = iter([0.0] * after)
    monkeypatch.setattr(time, "monotonic", lambda: next(looks, 10.0))

    with pytest.raises(DeadlineExceeded):
        run_anywhere(shelf.snapshot, parse_statement(text, "duckdb"), caller=OPERATOR, deadline=5.0)
