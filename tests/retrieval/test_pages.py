"""The pages of a list, put together, are the list: on one machine and on several."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from indexer.format.keys import format_key
from retrieval.distributed.search import search_nodes
from retrieval.errors import RequestError
from retrieval.refine.stages import Diversify, Stages
from retrieval.request import MAX_K, Page, SearchRequest
from retrieval.response import Hit, SearchResponse
from retrieval.search import search
from tests.retrieval.distributed.conftest import SHARDS, Spread, spread_of
from tests.retrieval.distributed.conftest import spread as spread
from tests.retrieval.library import Doc, Library, spec_of, unit

QUERY = unit(1.0, -0.5, 0.25, 2.0)
RANKED: list[dict[str, Any]] = [
    {"vector": QUERY},
    {"query": "turbine wind", "mode": "keyword"},
    {"query": "turbine wind", "vector": QUERY, "explain": True},
    {"query": "solar", "vector": QUERY, "filter": "size < 60"},
    {"like": [17]},
    {"query": "turbine wind", "vector": QUERY, "min_similarity": 0.2},
]
Ask = Callable[[SearchRequest], SearchResponse]


@pytest.fixture(params=["one machine", "nodes"])
def ask(request: pytest.FixtureRequest, spread: Spread) -> Ask:
    if request.param == "nodes":
        return lambda asked: search_nodes(spread.routed, asked)
    return lambda asked: search(spread.whole, asked)


def walk(ask: Ask, k: int, **asked: Any) -> list[Hit]:
    """Return the hits of all pages of ``k``."""
    hits: list[Hit] = []
    page = Page()
    while True:
        response = ask(SearchRequest(k=k, page=page, **asked))
        hits += response.results
        assert len(response.results) == k or not response.has_more
        if not response.has_more:
            return hits
        ranks = response.plan.mode is not None
        page = Page(offset=len(hits)) if ranks else Page(after=format_key(hits[-1].key))


@pytest.mark.parametrize("asked", RANKED)
@pytest.mark.parametrize("k", [7, 60, MAX_K])
def test_pages_of_ranked_rows_are_the_list_of_the_best(ask: Ask, asked: dict[str, Any], k: int) -> None:
    assert walk(ask, k, **asked) == list(ask(SearchRequest(k=MAX_K, **asked)).results)


@pytest.mark.parametrize(
    ("where", "k"), [("colour = 'red'", 1), (None, 47), (None, 235), ("size < 50", 20), ("size < 0", 5)]
)
def test_pages_of_a_filter_are_all_rows_that_pass(ask: Ask, where: str | None, k: int) -> None:
    assert walk(ask, k, filter=where) == list(ask(SearchRequest(k=MAX_K, filter=where)).results)


def test_keys_of_several_columns_are_walked_through_in_their_order(tmp_path: Path) -> None:
    library = Library(tmp_path, spec_of(key=["lang", "id"], shards=SHARDS))
    for shard in range(SHARDS):
        library.add(*(Doc(id=n, lang=lang) for lang in ("a,b", "é", "") for n in range(shard, 20, SHARDS)), shard=shard)
    with spread_of(library) as spread:
        for asks in (lambda asked: search(spread.whole, asked), lambda asked: search_nodes(spread.routed, asked)):
            keys = [hit.key for hit in walk(asks, 7)]
            assert keys == sorted(keys)
            assert len(set(keys)) == 60


def test_a_page_begins_behind_a_key_that_is_not_there(spread: Spread) -> None:
    found = search(spread.whole, SearchRequest(k=2, page=Page(after="8"))).results  # 8 and 9 are gone
    assert [hit.key for hit in found] == [(10,), (11,)]


def test_what_cannot_be_a_key_is_refused(spread: Spread) -> None:
    with pytest.raises(RequestError, match="not of type int64"):
        search(spread.whole, SearchRequest(page=Page(after="eight")))


def test_stages_have_no_pages() -> None:
    with pytest.raises(RequestError, match="has no pages"):
        SearchRequest(vector=QUERY, page=Page(), stages=Stages(diversify=Diversify()))


def test_without_a_page_nothing_follows(ask: Ask) -> None:
    assert not ask(SearchRequest(k=1)).has_more
