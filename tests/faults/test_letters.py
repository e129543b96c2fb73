"""Rows that were set aside: counted, kept whole, and cleared by mending them at the source."""

from __future__ import annotations

import pytest
from pyspark.sql import SparkSession

import indexer.publish
from connectors.contract import DELETE, UPSERT
from connectors.memory_source import MemorySource
from indexer.apply import apply
from indexer.letters import read_letters
from indexer.netting import REASONS
from indexer.sync import sync
from indexer.verify import verify
from tests.scene import COLUMNS, Scene
from tests.served import served_rows

TWIN = ("[1]", REASONS["duplicate_key"])


def letters(scene: Scene) -> list[tuple[str, str]]:
    table = read_letters(scene.state.letters, scene.catalog.store)
    assert len(table) == scene.state.letter_count
    return sorted(zip(table["key"].to_pylist(), table["reason"].to_pylist(), strict=True))


def served(scene: Scene) -> dict[int, str]:
    return {key: row["body"] for key, row in served_rows(scene.store, "scene")[0].items()}


def is_verified(scene: Scene) -> bool:
    return verify(scene.source_of(scene.spec()), scene.catalog, scene.folder / "verify").equal


def test_mending_rows_at_the_source_clears_their_letters(scene: Scene) -> None:
    scene.load("(1, 'one', 0), (2, cast(X'ff' AS STRING), 0), (NULL, 'keyless', 0), (NULL, 'lost', 0)")
    assert letters(scene) == [
        ("[2]", "the text is not valid UTF-8"),
        ("[null]", "the key is null"),
        ("[null]", "the key is null"),
    ]
    scene.sql("UPDATE {t} SET body = 'two' WHERE id = 2")
    scene.sql("UPDATE {t} SET id = 3 WHERE body = 'keyless'")

    scene.sync()

    assert letters(scene) == [("[null]", "the key is null")]
    scene.sql("DELETE FROM {t} WHERE id IS NULL")
    scene.sync()
    assert (letters(scene), scene.state.letters) == ([], ())
    assert scene.is_served()


def test_a_row_that_goes_bad_again_has_one_letter(scene: Scene) -> None:
    scene.load("(1, cast(X'ff' AS STRING), 0)")
    scene.sql("UPDATE {t} SET n = 1")

    scene.sync()

    assert letters(scene) == [("[1]", "the text is not valid UTF-8")]


@pytest.mark.parametrize("gone", ["a", pytest.param("b", marks=pytest.mark.soak)])
def test_deleting_one_of_two_rows_of_a_key_leaves_the_other_and_clears_the_letter(scene: Scene, gone: str) -> None:
    scene.load("(1, 'a', 0), (1, 'b', 0), (2, 'two', 0)")
    assert letters(scene) == [TWIN]
    scene.sql(f"DELETE FROM {{t}} WHERE body = '{gone}'")

    scene.sync()

    assert letters(scene) == []
    assert scene.is_served()
    assert is_verified(scene)
    scene.sql("DELETE FROM {t} WHERE id = 1")
    scene.sync()
    assert served(scene) == {2: "two"}


def test_deleting_one_of_two_equal_rows_leaves_the_other(scene: Scene) -> None:
    scene.load("(1, 'same', 0), (1, 'same', 0)")
    assert letters(scene) == [TWIN]
    rows = scene.spark.createDataFrame([(1, "same", 0)], "id BIGINT, body STRING, n INT")
    scene.sql("DELETE FROM {t}")
    rows.write.format("delta").mode("append").save(str(scene.table))

    scene.sync()

    assert letters(scene) == []
    assert scene.is_served()


def test_a_second_row_of_a_key_is_set_aside_whenever_it_comes_and_served_when_the_first_goes(scene: Scene) -> None:
    scene.load()
    scene.sql("INSERT INTO {t} VALUES (1, 'another one', 0)")

    scene.sync()

    assert letters(scene) == [TWIN]
    assert served(scene)[1] in {"one", "another one"}
    assert is_verified(scene)
    scene.sql("DELETE FROM {t} WHERE body = 'another one'")
    scene.sync()
    assert letters(scene) == []
    assert scene.is_served()


@pytest.mark.soak
def test_a_second_row_that_comes_and_a_first_that_goes_in_one_batch_leave_the_second(scene: Scene) -> None:
    scene.load()
    scene.sql("INSERT INTO {t} VALUES (1, 'another one', 0)")
    scene.sql("DELETE FROM {t} WHERE body = 'one'")

    scene.sync()

    assert letters(scene) == []
    assert scene.is_served()


@pytest.mark.soak
def test_of_three_rows_of_a_key_one_is_served_and_the_choice_is_that_of_a_load(scene: Scene) -> None:
    scene.load("(1, 'a', 0), (1, 'b', 0)")
    scene.sql("INSERT INTO {t} VALUES (1, 'c', 0), (2, 'two', 0)")

    scene.sync()

    assert letters(scene) == [TWIN, TWIN]
    chosen = served(scene)
    scene.sync(compare=True)
    assert (served(scene), letters(scene)) == (chosen, [TWIN, TWIN])
    assert is_verified(scene)


@pytest.mark.soak
def test_a_bad_row_beside_a_good_one_of_its_key_keeps_its_letter_and_goes_by_itself(scene: Scene) -> None:
    scene.load("(1, cast(X'ff' AS STRING), 0), (1, 'good', 0)")
    bad = ("[1]", REASONS["bad_utf8"])
    assert letters(scene) == [bad]
    scene.sql("UPDATE {t} SET n = 1 WHERE body = 'good'")
    scene.sync()
    assert (letters(scene), served(scene)) == ([bad], {1: "good"})
    scene.sql("DELETE FROM {t} WHERE body <> 'good'")

    scene.sync()

    assert (letters(scene), served(scene)) == ([], {1: "good"})


def test_too_many_keys_that_a_table_has_twice_are_settled_by_comparing_it(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(indexer.publish, "MAX_KEYS", 2)
    scene.load("(1, 'a', 0), (1, 'b', 0), (2, 'a', 0), (2, 'b', 0), (3, 'a', 0), (3, 'b', 0)")
    scene.sql("DELETE FROM {t} WHERE body = 'b' AND id < 3")
    assert scene.sync().healed == []
    scene.sql("INSERT INTO {t} VALUES (1, 'c', 0), (2, 'c', 0)")
    scene.sql("DELETE FROM {t} WHERE body = 'a'")

    report = scene.sync()

    assert report.healed == [
        "scene: the changes up to version 4 touch 3 keys that the table has more than once, more than the 2 that are "
        "read one by one"
    ]
    assert letters(scene) == []
    assert scene.is_served()


def test_files_of_the_table_that_hold_none_of_the_keys_are_not_read(scene: Scene) -> None:
    scene.load("(1, 'a', 0), (1, 'b', 0), (2, 'a', 0), (2, 'b', 0)")
    before = set(scene.table.glob("*.parquet"))
    scene.sql("INSERT INTO {t} VALUES (100, 'far', 0)")
    scene.sync()
    for far in set(scene.table.glob("*.parquet")) - before:
        far.unlink()
    scene.sql("DELETE FROM {t} WHERE id < 3 AND body = 'a'")

    assert scene.sync().healed == []

    assert (letters(scene), served(scene)) == ([], {1: "b", 2: "b", 100: "far"})


def test_keys_of_any_type_are_found_again_in_the_table(scene: Scene) -> None:
    columns = "id TIMESTAMP, part DECIMAL(10, 2), code STRING, body STRING, n INT"
    scene.create(columns)
    scene.sql(
        "INSERT INTO {t} SELECT timestamp_micros(cast(number * 1000003 AS BIGINT)), number, concat('k', number), twin, "
        "0 FROM (SELECT explode(sequence(1, 4)) AS number), (SELECT explode(array('a', 'b')) AS twin)"
    )
    apply(scene.store, scene.spec(key=["id", "part", "code"], shards=2))
    scene.sync()
    assert scene.state.letter_count == 4
    scene.sql("DELETE FROM {t} WHERE body = 'a' OR part > 3")

    scene.sync()

    assert scene.state.letter_count == 0
    rows = served_rows(scene.store, "scene")[0].values()
    assert sorted((row["code"], row["body"]) for row in rows) == [("k1", "b"), ("k2", "b"), ("k3", "b")]


def test_rows_of_a_key_in_memory_are_followed_one_by_one(spark: SparkSession, scene: Scene) -> None:
    schema = spark.createDataFrame([], "id bigint, body string, n int").schema
    source = MemorySource(spark, schema, COLUMNS)
    first, second = {"id": 1, "body": "a", "n": 0}, {"id": 1, "body": "b", "n": 0}
    source.commit([(UPSERT, first), (UPSERT, second), (UPSERT, second)])
    apply(scene.store, scene.spec())

    def run() -> list[tuple[str, str]]:
        sync(scene.store, "scene", lambda spec: source, cache=scene.folder / "cache")
        return letters(scene)

    assert run() == [TWIN, TWIN]
    source.commit([(DELETE, second)])
    assert run() == [TWIN]
    source.commit([(DELETE, first)])
    assert (run(), served(scene)) == ([], {1: "b"})
    source.commit([(DELETE, second)])
    assert (run(), served(scene)) == ([], {})
