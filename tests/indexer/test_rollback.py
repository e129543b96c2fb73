from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from indexer.apply import apply
from indexer.build import build_part
from indexer.catalog import Catalog, CatalogState, SourcePosition
from indexer.commit import commit_batch
from indexer.compact import purge
from indexer.errors import CatalogError, HoldError, ProgressMoved
from indexer.format.deletions import find
from indexer.format.records import Ledger
from indexer.format.states import Hold
from indexer.format.store import Store
from indexer.merge import commit_merge, merge_job, merge_segments
from indexer.rollback import release, rollback
from indexer.spec import CollectionSpec, PolicySpec
from tests.indexer.erasing import erase, key_hash
from tests.indexer.parts import NOON, TEXTS, changes, delete, job, live_rows, publish, upsert


def proofs(catalog: Catalog, state: CatalogState, key: int) -> list[tuple[str, int, int]]:
    return find(state.deletions, key_hash(key), catalog.store)


def test_a_rollback_is_a_new_commit_of_the_older_state_that_holds_the_collection(catalog: Catalog, cache: Path) -> None:
    publish(catalog, cache, 1, upsert(1), upsert(2))
    old = publish(catalog, cache, 2, upsert(3, 2), delete(2, 2))
    newest = publish(catalog, cache, 3, upsert(1, 3, body="changed"), delete(3, 3))
    began = datetime.now(UTC)

    state = rollback(catalog, old.version)

    assert state.held is not None
    assert began <= state.held.since <= datetime.now(UTC)
    assert state.held == Hold(kind="rollback", since=state.held.since, end=SourcePosition(epoch="e", version=3))
    own = {"version", "commit_id", "committed_at", "operation", "ledger", "held", "deletions"}
    assert state.model_dump(exclude=own) == old.model_dump(exclude=own)
    assert (state.version, state.operation, state.ledger) == (newest.version + 1, "rollback", Ledger())
    assert live_rows(catalog, cache) == {1: "body 1", 3: "body 3"}


def test_a_sync_under_way_notices_that_its_place_is_gone(catalog: Catalog, cache: Path) -> None:
    old = publish(catalog, cache, 1, upsert(1))
    seen = publish(catalog, cache, 2, upsert(2, 2))
    result = build_part(changes(upsert(3, 3)), job(catalog, cache))
    rollback(catalog, old.version)

    end = SourcePosition(epoch="e", version=3)
    with pytest.raises(ProgressMoved, match="a rollback came between"):
        commit_batch(catalog, seen, result, end=end, committed_at=NOON, cache=cache)

    assert live_rows(catalog, cache) == {1: "body 1"}


def test_a_merge_under_way_loses_no_row_that_comes_back(catalog: Catalog, cache: Path) -> None:
    old = publish(catalog, cache, 1, upsert(1), upsert(2))
    state = publish(catalog, cache, 2, delete(1, 2))
    merging = merge_job(catalog, state, state.segments, cache)
    merged = merge_segments(merging)
    rolled = rollback(catalog, old.version)

    assert commit_merge(catalog, merging, merged) is None
    assert (catalog.read(), live_rows(catalog, cache)) == (rolled, {1: "body 1", 2: "body 2"})


def test_after_the_release_changes_are_read_again_from_where_the_version_was(catalog: Catalog, cache: Path) -> None:
    old = publish(catalog, cache, 1, upsert(1), upsert(2))
    erase(catalog, cache, 2, 2)
    rollback(catalog, old.version)

    state = release(catalog)

    assert (state.held, state.operation, state.position) == (None, "release", old.position)
    state = erase(catalog, cache, 2, 2)
    assert live_rows(catalog, cache) == {1: "body 1"}
    assert [(epoch, source) for epoch, source, _ in proofs(catalog, state, 2)] == [("e", 2)]


def test_only_what_is_held_can_be_released(catalog: Catalog, cache: Path) -> None:
    publish(catalog, cache, 1, upsert(1))

    with pytest.raises(HoldError, match="texts: no rollback is held"):
        release(catalog)


def test_a_version_of_which_a_file_is_missing_is_not_put_back(catalog: Catalog, cache: Path) -> None:
    old = publish(catalog, cache, 1, upsert(1), upsert(2))
    publish(catalog, cache, 2, delete(1, 2))
    newest = purge(catalog, cache).after
    missing = old.segments[0].files[1].path
    catalog.store.delete([missing])

    with pytest.raises(CatalogError, match=f"version 1 of 'texts' cannot be put back: {missing} is not in the store"):
        rollback(catalog, old.version)
    catalog.store.put(missing, b"cut short")
    with pytest.raises(CatalogError, match=f"{missing} is not in the store as it was written"):
        rollback(catalog, old.version)

    assert catalog.read() == newest


def test_versions_that_cannot_be_gone_back_to_are_said(catalog: Catalog, cache: Path) -> None:
    with pytest.raises(CatalogError, match="'texts' holds nothing yet"):
        rollback(catalog, 0)
    publish(catalog, cache, 1, upsert(1))
    with pytest.raises(CatalogError, match="version 1 of 'texts' is the newest already"):
        rollback(catalog, 1)
    with pytest.raises(CatalogError, match="version 7 of 'texts' is not kept; the newest is 1"):
        rollback(catalog, 7)


def test_going_back_to_the_empty_beginning_is_a_rollback_too(catalog: Catalog, cache: Path) -> None:
    publish(catalog, cache, 1, upsert(1))

    state = rollback(catalog, 0)

    assert (state.position, state.segments, live_rows(catalog, cache)) == (None, (), {})
    assert state.held is not None


def test_deletions_stay_proved_unless_the_rollback_brings_the_row_back(catalog: Catalog, cache: Path) -> None:
    publish(catalog, cache, 1, *(upsert(n) for n in range(1, 5)))
    old = erase(catalog, cache, 2, 1)
    publish(catalog, cache, 3, upsert(9, 3), upsert(1, 3))
    newest = erase(catalog, cache, 4, 2, 9, 1)
    assert [len(proofs(catalog, newest, key)) for key in (1, 2, 9)] == [2, 1, 1]

    state = rollback(catalog, old.version)

    assert sorted(live_rows(catalog, cache)) == [2, 3, 4]
    assert proofs(catalog, state, 1) == proofs(catalog, newest, 1)
    assert proofs(catalog, state, 2) == []
    assert proofs(catalog, state, 9) == proofs(catalog, newest, 9)


def test_going_forward_again_brings_the_proofs_back(catalog: Catalog, cache: Path) -> None:
    old = publish(catalog, cache, 1, upsert(1), upsert(2))
    newest = erase(catalog, cache, 2, 2)
    back = rollback(catalog, old.version)

    forth = rollback(catalog, newest.version)

    assert (proofs(catalog, back, 2), proofs(catalog, forth, 2)) == ([], proofs(catalog, newest, 2))
    assert (forth.segments, forth.deleted, forth.deletions) == (newest.segments, newest.deleted, newest.deletions)
    assert back.held is not None
    assert forth.held is not None
    assert forth.held.end == back.held.end


def with_spec(**parts: object) -> CollectionSpec:
    return CollectionSpec.model_validate(TEXTS.model_dump() | parts)


def commit_spec(catalog: Catalog, spec: CollectionSpec) -> None:
    state = catalog.read()
    catalog.commit(state, state.model_copy(update={"spec": spec}), batch_end=None)


def test_a_spec_that_fits_the_version_stays_as_it_was_decided_since(tmp_path: Path, cache: Path) -> None:
    root = Store.at(str(tmp_path / "store"))
    catalog = Catalog.create(root, TEXTS)
    old = publish(catalog, cache, 1, upsert(1))
    narrower = with_spec(columns=[], sync={"max_delete_ratio": 0.1})
    apply(root, narrower)

    assert rollback(catalog, old.version).spec == narrower


def test_an_older_spec_comes_back_under_the_policies_of_today(catalog: Catalog, cache: Path) -> None:
    old = publish(catalog, cache, 1, upsert(1))
    policy = PolicySpec(role="analyst", rows="n = 1")
    commit_spec(catalog, with_spec(columns=["n", "title"], policies=[policy]))

    state = rollback(catalog, old.version)

    assert state.spec == with_spec(columns=["n"], policies=[policy])


def test_what_is_no_longer_stored_does_not_come_back_into_sight(catalog: Catalog, cache: Path) -> None:
    old = publish(catalog, cache, 1, upsert(1))
    text = {"fields": {"title": 2.0}, "chunk": TEXTS.text.chunk.model_dump()}
    rebuilt = with_spec(columns=[], text=text, policies=[PolicySpec(role="analyst")])
    swapped = {"spec": rebuilt, "fingerprint": rebuilt.fingerprint, "segments": (), "live_rows": 0}
    catalog.commit(old, old.model_copy(update=swapped), batch_end=None)

    state = rollback(catalog, old.version)

    assert state.spec.policies == (PolicySpec(role="analyst", masks={"n": "redact", "body": "redact"}),)
