"""The server's clock: strictly increasing, so that no reading and no commit ever share a moment."""

from __future__ import annotations

import threading
import time


class Clock:
    """Microseconds since the epoch (UTC), and a hand to move them on.

    Strictly increasing readings make tests exact: what was committed before a reading of ``CURRENT_TIMESTAMP()`` has an
    earlier time than it, what is committed after it a later one.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ahead_us = 0
        self._last_us = 0

    def now_us(self) -> int:
        """Return a moment later than every one returned before."""
        with self._lock:
            self._last_us = max(self._last_us + 1, time.time_ns() // 1000 + self._ahead_us)
            return self._last_us

    def advance(self, seconds: float) -> None:
        """Move the clock on, as if that time had passed."""
        with self._lock:
            self._ahead_us += int(seconds * 1_000_000)
