"""A small real collection for the server's tests: built by the indexer, without Spark."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa

from indexer.build import BuildJob, PartResult, build_part, merge_results
from indexer.catalog import Catalog, CatalogState, Heartbeat, SourcePosition
from indexer.commit import commit_batch
from indexer.format.records import SegmentRecord
from indexer.format.states import Hold
from indexer.format.store import Store
from indexer.spec import CollectionSpec

EPOCH = "table-1"
SCHEMA = pa.schema(
    [
        ("shelf", pa.string()),
        ("id", pa.int64()),
        ("title", pa.string()),
        ("body", pa.string()),
        ("pages", pa.int32()),
        ("_op", pa.string()),
        ("_version", pa.int64()),
        ("_committed_at", pa.timestamp("us", "UTC")),
        ("_row_hash", pa.binary()),
        ("_bad_text", pa.bool_()),
    ]
)
ANIMALS = ("otter", "heron", "badger", "kestrel", "newt")

Row = Mapping[str, Any]


def book(number: int, **changed: Any) -> dict[str, Any]:
    animal = ANIMALS[number % len(ANIMALS)]
    row = {
        "shelf": "a/b, c" if number % 2 else "plain",
        "id": number,
        "title": f"The {animal}",
        "body": f"Story {number} of a {animal} by the river",
        "pages": number * 10,
    }
    return row | changed


class Library:
    """The collection ``name`` in the store under ``root`` (or ``address``), keyed by ``id`` or (``shelf``, ``id``).

    ``parts`` of the spec are added to it.
    """

    def __init__(
        self, root: Path, name: str = "books", *, composite: bool = False, address: str = "", **parts: Any
    ) -> None:
        self.root = root / "store"
        self.cache = root / "indexer-cache"
        self.store = Store.at(address or str(self.root))
        self.spec = CollectionSpec.model_validate(
            {
                "name": name,
                "source": {"table": str(root / "table")},
                "key": ["shelf", "id"] if composite else ["id"],
                "text": {"fields": {"title": 2.0, "body": 1.0}},
                "vector": {"model": "hash:32"},
                "columns": ["shelf", "pages"],
            }
            | parts
        )
        self.catalog = Catalog.create(self.store, self.spec)

    def commit(
        self,
        version: int,
        upserts: Iterable[Row] = (),
        deletes: Iterable[Row] = (),
        *,
        at: datetime | None = None,
        before_commit: Callable[[PartResult], object] = lambda _: None,
    ) -> CatalogState:
        """Index one batch that ends at source ``version``, committed at the source ``at`` (now).

        ``before_commit`` gets what was uploaded before any catalog version names it.
        """
        at = at or datetime.now(UTC)
        rows = [_change(row, "upsert", version, at) for row in upserts]
        rows += [_change(row, "delete", version, at) for row in deletes]
        seen = self.catalog.read()
        job = BuildJob(store=self.catalog.store, spec=self.spec, dim=seen.dim, live=seen.segments, cache=self.cache)
        shards = self.spec.shards
        result = merge_results(
            [
                build_part(pa.Table.from_pylist(part, SCHEMA), replace(job, live=_of_shard(seen, shard)), shard=shard)
                for shard in range(shards)
                if (part := [row for row in rows if row["id"] % shards == shard]) or shards == 1
            ]
        )
        before_commit(result)
        end = SourcePosition(epoch=EPOCH, version=version)
        return commit_batch(self.catalog, seen, result, end=end, committed_at=at, cache=self.cache)

    def file(self, path: str) -> Path:
        """Return where a file of the collection lies."""
        return self.root / self.spec.name / path

    def beat(self, version: int, at: datetime, **told: Any) -> None:
        """Say that the source had nothing newer than ``version`` ``at`` that time, and what else it ``told``."""
        self.catalog.write_heartbeat(Heartbeat(checked_at=at, epoch=EPOCH, version=version, **told))

    def hold(self, kind: Literal["mass_delete", "rollback"], end: int, **counts: int) -> Hold:
        """Hold the collection: its syncs wait for a person's word."""
        state = self.catalog.read()
        held = Hold(kind=kind, since=state.committed_at, end=SourcePosition(epoch=EPOCH, version=end), **counts)
        self.catalog.commit(state, state.model_copy(update={"held": held, "operation": "hold"}), batch_end=None)
        return held


def _of_shard(state: CatalogState, shard: int) -> tuple[SegmentRecord, ...]:
    return tuple(segment for segment in state.segments if segment.shard == shard)


def _change(row: Row, op: str, version: int, at: datetime) -> dict[str, Any]:
    content = hashlib.blake2b(repr(sorted(row.items())).encode(), digest_size=16).digest()
    return {**row, "_op": op, "_version": version, "_committed_at": at, "_row_hash": content, "_bad_text": False}
