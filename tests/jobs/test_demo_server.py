"""The demo's server: a real ``grebe serve`` in a process of its own."""

from __future__ import annotations

import io
import socket
import threading
from pathlib import Path

import pytest
from rich.console import Console

from jobs import demo, demo_server
from jobs.demo_server import Client
from jobs.demo_table import DeltaDemo
from jobs.errors import CommandError


def test_a_port_that_is_taken_is_left_and_an_end_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        monkeypatch.setattr(demo_server, "USUAL_PORT", taken.getsockname()[1])
        log = tmp_path / "serve.log"
        process, client = demo_server._started(tmp_path / "store", tmp_path / "cache", log)
        try:
            assert (client.usual_port, client.ready(), client.ending()) == (False, True, None)
        finally:
            process.kill()
            process.wait()
    assert (client.ending() or "").startswith(f"the server has ended, with code -9; the last line of {log} is: {{")
    with pytest.raises(CommandError, match="the server has ended, with code -9"):
        client.search("stdlib", {"query": "x"})


def test_a_port_that_is_taken_after_the_look_is_left_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        monkeypatch.setattr(demo_server, "_free_port", lambda: taken.getsockname()[1])
        with demo_server.server(tmp_path / "store", tmp_path / "cache", tmp_path / "serve.log") as client:
            assert client.ready()


def test_the_demo_ends_when_its_server_does(tmp_path: Path) -> None:
    ended = threading.Event()
    follower = threading.Thread(target=ended.wait)
    follower.start()
    try:
        client = Client(url="http://127.0.0.1:8080", ending=lambda: "the server has ended")
        with pytest.raises(CommandError, match="the server has ended"):
            demo._serve(Console(file=io.StringIO()), client, DeltaDemo(tmp_path / "table"), follower)
    finally:
        ended.set()
        follower.join()
