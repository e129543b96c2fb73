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
commits, removes them.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial

from deltalake import DeltaTable
from pydantic import ValidationError

from indexer.catalog_table import (
    BEGINNINGS,
    DELTA_FAILURES,
    FOLDER,
    LOG,
    CatalogTable,
    causes,
    create_table,
    data_file,
    data_name,
    is_there,
    log_entry,
    open_table,
    reading,
)
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

EXPIRE_EVERY = 100

HEARTBEAT = "heartbeat.json"
FAILURE = "sync-failure.json"


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
        self._table = CatalogTable(store, name)

    @classmethod
    def create(cls, store: Store, spec: CollectionSpec) -> Catalog:
        """Make the catalog of a new, empty collection in the root ``store``.

        Raises :class:`CollectionExists`.
        """
        folder = store.child(spec.name)
        if is_there(folder):
            raise CollectionExists(_exists(spec.name, store))
        if (left := folder.list(LOG)) and not BEGINNINGS.intersection(left):
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
            create_table(folder, state)
        except DELTA_FAILURES as error:
            landed = cls.open(store, spec.name).read(0) if is_there(folder) else None
            if landed is None:
                raise CatalogError(f"collection '{spec.name}' could not be made: {causes(error)}") from error
            if landed.commit_id != state.commit_id:
                raise CollectionExists(_exists(spec.name, store)) from error
        folder.settle(log_entry(0))
        return cls.open(store, spec.name)

    @classmethod
    def open(cls, store: Store, name: str) -> Catalog:
        """Open the catalog of the collection ``name`` in the root ``store``; raises :class:`CollectionNotFound`."""
        folder = store.child(name)
        if not is_there(folder):
            raise CollectionNotFound(
                f"there is no collection '{name}' in {store.url}; `grebe apply -f` with its spec makes it",
                name=name,
                others=partial(Catalog.names, store),
            )
        return cls(folder, name)

    @staticmethod
    def names(store: Store) -> list[str]:
        """Return the names of the collections in the root ``store``, sorted."""
        return [name for name in store.folders() if is_there(store.child(name))]

    def latest(self) -> int:
        """Return the number of the newest version; made for polling: two look-ups when nothing is new.

        Raises :class:`CollectionNotFound` when the collection was dropped.
        """
        return self._table.latest()

    def read(self, version: int | None = None) -> CatalogState:
        """Return the newest version, or ``version``; raises :class:`CatalogError` when that is not kept."""
        with self._table.lock:
            while True:
                table = self._table.refresh()
                newest = table.version()
                if version is not None and version != newest:
                    with reading(self.name):
                        table = self._at(version)
                try:
                    return self._state(table)
                except ObjectNotFound as error:
                    # What was the newest a moment ago may have been replaced and vacuumed.
                    if version is None and self._table.reopen().version() != newest:
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
        return self._table.refresh().transaction_version(epoch)

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
        with self._table.lock:
            if state.version % EXPIRE_EVERY == 0:
                self.expire()
            if self._table.has_moved(seen.version):
                raise CommitConflict(self._came_first(seen.version))
            try:
                self._table.write(state, batch_end)
            except DELTA_FAILURES as error:
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

    def _at(self, version: int) -> DeltaTable:
        try:
            return open_table(self.store, version)
        except DELTA_FAILURES as error:
            raise CatalogError(
                f"version {version} of '{self.name}' is not kept; the newest is {self._table.newest}, and of those "
                f"replaced in the last {self.horizon.days} days the last {self.recent} and one an hour are"
            ) from error

    def _state(self, table: DeltaTable) -> CatalogState:
        with reading(self.name):
            path = data_file(table)
            if path is None:
                raise CatalogError(
                    f"version {table.version()} of '{self.name}' has {len(table.file_uris())} files where one was "
                    "expected: something other than Grebe wrote to its catalog"
                )
        return decode_table(self.store.get(path), version=table.version())

    def _settle_doubt(self, state: CatalogState, error: Exception) -> None:
        """Find out what became of a commit whose attempt failed: return if it stands, raise if it does not."""
        try:
            newest = self._table.refresh().version()
            entry = self.store.get(log_entry(state.version)) if newest >= state.version else b""
        except (CatalogError, StoreError) as unreachable:
            raise CatalogError(
                f"whether version {state.version} of '{self.name}' was committed is unknown, because the store cannot "
                f"be reached: {causes(error)}. Read the catalog before trying again"
            ) from unreachable
        if newest < state.version:
            raise CatalogError(
                f"version {state.version} of '{self.name}' could not be committed: {causes(error)}. Nothing was "
                "changed; read the catalog again and retry"
            ) from error
        if data_name(state).encode() not in entry:
            raise CommitConflict(self._came_first(state.version - 1)) from error

    def _came_first(self, seen: int) -> str:
        return (
            f"another commit to '{self.name}' came first: this one began at version {seen} and the newest is "
            f"{self._table.newest}; read the catalog again, rebase and retry"
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
    folder.delete(BEGINNINGS)
    log = folder.list(LOG)
    folder.delete(path for path in log if ".checkpoint." in path)
    folder.delete(log)
    folder.clear()


def _exists(name: str, store: Store) -> str:
    return f"there is a collection '{name}' in {store.url} already; `grebe drop {name}` deletes it"
