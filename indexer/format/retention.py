"""Which versions of the catalog stay, and so which of its files may go.

A version that was the newest at any time within the horizon is kept: each of the most recent ones, and of those
before one an hour.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from indexer.format.store import Entry

DEFAULT_HORIZON = timedelta(days=7)

# At a commit a second seven days are 600,000 versions, and a directory's log is listed whole by every commit: 3 s with
# 100,000 entries, 40 ms with 1,000.
RECENT_VERSIONS = 1_000


@dataclass(frozen=True, kw_only=True)
class Kept:
    """What stays: data from ``data_from`` on, the log from ``log_from`` on, and the ``single`` versions before."""

    data_from: int
    log_from: int
    single: frozenset[int]

    def keeps(self, version: int) -> bool:
        """Whether ``version`` stays readable."""
        return version >= self.data_from or version in self.single


def kept_of(log: list[tuple[int, Entry]], cutoff: datetime, recent: int) -> Kept:
    """Decide what stays of a log, given its files with their versions.

    A version is read from a checkpoint at or before it and the entries between; one that has a checkpoint of its own
    needs no entries, which is why these are the ones that stay singly.
    """
    entries = {version: entry.modified_at for version, entry in log if entry.path.endswith(".json")}
    checkpoints = {version: entry.modified_at for version, entry in log if ".checkpoint" in entry.path}
    expired = [version for version, written in entries.items() if written <= cutoff]
    data_from = max([max(entries, default=0) - recent, *expired])
    log_from = max([version for version in checkpoints if version <= data_from], default=0)
    hourly = {
        written.replace(minute=0, second=0, microsecond=0): version
        for version, written in sorted(checkpoints.items())
        if written > cutoff and version <= log_from
    }
    return Kept(data_from=data_from, log_from=log_from, single=frozenset(hourly.values()))


def version_of(path: str) -> int | None:
    """Return the version that a file of the catalog is named after."""
    digits = path.rsplit("/", 1)[-1][:20]
    return int(digits) if len(digits) == 20 and digits.isdigit() else None
