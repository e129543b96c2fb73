"""A collection of six shards, opened whole and by three nodes, each of which holds two of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import numpy as np
import pytest

from retrieval.distributed.nearby import NearbyNodes
from retrieval.distributed.routed import RoutedVersion
from retrieval.share import Share
from retrieval.snapshot import Snapshot
from tests.retrieval.library import DIM, Doc, Library, spec_of

SHARDS, PARTS = 6, 3
WORDS = ("solar", "panel", "heat", "pump", "grid", "storage", "wind", "turbine")
COLOURS = ("red", "green", "blue", None)


@dataclass(frozen=True)
class Spread:
    """One version: ``whole`` on one machine, and ``routed`` over the snapshots of several."""

    whole: Snapshot
    snapshots: Sequence[Snapshot]
    routed: RoutedVersion


@contextmanager
def spread_of(library: Library, parts: int = PARTS) -> Iterator[Spread]:
    """Open the newest version of ``library`` whole and in ``parts``."""
    with ExitStack() as stack:
        whole = stack.enter_context(library.open())
        snapshots = [stack.enter_context(library.open(share=Share(part, parts))) for part in range(parts)]
        yield Spread(whole, snapshots, NearbyNodes(snapshots).version())


def docs_of(count: int, *, seed: int) -> list[Doc]:
    """Docs of two chunks of equal lengths, so that a node's mean length is the whole collection's."""
    rng = np.random.default_rng(seed)
    weights = np.arange(1, len(WORDS) + 1)[::-1] ** 2.0
    return [
        Doc(
            id=number,
            bodies=tuple(" ".join(rng.choice(WORDS, 5, p=weights / weights.sum())) + " " for _ in range(2)),
            vectors=tuple(_vector(rng) if rng.random() > 0.1 else None for _ in range(2)),
            title=str(rng.choice(WORDS)),
            colour=COLOURS[int(rng.integers(len(COLOURS)))],
            size=int(rng.integers(0, 100)),
        )
        for number in range(count)
    ]


def _vector(rng: np.random.Generator) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    """One of few directions, so that rows tie, or one of its own."""
    vector = rng.integers(-1, 2, DIM) + 0.5 if rng.random() < 0.5 else rng.standard_normal(DIM)
    return (vector / np.linalg.norm(vector)).astype(np.float32)


@pytest.fixture(scope="session")
def spread(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Spread]:
    library = Library(tmp_path_factory.mktemp("spread"), spec_of(shards=SHARDS))
    docs = docs_of(240, seed=4)
    for first, last in ((0, 180), (180, 240)):
        for shard in range(SHARDS):
            library.add(*(doc for doc in docs[first:last] if doc.id % SHARDS == shard), shard=shard)
    library.remove(3, 8, 9, 100, 239)
    with spread_of(library) as opened:
        yield opened
