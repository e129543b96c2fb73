"""The allow-list: each SQL construct that a filter may hold is one handler; anything else is refused."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from sqlglot import exp

from retrieval.filter.arithmetic import HANDLERS as ARITHMETIC
from retrieval.filter.arrays import HANDLERS as ARRAYS
from retrieval.filter.arrays import MAX_LIST_ITEMS, contains, size
from retrieval.filter.check import Checker, Operand
from retrieval.filter.dates import HANDLERS as DATES
from retrieval.filter.functions import HANDLERS as FUNCTIONS
from retrieval.filter.like import split_pattern
from retrieval.filter.sqltypes import BOOLEAN, INTEGER, NULL, STRING, Kind
from retrieval.filter.tree import Call, Constant, Node, Parameter
from retrieval.filter.values import number


def _paren(check: Checker, node: exp.Expr) -> Node:
    check.only(node, "this")
    return check.check(node.this)


def _chain(op: str) -> Callable[[Checker, exp.Expr], Node]:
    def chain(check: Checker, node: exp.Expr) -> Node:
        terms: list[exp.Expr] = []
        waiting = [node]
        while waiting:
            part = waiting.pop()
            if type(part) is type(node):
                check.only(part, "this", "expression")
                waiting += [part.expression, part.this]
            else:
                terms.append(part)
        return Call(op, tuple(check.condition(term) for term in terms), BOOLEAN)

    return chain


def _not(check: Checker, node: exp.Expr) -> Node:
    check.only(node, "this")
    return Call("not", (check.condition(node.this),), BOOLEAN)


def _together(check: Checker, at: exp.Expr, nodes: Sequence[exp.Expr]) -> list[Node]:
    """Check values that are compared with one another, and bring them to one type."""
    operands: list[Operand] = [(node, check.value(node)) for node in nodes]
    met = check.meet(at, operands)
    return [check.coerce(node, checked, met) for node, checked in operands]


def _comparison(op: str) -> Callable[[Checker, exp.Expr], Node]:
    def compare(check: Checker, node: exp.Expr) -> Node:
        check.only(node, "this", "expression")
        if op == "=" and isinstance(node.expression, exp.Any):
            return _equals_any(check, node)
        return Call(op, tuple(_together(check, node, (node.this, node.expression))), BOOLEAN)

    return compare


def _distinct(check: Checker, node: exp.Expr) -> Node:
    check.only(node, "this", "expression")
    same = Call("same", tuple(_together(check, node, (node.this, node.expression))), BOOLEAN)
    return same if isinstance(node, exp.NullSafeEQ) else Call("not", (same,), BOOLEAN)


def _is(check: Checker, node: exp.Expr) -> Node:
    check.only(node, "this", "expression", "negate")
    if isinstance(node.expression, exp.Null):
        test = Call("is_null", (check.value(node.this),), BOOLEAN)
    elif isinstance(node.expression, exp.Boolean):
        test = Call("is_true" if node.expression.this else "is_false", (check.condition(node.this),), BOOLEAN)
    else:
        raise check.not_allowed(node)
    return Call("not", (test,), BOOLEAN) if node.args.get("negate") else test


def _between(check: Checker, node: exp.Expr) -> Node:
    check.only(node, "this", "low", "high")
    value, low, high = _together(check, node, (node.this, node.args["low"], node.args["high"]))
    return Call("and", (Call(">=", (value, low), BOOLEAN), Call("<=", (value, high), BOOLEAN)), BOOLEAN)


def _in(check: Checker, node: exp.Expr) -> Node:
    check.only(node, "this", "expressions")
    items = node.expressions
    if len(items) > MAX_LIST_ITEMS:
        message = f"the list has {len(items)} items; at most {MAX_LIST_ITEMS} are allowed in the text"
        raise check.error(node, "filter_limit", message, "pass them as a parameter: IN (:names)")
    if not items:
        raise check.error(node, "filter_syntax", "the list is empty")
    operand = (node.this, check.value(node.this))
    listed = [(item, _item(check, item)) for item in items]
    return _membership(check, node, operand, listed)


def _item(check: Checker, node: exp.Expr) -> Node:
    return check.parameter(node) if isinstance(node, exp.Placeholder) else check.value(node)


def _membership(check: Checker, at: exp.Expr, operand: Operand, listed: Sequence[Operand]) -> Node:
    """`x IN (…)`: constants and parameters are looked up as a set, anything else is compared."""
    met = check.meet(at, (operand, *listed))
    value = check.coerce(*operand, met)
    items = [check.coerce(item, checked, met) for item, checked in listed]
    fixed = tuple(item for item in items if isinstance(item, Constant | Parameter))
    tests: list[Node] = [Call("in", (value, *fixed), BOOLEAN)] if fixed else []
    tests += [Call("=", (value, item), BOOLEAN) for item in items if not isinstance(item, Constant | Parameter)]
    return tests[0] if len(tests) == 1 else Call("or", tuple(tests), BOOLEAN)


def _equals_any(check: Checker, node: exp.Expr) -> Node:
    """`x = ANY(array)`, Postgres's array_contains; of a list parameter it is `x IN (:names)`."""
    check.only(node.expression, "this")
    inside = node.expression.this.unnest()
    if isinstance(inside, exp.Placeholder):
        listed = check.parameter(inside)
        if not listed.is_list:
            raise check.error(inside, "filter_type", f":{listed.name} must be a list inside ANY")
        return _membership(check, node, (node.this, check.value(node.this)), [(inside, listed)])
    return contains(check, node, inside, node.this)


def _like(check: Checker, node: exp.Expr) -> Node:
    return _pattern_match(check, node, check.rules.like_escape)


def _escape(check: Checker, node: exp.Expr) -> Node:
    check.only(node, "this", "expression")
    escape = node.expression
    if not isinstance(node.this, exp.Like | exp.ILike):
        raise check.not_allowed(node)
    if not (isinstance(escape, exp.Literal) and escape.is_string and len(escape.this) <= 1):
        raise check.error(escape, "filter_value", "ESCAPE takes one character in quotes, such as '!'")
    return _pattern_match(check, node.this, escape.this)


def _pattern_match(check: Checker, node: exp.Expr, escape: str) -> Node:
    check.only(node, "this", "expression", "negate")
    value = check.of_kind(node.this, STRING, "LIKE")
    patterns = _patterns(check, node)
    tests = tuple(_matches(check, value, pattern, escape, isinstance(node, exp.ILike)) for pattern in patterns)
    test = tests[0] if len(tests) == 1 else Call("or", tests, BOOLEAN)
    return Call("not", (test,), BOOLEAN) if node.args.get("negate") else test


def _patterns(check: Checker, node: exp.Expr) -> list[exp.Expr]:
    """Return the pattern after LIKE, or those in `LIKE ANY ('a%', 'b%')`, Postgres's `LIKE ANY (ARRAY['a%', 'b%'])`."""
    if not isinstance(node.expression, exp.Any):
        return [node.expression]
    inside = node.expression.this.unnest()
    listed = inside.expressions if isinstance(inside, exp.Tuple | exp.Array) else [inside]
    if node.args.get("negate") or not listed:
        hint = "write NOT (x LIKE ANY (...)) for what is like none of them"
        raise check.error(node, "filter_not_allowed", "ANY takes patterns, and stands after LIKE without NOT", hint)
    return list(listed)


def _matches(check: Checker, value: Node, node: exp.Expr, escape: str, ignore_case: bool) -> Node:
    pattern = check.of_kind(node, STRING, "LIKE")
    strict = check.rules.strict_escape

    def checked(text: Any) -> object:
        if text is not None:
            split_pattern(text, escape, strict=strict)
        return text

    pattern = check.fixed(node, pattern, checked, "a LIKE pattern must be a string in quotes or a parameter")
    return Call("like", (value, pattern), BOOLEAN, (escape, strict, ignore_case))


def _length(check: Checker, node: exp.Expr) -> Node:
    check.only(node, "this")
    value = check.value(node.this)
    if value.type.kind is Kind.ARRAY:
        return size(value)
    if value.type.kind is not Kind.BINARY:
        value = check.as_kind(node.this, value, STRING, "length")
    return Call("length", (value,), INTEGER)


def _coalesce(check: Checker, node: exp.Expr) -> Node:
    check.only(node, "this", "expressions")
    values = _together(check, node, (node.this, *node.expressions))
    return Call("coalesce", tuple(values), values[0].type)


def _case(check: Checker, node: exp.Expr) -> Node:
    check.only(node, "this", "ifs", "default")
    branches = node.args["ifs"]
    subject = node.this
    if subject is None:
        tests = [check.condition(branch.this) for branch in branches]
    else:
        value, *options = _together(check, node, (subject, *(branch.this for branch in branches)))
        tests = [Call("=", (value, option), BOOLEAN) for option in options]
    default = node.args.get("default") or exp.Null()
    results = _together(check, node, (*(branch.args["true"] for branch in branches), default))
    args = [part for pair in zip(tests, results[:-1], strict=True) for part in pair]
    return Call("case", (*args, results[-1]), results[-1].type)


def _if(check: Checker, node: exp.Expr) -> Node:
    """`if(test, a, b)`, Snowflake's iff, is `CASE WHEN test THEN a ELSE b END`."""
    check.only(node, "this", "true", "false")
    test = check.condition(node.this)
    results = _together(check, node, (node.args["true"], node.args.get("false") or exp.Null()))
    return Call("case", (test, *results), results[0].type)


def _null_if(check: Checker, node: exp.Expr) -> Node:
    """`nullif(a, b)` is `CASE WHEN a = b THEN NULL ELSE a END`."""
    check.only(node, "this", "expression")
    value, other = (check.value(part) for part in (node.this, node.expression))
    met = check.meet(node, [(node.this, value), (node.expression, other)])
    same = check.coerce(node.this, value, met), check.coerce(node.expression, other, met)
    kept = same[0] if isinstance(value, Parameter) else value
    return Call("case", (Call("=", same, BOOLEAN), Constant(None, kept.type), kept), kept.type)


def _column(check: Checker, node: exp.Expr) -> Node:
    assert isinstance(node, exp.Column)
    return check.column(node)


def _literal(check: Checker, node: exp.Expr) -> Node:
    if node.args.get("is_string"):
        return Constant(node.this, STRING)
    kind, value = number(node.this)
    return Constant(value, kind)


def _boolean(check: Checker, node: exp.Expr) -> Node:
    return Constant(bool(node.this), BOOLEAN)


def _null(check: Checker, node: exp.Expr) -> Node:
    return Constant(None, NULL)


def _parameter(check: Checker, node: exp.Expr) -> Node:
    assert isinstance(node, exp.Placeholder)
    return check.parameter(node)


HANDLERS: dict[type[exp.Expr], Callable[[Checker, exp.Expr], Node]] = {
    **ARITHMETIC,
    **ARRAYS,
    **DATES,
    **FUNCTIONS,
    exp.Paren: _paren,
    exp.And: _chain("and"),
    exp.Or: _chain("or"),
    exp.Not: _not,
    exp.EQ: _comparison("="),
    exp.NEQ: _comparison("<>"),
    exp.LT: _comparison("<"),
    exp.LTE: _comparison("<="),
    exp.GT: _comparison(">"),
    exp.GTE: _comparison(">="),
    exp.NullSafeEQ: _distinct,
    exp.NullSafeNEQ: _distinct,
    exp.Is: _is,
    exp.Between: _between,
    exp.In: _in,
    exp.Like: _like,
    exp.ILike: _like,
    exp.Escape: _escape,
    exp.Length: _length,
    exp.Coalesce: _coalesce,
    exp.Case: _case,
    exp.If: _if,
    exp.Nullif: _null_if,
    exp.Column: _column,
    exp.Literal: _literal,
    exp.Boolean: _boolean,
    exp.Null: _null,
    exp.Placeholder: _parameter,
}
