"""What every check of a construct needs: names resolved, types met, and errors that point at the place."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from sqlglot import exp

from retrieval.errors import FilterError
from retrieval.filter.casts import can_cast
from retrieval.filter.dialects import DialectRules
from retrieval.filter.parse import Parsed
from retrieval.filter.sqltypes import BOOLEAN, NULL, FilterSchema, Kind, SqlType, type_of_column, unify
from retrieval.filter.tree import Call, Column, Constant, Node, Parameter
from retrieval.filter.values import can_widen, widen

_HARMLESS = {
    "is_string", "quoted", "typed", "safe", "binary", "ensure_variant", "check_null", "is_nvl", "is_null",
    "requires_string", "fraction_in_string", "nested",
}  # fmt: skip
"""Notes that sqlglot makes for its own generators; they change nothing that a filter means."""

_SPOKEN: dict[type[exp.Expr], str] = {
    exp.Window: "a window function",
    exp.Alias: "two expressions without an operator between them",
    exp.Dot: "a field of a struct",
    exp.Column: "a name of several parts",
    exp.Bracket: "an element by its place",
    exp.JSONExtract: "a path into a value",
    exp.Parameter: "a parameter not written :name",
    exp.Tuple: "a list of values",
    exp.Array: "an array",
    exp.Any: "ANY, but in x = ANY(array) and x LIKE ANY",
    exp.ByteString: "a string with escapes",
    exp.RawString: "a string in other quotes than '…'",
}
"""How messages name constructs whose class name says little."""

_NO_CALLS = (exp.Connector, exp.Case, exp.Cast)
"""What sqlglot takes for functions and nobody writes as a call by name."""

FUNCTIONS = (
    "lower, upper, length, trim, ltrim, rtrim, substr, left, right, concat, starts_with, contains, abs, round, floor, "
    "ceil, coalesce, nullif, if, array_contains, arrays_overlap, size, cast, current_date/_timestamp, date_trunc, "
    "date_add, datediff, extract, year, quarter, month, day and hour"
)

MAX_NAMED = 50
"""Most columns that an error lists."""

BOTH = "name it in the spec's `columns` too, which takes a rebuild, and it is both"
"""What to do about a text field that one wants to filter by."""

Operand = tuple[exp.Expr, Node]


@dataclass(eq=False, kw_only=True)
class Checker:
    """Turns sqlglot's tree into the checked tree, by one handler per allowed construct.

    ``selects_texts`` says whether text fields may be selected where it checks, so that errors name them.
    """

    parsed: Parsed
    rules: DialectRules
    schema: FilterSchema
    given: Mapping[str, SqlType]
    handlers: Mapping[type[exp.Expr], Callable[[Checker, exp.Expr], Node]]
    functions: str = FUNCTIONS
    selects_texts: bool = False
    used: set[str] = field(default_factory=set)
    slots: int = 0

    def check(self, node: exp.Expr) -> Node:
        """Return the checked form of a construct, or raise FilterError where it is not allowed."""
        handler = self.handlers.get(type(node))
        if handler is None:
            raise self.not_allowed(node)
        return handler(self, node)

    def value(self, node: exp.Expr, *, interval: bool = False) -> Node:
        """Check a construct that must give one value: no list, and an interval only where `interval` says so."""
        checked = self.check(node)
        if isinstance(checked, Parameter) and checked.is_list:
            hint = f"write IN (:{checked.name}) to compare with any of its items"
            raise self.error(node, "filter_type", f":{checked.name} is a list; one value is wanted here", hint)
        if checked.type.kind is Kind.INTERVAL and not interval:
            hint = "add it to a date or timestamp, as in: published >= CURRENT_DATE - INTERVAL '7' DAY"
            raise self.error(node, "filter_type", "an interval can't stand alone", hint)
        return checked

    def condition(self, node: exp.Expr) -> Node:
        """Check a construct that must be true, false or unknown."""
        checked = self.value(node)
        if checked.type.kind not in (Kind.BOOLEAN, Kind.NULL):
            message = f"{self.parsed.snippet(node)} is {a(checked.type)}, not a condition"
            example = "severity > 3" if checked.type.is_numeric else "severity = 'high'"
            raise self.error(node, "filter_type", message, f"compare it with something, as in: {example}")
        return self.coerce(node, checked, BOOLEAN)

    def of_kind(self, node: exp.Expr, kind: SqlType, what: str) -> Node:
        """Check an argument that must be of one type (or NULL)."""
        return self.as_kind(node, self.value(node), kind, what)

    def as_kind(self, node: exp.Expr, checked: Node, kind: SqlType, what: str) -> Node:
        """Bring a checked argument to the one type (or NULL) that it must have."""
        if checked.type not in (kind, NULL):
            message = f"{what} takes {a(kind)}, and {self.parsed.snippet(node)} is {a(checked.type)}"
            hint = f"write CAST({self.parsed.snippet(node)} AS {kind})" if can_cast(checked.type, kind) else ""
            raise self.error(node, "filter_type", message, hint)
        return self.coerce(node, checked, kind)

    def fixed(self, node: exp.Expr, checked: Node, rule: Callable[[object], object], otherwise: str) -> Node:
        """Hold a value to ``rule``, which raises ValueError: a constant at once, a parameter when it is bound.

        For anything else ``otherwise`` says what is wanted.
        """
        if isinstance(checked, Parameter):
            convert = checked.convert
            return replace(checked, convert=lambda value: rule(convert(value)))
        if not isinstance(checked, Constant):
            raise self.error(node, "filter_not_allowed", otherwise)
        try:
            rule(checked.value)
        except ValueError as error:
            raise self.error(node, "filter_value", str(error)) from None
        return checked

    def only(self, node: exp.Expr, *allowed: str) -> None:
        """Refuse a construct that carries more than the named parts: a form of it that has no meaning here."""
        for name, part in node.args.items():
            if name not in allowed and name not in _HARMLESS and part not in (None, False, []):
                raise self.not_allowed(node)

    def meet(self, at: exp.Expr, operands: Sequence[Operand]) -> SqlType:
        """Return the type in which all operands can be compared; text constants may stand for dates and times."""
        met, first = NULL, None
        for node, checked in sorted(operands, key=lambda operand: is_text_constant(operand[1])):
            both = unify(met, checked.type)
            if both is None and is_text_constant(checked) and met.is_temporal:
                continue
            if both is None or both.kind is Kind.ARRAY:
                raise self.mismatch(at, first, (node, checked))
            if met.kind is Kind.NULL and checked.type.kind is not Kind.NULL:
                first = (node, checked)
            met = both
        return met if met.kind is not Kind.NULL else BOOLEAN

    def coerce(self, at: exp.Expr, checked: Node, target: SqlType) -> Node:
        """Bring a checked value to the type that `meet` found: at once for constants, on binding for parameters."""
        if checked.type == target and not isinstance(checked, Parameter):
            return checked
        if isinstance(checked, Constant):
            try:
                return Constant(widen(checked.value, target), target)
            except ValueError as error:
                raise self.error(at, "filter_value", str(error)) from None
        if isinstance(checked, Parameter):
            assert can_widen(checked.type, target), (checked, target)
            converts = checked.convert if checked.type == target else partial(widen, target=target)
            return replace(checked, type=target, convert=converts)
        return Call("widen", (checked,), target)

    def column(self, node: exp.Column) -> Column:
        """Resolve a column's name by the dialect's rules."""
        self.only(node, "this")
        identifier = node.this
        if not isinstance(identifier, exp.Identifier):
            raise self.not_allowed(node)
        name = self.resolve(identifier)
        dtype = self.schema.by_name[name]
        kind = type_of_column(dtype)
        if kind is None or name == "*" or (name.startswith("^") and name.endswith("$")):
            raise self.error(node, "filter_type", f"column {name} ({dtype}) can't be used in an expression")
        return Column(name, dtype, kind)

    def resolve(self, identifier: exp.Identifier) -> str:
        """Return the exact name of the column that ``identifier`` names by the dialect's rules."""
        name = identifier.name
        exact = identifier.args.get("quoted") and self.rules.quoted_exact
        candidates = self.schema.by_folded.get(name.casefold(), ())
        if name in candidates:
            return name
        if len(candidates) == 1 and not exact:
            return candidates[0]
        if candidates:
            message = f"no column is spelled {name!r}" if exact else f"{name} could be {' or '.join(candidates)}"
            hint = "write one of: " + ", ".join(f'"{candidate}"' for candidate in candidates)
            raise self.error(identifier, "filter_unknown_column", message, hint)
        raise self._unknown(identifier)

    def _unknown(self, identifier: exp.Identifier) -> FilterError:
        name = identifier.name
        text = next((text for text in self.schema.texts if text.casefold() == name.casefold()), None)
        if text is not None:
            message = f"{text} is a text field, which is searched, and not a column to filter by"
            return self.error(identifier, "filter_unknown_column", message, BOTH)
        texts = self.schema.texts if self.selects_texts else ()
        known = {text.casefold(): text for text in texts}
        known |= {folded: names[0] for folded, names in self.schema.by_folded.items()}
        near = difflib.get_close_matches(name.casefold(), known, n=3, cutoff=0.6)
        meant = [known[match] for match in near] or list(self.schema.by_name)
        hint = ("did you mean " if near else "columns are ") + _named(meant)
        if texts:
            hint += f"; text fields, which are searched and can be selected by name, are {_named(texts)}"
        else:
            hint += "; texts are searched for, and what the spec's `columns` names is filtered by"
        return self.error(identifier, "filter_unknown_column", f"there is no column {name!r}", hint)

    def parameter(self, node: exp.Placeholder) -> Parameter:
        """Resolve a `:name` to the type of the value that is given for it."""
        name = node.this
        if not isinstance(name, str) or not name.isidentifier() or node.args.get("widget") or node.args.get("kind"):
            raise self.error(node, "filter_not_allowed", "parameters are written :name")
        if name not in self.given:
            hint = f"given are: {', '.join(sorted(self.given))}" if self.given else "no parameters were given"
            raise self.error(node, "filter_parameter", f"no value was given for :{name}", hint)
        self.used.add(name)
        kind = self.given[name]
        is_list = kind.kind is Kind.ARRAY
        kind = kind.element or NULL if is_list else kind
        self.slots += 1
        place = self.parsed.place(node)
        return Parameter(self.slots - 1, name, kind, is_list, partial(widen, target=kind), place)

    def mismatch(self, at: exp.Expr, left: Operand | None, right: Operand) -> FilterError:
        """Say which two operands can't be compared, and how they could be."""
        show = self.parsed.snippet
        if right[1].type.kind is Kind.ARRAY or left is None:
            overlap = self.rules.overlap.format(show(right[0]), ":names")
            hint = f"use array_contains to look into an array, or {overlap} for any of several values"
            return self.error(at, "filter_type", f"{show(right[0])} is {a(right[1].type)}: it can't be compared", hint)
        message = (
            f"{show(left[0])} is {a(left[1].type)} and {show(right[0])} is {a(right[1].type)}: they can't be compared"
        )
        return self.error(at, "filter_type", message, self._advice(left, right))

    def _advice(self, left: Operand, right: Operand) -> str:
        fixed, other = (left, right) if isinstance(left[1], Column) else (right, left)
        text = self.parsed.snippet(other[0])
        if isinstance(other[0], exp.Literal) and fixed[1].type.kind is Kind.STRING:
            return f"write '{text}' in quotes, or CAST({self.parsed.snippet(fixed[0])} AS {other[1].type})"
        if isinstance(other[0], exp.Literal) and fixed[1].type.is_numeric:
            return f"write a number without quotes, or CAST({self.parsed.snippet(fixed[0])} AS STRING)"
        if isinstance(other[1], Parameter) and fixed[1].type.kind is Kind.DECIMAL:
            return f"give :{other[1].name} as a number, or write CAST({text} AS {fixed[1].type})"
        if isinstance(other[1], Parameter):
            return f"give :{other[1].name} as {a(fixed[1].type)}"
        return f"write CAST({text} AS {fixed[1].type})"

    def not_allowed(self, node: exp.Expr) -> FilterError:
        """Say that a construct is not part of what may stand here."""
        place = self.parsed.called(node) if isinstance(node, exp.Func) and not isinstance(node, _NO_CALLS) else None
        if place is not None:
            name = self.parsed.text[place.start :].partition("(")[0].strip()
            message, hint = f"the function {name} is not allowed here", f"allowed are {self.functions}"
            return self.parsed.error(place, "filter_not_allowed", message, hint)
        what = _SPOKEN.get(type(node)) or re.sub(r"(?<=[a-z])(?=[A-Z])", " ", type(node).__name__).lower()
        message = f"{self.parsed.snippet(node)} ({what}) is not allowed here"
        return self.error(node, "filter_not_allowed", message)

    def error(self, node: exp.Expr, code: str, message: str, hint: str = "") -> FilterError:
        """Return a FilterError at a construct's place."""
        return self.parsed.error(self.parsed.place(node), code, message, hint)


def a(kind: SqlType) -> str:
    """Return a type's name with its article."""
    return f"an {kind}" if kind.kind in (Kind.ARRAY, Kind.INTERVAL) else f"a {kind}"


def _named(names: Sequence[str]) -> str:
    more = len(names) - MAX_NAMED
    return ", ".join(names[:MAX_NAMED]) + (f" and {more} more" if more > 0 else "")


def is_text_constant(node: Node) -> bool:
    """Say whether a checked value is a text that is given, and may stand for a date or time."""
    return isinstance(node, Constant | Parameter) and node.type.kind is Kind.STRING
