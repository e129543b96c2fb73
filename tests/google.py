"""What obstore and delta-rs need of Google's storage: its XML API, which is S3's but for a few names, before moto.

That Google's own answers are the same is not proven by it. The emulators that could be had ignore the one condition on
which a store relies, ``x-goog-if-generation-match``.
"""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

GENERATION = "x-goog-if-generation-match"
_GOOGLES_OWN = (GENERATION, "authorization")
_SIGNED = "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0"
"""moto wants a signature and checks none."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, s3: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.s3 = urlsplit(s3).netloc


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"

    def _handle(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        headers = {name: value for name, value in self.headers.items() if name.lower() not in _GOOGLES_OWN}
        headers["Authorization"] = _SIGNED
        # Of generation 0 is what does not exist.
        if self.headers.get(GENERATION) == "0":
            headers["If-None-Match"] = "*"
        if self.command == "DELETE" and not self._is_there(headers):
            self._answer(404, b"<Error><Code>NoSuchKey</Code></Error>", {})
            return
        reply, content = self._ask(self.command, body, headers)
        kept = {name: value for name, value in reply.getheaders() if name.lower() not in _HOP_BY_HOP}
        self._answer(reply.status, content, kept)

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _handle  # noqa: N815

    def _is_there(self, headers: Mapping[str, str]) -> bool:
        return self._ask("HEAD", b"", headers)[0].status == 200

    def _ask(self, method: str, body: bytes, headers: Mapping[str, str]) -> tuple[http.client.HTTPResponse, bytes]:
        connection = http.client.HTTPConnection(self.server.s3, timeout=20)
        connection.request(method, self.path, body, dict(headers))
        reply = connection.getresponse()
        content = reply.read()
        connection.close()
        return reply, content

    def _answer(self, status: int, content: bytes, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if "content-length" not in {name.lower() for name in headers}:
            self.send_header("Content-Length", str(len(content)))
        # What was written has a generation, and a client asks for it.
        self.send_header("x-goog-generation", "1")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing."""


_HOP_BY_HOP = ("connection", "transfer-encoding", "date", "server")


@contextmanager
def google_storage(s3: str) -> Iterator[str]:
    """Run the server before the S3 server at the address ``s3``; yield its own."""
    server = _Server(s3)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def environment_of(address: str, folder: Path) -> Mapping[str, str]:
    """Return the variables with which a client finds the server at ``address`` and asks it without a token.

    Both are in a key's file, which is put into ``folder``; of obstore's own variables delta-rs knows not all.
    """
    key = folder / "service-account.json"
    nobody = {"client_email": "", "private_key": "", "private_key_id": ""}
    key.write_text(json.dumps({"gcs_base_url": address, "disable_oauth": True, **nobody}))
    return {"GOOGLE_BASE_URL": address, "GOOGLE_SERVICE_ACCOUNT": str(key)}
