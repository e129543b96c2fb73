"""Which fusion suits a collection's questions: every kind and weight, measured on judged queries.

Both legs are searched once for each query, as deep as a hybrid search looks, and fused anew for each setting. How much
better than now the best setting is, is measured on queries that had no part in choosing it: they are dealt into folds,
and each fold's setting is the one that is best for the others (cross-validation).

``ndcg@10`` is trec_eval's: gains are grades, discounted by log2 of rank + 1, over those of the best order there is
(Jarvelin and Kekalainen, "Cumulated gain-based evaluation of IR techniques", ACM TOIS 20(4), 2002).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from indexer.format.keys import format_key
from indexer.spec import FusionKind, FusionSpec, WeightsSpec
from jobs.errors import EvaluationError
from jobs.judgements import Judgements
from jobs.local import LocalCollection
from jobs.progress import Report
from retrieval.fusion import NORMALISE
from retrieval.request import FUSION_DEPTH, Mode, SearchRequest

KINDS: tuple[FusionKind, ...] = ("minmax", "rrf")
LEGS: tuple[Mode, ...] = ("vector", "keyword")
SHARES = np.round(np.arange(0, 1.0001, 0.05), 2)
"""The weights of the vector leg that are tried; the keyword leg has the rest of 1."""

CUT = 10
FOLDS = 5
LEAST_QUERIES = 10
SEED = 20261129
FLIPS = 20_000
SURE = 0.025
"""A gain is hardly chance where without any so much would come in fewer cases than these."""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Setting:
    """A fusion, and its ndcg@10 on all queries."""

    fusion: FusionSpec
    ndcg: float


@dataclass(frozen=True, kw_only=True)
class Tuning:
    """What was measured on ``queries``: now, at best, and for each kind by the vector leg's share of the weight.

    ``gain`` is how much better than now queries were answered by a setting that was chosen without them; in ``chance``
    of all cases there would be as much if none were better: each query's difference would be the other way as often
    (Fisher's randomisation test).
    """

    queries: int
    now: Setting
    best: Setting
    curves: Mapping[FusionKind, Sequence[float]]
    gain: float
    standard_error: float
    chance: float

    @property
    def is_sure(self) -> bool:
        """Whether the gain is hardly chance."""
        return self.gain > 0 and self.chance < SURE


@dataclass(frozen=True, slots=True)
class _Query:
    """What both legs found of one query: their hits' places in the order of keys, and raw scores, best first.

    ``gains`` are those of all hits in the order of keys, ``ideal`` is the best DCG there is.
    """

    legs: tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]
    scores: tuple[Floats, Floats]
    gains: Floats
    ideal: float


def tune(collection: LocalCollection, queries: Mapping[str, str], judgements: Judgements, progress: Report) -> Tuning:
    """Measure every setting on the queries that have judgements; raises EvaluationError."""
    spec = collection.spec
    if spec.vector.model is None:
        raise EvaluationError(f"'{spec.name}' has no model that embeds queries, so there is nothing to fuse")
    judged = judged_of(queries, judgements)
    found = []
    for number, query in enumerate(judged):
        found.append(_found(collection, queries[query], judgements[query]))
        progress("queries", number + 1, len(judged))
    if not any(each.gains.any() for each in found):
        raise EvaluationError(
            f"no search of '{spec.name}' found any of the judged documents: name them by their keys, as in URLs"
        )
    own = spec.fusion_in_force
    shares = np.append(SHARES, share_of(own))
    # (kind, share, query); the last share is that of now
    measured = np.array([[_ndcg(each, kind, shares) for each in found] for kind in KINDS]).transpose(0, 2, 1)
    now = measured[KINDS.index(own.kind), -1]
    tried = measured[:, :-1].reshape(-1, len(judged))
    held_out = _held_out(tried)
    difference = held_out - now
    best = _best(tried, np.ones(len(judged), np.bool_))
    return Tuning(
        queries=len(judged),
        now=Setting(fusion=own, ndcg=float(now.mean())),
        best=Setting(fusion=_fusion(best), ndcg=float(tried[best].mean())),
        curves={kind: measured[at, :-1].mean(axis=1).tolist() for at, kind in enumerate(KINDS)},
        gain=float(difference.mean()),
        standard_error=float(difference.std(ddof=1) / np.sqrt(len(judged))),
        chance=_chance(difference),
    )


def judged_of(queries: Mapping[str, str], judgements: Judgements) -> list[str]:
    """Return the queries that some document answers; raises EvaluationError where they are too few."""
    judged = [query for query in sorted(queries) if any(grade > 0 for grade in judgements.get(query, {}).values())]
    if len(judged) < LEAST_QUERIES:
        both = len(queries.keys() & judgements.keys())
        raise EvaluationError(
            f"there are {len(judged)} queries with a document of a grade above 0, and {LEAST_QUERIES} are needed: of "
            f"{len(queries)} queries and judgements of {len(judgements)}, {both} have the same id"
        )
    return judged


def _found(collection: LocalCollection, text: str, grades: Mapping[str, int]) -> _Query:
    hits = [collection.scored(SearchRequest(query=text, mode=leg, k=FUSION_DEPTH, include=())) for leg in LEGS]
    keys = sorted({key for leg in hits for key, _ in leg})
    place = {key: at for at, key in enumerate(keys)}
    gains = np.array([max(0, grades.get(format_key(key), 0)) for key in keys], dtype=np.float64)
    best = np.sort([grade for grade in grades.values() if grade > 0])[::-1][:CUT]
    legs = [np.array([place[key] for key, _ in leg], dtype=np.int64) for leg in hits]
    scores = [np.array([score for _, score in leg], dtype=np.float64) for leg in hits]
    return _Query((legs[0], legs[1]), (scores[0], scores[1]), gains, float((best * _discounts(len(best))).sum()))


def _ndcg(query: _Query, kind: FusionKind, shares: Floats) -> Floats:
    """Return the query's ndcg@10 under each of the ``shares`` of the vector leg."""
    parts = np.zeros((2, len(query.gains)))
    for at, (leg, scores) in enumerate(zip(query.legs, query.scores, strict=True)):
        parts[at, leg] = NORMALISE[kind](scores)
    fused = shares[:, None] * parts[0] + (1 - shares)[:, None] * parts[1]
    first = np.argsort(-fused, axis=1, kind="stable")[:, :CUT]  # ties by key
    dcg: Floats = (query.gains[first] * _discounts(first.shape[1])).sum(axis=1)
    return dcg / query.ideal


def _discounts(n: int) -> Floats:
    return 1 / np.log2(np.arange(2, n + 2))


def _held_out(tried: Floats) -> Floats:
    """Return each query's measure under the setting that is best for the other folds; ``tried`` is (setting, query)."""
    n = tried.shape[1]
    fold = np.random.default_rng(SEED).permutation(n) % FOLDS
    held_out = np.empty(n)
    for number in range(FOLDS):
        mine = fold == number
        held_out[mine] = tried[_best(tried, ~mine), mine]
    return held_out


def _chance(difference: Floats) -> float:
    """Return in what share of cases the mean is as high when each difference may as well be the other way."""
    signs = np.random.default_rng(SEED).choice([-1.0, 1.0], (FLIPS, len(difference)))
    as_high = (signs @ difference >= difference.sum() - 1e-12).sum()
    return float((1 + as_high) / (1 + FLIPS))


def _best(tried: Floats, queries: npt.NDArray[np.bool_]) -> int:
    """Return the best setting for these queries; of equally good ones that with the evenest weights."""
    means = tried[:, queries].mean(axis=1)
    good = np.flatnonzero(means >= means.max() - 1e-9)
    return int(good[np.argmin(np.abs(SHARES[good % len(SHARES)] - 0.5))])


def _fusion(setting: int) -> FusionSpec:
    share = float(SHARES[setting % len(SHARES)])
    weights = WeightsSpec(vector=share, keyword=round(1 - share, 2))
    return FusionSpec(kind=KINDS[setting // len(SHARES)], weights=weights)


def share_of(fusion: FusionSpec) -> float:
    """Return the vector leg's share of the weights: the order of hits depends on nothing else of them."""
    return fusion.weights.vector / (fusion.weights.vector + fusion.weights.keyword)
