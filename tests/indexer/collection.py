"""A small collection to commit to."""

from __future__ import annotations

from datetime import UTC, datetime

from indexer.catalog import Catalog, CatalogState, SourcePosition
from indexer.format.records import FileRecord, IndexRecord, SegmentRecord
from indexer.spec import CollectionSpec
from indexer.spec_file import parse_spec

PACK = FileRecord(path="tombstones/a.pack", size_bytes=1, sha256="cd")
NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
SPEC = parse_spec(
    """
    name: advisories
    source: {table: /data/advisories}
    key: [id]
    text: {fields: {summary: 1.0}}
    vector: {column: embedding, dim: 4}
    shards: 2
    """
)


def named(name: str) -> CollectionSpec:
    return SPEC.model_copy(update={"name": name})


def segment(number: int, **fields: object) -> SegmentRecord:
    return SegmentRecord(
        number=number,
        shard=0,
        packed=True,
        files=(FileRecord(path=f"segments/{number}/segment.tar", size_bytes=3, sha256="ab"),),
        n_rows=10,
        n_chunks=20,
        n_embedded=20,
        dim=4,
        fingerprint=SPEC.fingerprint,
        index=IndexRecord(kind="exact", reason="small"),
        created_at=NOON,
    ).model_copy(update=fields)


def position(version: int, epoch: str = "t1") -> SourcePosition:
    return SourcePosition(epoch=epoch, version=version)


def moved(state: CatalogState, version: int, **fields: object) -> CatalogState:
    """The next state, with the source read up to ``version``."""
    update = {"position": position(version), "source_committed_at": NOON, "dim": 4, "operation": "sync", **fields}
    return state.model_copy(update=update)


def sync(catalog: Catalog, state: CatalogState, version: int, **fields: object) -> CatalogState:
    return catalog.commit(state, moved(state, version, **fields), batch_end=position(version))
