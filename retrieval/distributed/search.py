"""Searching a version that lies on several machines: the same answer as if it lay on one.

Each leg asks every node for as many rows as it wants of all of them, and the best of these are the best of all; only
then the legs are fused. Words score by how frequent they are in all nodes together. What is shown of a row is fetched
for those alone that are left.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import reduce
from operator import add
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from indexer.embedding import QueryEmbedder
from indexer.format.keys import parse_key
from retrieval.chunks import Chunks, keys_at
from retrieval.distributed.messages import Answer, Asker, Fetch, Find, Like, Row, Terms
from retrieval.distributed.node import ASKED, BEST, LEGS, VECTOR
from retrieval.distributed.routed import Answers, Asked, RoutedVersion
from retrieval.errors import RequestError
from retrieval.explanation import Explanation
from retrieval.fused import fused
from retrieval.fusion import Ids
from retrieval.keyword_leg import KeywordSearch
from retrieval.keyword_query import TermStatistics
from retrieval.legs import depth_of, least_sure
from retrieval.likeness import LikedRow
from retrieval.policies import ANYONE, Caller, Sight
from retrieval.ranking import Candidates, Positions, Ranked, merged, rank_by_key
from retrieval.refine.refiner import refiner_of
from retrieval.refine.rerank import Reranker
from retrieval.refine.stages import NO_STAGES, Stages
from retrieval.request import Mode, SearchRequest
from retrieval.response import Hits, Plan, SearchResponse
from retrieval.rows import Row as FoundRow
from retrieval.rows import row_at
from retrieval.search import asked_of, filter_for, response_of, vector_of
from retrieval.stopwatch import Stopwatch

if TYPE_CHECKING:
    from retrieval.scores import Floats

ROW_BITS = 44
"""A row of a version as one number: the node's place among those asked, then its number there."""


def search_nodes(
    version: RoutedVersion,
    request: SearchRequest,
    *,
    caller: Caller = ANYONE,
    embedder: QueryEmbedder | None = None,
    reranker: Reranker | None = None,
) -> SearchResponse:
    """Run one search over all nodes, for what ``caller`` may see: as :func:`retrieval.search.search` on one machine.

    Raises what that raises, and :class:`retrieval.errors.NodeError`.
    """
    mode, include = asked_of(version, request)
    watch = Stopwatch()
    now = datetime.now(UTC)
    asker = version.asker(caller, now)  # before the sight: policies that come in between can then only hide more
    sight = version.sight_of(caller)
    # Before anybody is asked: what is wrong with it is the same on every node.
    filter_for(version, sight, request.filter, dialect=request.dialect, params=request.params, now=now)
    has_stages = request.stages is not NO_STAGES and request.stages.names
    refiner = refiner_of(version, request, sight, reranker) if has_stages and mode is not None else None
    run = _Run(version, request, asker, sight)
    terms = run.ask_terms() if mode in ("hybrid", "keyword") else None  # while the text is embedded
    liked = run.find_liked() if request.like is not None else None
    by_meaning = mode in ("hybrid", "vector")
    vector = vector_of(version, request, embedder, liked.row if liked else None) if by_meaning else None
    watch.lap("embed")
    run.find(mode, vector, liked, terms)
    watch.lap("nodes")
    ranked, explanations = run.ranked(mode)
    watch.lap("fuse")
    ranked, parts = run.fetched(ranked, include, NO_STAGES if refiner is None else request.stages)
    watch.lap("fetch")
    if refiner is not None:
        ranked, explanations = refiner.refine(parts, ranked, explanations, watch)
    hits = Hits(parts, version.spec, ranked, include, sight, explanations)
    return response_of(version, sight, hits, run.plan(mode), watch)


def get_row_of_nodes(
    version: RoutedVersion, raw_key: str, caller: Caller, *, deadline: float | None
) -> FoundRow | None:
    """Return the row under ``raw_key`` (as in a URL) that ``caller`` sees, or None.

    Raises ValueError for what cannot be a key, and what a search raises.
    """
    if not version.arrow_schema.names:
        return None
    parse_key(raw_key, [version.arrow_schema.field(name) for name in version.spec.key])
    asker = version.asker(caller, datetime.now(UTC))
    sight = version.sight_of(caller)
    for answer, table in version.ask_all(asker, Row(key=raw_key), deadline=deadline).answers().values():
        if answer.row is not None:
            return row_at(_chunks(table), version.spec, 0, sight)
    return None


@dataclass(frozen=True, slots=True)
class _Liked:
    """A row that others shall be like, and the part that has it."""

    part: int
    row: LikedRow


class _Run:
    """One search under way."""

    def __init__(self, version: RoutedVersion, request: SearchRequest, asker: Asker, sight: Sight) -> None:
        self._version = version
        self._request = request
        self._asker = asker
        self._sight = sight
        self._answers: list[Answer] = []
        self._found: list[Chunks] = []

    def ask_terms(self) -> Asked:
        """Begin to ask how frequent the words are."""
        return self._ask_all(Terms(text=self._request.text or ""))

    def find_liked(self) -> _Liked:
        """Return the row that the request names; raises RequestError where it is not there, or has no vector."""
        assert self._request.like is not None
        for part, (answer, table) in self._ask_all(Like(key=list(self._request.like))).answers().items():
            if answer.row is not None:
                vector = np.asarray(table.column(VECTOR).to_numpy(), dtype=np.float32)
                return _Liked(part, LikedRow(answer.row, vector))
        message = f"version {self._version.version} has no row of that key"
        raise RequestError(message, field="like", code="row_not_found")

    def find(self, mode: Mode | None, vector: Floats | None, liked: _Liked | None, terms: Asked | None) -> None:
        """Have every node find its best rows."""
        request = self._request
        statistics = None if terms is None else _together(terms.answers())
        question = Find(
            mode=mode,
            text=request.text,
            vector=None if vector is None else np.ascontiguousarray(vector, dtype=np.float32).tobytes(),
            pool=request.pool,
            filter=request.filter,
            params=dict(request.params),
            dialect=request.dialect,
            n_documents=None if statistics is None else statistics.n_documents,
            frequencies=[] if statistics is None else [list(each) for each in statistics.frequencies],
        )
        questions = dict.fromkeys(self._version.parts, question)
        if liked is not None:
            questions[liked.part] = question.model_copy(update={"left_out": liked.row.number})
        asked = self._version.nodes.ask(self._asker, questions, deadline=request.deadline).answers()
        self._answers = [asked[part][0] for part in self._version.parts]
        self._found = [_chunks(asked[part][1]) for part in self._version.parts]

    def ranked(self, mode: Mode | None) -> tuple[Ranked, list[Explanation] | None]:
        """Return the best of what the nodes found, as places among them and lines of their answers."""
        spec, request = self._version.spec, self._request
        if mode is None:
            lines = [np.arange(part.n) for part in self._found]
            return rank_by_key(self._found, lines, self._version.schema, spec, request.k), None
        depth = depth_of(mode, request.pool)
        legs = {leg: self._leg(leg, depth) for leg in ("vector", "keyword") if mode in ("hybrid", leg)}
        return fused(
            request, legs, ids_of=self._ids, keys_at=lambda places, lines: keys_at(self._found, spec, places, lines)
        )

    def _leg(self, leg: str, depth: int) -> Ranked:
        lists = []
        for place, part in enumerate(self._found):
            lines = np.flatnonzero(part.table.column("_leg").to_numpy() == LEGS.index(leg))
            scores = part.table.column("_score").to_numpy()[lines]
            lists.append(Candidates(place, lines, scores.astype(np.float32)))
        return merged(self._found, lists, self._version.spec, depth)

    def _ids(self, ranked: Ranked) -> Ids:
        places, lines = np.array(ranked.places, dtype=np.int64), np.array(ranked.positions, dtype=np.int64)
        return (places << ROW_BITS) | self._of_lines("_row", places, lines)

    def _of_lines(self, column: str, places: Positions, lines: Positions) -> Positions:
        """Return a column's values at these lines of the nodes' answers."""
        values = np.empty(len(lines), dtype=np.int64)
        for place in np.unique(places).tolist():
            mine = places == place
            values[mine] = self._found[place].table.column(column).to_numpy()[lines[mine]]
        return values

    def fetched(self, ranked: Ranked, include: Sequence[str], stages: Stages) -> tuple[Ranked, list[Chunks]]:
        """Return the rows of ``ranked`` with all that is shown of them, and what the stages look at."""
        spec, request = self._version.spec, self._request
        names = set(include) | set(spec.key)
        if stages.decay is not None:
            names.add(stages.decay.column)
        places, lines = np.array(ranked.places, dtype=np.int64), np.array(ranked.positions, dtype=np.int64)
        at, positions = self._of_lines("_place", places, lines), self._of_lines("_position", places, lines)
        of_part = {place: np.flatnonzero(places == place) for place in np.unique(places).tolist()}
        questions = {
            self._version.parts[place]: Fetch(
                places=at[mine].tolist(),
                positions=positions[mine].tolist(),
                columns=[name for name in spec.stored_columns if name in names],
                fields=[field for field in spec.text.fields if field in names and field not in spec.stored_columns],
                vectors=stages.diversify is not None,
            )
            for place, mine in of_part.items()
        }
        asked = self._version.nodes.ask(self._asker, questions, deadline=request.deadline).answers()
        parts = [_chunks(asked[self._version.parts[place]][1]) for place in of_part]
        placed, best = np.empty_like(places), np.empty_like(lines)
        for number, mine in enumerate(of_part.values()):
            placed[mine] = number
            best[mine] = np.flatnonzero(parts[number].table.column(BEST).to_numpy(zero_copy_only=False))
        return Ranked(placed.tolist(), best.tolist(), ranked.scores), parts

    def plan(self, mode: Mode | None) -> Plan:
        """Return what the caller may be told of how the search ran."""
        whole = self._sight.is_whole
        segments = tuple(search for answer in self._answers for search in answer.segments)
        return Plan(
            mode=mode,
            vector=least_sure(segments) if mode in ("hybrid", "vector") else None,
            chunks=_sum([answer.chunks for answer in self._answers]),
            passing=_sum([answer.passing for answer in self._answers]),
            segments=segments if whole else (),
            keyword=_keyword([answer.keyword for answer in self._answers]) if whole else None,
        )

    def _ask_all(self, part: Terms | Like) -> Asked:
        return self._version.ask_all(self._asker, part, deadline=self._request.deadline)


def _chunks(table: pa.Table) -> Chunks:
    """Return a table of a node's as chunks: rows of which one is found each, or chunks by the row they are of."""
    if ASKED in table.column_names:
        rows = table.column(ASKED).to_numpy().astype(np.uint32)
    else:
        rows = np.arange(len(table), dtype=np.uint32)
    vectors = np.zeros((len(table), 0), np.float32)
    if VECTOR in table.column_names and len(table):
        column = table.column(VECTOR).combine_chunks()
        vectors = column.values.to_numpy().reshape(len(table), -1)
    return Chunks(table, vectors, rows)


def _together(answers: Answers) -> TermStatistics:
    """Return the words' statistics in all nodes."""
    return reduce(add, (TermStatistics(answer.n_documents, answer.frequencies) for answer, _ in answers.values()))


def _sum(counts: Sequence[int | None]) -> int | None:
    known = [count for count in counts if count is not None]
    return sum(known) if len(known) == len(counts) else None


def _keyword(searches: Sequence[KeywordSearch | None]) -> KeywordSearch | None:
    """Return how the keyword leg went in all nodes together: as in the one that fetched the most."""
    known = [search for search in searches if search is not None]
    if not known:
        return None
    return KeywordSearch(
        way=max(known, key=lambda search: search.fetched).way,
        fetched=sum(search.fetched for search in known),
        passing=sum(search.passing for search in known),
    )
