"""No more than so many rows of one value of a column: of a document that is several rows, its best.

The list keeps its order and its scores. Rows without a value (NULL) are of none, and all stay.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from indexer.spec import CollectionSpec
from retrieval.chunks import Chunks
from retrieval.errors import RequestError
from retrieval.policies import Sight
from retrieval.refine.columns import column_type, values_of
from retrieval.refine.stages import Collapse

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, slots=True)
class CollapseColumn:
    """The column ``name`` of type ``dtype`` that a list is collapsed by."""

    name: str
    dtype: pl.DataType

    @classmethod
    def of(
        cls, collapse: Collapse, spec: CollectionSpec, schema: Mapping[str, pl.DataType], sight: Sight
    ) -> CollapseColumn | None:
        """Return the column that ``collapse`` names; None in a collection without rows.

        Raises RequestError for one that is not stored, that ``sight`` masks (which rows are left out would tell whose
        values are equal), or whose values are lists.
        """
        dtype = column_type("collapse", collapse.column, spec, schema, sight)
        if dtype is None:
            return None
        if dtype.is_nested():
            raise RequestError(
                f"{collapse.column} is of type {dtype}",
                field="collapse.column",
                hint="rows are collapsed by a column of single values",
            )
        return cls(name=collapse.column, dtype=dtype)

    def turns(self, parts: Sequence[Chunks], places: Indices, positions: Indices) -> Indices:
        """Return of each row, ``(n,)``, the how manyth of its value it is, from 1; 0 for those without a value."""
        rows = values_of(self.name, self.dtype, parts, places, positions).to_frame("value")
        turn = pl.int_range(1, pl.len() + 1).over("value")
        counted = rows.select(pl.when(pl.col("value").is_null()).then(0).otherwise(turn).cast(pl.Int64))
        return counted.to_series().to_numpy()
