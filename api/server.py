"""Serving: one process, one port, from the first request to the last after SIGTERM."""

from __future__ import annotations

import errno
import math
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

import uvicorn
from fastapi import FastAPI

from api.app import create_app
from api.cluster.wire import MOST_FRAME_BYTES
from api.descriptors import take_all_descriptors
from api.errors import ControlError, SettingsError
from api.hosts import is_loopback
from api.logs import Logger, standard_logs
from api.protocol import http_protocol, websocket_protocol
from api.service import Service
from api.settings import MAX_DEADLINE_MS, ServeSettings

BACKLOG = 1024
KEEP_ALIVE_SECONDS = 75
"""An idle connection is closed by whoever is in front of the server, not by the server while a request may be on its
way: balancers keep theirs for a minute, and do not send a POST again whose connection went away. uvicorn keeps 5 s."""
SWITCH_SECONDS = 0.0005
"""A thread that wants the interpreter asks for it after so long, not after Python's 5 ms: one forward pass of a model
gives it up and takes it back hundreds of times. A fifth more hybrid searches a second by 64 clients on two cores."""


def _untold(*_: object) -> None:
    """Tell nobody."""


def serve(
    settings: ServeSettings, *, started: Callable[[str], None] = _untold, ready: Callable[[str, int], None] = _untold
) -> None:
    """Serve until SIGTERM or SIGINT, then drain and return; call it on the main thread.

    ``started`` is called with the base URL once connections are taken, ``ready`` with it and the number of collections
    once each of them and its query model have been tried. Raises :class:`api.errors.SettingsError` when the address
    cannot be bound or is not this machine's alone.
    """
    app = create_app(settings)
    service: Service = app.state.service
    bound = _bound(settings, service)
    sys.setswitchinterval(SWITCH_SECONDS)
    take_all_descriptors()
    with standard_logs(service.log):
        url = _url(bound)
        _Server(app, settings, lambda: started(url), lambda collections: ready(url, collections)).run([bound])


@contextmanager
def serving(settings: ServeSettings, *, log: Logger | None = None) -> Iterator[str]:
    """Serve on a thread of this process for the length of a ``with`` block, which gets the base URL.

    For a demo, a benchmark or a test; ``settings.port`` 0 takes any free port.
    """
    app = create_app(settings, log=log)
    bound = _bound(settings, app.state.service)
    ready = threading.Event()
    server = _Server(app, settings, ready.set, _untold)
    thread = threading.Thread(target=server.run, args=([bound],), name="serve", daemon=True)
    thread.start()
    try:
        while not ready.wait(0.05):
            if not thread.is_alive():
                raise SettingsError("the server ended while it was starting; its log says why")
        yield _url(bound)
    finally:
        server.should_exit = True
        thread.join()


class _Server(uvicorn.Server):
    """uvicorn, which on a signal first says that it is not ready and goes on answering for ``drain_seconds``."""

    def __init__(
        self, app: FastAPI, settings: ServeSettings, listening: Callable[[], None], ready: Callable[[int], None]
    ) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=http_protocol(app.state.service.log, app.state.service.metrics),
                ws=websocket_protocol() if settings.cluster.role == "node" else "none",
                ws_max_size=MOST_FRAME_BYTES,
                ws_per_message_deflate=False,
                ws_ping_timeout=MAX_DEADLINE_MS / 1000,  # a ping waits behind the answers that are being sent
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=bool(settings.trusted_proxies),
                forwarded_allow_ips=list(settings.trusted_proxies),
                backlog=BACKLOG,
                timeout_keep_alive=KEEP_ALIVE_SECONDS,
                timeout_graceful_shutdown=settings.shutdown_seconds,
            )
        )
        self._service: Service = app.state.service
        self._drain_seconds = settings.drain_seconds
        self._drained_at = math.inf
        self._listening, self._ready, self._told_ready = listening, ready, False

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and tell."""
        await super().startup(sockets)
        if self.started:
            self._listening()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to drain; a second signal ends the drain, a third the requests under way."""
        self.force_exit = self.should_exit
        self.should_exit = self._service.draining
        self._service.draining = True
        self._drained_at = min(self._drained_at, time.monotonic() + self._drain_seconds)

    async def on_tick(self, counter: int) -> bool:
        """Tell when everything has been opened, and end the drain when its time is over."""
        if not (self._told_ready or self._service.draining or self._service.starting()):
            self._told_ready = True
            self._ready(len(self._service.collections.all()))
        self.should_exit = self.should_exit or time.monotonic() >= self._drained_at
        return await super().on_tick(counter)


def _bound(settings: ServeSettings, service: Service) -> socket.socket:
    """Take the address, and the audit log's folder with it, before anything runs; raises SettingsError."""
    host = settings.host
    if not is_loopback(host):
        _require_identity(host, service)
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, settings.port, type=socket.SOCK_STREAM)[0]
    except OSError as error:
        raise SettingsError(f"host: '{host}' is no address of this machine ({error.strerror})") from error
    bound = socket.socket(family, kind, protocol)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind(address)
    except OSError as error:
        bound.close()
        why = f" ({error.strerror});"
        if error.errno == errno.EADDRINUSE:
            why = ": something listens there already, such as `grebe demo` or another `grebe serve`; end that, or"
        raise SettingsError(
            f"port: {settings.port} on {host} cannot be bound{why} choose another with --port (0 takes a free one)"
        ) from error
    try:
        service.start_audit()
    except SettingsError:
        bound.close()
        raise
    return bound


def _require_identity(host: str, service: Service) -> None:
    """Refuse an address that others can reach while nobody would have to say who they are.

    Where the settings require it of everybody the store is not asked, so that a server may start while that is away.
    """
    if service.settings.identity.names_callers:
        return
    try:
        service.identity.read()
    except ControlError as error:
        raise SettingsError(f"host: whether '{host}' may be served cannot be told: {error}") from error
    if not service.identity.is_configured:
        raise SettingsError(
            f"host: '{host}' is not a loopback address, and there is no key yet, so whoever reaches the port could "
            "read every collection: make one (`grebe keys create`), name an issuer of tokens (identity.issuers), or "
            "use 127.0.0.1, ::1 or localhost"
        )


def _url(bound: socket.socket) -> str:
    host, port = bound.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
