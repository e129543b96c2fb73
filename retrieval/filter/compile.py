"""From the checked tree to one polars expression with SQL's meaning.

Expressions give values in `working_dtype` of their type, but for whole-number columns, which keep their own width until
something needs more. Whole-number arithmetic is reckoned in 128 bits; what doesn't fit 64 is NULL, and so is a decimal
that doesn't fit 38 digits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from operator import and_, eq, ge, gt, le, lt, ne, or_

import polars as pl

from retrieval.filter import decimals
from retrieval.filter.casts import cast
from retrieval.filter.like import matches, split_pattern
from retrieval.filter.lists import contains, have_common, overlaps
from retrieval.filter.sqltypes import (
    BOOLEAN,
    DATE,
    INTEGER,
    MAX_DECIMAL_DIGITS,
    NULL,
    STRING,
    Kind,
    SqlType,
    working_dtype,
)
from retrieval.filter.tree import Call, Column, Constant, Node, Now, Parameter

_MONTHS = {"MONTH": 1, "QUARTER": 3, "YEAR": 12}
_DAYS = {"DAY": 1, "WEEK": 7}
_MICROSECONDS = {
    "MICROSECOND": 1,
    "MILLISECOND": 1_000,
    "SECOND": 1_000_000,
    "MINUTE": 60_000_000,
    "HOUR": 3_600_000_000,
}
_BOUNDS: dict[pl.DataType, tuple[int, int]] = {
    pl.Int8(): (-(2**7), 2**7 - 1),
    pl.Int16(): (-(2**15), 2**15 - 1),
    pl.Int32(): (-(2**31), 2**31 - 1),
    pl.Int64(): (-(2**63), 2**63 - 1),
    pl.UInt8(): (0, 2**8 - 1),
    pl.UInt16(): (0, 2**16 - 1),
    pl.UInt32(): (0, 2**32 - 1),
}


_INFERRED = (pl.String(), pl.Int64(), pl.Float64())
"""Types that polars gives to a Python list of such values by itself."""

_EXACT = 2.0**53
"""From here on a double has nothing after the point."""

_ZERO = pl.lit(0, dtype=pl.Int128)  # polars has no unary minus for 128 bits


@dataclass(frozen=True, slots=True)
class Bindings:
    """What a request brings: canonical values by slot, and its time (aware)."""

    values: tuple[object, ...]
    now: datetime


def build(node: Node, bound: Bindings) -> pl.Expr:
    """Return the polars expression of a checked tree under these bindings."""
    if isinstance(node, Column):
        return _read(pl.col(node.name), node.dtype)
    if isinstance(node, Now):
        moment = bound.now.astimezone(UTC).replace(tzinfo=None)
        return _literal(moment.date() if node.type == DATE else moment, node.type)
    if isinstance(node, Constant | Parameter):
        return _literal(_value(node, bound), node.type)
    return _OPERATIONS[node.op](node, bound)


def _value(node: Constant | Parameter, bound: Bindings) -> object:
    return bound.values[node.slot] if isinstance(node, Parameter) else node.value


def _literal(value: object, kind: SqlType) -> pl.Expr:
    if isinstance(value, str | float | bool):
        return pl.lit(value)  # of the right type at once, and ten times as fast as with `dtype`
    return pl.lit(value, dtype=working_dtype(kind))


def _read(column: pl.Expr, dtype: pl.DataType) -> pl.Expr:
    """Bring a column as stored to the form in which its type is reckoned; whole numbers keep their width."""
    if isinstance(dtype, pl.Array):
        return _read(column.arr.to_list(), pl.List(dtype.inner))
    if isinstance(dtype, pl.List):
        inner = dtype.inner() if isinstance(dtype.inner, type) else dtype.inner
        if isinstance(inner, pl.Datetime) and inner != pl.Datetime("us"):
            return column.list.eval(_read(pl.element(), inner))
        return column.cast(pl.List(_plain(inner))) if _plain(inner) != inner else column
    if isinstance(dtype, pl.Datetime):
        if dtype.time_zone:
            column = column.dt.convert_time_zone("UTC").dt.replace_time_zone(None)
        return column if dtype.time_unit == "us" else column.dt.cast_time_unit("us")
    return column.cast(_plain(dtype)) if _plain(dtype) != dtype else column


def _plain(dtype: pl.DataType) -> pl.DataType:
    if isinstance(dtype, pl.Float32):
        return pl.Float64()
    if isinstance(dtype, pl.UInt64):
        return pl.Decimal(38, 0)
    if isinstance(dtype, pl.Categorical | pl.Enum):
        return pl.String()
    return pl.Decimal(38, dtype.scale) if isinstance(dtype, pl.Decimal) else dtype


def _arguments(node: Call, bound: Bindings) -> list[pl.Expr]:
    return [build(argument, bound) for argument in node.args]


def _balanced(parts: Sequence[pl.Expr], operator: Callable[[pl.Expr, pl.Expr], pl.Expr]) -> pl.Expr:
    """Join as a balanced tree: polars recurses into expressions."""
    if len(parts) == 1:
        return parts[0]
    middle = len(parts) // 2
    return operator(_balanced(parts[:middle], operator), _balanced(parts[middle:], operator))


def _and(node: Call, bound: Bindings) -> pl.Expr:
    return _balanced(_arguments(node, bound), and_)


def _or(node: Call, bound: Bindings) -> pl.Expr:
    return _balanced(_arguments(node, bound), or_)


def _compare(operator: Callable[[pl.Expr, pl.Expr], pl.Expr]) -> Callable[[Call, Bindings], pl.Expr]:
    """Polars, like all four dialects, says that NaN equals NaN and is above every other number, and that -0.0 = 0.0."""

    def compare(node: Call, bound: Bindings) -> pl.Expr:
        left, right = node.args
        return operator(_side(left, right, bound), _side(right, left, bound))

    return compare


def _side(node: Node, other: Node, bound: Bindings) -> pl.Expr:
    """Build one side of a comparison.

    A whole number takes the width of the column it meets: else polars would widen the column, row by row.
    """
    if isinstance(node, Constant | Parameter) and node.type == INTEGER and isinstance(other, Column):
        value = _value(node, bound)
        if isinstance(value, int) and _fits(value, other.dtype):
            return pl.lit(value)  # takes the type of the column beside it
    return build(node, bound)


def _fits(value: int, dtype: pl.DataType) -> bool:
    low, high = _BOUNDS[dtype]
    return low <= value <= high


def _in(node: Call, bound: Bindings) -> pl.Expr:
    """`x IN (…)`: true when found, else unknown when x or a listed value is NULL, else false.

    A parameter's empty list is false for every x, NULL too.
    """
    operand, *listed = node.args
    values = _listed(listed, bound)
    if not values:
        return pl.lit(False)
    known = [value for value in values if value is not None]
    found = _found(operand, known, bound)
    return found | pl.lit(None, dtype=pl.Boolean) if len(known) < len(values) else found


def _listed(items: Sequence[Node], bound: Bindings) -> list[object]:
    """Return the values of constants and parameters, and those that lists hold."""
    values: list[object] = []
    for item in items:
        assert isinstance(item, Constant | Parameter)
        value = _value(item, bound)
        values.extend(value if isinstance(value, list | tuple) else (value,))
    return values


def _found(operand: Node, known: list[object], bound: Bindings) -> pl.Expr:
    value = build(operand, bound)
    dtype = working_dtype(operand.type)
    if isinstance(operand, Column) and operand.type == INTEGER:
        known = [number for number in known if isinstance(number, int) and _fits(number, operand.dtype)]
        dtype = operand.dtype
    elif operand.type == INTEGER:
        value = value.cast(dtype)
    if len(known) == 1:
        return value == pl.lit(known[0], dtype=dtype)
    if dtype in _INFERRED and known:
        return value.is_in(known)  # three times as fast to make as from a series
    return value.is_in(pl.Series(known, dtype=dtype).implode())


def _like(node: Call, bound: Bindings) -> pl.Expr:
    value, pattern = node.args
    assert isinstance(pattern, Constant | Parameter)
    text = _value(pattern, bound)
    if text is None:
        return _literal(None, BOOLEAN)
    escape, strict, ignore_case = node.options
    pieces = split_pattern(str(text), str(escape), strict=bool(strict))
    return matches(build(value, bound), pieces, ignore_case=bool(ignore_case))


def _whole(parts: Sequence[pl.Expr]) -> list[pl.Expr]:
    return [part.cast(pl.Int128) for part in parts]


def _back(value: pl.Expr) -> pl.Expr:
    return value.cast(pl.Int64, strict=False)


def _arithmetic(operator: Callable[[pl.Expr, pl.Expr], pl.Expr]) -> Callable[[Call, Bindings], pl.Expr]:
    def reckon(node: Call, bound: Bindings) -> pl.Expr:
        parts = _arguments(node, bound)
        if node.type == INTEGER:
            return _back(operator(*_whole(parts)))
        if node.type.whole + node.type.scale == MAX_DECIMAL_DIGITS:
            left, right = parts
            return decimals.in_38_digits(operator, left, right, node.type)
        return operator(*(part.cast(working_dtype(node.type)) for part in parts))

    return reckon


def _divide(node: Call, bound: Bindings) -> pl.Expr:
    above, below = (part.cast(pl.Float64) for part in _arguments(node, bound))
    return pl.when(below != 0.0).then(above / below)


def _divide_whole(node: Call, bound: Bindings) -> pl.Expr:
    above, below = _whole(_arguments(node, bound))
    size = above.abs() // below.abs()
    return _back(pl.when((above < 0) != (below < 0)).then(_ZERO - size).otherwise(size))


def _remainder(node: Call, bound: Bindings) -> pl.Expr:
    """The remainder has the sign of what is divided, in all four dialects."""
    above, below = _whole(_arguments(node, bound))
    size = above.abs() % below.abs()
    return _back(pl.when(above < 0).then(_ZERO - size).otherwise(size))


def _negate(node: Call, bound: Bindings) -> pl.Expr:
    (value,) = _arguments(node, bound)
    if node.type == INTEGER:
        return _back(_ZERO - value.cast(pl.Int128))
    if node.type.kind is Kind.DECIMAL:
        return _literal(0, node.type) - value
    return -value


def _shift(node: Call, bound: Bindings) -> pl.Expr:
    """Move a date or timestamp: months first (held at the month's last day), then days, then the time of day."""
    base, *amounts = node.args
    months = days = microseconds = 0
    for (sign, unit), amount in zip(node.options, amounts, strict=True):
        assert isinstance(amount, Constant | Parameter)
        value = _value(amount, bound)
        if value is None:
            return _literal(None, node.type)
        count = sign * value
        months += count * _MONTHS.get(unit, 0)
        days += count * _DAYS.get(unit, 0)
        microseconds += count * _MICROSECONDS.get(unit, 0)
    moment = build(base, bound).cast(working_dtype(node.type))
    for count, unit in ((months, "mo"), (days, "d"), (microseconds, "us")):
        moment = moment.dt.offset_by(f"{count}{unit}") if count else moment
    return moment


def _days(node: Call, bound: Bindings) -> pl.Expr:
    """Days of 24 hours are cut towards zero."""
    (way,) = node.options
    dtype = pl.Date() if way == "calendar" else pl.Datetime("us")
    end, start = (part.cast(dtype) for part in _arguments(node, bound))
    return (end - start).dt.total_days()


def _array_contains(node: Call, bound: Bindings) -> pl.Expr:
    values, wanted = _arguments(node, bound)
    wanted = wanted.cast(working_dtype(node.args[1].type))
    return contains(values, wanted, null_elements=node.options == ("null_elements",))


def _array(node: Call, bound: Bindings) -> pl.Expr:
    values = _listed(node.args, bound)
    return pl.lit(pl.Series([values], dtype=working_dtype(node.type)))


def _overlap(node: Call, bound: Bindings) -> pl.Expr:
    """One array and listed values; a parameter that is NULL, and no list, is one of them."""
    values, *listed = node.args
    (nulls,) = node.options
    items = _listed(listed, bound)
    known = [item for item in items if item is not None]
    element = values.type.element or NULL
    series = pl.Series(known, dtype=working_dtype(element))
    return overlaps(build(values, bound), series, with_null=len(known) < len(items), nulls=nulls)


def _common(node: Call, bound: Bindings) -> pl.Expr:
    left, right = _arguments(node, bound)
    (nulls,) = node.options
    if node.args[0].type.element == BOOLEAN:  # polars makes no sets of them
        left, right = (side.cast(pl.List(pl.Int8)) for side in (left, right))
    return have_common(left, right, nulls=nulls)


def _size(node: Call, bound: Bindings) -> pl.Expr:
    (values,) = _arguments(node, bound)
    return values.list.len().cast(pl.Int64)


def _case(node: Call, bound: Bindings) -> pl.Expr:
    parts = _arguments(node, bound)
    result = parts[-1].cast(working_dtype(node.type))
    for at in range(len(parts) - 3, -1, -2):
        result = pl.when(parts[at]).then(parts[at + 1].cast(working_dtype(node.type))).otherwise(result)
    return result


def _coalesce(node: Call, bound: Bindings) -> pl.Expr:
    return pl.coalesce(part.cast(working_dtype(node.type)) for part in _arguments(node, bound))


def _length(node: Call, bound: Bindings) -> pl.Expr:
    (value,) = _arguments(node, bound)
    size = value.bin.size() if node.args[0].type.kind is Kind.BINARY else value.str.len_chars()
    return size.cast(pl.Int64)


def _join(node: Call, bound: Bindings) -> pl.Expr:
    (skips_null,) = node.options
    return pl.concat_str(_arguments(node, bound), ignore_nulls=bool(skips_null))


def _substring(node: Call, bound: Bindings) -> pl.Expr:
    text, *counts = node.args
    given = [_fixed(count, bound) for count in counts]
    if any(count is None for count in given):
        return _literal(None, STRING)
    first, *length = given
    return build(text, bound).str.slice(int(first or 1) - 1, *length)


def _end(node: Call, bound: Bindings) -> pl.Expr:
    text, count = node.args
    taken = _fixed(count, bound)
    if taken is None:
        return _literal(None, STRING)
    ends = build(text, bound).str
    return ends.head(taken) if node.op == "left" else ends.tail(taken)


def _fixed(node: Node, bound: Bindings) -> int | None:
    """Return the number of a constant or parameter."""
    assert isinstance(node, Constant | Parameter)
    value = _value(node, bound)
    assert value is None or isinstance(value, int)
    return value


def _trim(node: Call, bound: Bindings) -> pl.Expr:
    """Take spaces away and no other white space."""
    (value,) = _arguments(node, bound)
    side, spaces = node.options
    strip = {"both": "strip_chars", "start": "strip_chars_start", "end": "strip_chars_end"}[str(side)]
    stripped: pl.Expr = getattr(value.str, strip)(spaces)
    return stripped


def _contains(node: Call, bound: Bindings) -> pl.Expr:
    text, part = _arguments(node, bound)
    return text.str.starts_with(part) if node.op == "starts_with" else text.str.contains(part, literal=True)


def _absolute(node: Call, bound: Bindings) -> pl.Expr:
    (value,) = _arguments(node, bound)
    return _back(value.cast(pl.Int128).abs()) if node.type == INTEGER else value.abs()


def _round(node: Call, bound: Bindings) -> pl.Expr:
    (value,) = _arguments(node, bound)
    places, mode = node.options
    kind = node.args[0].type
    if kind.kind is not Kind.DECIMAL:
        exact = (
            value.abs() * 10.0**places >= _EXACT
        )  # there is nothing after so many places, and reckoning would add some
        return pl.when(exact).then(value).otherwise(value.round(places, mode=mode))
    if kind.scale <= places:
        return value
    return decimals.rounded(value, kind, places, node.type)


def _whole_number(node: Call, bound: Bindings) -> pl.Expr:
    (value,) = _arguments(node, bound)
    kind = node.args[0].type
    if kind.kind is not Kind.DECIMAL:
        return value.floor() if node.op == "floor" else value.ceil()
    return (decimals.floor if node.op == "floor" else decimals.ceil)(value, kind, node.type)


def _widen(node: Call, bound: Bindings) -> pl.Expr:
    (value,) = _arguments(node, bound)
    return value.cast(working_dtype(node.type), strict=False)


def _cast(node: Call, bound: Bindings) -> pl.Expr:
    (value,) = _arguments(node, bound)
    rounding, bits = node.options
    return cast(value, node.args[0].type, node.type, rounding=str(rounding), bits=bits)


def _truncate(node: Call, bound: Bindings) -> pl.Expr:
    (value,) = _arguments(node, bound)
    (every,) = node.options
    return value.cast(working_dtype(node.type)).dt.truncate(str(every))


def _part(node: Call, bound: Bindings) -> pl.Expr:
    (value,) = _arguments(node, bound)
    (part,) = node.options
    taken: pl.Expr = getattr(value.cast(working_dtype(node.args[0].type)).dt, str(part))()
    return taken.cast(pl.Int64)


def _unary(apply: Callable[[pl.Expr], pl.Expr]) -> Callable[[Call, Bindings], pl.Expr]:
    return lambda node, bound: apply(build(node.args[0], bound))


_OPERATIONS: dict[str, Callable[[Call, Bindings], pl.Expr]] = {
    "and": _and,
    "or": _or,
    "not": _unary(lambda value: ~value),
    "=": _compare(eq),
    "<>": _compare(ne),
    "<": _compare(lt),
    "<=": _compare(le),
    ">": _compare(gt),
    ">=": _compare(ge),
    "same": _compare(pl.Expr.eq_missing),
    "is_null": _unary(pl.Expr.is_null),
    "is_true": _unary(lambda value: value.fill_null(False)),
    "is_false": _unary(lambda value: (~value).fill_null(False)),
    "in": _in,
    "like": _like,
    "+": _arithmetic(pl.Expr.add),
    "-": _arithmetic(pl.Expr.sub),
    "*": _arithmetic(pl.Expr.mul),
    "/": _divide,
    "div": _divide_whole,
    "%": _remainder,
    "negate": _negate,
    "shift": _shift,
    "days": _days,
    "truncate": _truncate,
    "part": _part,
    "array_contains": _array_contains,
    "array": _array,
    "overlap": _overlap,
    "common": _common,
    "size": _size,
    "case": _case,
    "coalesce": _coalesce,
    "lower": _unary(lambda value: value.str.to_lowercase()),
    "upper": _unary(lambda value: value.str.to_uppercase()),
    "length": _length,
    "join": _join,
    "substr": _substring,
    "left": _end,
    "right": _end,
    "trim": _trim,
    "starts_with": _contains,
    "contains": _contains,
    "abs": _absolute,
    "floor": _whole_number,
    "ceil": _whole_number,
    "round": _round,
    "widen": _widen,
    "cast": _cast,
}
