"""Looking into arrays: how sqlglot's constructs are checked.

An array is a column, a list that a parameter brings, or one written in the text, `array('a', :b)`; the last two are
the call `array` of what they hold, and stand beside a column here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable

from sqlglot import exp

from retrieval.errors import FilterError
from retrieval.filter.check import Checker, Operand, a
from retrieval.filter.sqltypes import BOOLEAN, INTEGER, NULL, Kind, SqlType, array
from retrieval.filter.tree import Call, Constant, Node, Parameter

MAX_LIST_ITEMS = 1_000
"""Most items of a list in the text; a list given as a parameter may have `filter.MAX_BOUND_ITEMS`."""


def contains(check: Checker, at: exp.Expr, values: exp.Expr, wanted: exp.Expr) -> Node:
    """Check whether an array holds a value: `array_contains(values, wanted)`."""
    checked = check.value(values)
    element = checked.type.element
    if element is None:
        order = (
            "ARRAY_CONTAINS(value::VARIANT, array)"
            if check.rules.name == "snowflake"
            else "array_contains(array, value)"
        )
        message = f"{check.parsed.snippet(values)} is {a(checked.type)}, not an array"
        raise check.error(values, "filter_type", message, f"write {order}")
    if _is_list(check, wanted):
        hint = f"write {check.rules.overlap.format(check.parsed.snippet(values), f':{wanted.this}')}"
        message = f":{wanted.this} is a list; one value is wanted here"
        raise check.error(wanted, "filter_type", message, f"{hint} to find any of its items in the array")
    operand = check.value(wanted)
    met = check.meet(at, [(values, Call("element", (), element)), (wanted, operand)])
    options = ("null_elements",) if check.rules.null_elements else ()
    return Call("array_contains", (_widened(checked, met), check.coerce(wanted, operand, met)), BOOLEAN, options)


def _is_list(check: Checker, node: exp.Expr) -> bool:
    return isinstance(node, exp.Placeholder) and check.given.get(str(node.this), NULL).kind is Kind.ARRAY


def _array_contains(check: Checker, node: exp.Expr) -> Node:
    check.only(node, "this", "expression")
    wanted = node.expression
    if check.rules.name == "snowflake" and isinstance(wanted, exp.Cast) and wanted.to.this is exp.DType.VARIANT:
        wanted = wanted.this
    return contains(check, node, node.this, wanted)


def _overlap(check: Checker, node: exp.Expr) -> Node:
    """`arrays_overlap(a, b)`: whether two arrays have an element in common."""
    check.only(node, "this", "expression", "null_safe")
    parts = (node.this, node.expression)
    sides = tuple(_array(check, part, other) for part, other in (parts, parts[::-1]))
    if any(side.type == NULL for side in sides):
        return Constant(None, BOOLEAN)
    met = _met(check, node, parts, sides)
    left, right = (_brought(check, part, side, met) for part, side in zip(parts, sides, strict=True))
    if _listed(left) is not None:
        left, right = right, left
    listed, options = _listed(right), (check.rules.null_overlap,)
    if listed is not None:
        return Call("overlap", (left, *listed), BOOLEAN, options)
    return Call("common", (left, right), BOOLEAN, options)


def _listed(side: Node) -> tuple[Node, ...] | None:
    """Return what an array holds that is no column."""
    return side.args if isinstance(side, Call) and side.op == "array" else None


def _array(check: Checker, node: exp.Expr, other: exp.Expr | None = None) -> Node:
    """Check what must be an array, or NULL; ``other`` is what it is compared with."""
    inside = node.unnest()
    if isinstance(inside, exp.Array):
        return _written(check, inside)
    if _is_list(check, inside):
        assert isinstance(inside, exp.Placeholder)
        listed = check.parameter(inside)
        return Call("array", (listed,), array(listed.type))
    checked = check.value(node)
    if checked.type.kind in (Kind.ARRAY, Kind.NULL):
        return checked
    message = f"{check.parsed.snippet(node)} is {a(checked.type)}, not an array"
    raise check.error(node, "filter_type", message, _instead(check, node, checked, other))


def _instead(check: Checker, node: exp.Expr, checked: Node, other: exp.Expr | None) -> str:
    if isinstance(checked, Parameter):
        return f"give :{checked.name} as a list"
    if other is not None and isinstance(other.unnest(), exp.Placeholder):
        return f"write {check.parsed.snippet(node)} IN ({check.parsed.snippet(other.unnest())})"
    return ""


def _written(check: Checker, node: exp.Array) -> Node:
    check.only(node, "expressions", "value_constructor", "bracket_notation")
    items = node.expressions
    if len(items) > MAX_LIST_ITEMS:
        message = f"the array has {len(items)} items; at most {MAX_LIST_ITEMS} are allowed in the text"
        raise check.error(node, "filter_limit", message, "pass them as a parameter")
    operands: list[Operand] = [(item, check.value(item)) for item in items]
    for item, checked in operands:
        if not isinstance(checked, Constant | Parameter):
            raise check.error(item, "filter_not_allowed", "an array in the text holds values and parameters")
    element = check.meet(node, operands) if any(checked.type != NULL for _, checked in operands) else NULL
    return Call("array", tuple(check.coerce(item, checked, element) for item, checked in operands), array(element))


def _met(check: Checker, at: exp.Expr, parts: tuple[exp.Expr, exp.Expr], sides: tuple[Node, ...]) -> SqlType:
    operands: list[Operand] = []
    for part, side in zip(parts, sides, strict=True):
        listed = _listed(side)
        inside = (Call("element", (), side.type.element or NULL),) if listed is None else listed
        operands += [(part, item) for item in inside]
    try:
        return check.meet(at, operands)
    except FilterError:
        left, right = (
            f"{check.parsed.snippet(part)} is {a(side.type)}" for part, side in zip(parts, sides, strict=True)
        )
        message = f"{left} and {right}: they can't have an element in common"
        raise check.error(at, "filter_type", message, "compare arrays whose elements have one type") from None


def _brought(check: Checker, at: exp.Expr, side: Node, element: SqlType) -> Node:
    listed = _listed(side)
    if listed is None:
        return _widened(side, element)
    return Call("array", tuple(check.coerce(at, item, element) for item in listed), array(element))


def _widened(values: Node, element: SqlType) -> Node:
    """Bring an array's elements to one type; whole numbers, which have their own width, to 64 bits."""
    if values.type.element == element and element.kind is not Kind.INTEGER:
        return values
    return Call("widen", (values,), array(element))


def size(values: Node) -> Node:
    """Return how many elements a checked array has."""
    if values.type == NULL:
        return Constant(None, INTEGER)
    return Call("size", (values,), INTEGER)


def _size(check: Checker, node: exp.Expr) -> Node:
    """`size(a)`, `cardinality(a)` or `array_length(a, 1)`, which in Postgres is NULL of an empty array."""
    check.only(node, "this", "expression")
    dimension = node.args.get("expression")
    if dimension is not None and not (isinstance(dimension, exp.Literal) and dimension.this == "1"):
        raise check.error(dimension, "filter_value", "arrays have one dimension: 1")
    found = size(_array(check, node.this))
    if dimension is None or check.rules.name != "postgres":
        return found
    is_empty = Call("=", (found, Constant(0, INTEGER)), BOOLEAN)
    return Call("case", (is_empty, Constant(None, INTEGER), found), INTEGER)


HANDLERS: dict[type[exp.Expr], Callable[[Checker, exp.Expr], Node]] = {
    exp.ArrayContains: _array_contains,
    exp.ArrayOverlaps: _overlap,
    exp.ArraySize: _size,
}
