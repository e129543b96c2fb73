from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval.refine.diversity import pick

Vectors = npt.NDArray[np.float32]


def rows(*vectors: list[float]) -> Vectors:
    return np.array(vectors, np.float32)


EAST, NORTH, BETWEEN, NONE = [1.0, 0.0], [0.0, 1.0], [0.6, 0.8], [0.0, 0.0]


def test_values_are_those_worked_by_hand() -> None:
    picked = pick(np.array([1.0, 0.9, 0.5]), rows(EAST, EAST, NORTH), 3, diversity=0.5)

    # First 0.5 * 1. Then 0.5 * 0.9 - 0.5 * 1 against 0.5 * 0.5 - 0.5 * 0: the north.
    assert picked.order.tolist() == [0, 2, 1]
    assert picked.mmr.tolist() == pytest.approx([0.5, 0.25, -0.05])
    assert picked.similarity.tolist() == [0.0, 0.0, 1.0]


def test_without_diversity_the_order_stays_and_with_nothing_else_the_first_is_still_the_best() -> None:
    relevance, vectors = np.array([1.0, 0.9, 0.1]), rows(EAST, BETWEEN, NORTH)

    assert pick(relevance, vectors, 3, diversity=0.0).order.tolist() == [0, 1, 2]
    assert pick(relevance, vectors, 3, diversity=1.0).order.tolist() == [0, 2, 1]


def test_a_row_without_a_vector_is_like_none() -> None:
    picked = pick(np.array([1.0, 0.9, 0.9, 0.2]), rows(EAST, EAST, NONE, NONE), 4, diversity=0.5)

    assert picked.order.tolist() == [0, 2, 3, 1]
    assert picked.similarity.tolist() == [0.0, 0.0, 0.0, 1.0]


def test_without_vectors_the_order_stays() -> None:
    assert pick(np.array([1.0, 0.5, 0.2]), rows(NONE, NONE, NONE), 2, diversity=0.7).order.tolist() == [0, 1]


def test_of_equal_values_the_earlier_candidate_is_picked() -> None:
    assert pick(np.array([1.0, 1.0, 1.0]), rows(EAST, NORTH, NORTH), 3, diversity=0.5).order.tolist() == [0, 1, 2]


def test_of_no_candidates_none_are_picked() -> None:
    picked = pick(np.array([]), np.zeros((0, 2), np.float32), 5, diversity=0.5)

    assert [part.tolist() for part in picked] == [[], [], []]


corners = [[1, 0, 0], [0, 1, 0], [0, 0, 1], [-1, 0, 0], [0, 0, 0]]


@settings(derandomize=True)
@given(
    st.lists(st.tuples(st.integers(0, 8), st.sampled_from(corners)), min_size=1, max_size=12),
    st.integers(1, 14),
    st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]),
)
def test_picking_equals_the_naive_one(rated: list[tuple[int, list[float]]], k: int, diversity: float) -> None:
    rated.sort(key=lambda row: -row[0])
    relevance, vectors = np.array([rate / 8 for rate, _ in rated]), rows(*(vector for _, vector in rated))
    left = list(range(len(rated)))
    naive: list[int] = []
    while left and len(naive) < k:
        worth = {
            at: (1 - diversity) * relevance[at]
            - diversity * max((float(vectors[at] @ vectors[other]) for other in naive), default=0.0)
            for at in left
        }
        naive.append(max(left, key=lambda at: (worth[at], -at)))
        left.remove(naive[-1])

    assert pick(relevance, vectors, k, diversity=diversity).order.tolist() == naive
