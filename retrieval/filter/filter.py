"""Compiled filters: SQL's WHERE over one collection's columns, as a mask over a frame.

The way of a filter: text → `parse` (sqlglot, cached) → `check` (allow-list, names, types; cached by text, dialect,
columns and the types of the parameters) → bind (values to canonical form) → `compile` (one polars expression). No text
reaches an engine, and a value is never part of text.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import lru_cache
from hashlib import sha256

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
from sqlglot import exp

from retrieval.errors import FilterError
from retrieval.filter.check import Checker
from retrieval.filter.compile import Bindings, build
from retrieval.filter.constructs import HANDLERS
from retrieval.filter.dialects import rules_of
from retrieval.filter.kept import kept
from retrieval.filter.parse import parse
from retrieval.filter.sqltypes import BOOLEAN, DATE, STRING, FilterSchema, SqlType, schema_of
from retrieval.filter.tree import (
    NOWHERE,
    Call,
    Column,
    Constant,
    Node,
    Now,
    Parameter,
    Place,
    canonical,
    implied,
    names_values,
)
from retrieval.filter.values import type_of_value

MAX_BOUND_ITEMS = 10_000
"""Most items of a list given as a parameter."""

MAX_COMPUTED_CHARACTERS = 200
"""Longest text of a filter or parameter that is computed with, as CASE, coalesce and upper do: each row gets a copy."""

PLAIN_ITEMS = 32
"""Longer lists are in cache keys as their SHA-256."""

_EPOCH = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, eq=False, kw_only=True)
class CompiledFilter:
    """A filter ready to run, as often as wanted and from any thread.

    `columns`: the columns it reads. `uses_now`: whether it asks for the time; then it is the time given to
    `compile_filter`. `cache_key`: equal for filters that pass the same rows of any frame: the checked form, the bound
    values and, if asked for, the time (the date where that is all it asks for). `cacheable`: whether a later request
    can have that key; one that asks for the microsecond never meets its own again.
    """

    columns: frozenset[str]
    uses_now: bool
    cacheable: bool
    cache_key: Hashable
    _expression: Callable[[], pl.Expr]
    _about: Callable[[str], CompiledFilter | None] = lambda _: None
    _names: Callable[[str], bool] = lambda _: False

    def expression(self) -> pl.Expr:
        """Return the boolean polars expression; NULL stands for unknown."""
        return self._expression()

    def about(self, column: str) -> CompiledFilter | None:
        """Return what this filter says of `column` alone: each row that passes this filter passes that one.

        None if it says nothing: whatever the column's value, a row may pass.
        """
        return self._about(column)

    def names(self, column: str) -> bool:
        """Say whether only rows pass whose value of `column` the filter or a parameter names."""
        return self._names(column)

    def mask(self, frame: pl.DataFrame) -> npt.NDArray[np.bool_]:
        """Return which rows pass: `(n_rows,) bool`; unknown does not pass.

        Raises FilterError (`filter_failed`) where polars can't evaluate it on this frame.
        """
        try:
            passing = frame.select(self._expression()).to_series()
        except pl.exceptions.PolarsError as error:
            reason = str(error).partition("\n")[0]
            raise FilterError(f"the filter can't be evaluated: {reason}", code="filter_failed") from error
        known = (passing.fill_null(False) if passing.null_count() else passing).to_numpy()
        if known.shape != (frame.height,):  # nothing in it depends on the row
            return np.full(frame.height, known[0])
        return known


def compile_filter(
    text: str,
    *,
    dialect: str,
    schema: FilterSchema | pa.Schema | dict[str, pl.DataType] | pl.Schema,
    params: Mapping[str, object] | None = None,
    now: datetime | None = None,
) -> CompiledFilter:
    """Compile a WHERE text whose `:name`s stand for `params`, for frames with the columns of `schema`.

    `dialect` is one of `databricks`, `snowflake`, `duckdb` and `postgres`. `now` (aware; default: the present) is what
    CURRENT_DATE, CURRENT_TIMESTAMP and now() give. A caller with many filters over one schema passes the FilterSchema
    that `schema_of` returns, which is cheapest to look up.

    Raises FilterError with the place in the text for whatever is wrong with the text or the parameters.
    """
    params = params or {}
    types = tuple(types_of(text, params).items())
    return _filter(_template(text, dialect, schema_of(schema), types), text, params, now)


def types_of(text: str, params: Mapping[str, object]) -> dict[str, SqlType]:
    """Return the type of each parameter given to ``text``, or raise FilterError."""
    return {name: _type_of(text, name, params[name]) for name in sorted(params)}


def filter_of(tree: Node, *, text: str, params: Mapping[str, object], now: datetime) -> CompiledFilter:
    """Return the filter of a checked condition in ``text``; raises FilterError where a value does not fit."""
    return _filter(_template_of(tree, text), text, params, now)


def expression_of(
    tree: Node, *, text: str, params: Mapping[str, object], now: datetime, is_computed: bool = True
) -> pl.Expr:
    """Return the polars expression of a checked value in ``text``; raises FilterError where a value does not fit.

    ``is_computed`` says whether a constant that is all of it is computed with, as when rows are ordered by it.
    """
    return build(tree, _bindings(_template_of(tree, text, is_computed=is_computed), text, params, now))


@lru_cache(maxsize=1024)
def names_in(text: str, dialect: str) -> frozenset[str]:
    """Return the names of the parameters in a WHERE text; raises FilterError where it can't be parsed."""
    placeholders = parse(text, dialect).tree.find_all(exp.Placeholder)
    return frozenset(node.this for node in placeholders if isinstance(node.this, str))


def any_of(filters: Sequence[CompiledFilter]) -> CompiledFilter:
    """Return the filter that passes the rows that any of ``filters``, at least one, passes."""
    if len(filters) == 1:
        return filters[0]
    return CompiledFilter(
        columns=frozenset().union(*(filter_.columns for filter_ in filters)),
        uses_now=any(filter_.uses_now for filter_ in filters),
        cacheable=all(filter_.cacheable for filter_ in filters),
        cache_key=("or", *(filter_.cache_key for filter_ in filters)),
        _expression=lambda: pl.any_horizontal(*(filter_.expression() for filter_ in filters)),
        _about=lambda column: _any_about(filters, column),
    )


def _any_about(filters: Sequence[CompiledFilter], column: str) -> CompiledFilter | None:
    told = [filter_.about(column) for filter_ in filters]
    known = [about for about in told if about is not None]
    return any_of(known) if len(known) == len(told) else None


def _still_nothing(_: str) -> CompiledFilter:
    return NOTHING_PASSES


NOTHING_PASSES = CompiledFilter(
    columns=frozenset(),
    uses_now=False,
    cacheable=True,
    cache_key="nothing",
    _expression=lambda: pl.lit(False),
    _about=_still_nothing,
)
"""The filter that no row passes."""


@dataclass(frozen=True, eq=False, kw_only=True)
class _Template:
    """All of a filter that doesn't depend on values; `expression` is there when nothing does."""

    tree: Node
    columns: frozenset[str]
    parameters: tuple[Parameter, ...]
    uses_now: bool
    uses_timestamp: bool
    key: str
    expression: pl.Expr | None
    computed: frozenset[int]
    """The slots of parameters whose text is computed with."""


@kept(1024)
def _template(text: str, dialect: str, schema: FilterSchema, types: tuple[tuple[str, SqlType], ...]) -> _Template:
    rules = rules_of(dialect)
    parsed = parse(text, dialect)
    check = Checker(parsed=parsed, rules=rules, schema=schema, given=dict(types), handlers=HANDLERS)
    tree = check.condition(parsed.tree)
    unused = sorted(set(check.given) - check.used)
    if unused:
        raise unused_parameter(unused[0], text)
    return _template_of(tree, text)


def unused_parameter(name: str, text: str) -> FilterError:
    """Return the error of a value that is given and not asked for."""
    message = f"the SQL has no parameter :{name}"
    return FilterError(message, code="filter_parameter", text=text, hint="give only values that it names")


def _template_of(tree: Node, text: str, *, is_computed: bool = False) -> _Template:
    leaves = _leaves(tree)
    computed = _computed(tree, is_computed)
    for leaf in computed:
        if isinstance(leaf, Constant):
            _refuse_long(leaf.value, text)
    parameters = sorted((leaf for leaf in leaves if isinstance(leaf, Parameter)), key=lambda leaf: leaf.slot)
    times = [leaf.type for leaf in leaves if isinstance(leaf, Now)]
    return _Template(
        tree=tree,
        columns=frozenset(leaf.name for leaf in leaves if isinstance(leaf, Column)),
        parameters=tuple(parameters),
        uses_now=bool(times),
        uses_timestamp=any(time != DATE for time in times),
        key=canonical(tree),
        expression=None if parameters or times else build(tree, Bindings((), _EPOCH)),
        computed=frozenset(leaf.slot for leaf in computed if isinstance(leaf, Parameter)),
    )


def _computed(node: Node, inside: bool) -> list[Constant | Parameter]:
    """Return the texts that are computed with, and not only compared: those in calls that give no truth value."""
    if isinstance(node, Constant | Parameter):
        return [node] if inside and node.type == STRING else []
    if not isinstance(node, Call):
        return []
    return [leaf for argument in node.args for leaf in _computed(argument, node.type != BOOLEAN)]


def _refuse_long(value: object, text: str, place: Place = NOWHERE) -> None:
    if isinstance(value, str) and len(value) > MAX_COMPUTED_CHARACTERS:
        message = f"a text of {len(value):,} characters cannot be computed with; at most {MAX_COMPUTED_CHARACTERS} can"
        raise FilterError(message, code="filter_limit", text=text, start=place.start, length=place.length)


def _filter(template: _Template, text: str, params: Mapping[str, object], now: datetime | None) -> CompiledFilter:
    if template.expression is not None:
        fixed = template.expression
        return CompiledFilter(
            columns=template.columns,
            uses_now=False,
            cacheable=True,
            cache_key=template.key,
            _expression=lambda: fixed,
            _about=lambda column: _about(template.tree, column, Bindings((), _EPOCH)),
            _names=lambda column: names_values(template.tree, column),
        )
    bound = _bindings(template, text, params, now)
    key = (template.key, *map(_hashable, bound.values), *_time_asked_for(template, bound.now))
    return CompiledFilter(
        columns=template.columns,
        uses_now=template.uses_now,
        cacheable=not template.uses_timestamp,
        cache_key=key,
        _expression=lambda: build(template.tree, bound),
        _about=lambda column: _about(template.tree, column, bound),
        _names=lambda column: names_values(template.tree, column),
    )


def _about(tree: Node, column: str, bound: Bindings) -> CompiledFilter | None:
    told = implied(tree, column)
    if told is None:
        return None
    slots = sorted({leaf.slot for leaf in _leaves(told) if isinstance(leaf, Parameter)})
    values = [_hashable(bound.values[slot]) for slot in slots]
    return CompiledFilter(
        columns=frozenset({column}),
        uses_now=False,
        cacheable=True,
        cache_key=("about", canonical(told), *values),
        _expression=lambda: build(told, bound),
        _about=lambda other: _about(told, other, bound),
    )


def _bindings(template: _Template, text: str, params: Mapping[str, object], now: datetime | None) -> Bindings:
    values = tuple(_converted(text, parameter, params[parameter.name]) for parameter in template.parameters)
    for parameter, value in zip(template.parameters, values, strict=True):
        if parameter.slot in template.computed:
            _refuse_long(value, text, parameter.place)
    return Bindings(values, _moment(now))


def _leaves(tree: Node) -> list[Node]:
    leaves: list[Node] = []
    waiting, slots = [tree], set()
    while waiting:
        node = waiting.pop()
        if isinstance(node, Call):
            waiting.extend(node.args)
        elif not isinstance(node, Parameter) or node.slot not in slots:
            leaves.append(node)
            slots.add(node.slot if isinstance(node, Parameter) else None)
    return leaves


def _type_of(text: str, name: str, value: object) -> SqlType:
    if isinstance(value, list | tuple) and len(value) > MAX_BOUND_ITEMS:
        message = f":{name} has {len(value)} items; at most {MAX_BOUND_ITEMS} are allowed"
        raise FilterError(message, code="filter_limit", text=text)
    try:
        return type_of_value(value)
    except ValueError as error:
        raise FilterError(f":{name}: {error}", code="filter_parameter", text=text) from None


def _converted(text: str, parameter: Parameter, value: object) -> object:
    try:
        return parameter.convert(value)
    except ValueError as error:
        message = f":{parameter.name}: {error}"
        place = parameter.place
        raise FilterError(message, code="filter_value", text=text, start=place.start, length=place.length) from None


def _time_asked_for(template: _Template, now: datetime) -> tuple[date, ...]:
    """Return the part of the time that the filter's rows depend on, in UTC as the filter reckons it."""
    if not template.uses_now:
        return ()
    return (now if template.uses_timestamp else now.astimezone(UTC).date(),)


def _moment(now: datetime | None) -> datetime:
    if now is None:
        return datetime.now(UTC)
    if now.tzinfo is None:
        raise ValueError("the request's time must say its zone")
    return now


def _hashable(value: object) -> Hashable:
    """Return what stands for a canonical ``value`` in a cache key; a key is held as long as what it is for."""
    if isinstance(value, list):
        return tuple(map(_hashable, value)) if len(value) <= PLAIN_ITEMS else sha256(repr(value).encode()).digest()
    return "NaN" if isinstance(value, float) and math.isnan(value) else value
