"""The search call."""

from __future__ import annotations

import time
from functools import partial

from fastapi import APIRouter, Request
from fastapi.responses import Response

from api.auditing import facts_of
from api.bodies import read_json_bytes
from api.documented import body_described, problems_of_questions
from api.mistakes import body_of
from api.models.answers import SearchAnswer
from api.models.requests import SearchBody
from api.operation import operation_of
from api.problems import FILTER, RERANKER_UNAVAILABLE
from api.running import answered
from api.searching import search_in_time
from api.service import service_of
from api.strict import StrictRoute

router = APIRouter(prefix="/v1/collections", tags=["search"], route_class=StrictRoute)


@router.post(
    "/{name}/search",
    operation_id="search",
    response_model=SearchAnswer,
    responses=problems_of_questions(FILTER, RERANKER_UNAVAILABLE),
    openapi_extra=body_described(SearchBody),
    summary="Search a collection",
)
async def search(request: Request, name: str) -> Response:
    """Rank the rows that pass the filter by meaning, by keyword, or by both, all legs from one version.

    `age_seconds` says how long ago the index was last known to hold everything that the source had. With
    `min_version` or `max_staleness_seconds` the call waits for a version that meets them, up to the deadline.
    """
    service = service_of(request)
    operation = operation_of(request)
    started = time.monotonic()
    access = await service.access(request)
    watcher = service.watcher(access, name, "search")
    operation.facts["collection"] = name
    body = body_of(SearchBody, await read_json_bytes(request, service.settings.max_body_bytes))
    service.counts(request, access, body.searches)
    deadline = started + (body.deadline_ms or service.settings.search.deadline_ms) / 1000
    await service.begins(request, partial(facts_of, body))
    found = await search_in_time(service, watcher, body, access, deadline=deadline)
    return answered(operation, found)
