"""Routes of callers: a query parameter that a call does not have is a mistake, as an unknown field of a body is."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request
from starlette.responses import Response

from api.direct import DirectRoute
from api.mistakes import MAX_MISTAKES, invalid
from api.problems import Mistake, Problem
from api.service import service_of
from indexer.suggestion import did_you_mean


class StrictRoute(DirectRoute):
    """A direct route that answers 422 to query parameters that its endpoint does not declare.

    Who asks is found out first, as by every call: for the 401, the quota and the audit log.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the endpoint, behind the check."""
        answer = super().get_route_handler()
        known = [parameter.alias for parameter in self.dependant.query_params]

        async def handle(request: Request) -> Response:
            if request.scope["query_string"]:
                unknown = [name for name in request.query_params if name not in known]
                if unknown:
                    await service_of(request).access(request)
                    raise _unknown(unknown, known, has_body="POST" in (self.methods or ()))
            return await answer(request)

        return handle


def _unknown(names: list[str], known: list[str], *, has_body: bool) -> Problem:
    mistakes = []
    for name in names[:MAX_MISTAKES]:
        message = f"unknown query parameter{did_you_mean(name, known)}"
        mistake = Mistake(field=name, message=message, code="unknown-parameter")
        if has_body:
            mistake["hint"] = "what is asked goes into the body"
        mistakes.append(mistake)
    return invalid(mistakes)
