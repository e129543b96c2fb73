"""Several queries of one search, each searched for as it would be alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from indexer.embedding import Vectors
from retrieval.errors import DeadlineExceeded, RequestError
from retrieval.explanation import Explanation
from retrieval.fusion import RRF_RANK_CONSTANT
from retrieval.helpers import Helpers
from retrieval.policies import OPERATOR, Caller
from retrieval.queries import together
from retrieval.ranking import Ranked
from retrieval.refine.stages import Collapse, Decay, Diversify, Stages
from retrieval.request import FUSION_DEPTH, MAX_QUERIES, Mode, SearchRequest
from retrieval.response import Hit
from retrieval.search import search
from retrieval.snapshot import Snapshot
from tests.retrieval.conftest import Shelf, random_docs
from tests.retrieval.library import DIM, Library, spec_of, unit

QUERIES = ("solar panel", "wind turbine", "heat pump grid")
VECTORS = {text: unit(*row) for text, row in zip(QUERIES, np.eye(3, 4) + 0.25, strict=True)}

MODEL = {"model": f"hash:{DIM}"}


class Told:
    """Embeds the queries as it was told."""

    def query(self, text: str) -> Vectors:
        return VECTORS[text]


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shelf]:
    """Two segments of a collection that has a model."""
    library = Library(tmp_path_factory.mktemp("queries"), spec_of(vector=MODEL))
    docs = [random_docs(60, first_id=100, seed=1), random_docs(40, first_id=0, seed=2)]
    for each in docs:
        library.add(*each)
    library.remove(0, 7, 100)
    with library.open() as snapshot:
        yield Shelf(snapshot, ())


def found(snapshot: Snapshot, **asked: Any) -> list[Hit]:
    return list(search(snapshot, SearchRequest(**{"queries": QUERIES, "mode": "keyword"} | asked)).results)


def legs_of(hit: Hit) -> Explanation:
    assert hit.explanation is not None
    return hit.explanation


def alone(snapshot: Snapshot, mode: Mode, text: str, **asked: Any) -> list[Hit]:
    vector = None if mode == "keyword" else VECTORS[text]
    return list(search(snapshot, SearchRequest(query=text, vector=vector, mode=mode, k=FUSION_DEPTH, **asked)).results)


def test_the_score_is_the_sum_of_reciprocal_ranks_and_ties_go_by_key() -> None:
    lists = {
        0: (Ranked([0, 0], [1, 2], [9.0, 8.0]), None),
        2: (Ranked([0, 0], [2, 3], [0.5, 0.4]), None),
    }

    ranked, explanations = together(
        lists,
        ids_of=lambda each: np.array(each.positions, dtype=np.int64),
        keys_at=lambda _, positions: [(-position,) for position in positions],
        limit=3,
        explain=False,
    )

    assert explanations is None
    assert ranked.positions == [2, 1, 3]
    assert ranked.scores == pytest.approx([1 / 62 + 1 / 61, 1 / 61, 1 / 62])


def test_a_row_is_shown_by_the_chunk_of_the_query_that_ranks_it_best() -> None:
    lists = {
        0: (Ranked([0, 0], [10, 20], [2.0, 1.0]), None),
        1: (Ranked([0, 0], [21, 11], [2.0, 1.0]), None),
    }

    ranked, _ = together(
        lists,
        ids_of=lambda each: np.array(each.positions, dtype=np.int64) // 10,
        keys_at=lambda _, positions: [(position // 10,) for position in positions],
        limit=9,
        explain=False,
    )

    assert ranked.positions == [10, 21]


@pytest.mark.parametrize("mode", ["keyword", "vector", "hybrid"])
@pytest.mark.parametrize("filter_", [None, "colour = 'red'", "size < 0"])
def test_each_query_ranks_as_it_would_alone(shelf: Shelf, mode: Mode, filter_: str | None) -> None:
    request = SearchRequest(queries=QUERIES, mode=mode, filter=filter_, k=1000)
    hits = list(search(shelf.snapshot, request, embedder=Told()).results)

    scores: dict[Any, float] = {}
    for text in QUERIES:
        for rank, hit in enumerate(alone(shelf.snapshot, mode, text, filter=filter_), start=1):
            scores[hit.key] = scores.get(hit.key, 0.0) + 1 / (RRF_RANK_CONSTANT + rank)
    assert {hit.key: hit.score for hit in hits} == pytest.approx(scores)
    assert [hit.key for hit in hits] == [hit.key for hit in sorted(hits, key=lambda hit: (-hit.score, hit.key))]
    few = search(shelf.snapshot, SearchRequest(queries=QUERIES, mode=mode, filter=filter_, k=4), embedder=Told())
    assert few.results.keys() == [hit.key for hit in hits][:4]


def test_what_each_query_gave_adds_up_and_so_do_its_legs(shelf: Shelf) -> None:
    request = SearchRequest(queries=QUERIES, mode="hybrid", k=20, explain=True)
    for hit in search(shelf.snapshot, request, embedder=Told()).results:
        explanation = legs_of(hit)
        assert explanation.legs == {}
        assert sum(asked.fused.added for asked in explanation.queries.values()) == pytest.approx(hit.score)
        for place, asked in explanation.queries.items():
            (same,) = [
                each for each in alone(shelf.snapshot, "hybrid", QUERIES[place], explain=True) if each.key == hit.key
            ]
            assert asked.legs == legs_of(same).legs
            assert sum(part.added for part in asked.legs.values()) == pytest.approx(asked.fused.raw_score)


def test_of_queries_that_are_the_same_the_first_counts(shelf: Shelf) -> None:
    twice = found(shelf.snapshot, queries=(QUERIES[1], QUERIES[0], QUERIES[1]), explain=True)

    assert [hit.score for hit in twice] == [hit.score for hit in found(shelf.snapshot, queries=QUERIES[1::-1])]
    assert {place for hit in twice for place in legs_of(hit).queries} == {0, 1}
    assert SearchRequest(queries=("a", "b", "a", "c")).texts == {0: "a", 1: "b", 3: "c"}


def test_one_of_several_scores_by_its_rank_too(shelf: Shelf) -> None:
    hits = found(shelf.snapshot, queries=QUERIES[:1])
    one = alone(shelf.snapshot, "keyword", QUERIES[0])
    assert [hit.key for hit in hits] == [hit.key for hit in one][:10]
    assert [hit.score for hit in hits[:2]] == pytest.approx([1 / 61, 1 / 62])


def test_what_is_not_similar_enough_to_any_query_is_left_out(shelf: Shelf) -> None:
    asked: dict[str, Any] = {"queries": QUERIES, "mode": "vector", "k": 1000, "explain": True}
    hits = search(shelf.snapshot, SearchRequest(**asked, min_similarity=0.7), embedder=Told()).results
    for hit in hits:
        parts = [asked.legs["vector"] for asked in legs_of(hit).queries.values()]
        assert all(part.raw_score >= 0.7 for part in parts)
    assert 0 < len(hits) < len(search(shelf.snapshot, SearchRequest(**asked), embedder=Told()).results)


def test_stages_come_after_the_queries_and_say_so(shelf: Shelf) -> None:
    stages = Stages(
        decay=Decay(column="size", origin=50, scale=10),
        collapse=Collapse(column="colour", most=3),
        diversify=Diversify(),
    )
    hits = found(shelf.snapshot, stages=stages, explain=True, k=6)
    assert len(hits) == 6
    for hit in hits:
        assert set(legs_of(hit).stages) == {"decay", "collapse", "diversify"}
        assert legs_of(hit).queries


def test_every_query_finds_what_its_caller_may_see_and_nothing_else(tmp_path: Path) -> None:
    library = Library(tmp_path, spec_of(vector=MODEL, policies=[{"role": "red", "rows": "colour = 'red'"}]))
    library.add(*random_docs(40, first_id=0, seed=2))
    asked: dict[str, Any] = {"queries": QUERIES, "mode": "vector", "k": 1000}
    with library.open() as snapshot:
        red = Caller(roles=frozenset({"red"}))
        governed = search(snapshot, SearchRequest(**asked), caller=red, embedder=Told()).results
        filtered = search(snapshot, SearchRequest(**asked, filter="colour = 'red'"), caller=OPERATOR, embedder=Told())
    assert len(governed) > 3
    assert list(governed) == list(filtered.results)


def test_idle_cores_search_for_several_at_once(shelf: Shelf) -> None:
    before, helpers = found(shelf.snapshot, k=50), Helpers(3)
    shelf.snapshot.helpers, kept = helpers, shelf.snapshot.helpers
    try:
        with helpers.working():
            assert found(shelf.snapshot, k=50) == before
    finally:
        shelf.snapshot.helpers = kept
        helpers.close()


def test_the_plan_and_the_times_are_of_all_queries(shelf: Shelf) -> None:
    response = search(shelf.snapshot, SearchRequest(queries=QUERIES, mode="hybrid"), embedder=Told())
    one = search(shelf.snapshot, SearchRequest(query=QUERIES[0], vector=VECTORS[QUERIES[0]]))
    assert list(response.took_ms) == ["filter", "embed", "queries", "fuse", "total"]
    assert (response.plan.chunks, response.plan.passing) == (one.plan.chunks, one.plan.passing)
    assert len(response.plan.segments) == len(QUERIES) * len(one.plan.segments)
    assert response.plan.keyword is not None


def test_the_deadline_holds_for_all_of_them(shelf: Shelf) -> None:
    with pytest.raises(DeadlineExceeded):
        found(shelf.snapshot, deadline=0.0)


@pytest.mark.parametrize(
    ("asked", "field", "message"),
    [
        ({"queries": ()}, "queries", f"1 to {MAX_QUERIES} queries, got 0"),
        ({"queries": ("a",) * (MAX_QUERIES + 1)}, "queries", "got 17"),
        ({"queries": ("a", " ")}, "queries.1", "a blank query finds nothing"),
        ({"queries": ("a", "b" * 32_769)}, "queries.1", "at most 32,768 characters, got 32,769"),
        ({"queries": ("a",), "query": "b"}, "queries", "there is a 'query' already"),
        ({"queries": ("a",), "vector": [1.0]}, "queries", "there is a 'vector' already"),
        ({"queries": ("a",), "like": [1]}, "queries", "there is a 'like' already"),
    ],
)
def test_what_cannot_be_asked_is_refused(asked: dict[str, Any], field: str, message: str) -> None:
    with pytest.raises(RequestError, match=message) as error:
        SearchRequest(**asked)
    assert error.value.field == field
