"""Reading the log: each writer's files in the store, and those of a journal folder, which go on behind them."""

from __future__ import annotations

import heapq
import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import BinaryIO, NamedTuple, TypeVar

import orjson

from api.audit.files import Place, journal_files, place_of, read_entries
from api.audit.objects import PREFIX, Row, columns_of, from_parquet, place_in_store
from api.audit.record import Record
from api.errors import AuditUnreadable
from indexer.format.store import Store

T = TypeVar("T")


class Piece(NamedTuple):
    """A file of a chain, from record ``first`` on; ``rows`` reads it, unchecked, or raises AuditUnreadable."""

    first: int
    rows: Callable[[], Iterable[Row]]


@dataclass(kw_only=True)
class Chain:
    """The files of one writer, in order; those of the folder may repeat what is in the store."""

    stored: list[Piece] = field(default_factory=list)
    local: list[Piece] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """Which records are wanted: those that fit all that is given.

    ``operation`` is as in ``api.operation``. ``requests`` are the ids of requests, see :func:`requests_of`.
    """

    since_ms: int | None = None
    collection: str | None = None
    actor: str | None = None
    operation: str | None = None
    requests: frozenset[str] | None = None

    def fits(self, record: Record) -> bool:
        """Say whether ``record`` is wanted."""
        found = columns_of(record)
        return (
            (self.since_ms is None or found.time >= self.since_ms)
            and self.collection in (None, found.collection)
            and self.actor in (None, found.actor)
            and self.operation in (None, found.operation)
            and (self.requests is None or request_of(record) in self.requests)
        )


def request_of(record: Record) -> str:
    """Return the id of the request that ``record`` is of; its intent and its outcome have the same."""
    uid: str = record["metadata"]["uid"]
    return uid.partition("/")[0]


def requests_of(
    found: Iterable[Record], *, keys: tuple[object, ...] = (), hashes: frozenset[str] = frozenset()
) -> frozenset[str]:
    """Return the requests, among those ``found``, that returned a row of one of ``keys`` and asked one of ``hashes``.

    ``keys`` are ways to write one key (composite ones are lists), ``hashes`` HMACs of one text. What is not given is
    not asked for. Keys are in outcomes and hashes in intents, so all records of a request are looked at together.
    """
    written = {json.dumps(key) for key in keys}
    with_key: set[str] = set()
    with_hash: set[str] = set()
    for record in found:
        facts = record["unmapped"]
        if written and any(json.dumps(key) in written for key in facts.get("keys") or ()):
            with_key.add(request_of(record))
        if not hashes.isdisjoint(value for value in facts.values() if isinstance(value, str)):
            with_hash.add(request_of(record))
    if keys and hashes:
        return frozenset(with_key & with_hash)
    return frozenset(with_key if keys else with_hash)


@contextmanager
def open_chains(store: Store, folder: Path | None) -> Iterator[dict[str, Chain]]:
    """Yield the chains by writer as they are at this moment, also while their servers run.

    The folder's files are opened before the store is listed: one that is shipped and deleted meanwhile is in both.
    """
    chains: dict[str, Chain] = defaultdict(Chain)
    with ExitStack() as opened:
        for place, path in _without_gaps(partial(_files, folder)):
            with suppress(FileNotFoundError):  # it was shipped since the folder was listed
                file = opened.enter_context(path.open("rb"))
                chains[place.writer].local.append(Piece(place.first, partial(_local_rows, file)))
        for place, name in _without_gaps(partial(_objects, store)):
            chains[place.writer].stored.append(Piece(place.first, partial(_stored_rows, store, name)))
        yield dict(sorted(chains.items()))


def records(
    store: Store, folder: Path | None = None, wanted: Wanted | None = None, *, newest_first: bool = True
) -> Iterator[Record]:
    """Yield the records of all writers, unchecked, by time (those of one writer in the order of its chain).

    One file of each writer is in memory at a time. Raises :class:`api.errors.AuditUnreadable`.
    """
    with open_chains(store, folder) as chains:
        each = [_once_each(chain, newest_first) for chain in chains.values()]
        for record in heapq.merge(*each, key=_time_of, reverse=newest_first):
            if wanted is None or wanted.fits(record):
                yield record


def _files(folder: Path | None) -> list[tuple[Place, Path]]:
    return [(place_of(path), path) for path in journal_files(folder)] if folder else []


def _objects(store: Store) -> list[tuple[Place, str]]:
    return [(place, name) for name in store.list(PREFIX) if (place := place_in_store(name))]


def _without_gaps(listed: Callable[[], list[tuple[Place, T]]]) -> list[tuple[Place, T]]:
    """Return what ``listed`` shows, up to the newest that it showed a moment before.

    Files come in order, but a listing may show one and not the one before it, if both came while it was made. A
    second listing shows all that was there at the end of the first.
    """
    newest: dict[str, int] = {}
    for place, _ in listed():
        newest[place.writer] = max(place.first, newest.get(place.writer, 0))
    return [(place, what) for place, what in listed() if place.first <= newest.get(place.writer, 0)]


def _once_each(chain: Chain, newest_first: bool) -> Iterator[Record]:
    last: int | None = None
    pieces = [*chain.stored, *chain.local]
    for piece in reversed(pieces) if newest_first else pieces:
        entries = [row.entry for row in piece.rows()]
        for entry in reversed(entries) if newest_first else entries:
            if last is None or (entry.seq < last if newest_first else entry.seq > last):
                last = entry.seq
                yield _event(entry.body)


def _event(body: bytes) -> Record:
    try:
        record: Record = orjson.loads(body)
        columns_of(record)
    except ValueError as error:
        raise AuditUnreadable(f"a record is no event of this log: {error}; `grebe audit verify` names it") from error
    return record


def _time_of(record: Record) -> int:
    time_ms: int = record["time"]
    return time_ms


def _local_rows(file: BinaryIO) -> Iterator[Row]:
    file.seek(0)
    for entry in read_entries(file, file.name):
        yield Row(entry, None)


def _stored_rows(store: Store, name: str) -> list[Row]:
    return from_parquet(store.get(name), name)
