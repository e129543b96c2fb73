"""Tables of changes, and what the index says of them, for tests of building without Spark."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pyroaring import BitMap

from connectors.contract import COMMITTED_AT, OP, VERSION
from indexer.build import BuildJob, PartResult, build_part
from indexer.catalog import Catalog, CatalogState, SourcePosition
from indexer.commit import commit_batch
from indexer.format.fetch import fetch_segment
from indexer.format.segment import read_segment
from indexer.netting import BAD_TEXT, ROW_HASH
from indexer.spec import CollectionSpec
from indexer.spec_file import parse_spec

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
DIM = 4

TEXTS = parse_spec(
    """
    name: texts
    source: {table: /t}
    key: [id]
    text: {fields: {title: 2.0, body: 1.0}, chunk: {max_tokens: 16, overlap_tokens: 4}}
    vector: {model: "hash:8"}
    columns: [n]
    """
)
VECTORS = parse_spec(
    """
    name: vectors
    source: {table: /t}
    key: [id]
    text: {fields: {body: 1.0}}
    vector: {column: vector, dim: 4}
    """
)
SCHEMA = pa.schema(
    [
        ("id", pa.int64()),
        ("title", pa.string()),
        ("body", pa.string()),
        ("n", pa.int32()),
        ("vector", pa.list_(pa.float32())),
        (OP, pa.string()),
        (VERSION, pa.int64()),
        (COMMITTED_AT, pa.timestamp("us", tz="UTC")),
        (BAD_TEXT, pa.bool_()),
    ]
)


def upsert(id: int | None, version: int = 1, *, bad: bool = False, **values: Any) -> dict[str, Any]:  # noqa: A002
    """One upserted row; its text names its key unless ``values`` say otherwise."""
    row = {"id": id, "title": f"title {id}", "body": f"body {id}", "n": 0, "vector": [1.0, 0.0, 0.0, 0.0]} | values
    return row | {OP: "upsert", VERSION: version, COMMITTED_AT: NOON, BAD_TEXT: bad}


def delete(id: int | None, version: int = 1, **values: Any) -> dict[str, Any]:  # noqa: A002
    """One deleted row."""
    return upsert(id, version, **values) | {OP: "delete"}


def changes(*rows: dict[str, Any]) -> pa.Table:
    """Return the rows as a worker sees them, with their content hashes."""
    table = pa.Table.from_pylist(list(rows), SCHEMA)
    content = [repr([row[name] for name in ("id", "title", "body", "n", "vector")]) for row in rows]
    hashes = [blake2b(text.encode(), digest_size=16).digest() for text in content]
    return table.append_column(ROW_HASH, pa.array(hashes, pa.binary()))


def job(catalog: Catalog, cache: Path, *, replaces: bool = False, epoch: str = "e") -> BuildJob:
    """Return the job of the next batch."""
    state = catalog.read()
    return BuildJob(
        store=catalog.store,
        spec=state.spec,
        dim=state.dim or state.spec.vector.dim,
        live=state.segments,
        packs=state.packs,
        cache=cache,
        epoch=epoch,
        replaces=replaces,
    )


def publish(catalog: Catalog, cache: Path, version: int, *rows: dict[str, Any], epoch: str = "e") -> CatalogState:
    """Build and commit one batch, as a sync does."""
    state = catalog.read()
    result = build_part(changes(*rows), job(catalog, cache, epoch=epoch)) if rows else PartResult()
    end = SourcePosition(epoch=epoch, version=version)
    return commit_batch(catalog, state, result, end=end, committed_at=NOON, cache=cache)


def live_rows(catalog: Catalog, cache: Path) -> dict[int, str]:
    """Return the body of every live row by key, put together from its chunks; a key that is live twice is an error."""
    state = catalog.read()
    tombstones = catalog.tombstones(state)
    found: dict[int, str] = {}
    for record in state.segments:
        files = read_segment(fetch_segment(catalog.store, record, cache))
        dead = tombstones.get(record.number, BitMap())
        rows: dict[int, str] = {}
        for position, chunk in enumerate(files.chunks().to_pylist()):
            if position not in dead:
                text, start = chunk["text.body"] or "", chunk["start.body"] or 0
                before = rows.get(chunk["column.id"], "")
                rows[chunk["column.id"]] = before[:start] + text if chunk["text.body"] is not None else before
        assert not rows.keys() & found.keys(), "a key is live in two segments"
        found |= rows
    return found


def as_rows(table: pa.Table, names: Sequence[str]) -> list[tuple[Any, ...]]:
    """Return the named columns row by row."""
    return list(zip(*(table[name].to_pylist() for name in names), strict=True))


def unit(spec: CollectionSpec, catalog: Catalog, cache: Path) -> bool:
    """Say whether every stored vector has length one or is the zero of a chunk without text."""
    for record in catalog.read().segments:
        lengths = np.linalg.norm(read_segment(fetch_segment(catalog.store, record, cache)).vectors, axis=1)
        if not np.all((np.abs(lengths - 1) < 1e-5) | (lengths == 0)):
            return False
    return spec.vector.metric == "cosine"
