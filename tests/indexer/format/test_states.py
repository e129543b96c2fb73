from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from indexer.errors import CatalogError
from indexer.format.records import FileRecord, IndexRecord, Ledger, SegmentRecord
from indexer.format.states import (
    CatalogState,
    DeletionLog,
    Hold,
    SourcePosition,
    decode_rows,
    decode_table,
    encode_rows,
    encode_table,
)
from indexer.spec_file import parse_spec

GOLDEN = Path(__file__).parents[2] / "golden" / "catalog_v1.json"

SPEC = parse_spec(
    """
    name: advisories
    source: {table: /data/advisories}
    key: [id, package]
    text: {fields: {summary: 2.0, details: 1.0}, language: english, chunk: {max_tokens: 128, overlap_tokens: 16}}
    vector: {model: 'hash:8', dim: 8, dtype: float16, metric: dot}
    columns: [severity]
    index: {kind: ivf, device: cpu, min_recall: 0.9}
    shards: 2
    sync: {max_delete_ratio: 0.25}
    """
)

STATE = CatalogState(
    version=12,
    spec=SPEC,
    pending=SPEC.model_copy(update={"shards": 3}),
    fingerprint="f1",
    dim=8,
    position=SourcePosition(epoch="3f1c", version=41),
    source_committed_at=datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC),
    base=SourcePosition(epoch="3f1c", version=30),
    types={"id": "bigint", "package": "string"},
    held=Hold(
        kind="mass_delete",
        since=datetime(2026, 1, 2, tzinfo=UTC),
        end=SourcePosition(epoch="3f1c", version=42),
        deletes=900,
        rows=1000,
    ),
    segments=(
        SegmentRecord(
            number=5,
            shard=0,
            packed=True,
            files=(FileRecord(path="segments/0000000005-0123abcd/segment.tar", size_bytes=1024, sha256="aa"),),
            n_rows=3,
            n_chunks=4,
            n_embedded=3,
            dim=8,
            fingerprint="f1",
            epoch="3f1c",
            index=IndexRecord(kind="exact", reason="4 chunks are scanned exactly"),
            created_at=datetime(2026, 1, 2, 3, 4, 4, tzinfo=UTC),
        ),
        SegmentRecord(
            number=2**40 - 1,
            shard=1,
            packed=False,
            files=(
                FileRecord(path="segments/ffffffffff-0123abcd/keys.npy", size_bytes=7, sha256="bb"),
                FileRecord(path="segments/ffffffffff-0123abcd/vectors.faiss", size_bytes=8, sha256="cc"),
            ),
            n_rows=50_000,
            n_chunks=60_000,
            n_embedded=60_000,
            dim=8,
            fingerprint="f1",
            index=IndexRecord(kind="ivf", reason="60000 chunks", parameters={"n_lists": 256, "pq": "4x4", "x": 0.5}),
            created_at=datetime(2026, 1, 1, tzinfo=UTC),
        ),
    ),
    live_rows=49_990,
    deleted={2**40 - 1: 17},
    packs={1: FileRecord(path="tombstones/0f.pack", size_bytes=99, sha256="dd")},
    letters=(FileRecord(path="letters/1e.parquet", size_bytes=100, sha256="ee"),),
    letter_count=2,
    deletions=(
        DeletionLog(file=FileRecord(path="deletions/2d.npy", size_bytes=160, sha256="ff"), epoch="3f1c", count=1),
    ),
    ledger=Ledger(read=10, upserted=5, deleted=2, unchanged=1, set_aside=2, embedded=6),
    operation="sync",
    commit_id="0123456789abcdef0123456789abcdef",
    committed_at=datetime(2026, 1, 2, 3, 4, 6, tzinfo=UTC),
)


def golden() -> list[dict[str, Any]]:
    """The rows of format version 1, their records as JSON values."""
    rows: list[dict[str, Any]] = json.loads(GOLDEN.read_text(encoding="utf-8"))
    return [{**row, "record": json.dumps(row["record"])} for row in rows]


def test_a_state_of_format_version_1_still_opens() -> None:
    assert decode_rows(golden(), version=12) == STATE


def test_a_state_is_still_written_as_format_version_1() -> None:
    written = [{**row, "record": json.loads(str(row["record"]))} for row in encode_rows(STATE)]

    assert written == json.loads(GOLDEN.read_text(encoding="utf-8"))


def test_a_table_comes_back_as_it_went() -> None:
    assert decode_table(encode_table(STATE), version=12) == STATE


def test_a_later_format_is_refused() -> None:
    rows = golden()
    rows[-1]["record"] = rows[-1]["record"].replace('"format_version": 1', '"format_version": 2')

    with pytest.raises(CatalogError, match="the catalog is of format 2; this Grebe reads format 1"):
        decode_rows(rows, version=12)


def test_rows_without_a_state_are_refused() -> None:
    with pytest.raises(CatalogError, match="version 12 of a catalog has 0 state rows where one was expected"):
        decode_rows(golden()[:-1], version=12)


def test_a_record_that_lacks_a_field_is_refused() -> None:
    rows = golden()
    rows[0]["record"] = "{}"

    with pytest.raises(CatalogError, match=r"version 12 of a catalog cannot be read: number: Field required"):
        decode_rows(rows, version=12)


def test_what_is_no_parquet_is_refused() -> None:
    with pytest.raises(CatalogError, match="version 3 of a catalog is no Parquet file"):
        decode_table(b"PAR1", version=3)
