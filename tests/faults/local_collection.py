"""A table in memory and a collection over it that is synced without Spark."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from pyspark.sql import SparkSession

from connectors.contract import DELETE, UPSERT
from connectors.memory_source import MemorySource
from indexer.apply import apply
from indexer.catalog import Catalog
from indexer.format.store import Store
from indexer.spec_file import parse_spec
from indexer.sync import SyncOptions, SyncReport, sync
from tests.faults.feed import SCHEMA, Row
from tests.faults.local_session import LocalSession
from tests.served import Rows, served_rows

NAME = "scene"
NEW = 8
"""Rows that a change inserts: so many that their segment keeps its tombstones for a while, when some of them die."""
SPEC = parse_spec(
    f"name: {NAME}\nsource: {{table: /t}}\nkey: [id]\ncolumns: [n]\ntext: {{fields: {{body: 1.0}}}}\n"
    "vector: {model: 'hash:8'}"
)


class LocalCollection:
    """Needs :func:`tests.faults.local_session.local_tasks`. ``rows`` are the table's, those without a key left out."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url, self.folder = url, folder
        self.source = MemorySource(cast(SparkSession, LocalSession()), SCHEMA)
        self.rows: dict[int, Row] = {}
        self.changes = 0
        self.syncs = 0
        apply(self.store, SPEC)

    @property
    def store(self) -> Store:
        """Open the store, as the environment says at this moment."""
        return Store.at(self.url)

    @property
    def catalog(self) -> Catalog:
        """Open the catalog, as another process would."""
        return Catalog.open(self.store, NAME)

    def change(self) -> None:
        """Insert rows, update one, delete one, and insert one without a key, which is set aside: in one commit."""
        self.changes += 1
        number = self.changes
        new: dict[int, Row] = {
            key: {"id": key, "body": f"row {key}", "n": number} for key in range(NEW * (number - 1), NEW * number)
        }
        oldest, *others = sorted(self.rows) or [-1]
        changed = {key: {**self.rows[key], "n": number} for key in others[:1]}
        gone = [self.rows[key] for key in (oldest, *changed) if key in self.rows]
        keyless = {"id": None, "body": f"keyless {number}", "n": 0}
        upserts = [*new.values(), *changed.values(), keyless]
        self.source.commit([*((DELETE, row) for row in gone), *((UPSERT, row) for row in upserts)])
        kept = {key: row for key, row in self.rows.items() if key != oldest}
        self.rows = kept | changed | new

    def sync(self, **options: Any) -> SyncReport:
        """Sync as a process on another machine: nothing is in its cache."""
        self.syncs += 1
        cache = self.folder / f"cache-{self.syncs}"
        return sync(self.store, NAME, lambda _: self.source, cache=cache, options=SyncOptions(**options))

    def served(self) -> Rows:
        """Return what a new replica serves."""
        return served_rows(self.store, NAME)[0]

    def is_served(self) -> bool:
        """Say whether a new replica serves exactly the table's rows, and the catalog counts as many."""
        return self.served() == self.rows and self.catalog.read().live_rows == len(self.rows)
