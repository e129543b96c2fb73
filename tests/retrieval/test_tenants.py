"""Tenants kept apart: what one of them is answered is what a collection of its rows alone would answer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from indexer.errors import BuildError
from retrieval.distributed.nearby import NearbyNodes
from retrieval.distributed.search import search_nodes
from retrieval.policies import OPERATOR, Caller
from retrieval.request import SearchRequest
from retrieval.response import SearchResponse
from retrieval.rows import get_row
from retrieval.search import search
from retrieval.share import Share
from retrieval.snapshot import Snapshot
from retrieval.sql import parse_statement, run_statement
from tests.retrieval.library import DIM, Doc, Library, spec_of

WORDS = ("solar", "panel", "heat", "pump", "grid", "storage", "wind", "turbine")
TENANTS = ("blue", "green", "red", "violet")
POLICIES = [
    {"role": "member", "rows": "colour = :team AND size < 90"},
    {"role": "partner", "rows": "colour IN (:teams)"},
    {"role": "reader", "rows": "lang = 'en' OR colour = :team"},
    {"role": "auditor"},
]
SPEC = spec_of(key=["colour", "id"], isolation={"tenant": "colour"}, policies=POLICIES)


def docs_of(tenant: str, count: int, *, seed: int) -> list[Doc]:
    rng = np.random.default_rng(seed)
    vectors = rng.integers(-1, 2, (count, 2, DIM)).astype(np.float32) + np.float32(0.5)
    vectors /= np.linalg.norm(vectors, axis=2, keepdims=True)
    return [
        Doc(
            id=number,
            bodies=tuple(" ".join(rng.choice(WORDS, int(rng.integers(1, 12)))) + " " for _ in range(2)),
            vectors=(vectors[number, 0], vectors[number, 1]),
            title=str(rng.choice(WORDS)),
            colour=tenant,
            size=int(rng.integers(0, 100)),
        )
        for number in range(count)
    ]


def filled(library: Library, tenants: Sequence[str]) -> Library:
    """Two segments for each of ``tenants``, side by side with those of others, and a row of each removed."""
    for seed, (first, last) in enumerate(((0, 40), (40, 60))):
        for tenant in tenants:
            library.add(*docs_of(tenant, 60, seed=10 * len(tenant) + seed)[first:last])
    return library


def caller_of(role: str, **claims: Any) -> Caller:
    return Caller(roles=frozenset({role}), claims=claims)


BLUE = caller_of("member", team="blue")


@pytest.fixture(scope="module")
def everybody(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Snapshot]:
    with filled(Library(tmp_path_factory.mktemp("everybody"), SPEC), TENANTS).open() as snapshot:
        yield snapshot


@pytest.fixture(scope="module")
def blue_alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Snapshot]:
    with filled(Library(tmp_path_factory.mktemp("alone"), SPEC), ["blue"]).open() as snapshot:
        yield snapshot


def told(response: SearchResponse) -> Any:
    """All that a caller is told of a search, but for how long it took and of which version it is."""
    hits = [(hit.key, hit.score, hit.text, dict(hit.fields), hit.explanation) for hit in response.results]
    return hits, response.plan, response.masked, response.has_more


REQUESTS = [
    SearchRequest(query="solar grid", mode="keyword", k=30, explain=True),
    SearchRequest(query="+pump storage", mode="keyword", k=30, filter="size > 20"),
    SearchRequest(vector=[1.0] * DIM, k=30, explain=True),
    SearchRequest(query="wind", vector=[0.5] * DIM, k=30, mode="hybrid", explain=True),
    SearchRequest(like=["blue", 3], k=30),
    SearchRequest(filter="size BETWEEN 10 AND 60", k=30),
    SearchRequest(filter="colour <> 'blue'", k=30),
]


@pytest.mark.parametrize("at", range(len(REQUESTS)))
def test_a_tenant_is_answered_as_if_there_were_no_other(everybody: Snapshot, blue_alone: Snapshot, at: int) -> None:
    shared, alone = (told(search(snapshot, REQUESTS[at], caller=BLUE)) for snapshot in (everybody, blue_alone))
    assert shared == alone
    assert bool(shared[0]) == (at != len(REQUESTS) - 1)


def test_without_isolation_the_words_of_others_count(tmp_path: Path, blue_alone: Snapshot) -> None:
    shared = filled(Library(tmp_path, spec_of(key=["colour", "id"], policies=POLICIES)), TENANTS)
    with shared.open() as snapshot:
        mixed, alone = (told(search(each, REQUESTS[0], caller=BLUE)) for each in (snapshot, blue_alone))
    assert {key for key, *_ in mixed[0]} == {key for key, *_ in alone[0]}
    assert [score for _, score, *_ in mixed[0]] != [score for _, score, *_ in alone[0]]


def test_rows_and_statements_too(everybody: Snapshot, blue_alone: Snapshot) -> None:
    statement = "SELECT size % 3 AS third, count(*), min(id) FROM docs WHERE search('solar') GROUP BY size % 3"
    answers = [
        run_statement(snapshot, parse_statement(statement, "databricks"), caller=BLUE)
        for snapshot in (everybody, blue_alone)
    ]
    assert answers[0].rows == answers[1].rows
    for key in (("blue", 3), ("green", 3), ("blue", 777)):
        rows = [get_row(snapshot, key, snapshot.sight_of(BLUE)) for snapshot in (everybody, blue_alone)]
        assert rows[0] == rows[1]
        assert (rows[0] is not None) == (key == ("blue", 3))


def test_nodes_keep_tenants_apart_too(tmp_path: Path, everybody: Snapshot) -> None:
    library = Library(tmp_path, SPEC.model_copy(update={"shards": 2}))
    for seed, (first, last) in enumerate(((0, 40), (40, 60))):
        for number, tenant in enumerate(TENANTS):
            library.add(*docs_of(tenant, 60, seed=10 * len(tenant) + seed)[first:last], shard=number % 2)
    with library.open(share=Share(0, 2)) as first_part, library.open(share=Share(1, 2)) as second:
        nodes = NearbyNodes([first_part, second]).version()
        for request in REQUESTS:
            shared = told(search_nodes(nodes, request, caller=BLUE))[0]
            assert shared == told(search(everybody, request, caller=BLUE))[0]


@pytest.mark.parametrize(
    ("caller", "reached"),
    [
        (BLUE, {"blue"}),
        (caller_of("member", team="nobody"), set()),
        (caller_of("member"), set()),
        (caller_of("partner", teams=["red", "violet", "grey"]), {"red", "violet"}),
        (caller_of("partner", teams=["red"], team="blue"), {"red"}),
        (Caller(roles=frozenset({"member", "partner"}), claims={"team": "blue", "teams": ["red"]}), {"blue", "red"}),
        (caller_of("reader", team="blue"), set(TENANTS)),  # rows of anybody may be in English
        (caller_of("auditor"), set(TENANTS)),
        (OPERATOR, set(TENANTS)),
    ],
)
def test_callers_reach_the_tenants_that_their_policies_name(
    everybody: Snapshot, caller: Caller, reached: set[str]
) -> None:
    part = everybody.within(everybody.sight_of(caller))
    assert {segment.table["column.colour"][0].as_py() for segment in part.segments} == reached
    assert part.within(everybody.sight_of(caller)).segments == part.segments


def test_a_newer_version_takes_the_indexes_of_tenants_over_that_nothing_came_to(tmp_path: Path) -> None:
    library = filled(Library(tmp_path, SPEC), TENANTS)
    with library.open() as before:
        red = caller_of("member", team="red")
        legs = [before.within(before.sight_of(caller)).keywords for caller in (BLUE, red)]
        library.add(*docs_of("blue", 61, seed=5)[60:])
        with library.open(before) as after:
            assert after.within(after.sight_of(red)).keywords is legs[1]
            found = search(after, SearchRequest(query=" ".join(WORDS), mode="keyword", k=100), caller=BLUE)
            assert ("blue", 60) in [hit.key for hit in found.results]
            before.close()
            assert len(list((tmp_path / "cache" / "scratch").iterdir())) == 3
    del legs
    assert not list((tmp_path / "cache" / "scratch").iterdir())


def test_policies_that_change_change_who_is_reached(tmp_path: Path) -> None:
    with filled(Library(tmp_path, SPEC), TENANTS).open() as snapshot:
        assert len(search(snapshot, REQUESTS[0], caller=BLUE).results) > 0
        policies = [{"role": "member", "rows": "colour = 'red'"}]
        snapshot.govern(type(SPEC).model_validate(SPEC.model_dump() | {"policies": policies}))
        response = search(snapshot, REQUESTS[0], caller=BLUE)
        assert {hit.key[0] for hit in response.results} == {"red"}


def test_a_segment_holds_one_tenant(tmp_path: Path) -> None:
    library = Library(tmp_path, SPEC)
    with pytest.raises(BuildError, match="of one tenant, and these have 2 values of 'colour'"):
        library.add(docs_of("blue", 1, seed=1)[0], docs_of("red", 1, seed=1)[0])
