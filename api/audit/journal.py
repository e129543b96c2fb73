"""The journal: many callers' records, made durable with one flush.

Callers wait on the event loop; one thread writes all that wait by then. While it flushes, others gather, so that the
more there are, the fewer flushes each costs; one that is alone waits for one flush.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import groupby
from typing import NamedTuple

from api.audit.chain import canonical
from api.audit.record import Record
from api.audit.writer import Writer
from api.errors import AuditUnavailable

MOST_WAITING = 4096
"""Records that wait to be written: a disk that takes 100 ms for a flush still keeps up with 40,000 a second."""
MOST_WAITING_BYTES = 64 << 20
RETRY_SECONDS = 1.0


class _Waiting(NamedTuple):
    body: bytes
    loop: asyncio.AbstractEventLoop
    written: asyncio.Future[int]


class Journal:
    """Writes through ``writer``. ``report`` is told, in a sentence, when that fails and when it works again."""

    def __init__(self, writer: Writer, report: Callable[[str], None]) -> None:
        self._writer = writer
        self._report = report
        self._failure: str | None = None
        self._open = False
        self._waiting: list[_Waiting] = []
        self._waiting_bytes = 0
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="audit-journal", daemon=True)

    @property
    def healthy(self) -> bool:
        """Whether records can be written, as far as is known."""
        return self._open and self._failure is None

    def start(self) -> None:
        """Take the folder and begin to write; raises what :meth:`api.audit.writer.Writer.open` does."""
        self._writer.open()
        self._open = True
        self._thread.start()

    def stop(self) -> None:
        """Write what waits, sign it, complete the file and let go of the folder; later records are refused."""
        with self._changed:
            self._open = False
            self._changed.notify()
        self._thread.join()

    async def append(self, record: Record) -> int:
        """Return the number of ``record`` in the chain once it is durable.

        Raises :class:`api.errors.AuditUnavailable` if it is not. A caller who is cancelled leaves open whether it is.
        """
        loop = asyncio.get_running_loop()
        one = _Waiting(canonical(record), loop, loop.create_future())
        with self._changed:
            if not self._open:
                raise AuditUnavailable("the audit log is closed")
            if self._failure is not None:
                raise AuditUnavailable(self._failure)
            if len(self._waiting) >= MOST_WAITING or self._waiting_bytes >= MOST_WAITING_BYTES:
                raise AuditUnavailable(f"{len(self._waiting)} audit records wait for the disk; try again shortly")
            self._waiting.append(one)
            self._waiting_bytes += len(one.body)
            self._changed.notify()
        return await one.written

    def _run(self) -> None:
        self._commit([])
        while self._open:
            self._commit(self._take())
        self._commit(self._take(), last=True)
        self._writer.close()

    def _take(self) -> list[_Waiting]:
        """Return what waits, as soon as something does or is due."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or not self._open, self._patience_seconds())
            return self._taken()

    def _taken(self) -> list[_Waiting]:
        taken, self._waiting, self._waiting_bytes = self._waiting, [], 0
        return taken

    def _patience_seconds(self) -> float | None:
        if self._failure is not None:
            return RETRY_SECONDS
        due_at = self._writer.due_at
        return None if due_at is None else max(0.0, due_at - time.monotonic())

    def _commit(self, batch: list[_Waiting], *, last: bool = False) -> None:
        try:
            first = self._writer.commit([one.body for one in batch], last=last)
        except Exception as error:  # whatever it is: nobody may take a record for durable, and the thread must live on
            self._fail(batch, error)
        else:
            self._recover()
            _settle(batch, first)

    def _fail(self, batch: list[_Waiting], error: Exception) -> None:
        sentence = f"the audit log cannot be written ({error}); it is tried again every {RETRY_SECONDS:.0f} s"
        with self._changed:
            news, self._failure = self._failure is None, sentence
            batch += self._taken()
        _settle(batch, sentence)
        if news:
            self._report(sentence)

    def _recover(self) -> None:
        with self._changed:
            if self._failure is None:
                return
            self._failure = None
        self._report("the audit log is written again")


def _settle(batch: Sequence[_Waiting], outcome: int | str) -> None:
    """Wake all who wait, with one call to each event loop: with the first one's number, or why there are none."""
    numbered = enumerate(batch)
    for loop, group in groupby(numbered, key=lambda item: item[1].loop):
        with suppress(RuntimeError):  # the loop is closed, and nobody waits there any more
            loop.call_soon_threadsafe(_wake, list(group), outcome)


def _wake(group: list[tuple[int, _Waiting]], outcome: int | str) -> None:
    for position, one in group:
        if one.written.done():  # its caller was cancelled
            continue
        if isinstance(outcome, int):
            one.written.set_result(outcome + position)
        else:
            one.written.set_exception(AuditUnavailable(outcome))
