"""LIKE and ILIKE: from a pattern to the cheapest polars test that means the same."""

from __future__ import annotations

from enum import Enum
from itertools import groupby

import polars as pl

MAX_PATTERN_CHARACTERS = 1_000
"""Longest LIKE pattern: bounds the size of the compiled regular expression."""


class Wildcard(Enum):
    """`%` stands for any characters, also none; `_` for exactly one."""

    ANY = "%"
    ONE = "_"


Piece = str | Wildcard


def split_pattern(pattern: str, escape: str, *, strict: bool) -> tuple[Piece, ...]:
    """Split a pattern into plain stretches and wildcards; ValueError where the escape character is misused.

    `escape` is one character or "" for none. `strict`: only `%`, `_` and itself may follow it.
    """
    if len(pattern) > MAX_PATTERN_CHARACTERS:
        raise ValueError(f"a LIKE pattern may have {MAX_PATTERN_CHARACTERS} characters, not {len(pattern)}")
    pieces: list[Piece] = []
    characters = iter(pattern)
    for character in characters:
        if character == escape:
            pieces.append(_escaped(next(characters, None), escape, strict))
        elif character in ("%", "_"):
            pieces.append(Wildcard(character))
        else:
            pieces.append(character)
    return _joined(pieces)


def _escaped(character: str | None, escape: str, strict: bool) -> str:
    if character is None:
        raise ValueError(f"a LIKE pattern can't end with its escape character {escape!r}")
    if strict and character not in ("%", "_", escape):
        raise ValueError(f"in a LIKE pattern {escape!r} may stand before %, _ and itself only, not {character!r}")
    return character


def _joined(pieces: list[Piece]) -> tuple[Piece, ...]:
    joined: list[Piece] = []
    for key, group in groupby(pieces, key=lambda piece: piece if isinstance(piece, Wildcard) else str):
        if key is Wildcard.ANY:
            joined.append(Wildcard.ANY)
        elif key is Wildcard.ONE:
            joined.extend(Wildcard.ONE for _ in group)
        else:
            joined.append("".join(str(piece) for piece in group))
    return tuple(joined)


def matches(value: pl.Expr, pieces: tuple[Piece, ...], *, ignore_case: bool) -> pl.Expr:
    """Return whether a string has the pattern's shape, as a boolean expression; NULL gives NULL.

    `ignore_case` compares lower-cased text, as Spark defines ILIKE.
    """
    if ignore_case:
        value = value.str.to_lowercase()
        pieces = tuple(piece.lower() if isinstance(piece, str) else piece for piece in pieces)
    match pieces:
        case ():
            return value == ""
        case (Wildcard.ANY,):
            return value.str.starts_with("")
        case (str(text),):
            return value == text
        case (str(text), Wildcard.ANY):
            return value.str.starts_with(text)
        case (Wildcard.ANY, str(text)):
            return value.str.ends_with(text)
        case (Wildcard.ANY, str(text), Wildcard.ANY):
            return value.str.contains(text, literal=True)
    return value.str.contains("".join((r"(?s)\A", *map(_regex, pieces), r"\z")))


def _regex(piece: Piece) -> str:
    if isinstance(piece, Wildcard):
        return ".*" if piece is Wildcard.ANY else "."
    return pl.escape_regex(piece)
