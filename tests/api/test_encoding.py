"""What values of a row look like in JSON."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any

import numpy as np
import pytest

from api.encoding import encode


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (Decimal("12.340"), '"12.340"'),
        (b"\x00\xff", '"AP8="'),
        (float("nan"), "null"),
        (float("-inf"), "null"),
        (2**64 - 1, "18446744073709551615"),
        (2**64, '"18446744073709551616"'),
        ({"a": [-(2**63) - 1, True]}, '{"a":["-9223372036854775809",true]}'),
        (date(2026, 1, 2), '"2026-01-02"'),
        (datetime(2026, 1, 2, 3, tzinfo=UTC), '"2026-01-02T03:00:00Z"'),
        (datetime(2026, 1, 2, 3, 4, 5, 60, tzinfo=timezone(timedelta(hours=5))), '"2026-01-02T03:04:05.000060+05:00"'),
        (datetime(2026, 1, 2, tzinfo=UTC).replace(tzinfo=None), '"2026-01-02T00:00:00"'),
        (time(1, 2, 3, 10_000), '"01:02:03.010000"'),
        (timedelta(minutes=1, milliseconds=500), "60.5"),
        (np.float32(0.5), "0.5"),
        (np.array([1, 2]), "[1,2]"),
        (("a/b", 1), '["a/b",1]'),
        ({1: "x"}, '{"1":"x"}'),
        ("\u05d0 \U0001f426", '"\u05d0 \U0001f426"'),
    ],
)
def test_a_value_has_one_json_form(value: Any, expected: str) -> None:
    assert encode(value) == expected.encode()


def test_a_value_without_a_json_form_is_refused() -> None:
    with pytest.raises(TypeError, match="not JSON serializable"):
        encode(object())
