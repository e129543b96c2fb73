"""Round every operation: its request id, its problem if it fails, its audit record, its log line and its metrics.

A plain ASGI middleware round the whole application. Whatever goes wrong below becomes a problem here, so that no
answer leaves without a request id and no stack trace reaches a caller.
"""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Callable
from typing import Any

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api import tracing
from api.auditing import Auditor, unrecorded
from api.errors import AuditUnavailable
from api.logs import Logger
from api.metrics import Metrics
from api.operation import Operation, operation_of, route_of
from api.problems import (
    BAD_REQUEST,
    INTERNAL,
    INVALID,
    MEDIA_TYPE,
    METHOD_NOT_ALLOWED,
    MISDIRECTED,
    NO_SUCH_ROUTE,
    Mistake,
    Problem,
)

REQUEST_ID = re.compile(rb"[A-Za-z0-9._~-]{1,128}")
TRACEPARENT = re.compile(rb"[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}")
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
"""A caller may send any word as a method; each other one would be a metric line of its own."""
LOGGED_PREFIX = "/v1/"
PROBES = frozenset({"/livez", "/readyz", "/startupz"})
"""Answered for any host: who probes a pod does so by its address."""


async def problem_response(request: Request, problem: Exception) -> Response:
    """Return the response of a problem: the handler for :class:`Problem` and the framework's own errors."""
    operation = operation_of(request)
    found = _as_problem(request, problem)
    operation.code, operation.denied = found.kind.code, found.denied
    return Response(found.body(operation.request_id), found.kind.status, found.headers, MEDIA_TYPE)


class Operations:
    """The middleware; ``hosts`` are the names in the Host header that are answered, all of them if it is None.

    While ``draining`` every answer closes its connection: a balancer of connections, as Kubernetes' Service is, sends
    new ones elsewhere by then and leaves those that are open where they are, until the end cuts them off.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        log: Logger,
        metrics: Metrics,
        auditor: Auditor,
        hosts: frozenset[str] | None,
        draining: Callable[[], bool],
    ) -> None:
        self._app = app
        self._auditor = auditor
        self._log = log
        self._metrics = metrics
        self._hosts = hosts
        self._draining = draining

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        operation = Operation(_request_id(headers), tracing.ids_of_span() or _trace(headers))
        scope["grebe.operation"] = operation
        tracing.begin(scope)
        request_id = (b"x-request-id", operation.request_id.encode("ascii"))

        async def send_marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                if scope["path"].startswith(LOGGED_PREFIX):
                    await self._auditor.ends(scope, operation, message["status"])
                operation.answering = True
                operation.status = message["status"]
                tracing.describe(scope, operation)
                more = [(name.lower().encode(), value.encode()) for name, value in operation.headers.items()]
                if self._draining():
                    more.append((b"connection", b"close"))
                message["headers"] = [*message["headers"], request_id, *more]
            await send(message)

        self._metrics.in_flight.inc()
        try:
            if self._hosts is None or _host(headers) in self._hosts or scope["path"] in PROBES:
                await self._app(scope, receive, send_marked)
            else:
                await self._answer(scope, receive, send_marked, misdirected(headers))
        except AuditUnavailable:  # what was found out may not leave unrecorded
            await self._answer(scope, receive, send_marked, unrecorded())
        except Exception as error:
            self._log.error("request failed", exc_info=error, **self._line(scope, operation))
            if operation.answering:
                raise
            await self._answer(scope, receive, send_marked, error)
        finally:
            self._metrics.in_flight.dec()
            self._finish(scope, operation)

    async def _answer(self, scope: Scope, receive: Receive, send: Send, problem: Exception) -> None:
        response = await problem_response(Request(scope), problem)
        await response(scope, receive, send)

    def _finish(self, scope: Scope, operation: Operation) -> None:
        seconds = time.perf_counter() - operation.started
        route = route_of(scope)
        method = scope["method"] if scope["method"] in METHODS else "other"
        self._metrics.answered(method, route, operation.status, seconds)
        if scope["path"].startswith(LOGGED_PREFIX):
            self._log.info("request", **self._line(scope, operation), latency_ms=round(seconds * 1000, 3))

    def _line(self, scope: Scope, operation: Operation) -> dict[str, Any]:
        line: dict[str, Any] = {
            "request_id": operation.request_id,
            "method": scope["method"],
            "route": route_of(scope),
            "status": operation.status,
            **operation.trace,
            **operation.facts,
        }
        if operation.code:
            line["code"] = operation.code
        return line


def misdirected(headers: dict[bytes, bytes]) -> Problem:
    """Return the 421 of a request for another host."""
    detail = f"the Host header is {_host(headers)!r}, which is not among the server's allowed_hosts"
    return Problem(MISDIRECTED, detail, denied=True)


def _request_id(headers: dict[bytes, bytes]) -> str:
    given = headers.get(b"x-request-id", b"")
    return given.decode("ascii") if REQUEST_ID.fullmatch(given) else secrets.token_hex(16)


def _trace(headers: dict[bytes, bytes]) -> dict[str, str]:
    found = TRACEPARENT.fullmatch(headers.get(b"traceparent", b""))
    return {"trace_id": found[1].decode("ascii"), "span_id": found[2].decode("ascii")} if found else {}


def _host(headers: dict[bytes, bytes]) -> str:
    host = headers.get(b"host", b"").decode("latin-1").lower()
    return host[1 : host.find("]")] if host.startswith("[") else host.partition(":")[0]


def _as_problem(request: Request, error: Exception) -> Problem:
    if isinstance(error, Problem):
        return error
    if isinstance(error, RequestValidationError):
        mistakes = [Mistake(message=item["msg"], field=".".join(map(str, item["loc"]))) for item in error.errors()]
        return Problem(INVALID, mistakes[0]["message"], errors=mistakes)
    if isinstance(error, HTTPException):
        return _from_framework(request, error)
    return Problem(INTERNAL, "the request could not be answered; the server's log has the details")


def _from_framework(request: Request, error: HTTPException) -> Problem:
    headers = dict(error.headers or {})
    if error.status_code == 404:
        return Problem(NO_SUCH_ROUTE, f"there is nothing at {request.url.path}", headers=headers)
    if error.status_code == 405:
        detail = f"{request.url.path} does not answer {request.method}"
        return Problem(METHOD_NOT_ALLOWED, detail, headers=headers)
    return Problem(BAD_REQUEST, str(error.detail), headers=headers)
