"""How fresh an answer is, and whether that is fresh enough for its caller: pure functions of positions and times."""

from __future__ import annotations

from datetime import datetime

from api.models.requests import MinVersion
from indexer.catalog import Heartbeat, SourcePosition


def known_complete_at(
    position: SourcePosition | None, committed_at: datetime | None, heartbeat: Heartbeat | None
) -> datetime | None:
    """Return the latest time at which the index at ``position`` is known to have held all that the source had.

    That is when the source committed ``position`` or, if a sync has since looked and found nothing newer, when it
    looked: a heartbeat counts when it is of the same epoch and of no later version. None before the first load.
    """
    if position is None or committed_at is None:
        return None
    if heartbeat is not None and heartbeat.epoch == position.epoch and heartbeat.version <= position.version:
        return max(committed_at, heartbeat.checked_at)
    return committed_at


def age_seconds(complete_at: datetime | None, now: datetime) -> float | None:
    """Return the seconds since ``complete_at``, at least 0: two machines' clocks differ by a little."""
    return None if complete_at is None else max(0.0, (now - complete_at).total_seconds())


def reaches(position: SourcePosition | None, wanted: MinVersion | None) -> bool:
    """Return whether ``position`` is at ``wanted`` or past it; another epoch's versions do not compare."""
    if wanted is None:
        return True
    if position is None or (wanted.epoch is not None and wanted.epoch != position.epoch):
        return False
    return position.version >= wanted.version
