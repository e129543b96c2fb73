from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.ann.device import Cpu
from indexer.ann.effort import Effort, calibrate
from indexer.ann.questions import Exam, K, exam
from indexer.format.vectors import Positions
from tests.indexer.format.tables import unit_vectors

N = 400
EXAM = exam(unit_vectors(N, 8), np.arange(N), None, Cpu())
BREADTHS, K_FACTORS = (1, 2, 3, 5, 8, 13), (1.5, 2, 4)


class Played:
    """A searcher that finds more of the true neighbours, and ranks them earlier, the broader it goes."""

    breadths = BREADTHS

    def __init__(self, found: list[int], first: list[int]) -> None:
        self._found, self._first = dict(zip(BREADTHS, found, strict=True)), dict(zip(BREADTHS, first, strict=True))

    def k_factors(self, k: int) -> tuple[float, ...]:
        return K_FACTORS

    def cost(self, breadth: int, k_factor: float, k: int) -> float:
        return breadth + k_factor

    def width(self, breadth: int, k_factor: float, k: int) -> int:
        return int(k * k_factor) + 1

    def bits(self, passing: Positions) -> Positions | None:
        return None if len(passing) == N else passing

    def candidates(
        self, queries: Any, breadth: int, width: int, bits: Positions | None = None, *, own: Positions
    ) -> Positions:
        truth = (EXAM.tuning if bits is None else EXAM.filtered).nearest.positions
        proposed = np.full((len(queries), width), -1)
        depth = min(self._first[breadth], width - K)
        proposed[:, depth : depth + self._found[breadth]] = truth[:, : self._found[breadth]]
        return proposed


def every_effort(searcher: Played, aim: float) -> list[Effort]:
    """Return all that reach ``aim``; every query finds the same number of its neighbours."""
    efforts = []
    for breadth in BREADTHS:
        proposed = searcher.candidates(EXAM.tuning.vectors, breadth, int(K * max(K_FACTORS)) + 1, own=EXAM.tuning.own)
        for k_factor in K_FACTORS:
            recall = float((proposed[:, : int(K * k_factor) + 1] >= 0).sum(axis=1).mean() / K)
            efforts.append(Effort(searcher.cost(breadth, k_factor, K), breadth, k_factor, recall))
    return [effort for effort in efforts if effort.recall >= aim]


ascending = st.lists(st.integers(0, K), min_size=len(BREADTHS), max_size=len(BREADTHS)).map(sorted)
descending = st.lists(st.integers(0, 40), min_size=len(BREADTHS), max_size=len(BREADTHS)).map(
    lambda depths: sorted(depths, reverse=True)
)


@given(found=ascending, first=descending)
def test_the_cheapest_effort_of_all_that_reach_the_aim_is_found(found: list[int], first: list[int]) -> None:
    searcher = Played(found, first)
    enough = every_effort(searcher, aim=0.925)

    efforts = calibrate(searcher, EXAM, 0.9)  # type: ignore[arg-type]

    if enough:
        assert efforts.plain[:3] == min(enough)[:3]
    else:
        assert efforts.plain.recall == pytest.approx(max(other.recall for other in every_effort(searcher, aim=0.0)))
    assert efforts[1:] == (None, None)  # forty chunks are too few to tell, and 400 for a hundred hits


def test_an_exam_leaves_each_query_out_of_its_own_answer_and_asks_peoples_queries_too() -> None:
    queries = unit_vectors(7, 8)

    asked: Exam = exam(unit_vectors(N, 8), np.arange(N), queries, Cpu())

    assert not (asked.tuning.nearest.positions == asked.tuning.own[:, None]).any()
    assert not (asked.filtered.nearest.positions == asked.filtered.own[:, None]).any()
    assert np.isin(asked.filtered.nearest.positions, asked.filtered.passing).all()
    assert np.array_equal(asked.gate.vectors[-7:], queries)
    assert asked.gate.own[-7:].tolist() == [-1] * 7
    assert set(asked.gate.own[:-7]) == set(range(N))
