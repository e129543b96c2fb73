"""Fusing the ranked lists of several legs into one, as pure functions.

``rrf``      score(d) = sum over legs of  weight / (rank_constant + rank of d in the leg), ranks from 1; a leg that
             does not have d adds nothing. Cormack, Clarke and Buettcher, "Reciprocal rank fusion outperforms Condorcet
             and individual rank learning methods", SIGIR 2009.
``minmax``   score(d) = sum over legs of  weight * (s(d) - min) / (max - min), min and max over the leg's own hits; the
             convex combination of Bruch, Gai and Ingber, "An analysis of fusion functions for hybrid retrieval",
             ACM TOIS 42(1), 2023.

Edge cases of ``minmax``: a hit that a leg does not have gets 0 from it; a leg whose scores are all equal (one hit, too)
gives 1 to each; the weight of an empty leg is not handed on, so scores of different requests stay comparable.
Weights need not add up to 1; they are used as given.
"""

from __future__ import annotations

import heapq
import operator
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

Id = TypeVar("Id", bound=Hashable)
FusionKind = Literal["rrf", "minmax"]
RRF_RANK_CONSTANT = 60
"""k of the RRF paper: its authors' pilot value, which later work found to be flat around the best."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Contribution:
    """What one leg gave to a hit; ``added`` is the part of the fused score."""

    rank: int
    raw_score: float
    normalised: float
    weight: float

    @property
    def added(self) -> float:
        """The leg's share of the fused score."""
        return self.weight * self.normalised


@dataclass(frozen=True, kw_only=True, slots=True)
class Fused(Generic[Id]):
    """One fused hit with the numbers that made its score."""

    id: Id
    score: float
    legs: Mapping[str, Contribution]


Ranking = Sequence[tuple[Id, float]]
"""A leg's hits, best first: distinct ids with their raw scores."""


def rrf(raw_scores: Sequence[float], *, rank_constant: int = RRF_RANK_CONSTANT) -> list[float]:
    """Return what each hit of one leg, best first, gives by its rank.

    >>> [round(part, 6) for part in rrf([9.0, 7.5])]
    [0.016393, 0.016129]
    """
    return [1.0 / (rank_constant + rank) for rank in range(1, len(raw_scores) + 1)]


def minmax(raw_scores: Sequence[float]) -> list[float]:
    """Return one leg's scores stretched over 0 to 1; all equal gives 1.

    >>> minmax([9.0, 6.0, 5.0]), minmax([3.0, 3.0])
    ([1.0, 0.25, 0.0], [1.0, 1.0])
    """
    if not raw_scores:
        return []
    low = min(raw_scores)
    span = max(raw_scores) - low
    if span <= 0:
        return [1.0] * len(raw_scores)
    return [(raw - low) / span for raw in raw_scores]


def fuse(
    kind: FusionKind,
    legs: Mapping[str, Ranking[Id]],
    weights: Mapping[str, float],
    *,
    key_of: Callable[[Id], Any],
    limit: int,
    explain: bool = True,
) -> list[Fused[Id]]:
    """Return the best ``limit`` hits of all legs: highest fused score first, ties by key ascending.

    A leg without a weight weighs 1. ``key_of`` gives a hit's sortable key; it is asked only for hits that tie. Without
    ``explain`` no hit says what its legs gave.
    """
    normalise = rrf if kind == "rrf" else minmax
    normalised = {name: normalise([raw for _, raw in legs[name]]) for name in sorted(legs)}
    scores: dict[Id, float] = {}
    # Added in a fixed order of legs, so that two hits with the same parts have the same score to the last bit.
    for name, parts in normalised.items():
        weight = weights.get(name, 1.0)
        for (hit, _), part in zip(legs[name], parts, strict=True):
            scores[hit] = scores.get(hit, 0.0) + weight * part
    chosen = ordered_by_score(list(scores.items()), key_of=key_of, limit=limit)
    if not explain:
        return [Fused(id=hit, score=scores[hit], legs={}) for hit in chosen]
    shown = set(chosen)
    ranks = {
        name: {hit: rank for rank, (hit, _) in enumerate(legs[name], start=1) if hit in shown} for name in normalised
    }

    def contributions(hit: Id) -> dict[str, Contribution]:
        return {
            name: Contribution(
                rank=rank,
                raw_score=legs[name][rank - 1][1],
                normalised=normalised[name][rank - 1],
                weight=weights.get(name, 1.0),
            )
            for name in normalised
            if (rank := ranks[name].get(hit)) is not None
        }

    return [Fused(id=hit, score=scores[hit], legs=contributions(hit)) for hit in chosen]


def ordered_by_score(scored: list[tuple[Id, float]], *, key_of: Callable[[Id], Any], limit: int) -> list[Id]:
    """Return the best ``limit`` ids by descending score, ties by key ascending."""
    if 0 < limit < len(scored):
        least = heapq.nlargest(limit, map(operator.itemgetter(1), scored))[-1]
        scored = [pair for pair in scored if pair[1] >= least]
    scored.sort(key=lambda pair: -pair[1])
    start, chosen = 0, min(limit, len(scored))
    while start < chosen:
        end = start + 1
        while end < len(scored) and scored[end][1] == scored[start][1]:
            end += 1
        if end - start > 1:
            scored[start:end] = sorted(scored[start:end], key=lambda pair: key_of(pair[0]))
        start = end
    return [hit for hit, _ in scored[:chosen]]
