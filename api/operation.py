"""One API operation: what is known of a request while it runs."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from fastapi import Request
from starlette.types import Scope

from api.audit.record import Intent
from api.identity.access import Principal

UNMATCHED = "unmatched"


@dataclass(slots=True)
class Operation:
    """``facts`` go into the log line (never query or filter text), ``findings`` into the audit log.

    ``headers`` go with the answer. ``principal`` is None until it is known who asks, ``intent`` until the audit log has
    what is about to run. ``denied`` says that it was refused for who asks, ``concluded`` that the audit log has its
    outcome or cannot take it.
    """

    request_id: str
    trace: dict[str, str]
    started: float = field(default_factory=time.perf_counter)
    status: int = 0
    answering: bool = False
    code: str | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    principal: Principal | None = None
    intent: Intent | None = None
    findings: dict[str, Any] = field(default_factory=dict)
    denied: bool = False
    concluded: bool = False


def operation_of(request: Request) -> Operation:
    """Return the operation that ``request`` belongs to."""
    operation: Operation = request.scope["grebe.operation"]
    return operation


def route_of(scope: Scope) -> str:
    """Return the pattern of the path that was matched."""
    return getattr(scope.get("route"), "path", UNMATCHED)
