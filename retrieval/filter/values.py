"""Values in a filter's text or bound to its parameters: their types, and their one canonical form.

A canonical value is int, float, Decimal, str, bool, bytes, date, datetime (naive, in UTC), a list of these, or None.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal

from retrieval.filter.sqltypes import (
    BINARY,
    BOOLEAN,
    DATE,
    FLOAT,
    INTEGER,
    MAX_DECIMAL_DIGITS,
    NULL,
    STRING,
    TIMESTAMP,
    Kind,
    SqlType,
    array,
    decimal,
    unify,
)

MAX_DECIMAL_SCALE = 18
"""A number in the text with more digits than this after its point is read as a double."""

MIN_INT64, MAX_INT64 = -(2**63), 2**63 - 1

DATE_TEXT = r"\d{4}-\d{2}-\d{2}"
TIME_TEXT = r"\d{2}:\d{2}(?::\d{2}(?:\.\d{1,9})?)?"
ZONE_TEXT = r"(?:Z|UTC|[+-]\d{2}(?::?\d{2})?)"
_TIMESTAMP = re.compile(rf"({DATE_TEXT})(?:[T ]({TIME_TEXT})(?: ?({ZONE_TEXT}))?)?", re.ASCII)


def type_of_value(value: object) -> SqlType:
    """Return the type of a value given for a parameter; ValueError says why it can't be used."""
    if value is None:
        return NULL
    if isinstance(value, bool):
        return BOOLEAN
    if isinstance(value, int):
        return INTEGER if MIN_INT64 <= value <= MAX_INT64 else _decimal_type(Decimal(value))
    if isinstance(value, float):
        return FLOAT
    if isinstance(value, Decimal):
        return _decimal_type(value)
    if isinstance(value, list | tuple):
        return _list_type(value)
    for python, kind in ((str, STRING), (bytes, BINARY), (datetime, TIMESTAMP), (date, DATE)):
        if isinstance(value, python):
            return kind
    given = type(value).__name__
    raise ValueError(f"a value of type {given} can't be bound; give a number, string, boolean, date, bytes or a list")


def _decimal_type(value: Decimal) -> SqlType:
    if not value.is_finite():
        raise ValueError("a Decimal must be finite")
    whole, scale = _digits(value)
    if whole + scale > MAX_DECIMAL_DIGITS:
        raise ValueError(f"a number of more than {MAX_DECIMAL_DIGITS} digits can't be bound")
    return decimal(whole, scale)


def _digits(value: Decimal) -> tuple[int, int]:
    """Return how many digits stand before and after the point."""
    _, digits, exponent = value.as_tuple()
    assert isinstance(exponent, int)
    return max(len(digits) + exponent, 0), max(-exponent, 0)


def _list_type(values: list[object] | tuple[object, ...]) -> SqlType:
    element = NULL
    for kind in {type_of_value(value) for value in values}:
        if kind.kind is Kind.ARRAY:
            raise ValueError("a list of lists can't be bound")
        both = unify(element, kind)
        if both is None:
            raise ValueError(f"a list must hold one type, not both {element} and {kind}")
        element = both
    return array(element)


def number(text: str) -> tuple[SqlType, int | float | Decimal]:
    """Return the type and value of a number in the text: whole number, decimal, or double where it has an exponent."""
    if re.fullmatch(r"\d+", text, re.ASCII):
        if len(text) > MAX_DECIMAL_DIGITS:
            return FLOAT, float(text)
        value = int(text)
        return (INTEGER, value) if value <= MAX_INT64 else (decimal(len(str(value)), 0), Decimal(value))
    if re.fullmatch(r"\d*\.\d*", text, re.ASCII):
        exact = Decimal(text)
        whole, scale = _digits(exact)
        if scale <= MAX_DECIMAL_SCALE and whole + scale <= MAX_DECIMAL_DIGITS:
            return decimal(whole, scale), exact
    return FLOAT, float(text)


def can_widen(source: SqlType, target: SqlType) -> bool:
    """Whether a constant or parameter of one type may stand where another is wanted: text may stand for a date."""
    return unify(source, target) == target or (source.kind is Kind.STRING and target.is_temporal)


def widen(value: object, target: SqlType) -> object:
    """Return a value's canonical form in a type that `can_widen` allows; ValueError where its text is no date."""
    if value is None:
        return None
    if isinstance(value, list | tuple):
        return [widen(item, target) for item in value]
    return _WIDEN[target.kind](value)


def _to_float(value: object) -> float:
    assert isinstance(value, int | float | Decimal)
    return float(value)


def _to_decimal(value: object) -> Decimal:
    assert isinstance(value, int | Decimal)
    return Decimal(value)


def _to_date(value: object) -> date:
    if isinstance(value, str):
        return parse_date(value)
    assert isinstance(value, date)
    return value


def _to_timestamp(value: object) -> datetime:
    if isinstance(value, str):
        return parse_timestamp(value)
    if isinstance(value, datetime):
        return value.astimezone(UTC).replace(tzinfo=None) if value.tzinfo else value
    assert isinstance(value, date)
    return datetime(value.year, value.month, value.day)  # noqa: DTZ001 - canonical timestamps are naive, in UTC


def _to_int(value: object) -> int:
    assert isinstance(value, int)
    return int(value)


def _to_str(value: object) -> str:
    assert isinstance(value, str)
    return str.__str__(value)


def _same(value: object) -> object:
    return value


_WIDEN = {
    Kind.FLOAT: _to_float,
    Kind.DECIMAL: _to_decimal,
    Kind.DATE: _to_date,
    Kind.TIMESTAMP: _to_timestamp,
    Kind.INTEGER: _to_int,
    Kind.STRING: _to_str,
    **dict.fromkeys((Kind.NULL, Kind.BOOLEAN, Kind.BINARY), _same),
}


def parse_date(text: str) -> date:
    """Read `YYYY-MM-DD`; ValueError says what was wrong."""
    if not re.fullmatch(DATE_TEXT, text.strip(), re.ASCII):
        raise ValueError(f"{text!r} is not a date like '2026-01-31'")
    try:
        return date.fromisoformat(text.strip())
    except ValueError as error:
        raise ValueError(f"{text!r} is not a date: {error}") from None


def parse_timestamp(text: str) -> datetime:
    """Read `YYYY-MM-DD[ HH:MM[:SS[.f]][Z|+HH:MM]]`, with T or a space, as a naive time in UTC; ValueError otherwise.

    Digits beyond microseconds are cut off.
    """
    match = _TIMESTAMP.fullmatch(text.strip())
    if not match:
        raise ValueError(f"{text!r} is not a timestamp like '2026-01-31 12:30:00'")
    day, clock, zone = match.groups()
    whole, _, fraction = (clock or "00:00").partition(".")
    try:
        moment = datetime.fromisoformat(f"{day} {whole}") + timedelta(microseconds=int(fraction[:6].ljust(6, "0")))
        return moment.replace(tzinfo=_zone(zone)).astimezone(UTC).replace(tzinfo=None)
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{text!r} is not a timestamp: {error}") from None


def _zone(text: str | None) -> timezone:
    if text is None or text in ("Z", "UTC"):
        return UTC
    minutes = int(text[1:3]) * 60 + int(text[3:].lstrip(":") or 0)
    return timezone(timedelta(minutes=-minutes if text[0] == "-" else minutes))
