"""Operations' own calls: health, metrics, version and what a problem means.

Some balancers probe by HEAD; the server sends such an answer without its body.
"""

from __future__ import annotations

import platform
from html import escape
from importlib.metadata import version as installed_version
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, Response

from api.answers import json_response
from api.direct import DirectRoute
from api.documented import problems_of_callers
from api.metrics import CONTENT_TYPE
from api.models.answers import HealthAnswer, VersionAnswer
from api.problems import FORBIDDEN, KINDS, NO_SUCH_ROUTE, Problem
from api.service import Service, service_of
from indexer.format.records import FORMAT_VERSION

router = APIRouter(tags=["operations"], route_class=DirectRoute)
VERSION = installed_version("grebe")
UNWELL: dict[int | str, dict[str, Any]] = {503: {"model": HealthAnswer, "description": "No; `reasons` say why."}}

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Grebe</title>
<style>body{{font:16px/1.5 system-ui,sans-serif;max-width:44rem;margin:3rem auto;padding:0 1rem}}
code{{background:#8882;padding:.1em .3em;border-radius:3px}}</style></head>
<body>{body}</body></html>
"""


@router.head("/livez", include_in_schema=False)
@router.get(
    "/livez", operation_id="livez", response_model=HealthAnswer, responses=UNWELL, summary="Is the process well?"
)
async def livez(request: Request) -> Response:
    """503 when a thread that should run has ended: restart the process."""
    service = service_of(request)
    return _health([] if service.alive else ["a background thread has ended"])


@router.head("/startupz", include_in_schema=False)
@router.get(
    "/startupz",
    operation_id="startupz",
    response_model=HealthAnswer,
    responses=UNWELL,
    summary="Has starting up ended?",
)
async def startupz(request: Request) -> Response:
    """503 until the store has been listed and each collection, and its query model, has been tried once."""
    return _health(_starting(service_of(request)))


@router.head("/readyz", include_in_schema=False)
@router.get(
    "/readyz",
    operation_id="readyz",
    response_model=HealthAnswer,
    responses=UNWELL,
    summary="Should requests be sent here?",
)
async def readyz(request: Request) -> Response:
    """503 while starting up, while the audit log cannot be written, and from SIGTERM on."""
    return _health(_unready(service_of(request)))


@router.get("/version", operation_id="version", response_model=VersionAnswer, summary="What runs here?")
async def version(_: Request) -> Response:
    """The versions of the server, of the segment format and of Python."""
    return json_response(
        {
            "version": VERSION,
            "format_version": FORMAT_VERSION,
            "python": platform.python_version(),
        }
    )


@router.get(
    "/metrics",
    operation_id="metrics",
    response_class=Response,
    responses=problems_of_callers(FORBIDDEN),
    summary="Metrics for Prometheus",
)
async def metrics(request: Request) -> Response:
    """Prometheus' text format. It is of all collections, and needs the action 'monitor' on all of them together."""
    service = service_of(request)
    (await service.access(request)).require("monitor")
    return Response(service.metrics.text(), media_type=CONTENT_TYPE)


@router.get("/problems/{code}", response_class=HTMLResponse, include_in_schema=False)
async def problem(_: Request, code: str) -> Response:
    """What a problem's ``type`` means and what to do."""
    kind = KINDS.get(code)
    if kind is None:
        raise Problem(NO_SUCH_ROUTE, "there is no problem of that code")
    body = f"<h1>{escape(kind.title)}</h1><p>Status {kind.status}, code <code>{kind.code}</code>.</p>"
    return HTMLResponse(_PAGE.format(body=f"{body}<p>{escape(kind.remedy)}</p>"))


def _unready(service: Service) -> list[str]:
    """Return why requests should not be sent here."""
    if service.draining:
        return ["the server is shutting down"]
    return [service.auditor.trouble] if service.auditor.trouble else _starting(service)


def _starting(service: Service) -> list[str]:
    """Return what starting up waits for, without names where these are not for everybody."""
    return service.starting(named=not service.identity.is_configured)


def _health(reasons: list[str]) -> Response:
    return json_response({"status": "unavailable" if reasons else "ok", "reasons": reasons}, 503 if reasons else 200)
