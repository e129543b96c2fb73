"""Looking into polars' lists as SQL looks into arrays: with NULL where nothing can be known."""

from __future__ import annotations

from typing import Literal

import polars as pl

NullOverlap = Literal["unknown", "never", "always"]
"""What a NULL among the elements has in common with those of another array, where nothing else is: that is not known,
nothing, or a NULL among them."""

_UNKNOWN = pl.lit(None, dtype=pl.Boolean)


def contains(values: pl.Expr, wanted: pl.Expr, *, null_elements: bool) -> pl.Expr:
    """Return whether each list holds the value beside it.

    With ``null_elements`` that is not known where it does not, and holds a NULL.
    """
    found = values.list.contains(wanted, nulls_equal=False)
    if null_elements:
        found = found | _unknown_where(_holds_null(values))
    return pl.when(wanted.is_not_null() & values.is_not_null()).then(found)


def overlaps(values: pl.Expr, known: pl.Series, *, with_null: bool, nulls: NullOverlap) -> pl.Expr:
    """Return whether each list holds one of the values ``known``, or of the NULL beside these if ``with_null``."""
    if not len(known) and not with_null:
        return pl.when(values.is_not_null()).then(pl.lit(False))
    met = pl.element().is_in(known.implode())
    if nulls == "always" and with_null:
        met = met | pl.element().is_null()
    found = _any(values, met)
    if nulls == "unknown":
        found = found | _unknown_where(values.list.len() > 0 if with_null else _holds_null(values))
    return found


def have_common(left: pl.Expr, right: pl.Expr, *, nulls: NullOverlap) -> pl.Expr:
    """Return whether two lists of a row hold a value in common."""
    common = left.list.set_intersection(right)
    if nulls == "always":
        return common.list.len() > 0
    found = _any(common, pl.element().is_not_null())
    if nulls == "unknown":
        both = (left.list.len() > 0) & (right.list.len() > 0)
        found = found | _unknown_where(both & (_holds_null(left) | _holds_null(right)))
    return found


def _holds_null(values: pl.Expr) -> pl.Expr:
    return _any(values, pl.element().is_null())


def _any(values: pl.Expr, test: pl.Expr) -> pl.Expr:
    """Return whether any element passes; ``list.agg`` would look each list's elements up in a set of its own."""
    return values.list.eval(test).list.any()


def _unknown_where(test: pl.Expr) -> pl.Expr:
    return pl.when(test).then(_UNKNOWN).otherwise(pl.lit(False))
