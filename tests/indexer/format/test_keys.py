from __future__ import annotations

import json
import math
from datetime import UTC, date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api.encoding import encode
from indexer.errors import BuildError, CorruptFile
from indexer.format.keys import (
    KeyIndex,
    among,
    column_hashes,
    format_key,
    hash_column,
    key_hashes,
    key_of_json,
    null_keys,
    parse_key,
)

TYPES: dict[pa.DataType, st.SearchStrategy[Any]] = {
    pa.int64(): st.integers(-(2**63), 2**63 - 1),
    pa.string(): st.text(max_size=8),
    pa.bool_(): st.booleans(),
    pa.binary(): st.binary(max_size=8),
    pa.date32(): st.dates(),
    pa.timestamp("us"): st.datetimes(),
    pa.timestamp("us", "UTC"): st.datetimes(timezones=st.just(UTC)),
    pa.time64("us"): st.times(),
    pa.decimal128(38, 6): st.decimals(-(10**20), 10**20, places=6),
    pa.float64(): st.floats(allow_nan=False),
}


def hash_of(*values: Any, types: tuple[pa.DataType, ...]) -> bytes:
    names = [f"k{at}" for at in range(len(values))]
    arrays = [pa.array([value], kind) for value, kind in zip(values, types, strict=True)]
    return bytes(key_hashes(pa.table(arrays, names=names), names)[0])


@pytest.mark.parametrize(
    ("value", "kinds"),
    [
        (7, (pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint64())),
        ("grebe", (pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int8(), pa.string()))),
        (b"grebe", (pa.binary(), pa.large_binary(), pa.binary(5), pa.binary_view())),
        (Decimal("1.5"), (pa.decimal128(4, 1), pa.decimal128(38, 9), pa.decimal256(60, 20))),
        (date(2024, 2, 29), (pa.date32(), pa.date64())),
        (datetime.fromisoformat("2024-02-29"), (pa.timestamp("s"), pa.timestamp("us"), pa.timestamp("ns"))),
        (datetime(2024, 2, 29, tzinfo=UTC), (pa.timestamp("us", "UTC"), pa.timestamp("ns", "Europe/Berlin"))),
        (time(1, 2, 3), (pa.time32("s"), pa.time64("us"))),
        (0.5, (pa.float32(), pa.float64())),
    ],
)
def test_a_value_hashes_alike_in_every_width_of_its_type(value: Any, kinds: tuple[pa.DataType, ...]) -> None:
    assert len({hash_of(value, types=(kind,)) for kind in kinds}) == 1


def test_values_that_look_alike_but_differ_in_type_hash_apart() -> None:
    lookalikes = [
        (1, pa.int64()),
        ("1", pa.string()),
        (b"1", pa.binary()),
        (True, pa.bool_()),
        (Decimal(1), pa.decimal128(4, 0)),
        (1.0, pa.float64()),
        (date(1970, 1, 2), pa.date32()),
        (datetime.fromisoformat("1970-01-02"), pa.timestamp("us")),
        (datetime(1970, 1, 2, tzinfo=UTC), pa.timestamp("us", "UTC")),
        (time(0, 0, 1), pa.time32("s")),
    ]
    assert len({hash_of(value, types=(kind,)) for value, kind in lookalikes}) == len(lookalikes)


def test_float_keys_have_one_zero_and_one_nan() -> None:
    assert hash_of(-0.0, types=(pa.float64(),)) == hash_of(0.0, types=(pa.float64(),))
    assert hash_of(-math.nan, types=(pa.float64(),)) == hash_of(math.nan, types=(pa.float64(),))


def test_the_hash_of_a_key_never_changes() -> None:
    values = (7, "a,b", Decimal("-1.50"), date(2024, 2, 29))
    found = hash_of(*values, types=(pa.int32(), pa.string(), pa.decimal128(9, 2), pa.date32()))
    assert found.hex() == "e278c14773b9e55bb97ed905a144297e"


@settings(derandomize=True, max_examples=100, deadline=None)
@given(
    st.sets(st.tuples(st.text(alphabet="a1:s,", max_size=5), st.text(alphabet="a1:s,", max_size=5), st.integers(0, 9)))
)
def test_distinct_composite_keys_have_distinct_hashes(keys: set[tuple[str, str, int]]) -> None:
    columns = [
        pa.array([key[at] for key in keys], kind) for at, kind in enumerate((pa.string(), pa.string(), pa.int8()))
    ]
    hashes = key_hashes(pa.table(columns, names=["a", "b", "c"]), ("a", "b", "c"))
    assert len(np.unique(hashes, axis=0)) == len(keys)


def test_null_keys_are_told_and_never_hashed() -> None:
    table = pa.table({"a": [1, None, 3, 4], "b": ["x", "y", None, "z"]})
    assert null_keys(table, ("a", "b")).tolist() == [False, True, True, False]
    with pytest.raises(BuildError, match="key column 'a' has 1 nulls"):
        key_hashes(table, ("a", "b"))


def test_a_nested_key_column_is_refused() -> None:
    with pytest.raises(BuildError, match=r"key column 'a' is list<.*>: use integer"):
        key_hashes(pa.table({"a": [[1]]}), ("a",))


def test_no_rows_have_no_hashes() -> None:
    assert key_hashes(pa.table({"a": pa.array([], pa.int64())}), ("a",)).shape == (0, 16)


@settings(derandomize=True, max_examples=120, deadline=None)
@given(st.data())
def test_a_key_survives_its_url_form(data: st.DataObject) -> None:
    kinds = data.draw(st.lists(st.sampled_from(list(TYPES)), min_size=1, max_size=3))
    values = tuple(data.draw(TYPES[kind]) for kind in kinds)
    fields = [pa.field(f"k{at}", kind) for at, kind in enumerate(kinds)]
    text = format_key(values)
    assert parse_key(text, fields) == values
    assert set(text) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-~%,")


@settings(derandomize=True, max_examples=60, deadline=None)
@given(st.data())
def test_a_key_survives_an_answers_json(data: st.DataObject) -> None:
    kinds = data.draw(st.lists(st.sampled_from(list(TYPES)), min_size=1, max_size=3))
    values = [data.draw(TYPES[kind]) for kind in kinds]
    fields = [pa.field(f"k{at}", kind) for at, kind in enumerate(kinds)]
    sent = json.loads(encode(values))
    read = key_of_json(sent, fields)
    same = pa.table({field.name: pa.array([value], field.type) for field, value in zip(fields, values, strict=True)})
    back = pa.table({field.name: pa.array([value], field.type) for field, value in zip(fields, read, strict=True)})
    assert key_hashes(back, same.column_names).tolist() == key_hashes(same, same.column_names).tolist()


def test_a_key_in_json_that_does_not_fit_says_which_part() -> None:
    with pytest.raises(ValueError, match="key component 'day': 'soon' is not of type date32"):
        key_of_json(["soon"], [pa.field("day", pa.date32())])
    with pytest.raises(ValueError, match=r"the key has 2 components \(a, b\), not 1"):
        key_of_json([1], [pa.field("a", pa.int64()), pa.field("b", pa.int64())])


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (1.999, pa.int64()),
        (True, pa.int64()),
        (1, pa.string()),
        (20000, pa.date32()),
        (1.5, pa.timestamp("us")),
        (1, pa.bool_()),
    ],
)
def test_a_value_of_another_type_is_no_key(value: object, kind: pa.DataType) -> None:
    with pytest.raises(ValueError, match="is not of type"):
        key_of_json([value], [pa.field("k", kind)])


def test_the_url_form_is_percent_encoded_and_joined_by_commas() -> None:
    assert format_key(["a,b/ü%", 7, "", True, b"\x00z"]) == "a%2Cb%2F%C3%BC%25,7,,true,%00z"


@pytest.mark.parametrize(
    ("text", "kinds", "message"),
    [
        ("1,2", (pa.int64(),), r"the key has 1 components \(k0\), not 2"),
        ("", (pa.int64(),), "key component 'k0': '' is not of type int64"),
        ("1_0", (pa.int64(),), "'1_0' is not of type int64"),
        ("a,yes", (pa.string(), pa.bool_()), "key component 'k1': 'yes' is not of type bool"),
        ("%FF", (pa.string(),), "'%FF' is not of type string"),
        ("2024-13-01", (pa.date32(),), "'2024-13-01' is not of type date32"),
        ("one", (pa.decimal128(4, 0),), "'one' is not of type decimal128"),
        ("1", (pa.list_(pa.int8()),), r"'1' is not of type list<"),
    ],
)
def test_a_malformed_key_is_refused_with_its_component(text: str, kinds: tuple[pa.DataType, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_key(text, [pa.field(f"k{at}", kind) for at, kind in enumerate(kinds)])


def index_of(hashes: np.ndarray) -> KeyIndex:
    count = len(hashes)
    return KeyIndex.build(hashes, np.arange(count) * 2, np.full(count, 2), np.arange(count) - 5)


def test_a_saved_index_finds_each_key_and_no_other(tmp_path: Path) -> None:
    hashes = key_hashes(pa.table({"k": np.arange(1000)}), ("k",))
    index_of(hashes[:600]).save(tmp_path / "keys.npy")
    queries, entries = KeyIndex.open(tmp_path / "keys.npy").lookup(hashes[400:])
    assert queries.tolist() == list(range(200))
    assert entries.tolist() == [(2 * key, 2, key - 5) for key in range(400, 600)]


def test_keys_that_share_their_first_half_are_kept_apart() -> None:
    hashes = np.zeros((6, 16), dtype=np.uint8)
    hashes[:, 15] = [9, 3, 7, 1, 5, 0]
    hashes[5, 0] = 255
    index = index_of(hashes[[0, 1, 2, 4, 5]])
    queries, entries = index.lookup(hashes)
    assert queries.tolist() == [0, 1, 2, 4, 5]
    assert entries["position"].tolist() == [0, 2, 4, 6, 8]


def test_hashes_come_back_in_ascending_byte_order() -> None:
    hashes = key_hashes(pa.table({"k": np.arange(50)}), ("k",))
    index = index_of(hashes)
    assert [row.tobytes() for row in index.hashes()] == sorted(row.tobytes() for row in hashes)
    assert sorted(index.entries()["position"].tolist()) == list(range(0, 100, 2))


def test_an_empty_index_finds_nothing() -> None:
    hashes = key_hashes(pa.table({"k": [1]}), ("k",))
    queries, entries = index_of(hashes[:0]).lookup(hashes)
    assert (queries.tolist(), entries.tolist()) == ([], [])


def test_two_rows_of_one_key_are_refused() -> None:
    hashes = key_hashes(pa.table({"k": [1, 2, 1]}), ("k",))
    with pytest.raises(BuildError, match="1 keys come twice in one segment, the first at chunks 0 and 4"):
        index_of(hashes)


@pytest.mark.parametrize("content", [b"", b"no array", b"\x93NUMPY"])
def test_a_file_that_is_no_index_is_corrupt(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "keys.npy").write_bytes(content)
    with pytest.raises(CorruptFile, match=r"keys\.npy"):
        KeyIndex.open(tmp_path / "keys.npy")
    with pytest.raises(CorruptFile, match=r"segments/1/keys\.npy: not an array file"):
        KeyIndex.decode(content, name="segments/1/keys.npy")


def test_an_index_is_read_from_its_bytes_too(tmp_path: Path) -> None:
    hashes = key_hashes(pa.table({"k": np.arange(50)}), ("k",))
    index_of(hashes).save(tmp_path / "keys.npy")

    index = KeyIndex.decode((tmp_path / "keys.npy").read_bytes(), name="keys.npy")

    assert index.lookup(hashes)[0].tolist() == list(range(50))


def test_an_array_of_another_shape_is_corrupt(tmp_path: Path) -> None:
    np.save(tmp_path / "keys.npy", np.zeros((3, 4)))
    with pytest.raises(CorruptFile, match=r"expected \(4, n\) uint64, found \(3, 4\) float64"):
        KeyIndex.open(tmp_path / "keys.npy")


def test_hash_columns_round_trip_through_slices_and_chunks() -> None:
    hashes = key_hashes(pa.table({"k": np.arange(10)}), ("k",))
    column = pa.chunked_array([hash_column(hashes[:4]), hash_column(hashes[2:8]).slice(2), hash_column(hashes[8:])])
    assert np.array_equal(column_hashes(column), hashes)
    assert column_hashes(column.slice(3, 2)).tolist() == hashes[3:5].tolist()
    assert column_hashes(column.slice(0, 0)).shape == (0, 16)


def test_shares_are_equal_ranges_of_hashes_and_together_all_keys() -> None:
    hashes = np.zeros((6, 16), dtype=np.uint8)
    hashes[:, 0] = [0, 0x3F, 0x40, 0x80, 0xBF, 0xFF]
    index = KeyIndex.build(hashes, np.arange(6), np.ones(6, dtype=np.int64), np.zeros(6, dtype=np.int64))

    shares = index.shares(4)

    assert [share.entries()["position"].tolist() for share in shares] == [[0, 1], [2], [3, 4], [5]]
    assert [len(share) for share in index.shares(1)] == [6]


def test_hashes_are_among_others_whole() -> None:
    hashes = np.zeros((3, 16), dtype=np.uint8)
    hashes[1, 15], hashes[2, 0] = 1, 1

    assert among(hashes, hashes[1:2]).tolist() == [False, True, False]
    assert among(hashes, hashes[:0]).tolist() == [False, False, False]
    assert among(hashes[:0], hashes).tolist() == []
