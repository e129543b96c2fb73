"""The search call on a server that does not change."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from api.models.requests import SearchBody
from api.searching import hits_in_time, search_request
from retrieval.errors import DeadlineExceeded
from retrieval.response import Hit
from tests.api.conftest import Serve
from tests.api.library import Library, book

PATH = "/v1/collections/books/search"


def search(client: httpx.Client, path: str = PATH, **body: Any) -> httpx.Response:
    return client.post(path, json=body)


def answer(client: httpx.Client, path: str = PATH, **body: Any) -> Any:
    response = search(client, path, **body)
    assert response.status_code == 200, response.text
    return response.json()


def test_an_answer_has_hits_version_source_age_plan_and_times(client: httpx.Client) -> None:
    found = answer(client, query="otter river", k=2, filter="pages > :least", params={"least": 50})
    assert [hit["key"] for hit in found["results"]] == [15, 10]
    assert found["results"][1]["fields"] == {"id": 10, "shelf": "plain", "pages": 100}
    assert found["results"][1]["text"] == "The otter\n\nStory 10 of a otter by the river"
    assert (found["version"], found["source"]["epoch"], found["source"]["version"]) == (1, "table-1", 3)
    assert 0 <= found["age_seconds"] < 600
    assert found["plan"] == {"mode": "hybrid", "vector": "exact", "chunks": 20, "passing": 14}
    assert set(found["took_ms"]) >= {"embed", "filter", "vector", "keyword", "fuse", "total"}


def test_a_passage_may_have_the_chunks_around_it_as_they_stand_in_the_text(tmp_path: Path, serve: Serve) -> None:
    text = {"fields": {"title": 2.0, "body": 1.0}, "chunk": {"max_tokens": 16, "overlap_tokens": 6}}
    library = Library(tmp_path, text=text)
    body = " ".join(f"word{number} of the story." for number in range(60))
    library.commit(1, [book(1, body=body)])
    with serve() as client:
        chunk, around, more = (
            answer(client, query="word30", mode="keyword", context=context)["results"][0]["text"]
            for context in (0, 1, 10)
        )
    assert "word30" in chunk
    assert len(chunk) < len(around) < len(more)
    for part in (chunk, around, more):
        assert part in body
    assert chunk in around
    assert around in more


def test_an_explained_score_is_the_sum_of_its_parts(client: httpx.Client) -> None:
    for hit in answer(client, query="heron", explain=True, fusion={"kind": "rrf", "weights": {"vector": 2}})["results"]:
        assert sum(leg["added"] for leg in hit["explanation"].values()) == pytest.approx(hit["score"])


def test_fusion_may_be_named_by_its_kind_alone(client: httpx.Client) -> None:
    by_name = answer(client, query="newt by the river", fusion="rrf")
    assert by_name["results"] == answer(client, query="newt by the river", fusion={"kind": "rrf"})["results"]


@pytest.mark.parametrize(
    ("body", "mode"),
    [
        ({"query": "otter"}, "hybrid"),
        ({"query": "otter", "mode": "keyword"}, "keyword"),
        ({"vector": [1.0] * 32}, "vector"),
        ({"query": "otter", "vector": [1.0] * 32}, "hybrid"),
        ({"filter": "id < 3"}, "filter"),
    ],
)
def test_the_mode_follows_from_what_is_given(client: httpx.Client, body: dict[str, Any], mode: str) -> None:
    assert answer(client, **body)["plan"]["mode"] == mode


def test_what_is_not_similar_enough_is_left_out(client: httpx.Client) -> None:
    asked: dict[str, Any] = {"query": "otter river", "mode": "vector", "k": 20, "explain": True}
    every = answer(client, **asked)["results"]
    least = every[4]["explanation"]["vector"]["raw_score"]
    found = answer(client, **asked, min_similarity=least)["results"]
    assert found == [hit for hit in every if hit["score"] >= least]
    assert 5 <= len(found) < 20
    assert answer(client, **asked, min_similarity=1)["results"] == []
    by_words = answer(client, query="otter", min_similarity=1, explain=True)["results"]
    assert [set(hit["explanation"]) for hit in by_words] == [{"keyword"}] * 4


def test_a_number_that_is_not_finite_is_no_similarity(client: httpx.Client) -> None:
    for number in ("NaN", "Infinity", "1e999"):
        raw = b'{"query": "x", "min_similarity": %b}' % number.encode()
        response = client.post(PATH, content=raw, headers={"Content-Type": "application/json"})
        assert response.status_code in (400, 422), number


def test_include_chooses_the_fields_and_text_fields_come_whole(client: httpx.Client) -> None:
    (hit,) = answer(client, filter="id = 7", include=["title", "pages"])["results"]
    assert hit["fields"] == {"title": "The badger", "pages": 70}


def test_a_field_that_is_named_twice_is_read_once() -> None:
    body = SearchBody(query="x", include=("title", "pages", "title"))
    assert search_request(body, 0.0).include == ("title", "pages")


def test_hits_are_read_until_the_deadline() -> None:
    hit = Hit(key=(7,), score=0.5, text="otter", fields={"pages": 70})
    read: list[int] = []

    def slow() -> Iterator[Hit]:
        for number in range(3):
            read.append(number)
            time.sleep(0.05 * number)
            yield hit

    answers = [{"key": 7, "score": 0.5, "text": "otter", "fields": {"pages": 70}}]
    assert hits_in_time([hit], time.monotonic() + 60) == hits_in_time([hit], None) == answers
    with pytest.raises(DeadlineExceeded, match="while the hits were read"):
        hits_in_time(slow(), time.monotonic() + 0.04)
    assert read == [0, 1]


def test_a_composite_key_is_a_list(client: httpx.Client) -> None:
    found = answer(client, "/v1/collections/pairs/search", filter="id = 1")
    assert [hit["key"] for hit in found["results"]] == [["a/b, c", 1]]


def test_a_filter_that_nothing_passes_finds_nothing(client: httpx.Client) -> None:
    assert answer(client, query="otter", filter="pages < 0")["results"] == []


@pytest.mark.parametrize(
    ("body", "field", "message"),
    [
        ({}, None, "give 'query', 'queries', 'vector', 'like' or 'filter'"),
        ({"query": " "}, None, "give 'query', 'queries', 'vector', 'like' or 'filter'"),
        ({"query": "x", "k": 0}, "k", "greater than or equal to 1"),
        ({"query": "x", "k": 1_000_000}, "k", "less than or equal to 1000"),
        ({"query": "x", "k": "5"}, "k", "valid integer"),
        ({"query": "x", "k": True}, "k", "valid integer"),
        ({"qurey": "x", "filter": "id = 1"}, "qurey", "unknown field; did you mean 'query'"),
        ({"query": "x", "fusion": {"wieghts": {}}}, "fusion.wieghts", "unknown field; did you mean 'weights'"),
        ({"query": "x", "fusion": "best"}, "fusion.kind", "'rrf' or 'minmax'"),
        ({"query": "x", "fusion": {"weights": {"vector": 0, "keyword": 0}}}, "fusion.weights", "above 0"),
        ({"query": "x", "mode": "both"}, "mode", "'hybrid', 'vector' or 'keyword'"),
        ({"query": "x", "dialect": "oracle"}, "dialect", "'databricks'"),
        ({"query": "x", "include": ["titel"]}, "include", "no field 'titel'"),
        ({"query": "x", "min_similarity": "0.5"}, "min_similarity", "valid number"),
        ({"query": "x", "min_similarity": True}, "min_similarity", "valid number"),
        ({"query": "x", "mode": "keyword", "min_similarity": 0}, "min_similarity", "a keyword search compares no"),
        ({"filter": "id = 1", "min_similarity": 0}, "min_similarity", "a filter alone compares no vectors"),
        ({"query": "x", "min_similarity": 35}, "min_similarity", "expected a cosine, from -1 to 1, got 35"),
        ({"query": "x", "include": [""] * 1025}, "include", "at most 1024 items"),
        ({"query": "x", "params": {"a": {}}}, "params", "'a' must be a string, number, boolean or null"),
        ({"query": "x", "params": {"a b": 1}}, "params", "no parameter name"),
        ({"query": "x", "params": {"b": 1, "a": 2}}, "params", "there is no filter that uses :a, :b"),
        ({"query": "x", "min_version": "3"}, "min_version", "object"),
        ({"query": "x", "max_staleness_seconds": -1}, "max_staleness_seconds", "greater than or equal to 0"),
        ({"query": "x", "deadline_ms": 0}, "deadline_ms", "greater than or equal to 1"),
        ({"vector": [1.0] * 3}, "vector", "expected 32 finite numbers"),
        ({"vector": [0.0] * 32}, "vector", "not all zero"),
        ({"vector": ["a"]}, "vector.0", "valid number"),
        ({"vector": [1.0] * 32, "mode": "keyword"}, "query", "needs a query"),
    ],
)
def test_a_mistake_is_named_with_its_field(
    client: httpx.Client, body: dict[str, Any], field: str | None, message: str
) -> None:
    response = search(client, **body)
    assert response.status_code == 422
    problem = response.json()
    assert problem["code"] == "invalid-request"
    found = {mistake.get("field"): mistake["message"] for mistake in problem["errors"]}
    assert message in found[field]


@pytest.mark.parametrize(
    ("text", "code", "line", "column"),
    [
        ("pages > 1\n AND pagez = 1", "filter-unknown-column", 2, 6),
        ("pages > 'many'", "filter-type", 1, 1),
        ("pages >", "filter-syntax", 1, 7),
        ("id IN (SELECT 1)", "filter-not-allowed", 1, 8),
    ],
)
def test_a_wrong_filter_is_pointed_at(client: httpx.Client, text: str, code: str, line: int, column: int) -> None:
    response = search(client, query="otter", filter=text)
    assert (response.status_code, response.json()["code"]) == (422, "invalid-filter")
    (mistake,) = response.json()["errors"]
    assert mistake["field"] == "filter"
    assert mistake["code"] == code
    assert (mistake["line"], mistake["column"]) == (line, column)
    assert mistake["length"] >= 1


def test_a_number_that_json_cannot_hold_is_refused(client: httpx.Client) -> None:
    raw = '{"filter": "pages > :p", "params": {"p": 1e999}}'
    response = client.post(PATH, content=raw, headers={"Content-Type": "application/json"})
    assert (response.status_code, response.json()["errors"][0]["message"]) == (422, "'p' is not a finite number")


def test_rows_like_another_are_found_by_its_key(client: httpx.Client) -> None:
    liked = answer(client, like=10, k=19)

    assert {hit["key"] for hit in liked["results"][:3]} == {0, 5, 15}  # of the same animal
    assert 10 not in [hit["key"] for hit in liked["results"]]
    assert answer(client, like="10", k=19)["results"] == liked["results"]
    composite = answer(client, "/v1/collections/pairs/search", like=["plain", 2], k=1)
    assert composite["results"][0]["key"] != ["plain", 2]
    refused = search(client, like=777).json()
    assert (refused["code"], refused["errors"][0]["field"], refused["errors"][0]["code"]) == (
        "invalid-request",
        "like",
        "row-not-found",
    )


@pytest.mark.parametrize("like", [None, [], {"id": 1}, [[1]], [None]])
def test_a_key_that_is_none_is_refused(client: httpx.Client, like: Any) -> None:
    assert search(client, like=like).status_code == 422
