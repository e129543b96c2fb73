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

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from indexer.spec import FusionKind
from retrieval.ranking import ties_by_key

RRF_RANK_CONSTANT = 60
SUM_DIGITS = 14
"""Of sums of more than two parts: the same parts added up in another order differ in the last of sixteen."""
"""k of the RRF paper: its authors' pilot value, which later work found to be flat around the best."""

Ids = npt.NDArray[np.int64]
Scores = npt.NDArray[np.float64]


class Leg(NamedTuple):
    """A leg's hits, best first: distinct ``ids`` and their raw ``scores``, both ``(n,)``.

    Only the first ``counted`` of them give anything, if it is not None; the others are there for the scale.
    """

    ids: Ids
    scores: Scores
    counted: int | None = None


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


def rrf(raw_scores: Scores, *, rank_constant: int = RRF_RANK_CONSTANT) -> Scores:
    """Return what each hit of one leg, best first, gives by its rank.

    >>> rrf(np.array([9.0, 7.5])).round(6).tolist()
    [0.016393, 0.016129]
    """
    return 1.0 / (rank_constant + np.arange(1, len(raw_scores) + 1))


def minmax(raw_scores: Scores) -> Scores:
    """Return one leg's scores stretched over 0 to 1; all equal gives 1.

    >>> minmax(np.array([9.0, 6.0, 5.0])).tolist(), minmax(np.array([3.0, 3.0])).tolist()
    ([1.0, 0.25, 0.0], [1.0, 1.0])
    """
    low = raw_scores.min(initial=np.inf)
    span = raw_scores.max(initial=-np.inf) - low
    return (raw_scores - low) / span if span > 0 else np.ones(len(raw_scores))


NORMALISE: Mapping[FusionKind, Callable[[Scores], Scores]] = {"rrf": rrf, "minmax": minmax}


class Fused(NamedTuple):
    """The best hits of all legs, best first: ``ids`` with their fused ``scores``."""

    ids: list[int]
    scores: list[float]


def fuse(
    kind: FusionKind,
    legs: Mapping[str, Leg],
    weights: Mapping[str, float],
    *,
    keys_of: Callable[[list[int]], Sequence[Any]],
    limit: int,
) -> Fused:
    """Return the best ``limit`` hits of all legs: highest fused score first, ties by key ascending.

    A leg without a weight weighs 1. ``keys_of`` gives hits' sortable keys; it is asked only about hits that tie.
    """
    # Added in a fixed order of legs, so that two hits with the same parts have the same score to the last bit.
    names = sorted(legs)
    parts = [weights.get(name, 1.0) * NORMALISE[kind](legs[name].scores)[: legs[name].counted] for name in names]
    ids, hit = np.unique(np.concatenate([legs[name].ids[: legs[name].counted] for name in names]), return_inverse=True)
    scores = np.asarray(np.bincount(hit, weights=np.concatenate(parts)), dtype=np.float64)
    if len(names) > 2:
        scores = scores.round(SUM_DIGITS)
    return best(ids, scores, keys_of=keys_of, limit=limit)


def best(ids: Ids, scores: Scores, *, keys_of: Callable[[list[int]], Sequence[Any]], limit: int) -> Fused:
    """Return the ``limit`` ids with the highest ``scores``, ties by key ascending."""
    if limit < len(ids):
        enough = scores >= np.partition(scores, len(ids) - limit)[len(ids) - limit]
        ids, scores = ids[enough], scores[enough]
    order = np.argsort(-scores, kind="stable")
    ids, scores = ids[order], scores[order]
    if (scores[1:] == scores[:-1]).any():
        ids = ties_by_key(ids, scores, limit, lambda tied: keys_of(tied.tolist()))
    return Fused(ids[:limit].tolist(), scores[:limit].tolist())


def contributions(
    kind: FusionKind, legs: Mapping[str, Leg], weights: Mapping[str, float], ids: Sequence[int]
) -> list[dict[str, Contribution]]:
    """Return, for each of ``ids``, what each leg that has it gave."""
    given: list[dict[str, Contribution]] = [{} for _ in ids]
    for name in sorted(legs):
        leg, normalised = legs[name], NORMALISE[kind](legs[name].scores)
        ranks = {hit: rank for rank, hit in enumerate(leg.ids[: leg.counted].tolist(), start=1)}
        for hit, parts in zip(ids, given, strict=True):
            rank = ranks.get(hit)
            if rank is not None:
                parts[name] = Contribution(
                    rank=rank,
                    raw_score=float(leg.scores[rank - 1]),
                    normalised=float(normalised[rank - 1]),
                    weight=weights.get(name, 1.0),
                )
    return given
