"""A writer: one chain of records, as files in a folder of its own.

A file is written by one run, front to back: a start begins a new one, and so does a disk that failed. A file that is
complete ends with a checkpoint, unless its writer died, and never changes again.
"""

from __future__ import annotations

import os
import socket
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from api.audit.chain import CHECKPOINT, GENESIS, RECOVERED, START, Checkpoint, Entry, canonical, line_of, sealed
from api.audit.disk import Disk, File, LocalDisk, lock
from api.audit.files import Place, file_name, journal_files, last_entry, new_writer, place_of, whole_bytes
from api.audit.record import marker
from api.audit.signing import SigningKey
from api.errors import AuditUnreadable

FIRST_SECONDS = 5.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """When a checkpoint is due, counted from the first unsigned record, and when a file is complete."""

    checkpoint_seconds: float
    rotate_bytes: int
    rotate_seconds: float


@dataclass(kw_only=True, slots=True)
class _Growing:
    """The file that is being written; ``file`` is None until it could be made, ``size_bytes`` of it are durable."""

    path: Path
    begun_at: float
    file: File | None = None
    size_bytes: int = 0
    failed: bool = False


class Writer:
    """Appends records to the chain in ``folder``. For one thread.

    ``completed`` is called with each complete file, the oldest first, before :meth:`commit` returns; one for which it
    raises comes again with the next commit.
    """

    def __init__(
        self,
        folder: Path,
        key: SigningKey,
        limits: Limits,
        *,
        completed: Callable[[Path], None],
        disk: Disk | None = None,
    ) -> None:
        self._folder = folder
        self._key = key
        self._limits = limits
        self._completed = completed
        self._disk = disk or LocalDisk()
        self._name = new_writer(key.fingerprint)
        self._head = START
        self._growing: _Growing | None = None
        self._complete: deque[Path] = deque()
        self._unsigned_since: float | None = None
        self._cut_bytes: int | None = None
        self._lock: int | None = None

    def open(self) -> None:
        """Take the folder and go on with its chain; one that another key signs is left as it is, and a new one begun.

        Raises :class:`api.errors.AuditBusy` while another process has the folder,
        :class:`api.errors.AuditUnreadable` and OSError.
        """
        self._lock = lock(self._folder)
        try:
            self._complete.extend(journal_files(self._folder))
            if self._complete:
                self._settle(self._complete[-1])
            if self._complete:
                self._go_on_from(self._complete[-1])
        except AuditUnreadable as error:
            self.close()
            remedy = "keep the folder for whoever looks into it, and set audit.folder to a new one"
            raise AuditUnreadable(f"{error}; {remedy}") from error
        except BaseException:
            self.close()
            raise

    def commit(self, bodies: Sequence[bytes], *, last: bool = False) -> int:
        """Append records, durably, and return the number of the first.

        What the chain itself has to say is put before and after them: call it without any at :attr:`due_at`, and with
        ``last`` at the end. Raises what the disk and ``completed`` do: then ``bodies`` may be in the chain or not, and
        the next commit mends what it can.
        """
        self._mend()
        now = time.monotonic()
        entries = sealed(self._head, [*self._owed(), *bodies])
        first = self._head.seq + len(entries) - len(bodies) + 1
        ends = last or self._is_full(entries, now)
        signs = self._must_sign(entries, now, ends)
        if signs:
            entries += self._checkpoint(entries[-1] if entries else self._head)
        if entries:
            self._write(entries, now)
            self._unsigned_since = None if signs else self._unsigned_since or now
        if ends:
            self._end_file()
        while self._complete:
            self._completed(self._complete[0])
            self._complete.popleft()
        return first

    @property
    def due_at(self) -> float | None:
        """When (monotonic) a commit is due even without records; None while there is nothing to sign or to complete."""
        checkpoint = [] if self._unsigned_since is None else [self._unsigned_since + self._limits.checkpoint_seconds]
        rotation = [] if self._growing is None else [self._aged_at(self._growing)]
        return min([*checkpoint, *rotation], default=None)

    def close(self) -> None:
        """Let go of the folder."""
        if self._growing is not None:
            self._let_go(self._growing)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _settle(self, newest: Path) -> None:
        """Leave the whole lines of ``newest``, durably: a writer that died may have left half of one.

        Nobody was promised that half.
        """
        whole = whole_bytes(newest)
        self._cut_bytes = newest.stat().st_size - whole or None
        if whole:
            self._disk.renew(newest, whole)
        else:
            self._disk.cut(newest, 0)
            self._complete.pop()

    def _go_on_from(self, newest: Path) -> None:
        writer = place_of(newest).writer
        if writer.endswith(self._key.fingerprint):
            self._name = writer
            self._head = last_entry(newest)
            self._unsigned_since = time.monotonic()  # it may be: a checkpoint too many does no harm

    def _mend(self) -> None:
        """Leave the file that failed as long as it is known to be durable; what comes next goes to a new one."""
        growing = self._growing
        if growing is None or not growing.failed:
            return
        # Flushing it again would prove nothing: after a failed fsync the kernel counts the pages that it could not
        # write as clean, so that the next fsync of that file succeeds without them.
        self._let_go(growing)
        surplus = growing.path.stat().st_size - growing.size_bytes if growing.path.exists() else 0
        self._disk.cut(growing.path, growing.size_bytes)
        if growing.size_bytes:
            self._complete.append(growing.path)
        self._growing = None
        self._cut_bytes = surplus

    def _owed(self) -> list[bytes]:
        """Return what the chain has to say before anything else is written."""
        owed = []
        if self._head is START:
            facts = {"writer": self._name, "host": socket.gethostname(), "public_key": self._key.public}
            owed.append(self._marker(GENESIS, _now_ms(), facts))
        if self._cut_bytes is not None:
            owed.append(self._marker(RECOVERED, _now_ms(), {"cut_bytes": self._cut_bytes}))
        return owed

    def _checkpoint(self, head: Entry) -> list[Entry]:
        """Return the link that attests the chain up to ``head``."""
        attested = Checkpoint(writer=self._name, seq=head.seq, hash=head.hash, time_ms=_now_ms())
        facts: dict[str, str | int] = {
            "seq": attested.seq,
            "hash": attested.hash,
            "signature": self._key.sign(attested.message()),
        }
        return sealed(head, [self._marker(CHECKPOINT, attested.time_ms, facts)])

    def _marker(self, phase: str, time_ms: int, facts: Mapping[str, str | int]) -> bytes:
        return canonical(marker(phase, self._name, time_ms, facts))

    def _is_full(self, entries: Sequence[Entry], now: float) -> bool:
        size_bytes = sum(len(entry.body) for entry in entries)
        if self._growing is None:
            return size_bytes >= self._limits.rotate_bytes
        return now >= self._aged_at(self._growing) or self._growing.size_bytes + size_bytes >= self._limits.rotate_bytes

    def _aged_at(self, growing: _Growing) -> float:
        """Return when a file is complete by its age; the first of a chain soon, for the store to know of the writer."""
        is_first = place_of(growing.path).first == 1
        seconds = min(FIRST_SECONDS, self._limits.rotate_seconds) if is_first else self._limits.rotate_seconds
        return growing.begun_at + seconds

    def _must_sign(self, entries: Sequence[Entry], now: float, ends: bool) -> bool:
        if self._unsigned_since is None:
            return ends and bool(entries)
        return ends or now >= self._unsigned_since + self._limits.checkpoint_seconds

    def _write(self, entries: Sequence[Entry], now: float) -> None:
        if self._growing is None:
            path = self._folder / file_name(Place(self._name, entries[0].seq))
            self._growing = _Growing(path=path, begun_at=now)
        growing, data = self._growing, b"".join(map(line_of, entries))
        try:
            growing.file = growing.file or self._disk.create(growing.path)
            growing.file.append(data)
        except OSError:
            growing.failed = True
            raise
        growing.size_bytes += len(data)
        self._head = entries[-1]
        self._cut_bytes = None

    def _end_file(self) -> None:
        if self._growing is not None:
            self._let_go(self._growing)
            self._complete.append(self._growing.path)
            self._growing = None

    def _let_go(self, growing: _Growing) -> None:
        file, growing.file = growing.file, None
        if file is not None:
            with suppress(OSError):  # what counts was flushed before, and the handle is gone all the same
                file.close()


def _now_ms() -> int:
    return int(time.time() * 1000)
