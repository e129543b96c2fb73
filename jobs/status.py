"""A collection's state as the command shows it, from its catalog alone."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from api.attention import duration, failed_ago, held_answer, retention_used, standing_failure, warnings_of
from api.freshness import age_seconds, known_complete_at
from api.models.answers import HeldAnswer
from indexer.catalog import Catalog, SyncFailure
from indexer.format.records import IndexKind, SegmentRecord
from indexer.letters import read_letters

COLUMNS = ("collection", "version", "source", "rows", "chunks", "segments", "MiB", "set aside", "reads", "age")
COUNTS = ("segments", "chunks", "MiB")
"""What is left out on a narrow terminal, from the first on."""
INDEX_COLUMNS = ("segment", "chunks", "index", "built on", "recall@10", "why")
LETTER_COLUMNS = ("key", "reason", "source version", "row")
ROW_CHARS = 80


@dataclass(frozen=True, kw_only=True)
class Letter:
    """A row that was set aside: its ``key`` and ``row`` as JSON, and the source ``version`` that it came with."""

    key: str
    reason: str
    version: int
    row: str

    def as_json(self) -> dict[str, Any]:
        """Return the fields by name, the key as a list and the row as an object."""
        return {**vars(self), "key": json.loads(self.key), "row": json.loads(self.row)}

    def as_row(self) -> tuple[object, ...]:
        """Return the cells under :data:`LETTER_COLUMNS`."""
        row = self.row if len(self.row) <= ROW_CHARS else f"{self.row[:ROW_CHARS]} ..."
        return self.key, self.reason, self.version, row


@dataclass(frozen=True, kw_only=True)
class BuiltIndex:
    """The index of one segment that has one: where it was built, why so, and the recall that its gate measured."""

    segment: str
    chunks: int
    kind: IndexKind
    device: Literal["cpu", "gpu"]
    recall_at_10: float | None
    reason: str

    def as_row(self) -> tuple[object, ...]:
        """Return the cells under :data:`INDEX_COLUMNS`."""
        return self.segment, self.chunks, self.kind, self.device.upper(), self.recall_at_10, self.reason


@dataclass(frozen=True, kw_only=True)
class Status:
    """The newest version's state; ``rows`` and ``chunks`` count what can be found.

    ``age_seconds`` is None before the first load; ``reads`` (how syncs follow the source) and ``retention_seconds``
    are so until one found nothing newer. ``tenants`` counts those that are kept apart, None where none are.
    ``retention_used`` is a share of 1. ``sync_failure`` is how the last sync failed, if it did and nothing was read
    since. ``warnings`` are sentences. ``indexes`` are those of the segments that are not scanned exactly, the largest
    first.
    """

    name: str
    version: int
    epoch: str | None
    source_version: int | None
    rows: int
    chunks: int
    segments: int
    tenants: int | None
    size_bytes: int
    dead_letters: int
    rebuild_pending: bool
    age_seconds: float | None
    reads: Literal["changes", "snapshots"] | None
    retention_seconds: float | None
    retention_used: float | None
    held: HeldAnswer | None
    sync_failure: SyncFailure | None
    warnings: list[str]
    indexes: list[BuiltIndex]

    def as_json(self) -> dict[str, Any]:
        """Return the fields by name."""
        held, failure, indexes = self.held, self.sync_failure, self.indexes
        return {
            **vars(self),
            "held": held.model_dump() if held else None,
            "sync_failure": failure.model_dump() if failure else None,
            "indexes": [vars(each) for each in indexes],
        }

    def as_row(self) -> tuple[object, ...]:
        """Return the cells under :data:`COLUMNS`."""
        age = ["not loaded" if self.age_seconds is None else duration(self.age_seconds)]
        age += ["rebuild pending"] if self.rebuild_pending else []
        age += ["held"] if self.held else ["failed"] if self.sync_failure else []
        return (
            *(self.name, self.version, self.source_version, self.rows, self.chunks, self.segments),
            *(f"{self.size_bytes / 2**20:.1f}", self.dead_letters, self.reads, ", ".join(age)),
        )


def status_of(catalog: Catalog, *, now: datetime | None = None) -> Status:
    """Return the status of the newest version, its age and warnings as the server gives them."""
    now = now or datetime.now(UTC)
    state, heartbeat = catalog.read(), catalog.read_heartbeat()
    complete_at = known_complete_at(state.position, state.source_committed_at, heartbeat)
    failure = standing_failure(state, heartbeat, catalog.read_failure())
    warnings = warnings_of(state, heartbeat, None, now)
    if failure:
        warnings.insert(0, f"{failed_ago(state, failure, now)}: {failure.error}")
    return Status(
        name=state.spec.name,
        version=state.version,
        epoch=state.position.epoch if state.position else None,
        source_version=state.position.version if state.position else None,
        rows=state.live_rows,
        chunks=state.n_chunks,
        segments=len(state.segments),
        tenants=state.n_tenants,
        size_bytes=sum(segment.size_bytes for segment in state.segments),
        dead_letters=state.letter_count,
        rebuild_pending=state.pending is not None,
        age_seconds=age_seconds(complete_at, now),
        reads=heartbeat.reads if heartbeat else None,
        retention_seconds=heartbeat.retention_seconds if heartbeat else None,
        retention_used=retention_used(state, heartbeat, now),
        held=held_answer(state),
        sync_failure=failure,
        warnings=warnings,
        indexes=_indexes(state.segments),
    )


def _indexes(segments: Iterable[SegmentRecord]) -> list[BuiltIndex]:
    built = [segment for segment in segments if segment.index.kind != "exact"]
    return [
        BuiltIndex(
            segment=f"{segment.number:010x}",
            chunks=segment.n_chunks,
            kind=segment.index.kind,
            device=segment.index.device,
            recall_at_10=recall if isinstance(recall := segment.index.parameters.get("recall_at_10"), float) else None,
            reason=segment.index.reason,
        )
        for segment in sorted(built, key=lambda segment: (-segment.n_chunks, segment.number))
    ]


def letters_of(catalog: Catalog, limit: int) -> list[Letter]:
    """Return the first ``limit`` dead letters of the newest version, by key."""
    letters = read_letters(catalog.read().letters, catalog.store).select(["key", "reason", "version", "row"])
    ordered = letters.sort_by([("key", "ascending"), ("version", "ascending"), ("row", "ascending")])
    return [Letter(**letter) for letter in ordered.slice(0, limit).to_pylist()]
