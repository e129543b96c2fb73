"""Waiting until a collection is new enough for a request: a version, an age, or both, within the deadline."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime

from api.answers import source_answer
from api.freshness import age_seconds, reaches
from api.models.requests import FreshBody, MinVersion
from api.problems import COLLECTION_NOT_FOUND, NOT_READY, RETRY_AFTER, TOO_OLD, Mistake, Problem
from api.watcher import View, Watcher
from retrieval.version import OpenVersion

LOOK_SECONDS = 0.02


def snapshot_of(view: View) -> OpenVersion:
    """Return the snapshot that is served, or raise the 503."""
    if view.snapshot is not None:
        return view.snapshot
    detail = "its newest version could not be opened" if view.failure else "its first version is being opened"
    raise Problem(NOT_READY, detail, headers=RETRY_AFTER)


def new_enough(view: View, body: FreshBody, now: datetime) -> bool:
    """Return whether what is served meets the body's ``min_version`` and ``max_staleness_seconds``."""
    if view.snapshot is None or not reaches(view.snapshot.state.position, body.min_version):
        return False
    if body.max_staleness_seconds is None:
        return True
    age = age_seconds(view.complete_at, now)
    return age is not None and age <= body.max_staleness_seconds


async def wait_for(watcher: Watcher, body: FreshBody, *, deadline: float) -> View:
    """Return a view that is new enough as soon as there is one; raises the 412 at ``deadline`` (time.monotonic())."""
    while True:
        view = watcher.view
        if new_enough(view, body, datetime.now(UTC)):
            return view
        if watcher.gone:
            raise Problem(COLLECTION_NOT_FOUND, "the collection was dropped")
        if time.monotonic() + LOOK_SECONDS > deadline:
            raise _too_old(view, body)
        await asyncio.sleep(LOOK_SECONDS)


def _too_old(view: View, body: FreshBody) -> Problem:
    snapshot = snapshot_of(view)
    age = age_seconds(view.complete_at, datetime.now(UTC))
    mistakes: list[Mistake] = []
    position = snapshot.state.position
    if not reaches(position, body.min_version):
        reached = f"version {position.version} of epoch {position.epoch}" if position else "no version yet"
        mistakes.append(Mistake(field="min_version", message=f"wanted {_wanted(body.min_version)}, reached {reached}"))
    limit = body.max_staleness_seconds
    if limit is not None and (age is None or age > limit):
        reached = f"{age:.3f} s" if age is not None else "no load yet"
        mistakes.append(
            Mistake(field="max_staleness_seconds", message=f"wanted at most {limit:g} s, reached {reached}")
        )
    detail = "; ".join(f"{mistake['field']}: {mistake['message']}" for mistake in mistakes)
    reached_members = {"version": snapshot.version, "source": source_answer(snapshot.state), "age_seconds": age}
    return Problem(TOO_OLD, detail, errors=mistakes, extra={"reached": reached_members})


def _wanted(wanted: MinVersion | None) -> str:
    if wanted is None:
        return "any version"
    return f"source version {wanted.version}" + (f" of epoch {wanted.epoch}" if wanted.epoch else "")
