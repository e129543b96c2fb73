"""A collection's state in a few numbers, from its catalog alone."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from api.freshness import age_seconds, known_complete_at
from indexer.catalog import Catalog

COLUMNS = ("collection", "version", "source", "rows", "chunks", "segments", "MiB", "set aside", "age")


@dataclass(frozen=True, kw_only=True)
class Status:
    """``rows`` counts rows written, those replaced since included, until merging removes them; ``chunks`` is exact.

    ``age_seconds`` is None before the first load.
    """

    name: str
    version: int
    epoch: str | None
    source_version: int | None
    rows: int
    chunks: int
    segments: int
    size_bytes: int
    dead_letters: int
    rebuild_pending: bool
    age_seconds: float | None

    def as_json(self) -> dict[str, Any]:
        """Return the fields by name."""
        return dict(vars(self))

    def as_row(self) -> tuple[object, ...]:
        """Return the cells under :data:`COLUMNS`."""
        age = "not loaded" if self.age_seconds is None else age_words(self.age_seconds)
        size = f"{self.size_bytes / 2**20:.1f}"
        return (
            *(self.name, self.version, self.source_version, self.rows, self.chunks, self.segments),
            *(size, self.dead_letters, f"{age}, rebuild pending" if self.rebuild_pending else age),
        )


def status_of(catalog: Catalog, *, now: datetime | None = None) -> Status:
    """Return the status of the newest version, its age as the server gives it."""
    state = catalog.read()
    complete_at = known_complete_at(state.position, state.source_committed_at, catalog.read_heartbeat())
    return Status(
        name=state.spec.name,
        version=state.version,
        epoch=state.position.epoch if state.position else None,
        source_version=state.position.version if state.position else None,
        rows=sum(segment.n_rows for segment in state.segments),
        chunks=state.n_chunks,
        segments=len(state.segments),
        size_bytes=sum(segment.size_bytes for segment in state.segments),
        dead_letters=state.letter_count,
        rebuild_pending=state.pending is not None,
        age_seconds=age_seconds(complete_at, now or datetime.now(UTC)),
    )


def age_words(seconds: float) -> str:
    """Return ``seconds`` in the largest unit that fits.

    >>> [age_words(seconds) for seconds in (0.25, 90, 7200, 200_000)]
    ['0.2 s', '1.5 min', '2.0 h', '2.3 days']
    """
    for size, unit in ((86_400, "days"), (3_600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} s"
