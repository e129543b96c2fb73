from __future__ import annotations

from pathlib import Path

import faiss
import numpy as np
import pytest

from indexer.ann.build import build_index
from indexer.errors import CorruptFile
from indexer.format.vectors import Entries, load_index, save_index
from indexer.spec import IndexSpec
from tests.indexer.format.tables import unit_vectors


def test_a_file_that_is_no_index_is_corrupt(tmp_path: Path) -> None:
    (tmp_path / "vectors.faiss").write_bytes(b"no index")
    with pytest.raises(CorruptFile, match=r"vectors\.faiss: not a vector index"):
        load_index(tmp_path / "vectors.faiss")


def test_an_index_of_another_kind_is_corrupt(tmp_path: Path) -> None:
    faiss.write_index(faiss.IndexFlatIP(4), str(tmp_path / "vectors.faiss"))
    with pytest.raises(CorruptFile, match="expected an IVF index or a graph, found IndexFlat"):
        load_index(tmp_path / "vectors.faiss")


def test_a_graph_that_was_saved_is_walked_as_before(tmp_path: Path) -> None:
    vectors = unit_vectors(3_000, 32)
    index, _ = build_index(vectors, IndexSpec(kind="hnsw"))
    assert index is not None
    save_index(index, tmp_path / "vectors.faiss")
    entries = Entries.of(vectors)

    before = entries.walk(index, vectors[:50], 10, 64)
    after = entries.walk(load_index(tmp_path / "vectors.faiss"), vectors[:50], 10, 64)

    assert np.array_equal(before, after)
    assert np.array_equal(after[:, 0], np.arange(50))


def test_a_walk_stays_within_what_passes(tmp_path: Path) -> None:
    vectors = unit_vectors(3_000, 32)
    index, _ = build_index(vectors, IndexSpec(kind="hnsw"))
    assert index is not None
    bits = np.packbits(np.arange(3_000) % 3 == 0, bitorder="little")

    found = Entries.of(vectors).walk(index, vectors[:50], 10, 64, faiss.IDSelectorBitmap(3_000, faiss.swig_ptr(bits)))

    assert (found % 3 == 0).all()


@pytest.mark.parametrize("n", [1, 2, 63, 64, 65, 10_000])
def test_entries_are_distinct_and_spread_over_all(n: int) -> None:
    entries = Entries.of(unit_vectors(n, 4))

    assert len(set(entries.positions.tolist())) == len(entries.positions) == min(n, 64)
    assert (entries.positions[0], entries.positions[-1]) == (0, n - 1)
