"""The direct way to a document's vector beside ``encode_document``, with the bundled model and unusual ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from indexer import directencoder
from indexer.directencoder import DirectEncoder
from indexer.embedding import BUNDLED_NAME, SentenceTransformerEmbedder
from indexer.spec import VectorSpec
from tests.indexer.passages import TEXTS


def by_encode_document(embedder: SentenceTransformerEmbedder, texts: list[str]) -> npt.NDArray[np.float32]:
    return np.asarray(embedder._encode_documents(texts, 8), np.float32)


def direct(embedder: SentenceTransformerEmbedder, prompt: str | None = None) -> DirectEncoder | None:
    return DirectEncoder.of(embedder._model, "document", prompt, embedder._plain_tokenizer())


@pytest.mark.parametrize("prompt", ["", "passage: ", "Represent this for retrieval:\n"])
def test_the_direct_way_gives_the_vectors_of_encode_document(prompt: str) -> None:
    embedder = SentenceTransformerEmbedder(VectorSpec(model=BUNDLED_NAME, document_prompt=prompt), device="cpu")
    embedder._halves_documents = False
    many = [" ".join(TEXTS[at % 6].split()[: at % 17]) for at in range(40)]
    texts = [*TEXTS, *many, "[SEP] a [MASK] nest\n\n", "grebe " * 3000, "\u0000\ufffd", "日本の湖" * 20]
    assert embedder._direct is not None
    np.testing.assert_allclose(embedder.documents(texts), by_encode_document(embedder, texts), rtol=0, atol=1e-5)


@pytest.mark.parametrize("prompt", ["", "query: "])
def test_the_direct_way_gives_the_vectors_of_encode_query(prompt: str) -> None:
    embedder = SentenceTransformerEmbedder(VectorSpec(model=BUNDLED_NAME, query_prompt=prompt), device="cpu")
    texts = [*TEXTS, *(" ".join(TEXTS[at % 6].split()[: at % 17]) for at in range(40)), "grebe " * 3000]
    assert embedder._direct_queries is not None
    expected = np.asarray(embedder._encode_queries(texts, 8), np.float32)
    np.testing.assert_allclose(embedder.queries(texts), expected, rtol=0, atol=1e-5)


def test_a_long_query_does_not_pad_the_short_ones(
    own_minilm: SentenceTransformerEmbedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    shapes: list[tuple[int, ...]] = []
    forward = own_minilm._model.forward

    def seen(features: dict[str, Any]) -> Any:
        shapes.append(tuple(features["input_ids"].shape))
        return forward(features)

    monkeypatch.setattr(own_minilm._model, "forward", seen)
    texts = ["grebe " * 200, *(f"nest number {number}" for number in range(6)), "a lake and its reeds " * 4]

    own_minilm.queries(texts)
    own_minilm.documents(texts)

    (one, width), (few, narrow), (all_of_them, _) = shapes
    assert (one, few, all_of_them) == (1, 7, 8)
    assert narrow <= 32 < width


def test_the_direct_way_takes_the_models_own_prompt_for_queries(own_minilm: SentenceTransformerEmbedder) -> None:
    expected = own_minilm.queries(["query: a nest"])
    own_minilm._model.prompts = {"query": "query: ", "document": "passage: "}
    encoder = own_minilm._direct_encoder("query")
    assert encoder is not None
    np.testing.assert_allclose(encoder(["a nest"], 1), expected, rtol=0, atol=1e-5)


def test_a_model_that_cuts_queries_short_is_left_to_encode_query(own_minilm: SentenceTransformerEmbedder) -> None:
    own_minilm._model[0].query_length = 8
    assert own_minilm._direct_encoder("query") is None
    assert own_minilm._direct_encoder("document") is not None


@pytest.mark.parametrize(("batch", "texts_at_once"), [(1, 5), (4, 1), (64, 1024)])
def test_neither_batch_nor_tokenizer_call_changes_a_direct_vector(
    own_minilm: SentenceTransformerEmbedder, monkeypatch: pytest.MonkeyPatch, batch: int, texts_at_once: int
) -> None:
    expected = by_encode_document(own_minilm, TEXTS)
    monkeypatch.setattr(own_minilm, "_batch", batch)
    monkeypatch.setattr(directencoder, "TOKENIZER_BATCH", texts_at_once)
    np.testing.assert_allclose(own_minilm.documents(TEXTS), expected, rtol=0, atol=1e-5)


def test_the_direct_way_takes_the_models_own_prompt_for_documents(own_minilm: SentenceTransformerEmbedder) -> None:
    model = own_minilm._model
    expected = own_minilm.documents(["passage: a nest"])
    for prompts, default in [
        ({"query": "query: ", "passage": "passage: "}, "query"),
        ({"document": "passage: ", "passage": "no: "}, None),
        ({"query": "query: ", "other": "passage: "}, "other"),
    ]:
        model.prompts, model.default_prompt_name = prompts, default
        encoder = direct(own_minilm)
        assert encoder is not None
        assert own_minilm._room_for_text() == own_minilm.max_tokens - 2
        np.testing.assert_allclose(encoder(["a nest"], 1), expected, rtol=0, atol=1e-5)
        np.testing.assert_allclose(by_encode_document(own_minilm, ["a nest"]), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("side", ["left", "right"])
def test_the_direct_way_pads_and_cuts_on_the_tokenizers_side(
    own_minilm: SentenceTransformerEmbedder, side: str
) -> None:
    tokenizer = own_minilm._model.tokenizer
    tokenizer.padding_side = tokenizer.truncation_side = side
    texts = [*TEXTS, " ".join(map(str, range(500)))]  # one batch: padding on the left moves a BERT's positions
    encoder = direct(own_minilm)
    assert encoder is not None
    np.testing.assert_allclose(encoder(texts, 8), by_encode_document(own_minilm, texts), rtol=0, atol=1e-5)


def test_documents_leave_the_models_tokenizer_as_it_was(own_minilm: SentenceTransformerEmbedder) -> None:
    backend = own_minilm._model.tokenizer.backend_tokenizer
    backend.no_truncation()
    before = backend.to_str()
    own_minilm.documents(TEXTS)
    assert backend.to_str() == before


def ask_for_a_task(model: Any) -> None:
    model[0].forward_kwargs = {"task"}


def append_a_module_of_its_own(model: Any) -> None:
    model.append(type("Normalize", (type(model[-1]),), {})())


def truncate_the_vectors(model: Any) -> None:
    model.truncate_dim = 128


def shorten_documents(model: Any) -> None:
    model[0].document_length = 32


def pad_to_the_limit(model: Any) -> None:
    model[0].processing_kwargs = {"text": {"padding": "max_length"}}


def ask_for_another_input(model: Any) -> None:
    model.tokenizer.model_input_names = [*model.tokenizer.model_input_names, "special_tokens_mask"]
    model[0].processing_kwargs = {"text": {"return_special_tokens_mask": True}}


def number_the_padding(model: Any) -> None:
    model.tokenizer._pad_token_type_id = 1


def split_special_tokens(model: Any) -> None:
    model.tokenizer.split_special_tokens = True


@pytest.mark.parametrize(
    "make_unusual",
    [
        ask_for_a_task,
        append_a_module_of_its_own,
        truncate_the_vectors,
        shorten_documents,
        pad_to_the_limit,
        ask_for_another_input,
        number_the_padding,
        split_special_tokens,
    ],
)
def test_an_unusual_model_is_left_to_encode_document(
    own_minilm: SentenceTransformerEmbedder, make_unusual: Callable[[Any], None]
) -> None:
    assert direct(own_minilm) is not None
    make_unusual(own_minilm._model)
    assert direct(own_minilm) is None


def test_a_prompt_that_pooling_leaves_out_is_left_to_encode_document(own_minilm: SentenceTransformerEmbedder) -> None:
    own_minilm._model.set_pooling_include_prompt(False)
    assert direct(own_minilm, "passage: ") is None
    assert direct(own_minilm) is not None
