"""What is no HTTP request never reaches the application; it is answered with a problem all the same."""

from __future__ import annotations

import asyncio
import secrets
from typing import TYPE_CHECKING, Any, cast

from uvicorn.protocols.http.auto import AutoHTTPProtocol

from api.logs import Logger
from api.metrics import Metrics
from api.problems import BAD_REQUEST, MEDIA_TYPE, Problem

if TYPE_CHECKING:
    from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
    from uvicorn.server import ServerState

LINGER_S = 2.0
"""Seconds for which the rest of an unreadable request is read, to be dropped, before its connection is closed."""

DETAIL = "this is not HTTP as the server reads it: check the request line, the headers and the length of the address"


class _Unreadable(asyncio.Protocol):
    """What a protocol of uvicorn's, on httptools or on h11, says to bytes that it cannot parse."""

    log: Logger
    metrics: Metrics
    transport: asyncio.Transport
    server_state: ServerState
    loop: asyncio.AbstractEventLoop
    cycle: Any  # of the newest request

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
        self._read_to_its_end()
        self.metrics.unreadable()
        self.log.info("request", request_id=request_id, status=400, code=BAD_REQUEST.code, detail=msg)

    def _read_to_its_end(self) -> None:
        """Drop what the client still says, and close when it has said everything, or soon.

        A socket that is closed while bytes of it are unread resets the connection, and the client may never see the
        answer (RFC 9112, section 9.6). Where requests before it still run, their
        answers have lost their places, and nothing is waited for.
        """
        if self.cycle is not None and not self.cycle.response_complete:
            self.transport.close()
            return
        self.connection_lost(ConnectionAbortedError("the rest of the request is not read"))
        self.transport.set_protocol(asyncio.Protocol())
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.loop.call_later(LINGER_S, self.transport.close)


def http_protocol(
    log: Logger, metrics: Metrics, base: type[asyncio.Protocol] = AutoHTTPProtocol
) -> type[asyncio.Protocol]:
    """Return uvicorn's HTTP protocol ``base`` (the one that it would pick) with a problem for unreadable requests."""
    return cast("type[asyncio.Protocol]", type("HTTPProtocol", (_Unreadable, base), {"log": log, "metrics": metrics}))


def websocket_protocol() -> type[WebSocketsSansIOProtocol]:
    """Return uvicorn's WebSocket protocol, with an end for handshakes that are refused before they are requests.

    uvicorn leaves those open and unanswered, and cannot be ended in order while there are any.
    """
    from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

    class WebSocketProtocol(WebSocketsSansIOProtocol):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if self.conn.handshake_exc is not None and not self.handshake_initiated:
                self.transport.write(b"".join(self.conn.data_to_send()))
                self.close_sent = True
                self.transport.close()

    return WebSocketProtocol
