"""Deletions: which rows the source deleted, at which of its versions, and which catalog version first lacked them.

A *log* is a NumPy array file of :data:`DELETION` records. The catalog names a handful of them, whose sizes at least
halve from one to the next, so that no record is written again more often than its count has binary digits.
"""

from __future__ import annotations

import io
import uuid
from collections.abc import Sequence

import numpy as np

from indexer.errors import CorruptFile
from indexer.format.states import DeletionLog
from indexer.format.store import Store

DELETION = np.dtype([("hash", "u1", (16,)), ("source", "<i8"), ("catalog", "<i8")])
"""A key's hash, the source version that deleted it, and the first catalog version without it."""


def encode(deletions: np.ndarray) -> bytes:
    """Return the log file of ``deletions``, ``(n,) DELETION``."""
    buffer = io.BytesIO()
    np.save(buffer, deletions)
    return buffer.getvalue()


def decode(data: bytes) -> np.ndarray:
    """Return what :func:`encode` was given; raises :class:`CorruptFile` for anything else."""
    try:
        found: np.ndarray = np.load(io.BytesIO(data), allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise CorruptFile(f"a deletion log of {len(data)} bytes cannot be read: {error}") from error
    if found.dtype != DELETION:
        raise CorruptFile(f"expected a deletion log, found an array of {found.dtype}")
    return found


def appended(
    logs: tuple[DeletionLog, ...], deletions: np.ndarray, *, epoch: str, store: Store
) -> tuple[DeletionLog, ...]:
    """Return ``logs`` with ``deletions`` of ``epoch`` added, having written at most one new file to ``store``."""
    if not len(deletions):
        return logs
    kept, parts = list(logs), [deletions]
    while kept and kept[-1].epoch == epoch and kept[-1].count < 2 * sum(len(part) for part in parts):
        parts.append(decode(store.read(kept.pop().file)))
    joined = np.concatenate(parts)
    file = store.put_record(f"deletions/{uuid.uuid4().hex}.npy", encode(joined))
    return (*kept, DeletionLog(file=file, epoch=epoch, count=len(joined)))


def find(logs: Sequence[DeletionLog], key_hash: bytes, store: Store) -> list[tuple[str, int, int]]:
    """Return ``(epoch, source version, catalog version)`` of each deletion of a key, oldest first."""
    wanted = np.frombuffer(key_hash, dtype=np.uint8)
    found = []
    for log in logs:
        deletions = decode(store.read(log.file))
        mine = deletions[(deletions["hash"] == wanted).all(axis=1)]
        found += [
            (log.epoch, int(source), int(catalog))
            for source, catalog in zip(mine["source"], mine["catalog"], strict=True)
        ]
    return sorted(found, key=lambda deletion: deletion[2])
