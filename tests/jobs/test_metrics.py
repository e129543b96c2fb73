from __future__ import annotations

import math

import pytest

from jobs.metrics import quality


def test_measures_are_those_worked_by_hand() -> None:
    judged = {"one": {"a": 1, "b": 1}, "two": {"c": 1, "d": 0}}
    rankings = {"one": ["x", "a", "b"], "two": ["c"]}
    discounted = (1 / math.log2(3) + 1 / math.log2(4)) / (1 + 1 / math.log2(3))
    assert quality(judged, rankings) == {
        "ndcg@10": pytest.approx((discounted + 1) / 2, abs=1e-4),
        "recall@100": 1.0,
        "mrr@10": 0.75,
    }


def test_the_order_given_counts_also_where_names_would_sort_otherwise() -> None:
    assert quality({"q": {"a": 1}}, {"q": ["z", "a"]})["mrr@10"] == 0.5


def test_a_hit_past_ten_has_no_reciprocal_rank() -> None:
    ranking = [f"x{number}" for number in range(10)] + ["a"]
    assert quality({"q": {"a": 1}}, {"q": ranking}) == {"ndcg@10": 0.0, "recall@100": 1.0, "mrr@10": 0.0}


def test_a_query_without_relevant_documents_is_left_out() -> None:
    assert quality({"q": {"a": 1}, "none": {"a": 0}}, {"q": ["a"], "none": ["a"]})["ndcg@10"] == 1.0


def test_judgements_without_anything_relevant_count_as_nothing_found() -> None:
    assert quality({"q": {"a": 0}}, {}) == {"ndcg@10": 0.0, "recall@100": 0.0, "mrr@10": 0.0}
