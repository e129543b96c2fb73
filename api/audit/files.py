"""Journal files: ``<writer>-<number of the first record>.jsonl``, one link of the chain a line.

A writer's name begins with the time at which it was made, so that names sort by age.
"""

from __future__ import annotations

import re
import secrets
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from api.audit.chain import Entry, entry_of
from api.errors import AuditUnreadable

_NAME = re.compile(r"([0-9a-f]{32})-([0-9]{20})\.jsonl")
_BLOCK_BYTES = 64 << 10


class Place(NamedTuple):
    """Which part of which chain a file holds: from record ``first`` on."""

    writer: str
    first: int


def new_writer(fingerprint: str) -> str:
    """Return a name for a new writer, whose key's ``fingerprint`` it ends with."""
    return f"{int(time.time() * 1000):012x}{secrets.token_hex(6)}{fingerprint}"


def file_name(place: Place) -> str:
    """Return the name of the file for ``place``."""
    return f"{place.writer}-{place.first:020d}.jsonl"


def place_of(path: Path) -> Place:
    """Return what the journal file ``path`` holds."""
    found = _NAME.fullmatch(path.name)
    assert found is not None, path
    return Place(found[1], int(found[2]))


def journal_files(folder: Path) -> list[Path]:
    """Return the journal files in ``folder``, the oldest first."""
    return sorted(path for path in folder.iterdir() if _NAME.fullmatch(path.name))


def read_entries(file: BinaryIO, name: str) -> Iterator[Entry]:
    """Yield the entries of a journal file, unchecked, up to the last that is whole.

    Raises :class:`api.errors.AuditUnreadable` at a line that is none; a last one without its end is not counted as
    one, because a writer that dies leaves it, and nobody was told that it is durable.
    """
    for number, line in enumerate(file, start=1):
        if not line.endswith(b"\n"):
            return
        try:
            yield entry_of(line)
        except ValueError as error:
            raise AuditUnreadable(f"{name}, line {number}: {error}") from error


def whole_bytes(path: Path) -> int:
    """Return how many bytes of ``path`` are whole lines."""
    with path.open("rb") as file:
        end = file.seek(0, 2)
        while end > 0:
            begin = max(0, end - _BLOCK_BYTES)
            file.seek(begin)
            found = file.read(end - begin).rfind(b"\n")
            if found >= 0:
                return begin + found + 1
            end = begin
    return 0


def last_entry(path: Path) -> Entry:
    """Return the last entry of a journal file that has one; raises :class:`api.errors.AuditUnreadable`."""
    with path.open("rb") as file:
        return deque(read_entries(file, str(path)), maxlen=1)[0]
