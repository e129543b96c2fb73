"""The address that agents talk to, by the Model Context Protocol's streamable HTTP, without sessions.

A tool's call goes through the whole application as the HTTP call that it is: policies, quotas, deadlines, the audit log
and the metrics know of no second way in.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.metadata import version as installed_version
from typing import Any
from urllib.parse import unquote, urlsplit

import orjson
from fastapi import APIRouter, FastAPI, Request
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel.server import Server
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp_types import CallToolRequestParams, CallToolResult, ListToolsResult, PaginatedRequestParams, TextContent
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from api.agents.tools import INSTRUCTIONS, Call, call_of, tools
from api.bodies import read_json_bytes
from api.documented import problems_of_callers
from api.operation import operation_of
from api.problems import (
    BAD_REQUEST,
    COLLECTION_NOT_FOUND,
    ENCODED,
    FORBIDDEN,
    INVALID,
    NOT_JSON_TYPE,
    TOO_LARGE,
    Problem,
)
from api.service import Service
from api.strict import StrictRoute

_CARRIED = frozenset({b"host", b"authorization", b"x-forwarded-for", b"traceparent", b"tracestate", b"user-agent"})
"""Headers of an agent's request that its tool's call has too."""
_A_MESSAGE = {"requestBody": {"required": True, "content": {"application/json": {"schema": {"type": "object"}}}}}
_Context = ServerRequestContext[dict[str, Any], Request]


class AgentEndpoint:
    """Answers agents with what ``app`` answers, for as long as it is :meth:`running`."""

    def __init__(self, app: FastAPI, service: Service) -> None:
        self._app = app
        self._service = service
        server = Server(
            "grebe",
            title="Grebe",
            version=installed_version("grebe"),
            instructions=INSTRUCTIONS,
            on_list_tools=self._list,
            on_call_tool=self._call,
        )
        server.middleware.clear()  # its spans are named after what a client says
        self._manager = StreamableHTTPSessionManager(
            server, json_response=True, stateless=True, max_request_body_size=service.settings.max_body_bytes
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Answer until the end of the block; once."""
        async with self._manager.run():
            yield

    def router(self) -> APIRouter:
        """Return the route. None answers GET: there is no session, so the server has nothing to say unasked."""
        router = APIRouter(prefix="/v1", tags=["agents"], route_class=StrictRoute)

        problems = problems_of_callers(BAD_REQUEST, FORBIDDEN, TOO_LARGE, NOT_JSON_TYPE, ENCODED, INVALID)

        @router.post(
            "/mcp", operation_id="mcp", responses=problems, openapi_extra=_A_MESSAGE, summary="Answer an agent"
        )
        async def mcp(request: Request) -> Response:
            """One message of the Model Context Protocol (streamable HTTP), answered as JSON."""
            await self._service.caller(request)
            self._require_own_page(request)
            return _Spoken(self._manager, await read_json_bytes(request, self._service.settings.max_body_bytes))

        return router

    def _require_own_page(self, request: Request) -> None:
        """Raise the 403 of a page of another site, which the protocol wants told apart from an agent."""
        origin, settings = request.headers.get("origin"), self._service.settings
        hosts = settings.answered_hosts
        if not origin or hosts is None or settings.cors.allows(origin) or urlsplit(origin).hostname in hosts:
            return
        detail = f"a page of {origin} is not answered here; see cors.origins and allowed_hosts"
        raise Problem(FORBIDDEN, detail, denied=True)

    async def _list(self, _: _Context, __: PaginatedRequestParams | None) -> ListToolsResult:
        return ListToolsResult(tools=[*tools()])

    async def _call(self, context: _Context, params: CallToolRequestParams) -> CallToolResult:
        try:
            call = call_of(params.name, params.arguments or {})
        except ValueError as error:
            return CallToolResult(content=[_text(str(error))], is_error=True)
        request = context.request
        assert request is not None, "the transport is HTTP"
        operation = operation_of(request)
        operation.facts["tool"] = params.name
        operation.concluded = True  # the call itself goes into the audit log
        answer = await asked(self._app, request.scope, call, operation.request_id)
        said, content = [_text(answer.content.decode())], orjson.loads(answer.content)
        if content.get("code") == COLLECTION_NOT_FOUND.code:
            said.append(_text("list_collections has their names."))
        if answer.retry_after:
            said.append(_text(f"Try again in {answer.retry_after} seconds."))
        return CallToolResult(content=[*said], structured_content=content, is_error=answer.status >= 400)


def _text(said: str) -> TextContent:
    return TextContent(text=said.encode("utf-8", "backslashreplace").decode())  # a client may say half a character


class _Spoken(Response):
    """What ``manager`` makes of the request, whose body is ``said``: its own reading of one knows no problems."""

    def __init__(self, manager: StreamableHTTPSessionManager, said: bytes) -> None:
        super().__init__()
        self._manager, self._said = manager, said

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        others = [(name, value) for name, value in scope["headers"] if name != b"content-type"]
        read = {**scope, "headers": [*others, (b"content-type", b"application/json")]}
        await self._manager.handle_request(read, _read_again(self._said, receive), send)


@dataclass(slots=True)
class Answer:
    """What a call was answered: its status, its body and, if it came too soon, in how many seconds to try again."""

    status: int = 0
    content: bytes = b""
    retry_after: str = ""


def _read_again(body: bytes, then: Receive) -> Receive:
    """Return what an application receives of a request with this ``body``, and then of its client."""
    parts: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Message:
        return parts.pop() if parts else await then()

    return receive


async def _gone() -> Message:
    return {"type": "http.disconnect"}


async def asked(app: FastAPI, scope: Scope, call: Call, request_id: str) -> Answer:
    """Return the answer of ``app`` to ``call``, made by whoever sent the request of ``scope``."""
    path = call.path.encode("ascii")
    headers = [(name, value) for name, value in scope["headers"] if name in _CARRIED]
    headers += [(b"content-type", b"application/json"), (b"x-request-id", request_id.encode("ascii"))]
    inner = {name: scope[name] for name in ("type", "asgi", "http_version", "scheme", "client", "server")} | {
        "method": call.method,
        "path": unquote(call.path),
        "raw_path": path,
        "root_path": "",
        "query_string": b"",
        "headers": headers,
    }
    answer = Answer()

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            answer.status = message["status"]
            answer.retry_after = dict(message["headers"]).get(b"retry-after", b"").decode("ascii")
        else:
            answer.content += message.get("body", b"")

    await app(inner, _read_again(call.body, _gone), send)
    return answer
