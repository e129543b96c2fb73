"""Quotas: how many requests one caller may make of this server in a while, whatever others do."""

from __future__ import annotations

import math
import time

from limits import RateLimitItem, parse
from limits.storage import MemoryStorage
from limits.strategies import SlidingWindowCounterRateLimiter

from api.problems import QUOTA, Problem


def rate(text: str) -> RateLimitItem:
    """Return the quota that ``text`` names; ValueError says what is wrong with it.

    >>> rate("600/minute")
    600 per 1 minute
    """
    try:
        item = parse(text)
    except ValueError:
        item = None
    if item is None or item.amount < 1:
        raise ValueError(f"'{text}' is no quota: write a number and a time, as in 600/minute or 20/second")
    return item


class Quotas:
    """Counts the requests of each caller; without a quota none is refused.

    The window slides: what was asked in the one before counts by the part of that window that is not over yet.
    """

    def __init__(self, quota: str | None) -> None:
        self._item = rate(quota) if quota else None
        self._limiter = SlidingWindowCounterRateLimiter(MemoryStorage())

    def take_rest(self, caller: str, searches: int) -> dict[str, str]:
        """Count the rest of a request that is so many ``searches``, one of which was counted, as :meth:`take` does."""
        if self._item is not None and searches > self._item.amount:
            detail = f"{searches} searches in one call are more than the quota of {self._item} ever allows: ask fewer"
            raise Problem(QUOTA, detail, denied=True)
        return self.take(caller, searches - 1)

    def take(self, caller: str, searches: int = 1) -> dict[str, str]:
        """Count ``searches`` of ``caller`` and return the headers that tell what is left; raises the 429."""
        if self._item is None:
            return {}
        allowed = self._limiter.hit(self._item, caller, cost=searches)
        reset_at, left = self._limiter.get_window_stats(self._item, caller)
        seconds = max(1, math.ceil(reset_at - time.time()))
        headers = {
            "RateLimit-Limit": str(self._item.amount),
            "RateLimit-Remaining": str(left),
            "RateLimit-Reset": str(seconds),
        }
        if not allowed:
            detail = f"more than {self._item} were asked by this caller"
            raise Problem(QUOTA, detail, headers=headers | {"Retry-After": str(seconds)}, denied=True)
        return headers
