"""Functions that move dates and count days, by the names that Databricks, Snowflake and DuckDB have for them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from sqlglot import exp

from retrieval.filter.arithmetic import DAYS_OF_UNIT, counted, unit_of
from retrieval.filter.check import Checker, a, is_text_constant
from retrieval.filter.sqltypes import DATE, INTEGER, NULL, TIMESTAMP, SqlType
from retrieval.filter.tree import Call, Node


def _date_add(check: Checker, node: exp.Expr) -> Node:
    """Databricks' `date_add(d, n)`, a date whatever `d` is; sqlglot makes `date_sub(d, n)` the same of `n * -1`."""
    _only_in(check, node, "databricks")
    day = Call("cast", (_temporal(check, node.this),), DATE, (check.rules.float_to_whole, 0))
    amount = node.expression
    if isinstance(amount, exp.Mul) and amount.expression == exp.Neg(this=exp.Literal.number(1)):
        return _moved(check, node, day, DATE, amount.this, sign=-1)
    return _moved(check, node, day, DATE, amount)


def _timestamp_add(check: Checker, node: exp.Expr) -> Node:
    """Databricks' `dateadd(unit, n, t)`: a timestamp, of a date too."""
    _only_in(check, node, "databricks")
    moment = check.coerce(node.this, _temporal(check, node.this), TIMESTAMP)
    return _moved(check, node, moment, TIMESTAMP, node.expression)


def _snowflake_add(check: Checker, node: exp.Expr) -> Node:
    """Snowflake's `dateadd(unit, n, t)`: a date stays one, unless it moves by less than days."""
    _only_in(check, node, "snowflake")
    if node.args.get("unit") is None:
        raise check.not_allowed(node)
    base = _temporal(check, node.this)
    stays = DAYS_OF_UNIT[_unit(check, node)] >= 1
    return _moved(check, node, base, base.type if stays else TIMESTAMP, node.expression)


def _moved(check: Checker, node: exp.Expr, base: Node, kind: SqlType, amount: exp.Expr, *, sign: int = 1) -> Node:
    count = check.of_kind(amount, INTEGER, "moving a date")
    interval = counted(check, node, [(sign, _unit(check, node), count)])
    return replace(interval, op="shift", args=(base, *interval.args), type=kind)


def _days(way: str, *dialects: str) -> Callable[[Checker, exp.Expr], Node]:
    """Return what checks the days from one moment to another: `calendar` days begun, or `elapsed` ones of 24 hours."""

    def check_days(check: Checker, node: exp.Expr) -> Node:
        _only_in(check, node, *dialects)
        if _unit(check, node) != "DAY":
            hint = "take date_trunc of both, or compare with one of them moved by an INTERVAL"
            raise check.error(node, "filter_not_allowed", "days are counted here, and no other unit", hint)
        return Call("days", (_temporal(check, node.this), _temporal(check, node.expression)), INTEGER, (way,))

    return check_days


def _only_in(check: Checker, node: exp.Expr, *dialects: str) -> None:
    if check.rules.name not in dialects:
        message = f"{check.parsed.snippet(node)} is not for {check.rules.name}, but for {' and '.join(dialects)}"
        raise check.error(node, "filter_not_allowed", message, "write it as in: published + INTERVAL '7' DAY")
    check.only(node, "this", "expression", "unit", "date_part_boundary")


def _unit(check: Checker, node: exp.Expr) -> str:
    unit = node.args.get("unit")
    return unit_of(check, node, unit.name) if isinstance(unit, exp.Var | exp.Literal) else "DAY"


def _temporal(check: Checker, node: exp.Expr) -> Node:
    value = check.value(node)
    if value.type == NULL or is_text_constant(value):
        return check.coerce(node, value, TIMESTAMP)
    if not value.type.is_temporal:
        message = f"{check.parsed.snippet(node)} is {a(value.type)}, not a date or timestamp"
        raise check.error(node, "filter_type", message, f"write CAST({check.parsed.snippet(node)} AS TIMESTAMP)")
    return value


HANDLERS: dict[type[exp.Expr], Callable[[Checker, exp.Expr], Node]] = {
    exp.TsOrDsAdd: _date_add,
    exp.TimestampAdd: _timestamp_add,
    exp.DateAdd: _snowflake_add,
    exp.DateDiff: _days("calendar", "databricks", "snowflake", "duckdb"),
    exp.TimestampDiff: _days("elapsed", "databricks"),
}
