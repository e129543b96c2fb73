"""The indexer's local cache of key files and of segments being merged, and what may go from it."""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from indexer.format.fetch import folder_name
from indexer.format.records import SegmentRecord
from indexer.format.store import Store

GRACE_SECONDS = 600
"""A task or merge that began before a segment was replaced may still read it: longer than either takes."""


def of_collection(cache: Path, store: Store) -> Path:
    """The folder of ``cache`` for the collection in ``store`` alone: a sweep knows only one collection's files."""
    return cache / hashlib.blake2b(store.url.encode(), digest_size=8).hexdigest()


def sweep(cache: Path, live: Iterable[SegmentRecord], *, grace_seconds: float = GRACE_SECONDS) -> int:
    """Remove what the cache holds of segments that are no longer live, once it is old; return how many entries went.

    What is removed too early is fetched again; the grace only spares that.
    """
    kept = {folder_name(record) for record in live}
    oldest = time.time() - grace_seconds
    gone = 0
    for entry in cache.iterdir() if cache.is_dir() else ():
        # What begins with a dot is a lock or a fetch under way.
        if entry.name.startswith(".") or entry.name.split(".", 1)[0] in kept:
            continue
        with suppress(FileNotFoundError):  # another process sweeps too
            if entry.stat().st_mtime <= oldest:
                shutil.rmtree(entry, ignore_errors=True) if entry.is_dir() else entry.unlink()
                gone += 1
    return gone
