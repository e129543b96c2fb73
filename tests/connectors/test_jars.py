from __future__ import annotations

import threading
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
    assert jars.packages({"s3"})[1] == "org.apache.hadoop:hadoop-aws:3.5.0"
    assert jars.packages({"google", "azure"})[1:] == [
        "org.apache.hadoop:hadoop-azure:3.5.0",
        "org.apache.hadoop:hadoop-gcp:3.5.0",
    ]


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """What Delta's coordinates may be resolved to."""
    (delta,) = jars.packages()
    group, artifact, version = delta.split(":")
    files = [tmp_path / "i v y" / name for name in (f"{group}_{artifact}-{version}.jar", "org.antlr_antlr4-4.jar")]
    files[0].parent.mkdir()
    for file in files:
        file.touch()
    return files


def named(files: list[Path]) -> str:
    return ",".join(file.as_uri() for file in files)


def test_files_stand_for_their_coordinates_while_all_of_them_are_there(files: list[Path]) -> None:
    delta, s3 = jars.to_resolve(), jars.to_resolve({"s3"})
    assert jars.resolved(delta) == delta

    jars.remember(delta, named(files))

    assert (jars.resolved(delta), jars.resolved(s3)) == ({"spark.jars": named(files)}, s3)
    files[1].unlink()
    assert jars.resolved(delta) == delta


def test_files_without_what_was_wanted_are_not_remembered(files: list[Path], caches: Path) -> None:
    delta = jars.to_resolve()
    for others in ("", named(files[1:])):
        jars.remember(delta, others)
    assert jars.resolved(delta) == delta
    assert not caches.exists()


def test_a_memory_that_does_not_name_them_counts_as_none(files: list[Path], caches: Path) -> None:
    delta = jars.to_resolve()
    jars.remember(delta, named(files))
    (memory,) = caches.rglob("*.txt")
    for broken in ("", "//[", "file:/nowhere.jar", f"{named(files[:1])}\n//["):
        memory.write_text(broken)
        assert jars.resolved(delta) == delta


def test_of_two_that_have_ivy_look_the_second_waits_and_takes_what_the_first_found(files: list[Path]) -> None:
    delta = jars.to_resolve()
    entered, names = threading.Event(), []

    def second() -> None:
        entered.set()
        with jars.found(delta) as settings:
            names.append(settings)

    with jars.found(delta) as settings:
        assert settings == delta
        other = threading.Thread(target=second)
        other.start()
        assert entered.wait(10)
        other.join(0.2)
        assert not names
        jars.remember(delta, named(files))
    other.join(10)
    assert names == [{"spark.jars": named(files)}]


def test_who_waits_too_long_for_anothers_ivy_goes_on(files: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jars, "PATIENCE", 0.2)
    delta = jars.to_resolve()
    with jars.found(delta), jars.found(delta) as settings:
        assert settings == delta


def test_who_needs_no_ivy_waits_for_nobody(files: list[Path]) -> None:
    delta = jars.to_resolve()
    with jars.found(delta, remembered=False) as settings:
        assert settings == delta
        jars.remember(delta, named(files))
        with jars.found(delta) as others:
            assert others == {"spark.jars": named(files)}


def test_a_cache_that_cannot_be_written_is_done_without(files: list[Path], caches: Path) -> None:
    caches.touch()
    delta = jars.to_resolve()
    jars.remember(delta, named(files))
    with jars.found(delta) as settings:
        assert settings == delta


def test_where_somebody_else_may_name_jars_ivy_looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = {"spark.jars.packages": "a:b:1"}
    assert [jars.are_ours(conf) for conf in ({}, {"spark.ui.enabled": "true"}, own)] == [True, True, False]
    monkeypatch.setenv("PYSPARK_SUBMIT_ARGS", "--jars /x/pg.jar pyspark-shell")
    assert not jars.are_ours({})
    monkeypatch.delenv("PYSPARK_SUBMIT_ARGS")
    (tmp_path / "spark-defaults.conf").touch()
    assert not jars.are_ours({})


def test_a_session_knows_its_files_and_they_are_those_that_were_wanted(spark: SparkSession) -> None:
    files = spark.sparkContext.getConf().get("spark.jars", "")
    jars.remember(jars.to_resolve(), files)
    assert jars.resolved(jars.to_resolve()) == {"spark.jars": files}
