"""What callers send, checked on the way in and described in ``/openapi.json``."""

from __future__ import annotations

import math
import re
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    FiniteFloat,
    WithJsonSchema,
    model_validator,
)

from api.models.stages import Body, CollapseBody, DecayBody, DiversifyBody, FusionBody, RerankBody
from api.settings import MAX_DEADLINE_MS
from indexer.spec import Dialect
from retrieval.filter.parse import MAX_TEXT_CHARACTERS, MAX_TOKENS
from retrieval.refine.stages import STAGE_NAMES, StageName
from retrieval.request import MAX_CONTEXT, MAX_K, MAX_QUERIES, MAX_QUERY_CHARS, Mode

MAX_DIM = 16_384
MAX_INCLUDE = 1024
MAX_KEYS = 1000
"""Rows that are read at once: as many as a search returns at most."""
MAX_CURSOR_CHARS = 65_536
_WORDS = f"It has at most {MAX_TOKENS:,} words and signs: long lists belong into 'params'."
FIRST_PAGE = "start"
"""The cursor of the first page."""


class MinVersion(Body):
    """A version of the source table, and the epoch (the table's id) that it is of."""

    epoch: str | None = Field(default=None, min_length=1, max_length=256)
    version: int = Field(ge=0, lt=2**63)


def _bindable(params: dict[str, Any]) -> dict[str, Any]:
    for name, value in params.items():
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,127}", name):
            raise ValueError(f"'{name}' is no parameter name: use letters, digits and '_'")
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, dict | list):
                raise ValueError(f"'{name}' must be a string, number, boolean or null, or a list of them")
            if isinstance(item, float) and not math.isfinite(item):
                raise ValueError(f"'{name}' is not a finite number")
    return params


_KEY_PART_SCHEMA = {"type": ["string", "number", "boolean"]}
_SCALAR_SCHEMA = {"type": ["string", "number", "boolean", "null"]}
Params = Annotated[
    dict[str, Any],
    AfterValidator(_bindable),
    WithJsonSchema(
        {
            "type": "object",
            "additionalProperties": {"anyOf": [_SCALAR_SCHEMA, {"type": "array", "items": _SCALAR_SCHEMA}]},
        }
    ),
]


def _key(value: Any) -> Any:
    parts = value if isinstance(value, list) else [value]
    if not parts or not all(isinstance(part, str | int | float) for part in parts):
        raise ValueError("expected a key: a string, number or boolean, or a list of them for a composite one")
    return value


KeyValue = Annotated[
    Any,
    AfterValidator(_key),
    WithJsonSchema({"anyOf": [_KEY_PART_SCHEMA, {"type": "array", "items": _KEY_PART_SCHEMA, "minItems": 1}]}),
]


def _fusion_by_name(value: Any) -> Any:
    return {"kind": value} if isinstance(value, str) else value


def _version_alone(value: Any) -> Any:
    return {"version": value} if isinstance(value, int) and not isinstance(value, bool) else value


class FreshBody(Body):
    """Base of what asks for an answer from an index that is new enough."""

    min_version: Annotated[
        MinVersion | None, BeforeValidator(_version_alone, json_schema_input_type=MinVersion | int | None)
    ] = Field(default=None, description="Answer from this source version or a later one, or with 412.")
    max_staleness_seconds: float | None = Field(
        default=None, ge=0, allow_inf_nan=False, description="Answer from an index at most this old, or with 412."
    )
    deadline_ms: int | None = Field(
        default=None, ge=1, le=MAX_DEADLINE_MS, description="How long to wait and search at most."
    )


Include = Annotated[tuple[str, ...] | None, Field(max_length=MAX_INCLUDE)]


class RowsBody(FreshBody):
    """Rows by their keys: of a key of several columns the list of its values, in their order."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"keys": ["CVE-2024-3094", "CVE-2021-44228"], "include": ["package", "severity"]},
                {"keys": [["red", "50%"], ["blue", "a/b,c"]], "min_version": 12},
            ]
        },
    )

    keys: list[KeyValue] = Field(
        min_length=1,
        max_length=MAX_KEYS,
        description="The keys as answers show them: dates, times and decimals as strings, binary as base64.",
    )
    include: Include = Field(default=None, description="The fields to return; by default, all.")


class PagedBody(FreshBody):
    """Base of what can be answered in pages, all of one version."""

    cursor: str | None = Field(
        default=None,
        min_length=1,
        max_length=MAX_CURSOR_CHARS,
        description="Answer in pages: 'start', then the 'next_cursor' of the page before with the same question. "
        "min_version and max_staleness_seconds count for the first page.",
    )

    _question: ClassVar[frozenset[str]]

    @property
    def question(self) -> dict[str, Any]:
        """What is one question, as JSON has it; how much is shown of each row and at once may change on the way."""
        return self.model_dump(mode="json", include=set(self._question))


class SearchBody(PagedBody):
    """A search: by ``query``, by ``vector``, or by both (the text for the keyword leg, the vector for the vector leg).

    ``like`` takes the vector of a row that is there. ``queries`` are one question in several wordings, or its parts,
    each of which counts as a search. Without ``mode`` the search is hybrid, vector or keyword by what is given; a
    ``filter`` alone returns the rows that pass it, in key order. A page has ``k`` rows: those of a filter go through
    all rows that pass, those of a ranked search through the best 1,000.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"query": "read a zip archive without unpacking it", "k": 5},
                {
                    "query": "retry with backoff",
                    "filter": "severity >= :least AND published > current_date - interval 30 days",
                    "params": {"least": 7},
                    "fusion": {"kind": "minmax", "weights": {"vector": 2, "keyword": 1}},
                    "include": ["package", "severity"],
                    "explain": True,
                },
                {
                    "query": "zip bomb",
                    "rerank": {"depth": 50},
                    "decay": {"column": "published", "scale": "180d", "weight": 0.5},
                    "collapse": {"column": "package", "most": 2},
                    "diversify": {"diversity": 0.3},
                },
                {"filter": "severity >= 7", "k": 500, "include": ["package"], "cursor": "start"},
                {"queries": ["zip bomb", "archive that fills the disk when it is unpacked"], "k": 5},
                {"like": "CVE-2024-3094", "filter": "severity >= 7", "k": 5},
                {"vector": [0.1, 0.2, 0.3], "mode": "vector", "min_version": 12, "max_staleness_seconds": 30},
            ]
        },
    )

    query: str | None = Field(default=None, max_length=MAX_QUERY_CHARS, description="The text to search for.")
    queries: list[Annotated[str, Field(max_length=MAX_QUERY_CHARS)]] | None = Field(
        default=None,
        min_length=1,
        max_length=MAX_QUERIES,
        description="Several texts in place of 'query', each searched for as it would be alone; rows are ranked by the "
        "sum of 1 / (60 + rank) over them. 'rerank' reads by the first. Not with 'query', 'vector' or 'like'.",
    )
    vector: list[FiniteFloat] | None = Field(
        default=None, min_length=1, max_length=MAX_DIM, description="A query vector of the collection's width."
    )
    like: KeyValue | None = Field(
        default=None,
        description="The key of a row whose vector is searched by, and which is left out; not with 'vector'.",
    )
    k: int = Field(default=10, ge=1, le=MAX_K, description="How many rows to return at most.")
    filter: str | None = Field(
        default=None,
        max_length=MAX_TEXT_CHARACTERS,
        description=f"A WHERE condition in SQL; ':name' is a parameter. {_WORDS}",
    )
    params: Params = Field(default={}, description="Values for the filter's ':name' parameters.")
    dialect: Dialect = Field(default="databricks", description="The filter's SQL dialect.")
    mode: Mode | None = Field(default=None, description="Which legs to search.")
    fusion: Annotated[
        FusionBody | None,
        BeforeValidator(_fusion_by_name, json_schema_input_type=FusionBody | Literal["rrf", "minmax"] | None),
    ] = Field(default=None, description="How the legs are fused: an object, or 'rrf' or 'minmax' alone.")
    min_similarity: float | None = Field(
        default=None,
        allow_inf_nan=False,
        description="What the vector leg finds with a lower score of its own (a cosine, or a product under 'dot') is "
        "left out of it; in a hybrid search such a row can still come by words. Of a cosine, from -1 to 1.",
    )
    rerank: RerankBody | None = Field(default=None, description="Score the first rows anew; comes after fusion.")
    decay: DecayBody | None = Field(default=None, description="Prefer what is recent, or near a number; after rerank.")
    collapse: CollapseBody | None = Field(
        default=None, description="Keep the best rows of each value of a column; after decay."
    )
    diversify: DiversifyBody | None = Field(default=None, description="Avoid rows that are alike; comes last.")
    include: Include = Field(default=None, description="The columns to return; by default, all.")
    context: int = Field(
        default=0, ge=0, le=MAX_CONTEXT, description="So many chunks before and after a hit's own are in its text."
    )
    explain: bool = Field(default=False, description="Say what made each score.")
    _question = frozenset(
        {"query", "vector", "like", "filter", "params", "dialect", "mode", "fusion", "min_similarity"}
    )

    @property
    def question(self) -> dict[str, Any]:
        """What is one question; cursors of releases that knew no ``queries`` stay good."""
        asked = super().question
        return asked if self.queries is None else asked | {"queries": self.queries}

    @property
    def searches(self) -> int:
        """How many searches it is."""
        return 1 if self.queries is None else len(set(self.queries))

    @property
    def stages(self) -> tuple[StageName, ...]:
        """The stages after fusion that are asked for, in order."""
        return tuple(name for name in STAGE_NAMES if getattr(self, name) is not None)

    @model_validator(mode="after")
    def _asks_for_something(self) -> Self:
        has_text = self.query is not None and self.query.strip()
        if not has_text and all(given is None for given in (self.queries, self.vector, self.like, self.filter)):
            raise ValueError("give 'query', 'queries', 'vector', 'like' or 'filter'; a blank query counts as none")
        return self


class SqlBody(PagedBody):
    """A SELECT over one collection, named in FROM. One without LIMIT can be answered in pages of 1,000 rows."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"sql": "SELECT severity, count(*) AS n FROM advisories GROUP BY severity ORDER BY n DESC"},
                {
                    "sql": "SELECT id, package, score() FROM advisories WHERE search(:text) AND severity >= :least "
                    "ORDER BY published DESC LIMIT 20",
                    "params": {"text": "zip bomb", "least": 7},
                },
            ]
        },
    )

    sql: str = Field(
        min_length=1,
        max_length=MAX_TEXT_CHARACTERS,
        description=f"A SELECT statement; ':name' is a parameter. {_WORDS}",
    )
    params: Params = Field(default={}, description="Values for the statement's ':name' parameters.")
    dialect: Dialect = Field(default="databricks", description="The statement's SQL dialect.")

    _question = frozenset({"sql", "params", "dialect"})
