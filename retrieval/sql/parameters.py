"""The values given for a statement's ``:name``s, and which of them it asks for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sqlglot import exp

from retrieval.filter.filter import types_of, unused_parameter
from retrieval.request import MAX_K, Mode, SearchRequest
from retrieval.sql.statement import Statement, refused

MAX_ROWS = 10_000
"""Most rows of an answer."""

DEFAULT_ROWS = 1_000
"""Rows of an answer to a statement without LIMIT."""

SEARCHED_ROWS = 100
"""Rows that a search finds if neither ``k`` nor LIMIT asks for more."""

MAX_OFFSET = 2**31 - 1
_MODES: tuple[Mode, ...] = ("hybrid", "vector", "keyword")


@dataclass(frozen=True, kw_only=True, slots=True)
class Searched:
    """The search in a statement: its text, how many rows it finds at most, and its mode."""

    query: str
    k: int
    mode: Mode | None

    def request(self, deadline: float | None) -> SearchRequest:
        """Return the search as it is asked for."""
        return SearchRequest(query=self.query, k=self.k, mode=self.mode, include=(), deadline=deadline)


class Parameters:
    """``values`` by name. ``used`` are those that were asked for so far."""

    def __init__(self, statement: Statement, values: Mapping[str, object]) -> None:
        self._parsed = statement.parsed
        self.values = values
        self.types = types_of(self._parsed.text, values)
        self.used: set[str] = set()

    def constant(self, node: exp.Expr) -> object:
        """Return the value of a literal, or of the parameter that ``node`` names."""
        if isinstance(node, exp.Placeholder):
            if node.this not in self.values:
                raise refused(self._parsed, node, f"no value was given for :{node.this}", code="filter_parameter")
            self.used.add(node.this)
            return self.values[node.this]
        text = str(node.this)
        return int(text) if not node.args.get("is_string") and text.isascii() and text.isdigit() else text

    def whole(self, node: exp.Expr, what: str, least: int, most: int) -> int:
        """Return the whole number that ``node`` stands for, or raise FilterError."""
        value = self.constant(node)
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            message = f"{what} takes a whole number from {least} to {most:,}"
            raise refused(self._parsed, node, message, code="filter_value")
        return value

    def refuse_unused(self) -> None:
        """Raise FilterError if a value was given that nothing asked for; called when all of a statement was checked."""
        unused = sorted(self.values.keys() - self.used)
        if unused:
            raise unused_parameter(unused[0], self._parsed.text)


def window_of(statement: Statement, parameters: Parameters) -> tuple[int, int | None]:
    """Return how many rows are passed over, and how many are wanted at most (None without LIMIT)."""
    offset = parameters.whole(statement.offset, "OFFSET", 0, MAX_OFFSET) if statement.offset is not None else 0
    limit = parameters.whole(statement.limit, "LIMIT", 0, MAX_ROWS) if statement.limit is not None else None
    return offset, limit


def search_of(statement: Statement, parameters: Parameters) -> Searched | None:
    """Return what a statement searches for, if it does; raises FilterError."""
    call, parsed = statement.search, statement.parsed
    if call is None:
        return None
    query = parameters.constant(call.query)
    if not isinstance(query, str) or not query.strip():
        raise refused(parsed, call.query, "search takes a text that is not blank", code="filter_value")
    given = parameters.constant(call.mode) if call.mode is not None else None
    mode = next((name for name in _MODES if name == given), None)
    if call.mode is not None and mode is None:
        raise refused(parsed, call.mode, f"mode is one of {', '.join(map(repr, _MODES))}", code="filter_value")
    if call.k is not None:
        return Searched(query=query, k=parameters.whole(call.k, "k", 1, MAX_K), mode=mode)
    offset, limit = window_of(statement, parameters)
    return Searched(query=query, k=min(max(SEARCHED_ROWS, offset + (limit or 0)), MAX_K), mode=mode)


def searched_by(statement: Statement, params: Mapping[str, object]) -> Searched | None:
    """Return what ``statement`` searches for under ``params``, if it does; raises FilterError."""
    return search_of(statement, Parameters(statement, params))
