"""A sync through Spark: loads that are resumed, rebuilds, bad tables, and freshness of a quiet one."""

from __future__ import annotations

import shutil
import sys
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from connectors.errors import SchemaMismatch
from indexer.apply import apply
from indexer.catalog import Catalog, CatalogState, SourcePosition
from indexer.compact import purge
from indexer.errors import ObjectNotFound
from indexer.format.records import Ledger
from indexer.format.segment import fetch_segment, read_segment
from indexer.netting import REASONS
from indexer.sync import SyncReport
from indexer.vacuum import vacuum
from tests.scene import COLUMNS, Scene
from tests.served import served_rows, table_rows


def test_a_load_then_changes_then_nothing(scene: Scene) -> None:
    scene.create()
    scene.sql("INSERT INTO {t} VALUES (1, 'one', 0), (2, 'two', 0), (3, 'three', 0)")
    apply(scene.store, scene.spec())
    told: list[tuple[str, int, int | None]] = []

    first = scene.sync(progress=lambda stage, done, total: told.append((stage, done, total)))
    scene.sql("UPDATE {t} SET body = 'zwei' WHERE id = 2")
    scene.sql("DELETE FROM {t} WHERE id = 3")
    second = scene.sync()
    third = scene.sync()

    assert (first.commits, first.ledger) == (1, Ledger(read=3, upserted=3, embedded=3))
    assert (told[0], told[-1]) == (("embedding", 0, 3), ("loaded", 3, 3))
    assert (second.ledger.upserted, second.ledger.deleted) == (1, 1)
    assert (third.commits, third.ledger) == (0, Ledger())
    rows, version = served_rows(scene.store, "scene")
    assert (rows, version) == (table_rows(scene.spark, scene.table, COLUMNS), 3)


def test_an_empty_table_is_a_position_without_segments_and_fills_later(scene: Scene) -> None:
    scene.create()
    apply(scene.store, scene.spec())

    scene.sync()

    assert (scene.state.segments, served_rows(scene.store, "scene")) == ((), ({}, 0))
    scene.sql("INSERT INTO {t} VALUES (1, 'one', 0)")
    scene.sync()
    assert served_rows(scene.store, "scene") == ({1: {"id": 1, "body": "one", "n": 0}}, 1)


def test_a_load_that_was_interrupted_goes_on_with_the_parts_that_are_missing(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene.create()
    scene.spark.range(3000).selectExpr("id", "concat('body ', id) AS body", "0 AS n").write.format("delta").mode(
        "append"
    ).save(str(scene.table))
    apply(scene.store, scene.spec())
    with monkeypatch.context() as patch:
        patch.setattr(Catalog, "commit", _lose_power)
        with pytest.raises(KeyboardInterrupt):
            scene.sync()
    parts = {file: file.stat().st_mtime_ns for file in scene.folder.glob("store/scene/loads/*/part-*.json")}
    assert len(parts) == 2
    lost = sorted(parts)[0]
    lost.unlink()
    segments = len(list(scene.folder.glob("store/scene/segments/*")))
    scene.sql("DELETE FROM {t} WHERE id < 10")

    scene.sync()

    assert len(list(scene.folder.glob("store/scene/segments/*"))) == segments + 1
    assert scene.state.position == SourcePosition(epoch=scene.state.position.epoch, version=2)  # type: ignore[union-attr]
    assert scene.state.n_chunks == 2990
    assert list(scene.folder.glob("store/scene/loads/*/*")) == []


def _lose_power(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def test_a_rebuild_is_built_beside_the_old_index_and_swapped_in_by_one_commit(scene: Scene) -> None:
    scene.create("id BIGINT, body STRING, n INT, more STRING")
    scene.sql("INSERT INTO {t} VALUES (1, 'one', 0, 'eins'), (2, 'two', 0, 'zwei')")
    apply(scene.store, scene.spec())
    scene.sync()
    before = scene.state
    wider = scene.spec(text={"fields": {"body": 1.0, "more": 2.0}})
    apply(scene.store, wider, rebuild=True)
    assert served_rows(scene.store, "scene")[0][1] == {"id": 1, "body": "one", "n": 0}
    scene.sql("INSERT INTO {t} VALUES (3, 'three', 0, 'drei')")

    report = scene.sync()

    assert report.commits == 2  # the old index takes what there is first
    assert (scene.state.spec, scene.state.pending) == (wider, None)
    assert not {segment.number for segment in before.segments} & {segment.number for segment in scene.state.segments}
    assert served_rows(scene.store, "scene")[0] == table_rows(scene.spark, scene.table, ("id", "n", "body", "more"))


def test_a_rebuild_embeds_only_texts_that_changed(scene: Scene) -> None:
    scene.create("id BIGINT, body STRING, n INT, more STRING")
    scene.sql("INSERT INTO {t} VALUES (1, 'one', 0, 'eins'), (2, 'two', 0, 'zwei'), (3, 'three', 0, 'drei')")
    apply(scene.store, scene.spec(shards=2))
    scene.sync()
    vectors = vectors_by_key(scene)
    scene.sql("UPDATE {t} SET body = 'second' WHERE id = 2")
    scene.sql("INSERT INTO {t} VALUES (4, 'four', 0, 'vier')")

    apply(scene.store, scene.spec(shards=2, columns=["n", "more"]), rebuild=True)
    report = scene.sync()

    assert report.ledger.embedded == 2  # once, by the old index
    assert scene.state.ledger == Ledger(read=4, upserted=4)
    assert served_rows(scene.store, "scene")[0] == table_rows(scene.spark, scene.table, ("id", "n", "body", "more"))
    rebuilt = vectors_by_key(scene)
    assert {key: rebuilt[key] for key in (1, 3)} == {key: vectors[key] for key in (1, 3)}
    assert rebuilt[2] != vectors[2]
    assert all(any(vector) for vector in rebuilt.values())


@pytest.mark.parametrize(
    ("changed", "embedded"),
    [
        pytest.param({}, 3, id="nothing: its model's files may be others"),
        pytest.param({"policies": [{"role": "all", "rows": "TRUE"}], "columns": ["n"]}, 3, id="policies"),
        pytest.param({"vector": {"model": "hash:16"}}, 3, id="the model"),
        pytest.param({"text": {"fields": {"body": 2.0}, "language": "none"}}, 0, id="the words' language"),
        pytest.param({"shards": 3}, 0, id="where rows are"),
    ],
)
def test_what_a_rebuild_embeds(scene: Scene, changed: dict[str, Any], embedded: int) -> None:
    scene.load()

    apply(scene.store, scene.spec(**changed), rebuild=True)

    assert scene.sync().ledger.embedded == embedded
    assert scene.state.live_rows == 3


def test_a_rebuild_of_the_spec_as_it_is_embeds_all_whatever_was_applied_before(scene: Scene) -> None:
    scene.load()
    fusion = {"fusion": {"kind": "rrf"}}
    apply(scene.store, scene.spec(columns=[]))
    apply(scene.store, scene.spec(columns=[], **fusion), rebuild=True)

    assert scene.sync().ledger.embedded == 3


def test_a_rebuild_needs_nothing_of_the_old_index(scene: Scene) -> None:
    scene.load()
    for record in scene.state.segments:
        for file in record.files:
            (scene.folder / "store/scene" / file.path).unlink()
    apply(scene.store, scene.spec(text={"fields": {"body": 1.0}, "language": "none"}), rebuild=True)

    assert scene.sync().ledger.embedded == 3
    assert scene.is_served()


def vectors_by_key(scene: Scene) -> dict[int, list[float]]:
    found: dict[int, list[float]] = {}
    for record in scene.state.segments:
        files = read_segment(fetch_segment(scene.store.child("scene"), record, scene.folder / "looked-at"))
        keys = files.chunks()["column.id"].to_pylist()
        found.update(zip(keys, files.vectors.tolist(), strict=True))
    return found


def test_bad_rows_are_set_aside_by_name_and_the_rest_goes_on(scene: Scene) -> None:
    scene.create("id BIGINT, body STRING, n INT, v ARRAY<FLOAT>")
    scene.sql(
        "INSERT INTO {t} VALUES (1, 'fine', 0, array(1f, 0f)), (2, 'too wide', 0, array(1f, 0f, 0f)), "
        "(3, 'zero', 0, array(0f, 0f)), (4, 'not a number', 0, array(float('NaN'), 0f)), "
        "(NULL, 'keyless', 0, array(1f, 0f)), (5, 'none', 0, NULL), (6, cast(X'ff41' AS STRING), 0, array(0f, 1f)), "
        "(7, 'twin a', 0, array(0f, 1f)), (7, 'twin b', 0, array(0f, 1f))"
    )
    apply(scene.store, scene.spec(vector={"column": "v", "dim": 2}))

    report = scene.sync()

    assert report.ledger == Ledger(read=9, upserted=3, set_aside=6)
    assert sorted(served_rows(scene.store, "scene")[0]) == [1, 5, 7]
    letters = scene.spark.read.parquet(*[str(scene.folder / "store/scene" / file.path) for file in scene.state.letters])
    assert sorted((row.key, row.reason) for row in letters.collect()) == [
        ("[2]", REASONS["wrong_width"]),
        ("[3]", REASONS["zero_vector"]),
        ("[4]", REASONS["not_finite"]),
        ("[6]", REASONS["bad_utf8"]),
        ("[7]", REASONS["duplicate_key"]),
        ("[null]", REASONS["null_key"]),
    ]


def test_the_width_of_vectors_is_that_of_most(scene: Scene) -> None:
    scene.create("id BIGINT, body STRING, n INT, v ARRAY<DOUBLE>")
    scene.sql("INSERT INTO {t} VALUES (1, 'a', 0, array(1d, 0d)), (2, 'b', 0, array(1d)), (3, 'c', 0, array(0d, 1d))")
    apply(scene.store, scene.spec(vector={"column": "v"}))

    scene.sync()

    assert (scene.state.dim, scene.state.letter_count) == (2, 1)


@pytest.mark.parametrize(
    ("columns", "parts", "complaint"),
    [
        ("id BIGINT, n INT", {}, "body"),
        ("id BIGINT, body INT, n INT", {}, "text field 'body' is int, expected string"),
        ("id DOUBLE, body STRING, n INT", {}, "key column 'id' is double"),
        (
            "id BIGINT, body STRING, n INT, v STRING",
            {"vector": {"column": "v"}},
            "vector column 'v' is string, expected array<float>",
        ),
    ],
)
def test_a_table_that_does_not_fit_the_spec_is_refused_by_the_column(
    scene: Scene, columns: str, parts: dict[str, Any], complaint: str
) -> None:
    scene.create(columns)
    apply(scene.store, scene.spec(**parts))

    with pytest.raises(SchemaMismatch, match=complaint):
        scene.sync()

    assert scene.state.position is None


def test_a_quiet_table_is_fresh_because_it_was_asked(scene: Scene) -> None:
    scene.create()
    apply(scene.store, scene.spec())
    scene.sync()
    asked = datetime.now(UTC)

    scene.sync()

    heartbeat = Catalog.open(scene.store, "scene").read_heartbeat()
    assert heartbeat is not None
    assert heartbeat.position == scene.state.position
    assert heartbeat.checked_at >= asked


def test_a_continuous_sync_follows_the_table_and_keeps_its_segments_few(scene: Scene) -> None:
    scene.create()
    apply(scene.store, scene.spec())
    versions = 8
    seen: list[int] = []

    def committed(state: CatalogState) -> None:
        assert state.position is not None
        seen.append(state.position.version)
        if state.position.version < versions:
            scene.sql(f"INSERT INTO {{t}} VALUES ({state.position.version}, 'row', 0)")

    scene.sync(
        continuous=True, interval_seconds=0.1, stop=lambda: bool(seen) and seen[-1] >= versions, committed=committed
    )

    assert seen == sorted(seen)
    assert served_rows(scene.store, "scene") == (table_rows(scene.spark, scene.table, COLUMNS), versions)


def test_a_continuous_sync_builds_what_is_applied_while_its_table_is_quiet(scene: Scene) -> None:
    scene.create()
    scene.sql("INSERT INTO {t} VALUES (1, 'row', 0)")
    apply(scene.store, scene.spec())
    asked = time.monotonic()
    outcomes: list[str] = []

    def stop() -> bool:
        if not outcomes:
            outcomes.append(apply(scene.store, scene.spec(shards=2), rebuild=True))
        return scene.state.spec.shards == 2 or time.monotonic() > asked + 120

    scene.sync()
    scene.sync(continuous=True, interval_seconds=0.1, stop=stop)

    assert (outcomes, scene.state.spec.shards, scene.state.pending) == (["rebuild pending"], 2, None)


def test_vectors_that_come_after_an_empty_load_are_indexed(scene: Scene) -> None:
    scene.create("id BIGINT, body STRING, n INT, v ARRAY<FLOAT>")
    apply(scene.store, scene.spec(vector={"column": "v"}))
    scene.sync()
    scene.sql("INSERT INTO {t} VALUES (1, 'a', 0, array(1f, 0f)), (2, 'b', 0, array(0f, 1f))")

    report = scene.sync()

    assert (report.ledger.upserted, report.ledger.set_aside, scene.state.dim) == (2, 0, 2)


def test_text_that_is_not_utf8_is_set_aside_in_any_column(scene: Scene) -> None:
    scene.create("id BIGINT, body STRING, n STRING")
    scene.sql("INSERT INTO {t} VALUES (1, 'fine', 'fine'), (2, 'fine', cast(X'ff41' AS STRING))")
    apply(scene.store, scene.spec())

    assert scene.sync().ledger == Ledger(read=2, upserted=1, set_aside=1, embedded=1)


@pytest.mark.soak
def test_a_rebuild_over_another_table_reads_that_table(scene: Scene) -> None:
    scene.create()
    scene.sql("INSERT INTO {t} VALUES (1, 'old table', 0)")
    apply(scene.store, scene.spec())
    scene.sync()
    scene.table = scene.folder / "other"
    scene.create()
    scene.sql("INSERT INTO {t} VALUES (1, 'new table', 0)")
    apply(scene.store, scene.spec(), rebuild=True)

    scene.sync()

    assert served_rows(scene.store, "scene")[0] == {1: {"id": 1, "body": "new table", "n": 0}}


def test_a_load_beaten_by_another_starts_anew_and_commits_nothing_of_its_own(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene.create()
    scene.sql("INSERT INTO {t} VALUES (1, 'one', 0), (2, 'two', 0)")
    apply(scene.store, scene.spec())
    real = Catalog.commit
    rivals: list[SyncReport] = []

    def beaten(catalog: Catalog, *arguments: Any, **options: Any) -> CatalogState:
        if not rivals:
            monkeypatch.setattr(Catalog, "commit", real)
            rivals.append(scene.sync())
        return real(catalog, *arguments, **options)

    monkeypatch.setattr(Catalog, "commit", beaten)
    report = scene.sync()

    assert (report.commits, rivals[0].commits, scene.state.n_chunks) == (0, 1, 2)
    assert served_rows(scene.store, "scene")[0] == table_rows(scene.spark, scene.table, COLUMNS)


@pytest.mark.parametrize(
    ("step", "options"),
    [
        pytest.param("indexer.publish.run_parts", {}, id="changes"),
        pytest.param("indexer.resync.result_of", {"compare": True}, marks=pytest.mark.soak, id="a comparison"),
    ],
)
def test_a_sync_whose_segments_another_writer_replaced_and_vacuumed_starts_anew(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, step: str, options: dict[str, Any]
) -> None:
    scene.load("(1, 'one', 0), (2, 'two', 0), (3, 'three', 0)")
    scene.sql("DELETE FROM {t} WHERE id = 3")
    scene.sync()
    scene.sql("UPDATE {t} SET body = 'zwei' WHERE id = 2")
    rivals: list[int] = []

    def overtaken(*arguments: Any, **more: Any) -> Any:
        if not rivals:
            rivals.append(purge(scene.catalog, scene.folder / "rival").merges)
            vacuum(scene.catalog, retain=timedelta(0), longest_job=timedelta(0))
            shutil.rmtree(scene.folder / "cache")
        return real(*arguments, **more)

    real = getattr(sys.modules[step.rpartition(".")[0]], step.rpartition(".")[2])
    monkeypatch.setattr(step, overtaken)
    report = scene.sync(**options)

    assert (rivals, report.commits) == ([1], 1)
    assert scene.is_served()


def test_a_segment_that_is_gone_although_nobody_replaced_it_is_an_error(scene: Scene) -> None:
    scene.load()
    scene.catalog.store.delete(file.path for segment in scene.state.segments for file in segment.files)
    scene.sql("UPDATE {t} SET body = 'zwei' WHERE id = 2")

    with pytest.raises(ObjectNotFound, match="segments/"):
        scene.sync()


@pytest.mark.soak
def test_a_plan_older_than_the_catalog_is_not_taken_up_again(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    french = scene.spec(text={"fields": {"body": 2.0}, "language": "french"})
    scene.create()
    scene.sql("INSERT INTO {t} VALUES (1, 'one', 0)")
    apply(scene.store, scene.spec())
    scene.sync()
    apply(scene.store, french, rebuild=True)
    with monkeypatch.context() as patch:
        patch.setattr(Catalog, "commit", _lose_power)
        with pytest.raises(KeyboardInterrupt):
            scene.sync()
    apply(scene.store, scene.spec())
    scene.sql("INSERT INTO {t} VALUES (2, 'two', 0)")
    scene.sync()
    apply(scene.store, french, rebuild=True)

    scene.sync()

    assert scene.state.spec.text.language == "french"
    assert served_rows(scene.store, "scene")[0] == table_rows(scene.spark, scene.table, COLUMNS)


@pytest.mark.parametrize(("column", "complaint"), [("_slot INT", "Grebe uses itself"), ("m MAP<INT, INT>", "filtered")])
def test_columns_that_cannot_be_kept_are_refused_by_name(scene: Scene, column: str, complaint: str) -> None:
    scene.create(f"id BIGINT, body STRING, n INT, {column}")
    apply(scene.store, scene.spec(columns=[column.split()[0]]))

    with pytest.raises(SchemaMismatch, match=complaint):
        scene.sync()


def test_any_name_will_do_for_a_column_and_shards_share_the_rows(scene: Scene) -> None:
    columns = "`the id` TIMESTAMP, `bo.dy` STRING, `odd näme?` DECIMAL(10, 2), day DATE"
    scene.create(columns, "delta.columnMapping.mode = 'name'")
    scene.sql(
        "INSERT INTO {t} SELECT timestamp_micros(id * 1000003), concat('text ', id), id, date_add(DATE'2026-01-01', "
        "cast(id AS INT)) FROM range(40)"
    )
    apply(
        scene.store,
        scene.spec(key=["the id", "odd näme?"], text={"fields": {"bo.dy": 1.0}}, columns=["day"], shards=3),
    )
    scene.sync()
    scene.sql("UPDATE {t} SET `bo.dy` = 'changed' WHERE `odd näme?` >= 30")
    scene.sql("DELETE FROM {t} WHERE `odd näme?` < 5")

    scene.sync()

    served, _ = served_rows(scene.store, "scene")
    rows = scene.spark.read.format("delta").load(str(scene.table)).collect()
    assert {segment.shard for segment in scene.state.segments} == {0, 1, 2}
    assert sorted((row["day"], row["bo.dy"]) for row in served.values()) == sorted((r["day"], r["bo.dy"]) for r in rows)
    assert set(next(iter(served.values()))) == {"the id", "bo.dy", "odd näme?", "day"}


def test_a_load_gives_each_tenant_a_segment_and_spreads_those_that_are_too_large_for_a_task(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("indexer.load.ROWS_PER_PART", 200)
    scene.create("id BIGINT, body STRING, n INT")
    scene.spark.range(960).selectExpr(
        "id", "concat('body ', id) AS body", "cast(if(id < 600, 0, 1 + id % 30) AS INT) AS n"
    ).write.format("delta").mode("append").save(str(scene.table))
    apply(scene.store, scene.spec(key=["id", "n"], isolation={"tenant": "n"}, shards=2))

    scene.sync()

    tenants = Counter(segment.tenant for segment in scene.state.segments)
    (large,) = {segment.tenant for segment in scene.state.segments if segment.n_rows > 100}
    assert len(tenants) == 31
    assert tenants.pop(large) == 3  # pieces of 600 rows, however many others have
    assert set(tenants.values()) == {1}
    shards = {(segment.shard, segment.tenant) for segment in scene.state.segments}
    assert len(shards) == 31
    assert scene.state.live_rows == 960
    scene.sql("UPDATE {t} SET n = 3 WHERE id IN (5, 706)")
    scene.sql("DELETE FROM {t} WHERE n = 7")
    scene.sync(compare=True)
    rows, _ = served_rows(scene.store, "scene")
    assert rows == table_rows(scene.spark, scene.table, COLUMNS)
