"""The stored columns that stages go by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import polars as pl

from indexer.spec import CollectionSpec
from retrieval.chunks import Chunks
from retrieval.errors import RequestError
from retrieval.policies import Sight
from retrieval.refine.stages import StageName
from retrieval.request import unknown_names


def column_type(
    stage: StageName, name: str, spec: CollectionSpec, schema: Mapping[str, pl.DataType], sight: Sight
) -> pl.DataType | None:
    """Return the type of the column ``name`` that ``stage`` goes by; None in a collection without rows.

    Raises RequestError for one that is not stored, or that ``sight`` masks: the answer would tell of its values.
    """
    unknown_names([name], spec.stored_columns, where=f"{stage}.column")
    if name in sight.masks:
        raise RequestError(
            f"{name} is masked for you, so that nothing can be ranked or left out by it",
            field=f"{stage}.column",
            code=f"{stage}_masked_column",
        )
    return schema.get(name)


def values_of(
    name: str,
    dtype: pl.DataType,
    parts: Sequence[Chunks],
    places: npt.NDArray[np.int64],
    positions: npt.NDArray[np.int64],
) -> pl.Series:
    """Return the column ``name`` of the rows of chunks, ``(n,)``, in their order; there is at least one."""
    order = places.argsort(kind="stable")
    found: list[pl.Series] = []
    for place in np.unique(places).tolist():
        column = parts[place].frame({name: dtype}).to_series()
        found.append(column[positions[places == place]])
    return pl.concat(found).gather(order.argsort())
