from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from indexer.build import build_part
from indexer.catalog import Catalog
from indexer.letters import letters_by_key
from tests.indexer.erasing import key_hash
from tests.indexer.parts import changes, delete, job, publish, upsert


def doubted(catalog: Catalog, cache: Path, *rows: dict[str, Any]) -> list[int]:
    """Return the numbers of the changes whose keys the table may have twice."""
    state = catalog.read()
    mine = dataclasses.replace(job(catalog, cache), aside=letters_by_key(state.letters, catalog.store))
    return build_part(changes(*rows), mine, routes=np.arange(len(rows))).ambiguous_routes()


@pytest.mark.parametrize(
    "rows",
    [
        (upsert(9, 2),),
        (delete(1, 2),),
        (delete(1, 2), upsert(1, 2, body="new")),
        (upsert(9, 2), delete(9, 3), upsert(9, 3, body="new"), delete(9, 4)),
        (delete(1, 2), upsert(7, 2, body="moved")),
        (delete(9, 2),),
        (delete(3, 2, bad=True), upsert(3, 2, bad=True, n=1)),
        (delete(3, 2, bad=True), upsert(3, 2)),
        (delete(3, 2, bad=True),),
        (upsert(None, 2), upsert(None, 2), delete(None, 2)),
    ],
    ids=["new", "gone", "changed", "came and went", "moved", "unknown", "still bad", "mended", "bad gone", "keyless"],
)
def test_changes_of_a_key_that_a_table_has_once_are_plain(
    catalog: Catalog, cache: Path, rows: tuple[dict[str, Any], ...]
) -> None:
    publish(catalog, cache, 1, upsert(1), upsert(2), upsert(3, bad=True))

    assert doubted(catalog, cache, *rows) == []


@pytest.mark.parametrize(
    "rows",
    [
        (upsert(1, 2, body="twin"),),
        (upsert(9, 2), upsert(9, 2)),
        (upsert(9, 2), upsert(9, 3, body="twin")),
        (upsert(1, 2, body="twin"), delete(1, 3)),
        (delete(4, 2),),
        (delete(4, 2), upsert(4, 2, body="new")),
        (upsert(3, 2),),
        (delete(1, 2), delete(1, 2), upsert(1, 2, body="new"), upsert(1, 2, body="new")),
    ],
    ids=[
        "second",
        "two at once",
        "two in turn",
        "second and first gone",
        "one of two",
        "one changed",
        "beside a bad",
        "one told twice",
    ],
)
def test_changes_of_a_key_that_a_table_may_have_twice_are_ambiguous(
    catalog: Catalog, cache: Path, rows: tuple[dict[str, Any], ...]
) -> None:
    publish(catalog, cache, 1, upsert(1), upsert(2), upsert(3, bad=True), upsert(4), upsert(4, body="twin"))

    assert doubted(catalog, cache, delete(2, 2), *rows) == list(range(1, len(rows) + 1))


def test_a_part_with_ambiguous_keys_is_not_built(catalog: Catalog, cache: Path) -> None:
    publish(catalog, cache, 1, upsert(1))
    before = catalog.store.list()

    assert doubted(catalog, cache, upsert(1, 2), upsert(2, 2)) == [0]
    assert catalog.store.list() == before


def test_letters_are_counted_by_key(catalog: Catalog, cache: Path) -> None:
    state = publish(catalog, cache, 1, upsert(1), upsert(1), upsert(1, n=1), upsert(2, bad=True), upsert(None))

    assert letters_by_key(state.letters, catalog.store) == {key_hash(1): 2, key_hash(2): 1}
