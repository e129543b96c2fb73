"""What of a batch is indexed already: rows that did not change at all, and vectors of chunks whose text did not."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from indexer.errors import CorruptFile, ObjectNotFound
from indexer.format.fetch import fetch_keys
from indexer.format.keys import column_hashes, hash_column
from indexer.format.records import SegmentRecord
from indexer.format.segment import fetch_segment, read_segment
from indexer.format.store import Store
from indexer.lookup import Found, chunk_positions


def same_rows(found: Found, row_hashes: npt.NDArray[np.uint8], store: Store, cache: Path) -> npt.NDArray[np.bool_]:
    """Say of each row that was found whether its content is that of the upsert of its key: ``(n,) bool``.

    ``row_hashes`` are the upserts' content hashes, ``(n_upserts, 16) uint8``, in the order of the touched keys.
    """
    same = np.zeros(len(found), dtype=bool)
    for record, mine in found.by_segment():
        rows = read_segment(fetch_segment(store, record, cache)).chunks()
        stored = column_hashes(rows["_row_hash"].take(pa.array(found.entries["position"][mine])))
        same[mine] = (stored == row_hashes[found.at[mine]]).all(axis=1)
    return same


def known_vectors(
    found: Found,
    row_of_chunk: npt.NDArray[np.int64],
    text_hashes: npt.NDArray[np.uint8],
    dim: int,
    store: Store,
    cache: Path,
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.float32]]:
    """Return the vectors of new chunks whose text the same row had before.

    Chunk i is of the row of ``touched[row_of_chunk[i]]`` and its text has the hash ``text_hashes[i]``, ``(n, 16)
    uint8``. Returns which chunks are known, ``(n,) bool``, and the vectors of all, ``(n, dim) float32``, zeros where
    they are not. Of a segment that is gone, damaged or of another width nothing is known.
    """
    known, vectors = np.zeros(len(row_of_chunk), dtype=bool), np.zeros((len(row_of_chunk), dim), dtype=np.float32)
    new = _keyed(row_of_chunk, text_hashes).with_row_index("chunk")
    for record, mine in found.by_segment():
        if record.dim != dim:
            continue
        try:
            files = read_segment(fetch_segment(store, record, cache))
        except (ObjectNotFound, CorruptFile):
            continue
        at = chunk_positions(found.entries[mine])
        rows = np.repeat(found.at[mine], found.entries["n_chunks"][mine])
        old = _keyed(rows, column_hashes(files.chunks()["_hash"].take(pa.array(at)))).with_columns(
            position=pl.Series(at)
        )
        both = new.join(old.unique(["row", "hash"], keep="first"), on=["row", "hash"], how="inner")
        chunks = both["chunk"].to_numpy()
        known[chunks] = True
        vectors[chunks] = files.vectors[both["position"].to_numpy()]
    return known, vectors


def readable(records: Sequence[SegmentRecord], store: Store, cache: Path) -> list[SegmentRecord]:
    """Return those of an old index's segments whose keys are there and whole: a new one needs none of them."""
    there = []
    for record in records:
        with suppress(ObjectNotFound, CorruptFile):
            fetch_keys(store, record, cache)
            there.append(record)
    return there


def _keyed(rows: npt.NDArray[np.int64], hashes: npt.NDArray[np.uint8]) -> pl.DataFrame:
    return pl.DataFrame({"row": rows, "hash": pl.Series(hash_column(hashes).cast(pa.binary()))})
