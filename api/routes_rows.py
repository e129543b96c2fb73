"""Rows by their keys: one by its address, or many at once."""

from __future__ import annotations

import re
import time
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import Response

from api.auditing import rows_facts
from api.bodies import read_json_bytes
from api.documented import body_described, problems_of_callers, problems_of_reads
from api.mistakes import body_of
from api.models.answers import RowAnswer, RowsAnswer
from api.models.requests import RowsBody
from api.operation import operation_of
from api.problems import (
    COLLECTION_NOT_FOUND,
    DEADLINE,
    FORBIDDEN,
    INVALID,
    NODES_UNAVAILABLE,
    NOT_READY,
    OVERLOADED,
    ROW_NOT_FOUND,
)
from api.reading import row_in_time, rows_in_time
from api.running import answered
from api.service import service_of
from api.strict import StrictRoute

router = APIRouter(prefix="/v1/collections", tags=["rows"], route_class=StrictRoute)
_SLASH = re.compile("/|%2f", re.IGNORECASE)
_SLASHES_BEFORE_KEY = "/v1/collections/{name}/rows/".count("/")


@router.get(
    "/{name}/rows/{key:path}",
    operation_id="get_row",
    response_model=RowAnswer,
    responses=problems_of_callers(
        FORBIDDEN, COLLECTION_NOT_FOUND, ROW_NOT_FOUND, INVALID, OVERLOADED, NOT_READY, NODES_UNAVAILABLE, DEADLINE
    ),
    summary="One row by its key",
)
async def get_row(
    request: Request,
    name: str,
    key: Annotated[
        str,
        Path(
            description="The key; a composite key is its values, each percent-encoded, joined by commas. A client that "
            "percent-encodes the whole of it cannot ask for one: get_rows takes its values as JSON."
        ),
    ],
    include: Annotated[
        list[str] | None,
        Query(description="The fields to return; by default, all. Repeat it for several."),
    ] = None,
) -> Response:
    """The row's columns and whole text fields, and the source version that it is of."""
    service = service_of(request)
    access = await service.access(request)
    watcher = service.watcher(access, name, "read")
    await service.begins(request)
    operation = operation_of(request)
    operation.facts["collection"] = name
    # The path as it was sent: in the decoded one, a comma within a value looks like a comma between values. The route
    # was matched against the decoded one, so the slashes before the key may be percent-encoded, and its words too.
    raw_key = _SLASH.split(request.scope["raw_path"].decode("ascii"), _SLASHES_BEFORE_KEY)[_SLASHES_BEFORE_KEY]
    return answered(operation, await row_in_time(service, watcher, raw_key, include, access))


@router.post(
    "/{name}/rows",
    operation_id="get_rows",
    response_model=RowsAnswer,
    responses=problems_of_reads(),
    openapi_extra=body_described(RowsBody),
    summary="Many rows by their keys",
)
async def get_rows(request: Request, name: str) -> Response:
    """The rows of up to a thousand keys, in the order of the keys, all from one version.

    A key that no row has, or none that the caller may see, is among `missing`, as it was asked for.
    """
    service = service_of(request)
    operation = operation_of(request)
    started = time.monotonic()
    access = await service.access(request)
    watcher = service.watcher(access, name, "read")
    operation.facts["collection"] = name
    body = body_of(RowsBody, await read_json_bytes(request, service.settings.max_body_bytes))
    deadline = started + (body.deadline_ms or service.settings.search.deadline_ms) / 1000
    await service.begins(request, partial(rows_facts, body))
    return answered(operation, await rows_in_time(service, watcher, body, access, deadline=deadline))
