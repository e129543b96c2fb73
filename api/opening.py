"""How a server opens versions: whole, its share of them, or as a router that has nodes hold them."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import nullcontext

from api.cluster.nodes import HttpNodes
from indexer.catalog import Catalog
from retrieval.cache import LocalCache
from retrieval.distributed.routed import RoutedVersion
from retrieval.errors import NodeUnavailable
from retrieval.share import Share, parts_of
from retrieval.snapshot import Snapshot, open_snapshot
from retrieval.version import OpenVersion

LINGER_SECONDS = 10.0
"""So long may a router go on to ask a node about a version that is no longer the newest: longer than most searches."""


REOPEN_SECONDS = 5.0
"""So long may nodes take to open an earlier version."""
LOOK_SECONDS = 0.05


class Opener(ABC):
    """Opens versions of the collections of a store; ``linger_seconds`` is how long they stay open after the next."""

    linger_seconds = 0.0

    @abstractmethod
    def newest(self, catalog: Catalog, latest: int) -> int | None:
        """Return the newest version up to ``latest`` that can be opened; None if there is none yet."""

    @abstractmethod
    def reopen(self, catalog: Catalog, version: int, near: OpenVersion | None) -> OpenVersion:
        """Open an earlier ``version``, sharing what it can with the open one ``near``; raises as :meth:`open` does."""

    @abstractmethod
    def serves(self, name: str, versions: Sequence[int]) -> None:
        """Take note that these versions of the collection ``name`` are open here."""

    @abstractmethod
    def tidy(self) -> None:
        """Let go of what is on this machine and of no use; called every second or so once everything was opened."""

    @abstractmethod
    def open(self, catalog: Catalog, version: int, before: OpenVersion | None) -> OpenVersion:
        """Open ``version`` beside ``before``; raises what :func:`retrieval.snapshot.open_snapshot` does."""


class HereOpener(Opener):
    """Opens versions on this machine, whole or a ``share`` of them."""

    def __init__(self, cache: LocalCache, share: Share | None) -> None:
        self._cache = cache
        self._share = share
        if share is not None:
            self.linger_seconds = LINGER_SECONDS

    def newest(self, catalog: Catalog, latest: int) -> int | None:
        """Return ``latest``."""
        return latest

    def open(self, catalog: Catalog, version: int, before: OpenVersion | None) -> OpenVersion:
        """Open the newest version, which may be newer than ``version`` by now."""
        assert before is None or isinstance(before, Snapshot)
        return open_snapshot(catalog, self._cache, before, share=self._share)

    def reopen(self, catalog: Catalog, version: int, near: OpenVersion | None) -> OpenVersion:
        """Open ``version`` itself."""
        assert near is None or isinstance(near, Snapshot)
        with nullcontext() if near is None else near.pinned():
            return open_snapshot(catalog, self._cache, near, version=version, share=self._share)

    def serves(self, name: str, versions: Sequence[int]) -> None:
        """Nobody else has to know."""

    def tidy(self) -> None:
        """Evict from the cache; otherwise a collection that stands still or was dropped would keep old segments."""
        self._cache.evict_if_due()


class RoutedOpener(Opener):
    """Opens versions that the nodes of every part have open."""

    def __init__(self, nodes: HttpNodes) -> None:
        self._nodes = nodes

    def newest(self, catalog: Catalog, latest: int) -> int | None:
        """Return the newest version that the nodes of every part have, which may be older than ``latest``."""
        versions = [self._nodes.versions(part, catalog.name) for part in range(self._nodes.parts)]
        return max(set.intersection(*versions), default=None)

    def reopen(self, catalog: Catalog, version: int, near: OpenVersion | None) -> OpenVersion:
        """Return the version as its nodes have it, which open it anew where they have to."""
        give_up = time.monotonic() + REOPEN_SECONDS
        self._nodes.wanted = {**self._nodes.wanted, catalog.name: (version,)}
        try:
            while True:
                try:
                    return self.open(catalog, version, near)
                except NodeUnavailable:
                    if time.monotonic() > give_up:
                        raise
                time.sleep(LOOK_SECONDS)
        finally:
            self._nodes.wanted = {name: one for name, one in self._nodes.wanted.items() if name != catalog.name}

    def serves(self, name: str, versions: Sequence[int]) -> None:
        """Have the nodes keep these versions."""
        self._nodes.served = {**self._nodes.served, name: tuple(versions)}

    def tidy(self) -> None:
        """A router has no segments."""

    def open(self, catalog: Catalog, version: int, before: OpenVersion | None) -> OpenVersion:
        """Return the version as its nodes have it."""
        state = catalog.read(version)
        parts = parts_of(catalog.name, state.spec.shards, self._nodes.parts)
        columns = []
        for part in parts:
            held = self._nodes.held(part, catalog.name, version)
            if held is None:  # its node went since it was looked for
                raise NodeUnavailable(f"part {part} of {self._nodes.parts} has version {version} no longer")
            columns.append((held.arrow_schema, held.written_at))
        return RoutedVersion(state, self._nodes, tuple(parts), columns)
