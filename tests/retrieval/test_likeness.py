"""Rows like another: what its vector finds, without it, and never by a vector that the caller may not use."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval.errors import RequestError
from retrieval.policies import OPERATOR, Caller
from retrieval.request import SearchRequest
from retrieval.search import search
from retrieval.snapshot import Snapshot
from tests.retrieval.conftest import Shelf
from tests.retrieval.library import Doc, Library, spec_of, unit


def found(snapshot: Snapshot, who: Caller = OPERATOR, **request: Any) -> list[tuple[int, float]]:
    results = search(snapshot, SearchRequest(**request), caller=who).results
    return [(key[0], score) for key, score in zip(results.keys(), results.scores(), strict=True)]


def direction(doc: Doc) -> np.ndarray[Any, Any] | None:
    vectors = [vector for vector in doc.vectors if vector is not None]
    return np.array(vectors, dtype=np.float64).mean(axis=0) if vectors else None


@settings(derandomize=True, deadline=None, max_examples=60)
@given(st.integers(0, 10_000), st.sampled_from([None, "size < 50"]), st.sampled_from([1, 7, 1000]))
def test_it_finds_what_the_mean_of_the_rows_vectors_finds_without_the_row(
    shelf: Shelf, at: int, where: str | None, k: int
) -> None:
    doc = shelf.docs[at % len(shelf.docs)]
    mean = direction(doc)
    if mean is None or not mean.any():
        with pytest.raises(RequestError, match="no vector to compare with"):
            found(shelf.snapshot, like=[doc.id])
        return

    expected = [hit for hit in found(shelf.snapshot, vector=mean, filter=where, k=1000) if hit[0] != doc.id][:k]

    liked = found(shelf.snapshot, like=[doc.id], filter=where, k=k)

    assert [score for _, score in liked] == pytest.approx([score for _, score in expected], abs=1e-6)
    assert doc.id not in dict(liked)
    assert len(liked) == len(expected)


def test_with_a_query_its_vector_leg_is_the_rows_and_the_row_is_in_neither_leg(shelf: Shelf) -> None:
    doc = next(doc for doc in shelf.docs if direction(doc) is not None and "solar" in " ".join(doc.bodies))

    hits = search(shelf.snapshot, SearchRequest(query="solar", like=[doc.id], explain=True, k=1000), caller=OPERATOR)

    assert hits.plan.mode == "hybrid"
    assert doc.id not in [key[0] for key in hits.results.keys()]  # noqa: SIM118
    assert {leg for hit in hits.results for leg in (hit.explanation.legs if hit.explanation else ())} == {
        "vector",
        "keyword",
    }


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({"like": [999]}, "has no row of that key"),
        ({"like": [100]}, "has no row of that key"),  # it was deleted
        ({"like": ["x"]}, "'x' is not of type int64"),
        ({"like": [1, 2]}, "the key has 1 components"),
        ({"like": [1], "vector": unit(1)}, "there is a vector already"),
        ({"like": [1], "mode": "keyword"}, "a keyword search needs a query"),
    ],
)
def test_what_cannot_be_is_refused_by_its_field(shelf: Shelf, request_: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError, match=message) as caught:
        found(shelf.snapshot, **request_)
    assert caught.value.field in ("like", "query")


def test_a_key_may_be_given_as_text(shelf: Shelf) -> None:
    doc = next(doc for doc in shelf.docs if direction(doc) is not None)

    assert found(shelf.snapshot, like=[str(doc.id)]) == found(shelf.snapshot, like=[doc.id])


def test_a_row_that_is_not_seen_is_not_there_and_a_vector_of_hidden_text_is_none(tmp_path: Path) -> None:
    policies = [{"role": "red", "rows": "colour = 'red'"}, {"role": "untitled", "masks": {"title": "redact"}}]
    library = Library(tmp_path, spec_of(policies=policies))
    library.add(
        Doc(id=1, colour="red", vectors=(unit(1),)),
        Doc(id=2, colour="blue", vectors=(unit(1, 1),)),
        Doc(id=3, colour="red", title="secret", vectors=(unit(1, 2),)),
    )
    with library.open() as snapshot:
        red, untitled = (Caller(roles=frozenset({role})) for role in ("red", "untitled"))
        messages = []
        for key in (2, 77):
            with pytest.raises(RequestError) as caught:
                found(snapshot, red, like=[key])
            messages.append(str(caught.value))
        assert messages[0] == messages[1]
        assert [key for key, _ in found(snapshot, red, like=[1])] == [3]
        with pytest.raises(RequestError, match="no vector to compare with"):
            found(snapshot, untitled, like=[3])
        assert [key for key, _ in found(snapshot, untitled, like=[1])] == [2]


@pytest.mark.parametrize("metric", ["cosine", "dot"])
def test_lengths_count_under_dot_and_not_under_cosine(tmp_path: Path, metric: str) -> None:
    library = Library(tmp_path, spec_of(vector={"column": "embedding", "dim": 8, "metric": metric}))
    near, far, long = unit(1), unit(1, 1), unit(1, 2) * 5
    if metric == "cosine":
        long = unit(1, 2)
    library.add(Doc(id=1, vectors=(near * (3 if metric == "dot" else 1),)))
    library.add(Doc(id=2, vectors=(far,)), Doc(id=3, vectors=(long,)))
    with library.open() as snapshot:
        hits = found(snapshot, like=[1])

    vector = near * 3 if metric == "dot" else near
    assert dict(hits) == pytest.approx({2: float(far @ vector), 3: float(long @ vector)}, abs=1e-6)
    assert [key for key, _ in hits] == ([3, 2] if metric == "dot" else [2, 3])


def test_without_rows_there_is_none_to_be_like(tmp_path: Path) -> None:
    with Library(tmp_path).open() as snapshot, pytest.raises(RequestError, match="has no row of that key"):
        found(snapshot, like=[1])
