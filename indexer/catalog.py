"""The catalog of a collection: which files make up each version, and how far the source has been read.

It is a Delta table in the folder ``catalog``, written by delta-rs alone, whose rows are replaced as a whole by every
commit: one row per live segment and one for the rest.

=============  ======  ======================================================================================
column         type    meaning
=============  ======  ======================================================================================
``kind``       string  ``segment`` or ``state``
``number``     int64   the segment's number (null for the state)
``shard``      int32   the segment's shard (null for the state)
``tombstoned`` int64   how many of the segment's chunks no longer count (null for the state)
``record``     string  JSON: a ``SegmentRecord``, or the ``CatalogState`` without its segments and its version
=============  ======  ======================================================================================

**One writer wins.** A commit creates log entry *n* + 1 where the writer saw *n*, by put-if-absent and without
retries. Every commit carries a random ``commit_id``; whatever error the attempt ends in, the entry is read back and
its id says whose it is: ours (the reply was lost, the commit stands), another's (:class:`CommitConflict`) or nobody's.
A request that is still under way then may land later; a next attempt meets it as a conflict.

**The log stays short.** Data files are named after the version that they were written for, so that those of versions
that are no longer kept are known by name; :meth:`Catalog.expire`, which runs on its own every ``EXPIRE_EVERY``
commits, removes them. delta-rs's own cleaning is off, because it goes by the age of an entry: the newest version of
a quiet table is an old one. Its checkpoints leave removed files out at once, or each would list every commit of the
horizon.
"""

from __future__ import annotations

import json
import re
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial

from deltalake import CommitProperties, DeltaTable, Field, PostCommitHookProperties, Schema, Transaction
from deltalake.exceptions import DeltaError, TableNotFoundError
from deltalake.schema import PrimitiveType
from deltalake.transaction import AddAction, create_table_with_add_actions
from pydantic import ValidationError

from indexer.author import author
from indexer.errors import (
    CatalogError,
    CollectionExists,
    CollectionNotFound,
    CommitConflict,
    ObjectNotFound,
    StoreError,
)
from indexer.format.records import FORMAT_VERSION
from indexer.format.retention import DEFAULT_HORIZON, RECENT_VERSIONS, kept_of, version_of
from indexer.format.states import (
    CatalogState,
    Heartbeat,
    SourcePosition,
    SyncFailure,
    check_commit,
    decode_rows,
    decode_table,
    encode_rows,
    encode_table,
)
from indexer.format.store import Entry, Store
from indexer.format.tombstones import Tombstones, decode
from indexer.spec import CollectionSpec

__all__ = [
    "DEFAULT_HORIZON",
    "Catalog",
    "CatalogState",
    "Heartbeat",
    "SourcePosition",
    "SyncFailure",
    "drop",
]

# A reader opens the newest checkpoint and the entries after it: 20 small files at most.
CHECKPOINT_INTERVAL = 20
EXPIRE_EVERY = 100

# The open table is brought up to date entry by entry. Once in this while it is opened anew instead.
REOPEN_SECONDS = 60.0

FOLDER = "catalog"
LOG = f"{FOLDER}/_delta_log"
MADE_BY = "grebe.madeBy"
"""Under this name a log entry's ``commitInfo`` says who made the version."""
HEARTBEAT = "heartbeat.json"
FAILURE = "sync-failure.json"

_SCHEMA = Schema(
    [
        Field("kind", PrimitiveType("string")),
        Field("number", PrimitiveType("long")),
        Field("shard", PrimitiveType("integer")),
        Field("tombstoned", PrimitiveType("long")),
        Field("record", PrimitiveType("string")),
    ]
)

_CONFIGURATION: dict[str, str | None] = {
    "delta.checkpointInterval": str(CHECKPOINT_INTERVAL),
    "delta.deletedFileRetentionDuration": "interval 0 seconds",
    "delta.enableExpiredLogCleanup": "false",
    "delta.logRetentionDuration": f"interval {DEFAULT_HORIZON.days} days",
}
_NO_CLEANUP = PostCommitHookProperties(create_checkpoint=True, cleanup_expired_logs=False)
_DELTA_FAILURES = (DeltaError, OSError, ValueError)
_BRANCHES = re.compile(r"\x1b\[\d*m|↳")


class Catalog:
    """The catalog of one collection. Safe to share between threads; not picklable (open it anew)."""

    def __init__(
        self, store: Store, name: str, *, horizon: timedelta = DEFAULT_HORIZON, recent: int = RECENT_VERSIONS
    ) -> None:
        """Use :meth:`create` or :meth:`open`. ``store`` is the collection's own folder."""
        self.store = store
        self.name = name
        self.horizon = horizon
        self.recent = recent
        self._lock = threading.RLock()
        with _reading(name):
            self._take(_open(store))
            self._id = self._table.metadata().id
        self._opened_at = time.monotonic()

    @classmethod
    def create(cls, store: Store, spec: CollectionSpec) -> Catalog:
        """Make the catalog of a new, empty collection in the root ``store``.

        Raises :class:`CollectionExists`.
        """
        folder = store.child(spec.name)
        if _has_catalog(folder):
            raise CollectionExists(_exists(spec.name, store))
        if (left := folder.list(LOG)) and not _BEGINNINGS.intersection(left):
            raise CollectionExists(
                f"a drop of '{spec.name}' in {store.url} was cut short; `grebe drop {spec.name}` ends it"
            )
        folder.delete([HEARTBEAT, FAILURE])
        state = CatalogState(
            version=0,
            spec=spec,
            fingerprint=spec.fingerprint,
            operation="create",
            commit_id=uuid.uuid4().hex,
            committed_at=datetime.now(UTC),
        )
        try:
            _create_table(folder, state)
        except _DELTA_FAILURES as error:
            landed = cls.open(store, spec.name).read(0) if _has_catalog(folder) else None
            if landed is None:
                raise CatalogError(f"collection '{spec.name}' could not be made: {_causes(error)}") from error
            if landed.commit_id != state.commit_id:
                raise CollectionExists(_exists(spec.name, store)) from error
        folder.settle(log_entry(0))
        return cls.open(store, spec.name)

    @classmethod
    def open(cls, store: Store, name: str) -> Catalog:
        """Open the catalog of the collection ``name`` in the root ``store``; raises :class:`CollectionNotFound`."""
        folder = store.child(name)
        if not _has_catalog(folder):
            raise CollectionNotFound(
                f"there is no collection '{name}' in {store.url}; `grebe apply -f` with its spec makes it",
                name=name,
                others=partial(Catalog.names, store),
            )
        return cls(folder, name)

    @staticmethod
    def names(store: Store) -> list[str]:
        """Return the names of the collections in the root ``store``, sorted."""
        return [name for name in store.folders() if _has_catalog(store.child(name))]

    def latest(self) -> int:
        """Return the number of the newest version; made for polling: two look-ups when nothing is new.

        Raises :class:`CollectionNotFound` when the collection was dropped.
        """
        if time.monotonic() - self._opened_at > REOPEN_SECONDS:
            return self._reopen().version()
        newest, path = self._newest, self._path
        if self.store.exists(log_entry(newest + 1)):
            return self._refresh().version()
        # A file's name has its commit's id in it: a collection made anew, with as many versions, has another.
        if path is not None and self.store.exists(path):
            return newest
        # The version has expired while this reader slept, or the collection is gone.
        return self._reopen().version()

    def read(self, version: int | None = None) -> CatalogState:
        """Return the newest version, or ``version``; raises :class:`CatalogError` when that is not kept."""
        with self._lock:
            while True:
                table = self._refresh()
                newest = table.version()
                if version is not None and version != newest:
                    with _reading(self.name):
                        table = self._at(version)
                try:
                    return self._state(table)
                except ObjectNotFound as error:
                    # What was the newest a moment ago may have been replaced and vacuumed.
                    if version is None and self._reopen().version() != newest:
                        continue
                    raise CatalogError(f"version {table.version()} of '{self.name}' is no longer kept") from error

    def tombstones(self, state: CatalogState, holds: Callable[[int], bool] = lambda shard: True) -> Tombstones:
        """Return the tombstones of the state's live segments, from the packs of the shards that ``holds`` says yes to.

        Raises :class:`indexer.errors.CorruptFile`, and :class:`CommitConflict` if it was replaced and vacuumed since.
        """
        packed: Tombstones = {}
        for shard, pack in state.packs.items():
            if not holds(shard):
                continue
            try:
                packed.update(decode(self.store.read(pack)))
            except ObjectNotFound as error:
                if self.latest() == state.version:
                    raise
                raise CommitConflict(self._came_first(state.version)) from error
        held = {segment.number for segment in state.segments if holds(segment.shard)}
        counts = {number: count for number, count in state.deleted.items() if count and number in held}
        found = {number: packed[number] for number in counts if number in packed}
        if {number: len(bitmap) for number, bitmap in found.items()} != counts:
            raise CatalogError(
                f"version {state.version} of '{self.name}' counts other tombstones than its packs hold; "
                "rebuild the collection with `grebe apply --rebuild`"
            )
        return found

    def committed(self, epoch: str) -> int | None:
        """Return the last source version of ``epoch`` that a commit carried as its batch's end, or None."""
        return self._refresh().transaction_version(epoch)

    def commit(self, seen: CatalogState, new: CatalogState, *, batch_end: SourcePosition | None) -> CatalogState:
        """Put ``new`` as the version after ``seen`` and return it as committed.

        ``batch_end`` is the source position that the commit moves to (it goes along as an app transaction of its
        epoch); None for a commit that leaves the position alone. Raises :class:`CommitConflict` when another commit
        came first, and :class:`CatalogError` when ``new`` contradicts itself or nothing could be committed. After
        either, read again: nothing of ``new`` counts.
        """
        check_commit(seen, new, batch_end)
        state = new.model_copy(
            update={
                "version": seen.version + 1,
                "format_version": FORMAT_VERSION,
                "commit_id": uuid.uuid4().hex,
                "committed_at": datetime.now(UTC),
            }
        )
        with self._lock:
            if state.version % EXPIRE_EVERY == 0:
                self.expire()
            if self._has_moved(seen.version):
                raise CommitConflict(self._came_first(seen.version))
            try:
                self._write(state, batch_end)
            except _DELTA_FAILURES as error:
                self._settle_doubt(state, error)
            self.store.settle(log_entry(state.version))
        return decode_rows(encode_rows(state), version=state.version)

    def expire(self, now: datetime | None = None) -> int:
        """Remove the catalog's own files of versions that need not be kept, and return how many went.

        Kept are the versions that were the newest at any time since ``now`` less the horizon: every one of the last
        ``recent``, and of those before one an hour, so that a listing stays short at any rate of commits.
        """
        gone = [entry.path for entry in self.expired((now or datetime.now(UTC)) - self.horizon)]
        self.store.delete(gone)
        return len(gone)

    def expired(self, cutoff: datetime) -> list[Entry]:
        """Return the catalog's own files that only versions replaced before ``cutoff`` need, in the order to delete."""
        log = [(version, entry) for entry in self.store.entries(LOG) if (version := version_of(entry.path)) is not None]
        kept = kept_of(log, cutoff, self.recent)
        gone = [entry for version, entry in log if version < kept.log_from and version not in kept.single]
        for entry in self.store.entries(FOLDER):
            version = version_of(entry.path)
            if version is None or version >= kept.data_from or entry.path.startswith(LOG):
                break
            if version not in kept.single:
                gone.append(entry)
        return gone

    def write_heartbeat(self, heartbeat: Heartbeat) -> None:
        """Put ``heartbeat`` beside the catalog, in place of the one before."""
        self.store.put(HEARTBEAT, heartbeat.model_dump_json().encode())

    def read_heartbeat(self) -> Heartbeat | None:
        """Return the last heartbeat, or None.

        One that cannot be parsed counts as none: answers then look older than they are, never fresher.
        """
        try:
            return Heartbeat.model_validate_json(self.store.get(HEARTBEAT))
        except (ObjectNotFound, ValidationError):
            return None

    def write_failure(self, failure: SyncFailure) -> None:
        """Put how a sync failed beside the catalog, in place of the failure before."""
        self.store.put(FAILURE, failure.model_dump_json().encode())

    def read_failure(self) -> SyncFailure | None:
        """Return how the last sync that failed did so, or None; others may have ended well since."""
        try:
            return SyncFailure.model_validate_json(self.store.get(FAILURE))
        except (ObjectNotFound, ValidationError):
            return None

    def _refresh(self) -> DeltaTable:
        """Bring the open table up to date."""
        with self._lock, _reading(self.name):
            if time.monotonic() - self._opened_at > REOPEN_SECONDS:
                return self._reopen()
            try:
                self._table.update_incremental()
            except _DELTA_FAILURES:
                # The entries after this version may have expired: start from the newest checkpoint.
                return self._reopen()
            return self._reopen() if _data_file(self._table) is None else self._take(self._table)

    def _reopen(self) -> DeltaTable:
        with self._lock, _reading(self.name):
            table = _open(self.store)
            if table.metadata().id != self._id:
                raise CollectionNotFound(f"'{self.name}' was dropped and made anew; open it again")
            self._opened_at = time.monotonic()
            return self._take(table)

    def _take(self, table: DeltaTable) -> DeltaTable:
        """Make ``table`` the open one, and remember its version and the file with its state."""
        self._table, self._newest, self._path = table, table.version(), _data_file(table)
        return table

    def _has_moved(self, seen: int) -> bool:
        """Say whether ``seen`` is not the newest version; raise if the collection is gone.

        A commit to a dropped collection would bring half of it back, and an open table does not notice a drop.
        """
        is_there = self._path is not None and self.store.exists(self._path)
        return (self._refresh() if is_there else self._reopen()).version() != seen

    def _at(self, version: int) -> DeltaTable:
        newest = self._newest
        try:
            return _open(self.store, version)
        except _DELTA_FAILURES as error:
            raise CatalogError(
                f"version {version} of '{self.name}' is not kept; the newest is {newest}, and of those replaced in the "
                f"last {self.horizon.days} days the last {self.recent} and one an hour are"
            ) from error

    def _state(self, table: DeltaTable) -> CatalogState:
        with _reading(self.name):
            path = _data_file(table)
            if path is None:
                raise CatalogError(
                    f"version {table.version()} of '{self.name}' has {len(table.file_uris())} files where one was "
                    "expected: something other than Grebe wrote to its catalog"
                )
        return decode_table(self.store.get(path), version=table.version())

    def _write(self, state: CatalogState, batch_end: SourcePosition | None) -> None:
        transactions = [Transaction(batch_end.epoch, batch_end.version)] if batch_end else None
        self._table.create_write_transaction(
            [_put_rows(self.store, state)],
            mode="overwrite",
            schema=_SCHEMA,
            commit_properties=_properties(app_transactions=transactions),
            post_commithook_properties=_NO_CLEANUP,
        )

    def _settle_doubt(self, state: CatalogState, error: Exception) -> None:
        """Find out what became of a commit whose attempt failed: return if it stands, raise if it does not."""
        try:
            newest = self._refresh().version()
            entry = self.store.get(log_entry(state.version)) if newest >= state.version else b""
        except (CatalogError, StoreError) as unreachable:
            raise CatalogError(
                f"whether version {state.version} of '{self.name}' was committed is unknown, because the store cannot "
                f"be reached: {_causes(error)}. Read the catalog before trying again"
            ) from unreachable
        if newest < state.version:
            raise CatalogError(
                f"version {state.version} of '{self.name}' could not be committed: {_causes(error)}. Nothing was "
                "changed; read the catalog again and retry"
            ) from error
        if _data_name(state).encode() not in entry:
            raise CommitConflict(self._came_first(state.version - 1)) from error

    def _came_first(self, seen: int) -> str:
        return (
            f"another commit to '{self.name}' came first: this one began at version {seen} and the newest is "
            f"{self._newest}; read the catalog again, rebase and retry"
        )


def drop(store: Store, name: str) -> None:
    """Delete the collection ``name`` with all its files; raises :class:`CollectionNotFound`.

    What the log begins with goes first: without it no version can be read, so that nobody who looks meanwhile takes an
    early version, whose entry is still there, for the newest. A drop that was cut short can be run again.
    """
    folder = store.child(name)
    if name not in store.folders():
        raise CollectionNotFound(
            f"there is no collection '{name}' in {store.url}", name=name, others=partial(Catalog.names, store)
        )
    folder.delete(_BEGINNINGS)
    log = folder.list(LOG)
    folder.delete(path for path in log if ".checkpoint." in path)
    folder.delete(log)
    folder.clear()


def _put_rows(store: Store, state: CatalogState) -> AddAction:
    """Write the state's data file, named after the version it is for, and return its log action."""
    data = encode_table(state)
    name = _data_name(state)
    store.put(f"{FOLDER}/{name}", data)
    stats = json.dumps({"numRecords": len(state.segments) + 1})
    return AddAction(name, len(data), {}, int(state.committed_at.timestamp() * 1000), True, stats)


def _data_name(state: CatalogState) -> str:
    return f"{state.version:020d}-{state.commit_id}.parquet"


def _create_table(folder: Store, state: CatalogState) -> None:
    url, options = folder.delta_location(FOLDER)
    create_table_with_add_actions(
        url,
        _SCHEMA,
        [_put_rows(folder, state)],
        mode="error",
        name=state.spec.name,
        configuration=_CONFIGURATION,
        storage_options=options,
        commit_properties=_properties(),
        post_commithook_properties=_NO_CLEANUP,
    )


def _properties(app_transactions: list[Transaction] | None = None) -> CommitProperties:
    """Return what goes along with a commit: who makes it, and no tries out of sight."""
    return CommitProperties(
        max_commit_retries=0, custom_metadata={MADE_BY: author()}, app_transactions=app_transactions
    )


def _data_file(table: DeltaTable) -> str | None:
    """Return the path of the one file that has the state; None where there is not one, as after a collision."""
    uris = table.file_uris()
    return f"{FOLDER}/{uris[0].rsplit('/', 1)[-1]}" if len(uris) == 1 else None


def _open(store: Store, version: int | None = None) -> DeltaTable:
    url, options = store.delta_location(FOLDER)
    return DeltaTable(url, version=version, storage_options=options)


def _has_catalog(folder: Store) -> bool:
    """Say whether ``folder`` has a catalog: its log has its first entry, or a checkpoint that replaced it."""
    return any(folder.exists(path) for path in sorted(_BEGINNINGS))


def log_entry(version: int) -> str:
    return f"{LOG}/{version:020d}.json"


_BEGINNINGS = frozenset({log_entry(0), f"{LOG}/_last_checkpoint"})
"""What a reader starts from: a log has one of these or none of it can be read."""


def _exists(name: str, store: Store) -> str:
    return f"there is a collection '{name}' in {store.url} already; `grebe drop {name}` deletes it"


@contextmanager
def _reading(name: str) -> Iterator[None]:
    """Turn delta-rs's errors into this package's own."""
    try:
        yield
    except TableNotFoundError as error:
        raise CollectionNotFound(f"the catalog of '{name}' is gone: the collection was dropped") from error
    except _DELTA_FAILURES as error:
        raise CatalogError(
            f"the catalog of '{name}' cannot be read: {_causes(error)}. Trying again helps if the store was at fault"
        ) from error


def _causes(error: Exception) -> str:
    """Return what delta-rs says, on one line: each of its lines is the cause of the one before, drawn as a tree."""
    return ": ".join(dict.fromkeys(_BRANCHES.sub("", line).strip() for line in str(error).strip().splitlines()))[:300]
