"""Settings of the audit log."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

MAX_CHECKPOINT_SECONDS = 60
DEFAULT_CHECKPOINT_SECONDS = 30.0
"""Half of what is promised, so that a slow disk does not break the promise."""
DEFAULT_ROTATE_BYTES = 64 << 20
"""About 60,000 records, which fit into memory several times over while they become Parquet."""
DEFAULT_ROTATE_SECONDS = 300.0

Durability = Literal["local", "remote"]


class AuditSettings(BaseModel):
    """Where the audit log is written, and how much of it a lost host may take along.

    Without ``folder`` there is none. ``local`` answers a caller when its record is on this machine's disk; a lost
    host loses what was not shipped yet, at most ``rotate_seconds`` of it while the store can be reached. ``remote``
    answers when the record is in the store. ``signing_key`` is a PEM file with an Ed25519 key; without it, one is
    made in ``folder`` at the first start.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    folder: Path | None = None
    durability: Durability = "local"
    signing_key: Path | None = None
    checkpoint_seconds: float = Field(default=DEFAULT_CHECKPOINT_SECONDS, gt=0, le=MAX_CHECKPOINT_SECONDS)
    rotate_bytes: int = Field(default=DEFAULT_ROTATE_BYTES, ge=1 << 10, le=1 << 30)
    rotate_seconds: float = Field(default=DEFAULT_ROTATE_SECONDS, gt=0, le=86_400)

    @model_validator(mode="after")
    def _has_a_local_folder(self) -> Self:
        if self.folder is None and self.model_fields_set:
            raise ValueError("without a 'folder' there is no audit log, and nothing else to set about it")
        if self.folder is not None and ":/" in str(self.folder):
            raise ValueError(f"'folder' is a folder on a local disk, and '{self.folder}' is none")
        return self
