from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval.fusion import Contribution, Fused, FusionKind, fuse, minmax, ordered_by_score, rrf

VECTOR = [("a", 0.9), ("b", 0.7), ("c", 0.5)]
KEYWORD = [("c", 12.0), ("d", 4.0)]
EVEN = {"vector": 0.5, "keyword": 0.5}


def identity(key: str) -> str:
    return key


def test_rrf_adds_reciprocal_ranks() -> None:
    legs = {"vector": VECTOR, "keyword": KEYWORD}

    fused = fuse("rrf", legs, {}, key_of=identity, limit=10)

    expected = [("c", 1 / 63 + 1 / 61), ("a", 1 / 61), ("b", 1 / 62), ("d", 1 / 62)]
    assert [hit.id for hit in fused] == [key for key, _ in expected]
    assert [hit.score for hit in fused] == pytest.approx([score for _, score in expected])


def test_minmax_stretches_each_leg_over_zero_to_one() -> None:
    legs = {"vector": VECTOR, "keyword": KEYWORD}

    fused = fuse("minmax", legs, EVEN, key_of=identity, limit=10)

    expected = [("a", 0.5), ("c", 0.5), ("b", 0.25), ("d", 0.0)]
    assert [hit.id for hit in fused] == [key for key, _ in expected]
    assert [hit.score for hit in fused] == pytest.approx([score for _, score in expected])


def test_weights_scale_what_each_leg_adds() -> None:
    legs = {"vector": VECTOR, "keyword": KEYWORD}

    fused = fuse("minmax", legs, {"vector": 0.2, "keyword": 0.8}, key_of=identity, limit=2)

    assert fused == [
        Fused(
            id="c",
            score=0.8,
            legs={
                "keyword": Contribution(rank=1, raw_score=12.0, normalised=1.0, weight=0.8),
                "vector": Contribution(rank=3, raw_score=0.5, normalised=0.0, weight=0.2),
            },
        ),
        Fused(
            id="a",
            score=0.2,
            legs={"vector": Contribution(rank=1, raw_score=0.9, normalised=1.0, weight=0.2)},
        ),
    ]


def test_equal_scores_of_a_leg_each_give_one() -> None:
    assert minmax([0.3, 0.3, 0.3]) == [1.0, 1.0, 1.0]


def test_an_empty_legs_weight_is_not_handed_on() -> None:
    fused = fuse("minmax", {"vector": VECTOR, "keyword": []}, EVEN, key_of=identity, limit=1)

    assert [(hit.id, hit.score) for hit in fused] == [("a", 0.5)]


def test_ties_are_broken_by_key_also_at_the_limit() -> None:
    scored = [("d", 1.0), ("b", 1.0), ("z", 2.0), ("a", 1.0), ("c", 1.0)]

    assert ordered_by_score(scored, key_of=identity, limit=3) == ["z", "a", "b"]


def test_rrf_of_no_hits_is_empty() -> None:
    assert rrf([]) == []


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

    fused = fuse(kind, legs, weights, key_of=lambda hit: hit, limit=limit)

    scores = naive(kind, legs, weights)
    expected = sorted(scores, key=lambda hit: (-scores[hit], hit))[:limit]
    assert [(hit.id, hit.score) for hit in fused] == [(hit, scores[hit]) for hit in expected]
    assert all(hit.score == pytest.approx(sum(part.added for part in hit.legs.values())) for hit in fused)
