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

from indexer.catalog import Catalog
from indexer.catalog_table import FOLDER, LOG, MADE_BY, log_entry
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
    return (state for state, _ in read_commits(store, versions, progress))


def read_commits(
    store: Store, versions: Iterable[int], progress: Progress | None = None
) -> Iterator[tuple[CatalogState, str | None]]:
    """Yield what :func:`read_versions` does, each with who made it, where its log entry says so."""
    wanted = list(versions)
    with ThreadPoolExecutor(READS_AT_ONCE) as pool:
        for start in range(0, len(wanted), READS_AT_ONCE):
            some = wanted[start : start + READS_AT_ONCE]
            for commit in pool.map(lambda version: _read(store, version), some):
                if commit is not None:
                    yield commit
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


def _read(store: Store, version: int) -> tuple[CatalogState, str | None] | None:
    try:
        entry = store.get(log_entry(version))
        actions: list[dict[str, Any]] = [json.loads(line) for line in entry.splitlines() if line.strip()]
        state = decode_table(store.get(f"{FOLDER}/{_data_path(actions, version)}"), version=version)
    except ObjectNotFound:
        return None
    return state, next((action["commitInfo"].get(MADE_BY) for action in actions if "commitInfo" in action), None)


def _data_path(actions: list[dict[str, Any]], version: int) -> str:
    """Return the name of the version's data file, as its log entry has it."""
    paths = [str(action["add"]["path"]) for action in actions if "add" in action]
    if len(paths) != 1:
        raise CatalogError(
            f"version {version} of the catalog has {len(paths)} files where one was expected: something other than "
            "Grebe wrote to it"
        )
    return paths[0]
