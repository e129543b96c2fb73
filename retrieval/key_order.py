"""The first rows of a segment by key among those that pass a filter, without sorting all that pass.

A segment whose rows are asked for in this order again and again gets them sorted once, four bytes a row. Where much
passes, the first of it are soon met on a walk through that order; where little does, that is sorted as it is.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from indexer.spec import CollectionSpec
from retrieval import bitmap
from retrieval.bitmap import Positions
from retrieval.chunks import Key, keys_of
from retrieval.ranking import comparable

if TYPE_CHECKING:
    import numpy.typing as npt

    from retrieval.passing import Selection
    from retrieval.segments import OpenSegment

    Order = npt.NDArray[np.uint32]

WORTH = 4_096
"""Of fewer rows those that pass are sorted as quickly."""
FIRST_BLOCK = 512


def first_by_key(
    selection: Selection, spec: CollectionSpec, schema: Mapping[str, pl.DataType], k: int, after: Key | None
) -> Positions:
    """Return chunks of the selected rows, one of each, with the first ``k`` by key behind ``after`` among them."""
    segment = selection.segment
    first = segment.first_chunks
    if len(first) > WORTH and selection.count**2 > k * len(first):  # so the walk is likely to be the shorter
        order = _order_of(segment, spec, schema)
        found = None if order is None else _walk(selection, order, spec, k, after)
        if found is not None:
            return found
    return first[bitmap.contains(selection.bits, first)]


def _order_of(segment: OpenSegment, spec: CollectionSpec, schema: Mapping[str, pl.DataType]) -> Order | None:
    """Return the rows' first chunks by key, ``(n_rows,)``; None when that is asked for the first time."""
    if segment.by_key is None and segment.is_asked_by_key:
        kinds = {name: schema[name] for name in spec.key}
        keys = segment.frame(kinds)[segment.first_chunks]
        order = keys.select(pl.arg_sort_by(spec.key)).to_series().to_numpy()
        segment.by_key = segment.first_chunks[order].astype(np.uint32)
    segment.is_asked_by_key = True
    return segment.by_key


def _walk(selection: Selection, order: Order, spec: CollectionSpec, k: int, after: Key | None) -> Positions | None:
    """Return the first ``k`` in ``order`` that are selected; None where they are so far off that sorting is cheaper."""
    at = 0 if after is None else _behind(selection.segment, order, spec, after)
    found, size, left = [], max(FIRST_BLOCK, 2 * k), 2 * selection.count
    while k > 0 and at < len(order):
        if left < 0:
            return None
        block = order[at : at + size].astype(np.int64)
        found.append(block[bitmap.contains(selection.bits, block)][:k])
        k -= len(found[-1])
        at, left, size = at + size, left - size, 2 * size
    return np.concatenate(found) if found else np.empty(0, dtype=np.int64)


def _behind(segment: OpenSegment, order: Order, spec: CollectionSpec, after: Key) -> int:
    """Return how many rows of ``order`` have no greater key than ``after``."""

    def key_at(place: int) -> list[Any]:
        return comparable(keys_of(segment, spec, [int(order[place])])[0])

    return bisect_right(range(len(order)), comparable(after), key=key_at)
