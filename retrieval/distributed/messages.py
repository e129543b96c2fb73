"""What routers ask of nodes, and what nodes answer: JSON one way, an Arrow table with a JSON header the other.

A question is of one version of a collection and one caller. A row found by a node is named by where it lies in that
version there: the segment's place among the node's, and the position of one of its chunks.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Literal

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, ValidationError, model_serializer

from retrieval.errors import NodeFailed
from retrieval.keyword_leg import KeywordSearch
from retrieval.keyword_query import TermStatistics
from retrieval.policies import Caller
from retrieval.request import Mode
from retrieval.vector_leg import SegmentSearch

HEADER = b"grebe"
"""The key of an answer's header in its table's metadata."""


class Message(BaseModel):
    """Base of all messages."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        ser_json_bytes="base64",
        val_json_bytes="base64",
        ser_json_inf_nan="constants",
    )


class Asker(Message):
    """For whom, of what: every question's part.

    ``policies`` is the digest of those that the router goes by; a node that goes by others does not answer.
    ``now`` is the question's time for filters that ask for it. ``schema_bytes`` has the columns' types where nodes
    differ in them (:func:`pyarrow.Schema.serialize`).
    """

    collection: str
    version: int
    policies: str
    roles: tuple[str, ...] = ()
    claims: dict[str, Any] = {}
    unrestricted: bool = False
    now: datetime
    schema_bytes: bytes | None = None

    @property
    def caller(self) -> Caller:
        """Whom the answer is for."""
        return Caller(roles=frozenset(self.roles), claims=self.claims, unrestricted=self.unrestricted)


class Terms(Message):
    """How frequent are the words of ``text``? For scores that are the same wherever a row lies."""

    kind: Literal["terms"] = "terms"
    text: str


class StatementText(Message):
    """A SELECT, what is given for its parameters, and how many rows of the answer are left out."""

    text: str
    params: dict[str, Any] = {}
    dialect: str
    skip: int = 0


class Find(Message):
    """Which rows are the best by each leg of ``mode``; without one, which are the first by key, or behind ``after``?

    ``vector`` is ``(dim,)`` float32 in bytes. ``pool`` rows are wanted surely. ``left_out`` is the number of a row that
    is not to be found (:func:`retrieval.ranking.rows_of`). ``frequencies`` of ``n_documents`` are the words' in all
    nodes. In place of ``filter`` there may be a ``statement`` in whose WHERE it stands. With ``shown`` each row comes
    with these columns and its passage, as by :class:`Fetch`.
    """

    kind: Literal["find"] = "find"
    mode: Mode | None
    text: str | None = None
    vector: bytes | None = None
    pool: int
    filter: str | None = None
    statement: StatementText | None = None
    params: dict[str, Any] = {}
    dialect: str = "databricks"
    after: str | None = None
    left_out: int | None = None
    n_documents: int | None = None
    frequencies: list[list[int]] = []
    shown: list[str] | None = None

    @property
    def statistics(self) -> TermStatistics | None:
        """The frequencies as the keyword leg takes them."""
        return None if self.n_documents is None else TermStatistics(self.n_documents, self.frequencies)


class Like(Message):
    """Where is the row of ``key`` (JSON's values, in spec order), and what is its vector?"""

    kind: Literal["like"] = "like"
    key: list[Any]


class Fetch(Message):
    """What do the rows of these chunks hold, of ``columns`` and the text ``fields``?

    With ``passages`` each chunk brings its own portion of every text field, and so do as many as ``context`` of the row
    before and after it; ``fields`` are wanted whole. With ``vectors`` it brings its vector too.
    """

    kind: Literal["fetch"] = "fetch"
    places: list[int]
    positions: list[int]
    columns: list[str]
    fields: list[str] = []
    passages: bool = True
    context: int = 0
    vectors: bool = False

    @model_serializer(mode="wrap")
    def _written(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out ``context`` where there is none: a node of the release before does not know it."""
        written: dict[str, Any] = write(self)
        return {name: value for name, value in written.items() if (name, value) != ("context", 0)}


class Rows(Message):
    """Which rows have keys of these ``hashes`` (:func:`retrieval.rows.hashes_of`), and what do they hold?

    Of each come all chunks with the text ``fields``, where there are any, and else one with the ``columns``.
    """

    kind: Literal["rows"] = "rows"
    hashes: bytes
    columns: list[str]
    fields: list[str]


class Select(Message):
    """Which are the first rows of a ``statement`` that searches for nothing, or what groups do its rows make?

    Rows come as by :class:`Find`, as many as may be among those that are shown, with the columns that they are ordered
    by; groups with the parts of their aggregates (:meth:`retrieval.sql.aggregates.Aggregate.parts`).
    """

    kind: Literal["select"] = "select"
    statement: StatementText


Part = Annotated[Terms | Find | Like | Fetch | Rows | Select, Field(discriminator="kind")]


class Question(Message):
    """One question to one node."""

    asker: Asker
    part: Part


class Answer(BaseModel):
    """The header of an answer: what of it is no column of its table.

    ``n_documents`` and ``frequencies`` answer :class:`Terms`; ``chunks``, ``passing``, ``segments`` and ``keyword`` say
    how :class:`Find` went; ``row`` is the number of the row that was asked for by its key, None where there is none;
    ``read`` is how many rows a :class:`Select` is about.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    n_documents: int = 0
    frequencies: list[list[int]] = []
    chunks: int | None = None
    passing: int | None = None
    segments: tuple[SegmentSearch, ...] = ()
    keyword: KeywordSearch | None = None
    row: int | None = None
    rows: tuple[tuple[int, int], ...] = ()
    read: int = 0


def encode_question(question: Question) -> bytes:
    """Return the question as JSON."""
    return question.model_dump_json().encode()


def decode_question(data: bytes) -> Question:
    """Return the question that :func:`encode_question` wrote; raises ValueError."""
    return Question.model_validate_json(data)


def encode_answer(answer: Answer, table: pa.Table) -> bytes:
    """Return an answer as an Arrow stream."""
    sink = pa.BufferOutputStream()
    named = table.replace_schema_metadata({HEADER: answer.model_dump_json(exclude_defaults=True)})
    with pa.ipc.new_stream(sink, named.schema) as writer:
        writer.write_table(named)
    data: bytes = sink.getvalue().to_pybytes()
    return data


def decode_answer(data: bytes) -> tuple[Answer, pa.Table]:
    """Return what :func:`encode_answer` wrote; raises :class:`retrieval.errors.NodeFailed`."""
    try:
        table = pa.ipc.open_stream(pa.py_buffer(data)).read_all()
        return Answer.model_validate_json(table.schema.metadata[HEADER]), table
    except (pa.ArrowException, KeyError, TypeError, ValidationError) as error:
        raise NodeFailed(f"a node's answer cannot be read: {error}") from error


def newest_schema(schemas: Sequence[tuple[pa.Schema, Sequence[datetime]]], order: Sequence[str]) -> pa.Schema:
    """Return the columns of several nodes, each of the type that it has in the segment that was written last.

    Each of ``schemas`` comes with the time at which its columns' segments were written.
    """
    newest: dict[str, tuple[datetime, pa.Field]] = {}
    for schema, times in schemas:
        for field, written_at in zip(schema, times, strict=True):
            if field.name not in newest or newest[field.name][0] < written_at:
                newest[field.name] = (written_at, field)
    return pa.schema([newest[name][1] for name in order if name in newest])
