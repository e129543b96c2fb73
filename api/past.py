"""The version that the pages of one answer are of, while it is served: opened anew where it is not open any more."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, replace

from api.cursors import Pages, sight_digest
from api.identity.access import Access
from api.mistakes import invalid
from api.models.requests import PagedBody
from api.problems import COLLECTION_NOT_FOUND, CURSOR_ENDED, NOT_READY, RETRY_AFTER, Mistake, Problem
from api.service import Service
from api.settings import SearchSettings
from api.waiting import snapshot_of
from api.watcher import View, Watcher
from indexer.errors import CatalogError, CollectionNotFound, CorruptFile, ObjectNotFound, StoreError
from retrieval.errors import NodeUnavailable, SnapshotClosed
from retrieval.policies import Caller
from retrieval.request import Page
from retrieval.version import OpenVersion


@dataclass(frozen=True, kw_only=True, slots=True)
class Past:
    """One commit's version, which is asked for ``until`` then (time.time())."""

    version: int
    commit: str
    until: float


def pages_of(body: PagedBody, name: str, access: Access) -> Pages | None:
    """Return the pages that ``body`` asks for, if it does; raises the 422."""
    try:
        return Pages.asked_for(body, name, access, time.time())
    except ValueError as error:
        message = "this is not a cursor of this question and caller"
        hint = "send 'next_cursor' of the page before, with all that was asked for it, or 'start'"
        raise invalid([Mistake(field="cursor", message=message, hint=hint)]) from error


def next_cursor(
    service: Service, watcher: Watcher, version: OpenVersion, caller: Caller, pages: Pages, page: Page
) -> str:
    """Return the cursor of the next ``page``, for which ``version`` is kept open."""
    watcher.versions.keep(version.version, pages.began + service.settings.search.cursor_seconds - time.time())
    sight = None if page.after is not None else sight_digest(version, caller)
    return pages.next(version.version, version.state.commit_id, page, sight)


def require_same_sight(pages: Pages | None, version: OpenVersion, caller: Caller) -> None:
    """Raise the 410 where ``caller`` sees other rows by now than when the page before was counted."""
    sight = None if pages is None or pages.cursor is None else pages.cursor.sight
    if sight is not None and sight != sight_digest(version, caller):
        raise ended("what you may see of the collection has changed since")


def past_of(pages: Pages | None, settings: SearchSettings) -> Past | None:
    """Return the version that the page is of, unless it is the first; raises the 410 of a cursor that has ended."""
    cursor = None if pages is None else pages.cursor
    if cursor is None:
        return None
    until = cursor.began + settings.cursor_seconds
    if time.time() > until:
        raise ended(f"its first page was asked for more than {settings.cursor_seconds} s ago")
    return Past(version=cursor.version, commit=cursor.commit, until=until)


async def past_view(watcher: Watcher, past: Past, *, timeout_seconds: float) -> View:
    """Return the view of ``watcher`` with that version in it, which is kept open, once it is.

    Raises the 410 where it cannot be had, or is not of the newest one's models and columns; TimeoutError.
    """
    if watcher.gone:
        raise Problem(COLLECTION_NOT_FOUND, "the collection was dropped")
    view = watcher.view
    newest = snapshot_of(view)
    if newest.state.commit_id == past.commit and not watcher.ended:
        return view
    opening = asyncio.wrap_future(watcher.versions.past(past.version, seconds=past.until - time.time()))
    try:
        snapshot = await asyncio.wait_for(asyncio.shield(opening), timeout_seconds)
    except SnapshotClosed:
        raise Problem(NOT_READY, "the server is shutting down", headers=RETRY_AFTER) from None
    except CollectionNotFound:
        raise Problem(COLLECTION_NOT_FOUND, "the collection was dropped") from None
    except (CatalogError, CorruptFile, ObjectNotFound, NodeUnavailable) as error:
        raise ended(f"version {past.version} is not there any more") from error
    except TimeoutError:
        raise
    except (StoreError, OSError) as error:
        raise Problem(NOT_READY, "the cursor's version could not be opened", headers=RETRY_AFTER) from error
    if snapshot.state.commit_id != past.commit or snapshot.spec.fingerprint != newest.spec.fingerprint:
        raise ended("the collection has been built anew since")
    if gone := sorted(set(snapshot.spec.stored_columns) - set(newest.spec.stored_columns)):
        raise ended(f"the collection has {', '.join(gone)} no longer")
    return replace(view, snapshot=snapshot)


def ended(detail: str) -> Problem:
    """Return the 410."""
    return Problem(CURSOR_ENDED, f"{detail}; begin again with the cursor 'start'")
