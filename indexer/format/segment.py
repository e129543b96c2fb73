"""Segments: writing one from a table of chunks and their vectors, publishing it, and opening its files.

==================  ====================================================================================
file                what
==================  ====================================================================================
``rows.parquet``    one row per chunk: everything but the vectors (columns in :mod:`indexer.format.check`)
``vectors.npy``     ``(n_chunks, dim)`` float32 or float16
``vectors.faiss``   the approximate index, absent where the segment is scanned exactly
``keys.npy``        the rows' keys, sorted by hash (:class:`indexer.format.keys.KeyIndex`)
``keywords/``       one tantivy segment
==================  ====================================================================================

While a segment is small, all but ``keys.npy`` lie in one ``segment.tar``: writers look keys up far more often than
they read the rest.
"""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from indexer.ann.build import build_index
from indexer.ann.threads import all_threads, spare_threads
from indexer.errors import BuildError, CorruptFile
from indexer.format.check import check_vectors, checked_chunks
from indexer.format.fetch import ARROW_FILE, fetch_keys, fetch_segment, folder_name
from indexer.format.keys import KeyIndex, column_hashes
from indexer.format.keywords import write_keywords
from indexer.format.pack import (
    INDEX_FILE,
    KEYS_FILE,
    KEYWORDS_FOLDER,
    PACK_FILE,
    ROWS_FILE,
    VECTORS_FILE,
    members,
    pack,
)
from indexer.format.records import SEGMENT_NUMBER_BITS, IndexRecord, SegmentRecord
from indexer.format.store import Store
from indexer.format.tenants import only_tenant
from indexer.format.vectors import Vectors, load_index, save_index
from indexer.spec import CollectionSpec

if TYPE_CHECKING:
    import faiss

__all__ = [
    "OpenSegmentFiles",
    "WrittenSegment",
    "fetch_keys",
    "fetch_segment",
    "folder_name",
    "new_segment_number",
    "publish_segment",
    "read_segment",
    "upload_segment",
    "write_segment",
]

PACKED_BELOW_BYTES = 64 * 1024 * 1024
_UPLOADS_AT_ONCE = 4
_SCRATCH_PER_BYTE = 3
"""Bytes that a segment's files and their pack take, at most, for each byte of its chunks and vectors."""

_MEMORY = Path("/dev/shm")


@dataclass(frozen=True, kw_only=True)
class WrittenSegment:
    """A segment in a local folder, with what its record will say."""

    folder: Path
    number: int
    shard: int
    n_rows: int
    n_chunks: int
    n_embedded: int
    dim: int
    fingerprint: str
    index: IndexRecord
    tenant: str | None = None


def new_segment_number() -> int:
    """Draw a segment's random 40-bit number."""
    return secrets.randbits(SEGMENT_NUMBER_BITS)


def publish_segment(
    store: Store,
    chunks: pa.Table,
    vectors: Vectors,
    spec: CollectionSpec,
    *,
    number: int,
    shard: int,
    epoch: str | None = None,
    queries: npt.NDArray[np.float32] | None = None,
) -> SegmentRecord:
    """Write a segment in a temporary folder and upload it to the collection's ``store``.

    See :func:`write_segment` and :func:`upload_segment`.
    """
    with tempfile.TemporaryDirectory(prefix="grebe-segment-", dir=_scratch_parent(chunks, vectors)) as scratch:
        folder = Path(scratch) / "segment"
        written = write_segment(
            folder, chunks, vectors, spec, number=number, shard=shard, dim=int(vectors.shape[-1]), queries=queries
        )
        return upload_segment(store, written, epoch=epoch)


def _scratch_parent(chunks: pa.Table, vectors: Vectors) -> Path | None:
    """Return a folder in memory for a small segment: tantivy flushes every file, which a disk takes its time over."""
    needed = _SCRATCH_PER_BYTE * (chunks.nbytes + vectors.nbytes)
    roomy = needed < PACKED_BELOW_BYTES and _MEMORY.is_dir() and os.access(_MEMORY, os.W_OK)
    return _MEMORY if roomy and shutil.disk_usage(_MEMORY).free > 4 * needed else None


def write_segment(
    folder: Path,
    chunks: pa.Table,
    vectors: Vectors,
    spec: CollectionSpec,
    *,
    number: int,
    shard: int,
    dim: int,
    queries: npt.NDArray[np.float32] | None = None,
) -> WrittenSegment:
    """Write a segment's files into the new directory ``folder``.

    ``chunks`` has one row per chunk with the columns of :mod:`indexer.format.check`; ``vectors`` is ``(n_chunks, dim)``
    float32 or float16, stored as the spec's dtype, of unit length under cosine; the index leaves out those not
    ``_embedded``. ``queries`` ``(n, dim)`` are asked of the index before it is taken. Keywords, vectors and rows are
    written at the same time. Where the spec keeps tenants apart, all rows must be of one.

    Raises :class:`indexer.errors.BuildError`.
    """
    if not 0 <= number < 1 << SEGMENT_NUMBER_BITS:
        raise BuildError(f"a segment's number has {SEGMENT_NUMBER_BITS} bits; {number} does not fit")
    chunks = checked_chunks(chunks, spec)
    embedded = chunks.column("_embedded").to_numpy(zero_copy_only=False)
    check_vectors(vectors, embedded, spec, dim)
    keys = _key_index(chunks)
    tenant = only_tenant(chunks.column(f"column.{spec.tenant}"), spec.tenant) if spec.tenant else None
    with _as_build_error(number):
        folder.mkdir(parents=True)
        with ThreadPoolExecutor(2) as pool:
            keywords = pool.submit(write_keywords, folder / KEYWORDS_FOLDER, chunks, spec, number)
            indexing = pool.submit(_write_vectors, folder, vectors, embedded, spec, queries, beside=keywords)
            _write_rows(folder / ROWS_FILE, chunks)
            keys.save(folder / KEYS_FILE)
            keywords.result()
            index = indexing.result()
    return WrittenSegment(
        folder=folder,
        number=number,
        shard=shard,
        n_rows=len(keys),
        n_chunks=len(chunks),
        n_embedded=int(embedded.sum()),
        dim=dim,
        fingerprint=spec.fingerprint,
        index=index,
        tenant=tenant,
    )


def _key_index(chunks: pa.Table) -> KeyIndex:
    first = np.flatnonzero(chunks.column("_chunk").to_numpy() == 0)
    counts = np.diff(np.append(first, len(chunks)))
    versions = chunks.column("_version").to_numpy()
    hashes = column_hashes(chunks.column("_key"))
    if not np.array_equal(hashes, np.repeat(hashes[first], counts, axis=0)):
        raise BuildError("the chunks of one row have different keys")
    return KeyIndex.build(hashes[first], first, counts, versions[first])


def _write_rows(path: Path, chunks: pa.Table) -> None:
    hashes = ("_key", "_hash", "_row_hash")
    pq.write_table(
        chunks,
        path,
        compression="zstd",
        compression_level=1,
        use_dictionary=[name for name in chunks.column_names if name.startswith("column.")],
        write_statistics=[name for name in chunks.column_names if name not in hashes],
    )


def _write_vectors(
    folder: Path,
    vectors: Vectors,
    embedded: npt.NDArray[np.bool_],
    spec: CollectionSpec,
    queries: npt.NDArray[np.float32] | None,
    *,
    beside: Future[None],
) -> IndexRecord:
    stored = np.ascontiguousarray(vectors, dtype=spec.vector.dtype)
    np.save(folder / VECTORS_FILE, stored)

    def cores() -> int:
        return all_threads() if beside.done() else spare_threads()

    index, record = build_index(stored, spec.index, embedded=embedded, queries=queries, cores=cores)
    if index is not None:
        save_index(index, folder / INDEX_FILE)
    return record


def upload_segment(store: Store, written: WrittenSegment, *, epoch: str | None = None) -> SegmentRecord:
    """Upload a written segment under a new name in the collection's ``store``, and return its record.

    A segment below 64 MiB goes as two objects. Nothing is visible to readers until a catalog version names it.
    """
    folder = written.folder
    names = members(folder)
    packed = sum((folder / name).stat().st_size for name in names) < PACKED_BELOW_BYTES
    if packed:
        with _as_build_error(written.number):
            pack(folder, [name for name in names if name != KEYS_FILE], folder / PACK_FILE)
        names = [KEYS_FILE, PACK_FILE]
    path = f"segments/{written.number:010x}-{secrets.token_hex(4)}"
    with ThreadPoolExecutor(_UPLOADS_AT_ONCE) as pool:
        files = tuple(pool.map(lambda name: store.put_file(f"{path}/{name}", folder / name), names))
    return SegmentRecord(
        number=written.number,
        shard=written.shard,
        packed=packed,
        files=files,
        n_rows=written.n_rows,
        n_chunks=written.n_chunks,
        n_embedded=written.n_embedded,
        dim=written.dim,
        fingerprint=written.fingerprint,
        epoch=epoch,
        tenant=written.tenant,
        index=written.index,
        created_at=datetime.now(UTC),
    )


@dataclass(frozen=True, kw_only=True)
class OpenSegmentFiles:
    """A segment's files, memory-mapped. ``vectors`` is ``(n_chunks, dim)`` float32 or float16, read-only."""

    folder: Path
    rows: pa.Table
    vectors: Vectors
    keys: KeyIndex

    def chunks(self) -> pa.Table:
        """Return the chunk table, as it was given to :func:`write_segment` (in the format's column order)."""
        return self.rows

    def key_hashes(self) -> npt.NDArray[np.uint8]:
        """Return each chunk's key hash: ``(n_chunks, 16) uint8``."""
        return column_hashes(self.rows.column("_key"))

    @cached_property
    def row_of_chunk(self) -> npt.NDArray[np.uint32]:
        """Each chunk's row ordinal: ``(n_chunks,) uint32``, ascending."""
        return np.asarray(self.rows.column("_row").to_numpy(), dtype=np.uint32)

    @property
    def keywords(self) -> Path:
        """The folder of the keyword index, for :func:`indexer.format.keywords.compose`."""
        return self.folder / KEYWORDS_FOLDER

    @cached_property
    def index(self) -> faiss.Index | None:
        """The vector index (:func:`indexer.format.vectors.load_index`), or None where the segment is scanned."""
        file = self.folder / INDEX_FILE
        return load_index(file) if file.exists() else None


def read_segment(folder: Path) -> OpenSegmentFiles:
    """Open the files of a segment that was fetched (rows memory-mapped) or just written (rows decoded).

    Cheap: nothing is read but headers. Raises :class:`indexer.errors.CorruptFile`, naming the file.
    """
    with _as_corrupt(folder / VECTORS_FILE) as file:
        vectors = np.load(file, mmap_mode="r", allow_pickle=False).view(np.ndarray)
    if (folder / ARROW_FILE).exists():
        with _as_corrupt(folder / ARROW_FILE) as file:
            rows = pa.ipc.open_file(pa.memory_map(str(file))).read_all()
    else:
        with _as_corrupt(folder / ROWS_FILE) as file:
            rows = pq.ParquetFile(file).read().combine_chunks()
    return OpenSegmentFiles(folder=folder, rows=rows, vectors=vectors, keys=KeyIndex.open(folder / KEYS_FILE))


@contextmanager
def _as_corrupt(file: Path) -> Iterator[Path]:
    try:
        yield file
    except (ValueError, EOFError, OSError) as error:  # pa.ArrowInvalid is a ValueError
        raise CorruptFile(f"{file}: cannot be opened: {error}; remove its folder, and it is fetched anew") from error


@contextmanager
def _as_build_error(number: int) -> Iterator[None]:
    """Translate what the libraries raise on a full or failing disk."""
    try:
        yield
    except (OSError, RuntimeError, pa.ArrowException) as error:
        raise BuildError(f"segment {number} could not be written: {error}; free some space, then try again") from error
