"""A rebuild through Spark: the old index takes changes beside it, and the new one takes its place where that is."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta
from typing import Any

import pyarrow as pa
import pytest
from pyspark import TaskContext

from connectors.delta_source import DeltaSource
from connectors.errors import HistoryExpired, SchemaMismatch
from indexer import load as load_module
from indexer import rebuild as module
from indexer import sync as sync_module_typed
from indexer.apply import apply
from indexer.catalog import Catalog, CatalogState, Heartbeat, SourcePosition, drop
from indexer.compact import purge
from indexer.errors import CollectionHeld, CollectionNotFound, ProgressMoved, StoreError
from indexer.gone import gone_rows
from indexer.merger import Merger
from indexer.receipt import Receipt, receipt
from indexer.rollback import rollback
from indexer.vacuum import vacuum
from tests.scene import Scene
from tests.served import served_rows

sync_module: Any = sync_module_typed
HANGS_SECONDS = 60.0
FRENCH = {"text": {"fields": {"body": 1.0}, "language": "french"}}


def when(patch: pytest.MonkeyPatch, name: str, then: Callable[[dict[str, Any]], None]) -> None:
    """Let ``then`` happen after the first call of a function of the module, given how it was called."""
    real: Callable[..., Any] = getattr(module, name)
    left = [then]

    def watched(*given: Any, **named: Any) -> Any:
        done = real(*given, **named)
        if left:
            left.pop()(named)
        return done

    patch.setattr(module, name, watched)


def waiting(scene: Scene) -> None:
    """Load the collection and apply another spec, which waits for its index."""
    scene.load()
    apply(scene.store, scene.spec(**FRENCH), rebuild=True)


def committed(scene: Scene, **options: Any) -> list[CatalogState]:
    states: list[CatalogState] = []
    scene.sync(committed=states.append, **options)
    return states


def version_of(state: CatalogState) -> int:
    assert state.position is not None
    return state.position.version


def test_what_is_deleted_while_an_index_is_built_is_gone_at_once_and_noted(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting(scene)
    monkeypatch.setattr(module, "FOLLOW_SECONDS", 0.05)
    seen: list[set[int]] = []

    def change(_: dict[str, Any]) -> None:
        scene.sql("DELETE FROM {t} WHERE id = 2")
        scene.sql("UPDATE {t} SET body = 'trois' WHERE id = 3")
        while 2 in (rows := served_rows(scene.store, "scene")[0]):
            assert scene.state.pending is not None
        seen.append(set(rows))

    when(monkeypatch, "load", change)
    states = committed(scene)

    assert seen == [{1, 3}]
    assert [state.operation for state in states][-1] == "load"
    assert (scene.state.spec, scene.state.pending) == (scene.spec(**FRENCH), None)
    assert scene.is_served()
    proof = receipt(scene.catalog, "2")
    assert proof.verdict == "deleted"
    assert len(proof.deletions) == 1
    assert proof.deletions[0].version < states[-1].version


def test_the_swap_moves_no_position_whatever_comes_meanwhile(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    waiting(scene)
    when(monkeypatch, "load", lambda _: scene.sql("INSERT INTO {t} VALUES (4, 'four', 0)"))
    real: Callable[..., CatalogState] = module.caught_up
    untils: list[SourcePosition | None] = []

    def late(*given: Any, until: SourcePosition | None = None) -> CatalogState:
        untils.append(until)
        if until is None:
            return given[0]  # type: ignore[no-any-return]
        scene.sql("INSERT INTO {t} VALUES (5, 'five', 0)")
        return real(*given, until=until)

    monkeypatch.setattr(module, "caught_up", late)
    taken, swapped, followed = committed(scene)

    assert untils == [None, taken.position]
    assert (swapped.operation, swapped.position, swapped.live_rows) == ("load", taken.position, 4)
    assert (version_of(followed), followed.live_rows) == (version_of(swapped) + 1, 5)
    assert scene.is_served()


def test_a_rebuild_that_was_interrupted_goes_on_although_the_old_index_came_further(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting(scene)

    def die(_: dict[str, Any]) -> None:
        scene.sql("UPDATE {t} SET body = 'eins' WHERE id = 1")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        when(patch, "load", die)
        with pytest.raises(KeyboardInterrupt):
            scene.sync()
    built = len(list(scene.folder.glob("store/scene/segments/*")))

    taken, swapped = committed(scene)

    assert (taken.operation, swapped.operation) == ("sync", "load")
    assert swapped.position == taken.position
    assert len(list(scene.folder.glob("store/scene/segments/*"))) == built + 2  # of one row, in both indexes
    assert scene.is_served()


def test_changes_that_cannot_be_read_any_more_end_the_load_by_name(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting(scene)
    when(monkeypatch, "load", lambda _: scene.sql("DELETE FROM {t} WHERE id = 1"))
    with monkeypatch.context() as patch:
        patch.setattr(DeltaSource, "stream", _expired)
        with pytest.raises(HistoryExpired, match=r"since version 1, .*the oldest change is gone.*another load begins"):
            scene.sync()
    assert scene.state.pending is not None

    assert [state.operation for state in committed(scene)] == ["sync", "load"]
    assert scene.is_served()


def test_a_rebuild_that_is_put_off_leaves_the_old_index_its_changes(scene: Scene) -> None:
    waiting(scene)
    scene.sql("DELETE FROM {t} WHERE id = 1")

    (taken,) = committed(scene, postponed=scene.spec(**FRENCH))

    assert (taken.operation, taken.live_rows, taken.pending) == ("sync", 2, scene.spec(**FRENCH))
    apply(scene.store, scene.spec(shards=2), rebuild=True)
    (swapped,) = committed(scene, postponed=scene.spec(**FRENCH))
    assert (swapped.operation, swapped.spec.shards, swapped.pending) == ("load", 2, None)


@pytest.mark.soak
def test_a_table_of_other_types_by_now_is_told_what_the_rebuild_that_was_put_off_waits_for(scene: Scene) -> None:
    many(scene)
    scene.by_spark("ALTER TABLE {t} ALTER COLUMN n TYPE BIGINT")
    apply(scene.store, scene.spec(), rebuild=True)

    with pytest.raises(SchemaMismatch, match=r"it was int.*keep its changes for as long as a load takes, and start"):
        scene.sync(postponed=scene.spec())


def _expired(*_: object, **__: object) -> None:
    raise HistoryExpired("the oldest change is gone")


def test_an_old_index_that_can_take_no_changes_says_why_and_the_new_one_is_built(scene: Scene) -> None:
    waiting(scene)
    scene.sql("DELETE FROM {t} WHERE id = 1")
    for record in scene.state.segments:
        for file in record.files:
            (scene.folder / "store/scene" / file.path).unlink()
    told: list[str] = []

    (swapped,) = committed(scene, resting=told.append)

    assert told[1].startswith("Which rows are deleted cannot be told of all: ")
    assert swapped.operation == "load"
    assert scene.is_served()


def test_too_many_deletes_are_held_before_an_index_is_built(scene: Scene) -> None:
    scene.load(", ".join(f"({number}, 'text {number}', 0)" for number in range(200)))
    apply(scene.store, scene.spec(**FRENCH), rebuild=True)
    scene.sql("DELETE FROM {t} WHERE id > 1")

    with pytest.raises(CollectionHeld, match="--approve 2"):
        scene.sync()

    assert (scene.state.live_rows, scene.state.pending) == (200, scene.spec(**FRENCH))
    taken, swapped = committed(scene, approve=2)
    assert (taken.ledger.deleted, swapped.live_rows) == (198, 2)
    assert noted(swapped) == 198


def many(scene: Scene) -> None:
    """Load 200 rows of a table whose columns can be widened."""
    scene.load(", ".join(f"({number}, 'text {number}', 0)" for number in range(200)))
    scene.by_spark("ALTER TABLE {t} SET TBLPROPERTIES ('delta.enableTypeWidening' = 'true')")
    scene.sync()


def test_an_index_that_takes_no_changes_loses_no_row_unasked_or_unnoted(scene: Scene) -> None:
    many(scene)
    scene.by_spark("ALTER TABLE {t} ALTER COLUMN n TYPE BIGINT")
    scene.sql("DELETE FROM {t} WHERE id > 1")
    apply(scene.store, scene.spec(), rebuild=True)
    told: list[str] = []

    with pytest.raises(CollectionHeld, match="would delete 198 of 200 rows"):
        scene.sync(resting=told.append)

    assert told[0] == (
        "The index that serves takes no changes until the new one is there: scene: column 'n' is bigint (it was int). "
        "The table has: id bigint, body string, n bigint."
    )
    assert scene.state.held is not None
    (swapped,) = committed(scene, approve=scene.state.held.end.version)
    assert (swapped.operation, swapped.live_rows) == ("load", 2)
    assert noted(swapped) == 198
    proof = receipt(scene.catalog, "5")
    assert (proof.verdict, proof.deletions[0].source_version) == ("deleted", version_of(swapped))
    assert scene.is_served()


def test_one_failure_of_the_last_turn_does_not_let_deletes_pass(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    many(scene)
    apply(scene.store, scene.spec(**FRENCH), rebuild=True)

    def away(*_: object, **__: object) -> None:
        raise StoreError("503: slow down")

    def change(_: dict[str, Any]) -> None:
        scene.sql("DELETE FROM {t} WHERE id > 1")
        monkeypatch.setattr("indexer.sync.publish", away)

    when(monkeypatch, "load", change)
    told: list[str] = []

    with pytest.raises(CollectionHeld, match="would delete 198 of 200 rows"):
        scene.sync(resting=told.append)

    assert told == ["The index that serves takes no changes for now: 503: slow down"]


def test_a_merge_that_fails_keeps_no_change_from_the_old_index(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    waiting(scene)
    monkeypatch.setattr(module, "FOLLOW_SECONDS", 0.05)

    def full(_: Merger) -> None:
        raise StoreError("no space left")

    def change(_: dict[str, Any]) -> None:
        monkeypatch.setattr(Merger, "wake", full)
        scene.sql("DELETE FROM {t} WHERE id = 2")
        while 2 in served_rows(scene.store, "scene")[0]:
            assert scene.state.pending is not None

    when(monkeypatch, "load", change)
    told: list[str] = []

    assert [state.operation for state in committed(scene, resting=told.append)] == ["sync", "load"]
    assert told == ["The segments of the index that serves are not merged for now: no space left"]


def test_only_rows_that_are_nowhere_in_the_new_index_are_gone(scene: Scene) -> None:
    scene.create("id BIGINT, body STRING, n INT, v ARRAY<FLOAT>")
    scene.sql("INSERT INTO {t} VALUES (1, 'one', 0, array(1, 0)), (2, 'two', 0, array(0, 0)), (3, 'three', 0, NULL)")
    apply(scene.store, scene.spec())
    scene.sync()
    before = scene.state
    apply(scene.store, scene.spec(vector={"column": "v"}), rebuild=True)
    scene.sync()
    after, cache = scene.state, scene.folder / "cache"
    empty, told = after.model_copy(update={"segments": ()}), list[str]()

    assert (before.live_rows, after.live_rows, after.letter_count) == (3, 2, 1)
    assert len(gone_rows(before, after, scene.catalog, cache, told.append)) == 0
    assert len(gone_rows(before, empty, scene.catalog, cache, told.append)) == 2  # not that which was set aside
    assert told == []


@pytest.mark.soak
@pytest.mark.parametrize("error", [ProgressMoved("another writer merged"), StoreError("503")])
def test_the_old_index_is_followed_on_after_an_error(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    waiting(scene)
    monkeypatch.setattr(module, "FOLLOW_SECONDS", 0.05)
    real: Callable[..., Any] = sync_module.publish

    def once(*given: Any, **named: Any) -> Any:
        monkeypatch.setattr(sync_module, "publish", real)
        raise error

    def change(_: dict[str, Any]) -> None:
        monkeypatch.setattr(sync_module, "publish", once)
        scene.sql("DELETE FROM {t} WHERE id = 2")
        while 2 in served_rows(scene.store, "scene")[0]:
            assert any(thread.name == "grebe-old-index" for thread in threading.enumerate())

    when(monkeypatch, "load", change)

    assert [state.operation for state in committed(scene)] == ["sync", "load"]
    assert scene.is_served()


def hanging(patch: pytest.MonkeyPatch) -> list[frozenset[int]]:
    """Let the last part of the next load hang; return which parts each load builds."""
    real: Any = load_module._task
    loads: list[frozenset[int]] = []

    def hung(job: Any, area: Any, plan: Any, missing: frozenset[int]) -> Any:
        loads.append(missing)
        task, last = real(job, area, plan, missing), max(missing) if len(loads) == 1 else None

        def run(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
            context = TaskContext.get()
            if context and context.partitionId() == last:
                time.sleep(HANGS_SECONDS)
            yield from task(batches)

        return run

    patch.setattr(load_module, "_task", hung)
    patch.setattr(module, "FOLLOW_SECONDS", 0.05)
    return loads


def seconds_to_end(scene: Scene, then: Callable[[Scene], object], ends: AbstractContextManager[Any]) -> float:
    """Sync, do ``then`` when the first of two parts is there, and return how long the sync goes on."""

    def call_off() -> float:
        while not list(scene.folder.glob("store/scene/loads/*/part-0.json")):
            time.sleep(0.05)
        then(scene)
        return time.monotonic()

    with ThreadPoolExecutor(1) as pool:
        called_off = pool.submit(call_off)
        with ends:
            scene.sync()
        return time.monotonic() - called_off.result()


@pytest.mark.parametrize("changes", [True, pytest.param(False, marks=pytest.mark.soak)], ids=["changes", "no changes"])
@pytest.mark.parametrize(
    ("then", "ends"),
    [
        pytest.param(lambda scene: apply(scene.store, scene.spec()), nullcontext(), id="the spec before"),
        pytest.param(
            lambda scene: apply(scene.store, scene.spec(**FRENCH), rebuild=True),
            nullcontext(),
            marks=pytest.mark.soak,
            id="another spec",
        ),
        pytest.param(
            lambda scene: rollback(scene.catalog, 1),
            pytest.raises(CollectionHeld, match="rolled back"),
            marks=pytest.mark.soak,
            id="a rollback",
        ),
        pytest.param(
            lambda scene: drop(scene.store, "scene"),
            pytest.raises(CollectionNotFound),
            marks=pytest.mark.soak,
            id="a drop",
        ),
    ],
)
def test_a_load_that_is_called_off_ends_at_once(
    scene: Scene,
    monkeypatch: pytest.MonkeyPatch,
    then: Callable[[Scene], object],
    ends: AbstractContextManager[Any],
    changes: bool,
) -> None:
    scene.load()
    apply(scene.store, scene.spec(shards=2), rebuild=True)
    if not changes:
        monkeypatch.setattr("indexer.sync._Run._old", lambda *_: None)
    hanging(monkeypatch)

    assert seconds_to_end(scene, then, ends) < HANGS_SECONDS / 2


@pytest.mark.soak
def test_a_load_that_a_hold_ends_goes_on_from_the_parts_that_are_there(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    many(scene)
    apply(scene.store, scene.spec(shards=2), rebuild=True)
    loads = hanging(monkeypatch)
    held = pytest.raises(CollectionHeld, match="would delete 198 of 200 rows")

    assert seconds_to_end(scene, lambda scene: scene.sql("DELETE FROM {t} WHERE id > 1"), held) < HANGS_SECONDS / 2

    assert scene.state.held is not None
    _, swapped = committed(scene, approve=scene.state.held.end.version)
    assert loads == [{0, 1}, {1}]
    assert (swapped.spec.shards, swapped.live_rows) == (2, 2)
    assert scene.is_served()


@pytest.mark.soak
def test_what_kills_the_follower_ends_the_load_and_is_raised(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    scene.load()
    apply(scene.store, scene.spec(shards=2), rebuild=True)
    hanging(monkeypatch)

    class Dead(BaseException):
        pass

    def die(*_: object, **__: object) -> None:
        raise Dead

    monkeypatch.setattr(sync_module, "publish", die)

    assert seconds_to_end(scene, lambda scene: scene.sql("DELETE FROM {t} WHERE id = 2"), pytest.raises(Dead)) < 30


def test_no_receipt_says_erased_while_a_load_may_write_the_row_again(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting(scene)
    monkeypatch.setattr(module, "FOLLOW_SECONDS", 0.05)
    real: Callable[..., Any] = load_module.result_of
    said: list[Receipt] = []

    def late(*given: Any) -> Any:
        scene.sql("DELETE FROM {t} WHERE id = 2")
        while 2 in served_rows(scene.store, "scene")[0]:
            time.sleep(0.05)
        purge(scene.catalog, scene.folder / "cache")
        vacuum(scene.catalog, retain=timedelta(0))
        said.append(receipt(scene.catalog, "2"))
        return real(*given)

    monkeypatch.setattr(load_module, "result_of", late)
    scene.sync()
    said.append(receipt(scene.catalog, "2"))
    purge(scene.catalog, scene.folder / "cache")
    vacuum(scene.catalog, retain=timedelta(0), longest_job=timedelta(0))
    said.append(receipt(scene.catalog, "2"))

    assert [(one.verdict, one.erased) for one in said] == [("deleted", False), ("deleted", False), ("deleted", True)]
    assert [(holder.kind, holder.certain) for holder in said[0].holders] == [("unfinished", False)]


@pytest.mark.soak
def test_no_heartbeat_is_older_than_the_one_before(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    waiting(scene)
    beats: list[Heartbeat] = []
    real = Catalog.write_heartbeat

    def noted_beat(self: Catalog, heartbeat: Heartbeat) -> None:
        beats.append(heartbeat)
        real(self, heartbeat)

    monkeypatch.setattr(Catalog, "write_heartbeat", noted_beat)
    when(monkeypatch, "load", lambda _: time.sleep(2.5))
    scene.sync()

    times = [beat.checked_at for beat in beats]
    assert len(times) >= 3
    assert times == sorted(times)


def test_a_rebuild_that_is_asked_for_again_takes_nothing_of_the_one_before(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene.load()
    apply(scene.store, scene.spec(), rebuild=True)
    with monkeypatch.context() as patch:
        patch.setattr(module, "finish", _die)
        with pytest.raises(KeyboardInterrupt):
            scene.sync()
    assert list(scene.folder.glob("store/scene/loads/*/part-*.json"))

    apply(scene.store, scene.spec(), rebuild=True)

    assert not list(scene.folder.glob("store/scene/loads/*/*"))
    assert scene.sync().ledger.embedded == 3


def _die(*_: object) -> None:
    raise KeyboardInterrupt


def test_a_rebuild_of_the_spec_as_it_is_waits_whatever_else_is_applied(scene: Scene) -> None:
    scene.load()
    assert apply(scene.store, scene.spec(), rebuild=True) == "rebuild pending"
    other = scene.spec(fusion={"kind": "minmax"})

    assert apply(scene.store, scene.spec()) == "unchanged"
    assert apply(scene.store, other) == "rebuild pending"

    assert (scene.state.spec, scene.state.pending) == (other, other)


def test_a_rebuild_that_is_asked_for_again_while_one_is_built_is_not_lost(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting(scene)

    def again(_: dict[str, Any]) -> None:
        assert apply(scene.store, scene.spec(**FRENCH), rebuild=True) == "rebuild pending"

    when(monkeypatch, "load", again)

    report = scene.sync()

    assert (report.commits, scene.state.pending) == (1, None)
    assert len(list(scene.folder.glob("store/scene/segments/*"))) == 3  # one at first, and one of either load


def test_rows_that_another_tenant_column_places_elsewhere_are_not_gone(scene: Scene) -> None:
    scene.create()
    scene.by_spark("ALTER TABLE {t} SET TBLPROPERTIES ('delta.enableTypeWidening' = 'true')")
    insert(scene, [f"({key}, 'text {key}', {key % 5})" for key in range(60)])
    apply(scene.store, scene.spec(shards=3, key=["id", "n"]))
    scene.sync()
    scene.by_spark("ALTER TABLE {t} ALTER COLUMN n TYPE BIGINT")
    scene.sql("DELETE FROM {t} WHERE id = 7")
    apply(scene.store, scene.spec(shards=3, key=["id", "n"], isolation={"tenant": "n"}), rebuild=True)
    told: list[str] = []

    (swapped,) = committed(scene, resting=told.append)

    assert "column 'n' is bigint" in told[0]
    assert (swapped.live_rows, noted(swapped), swapped.ledger.deleted) == (59, 1, 1)
    assert receipt(scene.catalog, "7,2").verdict == "deleted"


@pytest.mark.soak
def test_a_key_of_another_type_is_not_compared_and_judged_by_the_number_of_rows(scene: Scene) -> None:
    many(scene)
    before = scene.state
    other = before.model_copy(update={"types": before.types | {"id": "decimal(12,0)"}, "segments": ()})
    told: list[str] = []

    assert len(gone_rows(before, other, scene.catalog, scene.folder / "cache", told.append)) == 0
    assert told == ["The key is of another type by now, so that which rows are deleted cannot be told"]


@pytest.mark.soak
def test_a_damaged_index_lets_no_deletes_pass(scene: Scene) -> None:
    many(scene)
    scene.sql("INSERT INTO {t} VALUES (200, 'one more', 0)")
    scene.sync()
    small = min(scene.state.segments, key=lambda segment: segment.n_rows)
    scene.by_spark("ALTER TABLE {t} ALTER COLUMN n TYPE BIGINT")
    scene.sql("DELETE FROM {t} WHERE id > 1")
    apply(scene.store, scene.spec(), rebuild=True)
    for segment in scene.state.segments:
        if segment.number == small.number or len(scene.state.segments) == 1:
            scene.catalog.store.delete(file.path for file in segment.files)
    shutil.rmtree(scene.folder / "cache")
    told: list[str] = []

    with pytest.raises(CollectionHeld, match="would delete 199 of 201 rows"):
        scene.sync(resting=told.append)

    assert "cannot be told of all" in told[-1]


@pytest.mark.soak
def test_rows_that_are_put_back_in_a_table_of_snapshots_end_the_hold(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(DeltaSource, "reads", lambda self: "snapshots")
    many(scene)
    apply(scene.store, scene.spec(**FRENCH), rebuild=True)
    scene.sql("DELETE FROM {t} WHERE id > 1")
    with pytest.raises(CollectionHeld):
        scene.sync()
    insert(scene, [f"({key}, 'back {key}', 0)" for key in range(2, 200)])

    scene.sync()

    assert (scene.state.held, scene.state.live_rows, scene.state.pending) == (None, 200, None)


def insert(scene: Scene, rows: list[str]) -> None:
    scene.sql("INSERT INTO {t} VALUES " + ", ".join(rows))


def noted(state: CatalogState) -> int:
    return sum(log.count for log in state.deletions)
