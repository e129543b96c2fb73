"""A node: it answers questions about the segments that it holds of one version."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from indexer.format.keys import HASH_BYTES
from retrieval import bitmap
from retrieval.chunks import COLUMN_PREFIX, START_PREFIX, TEXT_PREFIX, Chunks, keys_at
from retrieval.distributed.groups import SENT, sent_groups
from retrieval.distributed.messages import (
    Answer,
    Asker,
    Fetch,
    Find,
    Like,
    Question,
    Rows,
    Select,
    StatementText,
    Terms,
)
from retrieval.errors import NodeDiffers, NodeFailed
from retrieval.filter import CompiledFilter
from retrieval.legs import Legs
from retrieval.likeness import LikedRow, find_liked, liked_at
from retrieval.policies import Sight
from retrieval.ranking import Positions, Ranked, rows_of
from retrieval.rows import find_rows, window
from retrieval.search import counts_of, filter_for, in_key_order
from retrieval.snapshot import Snapshot
from retrieval.sql import parse_statement
from retrieval.sql.evaluate import refuse_too_large
from retrieval.sql.found import FoundRows
from retrieval.sql.grouped import GroupPlan
from retrieval.sql.here import StatementHere
from retrieval.sql.plan import SqlPlan, plan_of
from retrieval.sql.rowwise import RowPlan
from retrieval.stopwatch import Stopwatch

if TYPE_CHECKING:
    from retrieval.bitmap import Mask
    from retrieval.scores import Floats

LEGS = ("vector", "keyword", "order")
"""What the numbers in the column ``_leg`` of an answer stand for; the last is the order of keys."""
VECTOR, ASKED, BEST = "_vector", "_asked", "_best"
"""Columns of a fetched table: the chunk's vector; which of the chunks asked for it is of; whether it is that chunk."""
EMPTY = pa.table({})
AHEAD_BYTES = 1 << 16
"""What a node sends of rows before it knows that they are shown; of larger ones the router asks for those that are."""


def answer_question(snapshot: Snapshot, question: Question, *, deadline: float | None) -> tuple[Answer, pa.Table]:
    """Return the answer of the segments of ``snapshot``, which is kept open meanwhile.

    ``deadline`` is time.monotonic()'s. Raises :class:`retrieval.errors.NodeDiffers` and what a search raises.
    """
    asker, part = question.asker, question.part
    if asker.policies != snapshot.policies_digest:
        raise NodeDiffers("the policies of this node are others")
    own, _ = snapshot.own_columns
    snapshot.adopt(own if asker.schema_bytes is None else pa.ipc.read_schema(pa.py_buffer(asker.schema_bytes)))
    sight = snapshot.sight_of(asker.caller)
    node = _Node(snapshot.within(sight), asker, sight, deadline)
    match part:
        case Terms():
            return node.terms(part)
        case Find():
            return node.find(part)
        case Like():
            return node.like(part)
        case Fetch():
            return Answer(), node.fetch(part)
        case Rows():
            return node.rows(part)
        case Select():
            return node.select(part)


@dataclass(frozen=True, slots=True)
class _Node:
    """One question's snapshot, and for whom it is."""

    snapshot: Snapshot
    asker: Asker
    sight: Sight
    deadline: float | None

    def terms(self, part: Terms) -> tuple[Answer, pa.Table]:
        found = self.snapshot.keywords.statistics(part.text, self.sight.hidden_text)
        return Answer(n_documents=found.n_documents, frequencies=[list(each) for each in found.frequencies]), EMPTY

    def find(self, part: Find) -> tuple[Answer, pa.Table]:
        snapshot = self.snapshot
        passing = snapshot.passing(self._filter(part), self.sight)
        chunks, passed = counts_of(snapshot, self.sight, passing, filtered=part.filter is not None)
        if part.mode is None:
            first = in_key_order(snapshot, passing, part.pool, part.after)
            return Answer(chunks=chunks, passing=passed), self._ranked({"order": first}, part.shown)
        vector = None if part.vector is None else np.frombuffer(part.vector, dtype=np.float32)
        legs = Legs(
            snapshot=snapshot,
            passing=passing,
            text=part.text,
            pool=part.pool,
            hidden=self.sight.hidden_text,
            deadline=self.deadline,
            watch=Stopwatch(),
            liked=None if part.left_out is None else LikedRow(part.left_out, np.zeros(0, np.float32)),
            statistics=part.statistics,
        )
        table = self._ranked(legs.run(part.mode, vector), part.shown)
        how = Answer(chunks=chunks, passing=passed, segments=tuple(legs.segments), keyword=legs.keyword)
        return how, table

    def _filter(self, part: Find) -> CompiledFilter | None:
        if part.statement is not None:
            return self._plan(part.statement).where
        return filter_for(
            self.snapshot, self.sight, part.filter, dialect=part.dialect, params=part.params, now=self.asker.now
        )

    def _plan(self, statement: StatementText) -> SqlPlan:
        parsed = parse_statement(statement.text, statement.dialect)
        return plan_of(parsed, self.snapshot, self.sight, statement.params, self.asker.now, statement.skip)

    def select(self, part: Select) -> tuple[Answer, pa.Table]:
        plan = self._plan(part.statement)
        run = StatementHere(self.snapshot, plan, self.sight, self.deadline)
        run.check_time()
        found = run.find(None)
        if isinstance(plan.select, GroupPlan):
            table = sent_groups(run, found.rows, plan.select)
        else:
            table = self._first_rows(run, found.rows, plan.select)
        return Answer(read=found.read), table

    def _first_rows(self, run: StatementHere, rows: FoundRows, plan: RowPlan) -> pa.Table:
        """Return the rows that may be among those shown, with keys and the columns that they are ordered by."""
        first = rows.take(run.ordered(rows, plan, slice(0, run.cut.stop)))
        names = sorted(plan.orders | set(self.snapshot.spec.key))
        refuse_too_large(run.frame(first, names), SENT)
        parts, positions = first.places(np.arange(len(first)))
        of = np.array([self.snapshot.segments.index(segment) for segment, _ in first.parts], dtype=np.int64)
        places = of[parts] if len(of) else parts
        table = self.fetch(Fetch(places=places.tolist(), positions=positions.tolist(), columns=names, passages=False))
        return table.append_column("_place", pa.array(places)).append_column("_position", pa.array(positions))

    def _ranked(self, legs: Mapping[str, Ranked], shown: list[str] | None) -> pa.Table:
        """Return the legs as one table of rows: leg, score, the row's number, where it is, its key.

        With all that is ``shown`` of them, if it is not too much to be sent for perhaps nothing.
        """
        places = [place for ranked in legs.values() for place in ranked.places]
        positions = [position for ranked in legs.values() for position in ranked.positions]
        rows = rows_of(np.array(places, np.int64), np.array(positions, np.int64), self.snapshot.segments)
        columns = {
            "_leg": pa.array(np.repeat([LEGS.index(leg) for leg in legs], list(map(len, legs.values()))), pa.int8()),
            "_score": pa.array([score for ranked in legs.values() for score in ranked.scores], pa.float64()),
            "_row": pa.array(rows),
            "_place": pa.array(places, pa.int32()),
            "_position": pa.array(positions, pa.int32()),
        }
        if shown is not None:
            found = self.fetch(Fetch(places=places, positions=positions, columns=shown))
            if found.nbytes <= AHEAD_BYTES:
                return pa.table(columns | dict(zip(found.column_names, found.columns, strict=True)))
        return pa.table(columns | self._keys(places, positions))

    def _keys(self, places: Sequence[int], positions: Sequence[int]) -> dict[str, pa.Array]:
        """Return the key columns of these chunks."""
        spec, schema = self.snapshot.spec, self.snapshot.arrow_schema
        keys = keys_at(self.snapshot.segments, spec, places, positions)
        kinds = [schema.field(name).type if name in schema.names else pa.null() for name in spec.key]
        return {
            COLUMN_PREFIX + name: pa.array([key[at] for key in keys], kind)
            for at, (name, kind) in enumerate(zip(spec.key, kinds, strict=True))
        }

    def like(self, part: Like) -> tuple[Answer, pa.Table]:
        found = find_liked(self.snapshot, part.key, self.sight)
        if found is None:
            return Answer(), EMPTY
        liked = liked_at(self.snapshot, *found, self.sight)
        return Answer(row=liked.number), pa.table({VECTOR: pa.array(liked.vector, pa.float32())})

    def rows(self, part: Rows) -> tuple[Answer, pa.Table]:
        if not self.snapshot.schema:
            return Answer(), EMPTY
        found = find_rows(self.snapshot, np.frombuffer(part.hashes, np.uint8).reshape(-1, HASH_BYTES), self.sight)
        wanted = Fetch(
            places=[place.segment for place in found.values()],
            positions=[place.position for place in found.values()],
            columns=part.columns,
            fields=part.fields,
            passages=False,
        )
        return Answer(rows=tuple((number, place.n_chunks) for number, place in found.items())), self.fetch(wanted)

    def fetch(self, part: Fetch) -> pa.Table:
        """Return the chunks that are asked for, in that order, with neighbours, or all of their rows for fields."""
        snapshot = self.snapshot
        places, positions, asked, best = _expanded(snapshot, part)
        brought = set(part.fields)
        if part.passages:
            brought.update(set(snapshot.spec.text.fields) - self.sight.hidden_text)
        fields = [field for field in snapshot.spec.text.fields if field in brought]
        wanted = _schema(snapshot, part.columns, fields)
        table = _taken(snapshot.segments, places, positions, wanted)
        table = table.append_column(ASKED, pa.array(asked, pa.int32())).append_column(BEST, pa.array(best))
        if part.vectors:
            vectors, comparable = self._vectors(places, positions)
            flat = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1])
            table = table.append_column(VECTOR, flat).append_column("_embedded", pa.array(comparable))
        return table.combine_chunks()

    def _vectors(self, places: Positions, positions: Positions) -> tuple[Floats, Mask]:
        """Return the chunks' vectors, ``(n, dim)``, and which of them the caller may compare."""
        vectors = np.zeros((len(positions), self.snapshot.dim or 1), np.float32)
        comparable = np.zeros(len(positions), np.bool_)
        for place in np.unique(places).tolist():
            mine, segment = places == place, self.snapshot.segments[place]
            vectors[mine] = segment.vectors[positions[mine]]
            comparable[mine] = bitmap.contains(segment.comparable(self.sight.hidden_text), positions[mine])
        return vectors, comparable


def _expanded(snapshot: Snapshot, part: Fetch) -> tuple[Positions, Positions, Positions, Mask]:
    """Return places, positions, which chunk asked for each is of, and whether it is that one.

    Raises NodeFailed where there is no such chunk.
    """
    each: list[tuple[int, int, int, bool]] = []
    for at, (place, position) in enumerate(zip(part.places, part.positions, strict=True)):
        if not (0 <= place < len(snapshot.segments) and 0 <= position < snapshot.segments[place].n):
            raise NodeFailed(f"this node's version {snapshot.version} has no chunk {position} in segment {place}")
        chunks: Sequence[int] = [position]
        if part.fields or part.context:
            row = snapshot.segments[place].chunks_of_row(position)
            chunks = row if part.fields else window(row, position, part.context)
        each.extend((place, chunk, at, chunk == position) for chunk in chunks)
    table = np.array(each, dtype=np.int64).reshape(-1, 4)
    return table[:, 0], table[:, 1], table[:, 2], table[:, 3].astype(np.bool_)


def _schema(snapshot: Snapshot, columns: Sequence[str], fields: Sequence[str]) -> pa.Schema:
    """Return the columns of a fetched table: ``columns``, the text ``fields``' portions, and a row's version."""
    types = snapshot.arrow_schema
    of_text: dict[str, pa.Field] = {}
    for segment in snapshot.segments:
        for field in fields:
            for name in (TEXT_PREFIX + field, START_PREFIX + field):
                of_text.setdefault(name, segment.table.schema.field(name))
    stored = [types.field(name).with_name(COLUMN_PREFIX + name) for name in columns if name in types.names]
    own = [pa.field("_version", pa.int64()), pa.field("_committed_at", pa.timestamp("us", "UTC"))]
    return pa.schema([*stored, *of_text.values(), *own])


def _taken(segments: Sequence[Chunks], places: Positions, positions: Positions, schema: pa.Schema) -> pa.Table:
    """Return the columns of ``schema`` of chunks, in this order, whichever of ``segments`` each is in."""
    if not len(places):
        return schema.empty_table()
    order = places.argsort(kind="stable")
    of, first = np.unique(places[order], return_index=True)
    tables = []
    for place, mine in zip(of.tolist(), np.split(order, first[1:]), strict=True):
        table = segments[place].table
        have = table.schema.names
        table = table.select([name for name in schema.names if name in have]).take(pa.array(positions[mine]))
        tables.append(_fitted(table, schema))
    if len(tables) == 1:
        return tables[0]  # in the order that was asked for
    return pa.concat_tables(tables).take(pa.array(order.argsort()))


def _fitted(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Return ``table`` with the columns of ``schema``; one that was added after it was written is null."""
    if table.schema.equals(schema):
        return table
    have = table.schema.names
    columns = [
        table.column(field.name).cast(field.type) if field.name in have else pa.nulls(len(table), field.type)
        for field in schema
    ]
    return pa.table(columns, schema=schema)
