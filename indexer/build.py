"""Building one part of a batch: a table of changes becomes segments, tombstones and dead letters in the store.

This is the work of one Spark task, but knows nothing of Spark: a table goes in, files go to the store, and a small
:class:`PartResult` comes back for the driver's commit. A part that fails half-way leaves only files that no catalog
version names.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pyroaring import BitMap

from connectors.contract import COMMITTED_AT, VERSION
from indexer import chunking
from indexer.ann.build import index_kind
from indexer.duplicates import ambiguous
from indexer.embedding import Embedder, load_embedder, normalised
from indexer.errors import BuildError
from indexer.format.keys import HASH_BYTES, column_hashes, hash_column
from indexer.format.records import (
    MAX_CHUNKS_PER_SEGMENT,
    FileRecord,
    Ledger,
    Record,
    SegmentRecord,
)
from indexer.format.segment import new_segment_number, publish_segment
from indexer.format.store import Store
from indexer.format.tenants import segments_of, tenants_of
from indexer.format.tombstones import Tombstones, decode, encode, merge
from indexer.letters import letters_of, write_letters
from indexer.lookup import TOUCHED, Found, look_up, overtakes, tombstones_of
from indexer.netting import ROW_HASH, NetChanges, dense, net_changes
from indexer.reuse import known_vectors, readable, same_rows
from indexer.spec import CollectionSpec

QUERIES, QUERY_WORDS = 100, 8
"""What an index is asked before it is taken, beside its own vectors: so many queries of so many words."""

Progress = Callable[[str, int, int], None]
"""``progress(stage, done, total)``, in rows or chunks."""


@dataclass(frozen=True, kw_only=True)
class BuildJob:
    """What a part needs to know; it travels to the workers.

    ``store`` is the collection's folder, ``live`` the segments that the batch may supersede with ``packs`` of their
    tombstones by shard, ``cache`` a local folder where what is read of them is kept between parts. ``epoch`` is the
    changes' own. ``replaces`` says that the parts together are the whole table (a first load, a resync), so that what
    they do not name has to go. ``aside`` says of how many rows of a key (by its hash) there are dead letters.
    ``donors`` are segments of an index that is replaced whose vectors are right for the same texts; ``same_shards``
    says whether a key is in the same shard there.
    """

    store: Store
    spec: CollectionSpec
    dim: int | None
    live: tuple[SegmentRecord, ...]
    cache: Path
    packs: Mapping[int, FileRecord] = field(default_factory=dict)
    epoch: str | None = None
    replaces: bool = False
    aside: Mapping[bytes, int] = field(default_factory=dict)
    donors: tuple[SegmentRecord, ...] = ()
    same_shards: bool = True


class PartResult(Record):
    """What one part left in the store, and what it says of older segments.

    ``superseded`` (base64 of an encoded tombstone pack) covers the segments the job knew; ``touched`` (base64 of
    ``TOUCHED`` records) lets the driver look the same keys up in segments that appeared meanwhile. ``matched`` (a pack,
    too) has the first chunks of all live rows whose keys came, if the job ``replaces``. ``freed`` (base64) are content
    hashes of deleted rows without a key, ``confirmed`` the key hashes of rows that stay although letters are about
    their keys. ``replaced`` rows were superseded by newer ones, ``removed`` by nothing. If there are ``ambiguous`` keys
    (base64 of their routes, int64), nothing was built.
    """

    segments: tuple[SegmentRecord, ...] = ()
    superseded: str = ""
    touched: str = ""
    matched: str = ""
    freed: str = ""
    confirmed: str = ""
    ambiguous: str = ""
    replaced: int = 0
    removed: int = 0
    letters: tuple[FileRecord, ...] = ()
    letter_count: int = 0
    ledger: Ledger = Ledger()
    dim: int | None = None

    def tombstones(self) -> Tombstones:
        """Decode ``superseded``."""
        return _unpacked(self.superseded)

    def matches(self) -> Tombstones:
        """Decode ``matched``."""
        return _unpacked(self.matched)

    def touched_keys(self) -> np.ndarray:
        """Decode ``touched``: a structured array of dtype ``TOUCHED``."""
        return np.frombuffer(base64.b64decode(self.touched), dtype=TOUCHED)

    def freed_contents(self) -> list[bytes]:
        """Decode ``freed``."""
        whole = base64.b64decode(self.freed)
        return [whole[at : at + HASH_BYTES] for at in range(0, len(whole), HASH_BYTES)]

    def confirmed_keys(self) -> npt.NDArray[np.uint8]:
        """Decode ``confirmed``: ``(n, 16) uint8``."""
        return np.frombuffer(base64.b64decode(self.confirmed), dtype=np.uint8).reshape(-1, HASH_BYTES)

    def ambiguous_routes(self) -> list[int]:
        """Decode ``ambiguous``, each route once."""
        routes: list[int] = np.unique(np.frombuffer(base64.b64decode(self.ambiguous), dtype="<i8")).tolist()
        return routes


def build_part(
    changes: pa.Table,
    job: BuildJob,
    *,
    shard: int = 0,
    routes: npt.NDArray[np.int64] | None = None,
    progress: Progress | None = None,
) -> PartResult:
    """Index one part of a batch and upload what came of it.

    ``changes`` holds the spec's source columns, the contract's columns, ``_row_hash`` (binary) and ``_bad_text``
    (bool), and every change of the keys in it. With ``routes``, ``(n_changes,)``, by which the keys can be found again,
    a part that has ambiguous keys is not built but names theirs. Raises :class:`indexer.errors.IndexerError`.
    """
    net = net_changes(changes, job.spec, job.dim)
    touched = _touched(changes, net)
    found = look_up(touched, _concerned(changes, job), job.store, job.cache, epoch=job.epoch)
    if len(found) and shard in job.packs:
        found = found.less(decode(job.store.read(job.packs[shard])))
    if routes is not None:
        doubted = routes[ambiguous(changes, net, touched, found, job.aside)]
        if len(doubted):
            return PartResult(ambiguous=_coded(np.unique(doubted).astype("<i8")))
    over = overtakes(touched, found)
    contents = column_hashes(changes[ROW_HASH].take(pa.array(net.upserts)))
    renewed = touched["upsert"][found.at] & over
    same = np.zeros(len(found), dtype=bool)
    same[renewed] = same_rows(found.where(renewed), contents, job.store, job.cache)
    stale = touched["upsert"][found.at] & ~over
    gone = found.where(over & ~same)
    touched["removed"][gone.at] = ~touched["upsert"][gone.at]
    wanted = np.ones(len(net.upserts), dtype=bool)
    wanted[found.at[same | stale]] = False
    earlier = look_up(touched, readable(job.donors, job.store, job.cache), job.store, job.cache) if job.donors else gone
    written = _write_segments(changes, net, wanted, earlier, job, shard, progress)
    letters = letters_of(changes, net, job.spec)
    touched = touched[np.concatenate([wanted, np.ones(len(net.deletes), dtype=bool)])]
    removed = int(np.count_nonzero(touched["removed"]))
    return PartResult(
        segments=written.segments,
        superseded=packed(tombstones_of(gone)),
        touched="" if job.replaces and not job.live else _coded(touched),
        matched=packed(_first_chunks(found)) if job.replaces else "",
        freed=base64.b64encode(b"".join(net.freed)).decode(),
        confirmed=_coded(_with_letters(net.hashes[net.upserts[np.unique(found.at[same])]], job)),
        replaced=len(gone) - removed,
        removed=removed,
        letters=write_letters(letters, job.store),
        letter_count=len(letters),
        ledger=Ledger(
            read=len(changes),
            upserted=int(np.count_nonzero(wanted)),
            deleted=int(np.count_nonzero(~net.bad)),
            unchanged=int(np.count_nonzero(same)),
            set_aside=len(letters),
            embedded=written.embedded,
        ),
        dim=written.dim,
    )


def _concerned(changes: pa.Table, job: BuildJob) -> tuple[SegmentRecord, ...]:
    """Return the live segments that may have rows of the keys in ``changes``: those of their tenants."""
    if job.spec.tenant is None:
        return job.live
    _, tenants = tenants_of(changes[job.spec.tenant], job.spec.tenant)
    return segments_of(tenants, job.live)


def _touched(changes: pa.Table, net: NetChanges) -> np.ndarray:
    """All net keys with their version, upserts first."""
    at = np.concatenate([net.upserts, net.deletes])
    touched = np.zeros(len(at), dtype=TOUCHED)
    touched["hash"] = net.hashes[at]
    touched["version"] = changes[VERSION].to_numpy()[at]
    touched["upsert"][: len(net.upserts)] = True
    touched["bad"][len(net.upserts) :] = net.bad
    return touched


def _coded(values: np.ndarray) -> str:
    return base64.b64encode(values.tobytes()).decode()


def _with_letters(hashes: npt.NDArray[np.uint8], job: BuildJob) -> npt.NDArray[np.uint8]:
    """Return those of the key hashes that letters are about."""
    return hashes[[key.tobytes() in job.aside for key in hashes] if job.aside else slice(0)]


def _first_chunks(found: Found) -> Tombstones:
    return {record.number: BitMap(found.entries["position"][at]) for record, at in found.by_segment()}


def packed(positions: Tombstones) -> str:
    """Return chunk positions as a pack in base64; nothing for none."""
    return base64.b64encode(encode(positions)).decode() if positions else ""


def _unpacked(text: str) -> Tombstones:
    return decode(base64.b64decode(text)) if text else {}


@dataclass(frozen=True, kw_only=True)
class _Written:
    segments: tuple[SegmentRecord, ...] = ()
    dim: int | None = None
    embedded: int = 0


def _write_segments(
    changes: pa.Table,
    net: NetChanges,
    wanted: npt.NDArray[np.bool_],
    earlier: Found,
    job: BuildJob,
    shard: int,
    progress: Progress | None,
) -> _Written:
    """Write the ``wanted`` upserts; of ``earlier`` rows under their keys, vectors of the same text are kept."""
    places = np.flatnonzero(wanted)
    if not len(places):
        return _Written(dim=job.dim)
    places, firsts = _by_tenant(changes, net, places, job.spec)
    at = net.upserts[places]
    rows = changes.take(pa.array(at))
    vector_column = job.spec.vector.column
    if vector_column is not None and not job.dim:
        raise BuildError(
            f"{job.spec.name}: no row has a vector yet, so their width is unknown; give it as vector.dim in the spec"
        )
    embedder = _embedder(job.spec) if vector_column is None else None
    chunked = chunking.chunk_rows(rows, job.spec, embedder)
    chunks = _chunk_table(rows, net.hashes[at], chunked, job.spec)
    if embedder:
        touched_at = places[chunked["_row"].to_numpy()]
        vectors, embedded = _embed(chunked, chunks, touched_at, earlier, embedder, job, firsts, progress)
        # A model may find nothing to say of a text (no word that it knows): then there is no direction to search in.
        has_vector = pa.array(vectors.any(axis=1))
    else:
        vectors, embedded = _source_vectors(rows, job), 0
        has_vector = pc.is_valid(rows[vector_column])
    chunks = chunks.append_column("_embedded", has_vector)
    if job.spec.vector.metric == "cosine":
        vectors = normalised(vectors)
    if progress:
        progress("building", 0, len(chunks))
    segments = []
    for start, stop in cuts(chunks["_row"].to_numpy(), firsts):
        own = chunks.slice(start, stop - start)
        queries = _queries(chunked["embed_text"].slice(start, stop - start), own, embedder, job.spec)
        segments.append(_write_segment(own, vectors[start:stop], job, shard, queries))
    if progress:
        progress("building", len(chunks), len(chunks))
    return _Written(segments=tuple(segments), dim=vectors.shape[1], embedded=embedded)


def _by_tenant(
    changes: pa.Table, net: NetChanges, places: npt.NDArray[np.int64], spec: CollectionSpec
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the ``places`` of upserts tenant by tenant, and which of them is each tenant's first."""
    if spec.tenant is None:
        return places, np.zeros(1, dtype=np.int64)
    tenants, _ = tenants_of(changes[spec.tenant].take(pa.array(net.upserts[places])), spec.tenant)
    order = np.argsort(tenants, kind="stable")
    return places[order], np.unique(tenants[order], return_index=True)[1]


def _chunk_table(rows: pa.Table, keys: npt.NDArray[np.uint8], chunked: pa.Table, spec: CollectionSpec) -> pa.Table:
    """Join the chunks with their rows' columns into the segment format's chunk table, less ``_embedded``."""
    at = chunked["_row"]
    columns = {name: chunked[name] for name in chunked.column_names if name != "embed_text"}
    columns["_key"] = hash_column(keys).take(at.combine_chunks())
    for name in spec.stored_columns:
        columns[f"column.{name}"] = _in_utc(rows[name]).take(at)
    columns["_version"] = rows[VERSION].take(at)
    columns["_committed_at"] = rows[COMMITTED_AT].take(at)
    columns["_row_hash"] = rows[ROW_HASH].cast(pa.binary(16)).take(at)
    texts = chunked["embed_text"].to_pylist()
    hashes = [hashlib.blake2b(text.encode(), digest_size=16).digest() for text in texts]
    columns["_hash"] = pa.array(hashes, pa.binary(16))
    return pa.table(columns)


def _in_utc(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """The same instants, labelled UTC: a session's time zone must not make two segments differ in type."""
    if pa.types.is_timestamp(column.type) and column.type.tz not in (None, "UTC"):
        return column.cast(pa.timestamp(column.type.unit, tz="UTC"))
    return column


def _embedder(spec: CollectionSpec) -> Embedder:
    # Texts of several tenants are embedded together, so those must not show in a vector.
    return load_embedder(
        spec.vector, device="cpu" if spec.index.device == "cpu" else "auto", halves=spec.isolation is None
    )


def _embed(
    chunked: pa.Table,
    chunks: pa.Table,
    touched_at: npt.NDArray[np.int64],
    earlier: Found,
    embedder: Embedder,
    job: BuildJob,
    firsts: npt.NDArray[np.int64],
    progress: Progress | None,
) -> tuple[npt.NDArray[np.float32], int]:
    """Return all chunks' vectors, and how many had to be embedded: those that say something and are not known.

    Chunks are embedded together from each of the rows ``firsts`` to the next: what a text is embedded with changes the
    last digits of its vector, and no tenant's texts may change another's.
    """
    texts = chunked["embed_text"].to_pylist()
    hashes = column_hashes(chunks["_hash"])
    known, vectors = known_vectors(earlier, touched_at, hashes, embedder.dim, job.store, job.cache)
    new = np.flatnonzero(~known & np.fromiter((bool(text) for text in texts), dtype=bool, count=len(texts)))
    done = 0
    for own in np.split(new, np.searchsorted(new, np.searchsorted(chunked["_row"].to_numpy(), firsts[1:]))):
        by_size = own[np.argsort([-len(texts[i]) for i in own], kind="stable")]  # the like-sized together: less padding
        for start in range(0, len(own), embedder.step):
            if progress:
                progress("embedding", done + start, len(new))
            at = by_size[start : start + embedder.step]
            vectors[at] = embedder.documents([texts[i] for i in at])
        done += len(own)
    if progress:
        progress("embedding", len(new), len(new))
    return vectors, len(new)


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


def cuts(row_of_chunk: npt.NDArray[np.uint32], firsts: npt.ArrayLike = (0,)) -> list[tuple[int, int]]:
    """Cut the chunks into segments of at most ``MAX_CHUNKS_PER_SEGMENT``, never inside a row.

    Each of the rows ``firsts``, ascending from 0, begins a segment.
    """
    cuts = []
    begins = np.searchsorted(row_of_chunk, np.asarray(firsts, dtype=np.uint32)).tolist()
    for start, end in pairwise([*begins, len(row_of_chunk)]):
        while start < end:
            stop = min(start + MAX_CHUNKS_PER_SEGMENT, end)
            if stop < end:
                stop = int(np.searchsorted(row_of_chunk, row_of_chunk[stop]))
            if stop == start:
                raise BuildError(
                    f"one row has more than {MAX_CHUNKS_PER_SEGMENT} chunks; set text.chunk.max_tokens higher"
                )
            cuts.append((start, stop))
            start = stop
    return cuts


def _queries(
    texts: pa.ChunkedArray, chunks: pa.Table, embedder: Embedder | None, spec: CollectionSpec
) -> npt.NDArray[np.float32] | None:
    """Embed the beginnings of some of a segment's chunks, spread over all, as queries: people ask a few words.

    None where nothing embeds, or where there will be no index to ask.
    """
    if embedder is None or index_kind(pc.sum(chunks["_embedded"]).as_py() or 0, spec.index) == "exact":
        return None
    at = np.unique(np.linspace(0, len(texts) - 1, QUERIES).astype(np.int64))
    beginnings = (" ".join(text.split()[:QUERY_WORDS]) for text in texts.take(pa.array(at)).to_pylist())
    asked = [text for text in beginnings if text]
    if not asked:
        return None
    vectors = embedder.queries(asked)
    return normalised(vectors) if spec.vector.metric == "cosine" else vectors


def _write_segment(
    chunks: pa.Table,
    vectors: npt.NDArray[np.float32],
    job: BuildJob,
    shard: int,
    queries: npt.NDArray[np.float32] | None,
) -> SegmentRecord:
    ordinal = chunks["_row"].to_numpy()
    if ordinal[0]:
        at = chunks.column_names.index("_row")
        chunks = chunks.set_column(at, "_row", pa.array(ordinal - ordinal[0]))
    number = new_segment_number()
    return publish_segment(
        job.store, chunks, vectors, job.spec, number=number, shard=shard, epoch=job.epoch, queries=queries
    )


def merge_results(results: list[PartResult]) -> PartResult:
    """Sum the parts of one batch, in any order."""

    def joined(texts: Iterable[str]) -> str:
        return base64.b64encode(b"".join(base64.b64decode(text) for text in texts)).decode()

    return PartResult(
        segments=tuple(segment for result in results for segment in result.segments),
        superseded=packed(merge(*(result.tombstones() for result in results))),
        touched=joined(result.touched for result in results),
        matched=packed(merge(*(result.matches() for result in results))),
        freed=joined(result.freed for result in results),
        confirmed=joined(result.confirmed for result in results),
        ambiguous=joined(result.ambiguous for result in results),
        replaced=sum(result.replaced for result in results),
        removed=sum(result.removed for result in results),
        letters=tuple(letter for result in results for letter in result.letters),
        letter_count=sum(result.letter_count for result in results),
        ledger=sum((result.ledger for result in results), Ledger()),
        dim=next((result.dim for result in results if result.segments), None),
    )
