from __future__ import annotations

import pyarrow as pa
import pytest

from indexer.format.keys import key_hashes
from indexer.netting import REASONS, net_changes
from indexer.spec import VectorSpec
from indexer.spec_file import parse_spec
from tests.indexer.parts import DIM, TEXTS, VECTORS, changes, delete, upsert


def test_the_newest_version_of_a_key_wins() -> None:
    table = changes(upsert(1, 3, body="old"), upsert(1, 5, body="new"), delete(2, 6), upsert(2, 4))

    net = net_changes(table, TEXTS, None)

    assert net.upserts.tolist() == [1]
    assert net.hashes[net.upserts].tolist() == key_hashes(table.slice(1, 1), ["id"]).tolist()
    assert net.hashes[net.deletes].tolist() == key_hashes(table.slice(2, 1), ["id"]).tolist()
    assert (net.deletes.tolist(), net.bad.tolist(), net.letters) == ([2], [False], {})


@pytest.mark.parametrize("rows", [(delete(1, 3), upsert(1, 3)), (upsert(1, 3), delete(1, 3))])
def test_at_equal_version_an_upsert_beats_a_delete(rows: tuple[dict[str, object], ...]) -> None:
    net = net_changes(changes(*rows), TEXTS, None)

    assert (len(net.upserts), len(net.deletes)) == (1, 0)


def test_a_changed_key_is_a_delete_of_the_old_and_an_upsert_of_the_new() -> None:
    net = net_changes(changes(delete(1, 3), upsert(9, 3)), TEXTS, None)

    assert (net.upserts.tolist(), len(net.deletes)) == ([1], 1)


def test_of_two_upserts_of_a_key_in_one_version_the_lowest_hash_wins_and_the_other_is_set_aside() -> None:
    table = changes(upsert(1, 3, body="a"), upsert(1, 3, body="b"))
    hashes = table["_row_hash"].to_pylist()
    winner = hashes.index(min(hashes))

    net = net_changes(table, TEXTS, None)

    assert net.upserts.tolist() == [winner]
    assert net.letters == {1 - winner: REASONS["duplicate_key"]}


def test_of_the_same_row_twice_one_is_indexed_and_the_other_is_set_aside() -> None:
    net = net_changes(changes(upsert(1, 3), upsert(1, 3)), TEXTS, None)

    assert (net.upserts.tolist(), net.letters) == ([0], {1: REASONS["duplicate_key"]})


def test_a_null_key_is_set_aside_and_touches_nothing() -> None:
    table = changes(upsert(None), upsert(2), delete(None, body="gone"))

    net = net_changes(table, TEXTS, None)

    assert (net.upserts.tolist(), len(net.deletes), net.letters) == ([1], 0, {0: REASONS["null_key"]})
    assert net.freed == (table["_row_hash"][2].as_py(),)


@pytest.mark.parametrize(
    "later", [[upsert(1, 5, body="mended")], [delete(1, 5, bad=True)], [delete(1, 5, bad=True), upsert(1, 5)]]
)
def test_a_bad_row_of_which_the_batch_has_something_newer_is_not_set_aside(later: list[dict[str, object]]) -> None:
    net = net_changes(changes(upsert(1, 3, bad=True), *later), TEXTS, None)

    assert net.letters == {}


def test_a_row_without_a_key_that_was_deleted_later_is_not_set_aside_and_others_are() -> None:
    rows = [upsert(None, 3, body="gone"), upsert(None, 3, body="stays"), delete(None, 4, body="gone")]
    again = [delete(None, 5, body="stays"), upsert(None, 5, body="stays"), upsert(None, 6, body="gone")]

    letters = [net_changes(changes(*told), TEXTS, None).letters for told in (rows, rows + again)]

    null = REASONS["null_key"]
    assert letters == [{1: null}, {4: null, 5: null}]


@pytest.mark.parametrize(
    ("vector", "reason"),
    [
        ([1.0, 2.0], "wrong_width"),
        ([], "wrong_width"),
        ([1.0, float("nan"), 0.0, 0.0], "not_finite"),
        ([1.0, float("inf"), 0.0, 0.0], "not_finite"),
        ([1.0, None, 0.0, 0.0], "not_finite"),
        ([0.0, 0.0, 0.0, 0.0], "zero_vector"),
    ],
)
def test_an_unusable_vector_is_set_aside_and_removes_what_was_indexed(vector: list[float], reason: str) -> None:
    net = net_changes(changes(upsert(1, vector=vector), upsert(2)), VECTORS, DIM)

    assert (net.upserts.tolist(), len(net.deletes)) == ([1], 1)
    assert (net.bad.tolist(), net.letters) == ([True], {0: REASONS[reason]})


def test_a_zero_vector_is_usable_where_length_counts() -> None:
    dot = parse_spec(
        "name: v\nsource: {table: /t}\nkey: [id]\ntext: {fields: {body: 1}}\n"
        "vector: {column: vector, dim: 4, metric: dot}"
    )

    net = net_changes(changes(upsert(1, vector=[0.0, 0.0, 0.0, 0.0])), dot, DIM)

    assert (net.upserts.tolist(), net.letters) == ([0], {})


def test_a_missing_vector_leaves_the_row_findable_by_its_text() -> None:
    net = net_changes(changes(upsert(1, vector=None)), VECTORS, DIM)

    assert (net.upserts.tolist(), net.letters) == ([0], {})


def test_text_that_is_not_utf8_is_set_aside_unless_it_is_deleted() -> None:
    net = net_changes(changes(upsert(1, bad=True), delete(2)), TEXTS, None)

    assert (net.upserts.tolist(), len(net.deletes)) == ([], 2)
    assert net.letters == {0: REASONS["bad_utf8"]}


def test_a_good_row_beats_a_bad_one_of_the_same_key_and_version() -> None:
    net = net_changes(changes(upsert(1, bad=True), upsert(1, body="good")), TEXTS, None)

    assert (net.upserts.tolist(), net.letters) == ([1], {0: REASONS["bad_utf8"]})


@pytest.mark.parametrize("body", ["a", "b", "c", "d"])
def test_a_row_that_goes_bad_was_not_deleted_at_the_source(body: str) -> None:
    net = net_changes(changes(delete(1, 3, body=body), upsert(1, 3, bad=True)), TEXTS, None)

    assert (net.deletes.tolist(), net.bad.tolist()) == ([1], [True])


def test_no_changes_come_to_nothing() -> None:
    net = net_changes(changes(), TEXTS, None)

    assert (net.upserts.tolist(), net.deletes.tolist(), net.hashes.shape, net.letters) == ([], [], (0, 16), {})


def test_a_vector_too_large_for_its_type_is_set_aside() -> None:
    half = VECTORS.model_copy(update={"vector": VectorSpec(column="vector", dim=4, dtype="float16", metric="dot")})

    net = net_changes(changes(upsert(1, vector=[1e5, 0.0, 0.0, 0.0]), upsert(2)), half, DIM)

    assert (net.upserts.tolist(), net.letters) == ([1], {0: REASONS["not_finite"]})


@pytest.mark.parametrize(
    ("kind", "value", "fits"),
    [
        (pa.date32(), -719_162, True),
        (pa.date32(), -719_163, False),
        (pa.date32(), 2_932_896, True),
        (pa.date32(), 2_932_897, False),
        (pa.timestamp("us", tz="UTC"), 2_932_897 * 86_400_000_000 - 1, True),
        (pa.timestamp("us", tz="UTC"), 2_932_897 * 86_400_000_000, False),
        (pa.timestamp("us", tz="UTC"), None, True),
    ],
)
def test_a_date_that_no_reader_can_hold_is_set_aside(kind: pa.DataType, value: int | None, fits: bool) -> None:
    table = changes(upsert(1))
    ticks = pa.array([value], pa.int32() if pa.types.is_date32(kind) else pa.int64()).cast(kind)
    table = table.set_column(table.column_names.index("n"), "n", ticks)

    net = net_changes(table, TEXTS, None)

    assert net.letters == ({} if fits else {0: REASONS["beyond_years"]})
