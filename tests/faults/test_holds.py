"""A batch that would delete too much waits for a person's word."""

from __future__ import annotations

from pathlib import Path

import pytest

from connectors.contract import DELETE, UPSERT
from indexer.catalog import CatalogState
from indexer.errors import CollectionHeld, HoldError
from indexer.format.states import Hold
from tests.faults.local_collection import LocalCollection
from tests.faults.local_session import local_tasks
from tests.jobs.command import grebe_on
from tests.scene import Scene

ROWS = ", ".join(f"({number}, 'row {number}', 0)" for number in range(200))


def test_a_mass_delete_is_held_shown_and_goes_on_when_it_is_approved(scene: Scene) -> None:
    scene.load(ROWS)
    scene.sql("DELETE FROM {t} WHERE id >= 50")
    position = scene.state.position

    with pytest.raises(CollectionHeld, match=r"would delete 150 of 200 rows.*`grebe sync scene --approve 2`"):
        scene.sync()

    held = scene.state.held
    assert held is not None
    assert (held.kind, held.end.version, held.deletes, held.rows) == ("mass_delete", 2, 150, 200)
    assert (scene.state.position, scene.state.live_rows) == (position, 200)
    version = scene.catalog.latest()
    with pytest.raises(CollectionHeld):
        scene.sync()
    assert scene.catalog.latest() == version
    scene.sync(approve=2)
    assert scene.state.held is None
    assert scene.is_served()


def test_status_shows_what_is_held_and_what_to_type_until_it_is_approved(
    scene: Scene, capfd: pytest.CaptureFixture[str]
) -> None:
    grebe = grebe_on(capfd)
    scene.load(ROWS)
    scene.sql("DELETE FROM {t} WHERE id >= 50")
    with pytest.raises(CollectionHeld) as told:
        scene.sync()

    found = grebe("status", "scene", "--store", scene.store.url, "-o", "json").json

    assert (found["rows"], found["reads"], found["retention_seconds"]) == (200, "changes", 7 * 86_400)
    assert (found["held"]["kind"], found["held"]["version"], found["held"]["deletes"]) == ("mass_delete", 2, 150)
    assert found["warnings"] == [str(told.value)]
    assert str(told.value) in grebe("status", "--store", scene.store.url).out
    scene.sync(approve=2)
    found = grebe("status", "scene", "--store", scene.store.url, "-o", "json").json
    assert (found["rows"], found["held"], found["warnings"]) == (50, None, [])


def test_an_approval_covers_what_was_held_and_not_what_came_after(scene: Scene) -> None:
    scene.load(ROWS)
    scene.sql("DELETE FROM {t} WHERE id >= 80")
    with pytest.raises(CollectionHeld):
        scene.sync()
    scene.sql("DELETE FROM {t} WHERE id >= 10")

    with pytest.raises(CollectionHeld, match="would delete 190 of 200 rows"):
        scene.sync(approve=2)

    scene.sync(approve=3)
    assert scene.is_served()


def test_an_approval_is_spent_with_what_was_held_though_the_sync_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    local_tasks(monkeypatch)
    collection = LocalCollection(str(tmp_path / "store"), tmp_path)
    table = collection.source
    rows = [{"id": number, "body": f"row {number}", "n": 0} for number in range(200)]
    table.commit([(UPSERT, row) for row in rows])
    collection.sync()
    table.commit([(DELETE, row) for row in rows[:150]])
    with pytest.raises(CollectionHeld):
        collection.sync()
    live_rows: list[int] = []

    def committed(state: CatalogState) -> None:
        live_rows.append(state.live_rows)
        table.commit([(UPSERT if state.live_rows == 50 else DELETE, row) for row in rows[:150]])

    with pytest.raises(CollectionHeld, match="up to source version 4 would delete 150 of 200 rows"):
        collection.sync(
            approve=2, continuous=True, interval_seconds=0, stop=lambda: len(live_rows) > 2, committed=committed
        )

    assert live_rows == [50, 200]


def test_rows_that_come_back_before_an_approval_end_the_hold(scene: Scene) -> None:
    scene.load(ROWS)
    scene.sql("TRUNCATE TABLE {t}")
    with pytest.raises(CollectionHeld, match="would delete 200 of 200 rows"):
        scene.sync()
    scene.sql(f"INSERT INTO {{t}} VALUES {ROWS}")

    report = scene.sync()

    assert (report.ledger.unchanged, scene.state.held) == (200, None)
    assert scene.is_served()


def test_an_overwrite_with_the_same_keys_deletes_nothing(scene: Scene) -> None:
    scene.load(ROWS)
    scene.sql("INSERT OVERWRITE {t} SELECT id, concat(body, '!'), n FROM {t}")

    assert scene.sync().ledger.upserted == 200

    assert scene.is_served()


def test_a_small_table_may_lose_any_part(scene: Scene) -> None:
    scene.load()
    scene.sql("TRUNCATE TABLE {t}")

    scene.sync()

    assert scene.state.live_rows == 0


def test_rows_that_go_bad_all_at_once_are_held_like_deletes(scene: Scene) -> None:
    scene.load(ROWS)
    scene.sql("UPDATE {t} SET body = cast(X'ff' AS STRING)")

    with pytest.raises(CollectionHeld, match="would delete 200 of 200 rows"):
        scene.sync()

    assert scene.state.letter_count == 0


@pytest.mark.soak
def test_the_ratio_is_the_specs(scene: Scene) -> None:
    scene.load(ROWS, sync={"max_delete_ratio": 0.9})
    scene.sql("DELETE FROM {t} WHERE id >= 50")

    scene.sync()

    assert scene.is_served()


def test_an_approval_of_what_is_not_held_is_an_error(scene: Scene) -> None:
    scene.load(ROWS)
    with pytest.raises(HoldError, match="nothing waits for an approval"):
        scene.sync(approve=2)
    scene.sql("TRUNCATE TABLE {t}")
    with pytest.raises(CollectionHeld):
        scene.sync()
    with pytest.raises(HoldError, match=r"ends at source version 2, not 7; .* use --approve 2"):
        scene.sync(approve=7)


def test_a_rollback_is_held_until_it_is_released(scene: Scene) -> None:
    scene.load()
    state = scene.state
    assert state.position is not None
    held = Hold(kind="rollback", since=state.committed_at, end=state.position)
    scene.catalog.commit(state, state.model_copy(update={"held": held, "operation": "rollback"}), batch_end=None)
    scene.sql("INSERT INTO {t} VALUES (4, 'four', 0)")

    with pytest.raises(CollectionHeld, match=r"rolled back to source version 1.* `grebe sync scene --release`"):
        scene.sync()
    scene.sync(release=True)

    assert scene.state.held is None
    assert scene.is_served()
    with pytest.raises(HoldError, match="no rollback is held"):
        scene.sync(release=True)
