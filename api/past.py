"""The version that the pages of one answer are of, while it is served: opened anew where it is not open any more."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

from api.cursors import Cursor
from api.problems import COLLECTION_NOT_FOUND, CURSOR_ENDED, NOT_READY, RETRY_AFTER, Problem
from api.settings import SearchSettings
from api.waiting import snapshot_of
from api.watcher import View, Watcher
from indexer.errors import CatalogError, CollectionNotFound, CorruptFile, ObjectNotFound, StoreError
from retrieval.errors import NodeUnavailable


@dataclass(frozen=True, kw_only=True, slots=True)
class Past:
    """One commit's version, which is asked for ``until`` then (time.time())."""

    version: int
    commit: str
    until: float


def past_of(cursor: Cursor, settings: SearchSettings) -> Past:
    """Return the version of ``cursor``; raises the 410 of one that has ended."""
    until = cursor.began + settings.cursor_seconds
    if time.time() > until:
        raise ended(f"its first page was asked for more than {settings.cursor_seconds} s ago")
    return Past(version=cursor.version, commit=cursor.commit, until=until)


def past_view(watcher: Watcher, past: Past) -> View:
    """Return the view of ``watcher`` with that version in it, which is kept open; may wait for it to be opened.

    Raises the 410 where it cannot be had, or is of other models than the newest.
    """
    view = watcher.view
    newest = snapshot_of(view)
    if newest.state.commit_id == past.commit:
        return view
    try:
        snapshot = watcher.past(past.version, seconds=past.until - time.time())
    except CollectionNotFound:
        raise Problem(COLLECTION_NOT_FOUND, "the collection was dropped") from None
    except (CatalogError, CorruptFile, ObjectNotFound, NodeUnavailable) as error:
        raise ended(f"version {past.version} is not there any more") from error
    except (StoreError, OSError) as error:
        raise Problem(NOT_READY, "the cursor's version could not be opened", headers=RETRY_AFTER) from error
    if snapshot.state.commit_id != past.commit or snapshot.spec.fingerprint != newest.spec.fingerprint:
        raise ended("the collection has been built anew since")
    return replace(view, snapshot=snapshot)


def ended(detail: str) -> Problem:
    """Return the 410."""
    return Problem(CURSOR_ENDED, detail)
