"""Building one part of a batch: a table of changes becomes segments, tombstones and dead letters in the store.

This is the work of one Spark task, but knows nothing of Spark: a table goes in, files go to the store, and a small
:class:`PartResult` comes back for the driver's commit. A part that fails half-way leaves only files that no catalog
version names.
"""

from __future__ import annotations

import base64
import hashlib
import json
import tempfile
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from connectors.contract import COMMITTED_AT, OP, VERSION
from indexer import chunking
from indexer.embedding import Embedder, load_embedder, normalised
from indexer.errors import BuildError
from indexer.format import tombstones
from indexer.format.keys import hash_column
from indexer.format.records import (
    MAX_CHUNKS_PER_SEGMENT,
    FileRecord,
    Ledger,
    Record,
    SegmentRecord,
)
from indexer.format.segment import new_segment_number, publish_segment
from indexer.format.store import Store
from indexer.lookup import superseded
from indexer.netting import BAD_TEXT, ROW_HASH, NetChanges, dense, net_changes
from indexer.spec import CollectionSpec

TOUCHED = np.dtype([("hash", "u1", (16,)), ("version", "<i8"), ("upsert", "?")])

EMBED_STEP = 512
"""Texts between two words about progress: some seconds' work on a CPU."""

Progress = Callable[[str, int, int], None]
"""``progress(stage, done, total)``, in rows or chunks."""


@dataclass(frozen=True, kw_only=True)
class BuildJob:
    """What a part needs to know; it travels to the workers.

    ``store`` is the collection's folder, ``live`` the segments that the batch may supersede, ``cache`` a local folder
    where their key files are kept between parts.
    """

    store: Store
    spec: CollectionSpec
    dim: int | None
    live: tuple[SegmentRecord, ...]
    cache: Path
    first_load: bool = False


class PartResult(Record):
    """What one part left in the store, and what it says of older segments.

    ``superseded`` (base64 of an encoded tombstone pack) covers the segments the job knew; ``touched`` (base64 of
    ``TOUCHED`` records) lets the driver look the same keys up in segments that appeared meanwhile.
    """

    segments: tuple[SegmentRecord, ...] = ()
    superseded: str = ""
    touched: str = ""
    letters: tuple[FileRecord, ...] = ()
    letter_count: int = 0
    ledger: Ledger = Ledger()
    dim: int | None = None

    def tombstones(self) -> tombstones.Tombstones:
        """Decode ``superseded``."""
        return tombstones.decode(base64.b64decode(self.superseded)) if self.superseded else {}

    def touched_keys(self) -> np.ndarray:
        """Decode ``touched``: a structured array of dtype ``TOUCHED``."""
        return np.frombuffer(base64.b64decode(self.touched), dtype=TOUCHED)


def build_part(changes: pa.Table, job: BuildJob, *, shard: int = 0, progress: Progress | None = None) -> PartResult:
    """Index one part of a batch and upload what came of it.

    ``changes`` holds the spec's source columns, the contract's columns, ``_row_hash`` (binary) and ``_bad_text``
    (bool), and every change of the keys in it. Raises :class:`indexer.errors.IndexerError`.
    """
    net = net_changes(changes, job.spec, job.dim)
    touched = _touched(changes, net)
    overtaken, newer = superseded(touched, job.live, job.store, job.cache)
    kept = ~np.isin(np.arange(len(net.upserts)), newer)
    rows = changes.take(pa.array(net.upserts[kept]))
    if len(rows) and job.spec.vector.column is not None and not job.dim:
        raise BuildError(
            f"{job.spec.name}: no row has a vector yet, so their width is unknown; give it as vector.dim in the spec"
        )
    segments, dim = _write_segments(rows, net.upsert_keys[kept], job, shard, progress)
    letters = _write_letters(changes, net, job)
    return PartResult(
        segments=segments,
        superseded=base64.b64encode(tombstones.encode(overtaken)).decode() if overtaken else "",
        touched="" if job.first_load else base64.b64encode(touched.tobytes()).decode(),
        letters=(letters,) if letters else (),
        letter_count=len(net.letters),
        ledger=Ledger(read=len(changes), upserted=len(rows), deleted=net.n_deleted, set_aside=len(net.letters)),
        dim=dim,
    )


def _touched(changes: pa.Table, net: NetChanges) -> np.ndarray:
    """All net keys with their version, upserts first."""
    count = len(net.upserts)
    touched = np.zeros(count + len(net.delete_keys), dtype=TOUCHED)
    touched["hash"][:count] = net.upsert_keys
    touched["version"][:count] = changes[VERSION].to_numpy()[net.upserts]
    touched["upsert"][:count] = True
    touched["hash"][count:] = net.delete_keys
    touched["version"][count:] = net.delete_versions
    return touched


def _write_segments(
    rows: pa.Table, keys: npt.NDArray[np.uint8], job: BuildJob, shard: int, progress: Progress | None
) -> tuple[tuple[SegmentRecord, ...], int | None]:
    if not len(rows):
        return (), job.dim
    embedder = _embedder(job.spec) if job.spec.vector.column is None else None
    chunked = chunking.chunk_rows(rows, job.spec, embedder)
    texts = chunked["embed_text"].to_pylist()
    if embedder:
        vectors = _embed(texts, embedder, progress)
        # A model may find nothing to say of a text (no word that it knows): then there is no direction to search in.
        embedded = pa.array(vectors.any(axis=1))
    else:
        vectors = _source_vectors(rows, job)
        embedded = pc.is_valid(rows[_vector_column(job.spec)])
    chunks = _chunk_table(rows, keys, chunked, texts, job.spec).append_column("_embedded", embedded)
    if job.spec.vector.metric == "cosine":
        vectors = normalised(vectors)
    if progress:
        progress("building", 0, len(chunks))
    written = tuple(
        _write_segment(chunks.slice(start, stop - start), vectors[start:stop], job, shard)
        for start, stop in cuts(chunks["_row"].to_numpy())
    )
    if progress:
        progress("building", len(chunks), len(chunks))
    return written, vectors.shape[1]


def _chunk_table(
    rows: pa.Table, keys: npt.NDArray[np.uint8], chunked: pa.Table, texts: list[str], spec: CollectionSpec
) -> pa.Table:
    """Join the chunks with their rows' columns into the segment format's chunk table."""
    at = chunked["_row"]
    columns = {name: chunked[name] for name in chunked.column_names if name != "embed_text"}
    columns["_key"] = hash_column(keys).take(at.combine_chunks())
    for name in spec.stored_columns:
        columns[f"column.{name}"] = _in_utc(rows[name]).take(at)
    columns["_version"] = rows[VERSION].take(at)
    columns["_committed_at"] = rows[COMMITTED_AT].take(at)
    columns["_row_hash"] = rows[ROW_HASH].cast(pa.binary(16)).take(at)
    hashes = [hashlib.blake2b(text.encode(), digest_size=16).digest() for text in texts]
    columns["_hash"] = pa.array(hashes, pa.binary(16))
    return pa.table(columns)


def _in_utc(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """The same instants, labelled UTC: a session's time zone must not make two segments differ in type."""
    if pa.types.is_timestamp(column.type) and column.type.tz not in (None, "UTC"):
        return column.cast(pa.timestamp(column.type.unit, tz="UTC"))
    return column


def _embedder(spec: CollectionSpec) -> Embedder:
    return load_embedder(spec.vector, device="cpu" if spec.index.device == "cpu" else "auto")


def _embed(texts: list[str], embedder: Embedder, progress: Progress | None) -> npt.NDArray[np.float32]:
    """Embed every text that says something; the others keep zeros."""
    vectors = np.zeros((len(texts), embedder.dim), dtype=np.float32)
    speaking = np.array([at for at, text in enumerate(texts) if text], dtype=np.int64)
    for start in range(0, len(speaking), EMBED_STEP):
        if progress:
            progress("embedding", start, len(speaking))
        at = speaking[start : start + EMBED_STEP]
        vectors[at] = embedder.documents([texts[i] for i in at])
    if progress:
        progress("embedding", len(speaking), len(speaking))
    return vectors


def _source_vectors(rows: pa.Table, job: BuildJob) -> npt.NDArray[np.float32]:
    """Return the rows' own vectors, ``(n_rows, dim) float32``; a null vector is zeros."""
    column = rows[_vector_column(job.spec)]
    present = pc.is_valid(column).to_numpy(zero_copy_only=False)
    if present.all():
        return dense(column, job.dim or 0)
    vectors = np.zeros((len(rows), job.dim or 0), dtype=np.float32)
    vectors[present] = dense(column.drop_null(), job.dim or 0)
    return vectors


def _vector_column(spec: CollectionSpec) -> str:
    assert spec.vector.column is not None
    return spec.vector.column


def cuts(row_of_chunk: npt.NDArray[np.uint32]) -> list[tuple[int, int]]:
    """Cut the chunks into segments of at most ``MAX_CHUNKS_PER_SEGMENT``, never inside a row."""
    cuts, start = [], 0
    while start < len(row_of_chunk):
        stop = min(start + MAX_CHUNKS_PER_SEGMENT, len(row_of_chunk))
        if stop < len(row_of_chunk):
            stop = int(np.searchsorted(row_of_chunk, row_of_chunk[stop]))
        if stop == start:
            raise BuildError(f"one row has more than {MAX_CHUNKS_PER_SEGMENT} chunks; set text.chunk.max_tokens higher")
        cuts.append((start, stop))
        start = stop
    return cuts


def _write_segment(chunks: pa.Table, vectors: npt.NDArray[np.float32], job: BuildJob, shard: int) -> SegmentRecord:
    ordinal = chunks["_row"].to_numpy()
    if ordinal[0]:
        at = chunks.column_names.index("_row")
        chunks = chunks.set_column(at, "_row", pa.array(ordinal - ordinal[0]))
    return publish_segment(job.store, chunks, vectors, job.spec, number=new_segment_number(), shard=shard)


def _write_letters(changes: pa.Table, net: NetChanges, job: BuildJob) -> FileRecord | None:
    """Write the rows that were set aside, with their reasons, as one Parquet file."""
    if not net.letters:
        return None
    at = pa.array(sorted(net.letters))
    rows = _as_text(changes.take(at).drop_columns([OP, ROW_HASH, BAD_TEXT, COMMITTED_AT])).to_pylist()
    table = pa.table(
        {
            "key": [json.dumps([row[name] for name in job.spec.key], default=str) for row in rows],
            "reason": [net.letters[position] for position in at.to_pylist()],
            "version": [row.pop(VERSION) for row in rows],
            "row": [json.dumps(row, default=str, allow_nan=True) for row in rows],
        }
    )
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "letters.parquet"
        pq.write_table(table, file)
        return job.store.put_file(f"letters/{uuid.uuid4().hex}.parquet", file)


def _as_text(table: pa.Table) -> pa.Table:
    """Dates and times as text: Python has none before the year 1 or after 9999, and a letter may be about just that."""
    for at, field in enumerate(table.schema):
        if pa.types.is_temporal(field.type):
            table = table.set_column(at, field.name, table[at].cast(pa.string()))
    return table


def merge_results(results: list[PartResult]) -> PartResult:
    """Sum the parts of one batch, in any order."""
    packs = tombstones.merge(*(result.tombstones() for result in results))
    touched = b"".join(base64.b64decode(result.touched) for result in results)
    return PartResult(
        segments=tuple(segment for result in results for segment in result.segments),
        superseded=base64.b64encode(tombstones.encode(packs)).decode() if packs else "",
        touched=base64.b64encode(touched).decode(),
        letters=tuple(letter for result in results for letter in result.letters),
        letter_count=sum(result.letter_count for result in results),
        ledger=sum((result.ledger for result in results), Ledger()),
        dim=next((result.dim for result in results if result.segments), None),
    )
