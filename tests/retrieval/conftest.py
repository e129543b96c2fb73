"""One collection that the search tests share: several segments, rows of several chunks, tombstones, ties."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from retrieval.snapshot import Snapshot
from tests.retrieval.library import DIM, Doc, Library, unit

WORDS = ("solar", "panel", "heat", "pump", "grid", "storage", "wind", "turbine")
COLOURS = ("red", "green", "blue", None)


@dataclass(frozen=True)
class Shelf:
    """An open snapshot, and the docs that it should hold."""

    snapshot: Snapshot
    docs: tuple[Doc, ...] = field(repr=False)


def random_docs(count: int, *, first_id: int, seed: int) -> list[Doc]:
    """Docs of one to three chunks, with few distinct vectors and words, so that ties are common."""
    rng = np.random.default_rng(seed)
    corners = [unit(*row) for row in rng.integers(-1, 2, (12, DIM)) + 0.5]
    docs = []
    for number in range(first_id, first_id + count):
        chunks = int(rng.integers(1, 4))
        docs.append(
            Doc(
                id=number,
                bodies=tuple(" ".join(rng.choice(WORDS, 4)) + " " for _ in range(chunks)),
                vectors=tuple(
                    None if rng.random() < 0.1 else corners[int(rng.integers(len(corners)))] for _ in range(chunks)
                ),
                title=str(rng.choice(WORDS)) if rng.random() < 0.5 else None,
                colour=COLOURS[int(rng.integers(len(COLOURS)))],
                size=int(rng.integers(0, 100)),
            )
        )
    return docs


@pytest.fixture(scope="session")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shelf]:
    library = Library(tmp_path_factory.mktemp("shelf"))
    segments = [
        random_docs(60, first_id=100, seed=1),
        random_docs(40, first_id=0, seed=2),
        random_docs(5, first_id=300, seed=3),
    ]
    for docs in segments:
        library.add(*docs)
    gone = {100, 103, 159, 0, 7, 8, 9, 301}
    library.remove(*gone)
    with library.open() as snapshot:
        yield Shelf(snapshot, tuple(doc for docs in segments for doc in docs if doc.id not in gone))


@pytest.fixture
def library(tmp_path: Path) -> Library:
    return Library(tmp_path)
