"""Search on a GPU: segments' vectors resident on it in flat indexes, and requests gathered into batches.

A flat index is exact, so that who else asks cannot change an answer: what it proposes is scored again from the stored
vectors and ordered by that. (A graph on a GPU draws its entry points by a query's place in the batch.) Filters go along
as FAISS selectors only where a probe has shown that the device obeys them, and every answer is held against its bitmap
once more: a row that does not pass is never returned, and a device that proposes one is not asked again.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from indexer.ann.device import Device, first_line
from retrieval import bitmap
from retrieval.bitmap import Positions
from retrieval.errors import GpuUntrusted
from retrieval.lru import ByteLru
from retrieval.scores import Floats, raw_faiss
from retrieval.segments import OpenSegment
from retrieval.vector_plan import VectorPlan

WAIT_SECONDS = 0.002
"""A request waits this long at most for others to share a scan with."""

PATIENCE_SECONDS = 1.0
"""A request that the device has not answered by then is for the CPU; the first upload of a segment may take as long."""

LARGEST_BATCH = 256
LARGEST_K = 2_048
"""FAISS returns no more from a GPU."""

SPARE = 16
"""So many more candidates than are wanted: near the last place, two scans may order by rounding."""

RESIDENT_SHARE = 0.8
"""Of the memory that is free at the start, so much holds vectors; the rest is for the scans."""

_PROBE_N, _PROBE_DIM, _PROBE_K = 2_000, 64, 100


@dataclass(frozen=True)
class _Request:
    plan: VectorPlan
    query: Floats
    n: int
    answer: Future[Positions | None] = field(default_factory=Future)


class GpuSearch:
    """Proposes candidates for the vector leg from one thread that owns the device.

    ``report`` is told a sentence when the device fails or is not trusted any more; searches go on on the CPU then.
    Raises :class:`retrieval.errors.GpuUntrusted` if the device ignores filters.
    """

    def __init__(self, device: Device, *, report: Callable[[str], object], wait_seconds: float = WAIT_SECONDS) -> None:
        probe(device)
        self._device, self._report, self._wait = device, report, wait_seconds
        self._resident: ByteLru[int, Any] = ByteLru(max_bytes=int(device.free_bytes() * RESIDENT_SHARE))
        self._largest = int(device.free_bytes() * RESIDENT_SHARE)
        self._asked: queue.SimpleQueue[_Request | None] = queue.SimpleQueue()
        self._trusted = True
        self._thread = threading.Thread(target=self._run, name="gpu", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread; what is asked afterwards is for the CPU."""
        self._trusted = False
        self._asked.put(None)
        self._thread.join()

    def propose(self, plan: VectorPlan, query: Floats, wanted: int) -> Positions | None:
        """Return the positions of the ``wanted`` or more best passing chunks, in no order; None: ask the CPU.

        ``query`` is ``(dim,) float32``. All that passes comes if it is less.
        """
        n = min(wanted + SPARE, plan.segment.n)
        if not self._trusted or n > LARGEST_K or _bytes_of(plan.segment) > self._largest:
            return None
        request = _Request(plan, query, n)
        self._asked.put(request)
        try:
            return request.answer.result(PATIENCE_SECONDS)
        except TimeoutError:  # a device that hangs, or that was closed meanwhile
            return None

    def _run(self) -> None:
        # One thread, so that FAISS' resources need no lock and uploads do not race with scans.
        while (first := self._asked.get()) is not None:
            for group in self._gathered(first):
                self._answer(group)
        while not self._asked.empty():
            if left := self._asked.get():
                left.answer.set_result(None)

    def _gathered(self, first: _Request) -> list[list[_Request]]:
        """Return what came within the wait, by the vectors that are scanned and the filter."""
        batch, until = [first], time.monotonic() + self._wait
        while len(batch) < LARGEST_BATCH and (left := until - time.monotonic()) > 0:
            try:
                another = self._asked.get(timeout=left)
            except queue.Empty:
                break
            if another is None:
                self._asked.put(None)
                break
            batch.append(another)
        groups: dict[tuple[int, int], list[_Request]] = defaultdict(list)
        for request in batch:
            groups[request.plan.token].append(request)
        return list(groups.values())

    def _answer(self, group: list[_Request]) -> None:
        proposed: list[Positions | None] = [None] * len(group)
        try:
            if self._trusted:
                proposed = [*self._scan(group)]
        except GpuUntrusted as error:
            self._trusted = False
            self._report(str(error))
        except Exception as error:  # whatever it is, the thread must live: requests wait for it
            self._report(f"the GPU failed a search, which the CPU answers: {first_line(error)}")
        for request, positions in zip(group, proposed, strict=True):
            request.answer.set_result(positions)

    def _scan(self, group: list[_Request]) -> list[Positions]:
        plan = group[0].plan
        index = self._index_of(plan.segment)
        parameters = None
        if plan.passing < plan.segment.n:
            selector = raw_faiss.IDSelectorBitmap(plan.bits)
            parameters = raw_faiss.SearchParameters(sel=selector)
        queries = np.stack([request.query for request in group])
        _, found = index.search(queries, max(request.n for request in group), params=parameters)
        return [_checked(plan, ids[: request.n]) for request, ids in zip(group, found, strict=True)]

    def _index_of(self, segment: OpenSegment) -> Any:
        index = self._resident.get(segment.number)
        if index is None:
            index = self._device.flat(segment.vectors.shape[1], half=False)
            index.add(np.ascontiguousarray(segment.vectors, dtype=np.float32))
            self._resident.put(segment.number, index, size_bytes=_bytes_of(segment))
        return index


def probe(device: Device) -> None:
    """Ask ``device`` for rows of which the nearest half are forbidden; raise GpuUntrusted if it returns one.

    Classic ``faiss-gpu`` ignores a selector on flat indexes without a word.
    """
    vectors = np.random.default_rng(0).standard_normal((_PROBE_N, _PROBE_DIM), dtype=np.float32)
    flat: Any = device.flat(_PROBE_DIM, half=False)
    flat.add(vectors)
    forbidden = np.argsort(-(vectors @ vectors[0]))[: _PROBE_N // 2]
    allowed = np.ones(_PROBE_N, dtype=bool)
    allowed[forbidden] = False
    bits = bitmap.pack(allowed)
    parameters = raw_faiss.SearchParameters(sel=raw_faiss.IDSelectorBitmap(bits))
    found = flat.search(vectors[:1], _PROBE_K, params=parameters)[1][0]
    if not allowed[found[found >= 0]].all() or (found < 0).any():
        raise GpuUntrusted(
            f"{device.name} returns rows that a filter forbids: install Grebe's extra 'gpu' (faiss-gpu-cuvs), "
            "or serve from the CPU"
        )


def _checked(plan: VectorPlan, found: Positions) -> Positions:
    positions = found[found >= 0]
    if not bitmap.contains(plan.bits, positions).all():
        raise GpuUntrusted("the GPU proposed a row that the filter forbids: it is not asked again until a restart")
    return positions


def _bytes_of(segment: OpenSegment) -> int:
    return int(segment.n * segment.vectors.shape[1] * 4)
