"""The SQL call."""

from __future__ import annotations

import time
from functools import partial

from fastapi import APIRouter, Request
from fastapi.responses import Response

from api.auditing import sql_facts
from api.bodies import read_json_bytes
from api.documented import body_described, problems_of_questions
from api.mistakes import body_of
from api.models.answers import SqlAnswerBody
from api.models.requests import SqlBody
from api.operation import operation_of
from api.problems import SQL
from api.running import answered
from api.selecting import select_in_time, statement_of
from api.service import service_of
from api.strict import StrictRoute

router = APIRouter(prefix="/v1", tags=["sql"], route_class=StrictRoute)


@router.post(
    "/sql",
    operation_id="sql",
    response_model=SqlAnswerBody,
    responses=problems_of_questions(SQL),
    openapi_extra=body_described(SqlBody),
    summary="Run a SELECT over a collection",
)
async def select(request: Request) -> Response:
    """Project, filter, group, order: over the rows that the caller may see, all from one version.

    `search('text')` in WHERE ranks the rows that the rest of it passes, and `score()` is what they got. Without LIMIT
    an answer has a thousand rows at most, with LIMIT ten thousand.
    """
    service = service_of(request)
    operation = operation_of(request)
    started = time.monotonic()
    access = await service.access(request)
    body = body_of(SqlBody, await read_json_bytes(request, service.settings.max_body_bytes))
    deadline = started + (body.deadline_ms or service.settings.search.deadline_ms) / 1000
    statement = await statement_of(service, body, deadline=deadline)
    operation.facts["collection"] = statement.collection
    watcher = service.watcher(access, statement.collection, "sql")
    await service.begins(request, partial(sql_facts, body))
    return answered(operation, await select_in_time(service, watcher, body, statement, access, deadline=deadline))
