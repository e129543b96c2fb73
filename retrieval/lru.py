"""A least-recently-used cache that is bounded by bytes and safe between threads."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class ByteLru(Generic[K, V]):
    """Keep the most recently used values whose sizes together stay within ``max_bytes``.

    A value that is larger than the whole cache is not kept.
    """

    def __init__(self, *, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._held_bytes = 0
        self._entries: OrderedDict[K, tuple[V, int]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: K) -> V | None:
        """Return the value under ``key`` and mark it as used, or None."""
        with self._lock:
            entry = self._entries.get(key)
            if entry is None:
                return None
            self._entries.move_to_end(key)
            return entry[0]

    def put(self, key: K, value: V, *, size_bytes: int) -> None:
        """Keep ``value`` under ``key`` in place of what was there, evicting the least recently used."""
        with self._lock:
            self._drop(key)
            if size_bytes > self._max_bytes:
                return
            self._entries[key] = (value, size_bytes)
            self._held_bytes += size_bytes
            while self._held_bytes > self._max_bytes:
                self._drop(next(iter(self._entries)))

    def drop_where(self, stale: Callable[[K], bool]) -> None:
        """Let go of every value whose key is ``stale``."""
        with self._lock:
            for key in [key for key in self._entries if stale(key)]:
                self._drop(key)

    def items(self) -> list[tuple[K, V]]:
        """Return what is kept, the least recently used first."""
        with self._lock:
            return [(key, value) for key, (value, _) in self._entries.items()]

    @property
    def held_bytes(self) -> int:
        """Bytes of all kept values together."""
        return self._held_bytes

    def __len__(self) -> int:
        return len(self._entries)

    def _drop(self, key: K) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._held_bytes -= entry[1]
