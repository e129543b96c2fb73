"""Reranking, decay and diversity over HTTP."""

from __future__ import annotations

import io
import math
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import numpy.typing as npt
import pytest
from openapi_schema_validator import OAS31Validator

from api import rerankers
from api.audit.reading import records
from api.logs import open_log
from api.server import serving
from indexer.apply import apply
from indexer.spec import CollectionSpec, RerankSpec
from retrieval.refine.cross_encoder import WordOverlap
from retrieval.refine.rerank import Reranker
from tests.api.conftest import WAIT_SECONDS, LogLines, Serve, client_of, settings_for, until
from tests.api.library import ANIMALS, Library, book
from tests.models import cross_encoder_folder

PATH = "/v1/collections/books/search"
BOOKS = [book(number) for number in range(20)]
OVERLAP = {"model": "words:overlap"}
EVERY = {
    "rerank": {"depth": 15},
    "decay": {"column": "pages", "scale": 50, "origin": 100, "kind": "linear"},
    "collapse": {"column": "shelf", "most": 3},
    "diversify": {"diversity": 0.3},
}


@pytest.fixture(scope="module")
def books(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A server of twenty books, with a reranking model, and of ``plain`` ones without."""
    root = tmp_path_factory.mktemp("stages")
    Library(root, rerank=OVERLAP).commit(1, BOOKS)
    Library(root, "plain").commit(1, BOOKS)
    with client_of(settings_for(root)) as client:
        yield client


def answer(client: httpx.Client, **body: Any) -> Any:
    response = client.post(PATH, json=body)
    assert response.status_code == 200, response.text
    return response.json()


def test_every_stage_runs_and_is_explained(books: httpx.Client) -> None:
    found = answer(books, query="story 7 otter river", k=4, explain=True, **EVERY)

    assert list(found["took_ms"])[-5:] == ["rerank", "decay", "collapse", "diversify", "total"]
    for hit in found["results"]:
        stages = {name: hit["explanation"][name] for name in EVERY}
        assert stages["rerank"]["score"] == pytest.approx(1 / (1 + math.exp(-stages["rerank"]["raw_score"])))
        assert stages["decay"]["score_before"] == stages["rerank"]["score"]
        assert stages["decay"]["distance"] == abs(hit["fields"]["pages"] - 100)
        assert hit["score"] == stages["decay"]["score"] == stages["diversify"]["score_before"]
    schema = books.get("/openapi.json").json()
    OAS31Validator({"$ref": "#/components/schemas/SearchAnswer", "components": schema["components"]}).validate(found)


def test_what_is_asked_for_without_a_stage_is_answered_as_without_stages(books: httpx.Client) -> None:
    plain = answer(books, query="otter", explain=True)

    assert plain["results"] == answer(books, query="otter", explain=True, rerank=None, decay=None)["results"]
    assert list(plain["took_ms"]) == ["filter", "embed", "vector", "keyword", "fuse", "total"]
    assert set(plain["results"][0]["explanation"]) == {"vector", "keyword"}


def test_a_cross_encoder_of_the_spec_is_served(tmp_path: Path, serve: Serve) -> None:
    folder = cross_encoder_folder(tmp_path / "model", [*ANIMALS, "the", "story", "river"])
    Library(tmp_path, rerank={"model": folder}).commit(1, BOOKS)
    log = LogLines()

    with serve(log) as client:
        found = answer(client, query="otter story", rerank={}, k=20, explain=True)["results"]

    raw = [hit["explanation"]["rerank"]["raw_score"] for hit in found]
    assert len(set(raw)) > 1
    assert raw == sorted(raw, reverse=True)
    assert [line["model"] for line in log.lines() if line["event"] == "model loaded"] == ["hash:32", folder]


@pytest.mark.parametrize(
    ("stages", "field", "code", "message"),
    [
        ({"rerank": {"depth": 0}}, "rerank.depth", "greater-than-equal", "should be greater than or equal to 1"),
        ({"rerank": {"deph": 3}}, "rerank.deph", "extra-forbidden", "unknown field; did you mean 'depth'?"),
        ({"rerank": {"depth": 5}}, "rerank.depth", "request-invalid", "must be at least k, which is 10, got 5"),
        ({"decay": {"column": "pages"}}, "decay.scale", "missing", "is required"),
        ({"decay": {"column": "page", "scale": 5}}, "decay.column", "request-invalid", "there is no field 'page'"),
        (
            {"decay": {"column": "pages", "scale": "3 months"}},
            "decay.scale",
            "request-invalid",
            "expected a number and one of s, m, h, d or w, as in '30d' or '12h', got '3 months'",
        ),
        (
            {"decay": {"column": "pages", "scale": [1]}},
            "decay.scale",
            "value-error",
            "must be a text or a number",
        ),
        (
            {"collapse": {"column": "pages", "mots": 2}},
            "collapse.mots",
            "extra-forbidden",
            "unknown field; did you mean 'most'?",
        ),
        (
            {"diversify": {"diversity": 2}},
            "diversify.diversity",
            "less-than-equal",
            "should be less than or equal to 1",
        ),
    ],
)
def test_what_is_wrong_is_told_with_its_field(
    books: httpx.Client, stages: dict[str, Any], field: str, code: str, message: str
) -> None:
    response = books.post(PATH, json={"query": "otter", **stages})

    assert response.status_code == 422
    (mistake,) = response.json()["errors"]
    assert (mistake["field"], mistake["code"], mistake["message"]) == (field, code, message)


def test_a_collection_without_a_reranking_model_says_so(books: httpx.Client) -> None:
    response = books.post("/v1/collections/plain/search", json={"query": "otter", "rerank": {}})

    assert response.status_code == 422
    (mistake,) = response.json()["errors"]
    assert (mistake["field"], mistake["message"]) == ("rerank", "this collection has no reranking model")
    assert mistake["hint"].endswith("rerank: {model: ...}")


def test_a_reranking_model_that_cannot_be_loaded_fails_only_searches_that_ask_for_it(
    tmp_path: Path, serve: Serve
) -> None:
    Library(tmp_path, rerank={"model": str(tmp_path / "nowhere")}).commit(1, BOOKS)

    with serve() as client:  # is ready: it has been tried
        response = client.post(PATH, json={"query": "otter", "rerank": {}})

        assert (response.status_code, response.json()["code"]) == (503, "reranker-unavailable")
        assert len(answer(client, query="otter")["results"]) == 10


def test_a_server_is_ready_once_its_reranking_models_are_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = threading.Event()

    def load(spec: RerankSpec) -> Reranker:
        loaded.wait(WAIT_SECONDS)
        return WordOverlap()

    monkeypatch.setattr(rerankers, "load_reranker", load)
    Library(tmp_path, rerank=OVERLAP).commit(1, BOOKS)
    waits = ["books's reranking model is being loaded"]

    with (
        serving(settings_for(tmp_path), log=open_log(io.BytesIO())) as url,
        httpx.Client(base_url=url, timeout=WAIT_SECONDS) as client,
    ):
        until(lambda: client.get("/readyz").json()["reasons"] == waits)
        assert len(answer(client, query="otter")["results"]) == 10
        loaded.set()
        until(lambda: client.get("/readyz").status_code == 200)
        assert len(answer(client, query="otter", rerank={})["results"]) == 10


class Slow(WordOverlap):
    """Takes its time over each passage."""

    batch = 1

    def scores(self, query: str, passages: Sequence[str]) -> npt.NDArray[np.float32]:
        time.sleep(0.05)
        return super().scores(query, passages)


def test_the_deadline_holds_between_batches_of_passages(
    tmp_path: Path, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(spec: RerankSpec) -> Reranker:
        return Slow()

    monkeypatch.setattr(rerankers, "load_reranker", load)
    Library(tmp_path, rerank=OVERLAP).commit(1, BOOKS)

    with serve() as client:
        started = time.monotonic()
        response = client.post(PATH, json={"query": "story", "rerank": {}, "deadline_ms": 200})

    assert (response.status_code, response.json()["code"]) == (504, "deadline-exceeded")
    assert time.monotonic() - started < 0.9


def test_the_audit_log_says_which_stages_were_asked_for(tmp_path: Path, serve: Serve) -> None:
    library = Library(tmp_path, rerank=OVERLAP)
    library.commit(1, BOOKS)
    asked: list[dict[str, Any]] = [EVERY, {}, {"diversify": {}}]

    with serve(audit={"folder": tmp_path / "audit"}) as client:
        for stages in asked:
            answer(client, query="otter", **stages)

    intents = [r["unmapped"] for r in records(library.store, newest_first=False) if r["unmapped"]["phase"] == "intent"]
    assert [intent.get("stages") for intent in intents] == [list(EVERY), None, ["diversify"]]


def test_a_reranking_model_that_is_applied_is_served_without_a_restart(tmp_path: Path, serve: Serve) -> None:
    library = Library(tmp_path)
    library.commit(1, BOOKS)
    body = {"query": "otter", "rerank": {}}

    with serve() as client:
        assert client.post(PATH, json=body).status_code == 422

        spec = library.spec.model_dump() | {"rerank": OVERLAP}
        assert apply(library.store, CollectionSpec.model_validate(spec)) == "changed"

        until(lambda: client.post(PATH, json=body).status_code == 200)
        assert client.get("/v1/collections/books").json()["spec"]["rerank"] == OVERLAP | {"revision": None}
