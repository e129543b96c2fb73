"""How a route's problems are described in ``/openapi.json``."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from api.models.answers import ProblemAnswer
from api.problems import (
    AUDIT_UNAVAILABLE,
    COLLECTION_NOT_FOUND,
    CURSOR_ENDED,
    DEADLINE,
    FORBIDDEN,
    IDENTITY_UNAVAILABLE,
    INVALID,
    MEDIA_TYPE,
    MODEL_UNAVAILABLE,
    NODES_UNAVAILABLE,
    NOT_JSON,
    NOT_JSON_TYPE,
    NOT_READY,
    OVERLOADED,
    QUOTA,
    TOO_LARGE,
    TOO_OLD,
    UNAUTHENTICATED,
    Kind,
)


def problems_of_callers(*kinds: Kind) -> dict[int | str, dict[str, Any]]:
    """Return :func:`problems` for ``kinds`` and for those of every call that asks who the caller is."""
    return problems(UNAUTHENTICATED, *kinds, QUOTA, IDENTITY_UNAVAILABLE, AUDIT_UNAVAILABLE)


def problems_of_reads(*kinds: Kind) -> dict[int | str, dict[str, Any]]:
    """Return :func:`problems_of_callers` for ``kinds`` and for those of every call that reads rows by its body."""
    return problems_of_callers(*READS, *kinds)


def problems_of_questions(*kinds: Kind) -> dict[int | str, dict[str, Any]]:
    """Return :func:`problems_of_reads` for ``kinds`` and for those of every question that has pages and models."""
    return problems_of_reads(CURSOR_ENDED, MODEL_UNAVAILABLE, *kinds)


def body_described(model: type[BaseModel]) -> dict[str, Any]:
    """Return FastAPI's ``openapi_extra`` for a body of ``model``, which the route reads itself."""
    schema = {"$ref": f"#/components/schemas/{model.__name__}"}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


def problems(*kinds: Kind) -> dict[int | str, dict[str, Any]]:
    """Return FastAPI's ``responses`` for ``kinds``; kinds of one status share an entry with an example each."""
    responses: dict[int | str, dict[str, Any]] = {}
    for kind in kinds:
        entry = responses.setdefault(
            kind.status,
            {"description": "", "content": {MEDIA_TYPE: {"schema": _SCHEMA, "examples": {}}}},
        )
        entry["description"] = "; ".join(filter(None, [entry["description"], f"{kind.title} (`{kind.code}`)"]))
        entry["content"][MEDIA_TYPE]["examples"][kind.code] = {"value": _example(kind)}
    return responses


READS = (
    NOT_JSON,
    FORBIDDEN,
    COLLECTION_NOT_FOUND,
    TOO_OLD,
    TOO_LARGE,
    NOT_JSON_TYPE,
    INVALID,
    OVERLOADED,
    NOT_READY,
    NODES_UNAVAILABLE,
    DEADLINE,
)
_SCHEMA = {"$ref": f"#/components/schemas/{ProblemAnswer.__name__}"}
ANY_PROBLEM = {"description": "Any other problem", "content": {MEDIA_TYPE: {"schema": _SCHEMA}}}


def _example(kind: Kind) -> dict[str, Any]:
    return {
        "type": f"/problems/{kind.code}",
        "title": kind.title,
        "status": kind.status,
        "detail": kind.remedy,
        "code": kind.code,
        "request_id": "0f9c6d0e5a7b4d5f8e1c2b3a49586776",
        "errors": [],
    }
