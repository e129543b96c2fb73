"""Vacuum: versions that need not be kept leave the catalog, and with them the files that nothing names any more.

A file may go if no retained version names it and either

- a version that was dropped names it: then it was committed, and no running job's upload; or
- no version ever named it, and it is older than the longest job: litter of a job that failed.

What an interrupted load can still use counts as named. A version is dropped from the catalog *before* its files go, and
between the two a commit of the vacuum's own makes whoever was about to bring such a version back (a rollback) read
again. What the dropped versions named is noted in the folder ``vacuum`` until it is gone, so that a vacuum that died
half-way is ended by the next. Vacuums, syncs and merges may run beside each other.
"""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from pydantic import ValidationError

from indexer.catalog import Catalog, CatalogState
from indexer.errors import CommitConflict, ObjectNotFound
from indexer.format.records import Ledger, Record
from indexer.format.store import Entry, Store
from indexer.load_areas import LoadArea, load_areas
from indexer.load_plan import FOLDER as LOADS
from indexer.versions import Listing, Progress, list_versions, named_files, read_versions

LONGEST_JOB = timedelta(hours=24)
"""No sync, load step or merge holds files that it has uploaded and not committed for longer."""

FOLDERS = ("segments", "tombstones", "letters", "deletions", LOADS)
NOTES = "vacuum"
KINDS = (*FOLDERS, "catalog")
DELETES_AT_ONCE = 1_000


@dataclass(frozen=True, kw_only=True)
class Removed:
    """So many files of one kind, and their bytes."""

    files: int = 0
    size_bytes: int = 0

    def __add__(self, other: Removed) -> Removed:
        return Removed(files=self.files + other.files, size_bytes=self.size_bytes + other.size_bytes)


@dataclass(frozen=True, kw_only=True)
class Vacuumed:
    """What a vacuum removed, by kind (:data:`KINDS`), and how many versions it dropped and kept."""

    removed: dict[str, Removed]
    versions_dropped: int
    versions_kept: int
    dry_run: bool

    @property
    def total(self) -> Removed:
        """Everything together."""
        return sum(self.removed.values(), Removed())


class _Note(Record):
    """The files that versions name which are being dropped."""

    files: tuple[str, ...]


@dataclass(kw_only=True)
class _Plan:
    """What may go: the files listed before anything else was read, and what was known to name each."""

    listing: Listing
    files: list[Entry]
    catalog_files: list[Entry]
    dropped: list[int]
    loads: list[LoadArea]
    oldest_job: datetime
    retained: set[str] = field(default_factory=set)
    committed: set[str] = field(default_factory=set)
    notes: list[str] = field(default_factory=list)

    def retain(self, state: CatalogState) -> None:
        """Keep what ``state`` names."""
        self.retained.update(file.path for file in named_files(state))

    def retain_loads(self, catalog: Catalog, state: CatalogState) -> None:
        """Keep what belongs to loads that ``state`` can still use."""
        for area in self.loads:
            if area.needed(catalog, state, self.oldest_job, self.dropped):
                self.retained |= area.everything

    def unneeded(self) -> list[Entry]:
        """The files that nothing retained names and no running job can need."""
        return [
            entry
            for entry in self.files
            if entry.path not in self.retained and (entry.path in self.committed or entry.modified_at < self.oldest_job)
        ]


def vacuum(
    catalog: Catalog,
    *,
    retain: timedelta | None = None,
    longest_job: timedelta = LONGEST_JOB,
    dry_run: bool = False,
    now: datetime | None = None,
    progress: Progress | None = None,
) -> Vacuumed:
    """Drop the versions that were never the newest within ``retain`` (the catalog's horizon), with their files.

    The newest version always stays. With ``dry_run`` nothing is deleted; the answer is the same.
    """
    now = now or datetime.now(UTC)
    cutoff = now - (catalog.horizon if retain is None else retain)
    plan = _plan(catalog, cutoff, now - longest_job, progress)
    gone = plan.unneeded()
    if not dry_run and (gone or plan.catalog_files or plan.notes):
        gone = _carry_out(catalog, plan, progress)
    return Vacuumed(
        removed=_by_kind([*gone, *plan.catalog_files]),
        versions_dropped=len(plan.dropped),
        versions_kept=len(plan.listing.versions) - len(plan.dropped),
        dry_run=dry_run,
    )


def _plan(catalog: Catalog, cutoff: datetime, oldest_job: datetime, progress: Progress | None) -> _Plan:
    """Gather what may go. The order matters: files first, then what loads name, then what versions name.

    So a file that is committed meanwhile is either not in the list, or seen to be named.
    """
    store = catalog.store
    files = list(_listed(store, progress))
    loads = load_areas(store, files)
    listing = list_versions(catalog)
    kept = listing.kept(cutoff, catalog.recent)
    plan = _Plan(
        listing=listing,
        files=files,
        catalog_files=catalog.expired(cutoff),
        dropped=[version for version in listing.versions if not kept.keeps(version)],
        loads=loads,
        oldest_job=oldest_job,
    )
    for state in read_versions(store, listing.versions, progress):
        if kept.keeps(state.version):
            plan.retain(state)
        else:
            plan.committed.update(file.path for file in named_files(state))
    plan.retain_loads(catalog, catalog.read())
    for path in store.list(NOTES):
        note = _read_note(store, path)
        plan.committed.update(note.files if note else ())
        plan.notes.append(path)
    return plan


def _carry_out(catalog: Catalog, plan: _Plan, progress: Progress | None) -> list[Entry]:
    """Drop the versions, then delete what is still not named; return the files that went."""
    store = catalog.store
    mine = f"{NOTES}/{uuid.uuid4().hex}.json"
    note = _Note(files=tuple(sorted(plan.committed - plan.retained)))
    store.put(mine, note.model_dump_json().encode())
    store.delete(entry.path for entry in plan.catalog_files)
    fence = _commit_fence(catalog)
    came_since = range(max(plan.listing.versions, default=-1) + 1, fence.version)
    for state in (*read_versions(store, came_since), fence):
        plan.retain(state)
    plan.retain_loads(catalog, fence)
    # Loads first: a part that can be found must find its segments.
    gone = sorted(plan.unneeded(), key=lambda entry: not entry.path.startswith(f"{LOADS}/"))
    _delete(store, gone, progress)
    store.delete([mine, *plan.notes])
    return gone


def _commit_fence(catalog: Catalog) -> CatalogState:
    """Commit the newest state once more, so that a commit that was prepared before the drop conflicts."""
    while True:
        state = catalog.read()
        try:
            new = state.model_copy(update={"ledger": Ledger(), "operation": "vacuum"})
            return catalog.commit(state, new, batch_end=None)
        except CommitConflict:
            continue


def _delete(store: Store, entries: Collection[Entry], progress: Progress | None) -> None:
    paths = [entry.path for entry in entries]
    for start in range(0, len(paths), DELETES_AT_ONCE):
        some = paths[start : start + DELETES_AT_ONCE]
        store.delete(some)
        for folder in sorted({"/".join(path.split("/")[:2]) for path in some if path.count("/") > 1}):
            store.prune(folder)
        if progress:
            progress("deleting", start + len(some), len(paths))


def _listed(store: Store, progress: Progress | None) -> Iterator[Entry]:
    """Yield what lies in the folders of data, with what killed writers left there."""
    count = itertools.count(1)
    listings = [*(store.entries(folder) for folder in FOLDERS), *(store.leftovers(folder) for folder in KINDS)]
    for entry in itertools.chain.from_iterable(listings):
        yield entry
        if (number := next(count)) % DELETES_AT_ONCE == 0 and progress:
            progress("listing", number, None)


def _read_note(store: Store, path: str) -> _Note | None:
    try:
        return _Note.model_validate_json(store.get(path))
    except (ObjectNotFound, ValidationError):
        return None


def _by_kind(entries: Iterable[Entry]) -> dict[str, Removed]:
    removed = {kind: Removed() for kind in KINDS}
    for entry in entries:
        removed[entry.path.split("/", 1)[0]] += Removed(files=1, size_bytes=entry.size_bytes)
    return removed
