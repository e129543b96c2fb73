from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indexer.spec import FusionKind
from retrieval.fusion import Contribution, Fused, Leg, best, contributions, fuse, minmax, rrf

A, B, C, D = 1, 2, 3, 4
EVEN = {"vector": 0.5, "keyword": 0.5}


def leg_of(hits: list[tuple[int, float]]) -> Leg:
    return Leg(np.array([hit for hit, _ in hits], dtype=np.int64), np.array([raw for _, raw in hits], dtype=np.float64))


VECTOR = leg_of([(A, 0.9), (B, 0.7), (C, 0.5)])
KEYWORD = leg_of([(C, 12.0), (D, 4.0)])
NONE = leg_of([])


def themselves(ids: list[int]) -> list[int]:
    return ids


def test_rrf_adds_reciprocal_ranks() -> None:
    fused = fuse("rrf", {"vector": VECTOR, "keyword": KEYWORD}, {}, keys_of=themselves, limit=10)

    assert fused.ids == [C, A, B, D]
    assert fused.scores == pytest.approx([1 / 63 + 1 / 61, 1 / 61, 1 / 62, 1 / 62])


def test_minmax_stretches_each_leg_over_zero_to_one() -> None:
    fused = fuse("minmax", {"vector": VECTOR, "keyword": KEYWORD}, EVEN, keys_of=themselves, limit=10)

    assert fused.ids == [A, C, B, D]
    assert fused.scores == pytest.approx([0.5, 0.5, 0.25, 0.0])


@pytest.mark.parametrize("kind", ["rrf", "minmax"])
def test_hits_that_do_not_count_give_nothing_and_change_no_others(kind: FusionKind) -> None:
    counted = {"vector": VECTOR._replace(counted=2), "keyword": KEYWORD}
    whole = fuse(kind, {"vector": VECTOR}, EVEN, keys_of=themselves, limit=10)
    found = fuse(kind, counted, EVEN, keys_of=themselves, limit=10)
    words = fuse(kind, {"keyword": KEYWORD}, EVEN, keys_of=themselves, limit=10)

    scores = dict(zip(found.ids, found.scores, strict=True))
    assert [scores[hit] for hit in (A, B)] == whole.scores[:2]
    assert [scores[hit] for hit in (C, D)] == words.scores
    parts = contributions(kind, counted, EVEN, [A, C])
    assert [set(part) for part in parts] == [{"vector"}, {"keyword"}]
    assert fuse(kind, {"vector": VECTOR._replace(counted=0)}, EVEN, keys_of=themselves, limit=9) == Fused([], [])


def test_weights_scale_what_each_leg_adds() -> None:
    legs, weights = {"vector": VECTOR, "keyword": KEYWORD}, {"vector": 0.2, "keyword": 0.8}

    assert fuse("minmax", legs, weights, keys_of=themselves, limit=2) == Fused([C, A], [0.8, 0.2])
    assert contributions("minmax", legs, weights, [C, A]) == [
        {
            "keyword": Contribution(rank=1, raw_score=12.0, normalised=1.0, weight=0.8),
            "vector": Contribution(rank=3, raw_score=0.5, normalised=0.0, weight=0.2),
        },
        {"vector": Contribution(rank=1, raw_score=0.9, normalised=1.0, weight=0.2)},
    ]


def test_equal_scores_of_a_leg_each_give_one() -> None:
    assert minmax(np.array([0.3, 0.3, 0.3])).tolist() == [1.0, 1.0, 1.0]


def test_an_empty_legs_weight_is_not_handed_on() -> None:
    assert fuse("minmax", {"vector": VECTOR, "keyword": NONE}, EVEN, keys_of=themselves, limit=1) == Fused([A], [0.5])


@pytest.mark.parametrize("kind", ["rrf", "minmax"])
def test_legs_without_hits_fuse_to_none(kind: FusionKind) -> None:
    assert fuse(kind, {"vector": NONE, "keyword": NONE}, EVEN, keys_of=themselves, limit=5) == Fused([], [])


def test_ties_are_broken_by_key_also_at_the_limit() -> None:
    ids, scores = np.array([4, 2, 26, 1, 3]), np.array([1.0, 1.0, 2.0, 1.0, 1.0])

    def backwards(asked: list[int]) -> list[int]:
        assert sorted(asked) == [1, 2, 3, 4]
        return [-hit for hit in asked]

    assert best(ids, scores, keys_of=themselves, limit=3).ids == [26, 1, 2]
    assert best(ids, scores, keys_of=backwards, limit=3).ids == [26, 4, 3]


def test_rrf_of_no_hits_is_empty() -> None:
    assert rrf(np.array([])).tolist() == []


leg = st.lists(st.tuples(st.integers(0, 30), st.integers(-5, 5)), max_size=20, unique_by=lambda hit: hit[0])


def naive(kind: FusionKind, legs: dict[str, list[tuple[int, float]]], weights: dict[str, float]) -> dict[int, float]:
    scores = {}
    for hit in {hit for ranking in legs.values() for hit, _ in ranking}:
        score = 0.0
        for name in sorted(legs):
            raw = [value for _, value in legs[name]]
            for rank, (other, value) in enumerate(legs[name], start=1):
                if other != hit:
                    continue
                if kind == "rrf":
                    part = 1 / (60 + rank)
                else:
                    part = 1.0 if max(raw) == min(raw) else (value - min(raw)) / (max(raw) - min(raw))
                score += weights[name] * part
        scores[hit] = score
    return scores


@settings(derandomize=True)
@given(leg, leg, st.sampled_from(["rrf", "minmax"]), st.floats(0, 1), st.integers(1, 40))
def test_fusion_equals_the_naive_sum(
    first: list[tuple[int, float]],
    second: list[tuple[int, float]],
    kind: FusionKind,
    weight: float,
    limit: int,
) -> None:
    legs = {
        name: sorted(((hit, float(raw)) for hit, raw in ranking), key=lambda pair: (-pair[1], pair[0]))
        for name, ranking in (("vector", first), ("keyword", second))
    }
    weights = {"vector": weight, "keyword": 1 - weight}
    arrays = {name: leg_of(ranking) for name, ranking in legs.items()}

    fused = fuse(kind, arrays, weights, keys_of=themselves, limit=limit)

    scores = naive(kind, legs, weights)
    expected = sorted(scores, key=lambda hit: (-scores[hit], hit))[:limit]
    assert fused == Fused(expected, [scores[hit] for hit in expected])
    given = contributions(kind, arrays, weights, fused.ids)
    assert [sum(part.added for part in parts.values()) for parts in given] == pytest.approx(fused.scores)
