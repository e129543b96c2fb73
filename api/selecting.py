"""Between HTTP and the library: a checked body becomes a statement that runs, and its rows an answer."""

from __future__ import annotations

import dataclasses
import time
from datetime import UTC, datetime
from functools import partial
from typing import Any

from api.answers import key_answer, source_answer
from api.asking import select_from_version
from api.cursors import Pages
from api.encoding import encode
from api.freshness import age_seconds
from api.identity.access import Access
from api.mistakes import invalid
from api.models.requests import SqlBody
from api.past import next_cursor, pages_of, past_of, require_same_sight
from api.problems import Mistake
from api.running import Found, Models, Question, answer_in_time, as_problems
from api.searching import rounded
from api.service import Service
from api.watcher import View, Watcher
from retrieval.policies import Caller
from retrieval.request import Page, SearchRequest
from retrieval.sql import DEFAULT_ROWS, SqlAnswer, Statement, parse_statement, searched_by
from retrieval.version import OpenVersion


async def statement_of(service: Service, body: SqlBody, *, deadline: float) -> Statement:
    """Return the statement of ``body``, parsed on a statement's thread by ``deadline``; raises the 422.

    Not on the event loop: a long text takes a tenth of a second, in which nobody else would be answered.
    """
    with as_problems(service, "sql"):
        return await service.statements.run(
            lambda: parse_statement(body.sql, body.dialect), timeout_seconds=deadline - time.monotonic()
        )


async def select_in_time(
    service: Service, watcher: Watcher, body: SqlBody, statement: Statement, access: Access, *, deadline: float
) -> Found:
    """Run ``statement`` over what ``watcher`` serves for the caller of ``access``, by ``deadline`` (time.monotonic()).

    Raises :class:`api.problems.Problem`.
    """
    with as_problems(service, "sql"):
        pages = pages_of(body, watcher.name, access)
        if pages is not None and statement.limit is not None:
            hint = f"leave LIMIT out: each page has {DEFAULT_ROWS:,} rows"
            raise invalid([Mistake(field="cursor", message="a statement with LIMIT has no pages", hint=hint)])
        past = past_of(pages, service.settings.search)
        searched = searched_by(statement, body.params)
        request = SearchRequest(query=searched.query, mode=searched.mode) if searched else None
        question = Question(
            watcher=watcher, access=access, action="sql", body=body, request=request, deadline=deadline, past=past
        )
        work = partial(_select, service, watcher, body, statement, pages, deadline)
        return await answer_in_time(service, question, work)


def _select(
    service: Service,
    watcher: Watcher,
    body: SqlBody,
    statement: Statement,
    pages: Pages | None,
    deadline: float,
    view: View,
    snapshot: OpenVersion,
    caller: Caller,
    models: Models,
) -> Found:
    began_ns = time.time_ns()
    require_same_sight(pages, snapshot, caller)
    skip = 0 if pages is None else pages.page.offset
    answer = select_from_version(
        snapshot,
        statement,
        params=body.params,
        caller=caller,
        embedder=models.embedder,
        deadline=deadline,
        now=None if pages is None else pages.now,
        skip=skip,
    )
    cursor = None
    if pages is not None and answer.truncated:
        cursor = next_cursor(service, watcher, snapshot, caller, pages, Page(offset=skip + len(answer.rows)))
    service.metrics.selected(snapshot.spec.name, answer.took_ms)
    told: dict[str, Any] = {"version": snapshot.version}
    keys = None if answer.keys is None else [key_answer(key) for key in answer.keys]
    return Found(
        content=encode(_body(view, snapshot, answer, cursor)),
        facts=told | {"results": len(answer.rows)},
        findings=told | {"keys": keys, "rows_read": answer.read, "masked": answer.masked},
        closed_policies=answer.closed_policies,
        took_ms=answer.took_ms,
        began_ns=began_ns,
    )


def _body(view: View, snapshot: OpenVersion, answer: SqlAnswer, next_cursor: str | None) -> dict[str, Any]:
    return {
        "columns": [dataclasses.asdict(column) for column in answer.columns],
        "rows": answer.rows,
        "next_cursor": next_cursor,
        "truncated": answer.truncated,
        "masked": answer.masked,
        "version": snapshot.version,
        "source": source_answer(snapshot.state),
        "age_seconds": rounded(age_seconds(view.complete_at, datetime.now(UTC))),
        "plan": plan_answer(answer),
        "took_ms": {stage: round(milliseconds, 3) for stage, milliseconds in answer.took_ms.items()},
    }


def plan_answer(answer: SqlAnswer) -> dict[str, Any]:
    """Return how many rows a statement was about, and how they were found if they were searched for."""
    found = answer.search
    return {"rows": answer.read, "mode": found.mode if found else "filter", "vector": found.vector if found else None}
