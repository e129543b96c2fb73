from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import numpy.typing as npt
import pytest

from indexer.ann import build as build_module
from indexer.ann.build import EXACT_MAX_CHUNKS, build_index
from indexer.format.records import IndexRecord
from indexer.format.vectors import Entries, load_index, save_index
from indexer.spec import IndexSpec
from tests.indexer.format.tables import unit_vectors

IVF = IndexSpec(kind="ivf")


def search(
    index: faiss.Index, query: npt.NDArray[np.float32], k: int, selector: faiss.IDSelector | None = None
) -> npt.NDArray[np.int64]:
    effort = faiss.SearchParametersIVF()
    assert isinstance(index, faiss.IndexIVF)
    effort.nprobe = index.nlist
    if selector is not None:
        effort.sel = selector
    found: npt.NDArray[np.int64] = index.search(query, k, params=effort)[1]
    return found


@pytest.mark.parametrize(
    ("spec", "n", "reason"),
    [
        (IndexSpec(), EXACT_MAX_CHUNKS, f"{EXACT_MAX_CHUNKS} vectors: up to {EXACT_MAX_CHUNKS} are scanned exactly"),
        (IndexSpec(kind="exact"), EXACT_MAX_CHUNKS + 1, "the spec asks for exact"),
        (IVF, 31, "31 vectors: too few to train an index"),
        (IVF, 0, "0 vectors: too few to train an index"),
    ],
)
def test_no_index_where_an_exact_scan_is_right(spec: IndexSpec, n: int, reason: str) -> None:
    assert build_index(unit_vectors(n, 4), spec) == (None, IndexRecord(kind="exact", reason=reason))


def test_large_segments_are_indexed_unasked() -> None:
    index, record = build_index(unit_vectors(EXACT_MAX_CHUNKS + 1, 32), IndexSpec())
    assert index is not None
    assert record.kind == "ivf"
    assert record.reason == f"{EXACT_MAX_CHUNKS + 1} vectors: more than {EXACT_MAX_CHUNKS} are searched approximately"
    assert {"factory": record.parameters["factory"], "nlist": record.parameters["nlist"]} == {
        "factory": "IVF100,PQ8x4fs_64",
        "nlist": 100,
    }


def test_the_recorded_effort_reaches_the_asked_recall_on_other_queries() -> None:
    everything = unit_vectors(6200, 32)
    vectors, queries = everything[:6000], everything[6000:]
    index, record = build_index(vectors, IndexSpec(kind="ivf", min_recall=0.95))
    assert index is not None
    effort = faiss.SearchParametersIVF()
    effort.nprobe = int(record.parameters["nprobe"])
    candidates = index.search(queries, 10 * int(record.parameters["k_factor"]), params=effort)[1]
    recalls = []
    for query, ids in zip(queries, candidates, strict=True):
        best = ids[np.argsort(-(vectors[ids] @ query))[:10]]
        recalls.append(np.isin(np.argsort(-(vectors @ query))[:10], best).mean())
    assert np.mean(recalls) >= 0.93
    assert float(record.parameters["recall_at_10"]) >= 0.95


@pytest.mark.parametrize("n", [2_000, 6_000])
def test_a_graph_finds_for_strangers_what_its_record_says(n: int) -> None:
    everything = unit_vectors(n + 500, 32)
    vectors, queries = everything[:n], everything[n:]

    index, record = build_index(vectors, IndexSpec(kind="hnsw"))

    assert index is not None
    assert record.kind == "hnsw"
    entries = Entries.of(vectors)
    for k, ending in ((10, ""), (100, "_hundred")):
        effort, k_factor = (record.parameters[f"{name}{ending}"] for name in ("ef_search", "k_factor"))
        width = int(k * float(k_factor))
        found = entries.walk(index, queries, width, max(int(effort), width))
        truth = np.argsort(-(queries @ vectors.T), axis=1)[:, :k]
        assert np.mean([np.isin(best, ids).mean() for best, ids in zip(truth, found, strict=True)]) >= 0.94


def test_the_efforts_for_a_tenth_and_for_a_hundred_hits_are_recorded() -> None:
    _, record = build_index(unit_vectors(8_000, 32), IVF)

    assert {"nprobe", "k_factor", "nprobe_tenth", "k_factor_tenth", "nprobe_hundred"} <= record.parameters.keys()
    assert int(record.parameters["nprobe_hundred"]) >= int(record.parameters["nprobe"])


@pytest.mark.parametrize("dim", [1, 2, 3, 4, 5, 17, 32, 100, 129])
def test_every_width_is_indexed_saved_and_searched(tmp_path: Path, dim: int) -> None:
    vectors = unit_vectors(300, dim)
    index, record = build_index(vectors, IVF)
    assert index is not None
    assert str(record.parameters["factory"]).endswith("SQ8" if dim % 4 or dim < 32 else f"PQ{dim // 4}x4fs_64")
    save_index(index, tmp_path / "vectors.faiss")
    found = search(load_index(tmp_path / "vectors.faiss"), vectors[:5], 300)
    assert [sorted(ids) for ids in found.tolist()] == [list(range(300))] * 5


@pytest.mark.parametrize("dim", [32, 5])
def test_ids_are_positions_also_where_chunks_without_vectors_are_left_out(dim: int) -> None:
    vectors = unit_vectors(200, dim)
    embedded = np.arange(200) % 3 != 0
    vectors[~embedded] = 0
    index, _ = build_index(vectors, IVF, embedded=embedded)
    assert index is not None
    assert sorted(search(index, vectors[1:2], 200)[0].tolist()) == [-1] * 67 + np.flatnonzero(embedded).tolist()


@pytest.mark.parametrize("dim", [32, 5])
def test_a_bitmap_selects_by_position(dim: int) -> None:
    vectors = unit_vectors(200, dim)
    index, _ = build_index(vectors, IVF)
    assert index is not None
    passing = np.zeros(200, dtype=bool)
    passing[[3, 50, 199]] = True
    bits = np.packbits(passing, bitorder="little")
    found = search(index, vectors[:1], 10, faiss.IDSelectorBitmap(bits))  # type: ignore[call-arg, arg-type]  # the stub lacks the wrapper
    assert sorted(found[0].tolist()) == [-1] * 7 + [3, 50, 199]


def test_the_same_vectors_give_the_same_index(tmp_path: Path) -> None:
    vectors = unit_vectors(2000, 32)
    for name in ("one", "two"):
        index, _ = build_index(vectors, IVF)
        assert index is not None
        save_index(index, tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_half_precision_vectors_are_indexed_like_single() -> None:
    vectors = unit_vectors(500, 32)
    index, _ = build_index(vectors.astype(np.float16), IVF)
    assert index is not None
    assert sorted(search(index, vectors[:1], 500)[0].tolist()) == list(range(500))


def test_vectors_that_are_all_alike_are_indexed() -> None:
    index, _ = build_index(np.tile(unit_vectors(1, 32), (400, 1)), IVF)
    assert index is not None
    assert len(set(search(index, unit_vectors(1, 32), 400)[0].tolist())) == 400


def test_the_threads_of_the_caller_are_left_as_they_were() -> None:
    before = faiss.omp_get_max_threads()
    build_index(unit_vectors(100, 8), IVF)
    assert faiss.omp_get_max_threads() == before


def test_each_stage_asks_anew_how_many_threads_it_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    free, used = iter([1, 2, 3]), list[int]()

    def watched(stage: Callable[..., Any]) -> Callable[..., Any]:
        def run(*given: Any) -> Any:
            used.append(faiss.omp_get_max_threads())
            return stage(*given)

        return run

    for name in ("exam", "build_ivf", "calibrate"):
        monkeypatch.setattr(build_module, name, watched(getattr(build_module, name)))
    build_index(unit_vectors(500, 8), IVF, cores=lambda: next(free))
    assert used == [1, 2, 3]
