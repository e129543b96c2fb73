"""Merging beside a running sync: in processes of its own, so that neither the stream nor its commits wait."""

from __future__ import annotations

import os
import signal
import threading
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from indexer.cache import sweep
from indexer.catalog import Catalog, CatalogState
from indexer.errors import CommitConflict, ObjectNotFound
from indexer.format.records import SegmentRecord
from indexer.merge import MergeJob, commit_merge, is_current, live_chunks, merge_job, merge_segments, plan_merge

POLL_SECONDS = 1.0
BIG_MERGE_CHUNKS = 50_000
"""Merges above this take seconds; one at a time, so that small ones never wait for two of them."""
NICENESS = 5


class Merger:
    """Plans merges whenever it is woken, runs them in two worker processes and commits their results.

    An error of a merge is raised by the next :meth:`wake`.
    """

    def __init__(self, catalog: Catalog, cache: Path) -> None:
        self._catalog, self._cache = catalog, cache
        self._pool = ProcessPoolExecutor(2, mp_context=get_context("spawn"), initializer=_settle_in)
        self._running: dict[Future[SegmentRecord | None], MergeJob] = {}
        self._woken, self._closed = threading.Event(), threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="grebe-merger", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """Say that there is a new commit; raise what a merge raised since the last call."""
        if self._error:
            raise self._error
        self._woken.set()

    def close(self) -> None:
        """Stop planning; what is being merged is abandoned, and its files are named by nothing."""
        self._closed.set()
        self._woken.set()
        self._thread.join()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _run(self) -> None:
        try:
            while not self._closed.is_set():
                self._woken.wait(POLL_SECONDS)
                self._woken.clear()
                if not self._closed.is_set():
                    self._commit_finished()
                    self._start_next()
        except BaseException as error:
            self._error = error

    def _commit_finished(self) -> None:
        for future in [future for future in self._running if future.done()]:
            job = self._running[future]
            state = commit_merge(self._catalog, job, future.result()) if self._succeeded(future, job) else None
            del self._running[future]
            if state:
                sweep(self._cache, state.segments)

    def _succeeded(self, future: Future[SegmentRecord | None], job: MergeJob) -> bool:
        """Whether a merge wrote its segment: not if what it merged was replaced meanwhile and vacuumed."""
        missing = isinstance(future.exception(), ObjectNotFound)
        return not missing or is_current(self._catalog.read(), job)

    def _start_next(self) -> None:
        state = self._catalog.read()
        while len(self._running) < 2:
            busy = {segment.number for job in self._running.values() for segment in job.inputs}
            inputs = plan_merge(state, busy)
            if not inputs or (_is_big(state, inputs) and self._running):
                return
            try:
                job = merge_job(self._catalog, state, inputs, self._cache)
            except CommitConflict:
                return  # the state was replaced and vacuumed: there is another to look at
            future = self._pool.submit(merge_segments, job)
            future.add_done_callback(lambda _: self._woken.set())
            self._running[future] = job


def _settle_in() -> None:
    """In a worker: step behind the sync, and leave Ctrl-C to the process that owns this one."""
    os.nice(NICENESS)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _is_big(state: CatalogState, inputs: tuple[SegmentRecord, ...]) -> bool:
    return sum(live_chunks(state, segment) for segment in inputs) > BIG_MERGE_CHUNKS
