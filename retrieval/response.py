"""What a search answers: hits that read their fields when they are looked at, and how they came about."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, overload

from indexer.spec import CollectionSpec
from retrieval.chunks import Chunks, Key, keys_at, keys_of
from retrieval.explanation import Explanation
from retrieval.keyword_leg import KeywordSearch
from retrieval.policies import Sight
from retrieval.ranking import Ranked
from retrieval.request import Mode
from retrieval.rows import passage, read_fields
from retrieval.vector_leg import SegmentSearch

Effort = Literal["exact", "approximate", "exhausted"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Hit:
    """One row.

    ``text`` is its best chunk, the passage, with its neighbours if that was asked for; ``score`` is the fused one, the
    single leg's or a stage's.
    """

    key: Key
    score: float
    text: str
    fields: Mapping[str, Any]
    explanation: Explanation | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """How a search ran.

    ``vector`` is the least sure way that any segment was searched in: ``exact``, ``approximate``, or ``exhausted``
    (approximate search found too few, so all that passes was scored); None without a vector leg. ``passing`` of the
    ``chunks`` that the caller may see pass the filter; both are None where policies mask text, because they tell how
    long it is. ``segments`` and ``keyword`` say more, and are there for callers who see everything.
    """

    mode: Mode | None
    vector: Effort | None
    chunks: int | None
    passing: int | None
    segments: tuple[SegmentSearch, ...] = ()
    keyword: KeywordSearch | None = None


class Hits(Sequence[Hit]):
    """The hits, best first, as places in ``parts``. A hit's fields are read from there when it is asked for.

    It stays readable after the snapshot has been closed.
    """

    def __init__(
        self,
        parts: Sequence[Chunks],
        spec: CollectionSpec,
        ranked: Ranked,
        include: Sequence[str],
        sight: Sight,
        explanations: Sequence[Explanation] | None = None,
        context: int = 0,
    ) -> None:
        self._parts = parts
        self._spec = spec
        self._ranked = ranked
        self._include = include
        self._explanations = explanations
        self._sight = sight
        self._context = context

    def __len__(self) -> int:
        return len(self._ranked)

    @overload
    def __getitem__(self, index: int) -> Hit: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Hit]: ...
    def __getitem__(self, index: int | slice) -> Hit | Sequence[Hit]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        part = self._parts[self._ranked.places[index]]
        position = self._ranked.positions[index]
        return Hit(
            key=keys_of(part, self._spec, [position])[0],
            score=self._ranked.scores[index],
            text=passage(part, self._spec, position, self._sight.hidden_text, context=self._context),
            fields=read_fields(part, self._spec, position, self._include, self._sight),
            explanation=None if self._explanations is None else self._explanations[index],
        )

    def __iter__(self) -> Iterator[Hit]:
        return (self[index] for index in range(len(self)))

    @property
    def ranked(self) -> Ranked:
        """Where the hits are, best first."""
        return self._ranked

    def keys(self) -> list[Key]:
        """Return the keys alone, best first: cheaper than the whole hits."""
        return keys_at(self._parts, self._spec, self._ranked.places, self._ranked.positions)

    def scores(self) -> list[float]:
        """Return the scores alone, best first."""
        return self._ranked.scores


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchResponse:
    """The hits, the version they are of, how they were found and how long each stage took (milliseconds).

    ``has_more`` says of a page whether another one follows. ``masked`` names the columns and text fields whose values
    the caller does not get, ``closed_policies`` the roles of the caller's whose policy could not be used and so let no
    row through.
    """

    results: Hits
    has_more: bool
    masked: tuple[str, ...]
    closed_policies: tuple[str, ...]
    version: int
    epoch: str | None
    source_version: int | None
    source_committed_at: datetime | None
    plan: Plan
    took_ms: Mapping[str, float]
