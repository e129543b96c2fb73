from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pytest

from indexer.apply import apply
from indexer.catalog import Catalog, CatalogState, SourcePosition
from indexer.compact import compact, purge
from indexer.format.store import Store
from indexer.letterbox import encode_letters
from indexer.merge import FAN_IN, commit_merge, merge_job, merge_once, merge_segments, plan_merge, run_merge
from indexer.spec import IndexSpec
from tests.indexer.erasing import erase, key_hash
from tests.indexer.parts import TEXTS, delete, live_rows, publish, upsert


def numbers(state: CatalogState) -> list[int]:
    return [segment.number for segment in state.segments]


def test_compaction_merges_until_no_tier_is_full_and_says_what_it_did(catalog: Catalog, cache: Path) -> None:
    for version in range(2 * FAN_IN):
        publish(catalog, cache, version, upsert(version, version))
    before, rows = catalog.read(), live_rows(catalog, cache)
    told: list[tuple[str, int, int | None]] = []

    done = compact(catalog, cache, progress=lambda *news: told.append(news))

    assert (done.before, done.after, plan_merge(done.after)) == (before, catalog.read(), ())
    assert (live_rows(catalog, cache), done.merges, len(done.after.segments)) == (rows, 1, 1)
    assert told == [("merging", 0, 12), ("merging", 12, 12)]


def test_a_purge_rewrites_the_segments_with_tombstones_and_no_other(catalog: Catalog, cache: Path) -> None:
    publish(catalog, cache, 1, *(upsert(n) for n in range(4)))
    publish(catalog, cache, 2, *(upsert(n, 2) for n in range(4, 8)))
    seen = publish(catalog, cache, 3, delete(1, 3), upsert(2, 3, body="again"))
    rows = live_rows(catalog, cache)
    told: list[tuple[str, int, int | None]] = []

    done = purge(catalog, cache, progress=lambda *news: told.append(news))

    assert (done.merges, done.after.deleted, done.after.packs, live_rows(catalog, cache)) == (1, {}, {}, rows)
    assert set(numbers(seen)) - set(numbers(done.after)) == set(seen.deleted)
    assert done.after.operation == "purge"
    assert told == [("purging", 0, 4), ("purging", 4, 4)]
    assert purge(catalog, cache).after == done.after


def test_what_is_deleted_while_a_purge_runs_stays_deleted(catalog: Catalog, cache: Path) -> None:
    publish(catalog, cache, 1, *(upsert(n) for n in range(4)))
    publish(catalog, cache, 2, delete(1, 2))

    def interfere(stage: str, done: int, total: int | None) -> None:
        if done == 0:
            publish(catalog, cache, 3, delete(2, 3))

    purge(catalog, cache, progress=interfere)

    assert live_rows(catalog, cache) == {0: "body 0", 3: "body 3"}


def test_a_purge_goes_after_a_segment_that_a_merge_took_away(catalog: Catalog, cache: Path) -> None:
    publish(catalog, cache, 1, *(upsert(n) for n in range(4)))
    state = publish(catalog, cache, 2, upsert(4, 2))
    job = merge_job(catalog, state, state.segments, cache)
    merged = merge_segments(job)
    publish(catalog, cache, 3, delete(1, 3))
    interfered: list[CatalogState | None] = []

    def interfere(stage: str, done: int, total: int | None) -> None:
        if not interfered:
            interfered.append(commit_merge(catalog, job, merged))

    done = purge(catalog, cache, progress=interfere)

    (other,) = interfered
    assert other is not None
    assert (sum(other.deleted.values()), done.merges, done.after.deleted) == (1, 1, {})
    assert sorted(live_rows(catalog, cache)) == [0, 2, 3, 4]


@pytest.mark.parametrize("hashed", [True, False], ids=["by hash", "by JSON"])
def test_a_purge_drops_the_letters_of_rows_that_the_source_deleted_later(
    catalog: Catalog, cache: Path, hashed: bool
) -> None:
    publish(catalog, cache, 1, *(upsert(n) for n in range(4)))
    erase(catalog, cache, 5, 1, 2)
    state = catalog.read()
    versions = {1: 3, 2: 7, 3: 3}
    letters = pa.table(
        {
            "key": [json.dumps([key]) for key in versions],
            "reason": ["bad"] * 3,
            "version": list(versions.values()),
            "row": ["{}"] * 3,
        }
    )
    if hashed:
        letters = letters.append_column("key_hash", pa.array([key_hash(key) for key in versions], pa.binary(16)))
    file = catalog.store.put_record("letters/a.parquet", encode_letters(letters))
    catalog.commit(state, state.model_copy(update={"letters": (file,), "letter_count": 3}), batch_end=None)

    done = purge(catalog, cache)

    (left,) = done.after.letters
    assert (done.letters, done.after.letter_count, done.after.operation) == (1, 2, "purge")
    assert left != file
    assert catalog.store.exists(left.path)


def test_an_index_of_another_kind_than_the_spec_asks_for_is_built_anew(tmp_path: Path, cache: Path) -> None:
    root = Store.at(str(tmp_path / "store"))
    catalog = Catalog.create(root, TEXTS)
    publish(catalog, cache, 1, *(upsert(n) for n in range(40)))
    assert not merge_once(catalog, cache)
    apply(root, TEXTS.model_copy(update={"index": IndexSpec(kind="ivf")}))
    rows = live_rows(catalog, cache)

    compact(catalog, cache)

    (record,) = catalog.read().segments
    assert (record.index.kind, live_rows(catalog, cache)) == ("ivf", rows)


def test_a_merge_whose_inputs_were_replaced_and_vacuumed_is_given_up(catalog: Catalog, cache: Path) -> None:
    publish(catalog, cache, 1, upsert(1), upsert(2))
    state = publish(catalog, cache, 2, delete(1, 2))
    late = merge_job(catalog, state, state.segments, cache / "of another machine")
    purge(catalog, cache)
    catalog.store.delete(file.path for one in state.segments for file in one.files)

    assert run_merge(catalog, late) is None
    assert live_rows(catalog, cache) == {2: "body 2"}


def test_a_merge_of_another_epoch_is_given_up(catalog: Catalog, cache: Path) -> None:
    state = publish(catalog, cache, 1, upsert(1), upsert(2))
    job = merge_job(catalog, state, state.segments, cache)
    merged = merge_segments(job)
    other = SourcePosition(epoch="another", version=0)
    state = catalog.commit(state, state.model_copy(update={"base": other}), batch_end=None)

    assert commit_merge(catalog, job, merged) is None
    assert catalog.read() == state
