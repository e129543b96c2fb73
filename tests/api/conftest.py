"""Servers for the tests: real ones on a free loopback port, over a small real collection."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from api.logs import open_log
from api.server import serving
from api.settings import ServeSettings
from tests.api.library import Library, book

Serve = Callable[..., AbstractContextManager[httpx.Client]]
WAIT_SECONDS = 120.0


class LogLines(io.BytesIO):
    """What a server logged."""

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.getvalue().splitlines()]


def settings_for(root: Path, **settings: Any) -> ServeSettings:
    plain: dict[str, Any] = {
        "store": str(root / "store"),
        "cache": root / "cache",
        "port": 0,
        "poll_interval_ms": 20,
        "drain_seconds": 0,
    }
    return ServeSettings.load(**(plain | settings))


@contextmanager
def client_of(settings: ServeSettings, log: io.BytesIO | None = None) -> Iterator[httpx.Client]:
    with (
        serving(settings, log=open_log(log or io.BytesIO())) as url,
        httpx.Client(base_url=url, timeout=WAIT_SECONDS) as client,
    ):
        until(lambda: client.get("/readyz").status_code == 200)
        yield client


def until(condition: Callable[[], bool], *, seconds: float = WAIT_SECONDS) -> None:
    """Wait for ``condition``; fail when it has not come true by then."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true"
        time.sleep(0.01)


@pytest.fixture
def serve(tmp_path: Path) -> Serve:
    """Serves the store under ``tmp_path``: ``with serve(**settings) as client``."""

    def start(log: io.BytesIO | None = None, **settings: Any) -> AbstractContextManager[httpx.Client]:
        return client_of(settings_for(tmp_path, **settings), log)

    return start


@pytest.fixture
def library(tmp_path: Path) -> Library:
    """The collection ``books`` under ``tmp_path``, still empty."""
    return Library(tmp_path)


@pytest.fixture(scope="module")
def logged() -> LogLines:
    """What the module's server logs."""
    return LogLines()


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory, logged: LogLines) -> Iterator[httpx.Client]:
    """A server that many tests share and none changes: ``books`` (20 of them, at source version 3) and ``pairs``."""
    root = tmp_path_factory.mktemp("served")
    at = datetime.now(UTC)
    books = Library(root)
    books.commit(3, [book(number) for number in range(20)], at=at)
    Library(root, "pairs", composite=True).commit(1, [book(number) for number in range(4)], at=at)
    with client_of(settings_for(root, max_body_bytes=4096), logged) as client:
        yield client
