"""A Delta table and a collection over it, for tests that sync through Spark."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from connectors.delta_source import DeltaSource
from indexer.apply import apply
from indexer.catalog import Catalog, CatalogState
from indexer.format.store import Store
from indexer.spec import CollectionSpec
from indexer.spec_file import parse_spec
from indexer.sync import SyncOptions, SyncReport, sync
from tests import deltars
from tests.served import served_rows, table_rows

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

COLUMNS = ("id", "body", "n")


class Scene:
    """A table with a change feed, and a collection over it."""

    def __init__(self, spark: SparkSession, folder: Path) -> None:
        self.spark, self.folder, self.table = spark, folder, folder / "table"
        self.store = Store.at(str(folder / "store"))

    def create(self, columns: str = "id BIGINT, body STRING, n INT", *more: str) -> None:
        if not more and deltars.created(self.table, columns):
            return
        properties = ", ".join(("delta.enableChangeDataFeed = true", *more))
        self.by_spark(f"CREATE TABLE {{t}} ({columns}) USING delta TBLPROPERTIES ({properties})")

    def sql(self, statement: str) -> None:
        """Run ``statement`` on the table, ``{t}``; by delta-rs if it is plain."""
        if not deltars.executed(self.table, statement):
            self.by_spark(statement)

    def by_spark(self, statement: str) -> None:
        self.spark.sql(statement.format(t=f"delta.`{self.table}`"))

    def spec(self, **parts: Any) -> CollectionSpec:
        spec = parse_spec(
            f"name: scene\nsource: {{table: {self.table}}}\nkey: [id]\ncolumns: [n]\n"
            "text: {fields: {body: 1.0}}\nvector: {model: 'hash:8'}"
        )
        return CollectionSpec.model_validate(spec.model_dump() | parts)

    def load(self, values: str = "(1, 'one', 0), (2, 'two', 0), (3, 'three', 0)", **parts: Any) -> None:
        """Make the table with some rows and the collection, and sync for the first time."""
        self.create()
        self.sql(f"INSERT INTO {{t}} VALUES {values}")
        apply(self.store, self.spec(**parts))
        self.sync()

    def sync(self, **options: Any) -> SyncReport:
        return sync(self.store, "scene", self.source_of, cache=self.folder / "cache", options=SyncOptions(**options))

    def source_of(self, spec: CollectionSpec) -> DeltaSource:
        return DeltaSource(self.spark, spec.source.table, spec.source_columns)

    @property
    def catalog(self) -> Catalog:
        return Catalog.open(self.store, "scene")

    @property
    def state(self) -> CatalogState:
        return self.catalog.read()

    def is_served(self) -> bool:
        """Say whether a new replica serves exactly the table's rows, with the columns of ``COLUMNS``."""
        served, _ = served_rows(self.store, "scene")
        return served == table_rows(self.spark, self.table, COLUMNS)
