from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from indexer.apply import apply
from indexer.catalog import Catalog
from indexer.errors import SpecError
from indexer.format.store import Store
from indexer.spec import CollectionSpec, PolicySpec
from tests.indexer.parts import TEXTS, publish, upsert


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.at(str(tmp_path / "store"))


def changed(**parts: Any) -> CollectionSpec:
    return CollectionSpec.model_validate(TEXTS.model_dump() | parts)


def test_a_new_collection_is_created_and_the_same_spec_again_changes_nothing(store: Store) -> None:
    assert apply(store, TEXTS) == "created"
    assert apply(store, TEXTS) == "unchanged"

    assert Catalog.open(store, "texts").latest() == 0


def test_limits_fewer_columns_and_the_reranking_model_change_in_place(store: Store, tmp_path: Path) -> None:
    apply(store, TEXTS)
    before = publish(Catalog.open(store, "texts"), tmp_path / "cache", 1, upsert(1))
    spec = changed(columns=[], sync={"max_delete_ratio": 0.9}, rerank={"model": "words:overlap"})

    assert apply(store, spec) == "changed"

    after = Catalog.open(store, "texts").read()
    assert (after.spec, after.segments, after.position) == (spec, before.segments, before.position)


@pytest.mark.parametrize(
    ("parts", "reason"),
    [
        ({"text": {"fields": {"body": 1.0}}}, "'text' changed"),
        ({"columns": ["n", "title"]}, "'columns' gained title"),
        ({"source": {"table": "/other"}}, "'source' is another table"),
        ({"key": ["n", "id"], "isolation": {"tenant": "n"}}, "'key', 'isolation' changed"),
    ],
)
def test_a_change_that_the_segments_cannot_serve_needs_a_rebuild(
    store: Store, tmp_path: Path, parts: dict[str, Any], reason: str
) -> None:
    apply(store, TEXTS)
    publish(Catalog.open(store, "texts"), tmp_path / "cache", 1, upsert(1))

    with pytest.raises(SpecError, match=f"{reason}.*--rebuild"):
        apply(store, changed(**parts))

    assert apply(store, changed(**parts), rebuild=True) == "rebuild pending"
    state = Catalog.open(store, "texts").read()
    assert (state.spec, state.pending) == (TEXTS, changed(**parts))


def test_before_the_first_load_any_change_is_in_place(store: Store) -> None:
    apply(store, TEXTS)

    assert apply(store, changed(text={"fields": {"body": 1.0}})) == "changed"
    assert Catalog.open(store, "texts").read().pending is None


def test_a_pending_rebuild_is_called_off_by_the_old_spec(store: Store, tmp_path: Path) -> None:
    apply(store, TEXTS)
    publish(Catalog.open(store, "texts"), tmp_path / "cache", 1, upsert(1))
    apply(store, changed(text={"fields": {"body": 1.0}}), rebuild=True)

    assert apply(store, TEXTS) == "changed"
    assert Catalog.open(store, "texts").read().pending is None


def test_policies_change_in_place_and_at_once_also_with_a_rebuild(store: Store, tmp_path: Path) -> None:
    apply(store, TEXTS)
    publish(Catalog.open(store, "texts"), tmp_path / "cache", 1, upsert(1))
    policies = (PolicySpec(role="analyst", rows="n = 1", masks={"body": "redact"}),)
    wider = (PolicySpec(role="analyst", rows="n = 2", masks={"body": "redact", "new": "hash"}),)

    assert apply(store, changed(policies=policies)) == "changed"
    assert Catalog.open(store, "texts").read().spec.policies == policies

    pending = changed(policies=wider, columns=["n", "new"])
    assert apply(store, pending, rebuild=True) == "rebuild pending"
    state = Catalog.open(store, "texts").read()
    assert state.pending == pending
    assert state.spec.policies == (PolicySpec(role="analyst", rows="n = 2", masks={"body": "redact"}),)


def test_what_a_pending_spec_drops_is_shown_to_nobody_until_the_rebuild(store: Store, tmp_path: Path) -> None:
    hidden = (PolicySpec(role="analyst", masks={"n": "hash", "body": "redact"}),)
    apply(store, changed(policies=hidden))
    publish(Catalog.open(store, "texts"), tmp_path / "cache", 1, upsert(1))

    apply(store, changed(text={"fields": {"title": 1.0}}, columns=[], policies=[{"role": "analyst"}]), rebuild=True)

    state = Catalog.open(store, "texts").read()
    assert state.spec.policies == (PolicySpec(role="analyst", masks={"n": "redact", "body": "redact"}),)
    with pytest.raises(SpecError, match="n, body would be shown to everybody, because no policy says who may see it"):
        apply(store, changed(text={"fields": {"title": 1.0}}, columns=[], policies=()), rebuild=True)


def test_policies_that_mask_a_key_of_the_serving_index_are_refused(store: Store, tmp_path: Path) -> None:
    apply(store, TEXTS)
    publish(Catalog.open(store, "texts"), tmp_path / "cache", 1, upsert(1))
    other_key = changed(key=["n"], columns=["id"], policies=[{"role": "analyst", "masks": {"id": "hash"}}])

    apply(store, other_key, rebuild=True)

    assert Catalog.open(store, "texts").read().spec.policies == (PolicySpec(role="analyst"),)
