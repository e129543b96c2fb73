"""Shipping: complete journal files go to the store, and once they can be read back there, from this machine.

The newest that was shipped stays, because a writer that starts anew goes on from its last hash.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path

from api.audit.files import place_of, read_entries
from api.audit.objects import from_parquet, key_path, object_path, to_parquet
from api.audit.signing import SigningKey
from api.errors import AuditConflict
from indexer.format.store import Store

FIRST_RETRY_SECONDS = 1.0
LAST_RETRY_SECONDS = 60.0
STOP_SECONDS = 10.0
"""How long a store that is away may hold up a stop; what was not shipped is at the next start."""


class Shipper:
    """Ships files to ``store``. For one thread."""

    def __init__(self, store: Store, key: SigningKey) -> None:
        self._store = store
        self._key = key
        self._shipped: Path | None = None

    def ship(self, path: Path) -> None:
        """Put the file ``path`` into the store, and delete the one that was shipped before it.

        Call it with each file, the oldest first. Shipping a file again is harmless. Raises
        :class:`indexer.errors.StoreError`, :class:`api.errors.AuditConflict` and
        :class:`api.errors.AuditUnreadable`; then the file is still here.
        """
        with path.open("rb") as file:
            entries = list(read_entries(file, str(path)))
        writer, first = place_of(path)
        if first == 1 and writer.endswith(self._key.fingerprint):
            self._store.put_new(key_path(writer), self._key.public_pem)
        target, data = object_path(writer, first, entries[-1].seq), to_parquet(entries)
        self._store.put_new(target, data)
        found = self._store.get(target)
        # Another version of the Parquet library may have written the same records in other bytes.
        if found != data and [row.entry for row in from_parquet(found, target)] != entries:
            raise AuditConflict(
                f"{self._store.url}/{target} holds other records than {path}: two logs of one writer went on from "
                "the same record, as after a folder was restored from a copy; keep both for whoever looks into it"
            )
        if self._shipped is not None:
            self._shipped.unlink(missing_ok=True)
        self._shipped = path


class BackgroundShipper:
    """Ships through ``shipper`` on a thread of its own.

    What cannot be shipped is tried again, ever more slowly, and ``report`` is told once, in a sentence.
    """

    def __init__(self, shipper: Shipper, report: Callable[[str], None]) -> None:
        self._shipper = shipper
        self._report = report
        self._pending: deque[Path] = deque()
        self._changed = threading.Condition()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="audit-shipper", daemon=True)

    def start(self) -> None:
        """Begin to ship."""
        self._thread.start()

    def add(self, path: Path) -> None:
        """Put the file ``path`` down to be shipped; returns at once."""
        with self._changed:
            self._pending.append(path)
            self._changed.notify()

    @property
    def pending(self) -> int:
        """How many files wait to be shipped."""
        return len(self._pending)

    def stop(self) -> None:
        """Ship what can be shipped at once; the rest is left for the next start."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        self._thread.join(STOP_SECONDS)

    def _run(self) -> None:
        wait_seconds, reported = FIRST_RETRY_SECONDS, False
        while path := self._next():
            try:
                self._shipper.ship(path)
            except Exception as error:  # the one place that must outlive any failure: it is reported, and tried again
                if not reported:
                    self._report(f"the audit log cannot be shipped ({error}); its files stay, and are tried again")
                if self._stopping:
                    return
                reported = True
                self._pause(wait_seconds)
                wait_seconds = min(wait_seconds * 2, LAST_RETRY_SECONDS)
                continue
            self._pending.popleft()
            if reported:
                self._report("the audit log is shipped again")
            wait_seconds, reported = FIRST_RETRY_SECONDS, False

    def _next(self) -> Path | None:
        """Return the oldest file to be shipped, as soon as there is one; None at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._pending or self._stopping)
            return self._pending[0] if self._pending else None

    def _pause(self, seconds: float) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._stopping, seconds)
