"""The HTTP side: Snowflake's addresses, the store of result chunks, and ``/_control`` for tests."""

from __future__ import annotations

import gzip
import json
import threading
import traceback
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from tests.snowflake.emulator.account import Account, Refused
from tests.snowflake.emulator.control import Control
from tests.snowflake.emulator.engine import Engine
from tests.snowflake.emulator.failure import SqlFailure
from tests.snowflake.emulator.faults import Faults
from tests.snowflake.emulator.results import KEY_HEADER, Results

EXPIRED = b"""<?xml version="1.0" encoding="UTF-8"?>
<Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>"""


class Service(ThreadingHTTPServer):
    """One emulated account on a port of the loopback address."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, port: int) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        engine, self.faults, self.results = Engine(), Faults(), Results()
        self.account = Account(engine, self.faults, self.results)
        self.control = Control(engine, self.faults, self.results, self.account)

    @property
    def address(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: Service
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_POST(self) -> None:
        parts = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        if parts.path.startswith("/_control/load/"):
            table = unquote(parts.path.rpartition("/")[2])
            return self._reply(lambda: self.server.account.load(table, body))
        content = json.loads(body) if body.strip() else {}
        account, token = self.server.account, self.headers.get("Authorization")
        names = {name: values[0] for name, values in parse_qs(parts.query).items()}
        if parts.path.startswith("/_control/"):
            return self._reply(lambda: self.server.control.do(parts.path.removeprefix("/_control/"), content))
        if parts.path == "/session/v1/login-request":
            return self._reply(lambda: account.sign_in(names, content))
        if parts.path == "/session/token-request":
            return self._reply(lambda: account.renew(content, token))
        if parts.path == "/session":
            return self._reply(lambda: account.sign_out(token))
        if parts.path == "/session/heartbeat":
            return self._reply(lambda: {"sessionId": account.signed_in(token).id})
        if parts.path == "/queries/v1/query-request":
            if refused := self.server.faults.refused_with():
                return self._send(refused, b"{}", "application/json")
            return self._reply(lambda: account.execute(token, content, self.server.address))
        if parts.path in ("/queries/v1/abort-request", "/telemetry/send"):
            return self._reply(lambda: None)
        return self._send(404, b"{}", "application/json")

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        pieces = [piece for piece in parts.path.split("/") if piece]
        account, token = self.server.account, self.headers.get("Authorization")
        if pieces[0] == "_control":
            return self._reply(lambda: self.server.control.do(pieces[1], {}))
        if pieces[0] == "chunks":
            return self._chunk(pieces[1], int(pieces[2]), parse_qs(parts.query)["X-Amz-Signature"][0])
        if pieces[0] == "queries" and pieces[-1] == "result":
            return self._reply(lambda: account.result(token, pieces[1], self.server.address))
        if pieces[:2] == ["monitoring", "queries"]:
            return self._reply(lambda: account.status(token, pieces[2]))
        return self._send(404, b"{}", "application/json")

    def _reply(self, act: Callable[[], Any]) -> None:
        """Answer as the service does: HTTP 200, and failure told in the body."""
        code: str | None = None
        message, data, success = None, None, False
        try:
            data, success = act(), True
        except SqlFailure as failure:
            code, message = f"{failure.code:06d}", failure.message
            data = {
                "errorCode": code,
                "sqlState": failure.sqlstate,
                "queryId": failure.query_id,
                "internalError": False,
            }
        except Refused as refused:
            code, message = refused.code, refused.message
        except Exception:
            traceback.print_exc()
            code, message = "261000", f"the emulator failed: {traceback.format_exc(limit=-2)}"
            data = {"errorCode": code, "sqlState": "XX000", "queryId": None}
        content = json.dumps({"data": data, "code": code, "message": message, "success": success}).encode()
        self._send(200, content, "application/json")

    def _chunk(self, query_id: str, place: int, token: str) -> None:
        closes_after = self.server.faults.dropped_after()
        chunk = self.server.results.chunk(query_id, place, token, self.headers.get(KEY_HEADER))
        if chunk is None:
            return self._send(403, EXPIRED, "application/xml")
        headers = {}
        if self.server.faults.compress:
            chunk, headers = gzip.compress(chunk, 1), {"Content-Encoding": "gzip"}
        return self._send(200, chunk, "application/octet-stream", headers, closes_after)

    def _send(
        self,
        status: int,
        content: bytes,
        kind: str,
        headers: dict[str, str] | None = None,
        closes_after: int | None = None,
    ) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(content)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content if closes_after is None else content[:closes_after])
        if closes_after is not None:
            self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Log to standard output, which is the log file."""
        print(threading.get_ident() % 1000, format % args, flush=True)  # noqa: T201
