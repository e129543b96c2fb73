from __future__ import annotations

import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indexer.embedding import load_embedder
from retrieval import legs, vector_leg
from retrieval.errors import DeadlineExceeded, FilterError, RequestError
from retrieval.explanation import Explanation
from retrieval.helpers import ALONE, Helpers
from retrieval.request import Fusion, SearchRequest
from retrieval.search import search
from retrieval.snapshot import Snapshot
from tests.retrieval.conftest import WORDS, Shelf
from tests.retrieval.library import DIM, Doc, Library, nearest, spec_of, unit

FILTERS: dict[str | None, Any] = {
    None: lambda doc: True,
    "size < 90": lambda doc: doc.size < 90,
    "size < 50": lambda doc: doc.size < 50,
    "size = 3": lambda doc: doc.size == 3,
    "colour = 'red'": lambda doc: doc.colour == "red",
    "colour <> 'red'": lambda doc: doc.colour not in (None, "red"),
    "colour IS NULL AND id > 90": lambda doc: doc.colour is None and doc.id > 90,
    "id = 120": lambda doc: doc.id == 120,
    "size > 1000": lambda doc: False,
}


def ids(snapshot: Snapshot, **request: Any) -> list[int]:
    return [key[0] for key in search(snapshot, SearchRequest(**request)).results.keys()]  # noqa: SIM118


@settings(derandomize=True, deadline=None, max_examples=150)
@given(
    st.lists(st.floats(-1, 1, width=16), min_size=DIM, max_size=DIM).filter(lambda v: max(map(abs, v)) > 0.1),
    st.sampled_from(list(FILTERS)),
    st.sampled_from([1, 2, 10, 60, 1000]),
)
def test_vector_search_finds_exactly_the_nearest_rows(
    shelf: Shelf, values: list[float], where: str | None, k: int
) -> None:
    query = unit(*values)

    found = ids(shelf.snapshot, vector=query, k=k, filter=where)

    expected = nearest(shelf.docs, query, 1000, FILTERS[where])
    scores = {doc.id: best_score(doc, query) for doc in shelf.docs}
    assert len(found) == min(k, len(expected))
    # Where numpy and FAISS round alike the order is the same; else each place has the score that belongs there.
    assert [scores[key] for key in found] == pytest.approx([scores[key] for key in expected[:k]], abs=1e-6)
    assert len(set(found)) == len(found)
    assert set(found) <= set(expected)


def best_score(doc: Doc, query: Any) -> float:
    return max((float(vector @ query) for vector in doc.vectors if vector is not None), default=-2.0)


@pytest.mark.parametrize("k", [1, 3, 7, 20])
def test_equal_vectors_come_in_key_order_across_segments(shelf: Shelf, k: int) -> None:
    query = next(vector for vector in shelf.docs[0].vectors if vector is not None)
    tied = sorted(doc.id for doc in shelf.docs if any(v is not None and (v == query).all() for v in doc.vectors))
    assert len(tied) > 7

    found = ids(shelf.snapshot, vector=query, k=k)

    assert found[: len(tied)] == tied[:k]


@settings(derandomize=True, deadline=None, max_examples=100)
@given(
    st.lists(st.sampled_from(WORDS), min_size=1, max_size=4),
    st.sampled_from(list(FILTERS)),
    st.sampled_from([1, 5, 1000]),
)
def test_a_filtered_keyword_search_is_the_unfiltered_one_less_what_does_not_pass(
    shelf: Shelf, words: list[str], where: str | None, k: int
) -> None:
    everything = search(shelf.snapshot, SearchRequest(query=" ".join(words), mode="keyword", k=1000))
    passing = {doc.id for doc in shelf.docs if FILTERS[where](doc)}
    ranked = [
        (-score, key[0])
        for key, score in zip(everything.results.keys(), everything.results.scores(), strict=True)
        if key[0] in passing
    ]

    found = search(shelf.snapshot, SearchRequest(query=" ".join(words), mode="keyword", filter=where, k=k)).results

    assert ranked == sorted(ranked)
    assert [(-score, key[0]) for key, score in zip(found.keys(), found.scores(), strict=True)] == ranked[:k]


@pytest.mark.parametrize("words", ["solar", "wind turbine", "heat pump grid"])
def test_keyword_search_finds_every_row_with_any_of_the_words(shelf: Shelf, words: str) -> None:
    expected = {
        doc.id for doc in shelf.docs if set(words.split()) & set(" ".join([doc.title or "", *doc.bodies]).split())
    }

    assert set(ids(shelf.snapshot, query=words, mode="keyword", k=1000)) == expected


def test_a_filter_alone_gives_rows_in_key_order(shelf: Shelf) -> None:
    expected = sorted(doc.id for doc in shelf.docs if doc.size is not None and doc.size < 50)

    assert ids(shelf.snapshot, filter="size < :limit", params={"limit": 50}, k=12) == expected[:12]
    assert ids(shelf.snapshot, filter="size < 50", k=1000) == expected


def test_a_hit_has_its_key_passage_and_stored_columns(library: Library) -> None:
    library.add(
        Doc(id=1, title="Heat", bodies=("about pumps. ", "about boilers."), vectors=(unit(1), unit(0, 1)), size=4),
        Doc(id=2, bodies=("else",), vectors=(unit(-1),)),
    )
    with library.open() as snapshot:
        hit = search(snapshot, SearchRequest(vector=unit(0, 1), k=1)).results[0]

    assert (hit.key, hit.score, hit.text) == ((1,), 1.0, "about boilers.")
    assert hit.fields == {"id": 1, "lang": "en", "colour": "red", "size": 4}


@pytest.mark.parametrize(
    ("context", "text"), [(0, "four. "), (1, "three. four. five. "), (2, "Count\n\none, two. three. four. five. ")]
)
def test_a_passage_has_the_chunks_around_its_own(library: Library, context: int, text: str) -> None:
    bodies = ("one, two. ", "three. ", "four. ", "five. ")
    library.add(
        Doc(id=7, bodies=("before. ",), vectors=(None,)),
        Doc(id=1, title="Count", bodies=bodies, vectors=(None, None, unit(1), None)),
        Doc(id=9, bodies=("behind. ",), vectors=(None,)),
    )
    with library.open() as snapshot:
        hit = search(snapshot, SearchRequest(vector=unit(1), context=context)).results[0]

    assert (hit.key, hit.text) == ((1,), text)


@pytest.mark.parametrize("context", [-1, 11, True, 1.0])
def test_context_is_a_whole_number(context: Any) -> None:
    with pytest.raises(RequestError, match="expected a whole number from 0 to 10"):
        SearchRequest(vector=unit(1), context=context)


def test_include_names_columns_and_whole_text_fields(library: Library) -> None:
    library.add(Doc(id=1, bodies=("about pumps. ", "about boilers."), vectors=(unit(1), unit(0, 1))))
    with library.open() as snapshot:
        hit = search(snapshot, SearchRequest(vector=unit(1), include=("body", "title", "size"))).results[0]

    assert hit.fields == {"body": "about pumps. about boilers.", "title": None, "size": 0}


def test_the_explanation_of_a_hybrid_hit_adds_up_to_its_score(shelf: Shelf) -> None:
    for kind in ("rrf", "minmax"):
        fusion = Fusion(kind=kind, weights={"vector": 0.3, "keyword": 0.7})
        request = SearchRequest(query="solar heat", vector=unit(1, 2), fusion=fusion, explain=True)

        response = search(shelf.snapshot, request)

        assert response.plan.mode == "hybrid"
        for hit in response.results:
            assert isinstance(hit.explanation, Explanation)
            assert hit.score == pytest.approx(sum(part.added for part in hit.explanation.legs.values()))


def test_hybrid_ranks_by_the_named_fusion(library: Library) -> None:
    library.add(
        Doc(id=1, bodies=("solar",), vectors=(unit(0, 1),)),
        Doc(id=2, bodies=("wind",), vectors=(unit(1, 0.1),)),
        Doc(id=3, bodies=("solar wind",), vectors=(unit(1, 1),)),
    )
    with library.open() as snapshot:
        response = search(
            snapshot,
            SearchRequest(query="wind", vector=unit(1), fusion=Fusion(kind="rrf", weights={}), explain=True),
        )

    # By vector 2, 3, 1; by keyword 2 (shorter), 3.
    assert response.results.keys() == [(2,), (3,), (1,)]
    assert response.results.scores() == pytest.approx([1 / 61, 1 / 62, 0.5 / 63])


def test_a_search_says_its_version_source_plan_and_times(library: Library) -> None:
    record = library.add(Doc(id=1, bodies=("solar",), vectors=(unit(1),)), Doc(id=2, bodies=("wind",)))
    with library.open() as snapshot:
        response = search(snapshot, SearchRequest(query="solar", vector=unit(1), filter="size = 0"))

    assert (response.version, response.epoch, response.source_version) == (1, "table", 1)
    assert (response.plan.mode, response.plan.vector, response.plan.chunks, response.plan.passing) == (
        "hybrid",
        "exact",
        2,
        2,
    )
    assert [(part.segment, part.how, part.passing) for part in response.plan.segments] == [(record.number, "exact", 1)]
    assert set(response.took_ms) == {"embed", "filter", "vector", "keyword", "fuse", "total"}


def test_the_model_embeds_the_query(tmp_path: Any) -> None:
    library = Library(tmp_path, spec_of(vector={"column": "embedding", "model": f"hash:{DIM}"}))
    library.add(Doc(id=1, bodies=("solar",), vectors=(unit(1),)))
    with library.open() as snapshot:
        response = search(snapshot, SearchRequest(query="solar panel"))
        wordless = search(snapshot, SearchRequest(query="?!", mode="vector"))

    assert (response.plan.mode, len(response.results)) == ("hybrid", 1)
    assert len(wordless.results) == 0


def test_an_empty_collection_finds_nothing(library: Library) -> None:
    with library.open() as snapshot:
        assert ids(snapshot, vector=unit(1), query="solar", filter="size = 1") == []
        assert ids(snapshot) == []


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({"k": 0}, "k: expected a whole number from 1 to 1000, got 0"),
        ({"k": 1_000_000}, "k: expected a whole number from 1 to 1000, got 1000000"),
        ({"k": True}, "k: expected a whole number from 1 to 1000, got True"),
        ({"vector": [1.0, 2.0]}, "vector: expected 8 finite numbers, got the shape 2"),
        ({"vector": [0.0] * 8}, "vector: expected 8 finite numbers that are not all zero"),
        ({"vector": [0.0] * 7 + [float("nan")]}, "vector: expected 8 finite numbers, got nan at place 7"),
        ({"vector": [1e300] + [0.0] * 7}, "vector: expected 8 finite numbers, got inf at place 0"),
        ({"vector": ["x"] * 8}, "vector: expected 8 finite numbers, got something that is no list of numbers"),
        ({"mode": "vector", "query": "solar"}, "a vector search needs a vector, and this collection has no model"),
        ({"mode": "vector"}, r"a vector search needs a vector \(give 'query' or 'vector'\)"),
        ({"mode": "hybrid", "vector": unit(1)}, "query: a hybrid search needs a query"),
        ({"mode": "keyword", "query": "  "}, "query: a keyword search needs a query"),
        ({"mode": "psychic"}, "mode: expected 'hybrid', 'vector' or 'keyword', got 'psychic'"),
        ({"vector": unit(1), "min_similarity": 35}, "min_similarity: expected a cosine, from -1 to 1, got 35"),
        ({"vector": unit(1), "min_similarity": -1.01}, "min_similarity: expected a cosine, from -1 to 1, got -1.01"),
        ({"query": "x" * 40_000}, "query: expected at most 32,768 characters, got 40,000"),
        ({"include": ("colur",)}, r"include: there is no field 'colur' \(did you mean colour\?\)"),
    ],
)
def test_a_wrong_request_says_what_was_expected(shelf: Shelf, request_: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        search(shelf.snapshot, SearchRequest(**request_))


def test_a_wrong_fusion_says_what_was_expected() -> None:
    with pytest.raises(RequestError, match="there is no leg 'colour'"):
        Fusion(weights={"colour": 1.0})
    with pytest.raises(RequestError, match="the weight of vector must be a finite number of at least 0, got -1"):
        Fusion(weights={"vector": -1})
    with pytest.raises(RequestError, match="at least one weight must be above 0"):
        Fusion(weights={"vector": 0, "keyword": 0})


def test_a_wrong_filter_points_at_its_place(shelf: Shelf) -> None:
    with pytest.raises(FilterError, match="weight") as caught:
        search(shelf.snapshot, SearchRequest(filter="size = 1 AND weight = 2"))

    assert (caught.value.code, caught.value.column) == ("filter_unknown_column", 14)


def test_a_passed_deadline_ends_the_search(shelf: Shelf) -> None:
    late = time.monotonic() - 1

    with pytest.raises(DeadlineExceeded, match="vector search"):
        search(shelf.snapshot, SearchRequest(vector=unit(1), deadline=late))
    with pytest.raises(DeadlineExceeded, match="keyword search"):
        search(shelf.snapshot, SearchRequest(query="solar", mode="keyword", deadline=late))


def test_a_filter_by_the_time_leaves_nothing_in_the_caches(library: Library) -> None:
    library.add(Doc(id=1, vectors=(unit(1),)))
    with library.open() as snapshot:
        for _ in range(3):
            assert ids(snapshot, vector=unit(1), filter="CURRENT_TIMESTAMP > '2020-01-01' AND id = 1") == [1]
        assert (len(snapshot.caches.selections), len(snapshot.caches.bitmaps)) == (0, 0)
        for _ in range(3):
            assert ids(snapshot, vector=unit(1), filter="CURRENT_DATE > '2020-01-01' AND id = 1") == [1]
        assert (len(snapshot.caches.selections), len(snapshot.caches.bitmaps)) == (1, 1)


def test_a_repeated_name_in_include_counts_once(shelf: Shelf) -> None:
    request = SearchRequest(query="solar", include=("size", "body") * 20_000, k=1)

    assert request.include == ("size", "body")
    assert list(search(shelf.snapshot, request).results[0].fields) == ["size", "body"]


def test_more_names_than_there_are_in_include_are_refused(shelf: Shelf) -> None:
    names = ("id", "lang", "colour", "size", "title", "body", *map(str, range(40_000)))
    with pytest.raises(RequestError, match="there is no field '0'"):
        search(shelf.snapshot, SearchRequest(query="solar", include=names))


def test_a_ready_embedder_embeds_the_query_and_none_is_loaded(tmp_path: Path) -> None:
    library = Library(tmp_path, spec=spec_of(vector={"model": f"{tmp_path}/no model here"}))
    library.add(Doc(id=1, bodies=("otter",), vectors=(load_embedder(f"hash:{DIM}").query("otter"),)))
    with library.open() as snapshot:
        response = search(snapshot, SearchRequest(query="otter", mode="vector"), embedder=load_embedder(f"hash:{DIM}"))

    assert response.results.keys() == [(1,)]


@pytest.mark.parametrize("size", [1e20, 1e38])
def test_a_vector_too_long_for_dot_is_refused(tmp_path: Path, size: float) -> None:
    library = Library(tmp_path, spec=spec_of(vector={"column": "embedding", "dim": DIM, "metric": "dot"}))
    library.add(Doc(id=1, vectors=(100 * unit(1),)), Doc(id=2, vectors=(-100 * unit(1),)))
    with library.open() as snapshot:
        with pytest.raises(RequestError, match="of a length of at most 1e\\+18, got 1e") as caught:
            ids(snapshot, vector=[size] + [0.0] * (DIM - 1))
        assert caught.value.field == "vector"
        assert search(snapshot, SearchRequest(vector=[9e17] + [0.0] * (DIM - 1))).results.scores() == pytest.approx(
            [9e19, -9e19]
        )


def test_under_dot_any_number_is_a_similarity(tmp_path: Path) -> None:
    library = Library(tmp_path, spec=spec_of(vector={"column": "embedding", "dim": DIM, "metric": "dot"}))
    library.add(Doc(id=1, vectors=(100 * unit(1),)), Doc(id=2, vectors=(10 * unit(1),)))
    with library.open() as snapshot:
        assert ids(snapshot, vector=unit(1), min_similarity=35) == [1]


def test_a_huge_or_tiny_vector_is_normalised_without_loss(shelf: Shelf) -> None:
    expected = ids(shelf.snapshot, vector=unit(1, 2))

    assert ids(shelf.snapshot, vector=unit(1, 2) * np.float32(1e25)) == expected
    assert ids(shelf.snapshot, vector=unit(1, 2) * np.float32(1e-25)) == expected


def test_importing_retrieval_starts_no_jvm_and_loads_no_model_library() -> None:
    code = (
        "import retrieval.search, sys; "
        "print(sorted(n for n in ('pyspark', 'torch', 'sentence_transformers', 'connectors') if n in sys.modules))"
    )

    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)

    assert printed.stdout.strip() == "[]"


def test_a_leg_that_is_not_named_weighs_what_it_does_by_default() -> None:
    assert Fusion(weights={"vector": 0.7}).weights == {"vector": 0.7, "keyword": 0.5}
    assert Fusion(weights={}).weights == {"vector": 0.5, "keyword": 0.5}


@pytest.mark.parametrize(
    ("own", "asked", "expected"),
    [
        (None, Fusion(), ("minmax", 0.5, 0.5)),
        ({"weights": {"vector": 0.2, "keyword": 0.8}}, Fusion(), ("minmax", 0.2, 0.8)),
        ({"kind": "rrf", "weights": {"vector": 2}}, Fusion(), ("rrf", 2.0, 0.5)),
        ({"kind": "rrf", "weights": {"vector": 2}}, Fusion(kind="minmax"), ("minmax", 2.0, 0.5)),
        ({"kind": "rrf", "weights": {"vector": 2}}, Fusion(weights={}), ("rrf", 0.5, 0.5)),
    ],
)
def test_what_a_request_does_not_say_of_fusion_the_collection_does(
    tmp_path: Path, own: Any, asked: Fusion, expected: tuple[str, float, float]
) -> None:
    library = Library(tmp_path, spec_of(fusion=own))
    library.add(Doc(id=1, bodies=("solar",), vectors=(unit(1),)), Doc(id=2, bodies=("wind",), vectors=(unit(0, 1),)))
    request = SearchRequest(query="solar", vector=unit(1), fusion=asked, explain=True)
    with library.open() as snapshot:
        hit = search(snapshot, request).results[0]
    assert hit.explanation is not None
    legs = hit.explanation.legs
    assert (legs["vector"].weight, legs["keyword"].weight) == expected[1:]
    assert (legs["vector"].normalised < 0.1) == (expected[0] == "rrf")


def test_helpers_change_no_answer(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(legs, "WORTH_HELP", 0)
    monkeypatch.setattr(vector_leg, "WORTH_HELP", 0)
    random = np.random.default_rng(5)
    requests = [
        SearchRequest(query=word, vector=unit(*random.normal(size=DIM)), mode=mode, k=20, filter=where, explain=True)
        for word in WORDS
        for mode in ("hybrid", "vector")
        for where in (None, "size < 50")
    ]

    def answers() -> list[Any]:
        with ThreadPoolExecutor(2) as callers:
            found = list(callers.map(lambda request: search(shelf.snapshot, request), requests))
        return [(list(each.results), each.plan) for each in found]

    alone = answers()
    helpers = Helpers(4)
    monkeypatch.setattr(shelf.snapshot, "helpers", helpers)
    try:
        assert answers() == alone
        with pytest.raises(DeadlineExceeded):
            search(shelf.snapshot, SearchRequest(query=WORDS[0], vector=unit(1.0), deadline=time.monotonic() - 1))
    finally:
        monkeypatch.setattr(shelf.snapshot, "helpers", ALONE)
        helpers.close()
