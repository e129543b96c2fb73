"""The golden segment of format version 1: ``python -m tests.indexer.format.golden`` writes it anew.

Do that for a new format version only, into a new folder: the old one must go on opening.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from indexer.format.segment import publish_segment
from indexer.format.store import Store
from indexer.spec import CollectionSpec
from tests.indexer.format.tables import chunk_table, spec_of

FOLDER = Path(__file__).parents[2] / "golden" / "segment-v1"
NUMBER = 0xABCDEF0123
DIM = 32


def golden_spec() -> CollectionSpec:
    return spec_of(vector={"column": "embedding", "dim": DIM}, index={"kind": "ivf"})


def golden_chunks() -> pa.Table:
    return chunk_table(48, chunks_per_row=3)


def golden_vectors() -> npt.NDArray[np.float32]:
    """One axis each, alternating in sign: exact in every arithmetic."""
    vectors = np.zeros((48, DIM), dtype=np.float32)
    vectors[np.arange(48), np.arange(48) % DIM] = np.where(np.arange(48) % 2, -1.0, 1.0)
    vectors[~golden_chunks().column("_embedded").to_numpy(zero_copy_only=False)] = 0
    return vectors


def main() -> None:
    shutil.rmtree(FOLDER, ignore_errors=True)
    record = publish_segment(
        Store.at(str(FOLDER)), golden_chunks(), golden_vectors(), golden_spec(), number=NUMBER, shard=0
    )
    (FOLDER / "record.json").write_text(record.model_dump_json(indent=2) + "\n")


if __name__ == "__main__":
    main()
