"""Values that a client bound: text with a type, one each or a list each for many rows at once."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pyarrow as pa
from sqlglot import exp

from tests.snowflake.emulator.table import moment

Bindings = dict[str, dict[str, Any]]


def literals(bindings: Bindings) -> list[exp.Expression]:
    """Return the bound values as literals, in order."""
    return [_literal(b["type"], b["value"]) for _, b in sorted(bindings.items(), key=lambda item: int(item[0]))]


def is_batch(bindings: Bindings) -> bool:
    """Say whether values are lists, one entry per row."""
    return any(isinstance(b["value"], list) for b in bindings.values())


def batch(bindings: Bindings) -> pa.Table:
    """Return a batch's rows, each column as text that DuckDB casts when it inserts."""
    ordered = [b for _, b in sorted(bindings.items(), key=lambda item: int(item[0]))]
    arrays = []
    for b in ordered:
        values = [_plain(b["type"], v) for v in b["value"]]
        arrays.append(pa.array(values, pa.binary() if b["type"] == "BINARY" else pa.string()))
    return pa.Table.from_arrays(arrays, names=[f"B{i}" for i in range(len(arrays))])


def _literal(kind: str, value: str | None) -> exp.Expression:
    plain = _plain(kind, value)
    if plain is None:
        return exp.null()
    if isinstance(plain, bytes):
        return exp.Unhex(this=exp.Literal.string(plain.hex()))
    if kind == "FIXED":
        return exp.Literal.number(plain)
    if kind == "BOOLEAN":
        return exp.true() if plain == "true" else exp.false()
    names = {"REAL": "DOUBLE", "DATE": "DATE", "TIME": "TIME", "TIMESTAMP_NTZ": "TIMESTAMPNTZ"}
    names |= {"TIMESTAMP_LTZ": "TIMESTAMPLTZ", "TIMESTAMP_TZ": "TIMESTAMPTZ"}
    text = exp.Literal.string(plain)
    return exp.Cast(this=text, to=exp.DataType.build(names[kind])) if kind in names else text


def _plain(kind: str, value: str | None) -> str | bytes | None:
    """Dates come as milliseconds, times and timestamps as nanoseconds since the epoch, a TZ's offset after a space."""
    if value is None:
        return None
    if kind == "BINARY":
        return bytes.fromhex(value)
    if kind == "BOOLEAN":
        return str(value).lower()
    if kind == "DATE":
        return moment(int(value) * 1000).strftime("%Y-%m-%d")
    if kind == "TIME":
        return (moment(0) + timedelta(microseconds=int(value) // 1000)).time().isoformat()
    if kind.startswith("TIMESTAMP"):
        text = moment(int(value.split(" ")[0]) // 1000).strftime("%Y-%m-%d %H:%M:%S.%f")
        return text if kind == "TIMESTAMP_NTZ" else f"{text}+00"
    return str(value)
