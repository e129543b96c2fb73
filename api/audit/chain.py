"""The chain: each record's hash covers the record, its number and the hash before it.

``hash = SHA-256("<prev> <seq> <record>")``, all of it text, so that ``printf | sha256sum`` can check it. Numbers begin
with 1, at the genesis record, which names the writer and its public key; the hash before it is 64 zeros. A checkpoint
is a record that carries a signature of the number and the hash of the record before it: whoever changes a record and
makes all later hashes anew still lacks the key for the next checkpoint.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import orjson

from api.audit.record import Record

GENESIS, CHECKPOINT, RECOVERED = "genesis", "checkpoint", "recovered"
"""The phases of the chain's own records."""

_LINE = re.compile(rb'\{"seq":([0-9]{1,18}),"prev":"([0-9a-f]{64})","hash":"([0-9a-f]{64})","record":(\{[^\n]*\})\}\n')


class Entry(NamedTuple):
    """A link of the chain; ``body`` is the record in its canonical form, hashes are hexadecimal."""

    seq: int
    prev: str
    hash: str
    body: bytes


START = Entry(seq=0, prev="", hash="0" * 64, body=b"")
"""What stands before the first record."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Checkpoint:
    """What a signature attests: that the chain of ``writer`` has this hash at ``seq``."""

    writer: str
    seq: int
    hash: str
    time_ms: int

    def message(self) -> bytes:
        """Return the bytes that are signed."""
        return canonical(
            {
                "purpose": "grebe audit checkpoint v1",
                "writer": self.writer,
                "seq": self.seq,
                "hash": self.hash,
                "time": self.time_ms,
            }
        )


def canonical(record: Record) -> bytes:
    """Return the one form in which ``record`` is hashed: JSON without spaces, names sorted; raises TypeError."""
    return orjson.dumps(record, option=orjson.OPT_SORT_KEYS)


def digest(prev: str, seq: int, body: bytes) -> str:
    """Return the hash of a link."""
    return hashlib.sha256(f"{prev} {seq} ".encode() + body).hexdigest()


def sealed(head: Entry, bodies: Iterable[bytes]) -> list[Entry]:
    """Return the links for ``bodies`` that follow on ``head``."""
    entries: list[Entry] = []
    for body in bodies:
        seq = head.seq + 1
        head = Entry(seq=seq, prev=head.hash, hash=digest(head.hash, seq, body), body=body)
        entries.append(head)
    return entries


def line_of(entry: Entry) -> bytes:
    """Return ``entry`` as a line of a journal file: JSON with the record verbatim."""
    return b'{"seq":%d,"prev":"%b","hash":"%b","record":%b}\n' % (
        entry.seq,
        entry.prev.encode(),
        entry.hash.encode(),
        entry.body,
    )


def entry_of(line: bytes) -> Entry:
    """Return the entry of a journal file's ``line``, its hash unchecked; raises ValueError for any other line."""
    found = _LINE.fullmatch(line)
    if found is None:
        raise ValueError("the line is not a link of the chain")
    seq, prev, sha256, body = found.groups()
    return Entry(seq=int(seq), prev=prev.decode(), hash=sha256.decode(), body=body)
