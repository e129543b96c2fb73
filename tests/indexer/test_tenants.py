"""Tenants kept apart where segments are made: built, looked up, merged."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from indexer.build import build_part, cuts
from indexer.catalog import Catalog, CatalogState
from indexer.embedding import BUNDLED_NAME
from indexer.errors import BuildError
from indexer.format.fetch import fetch_segment
from indexer.format.segment import read_segment
from indexer.format.store import Store
from indexer.format.tenants import only_tenant, tenants_of
from indexer.merge import FAN_IN, merge_once, plan_merge
from indexer.spec import CollectionSpec
from tests.indexer.parts import TEXTS, changes, delete, job, live_rows, publish, upsert

TENANTS = CollectionSpec.model_validate(TEXTS.model_dump() | {"key": ["n", "id"], "isolation": {"tenant": "n"}})


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    return Catalog.create(Store.at(str(tmp_path / "store")), TENANTS)


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def tenants_by_segment(catalog: Catalog, cache: Path, state: CatalogState) -> list[list[int]]:
    """The values of ``n`` in each segment, each once."""
    folders = [fetch_segment(catalog.store, record, cache) for record in state.segments]
    return sorted(sorted(set(read_segment(folder).chunks()["column.n"].to_pylist())) for folder in folders)


def test_a_batch_becomes_a_segment_for_each_tenant(catalog: Catalog, cache: Path) -> None:
    rows = [upsert(number, n=number % 3, body=f"text {number} " * (number % 4 * 10)) for number in range(12)]

    state = publish(catalog, cache, 1, *rows)

    assert tenants_by_segment(catalog, cache, state) == [[0], [1], [2]]
    assert len({record.tenant for record in state.segments}) == 3
    assert live_rows(catalog, cache) == {row["id"]: row["body"] for row in rows}


def test_a_change_looks_into_the_segments_of_its_tenant_alone(catalog: Catalog, cache: Path) -> None:
    publish(catalog, cache, 1, upsert(1, n=1), upsert(2, n=2), upsert(3, n=2))
    others = {record.number: record for record in catalog.read().segments}
    own = [record for record in others.values() if record.n_rows == 2]
    for record in others.values():
        if record not in own:
            catalog.store.delete([file.path for file in record.files])

    publish(catalog, Path(f"{cache}-new"), 2, upsert(2, 2, n=2, body="again"), delete(3, 2, n=2))

    assert catalog.read().deleted == {}  # all of the tenant's old segment is superseded, and so it is gone
    assert catalog.read().live_rows == 2


def test_a_row_that_moves_is_gone_from_the_tenant_that_it_left(catalog: Catalog, cache: Path) -> None:
    publish(catalog, cache, 1, upsert(1, n=1), upsert(2, n=1), upsert(3, n=2))

    state = publish(catalog, cache, 2, delete(1, 2, n=1), upsert(1, 2, n=2, body="moved"))

    assert tenants_by_segment(catalog, cache, state) == [[1], [2], [2]]
    assert live_rows(catalog, cache) == {1: "moved", 2: "body 2", 3: "body 3"}


def test_one_id_of_two_tenants_is_two_rows(catalog: Catalog, cache: Path) -> None:
    state = publish(catalog, cache, 1, upsert(1, n=1), upsert(1, n=2))
    assert (state.live_rows, state.letter_count) == (2, 0)


def test_segments_of_different_tenants_are_never_merged(catalog: Catalog, cache: Path) -> None:
    for version in range(1, FAN_IN):
        publish(catalog, cache, version, upsert(version, n=1), upsert(100 + version, n=2))
    assert plan_merge(catalog.read()) == ()
    publish(catalog, cache, FAN_IN, upsert(50, FAN_IN, n=2))
    before = live_rows(catalog, cache)

    assert merge_once(catalog, cache)

    state = catalog.read()
    assert tenants_by_segment(catalog, cache, state) == [*[[1]] * (FAN_IN - 1), [2]]
    assert live_rows(catalog, cache) == before
    assert {record.tenant for record in state.segments if record.n_rows == FAN_IN} < {
        record.tenant for record in state.segments
    } | {None}


@pytest.mark.parametrize("model", ["hash:8", BUNDLED_NAME])
def test_a_rows_vectors_and_texts_do_not_depend_on_whose_rows_come_along(
    tmp_path: Path, cache: Path, model: str
) -> None:
    vector = {"vector": {"model": model}}
    spec = CollectionSpec.model_validate(TENANTS.model_dump() | vector)
    catalog = Catalog.create(Store.at(str(tmp_path / "embedded")), spec)
    mine = [upsert(number, n=1, body=f"mine {number}") for number in range(5)]
    others = [upsert(number, n=2, body=f"other {number} " * 9) for number in range(7)]
    mixed = [row for pair in zip(mine, others[:5], strict=True) for row in pair] + others[5:]
    tables = []
    for rows in (mine, mixed):
        result = build_part(changes(*rows), job(catalog, cache))
        (record,) = [record for record in result.segments if record.n_rows == 5]
        files = read_segment(fetch_segment(catalog.store, record, cache))
        tables.append((files.chunks(), files.vectors.tolist()))
    assert tables[0] == tables[1]


def test_cuts_begin_where_a_tenant_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("indexer.build.MAX_CHUNKS_PER_SEGMENT", 2)
    rows = pa.array([0, 1, 1, 2, 3, 4, 5], pa.uint32()).to_numpy()
    assert cuts(rows, [0, 2, 3]) == [(0, 1), (1, 3), (3, 4), (4, 6), (6, 7)]


def test_tenants_are_told_by_value_and_type() -> None:
    narrow, wide = (tenants_of(pa.chunked_array([pa.array([7, 8, 7, None], kind)]), "n") for kind in ("int8", "int64"))
    words = tenants_of(pa.chunked_array([["7"], ["8", "7"]]), "n")
    assert narrow[0].tolist() == wide[0].tolist() == [0, 1, 0, -1]
    assert words[0].tolist() == [0, 1, 0]
    assert narrow[1] == wide[1]
    assert not set(words[1]) & set(wide[1])


def test_rows_of_several_tenants_are_no_segment() -> None:
    with pytest.raises(BuildError, match="these have 2 values of 'n'"):
        only_tenant(pa.chunked_array([[1, 2, 1]]), "n")


@pytest.mark.parametrize("order", [(1, 2), (2, 1)])
def test_the_tenant_whose_segments_have_waited_longest_is_merged_first(
    catalog: Catalog, cache: Path, order: tuple[int, int]
) -> None:
    for turn, tenant in enumerate(order):
        for version in range(FAN_IN):
            step = 10 * turn + version + 1
            publish(catalog, cache, step, upsert(step, step, n=tenant))

    chosen = catalog.read().model_copy(update={"segments": plan_merge(catalog.read())})

    assert tenants_by_segment(catalog, cache, chosen) == [[order[0]]] * FAN_IN
