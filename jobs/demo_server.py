"""A real server for the demo: ``grebe serve`` in a process of its own, and the few calls that the tour makes."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from jobs.errors import CommandError

USUAL_PORT = 8080
START_SECONDS = 180.0
STOP_SECONDS = 15.0


TAKEN = ("cannot be bound", "Address already in use")
"""What the server's log says where another program had the port first."""


@dataclass(frozen=True, kw_only=True)
class Client:
    """Calls the server at ``url``; ``ending`` says how it ended, and nothing while it runs."""

    url: str
    ending: Callable[[], str | None] = lambda: None

    @property
    def usual_port(self) -> bool:
        """Whether the server has the port that `grebe serve` takes."""
        return self.url.endswith(f":{USUAL_PORT}")

    def search(self, collection: str, body: dict[str, Any]) -> dict[str, Any]:
        """Return the answer to a search; raises :class:`jobs.errors.CommandError` for anything but an answer."""
        request = urllib.request.Request(
            f"{self.url}/v1/collections/{collection}/search",
            data=json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=30) as response:
                answer: dict[str, Any] = json.load(response)
        except urllib.error.HTTPError as error:
            raise CommandError(f"the server answered {error.code}: {error.read().decode(errors='replace')}") from error
        except OSError as error:
            raise CommandError(self.ending() or f"the server at {self.url} does not answer: {error}") from error
        return answer

    def ready(self) -> bool:
        """Say whether the server answers and has everything open."""
        try:
            with urllib.request.urlopen(f"{self.url}/readyz", timeout=5) as response:
                return bool(response.status == 200)
        except OSError:
            return False


@contextmanager
def server(store: Path, cache: Path, log: Path) -> Iterator[Client]:
    """Run ``grebe serve`` over ``store`` while the block runs; its own log goes to ``log``."""
    process, client = _started(store, cache, log)
    try:
        yield client
    finally:
        _stop(process)


def _started(store: Path, cache: Path, log: Path) -> tuple[subprocess.Popen[bytes], Client]:
    """Start a server and return it, ready, and a client of the address that it says is its own."""
    environment = {**os.environ, "GREBE_CACHE": str(cache), "GREBE_DRAIN_SECONDS": "0"}
    for port in (_free_port(), 0):  # the first may be taken by somebody else before the server gets to it
        command = [sys.executable, "-m", "jobs", "serve", "--store", str(store), "--port", str(port)]
        with log.open("wb") as sink:
            # Its own session, so that Ctrl-C reaches the demo alone, which then stops it in order.
            process = subprocess.Popen(
                command, env=environment, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink, start_new_session=True
            )
        try:
            client = _ready_client(process, log)
        except BaseException:
            _stop(process)
            raise
        if client:
            return process, client
        _stop(process)
        said = log.read_text(errors="replace")
        if not any(words in said for words in TAKEN):
            break
    raise CommandError(f"the server did not start; {_last_line(log)}")


def _ending(process: subprocess.Popen[bytes], log: Path) -> str | None:
    code = process.poll()
    return None if code is None else f"the server has ended, with code {code}; {_last_line(log)}"


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines() or ["nothing"]
    return f"the last line of {log} is: {lines[-1]}"


def _ready_client(process: subprocess.Popen[bytes], log: Path) -> Client | None:
    """Wait until the server has said its address and is ready there; None if it ends or takes too long."""
    end = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < end:
        said = re.search(r'Serving on (http://[^\s"]+)', log.read_text(errors="replace"))
        if said and (client := Client(url=said[1], ending=partial(_ending, process, log))).ready():
            return client
        time.sleep(0.1)
    return None


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _free_port() -> int:
    """Return the usual port if nobody has it, else any free one."""
    for port in (USUAL_PORT, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise CommandError("no port is free on 127.0.0.1")
