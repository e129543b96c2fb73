"""Arithmetic, dates and intervals, and CAST: how sqlglot's constructs are checked."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

import polars as pl
from sqlglot import exp

from retrieval.filter.casts import can_cast
from retrieval.filter.check import Checker, a
from retrieval.filter.compile import Bindings, build
from retrieval.filter.sqltypes import (
    BOOLEAN,
    DATE,
    FLOAT,
    INTEGER,
    INTERVAL,
    NULL,
    STRING,
    TIMESTAMP,
    Kind,
    SqlType,
    as_decimal,
    capped_decimal,
    decimal,
)
from retrieval.filter.tree import Call, Constant, Node, Now, Parameter
from retrieval.filter.values import MAX_DECIMAL_SCALE, parse_date, parse_timestamp, widen

DAYS_OF_UNIT = {
    "MICROSECOND": 1 / 86_400_000_000, "MILLISECOND": 1 / 86_400_000, "SECOND": 1 / 86_400, "MINUTE": 1 / 1_440,
    "HOUR": 1 / 24, "DAY": 1, "WEEK": 7, "MONTH": 31, "QUARTER": 92, "YEAR": 366,
}  # fmt: skip
MAX_INTERVAL_DAYS = 3_660_000
"""Ten thousand years: more leaves the range of dates."""

MOST_AFTER_POINT = 10
"""Digits after the point of a product of decimals that leave enough before it, 28, where 38 is the most."""

_NUMERIC_OPERATORS: dict[type[exp.Expr], str] = {exp.Add: "+", exp.Sub: "-", exp.Mul: "*"}


def _binary(check: Checker, node: exp.Expr) -> Node:
    check.only(node, "this", "expression")
    left, right = check.value(node.this, interval=True), check.value(node.expression, interval=True)
    if Kind.INTERVAL in (left.type.kind, right.type.kind):
        return _interval_sum(check, node, left, right)
    if left.type.is_temporal or right.type.is_temporal:
        hint = "move one of them instead, as in: published >= CURRENT_DATE - INTERVAL '7' DAY"
        raise check.error(node, "filter_type", "dates and timestamps move by an INTERVAL only", hint)
    left, right = _as_number(check, node.this, left), _as_number(check, node.expression, right)
    return Call(_NUMERIC_OPERATORS[type(node)], (left, right), _result(type(node), left, right))


def _number(check: Checker, node: exp.Expr) -> Node:
    return _as_number(check, node, check.value(node))


def _as_number(check: Checker, node: exp.Expr, checked: Node) -> Node:
    if checked.type.kind is Kind.NULL:
        return check.coerce(node, checked, INTEGER)
    if not checked.type.is_numeric:
        message = f"{check.parsed.snippet(node)} is {a(checked.type)}, not a number"
        raise check.error(node, "filter_type", message, f"write CAST({check.parsed.snippet(node)} AS DOUBLE)")
    return checked


def _result(operator: type[exp.Expr], left: Node, right: Node) -> SqlType:
    """Whole numbers stay whole, and decimals exact: what then needs more than 38 digits is NULL.

    A product of more than ``MOST_AFTER_POINT`` digits after the point, more than either number has, would have too few
    before it: where 38 are not sure to be enough for one of those, it is a double instead.
    """
    kinds = {left.type.kind, right.type.kind}
    if Kind.FLOAT in kinds:
        return FLOAT
    if kinds == {Kind.INTEGER}:
        return INTEGER
    one, two = _digits(left), _digits(right)
    whole, scale = max(one.whole, two.whole) + 1, max(one.scale, two.scale)
    if operator is exp.Mul:
        whole, scale = one.whole + two.whole, one.scale + two.scale
    most = MOST_AFTER_POINT if scale > max(one.scale, two.scale) else MAX_DECIMAL_SCALE
    return capped_decimal(whole, scale) if scale <= most else decimal(whole, scale)


def _digits(node: Node) -> SqlType:
    if isinstance(node, Constant) and isinstance(node.value, int):
        return decimal(len(str(abs(node.value))), 0)
    return as_decimal(node.type)


def _divide(check: Checker, node: exp.Expr) -> Node:
    check.only(node, "this", "expression")
    parts = (_number(check, node.this), _number(check, node.expression))
    whole = all(part.type == INTEGER for part in parts)
    return Call("div", parts, INTEGER) if whole and check.rules.whole_division else Call("/", parts, FLOAT)


def _whole_operator(op: str) -> Callable[[Checker, exp.Expr], Node]:
    def apply(check: Checker, node: exp.Expr) -> Node:
        check.only(node, "this", "expression")
        what = "a remainder" if op == "%" else "whole division"
        parts = tuple(check.of_kind(part, INTEGER, what) for part in (node.this, node.expression))
        return Call(op, parts, INTEGER)

    return apply


def _negate(check: Checker, node: exp.Expr) -> Node:
    check.only(node, "this")
    value = _number(check, node.this)
    if isinstance(value, Constant) and isinstance(value.value, int | float | Decimal):
        lowest = value.value == 2**63 and value.type.kind is Kind.DECIMAL
        return Constant(-(2**63), INTEGER) if lowest else Constant(-value.value, value.type)
    return Call("negate", (value,), value.type)


def _interval(check: Checker, node: exp.Expr) -> Node:
    check.only(node, "this", "unit")
    unit, amount = node.args.get("unit"), node.this
    text = amount.this if isinstance(amount, exp.Literal) else None
    if unit is not None and not isinstance(unit, exp.Var):
        raise check.error(node, "filter_not_allowed", "an interval of two units is written as two intervals")
    if unit is None:
        return _interval_text(check, node, str(text or ""))
    if text is not None:
        if not re.fullmatch(r"\s*[+-]?\d{1,18}\s*", text, re.ASCII):
            raise check.error(node, "filter_value", f"an interval takes a whole number, not {text!r}")
        count: Node = Constant(int(text), INTEGER)
    else:
        count = check.of_kind(amount, INTEGER, "an interval")
    return counted(check, node, [(1, unit_of(check, node, unit.name), count)])


def _interval_text(check: Checker, node: exp.Expr, text: str) -> Node:
    """Read `'1 day 2 hours'` and `'1 day, 2 hours'`."""
    if not re.fullmatch(r"\s*([+-]?\d{1,18}\s*[A-Za-z]+[\s,]*)+", text, re.ASCII):
        hint = "write it as INTERVAL '7' DAY"
        raise check.error(node, "filter_value", f"{text!r} is not an interval", hint)
    parts = re.findall(r"([+-]?\d+)\s*([A-Za-z]+)", text)
    return counted(check, node, [(1, unit_of(check, node, unit), Constant(int(n), INTEGER)) for n, unit in parts])


def unit_of(check: Checker, node: exp.Expr, name: str) -> str:
    """Return the unit of time, in the singular, that ``name`` is in ``node``, or raise FilterError."""
    unit = name.upper().removesuffix("S")
    if unit not in DAYS_OF_UNIT:
        known = ", ".join(reversed(DAYS_OF_UNIT))
        raise check.error(node, "filter_value", f"there is no interval unit {name}", f"known are {known}")
    return unit


def counted(check: Checker, node: exp.Expr, parts: list[tuple[int, str, Node]]) -> Call:
    """Return the interval of so many units each, with its sign; raises FilterError if it is not fixed, or too long."""
    amounts: list[Node] = []
    for _, unit, amount in parts:
        if isinstance(amount, Parameter):
            amounts.append(replace(amount, convert=_amount_of(unit)))
        elif isinstance(amount, Constant):
            try:
                _amount_of(unit)(amount.value)
            except ValueError as error:
                raise check.error(node, "filter_value", str(error)) from None
            amounts.append(amount)
        else:
            raise check.error(node, "filter_not_allowed", "an interval takes a number or a parameter")
    return Call("interval", tuple(amounts), INTERVAL, tuple((sign, unit) for sign, unit, _ in parts))


def _amount_of(unit: str) -> Callable[[object], object]:
    def amount(value: object) -> object:
        if isinstance(value, int) and abs(value) * DAYS_OF_UNIT[unit] > MAX_INTERVAL_DAYS:
            raise ValueError("an interval may span 10,000 years at most")
        return value

    return amount


def _interval_sum(check: Checker, node: exp.Expr, left: Node, right: Node) -> Node:
    if isinstance(node, exp.Sub) and isinstance(right, Call) and right.type == INTERVAL:
        right = replace(right, options=tuple((-sign, unit) for sign, unit in right.options))
    if left.type == right.type and isinstance(left, Call) and isinstance(right, Call):
        return Call("interval", left.args + right.args, INTERVAL, left.options + right.options)
    base, interval, at = (left, right, node.this) if right.type == INTERVAL else (right, left, node.expression)
    if not isinstance(interval, Call) or isinstance(node, exp.Mul) or (isinstance(node, exp.Sub) and base is right):
        raise check.error(node, "filter_type", "an interval can be added to a date or timestamp, or taken from it")
    if base.type.kind is Kind.NULL:
        base = check.coerce(at, base, TIMESTAMP)
    if not base.type.is_temporal:
        message = f"{check.parsed.snippet(at)} is {a(base.type)}, not a date or timestamp"
        raise check.error(at, "filter_type", message, f"write CAST({check.parsed.snippet(at)} AS TIMESTAMP)")
    days_only = all(DAYS_OF_UNIT[unit] >= 1 for _, unit in interval.options)
    return Call("shift", (base, *interval.args), base.type if days_only else TIMESTAMP, interval.options)


def _current(kind: SqlType) -> Callable[[Checker, exp.Expr], Node]:
    def current(check: Checker, node: exp.Expr) -> Node:
        check.only(node)
        return Now(kind)

    return current


def _unknown_function(check: Checker, node: exp.Expr) -> Node:
    """sqlglot knows DuckDB's now() as a plain function; Snowflake has none."""
    if node.name.upper() == "NOW" and not node.expressions and check.rules.name != "snowflake":
        return Now(TIMESTAMP)
    raise check.not_allowed(node)


_TYPES: dict[exp.DType, tuple[SqlType, int]] = {
    exp.DType.BOOLEAN: (BOOLEAN, 0),
    exp.DType.TINYINT: (INTEGER, 8),
    exp.DType.SMALLINT: (INTEGER, 16),
    exp.DType.INT: (INTEGER, 32),
    exp.DType.BIGINT: (INTEGER, 64),
    exp.DType.FLOAT: (FLOAT, 32),
    exp.DType.DOUBLE: (FLOAT, 64),
    exp.DType.TEXT: (STRING, 0),
    exp.DType.VARCHAR: (STRING, 0),
    exp.DType.DATE: (DATE, 0),
    **dict.fromkeys(
        (
            exp.DType.TIMESTAMP,
            exp.DType.TIMESTAMPTZ,
            exp.DType.TIMESTAMPLTZ,
            exp.DType.TIMESTAMPNTZ,
            exp.DType.DATETIME,
        ),
        (TIMESTAMP, 0),
    ),
}


def _target(check: Checker, node: exp.Cast) -> tuple[SqlType, int]:
    wanted = node.to
    parameters = wanted.expressions
    if wanted.this is exp.DType.DECIMAL and len(parameters) == 2:
        precision, scale = (int(part.name) for part in parameters)
        if not 0 <= scale <= precision <= 38 or not precision:
            raise check.error(node, "filter_type", f"there is no DECIMAL({precision}, {scale})")
        return SqlType(Kind.DECIMAL, precision - scale, scale), 0
    if wanted.this is exp.DType.DECIMAL:
        raise check.error(node, "filter_type", "a decimal needs its digits", "write DECIMAL(precision, scale)")
    if wanted.this not in _TYPES or parameters:
        hint = "known are BOOLEAN, SMALLINT, INT, BIGINT, FLOAT, DOUBLE, DECIMAL(p, s), STRING, DATE and TIMESTAMP"
        raise check.error(node, "filter_not_allowed", f"CAST to {wanted.sql()} is not allowed here", hint)
    kind, bits = _TYPES[wanted.this]
    return kind, 64 if kind == INTEGER and check.rules.wide_integers else bits


def _cast(check: Checker, node: exp.Expr) -> Node:
    check.only(node, "this", "to")
    assert isinstance(node, exp.Cast)
    target, bits = _target(check, node)
    value = check.value(node.this)
    if not can_cast(value.type, target):
        message = f"{check.parsed.snippet(node.this)} is {a(value.type)}: it can't be cast to {target}"
        hint = "cast it to DECIMAL(p, s) first" if value.type == FLOAT and target == STRING else ""
        raise check.error(node, "filter_type", message, hint)
    rounding = check.rules.decimal_to_whole if value.type.kind is Kind.DECIMAL else check.rules.float_to_whole
    options = (rounding, bits)
    if not isinstance(value, Constant | Parameter):
        return Call("cast", (value,), target, options)
    convert = _converter(value.type, target, options, strict=not isinstance(node, exp.TryCast))
    if isinstance(value, Parameter):
        return replace(value, type=target, convert=convert)
    try:
        return Constant(convert(value.value), target)
    except ValueError as error:
        raise check.error(node, "filter_value", str(error)) from None


def _converter(
    source: SqlType, target: SqlType, options: tuple[object, ...], *, strict: bool
) -> Callable[[object], object]:
    """Return what casts one value; ValueError where it can't be cast, or None unless `strict`."""

    def convert(value: object) -> object:
        if value is None:
            return None
        try:
            result = _cast_one(widen(value, source), source, target, options)
        except ValueError:
            if strict:
                raise
            return None
        if result is None and strict:
            raise ValueError(f"{value!r} can't be cast to {target}")
        return result

    return convert


def _cast_one(value: object, source: SqlType, target: SqlType, options: tuple[object, ...]) -> object:
    """Cast one value as a column of it would be; dates and timestamps by the shorter way that says what is wrong."""
    if isinstance(value, str) and target == TIMESTAMP:
        return parse_timestamp(value)
    if isinstance(value, str) and target == DATE:
        return parse_date(value) if len(value.strip()) <= 10 else _day_of(value)
    node = Call("cast", (Constant(value, source),), target, options)
    return pl.select(build(node, Bindings((), datetime.min.replace(tzinfo=UTC)))).item()


def _day_of(text: str) -> object:
    parse_timestamp(text)
    return parse_date(text.strip()[:10])


TRUNCATES = {
    "YEAR": "1y", "QUARTER": "1q", "MONTH": "1mo", "WEEK": "1w", "DAY": "1d",
    "HOUR": "1h", "MINUTE": "1m", "SECOND": "1s",
}  # fmt: skip
"""What date_trunc cuts to, as polars has it; weeks begin on Monday, as in all four dialects."""

PARTS = ("YEAR", "QUARTER", "MONTH", "DAY", "HOUR", "MINUTE", "SECOND")
_OF_DAYS = frozenset({"YEAR", "QUARTER", "MONTH", "WEEK", "DAY"})


def _truncate(check: Checker, node: exp.Expr) -> Node:
    """`date_trunc('month', x)`: the beginning of the month, of the type of `x`."""
    check.only(node, "this", "unit", "input_type_preserved")
    unit = node.args.get("unit")
    name = unit.name.upper() if isinstance(unit, exp.Var | exp.Literal) else ""
    value = _temporal(check, node, node.this, name, TRUNCATES)
    return Call("truncate", (value,), value.type, (TRUNCATES[name],))


def _part(name: str | None = None) -> Callable[[Checker, exp.Expr], Node]:
    """`year(x)` and the like, or `extract(year FROM x)`: a whole number."""

    def part(check: Checker, node: exp.Expr) -> Node:
        check.only(node, "this", "expression")
        asked = name or node.this.name.upper()
        inside = node.this if name else node.expression
        inside = inside.this if isinstance(inside, exp.TsOrDsToDate) else inside
        return Call("part", (_temporal(check, node, inside, asked, PARTS),), INTEGER, (asked.lower(),))

    return part


def _temporal(check: Checker, node: exp.Expr, inside: exp.Expr, unit: str, known: Collection[str]) -> Node:
    value = check.value(inside)
    if unit not in known:
        message = f"{check.parsed.snippet(node)}: there is no {unit or 'such unit'} here"
        raise check.error(node, "filter_value", message, f"known are {', '.join(known).lower()}")
    if value.type == NULL:
        return check.coerce(inside, value, TIMESTAMP)
    if not value.type.is_temporal:
        message = f"{check.parsed.snippet(inside)} is {a(value.type)}, and no date or timestamp"
        raise check.error(inside, "filter_type", message, f"write CAST({check.parsed.snippet(inside)} AS TIMESTAMP)")
    if value.type == DATE and unit not in _OF_DAYS:
        raise check.error(node, "filter_type", f"{check.parsed.snippet(inside)} is a DATE and has no {unit.lower()}")
    return value


HANDLERS: dict[type[exp.Expr], Callable[[Checker, exp.Expr], Node]] = {
    exp.TimestampTrunc: _truncate,
    exp.DateTrunc: _truncate,
    exp.Extract: _part(),
    exp.Year: _part("YEAR"),
    exp.Quarter: _part("QUARTER"),
    exp.Month: _part("MONTH"),
    exp.Day: _part("DAY"),
    exp.Hour: _part("HOUR"),
    exp.Add: _binary,
    exp.Sub: _binary,
    exp.Mul: _binary,
    exp.Div: _divide,
    exp.IntDiv: _whole_operator("div"),
    exp.Mod: _whole_operator("%"),
    exp.Neg: _negate,
    exp.Interval: _interval,
    exp.CurrentDate: _current(DATE),
    exp.CurrentTimestamp: _current(TIMESTAMP),
    exp.Anonymous: _unknown_function,
    exp.Cast: _cast,
    exp.TryCast: _cast,
}
