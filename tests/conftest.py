"""What tests of several rooms share: one Spark session for the whole run."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from tests.scene import Scene

# The model comes with a package; no test may wait for a hub.
os.environ.setdefault("HF_HUB_OFFLINE", "1")

# Thousands of tiny jobs, each run once: compiling them well costs more than it brings, and no batch is large (named
# here, plans are interpreted for loads too). What is compiled fills the 48 MB that Java gives to its first compiler
# alone, and would then be thrown away again.
SHORT_RUNS = {
    "spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC -XX:ReservedCodeCacheSize=256m",
    "spark.sql.codegen.wholeStage": "false",
    "spark.sql.codegen.factoryMode": "NO_CODEGEN",
}


@pytest.fixture(scope="session")
def spark() -> Iterator[SparkSession]:
    """Yield a small local session with Delta; the first test that asks for it starts the JVM."""
    from connectors.session import spark_session

    session = spark_session("grebe-tests", master="local[2]", shuffle_partitions=2, extra_conf=SHORT_RUNS)
    yield session
    session.stop()


@pytest.fixture
def scene(spark: SparkSession, tmp_path: Path) -> Scene:
    """A Delta table, not made yet, and a store for a collection over it."""
    from tests.scene import Scene

    return Scene(spark, tmp_path)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of a few megabytes; see :mod:`tests.small_disk`."""
    from tests.small_disk import mounted

    with mounted(tmp_path / "disk") as disk:
        yield disk
