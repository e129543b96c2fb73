from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from indexer.errors import RerankError
from indexer.spec import RerankSpec
from retrieval.errors import DeadlineExceeded
from retrieval.refine.cross_encoder import WORDS, SentenceTransformersReranker, load_reranker
from retrieval.refine.rerank import Reranker, raw_scores, sigmoid
from tests.models import cross_encoder_folder

KNOWN = ("solar", "panel", "heat", "pump", "grid")
PASSAGES = ["solar panel", "heat pump heat pump", "", "grid", "panel unknown solar", "pump " * 300]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return cross_encoder_folder(tmp_path_factory.mktemp("models") / "cross-encoder", KNOWN)


@pytest.fixture(params=["in memory", "sentence-transformers"])
def reranker(request: pytest.FixtureRequest) -> Reranker:
    name = WORDS if request.param == "in memory" else request.getfixturevalue("folder")
    return load_reranker(RerankSpec(model=name))


class TestContract:
    def test_each_passage_has_a_finite_score_in_its_place(self, reranker: Reranker) -> None:
        scores = reranker.scores("solar heat", PASSAGES)

        assert (str(scores.dtype), scores.shape) == ("float32", (len(PASSAGES),))
        assert np.isfinite(scores).all()
        assert reranker.scores("solar heat", PASSAGES[::-1]).tolist() == pytest.approx(scores[::-1].tolist(), abs=1e-5)

    def test_no_passages_have_no_scores(self, reranker: Reranker) -> None:
        assert reranker.scores("solar", []).shape == (0,)

    def test_a_score_does_not_depend_on_what_else_is_asked(self, reranker: Reranker) -> None:
        together = reranker.scores("heat", PASSAGES)

        alone = [float(reranker.scores("heat", [passage])[0]) for passage in PASSAGES]

        assert together.tolist() == pytest.approx(alone, abs=1e-5)

    def test_threads_may_share_it(self, reranker: Reranker) -> None:
        with ThreadPoolExecutor(4) as pool:
            scores = list(pool.map(lambda n: reranker.scores("heat", PASSAGES[: n % 5 + 1]).tolist(), range(24)))

        whole = reranker.scores("heat", PASSAGES).tolist()
        assert all(each == pytest.approx(whole[: len(each)], abs=1e-5) for each in scores)


def test_a_cross_encoders_scores_are_the_logits_of_its_model(folder: str) -> None:
    transformers = pytest.importorskip("transformers")
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(folder).eval()
    texts = ["solar panel", "heat pump heat", "grid"]
    expected = [
        float(model(**tokenizer("solar heat", text, return_tensors="pt")).logits.detach()[0, 0]) for text in texts
    ]

    scores = load_reranker(RerankSpec(model=folder)).scores("solar heat", texts)

    assert scores.tolist() == pytest.approx(expected, abs=1e-5)
    assert len(set(expected)) == 3


def test_what_is_too_long_is_cut_as_the_model_cuts_it_before_its_tokenizer_multiplies_it(folder: str) -> None:
    reranker = load_reranker(RerankSpec(model=folder))
    assert isinstance(reranker, SentenceTransformersReranker)
    query, passages = "solar heat " * 90, ["panel grid " * 100, "pump", "grid unknown " * 20]
    expected = reranker._model.predict([(query, passage) for passage in passages], activation_fn=lambda logits: logits)

    assert reranker.scores(query, passages).tolist() == pytest.approx(expected.tolist(), abs=1e-5)
    assert reranker._cut("pump " * 6000) == ("pump " * 64).rstrip()


def test_the_process_loads_a_reranker_once(folder: str) -> None:
    assert load_reranker(RerankSpec(model=folder)) is load_reranker(RerankSpec(model=folder))


def test_a_model_with_several_scores_for_a_pair_is_no_reranker(tmp_path: Path) -> None:
    with pytest.raises(RerankError, match="gives 3 scores for a pair, and a reranker gives one"):
        SentenceTransformersReranker(RerankSpec(model=cross_encoder_folder(tmp_path / "m", KNOWN, labels=3)))


def test_a_model_that_is_nowhere_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(RerankError, match=r"nowhere: .*give (its|a) folder as rerank\.model"):
        load_reranker(RerankSpec(model=str(tmp_path / "nowhere")))


class Lengths:
    """A reranker whose scores are the passages' lengths, and what it was asked."""

    batch = 2

    def __init__(self, takes_seconds: float = 0.0) -> None:
        self.asked: list[list[str]] = []
        self._takes_seconds = takes_seconds

    def scores(self, query: str, passages: Sequence[str]) -> npt.NDArray[np.float32]:
        self.asked.append(list(passages))
        time.sleep(self._takes_seconds)
        return np.array([len(passage) for passage in passages], np.float32)


def test_passages_are_scored_in_batches_of_like_length_and_equal_ones_once() -> None:
    lengths = Lengths()

    scores = raw_scores(lengths, "q", ["a", "ccc", "bb", "a", "bb", "dddd"])

    assert scores.tolist() == [1, 3, 2, 1, 2, 4]
    assert lengths.asked == [["dddd", "ccc"], ["bb", "a"]]


def test_the_deadline_is_looked_at_between_batches() -> None:
    slow = Lengths(takes_seconds=0.2)

    with pytest.raises(DeadlineExceeded, match="during the reranking; give it more time or less depth"):
        raw_scores(slow, "q", ["a", "bb", "ccc", "dddd"], deadline=time.monotonic() + 0.1)

    assert slow.asked == [["dddd", "ccc"]]


@pytest.mark.parametrize("given", [[1.0], [1.0, np.nan], [[1.0], [2.0]]])
def test_scores_of_no_use_are_refused(given: Any) -> None:
    class Broken(Lengths):
        def scores(self, query: str, passages: Sequence[str]) -> npt.NDArray[np.float32]:
            return np.array(given, np.float32)

    with pytest.raises(RerankError, match="did not give 2 finite scores for as many passages"):
        raw_scores(Broken(), "q", ["a", "b"])


def test_the_score_is_the_sigmoid_of_the_logit() -> None:
    assert sigmoid(np.array([0.0, 2.0, -2.0, -800.0])).tolist() == pytest.approx([0.5, 0.8807971, 0.1192029, 0.0])
