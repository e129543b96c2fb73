"""What a collection serves, row by row, for comparison with its table."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from indexer.catalog import Catalog
from indexer.format.store import Store
from retrieval.cache import LocalCache
from retrieval.policies import WHOLE
from retrieval.request import MAX_K, SearchRequest
from retrieval.rows import get_row
from retrieval.search import search
from retrieval.snapshot import open_snapshot
from tests import deltars

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

Rows = dict[Any, dict[str, Any]]


def served_rows(store: Store, name: str, *, version: int | None = None) -> tuple[Rows, int | None]:
    """Open the collection as a new replica would, with an empty cache; return its rows by key and the source version.

    Every file that the version names is fetched and verified on the way.
    """
    with tempfile.TemporaryDirectory() as folder:
        cache = LocalCache(Path(folder))
        with open_snapshot(Catalog.open(store, name), cache, version=version) as snapshot:
            hits = search(snapshot, SearchRequest(k=MAX_K)).results
            assert len(hits) < MAX_K, "more rows than one search can show"
            keys = [hit.key for hit in hits]
            assert len(set(keys)) == len(keys), "a key is served twice"
            rows = {}
            for key in keys:
                row = get_row(snapshot, key, WHOLE)
                assert row is not None
                rows[key[0]] = dict(row.fields)
            assert len(rows) == len(keys), "a row is served under two keys"
            return rows, snapshot.source_version


def table_rows(spark: SparkSession, path: Path, columns: tuple[str, ...], version: int | None = None) -> Rows:
    """Return the table's rows by ``id`` at ``version``, or at the newest one."""
    plain = deltars.rows(path, columns, version)
    if plain is not None:
        return {row["id"]: {name: row[name] for name in columns} for row in plain}
    reader = spark.read.format("delta")
    if version is not None:
        reader = reader.option("versionAsOf", version)
    return {row.id: {name: row[name] for name in columns} for row in reader.load(str(path)).select(*columns).collect()}
