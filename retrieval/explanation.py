"""Why a hit has its score: every number that made it, leg by leg and stage by stage."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from retrieval.fusion import Contribution
from retrieval.refine.stages import StageName


@dataclass(frozen=True, kw_only=True, slots=True)
class Reranked:
    """What the reranker made of a hit: ``score`` is the sigmoid of its ``raw_score``."""

    rank_before: int
    score_before: float
    raw_score: float
    score: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Decayed:
    """What the decay made of a hit: ``score = relevance * (1 - weight + weight * factor)``.

    ``relevance`` is the score before on the scale of :mod:`retrieval.refine.scaling`; ``distance`` is from the origin,
    less the offset, in seconds or numbers, and None where the row has no (finite) value.
    """

    rank_before: int
    score_before: float
    relevance: float
    distance: float | None
    factor: float
    weight: float
    score: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Collapsed:
    """That a hit stayed: it is the ``turn``-th of its value, from 1 to ``most``, or 0 for one without a value.

    It keeps its score, ``score_before``.
    """

    rank_before: int
    score_before: float
    turn: int
    most: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Diversified:
    """Why a hit was picked in its turn: ``mmr = (1 - diversity) * relevance - penalty``, the highest there was.

    ``penalty = diversity * similarity``, and ``similarity`` is the highest cosine with a hit above. The hit keeps its
    score, ``score_before``.
    """

    rank_before: int
    score_before: float
    relevance: float
    similarity: float
    diversity: float
    penalty: float
    mmr: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """What one of several queries gave to a hit: ``fused`` by its rank in that query's list, which ``legs`` made."""

    fused: Contribution
    legs: Mapping[str, Contribution]


StagePart = Reranked | Decayed | Collapsed | Diversified


@dataclass(frozen=True, kw_only=True, slots=True)
class Explanation:
    """How a hit got its score.

    ``legs`` have each leg's rank, raw score, normalised score and weight; the parts add up to the score of the fusion.
    Of several ``queries``, each that found the hit has legs of its own, and what they gave adds up; they are named by
    their places. ``stages`` say, in order, what each stage made of that; the last ``score`` is the hit's.
    """

    legs: Mapping[str, Contribution] = field(default_factory=dict)
    queries: Mapping[int, Asked] = field(default_factory=dict)
    stages: Mapping[StageName, StagePart] = field(default_factory=dict)
