"""A caller's answer in SQL is that of a collection with only the rows that it sees, and never tells a masked value."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from retrieval.policies import Caller
from retrieval.snapshot import Snapshot
from tests.retrieval.conftest import random_docs
from tests.retrieval.library import Doc, Library, spec_of
from tests.retrieval.sql.conftest import ask, refusal

pytestmark = pytest.mark.usefixtures("wherever")

RED = Caller(roles=frozenset({"red"}), hash_key=b"key")
MASKED: dict[str, Any] = {"role": "masked", "masks": {"size": "hash", "colour": "redact", "title": "redact"}}
NOBODY = Caller(roles=frozenset({"none"}))
WHO_IS_MASKED = Caller(roles=frozenset({"masked"}), hash_key=b"key")
DOCS = random_docs(60, first_id=100, seed=1)
STATEMENTS = [
    "SELECT * FROM docs ORDER BY size DESC, id",
    "SELECT count(*), sum(size), min(size), count(DISTINCT colour) FROM docs",
    "SELECT colour, count(*) FROM docs GROUP BY colour",
    "SELECT DISTINCT size % 10 FROM docs ORDER BY 1",
    "SELECT id FROM docs WHERE size > 20 ORDER BY id DESC LIMIT 5 OFFSET 2",
    "SELECT count(*) FROM docs WHERE colour IS NULL OR colour <> 'red'",
    "SELECT id FROM docs WHERE 1 / (size - size) IS NULL LIMIT 3",
]


@pytest.fixture(scope="module")
def governed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Snapshot, Snapshot]]:
    """One collection under policies, and another with only the red rows."""
    policies = [{"role": "red", "rows": "colour = 'red'"}, MASKED]
    library = Library(tmp_path_factory.mktemp("governed"), spec_of(policies=policies))
    library.add(*DOCS)
    alone = Library(tmp_path_factory.mktemp("alone"))
    alone.add(*(doc for doc in DOCS if doc.colour == "red"))
    with library.open() as snapshot, alone.open() as red:
        yield snapshot, red


@pytest.mark.parametrize("text", STATEMENTS)
def test_the_answer_is_that_of_the_rows_that_are_seen(governed: tuple[Snapshot, Snapshot], text: str) -> None:
    snapshot, alone = governed

    mine, expected = ask(snapshot, text, caller=RED), ask(alone, text)

    assert (mine.rows, mine.read, mine.columns) == (expected.rows, expected.read, expected.columns)


def test_the_hits_of_a_search_are_those_that_are_seen(governed: tuple[Snapshot, Snapshot]) -> None:
    text = "SELECT colour, count(*) FROM docs WHERE search('solar wind', mode => 'keyword') GROUP BY colour"

    assert [row[0] for row in ask(governed[0], text, caller=RED).rows] == ["red"]
    assert ask(governed[0], text, caller=NOBODY).rows == []
    assert ask(governed[0], "SELECT count(*) FROM docs", caller=NOBODY).rows == [(0,)]


@pytest.mark.parametrize(
    "text",
    [
        "SELECT size + 0 FROM docs",
        "SELECT max(size) FROM docs",
        "SELECT count(size) FROM docs",
        "SELECT id FROM docs WHERE size > 5",
        "SELECT id FROM docs WHERE search('solar', mode => 'keyword') AND size > 5",
        "SELECT id FROM docs ORDER BY size",
        "SELECT size FROM docs ORDER BY 1",
        "SELECT size AS s FROM docs ORDER BY s",
        "SELECT DISTINCT size FROM docs",
        "SELECT count(*) FROM docs GROUP BY size",
        "SELECT count(*) FROM docs GROUP BY size IS NULL",
        "SELECT size, count(*) FROM docs GROUP BY ALL",
        "SELECT count(*) FROM docs HAVING max(size) > 5",
        "SELECT id, CASE WHEN size > 5 THEN 1 END FROM docs",
    ],
)
def test_a_masked_column_cannot_be_reckoned_with(governed: tuple[Snapshot, Snapshot], text: str) -> None:
    error = refusal(governed[0], text, caller=WHO_IS_MASKED)

    assert (error.code, "size is masked for you" in error.message) == ("filter_masked_column", True)
    assert ask(governed[0], text, caller=Caller(unrestricted=True)).rows


def test_masked_values_are_shown_masked(governed: tuple[Snapshot, Snapshot]) -> None:
    text = "SELECT *, passage() AS why FROM docs WHERE search('solar', mode => 'keyword') AND id = :id"
    doc = next(doc for doc in DOCS if doc.title and "solar" in doc.bodies[0] and doc.title not in " ".join(doc.bodies))

    answer = ask(governed[0], text, caller=WHO_IS_MASKED, id=doc.id)

    (row,) = answer.rows
    shown = dict(zip([column.name for column in answer.columns], row, strict=True))
    assert (shown["colour"], shown["title"], len(shown["size"])) == (None, None, 64)
    assert str(doc.title) not in shown["why"].split()
    assert answer.masked == ("colour", "size", "title")
    assert {column.name: column.type for column in answer.columns if column.masked} == {
        "colour": "STRING",
        "size": "STRING",  # a hash
        "title": "STRING",
    }
    aliased = ask(governed[0], "SELECT size AS a, id AS size FROM docs LIMIT 1", caller=WHO_IS_MASKED)
    assert [column.masked for column in aliased.columns] == [True, False]


def test_a_redacted_column_keeps_its_type(tmp_path_factory: pytest.TempPathFactory) -> None:
    library = Library(
        tmp_path_factory.mktemp("typed"), spec_of(policies=[{"role": "masked", "masks": {"size": "redact"}}])
    )
    library.add(Doc(id=1, size=7))
    with library.open() as snapshot:
        answer = ask(snapshot, "SELECT size FROM docs", caller=WHO_IS_MASKED)

    assert (answer.columns[0].type, answer.rows) == ("BIGINT", [(None,)])


def test_masked_text_is_not_searched(tmp_path_factory: pytest.TempPathFactory) -> None:
    library = Library(tmp_path_factory.mktemp("text"), spec_of(policies=[MASKED]))
    library.add(Doc(id=1, title="secret", bodies=("open",)))
    with library.open() as snapshot:
        text = "SELECT id FROM docs WHERE search(:q, mode => 'keyword')"
        assert ask(snapshot, text, caller=WHO_IS_MASKED, q="secret").rows == []
        assert ask(snapshot, text, caller=WHO_IS_MASKED, q="open").rows == [(1,)]
