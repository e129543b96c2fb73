"""Queries of many requests are embedded together, each with its own outcome."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor

import numpy as np
import pytest

from api.batches import MOST, QueryBatches
from indexer.embedding import HashEmbedder, Vectors
from indexer.errors import EmbeddingError

WAIT = 30


class Recorded(HashEmbedder):
    """Remembers what was embedded together; ``gate`` holds calls up, and the text 'bad' fails."""

    def __init__(self) -> None:
        super().__init__(64)
        self.calls: list[list[str]] = []
        self.running, self.most_running = 0, 0
        self.begun, self.gate = threading.Event(), threading.Event()
        self.gate.set()

    def queries(self, texts: Sequence[str]) -> Vectors:
        self.calls.append(list(texts))
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        self.begun.set()
        assert self.gate.wait(WAIT)
        time.sleep(0.0001)
        self.running -= 1
        if "bad" in texts:
            raise EmbeddingError("bad: cannot be embedded")
        return super().queries(texts)


@pytest.fixture
def embedder() -> Recorded:
    return Recorded()


def test_one_that_is_alone_waits_for_nobody(embedder: Recorded) -> None:
    vector = QueryBatches(embedder).ask("a nest").query("a nest")

    np.testing.assert_array_equal(vector, HashEmbedder(64).query("a nest"))
    assert embedder.calls == [["a nest"]]


def test_what_is_put_down_meanwhile_shares_the_next_calls(embedder: Recorded) -> None:
    batches = QueryBatches(embedder)
    embedder.gate.clear()
    texts = [f"question {number}" for number in range(2 * MOST + 3)]
    with ThreadPoolExecutor(1) as pool:
        first = batches.ask("first")
        running = pool.submit(first.query, "first")
        assert embedder.begun.wait(WAIT)
        asked = [batches.ask(text) for text in texts]
        embedder.gate.set()
        running.result(WAIT)

        vectors = [one.query(one.text) for one in reversed(asked)]

    assert embedder.calls == [["first"], texts[:MOST], texts[MOST : 2 * MOST], texts[2 * MOST :]]
    np.testing.assert_array_equal(np.stack(vectors[::-1]), HashEmbedder(64).queries(texts))


def test_one_texts_failure_is_not_the_others(embedder: Recorded) -> None:
    batches = QueryBatches(embedder)
    good, bad, other = (batches.ask(text) for text in ("good", "bad", "other"))

    np.testing.assert_array_equal(good.query("good"), HashEmbedder(64).query("good"))
    with pytest.raises(EmbeddingError, match="bad: cannot be embedded"):
        bad.query("bad")
    np.testing.assert_array_equal(other.query("other"), HashEmbedder(64).query("other"))


def test_what_nobody_waits_for_is_not_embedded(embedder: Recorded) -> None:
    batches = QueryBatches(embedder)
    left, wanted = batches.ask("left"), batches.ask("wanted")

    left.cancel()
    assert batches.waiting == 1
    wanted.query("wanted")

    assert embedder.calls == [["wanted"]]
    with pytest.raises(CancelledError):
        left.query("left")


def test_many_threads_get_each_their_own_vector(embedder: Recorded) -> None:
    batches = QueryBatches(embedder)
    texts = [f"word{number % 17} and word{number % 5}" for number in range(400)]

    def vector_of(text: str) -> Vectors:
        return batches.ask(text).query(text)

    with ThreadPoolExecutor(8) as pool:
        vectors = list(pool.map(vector_of, texts, timeout=WAIT))

    np.testing.assert_array_equal(np.stack(vectors), HashEmbedder(64).queries(texts))
    assert sorted(text for call in embedder.calls for text in call) == sorted(texts)
    assert all(embedder.calls)
    assert embedder.most_running == 1


def test_a_model_that_gives_too_few_vectors_fails_those_that_asked(embedder: Recorded) -> None:
    short = QueryBatches(Short())
    asked = [short.ask(text) for text in ("one", "two")]

    for one in asked:
        with pytest.raises(EmbeddingError, match="the model gave 0 vectors for 1 queries"):
            one.query(one.text)


class Short(HashEmbedder):
    """Loses a vector."""

    def __init__(self) -> None:
        super().__init__(8)

    def queries(self, texts: Sequence[str]) -> Vectors:
        return super().queries(texts)[1:]


def test_the_queries_of_one_search_are_embedded_together_and_taken_off_together(embedder: Recorded) -> None:
    batches = QueryBatches(embedder)
    texts = [f"question {number}" for number in range(MOST)]

    asked = batches.ask_all(texts)
    for text in reversed(texts):
        np.testing.assert_array_equal(asked.query(text), HashEmbedder(64).query(text))
    assert embedder.calls == [texts]

    batches.ask_all(texts).cancel()
    assert batches.waiting == 0
