"""A proxy before an object store that loses replies: the request arrives, its sender never learns so."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit


class LossyProxy(ThreadingHTTPServer):
    """Forwards to ``upstream``; of PUTs of log entries it loses the next ``lost_replies`` or ``lost_requests``."""

    daemon_threads = True

    def __init__(self, upstream: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.upstream = urlsplit(upstream).netloc
        self.lost_replies = 0
        self.lost_requests = 0
        self.lost = 0

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: LossyProxy
    protocol_version = "HTTP/1.1"

    def _forward(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        entry = self.command == "PUT" and "_delta_log" in self.path and self.path.endswith(".json")
        if entry and self.server.lost_requests > 0:
            self.server.lost_requests -= 1
            self._hang_up()
            return
        connection = http.client.HTTPConnection(self.server.upstream, timeout=20)
        connection.request(self.command, self.path, body, dict(self.headers))
        reply = connection.getresponse()
        content = reply.read()
        connection.close()
        if entry and self.server.lost_replies > 0:
            self.server.lost_replies -= 1
            self._hang_up()
            return
        self.send_response(reply.status, reply.reason)
        for name, value in reply.getheaders():
            if name.lower() not in ("connection", "transfer-encoding", "date", "server"):
                self.send_header(name, value)
        if reply.getheader("Content-Length") is None:
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _forward  # noqa: N815

    def _hang_up(self) -> None:
        self.server.lost += 1
        self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing."""


@contextmanager
def lossy_proxy(upstream: str) -> Iterator[LossyProxy]:
    """Run a proxy before ``upstream``."""
    proxy = LossyProxy(upstream)
    thread = threading.Thread(target=proxy.serve_forever, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        proxy.shutdown()
        proxy.server_close()
        thread.join()
