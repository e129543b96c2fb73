"""The one seam to where files lie: a local directory, or a bucket (:mod:`indexer.format.cloud`).

Every object is written once and whole: no reader ever sees half of one. In a directory a write goes to a temporary
name beside its target, is flushed to the disk and renamed; in a bucket the PUT itself is atomic. Errors of the file
system and of the object store become :class:`indexer.errors.StoreError` here and nowhere else.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Protocol
from urllib.parse import unquote, urlsplit

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError

from indexer.errors import CorruptFile, ObjectNotFound, StoreError
from indexer.format.cloud import ADDRESSES, Cloud, address, cloud_of, first_line, trouble
from indexer.format.records import FileRecord

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig

# A connection that stalls is given up; a long download that moves is not. A request that keeps failing ends within a
# minute, so that a poller or a commit says so instead of hanging.
CONNECT_SECONDS = 5
STALL_SECONDS = 30
REQUEST_SECONDS = 600
MAX_RETRIES = 5
RETRY_SECONDS = 60

# delta-rs moves small log files only, so its requests are bounded as a whole.
LOG_REQUEST_SECONDS = 30

BLOCK_BYTES = 8 << 20
TEMPORARY_SUFFIX = ".part"


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One object of a listing: its path (relative to the store), when it was written (UTC) and its size."""

    path: str
    modified_at: datetime
    size_bytes: int


class _Backend(Protocol):
    def put(self, path: str, data: bytes) -> None: ...
    def put_new(self, path: str, data: bytes) -> bool: ...
    def put_file(self, path: str, file: Path) -> None: ...
    def blocks(self, path: str) -> Iterator[bytes]: ...
    def exists(self, path: str) -> bool: ...
    def entries(self, prefix: str) -> Iterator[Entry]: ...
    def leftovers(self, prefix: str) -> Iterator[Entry]: ...
    def prune(self, prefix: str) -> None: ...
    def folders(self) -> list[str]: ...
    def delete(self, paths: list[str]) -> None: ...
    def clear(self) -> None: ...
    def settle(self, path: str) -> None: ...


class Store:
    """Objects under one address; thin and typed.

    Picklable by its address alone: the connection is made on first use, in the process that uses it. Safe to share
    between threads. Paths are relative, with ``/`` between their parts.
    """

    def __init__(self, url: str) -> None:
        self.url = url

    @classmethod
    def at(cls, url: str) -> Store:
        """Return the store at ``url``: ``dir``, ``/dir``, ``file:///dir`` or a bucket's address.

        A bucket's is ``s3://bucket/prefix``, ``abfss://container@account.dfs.core.windows.net/prefix``,
        ``az://container/prefix`` or ``gs://bucket/prefix``, reached with the environment's ``AWS_*``, ``AZURE_*`` or
        ``GOOGLE_*`` variables. Raises :class:`StoreError` for any other kind of address; nothing is reached or made
        yet.
        """
        if bucket := address(url):
            return cls(bucket)
        parts = urlsplit(url)
        if parts.scheme == "file":
            return cls(str(Path(unquote(parts.path)).absolute()))
        if "://" in url or not url:
            raise StoreError(f"'{url}' is no store: give a directory, {ADDRESSES}")
        return cls(str(Path(url).expanduser().absolute()))

    @property
    def directory(self) -> Path | None:
        """The directory of this machine that it is; None if it is in a bucket."""
        return None if cloud_of(self.url) else Path(self.url)

    def child(self, name: str) -> Store:
        """Return the store of the folder ``name``."""
        return Store(f"{self.url.rstrip('/')}/{_checked(name)}")

    def put(self, path: str, data: bytes) -> None:
        """Write an object, in place of an older one; durable and visible as a whole on return."""
        with self._errors(path, "written"):
            self._backend.put(_checked(path), data)

    def put_new(self, path: str, data: bytes) -> bool:
        """Write an object unless there is one already, and say whether it was written: one of many writers wins."""
        with self._errors(path, "written"):
            return self._backend.put_new(_checked(path), data)

    def put_file(self, path: str, file: Path) -> FileRecord:
        """Write a copy of ``file`` (streamed) and return its record."""
        with _translated(str(file), "read"):
            size_bytes, sha256 = _digest(_file_blocks(file))
        with self._errors(path, "written"):
            self._backend.put_file(_checked(path), file)
        return FileRecord(path=path, size_bytes=size_bytes, sha256=sha256)

    def put_record(self, path: str, data: bytes) -> FileRecord:
        """Write an object and return its record."""
        self.put(path, data)
        return FileRecord(path=path, size_bytes=len(data), sha256=hashlib.sha256(data).hexdigest())

    def get(self, path: str) -> bytes:
        """Return an object's bytes, unverified; raises :class:`ObjectNotFound`."""
        with self._errors(path, "read"):
            return b"".join(self._backend.blocks(_checked(path)))

    def read(self, record: FileRecord) -> bytes:
        """Return a file's bytes, verified against its record; raises :class:`CorruptFile`."""
        data = self.get(record.path)
        self._verify(record, len(data), hashlib.sha256(data).hexdigest())
        return data

    def fetch(self, record: FileRecord, to: Path) -> None:
        """Copy a file to ``to``, verified against its record and flushed to the disk.

        The bytes go to a unique name beside ``to`` that is renamed at the end, so that ``to`` is whole or absent and
        any number of fetches may run at once. On any failure nothing is left behind. Raises :class:`CorruptFile`,
        :class:`ObjectNotFound` and :class:`StoreError`.
        """

        def checked() -> Iterator[bytes]:
            digest, size_bytes = hashlib.sha256(), 0
            for block in self._backend.blocks(_checked(record.path)):
                digest.update(block)
                size_bytes += len(block)
                yield block
            self._verify(record, size_bytes, digest.hexdigest())

        with self._errors(record.path, f"brought to {to}"):
            _write_whole(to, checked())

    def folders(self) -> list[str]:
        """Return the names of the folders directly below, sorted."""
        with self._errors("", "listed"):
            return self._backend.folders()

    def list(self, prefix: str = "") -> list[str]:
        """Return the paths of all objects under the folder ``prefix``, sorted; none where there is no such folder."""
        return [entry.path for entry in self.entries(prefix)]

    def entries(self, prefix: str = "") -> Iterator[Entry]:
        """Yield what :meth:`list` returns, in order and lazily: a caller that stops early saves requests."""
        with self._errors(prefix, "listed"):
            yield from self._backend.entries(_checked(prefix) if prefix else "")

    def leftovers(self, prefix: str = "") -> Iterator[Entry]:
        """Yield the temporary files below the folder ``prefix``: of writes under way, and of writers that were killed.

        A bucket shows none: it hides what a broken upload left until a lifecycle rule of its own removes that.
        """
        with self._errors(prefix, "listed"):
            yield from self._backend.leftovers(_checked(prefix) if prefix else "")

    def prune(self, prefix: str) -> None:
        """Remove the folder ``prefix`` and those below it, if empty: of no use in a bucket, which has no folders.

        Not for a folder that others may be about to write to.
        """
        with self._errors(prefix, "deleted"):
            self._backend.prune(_checked(prefix))

    def exists(self, path: str) -> bool:
        """Say whether there is an object at ``path``."""
        with self._errors(path, "looked up"):
            return self._backend.exists(_checked(path))

    def delete(self, paths: Iterable[str]) -> None:
        """Delete objects; one that is gone already counts as deleted."""
        wanted = [_checked(path) for path in paths]
        if wanted:
            with self._errors(wanted[0], "deleted"):
                self._backend.delete(wanted)

    def clear(self) -> None:
        """Delete everything in this store, empty folders included."""
        with self._errors("", "deleted"):
            self._backend.clear()

    def settle(self, path: str) -> None:
        """Make an object that another library wrote durable (a flush in a directory; a bucket needs none)."""
        with self._errors(path, "flushed"):
            self._backend.settle(_checked(path))

    def delta_location(self, path: str) -> tuple[str, dict[str, str]]:
        """Return the address and the storage options with which delta-rs reaches the table at ``path``."""
        return self.child(path).url, self._delta_options

    @cached_property
    def _delta_options(self) -> dict[str, str]:
        cloud = cloud_of(self.url)
        if cloud is None:
            return {}
        return {
            "timeout": f"{LOG_REQUEST_SECONDS}s",
            "connect_timeout": f"{CONNECT_SECONDS}s",
            "max_retries": str(MAX_RETRIES),
            "retry_timeout": f"{RETRY_SECONDS}s",
            "allow_http": str(cloud.allows_http()).lower(),
        }

    @cached_property
    def _backend(self) -> _Backend:
        cloud = cloud_of(self.url)
        return _Bucket(self.url, cloud) if cloud else _Directory(Path(self.url))

    def _verify(self, record: FileRecord, size_bytes: int, sha256: str) -> None:
        if (size_bytes, sha256) != (record.size_bytes, record.sha256):
            raise CorruptFile(
                f"{self.url}/{record.path} is not what was written: expected {record.size_bytes} bytes with SHA-256 "
                f"{record.sha256}, found {size_bytes} bytes with SHA-256 {sha256}. Restore this object from a copy, or "
                "rebuild the collection; reading it again helps only if the transfer was at fault.",
                path=record.path,
            )

    def _errors(self, path: str, done: str) -> AbstractContextManager[None]:
        return _translated(f"{self.url}/{path}".rstrip("/"), done)

    def __reduce__(self) -> tuple[Callable[[str], Store], tuple[str]]:
        return Store, (self.url,)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Store) and self.url == other.url

    def __hash__(self) -> int:
        return hash(self.url)

    def __repr__(self) -> str:
        return f"Store.at({self.url!r})"


class _Directory:
    """A local directory; made by the first write."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def put(self, path: str, data: bytes) -> None:
        _write_whole(self.root / path, [data])

    def put_new(self, path: str, data: bytes) -> bool:
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        part = _part_of(target)
        try:
            _write_part(part, [data])
            os.link(part, target)  # unlike a rename, it fails where there is a file
        except FileExistsError:
            return False
        finally:
            part.unlink(missing_ok=True)
        _flush(target.parent)
        return True

    def put_file(self, path: str, file: Path) -> None:
        _write_whole(self.root / path, _file_blocks(file))

    def blocks(self, path: str) -> Iterator[bytes]:
        return _file_blocks(self.root / path)

    def exists(self, path: str) -> bool:
        return (self.root / path).is_file()

    def entries(self, prefix: str) -> Iterator[Entry]:
        return self._walk(prefix, temporary=False)

    def leftovers(self, prefix: str) -> Iterator[Entry]:
        return self._walk(prefix, temporary=True)

    def _walk(self, prefix: str, *, temporary: bool) -> Iterator[Entry]:
        found = sorted(
            os.path.relpath(os.path.join(folder, name), self.root)
            for folder, _, names in os.walk(self.root / prefix)
            for name in names
            if name.endswith(TEMPORARY_SUFFIX) == temporary
        )
        for path in found:
            with suppress(FileNotFoundError):
                stat = (self.root / path).stat()
                written = datetime.fromtimestamp(stat.st_mtime, UTC)
                yield Entry(path=path, modified_at=written, size_bytes=stat.st_size)

    def prune(self, prefix: str) -> None:
        for folder, _, _ in os.walk(self.root / prefix, topdown=False):
            with suppress(OSError):  # it is not empty, or gone already
                os.rmdir(folder)

    def folders(self) -> list[str]:
        if not self.root.is_dir():
            return []
        return sorted(entry.name for entry in self.root.iterdir() if entry.is_dir())

    def delete(self, paths: list[str]) -> None:
        for path in paths:
            (self.root / path).unlink(missing_ok=True)

    def clear(self) -> None:
        if self.root.is_dir():
            shutil.rmtree(self.root)

    def settle(self, path: str) -> None:
        _flush(self.root / path)
        _flush((self.root / path).parent)


class _Bucket:
    """A prefix of a bucket; made without a request."""

    def __init__(self, url: str, cloud: Cloud) -> None:
        client: ClientConfig = {
            "connect_timeout": timedelta(seconds=CONNECT_SECONDS),
            "read_timeout": timedelta(seconds=STALL_SECONDS),
            "timeout": timedelta(seconds=REQUEST_SECONDS),
        }
        if cloud.allows_http():
            client["allow_http"] = True
        retries: RetryConfig = {"max_retries": MAX_RETRIES, "retry_timeout": timedelta(seconds=RETRY_SECONDS)}
        self.url = url
        try:
            self.objects = cloud.opened.from_url(url, client_options=client, retry_config=retries)
        except (BaseError, ValueError) as error:
            raise StoreError(
                f"{url} cannot be reached as it is set up: {first_line(error)}. Check the address and, in the "
                f"environment, {cloud.credentials}"
            ) from error

    def put(self, path: str, data: bytes) -> None:
        obstore.put(self.objects, path, data)

    def put_new(self, path: str, data: bytes) -> bool:
        try:
            obstore.put(self.objects, path, data, mode="create")
        except AlreadyExistsError:
            return False
        return True

    def put_file(self, path: str, file: Path) -> None:
        obstore.put(self.objects, path, file, chunk_size=BLOCK_BYTES, max_concurrency=4)

    def blocks(self, path: str) -> Iterator[bytes]:
        for block in obstore.get(self.objects, path).stream(min_chunk_size=BLOCK_BYTES):
            yield bytes(block)

    def exists(self, path: str) -> bool:
        try:
            obstore.head(self.objects, path)
        except FileNotFoundError:
            return False
        return True

    def entries(self, prefix: str) -> Iterator[Entry]:
        for page in obstore.list(self.objects, prefix or None, chunk_size=1000):
            for found in page:
                yield Entry(path=found["path"], modified_at=found["last_modified"], size_bytes=found["size"])

    def leftovers(self, prefix: str) -> Iterator[Entry]:
        return iter(())

    def prune(self, prefix: str) -> None:
        """A bucket has no folders."""

    def folders(self) -> list[str]:
        below = obstore.list_with_delimiter(self.objects)["common_prefixes"]
        return sorted(prefix.rstrip("/").rsplit("/", 1)[-1] for prefix in below)

    def delete(self, paths: list[str]) -> None:
        try:
            obstore.delete(self.objects, paths)
        except FileNotFoundError as error:  # Azure and Google say so of one that is gone, and may have left others
            if trouble(self.url, error):  # of the bucket itself
                raise
            for path in paths:
                with suppress(FileNotFoundError):
                    obstore.delete(self.objects, path)

    def clear(self) -> None:
        self.delete([entry.path for entry in self.entries("")])

    def settle(self, path: str) -> None:
        """A PUT that was answered is durable."""


def _checked(path: str) -> str:
    if not path or any(part in ("", ".", "..") for part in path.split("/")):
        raise StoreError(f"'{path}' is no path in a store: give names joined by '/', without '.' or '..'")
    return path


def _digest(blocks: Iterable[bytes]) -> tuple[int, str]:
    digest, size_bytes = hashlib.sha256(), 0
    for block in blocks:
        digest.update(block)
        size_bytes += len(block)
    return size_bytes, digest.hexdigest()


def _file_blocks(file: Path) -> Iterator[bytes]:
    with file.open("rb") as opened:
        while block := opened.read(BLOCK_BYTES):
            yield block


def _write_whole(target: Path, blocks: Iterable[bytes]) -> None:
    """Write ``blocks`` to ``target``: whole, flushed to the disk, or not at all."""
    target.parent.mkdir(parents=True, exist_ok=True)
    part = _part_of(target)
    try:
        _write_part(part, blocks)
        os.replace(part, target)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    _flush(target.parent)


def _part_of(target: Path) -> Path:
    return target.with_name(f"{target.name}.{uuid.uuid4().hex}{TEMPORARY_SUFFIX}")


def _write_part(part: Path, blocks: Iterable[bytes]) -> None:
    with part.open("xb") as opened:
        opened.writelines(blocks)
        opened.flush()
        os.fsync(opened.fileno())


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def _translated(what: str, done: str) -> Iterator[None]:
    """Turn the errors of the file system and of obstore into this package's own."""
    try:
        yield
    except (BaseError, OSError, ValueError) as error:
        if said := trouble(what, error):
            raise StoreError(f"{what} could not be {done}: {said}") from error
        if isinstance(error, FileNotFoundError):
            raise ObjectNotFound(f"{what} does not exist") from error
        if isinstance(error, OSError):
            reason = _os_sentence(error)
            raise StoreError(f"{what} could not be {done}: {reason}; nothing was left half-done") from error
        raise StoreError(
            f"{what} could not be {done}, after up to {MAX_RETRIES} retries: {first_line(error)}. Check the address "
            "and the network; trying again may help."
        ) from error


def _os_sentence(error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"{error.strerror}: free some space, then try again"
    return error.strerror or str(error)
