"""Net changes: what a batch of changes comes to, key by key.

The rules are those of the change contract: the newest version of a key wins, at equal version an upsert beats a
delete, and of several upserts of one key in one version the lowest content hash wins while the others are set aside. A
row that cannot be indexed is set aside too, and removes what was indexed under its key: serving the old content would
show a state that the table no longer has.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from connectors.contract import OP, UPSERT, VERSION
from indexer.format.keys import hash_column, key_hashes, null_keys
from indexer.spec import CollectionSpec, VectorSpec

ROW_HASH = "_row_hash"
BAD_TEXT = "_bad_text"
ROUTE, SHARD, SLOT, PART = "_route", "_shard", "_slot", "_part"
"""Columns that say where a row goes; with those above and the contract's, the names that a table's may not have."""

REASONS = {
    "null_key": "the key is null",
    "bad_utf8": "the text is not valid UTF-8",
    "wrong_width": "the vector has the wrong width",
    "not_finite": "the vector is not finite",
    "beyond_years": "a date or time lies outside the years 1 to 9999",
    "zero_vector": "the vector is zero, which has no direction under cosine",
    "duplicate_key": "another row has the same key",
}
FLOAT16_MAX = 65_504.0
FIRST_DAY, LAST_DAY = -719_162, 2_932_896
"""0001-01-01 and 9999-12-31, in days since 1970-01-01."""
_TICKS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_CODES = dict(zip(REASONS, range(1, len(REASONS) + 1), strict=True))
_TEXTS = ("", *REASONS.values())


@dataclass(frozen=True, kw_only=True)
class NetChanges:
    """One change per key.

    ``upserts`` and ``deletes`` are positions into the batch; of the deletes those were deleted at the source for which
    ``bad`` is false, the others went bad. ``hashes`` are all rows' key hashes, ``(n_changes, 16) uint8``, zeros unless
    ``keyed``, ``(n_changes,) bool``. ``letters`` maps positions of rows that were set aside to the reason; ``freed``
    are the content hashes of deleted rows without a key.
    """

    upserts: npt.NDArray[np.int64]
    deletes: npt.NDArray[np.int64]
    bad: npt.NDArray[np.bool_]
    hashes: npt.NDArray[np.uint8]
    keyed: npt.NDArray[np.bool_]
    letters: dict[int, str]
    freed: tuple[bytes, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Judged:
    """Rows of a batch, each judged alone; all arrays have one entry a row.

    ``upsert`` (bool) tells upserts from deletes, ``verdicts`` (uint8) are codes of ``REASONS``, 0 for a row that can be
    indexed; ``hashes`` are key hashes, ``(n, 16) uint8``, zeros where not ``keyed`` (bool).
    """

    upsert: npt.NDArray[np.bool_]
    verdicts: npt.NDArray[np.uint8]
    keyed: npt.NDArray[np.bool_]
    hashes: npt.NDArray[np.uint8]

    @property
    def usable(self) -> npt.NDArray[np.bool_]:
        """Which rows are upserts that can be indexed."""
        usable: npt.NDArray[np.bool_] = self.upsert & (self.verdicts == 0)
        return usable


def judge(changes: pa.Table, spec: CollectionSpec, dim: int | None) -> Judged:
    """Judge each row of ``changes`` (see :func:`net_changes`) by itself."""
    upsert = pc.equal(changes[OP], UPSERT).to_numpy(zero_copy_only=False)
    keyed = ~null_keys(changes, spec.key)
    hashes = np.zeros((len(changes), 16), dtype=np.uint8)
    hashes[keyed] = key_hashes(changes.filter(pa.array(keyed)), spec.key)
    return Judged(upsert=upsert, verdicts=_verdicts(changes, spec, dim, upsert), keyed=keyed, hashes=hashes)


def net_changes(changes: pa.Table, spec: CollectionSpec, dim: int | None) -> NetChanges:
    """Reduce ``changes`` (source columns, contract columns, ``_row_hash`` and ``_bad_text``) to one change per key."""
    judged = judge(changes, spec, dim)
    upsert, verdicts, keyed, hashes = judged.upsert, judged.verdicts, judged.keyed, judged.hashes
    frame = pl.DataFrame(
        {
            "key": pl.Series(hash_column(hashes).cast(pa.binary())),
            "version": changes[VERSION].to_numpy(),
            "upsert": judged.usable,
            "bad": upsert & ~judged.usable,
            "hash": pl.Series(changes[ROW_HASH].combine_chunks().cast(pa.binary())),
        }
    ).with_row_index("at")
    ranked = frame.filter(pl.Series(keyed)).sort(
        ["key", "version", "upsert", "bad", "hash", "at"], descending=[False, True, True, True, False, False]
    )
    winners = ranked.unique(subset="key", keep="first", maintain_order=True)
    beaten = _beaten_duplicates(ranked, winners)
    deletes = winners.filter(~pl.col("upsert"))["at"].to_numpy().astype(np.int64)
    overtaken = _overtaken(ranked, winners, frame.filter(pl.Series(~keyed)))
    letters = {int(at): _TEXTS[verdicts[at]] for at in np.flatnonzero(verdicts) if at not in overtaken}
    return NetChanges(
        upserts=winners.filter("upsert")["at"].to_numpy().astype(np.int64),
        deletes=deletes,
        bad=upsert[deletes],
        hashes=hashes,
        keyed=keyed,
        letters=letters | dict.fromkeys(beaten, REASONS["duplicate_key"]),
        freed=tuple(changes[ROW_HASH].filter(pa.array(~keyed & ~upsert)).to_pylist()),
    )


def _beaten_duplicates(ranked: pl.DataFrame, winners: pl.DataFrame) -> list[int]:
    """Positions of upserts that lost to another upsert of the same key and version."""
    won = winners.filter("upsert").select("key", "version", won="at")
    rivals = ranked.filter("upsert").join(won, on=["key", "version"], how="inner").filter(pl.col("at") != pl.col("won"))
    return rivals["at"].to_list()


def _overtaken(ranked: pl.DataFrame, winners: pl.DataFrame, keyless: pl.DataFrame) -> set[int]:
    """Positions of bad rows that a later version clears: a change of the key or, without one, of that very content."""
    newest = winners.select("key", newest="version")
    deleted = keyless.filter(~pl.col("bad")).group_by("hash").agg(newest=pl.col("version").max())
    bad = [ranked.filter("bad").join(newest, on="key"), keyless.filter("bad").join(deleted, on="hash")]
    return {at for rows in bad for at in rows.filter(pl.col("version") < pl.col("newest"))["at"]}


def _verdicts(
    changes: pa.Table, spec: CollectionSpec, dim: int | None, upsert: npt.NDArray[np.bool_]
) -> npt.NDArray[np.uint8]:
    """Why each upserted row cannot be indexed, as a code of ``REASONS``, 0 where it can: ``(n_changes,) uint8``."""
    verdicts = np.zeros(len(changes), dtype=np.uint8)
    if spec.vector.column is not None:
        _judge_vectors(changes[spec.vector.column], verdicts, upsert, dim, spec.vector)
    for name in spec.stored_columns:
        verdicts[upsert & _beyond_years(changes[name])] = _CODES["beyond_years"]
    verdicts[upsert & changes[BAD_TEXT].to_numpy(zero_copy_only=False)] = _CODES["bad_utf8"]
    verdicts[upsert & null_keys(changes, spec.key)] = _CODES["null_key"]
    return verdicts


def _judge_vectors(
    column: pa.ChunkedArray,
    verdicts: npt.NDArray[np.uint8],
    upsert: npt.NDArray[np.bool_],
    dim: int | None,
    spec: VectorSpec,
) -> None:
    lengths = pc.fill_null(pc.list_value_length(column), -1).to_numpy()
    verdicts[upsert & (lengths >= 0) & (lengths != dim)] = _CODES["wrong_width"]
    whole = np.flatnonzero(upsert & (lengths == dim))
    vectors = dense(column.take(pa.array(whole)), dim or 0)
    cosine = spec.metric == "cosine"
    largest = FLOAT16_MAX if spec.dtype == "float16" and not cosine else np.finfo(np.float32).max
    finite = (np.abs(vectors) <= largest).all(axis=1)
    verdicts[whole[~finite]] = _CODES["not_finite"]
    if cosine:
        verdicts[whole[finite & ~vectors.any(axis=1)]] = _CODES["zero_vector"]


def _beyond_years(column: pa.ChunkedArray) -> npt.NDArray[np.bool_]:
    """Which dates or times Python, and so every reader, cannot hold: ``(n,) bool``."""
    kind = column.type
    if not (pa.types.is_date(kind) or pa.types.is_timestamp(kind)):
        return np.zeros(len(column), dtype=bool)
    days = pa.types.is_date32(kind)
    ticks = pc.fill_null(column.cast(pa.int32() if days else pa.int64()), 0).to_numpy()
    per_day = 1 if days else 86_400_000 if pa.types.is_date64(kind) else 86_400 * _TICKS[kind.unit]
    beyond: npt.NDArray[np.bool_] = (ticks < FIRST_DAY * per_day) | (ticks >= (LAST_DAY + 1) * per_day)
    return beyond


def dense(column: pa.ChunkedArray, dim: int) -> npt.NDArray[np.float32]:
    """Return a column of lists of ``dim`` elements each as ``(n, dim) float32``; a null element is NaN."""
    flat = pc.cast(pc.list_flatten(column), pa.float32(), safe=False)
    vectors: npt.NDArray[np.float32] = flat.to_numpy().reshape(len(column), dim)
    return vectors
