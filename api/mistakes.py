"""From pydantic's errors to the ``errors`` of a problem: the field, what is wrong, the nearest name that exists."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from api.models.requests import MinVersion
from api.models.stages import Body, CollapseBody, DecayBody, DiversifyBody, FusionBody, RerankBody, Weights
from api.problems import INVALID, NOT_JSON, Mistake, Problem
from indexer.suggestion import did_you_mean

MAX_MISTAKES = 20
B = TypeVar("B", bound=Body)
_PARTS: dict[tuple[int | str, ...], type[BaseModel]] = {
    ("fusion",): FusionBody,
    ("fusion", "weights"): Weights,
    ("rerank",): RerankBody,
    ("decay",): DecayBody,
    ("collapse",): CollapseBody,
    ("diversify",): DiversifyBody,
    ("min_version",): MinVersion,
}


def body_of(model: type[B], raw: bytes) -> B:
    """Check the bytes of a body; raises :class:`Problem` (400 not JSON, 422 mistakes)."""
    try:
        return model.model_validate_json(raw)
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False)
    if found[0]["type"] == "json_invalid":
        raise _not_json(found[0]["msg"])
    raise invalid([_mistake(item, model) for item in found])


def invalid(mistakes: list[Mistake]) -> Problem:
    """Return the 422 for ``mistakes``, whose detail is the first of them."""
    more = f" (and {len(mistakes) - 1} more)" if len(mistakes) > 1 else ""
    return Problem(INVALID, _sentence(mistakes[0]) + more, errors=mistakes[:MAX_MISTAKES])


def _not_json(message: str) -> Problem:
    what = message.removeprefix("Invalid JSON: ")
    mistake = Mistake(message=what)
    if place := re.search(r" at line (\d+) column (\d+)$", what):
        mistake = Mistake(message=what[: place.start()], line=int(place.group(1)), column=max(1, int(place.group(2))))
    return Problem(NOT_JSON, what, errors=[mistake])


def _mistake(item: Mapping[str, Any], model: type[BaseModel]) -> Mistake:
    place: tuple[int | str, ...] = item["loc"]
    message = item["msg"].removeprefix("Value error, ").removeprefix("Input ")
    if item["type"] == "extra_forbidden" and (part := _PARTS.get(place[:-1], None if place[:-1] else model)):
        message = f"unknown field{did_you_mean(str(place[-1]), part.model_fields)}"
    if item["type"] == "missing":
        message = "is required"
    mistake = Mistake(message=message, code=item["type"].replace("_", "-"))
    if place:
        mistake["field"] = ".".join(str(part) for part in place)
    return mistake


def _sentence(mistake: Mistake) -> str:
    return f"{mistake['field']}: {mistake['message']}" if "field" in mistake else mistake["message"]
