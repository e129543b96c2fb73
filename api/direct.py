"""Routes without FastAPI's machinery on the way: it describes them, and the endpoint answers.

An endpoint here takes the request, its path's parts as strings and its query's as lists of them, and returns a
response. FastAPI would solve dependencies and inspect the body for each request; measured, that costs as much as
parsing the HTTP.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request
from fastapi.routing import APIRoute
from starlette.responses import Response


class DirectRoute(APIRoute):
    """A route whose endpoint is ``async (request, **path parts, **query parts) -> Response``."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the endpoint itself."""
        endpoint: Callable[..., Coroutine[Any, Any, Response]] = self.endpoint
        names = [parameter.name for parameter in self.dependant.query_params]

        async def handle(request: Request) -> Response:
            given = {name: values for name in names if (values := request.query_params.getlist(name))}
            return await endpoint(request, **request.path_params, **given)

        return handle
