"""Clusters for the tests: nodes of two parts in two zones and a router, each a real server on a loopback port."""

from __future__ import annotations

import io
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from api.logs import open_log
from api.server import serving
from tests.api.conftest import LogLines, client_of, settings_for
from tests.api.library import Library, book

SECRET = "a-secret-that-nodes-share"
PARTS = 2
ZONES = ("a", "b")


@dataclass
class Cluster:
    """The nodes by zone and part, which may be stopped and started, and what ``ask``\\ s them."""

    root: Path
    bases: dict[str, int]
    settings: dict[str, Any] = field(default_factory=dict)
    running: dict[tuple[str, int], ExitStack] = field(default_factory=dict)
    logs: dict[str, LogLines] = field(default_factory=dict)

    def start(self, zone: str, part: int) -> None:
        """Start one node."""
        cluster = {"share": f"{part}/{PARTS}", "secret": SECRET}
        settings = settings_for(
            self.root, cache=self.root / f"cache-{zone}{part}", port=self.bases[zone] + part, cluster=cluster
        )
        stack = ExitStack()
        log = self.logs.setdefault(f"{zone}{part}", LogLines())
        stack.enter_context(serving(settings, log=open_log(log)))
        self.running[zone, part] = stack

    def stop(self, zone: str, part: int) -> None:
        """Stop one node."""
        self.running.pop((zone, part)).close()

    def url(self, zone: str, part: int) -> str:
        return f"http://127.0.0.1:{self.bases[zone] + part}"

    @contextmanager
    def router(self, *zones: str, **settings: Any) -> Iterator[httpx.Client]:
        """Serve a router that asks the nodes of ``zones``, the nearest first."""
        nodes = [f"http://127.0.0.1:{self.bases[zone] // 10}{{part}}" for zone in zones or ZONES]
        cluster = {"nodes": nodes, "parts": PARTS, "secret": SECRET, **settings.pop("cluster", {})}
        log: io.BytesIO = self.logs.setdefault("router", LogLines())
        with client_of(settings_for(self.root, cluster=cluster, **settings), log) as client:
            yield client


@pytest.fixture
def library(tmp_path: Path) -> Library:
    """The collection ``books`` of four shards, with forty books in two commits."""
    library = Library(tmp_path, shards=4)
    library.commit(3, [book(number) for number in range(30)])
    library.commit(4, [book(number) for number in range(30, 42)], [book(7), book(8)])
    return library


@pytest.fixture
def cluster(tmp_path: Path, library: Library) -> Iterator[Cluster]:
    """All nodes of both zones, started."""
    made = Cluster(tmp_path, {zone: ten_free_ports() for zone in ZONES})
    try:
        for zone in ZONES:
            for part in range(PARTS):
                made.start(zone, part)
        yield made
    finally:
        for place in list(made.running):
            made.stop(*place)


def ten_free_ports() -> int:
    """Return a port that ends in 0 and is free, with the one after it."""
    for _ in range(100):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            base = int(free.getsockname()[1]) // 10 * 10
        with suppress(OSError), ExitStack() as taken:
            for port in range(base, base + PARTS):
                one = taken.enter_context(socket.socket())
                one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                one.bind(("127.0.0.1", port))
            return base
    raise OSError("no free ports")
