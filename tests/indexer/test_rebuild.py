"""A rebuild through Spark: the old index takes changes beside it, and the new one takes its place where that is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from connectors.errors import HistoryExpired
from indexer import rebuild as module
from indexer.apply import apply
from indexer.catalog import Catalog, CatalogState, SourcePosition
from indexer.errors import CollectionHeld
from indexer.format.states import DeletionLog
from indexer.receipt import receipt
from tests.scene import Scene
from tests.served import served_rows

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


def test_changes_that_cannot_be_read_any_more_begin_another_load(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    waiting(scene)
    when(monkeypatch, "load", lambda _: scene.sql("DELETE FROM {t} WHERE id = 1"))
    real: Callable[..., CatalogState] = module.caught_up
    failed: list[int] = []

    def expired(*given: Any, until: SourcePosition | None = None) -> CatalogState:
        if len(failed) < 2:
            failed.append(1)
            raise HistoryExpired("the oldest change is gone")
        return real(*given, until=until)

    monkeypatch.setattr(module, "caught_up", expired)

    assert [state.operation for state in committed(scene)] == ["sync", "load"]
    assert scene.is_served()


def test_an_old_index_that_can_take_no_changes_says_why_and_the_new_one_is_built(scene: Scene) -> None:
    waiting(scene)
    scene.sql("DELETE FROM {t} WHERE id = 1")
    for record in scene.state.segments:
        for file in record.files:
            (scene.folder / "store/scene" / file.path).unlink()
    told: list[str] = []

    (swapped,) = committed(scene, resting=told.append)

    assert len(told) == 1
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
    assert sum(log.count for log in logs(scene.catalog)) == 198


def logs(catalog: Catalog) -> tuple[DeletionLog, ...]:
    return catalog.read().deletions
