"""What a person must know of a collection: holds, and changes that the source will not keep much longer."""

from __future__ import annotations

from datetime import datetime

from api.freshness import known_complete_at
from api.models.answers import HeldAnswer
from indexer.catalog import CatalogState, Heartbeat, SyncFailure
from indexer.hold import sentence

WARN_RATIO = 0.5
"""From this share of the source's retention on, a missing sync is worth a warning."""


def held_answer(state: CatalogState) -> HeldAnswer | None:
    """Return why syncs wait; None if they do not."""
    held = state.held
    if held is None:
        return None
    return HeldAnswer(
        kind=held.kind,
        since=held.since,
        epoch=held.end.epoch,
        version=held.end.version,
        deletes=held.deletes,
        rows=held.rows,
    )


def retention_used(state: CatalogState, heartbeat: Heartbeat | None, now: datetime) -> float | None:
    """Return the time since the source was read as a share of that for which it keeps changes.

    From 1 on some may be gone unread. None where nothing was read yet, where the retention is not known, and where
    whole snapshots are compared, which needs none.
    """
    if heartbeat is None or heartbeat.reads == "snapshots" or not heartbeat.retention_seconds:
        return None
    # After a rollback the last look at the source says nothing of what is indexed.
    read_at = known_complete_at(state.position, state.source_committed_at, heartbeat)
    if read_at is None:
        return None
    return max(0.0, (now - read_at).total_seconds()) / heartbeat.retention_seconds


def standing_failure(
    state: CatalogState, heartbeat: Heartbeat | None, failure: SyncFailure | None
) -> SyncFailure | None:
    """Return ``failure`` unless a later sync read something or found nothing newer, or is held."""
    if failure is None or failure.position != state.position or state.held:
        return None
    return None if heartbeat and heartbeat.checked_at > failure.at else failure


def failed_ago(state: CatalogState, failure: SyncFailure, now: datetime) -> str:
    """Return the beginning of a sentence about the sync that failed."""
    return f"{state.spec.name}: the last sync failed {duration((now - failure.at).total_seconds())} ago"


def warnings_of(
    state: CatalogState, heartbeat: Heartbeat | None, failure: SyncFailure | None, now: datetime
) -> list[str]:
    """Return a sentence for each thing that somebody should see to, with what to do; a standing ``failure`` too.

    How a sync failed may name paths and tables, so that is for the command alone, beside the store.
    """
    warnings = [sentence(state, state.held)] if state.held else []
    if failure:
        warnings.append(f"{failed_ago(state, failure, now)}; `grebe status {state.spec.name}` says how")
    used = retention_used(state, heartbeat, now)
    if used is not None and used >= WARN_RATIO and heartbeat and heartbeat.retention_seconds:
        warnings.append(_retention(state.spec.name, used, heartbeat.retention_seconds))
    return warnings


def _retention(name: str, used: float, kept_seconds: float) -> str:
    past, kept = duration(used * kept_seconds), duration(kept_seconds)
    if used >= 1:
        return (
            f"{name}: the source was last read {past} ago and keeps changes for {kept} only, so that some may be gone "
            f"unread; `grebe sync {name}` reads them or, where they are gone, compares the whole table"
        )
    return (
        f"{name}: the source was last read {past} ago and keeps changes for {kept}; run `grebe sync {name}` within "
        f"{duration((1 - used) * kept_seconds)}, after which the whole table may have to be compared"
    )


def duration(seconds: float) -> str:
    """Return ``seconds`` in the largest unit that fits.

    >>> [duration(seconds) for seconds in (0.25, 90, 7200, 200_000)]
    ['0.2 s', '1.5 min', '2.0 h', '2.3 days']
    """
    for size, unit in ((86_400, "days"), (3_600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} s"
