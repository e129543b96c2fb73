"""Routes without FastAPI's machinery on the way: it describes them, and the endpoint answers.

An endpoint here takes the request and its path's parts as strings and returns a response. FastAPI would solve
dependencies and inspect the body for each request; measured, that costs as much as parsing the HTTP.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request
from fastapi.routing import APIRoute
from starlette.responses import Response


class DirectRoute(APIRoute):
    """A route whose endpoint is ``async (request, **path parts) -> Response``."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the endpoint itself."""
        endpoint: Callable[..., Coroutine[Any, Any, Response]] = self.endpoint

        async def handle(request: Request) -> Response:
            return await endpoint(request, **request.path_params)

        return handle
