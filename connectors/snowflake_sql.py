"""The Snowflake SQL that Grebe writes: identifiers, literals and instants. Nothing of the vendor's is imported here."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
PRECISION = 1_000
"""Microseconds between two times that a table can be read at."""
_PART = re.compile(r'"((?:[^"]|"")+)"|([^".\s]+)')
_PLAIN = re.compile(r"[A-Z_][A-Z0-9_$]*")


@dataclass(frozen=True)
class Identifier:
    """A name as the user wrote it; ``quoted`` says that it stands for itself alone."""

    text: str
    quoted: bool = False

    @property
    def candidates(self) -> tuple[str, ...]:
        """What it may stand for, best first: itself, then, unless it was quoted, its upper case."""
        return (self.text,) if self.quoted else tuple(dict.fromkeys((self.text, self.text.upper())))

    def match(self, names: list[str]) -> str | None:
        """Return the one of ``names`` that is meant, or None."""
        return next((name for name in self.candidates if name in names), None)


def table_name(text: str) -> tuple[Identifier, Identifier, Identifier]:
    """Read ``DB.SCHEMA.TABLE``, any part of which may be in double quotes; raise ``ValueError`` for anything else.

    >>> [part.candidates for part in table_name('shop.PUBLIC."Order.s"')]
    [('shop', 'SHOP'), ('PUBLIC',), ('Order.s',)]
    """
    parts: list[Identifier] = []
    at = 0
    while found := _PART.match(text, at):
        quoted, plain = found.groups()
        parts.append(Identifier(quoted.replace('""', '"'), True) if quoted else Identifier(plain))
        at = found.end()
        if text[at : at + 1] != ".":
            break
        at += 1
    if at != len(text) or len(parts) != 3:
        raise ValueError(f"expected DB.SCHEMA.TABLE, any part of it in double quotes, and {text!r} came")
    return parts[0], parts[1], parts[2]


@dataclass(frozen=True)
class JsonPath:
    """A value inside a semi-structured column: the column, the path in it, and the type that it is read as."""

    column: Identifier
    path: str
    type: str


def json_path(text: str) -> JsonPath:
    """Read ``column:path`` or ``column:path::TYPE`` (text by default); raise ``ValueError`` for anything else.

    >>> json_path("attributes:owner.names[0]")
    JsonPath(column=Identifier(text='attributes', quoted=False), path='owner.names[0]', type='VARCHAR')
    >>> json_path("attributes:age::number(10, 0)").type
    'NUMBER(10, 0)'
    """
    found = re.fullmatch(r'(?:"((?:[^"]|"")+)"|([^":\s]+)):(\S|\S.*?\S)(?:::([A-Za-z_]+ *(?:\([0-9, ]+\))?))?', text)
    if not found:
        raise ValueError(f"expected column:path or column:path::TYPE, as in attributes:owner.name, and {text!r} came")
    quoted, plain, path, kind = found.groups()
    column = Identifier(quoted.replace('""', '"'), True) if quoted else Identifier(plain)
    return JsonPath(column, path, (kind or "VARCHAR").upper())


def quoted(name: str) -> str:
    """Quote an identifier.

    >>> quoted('2" nail')
    '"2"" nail"'
    """
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """Write ``text`` as a string constant.

    >>> print(literal("it's"))
    'it''s'
    """
    return "'" + text.replace("\\", "\\\\").replace("'", "''") + "'"


def readable(*names: str) -> str:
    """Join names by dots for a person, quoting those alone that need it.

    >>> readable("SHOP", "PUBLIC", "orders")
    'SHOP.PUBLIC."orders"'
    """
    return ".".join(name if _PLAIN.fullmatch(name) else quoted(name) for name in names)


def instant(microseconds: int) -> str:
    """Write a time in microseconds since 1970 UTC as a timestamp that no session's time zone changes.

    >>> instant(1_700_000_000_000_001)
    "'2023-11-14 22:13:20.000001 +0000'::TIMESTAMP_TZ"
    """
    return f"'{moment(microseconds):%Y-%m-%d %H:%M:%S.%f} +0000'::TIMESTAMP_TZ"


def readable_at(microseconds: int) -> int:
    """Return the last time up to ``microseconds`` that time travel can name: it knows milliseconds and nothing finer.

    >>> readable_at(1_700_000_000_123_456)
    1700000000123000
    """
    return microseconds // PRECISION * PRECISION


def moment(microseconds: int) -> datetime:
    """Return microseconds since 1970 UTC as a time."""
    return EPOCH + timedelta(microseconds=microseconds)


def microseconds_of(time: datetime) -> int:
    """Return a time as microseconds since 1970 UTC; one without a zone is UTC."""
    aware = time if time.tzinfo else time.replace(tzinfo=UTC)
    return (aware - EPOCH) // timedelta(microseconds=1)


def at(table: str, version: int) -> str:
    """Return ``table`` as it was at ``version``, for a FROM clause."""
    return f"{table} AT(TIMESTAMP => {instant(version)})"


def changes(table: str, start: int, end: int | None = None) -> str:
    """Return the changes of ``table`` after ``start`` up to and including ``end``, for a FROM clause."""
    window = f"{table} CHANGES(INFORMATION => DEFAULT) AT(TIMESTAMP => {instant(start)})"
    return window if end is None else f"{window} END(TIMESTAMP => {instant(end)})"
