"""Servers as processes that can be lost: ``grebe serve`` on a port of its own, to kill, silence and start again."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path

import httpx

START_SECONDS = 120.0
END_SECONDS = 60.0


def free_port() -> int:
    """Return a port of the loopback address that nobody has now."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


_bases = itertools.count()


def adjacent_ports(count: int) -> int:
    """Return a port that ends in 0 and is free as are the next, ``count`` in all.

    Below those that the system gives out, and other ones in each process: nobody takes one whose server is restarted.
    """
    while True:
        base = 10_000 + (97 * os.getpid() + next(_bases)) % 2_000 * 10
        with suppress(OSError), ExitStack() as taken:
            for port in range(base, base + count):
                taken.enter_context(socket.socket()).bind(("127.0.0.1", port))
            return base


def until(condition: Callable[[], bool], what: str, *, seconds: float = START_SECONDS) -> float:
    """Wait for ``condition`` and return how many seconds that took; raises TimeoutError that names ``what``."""
    began = time.monotonic()
    while not condition():
        if time.monotonic() - began > seconds:
            raise TimeoutError(f"{what}: not within {seconds:g} s")
        time.sleep(0.05)
    return time.monotonic() - began


class Replica:
    """One server over ``store``, its cache and log in ``folder``; further ``settings`` go by the environment."""

    def __init__(
        self,
        folder: Path,
        store: str,
        *,
        key: str = "",
        settings: dict[str, str] | None = None,
        port: int | None = None,
    ) -> None:
        self.port = free_port() if port is None else port
        self._folder, self._store, self._settings = folder, store, settings or {}
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True, exist_ok=True)
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", headers=headers, timeout=5)

    def start(self, **settings: str) -> None:
        """Start it; ``settings`` are of this start alone."""
        environment = {
            **os.environ,
            "GREBE_STORE": self._store,
            "GREBE_CACHE": str(self._folder / "cache"),
            "HF_HUB_OFFLINE": "1",
            **{f"GREBE_{name.upper()}": value for name, value in (self._settings | settings).items()},
        }
        command = [sys.executable, "-m", "jobs", "serve", "--port", str(self.port)]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)

    def kill(self) -> None:
        """End it without a word, as a host that is lost ends."""
        self._send(signal.SIGKILL)
        self._wait()

    def stop(self) -> None:
        """Ask it to end, and wait until it has."""
        self._send(signal.SIGTERM)
        self._wait()

    def silence(self) -> None:
        """Keep it from doing anything: connections to it are taken by the kernel, and nothing answers."""
        self._send(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        self._send(signal.SIGCONT)

    def forget(self) -> None:
        """Remove its cache, as a new host has none."""
        shutil.rmtree(self._folder / "cache", ignore_errors=True)

    def close(self) -> None:
        """Kill it if it runs."""
        self.client.close()
        if self._process is not None and self._process.poll() is None:
            self.kill()

    @property
    def pid(self) -> int:
        """Its process."""
        assert self._process is not None
        return self._process.pid

    @property
    def ready(self) -> bool:
        """Whether it says that requests may come."""
        try:
            return self.client.get("/readyz").status_code == 200
        except httpx.TransportError:
            return False

    def source_version(self, collection: str) -> int | None:
        """Return the source version that it serves; None while it serves none or does not answer."""
        try:
            answer = self.client.get(f"/v1/collections/{collection}/status")
        except httpx.TransportError:
            return None
        source = answer.json().get("source") if answer.status_code == 200 else None
        return int(source["version"]) if source else None

    def _send(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def _wait(self) -> None:
        assert self._process is not None
        self._process.wait(END_SECONDS)
