"""What is no HTTP request never reaches the application; it is answered with a problem all the same."""

from __future__ import annotations

import asyncio
import secrets
from typing import TYPE_CHECKING, cast

from uvicorn.protocols.http.auto import AutoHTTPProtocol

from api.logs import Logger
from api.metrics import Metrics
from api.problems import BAD_REQUEST, MEDIA_TYPE, Problem

if TYPE_CHECKING:
    from uvicorn.server import ServerState

DETAIL = "this is not HTTP as the server reads it: check the request line, the headers and the length of the address"


class _Unreadable:
    """What a protocol of uvicorn's, on httptools or on h11, says to bytes that it cannot parse."""

    log: Logger
    metrics: Metrics
    transport: asyncio.Transport
    server_state: ServerState

    def send_400_response(self, msg: str) -> None:
        """Answer, and close: where the next request begins is not known."""
        request_id = secrets.token_hex(16)
        body = Problem(BAD_REQUEST, DETAIL).body(request_id)
        headers = [
            *self.server_state.default_headers,
            (b"content-type", MEDIA_TYPE.encode("ascii")),
            (b"content-length", str(len(body)).encode("ascii")),
            (b"x-request-id", request_id.encode("ascii")),
            (b"connection", b"close"),
        ]
        lines = [b"HTTP/1.1 400 Bad Request", *(name + b": " + value for name, value in headers), b"", body]
        self.transport.write(b"\r\n".join(lines))
        self.transport.close()
        self.metrics.unreadable()
        self.log.info("request", request_id=request_id, status=400, code=BAD_REQUEST.code, detail=msg)


def http_protocol(
    log: Logger, metrics: Metrics, base: type[asyncio.Protocol] = AutoHTTPProtocol
) -> type[asyncio.Protocol]:
    """Return uvicorn's HTTP protocol ``base`` (the one that it would pick) with a problem for unreadable requests."""
    return cast("type[asyncio.Protocol]", type("HTTPProtocol", (_Unreadable, base), {"log": log, "metrics": metrics}))
