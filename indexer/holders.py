"""Which files in a collection's folder hold the bytes of one row: by name, with the versions that name them.

A file is asked by the hash of the key: the key file of every segment that lies in the store, whether a version names it
or not, and every file of dead letters. What cannot be asked counts as holding the row. Copies outside of the store are
not looked for: those in the caches of servers and syncs, and older versions of objects that a bucket keeps by itself.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import pyarrow as pa
from pyroaring import BitMap

from indexer.catalog import Catalog, CatalogState
from indexer.errors import CorruptFile, ObjectNotFound
from indexer.format.keys import KeyIndex
from indexer.format.pack import KEYS_FILE
from indexer.format.records import Record
from indexer.format.store import Entry, Store
from indexer.letterbox import decode_letters, letter_hashes
from indexer.load_areas import LoadArea, load_areas
from indexer.load_plan import BEGUN, PLAN
from indexer.load_plan import FOLDER as LOADS
from indexer.versions import Progress, named_files

DATA_FOLDERS = ("segments", "letters")


class Holder(Record):
    """Files that hold bytes of the row, or may hold them if not ``certain``.

    ``versions`` are ranges of kept catalog versions that name them, both ends included, and ``load`` the folder of an
    interrupted load that does. ``current`` says that in the newest version the row counts because of these files: as
    a row if they are a segment's, as a dead letter if they are of letters. ``source_version`` is the row's.
    """

    kind: Literal["segment", "letters", "unfinished"]
    files: tuple[str, ...]
    versions: tuple[tuple[int, int], ...] = ()
    load: str | None = None
    current: bool = False
    certain: bool = True
    source_version: int | None = None


@dataclass(kw_only=True)
class _Search:
    """One key's hash, and what the kept versions and loads name; ``dead`` is by the folder of each live segment."""

    store: Store
    key_hash: bytes
    fields: Sequence[pa.Field]
    newest: CatalogState
    dead: dict[str, BitMap]
    named_by: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    loads: dict[str, str] = field(default_factory=dict)


def holders_of(
    catalog: Catalog,
    key_hash: bytes,
    fields: Sequence[pa.Field],
    states: Sequence[CatalogState],
    progress: Progress | None = None,
    *,
    deleted: Mapping[str, int] | None = None,
) -> list[Holder]:
    """Return who holds the row of ``key_hash``, given the kept versions, the newest last.

    The store is listed after they were read, so that what is written meanwhile is looked into too. ``deleted`` says at
    which version of each epoch the source deleted the row: a load of an earlier one may write it yet.
    """
    store, newest = catalog.store, states[-1]
    tombstones = catalog.tombstones(newest)
    dead = {_folder(one.files[0].path): tombstones.get(one.number, BitMap()) for one in newest.segments}
    search = _Search(store=store, key_hash=key_hash, fields=fields, newest=newest, dead=dead)
    for state in states:
        for file in named_files(state):
            search.named_by[file.path].append(state.version)
    entries = [entry for folder in (*DATA_FOLDERS, LOADS) for entry in store.entries(folder)]
    areas = load_areas(store, entries)
    search.loads = {path: area.path for area in areas for path in area.names}
    return [
        *_segments(search, entries, progress),
        *_letters(search, entries),
        *_unfinished(store),
        *_loading(areas, deleted or {}),
    ]


def _segments(search: _Search, entries: list[Entry], progress: Progress | None) -> Iterator[Holder]:
    folders: dict[str, list[str]] = defaultdict(list)
    for entry in entries:
        if entry.path.startswith("segments/"):
            folders[_folder(entry.path)].append(entry.path)
    for done, (folder, files) in enumerate(sorted(folders.items()), start=1):
        holder = _segment(search, folder, files)
        if progress:
            progress("segments", done, len(folders))
        if holder:
            yield holder


def _segment(search: _Search, folder: str, files: list[str]) -> Holder | None:
    found = _holder(search, "segment", files)
    path = f"{folder}/{KEYS_FILE}"
    try:
        keys = KeyIndex.decode(search.store.get(path), name=path)
    except ObjectNotFound:
        # An upload broke off or is under way, or a vacuum came between.
        still = any(search.store.exists(file) for file in files)
        return found.model_copy(update={"certain": False}) if still else None
    except CorruptFile:
        return found.model_copy(update={"certain": False})
    _, rows = keys.lookup(np.frombuffer(search.key_hash, dtype=np.uint8).reshape(1, -1))
    if not len(rows):
        return None
    current = folder in search.dead and int(rows["position"][0]) not in search.dead[folder]
    return found.model_copy(update={"current": current, "source_version": int(rows["version"][0])})


def _letters(search: _Search, entries: list[Entry]) -> Iterator[Holder]:
    current = {file.path for file in search.newest.letters}
    for path in (entry.path for entry in entries if entry.path.startswith("letters/")):
        found = _holder(search, "letters", [path])
        try:
            letters = decode_letters(search.store.get(path), path)
        except ObjectNotFound:
            continue
        except CorruptFile:
            yield found.model_copy(update={"certain": False})
            continue
        hashes = letter_hashes(letters, search.fields)
        versions = [
            v for v, hash_ in zip(letters["version"].to_pylist(), hashes, strict=True) if hash_ == search.key_hash
        ]
        if versions:
            yield found.model_copy(update={"current": path in current, "source_version": max(versions)})


def _unfinished(store: Store) -> Iterator[Holder]:
    for folder in DATA_FOLDERS:
        for entry in store.leftovers(folder):
            yield Holder(kind="unfinished", files=(entry.path,), certain=False)


def _loading(areas: Iterable[LoadArea], deleted: Mapping[str, int]) -> Iterator[Holder]:
    for area in areas:
        position = area.position
        if position and position.version < deleted.get(position.epoch, 0):
            files = tuple(entry.path for entry in area.files if entry.path.endswith((BEGUN, PLAN)))
            yield Holder(kind="unfinished", files=files, load=area.path, certain=False)


def _holder(search: _Search, kind: Literal["segment", "letters"], files: list[str]) -> Holder:
    versions = sorted({version for file in files for version in search.named_by.get(file, ())})
    load = next((search.loads[file] for file in files if file in search.loads), None)
    return Holder(kind=kind, files=tuple(files), versions=ranges(versions), load=load)


def ranges(versions: Iterable[int]) -> tuple[tuple[int, int], ...]:
    """Return ascending ``versions`` as ranges, both ends included.

    >>> ranges([1, 2, 3, 7])
    ((1, 3), (7, 7))
    """
    found: list[tuple[int, int]] = []
    for version in versions:
        if found and found[-1][1] == version - 1:
            found[-1] = (found[-1][0], version)
        else:
            found.append((version, version))
    return tuple(found)


def _folder(path: str) -> str:
    """The folder of a segment's file, files of its keywords among them."""
    return "/".join(path.split("/")[:2])
