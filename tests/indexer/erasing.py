"""Rows that the source deletes, with the record of it, and what a test asks of the files afterwards."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa

from indexer.catalog import Catalog, CatalogState
from indexer.format.deletions import DELETION, appended, find
from indexer.format.keys import key_hashes
from indexer.format.store import Store
from tests.indexer.parts import delete, publish


def key_hash(key: int) -> bytes:
    return key_hashes(pa.table({"id": pa.array([key], pa.int64())}), ["id"]).tobytes()


def erase(catalog: Catalog, cache: Path, version: int, *keys: int) -> CatalogState:
    """Delete rows at the source's ``version``, as a sync does, and see to it that the deletions are recorded."""
    state = publish(catalog, cache, version, *(delete(key, version) for key in keys))
    told = ("e", version, state.version)
    new = [key for key in keys if told not in find(state.deletions, key_hash(key), catalog.store)]
    if not new:
        return state
    records = np.zeros(len(new), dtype=DELETION)
    records["hash"] = [np.frombuffer(key_hash(key), dtype=np.uint8) for key in new]
    records["source"], records["catalog"] = version, state.version
    logs = appended(state.deletions, records, epoch="e", store=catalog.store)
    return catalog.commit(state, state.model_copy(update={"deletions": logs}), batch_end=None)


def holding(store: Store, text: str) -> list[str]:
    """The files of a store in whose raw bytes ``text`` stands."""
    return [path for path in store.list() if text.encode() in store.get(path)]
