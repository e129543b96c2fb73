"""A second, plain reading of SQL's filters: random expressions, their text per dialect, and their value row by row.

Nothing here shares code with what it checks. A value is a Python value or None for NULL; a truth value is True, False
or None for unknown.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from functools import lru_cache
from typing import Any

import polars as pl
from hypothesis import strategies as st

Row = dict[str, object]
DIALECTS = ("databricks", "snowflake", "duckdb", "postgres")

SCHEMA: dict[str, pl.DataType] = {
    "i": pl.Int32(),
    "j": pl.Int64(),
    "f": pl.Float64(),
    "g": pl.Float32(),
    "p": pl.Decimal(10, 2),
    "s": pl.String(),
    "u": pl.String(),
    "b": pl.Boolean(),
    "d": pl.Date(),
    "t": pl.Datetime("us", "UTC"),
    "tags": pl.List(pl.String()),
    "more": pl.List(pl.String()),
    "nums": pl.List(pl.Int16()),
}

WHOLE = [0, 1, -1, 2, 3, -7, 100, 2**31 - 1, -(2**31)]
LONG = [*WHOLE, 2**53 + 1, 2**63 - 1, -(2**63)]
DOUBLES = [0.0, -0.0, 1.0, -1.5, 2.0, 0.1, 1e300, float("nan"), float("inf"), float("-inf"), 9007199254740993.0]
SINGLES = [0.0, 1.0, -1.5, 0.5, float("nan"), float("inf")]
DECIMALS = [Decimal(text) for text in ("0.00", "1.25", "-1.25", "2.00", "100.00", "99999999.99")]
TEXTS = [
    "",
    "a",
    "A",
    "ab",
    "aB%",
    "a_b",
    "ä",
    "Ä",
    "😀",
    "it's",
    "100%",
    "a\\b",
    "x\ny",
    ".*",
    "[a]",
    "(",
    " a",
    "b^$",
    "é",
]
DATES = [date(1969, 12, 31), date(2024, 1, 31), date(2024, 2, 29), date(2023, 12, 31), date(2026, 3, 1)]
TIMES = [
    datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
    datetime(2024, 2, 29, tzinfo=UTC),
    datetime(2024, 1, 31, 12, 30, tzinfo=UTC),
    datetime(2026, 3, 1, 0, 0, 0, 1, tzinfo=UTC),
]


@dataclass(frozen=True)
class Expression:
    """A random expression: its text in a dialect, and its value in a row of a table in that dialect."""

    text: Callable[[str], str]
    value: Callable[[Row, str], object]

    def __repr__(self) -> str:
        return self.text("duckdb")


def _maybe(values: list[object]) -> st.SearchStrategy[object]:
    return st.sampled_from([None, *values])


ROWS: st.SearchStrategy[list[Row]] = st.lists(
    st.fixed_dictionaries(
        {
            "i": _maybe([*WHOLE]),
            "j": _maybe([*LONG]),
            "f": _maybe([*DOUBLES]),
            "g": _maybe([*SINGLES]),
            "p": _maybe([*DECIMALS]),
            "s": _maybe([*TEXTS]),
            "u": _maybe([*TEXTS]),
            "b": _maybe([True, False]),
            "d": _maybe([*DATES]),
            "t": _maybe([*TIMES]),
            "tags": st.one_of(st.none(), st.lists(_maybe(["a", "A", "", "ä"]), max_size=3)),
            "more": st.one_of(st.none(), st.lists(_maybe(["a", "A", "b"]), max_size=3)),
            "nums": st.one_of(st.none(), st.lists(_maybe([0, 1, -7]), max_size=3)),
        }
    ),
    min_size=4,
    max_size=10,
)


def frame_of(rows: list[Row]) -> pl.DataFrame:
    return pl.DataFrame({name: [row[name] for row in rows] for name in SCHEMA}, schema=SCHEMA)


def passing(expression: Expression, rows: list[Row], dialect: str) -> list[bool]:
    return [expression.value(row, dialect) is True for row in rows]


def shallow(make: Callable[[int], st.SearchStrategy[Expression]]) -> Callable[[int], st.SearchStrategy[Expression]]:
    """Make each strategy once, with a short repr: hypothesis writes out nested ones in full."""

    @lru_cache
    def once(depth: int) -> st.SearchStrategy[Expression]:
        return st.deferred(lambda: make(depth))

    return once


# Leaves


def column(name: str) -> Expression:
    return Expression(lambda dialect: name, lambda row, dialect: row[name])


def quoted(text: str, dialect: str) -> str:
    if dialect == "databricks":
        return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
    if dialect == "snowflake":
        text = text.replace("\\", "\\\\")
    return "'" + text.replace("'", "''") + "'"


def literal(value: object) -> Expression:
    def text(dialect: str) -> str:
        if isinstance(value, str):
            return quoted(value, dialect)
        if isinstance(value, datetime):
            return f"TIMESTAMP '{value.replace(tzinfo=None).isoformat(sep=' ')}'"
        if isinstance(value, date):
            return f"DATE '{value.isoformat()}'"
        if isinstance(value, float):
            return (
                f"CAST('{value}' AS DOUBLE)" if not math.isfinite(value) else f"{value!r}e0".replace("e+300e0", "e300")
            )
        return "NULL" if value is None else str(value).upper()

    return Expression(text, lambda row, dialect: value)


def leaf(names: str, values: list[object]) -> st.SearchStrategy[Expression]:
    return st.one_of(st.sampled_from([column(name) for name in names.split()]), _maybe(values).map(literal))


# Operations


def operation(
    template: str | Callable[[str], str], reckon: Callable[..., object], *parts: Expression, strict: bool = True
) -> Expression:
    """Make an operation; `strict` ones are NULL when a part is. `{0}` in the template is the first part."""

    def text(dialect: str) -> str:
        form = template if isinstance(template, str) else template(dialect)
        return form.format(*(part.text(dialect) for part in parts))

    def value(row: Row, dialect: str) -> object:
        values = [part.value(row, dialect) for part in parts]
        if strict and any(one is None for one in values):
            return None
        return reckon(dialect, *values)

    return Expression(text, value)


def fit(value: int) -> int | None:
    return value if -(2**63) <= value < 2**63 else None


def cut_division(above: int, below: int) -> int | None:
    if below == 0:
        return None
    size = abs(above) // abs(below)
    return fit(-size if (above < 0) != (below < 0) else size)


def remainder(above: int, below: int) -> int | None:
    if below == 0:
        return None
    size = abs(above) % abs(below)
    return -size if above < 0 else size


def ratio(dialect: str, above: object, below: object) -> object:
    if isinstance(above, int) and isinstance(below, int) and dialect == "postgres":
        return cut_division(above, below)
    top, bottom = float(above), float(below)  # type: ignore[arg-type]
    return None if bottom == 0 else top / bottom


@shallow
def whole(depth: int) -> st.SearchStrategy[Expression]:
    simple = leaf("i j", [*WHOLE])
    if not depth:
        return simple
    pair = st.tuples(whole(depth - 1), whole(depth - 1))
    return st.one_of(
        simple,
        pair.map(lambda two: operation("({0} + {1})", lambda _, x, y: fit(x + y), *two)),
        pair.map(lambda two: operation("({0} - {1})", lambda _, x, y: fit(x - y), *two)),
        pair.map(lambda two: operation("({0} * {1})", lambda _, x, y: fit(x * y), *two)),
        pair.map(lambda two: operation("({0} % {1})", lambda _, x, y: remainder(x, y), *two)),
        whole(depth - 1).map(lambda one: operation("(- {0})", lambda _, x: fit(-x), one)),
        text_value(depth - 1).map(lambda one: operation("length({0})", lambda _, x: len(x), one)),
        arrays().map(lambda two: operation(size_form, lambda _, x: len(x), two[0])),
        whole(depth - 1).map(lambda one: operation("abs({0})", lambda _, x: fit(abs(x)), one)),
        pair.map(lambda two: operation("nullif({0}, {1})", null_if, *two, strict=False)),
        chosen(condition(depth - 1), whole(depth - 1)),
        first_of(whole(depth - 1)),
    )


@shallow
def double(depth: int) -> st.SearchStrategy[Expression]:
    simple = leaf("f g", [*DOUBLES])
    if not depth:
        return simple
    pair = st.tuples(double(depth - 1), st.one_of(double(depth - 1), whole(depth - 1)))
    return st.one_of(
        simple,
        pair.map(lambda two: operation("({0} + {1})", lambda _, x, y: x + float(y), *two)),
        pair.map(lambda two: operation("({0} * {1})", lambda _, x, y: x * float(y), *two)),
        pair.map(lambda two: operation("({0} / {1})", ratio, *two)),
        double(depth - 1).map(lambda one: operation("abs({0})", lambda _, x: abs(x), one)),
        double(depth - 1).map(lambda one: operation("floor({0})", lambda _, x: to_whole(math.floor, x), one)),
        double(depth - 1).map(lambda one: operation("ceil({0})", lambda _, x: to_whole(math.ceil, x), one)),
        double(depth - 1).map(lambda one: operation("round({0})", round_double, one)),
        first_of(double(depth - 1)),
    )


@shallow
def exact(depth: int) -> st.SearchStrategy[Expression]:
    simple = leaf("p", [Decimal("1.25"), Decimal("-0.5"), Decimal("3.125")])
    if not depth:
        return simple
    pair = st.tuples(exact(depth - 1), exact(depth - 1))
    return st.one_of(
        simple,
        pair.map(lambda two: operation("({0} + {1})", lambda _, x, y: x + y, *two)),
        pair.map(lambda two: operation("({0} - {1})", lambda _, x, y: x - y, *two)),
        pair.map(lambda two: operation("({0} * {1})", lambda _, x, y: x * y, *two)),
        exact(depth - 1).map(lambda one: operation("abs({0})", lambda _, x: abs(x), one)),
        exact(depth - 1).map(lambda one: operation("floor({0})", lambda _, x: Decimal(math.floor(x)), one)),
        exact(depth - 1).map(lambda one: operation("ceil({0})", lambda _, x: Decimal(math.ceil(x)), one)),
        st.tuples(exact(depth - 1), st.integers(0, 3)).map(rounded),
    )


def rounded(both: tuple[Expression, int]) -> Expression:
    value, places = both
    unit = Decimal(1).scaleb(-places)
    return operation(f"round({{0}}, {places})", lambda _, x: x.quantize(unit, ROUND_HALF_UP), value)


def to_whole(way: Callable[[float], int], value: float) -> float:
    return float(way(value)) if math.isfinite(value) else value


def round_double(dialect: str, value: float) -> float:
    """Halves go to the even neighbour in Postgres, and away from zero elsewhere."""
    if not math.isfinite(value) or abs(value) >= 2**52:
        return value
    if dialect == "postgres":
        return float(round(value))
    return math.copysign(math.floor(abs(value) + 0.5), value)


def null_if(_: str, value: object, other: object) -> object:
    return None if value is None or (other is not None and compare("=")(_, value, other)) else value


@shallow
def text_value(depth: int) -> st.SearchStrategy[Expression]:
    simple = leaf("s u", [*TEXTS])
    if not depth:
        return simple
    return st.one_of(
        simple,
        text_value(depth - 1).map(lambda one: operation("lower({0})", lambda _, x: x.lower(), one)),
        text_value(depth - 1).map(lambda one: operation("UPPER({0})", lambda _, x: x.upper(), one)),
        text_value(depth - 1).map(lambda one: operation("trim({0})", lambda _, x: x.strip(" "), one)),
        text_value(depth - 1).map(lambda one: operation("ltrim({0})", lambda _, x: x.lstrip(" "), one)),
        st.tuples(text_value(depth - 1), st.integers(1, 4), st.integers(0, 3)).map(stretch),
        st.tuples(text_value(depth - 1), text_value(depth - 1)).map(
            lambda two: operation("({0} || {1})", lambda _, x, y: x + y, *two)
        ),
        st.tuples(text_value(depth - 1), text_value(depth - 1)).map(
            lambda two: operation("concat({0}, {1})", concat, *two, strict=False)
        ),
        chosen(condition(depth - 1), text_value(depth - 1)),
        first_of(text_value(depth - 1)),
    )


def stretch(parts: tuple[Expression, int, int]) -> Expression:
    value, first, count = parts
    if count == 3:
        return operation(f"right({{0}}, {first})", lambda _, x: x[-first:], value)
    if first == 1:
        return operation(f"left({{0}}, {count})", lambda _, x: x[:count], value)
    return operation(f"substr({{0}}, {first}, {count})", lambda _, x: x[first - 1 : first - 1 + count], value)


def concat(dialect: str, left: str | None, right: str | None) -> str | None:
    if dialect in ("duckdb", "postgres"):
        return (left or "") + (right or "")
    return None if left is None or right is None else left + right


@shallow
def moment(depth: int) -> st.SearchStrategy[Expression]:
    simple = st.one_of(leaf("d", [*DATES]), leaf("t", [*TIMES]))
    if not depth:
        return simple
    amount = st.tuples(st.sampled_from([-1, 1]), st.integers(0, 40), st.sampled_from(["DAY", "MONTH", "YEAR", "HOUR"]))
    return st.one_of(simple, st.tuples(simple, amount).map(lambda both: moved(both[0], *both[1])))


def moved(base: Expression, sign: int, count: int, unit: str) -> Expression:
    def move(_: str, value: date) -> object:
        if unit == "HOUR":
            return instant(value) + timedelta(hours=sign * count)
        if unit == "DAY":
            return value + timedelta(days=sign * count)
        months = value.year * 12 + value.month - 1 + sign * count * (12 if unit == "YEAR" else 1)
        for day in (value.day, 30, 29, 28):
            try:
                return value.replace(year=months // 12, month=months % 12 + 1, day=day)
            except ValueError:
                continue
        raise AssertionError(value)

    return operation(f"({{0}} {'+' if sign > 0 else '-'} INTERVAL '{count}' {unit})", move, base)


def chosen(test: st.SearchStrategy[Expression], value: st.SearchStrategy[Expression]) -> st.SearchStrategy[Expression]:
    return st.tuples(test, value, value).map(
        lambda three: operation(
            "(CASE WHEN {0} THEN {1} ELSE {2} END)",
            lambda _, when, x, y: x if when is True else y,
            *three,
            strict=False,
        )
    )


def first_of(value: st.SearchStrategy[Expression]) -> st.SearchStrategy[Expression]:
    return st.tuples(value, value).map(
        lambda two: operation("coalesce({0}, {1})", lambda _, x, y: y if x is None else x, *two, strict=False)
    )


# Conditions


def instant(value: object) -> datetime:
    if isinstance(value, datetime):
        return value.astimezone(UTC)
    assert isinstance(value, date)
    return datetime(value.year, value.month, value.day, tzinfo=UTC)


def rank(left: object, right: object) -> tuple[object, object]:
    """Return what to compare: dates as instants, numbers as doubles where one is; NaN equals NaN, above all else."""
    if isinstance(left, date) and isinstance(right, date):
        return instant(left), instant(right)
    if isinstance(left, float) or isinstance(right, float):
        x, y = float(left), float(right)  # type: ignore[arg-type]
        return (math.isnan(x), 0.0 if math.isnan(x) else x), (math.isnan(y), 0.0 if math.isnan(y) else y)
    return left, right


def compare(sign: str) -> Callable[..., object]:
    tests: dict[str, Callable[[Any, Any], object]] = {
        "=": operator.eq,
        "<>": operator.ne,
        "!=": operator.ne,
        "<": operator.lt,
        "<=": operator.le,
        ">": operator.gt,
        ">=": operator.ge,
    }
    test = tests[sign]
    return lambda _, x, y: test(*rank(x, y))


def negated(value: object) -> object:
    return None if value is None else not value


def both(left: object, right: object) -> object:
    if left is False or right is False:
        return False
    return None if left is None or right is None else True


def either(left: object, right: object) -> object:
    return negated(both(negated(left), negated(right)))


def member(_: str, value: object, *listed: object) -> object:
    tests = [None if value is None or item is None else compare("=")(_, value, item) for item in listed]
    return True if True in tests else None if None in tests else False


def same(_: str, left: object, right: object) -> object:
    return left is right if left is None or right is None else compare("=")(_, left, right)


def like(value: str, pattern: str, escape: str) -> bool:
    """Match by trying every way: the plainest reading of LIKE."""
    if not pattern:
        return not value
    head, rest = pattern[0], pattern[1:]
    if head == escape and escape:
        return bool(value) and value[0] == rest[0] and like(value[1:], rest[1:], escape)
    if head == "%":
        return any(like(value[at:], rest, escape) for at in range(len(value) + 1))
    return bool(value) and head in ("_", value[0]) and like(value[1:], rest, escape)


def patterns() -> st.SearchStrategy[str]:
    """Patterns whose escapes are right under the escape character `!`."""
    pieces = st.sampled_from(["%", "_", "!%", "!_", "!!", "a", "A", "ä", "b", "\\", ".", "*", "(", "\n", "😀", "'"])
    return st.lists(pieces, max_size=5).map("".join)


@shallow
def like_condition(depth: int) -> st.SearchStrategy[Expression]:
    def make(parts: tuple[Expression, list[str], bool, bool]) -> Expression:
        value, listed, ignore_case, negate = parts
        word = ("NOT " if negate else "") + ("ILIKE" if ignore_case else "LIKE")

        def test(_: str, text: str) -> object:
            fold = str.lower if ignore_case else str
            return any(like(fold(text), fold(pattern), "!") for pattern in listed) != negate

        def form(dialect: str) -> str:
            texts = [quoted(pattern, dialect) for pattern in listed]
            if len(texts) == 1:
                return f"{{0}} {word} {texts[0]} ESCAPE '!'"
            of = f"ARRAY[{', '.join(texts)}]" if dialect == "postgres" else ", ".join(texts)
            tested = f"{{0}} {word.removeprefix('NOT ')} ANY ({of}) ESCAPE '!'"
            return f"NOT ({tested})" if negate else tested

        return operation(form, test, value)

    several = st.lists(patterns(), min_size=1, max_size=2)
    return st.tuples(text_value(depth), several, st.booleans(), st.booleans()).map(make)


def contains_form(dialect: str) -> str:
    return {
        "databricks": "array_contains({0}, {1})",
        "snowflake": "ARRAY_CONTAINS({1}::VARIANT, {0})",
        "duckdb": "list_contains({0}, {1})",
        "postgres": "{1} = ANY({0})",
    }[dialect]


def contains(dialect: str, values: list[object], wanted: object) -> object:
    if wanted in [value for value in values if value is not None]:
        return True
    return None if None in values and dialect in ("databricks", "postgres") else False


def overlap_form(dialect: str) -> str:
    return {"duckdb": "list_has_any({0}, {1})", "postgres": "{0} && {1}"}.get(dialect, "arrays_overlap({0}, {1})")


def overlap(dialect: str, left: list[object], right: list[object]) -> object:
    common = [one for one in left for other in right if one is not None and other is not None and one == other]
    if common or (dialect == "snowflake" and None in left and None in right):
        return True
    return None if dialect == "databricks" and left and right and None in left + right else False


def size_form(dialect: str) -> str:
    return {"databricks": "size({0})", "snowflake": "array_size({0})", "duckdb": "len({0})"}.get(
        dialect, "cardinality({0})"
    )


def array(values: list[object]) -> Expression:
    def text(dialect: str) -> str:
        items = ", ".join(literal(value).text(dialect) for value in values)
        return {"databricks": f"array({items})", "postgres": f"ARRAY[{items}]"}.get(dialect, f"[{items}]")

    return Expression(text, lambda row, dialect: values)


def arrays() -> st.SearchStrategy[tuple[Expression, Expression]]:
    """Two arrays of one type, of which one at least is a column."""
    texts = st.lists(_maybe(["a", "A", "b", ""]), max_size=3).map(array)
    numbers = st.lists(_maybe([0, 1, -7, 300]), max_size=3).map(array)
    two = st.one_of(
        st.tuples(st.just(column("tags")), st.one_of(st.just(column("more")), texts)),
        st.tuples(st.just(column("nums")), st.one_of(st.just(column("nums")), numbers)),
    )
    return st.tuples(two, st.booleans()).map(lambda both: both[0][::-1] if both[1] else both[0])


def comparable(depth: int) -> st.SearchStrategy[tuple[Expression, Expression]]:
    number = st.one_of(whole(depth), double(depth), exact(depth))
    return st.one_of(
        st.tuples(number, number),
        st.tuples(text_value(depth), text_value(depth)),
        st.tuples(moment(depth), moment(depth)),
        st.tuples(leaf("b", [True, False]), leaf("b", [True, False])),
    )


@shallow
def condition(depth: int) -> st.SearchStrategy[Expression]:
    signs = st.sampled_from(["=", "<>", "!=", "<", "<=", ">", ">="])
    pair = comparable(max(depth - 1, 0))
    basic = st.one_of(
        leaf("b", [True, False]),
        st.tuples(pair, signs).map(lambda both: operation(f"{{0}} {both[1]} {{1}}", compare(both[1]), *both[0])),
        pair.map(lambda two: operation("{0} IS NOT DISTINCT FROM {1}", same, *two, strict=False)),
        pair.map(
            lambda two: operation("{0} IS DISTINCT FROM {1}", lambda _, *xy: not same(_, *xy), *two, strict=False)
        ),
        pair.map(lambda two: operation("{0} IS NULL", lambda _, x: x is None, two[0], strict=False)),
        pair.map(lambda two: operation("{0} IS NOT NULL", lambda _, x: x is not None, two[0], strict=False)),
        pair.map(lambda two: operation("{0} IN ({1}, {0}, NULL)", member_of_self, *two, strict=False)),
        pair.map(lambda two: operation("{0} IN ({1})", member, *two, strict=False)),
        pair.map(lambda two: operation("{0} NOT IN ({1})", not_member, *two, strict=False)),
        pair.map(lambda two: operation("{0} NOT IN ({1}, NULL)", not_member_or_null, *two, strict=False)),
        st.tuples(pair, st.booleans()).map(between),
        like_condition(max(depth - 1, 0)),
        st.tuples(text_value(max(depth - 1, 0)), text_value(max(depth - 1, 0))).map(
            lambda two: operation("starts_with({0}, {1})", lambda _, x, y: x.startswith(y), *two)
        ),
        st.tuples(text_value(max(depth - 1, 0)), text_value(max(depth - 1, 0))).map(
            lambda two: operation("contains({0}, {1})", lambda _, x, y: y in x, *two)
        ),
        st.tuples(st.just(column("tags")), leaf("s", ["a", "ä"])).map(
            lambda two: operation(contains_form, contains, *two)
        ),
        st.tuples(st.just(column("nums")), leaf("i", [0, 1])).map(lambda two: operation(contains_form, contains, *two)),
        arrays().map(lambda two: operation(overlap_form, overlap, *two)),
    )
    if not depth:
        return basic
    inner = condition(depth - 1)
    return st.one_of(
        basic,
        st.tuples(inner, inner).map(
            lambda two: operation("({0} AND {1})", lambda _, x, y: both(x, y), *two, strict=False)
        ),
        st.tuples(inner, inner).map(
            lambda two: operation("({0} OR {1})", lambda _, x, y: either(x, y), *two, strict=False)
        ),
        inner.map(lambda one: operation("NOT ({0})", lambda _, x: negated(x), one, strict=False)),
        inner.map(lambda one: operation("({0}) IS TRUE", lambda _, x: x is True, one, strict=False)),
        inner.map(lambda one: operation("({0}) IS NOT TRUE", lambda _, x: x is not True, one, strict=False)),
        inner.map(lambda one: operation("({0}) IS NOT FALSE", lambda _, x: x is not False, one, strict=False)),
    )


def member_of_self(_: str, value: object, other: object) -> object:
    return member(_, value, other, value, None)


def not_member(_: str, value: object, other: object) -> object:
    return negated(member(_, value, other))


def not_member_or_null(_: str, value: object, other: object) -> object:
    return negated(member(_, value, other, None))


def between(parts: tuple[tuple[Expression, Expression], bool]) -> Expression:
    (low, high), negate = parts

    def test(_: str, value: object, lowest: object, highest: object) -> object:
        above = None if value is None or lowest is None else compare(">=")(_, value, lowest)
        below = None if value is None or highest is None else compare("<=")(_, value, highest)
        return negated(both(above, below)) if negate else both(above, below)

    word = "NOT BETWEEN" if negate else "BETWEEN"
    return operation(f"{{0}} {word} {{1}} AND {{0}}", lambda _, x, y: test(_, x, y, x), high, low, strict=False)
