"""Cores that no search is on help with those that run: one search on an idle machine takes several.

A full machine gives nobody helpers, and each search runs on its own thread alone, which is what answers most of them a
second. What helps is FAISS, tantivy and numpy at work without Python's lock.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from typing import TypeVar

T = TypeVar("T")


class Helpers:
    """``threads`` at most are at work for searches: theirs and helpers. Safe to share between threads.

    Whoever asks for help is counted itself, from before its search begins to its end. With one thread there is no help.
    """

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._busy = 0
        self._lock = threading.Lock()
        self._executor = ThreadPoolExecutor(threads - 1, thread_name_prefix="helper") if threads > 1 else None

    def enter(self) -> None:
        """Count one more search, that runs or waits for its thread, until :meth:`leave`."""
        with self._lock:
            self._busy += 1

    def leave(self) -> None:
        """Count one less."""
        with self._lock:
            self._busy -= 1

    @contextmanager
    def working(self) -> Iterator[None]:
        """Count one search while the block runs."""
        self.enter()
        try:
            yield
        finally:
            self.leave()

    @contextmanager
    def beside(self, work: Callable[[], T], *, worth: bool = True) -> Iterator[Callable[[], T]]:
        """Begin ``work`` on a helper, if it is ``worth`` one and one is free.

        The block gets what returns the result, or raises what was raised; called before a helper has begun, it does the
        work itself. The block's end waits for a helper that has begun.
        """
        helper = self._begin(work) if worth else None
        try:
            yield lambda: work() if helper is None or helper.cancel() else helper.result()
        finally:
            _end(helper)

    def each(self, work: Callable[[int], T], n: int) -> list[T]:
        """Return ``work(0)`` to ``work(n - 1)``, done here and by as many helpers as are free.

        What fails first is raised, and nothing more is begun then.
        """
        results: dict[int, T] = {}
        left = iter(range(n))  # its next() is one step for all threads
        failed = False

        def some() -> None:
            nonlocal failed
            for at in left:
                try:
                    results[at] = work(at)
                except BaseException:
                    failed = True
                    raise
                if failed:
                    return

        with ExitStack() as stack:
            free = max(0, self._threads - self._busy)
            helping = [stack.enter_context(self.beside(some)) for _ in range(min(n - 1, free))]
            some()
            for result in helping:
                result()
        return [results[at] for at in range(n)]

    def close(self) -> None:
        """Wait for helpers at work; there are none from now on."""
        if self._executor is not None:
            self._executor.shutdown(wait=True)

    def _begin(self, work: Callable[[], T]) -> Future[T] | None:
        with self._lock:
            if self._executor is None or self._busy >= self._threads:
                return None
            self._busy += 1
        try:
            helper = submitted(self._executor, work)
        except RuntimeError:  # closed, or no thread can be started
            self.leave()
            return None
        helper.add_done_callback(lambda _: self.leave())
        return helper


def submitted(executor: ThreadPoolExecutor, work: Callable[[], T]) -> Future[T]:
    """Submit ``work``; where that raises, because no thread can be started, it is not run later for nobody."""
    called_off = False

    def begun() -> T:
        if called_off:
            raise RuntimeError("nobody waits for this any more")
        return work()

    try:
        return executor.submit(begun)
    except BaseException:
        called_off = True
        raise


def _end(helper: Future[T] | None) -> None:
    if helper is not None and not helper.cancel():
        wait([helper])


ALONE = Helpers(1)
"""Nobody helps."""
