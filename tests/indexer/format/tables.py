"""Chunk tables for the segment tests: the same values on every machine and with every library version."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from indexer.format.keys import hash_column, key_hashes
from indexer.spec import CollectionSpec

WORDS = ("grebe", "heron", "coot", "diving", "nests", "river", "reeds", "winter", "plumage", "migrating")


def spec_of(**changes: Any) -> CollectionSpec:
    values: dict[str, Any] = {
        "name": "birds",
        "source": {"table": "birds"},
        "key": ["id"],
        "text": {"fields": {"title": 2.0, "body": 1.0}},
        "vector": {"column": "embedding", "dim": 8},
        "columns": ["colour", "seen"],
    }
    return CollectionSpec.model_validate(values | changes)


def chunk_table(n_chunks: int, *, chunks_per_row: int = 2, first_id: int = 0) -> pa.Table:
    """Return ``n_chunks`` chunks; every seventh has no text and no vector, every fifth no title."""
    row = np.arange(n_chunks) // chunks_per_row
    ids = pa.array(row + first_id, pa.int64())
    silent = [at % 7 == 6 for at in range(n_chunks)]
    bodies = [None if silent[at] else _words(at + first_id, 12) for at in range(n_chunks)]
    titles = [None if silent[at] or at % 5 == 0 else _words(at + first_id, 2) for at in range(n_chunks)]
    hashes = pa.array([blake2b(str(body).encode(), digest_size=16).digest() for body in bodies], pa.binary(16))
    start = datetime(2024, 1, 1, tzinfo=UTC)
    return pa.table(
        {
            "_row": pa.array(row, pa.uint32()),
            "_chunk": pa.array(np.arange(n_chunks) % chunks_per_row, pa.uint32()),
            "_key": hash_column(key_hashes(pa.table({"id": ids}), ("id",))),
            "column.id": ids,
            "column.colour": pa.array([None if at % 3 == 0 else f"colour {at % 4}" for at in row.tolist()]),
            "column.seen": pa.array([start + timedelta(days=at) for at in row.tolist()], pa.timestamp("us", "UTC")),
            "text.title": pa.array(titles, pa.string()),
            "start.title": pa.array([None if title is None else 0 for title in titles], pa.int64()),
            "text.body": pa.array(bodies, pa.string()),
            "start.body": pa.array([None if body is None else 60 * (at % 2) for at, body in enumerate(bodies)]),
            "_version": pa.array(row + 3, pa.int64()),
            "_committed_at": pa.array([start] * n_chunks, pa.timestamp("us", "UTC")),
            "_hash": hashes,
            "_row_hash": hash_column(key_hashes(pa.table({"id": ids}), ("id",))),
            "_embedded": pa.array([not quiet for quiet in silent]),
        }
    )


def unit_vectors(n: int, dim: int, *, seed: int = 7) -> npt.NDArray[np.float32]:
    """Return clustered unit vectors, ``(n, dim) float32``."""
    random = np.random.default_rng(seed)
    centres = random.normal(size=(max(1, n // 50), dim))
    vectors = centres[random.integers(0, len(centres), n)] + 0.6 * random.normal(size=(n, dim))
    unit: npt.NDArray[np.float32] = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    return unit


def vectors_for(chunks: pa.Table, dim: int = 8) -> npt.NDArray[np.float32]:
    """Return unit vectors for the chunks that are embedded, and zeros for the others."""
    vectors = unit_vectors(len(chunks), dim)
    vectors[~chunks.column("_embedded").to_numpy(zero_copy_only=False)] = 0
    return vectors


def _words(seed: int, count: int) -> str:
    return " ".join(WORDS[(seed * (at + 3) + at) % len(WORDS)] for at in range(count))
