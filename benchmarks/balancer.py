"""Clients in front of several servers, sent to them as a Kubernetes Service sends connections.

A connection goes to one of the servers whose ``/readyz`` answered 200 when it was last asked, which is once a second,
and stays there until either side ends it: a server that is taken out keeps those that it has. So it is with kube-proxy,
which balances connections and not requests. Clients make new ones now and then, so that a server which comes back gets
its share.
"""

from __future__ import annotations

import asyncio
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from benchmarks.harness import SEED

CHECK_SECONDS = 1.0
"""How often it is asked who is ready, and how long an answer may take: Kubernetes' smallest."""
CONNECTION_SECONDS = 5.0
"""How long a client keeps a connection, on average."""
ATTEMPT_SECONDS = 2.0
"""How long a client waits for one server before it goes to another."""

NOT_ANSWERED = (OSError, EOFError, TimeoutError)
"""A connection that cannot be made, ends too early (asyncio's IncompleteReadError is an EOFError) or is silent."""


class NoServer(OSError):
    """No server is ready, as when a Service has no endpoints."""


@dataclass
class Tally:
    """What clients got in one phase of a run: answers, and failures that came, while it lasted.

    ``retried`` are requests whose connection failed, as ``errors`` says, and that another server was asked; ``failed``
    had no answer from that one either, or one that is no success, whose statuses are in ``statuses``. ``went_back`` are
    answers of an older version than their client had seen.
    """

    began: float = field(default_factory=time.monotonic)
    ended: float = 0.0
    seconds: list[float] = field(default_factory=list)
    ages: list[float] = field(default_factory=list)
    retried: int = 0
    failed: int = 0
    went_back: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)

    def quantile_ms(self, share: float) -> float:
        """Return the time that ``share`` of the answers took at most."""
        return float(np.quantile(self.seconds, share)) * 1000 if self.seconds else float("nan")

    @property
    def rate(self) -> float:
        """Answers a second."""
        return len(self.seconds) / max(1e-9, (self.ended or time.monotonic()) - self.began)


class Balancer:
    """The servers on ``ports`` of this machine, and which of them are ready."""

    def __init__(self, ports: Sequence[int]) -> None:
        self.ready: frozenset[int] = frozenset()
        self._ports = tuple(ports)

    async def watch(self) -> None:
        """Ask every server, again and again, until cancelled."""
        while True:
            began = time.monotonic()
            answers = await asyncio.gather(*map(self._is_ready, self._ports))
            self.ready = frozenset(port for port, ready in zip(self._ports, answers, strict=True) if ready)
            await asyncio.sleep(max(0.0, began + CHECK_SECONDS - time.monotonic()))

    def pick(self, chance: random.Random, *, but: int | None = None) -> int:
        """Return a ready server's port, another one than ``but``; raises :class:`NoServer`."""
        ports = sorted(self.ready - {but})
        if not ports:
            raise NoServer("no server is ready")
        return chance.choice(ports)

    async def _is_ready(self, port: int) -> bool:
        connection = Connection(port)
        try:
            async with asyncio.timeout(CHECK_SECONDS):
                await connection.open()
                status, _ = await connection.exchange(request(port, "GET", "/readyz"))
        except NOT_ANSWERED:
            return False
        finally:
            connection.close()
        return status == 200


class Connection:
    """One connection to the server on ``port``."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._ends = False

    @property
    def usable(self) -> bool:
        """Whether it is open, as far as this side has heard."""
        return self._streams is not None and not self._ends and not self._streams[0].at_eof()

    async def open(self) -> None:
        """Connect."""
        self._streams = await asyncio.open_connection("127.0.0.1", self.port)

    def close(self) -> None:
        """End it at once."""
        if self._streams is not None:
            self._streams[1].transport.abort()
        self._streams = None

    async def exchange(self, sent: bytes) -> tuple[int, bytes]:
        """Send a request and return the answer's status and body."""
        assert self._streams is not None
        reader, writer = self._streams
        writer.write(sent)
        first, *lines = (await reader.readuntil(b"\r\n\r\n")).lower().split(b"\r\n")
        headers = dict(line.split(b": ", 1) for line in lines if line)
        self._ends = headers.get(b"connection") == b"close"
        return int(first.split()[1]), await reader.readexactly(int(headers[b"content-length"]))


def request(port: int, method: str, path: str, body: bytes = b"", *, key: str = "") -> bytes:
    """Return an HTTP request."""
    lines = [f"{method} {path} HTTP/1.1", f"Host: 127.0.0.1:{port}", f"Content-Length: {len(body)}"]
    lines += ["Content-Type: application/json"] if body else []
    lines += [f"Authorization: Bearer {key}"] if key else []
    return "\r\n".join([*lines, "", ""]).encode() + body


class Load:
    """``clients`` that each ask about ``per_second`` times a second until :meth:`stop`.

    A client remembers the newest source version that it was answered from and, with ``sessions``, asks for no older
    one. ``key`` is an API key, if the servers want one.
    """

    def __init__(
        self,
        ports: Sequence[int],
        path: str,
        bodies: Sequence[dict[str, Any]],
        *,
        clients: int,
        per_second: float,
        key: str = "",
    ) -> None:
        self.balancer = Balancer(ports)
        self.sessions = True
        self.tally = Tally()
        self._path, self._bodies, self._key = path, bodies, key
        self._clients, self._pause = clients, 1 / per_second
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="clients", daemon=True)

    def start(self) -> None:
        """Begin to ask."""
        self._thread.start()

    def stop(self) -> None:
        """Let every client end what it asks."""
        self._stopping.set()
        self._thread.join()

    @contextmanager
    def phase(self) -> Iterator[Tally]:
        """Count what is asked while the block runs."""
        tally = self.tally = Tally()
        yield tally
        tally.ended = time.monotonic()
        self.tally = Tally()

    async def _run(self) -> None:
        watching = asyncio.create_task(self.balancer.watch())
        await asyncio.gather(*(self._client(number) for number in range(self._clients)))
        watching.cancel()
        with suppress(asyncio.CancelledError):
            await watching

    async def _client(self, number: int) -> None:
        chance = random.Random(SEED + number)
        session = _Session(self, chance)
        while not self._stopping.is_set():
            await asyncio.sleep(chance.expovariate(1 / self._pause))
            if self.balancer.ready or session.began:  # the first question waits until somebody is there
                await session.ask(dict(chance.choice(self._bodies)))
        session.close()

    def request(self, port: int, body: dict[str, Any]) -> bytes:
        """Return one search."""
        return request(port, "POST", self._path, json.dumps(body).encode(), key=self._key)


class _Session:
    """One client: its connection, and what it has seen."""

    def __init__(self, load: Load, chance: random.Random) -> None:
        self.began = False
        self._load, self._chance = load, chance
        self._connection: Connection | None = None
        self._until = 0.0
        self._seen: int | None = None

    def close(self) -> None:
        """End the connection."""
        if self._connection is not None:
            self._connection.close()
        self._connection = None

    async def ask(self, body: dict[str, Any]) -> None:
        """Ask, and ask another server if the connection fails."""
        self.began = True
        started = time.perf_counter()
        if time.monotonic() >= self._until:
            self.close()
        if self._load.sessions and self._seen is not None:
            body["min_version"] = self._seen
        try:
            status, answer = await self._answer(body)
        except NOT_ANSWERED:
            self._load.tally.failed += 1
            return
        tally = self._load.tally
        if status != 200:
            tally.failed += 1
            tally.statuses[status] += 1
            return
        tally.seconds.append(time.perf_counter() - started)
        self._note(json.loads(answer), tally)

    def _note(self, answer: dict[str, Any], tally: Tally) -> None:
        version = int(answer["source"]["version"])
        if self._load.sessions:
            tally.went_back += self._seen is not None and version < self._seen
        self._seen = max(version, self._seen or 0)
        tally.ages.append(float(answer["age_seconds"]))

    async def _answer(self, body: dict[str, Any]) -> tuple[int, bytes]:
        port = None
        for last in (False, True):
            try:
                if self._connection is None or not self._connection.usable:
                    self.close()
                    port = self._load.balancer.pick(self._chance, but=port)
                    self._connection = Connection(port)
                    self._until = time.monotonic() + self._chance.expovariate(1 / CONNECTION_SECONDS)
                port = self._connection.port
                async with asyncio.timeout(ATTEMPT_SECONDS):
                    if not self._connection.usable:
                        await self._connection.open()
                    return await self._connection.exchange(self._load.request(port, body))
            except NOT_ANSWERED as error:
                self.close()
                self._load.tally.errors[type(error).__name__] += 1
                if last:
                    raise
                self._load.tally.retried += 1
        raise AssertionError("the last attempt returns or raises")
