from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from indexer.apply import apply
from indexer.build import build_part
from indexer.catalog import Catalog, SourcePosition
from indexer.commit import after_load, commit_batch, commit_load
from indexer.errors import ProgressMoved
from indexer.format.store import Store
from indexer.spec import CollectionSpec
from tests.indexer.parts import NOON, TEXTS, changes, job, live_rows, publish, upsert

END = SourcePosition(epoch="e", version=1)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.at(str(tmp_path / "store"))


def spec(**parts: Any) -> CollectionSpec:
    return CollectionSpec.model_validate(TEXTS.model_dump() | parts)


def test_a_batch_that_another_writer_overtook_commits_nothing(store: Store, tmp_path: Path) -> None:
    catalog = Catalog.create(store, TEXTS)
    seen, result = catalog.read(), build_part(changes(upsert(1)), job(catalog, tmp_path))
    publish(catalog, tmp_path, 5, upsert(2))

    with pytest.raises(ProgressMoved, match="start anew from the catalog"):
        commit_batch(catalog, seen, result, end=END, committed_at=NOON, cache=tmp_path)

    assert live_rows(catalog, tmp_path) == {2: "body 2"}


def test_a_spec_applied_while_a_load_runs_is_not_lost(store: Store, tmp_path: Path) -> None:
    catalog = Catalog.create(store, TEXTS)
    seen, result = catalog.read(), build_part(changes(upsert(1)), job(catalog, tmp_path, replaces=True))
    wider = spec(columns=["n", "title"])
    assert apply(store, wider) == "changed"

    with pytest.raises(ProgressMoved):
        commit_load(catalog, seen, after_load(seen, result, TEXTS, end=END, committed_at=NOON, types={}))

    assert (catalog.read().spec, catalog.read().position) == (wider, None)


def test_a_second_rebuild_applied_while_the_first_is_built_is_not_lost(store: Store, tmp_path: Path) -> None:
    catalog = Catalog.create(store, TEXTS)
    publish(catalog, tmp_path, 1, upsert(1))
    first, second = (spec(text=TEXTS.text.model_dump() | {"language": name}) for name in ("french", "german"))
    apply(store, first, rebuild=True)
    seen, result = catalog.read(), build_part(changes(upsert(1)), job(catalog, tmp_path, replaces=True))
    apply(store, second, rebuild=True)

    with pytest.raises(ProgressMoved):
        commit_load(catalog, seen, after_load(seen, result, first, end=END, committed_at=NOON, types={}))

    assert (catalog.read().spec, catalog.read().pending) == (TEXTS, second)
