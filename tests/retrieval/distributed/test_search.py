from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest

from retrieval.distributed import node as node_module
from retrieval.distributed.messages import Asker, Part
from retrieval.distributed.routed import Asked
from retrieval.distributed.search import READ_AHEAD, search_nodes
from retrieval.errors import DeadlineExceeded, FilterError, NodeDiffers, RequestError
from retrieval.fusion import Contribution
from retrieval.policies import Caller
from retrieval.refine.stages import Collapse, Decay, Diversify, Stages
from retrieval.request import Fusion, Mode, Page, SearchRequest
from retrieval.response import Hit
from retrieval.search import search
from tests.retrieval import library as library_module
from tests.retrieval.distributed.conftest import PARTS, SHARDS, Spread, docs_of, spread_of
from tests.retrieval.library import DIM, Doc, Library, spec_of, unit

EVERY = 1000
QUERY = unit(1.0, -0.5, 0.25, 2.0)
DECAY = Decay(column="size", origin=50, scale=10)
DIVERSIFY = Diversify(diversity=0.6)


def both(spread: Spread, **asked: Any) -> tuple[list[Hit], list[Hit]]:
    """Return what one machine finds, and what the nodes do."""
    request = SearchRequest(**asked)
    return list(search(spread.whole, request).results), list(search_nodes(spread.routed, request).results)


@pytest.mark.parametrize("k", [1, 7, 50, EVERY])
@pytest.mark.parametrize("filter_", [None, "colour = 'red'", "size < 3", "size < 0"])
def test_the_vector_leg_finds_what_one_machine_finds(spread: Spread, k: int, filter_: str | None) -> None:
    one, several = both(spread, vector=QUERY, k=k, filter=filter_)
    assert several == one


@pytest.mark.parametrize("mode", ["vector", "hybrid"])
@pytest.mark.parametrize("least", [-1.0, 0.0, 0.3, 0.7, 1.0])
def test_what_is_not_similar_enough_is_left_out_as_on_one_machine(spread: Spread, mode: Mode, least: float) -> None:
    asked: dict[str, Any] = {"vector": QUERY, "query": "solar", "mode": mode, "k": EVERY, "explain": True}
    one, several = both(spread, **asked, min_similarity=least)
    assert [hit.key for hit in several] == [hit.key for hit in one]
    every = {hit.key: hit for hit in search(spread.whole, SearchRequest(**asked)).results}
    by_meaning = {key: legs(hit)["vector"].raw_score for key, hit in every.items() if "vector" in legs(hit)}
    similar = {key for key, score in by_meaning.items() if score >= least}
    assert {hit.key for hit in one if "vector" in legs(hit)} == similar
    assert {hit.key for hit in one} == similar | {key for key, hit in every.items() if "keyword" in legs(hit)}
    assert {hit.key: hit.score for hit in one if hit.key in similar} == {key: every[key].score for key in similar}


@pytest.mark.parametrize("filter_", [None, "colour = 'red'", "size < 3", "size < 0"])
@pytest.mark.parametrize("k", [1, 7, EVERY])
def test_a_filter_alone_gives_rows_in_key_order(spread: Spread, k: int, filter_: str | None) -> None:
    one, several = both(spread, k=k, filter=filter_)
    assert several == one


@pytest.mark.parametrize("words", ["solar", "turbine wind", "+turbine solar", '"heat pump" grid', "the", "unheard of"])
@pytest.mark.parametrize("filter_", [None, "colour = 'red'"])
def test_words_score_as_on_one_machine(spread: Spread, words: str, filter_: str | None) -> None:
    one, several = both(spread, query=words, mode="keyword", k=EVERY, filter=filter_)
    assert {hit.key for hit in several} == {hit.key for hit in one}
    of_one = {hit.key: hit.score for hit in one}
    assert [hit.score for hit in several] == pytest.approx([of_one[hit.key] for hit in several], rel=1e-5)
    assert [hit.score for hit in several] == sorted((hit.score for hit in several), reverse=True)


def test_without_statistics_of_all_nodes_rare_words_would_score_otherwise(spread: Spread) -> None:
    alone = list(search(spread.snapshots[0], SearchRequest(query="turbine", mode="keyword", k=EVERY)).results)
    together = {hit.key: hit.score for hit in both(spread, query="turbine", mode="keyword", k=EVERY)[1]}
    assert any(abs(hit.score - together[hit.key]) > 0.01 for hit in alone)


@pytest.mark.parametrize("kind", ["minmax", "rrf"])
def test_a_hybrid_search_fuses_the_legs_of_all_nodes(spread: Spread, kind: Any) -> None:
    one, several = both(spread, query="turbine wind", vector=QUERY, k=EVERY, fusion=Fusion(kind=kind), explain=True)
    assert {hit.key for hit in several} == {hit.key for hit in one}
    if kind == "minmax":  # ranks of rows that tie but for the last digit may differ
        of_one = {hit.key: hit.score for hit in one}
        assert [hit.score for hit in several] == pytest.approx([of_one[hit.key] for hit in several], rel=1e-4)
    for hit in several:
        assert hit.explanation is not None
        assert sum(part.added for part in hit.explanation.legs.values()) == pytest.approx(hit.score)


def test_fields_and_passages_are_those_of_the_rows(spread: Spread) -> None:
    include = ("body", "title", "colour", "id", "size")
    one, several = both(spread, vector=QUERY, k=20, include=include)
    assert several == one
    assert [list(hit.fields) for hit in several] == [list(include)] * 20


@pytest.mark.parametrize("context", [1, 2])
@pytest.mark.parametrize("include", [("size",), ("body", "size")])
@pytest.mark.parametrize("asked", [{"vector": QUERY}, {"vector": QUERY, "stages": Stages(decay=DECAY)}])
def test_passages_with_context_are_those_of_the_rows(
    spread: Spread, context: int, include: tuple[str, ...], asked: dict[str, Any]
) -> None:
    one, several = both(spread, k=20, include=include, context=context, **asked)
    alone, _ = both(spread, k=20, include=include, **asked)
    assert several == one
    assert [hit.text for hit in one] != [hit.text for hit in alone]


def test_rows_like_one_leave_that_one_out(spread: Spread) -> None:
    for key in (0, 17, 238):
        one, several = both(spread, like=[key], k=30)
        assert several == one
        assert (key,) not in [hit.key for hit in several]


def test_rows_like_one_that_is_gone_are_refused(spread: Spread) -> None:
    with pytest.raises(RequestError, match="no row of that key"):
        search_nodes(spread.routed, SearchRequest(like=[3]))


def test_the_plan_counts_what_all_nodes_have(spread: Spread) -> None:
    request = SearchRequest(query="solar", vector=QUERY, filter="colour = 'red'")
    one, several = search(spread.whole, request).plan, search_nodes(spread.routed, request).plan
    assert (several.mode, several.vector, several.chunks, several.passing) == (
        one.mode,
        one.vector,
        one.chunks,
        one.passing,
    )
    assert {part.segment for part in several.segments} == {part.segment for part in one.segments}


def test_a_wrong_filter_is_refused_before_anybody_is_asked(spread: Spread) -> None:
    with pytest.raises(FilterError, match="colur"):
        search_nodes(spread.routed, SearchRequest(filter="colur = 'red'"))


@pytest.mark.parametrize(
    "stages",
    [
        Stages(decay=DECAY),
        Stages(collapse=Collapse(column="colour", most=3)),
        Stages(diversify=DIVERSIFY),
        Stages(decay=DECAY, collapse=Collapse(column="size", most=2), diversify=DIVERSIFY),
    ],
)
def test_stages_after_the_legs_are_those_of_one_machine(spread: Spread, stages: Stages) -> None:
    one, several = both(spread, vector=QUERY, k=12, stages=stages, explain=True)
    assert several == one


@pytest.mark.parametrize(
    ("asked", "kinds"),
    [
        ({"vector": QUERY}, ["find"]),
        ({"like": [17]}, ["like", "find"]),
        ({"query": "solar", "mode": "keyword"}, ["terms", "find"]),
        ({"filter": "size < 50", "k": READ_AHEAD // PARTS}, ["find"]),
        ({"filter": "size < 50", "k": READ_AHEAD // PARTS + 1}, ["find", "fetch"]),
        ({"vector": QUERY, "include": ("size", "body")}, ["find", "fetch"]),
        ({"vector": QUERY, "stages": Stages(diversify=DIVERSIFY)}, ["find", "fetch"]),
        ({"vector": QUERY, "query": "solar"}, ["terms", "find", "fetch"]),
    ],
)
def test_rows_come_along_where_few_are_wanted(
    spread: Spread, asked: dict[str, Any], kinds: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert_rounds(spread, asked, [{kind} for kind in kinds], monkeypatch)


@pytest.mark.parametrize("filter_", [None, "id < 2"])
def test_rows_that_are_large_are_asked_for_once_they_are_shown(
    spread: Spread, filter_: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the two rows one node has none, which it sends all the same."""
    monkeypatch.setattr(node_module, "AHEAD_BYTES", 0)
    for k in (1, 7):
        assert_rounds(spread, {"filter": filter_, "k": k}, [{"find"}, {"fetch"}], monkeypatch)


def assert_rounds(
    spread: Spread, asked: dict[str, Any], expected: list[set[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Assert that the nodes find what one machine does, asked in these rounds."""
    nodes, rounds = spread.routed.nodes, []

    def ask(asker: Asker, questions: Mapping[int, Part], *, deadline: float | None) -> Asked:
        rounds.append({question.kind for question in questions.values()})
        return asking(asker, questions, deadline=deadline)

    asking = nodes.ask
    with monkeypatch.context() as patched:
        patched.setattr(nodes, "ask", ask)
        one, several = both(spread, **asked)
    assert [hit.key for hit in several] == [hit.key for hit in one]
    assert [hit.fields for hit in several] == [hit.fields for hit in one]
    assert [hit.text for hit in several] == [hit.text for hit in one]
    assert rounds == expected


def policies(*rows: str, masks: dict[str, str] | None = None) -> list[dict[str, Any]]:
    return [{"role": f"role{at}", "rows": text, "masks": masks or {}} for at, text in enumerate(rows)]


@pytest.mark.parametrize("claims", [{"colour": "red"}, {"colour": "blue"}, {}])
def test_every_node_shows_what_the_caller_may_see_and_no_more(tmp_path: Path, claims: dict[str, Any]) -> None:
    spec = spec_of(shards=SHARDS, policies=policies("colour = :colour", masks={"title": "redact", "size": "hash"}))
    caller = Caller(roles=frozenset({"role0"}), claims=claims, hash_key=b"key")
    with spread_of(filled(Library(tmp_path, spec))) as spread:
        for asked in ({"vector": QUERY}, {"query": "solar wind", "mode": "keyword"}, {}):
            for k, include in ((EVERY, ("size", "colour", "title")), (READ_AHEAD // PARTS, ("size", "colour"))):
                request = SearchRequest(k=k, include=include, **asked)
                one = search(spread.whole, request, caller=caller)
                several = search_nodes(spread.routed, request, caller=caller)
                assert sorted(map(bare, several.results), key=str) == sorted(map(bare, one.results), key=str)
                assert several.masked == one.masked
                assert several.plan.chunks == one.plan.chunks
                assert several.closed_policies == one.closed_policies
                assert {hit.fields["colour"] for hit in several.results} == set(claims.values())


def test_a_masked_column_cannot_be_filtered_by(tmp_path: Path) -> None:
    spec = spec_of(shards=SHARDS, policies=policies("colour = 'red'", masks={"size": "hash"}))
    caller = Caller(roles=frozenset({"role0"}))
    with spread_of(filled(Library(tmp_path, spec))) as spread, pytest.raises(FilterError, match="masked"):
        search_nodes(spread.routed, SearchRequest(filter="size > 3"), caller=caller)


def test_a_node_of_other_policies_does_not_answer(tmp_path: Path) -> None:
    library = filled(Library(tmp_path, spec_of(shards=SHARDS)))
    with spread_of(library) as spread:
        spread.snapshots[1].govern(spec_of(shards=SHARDS, policies=policies("size > 3")))
        with pytest.raises(NodeDiffers):
            search_nodes(spread.routed, SearchRequest(vector=QUERY))


def test_a_column_that_is_wider_on_one_node_is_so_on_all(tmp_path: Path) -> None:
    library = Library(tmp_path, spec_of(shards=SHARDS))
    library.add(*(doc for doc in docs_of(12, seed=1) if doc.id % 2 == 0), shard=0)
    wide = library_module.SCHEMA.set(3, pa.field("size", pa.int64()))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(library_module, "SCHEMA", wide)
        library.add(Doc(id=99, size=2**40, bodies=("far",), vectors=(QUERY,)), shard=1)
    with spread_of(library) as spread:
        assert spread.routed.schema["size"] == pl.Int64
        one, several = both(spread, filter=f"size > {2**39} OR size < 50", k=EVERY)
        assert several == one
        assert several[-1].fields["size"] == 2**40
        one, several = both(spread, vector=QUERY, k=EVERY)
        assert several == one


def test_an_empty_collection_finds_nothing(tmp_path: Path) -> None:
    with spread_of(Library(tmp_path, spec_of(shards=SHARDS))) as spread:
        for asked in (
            {"vector": QUERY},
            {"query": "solar", "mode": "keyword"},
            {},
            {"query": "solar", "vector": QUERY},
        ):
            assert both(spread, **asked) == ([], [])


def test_a_passed_deadline_ends_the_search(spread: Spread) -> None:
    with pytest.raises(DeadlineExceeded):
        search_nodes(spread.routed, SearchRequest(vector=QUERY, deadline=0.0))


@pytest.mark.parametrize("mode", ["vector", "keyword", "hybrid"])
@pytest.mark.parametrize("k", [3, EVERY])
def test_several_queries_are_asked_of_all_nodes(tmp_path: Path, mode: Mode, k: int) -> None:
    library = Library(tmp_path, spec_of(shards=SHARDS, vector={"model": f"hash:{DIM}"}))
    docs = docs_of(120, seed=4)
    for shard in range(SHARDS):
        library.add(*(doc for doc in docs if doc.id % SHARDS == shard), shard=shard)
    queries = ("solar panel", "wind turbine", "solar panel", "grid storage")
    with spread_of(library) as spread:
        one, several = both(spread, queries=queries, mode=mode, k=k, explain=True, filter="size > 10")
        plan = search_nodes(spread.routed, SearchRequest(queries=queries, mode=mode)).plan
        whole = search(spread.whole, SearchRequest(queries=queries, mode=mode)).plan
    if mode == "vector":
        assert several == one
    elif k == EVERY:  # scores of words that tie but for the last digit may change places
        assert {hit.key for hit in several} == {hit.key for hit in one}
    for hit in several:
        assert hit.explanation is not None
        assert set(hit.explanation.queries) <= {0, 1, 3}
        assert sum(asked.fused.added for asked in hit.explanation.queries.values()) == pytest.approx(hit.score)
    assert (plan.chunks, plan.passing, plan.vector) == (whole.chunks, whole.passing, whole.vector)


def test_pages_and_stages_of_several_queries_are_those_of_one_machine(tmp_path: Path) -> None:
    library = Library(tmp_path, spec_of(shards=SHARDS, vector={"model": f"hash:{DIM}"}))
    docs = docs_of(120, seed=4)
    for shard in range(SHARDS):
        library.add(*(doc for doc in docs if doc.id % SHARDS == shard), shard=shard)
    asked: dict[str, Any] = {"queries": ("solar panel", "wind turbine"), "mode": "vector", "explain": True}
    with spread_of(library) as spread:
        for more in ({"page": Page(offset=10), "k": 10}, {"stages": Stages(decay=DECAY, diversify=DIVERSIFY), "k": 8}):
            one, several = both(spread, **asked, **more)
            assert several == one
            assert len(one) == more["k"]


def legs(hit: Hit) -> Mapping[str, Contribution]:
    assert hit.explanation is not None
    return hit.explanation.legs


def filled(library: Library) -> Library:
    docs = docs_of(60, seed=2)
    for shard in range(SHARDS):
        library.add(*(doc for doc in docs if doc.id % SHARDS == shard), shard=shard)
    return library


def bare(hit: Hit) -> tuple[Any, ...]:
    """A hit without its score's last digits."""
    return (hit.key, round(hit.score, 4), hit.text, hit.fields)
