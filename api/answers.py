"""What the server sends, in the shapes of :mod:`api.models.answers`, and the response that carries it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal

from starlette.responses import Response

from api.attention import held_answer, retention_used, standing_failure, warnings_of
from api.encoding import encode
from api.freshness import age_seconds
from api.models.answers import FailureAnswer, SourceAnswer, StatusAnswer, SyncAnswer
from api.watcher import Failure, View, Watcher
from indexer.catalog import CatalogState, Heartbeat
from retrieval.explanation import Asked, Explanation
from retrieval.fusion import Contribution
from retrieval.response import Hit


def json_response(content: Any, status: int = 200) -> Response:
    """Return ``content`` as JSON."""
    return Response(encode(content), status, media_type="application/json")


def source_answer(state: CatalogState) -> dict[str, Any] | None:
    """Return the source position that ``state`` reflects; None before the first load."""
    if state.position is None:
        return None
    return {
        "epoch": state.position.epoch,
        "version": state.position.version,
        "committed_at": state.source_committed_at,
    }


def hit_answer(hit: Hit) -> dict[str, Any]:
    """Return a hit, whose fields are read only now."""
    answer = {"key": key_answer(hit.key), "score": hit.score, "text": hit.text, "fields": hit.fields}
    if hit.explanation is not None:
        answer["explanation"] = explanation_answer(hit.explanation)
    return answer


def key_answer(key: tuple[Any, ...]) -> Any:
    """Return a key as answers have it: its value, or a list of them."""
    return key[0] if len(key) == 1 else key


def explanation_answer(explanation: Explanation) -> dict[str, Any]:
    """Return every number that made a hit's score, by leg, or query and leg, and then by stage."""
    answer: dict[str, Any] = _legs(explanation.legs)
    if explanation.queries:
        answer["queries"] = [_query(place, asked) for place, asked in explanation.queries.items()]
    return answer | {stage: dataclasses.asdict(made) for stage, made in explanation.stages.items()}


def _legs(legs: Mapping[str, Contribution]) -> dict[str, Any]:
    return {
        leg: {
            "rank": part.rank,
            "raw_score": part.raw_score,
            "normalised_score": part.normalised,
            "weight": part.weight,
            "added": part.added,
        }
        for leg, part in legs.items()
    }


def _query(place: int, asked: Asked) -> dict[str, Any]:
    fused = asked.fused
    return {"query": place, "rank": fused.rank, "score": fused.raw_score, "added": fused.added, **_legs(asked.legs)}


def state_of(view: View) -> Literal["open", "opening", "failed"]:
    """Return whether a version is served, is being opened for the first time, or could not be."""
    if view.snapshot is not None:
        return "open"
    return "failed" if view.failure else "opening"


def status_answer(watcher: Watcher, now: datetime) -> StatusAnswer:
    """Return freshness and counts of what ``watcher`` serves."""
    view = watcher.view
    state = view.snapshot.state if view.snapshot else None
    segments = state.segments if state else ()
    source = source_answer(state) if state else None
    failure = standing_failure(state, view.heartbeat, view.sync_failure) if state else None
    return StatusAnswer(
        name=watcher.name,
        state=state_of(view),
        version=state.version if state else None,
        latest_version=view.latest_version,
        source=SourceAnswer(**source) if source else None,
        age_seconds=age_seconds(view.complete_at, now),
        sync=_sync(view.heartbeat, now),
        committed_at=state.committed_at if state else None,
        rows=state.live_rows if state else 0,
        chunks=sum(segment.n_chunks for segment in segments),
        deleted_chunks=sum(state.deleted.values()) if state else 0,
        segments=len(segments),
        tenants=state.n_tenants if state else None,
        size_bytes=sum(segment.size_bytes for segment in segments),
        dead_letters=state.letter_count if state else 0,
        rebuild_pending=state is not None and state.pending is not None,
        reads=view.heartbeat.reads if view.heartbeat else None,
        retention_seconds=view.heartbeat.retention_seconds if view.heartbeat else None,
        retention_used=retention_used(state, view.heartbeat, now) if state else None,
        held=held_answer(state) if state else None,
        sync_failed_at=failure.at if failure else None,
        warnings=warnings_of(state, view.heartbeat, failure, now) if state else [],
        failure=_failure(view.failure),
    )


def _sync(heartbeat: Heartbeat | None, now: datetime) -> SyncAnswer | None:
    if heartbeat is None:
        return None
    return SyncAnswer(
        checked_at=heartbeat.checked_at,
        epoch=heartbeat.epoch,
        version=heartbeat.version,
        seconds_ago=max(0.0, (now - heartbeat.checked_at).total_seconds()),
    )


def _failure(failure: Failure | None) -> FailureAnswer | None:
    if failure is None:
        return None
    return FailureAnswer(
        version=failure.version,
        file=failure.file,
        error=failure.error,
        attempts=failure.attempts,
        since=failure.since,
        retry_at=failure.retry_at,
    )
