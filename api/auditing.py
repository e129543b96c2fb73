"""Operations on their way into the audit log: what they are about to do, and what came of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any

from starlette.types import Scope

from api.audit.log import AuditLog
from api.audit.record import Actor, Decision, Intent, Outcome, Secret
from api.errors import AuditUnavailable
from api.identity.access import ANONYMOUS
from api.models.requests import FIRST_PAGE, PagedBody, RowsBody, SearchBody, SqlBody
from api.operation import Operation, route_of
from api.problems import AUDIT_UNAVAILABLE, RETRY_AFTER, Problem

WAIT_SECONDS = 10.0
"""How long a disk that hangs, or a bucket, may hold up an operation."""
HANGING_SECONDS = 0.1
"""How long while it is known to hang: what is to be written then waits its turn, and nobody with it."""

Facts = Callable[[], dict[str, Any]]
"""What a call asks for; made only if it is written down."""


class Auditor:
    """Writes operations into ``log``; without one it does nothing."""

    def __init__(self, log: AuditLog | None) -> None:
        self._log = log
        self._overdue: set[asyncio.Task[None]] = set()

    @property
    def trouble(self) -> str | None:
        """Why no operation can run, if none can."""
        if self._log is None:
            return None
        if self._overdue:
            return "the audit log takes too long to be written"
        return None if self._log.healthy else "the audit log cannot be written"

    async def begins(self, scope: Scope, operation: Operation, facts: Facts) -> None:
        """Return once it is durable that ``operation`` is about to run with ``facts``; raises the 503."""
        if self._log is None:
            return
        if self._overdue:
            operation.concluded = True
            raise unrecorded()
        operation.intent = _intent(scope, operation, facts())
        try:
            await self._durable(self._log.intent(operation.intent))
        except (AuditUnavailable, TimeoutError) as error:
            raise unrecorded() from error

    async def ends(self, scope: Scope, operation: Operation, status: int) -> None:
        """Return once it is durable how ``operation`` ended.

        Raises :class:`api.errors.AuditUnavailable`, at most once for each operation.
        """
        if self._log is None or operation.concluded:
            return
        operation.concluded = True
        outcome = Outcome(
            intent=operation.intent or _intent(scope, operation, {}),
            time_ms=int(time.time() * 1000),
            duration_ms=round((time.perf_counter() - operation.started) * 1000),
            status=status,
            decision=_decision(operation),
            facts=operation.findings | ({"code": operation.code} if operation.code else {}),
        )
        try:
            await self._durable(self._log.outcome(outcome))
        except TimeoutError as error:
            raise AuditUnavailable("the disk did not take the outcome in time") from error

    async def _durable(self, record: Coroutine[Any, Any, None]) -> None:
        """Return once ``record`` is written; raises TimeoutError when that takes too long, and what ``record`` raises.

        One that is late is written all the same, when the disk goes on; until then every operation is refused.
        """
        task = asyncio.ensure_future(record)
        task.add_done_callback(self._written)
        done, _ = await asyncio.wait({task}, timeout=HANGING_SECONDS if self._overdue else WAIT_SECONDS)
        if not done:
            self._overdue.add(task)
            raise TimeoutError
        task.result()

    def _written(self, task: asyncio.Task[None]) -> None:
        self._overdue.discard(task)
        if not task.cancelled():
            task.exception()  # nobody may be left who asks for it


def sql_facts(body: SqlBody) -> dict[str, Any]:
    """Return what a statement asks for, its text and values as secrets."""
    return _secrets({"sql": body.sql, "params": body.params or None}) | _page(body)


def rows_facts(body: RowsBody) -> dict[str, Any]:
    """Return what a reading of rows asks for; ``keys`` are those of rows that were returned, in its outcome."""
    return {"asked_keys": body.keys, "include": body.include}


def _page(body: PagedBody) -> dict[str, Any]:
    if body.cursor is None:
        return {}
    return {"page": "first" if body.cursor == FIRST_PAGE else "later"}


def _secrets(asked: dict[str, Any]) -> dict[str, Any]:
    return {name: Secret(str(value)) for name, value in asked.items() if value is not None}


def facts_of(body: SearchBody) -> dict[str, Any]:
    """Return what a search asks for, its texts and values as secrets."""
    asked = {"query": body.query, "filter": body.filter, "vector": body.vector, "params": body.params or None}
    asked_too = {
        "stages": body.stages or None,
        "like": body.like,
        "min_similarity": body.min_similarity,
        "context": body.context or None,
    }
    more = {name: value for name, value in asked_too.items() if value is not None}
    if body.queries is not None:
        more["query"] = [Secret(text) for text in body.queries]
    return _secrets(asked) | {"mode": body.mode, "k": body.k, "include": body.include} | more | _page(body)


def _intent(scope: Scope, operation: Operation, facts: dict[str, Any]) -> Intent:
    principal = operation.principal or ANONYMOUS
    client = scope.get("client")
    return Intent(
        time_ms=int(time.time() * 1000),
        request_id=operation.request_id,
        actor=Actor(
            kind=principal.kind, id=principal.id, name=principal.name, roles=tuple(sorted(principal.caller.roles))
        ),
        client_ip=client[0] if client else "",
        activity="read",
        method=scope["method"],
        route=route_of(scope),
        path=scope["path"],
        collection=scope.get("path_params", {}).get("name") or operation.facts.get("collection"),
        facts=facts,
    )


def _decision(operation: Operation) -> Decision:
    """Return what was decided of who asks; of what did not come that far, such as an unknown path, nothing was."""
    if operation.denied:
        return "denied"
    return "allowed" if operation.principal else "undecided"


def unrecorded() -> Problem:
    """Return the 503 of an operation that the audit log could not take."""
    return Problem(AUDIT_UNAVAILABLE, "the operation could not be written into the audit log", headers=RETRY_AFTER)
