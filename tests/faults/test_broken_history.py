"""History that is gone, a table made anew, a feed that was off: named, and healed by comparing the whole table."""

from __future__ import annotations

import shutil
from typing import Any

import pytest

from connectors.delta_source import DeltaSource
from indexer.apply import apply
from indexer.catalog import Catalog
from indexer.errors import CollectionHeld
from indexer.format.records import Ledger
from tests.scene import Scene

LONG = "concat_ws(' ', 'row', id, repeat('word ', 40))"


def vacuum(scene: Scene) -> None:
    """Take away every file that the newest version does not need, the change feed's among them."""
    scene.sql("ALTER TABLE {t} SET TBLPROPERTIES ('delta.deletedFileRetentionDuration' = 'interval 0 hours')")
    scene.spark.conf.set("spark.databricks.delta.retentionDurationCheck.enabled", "false")
    scene.spark.conf.set("spark.sql.sources.parallelPartitionDiscovery.parallelism", "2")  # of 10,000 tasks
    scene.sql("VACUUM {t} RETAIN 0 HOURS")


def test_changes_that_vacuum_took_are_healed_by_a_comparison_that_embeds_only_what_changed(scene: Scene) -> None:
    scene.load()
    scene.sql("UPDATE {t} SET body = 'zwei' WHERE id = 2")
    scene.sql("UPDATE {t} SET n = 7 WHERE id = 1")
    scene.sql("DELETE FROM {t} WHERE id = 3")
    scene.sql("INSERT INTO {t} VALUES (4, 'four', 0)")
    vacuum(scene)

    report = scene.sync()

    assert len(report.healed) == 1
    assert "a file of version 2 is gone (VACUUM took it)" in report.healed[0]
    assert report.ledger == Ledger(read=3, upserted=3, deleted=1, embedded=2)
    assert scene.is_served()
    assert scene.sync().commits == 0


@pytest.mark.soak
def test_a_comparison_that_finds_nothing_different_writes_no_segment(scene: Scene) -> None:
    scene.load()
    before = scene.state.segments
    scene.sql("INSERT INTO {t} VALUES (4, 'four', 0)")
    scene.sql("DELETE FROM {t} WHERE id = 4")
    vacuum(scene)

    report = scene.sync()

    assert report.ledger == Ledger(read=3, unchanged=3)
    assert (scene.state.segments, scene.state.deleted, scene.state.operation) == (before, {}, "resync")
    assert scene.is_served()


def test_a_table_made_anew_is_noticed_by_its_id_and_its_versions_begin_again(scene: Scene) -> None:
    scene.load()
    for _ in range(3):
        scene.sql("UPDATE {t} SET n = n + 1 WHERE id = 1")
    scene.sync()
    shutil.rmtree(scene.table)
    scene.create()
    scene.sql("INSERT INTO {t} VALUES (1, 'one', 3), (2, 'zwei', 0), (5, 'five', 0)")

    report = scene.sync()

    assert "was dropped and created anew" in report.healed[0]
    assert report.ledger == Ledger(read=3, upserted=2, deleted=1, unchanged=1, embedded=2)
    assert scene.is_served()
    scene.sql("DELETE FROM {t} WHERE id = 1")
    scene.sql("UPDATE {t} SET body = 'deux' WHERE id = 2")
    assert scene.sync().healed == []
    assert scene.is_served()


def test_a_feed_that_was_off_for_a_while_is_bridged(scene: Scene) -> None:
    scene.load()
    scene.sql("ALTER TABLE {t} SET TBLPROPERTIES (delta.enableChangeDataFeed = false)")
    scene.sql("UPDATE {t} SET body = 'zwei' WHERE id = 2")
    scene.sql("ALTER TABLE {t} SET TBLPROPERTIES (delta.enableChangeDataFeed = true)")

    report = scene.sync()

    assert len(report.healed) == 1
    assert "its change feed was off for a part" in report.healed[0]
    assert scene.is_served()


@pytest.mark.soak
def test_a_comparison_that_was_interrupted_goes_on_with_the_parts_that_are_missing(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene.create()
    scene.spark.range(2500).selectExpr("id", f"{LONG} AS body", "0 AS n").write.format("delta").mode("append").save(
        str(scene.table)
    )
    apply(scene.store, scene.spec())
    scene.sync()
    scene.sql("UPDATE {t} SET body = concat('changed ', id) WHERE id % 10 = 0")
    scene.sql("DELETE FROM {t} WHERE id % 10 = 1")
    vacuum(scene)
    with monkeypatch.context() as patch:
        patch.setattr(Catalog, "commit", _lose_power)
        with pytest.raises(KeyboardInterrupt):
            scene.sync()
    parts = sorted(scene.folder.glob("store/scene/loads/*/part-*.json"))
    assert len(parts) == 2
    parts[0].unlink()
    kept = parts[1].stat().st_mtime_ns

    assert parts[1].stat().st_mtime_ns == kept
    report = scene.sync()

    assert report.ledger == Ledger(read=2250, upserted=250, deleted=250, unchanged=2000, embedded=250)
    assert (scene.state.live_rows, scene.state.n_chunks) == (2250, 2250)
    assert list(scene.folder.glob("store/scene/loads/*/*")) == []


def _lose_power(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def test_rows_deleted_while_history_was_lost_are_held_if_they_are_too_many(scene: Scene) -> None:
    scene.load(", ".join(f"({number}, 'row {number}', 0)" for number in range(200)))
    shutil.rmtree(scene.table)
    scene.create()

    with pytest.raises(CollectionHeld, match="would delete 200 of 200 rows"):
        scene.sync()
    assert scene.state.live_rows == 200
    held = scene.state.held
    assert held is not None
    scene.sync(approve=held.end.version)
    assert (scene.state.live_rows, scene.state.held) == (0, None)
    assert scene.is_served()


def test_a_source_without_changes_is_followed_by_comparing_snapshots(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    def snapshots(_: DeltaSource) -> Any:
        return "snapshots"

    monkeypatch.setattr(DeltaSource, "reads", snapshots)
    scene.load()
    scene.sql("UPDATE {t} SET body = 'zwei' WHERE id = 2")
    scene.sql("DELETE FROM {t} WHERE id = 3")

    report = scene.sync()

    assert (report.ledger, report.healed) == (Ledger(read=2, upserted=1, deleted=1, unchanged=1, embedded=1), [])
    assert scene.is_served()
    heartbeat = scene.catalog.read_heartbeat()
    assert heartbeat is not None
    assert (heartbeat.reads, heartbeat.position) == ("snapshots", scene.state.position)
    assert scene.sync().commits == 0


def test_the_heartbeat_says_how_long_history_lasts(scene: Scene) -> None:
    scene.create()
    scene.sql("ALTER TABLE {t} SET TBLPROPERTIES ('delta.deletedFileRetentionDuration' = 'interval 3 days')")
    apply(scene.store, scene.spec())

    scene.sync()

    heartbeat = scene.catalog.read_heartbeat()
    assert heartbeat is not None
    assert heartbeat.retention_seconds == 3 * 86_400
