"""Groups of rows that lie on several machines: each sends its own, with parts of their aggregates, to be merged."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl
import pyarrow as pa

from retrieval.sql.evaluate import grouped, refuse_too_large, refuse_too_many
from retrieval.sql.found import FoundRows
from retrieval.sql.grouped import GroupPlan
from retrieval.sql.run import StatementRun, first_groups

SENT = "what one node would send"
"""What may not be larger than an answer."""


def sent_groups(run: StatementRun, rows: FoundRows, plan: GroupPlan) -> pa.Table:
    """Return the groups that this machine's ``rows`` make, of those that may be among the ones that are shown.

    The columns are the keys, then the aggregates' parts, named by their places: no other name is sure to come through
    Arrow. Raises FilterError.
    """
    parts = {name: made for own, each in plan.aggregates.items() for name, made in each.parts(own).items()}
    table = run.grouped(rows, plan, parts).select(*plan.keys, *parts)
    if plan.keys and not plan.order and plan.having is None:  # in the order of keys: the first of all are among these
        table = table[first_groups(table, plan.keys, (), slice(0, run.cut.stop))]
    refuse_too_many(table.height, table.width)
    refuse_too_large(table, SENT)
    names = [str(place) for place in range(table.width)]
    return table.rename(dict(zip(table.columns, names, strict=True))).to_arrow(compat_level=pl.CompatLevel.oldest())


def merged_groups(tables: Sequence[pa.Table], plan: GroupPlan) -> pl.DataFrame:
    """Return the table of groups that is made of what all machines sent; raises FilterError."""
    names = [*plan.keys, *(name for own, each in plan.aggregates.items() for name in each.parts(own))]
    frames = [_frame(table, names) for table in tables]
    refuse_too_many(sum(frame.height for frame in frames), len(names))
    merged = {name: each.merged(name) for name, each in plan.aggregates.items()}
    return grouped(pl.concat(frames, how="vertical_relaxed"), list(plan.keys), merged)


def _frame(table: pa.Table, names: Sequence[str]) -> pl.DataFrame:
    frame = pl.DataFrame(table)
    return frame.rename(dict(zip(frame.columns, names, strict=True)))
