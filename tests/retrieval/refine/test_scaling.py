from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval.refine.scaling import relative

scores = st.lists(st.integers(-20, 20).map(lambda n: n / 4), min_size=1, max_size=20)


def test_scores_that_are_never_negative_are_divided_by_the_best() -> None:
    assert relative(np.array([4.0, 3.0, 1.0, 0.0])).tolist() == [1.0, 0.75, 0.25, 0.0]


def test_negative_scores_are_lifted_until_none_is() -> None:
    assert relative(np.array([3.0, 0.0, -1.0])).tolist() == [1.0, 0.25, 0.0]
    assert relative(np.array([-1.0, -2.0, -5.0])).tolist() == [1.0, 0.75, 0.0]


@pytest.mark.parametrize("equal", [-2.0, 0.0, 0.3])
def test_equal_scores_are_the_best_there_are(equal: float) -> None:
    assert relative(np.full(3, equal)).tolist() == [1.0, 1.0, 1.0]
    assert relative(np.array([equal])).tolist() == [1.0]


def test_no_scores_are_none() -> None:
    assert relative(np.array([])).tolist() == []


@given(scores)
def test_the_order_stays_and_the_scale_is_from_0_to_1(given: list[float]) -> None:
    raw = np.array(given)

    scaled = relative(raw)

    assert (np.sign(np.subtract.outer(scaled, scaled)) == np.sign(np.subtract.outer(raw, raw))).all()
    assert 0 <= scaled.min() <= scaled.max() <= 1
