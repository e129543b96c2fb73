"""Clusters for the tests: nodes of two parts in two zones and a router, each a real server on a loopback port."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from api.logs import open_log
from api.server import serving
from benchmarks.replicas import adjacent_ports
from tests.api.conftest import LogLines, client_of, settings_for
from tests.api.library import Library, book

SECRET = "a-secret-that-nodes-share"
PARTS = 2
ZONES = ("a", "b")


@dataclass
class Cluster:
    """The nodes by zone and part, which may be stopped and started, and where they listen."""

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
    made = Cluster(tmp_path, {zone: adjacent_ports(PARTS) for zone in ZONES})
    try:
        for zone in ZONES:
            for part in range(PARTS):
                made.start(zone, part)
        yield made
    finally:
        for place in list(made.running):
            made.stop(*place)
