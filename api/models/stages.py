"""How a search's hits are to be ranked, as callers say it: how legs are fused, and the stages after that."""

from __future__ import annotations

import math
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, PlainValidator, WithJsonSchema

from indexer.spec import FusionKind, WeightsSpec
from retrieval.refine.decay import DURATION, DecayKind
from retrieval.refine.stages import MAX_DEPTH
from retrieval.request import MAX_K

Depth = Annotated[int | None, Field(ge=1, le=MAX_DEPTH)]


def _text_or_number(value: Any) -> str | float:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError("must be a text or a number")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("is not a finite number")
    return value


Length = Annotated[
    str | float,
    PlainValidator(_text_or_number),
    WithJsonSchema({"anyOf": [{"type": "string", "pattern": DURATION}, {"type": "number"}]}),
]
Origin = Annotated[
    str | float, PlainValidator(_text_or_number), WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "number"}]})
]


class Body(BaseModel):
    """Base of what a caller sends: unknown fields are mistakes, and ``"5"`` or ``true`` is no number."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Weights(WeightsSpec):
    """How much each leg counts, 0.5 if it is not said; an empty leg's weight is not handed on to the other."""

    model_config = ConfigDict(strict=True)


class FusionBody(Body):
    """How the legs' results become one list: by reciprocal rank, or by scores scaled to 0..1 and added."""

    kind: FusionKind | None = Field(default=None, description="By default the collection's own, or 'minmax'.")
    weights: Weights | None = Field(
        default=None, description="By default the collection's own; without any, both legs count the same."
    )


class RerankBody(Body):
    """Let the collection's cross-encoder read the query with each of the first passages, and score them anew."""

    depth: Depth = Field(default=None, description="How many rows it reads: 50, or k if that is more.")


class DecayBody(Body):
    """Let scores fall with the distance of a column's value from the origin: half of it per scale, if nothing is said.

    A row without a value is treated as if it lay one scale away.
    """

    column: str = Field(min_length=1, description="A stored column of dates, timestamps or numbers.")
    scale: Length = Field(
        description="How far from the origin the factor is the midpoint. Of dates a duration, a number and one of s, "
        "m, h, d or w as in '30d'; of numbers a number."
    )
    kind: DecayKind = Field(default="exp", description="The curve: steep at first, like a bell, or straight to 0.")
    offset: Length = Field(default=0, description="Up to this far from the origin nothing falls.")
    midpoint: float = Field(default=0.5, gt=0, lt=1, description="The factor at offset and scale from the origin.")
    weight: float = Field(default=1.0, ge=0, le=1, description="How much of the score the factor may take.")
    origin: Origin | None = Field(
        default=None,
        description="Where the factor is 1: a date or time in ISO 8601 (by default, now), or of numbers a number.",
    )
    depth: Depth = Field(default=None, description="How many rows take part: 200, or k if that is more.")


class CollapseBody(Body):
    """Keep the best rows of each value of a column, as of the document that they are passages of."""

    column: str = Field(min_length=1, max_length=256, description="A stored column; rows without a value all stay.")
    most: int = Field(default=1, ge=1, le=MAX_K, description="How many rows of one value stay.")
    depth: Depth = Field(default=None, description="How many rows take part: 200, or k if that is more.")


class DiversifyBody(Body):
    """Pick rows one by one that are relevant and unlike those picked before (maximal marginal relevance)."""

    diversity: float = Field(default=0.5, ge=0, le=1, description="0: by relevance alone; 1: by difference alone.")
    depth: Depth = Field(default=None, description="How many rows are picked from: 100, or k if that is more.")
