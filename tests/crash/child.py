"""The sync that gets killed: ``python -m tests.crash.child STORE NAME TABLE CACHE``."""

from __future__ import annotations

import sys
from pathlib import Path

from connectors.delta_source import DeltaSource
from connectors.session import spark_session
from indexer.format.store import Store
from indexer.sync import sync
from tests.conftest import SHORT_RUNS


def main() -> None:
    """Sync once."""
    store, name, table, cache = sys.argv[1:]
    spark = spark_session("grebe-crash", master="local[2]", shuffle_partitions=2, extra_conf=SHORT_RUNS)
    sync(Store.at(store), name, lambda spec: DeltaSource(spark, table, spec.source_columns), cache=Path(cache))


if __name__ == "__main__":
    main()
