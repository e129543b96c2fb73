"""How a route's body and problems are described in ``/openapi.json``."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from api.models.answers import ProblemAnswer, TooOldAnswer
from api.models.examples import SOURCE
from api.problems import (
    AUDIT_UNAVAILABLE,
    COLLECTION_NOT_FOUND,
    CURSOR_ENDED,
    DEADLINE,
    ENCODED,
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
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": _schema_of(model)}}}}


def problems(*kinds: Kind) -> dict[int | str, dict[str, Any]]:
    """Return FastAPI's ``responses`` for ``kinds``; kinds of one status share an entry with an example each."""
    responses: dict[int | str, dict[str, Any]] = {}
    for kind in kinds:
        entry = responses.setdefault(
            kind.status,
            {"description": "", "content": {MEDIA_TYPE: {"schema": _schema_of(_MODELS.get(kind)), "examples": {}}}},
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
    ENCODED,
    INVALID,
    OVERLOADED,
    NOT_READY,
    NODES_UNAVAILABLE,
    DEADLINE,
)
_MODELS: dict[Kind, type[ProblemAnswer]] = {TOO_OLD: TooOldAnswer}
_MORE: dict[Kind, dict[str, Any]] = {
    TOO_OLD: {"reached": {"version": 41, "source": SOURCE | {"version": 40}, "age_seconds": 96.3}}
}
"""Of the kinds that have members of their own: what they are, and in the example."""


def _schema_of(model: type[BaseModel] | None) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{(model or ProblemAnswer).__name__}"}


ANY_PROBLEM = {"description": "Any other problem", "content": {MEDIA_TYPE: {"schema": _schema_of(None)}}}


def _example(kind: Kind) -> dict[str, Any]:
    return {
        "type": f"/problems/{kind.code}",
        "title": kind.title,
        "status": kind.status,
        "detail": kind.remedy,
        "code": kind.code,
        "request_id": "0f9c6d0e5a7b4d5f8e1c2b3a49586776",
        "errors": [],
    } | _MORE.get(kind, {})
