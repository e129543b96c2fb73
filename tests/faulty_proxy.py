"""A proxy before an object store that does wrong: it refuses, hangs up or falls silent, before or after it forwards."""

from __future__ import annotations

import http.client
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal
from urllib.parse import urlsplit

SILENCE_SECONDS = 20.0
"""How long a request stays unanswered at most: longer than the clients in tests wait."""

How = Literal["error", "drop", "silence"]
"""Answer 500, close the connection, or say nothing until the client gives up."""


@dataclass
class Fault:
    """What befalls the next ``times`` requests that begin with ``method`` and whose path matches ``path`` somewhere.

    With ``forwarded`` the request arrives and is carried out, and only its sender does not learn so. ``met`` counts.
    """

    how: How
    method: str
    path: str
    forwarded: bool = False
    times: int = 1
    met: int = 0

    def befalls(self, method: str, path: str) -> bool:
        """Say whether it befalls this request, and count it."""
        here = self.met < self.times and method.startswith(self.method) and re.search(self.path, path) is not None
        self.met += here
        return here


class FaultyProxy(ThreadingHTTPServer):
    """Forwards to ``upstream``, but for the requests that ``fault`` befalls."""

    daemon_threads = True

    def __init__(self, upstream: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.upstream = urlsplit(upstream).netloc
        self.fault: Fault | None = None
        self.closing = threading.Event()
        self.one_at_a_time = threading.Lock()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def fault_of(self, method: str, path: str) -> Fault | None:
        """Return the fault that befalls a request, if one does."""
        with self.one_at_a_time:
            return self.fault if self.fault and self.fault.befalls(method, path) else None


class _Handler(BaseHTTPRequestHandler):
    server: FaultyProxy
    protocol_version = "HTTP/1.1"

    def _handle(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        fault = self.server.fault_of(self.command, self.path)
        if fault and not fault.forwarded:
            self._do_wrong(fault)
            return
        connection = http.client.HTTPConnection(self.server.upstream, timeout=20)
        connection.request(self.command, self.path, body, dict(self.headers))
        reply = connection.getresponse()
        content = reply.read()
        connection.close()
        if fault:
            self._do_wrong(fault)
            return
        self.send_response(reply.status, reply.reason)
        for name, value in reply.getheaders():
            if name.lower() not in ("connection", "transfer-encoding", "date", "server"):
                self.send_header(name, value)
        if reply.getheader("Content-Length") is None:
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            with suppress(BrokenPipeError, ConnectionResetError):  # the client has given up
                self.wfile.write(content)

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _handle  # noqa: N815

    def _do_wrong(self, fault: Fault) -> None:
        if fault.how == "error":
            self.send_response(500)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if fault.how == "silence":
            self.server.closing.wait(SILENCE_SECONDS)
        self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing."""


@contextmanager
def faulty_proxy(upstream: str) -> Iterator[FaultyProxy]:
    """Run a proxy before ``upstream``."""
    proxy = FaultyProxy(upstream)
    thread = threading.Thread(target=proxy.serve_forever, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        proxy.closing.set()
        proxy.shutdown()
        proxy.server_close()
        thread.join()
