"""The state of a collection at one version, and the rows of the catalog's table that hold it."""

from __future__ import annotations

import io
import json
from datetime import datetime
from typing import Literal

import polars as pl
from pydantic import Field, ValidationError

from indexer.errors import CatalogError, NewerCatalog
from indexer.format.records import FORMAT_VERSION, SEGMENT_NUMBER_BITS, FileRecord, Ledger, Record, SegmentRecord
from indexer.spec import CollectionSpec

COLUMNS: dict[str, type[pl.DataType]] = {
    "kind": pl.String,
    "number": pl.Int64,
    "shard": pl.Int32,
    "tombstoned": pl.Int64,
    "record": pl.String,
}

_UNKNOWN = frozenset({"extra_forbidden", "literal_error", "union_tag_invalid"})
"""Mistakes in a record that say that it has a field, or a word for a field, which is not known here."""


class SourcePosition(Record):
    """Everything up to and including ``version`` of the source table whose id is ``epoch``."""

    epoch: str
    version: int


class SyncFailure(Record):
    """A sync ended ``at`` (UTC) with an error, which is a sentence; the collection was at ``position`` then."""

    at: datetime
    position: SourcePosition | None
    error: str


class Heartbeat(Record):
    """At ``checked_at`` (UTC) the source was asked, and had nothing newer than ``version`` of ``epoch``.

    ``reads`` says how the source is followed, and ``retention_seconds`` for how long it keeps a change readable.
    """

    checked_at: datetime
    epoch: str
    version: int
    reads: Literal["changes", "snapshots"] = "changes"
    retention_seconds: float | None = None

    @property
    def position(self) -> SourcePosition:
        """The position that was the source's newest."""
        return SourcePosition(epoch=self.epoch, version=self.version)


class Hold(Record):
    """Why syncs of a collection wait for a person's word.

    ``mass_delete``: the changes up to ``end`` would delete ``deletes`` of ``rows`` rows; they are not applied.
    ``rollback``: an older version was put back; ``end`` is where the collection had been.
    """

    kind: Literal["mass_delete", "rollback"]
    since: datetime
    end: SourcePosition
    deletes: int = 0
    rows: int = 0


class DeletionLog(Record):
    """A file of rows that the source deleted (:mod:`indexer.format.deletions`), all of one epoch."""

    file: FileRecord
    epoch: str
    count: int


class CatalogState(Record):
    """One version of a collection.

    ``pending`` is the spec that the next sync rebuilds the collection under, if one waits. ``position`` and
    ``source_committed_at`` are None before the first load. ``base`` is where the source's epoch began here, ``types``
    are those of the spec's columns. ``held`` stops syncs. ``live_rows`` counts what is indexed now, ``deleted`` the
    tombstoned chunks of those live segments that have any; ``packs`` holds the tombstones themselves, one cumulative
    file per shard. ``ledger`` is of the one commit, ``letters`` and ``letter_count`` of the whole collection.
    ``deletions`` says what the source deleted and when. :meth:`indexer.catalog.Catalog.commit` sets ``version``,
    ``commit_id`` and ``committed_at``.
    """

    version: int
    format_version: int = FORMAT_VERSION
    spec: CollectionSpec
    pending: CollectionSpec | None = None
    fingerprint: str
    dim: int | None = None
    position: SourcePosition | None = None
    source_committed_at: datetime | None = None
    base: SourcePosition | None = None
    types: dict[str, str] = Field(default_factory=dict)
    held: Hold | None = None
    segments: tuple[SegmentRecord, ...] = ()
    live_rows: int = 0
    deleted: dict[int, int] = Field(default_factory=dict)
    packs: dict[int, FileRecord] = Field(default_factory=dict)
    letters: tuple[FileRecord, ...] = ()
    letter_count: int = 0
    deletions: tuple[DeletionLog, ...] = ()
    ledger: Ledger = Ledger()
    operation: str
    commit_id: str
    committed_at: datetime

    @property
    def n_chunks(self) -> int:
        """Chunks that count: those of all live segments less the tombstoned."""
        return sum(segment.n_chunks for segment in self.segments) - sum(self.deleted.values())

    @property
    def n_tenants(self) -> int | None:
        """Tenants that have a segment; None where rows are not kept apart."""
        return len({segment.tenant for segment in self.segments}) if self.spec.tenant else None


def encode_rows(state: CatalogState) -> list[dict[str, object]]:
    """Return the table rows of ``state``: its segments by number, then the state row."""
    rows: list[dict[str, object]] = [
        {
            "kind": "segment",
            "number": segment.number,
            "shard": segment.shard,
            "tombstoned": state.deleted.get(segment.number, 0),
            "record": segment.model_dump_json(),
        }
        for segment in sorted(state.segments, key=lambda segment: segment.number)
    ]
    record = state.model_dump_json(exclude={"version", "segments", "deleted"})
    return [*rows, {"kind": "state", "number": None, "shard": None, "tombstoned": None, "record": record}]


def decode_rows(rows: list[dict[str, object]], *, version: int) -> CatalogState:
    """Return the state of ``version`` that :func:`encode_rows` wrote; raises :class:`CatalogError`."""
    segments = [row for row in rows if row["kind"] == "segment"]
    states = [row for row in rows if row["kind"] == "state"]
    if len(states) != 1:
        raise CatalogError(f"version {version} of a catalog has {len(states)} state rows where one was expected")
    values = json.loads(str(states[0]["record"]))
    format_version = values.get("format_version")
    if format_version != FORMAT_VERSION:
        newer = isinstance(format_version, int) and format_version > FORMAT_VERSION
        raise (NewerCatalog if newer else CatalogError)(
            f"the catalog is of format {format_version}; this Grebe reads format {FORMAT_VERSION}. "
            "Use the Grebe that wrote it, or drop the collection and load it anew"
        )
    try:
        return CatalogState.model_validate(
            {
                **values,
                "version": version,
                "segments": [SegmentRecord.model_validate_json(str(row["record"])) for row in segments],
                "deleted": {row["number"]: row["tombstoned"] for row in segments if row["tombstoned"]},
            }
        )
    except ValidationError as error:
        raise _unreadable(version, error) from error


def _unreadable(version: int, error: ValidationError) -> CatalogError:
    """Return what to raise for a record: what is not known by name is a newer release's, anything else is damage."""
    unknown = [".".join(map(str, each["loc"])) for each in error.errors() if each["type"] in _UNKNOWN]
    if unknown:
        return NewerCatalog(
            f"version {version} of the catalog has what this release of Grebe does not know ({', '.join(unknown)}): "
            "a newer one wrote it; upgrade this one"
        )
    first = error.errors()[0]
    place, said = ".".join(map(str, first["loc"])), first["msg"].removeprefix("Value error, ")
    return CatalogError(f"version {version} of a catalog cannot be read: {place}: {said}")


def check_commit(seen: CatalogState, new: CatalogState, batch_end: SourcePosition | None) -> None:
    """Raise :class:`CatalogError` for a state that contradicts itself, or a move of the position without its batch."""
    wrong = [*_contradictions(new), *_wrong_moves(seen, new, batch_end)]
    if wrong:
        raise CatalogError(f"the commit after version {seen.version} of '{seen.spec.name}' is refused: {wrong[0]}")


def _wrong_moves(seen: CatalogState, new: CatalogState, batch_end: SourcePosition | None) -> list[str]:
    wrong = []
    if new.spec.name != seen.spec.name:
        wrong.append(f"it is of another collection, '{new.spec.name}'")
    if batch_end is None:
        if new.operation != "rollback" and new.position != seen.position:
            wrong.append(f"the position moves from {_place(seen.position)} to {_place(new.position)} without a batch")
    elif new.position != batch_end:
        wrong.append(f"the position is {_place(new.position)} and the batch ends at {_place(batch_end)}")
    elif seen.position and seen.position.epoch == batch_end.epoch and batch_end.version < seen.position.version:
        wrong.append(f"the position would go back from {_place(seen.position)} to {_place(batch_end)}")
    if (new.position is None) != (new.source_committed_at is None):
        wrong.append("position and source_committed_at must be given together")
    return wrong


def _place(position: SourcePosition | None) -> str:
    return f"version {position.version} of {position.epoch}" if position else "none"


def _contradictions(new: CatalogState) -> list[str]:
    """Say in what ``new`` contradicts itself, one clause each; empty if in nothing."""
    wrong = []
    numbers = [segment.number for segment in new.segments]
    chunks = {segment.number: segment.n_chunks for segment in new.segments}
    if len(chunks) != len(numbers):
        wrong.append("two segments have the same number")
    if new.fingerprint != new.spec.fingerprint:
        wrong.append("its fingerprint is not its spec's")
    for segment in new.segments:
        if not 0 <= segment.number < 1 << SEGMENT_NUMBER_BITS:
            wrong.append(f"segment number {segment.number} has more than {SEGMENT_NUMBER_BITS} bits")
        if segment.fingerprint != new.fingerprint:
            wrong.append(f"segment {segment.number} has another fingerprint than the collection")
        if segment.dim != new.dim:
            wrong.append(f"segment {segment.number} has vectors of {segment.dim} values where {new.dim} were expected")
        if not 0 <= segment.shard < new.spec.shards:
            wrong.append(f"segment {segment.number} is of shard {segment.shard}; the spec has {new.spec.shards}")
        if new.deleted.get(segment.number) and segment.shard not in new.packs:
            wrong.append(f"segment {segment.number} has tombstones and its shard {segment.shard} has no pack")
    for number, count in new.deleted.items():
        if number not in chunks:
            wrong.append(f"segment {number} has tombstones and is not live")
        elif not 0 <= count <= chunks[number]:
            wrong.append(f"segment {number} has {count} tombstones for {chunks[number]} chunks")
    return wrong


def encode_table(state: CatalogState) -> bytes:
    """Return the Parquet file of ``state``."""
    buffer = io.BytesIO()
    pl.DataFrame(encode_rows(state), schema=COLUMNS, orient="row").write_parquet(buffer, compression="zstd")
    return buffer.getvalue()


def decode_table(data: bytes, *, version: int) -> CatalogState:
    """Return the state that :func:`encode_table` wrote; raises :class:`CatalogError`."""
    try:
        rows = pl.read_parquet(io.BytesIO(data)).to_dicts()
    except pl.exceptions.PolarsError as error:
        raise CatalogError(f"version {version} of a catalog is no Parquet file: {error}") from error
    return decode_rows(rows, version=version)
