"""Having this machine's Java archive the classes of a sync, so that later ones start sooner."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pyarrow as pa
from deltalake import write_deltalake

from connectors.class_archive import archive_of, recorded
from connectors.session import JAVA_OPTIONS, ended, require_java, spark_session
from indexer.apply import apply
from indexer.format.store import Store
from indexer.spec import CollectionSpec, SourceSpec, TextSpec, VectorSpec
from indexer.sync import SyncOptions, sync
from jobs.errors import CommandError
from jobs.sources import open_source


def prepare() -> Path:
    """Sync a table of two rows twice in a JVM that archives its classes as it ends, and return the archive.

    Raises :class:`jobs.errors.CommandError` in a process that has a session already.
    """
    from pyspark import SparkContext

    if SparkContext._gateway is not None:
        raise CommandError("this process has a Spark session, whose classes are loaded; prepare in one of its own")
    java = require_java()
    with tempfile.TemporaryDirectory(prefix="grebe-prepare-") as folder, recorded(java) as option:
        spark = spark_session("grebe prepare", extra_conf={JAVA_OPTIONS: option})
        try:
            store, table = Store.at(str(Path(folder) / "store")), str(Path(folder) / "table")
            apply(store, _spec(table))
            for number in range(2):
                _write(table, number)
                sync(store, "rows", lambda spec: open_source(spark, spec), cache=Path(folder), options=SyncOptions())
        finally:
            ended(spark)
    archive = archive_of(java)
    assert archive is not None, "it was recorded"
    return archive


def _spec(table: str) -> CollectionSpec:
    text, vector = TextSpec(fields={"body": 1.0}), VectorSpec(model="hash:8")
    return CollectionSpec(name="rows", source=SourceSpec(table=table), key=("id",), text=text, vector=vector)


def _write(table: str, number: int) -> None:
    rows = pa.table({"id": [number, number + 1], "body": [f"row {number}", None]})
    feed = {"delta.enableChangeDataFeed": "true"}
    write_deltalake(table, rows, mode="append", configuration=feed if number == 0 else None)
