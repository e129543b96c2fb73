"""The console: a page for people, and the files that it is made of. They hold no data, so they ask for no key."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import Response

from api.direct import DirectRoute
from api.pages import Page, read_pages
from api.problems import NO_SUCH_ROUTE, Problem

POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",  # a string can never become markup or a script, whatever a module does
        "trusted-types 'none'",
    )
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}
NO_CACHE = "no-cache"  # asked for each time, and answered by 304 until the server is another version
FOR_EVER = "public, max-age=31536000, immutable"  # what has its version in its address


def console_router() -> APIRouter:
    """Return the routes of the console, with its files read now."""
    router = APIRouter(route_class=DirectRoute, include_in_schema=False)
    pages = read_pages()

    @router.get("/")
    async def first(request: Request) -> Response:
        return _sent(request, pages.first, NO_CACHE)

    @router.get("/console/{version}/{name}")
    async def file(request: Request, version: str, name: str) -> Response:
        page = pages.others.get(name) if version == pages.version else None
        if page is None:
            raise Problem(NO_SUCH_ROUTE, f"there is nothing at {request.url.path}")
        return _sent(request, page, FOR_EVER)

    return router


def _sent(request: Request, page: Page, caching: str) -> Response:
    headers = {**HEADERS, "Cache-Control": caching, "ETag": page.etag}
    if page.is_known(request.headers.get("if-none-match", "")):
        return Response(status_code=304, headers=headers)
    return Response(page.content, media_type=page.media_type, headers=headers)
