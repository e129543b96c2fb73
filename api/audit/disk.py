"""The seam to the local disk: files that only grow, and a folder that only one process has.

Every method is durable on return or raises OSError.
"""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path
from typing import Protocol

from api.errors import AuditBusy


class File(Protocol):
    """A new file that is written from front to back."""

    def append(self, data: bytes) -> None:
        """Write ``data`` at the end, whole and flushed to the disk; after an error any part of it may be there.

        A file that was moved or deleted meanwhile is an error, because nobody would find what is in it.
        """

    def close(self) -> None:
        """Let go of the file."""


class Disk(Protocol):
    """Makes files, and settles those that a failure or another process left."""

    def create(self, path: Path) -> File:
        """Return the new file ``path``, whose name is durable; raises FileExistsError."""

    def cut(self, path: Path, size_bytes: int) -> None:
        """Shorten a file to ``size_bytes``; with 0 it goes, and one that is gone already is fine."""

    def renew(self, path: Path, size_bytes: int) -> None:
        """Write the first ``size_bytes`` of a file anew, in place of it.

        What a killed process left may be in memory only; and if a flush of it has failed, the kernel counts it as
        written, so that flushing again would not put it on the disk.
        """


class LocalDisk:
    """The real one."""

    def create(self, path: Path) -> File:
        """Return the new file ``path``."""
        file = _LocalFile(_new(path), path)
        try:
            _flush(path.parent)
        except OSError:
            file.close()
            raise
        return file

    def cut(self, path: Path, size_bytes: int) -> None:
        """Shorten a file to ``size_bytes``."""
        if size_bytes == 0:
            path.unlink(missing_ok=True)
            _flush(path.parent)
            return
        with path.open("r+b") as file:
            file.truncate(size_bytes)
            os.fsync(file.fileno())

    def renew(self, path: Path, size_bytes: int) -> None:
        """Write the first ``size_bytes`` of a file anew."""
        part = path.with_name(f"{path.name}.part")
        part.unlink(missing_ok=True)
        file = _LocalFile(_new(part), part)
        try:
            file.append(path.read_bytes()[:size_bytes])
        finally:
            file.close()
        part.replace(path)
        _flush(path.parent)


class _LocalFile:
    def __init__(self, handle: int, path: Path) -> None:
        self._handle = handle
        self._path = path

    def append(self, data: bytes) -> None:
        left = memoryview(data)
        while left:
            left = left[os.write(self._handle, left) :]
        os.fsync(self._handle)
        if not os.path.samestat(os.fstat(self._handle), os.stat(self._path)):
            raise OSError(errno.ESTALE, "the file is another than the one that was begun", str(self._path))

    def close(self) -> None:
        os.close(self._handle)


def lock(folder: Path) -> int:
    """Make ``folder`` this process's own until the handle that is returned is closed.

    Raises :class:`api.errors.AuditBusy` while another has it.
    """
    handle = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(handle)
        raise AuditBusy(
            f"{folder}: another process writes its audit log here; give each server an audit.folder of its own"
        ) from error
    return handle


def _new(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)


def _flush(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
