"""What the four SQL dialects do differently, as far as a filter can see."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from retrieval.errors import FilterError
from retrieval.filter.lists import NullOverlap

SPACES = " \u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f\u3000"
"""Unicode's separators of words (category Zs)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DialectRules:
    """One dialect's ways.

    `whole_division`: `/` of two whole numbers gives a whole number, cut towards zero; else a double.
    `like_escape`: the escape character of LIKE where the text names none; "" means that there is none.
    `strict_escape`: an escape before an ordinary character is an error; else that character stands for itself.
    `quoted_exact`: a quoted name matches letter for letter; else case never matters.
    `null_elements`: `array_contains` is unknown when the value is not found and the array holds a NULL; else false.
    `null_overlap`: what a NULL element has in common with another array (`lists.NullOverlap`); `overlap`: how messages
    write that two arrays have an element in common.
    `float_to_whole`: how CAST of a double to a whole number rounds; `decimal_to_whole`: the same for a decimal.
    `wide_integers`: every whole-number type name means the widest one.
    `concat_skips_null`: concat leaves NULL out; else it gives NULL.
    `round_of_double`: where round brings a double that lies half-way; `rounds_doubles_to_places`: it can be told to how
    many places.
    `spaces`: the characters that trim takes away.
    """

    name: str
    whole_division: bool = False
    like_escape: str = ""
    strict_escape: bool = False
    quoted_exact: bool = False
    null_elements: bool = False
    null_overlap: NullOverlap = "never"
    overlap: str = "arrays_overlap({}, {})"
    float_to_whole: Literal["truncate", "half_to_even", "half_away_from_zero"] = "half_to_even"
    decimal_to_whole: Literal["truncate", "half_away_from_zero"] = "half_away_from_zero"
    wide_integers: bool = False
    concat_skips_null: bool = False
    round_of_double: Literal["half_to_even", "half_away_from_zero"] = "half_away_from_zero"
    rounds_doubles_to_places: bool = True
    spaces: str = " "


DIALECTS: dict[str, DialectRules] = {
    rules.name: rules
    for rules in (
        DialectRules(
            name="databricks",
            like_escape="\\",
            strict_escape=True,
            null_elements=True,
            null_overlap="unknown",
            float_to_whole="truncate",
            decimal_to_whole="truncate",
        ),
        DialectRules(
            name="snowflake",
            quoted_exact=True,
            null_overlap="always",
            float_to_whole="half_away_from_zero",
            wide_integers=True,
        ),
        DialectRules(name="duckdb", overlap="list_has_any({}, {})", concat_skips_null=True, spaces=SPACES),
        DialectRules(
            name="postgres",
            whole_division=True,
            like_escape="\\",
            quoted_exact=True,
            null_elements=True,
            overlap="{} && {}",
            concat_skips_null=True,
            round_of_double="half_to_even",
            rounds_doubles_to_places=False,
        ),
    )
}


def rules_of(dialect: str) -> DialectRules:
    """Return the rules of a dialect by name, or raise FilterError (`filter_dialect`)."""
    try:
        return DIALECTS[dialect]
    except KeyError:
        known = ", ".join(DIALECTS)
        raise FilterError(f"no SQL dialect {dialect!r}", code="filter_dialect", hint=f"known are {known}") from None
