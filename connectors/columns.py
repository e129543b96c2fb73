"""The columns that a source is asked for, against those that it has."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING

from connectors.contract import COMMITTED_AT, OP, VERSION
from connectors.errors import SchemaMismatch

if TYPE_CHECKING:
    from pyspark.sql import Column

RESERVED = frozenset({OP, VERSION, COMMITTED_AT})


def require_columns(named: str, columns: Sequence[str], found: Sequence[str]) -> None:
    """Raise :class:`SchemaMismatch` when ``found`` lacks one of ``columns``, naming what is nearest."""
    taken = [name for name in columns if name in RESERVED]
    if taken:
        raise SchemaMismatch(f"{named}: the column names {', '.join(taken)} are reserved for the change contract")
    missing = [name for name in columns if name not in found]
    if missing:
        hints = [f"{name!r}{_hint(name, found)}" for name in missing]
        raise SchemaMismatch(f"{named} has no column {', '.join(hints)}; it has: {', '.join(found)}")


def column(name: str) -> Column:
    """Return the column of exactly that name: a dot in it is no path into a structure."""
    # Here, because looking at names needs no Spark.
    from pyspark.sql import functions as F  # noqa: N812

    return F.col("`" + name.replace("`", "``") + "`")


def nearest(name: str, found: Iterable[str]) -> str | None:
    """Return which of ``found`` was probably meant by ``name``, if one was; upper and lower case are alike."""
    lower = {other.lower(): other for other in reversed(list(found))}
    near = get_close_matches(name.lower(), lower, n=1)
    return lower[near[0]] if near else None


def _hint(name: str, found: Sequence[str]) -> str:
    near = nearest(name, found)
    return f" (did you mean {near!r}?)" if near else ""
