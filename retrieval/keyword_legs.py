"""The keyword legs of a collection's snapshots: for each set of segments one index, made when it is first searched."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Collection, Hashable, Sequence

from indexer.format.keywords import compose
from indexer.spec import CollectionSpec
from retrieval.cache import LocalCache
from retrieval.keyword_leg import KeywordLeg
from retrieval.keyword_query import KeywordQueries
from retrieval.lru import ByteLru
from retrieval.segments import OpenSegment

LEGS_BYTES = 256 << 20
SEGMENT_BYTES = 64 << 10
"""What one segment of an open leg is taken to need."""

Key = tuple[tuple[int, ...], Hashable]


class KeywordLegs:
    """Legs that are kept, the most recently used ones; safe to share between threads.

    A leg depends on its segments and on how the spec has words looked for, not on tombstones, so that the next version
    may take it over (:meth:`for_segments`). Its folder goes with it.
    """

    def __init__(self, cache: LocalCache) -> None:
        self._cache = cache
        self._kept: ByteLru[Key, KeywordLeg] = ByteLru(max_bytes=LEGS_BYTES)
        self._locks = [threading.Lock() for _ in range(16)]

    def of(self, segments: Sequence[OpenSegment], spec: CollectionSpec) -> KeywordLeg:
        """Return the leg of ``segments``; raises what :func:`indexer.format.keywords.compose` does."""
        key = tuple(segment.number for segment in segments), tuple(spec.text.fields.items())
        leg = self._kept.get(key)
        if leg is not None:
            return leg
        with self._locks[hash(key) % len(self._locks)]:  # one leg is made once, and holds few others up
            leg = self._kept.get(key)
            if leg is None:
                leg = self._composed(segments, spec)
                self._kept.put(key, leg, size_bytes=SEGMENT_BYTES * len(segments))
        return leg

    def for_segments(self, numbers: Collection[int]) -> KeywordLegs:
        """Return legs for a version with these segments: those that are here of its segments alone."""
        legs = KeywordLegs(self._cache)
        for key, leg in self._kept.items():
            if all(number in numbers for number in key[0]):
                legs._kept.put(key, leg, size_bytes=SEGMENT_BYTES * len(key[0]))
        return legs

    def clear(self) -> None:
        """Let go of all."""
        self._kept.drop_where(lambda _: True)

    def _composed(self, segments: Sequence[OpenSegment], spec: CollectionSpec) -> KeywordLeg:
        scratch = self._cache.scratch()
        try:
            index = compose([segment.files.keywords for segment in segments], scratch.path / "keywords", spec)
            leg = KeywordLeg(index, KeywordQueries(index, spec), segments)
        except BaseException:
            scratch.release()
            raise
        weakref.finalize(leg, scratch.release)
        return leg
