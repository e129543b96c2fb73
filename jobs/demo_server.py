"""A real server for the demo: ``grebe serve`` in a process of its own, and the few calls that the tour makes."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jobs.errors import CommandError

USUAL_PORT = 8080
START_SECONDS = 180.0
STOP_SECONDS = 15.0


@dataclass(frozen=True, kw_only=True)
class Client:
    """Calls the server at ``url``."""

    url: str

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
    client = Client(url=f"http://127.0.0.1:{free_port()}")
    command = [sys.executable, "-m", "jobs", "serve", "--store", str(store), "--port", client.url.rpartition(":")[2]]
    environment = {**os.environ, "GREBE_CACHE": str(cache), "GREBE_DRAIN_SECONDS": "0"}
    with log.open("wb") as sink:
        # Its own session, so that Ctrl-C reaches the demo alone, which then stops it in order.
        process = subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink, start_new_session=True
        )
    try:
        _wait_until_ready(process, client, log)
        yield client
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def free_port() -> int:
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


def _wait_until_ready(process: subprocess.Popen[bytes], client: Client, log: Path) -> None:
    end = time.monotonic() + START_SECONDS
    while not client.ready():
        if process.poll() is not None or time.monotonic() > end:
            last = (log.read_text(errors="replace").strip().splitlines() or ["nothing"])[-1]
            raise CommandError(f"the server did not start; the last line of {log} is: {last}")
        time.sleep(0.1)
