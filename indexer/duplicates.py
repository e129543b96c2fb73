"""Keys that a table has more than once, as the changes of a batch show them.

An index holds one row per key, so that it cannot follow the others by their changes: the deletion of one row says
nothing of its twin. A key is *ambiguous* when the table had it twice before a batch or has it twice after, or when the
last of its changes is a deletion that leaves a row. What the table holds of such keys has to be read.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from connectors.contract import OP, UPSERT
from indexer.format.keys import hash_column
from indexer.lookup import Found
from indexer.netting import REASONS, NetChanges

MAX_KEYS = 10_000
"""Of more ambiguous keys in one batch, comparing the whole table tells as fast."""


def ambiguous(
    changes: pa.Table, net: NetChanges, touched: np.ndarray, found: Found, aside: Mapping[bytes, int]
) -> npt.NDArray[np.bool_]:
    """Say of each change of a batch whether its key is ambiguous: ``(n_changes,) bool``.

    ``touched`` are the net keys, ``found`` their live rows, ``aside`` how many rows of a key (by its hash) are dead
    letters.
    """
    upsert = pc.equal(changes[OP], UPSERT).to_numpy(zero_copy_only=False)
    hashes = np.ascontiguousarray(touched["hash"])
    before = np.bincount(found.at, minlength=len(touched))
    if aside:
        before += np.array([aside.get(key.tobytes(), 0) for key in hashes], dtype=np.int64)
    deleted = ~touched["upsert"] & ~touched["bad"]
    keys = pl.DataFrame({"key": _keys(hashes), "before": before, "deleted": deleted})
    beaten = np.zeros(len(changes), dtype=bool)
    beaten[[at for at, reason in net.letters.items() if reason == REASONS["duplicate_key"]]] = True
    rows = pl.DataFrame(
        {"key": _keys(net.hashes), "keyed": net.keyed, "change": np.where(upsert, 1, -1), "beaten": beaten}
    )
    after = pl.col("before") + pl.col("change")
    doubted = (
        rows.filter("keyed")
        .group_by("key")
        .agg(pl.col("change").sum(), pl.col("beaten").any())
        .join(keys, on="key")
        .filter((pl.col("before") > 1) | (after > 1) | (pl.col("deleted") & (after > 0)) | pl.col("beaten"))
    )
    mask: npt.NDArray[np.bool_] = (rows["keyed"] & rows["key"].is_in(doubted["key"].implode())).to_numpy()
    return mask


def _keys(hashes: npt.NDArray[np.uint8]) -> pl.Series:
    return pl.Series(hash_column(hashes).cast(pa.binary()))
