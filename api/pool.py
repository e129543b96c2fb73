"""Threads that search or run statements, and the bounded queue before them.

A search is CPU-bound, so it runs beside the event loop. What does not fit into the queue is turned away at once: a
quick 503 serves a caller better than a slow one. Statements have a pool of their own, so that a search, which takes
milliseconds, waits for none of them, however many there are and however long each takes.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from api.errors import PoolFull
from retrieval.helpers import ALONE, Helpers, submitted

T = TypeVar("T")


class WorkPool:
    """``threads`` pieces of work run together, and up to ``queue`` more wait for a thread.

    Each counts as at work among ``helpers`` from its admission to its end: where some wait, nobody helps.
    """

    def __init__(self, *, threads: int, queue: int, name: str = "search", helpers: Helpers = ALONE) -> None:
        self._threads = threads
        self.limit = threads + queue
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._helpers = helpers
        self._admitted = 0
        self._lock = threading.Lock()

    @property
    def depth(self) -> int:
        """How many wait for a thread; of several searches in one, those that it has not come to may be among them."""
        return max(0, self._admitted - self._threads)

    async def run(self, work: Callable[[], T], *, timeout_seconds: float, searches: int = 1) -> T:
        """Run ``work`` on a thread and return what it returns, or raise what it raises.

        Raises :class:`PoolFull` at once when the queue is full, and TimeoutError after ``timeout_seconds``: work that
        has not begun by then never will; work that has begun holds its thread until it ends. Of several ``searches``
        each takes a place, though one thread begins them; where there are fewer places in all, they take those.
        """
        places = min(searches, self.limit)
        with self._lock:
            if self._admitted + places > self.limit:
                raise PoolFull
            self._admitted += places
        self._helpers.enter()
        try:
            task = submitted(self._executor, work)
        except BaseException:
            self._leave(places)
            raise
        task.add_done_callback(lambda _: self._leave(places))
        return await asyncio.wait_for(asyncio.wrap_future(task), timeout_seconds)

    def close(self) -> None:
        """Wait for what runs, and drop what waits."""
        self._executor.shutdown(wait=True, cancel_futures=True)

    def _leave(self, places: int) -> None:
        with self._lock:
            self._admitted -= places
        self._helpers.leave()
