from __future__ import annotations

import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyspark
import pytest
from py4j.protocol import Py4JJavaError  # type: ignore[import-untyped]
from pyspark import SparkContext, java_gateway
from pyspark.sql import SparkSession

from connectors.errors import JavaMissing
from connectors.session import (
    POOL,
    SMALL_BATCHES,
    _ended_if_interrupted,
    cancellable,
    for_large_batches,
    giving_way,
    is_alive,
    java_major,
    require_java,
    spark_session,
)
from indexer.apply import apply
from tests.scene import Scene


def test_an_active_session_is_reused_as_it_is(spark: SparkSession) -> None:
    again = spark_session("other", shuffle_partitions=7, extra_conf={"spark.sql.session.timeZone": "Asia/Tokyo"})

    assert again is spark
    assert again.conf.get("spark.sql.shuffle.partitions") == "2"
    assert again.conf.get("spark.sql.session.timeZone") == "UTC"


@pytest.fixture
def small(spark: SparkSession) -> SparkSession:
    """A session as one outside the tests is."""
    small = spark.newSession()
    small.conf.set(SMALL_BATCHES, "true")
    return small


def test_large_batches_have_a_copy_of_the_session_whose_plans_are_compiled(
    spark: SparkSession, small: SparkSession
) -> None:
    small.conf.set("spark.sql.caseSensitive", "true")
    small.range(3).createOrReplaceTempView("three")

    large = for_large_batches(small)

    names = ("spark.sql.codegen.wholeStage", "spark.sql.caseSensitive")
    assert [session.conf.get(name) for session in (small, large) for name in names] == ["false", "true", "true", "true"]
    assert large.table("three").count() == 3
    assert [for_large_batches(session) is session for session in (spark, small, large)] == [True, False, True]


def test_a_source_reads_and_follows_in_both_sessions(small: SparkSession, tmp_path: Path) -> None:
    small.sql("CREATE SCHEMA both")
    small.sql("USE both")
    try:
        scene = Scene(small, tmp_path)
        small.sql(
            "CREATE TABLE notes (id BIGINT, body STRING, n INT) USING delta "
            f"LOCATION '{scene.table}' TBLPROPERTIES (delta.enableChangeDataFeed = true)"
        )
        scene.sql("INSERT INTO {t} VALUES (1, 'a', 0), (1, 'b', 0), (2, 'two', 0)")
        apply(scene.store, scene.spec(source={"table": "notes"}))
        scene.sync()
        scene.sql("DELETE FROM {t} WHERE body = 'a'")

        scene.sync()

        assert scene.is_served()
    finally:
        small.sql("DROP SCHEMA both CASCADE")


def test_workers_have_the_installed_pyspark(spark: SparkSession) -> None:
    def places(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        import pyspark

        yield from (pa.RecordBatch.from_pydict({"place": [pyspark.__file__]}) for _ in batches)

    (row,) = spark.range(1).mapInArrow(places, "place string").collect()
    assert row.place == pyspark.__file__


def test_a_session_litters_no_working_directory(spark: SparkSession) -> None:
    spark.sql("SELECT 1").collect()

    assert {"spark-warehouse", "metastore_db", "derby.log"}.isdisjoint(os.listdir())


@pytest.mark.parametrize(
    ("said", "major"),
    [('openjdk version "17.0.15" 2025-04-15', 17), ('java version "1.8.0_412"', 8), ('openjdk version "21" 2023', 21)],
)
def test_the_java_version_is_read_from_what_java_says(said: str, major: int) -> None:
    assert java_major(said) == major


def test_a_missing_java_is_one_sentence_with_the_line_that_installs_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))

    with pytest.raises(JavaMissing, match=r"needs Java 17 or 21 .*`sudo apt-get install -y openjdk-17-jre-headless`"):
        require_java()


def test_an_old_java_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    java = tmp_path / "bin" / "java"
    java.parent.mkdir()
    java.write_text("#!/bin/sh\necho 'openjdk version \"11.0.2\" 2019-01-15' >&2\n")
    java.chmod(0o755)
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))

    with pytest.raises(JavaMissing, match="is Java 11: install it"):
        require_java()


def test_a_session_is_alive_until_its_jvm_stops_or_answers_no_more(spark: SparkSession) -> None:
    assert is_alive(spark)
    for gone in (None, _Silent()):
        assert not is_alive(SimpleNamespace(sparkContext=SimpleNamespace(_jsc=gone)))  # type: ignore[arg-type]


class _Silent:
    """A JVM's object whose process is gone."""

    def sc(self) -> Any:
        raise ConnectionRefusedError(111, "Connection refused")


def test_no_jvm_outlives_a_start_that_is_interrupted() -> None:
    spawn, started = java_gateway.Popen, []  # type: ignore[attr-defined]

    def interrupted() -> None:
        started.append(java_gateway.Popen(["sleep", "600"]))  # type: ignore[attr-defined]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), _ended_if_interrupted():
        interrupted()

    assert started[0].poll() is not None
    assert java_gateway.Popen is spawn  # type: ignore[attr-defined]


def test_a_load_gives_way_to_the_jobs_of_others(spark: SparkSession) -> None:
    context = spark.sparkContext
    assert context.getConf().get("spark.scheduler.mode") == "FAIR"

    with giving_way(spark):
        assert context.getLocalProperty(POOL) == "grebe-load"

    assert context.getLocalProperty(POOL) is None


def test_what_ended_the_work_is_not_hidden_by_a_spark_that_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    class Ended:
        def addJobTag(self, tag: str) -> None:  # noqa: N802
            pass

    monkeypatch.setattr(SparkContext, "_active_spark_context", Ended())
    with pytest.raises(RuntimeError, match="held"), cancellable():
        raise RuntimeError("held")


def test_jobs_are_cancelled_from_another_thread_and_their_busy_workers_end(spark: SparkSession, tmp_path: Path) -> None:
    started = tmp_path / "pid"

    def busy(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        started.write_text(str(os.getpid()))
        while True:
            time.sleep(0.01)
        yield from batches

    def cancelled() -> None:
        while not (started.exists() and started.read_text()):
            time.sleep(0.05)
        assert not spark.sparkContext.getJobTags()  # of this thread's own jobs
        cancel()

    with ThreadPoolExecutor(1) as pool, cancellable() as cancel:
        ending = pool.submit(cancelled)
        with pytest.raises(Py4JJavaError, match="cancelled"):
            spark.range(1).mapInArrow(busy, "id long").collect()
        ending.result()

    assert spark.range(3).count() == 3
    deadline = time.monotonic() + 30
    while Path(f"/proc/{started.read_text()}").exists():
        assert time.monotonic() < deadline
        time.sleep(0.1)
