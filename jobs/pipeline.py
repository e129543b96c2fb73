"""One sync with a Spark session of its own: what ``grebe sync``, the evaluation and the demo run."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

from pyspark.logger import PySparkLogger

from connectors.contract import POLL_SECONDS
from connectors.session import is_s3, spark_session
from indexer.catalog import Catalog, CatalogState
from indexer.format.store import Store
from indexer.sync import SyncReport, sync
from indexer.verify import Verification, verify
from jobs.progress import Report
from jobs.sources import open_source


def run_sync(
    store: Store,
    name: str,
    *,
    cache: Path,
    continuous: bool = False,
    interval_seconds: float = POLL_SECONDS,
    stop: Callable[[], bool] = lambda: False,
    progress: Report | None = None,
    committed: Callable[[CatalogState], None] = lambda state: None,
    healing: Callable[[str], None] = lambda reason: None,
    approve: int | None = None,
    release: bool = False,
    compare: bool = False,
) -> SyncReport:
    """Bring the collection ``name`` to its table's newest version; see :func:`indexer.sync.sync`."""
    state = Catalog.open(store, name).read()
    _hush()
    spark = spark_session(f"grebe sync {name}", s3=is_s3((state.pending or state.spec).source.table))
    return sync(
        store,
        name,
        lambda spec: open_source(spark, spec),
        cache=cache / "sync",  # apart from the readers' cache, which evicts what no reader holds
        continuous=continuous,
        interval_seconds=interval_seconds,
        stop=stop,
        progress=progress,
        committed=committed,
        healing=healing,
        approve=approve,
        release=release,
        compare=compare,
    )


def run_verify(store: Store, name: str, *, cache: Path) -> Verification:
    """Compare the collection ``name`` with its table; see :func:`indexer.verify.verify`."""
    catalog = Catalog.open(store, name)
    spec = catalog.read().spec
    _hush()
    spark = spark_session(f"grebe verify {name}", s3=is_s3(spec.source.table))
    return verify(open_source(spark, spec), catalog, cache / "sync")


def _hush() -> None:
    """Keep PySpark from logging the errors that it raises: they would be told twice, once with the whole plan."""
    PySparkLogger.getLogger("DataFrameQueryContextLogger").setLevel(logging.CRITICAL)
