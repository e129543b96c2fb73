"""JSON on the way out: one encoder for answers, problems and log lines."""

from __future__ import annotations

import base64
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import orjson

OPTIONS = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS | orjson.OPT_PASSTHROUGH_DATETIME
"""orjson 3.13 writes the time 00:00:00.01 as ``00:00:00.10000``, so dates and times are written here."""


def encode(value: Any) -> bytes:
    """Return ``value`` as JSON.

    Decimals are strings, because a float would lose digits; binary is base64; a duration is seconds; an integer beyond
    64 bits is a string; NaN and the infinities are null; times in UTC end in ``Z``.

    >>> encode({"price": Decimal("1.10"), "raw": b"ab", "gap": float("nan")})
    b'{"price":"1.10","raw":"YWI=","gap":null}'
    """
    try:
        return orjson.dumps(value, _fallback, OPTIONS)
    except TypeError as error:
        if "Integer exceeds 64-bit range" not in str(error):
            raise
        return orjson.dumps(_without_wide_integers(value), _fallback, OPTIONS)


def _fallback(value: Any) -> Any:
    if isinstance(value, datetime):
        written = value.isoformat()
        return written[:-6] + "Z" if written.endswith("+00:00") else written
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, bytes | bytearray | memoryview):
        return base64.b64encode(bytes(value)).decode("ascii")
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, np.ndarray):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} has no JSON form")


def _without_wide_integers(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_wide_integers(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_wide_integers(item) for item in value]
    if isinstance(value, int) and not isinstance(value, bool) and not -(2**63) <= value < 2**64:
        return str(value)
    return value
