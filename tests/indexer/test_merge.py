from __future__ import annotations

from pathlib import Path

import pytest

from indexer.apply import apply
from indexer.build import build_part
from indexer.catalog import Catalog, SourcePosition
from indexer.commit import commit_batch
from indexer.format.fetch import fetch_segment
from indexer.format.segment import read_segment
from indexer.format.store import Store
from indexer.merge import FAN_IN, MergeJob, commit_merge, merge_job, merge_once, merge_segments, plan_merge
from tests.indexer.parts import NOON, TEXTS, changes, delete, job, live_rows, publish, unit, upsert


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def catalog(tmp_path: Path, cache: Path) -> Catalog:
    """A collection of one segment fewer than are merged, with an update and a delete in them."""
    catalog = Catalog.create(Store.at(str(tmp_path / "store")), TEXTS)
    for version in range(FAN_IN - 2):
        publish(catalog, cache, version, upsert(version, version), upsert(100 + version, version))
    publish(catalog, cache, 50, upsert(0, 50, body="again"), delete(101, 50))
    return catalog


def planned(catalog: Catalog, cache: Path) -> MergeJob:
    state = catalog.read()
    return merge_job(catalog, state, state.segments, cache)


def test_a_full_tier_is_merged_into_one_segment_with_the_same_rows(catalog: Catalog, cache: Path) -> None:
    assert not merge_once(catalog, cache)
    publish(catalog, cache, 60, upsert(200, 60))
    before = live_rows(catalog, cache)

    assert merge_once(catalog, cache)

    state = catalog.read()
    assert live_rows(catalog, cache) == before
    assert (len(state.segments), state.deleted, state.operation) == (1, {}, "merge")
    assert state.position is not None
    assert state.position.version == 60
    assert unit(TEXTS, catalog, cache)
    assert plan_merge(state) == ()


def test_a_mostly_dead_segment_is_written_again_alone(tmp_path: Path, cache: Path) -> None:
    catalog = Catalog.create(Store.at(str(tmp_path / "store")), TEXTS)
    publish(catalog, cache, 1, upsert(1), upsert(2), upsert(3))
    state = publish(catalog, cache, 2, delete(1, 2), upsert(2, 2, body="moved"))

    assert [segment.number for segment in plan_merge(state)] == list(state.deleted)
    assert merge_once(catalog, cache)
    assert (live_rows(catalog, cache), catalog.read().deleted) == ({2: "moved", 3: "body 3"}, {})


def test_what_is_deleted_while_a_merge_runs_stays_deleted(catalog: Catalog, cache: Path) -> None:
    merging = planned(catalog, cache)
    merged = merge_segments(merging)
    publish(catalog, cache, 60, delete(102, 60), upsert(3, 60, body="late"))

    state = commit_merge(catalog, merging, merged)

    assert state is not None
    assert live_rows(catalog, cache) == {
        0: "again",
        1: "body 1",
        2: "body 2",
        3: "late",
        100: "body 100",
        103: "body 103",
    }
    assert len(state.segments) == 2


def test_a_batch_built_before_a_merge_supersedes_rows_in_what_was_merged(catalog: Catalog, cache: Path) -> None:
    seen = catalog.read()
    result = build_part(changes(upsert(1, 60, body="late"), delete(2, 60)), job(catalog, cache))
    merging = planned(catalog, cache)
    commit_merge(catalog, merging, merge_segments(merging))

    commit_batch(catalog, seen, result, end=SourcePosition(epoch="e", version=60), committed_at=NOON, cache=cache)

    rows = live_rows(catalog, cache)
    assert (rows[1], 2 in rows) == ("late", False)


def test_a_merge_of_segments_that_are_gone_commits_nothing(catalog: Catalog, cache: Path) -> None:
    first, second = planned(catalog, cache), planned(catalog, cache)
    commit_merge(catalog, first, merge_segments(first))
    version = catalog.latest()

    assert commit_merge(catalog, second, merge_segments(second)) is None
    assert catalog.latest() == version


def test_segments_with_nothing_alive_merge_to_nothing(catalog: Catalog, cache: Path) -> None:
    merging = planned(catalog, cache)
    everything = (0, 1, 2, 3, 100, 101, 102, 103)

    state = publish(catalog, cache, 60, *(delete(n, 60) for n in everything))

    assert (state.segments, live_rows(catalog, cache)) == ((), {})
    assert commit_merge(catalog, merging, merge_segments(merging)) is None


def test_a_column_dropped_in_place_is_left_behind_by_a_merge(catalog: Catalog, cache: Path) -> None:
    publish(catalog, cache, 60, upsert(200, 60))
    apply(Store.at(catalog.store.url.rpartition("/")[0]), TEXTS.model_copy(update={"columns": ()}))
    before = live_rows(catalog, cache)

    assert merge_once(catalog, cache)

    (record,) = catalog.read().segments
    names = read_segment(fetch_segment(catalog.store, record, cache)).chunks().column_names
    assert ("column.id" in names, "column.n" in names) == (True, False)
    assert live_rows(catalog, cache) == before
