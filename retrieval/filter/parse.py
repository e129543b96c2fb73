"""From SQL text, a WHERE condition or a SELECT, to sqlglot's tree: with limits, and each construct's place in the text.

sqlglot keeps places for names and literals only; the parser subclass made here notes where each node ends as it is
made, and `Parsed.place` widens that over parentheses and leading keywords. Nothing here judges what SQL may say,
but for comments, other statements and size: those are refused before the parser sees them.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar

from sqlglot import exp
from sqlglot.dialects.dialect import Dialect, build_date_delta
from sqlglot.errors import ErrorLevel, ParseError, TokenError
from sqlglot.parser import Parser
from sqlglot.tokenizer_core import Token, TokenType

from retrieval.errors import FilterError
from retrieval.filter.kept import kept
from retrieval.filter.tree import Place

MAX_TEXT_CHARACTERS = 32_768
"""Longest text. Long lists belong into parameters, which cost nothing to parse."""

MAX_TOKENS = 4_000
"""Most words and signs in a text: a bound on parsing time (about 20 microseconds a token)."""

MAX_NESTING = 24
"""Deepest parentheses, CASEs and runs of NOT or minus. sqlglot spends about 20 Python frames on each, of 1000."""

MAX_DEPTH = 100
"""Deepest tree, chains of AND and OR counted as one level: bounds the recursion of checking and compiling."""

NODES_A_TOKEN, LEAST_NODES = 4, 1_000
"""Most nodes that parsing may make: what is written plainly needs one or two a token."""

logging.getLogger("sqlglot").setLevel(logging.CRITICAL)  # its warnings quote the text, which belongs in no log

_STATEMENTS = {
    TokenType.WITH, TokenType.INSERT, TokenType.UPDATE, TokenType.DELETE, TokenType.DROP, TokenType.CREATE,
    TokenType.MERGE, TokenType.ALTER, TokenType.EXECUTE, TokenType.GRANT, TokenType.COPY, TokenType.COMMAND,
}  # fmt: skip
"""What a statement starts with; a column of such a name must be quoted where it comes first."""

_OPENING = {TokenType.L_PAREN, TokenType.L_BRACKET, TokenType.L_BRACE, TokenType.CASE}
_CLOSING = {TokenType.R_PAREN, TokenType.R_BRACKET, TokenType.R_BRACE, TokenType.END}
_PREFIXES = {TokenType.NOT, TokenType.DASH, TokenType.PLUS, TokenType.TILDE}

_LEADING: dict[type[exp.Expr], re.Pattern[str]] = {
    exp.Not: re.compile(r"NOT|!", re.I),
    exp.Neg: re.compile(r"-"),
    exp.Interval: re.compile(r"INTERVAL", re.I),
    exp.Cast: re.compile(r"DATE|TIMESTAMP\w*", re.I),
    exp.Placeholder: re.compile(r":"),
    exp.Parameter: re.compile(r"[@$]"),
}
"""The word that a construct starts with, where its node begins only after it."""

E = TypeVar("E", bound=exp.Expr)

OUR_FUNCTIONS = ("SEARCH", "SCORE", "PASSAGE")
"""Functions that are Grebe's; what a dialect has of that name is something else."""

_SPELLINGS: dict[str, type[exp.Func]] = {
    **dict.fromkeys(("ARRAYS_OVERLAP", "LIST_HAS_ANY", "ARRAY_HAS_ANY"), exp.ArrayOverlaps),
    **dict.fromkeys(("SIZE", "CARDINALITY", "ARRAY_SIZE", "ARRAY_LENGTH", "LIST_LENGTH"), exp.ArraySize),
}
"""Functions of arrays that sqlglot does not know by all of their names, or not in every dialect."""

_CAST = re.compile(r"(TRY_|SAFE_)?CAST", re.I)

SELECT_HINT = "write SELECT columns FROM collection WHERE condition"
_END = "grebe_end"
_START = "grebe_start"


@dataclass(frozen=True, eq=False)
class Parsed:
    """A text as sqlglot's tree, not yet judged."""

    text: str
    tree: exp.Expr
    tokens: tuple[Token, ...]

    def place(self, node: exp.Expr) -> Place:
        """Return where a node stands in the text."""
        start, end = self._span(node)
        first = next((i for i, token in enumerate(self.tokens) if token.start >= start), len(self.tokens) - 1)
        last = max((i for i, token in enumerate(self.tokens) if token.end <= end), default=first)
        first, last = self._balanced(first, max(first, last))
        first, last = self._whole(node, first, last)
        return Place(self.tokens[first].start, self.tokens[last].end - self.tokens[first].start + 1)

    def error(self, place: Place, code: str, message: str, hint: str = "") -> FilterError:
        """Return the error of what stands at ``place``."""
        return _at(self.text, place.start, place.length, code, message, hint)

    def snippet(self, node: exp.Expr, limit: int = 40) -> str:
        """Return a node's own text, for messages."""
        place = self.place(node)
        text = " ".join(self.text[place.start : place.start + place.length].split())
        return text if len(text) <= limit else text[: limit - 3] + "..."

    def called(self, node: exp.Expr) -> Place | None:
        """Return where the call stands that ``node`` is, from its name to its closing parenthesis, if it is one."""
        start, end = self._span(node)
        inside = [at for at, token in enumerate(self.tokens) if start <= token.start <= end]
        first, last = (inside[0], inside[-1]) if inside else (0, 0)
        for name in range(first, -1, -1):
            if self._type(name + 1) is TokenType.L_PAREN and re.fullmatch(r"\w+", self.tokens[name].text):
                _, close = self._balanced(name, name + 1)
                if close >= last:
                    return Place(self.tokens[name].start, self.tokens[close].end - self.tokens[name].start + 1)
        return None

    def listed(self) -> list[str]:
        """Return the texts between the commas of SELECT's list."""
        depth, texts, start = 0, [], None
        for token in self.tokens[1:]:
            depth += (token.token_type in _OPENING) - (token.token_type in _CLOSING)
            if start is None:
                start = None if token.token_type in (TokenType.DISTINCT, TokenType.ALL) else token.start
            elif depth == 0 and token.token_type in (TokenType.COMMA, TokenType.FROM):
                texts.append(" ".join(self.text[start : token.start].split()))
                start = None
            if depth == 0 and token.token_type is TokenType.FROM:
                break
        return texts

    def in_place_of(self, node: exp.Expr, other: E) -> E:
        """Return ``other``, which messages will take to stand where ``node`` does."""
        start, end = self._span(node)
        other.meta.update({_START: start, _END: end})
        return other

    def _span(self, node: exp.Expr) -> tuple[int, int]:
        starts, ends = [], []
        for part in node.walk():
            meta = part.meta
            starts += [meta[name] for name in ("start", _START) if name in meta]
            ends += [meta[name] for name in ("end", _END) if name in meta]
        return min(starts, default=0), max(ends, default=len(self.text) - 1)

    def _balanced(self, first: int, last: int) -> tuple[int, int]:
        open_, missing = 0, 0
        for token in self.tokens[first : last + 1]:
            if token.token_type in _OPENING:
                open_ += 1
            elif token.token_type in _CLOSING:
                missing, open_ = (missing, open_ - 1) if open_ else (missing + 1, 0)
        while missing and first:
            first -= 1
            missing += (self.tokens[first].token_type in _CLOSING) - (self.tokens[first].token_type in _OPENING)
        while open_ and last < len(self.tokens) - 1:
            last += 1
            open_ += (self.tokens[last].token_type in _OPENING) - (self.tokens[last].token_type in _CLOSING)
        return first, last

    def _whole(self, node: exp.Expr, first: int, last: int) -> tuple[int, int]:
        """Take in a construct's own parentheses and leading word, which its parts don't show."""
        if isinstance(node, exp.Paren | exp.Cast) and self._enclosed(first, last):
            called = isinstance(node, exp.Cast) and _CAST.fullmatch(self.tokens[first - 2].text)
            if called or isinstance(node, exp.Paren):
                return first - (2 if called else 1), last + 1
        if isinstance(node, exp.Func) and first == last and self._type(last + 1) is TokenType.L_PAREN:
            return self._balanced(first, last + 1)
        word = _LEADING.get(type(node))
        return (first - 1, last) if word and first and word.fullmatch(self.tokens[first - 1].text) else (first, last)

    def _enclosed(self, first: int, last: int) -> bool:
        return self._type(first - 1) is TokenType.L_PAREN and self._type(last + 1) is TokenType.R_PAREN

    def _type(self, at: int) -> TokenType | None:
        return self.tokens[at].token_type if 0 <= at < len(self.tokens) else None


@kept(256)
def parse(text: str, dialect: str) -> Parsed:
    """Parse a filter's text; FilterError (`filter_syntax`, `filter_not_allowed` or `filter_limit`) names the place."""
    tokens = _tokens(text, dialect)
    _refuse_statements(text, tokens)
    return _parsed(text, tokens, dialect, exp.Condition)


def parse_select(text: str, dialect: str) -> Parsed:
    """Parse a SELECT statement, or raise FilterError as :func:`parse` does."""
    if not text.strip():
        raise FilterError("the SQL is empty", code="filter_syntax", hint=SELECT_HINT)
    first = re.match(r"\s*(\w+)", text)
    if first and first[1].upper() != "SELECT":  # before it is read: EXPLAIN makes one word of all that follows
        raise _at(text, first.start(1), len(first[1]), "filter_not_allowed", "only SELECT is allowed", SELECT_HINT)
    tokens = _tokens(text, dialect)
    if tokens[-1].token_type is TokenType.SEMICOLON:
        tokens = tokens[:-1]
    if not tokens or tokens[0].token_type is not TokenType.SELECT:
        length = tokens[0].end - tokens[0].start + 1 if tokens else len(text)
        raise _at(
            text, tokens[0].start if tokens else 0, length, "filter_not_allowed", "only SELECT is allowed", SELECT_HINT
        )
    for token in tokens:
        if token.token_type is TokenType.SEMICOLON:
            raise _at(text, token.start, 1, "filter_not_allowed", "one statement at a time: ';' ends it")
    return _parsed(text, tokens, dialect, exp.Select)


def _tokens(text: str, dialect: str) -> list[Token]:
    if len(text) > MAX_TEXT_CHARACTERS:
        raise FilterError(
            f"the SQL has {len(text)} characters; at most {MAX_TEXT_CHARACTERS} are allowed",
            code="filter_limit",
            hint="pass long lists as parameters: IN (:names)",
        )
    tokens = _tokenize(text, dialect)
    _refuse_comments(text, tokens)
    _refuse_nesting(text, tokens)
    return tokens


def _parsed(text: str, tokens: list[Token], dialect: str, into: type[exp.Expr]) -> Parsed:
    parsed = Parsed(text, _parse_tokens(text, tokens, dialect, into), tuple(tokens))
    _refuse_depth(parsed)
    return parsed


def _tokenize(text: str, dialect: str) -> list[Token]:
    if "\x00" in text:
        raise _at(text, text.index("\x00"), 1, "filter_syntax", "the SQL holds a NUL character")
    try:
        tokens = Dialect.get_or_raise(dialect).tokenize(text)
    except TokenError as error:
        raise _token_error(text, error) from error
    if not tokens:
        raise FilterError("the SQL is empty", code="filter_syntax", hint="leave a filter out to pass every row")
    if len(tokens) > MAX_TOKENS:
        raise FilterError(
            f"the SQL has {len(tokens)} words and signs; at most {MAX_TOKENS} are allowed",
            code="filter_limit",
            hint="pass long lists as parameters: IN (:names)",
        )
    return tokens


def _token_error(text: str, error: TokenError) -> FilterError:
    cause = re.match(r"Missing (\S+) from \d+:(\d+)", str(error.__cause__))
    if cause:
        start = min(int(cause[2]), len(text) - 1)
        return _at(text, start, len(text) - start, "filter_syntax", f"this is never closed: {cause[1]} is missing")
    return _at(text, 0, len(text), "filter_syntax", "the text can't be read as SQL")


def _refuse_comments(text: str, tokens: list[Token]) -> None:
    """Whatever stands between two tokens and is not white space is a comment or a hint."""
    end = 0
    for start, following in [(token.start, token.end + 1) for token in tokens] + [(len(text), len(text))]:
        between = text[end:start]
        if between.strip():
            at = end + len(between) - len(between.lstrip())
            raise _at(text, at, len(between.strip()), "filter_not_allowed", "comments are not allowed")
        end = following


def _refuse_statements(text: str, tokens: list[Token]) -> None:
    for token in tokens:
        at = (text, token.start, token.end - token.start + 1, "filter_not_allowed")
        if token.token_type is TokenType.SEMICOLON:
            raise _at(*at, "a filter is one condition: ';' is not allowed")
        begins = token is tokens[0] and token.token_type in _STATEMENTS
        if begins or token.token_type is TokenType.SELECT:
            what = "a statement" if token is tokens[0] else "a subquery"
            hint = "write one condition over the collection's columns, such as: severity = 'high' AND withdrawn IS NULL"
            raise _at(*at, f"{what} is not allowed in a filter ({token.text})", hint)
    if tokens[0].token_type is TokenType.WHERE:
        raise _at(text, tokens[0].start, 5, "filter_syntax", "leave out the word WHERE: a filter is what follows it")


def _refuse_nesting(text: str, tokens: list[Token]) -> None:
    depth, run = 0, 0
    for token in tokens:
        depth += (token.token_type in _OPENING) - (token.token_type in _CLOSING)
        run = run + 1 if token.token_type in _PREFIXES else 0
        if depth + run > MAX_NESTING:
            message = f"the SQL is nested more than {MAX_NESTING} deep here"
            raise _at(text, token.start, token.end - token.start + 1, "filter_limit", message)


def _refuse_depth(parsed: Parsed) -> None:
    waiting = [(parsed.tree, 1)]
    while waiting:
        node, depth = waiting.pop()
        if depth > MAX_DEPTH:
            message = f"more than {MAX_DEPTH} operations build on one another here"
            raise parsed.error(parsed.place(node), "filter_limit", message)
        for child in node.iter_expressions():
            chained = isinstance(node, exp.Connector) and type(child) is type(node)
            waiting.append((child, depth if chained else depth + 1))


def _parse_tokens(text: str, tokens: list[Token], dialect: str, into: type[exp.Expr]) -> exp.Expr:
    parser = _parser_class(dialect)(dialect=dialect, error_level=ErrorLevel.IMMEDIATE)
    parser.nodes_left = LEAST_NODES + NODES_A_TOKEN * len(tokens)
    try:
        trees = parser.parse_into(into, tokens, text)
    except ParseError as error:
        raise _parse_error(text, tokens, parser, error) from error
    except (RecursionError, _Endless):
        raise FilterError("the SQL is nested too deep", code="filter_limit") from None
    except Exception as error:  # a construct that is half written makes some of its functions stumble, in many ways
        raise _at(text, 0, len(text), "filter_syntax", "the text can't be read as SQL") from error
    tree = trees[0]
    if tree is None:
        raise _at(text, tokens[0].start, len(text.strip()), "filter_syntax", f"this is not a {into.__name__.lower()}")
    return tree


class _Endless(Exception):
    """Parsing makes more nodes than the text can be worth."""


class _PlaceNoting(Parser):
    """What is mixed into each dialect's parser: where a node ends, which token the last error blames, and when to stop.

    sqlglot tries some constructs in two ways, ``ARRAY[`` and ``DATE (`` among them, and each way tries what is inside
    in two: of seventeen in one another it makes a quarter of a million nodes.
    """

    blamed: Token | None = None
    nodes_left = 0

    def expression(self, instance: E, token: Token | None = None, comments: list[str] | None = None) -> E:
        self.nodes_left -= 1
        if self.nodes_left < 0:
            raise _Endless
        node = super().expression(instance, token, comments)
        if self._prev:
            node.meta[_END] = self._prev.end
            if next(node.iter_expressions(), None) is None:
                node.meta[_START] = token.start if token else self._prev.start
        return node

    def raise_error(self, message: str, token: Token | None = None) -> None:
        self.blamed = token or self._curr or None
        super().raise_error(message, token or self._curr or self._prev)


@lru_cache(maxsize=8)
def _parser_class(dialect: str) -> type[_PlaceNoting]:
    base = Dialect.get_or_raise(dialect).parser_class
    spelled = {name: function.from_arg_list for name, function in _SPELLINGS.items()}
    functions: dict[str, Callable[..., exp.Expr]]
    functions = {name: make for name, make in {**spelled, **base.FUNCTIONS}.items() if name not in OUR_FUNCTIONS}
    if dialect == "databricks":
        functions |= dict.fromkeys(("DATEDIFF", "DATE_DIFF"), _days_or_units)
    return type("PlaceNotingParser", (_PlaceNoting, base), {"FUNCTIONS": functions})


def _days_or_units(args: list[exp.Expr]) -> exp.Expr:
    """`datediff(end, start)` counts dates and `datediff(DAY, start, end)` what elapsed; sqlglot makes one of both."""
    return build_date_delta(exp.TimestampDiff if len(args) == 3 else exp.DateDiff)(args)


def _parse_error(text: str, tokens: list[Token], parser: _PlaceNoting, error: ParseError) -> FilterError:
    description = str(error.errors[0].get("description", "")) if error.errors else ""
    token = parser.blamed
    expecting = re.match(r"Expect(?:ing|ed) (\S+)", description)
    if token is None:
        last = tokens[-1]
        wanted = f"{expecting[1]} is missing" if expecting else "something is missing"
        return _at(text, last.start, last.end - last.start + 1, "filter_syntax", f"the SQL ends too early: {wanted}")
    wanted = f", where {expecting[1]} was expected" if expecting else ""
    word = text[token.start : token.end + 1]
    return _at(text, token.start, len(word), "filter_syntax", f"unexpected {word!r}{wanted}")


def _at(text: str, start: int, length: int, code: str, message: str, hint: str = "") -> FilterError:
    return FilterError(message, code=code, text=text, start=start, length=length, hint=hint)
