"""Search on a GPU: segments' vectors resident on it in flat indexes, and requests gathered into batches.

A flat index is exact, so that who else asks cannot change an answer: what it proposes is scored again from the stored
vectors and ordered by that, and where the last places tie, the CPU decides. (A graph on a GPU draws its entry points by
a query's place in the batch.) Filters go along as FAISS selectors only where a probe has shown that the device obeys
them, and every answer is held against its bitmap once more: a row that does not pass is never returned, and a device
that proposes one is not asked again. As many segments are resident as fit; the CPU searches the others.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary, WeakSet

import numpy as np

from indexer.ann.device import Device, first_line
from retrieval import bitmap
from retrieval.bitmap import Positions
from retrieval.errors import GpuUntrusted
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


@dataclass(frozen=True, eq=False)
class Asked:
    """One request for ``n`` candidates of a segment, and the answer to come: None if the CPU is to find them."""

    plan: VectorPlan
    query: Floats
    n: int
    answer: Future[Positions | None] = field(default_factory=Future)

    def wait(self, deadline: float | None = None) -> Positions | None:
        """Return the candidates' positions, in no order; None as well if the device takes too long."""
        left = PATIENCE_SECONDS if deadline is None else min(PATIENCE_SECONDS, deadline - time.monotonic())
        try:
            return self.answer.result(max(0.0, left))
        except TimeoutError:  # a device that hangs or uploads, or that was closed meanwhile
            return None


class GpuSearch:
    """Proposes candidates for the vector leg from one thread that owns the device.

    ``report`` is told a sentence when the device fails or is not trusted any more; searches go on on the CPU then.
    Raises :class:`retrieval.errors.GpuUntrusted` if the device ignores filters.
    """

    def __init__(self, device: Device, *, report: Callable[[str], object], wait_seconds: float = WAIT_SECONDS) -> None:
        probe(device)
        self._device, self._report, self._wait = device, report, wait_seconds
        self._room = int(device.free_bytes() * RESIDENT_SHARE)
        self._resident: WeakKeyDictionary[OpenSegment, Any] = WeakKeyDictionary()
        self._refused: WeakSet[OpenSegment] = WeakSet()
        self._asked: queue.SimpleQueue[Asked | None] = queue.SimpleQueue()
        self._trusted = True
        self._thread = threading.Thread(target=self._run, name="gpu", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread; what is asked afterwards is for the CPU."""
        self._trusted = False
        self._asked.put(None)
        self._thread.join()

    def ask(self, plan: VectorPlan, query: Floats, wanted: int) -> Asked | None:
        """Ask for the ``wanted`` best passing chunks and a few more, or all that pass; None: the CPU is to find them.

        ``query`` is ``(dim,) float32``. Ask for all segments of a search before waiting for the first answer.
        """
        n = min(wanted + SPARE, plan.passing)
        if not self._trusted or n > LARGEST_K or plan.segment in self._refused:
            return None
        asked = Asked(plan, query, n)
        self._asked.put(asked)
        return asked

    def _run(self) -> None:
        # One thread, so that FAISS' resources need no lock and uploads do not race with scans.
        while (first := self._asked.get()) is not None:
            for group in self._gathered(first):
                self._answer(group)

    def _gathered(self, first: Asked) -> list[list[Asked]]:
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
        groups: dict[tuple[int, int], list[Asked]] = defaultdict(list)
        for asked in batch:
            groups[asked.plan.token].append(asked)
        return list(groups.values())

    def _answer(self, group: list[Asked]) -> None:
        proposed: list[Positions | None] = [None] * len(group)
        try:
            if self._trusted:
                proposed = [*self._scan(group)]
        except GpuUntrusted as error:
            self._trusted = False
            self._tell(str(error))
        except Exception as error:  # whatever it is, the thread must live: requests wait for it
            self._tell(f"the GPU failed a search, which the CPU answers: {first_line(error)}")
        for asked, positions in zip(group, proposed, strict=True):
            asked.answer.set_result(positions)

    def _tell(self, sentence: str) -> None:
        with suppress(Exception):
            self._report(sentence)

    def _scan(self, group: list[Asked]) -> list[Positions | None]:
        plan = group[0].plan
        index = self._index_of(plan.segment)
        if index is None:
            return [None] * len(group)
        parameters = None
        if plan.passing < plan.segment.n:
            parameters = raw_faiss.SearchParameters(sel=raw_faiss.IDSelectorBitmap(plan.bits))
        queries = np.stack([asked.query for asked in group])
        _, found = index.search(queries, max(asked.n for asked in group), params=parameters)
        return [_checked(plan, ids[: asked.n]) for asked, ids in zip(group, found, strict=True)]

    def _index_of(self, segment: OpenSegment) -> Any | None:
        """Return the segment's resident index, made now if there is room; it goes when the segment is closed."""
        index = self._resident.get(segment)
        if index is None:
            held = sum(_bytes_of(other) for other in self._resident)
            if held + _bytes_of(segment) > self._room:
                self._refused.add(segment)
                return None
            try:
                index = self._device.flat(segment.vectors.shape[1], half=False)
                index.add(np.ascontiguousarray(segment.vectors, dtype=np.float32))
            except Exception:
                self._refused.add(segment)
                raise
            self._resident[segment] = index
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
    positions: Positions = found[found >= 0]
    if (positions >= plan.segment.n).any() or not bitmap.contains(plan.bits, positions).all():
        raise GpuUntrusted("the GPU proposed a row that the filter forbids: it is not asked again until a restart")
    return positions


def _bytes_of(segment: OpenSegment) -> int:
    return int(segment.n * segment.vectors.shape[1] * 4)
