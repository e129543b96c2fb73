"""Several queries in one call: ranked as one list, counted and recorded as the searches that they are."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import httpx
import pytest
from openapi_schema_validator import OAS31Validator

from api.audit.reading import records
from api.identity.administration import create_key, grant
from api.identity.control import ControlTable
from indexer.embedding import HashEmbedder, Vectors
from tests.api.conftest import LogLines, Serve, client_of, settings_for
from tests.api.library import Library, book

PATH = "/v1/collections/books/search"
QUERIES = ["an otter by the river", "story of a heron", "badger"]


def answer(client: httpx.Client, **body: Any) -> Any:
    response = client.post(PATH, json=body)
    assert response.status_code == 200, response.text
    return response.json()


def test_the_answer_is_one_list_that_says_what_each_query_gave(client: httpx.Client) -> None:
    found = answer(client, queries=QUERIES, k=6, explain=True)

    assert found["plan"]["mode"] == "hybrid"
    assert (found["plan"]["chunks"], found["plan"]["passing"]) == (20, 20)
    assert "queries" in found["took_ms"]
    assert len(found["results"]) == 6
    for hit in found["results"]:
        assert set(hit["explanation"]) == {"queries"}
        given = hit["explanation"]["queries"]
        assert sum(each["added"] for each in given) == pytest.approx(hit["score"])
        for each in given:
            assert each["added"] == pytest.approx(1 / (60 + each["rank"]))
            legs = [each[leg] for leg in ("vector", "keyword") if leg in each]
            assert sum(leg["added"] for leg in legs) == pytest.approx(each["score"])
    schema = client.get("/openapi.json").json()
    OAS31Validator({"$ref": "#/components/schemas/SearchAnswer", "components": schema["components"]}).validate(found)


def test_each_query_ranks_as_alone(client: httpx.Client) -> None:
    found = answer(client, queries=QUERIES, k=20, filter="pages > :least", params={"least": 20}, mode="keyword")
    scores: dict[Any, float] = {}
    for text in QUERIES:
        alone = answer(client, query=text, k=20, filter="pages > 20", mode="keyword")["results"]
        for rank, hit in enumerate(alone, start=1):
            scores[hit["key"]] = scores.get(hit["key"], 0.0) + 1 / (60 + rank)
    assert {hit["key"]: hit["score"] for hit in found["results"]} == pytest.approx(scores)


def test_stages_and_pages_are_of_the_one_list(client: httpx.Client) -> None:
    whole = [hit["key"] for hit in answer(client, queries=QUERIES, k=20)["results"]]
    paged, cursor = [], "start"
    while cursor:
        page = answer(client, queries=QUERIES, k=7, cursor=cursor)
        paged += [hit["key"] for hit in page["results"]]
        cursor = page["next_cursor"]
    assert paged == whole
    collapsed = answer(client, queries=QUERIES, collapse={"column": "shelf"}, explain=True)["results"]
    assert len({hit["fields"]["shelf"] for hit in collapsed}) == len(collapsed) == 2
    assert all({"queries", "collapse"} == set(hit["explanation"]) for hit in collapsed)


def test_the_reranker_reads_by_the_first(tmp_path: Path, serve: Serve) -> None:
    Library(tmp_path, rerank={"model": "words:overlap"}).commit(1, [book(number) for number in range(20)])
    with serve() as client:
        found = answer(client, queries=["story 7 badger", "otter"], rerank={}, explain=True, mode="keyword")
        alone = answer(client, query="story 7 badger", rerank={}, explain=True, mode="keyword")
    scores = {hit["key"]: hit["score"] for hit in alone["results"]}
    best = found["results"][0]
    assert (best["key"], best["score"]) == (alone["results"][0]["key"], scores[best["key"]])
    assert set(best["explanation"]) == {"queries", "rerank"}


def test_a_cursor_is_of_its_queries(client: httpx.Client) -> None:
    cursor = answer(client, queries=QUERIES, k=3, cursor="start")["next_cursor"]
    other = client.post(PATH, json={"queries": QUERIES[:2], "k": 3, "cursor": cursor})
    assert (other.status_code, other.json()["errors"][0]["field"]) == (422, "cursor")


@pytest.mark.parametrize(
    ("body", "field", "message"),
    [
        ({"queries": []}, "queries", "at least 1 item"),
        ({"queries": ["a"] * 17}, "queries", "at most 16 items"),
        ({"queries": ["a", " "]}, "queries.1", "a blank query finds nothing: leave it out"),
        ({"queries": ["a", 5]}, "queries.1", "valid string"),
        ({"queries": "a"}, "queries", "valid array"),
        ({"queries": ["a"], "query": "b"}, "queries", "there is a 'query' already"),
        ({"queries": ["a"], "vector": [1.0] * 32}, "queries", "there is a 'vector' already"),
        ({"queries": ["a"], "like": 3}, "queries", "there is a 'like' already"),
    ],
)
def test_a_mistake_is_named(client: httpx.Client, body: dict[str, Any], field: str, message: str) -> None:
    response = client.post(PATH, json=body)
    assert response.status_code == 422
    found = {mistake.get("field"): mistake["message"] for mistake in response.json()["errors"]}
    assert message in found[field]


def test_the_model_reads_them_all_at_once(library: Library, serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    library.commit(1, [book(number) for number in range(5)])
    calls: list[list[str]] = []
    queries = HashEmbedder.queries

    def counted(embedder: HashEmbedder, texts: Any) -> Vectors:
        calls.append(list(texts))
        return queries(embedder, texts)

    monkeypatch.setattr(HashEmbedder, "queries", counted)
    with serve() as client:
        calls.clear()
        answer(client, queries=[*QUERIES, QUERIES[0]])
    assert calls == [QUERIES]


def test_each_counts_in_the_quota(library: Library, serve: Serve) -> None:
    library.commit(1, [book(number) for number in range(5)])
    with serve(quota="5/hour") as client:

        def ask(n: int) -> httpx.Response:
            return client.post(PATH, json={"queries": [f"otter {number}" for number in range(n)]})

        answers = [ask(n) for n in (3, 3, 6, 1)]
    assert [answer.status_code for answer in answers] == [200, 429, 429, 429]
    assert answers[0].headers["ratelimit-remaining"] == "2"
    assert "retry-after" in answers[1].headers
    assert "retry-after" not in answers[2].headers


def test_a_call_that_can_never_fit_is_told_so(library: Library, serve: Serve) -> None:
    library.commit(1, [book(1)])
    with serve(quota="5/hour") as client:
        refused = client.post(PATH, json={"queries": list("abcdef")})
    assert (refused.status_code, "retry-after" in refused.headers) == (429, False)
    assert refused.json()["detail"] == (
        "6 searches in one call are more than the quota of 5 per 1 hour ever allows: ask fewer"
    )


def test_each_takes_a_place_in_the_queue(
    library: Library, tmp_path: Path, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    library.commit(1, [book(number) for number in range(5)])
    begun, release = threading.Event(), threading.Event()
    queries = HashEmbedder.queries

    def held(embedder: HashEmbedder, texts: Any) -> Vectors:
        if "hold" in texts:
            begun.set()
            assert release.wait(60)
        return queries(embedder, texts)

    monkeypatch.setattr(HashEmbedder, "queries", held)
    with serve(search={"threads": 1, "queue": 3}) as client:
        first = threading.Thread(target=lambda: answer(client, query="hold"))
        first.start()
        assert begun.wait(60)
        refused = client.post(PATH, json={"queries": list("abcd"), "mode": "keyword"})
        assert (refused.status_code, refused.json()["code"]) == (503, "overloaded")
        release.set()
        first.join()
        assert client.post(PATH, json={"queries": list("abcdefgh"), "mode": "keyword"}).status_code == 200


def test_the_logs_say_how_many_and_the_audit_log_has_the_mac_of_each(tmp_path: Path) -> None:
    library, log, audit = Library(tmp_path), LogLines(), tmp_path / "audit"
    library.commit(1, [book(number) for number in range(5)])
    table = ControlTable(library.store)
    grant(table, "reader", "books", ["search"])
    key = create_key(table, "app", roles=["reader"], claims={})[0]
    with client_of(settings_for(tmp_path, audit={"folder": audit}), log) as client:
        headers = {"Authorization": f"Bearer {key}", "X-Request-ID": "several"}
        found = client.post(PATH, json={"queries": QUERIES, "k": 3}, headers=headers).json()
        client.post(PATH, json={"query": QUERIES[1]}, headers=headers | {"X-Request-ID": "one"})

    (line,) = [line for line in log.lines() if line.get("request_id") == "several"]
    assert (line["queries"], line["results"]) == (3, 3)
    written = {record["metadata"]["uid"]: record for record in records(library.store, audit, newest_first=False)}
    told = written["several/intent"]["unmapped"]
    assert len(told["query_hmac"]) == 3
    assert told["query_hmac"][1] == written["one/intent"]["unmapped"]["query_hmac"]
    assert "heron" not in str(written)
    assert written["several/outcome"]["unmapped"]["keys"] == [hit["key"] for hit in found["results"]]
