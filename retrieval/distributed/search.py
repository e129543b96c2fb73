"""Searching a version that lies on several machines: the same answer as if it lay on one.

Each leg asks every node for as many rows as it wants of all of them, and the best of these are the best of all; only
then the legs are fused. Words score by how frequent they are in all nodes together. What is shown of a row is fetched
for those alone that are left.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial, reduce
from operator import add
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from indexer.embedding import QueryEmbedder
from retrieval.chunks import Chunks, keys_at
from retrieval.distributed.lines import Lines, fetch
from retrieval.distributed.messages import Answer, Asker, Find, Like, Part, StatementText, Terms
from retrieval.distributed.node import BEST, LEGS, VECTOR
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
from retrieval.queries import Found, depth_of_query, pool_of_query, together
from retrieval.ranking import Candidates, Ranked, merged, rank_by_key
from retrieval.refine.refiner import refiner_of
from retrieval.refine.rerank import Reranker
from retrieval.refine.stages import NO_STAGES, Stages
from retrieval.request import Mode, SearchRequest
from retrieval.response import Hits, Plan, SearchResponse
from retrieval.search import asked_of, filter_for, paged, response_of, vectors_of
from retrieval.stopwatch import Stopwatch

if TYPE_CHECKING:
    from retrieval.scores import Floats

ROW_BITS = 44
"""A row of a version as one number: the node's place among those asked, then its number there."""
QUERY = "_query"
"""The column of several queries' rows that has the place of the one by which each was found."""
READ_AHEAD = 256
"""Up to so many rows all nodes together read, though few of them are shown, rather than that these are asked for in a
round of their own: a row takes a node some 30 us, a question ten times as long."""


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
    now = request.now or datetime.now(UTC)
    asker = version.asker(caller, now)  # before the sight: policies that come in between can then only hide more
    sight = version.sight_of(caller)
    # Before anybody is asked: what is wrong with it is the same on every node.
    filter_for(version, sight, request.filter, dialect=request.dialect, params=request.params, now=now)
    has_stages = request.stages is not NO_STAGES and request.stages.names
    refiner = refiner_of(version, request, sight, reranker) if has_stages and mode is not None else None
    run = SearchRun(version, request, asker, sight)
    shown = None if refiner is not None else _shown_at_once(version, request, mode, include)
    ranked, explanations = run.best(embedder, watch, shown)
    ranked, explanations, has_more = paged(request, ranked, explanations)
    parts: Sequence[Chunks] = run.found
    if not run.came_whole:
        ranked, parts = run.fetched(ranked, include, NO_STAGES if refiner is None else request.stages)
    watch.lap("fetch")
    if refiner is not None:
        ranked, explanations = refiner.refine(parts, ranked, explanations, watch)
    hits = Hits(parts, version.spec, ranked, include, sight, explanations, request.context)
    return response_of(version, sight, hits, run.plan(), watch, has_more=has_more)


def _shown_at_once(
    version: RoutedVersion, request: SearchRequest, mode: Mode | None, include: Sequence[str]
) -> list[str] | None:
    """Return the columns that nodes send along with what they find; None where that would be too much, or too little.

    Of a hybrid search, and of several queries, nodes send hundreds of rows; for a whole text field, or a chunk's
    neighbours, several chunks are read.
    """
    stored = version.spec.stored_columns
    names = {*include, *version.spec.key}
    is_much = mode == "hybrid" or request.pool * len(version.parts) > READ_AHEAD
    if is_much or request.queries is not None or request.context or not names <= set(stored):
        return None
    return [name for name in stored if name in names]


@dataclass(frozen=True, slots=True)
class _Liked:
    """A row that others shall be like, and the part that has it."""

    part: int
    row: LikedRow


class SearchRun:
    """One search under way. In place of the request's filter there may be a ``statement``, in whose WHERE it is."""

    def __init__(
        self,
        version: RoutedVersion,
        request: SearchRequest,
        asker: Asker,
        sight: Sight,
        statement: StatementText | None = None,
    ) -> None:
        self._version = version
        self._request = request
        self._mode, _ = asked_of(version, request)
        self._asker = asker
        self._sight = sight
        self._statement = statement
        self._answers: list[list[Answer]] = []
        self.found: list[Lines] = []

    def best(
        self, embedder: QueryEmbedder | None, watch: Stopwatch, shown: list[str] | None = None
    ) -> tuple[Ranked, list[Explanation] | None]:
        """Return the best rows of all nodes, as places among what they ``found`` and lines there.

        With ``shown`` those come with these columns and their passages, but from nodes where they are large.
        """
        mode, request = self._mode, self._request
        terms = self._ask_terms() if mode in ("hybrid", "keyword") else {}  # while the text is embedded
        with _cancelled(list(terms.values())):
            liked = self._find_liked() if request.like is not None else None
            by_meaning = mode in ("hybrid", "vector")
            vectors = vectors_of(self._version, request, embedder, liked.row if liked else None) if by_meaning else {}
            watch.lap("embed")
            self._find(vectors, liked, terms, shown)
        watch.lap("nodes")
        ranked, explanations = self._ranked()
        watch.lap("fuse")
        return ranked, explanations

    @property
    def came_whole(self) -> bool:
        """Whether all that was ``found`` came with what is shown of it."""
        return all(BEST in part.table.schema.names for part in self.found)

    def _ask_terms(self) -> dict[int, Asked]:
        """Begin to ask how frequent the words of each query are."""
        return {place: self._ask_all(Terms(text=text or "")) for place, text in self._request.texts.items()}

    def _find_liked(self) -> _Liked:
        """Return the row that the request names; raises RequestError where it is not there, or has no vector."""
        assert self._request.like is not None
        for part, (answer, table) in self._ask_all(Like(key=list(self._request.like))).answers().items():
            if answer.row is not None:
                vector = np.asarray(table.column(VECTOR).to_numpy(), dtype=np.float32)
                return _Liked(part, LikedRow(answer.row, vector))
        message = f"version {self._version.version} has no row of that key"
        raise RequestError(message, field="like", code="row_not_found")

    def _find(
        self,
        vectors: Mapping[int, Floats | None],
        liked: _Liked | None,
        terms: Mapping[int, Asked],
        shown: list[str] | None,
    ) -> None:
        """Have every node find its best rows by each query."""
        nodes, deadline, places = self._version.nodes, self._request.deadline, list(self._request.texts)
        statistics = {place: _statistics(asked.answers()) for place, asked in terms.items()}
        questions = [
            self._questions(place, vectors.get(place), liked, statistics.get(place), shown) for place in places
        ]
        under_way = [nodes.ask(self._asker, each, deadline=deadline) for each in questions]
        with _cancelled(under_way):
            answers = [asked.answers() for asked in under_way]
        self._answers = [[found[part][0] for part in self._version.parts] for found in answers]
        several = self._request.queries is not None
        self.found = [
            Lines(part, _of_queries(places, [found[part][1] for found in answers]) if several else answers[0][part][1])
            for part in self._version.parts
        ]

    def _questions(
        self,
        place: int,
        vector: Floats | None,
        liked: _Liked | None,
        statistics: TermStatistics | None,
        shown: list[str] | None,
    ) -> dict[int, Part]:
        """Return what each node is asked of the query at ``place``."""
        request = self._request
        question = Find(
            mode=self._mode,
            text=request.texts[place],
            vector=None if vector is None else np.ascontiguousarray(vector, dtype=np.float32).tobytes(),
            pool=request.pool if request.queries is None else pool_of_query(self._mode, request.pool),
            filter=request.filter,
            statement=self._statement,
            params=dict(request.params),
            dialect=request.dialect,
            after=request.after,
            n_documents=None if statistics is None else statistics.n_documents,
            frequencies=[] if statistics is None else [list(each) for each in statistics.frequencies],
            shown=shown,
        )
        questions: dict[int, Part] = dict.fromkeys(self._version.parts, question)
        if liked is not None:
            questions[liked.part] = question.model_copy(update={"left_out": liked.row.number})
        return questions

    def _ranked(self) -> tuple[Ranked, list[Explanation] | None]:
        spec, request, mode = self._version.spec, self._request, self._mode
        if mode is None:
            lines = [np.arange(part.n) for part in self.found]
            return rank_by_key(self.found, lines, self._version.schema, spec, request.pool), None
        if request.queries is None:
            return self._fused(mode, 0, depth_of(mode, request.pool), request.pool)
        depth = depth_of_query(request.pool)
        lists = {place: self._fused(mode, place, depth, depth) for place in request.texts}
        keys = partial(keys_at, self.found, spec)
        return together(lists, ids_of=self._ids, keys_at=keys, limit=request.pool, explain=request.explain)

    def _fused(self, mode: Mode, query: int, depth: int, limit: int) -> Found:
        """Return the ``limit`` best rows by the query at that place, of whose legs each has ``depth``."""
        spec = self._version.spec
        legs = {leg: self._leg(leg, query, depth) for leg in ("vector", "keyword") if mode in ("hybrid", leg)}
        keys = partial(keys_at, self.found, spec)
        return fused(self._request, legs, spec, ids_of=self._ids, keys_at=keys, limit=limit)

    def _leg(self, leg: str, query: int, depth: int) -> Ranked:
        lists = []
        for place, part in enumerate(self.found):
            mine = part.numbers("_leg") == LEGS.index(leg)
            if self._request.queries is not None:
                mine &= part.numbers(QUERY) == query
            lines = np.flatnonzero(mine)
            scores = part.table.column("_score").to_numpy()[lines]
            lists.append(Candidates(place, lines, scores.astype(np.float32)))
        return merged(self.found, lists, self._version.spec, depth)

    def _ids(self, ranked: Ranked) -> Ids:
        places, lines = np.array(ranked.places, dtype=np.int64), np.array(ranked.positions, dtype=np.int64)
        rows = np.empty(len(lines), dtype=np.int64)
        for place in np.unique(places).tolist():
            mine = places == place
            rows[mine] = self.found[place].numbers("_row")[lines[mine]]
        return (places << ROW_BITS) | rows

    def fetched(self, ranked: Ranked, include: Sequence[str], stages: Stages) -> tuple[Ranked, list[Chunks]]:
        """Return the rows of ``ranked`` with all that is shown of them, and what the stages look at."""
        names = set(include) | set(self._version.spec.key)
        if stages.decay is not None:
            names.add(stages.decay.column)
        if stages.collapse is not None:
            names.add(stages.collapse.column)
        parts, places, positions = fetch(
            self._version,
            self._asker,
            self.found,
            np.array(ranked.places, dtype=np.int64),
            np.array(ranked.positions, dtype=np.int64),
            names=names,
            passages=True,
            context=self._request.context,
            vectors=stages.diversify is not None,
            deadline=self._request.deadline,
        )
        return Ranked(places.tolist(), positions.tolist(), ranked.scores), parts

    def plan(self) -> Plan:
        """Return what the caller may be told of how the search ran."""
        mode, whole = self._mode, self._sight.is_whole
        answers = [answer for of_query in self._answers for answer in of_query]
        segments = tuple(search for answer in answers for search in answer.segments)
        return Plan(
            mode=mode,
            vector=least_sure(segments) if mode in ("hybrid", "vector") else None,
            chunks=_sum([answer.chunks for answer in self._answers[0]]),
            passing=_sum([answer.passing for answer in self._answers[0]]),
            segments=segments if whole else (),
            keyword=KeywordSearch.of_all([answer.keyword for answer in answers]) if whole else None,
        )

    def _ask_all(self, part: Terms | Like) -> Asked:
        return self._version.ask_all(self._asker, part, deadline=self._request.deadline)


@contextmanager
def _cancelled(under_way: Sequence[Asked]) -> Iterator[None]:
    """Leave nothing of what is ``under_way`` to go on once it is not waited for."""
    try:
        yield
    finally:
        for asked in under_way:
            asked.cancel()


def _of_queries(places: Sequence[int], tables: Sequence[pa.Table]) -> pa.Table:
    """Return what a node found by each of the queries at ``places`` as one table, with a column that says by which."""
    marked = [
        table.append_column(QUERY, pa.array(np.full(len(table), place, np.int8)))
        for place, table in zip(places, tables, strict=True)
    ]
    return pa.concat_tables(marked).combine_chunks()


def _statistics(answers: Answers) -> TermStatistics:
    """Return the words' statistics in all nodes."""
    return reduce(add, (TermStatistics(answer.n_documents, answer.frequencies) for answer, _ in answers.values()))


def _sum(counts: Sequence[int | None]) -> int | None:
    known = [count for count in counts if count is not None]
    return sum(known) if len(known) == len(counts) else None
