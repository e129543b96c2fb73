"""What the catalog says of each file: frozen records, written as JSON.

A *segment* is a set of immutable files in one folder of the store. While it is small, its files lie in one tar
(``packed``), because a store charges by the object.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, SerializerFunctionWrapHandler, model_serializer

FORMAT_VERSION = 1
SEGMENT_NUMBER_BITS = 40
POSITION_BITS = 24
MAX_CHUNKS_PER_SEGMENT = 1_000_000

IndexKind = Literal["exact", "ivf", "hnsw"]


class Record(BaseModel):
    """Base of every record: immutable, and strict about unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class FileRecord(Record):
    """One immutable file: its path (relative to the collection's root), size and SHA-256 (hex)."""

    path: str
    size_bytes: int
    sha256: str


class IndexRecord(Record):
    """Which vector index a segment carries, why, and what it was built with."""

    kind: IndexKind
    reason: str
    parameters: dict[str, int | float | str] = {}
    device: Literal["cpu", "gpu"] = "cpu"

    @model_serializer(mode="wrap")
    def _written(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out the device where it is the CPU: such records are written as they always were."""
        written: dict[str, Any] = write(self)
        return {name: value for name, value in written.items() if (name, value) != ("device", "cpu")}


class SegmentRecord(Record):
    """One live segment.

    ``number`` is a random 40-bit integer, unique in the collection; the keyword documents carry
    ``number << 24 | position`` in their fast field ``row``. ``n_embedded`` of the ``n_chunks`` chunks have a vector.
    ``epoch`` is that of its rows' versions: versions of another source table cannot be compared with them. ``tenant``
    is the hash (hex) of the tenant whose rows alone it holds, where the spec keeps tenants apart.
    """

    number: int
    shard: int
    packed: bool
    files: tuple[FileRecord, ...]
    n_rows: int
    n_chunks: int
    n_embedded: int
    dim: int
    fingerprint: str
    epoch: str | None = None
    tenant: str | None = None
    index: IndexRecord
    format_version: int = FORMAT_VERSION
    created_at: datetime

    @property
    def size_bytes(self) -> int:
        """Bytes of all files together."""
        return sum(file.size_bytes for file in self.files)

    @model_serializer(mode="wrap")
    def _written(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out the tenant where there is none: such records are written as they always were."""
        written: dict[str, Any] = write(self)
        return {name: value for name, value in written.items() if (name, value) != ("tenant", None)}


class Ledger(Record):
    """What one commit did, in rows of the source; ``embedded`` counts the chunks that went through the model."""

    read: int = 0
    upserted: int = 0
    deleted: int = 0
    unchanged: int = 0
    set_aside: int = 0
    embedded: int = 0

    def __add__(self, other: Ledger) -> Ledger:
        return Ledger(**{name: getattr(self, name) + getattr(other, name) for name in Ledger.model_fields})


def keyword_row(number: int, position: int) -> int:
    """Return the fast-field value that names chunk ``position`` of segment ``number``.

    >>> keyword_row(3, 5) >> 24, keyword_row(3, 5) & 0xFFFFFF
    (3, 5)
    """
    return (number << POSITION_BITS) | position
