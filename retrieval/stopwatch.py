"""How long each stage of a search took."""

from __future__ import annotations

import time


class Stopwatch:
    """Milliseconds by stage: each :meth:`lap` names what ended now."""

    def __init__(self) -> None:
        self._started = self._last = time.perf_counter()
        self.laps: dict[str, float] = {}

    def lap(self, stage: str) -> None:
        """Put the time since the last lap under ``stage``."""
        now = time.perf_counter()
        self.laps[stage] = (now - self._last) * 1000
        self._last = now

    def total(self) -> dict[str, float]:
        """Return the laps and their ``total``."""
        return {**self.laps, "total": (self._last - self._started) * 1000}
