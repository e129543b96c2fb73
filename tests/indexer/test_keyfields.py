from __future__ import annotations

import json
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from indexer.catalog import Catalog
from indexer.errors import CorruptFile
from indexer.format.keys import format_key, key_hashes
from indexer.format.store import Store
from indexer.keyfields import arrow_type, hash_key, key_fields
from indexer.letterbox import decode_letters, letter_hashes
from tests.indexer.parts import TEXTS

NOON = datetime(2026, 1, 2, 12, 30, tzinfo=UTC)
TYPES: list[tuple[str, Any]] = [
    ("bigint", 7),
    ("tinyint", -7),
    ("string", "a,b 'ü'"),
    ("varchar(9)", "x"),
    ("boolean", True),
    ("decimal(10,2)", Decimal("1.50")),
    ("date", date(2026, 1, 2)),
    ("timestamp", NOON),
    ("timestamp_ntz", NOON.replace(tzinfo=None)),
    ("binary", b"\x00,\xff"),
]


def table(kind: str, value: Any) -> pa.Table:
    return pa.table({"id": pa.array([value], arrow_type(kind))})


@pytest.mark.parametrize(("kind", "value"), TYPES, ids=[kind for kind, _ in TYPES])
def test_a_key_as_in_a_url_has_the_hash_of_its_row(tmp_path: Path, kind: str, value: Any) -> None:
    catalog = Catalog.create(Store.at(str(tmp_path)), TEXTS)
    fields = key_fields(catalog.store, [catalog.read().model_copy(update={"types": {"id": kind, "title": "string"}})])

    assert fields == [pa.field("id", arrow_type(kind))]
    assert hash_key(format_key([value]), fields) == key_hashes(table(kind, value), ["id"]).tobytes()


@pytest.mark.parametrize(("kind", "value"), TYPES, ids=[kind for kind, _ in TYPES])
def test_a_letters_json_key_has_the_hash_of_its_row(kind: str, value: Any) -> None:
    """Written as the first letters were: dates and times as Arrow's text, the rest as Python's."""
    rows = table(kind, value)
    if pa.types.is_temporal(rows["id"].type):
        rows = pa.table({"id": rows["id"].cast(pa.string())})
    letters = pa.table({"key": [json.dumps(rows["id"].to_pylist(), default=str), "[null]", '[{"no": "key"}]']})

    expected = key_hashes(table(kind, value), ["id"]).tobytes()
    assert letter_hashes(letters, [pa.field("id", arrow_type(kind))]) == [expected, None, None]


def test_a_file_that_holds_no_letters_is_corrupt() -> None:
    with pytest.raises(CorruptFile, match=r"letters/a\.parquet: no letters can be read from it"):
        decode_letters(b"no letters", "letters/a.parquet")
