from __future__ import annotations

import sys
from collections import Counter

import pytest

from jobs.stdlib_docs import DocRow, collect, read_source


@pytest.fixture(scope="module")
def rows() -> list[DocRow]:
    return collect()


def test_rows_cover_the_library_and_ids_are_unique_and_sorted(rows: list[DocRow]) -> None:
    ids = [row.id for row in rows]
    assert ids == sorted(set(ids))
    assert len(rows) > 4000
    assert set(Counter(row.kind for row in rows)) == {"module", "class", "function", "method"}


@pytest.mark.parametrize(
    "name", ["asyncio", "base64.b64encode", "builtins.dict.get", "csv.reader", "json.dumps", "os.listdir", "math.sqrt"]
)
def test_things_that_people_know_are_there(rows: list[DocRow], name: str) -> None:
    assert [row.id for row in rows if row.id == name] == [name]


def test_every_row_is_public_and_documented(rows: list[DocRow]) -> None:
    assert [row.id for row in rows if any(part.startswith("_") for part in row.id.split("."))] == []
    assert [row.id for row in rows if not row.docstring.strip() or not row.summary] == []


def test_collecting_imports_nothing_with_side_effects() -> None:
    before = set(sys.modules)
    collect()
    assert {"antigravity", "idlelib", "this", "tkinter", "turtle"} & (set(sys.modules) - before) == set()


def test_a_function_is_read_with_its_signature_and_parameters() -> None:
    source = '''
def send(to, /, *more, subject="none", **headers):
    """Send it.

    And say so.
    """
'''
    assert list(read_source("post", source)) == [
        DocRow(
            id="post.send",
            name="send",
            module="post",
            kind="function",
            signature="(to, /, *more, subject='none', **headers)",
            parameters=("to", "more", "subject", "headers"),
            summary="Send it.",
            docstring="Send it.\n\nAnd say so.",
        )
    ]


def test_a_source_that_does_not_parse_has_no_rows() -> None:
    assert list(read_source("broken", "def f(:")) == []
