"""What made a hit's score, as ``/openapi.json`` describes it."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class Answer(BaseModel):
    """Base of what the server sends."""

    model_config = ConfigDict(frozen=True)


class LegAnswer(Answer):
    """What one leg gave to a hit: ``added = weight * normalised_score`` is its part of the fused score."""

    rank: int = Field(description="From 1, within the leg.")
    raw_score: float = Field(description="The leg's own score: a similarity of vectors, or BM25.")
    normalised_score: float
    weight: float
    added: float


class RerankedAnswer(Answer):
    """What the reranker made of a hit: ``score`` is the sigmoid of its ``raw_score``."""

    rank_before: int
    score_before: float
    raw_score: float
    score: float


class DecayedAnswer(Answer):
    """What the decay made of a hit: ``score = relevance * (1 - weight + weight * factor)``."""

    rank_before: int
    score_before: float
    relevance: float
    distance: float | None = Field(description="From the origin, less the offset; null where the row has no value.")
    factor: float
    weight: float
    score: float


class CollapsedAnswer(Answer):
    """That a hit stayed when the list was collapsed."""

    rank_before: int
    score_before: float
    turn: int = Field(description="The how manyth of its value it is, from 1; 0 without a value.")
    most: int


class DiversifiedAnswer(Answer):
    """Why a hit was picked in its turn: ``mmr = (1 - diversity) * relevance - penalty``, the highest there was."""

    rank_before: int
    score_before: float
    relevance: float
    similarity: float = Field(description="The highest cosine with a hit above.")
    diversity: float
    penalty: float
    mmr: float


class QueryAnswer(Answer):
    """What one of several queries gave to a hit: ``added`` is its part of the fused score."""

    query: int = Field(description="Its place in 'queries', from 0.")
    rank: int = Field(description="From 1, within the query's list.")
    score: float = Field(description="In the query's list; the legs are its parts.")
    added: float
    vector: LegAnswer | None = None
    keyword: LegAnswer | None = None


class ExplanationAnswer(Answer):
    """Every number that made a score: those of the legs that found the row, then those of the stages that ran."""

    queries: list[QueryAnswer] | None = Field(
        default=None, description="With 'queries', in place of the legs: those that found the row."
    )
    vector: LegAnswer | None = None
    keyword: LegAnswer | None = None
    rerank: RerankedAnswer | None = None
    decay: DecayedAnswer | None = None
    collapse: CollapsedAnswer | None = None
    diversify: DiversifiedAnswer | None = None
