"""Bringing a segment's files from the store into a local cache, whole and verified or not at all.

A segment's folder in the cache has the name of its folder in the store. Beside the fetched files it holds
``rows.arrow``, the rows again as an uncompressed Arrow file that can be memory-mapped.
"""

from __future__ import annotations

import fcntl
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from indexer.errors import CorruptFile, StoreError
from indexer.format.keys import KeyIndex
from indexer.format.pack import KEYS_FILE, PACK_FILE, ROWS_FILE, flush, flush_tree, is_member, unpack
from indexer.format.records import FileRecord, SegmentRecord
from indexer.format.store import Store

ARROW_FILE = "rows.arrow"

_FILE_PATH = re.compile(r"segments/([0-9a-f]{10}-[0-9a-f]{8})/(.+)")


def folder_name(record: SegmentRecord) -> str:
    """Return the name of the segment's folder, in the store (below ``segments``) and in a cache."""
    return _split(record.files[0].path)[0]


def fetch_segment(store: Store, record: SegmentRecord, cache: Path) -> Path:
    """Bring a segment into ``cache`` unless it is there, and return its folder.

    Safe among threads and processes: one fetches, the others wait. The folder appears by a rename, after every file
    has been verified and flushed. Raises :class:`indexer.errors.CorruptFile` (naming the file) and
    :class:`indexer.errors.StoreError`; then nothing is left behind.
    """
    target = cache / folder_name(record)
    if target.is_dir():
        return target
    with _translated(target):
        cache.mkdir(parents=True, exist_ok=True)
        with _sole_fetcher(cache, target.name):
            if not target.is_dir():
                _fetch_new(store, record, target)
    return target


def remove_unfinished(cache: Path) -> None:
    """Remove what processes that were killed had fetched of segments; what is being fetched now stays."""
    for part in cache.glob(".*.part"):
        with _fetcher_unless_busy(cache, part.name[1:]) as alone:
            if alone:
                shutil.rmtree(part, ignore_errors=True)


def fetch_keys(store: Store, record: SegmentRecord, cache: Path) -> KeyIndex:
    """Return a segment's keys, fetching at most that one file into ``cache`` (as ``<folder name>.keys.npy``)."""
    whole = cache / folder_name(record) / KEYS_FILE
    if whole.exists():
        return KeyIndex.open(whole)
    alone = cache / f"{folder_name(record)}.{KEYS_FILE}"
    if not alone.exists():
        with _translated(alone):
            cache.mkdir(parents=True, exist_ok=True)
        store.fetch(next(file for file in record.files if _split(file.path)[1] == KEYS_FILE), alone)
    return KeyIndex.open(alone)


def _fetch_new(store: Store, record: SegmentRecord, target: Path) -> None:
    part = target.with_name(f".{target.name}.part")
    shutil.rmtree(part, ignore_errors=True)  # of a process that was killed: we hold the lock
    part.mkdir()
    try:
        for file in record.files:
            _fetch_file(store, file, part)
        _write_arrow(part)
        flush_tree(part)
        part.rename(target)
        flush(target.parent)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise


def _fetch_file(store: Store, file: FileRecord, folder: Path) -> None:
    name = _split(file.path)[1]
    store.fetch(file, folder / name)
    if name == PACK_FILE:
        unpack(folder / name, folder)
        (folder / name).unlink()


def _write_arrow(folder: Path) -> None:
    try:
        table = pq.ParquetFile(folder / ROWS_FILE).read().combine_chunks()
    except pa.ArrowInvalid as error:
        raise CorruptFile(f"{folder / ROWS_FILE}: not a Parquet file: {error}") from error
    with pa.ipc.new_file(str(folder / ARROW_FILE), table.schema) as writer:
        writer.write_table(table)


def _split(path: str) -> tuple[str, str]:
    """Split a file's path in the store into the segment's folder name and the file's name in it."""
    match = _FILE_PATH.fullmatch(path)
    if match is None or not (is_member(match[2]) or match[2] == PACK_FILE):
        raise CorruptFile(f"{path!r} is not a path of a segment's file")
    return match[1], match[2]


@contextmanager
def _sole_fetcher(cache: Path, name: str) -> Iterator[None]:
    """Hold the lock under which segment ``name`` is fetched; some segments share one, to keep the locks few."""
    with _lock_file(cache, name).open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def _fetcher_unless_busy(cache: Path, name: str) -> Iterator[bool]:
    """Hold that lock if nobody else does, and say so."""
    with _lock_file(cache, name).open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


def _lock_file(cache: Path, name: str) -> Path:
    return cache / f".fetch-{name[:2]}.lock"


@contextmanager
def _translated(target: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise StoreError(f"{target} could not be written: {reason}; free space or mend it, then try again") from error
