"""Functions of texts and numbers: how sqlglot's constructs are checked."""

from __future__ import annotations

from collections.abc import Callable

from sqlglot import exp

from retrieval.filter.check import Checker
from retrieval.filter.sqltypes import BOOLEAN, FLOAT, INTEGER, STRING, Kind, SqlType, decimal
from retrieval.filter.tree import Call, Column, Constant, Node, Parameter

MAX_JOINED = 16
"""How many texts, of columns and of the request, may be joined into one: each row gets a copy of all of them."""
MAX_PLACES = 38


def _text_function(op: str) -> Callable[[Checker, exp.Expr], Node]:
    """Return what checks a function of one text."""

    def apply(check: Checker, node: exp.Expr) -> Node:
        check.only(node, "this")
        return Call(op, (check.of_kind(node.this, STRING, op),), STRING)

    return apply


def _joined(check: Checker, node: exp.Expr) -> Node:
    """`a || b`, which is NULL where one of them is, and concat, which in some dialects leaves NULL out."""
    if isinstance(node, exp.DPipe):
        check.only(node, "this", "expression")
        parts, skips_null = [node.this, node.expression], False
    else:
        check.only(node, "expressions", "coalesce")
        parts, skips_null = node.expressions, check.rules.concat_skips_null
    checked = Call("join", tuple(check.of_kind(part, STRING, "joining texts") for part in parts), STRING, (skips_null,))
    if _texts(checked) > MAX_JOINED:
        raise check.error(node, "filter_limit", f"more than {MAX_JOINED} texts cannot be joined into one")
    return checked


def _texts(node: Node) -> int:
    return sum(map(_texts, node.args)) if isinstance(node, Call) else isinstance(node, Column | Constant | Parameter)


def _substring(check: Checker, node: exp.Expr) -> Node:
    check.only(node, "this", "start", "length", "zero_start")
    text = check.of_kind(node.this, STRING, "substr")
    given = [(part, least) for part, least in ((node.args["start"], 1), (node.args.get("length"), 0)) if part]
    return Call("substr", (text, *(_count(check, part, "substr", least) for part, least in given)), STRING)


def _end(op: str) -> Callable[[Checker, exp.Expr], Node]:
    def take(check: Checker, node: exp.Expr) -> Node:
        check.only(node, "this", "expression", "negative_length_returns_empty")
        return Call(op, (check.of_kind(node.this, STRING, op), _count(check, node.expression, op, 0)), STRING)

    return take


def _count(check: Checker, node: exp.Expr, what: str, least: int) -> Node:
    """Check a place in a text or a number of characters: fixed, because for others dialects differ, or it is slow."""
    checked = check.of_kind(node, INTEGER, what)

    def counted(value: object) -> object:
        if isinstance(value, int) and value < least:
            raise ValueError(f"{what} takes a whole number from {least} here, not {value}")
        return value

    return check.fixed(node, checked, counted, f"{what} takes a number or a parameter here")


def _trim(check: Checker, node: exp.Expr) -> Node:
    if node.args.get("expression") is not None:
        raise check.error(node, "filter_not_allowed", "trim takes spaces away here, and no other characters")
    check.only(node, "this", "position")
    side = {"LEADING": "start", "TRAILING": "end"}.get(node.args.get("position") or "", "both")
    return Call("trim", (check.of_kind(node.this, STRING, "trim"),), STRING, (side, check.rules.spaces))


def _text_test(op: str) -> Callable[[Checker, exp.Expr], Node]:
    def test(check: Checker, node: exp.Expr) -> Node:
        check.only(node, "this", "expression")
        return Call(op, tuple(check.of_kind(part, STRING, op) for part in (node.this, node.expression)), BOOLEAN)

    return test


def _number(check: Checker, node: exp.Expr, what: str) -> Node:
    checked = check.value(node)
    return checked if checked.type.is_numeric else check.as_kind(node, checked, FLOAT, what)


def _absolute(check: Checker, node: exp.Expr) -> Node:
    check.only(node, "this")
    value = _number(check, node.this, "abs")
    return Call("abs", (value,), value.type)


def _whole(op: str) -> Callable[[Checker, exp.Expr], Node]:
    def apply(check: Checker, node: exp.Expr) -> Node:
        check.only(node, "this")
        value = _number(check, node.this, op)
        return value if value.type == INTEGER else Call(op, (value,), _rounded(value.type, 0))

    return apply


def _round(check: Checker, node: exp.Expr) -> Node:
    check.only(node, "this", "decimals", "casts_non_integer_decimals")
    value, wanted = _number(check, node.this, "round"), node.args.get("decimals")
    places = 0 if wanted is None else _places(check, wanted)
    if value.type == INTEGER:
        return value
    if value.type == FLOAT and wanted is not None and not check.rules.rounds_doubles_to_places:
        hint = f"write round(CAST({check.parsed.snippet(node.this)} AS DECIMAL(18, {places})), {places})"
        raise check.error(node, "filter_type", "round takes a DECIMAL where it is told how many places", hint)
    mode = check.rules.round_of_double if value.type == FLOAT else "half_away_from_zero"
    return Call("round", (value,), _rounded(value.type, places), (places, mode))


def _places(check: Checker, node: exp.Expr) -> int:
    checked = check.of_kind(node, INTEGER, "round")
    if isinstance(checked, Constant) and isinstance(checked.value, int) and 0 <= checked.value <= MAX_PLACES:
        return checked.value
    raise check.error(node, "filter_value", f"round takes a number of places from 0 to {MAX_PLACES}")


def _rounded(kind: SqlType, places: int) -> SqlType:
    """Return the type of a number of type ``kind`` that is rounded to so many places."""
    if kind.kind is not Kind.DECIMAL or kind.scale <= places:
        return kind
    return decimal(kind.whole + 1, places)


HANDLERS: dict[type[exp.Expr], Callable[[Checker, exp.Expr], Node]] = {
    exp.Lower: _text_function("lower"),
    exp.Upper: _text_function("upper"),
    exp.DPipe: _joined,
    exp.Concat: _joined,
    exp.Substring: _substring,
    exp.Left: _end("left"),
    exp.Right: _end("right"),
    exp.Trim: _trim,
    exp.StartsWith: _text_test("starts_with"),
    exp.Contains: _text_test("contains"),
    exp.Abs: _absolute,
    exp.Floor: _whole("floor"),
    exp.Ceil: _whole("ceil"),
    exp.Round: _round,
}
