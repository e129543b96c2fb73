"""JSON on stdout is JSON, in the forms that the server sends."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from api.encoding import encode
from jobs.output import print_json


def test_every_value_is_printed_as_the_server_sends_it(capsys: pytest.CaptureFixture[str]) -> None:
    value = {
        "nan": float("nan"),
        "raw": b"ab",
        "price": Decimal("1.10"),
        "at": datetime(2026, 1, 1, 12, tzinfo=UTC),
        "key": ("a", 1),
        "wide": 2**70,
        "text": "\u00fc",
    }
    print_json(value)
    out = capsys.readouterr().out
    assert json.loads(out, parse_constant=pytest.fail) == {
        "nan": None,
        "raw": "YWI=",
        "price": "1.10",
        "at": "2026-01-01T12:00:00Z",
        "key": ["a", 1],
        "wide": str(2**70),
        "text": "\u00fc",
    }
    assert json.loads(out) == json.loads(encode(value))
    assert '"text": "\u00fc"' in out
