"""Which pages of other origins may call ``/v1/`` from a browser: CORS, as the Fetch standard has it.

Who asks is told by a header that a page has to set itself, never by a cookie, so nothing is allowed "with credentials"
and a page gets no more than the key or token that it holds.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, model_validator
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

ANY = "*"
PREFIX = "/v1/"
METHODS = ("GET", "POST")
SENT = (
    "Authorization",
    "Content-Type",
    "X-Request-ID",
    "traceparent",
    "tracestate",
    "Mcp-Protocol-Version",
    "Mcp-Method",
    "Mcp-Name",
)
"""Headers that a page may send; the last three are an agent's."""
SHOWN = ("X-Request-ID", "RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset", "Retry-After")
"""Headers of answers that a page may read, beside those that any may."""
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[^/?#@*\sA-Z]+")
_USUAL_PORTS = re.compile(r"http://.*:80|https://.*:443")


def _origin(text: str) -> str:
    """Return ``text`` if a browser could send it as an origin; ValueError says what is wrong with it.

    >>> _origin("https://app.example.com:8443")
    'https://app.example.com:8443'
    """
    if text != ANY and (not _ORIGIN.fullmatch(text) or _USUAL_PORTS.fullmatch(text)):
        raise ValueError(
            f"{text!r} is no origin as browsers send it: write scheme and host in small letters, and a port that is "
            "not the usual one, without a path, as in https://app.example.com"
        )
    return text


class CorsSettings(BaseModel):
    """The ``origins`` whose pages may call the server from a browser: ``https://app.example.com``, or ``*`` for all."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    origins: tuple[Annotated[str, AfterValidator(_origin)], ...] = ()

    @model_validator(mode="after")
    def _is_any_or_some(self) -> Self:
        if self.allows_any and len(self.origins) > 1:
            raise ValueError("'*' is every origin: name it alone, or leave it out")
        return self

    @property
    def allows_any(self) -> bool:
        """Whether pages of all origins may call."""
        return ANY in self.origins

    def allows(self, origin: str) -> bool:
        """Say whether pages of ``origin`` may call."""
        return self.allows_any or origin in self.origins


class CrossOrigin:
    """The middleware, round the one that logs: a preflight is no call, and a page can read every problem."""

    def __init__(self, app: ASGIApp, *, origins: Sequence[str]) -> None:
        self._app = app
        self._answering = CORSMiddleware(
            app,
            allow_origins=origins,
            allow_methods=METHODS,
            allow_headers=SENT,
            expose_headers=SHOWN,
            allow_private_network=True,  # who names an origin wants it answered wherever the server is
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run one request."""
        is_call = scope["type"] == "http" and scope["path"].startswith(PREFIX)
        await (self._answering if is_call else self._app)(scope, receive, send)
