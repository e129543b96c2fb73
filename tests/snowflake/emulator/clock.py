"""The server's clock, in milliseconds: what is read and what is committed never share one."""

from __future__ import annotations

import threading
import time

MS = 1000


class Clock:
    """Moments in microseconds since the epoch (UTC), whole milliseconds all of them, and a hand to move them on.

    Snowflake docs, SQL reference, "AT | BEFORE": "the smallest time resolution for TIMESTAMP is milliseconds". There a
    commit and a reading may fall into the same one; here a commit is later than every reading before it and a reading
    later than every commit, so that tests are exact.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ahead_us = 0
        self._read_us = 0
        self._committed_us = 0

    def now_us(self) -> int:
        """Return the time: later than every commit so far."""
        with self._lock:
            self._read_us = max(self._read_us, self._committed_us + MS, self._real_us())
            return self._read_us

    def commit_us(self) -> int:
        """Return a commit's time: later than every reading and commit so far."""
        with self._lock:
            self._committed_us = max(self._committed_us + MS, self._read_us + MS, self._real_us())
            return self._committed_us

    def advance(self, seconds: float) -> None:
        """Move the clock on, as if that time had passed."""
        with self._lock:
            self._ahead_us += int(seconds * 1_000_000)

    def _real_us(self) -> int:
        return (time.time_ns() // 1000 + self._ahead_us) // MS * MS
