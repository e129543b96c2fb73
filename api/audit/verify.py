"""Verifying the log: the first record of each writer that was altered, dropped or reordered.

What this proves: whoever lacks a writer's private key cannot change a record at or before a checkpoint unseen. Two
things it cannot see alone. Records after the last checkpoint are linked, but *not attested* yet. And a chain whose end
was cut off at a checkpoint, or that is gone as a whole, is a shorter log and no broken one: against that, keep
checkpoints elsewhere and give them as ``known``.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain as chained
from pathlib import Path
from typing import Any, Literal

import orjson

from api.audit.chain import CHECKPOINT, GENESIS, START, Checkpoint, Entry, digest
from api.audit.objects import Columns, Row, columns_of, key_path
from api.audit.reading import Chain, Piece, open_chains
from api.audit.signing import is_signed
from api.errors import AuditUnreadable
from indexer.format.store import Store

Kind = Literal["altered", "dropped", "reordered", "forged checkpoint", "unknown key", "unreadable file"]


@dataclass(frozen=True, slots=True)
class Problem:
    """The first record that is not as it was written, by its number, and a sentence about it."""

    seq: int
    kind: Kind
    sentence: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """What was found of one writer, up to the first problem.

    ``unattested`` records come after ``checkpoint``, the last one. ``trusted`` says that the public key (hexadecimal)
    is one that the caller gave; otherwise it is taken from the chain itself, on trust.
    """

    writer: str
    host: str | None
    records: int
    first_time_ms: int | None
    last_time_ms: int | None
    checkpoint: Checkpoint | None
    unattested: int
    public_key: str | None
    trusted: bool
    problem: Problem | None


def verify(
    store: Store,
    folder: Path | None = None,
    *,
    trusted: Collection[str] = (),
    known: Collection[Checkpoint] = (),
) -> list[Verdict]:
    """Check every chain in ``store`` and in the journal ``folder``, and return a verdict for each writer.

    ``trusted`` are public keys; if there are any, a chain of another key is a problem. ``known`` are checkpoints of
    earlier verdicts. One file at a time is in memory. Raises :class:`indexer.errors.StoreError`.
    """
    with open_chains(store, folder) as chains:
        writers = sorted(chains.keys() | {checkpoint.writer for checkpoint in known})
        return [_Check(writer, trusted, known).verdict(chains.get(writer, Chain())) for writer in writers]


class _Check:
    """Follows one chain, record by record, up to the first problem."""

    def __init__(self, writer: str, trusted: Collection[str], known: Collection[Checkpoint]) -> None:
        self._writer = writer
        self._trusted = trusted
        self._known = {checkpoint.seq: checkpoint.hash for checkpoint in known if checkpoint.writer == writer}
        self._head = START
        self._public_key: str | None = None
        self._host: str | None = None
        self._checkpoint: Checkpoint | None = None
        self._attested = 0
        self._first_time_ms: int | None = None
        self._last_time_ms: int | None = None

    def verdict(self, chain: Chain) -> Verdict:
        """Return what is found of ``chain``."""
        try:
            problem = self._follow(chain) or self._too_short()
        except AuditUnreadable as error:
            problem = Problem(self._head.seq + 1, "unreadable file", str(error))
        return Verdict(
            writer=self._writer,
            host=self._host,
            records=self._head.seq,
            first_time_ms=self._first_time_ms,
            last_time_ms=self._last_time_ms,
            checkpoint=self._checkpoint,
            unattested=self._head.seq - self._attested,
            public_key=self._public_key,
            trusted=self._public_key in self._trusted,
            problem=problem,
        )

    def _follow(self, chain: Chain) -> Problem | None:
        """Follow the chain through the store and then through the folder, whose first records may be in both."""
        repeated_from = chain.local[0].first if chain.local else None
        stored_hashes: dict[int, str] = {}
        rows = _rows(chain.stored)
        for row in rows:
            if problem := self._step(row, rows):
                return problem
            if repeated_from is not None and row.entry.seq >= repeated_from:
                stored_hashes[row.entry.seq] = row.entry.hash
        rows = _rows(chain.local)
        for row in rows:
            stored = stored_hashes.get(row.entry.seq)
            if problem := _repeats(row.entry, stored) if stored else self._step(row, rows):
                return problem
        return None

    def _step(self, row: Row, rest: Iterator[Row]) -> Problem | None:
        """Check that ``row`` follows on the record before it, and take it in."""
        entry, seq = row.entry, self._head.seq + 1
        if entry.seq != seq:
            return _misplaced(entry.seq, seq, rest)
        if not _has_its_hash(entry):
            return Problem(seq, "altered", f"record {seq} is not what its hash was made of")
        if entry.prev != self._head.hash:
            seq = max(1, self._head.seq)
            return Problem(
                seq, "altered", f"record {seq} has another hash than what the record after it was chained to"
            )
        if self._known.get(seq, entry.hash) != entry.hash:
            return Problem(seq, "altered", f"record {seq} has another hash than a checkpoint that is known")
        try:
            record = orjson.loads(entry.body)
            columns = columns_of(record)
        except ValueError as error:
            return Problem(seq, "altered", f"record {seq}: {error}")
        if row.columns is not None and row.columns != columns:
            return Problem(seq, "altered", f"the columns beside record {seq} say something else than the record")
        return self._take(entry, columns, record["unmapped"])

    def _take(self, entry: Entry, columns: Columns, facts: dict[str, Any]) -> Problem | None:
        """Take in a record that is linked; it may be one that says something of the chain."""
        if entry.seq == 1 and (problem := self._begin(columns, facts)):
            return problem
        if columns.phase == CHECKPOINT and (problem := self._attest(columns, facts)):
            return problem
        self._head = entry
        self._first_time_ms = self._first_time_ms or columns.time
        self._last_time_ms = columns.time
        if columns.phase == CHECKPOINT:
            self._attested = entry.seq
        return None

    def _begin(self, columns: Columns, facts: dict[str, Any]) -> Problem | None:
        if columns.phase != GENESIS or facts.get("writer") != self._writer:
            return Problem(1, "altered", f"record 1 is not the beginning of the chain of {self._writer}")
        self._public_key, self._host = str(facts.get("public_key")), facts.get("host")
        if self._trusted and self._public_key not in self._trusted:
            path = key_path(self._writer)
            return Problem(1, "unknown key", f"it is signed by a key that was not given; if it is a server's: {path}")
        return None

    def _attest(self, columns: Columns, facts: dict[str, Any]) -> Problem | None:
        seq, sha256 = self._head.seq, self._head.hash
        checkpoint = Checkpoint(writer=self._writer, seq=seq, hash=sha256, time_ms=columns.time)
        signed = is_signed(str(self._public_key), checkpoint.message(), str(facts.get("signature")))
        if not signed or (facts.get("seq"), facts.get("hash")) != (seq, sha256):
            since = self._attested + 1
            sentence = f"record {seq + 1} does not attest the records {since} to {seq}: it or one of them was made anew"
            return Problem(seq + 1, "forged checkpoint", sentence)
        self._checkpoint = checkpoint
        return None

    def _too_short(self) -> Problem | None:
        seq, furthest = self._head.seq + 1, max(self._known, default=0)
        if furthest < seq:
            return None
        return Problem(seq, "dropped", f"record {seq} is missing: the chain was known up to record {furthest}")


def _rows(pieces: Iterable[Piece]) -> Iterator[Row]:
    return chained.from_iterable(piece.rows() for piece in pieces)


def _has_its_hash(entry: Entry) -> bool:
    return digest(entry.prev, entry.seq, entry.body) == entry.hash


def _repeats(entry: Entry, stored: str) -> Problem | None:
    """Check that a record of the folder is the one in the store, whose hash is ``stored``."""
    if entry.hash == stored and _has_its_hash(entry):
        return None
    return Problem(entry.seq, "altered", f"record {entry.seq} in the folder is another than in the store")


def _misplaced(found: int, seq: int, rest: Iterator[Row]) -> Problem:
    """Say what it means that record ``found`` stands where ``seq`` belongs."""
    if found < seq:
        return Problem(found, "reordered", f"record {found} stands once more, after record {seq - 1}")
    if any(row.entry.seq == seq for row in rest):
        return Problem(seq, "reordered", f"record {seq} comes later: record {found} stands in its place")
    return Problem(seq, "dropped", f"record {seq} is missing: record {found} stands in its place")
