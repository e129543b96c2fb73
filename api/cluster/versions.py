"""Which versions a node has open, as it tells routers."""

from __future__ import annotations

from datetime import datetime

import pyarrow as pa
from pydantic import BaseModel, ConfigDict

from retrieval.snapshot import Snapshot


class HeldVersion(BaseModel):
    """One version: its number, and the stored columns of the segments that the node holds of it.

    ``schema_bytes`` is theirs (:func:`pyarrow.Schema.serialize`), ``written_at`` when the segment was written that each
    has its type from.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_bytes="base64", val_json_bytes="base64")

    version: int
    schema_bytes: bytes
    written_at: tuple[datetime, ...]

    @classmethod
    def of(cls, snapshot: Snapshot) -> HeldVersion:
        """Return what routers are told of ``snapshot``."""
        _, written_at = snapshot.own_columns
        return cls(version=snapshot.version, schema_bytes=snapshot.own_columns_bytes, written_at=tuple(written_at))

    @property
    def arrow_schema(self) -> pa.Schema:
        """The columns."""
        return pa.ipc.read_schema(pa.py_buffer(self.schema_bytes))


class Served(BaseModel):
    """Which versions of each collection a router has open: its nodes are to keep them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    collections: dict[str, tuple[int, ...]]


class HeldVersions(BaseModel):
    """All that a node has open, by collection, of its share."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    share: str
    collections: dict[str, list[HeldVersion]]
