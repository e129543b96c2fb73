"""The application: routes, the middleware round them, and the description of both."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from importlib.metadata import version as installed_version
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from pydantic.json_schema import models_json_schema
from starlette.exceptions import HTTPException

from api import routes_collections, routes_health, routes_rows, routes_search, routes_sql
from api.cluster import routes_node
from api.cors import CrossOrigin
from api.documented import ANY_PROBLEM
from api.logs import Logger
from api.models.answers import ProblemAnswer, TooOldAnswer
from api.models.examples import ANSWERS
from api.models.requests import RowsBody, SearchBody, SqlBody
from api.operations import Operations, problem_response
from api.problems import Problem
from api.routes_console import console_router
from api.service import Service
from api.settings import ServeSettings
from api.tracing import telemetry

if TYPE_CHECKING:
    from api.agents.endpoint import AgentEndpoint

DESCRIPTION = """Hybrid search over lakehouse tables: vector, keyword and SQL filters in one ranked, explained answer
that says how fresh it is. Every error is an RFC 9457 problem."""


def create_app(settings: ServeSettings, *, log: Logger | None = None) -> FastAPI:
    """Return the application that serves the collections of ``settings.store``.

    Its threads start and end with its lifespan. ``app.state.service`` holds what it is made of.
    """
    service = Service(settings, log)
    agents: AgentEndpoint | None = None

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        service.start()
        try:
            async with agents.running() if agents else nullcontext():
                yield
        finally:
            service.stop()

    app = FastAPI(
        title="Grebe",
        version=installed_version("grebe"),
        description=DESCRIPTION,
        lifespan=lifespan,
        docs_url=None,  # its page loads scripts from a content network
        redoc_url=None,
        redirect_slashes=False,
        telemetry=telemetry(),
        exception_handlers={
            Problem: problem_response,
            HTTPException: problem_response,
            RequestValidationError: problem_response,
        },
    )
    app.state.service = service
    is_node = settings.cluster.role == "node"
    callers = (routes_search.router, routes_sql.router, routes_rows.router, routes_collections.router)
    for router in (*((routes_node.router,) if is_node else callers), routes_health.router):
        app.include_router(router)
    if settings.console and not is_node:
        app.include_router(console_router())
    if settings.agents and not is_node:
        from api.agents.endpoint import AgentEndpoint  # a second that a node need not wait

        agents = AgentEndpoint(app, service)
        app.include_router(agents.router())
    app.add_middleware(
        Operations,
        log=service.log,
        metrics=service.metrics,
        auditor=service.auditor,
        hosts=settings.answered_hosts,
        draining=lambda: service.draining,
    )
    if settings.cors.origins and not is_node:
        app.add_middleware(CrossOrigin, origins=settings.cors.origins)
    _describe(app)
    return app


def _describe(app: FastAPI) -> None:
    """Make the schema say what FastAPI cannot see: the bodies that routes read themselves, problems and examples."""
    plain = app.openapi

    def described() -> dict[str, Any]:
        if app.openapi_schema is None:
            _complete(plain())
        return plain()

    app.openapi = described  # type: ignore[method-assign]


def _complete(schema: dict[str, Any]) -> None:
    bodies, problems = (SearchBody, SqlBody, RowsBody), (ProblemAnswer, TooOldAnswer)
    _, ours = models_json_schema(
        [*((model, "validation") for model in bodies), *((model, "serialization") for model in problems)],
        ref_template="#/components/schemas/{model}",
    )
    components = schema["components"]["schemas"]
    components.update(ours["$defs"])
    # FastAPI's own form of a validation error, which is never sent.
    components.pop("HTTPValidationError", None)
    components.pop("ValidationError", None)
    schema["components"]["securitySchemes"] = {
        "bearer": {"type": "http", "scheme": "bearer", "description": "An API key, or a JWT of a configured issuer."}
    }
    for calls in schema["paths"].values():
        for call in calls.values():
            if "401" in call["responses"]:
                call["security"] = [{"bearer": []}, {}]  # none is needed where no identity is configured
            if "HTTPValidationError" in str(call["responses"].get("422")):
                del call["responses"]["422"]
            call["responses"]["default"] = ANY_PROBLEM
            if call["operationId"] in ANSWERS:  # FastAPI would leave out what is null in it
                call["responses"]["200"]["content"]["application/json"]["example"] = ANSWERS[call["operationId"]]
