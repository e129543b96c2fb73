"""The Delta table of a catalog, as delta-rs makes, opens, follows and writes it.

delta-rs's own cleaning is off, because it goes by the age of an entry: the newest version of a quiet table is an old
one. Its checkpoints leave removed files out at once, or each would list every commit of the horizon.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from deltalake import CommitProperties, DeltaTable, Field, PostCommitHookProperties, Schema, Transaction
from deltalake.exceptions import DeltaError, TableNotFoundError
from deltalake.schema import PrimitiveType
from deltalake.transaction import AddAction, create_table_with_add_actions

from indexer.author import author
from indexer.errors import CatalogError, CollectionNotFound
from indexer.format.retention import DEFAULT_HORIZON
from indexer.format.states import CatalogState, SourcePosition, encode_table
from indexer.format.store import Store

# A reader opens the newest checkpoint and the entries after it: 20 small files at most.
CHECKPOINT_INTERVAL = 20

# The open table is brought up to date entry by entry. Once in this while it is opened anew instead.
REOPEN_SECONDS = 60.0

FOLDER = "catalog"
LOG = f"{FOLDER}/_delta_log"
MADE_BY = "grebe.madeBy"
"""Under this name a log entry's ``commitInfo`` says who made the version."""
DELTA_FAILURES = (DeltaError, OSError, ValueError)
"""What delta-rs raises."""

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
_BRANCHES = re.compile(r"\x1b\[\d*m|↳")


def log_entry(version: int) -> str:
    """Return the path of the log's entry that makes ``version``."""
    return f"{LOG}/{version:020d}.json"


BEGINNINGS = frozenset({log_entry(0), f"{LOG}/_last_checkpoint"})
"""What a reader starts from: a log has one of these or none of it can be read."""


class CatalogTable:
    """The table of the collection ``name`` in the folder ``store``, open. Safe to share between threads.

    The table that a method returns changes under its reader when another thread brings it up to date; ``lock`` is held
    against that.
    """

    def __init__(self, store: Store, name: str) -> None:
        """Open it; raises as :func:`reading` says."""
        self._store = store
        self._name = name
        self.lock = threading.RLock()
        with reading(name):
            self._take(open_table(store))
            self._id = self._table.metadata().id
        self._opened_at = time.monotonic()

    @property
    def newest(self) -> int:
        """The newest version that was seen."""
        return self._newest

    def latest(self) -> int:
        """Return the number of the newest version; made for polling: two look-ups when nothing is new.

        Raises :class:`CollectionNotFound` when the collection was dropped.
        """
        if time.monotonic() - self._opened_at > REOPEN_SECONDS:
            return self.reopen().version()
        newest, path = self._newest, self._path
        if self._store.exists(log_entry(newest + 1)):
            return self.refresh().version()
        # A file's name has its commit's id in it: a collection made anew, with as many versions, has another.
        if path is not None and self._store.exists(path):
            return newest
        # The version has expired while this reader slept, or the collection is gone.
        return self.reopen().version()

    def refresh(self) -> DeltaTable:
        """Bring the open table up to date."""
        with self.lock, reading(self._name):
            if time.monotonic() - self._opened_at > REOPEN_SECONDS:
                return self.reopen()
            try:
                self._table.update_incremental()
            except DELTA_FAILURES:
                # The entries after this version may have expired: start from the newest checkpoint.
                return self.reopen()
            return self.reopen() if data_file(self._table) is None else self._take(self._table)

    def reopen(self) -> DeltaTable:
        """Open the table anew; raises :class:`CollectionNotFound` when it is another collection's by now."""
        with self.lock, reading(self._name):
            table = open_table(self._store)
            if table.metadata().id != self._id:
                raise CollectionNotFound(f"'{self._name}' was dropped and made anew; open it again")
            self._opened_at = time.monotonic()
            return self._take(table)

    def has_moved(self, seen: int) -> bool:
        """Say whether ``seen`` is not the newest version; raise if the collection is gone.

        A commit to a dropped collection would bring half of it back, and an open table does not notice a drop.
        """
        is_there = self._path is not None and self._store.exists(self._path)
        return (self.refresh() if is_there else self.reopen()).version() != seen

    def write(self, state: CatalogState, batch_end: SourcePosition | None) -> None:
        """Try once to put ``state`` after the version that is open; whatever delta-rs raises says nothing for sure."""
        transactions = [Transaction(batch_end.epoch, batch_end.version)] if batch_end else None
        self._table.create_write_transaction(
            [_put_rows(self._store, state)],
            mode="overwrite",
            schema=_SCHEMA,
            commit_properties=_properties(app_transactions=transactions),
            post_commithook_properties=_NO_CLEANUP,
        )

    def _take(self, table: DeltaTable) -> DeltaTable:
        """Make ``table`` the open one, and remember its version and the file with its state."""
        self._table, self._newest, self._path = table, table.version(), data_file(table)
        return table


def create_table(folder: Store, state: CatalogState) -> None:
    """Make the table of a new collection in ``folder``, with ``state`` as its first version."""
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


def open_table(store: Store, version: int | None = None) -> DeltaTable:
    """Open the newest version, or ``version``, as it is in ``store`` now; raises what delta-rs does."""
    url, options = store.delta_location(FOLDER)
    return DeltaTable(url, version=version, storage_options=options)


def is_there(folder: Store) -> bool:
    """Say whether ``folder`` has a catalog: its log has its first entry, or a checkpoint that replaced it."""
    return any(folder.exists(path) for path in sorted(BEGINNINGS))


def data_file(table: DeltaTable) -> str | None:
    """Return the path of the one file that has the state; None where there is not one, as after a collision."""
    uris = table.file_uris()
    return f"{FOLDER}/{uris[0].rsplit('/', 1)[-1]}" if len(uris) == 1 else None


def data_name(state: CatalogState) -> str:
    """Return the name of the state's data file: the version it is for, and its commit's id."""
    return f"{state.version:020d}-{state.commit_id}.parquet"


@contextmanager
def reading(name: str) -> Iterator[None]:
    """Turn delta-rs's errors into this package's own: CollectionNotFound and CatalogError."""
    try:
        yield
    except TableNotFoundError as error:
        raise CollectionNotFound(f"the catalog of '{name}' is gone: the collection was dropped") from error
    except DELTA_FAILURES as error:
        raise CatalogError(
            f"the catalog of '{name}' cannot be read: {causes(error)}. Trying again helps if the store was at fault"
        ) from error


def causes(error: Exception) -> str:
    """Return what delta-rs says, on one line: each of its lines is the cause of the one before, drawn as a tree."""
    return ": ".join(dict.fromkeys(_BRANCHES.sub("", line).strip() for line in str(error).strip().splitlines()))[:300]


def _put_rows(store: Store, state: CatalogState) -> AddAction:
    """Write the state's data file, named after the version it is for, and return its log action."""
    data = encode_table(state)
    name = data_name(state)
    store.put(f"{FOLDER}/{name}", data)
    stats = json.dumps({"numRecords": len(state.segments) + 1})
    return AddAction(name, len(data), {}, int(state.committed_at.timestamp() * 1000), True, stats)


def _properties(app_transactions: list[Transaction] | None = None) -> CommitProperties:
    """Return what goes along with a commit: who makes it, and no tries out of sight."""
    return CommitProperties(
        max_commit_retries=0, custom_metadata={MADE_BY: author()}, app_transactions=app_transactions
    )
