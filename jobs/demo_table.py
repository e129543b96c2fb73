"""The demo's table: the rows of :mod:`jobs.stdlib_docs` at a source, their spec, and three changes to them.

The tour sees a :class:`DemoTable`. :class:`DeltaDemo` is one in a folder; :mod:`jobs.demo_snowflake` has another.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, Protocol

import pyarrow as pa
from deltalake import DeltaTable

from connectors.session import spark_session
from indexer.spec import CollectionSpec, SourceSpec, TextSpec, VectorSpec
from jobs.stdlib_docs import DocRow

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


class DemoTable(Protocol):
    """A table at a source, written as its users would write it.

    ``described`` says how it is made; ``place`` is its name in a statement. ``with_parameter`` is a filter on the rows
    whose ``parameters`` hold one, with the values that it binds.
    """

    described: str
    place: str
    source: SourceSpec
    with_parameter: tuple[str, dict[str, str]]

    def write(self, rows: Sequence[DocRow]) -> None:
        """Create the table, keeping changes from its first version on, with ``rows``."""

    def execute(self, sql: str) -> datetime:
        """Run a statement that changes rows, and return when the source committed it."""


class DeltaDemo:
    """Implements :class:`DemoTable` as a Delta table in the folder ``path``, written by Spark."""

    described = "a Delta table, change feed on, by Spark"
    with_parameter = ("array_contains(parameters, :name)", {"name": "timeout"})

    def __init__(self, path: Path) -> None:
        self._path = str(path.resolve())
        self.place = f"delta.`{self._path}`"
        self.source = SourceSpec(table=self._path)

    def write(self, rows: Sequence[DocRow]) -> None:
        """Create the table with ``rows``."""
        records = [{**asdict(row), "parameters": list(row.parameters)} for row in rows]
        frame = spark_session("grebe demo").createDataFrame(pa.Table.from_pylist(records, schema=SCHEMA))
        frame.write.format("delta").option("delta.enableChangeDataFeed", "true").save(self._path)

    def execute(self, sql: str) -> datetime:
        """Run a statement by Spark, and return the time of the table's last commit."""
        spark_session("grebe demo").sql(sql)
        return datetime.fromtimestamp(DeltaTable(self._path).history(1)[0]["timestamp"] / 1000, UTC)


def spec(source: SourceSpec, model: str = MODEL) -> CollectionSpec:
    """Return the demo's collection over ``source``: searched by name and first paragraph, filtered by the rest."""
    return CollectionSpec(
        name=NAME,
        source=source,
        key=("id",),
        text=TextSpec(fields={"name": 2.0, "summary": 1.0}),
        vector=VectorSpec(model=model),
        columns=("module", "kind", "signature", "parameters", "docstring"),
    )


def changes(place: str) -> tuple[Change, Change, Change]:
    """Return an insert, an update and a delete of one row of the table called ``place`` in SQL, in that order."""
    row = "grebe.dive"
    return (
        Change(
            kind="insert",
            sql=(
                f"INSERT INTO {place} SELECT '{row}', 'dive', 'grebe', 'function', '(depth)', split('depth', ' '), "
                "'Plunge beneath the surface of the lake and catch a fish.', NULL"
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
