"""A narrowed index finds what the whole one finds with a selector, in FAISS' own layout."""

from __future__ import annotations

from typing import Any

import faiss
import numpy as np
import numpy.typing as npt
import pytest

from indexer.ann.build import build_index
from indexer.spec import IndexSpec
from retrieval import bitmap, narrowed
from retrieval.narrowed import PlainCodes, plain_codes, size_bytes
from retrieval.segments import ONE_BY_ONE

N, DIM = 12_000, 32


@pytest.fixture(scope="module")
def vectors() -> npt.NDArray[np.float32]:
    made = np.random.default_rng(7).standard_normal((N, DIM), dtype=np.float32)
    made /= np.linalg.norm(made, axis=1, keepdims=True)
    return made


@pytest.fixture(scope="module")
def index(vectors: npt.NDArray[np.float32]) -> Any:
    embedded = np.arange(N) % 50 != 7
    made, _ = build_index(vectors, IndexSpec(), embedded=embedded)
    assert isinstance(made, faiss.IndexIVFPQFastScan)
    made.implem = ONE_BY_ONE
    return made


@pytest.fixture(scope="module")
def plain(index: Any) -> PlainCodes:
    found = plain_codes(index)
    assert found is not None
    return found


@pytest.mark.parametrize("share", [0.0, 0.003, 0.1, 0.9, 1.0])
def test_it_finds_what_a_selector_finds(
    vectors: npt.NDArray[np.float32], index: Any, plain: PlainCodes, share: float
) -> None:
    bits = bitmap.pack(np.random.default_rng(1).random(N) < share)
    selector = faiss.IDSelectorBitmap(N, faiss.swig_ptr(bits))
    whole = faiss.SearchParametersIVF(nprobe=20, sel=selector)  # type: ignore[call-arg]

    found = narrowed.narrowed(index, plain, bits)

    scores, ids = index.search(vectors[:200], 40, params=whole)
    own = faiss.SearchParametersIVF(nprobe=20)  # type: ignore[call-arg]
    own_scores, own_ids = found.search(vectors[:200], 40, params=own)
    assert found.ntotal == np.count_nonzero(bitmap.contains(bits, plain.ids))
    assert np.array_equal(np.sort(scores), np.sort(own_scores))
    # Where two score the same, either may be the last one in.
    same = [set(a.tolist()) == set(b.tolist()) for a, b in zip(ids, own_ids, strict=True)]
    assert np.mean(same) > 0.97
    assert size_bytes(found) >= found.ntotal * (8 + DIM // 8)


def test_the_plain_codes_are_those_of_the_vectors(
    vectors: npt.NDArray[np.float32], index: Any, plain: PlainCodes
) -> None:
    codes = index.pq.compute_codes(vectors[plain.ids])

    assert np.array_equal(np.sort(plain.ids), np.flatnonzero(np.arange(N) % 50 != 7))
    assert np.array_equal(plain.codes, codes)


def test_an_index_of_another_kind_is_not_narrowed(vectors: npt.NDArray[np.float32]) -> None:
    other, _ = build_index(np.ascontiguousarray(vectors[:, :30]), IndexSpec())

    assert isinstance(other, faiss.IndexIVFScalarQuantizer)
    assert plain_codes(other) is None


@pytest.mark.parametrize("block", [32, 64, 96])
def test_blocks_may_be_of_any_size(vectors: npt.NDArray[np.float32], block: int) -> None:
    other: Any = faiss.index_factory(DIM, f"IVF4,PQ8x4fs_{block}", faiss.METRIC_INNER_PRODUCT)
    other.by_residual = False
    other.train(vectors)
    other.add(vectors[:1_001])

    plain = plain_codes(other)

    assert plain is not None
    assert np.array_equal(plain.codes, other.pq.compute_codes(vectors[plain.ids]))


def test_a_layout_that_is_not_the_known_one_is_left_alone(index: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(narrowed, "_ORDER", np.arange(16))

    assert plain_codes(index) is None
