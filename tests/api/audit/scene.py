"""What tests of the audit log share: a key, records, journals over a disk that may fail."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import orjson
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from api.audit.chain import Entry, canonical
from api.audit.disk import Disk, File, LocalDisk
from api.audit.files import journal_files, read_entries
from api.audit.journal import Journal
from api.audit.record import Actor, Intent, Outcome, Record, Secret, intent_record, outcome_record
from api.audit.signing import SigningKey
from api.audit.verify import verify
from api.audit.writer import Limits, Writer
from indexer.format.store import Store

TIME_MS = 1_790_000_000_000
SEARCH = Intent(
    time_ms=TIME_MS,
    request_id="r-1",
    actor=Actor(kind="api-key", id="k-7", name="reports", roles=("analyst",)),
    client_ip="10.0.0.9",
    activity="read",
    method="POST",
    route="/v1/collections/{name}/search",
    path="/v1/collections/books/search",
    collection="books",
    facts={"query": Secret("red nests"), "k": 10},
)
FOUND = Outcome(
    intent=SEARCH,
    time_ms=TIME_MS + 12,
    duration_ms=11,
    status=200,
    decision="allowed",
    facts={"version": 3, "keys": [1]},
)
NEVER = Limits(checkpoint_seconds=60, rotate_bytes=1 << 30, rotate_seconds=3600)


@cache
def signing_key(number: int = 1) -> SigningKey:
    """The same key for the same number."""
    return SigningKey(Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32))


def search(number: int) -> Record:
    """The intent of the search ``number``."""
    record = intent_record(SEARCH, signing_key().secret_hash)
    record["api"]["request"]["uid"] = f"r-{number}"
    record["time"] += number
    return record


def answer() -> Record:
    """The outcome of a search."""
    return outcome_record(FOUND, signing_key().secret_hash)


def bodies(count: int) -> list[bytes]:
    """``count`` searches, as they are hashed."""
    return [canonical(search(number)) for number in range(1, count + 1)]


def writer_in(
    folder: Path,
    limits: Limits = NEVER,
    *,
    completed: Callable[[Path], None] = lambda path: None,
    disk: Disk | None = None,
    key: SigningKey | None = None,
) -> Writer:
    """A writer in ``folder``, which is made, not open yet."""
    folder.mkdir(exist_ok=True)
    return Writer(folder, key or signing_key(), limits, completed=completed, disk=disk)


@contextmanager
def journal_in(folder: Path, limits: Limits = NEVER, disk: Disk | None = None) -> Iterator[Journal]:
    """A journal in ``folder``, started."""
    journal = Journal(writer_in(folder, limits, disk=disk), lambda sentence: None)
    journal.start()
    try:
        yield journal
    finally:
        journal.stop()


def entries_in(folder: Path) -> list[Entry]:
    """All that is in the files of ``folder``."""
    entries: list[Entry] = []
    for path in journal_files(folder):
        with path.open("rb") as file:
            entries += read_entries(file, path.name)
    return entries


def facts_in(folder: Path) -> list[Record]:
    """What is under ``unmapped`` of each record."""
    return [orjson.loads(entry.body)["unmapped"] for entry in entries_in(folder)]


def phases_in(folder: Path) -> list[str]:
    """The phase of each record."""
    return [facts["phase"] for facts in facts_in(folder)]


def require_sound(folder: Path, store: Store | None = None) -> None:
    """Fail unless there are chains in ``folder`` and ``store``, and all of them verify."""
    verdicts = verify(store or Store.at(str(folder / "none")), folder)
    assert {verdict.problem for verdict in verdicts} == {None}


class FailingDisk(LocalDisk):
    """While ``failing`` it fails at everything, after it has made the file and written ``written_ratio`` of the data.

    All of it is what a failed flush leaves.
    """

    def __init__(self, written_ratio: float = 0.5) -> None:
        self.written_ratio = written_ratio
        self.failing = False

    def create(self, path: Path) -> File:
        file = super().create(path)
        if self.failing:
            file.close()
        self.check()
        return _FailingFile(file, self)

    def cut(self, path: Path, size_bytes: int) -> None:
        self.check()
        super().cut(path, size_bytes)

    def check(self) -> None:
        if self.failing:
            raise OSError(errno.EIO, "Input/output error")


class _FailingFile:
    def __init__(self, file: File, disk: FailingDisk) -> None:
        self._file = file
        self._disk = disk

    def append(self, data: bytes) -> None:
        if self._disk.failing:
            self._file.append(data[: int(len(data) * self._disk.written_ratio)])
        self._disk.check()
        self._file.append(data)

    def close(self) -> None:
        self._file.close()


class SlowDisk(LocalDisk):
    """Takes its time over every flush."""

    def create(self, path: Path) -> File:
        return _SlowFile(super().create(path))


class _SlowFile:
    def __init__(self, file: File) -> None:
        self._file = file

    def append(self, data: bytes) -> None:
        time.sleep(0.3)
        self._file.append(data)

    def close(self) -> None:
        self._file.close()
