from __future__ import annotations

import math
from datetime import timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval.refine.decay import DecayKind, distances, factors, seconds, weighed

DAYS = np.array([0.0, 10.0, 30.0, 45.0, 60.0, 90.0])


@pytest.mark.parametrize(
    ("kind", "midpoint", "expected"),
    [
        ("exp", 0.5, [1.0, 0.7937005, 0.5, 0.3535534, 0.25, 0.125]),
        ("gauss", 0.5, [1.0, 0.9258747, 0.5, 0.2102241, 0.0625, 0.001953125]),
        ("linear", 0.5, [1.0, 0.8333333, 0.5, 0.25, 0.0, 0.0]),
        ("exp", 0.2, [1.0, 0.5848035, 0.2, 0.0894427, 0.04, 0.008]),
        ("linear", 0.2, [1.0, 0.7333333, 0.2, 0.0, 0.0, 0.0]),
    ],
)
def test_factors_are_those_worked_by_hand(kind: DecayKind, midpoint: float, expected: list[float]) -> None:
    assert factors(DAYS, kind, scale=30.0, midpoint=midpoint).tolist() == pytest.approx(expected, abs=1e-7)


@pytest.mark.parametrize("kind", ["exp", "gauss", "linear"])
def test_a_value_that_is_missing_has_the_midpoint_and_one_that_is_infinite_nothing(kind: DecayKind) -> None:
    far = distances(np.array([np.nan, np.inf, -np.inf]), origin=5.0, offset=1.0)

    assert factors(far, kind, scale=2.0, midpoint=0.25).tolist() == [0.25, 0.0, 0.0]


@pytest.mark.parametrize("kind", ["exp", "gauss", "linear"])
def test_however_small_the_scale_nothing_overflows(kind: DecayKind) -> None:
    assert factors(np.array([0.0, 1e300]), kind, scale=5e-324, midpoint=0.5).tolist() == [1.0, 0.0]


def test_distances_count_both_ways_from_the_end_of_the_offset() -> None:
    assert distances(np.array([7.0, 9.0, 10.0, 12.0, 15.0]), origin=10.0, offset=2.0).tolist() == [1, 0, 0, 0, 3]


def test_the_weight_says_how_much_of_the_relevance_the_factor_may_take() -> None:
    relevance, factor = np.array([1.0, 0.5]), np.array([0.2, 0.8])

    assert weighed(relevance, factor, 1.0).tolist() == [0.2, 0.4]
    assert weighed(relevance, factor, 0.0).tolist() == [1.0, 0.5]
    assert weighed(relevance, factor, 0.5).tolist() == pytest.approx([0.6, 0.45])


finite = st.floats(-1e6, 1e6, allow_nan=False)


@given(
    st.lists(st.one_of(finite, st.just(math.nan)), max_size=12),
    st.sampled_from(["exp", "gauss", "linear"]),
    finite,
    st.floats(1e-3, 1e6),
    st.floats(0, 1e3),
    st.floats(0.01, 0.99),
)
def test_factors_equal_elasticsearchs_formulas_one_by_one(
    values: list[float], kind: DecayKind, origin: float, scale: float, offset: float, midpoint: float
) -> None:
    def naive(value: float) -> float:
        if math.isnan(value):
            return midpoint
        far = max(0.0, abs(value - origin) - offset)
        if kind == "exp":
            return math.exp(math.log(midpoint) / scale * far)
        if kind == "gauss":
            variance = -(scale**2) / (2 * math.log(midpoint))
            return math.exp(-(far**2) / (2 * variance))
        reach = scale / (1 - midpoint)
        return max((reach - far) / reach, 0.0)

    far = distances(np.array(values), origin=origin, offset=offset)

    found = factors(far, kind, scale=scale, midpoint=midpoint)

    assert found.tolist() == pytest.approx([naive(value) for value in values], rel=1e-6, abs=1e-9)


def test_durations_are_a_number_and_a_unit() -> None:
    given: list[str | timedelta] = ["90s", "10m", "12h", "30d", "2w", "0.5d", timedelta(days=1)]
    assert [seconds(each) for each in given] == [90, 600, 43_200, 2_592_000, 1_209_600, 43_200, 86_400]


@pytest.mark.parametrize("text", ["", "30", "d", "3 months", "P30D", "-1d", "1e3d", "30D", "٣d", "30d\n"])
def test_other_durations_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected a number and one of s, m, h, d or w, as in '30d' or '12h'"):
        seconds(text)
