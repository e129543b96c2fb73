"""The demo's table: the rows of :mod:`jobs.stdlib_docs` as a Delta table, its spec, and three changes to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pyarrow as pa

from indexer.spec import CollectionSpec, SourceSpec, TextSpec, VectorSpec
from jobs.stdlib_docs import DocRow

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

NAME = "stdlib"
MODEL = "sentence-transformers/all-MiniLM-L6-v2"
SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        *(pa.field(name, pa.string()) for name in ("name", "module", "kind", "signature")),
        pa.field("parameters", pa.list_(pa.string())),
        *(pa.field(name, pa.string()) for name in ("summary", "docstring")),
    ]
)


@dataclass(frozen=True, kw_only=True)
class Change:
    """A statement at the source, and the search that shows it.

    It has arrived when the row ``id`` is among the answers with ``text`` in its passage; for a delete, when it is not
    among them.
    """

    kind: Literal["insert", "update", "delete"]
    sql: str
    query: str
    id: str
    text: str | None


def spec(table: Path, model: str = MODEL) -> CollectionSpec:
    """Return the demo's collection over ``table``: searched by name and first paragraph, filtered by the rest."""
    return CollectionSpec(
        name=NAME,
        source=SourceSpec(table=str(table)),
        key=("id",),
        text=TextSpec(fields={"name": 2.0, "summary": 1.0}),
        vector=VectorSpec(model=model),
        columns=("module", "kind", "signature", "parameters", "docstring"),
    )


def write_table(spark: SparkSession, rows: Sequence[DocRow], table: Path) -> None:
    """Write ``rows`` as a new Delta table whose change feed is on from its first version."""
    data = pa.Table.from_pylist([{**asdict(row), "parameters": list(row.parameters)} for row in rows], schema=SCHEMA)
    frame = spark.createDataFrame(data)
    frame.write.format("delta").option("delta.enableChangeDataFeed", "true").save(str(table))


def changes(table: Path) -> tuple[Change, Change, Change]:
    """Return an insert, an update and a delete of one row of ``table``, in that order."""
    place, row = f"delta.`{table}`", "grebe.dive"
    return (
        Change(
            kind="insert",
            sql=(
                f"INSERT INTO {place} VALUES ('{row}', 'dive', 'grebe', 'function', '(depth)', array('depth'), "
                "'Plunge beneath the surface of the lake and catch a fish.', NULL)"
            ),
            query="catch a fish in the lake",
            id=row,
            text="catch a fish",
        ),
        Change(
            kind="update",
            sql=f"UPDATE {place} SET summary = 'Build a floating nest out of reeds.' WHERE id = '{row}'",
            query="a floating nest made of reeds",
            id=row,
            text="floating nest",
        ),
        Change(
            kind="delete",
            sql=f"DELETE FROM {place} WHERE id = '{row}'",
            query="a floating nest made of reeds",
            id=row,
            text=None,
        ),
    )
