"""The kept versions of a catalog, many at once: read straight from its files, without replaying the log for each.

A version counts as kept while both its data file and the log entry that names it are there. The data file of a commit
that lost its race lies beside the winner's, which is why the log is always asked.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from indexer.catalog import FOLDER, LOG, MADE_BY, Catalog, log_entry
from indexer.errors import CatalogError, ObjectNotFound
from indexer.format.records import FileRecord
from indexer.format.retention import Kept, kept_of, version_of
from indexer.format.states import CatalogState, decode_table
from indexer.format.store import Entry, Store

READS_AT_ONCE = 8

Progress = Callable[[str, int, int | None], None]
"""``progress(stage, done, total)``; ``total`` None while it is unknown."""


@dataclass(frozen=True, kw_only=True)
class Listing:
    """What lay in a catalog's folder at one moment: its log, and the ``versions`` that could be read, ascending."""

    log: tuple[tuple[int, Entry], ...]
    versions: tuple[int, ...]

    def kept(self, cutoff: datetime, recent: int) -> Kept:
        """What stays of it if the versions stay that were the newest since ``cutoff``."""
        return kept_of(list(self.log), cutoff, recent)


def list_versions(catalog: Catalog) -> Listing:
    """List the catalog's folder."""
    files = [(version_of(entry.path), entry) for entry in catalog.store.entries(FOLDER)]
    log = [(version, entry) for version, entry in files if version is not None and entry.path.startswith(f"{LOG}/")]
    entries = {version for version, entry in log if entry.path == log_entry(version)}
    data = {version for version, entry in files if version is not None and not entry.path.startswith(f"{LOG}/")}
    return Listing(log=tuple(log), versions=tuple(sorted(entries & data)))


def read_versions(store: Store, versions: Iterable[int], progress: Progress | None = None) -> Iterator[CatalogState]:
    """Yield the states of ``versions`` in their order, leaving out those that are no longer kept.

    ``store`` is the collection's folder. Raises :class:`indexer.errors.StoreError` and
    :class:`indexer.errors.CatalogError` for what is there and cannot be read: it must never count as gone.
    """
    wanted = list(versions)
    with ThreadPoolExecutor(READS_AT_ONCE) as pool:
        for start in range(0, len(wanted), READS_AT_ONCE):
            some = wanted[start : start + READS_AT_ONCE]
            for state in pool.map(lambda version: _read(store, version), some):
                if state is not None:
                    yield state
            if progress:
                progress("versions", start + len(some), len(wanted))


def named_files(state: CatalogState) -> Iterator[FileRecord]:
    """Yield every file that ``state`` names."""
    for segment in state.segments:
        yield from segment.files
    yield from state.packs.values()
    yield from state.letters
    for log in state.deletions:
        yield log.file


def made_by(store: Store, version: int) -> str | None:
    """Return who committed ``version``, if its log entry is there and says so."""
    try:
        actions = _actions(store, version)
    except ObjectNotFound:
        return None
    return next((action["commitInfo"].get(MADE_BY) for action in actions if "commitInfo" in action), None)


def _read(store: Store, version: int) -> CatalogState | None:
    try:
        path = _data_path(store, version)
        return decode_table(store.get(f"{FOLDER}/{path}"), version=version)
    except ObjectNotFound:
        return None


def _data_path(store: Store, version: int) -> str:
    """Return the name of the version's data file, as its log entry has it; raises :class:`ObjectNotFound`."""
    paths = [str(action["add"]["path"]) for action in _actions(store, version) if "add" in action]
    if len(paths) != 1:
        raise CatalogError(
            f"version {version} of the catalog has {len(paths)} files where one was expected: something other than "
            "Grebe wrote to it"
        )
    return paths[0]


def _actions(store: Store, version: int) -> list[dict[str, Any]]:
    """Return what the version's log entry says; raises :class:`ObjectNotFound`."""
    return [json.loads(line) for line in store.get(log_entry(version)).splitlines() if line.strip()]
