"""What the server sends, as ``/openapi.json`` describes it.

Answers are encoded from plain dictionaries (see :mod:`api.answers`): a second validation on the way out would cost more
than the search of a small collection.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import Field, WithJsonSchema

from api.models.explanations import Answer, ExplanationAnswer


class SourceAnswer(Answer):
    """The position in the source table that an answer reflects."""

    epoch: str = Field(description="The table's id: another table of the same name is another epoch.")
    version: int
    committed_at: datetime | None = Field(description="When the source committed that version.")


_SCALAR: dict[str, Any] = {"type": ["string", "number", "boolean"]}
KeyAnswer = Annotated[
    Any,
    Field(description="A value, or the list of them where the key is of several columns."),
    WithJsonSchema({"anyOf": [_SCALAR, {"type": "array", "items": _SCALAR}]}),
]


class HitAnswer(Answer):
    """One row: its key (a list when composite), score, best passage and columns."""

    key: KeyAnswer
    score: float
    text: str | None
    fields: dict[str, Any]
    explanation: ExplanationAnswer | None = Field(default=None, description="With 'explain'; absent without.")


Masked = Annotated[
    list[str], Field(description="Columns and text fields whose values the caller does not get, or as a keyed hash.")
]


class VersionedAnswer(Answer):
    """Base of what is all of one catalog version, and of rows that the caller may see."""

    masked: Masked
    version: int = Field(description="The catalog's version.")
    source: SourceAnswer | None = Field(description="null before the first load.")
    age_seconds: float | None = Field(
        description="How long ago the index was last known to hold everything that the source had."
    )


NextCursor = Annotated[
    str | None,
    Field(description="Of an answer in pages: what the next page is asked for with; null at the last one."),
]


class SearchAnswer(VersionedAnswer):
    """What a search returns, all of it from one catalog version and of rows that the caller may see."""

    results: list[HitAnswer]
    next_cursor: NextCursor = None
    plan: dict[str, Any] = Field(description="How each leg ran.")
    took_ms: dict[str, float] = Field(description="Milliseconds per stage.")


class SqlColumnAnswer(Answer):
    """A column of an answer in SQL."""

    name: str
    masked: bool = Field(description="Whether the caller does not get its values, or as a keyed hash.")
    type: str = Field(description="BIGINT, DOUBLE, DECIMAL(p, s), STRING, BOOLEAN, DATE, TIMESTAMP, ARRAY<...>, ...")


class SqlAnswerBody(VersionedAnswer):
    """The rows of a statement, all of one catalog version and of rows that the caller may see."""

    columns: list[SqlColumnAnswer]
    rows: list[list[Any]] = Field(description="Values in the order of the columns; decimals are strings.")
    next_cursor: NextCursor = None
    truncated: bool = Field(description="Whether there are more rows, which a statement without LIMIT does not get.")
    plan: dict[str, Any] = Field(description="How many rows the statement was about, and how a search found them.")
    took_ms: dict[str, float] = Field(description="Milliseconds per stage.")


class ReadRowAnswer(Answer):
    """One row as the index holds it, in an answer that says of which version it is."""

    key: KeyAnswer
    fields: dict[str, Any] = Field(description="Stored columns and whole text fields.")
    source_version: int = Field(description="The source version that the row is of.")
    source_committed_at: datetime
    chunks: int | None = Field(description="null where text is masked: it tells how long that is.")


class RowAnswer(ReadRowAnswer):
    """One row as the index holds it."""

    masked: Masked
    version: int = Field(description="The catalog's version.")
    source: SourceAnswer | None


class RowsAnswer(VersionedAnswer):
    """Rows by their keys, all from one catalog version and of those that the caller may see."""

    rows: list[ReadRowAnswer] = Field(
        description="In the order of their keys, one for each time that it was asked for."
    )
    missing: list[KeyAnswer] = Field(description="The keys, as they were asked for, that no row has for the caller.")


class CollectionAnswer(Answer):
    """A collection's spec and the types of its columns."""

    name: str
    spec: dict[str, Any] = Field(description="With its source and policies for callers with the action 'admin'.")
    columns: dict[str, str] = Field(description="Filterable, returnable columns and their SQL types.")
    dim: int | None
    fingerprint: str


class CollectionLine(Answer):
    """A collection in the list of collections."""

    name: str
    state: Literal["open", "opening", "failed"]
    version: int | None


class CollectionsAnswer(Answer):
    """The collections of the store, by name."""

    collections: list[CollectionLine]


class FailureAnswer(Answer):
    """Why the newest version could not be opened."""

    version: int | None
    file: str | None = Field(description="The file at fault, in the collection's folder, if known.")
    error: str
    attempts: int
    since: datetime
    retry_at: datetime


class SyncAnswer(Answer):
    """What the sync last said: when it looked at the source, and how far it had read."""

    checked_at: datetime
    epoch: str
    version: int
    seconds_ago: float


class HeldAnswer(Answer):
    """Why syncs wait for a person's word."""

    kind: Literal["mass_delete", "rollback"]
    since: datetime
    epoch: str
    version: int = Field(description="Up to which source version deletes are held, or which a rollback went back from.")
    deletes: int = Field(description="Rows that the held changes would delete.")
    rows: int = Field(description="Rows that there were.")


class FreshnessAnswer(Answer):
    """How fresh a collection is, for a caller who may not know how many rows there are."""

    name: str
    state: Literal["open", "opening", "failed"]
    version: int | None = Field(description="The catalog version that is served.")
    latest_version: int | None = Field(description="The newest catalog version seen.")
    source: SourceAnswer | None
    age_seconds: float | None
    sync: SyncAnswer | None
    committed_at: datetime | None


class StatusAnswer(FreshnessAnswer):
    """Freshness and counts of a collection as this server serves it."""

    rows: int = Field(description="Rows that can be found.")
    chunks: int
    deleted_chunks: int
    segments: int
    tenants: int | None = Field(description="Tenants that are kept apart; null where none are.")
    size_bytes: int
    dead_letters: int
    rebuild_pending: bool = Field(
        description="Whether an applied spec waits for a sync to build its index beside the one that serves."
    )
    reads: Literal["changes", "snapshots"] | None = Field(
        description="How syncs follow the source: by its changes or by comparing snapshots. null before the first."
    )
    retention_seconds: float | None = Field(description="How long the source keeps changes, if that is known.")
    retention_used: float | None = Field(
        description="The time since the source was read, as a share of its retention; from 1 on changes may be gone."
    )
    held: HeldAnswer | None
    sync_failed_at: datetime | None = Field(
        description="When the last sync failed; null once another has read something or found nothing newer."
    )
    warnings: list[str] = Field(description="What somebody should see to, each with what to do.")
    failure: FailureAnswer | None


class HealthAnswer(Answer):
    """Whether the server is well, and if not, why."""

    status: Literal["ok", "unavailable"]
    reasons: list[str] = []


class VersionAnswer(Answer):
    """What runs here."""

    version: str
    format_version: int
    python: str


class MistakeAnswer(Answer):
    """One mistake of a request."""

    message: str
    code: str | None = None
    field: str | None = Field(default=None, description="Where in the body, with dots between parts.")
    line: int | None = Field(default=None, description="From 1.")
    column: int | None = Field(default=None, description="From 1.")
    length: int | None = None
    hint: str | None = None


class ProblemAnswer(Answer):
    """RFC 9457: every error of this server has this shape."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    request_id: str
    errors: list[MistakeAnswer]


class ReachedAnswer(Answer):
    """What an index that is not new enough has reached."""

    version: int = Field(description="The catalog's version.")
    source: SourceAnswer | None
    age_seconds: float | None


class TooOldAnswer(ProblemAnswer):
    """The problem of an index that is not new enough: ``reached`` says how far it is."""

    reached: ReachedAnswer
