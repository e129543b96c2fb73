"""Small real collections with known rows, and a naive search over the same rows to compare with."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyroaring import BitMap

from indexer.catalog import Catalog, SourcePosition
from indexer.format import tombstones
from indexer.format.keys import key_hashes
from indexer.format.records import FileRecord, SegmentRecord
from indexer.format.segment import publish_segment
from indexer.format.store import Store
from indexer.spec import CollectionSpec
from retrieval.cache import LocalCache
from retrieval.share import Share
from retrieval.snapshot import Snapshot, open_snapshot

COMMITTED_AT = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
SCHEMA = pa.schema(
    [
        ("id", pa.int64()),
        ("lang", pa.string()),
        ("colour", pa.string()),
        ("size", pa.int32()),
        ("price", pa.float64()),
        ("day", pa.date32()),
        ("at", pa.timestamp("us", "UTC")),
        ("local", pa.timestamp("us")),
        ("amount", pa.decimal128(10, 2)),
        ("tags", pa.list_(pa.string())),
    ]
)
DIM = 8
Vector = npt.NDArray[np.float32]


def unit(*values: float) -> Vector:
    """Return ``values``, filled up with zeros to ``DIM``, at unit length."""
    vector = np.zeros(DIM, dtype=np.float32)
    vector[: len(values)] = values
    return vector / np.float32(np.linalg.norm(vector))


@dataclass(frozen=True, kw_only=True)
class Doc:
    """A row: ``bodies`` are the portions of its body, one per chunk; a vector that is None is not embedded."""

    id: int
    bodies: tuple[str, ...] = ("",)
    vectors: tuple[Vector | None, ...] = (None,)
    title: str | None = None
    lang: str = "en"
    colour: str | None = "red"
    size: int | None = 0
    price: float | None = None
    at: datetime | None = None
    amount: Decimal | None = None
    tags: tuple[str, ...] | None = None

    @property
    def day(self) -> date | None:
        return self.at and self.at.date()

    @property
    def local(self) -> datetime | None:
        return self.at and self.at.replace(tzinfo=None)


def spec_of(**changed: Any) -> CollectionSpec:
    values: dict[str, Any] = {
        "name": "docs",
        "source": {"table": "/nowhere"},
        "key": ["id"],
        "text": {"fields": {"title": 2.0, "body": 1.0}, "language": "english"},
        "vector": {"column": "embedding", "dim": DIM},
        "columns": ["lang", "colour", "size"],
    }
    return CollectionSpec.model_validate(values | changed)


def chunk_table(docs: Sequence[Doc], spec: CollectionSpec) -> tuple[pa.Table, Vector]:
    """Return the docs' chunks and vectors in the form of :mod:`indexer.format.segment`."""
    chunks: list[dict[str, Any]] = []
    vectors = []
    for row, doc in enumerate(docs):
        key = pa.table({name: pa.array([getattr(doc, name)], SCHEMA.field(name).type) for name in spec.key})
        key_hash = bytes(key_hashes(key, spec.key)[0])
        start = 0
        for number, (body, vector) in enumerate(zip(doc.bodies, doc.vectors, strict=True)):
            digest = hashlib.blake2b(body.encode(), digest_size=16).digest()
            columns = {f"column.{name}": getattr(doc, name) for name in spec.stored_columns}
            title = doc.title if number == 0 else None
            chunks.append(
                {
                    "_row": row,
                    "_chunk": number,
                    "_key": key_hash,
                    **columns,
                    "text.title": title,
                    "start.title": None if title is None else 0,
                    "text.body": body,
                    "start.body": start,
                    "_version": 7,
                    "_committed_at": COMMITTED_AT,
                    "_hash": digest,
                    "_row_hash": digest,
                    "_embedded": vector is not None,
                }
            )
            start += len(body)
            vectors.append(np.zeros(DIM, dtype=np.float32) if vector is None else vector)
    fields = [
        pa.field("_row", pa.uint32()),
        pa.field("_chunk", pa.uint32()),
        pa.field("_key", pa.binary(16)),
        *(pa.field(f"column.{name}", SCHEMA.field(name).type) for name in spec.stored_columns),
        *(pa.field(f"text.{name}", pa.string()) for name in ("title",)),
        pa.field("start.title", pa.int64()),
        pa.field("text.body", pa.string()),
        pa.field("start.body", pa.int64()),
        pa.field("_version", pa.int64()),
        pa.field("_committed_at", pa.timestamp("us", "UTC")),
        pa.field("_hash", pa.binary(16)),
        pa.field("_row_hash", pa.binary(16)),
        pa.field("_embedded", pa.bool_()),
    ]
    return pa.Table.from_pylist(chunks, schema=pa.schema(fields)), np.stack(vectors).astype(np.float32)


@dataclass
class Library:
    """A collection on disk; each call of :meth:`add` and :meth:`remove` is one catalog commit."""

    root: Path
    spec: CollectionSpec = field(default_factory=spec_of)
    next_number: int = 1
    places: dict[int, tuple[int, range]] = field(default_factory=dict)
    gone: tombstones.Tombstones = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.catalog = Catalog.create(Store.at(str(self.root / "store")), self.spec)
        self.cache = LocalCache(self.root / "cache")

    def add(self, *docs: Doc, shard: int = 0) -> SegmentRecord:
        """Commit one segment with ``docs``."""
        table, vectors = chunk_table(docs, self.spec)
        number, self.next_number = self.next_number, self.next_number + 1
        record = publish_segment(self.catalog.store, table, vectors, self.spec, number=number, shard=shard)
        start = 0
        for doc in docs:
            self.places[doc.id] = (number, range(start, start + len(doc.bodies)))
            start += len(doc.bodies)
        self._commit(add=(record,))
        return record

    def remove(self, *ids: int) -> None:
        """Commit tombstones for the docs with these ids."""
        for key in ids:
            number, chunks = self.places.pop(key)
            self.gone.setdefault(number, BitMap()).update(chunks)
        self._commit()

    def drop(self, *numbers: int) -> None:
        """Commit that the segments with these numbers are gone, as after a merge."""
        self._commit(drop=numbers)

    def open(self, previous: Snapshot | None = None, *, share: Share | None = None) -> Snapshot:
        """Open the newest version, or a share of it."""
        return open_snapshot(self.catalog, self.cache, previous, share=share)

    def _commit(self, add: tuple[SegmentRecord, ...] = (), drop: tuple[int, ...] = ()) -> None:
        seen = self.catalog.read()
        position = SourcePosition(epoch="table", version=seen.version + 1)
        packs: dict[int, FileRecord] = {}
        if self.gone:
            pack = self.catalog.store.put_record(f"tombstones/{seen.version:032x}.pack", tombstones.encode(self.gone))
            packs = dict.fromkeys(range(self.spec.shards), pack)
        new = seen.model_copy(
            update={
                "dim": DIM,
                "position": position,
                "source_committed_at": COMMITTED_AT,
                "segments": (*(record for record in seen.segments if record.number not in drop), *add),
                "deleted": {number: len(bitmap) for number, bitmap in self.gone.items()},
                "packs": packs,
                "operation": "sync",
            }
        )
        self.catalog.commit(seen, new, batch_end=position)


Passes = Callable[[Doc], bool]


def nearest(docs: Sequence[Doc], query: Vector, k: int, passes: Passes = lambda doc: True) -> list[int]:
    """Return the ids of the ``k`` nearest docs, ties by id."""
    scored = [
        (-max(float(np.float32(vector @ query)) for vector in doc.vectors if vector is not None), doc.id)
        for doc in docs
        if passes(doc) and any(vector is not None for vector in doc.vectors)
    ]
    return [key for _, key in sorted(scored)][:k]
