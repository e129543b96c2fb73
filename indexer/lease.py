"""A lease: who is syncing a collection, so that a second one waits or stops instead of doing the same work.

It is a courtesy. What keeps two syncs from harming each other is the catalog's commit; a lease that is lost, late or
stale costs time, never rows.

The holder is whoever made the file ``sync-lease/<n>.json`` with the highest n, by put-if-absent. It says until when it
counts and is written anew before that; one that has run out, or whose process is seen to be gone, is followed by n + 1.
It is seen where its number means something: on the same host, in the same PID namespace (one container's).
"""

from __future__ import annotations

import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Literal

from pydantic import ValidationError

from indexer.errors import CollectionBusy, IndexerError, ObjectNotFound
from indexer.format.records import Record
from indexer.format.store import Store

FOLDER = "sync-lease"
LEASE_SECONDS = 60.0
RENEW_SECONDS = 15.0
LOOK_SECONDS = 1.0

OnBusy = Literal["wait", "stop"]

_HELD_HERE: set[str] = set()
"""The ids of the leases that this process holds or is about to."""


class Holder(Record):
    """Who holds a lease, and until when it counts (UTC)."""

    id: str
    host: str
    pid_namespace: str = ""
    pid: int
    since: datetime
    until: datetime

    def counts(self, now: datetime) -> bool:
        """Say whether the lease holds: not run out, and its process not known to be gone."""
        return now < self.until and not self._is_gone()

    def _is_gone(self) -> bool:
        if (self.host, self.pid_namespace) != (socket.gethostname(), _pid_namespace()):
            return False
        if self.pid == os.getpid():  # as after a restart of the host, when a process may have the number it had
            return self.id not in _HELD_HERE
        return not _runs(self.pid)


@contextmanager
def leased(
    store: Store,
    name: str,
    on_busy: OnBusy,
    *,
    waiting: Callable[[str], None] = lambda sentence: None,
    stop: Callable[[], bool] = lambda: False,
) -> Iterator[None]:
    """Hold the lease of the collection ``name``, whose folder is ``store``, for a ``with`` block.

    Where another holds it, ``wait`` for its end (``waiting`` is told why, once) or ``stop``: raise
    :class:`indexer.errors.CollectionBusy`. That is raised too when the function ``stop`` ends the waiting.
    """
    number, held = _acquire(store, name, on_busy, waiting, stop)
    done = threading.Event()
    renewing = threading.Thread(target=_renew, args=(store, number, held, done), name="grebe-lease", daemon=True)
    renewing.start()
    try:
        yield
    finally:
        done.set()
        renewing.join()
        _HELD_HERE.discard(held.id)
        with suppress(IndexerError):  # it runs out by itself
            if _is_ours(store, number, held):
                store.delete([_path(number)])


def require_idle(store: Store, name: str) -> None:
    """Raise :class:`indexer.errors.CollectionBusy` if another holds the lease now."""
    _, other = _newest(store)
    if other is not None and other.counts(datetime.now(UTC)):
        raise _busy(name, other)


def _busy(name: str, other: Holder) -> CollectionBusy:
    return CollectionBusy(f"{_running(name, other)}; try again when it has ended, or wait for that with --on-busy wait")


def _running(name: str, other: Holder) -> str:
    return (
        f"{name}: another sync has been running since {other.since:%Y-%m-%d %H:%M:%S} UTC "
        f"(process {other.pid} on {other.host})"
    )


def _acquire(
    store: Store, name: str, on_busy: OnBusy, waiting: Callable[[str], None], stop: Callable[[], bool]
) -> tuple[int, Holder]:
    told = False
    while True:
        number, other = _newest(store)
        if other is None or not other.counts(datetime.now(UTC)):
            mine = _holder()
            _HELD_HERE.add(mine.id)
            if store.put_new(_path(number + 1), mine.model_dump_json().encode()):
                store.delete(_path(old) for old in _numbers(store) if old <= number)
                return number + 1, mine
            _HELD_HERE.discard(mine.id)
            continue
        if on_busy == "stop":
            raise _busy(name, other)
        if stop():
            raise CollectionBusy(f"{_running(name, other)}; stopped while waiting for its end, and nothing was synced")
        if not told:
            waiting(f"{_running(name, other)}; waiting for its end ...")
            told = True
        time.sleep(LOOK_SECONDS)


def _newest(store: Store) -> tuple[int, Holder | None]:
    """Return the highest number and its holder, if there is one that can be read."""
    number = max(_numbers(store), default=0)
    try:
        return number, Holder.model_validate_json(store.get(_path(number)))
    except (ObjectNotFound, ValidationError):
        return number, None


def _numbers(store: Store) -> list[int]:
    names = (path.rsplit("/", 1)[-1].removesuffix(".json") for path in store.list(FOLDER))
    return [int(name) for name in names if name.isdigit()]


def _renew(store: Store, number: int, held: Holder, done: threading.Event) -> None:
    while not done.wait(RENEW_SECONDS):
        with suppress(IndexerError):  # a store that is away for a while
            if not _is_ours(store, number, held):
                return  # it ran out and another took it, or the collection was dropped
            until = datetime.now(UTC) + timedelta(seconds=LEASE_SECONDS)
            store.put(_path(number), held.model_copy(update={"until": until}).model_dump_json().encode())


def _is_ours(store: Store, number: int, held: Holder) -> bool:
    """Say whether ``held`` is the lease still: after the end of one that took it over, its number may come again."""
    newest, holder = _newest(store)
    return newest == number and holder is not None and holder.id == held.id


def _holder() -> Holder:
    now = datetime.now(UTC)
    return Holder(
        id=uuid.uuid4().hex,
        host=socket.gethostname(),
        pid_namespace=_pid_namespace(),
        pid=os.getpid(),
        since=now,
        until=now + timedelta(seconds=LEASE_SECONDS),
    )


def _path(number: int) -> str:
    return f"{FOLDER}/{number:08d}.json"


def _pid_namespace() -> str:
    """Return what tells one container's process numbers from another's; empty where the system has no such thing."""
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
