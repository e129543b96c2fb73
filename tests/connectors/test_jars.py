from __future__ import annotations

from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from connectors import jars


@pytest.fixture(autouse=True)
def caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    monkeypatch.setenv("SPARK_CONF_DIR", str(tmp_path))
    return tmp_path / "caches"


def test_the_coordinates_match_what_is_installed() -> None:
    assert jars.packages() == ["io.delta:delta-spark_4.2_2.13:4.4.0"]
    assert jars.packages(s3=True)[1] == "org.apache.hadoop:hadoop-aws:3.5.0"


def test_files_stand_for_their_coordinates_while_all_of_them_are_there(tmp_path: Path) -> None:
    delta, s3 = jars.to_resolve(), jars.to_resolve(s3=True)
    assert jars.resolved(delta) == delta
    files = [tmp_path / name for name in ("a b.jar", "c.jar")]
    for file in files:
        file.touch()
    named = ",".join(file.as_uri() for file in files)

    jars.remember(delta, named)

    assert (jars.resolved(delta), jars.resolved(s3)) == ({"spark.jars": named}, s3)
    files[0].unlink()
    assert jars.resolved(delta) == delta


def test_a_memory_that_is_no_list_of_files_counts_as_none(caches: Path) -> None:
    delta = jars.to_resolve()
    jars.remember(delta, "")
    assert jars.resolved(delta) == delta
    (memory,) = caches.rglob("*.json")
    for broken in ("", "{", "[]", "3", "null", "[1]"):
        memory.write_text(broken)
        assert jars.resolved(delta) == delta


def test_a_cache_that_cannot_be_written_is_done_without(caches: Path) -> None:
    caches.touch()
    delta = jars.to_resolve()
    jars.remember(delta, "file:/a.jar")
    assert jars.resolved(delta) == delta


def test_somebody_elses_jars_are_left_to_ivy(tmp_path: Path) -> None:
    named = {"spark.jars.packages": "a:b:1"}
    assert [jars.are_ours(conf) for conf in ({}, {"spark.ui.enabled": "true"}, named)] == [True, True, False]
    (tmp_path / "spark-defaults.conf").touch()
    assert not jars.are_ours({})


def test_a_session_knows_the_files_that_ivy_found(spark: SparkSession) -> None:
    files = spark.sparkContext.getConf().get("spark.jars", "")
    assert [Path(file).name.startswith("io.delta_delta-spark") for file in files.split(",")].count(True) == 1
    jars.remember(jars.to_resolve(), files)
    assert jars.resolved(jars.to_resolve()) == {"spark.jars": files}
