"""The local cache of segments: downloaded once per host, checked, leased by who reads them, evicted when unused.

Layout under the root: ``segments/<folder of the segment>/`` with ``locks/<folder>.lease``, and ``scratch/<uuid>/`` with
``locks/<uuid>.scratch``.

Locks are ``flock`` locks on open files, which the system drops when a process dies. Readers hold a shared lock on the
lease; eviction needs it exclusively, and so never takes a segment that any process on the host has open. A reader takes
its lease *before* it looks for the files, so nothing can be evicted between the look and the lease.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import shutil
import time
import uuid
from contextlib import suppress
from pathlib import Path

from indexer.errors import StoreError
from indexer.format.fetch import fetch_segment, folder_name, remove_unfinished
from indexer.format.records import SegmentRecord
from indexer.format.store import Store

_log = logging.getLogger(__name__)

DEFAULT_MAX_BYTES = 64 << 30
IDLE_SECONDS = 3600.0
"""Segments that no one has had open for so long go even from a cache with room: a continuous sync makes one a second,
and of one that a merge, a purge or a drop took away nothing is to stay. So no store has to be asked what it still has.
"""

EVICTION_EVERY_SECONDS = 60.0


class Lease:
    """A held lock on a file; :meth:`release` may be called twice."""

    def __init__(self, path: Path, *, shared: bool) -> None:
        self.path = path
        self._handle: int | None = _locked(path, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)

    def release(self, *, remove: bool = False) -> None:
        """Drop the lock; with ``remove`` the lock file goes first, while it is still held."""
        handle, self._handle = self._handle, None
        if handle is not None:
            os.utime(handle)  # the time of its last use
            if remove:
                self.path.unlink(missing_ok=True)
            os.close(handle)


class ScratchFolder:
    """A folder of this process's own, removed by :meth:`release` or, after a crash, by the next process."""

    def __init__(self, path: Path, lease: Lease) -> None:
        self.path = path
        self._lease = lease

    def release(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.path, ignore_errors=True)
        self._lease.release(remove=True)


class LocalCache:
    """A cache in the folder ``root``; several processes of a host may share it.

    Unleased segments go, the longest unused first, once all together exceed ``max_bytes`` or nobody has had them open
    for an hour; leased ones stay even then. It takes somebody who calls :meth:`evict_if_due` now and then.
    """

    def __init__(self, root: Path, *, max_bytes: int = DEFAULT_MAX_BYTES) -> None:
        self.root = root
        self.max_bytes = max_bytes
        self._segments = root / "segments"
        self._locks = root / "locks"
        self._scratch = root / "scratch"
        for folder in (self._segments, self._locks, self._scratch):
            folder.mkdir(parents=True, exist_ok=True)
        self._next_eviction = 0.0
        self._remove_orphans()

    def segment(self, store: Store, record: SegmentRecord) -> tuple[Path, Lease]:
        """Return the folder with the segment's files, downloaded if they are not here, and the lease that keeps it.

        One process of the host downloads, the others wait. ``store`` is the collection's own folder. Raises
        :class:`indexer.errors.CorruptFile` for bytes that are not those that were written and
        :class:`indexer.errors.StoreError` (for a full disk only after evicting what no one uses); nothing half-loaded
        is ever seen.
        """
        lease = Lease(self._locks / f"{folder_name(record)}.lease", shared=True)
        try:
            return self._fetched(store, record), lease
        except BaseException:
            lease.release()
            raise

    def scratch(self) -> ScratchFolder:
        """Return a new, empty folder on the same file system as the segments."""
        name = uuid.uuid4().hex
        lease = Lease(self._locks / f"{name}.scratch", shared=False)
        path = self._scratch / name
        path.mkdir()
        return ScratchFolder(path, lease)

    def evict_if_due(self) -> None:
        """Evict, if a minute has passed since the last time; a failure is logged, for the next time may succeed."""
        if time.monotonic() >= self._next_eviction:
            self._next_eviction = time.monotonic() + EVICTION_EVERY_SECONDS
            try:
                self.evict()
            except OSError as error:
                _log.warning("nothing evicted from the cache %s: %s", self.root, error)

    def evict(self, *, down_to_bytes: int | None = None, idle_seconds: float = IDLE_SECONDS) -> int:
        """Remove unleased segments, the longest unused first, and return the bytes that went.

        Those go that were not used for ``idle_seconds``, and of the others as many as leave at most ``down_to_bytes``
        (``max_bytes``). So does what a process that was killed had fetched of one.
        """
        remove_unfinished(self._segments)
        folders = [path for path in self._segments.iterdir() if path.is_dir() and not path.name.startswith(".")]
        sizes = {folder: _size_bytes(folder) for folder in folders}
        last_used = {folder: self._last_used(folder) for folder in folders}
        excess = sum(sizes.values()) - (self.max_bytes if down_to_bytes is None else down_to_bytes)
        idle_before = time.time() - idle_seconds
        gone = 0
        for folder in sorted(folders, key=lambda folder: last_used[folder]):
            if gone >= excess and last_used[folder] >= idle_before:
                break
            if self._remove(folder):
                gone += sizes[folder]
        return gone

    def _fetched(self, store: Store, record: SegmentRecord) -> Path:
        try:
            return fetch_segment(store, record, self._segments)
        except (StoreError, OSError) as error:
            if not _disk_full(error):
                raise
            self.evict(down_to_bytes=0)
            return fetch_segment(store, record, self._segments)

    def _last_used(self, folder: Path) -> float:
        try:
            return (self._locks / f"{folder.name}.lease").stat().st_mtime
        except FileNotFoundError:
            return 0.0

    def _remove(self, folder: Path) -> bool:
        """Remove a segment unless someone holds its lease."""
        path = self._locks / f"{folder.name}.lease"
        handle = _try_exclusive(path)
        if handle is None:
            return False
        try:
            # Renamed first: a folder under its own name is always whole.
            doomed = self._scratch / f"evicted-{uuid.uuid4().hex}"
            with suppress(FileNotFoundError):
                folder.rename(doomed)
            shutil.rmtree(doomed, ignore_errors=True)
            path.unlink(missing_ok=True)
        finally:
            os.close(handle)
        return True

    def _remove_orphans(self) -> None:
        """Remove the scratch folders of processes that are gone."""
        for folder in self._scratch.iterdir():
            path = self._locks / f"{folder.name}.scratch"
            handle = _try_exclusive(path)
            if handle is not None:
                shutil.rmtree(folder, ignore_errors=True)
                path.unlink(missing_ok=True)
                os.close(handle)


def _disk_full(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            return True
        error = error.__cause__
    return False


def _locked(path: Path, kind: int) -> int:
    """Return a handle on ``path`` that holds the lock ``kind``, also when the file is replaced meanwhile."""
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(handle, kind)
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(handle), os.stat(path)):
                    return handle
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)


def _try_exclusive(path: Path) -> int | None:
    try:
        return _locked(path, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return None


def _size_bytes(folder: Path) -> int:
    """Return what the files of ``folder`` take; another process may evict them meanwhile."""
    size_bytes = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with suppress(FileNotFoundError):
                size_bytes += os.stat(os.path.join(parent, name)).st_size
    return size_bytes
