"""Between HTTP and the library: a checked body becomes a search on a pinned snapshot, on a thread, in time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

from api.answers import explanation_answer, source_answer
from api.batches import AskedQuery
from api.encoding import encode
from api.errors import PoolFull
from api.freshness import age_seconds
from api.identity.access import Access
from api.mistakes import invalid
from api.models import SearchBody
from api.problems import (
    COLLECTION_NOT_FOUND,
    DEADLINE,
    FILTER,
    MODEL_UNAVAILABLE,
    NOT_READY,
    OVERLOADED,
    RERANKER_UNAVAILABLE,
    RETRY_AFTER,
    ROW_NOT_FOUND,
    Mistake,
    Problem,
)
from api.service import Service
from api.waiting import new_enough, snapshot_of, wait_for
from api.watcher import View, Watcher
from indexer.errors import EmbeddingError, RerankError
from indexer.format.keys import parse_key
from retrieval.errors import DeadlineExceeded, FilterError, RequestError, SnapshotClosed
from retrieval.policies import Caller
from retrieval.request import DEFAULT_FUSION, Fusion, SearchRequest
from retrieval.rerank import Reranker
from retrieval.response import Hit, SearchResponse
from retrieval.rows import get_row
from retrieval.search import search
from retrieval.snapshot import Snapshot
from retrieval.stages import NO_STAGES, Decay, Diversify, Rerank, Stages

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Found:
    """An answer as it goes out, and what the logs say of it."""

    content: bytes
    version: int
    mode: str | None
    keys: list[Any]
    masked: tuple[str, ...]
    closed_policies: tuple[str, ...] = ()


async def search_in_time(
    service: Service, watcher: Watcher, body: SearchBody, access: Access, *, deadline: float
) -> Found:
    """Search what ``watcher`` serves for the caller of ``access``, by ``deadline`` (time.monotonic()).

    Raises :class:`Problem`.
    """
    with _as_problems(service):
        while True:
            if body.min_version is not None or body.max_staleness_seconds is not None:
                with service.waiter():
                    await wait_for(watcher, body, deadline=deadline)
            found = await _search_once(service, watcher, body, access, deadline=deadline)
            if found is not None:
                return found


async def row_in_time(service: Service, watcher: Watcher, raw_key: str, access: Access) -> Found:
    """Return the row under ``raw_key`` (as the URL has it); one that its caller may not see is not there."""

    def work(_: View, snapshot: Snapshot) -> Found:
        return _row(snapshot, raw_key, service.renewed(access, watcher.name, "read").caller)

    with _as_problems(service):
        return await service.pool.run(
            lambda: _on_newest(watcher, work), timeout_seconds=service.settings.search.deadline_ms / 1000
        )


def search_request(body: SearchBody, deadline: float) -> SearchRequest:
    """Return the library's request for ``body``."""
    fusion = DEFAULT_FUSION
    if body.fusion is not None:
        weights = body.fusion.weights
        fusion = Fusion(
            kind=body.fusion.kind, weights=weights.model_dump() if weights is not None else DEFAULT_FUSION.weights
        )
    return SearchRequest(
        query=body.query,
        vector=body.vector,
        k=body.k,
        filter=body.filter,
        params=body.params,
        dialect=body.dialect,
        mode=body.mode,
        fusion=fusion,
        stages=_stages(body),
        include=None if body.include is None else tuple(dict.fromkeys(body.include)),
        explain=body.explain,
        deadline=deadline,
    )


def _stages(body: SearchBody) -> Stages:
    if not body.stages:
        return NO_STAGES
    return Stages(
        rerank=None if body.rerank is None else Rerank(**dict(body.rerank)),
        decay=None if body.decay is None else Decay(**dict(body.decay)),
        diversify=None if body.diversify is None else Diversify(**dict(body.diversify)),
    )


_NEEDS_MODEL = ("hybrid", "vector")


async def _search_once(
    service: Service, watcher: Watcher, body: SearchBody, access: Access, *, deadline: float
) -> Found | None:
    """Search the newest snapshot, pinned once a thread is free.

    None where that is of another model by then, or is not new enough, or no longer is at the answer: begin again.
    """
    spec = snapshot_of(watcher.view).spec
    request = search_request(body, deadline)
    asked: AskedQuery | None = None
    reranker: Reranker | None = None
    if request.stages.rerank is not None and spec.rerank is not None:
        reranker = await service.rerankers.of(spec.rerank, timeout_seconds=deadline - time.monotonic())
    if request.vector is None and request.resolved_mode(has_model=spec.vector.model is not None) in _NEEDS_MODEL:
        batches = await service.embedders.of(spec.vector, timeout_seconds=deadline - time.monotonic())
        asked = batches.ask(request.text or "")

    def work(view: View, snapshot: Snapshot) -> Found | None:
        if (snapshot.spec.vector, snapshot.spec.rerank) != (spec.vector, spec.rerank):
            return None
        if not new_enough(view, body, datetime.now(UTC)):
            return None
        caller = service.renewed(access, watcher.name, "search").caller
        response = search(snapshot, request, caller=caller, embedder=asked, reranker=reranker)
        service.metrics.searched(snapshot.spec.name, response.took_ms)
        now = datetime.now(UTC)
        return _found(view, snapshot, request, response, now) if new_enough(view, body, now) else None

    try:
        return await service.pool.run(lambda: _on_newest(watcher, work), timeout_seconds=deadline - time.monotonic())
    finally:
        if asked:
            asked.cancel()


def _on_newest(watcher: Watcher, work: Callable[[View, Snapshot], T]) -> T:
    """Do ``work`` on the newest snapshot, pinned: it stays open until the work is done, whatever is swapped in."""
    while True:
        view = watcher.view
        try:
            with snapshot_of(view).pinned() as snapshot:
                return work(view, snapshot)
        except SnapshotClosed:
            # Swapped between the look and the pin: look again, unless nothing came in its place.
            if watcher.view is not view:
                continue
            if watcher.gone:
                raise Problem(COLLECTION_NOT_FOUND, "the collection was dropped") from None
            raise Problem(NOT_READY, "the server is shutting down", headers=RETRY_AFTER) from None


def _found(view: View, snapshot: Snapshot, request: SearchRequest, response: SearchResponse, now: datetime) -> Found:
    hits = hits_in_time(response.results, request.deadline)
    answer = {
        "results": hits,
        "masked": response.masked,
        "version": snapshot.version,
        "source": source_answer(snapshot.state),
        "age_seconds": _rounded(age_seconds(view.complete_at, now)),
        "plan": _plan(response, explain=request.explain),
        "took_ms": {stage: round(milliseconds, 3) for stage, milliseconds in response.took_ms.items()},
    }
    return Found(
        content=encode(answer),
        version=snapshot.version,
        mode=response.plan.mode,
        keys=[hit["key"] for hit in hits],
        masked=response.masked,
        closed_policies=response.closed_policies,
    )


def hits_in_time(hits: Iterable[Hit], deadline: float | None) -> list[dict[str, Any]]:
    """Return the hits as they go out: each one's fields are read only now, which takes time too.

    Raises :class:`retrieval.errors.DeadlineExceeded` at ``deadline`` (time.monotonic()).
    """
    answers = []
    for hit in hits:
        if deadline is not None and time.monotonic() > deadline:
            raise DeadlineExceeded("the deadline passed while the hits were read")
        answers.append(_hit(hit))
    return answers


def _hit(hit: Hit) -> dict[str, Any]:
    answer = {"key": _key(hit.key), "score": hit.score, "text": hit.text, "fields": hit.fields}
    if hit.explanation is not None:
        answer["explanation"] = explanation_answer(hit.explanation)
    return answer


def _plan(response: SearchResponse, *, explain: bool) -> dict[str, Any]:
    plan = response.plan
    answer: dict[str, Any] = {
        "mode": plan.mode or "filter",
        "vector": plan.vector,
        "chunks": plan.chunks,
        "passing": plan.passing,
    }
    if explain:
        answer |= {"segments": plan.segments, "keyword": plan.keyword}
    return answer


def _row(snapshot: Snapshot, raw_key: str, caller: Caller) -> Found:
    names, sight = snapshot.spec.key, snapshot.sight_of(caller)
    row = None
    if snapshot.views:
        try:
            key = parse_key(raw_key, [snapshot.arrow_schema.field(name) for name in names])
        except ValueError as error:
            raise invalid([Mistake(field="key", message=str(error))]) from error
        row = get_row(snapshot, key, sight)
    if row is None:
        raise Problem(ROW_NOT_FOUND, f"version {snapshot.version} has no row of that key")
    masked = tuple(sorted(sight.masks))
    answer = {
        "key": _key(row.key),
        "fields": row.fields,
        "masked": masked,
        "source_version": row.version,
        "source_committed_at": row.committed_at,
        "chunks": row.n_chunks,
        "version": snapshot.version,
        "source": source_answer(snapshot.state),
    }
    return Found(content=encode(answer), version=snapshot.version, mode=None, keys=[answer["key"]], masked=masked)


def _key(key: tuple[Any, ...]) -> Any:
    return key[0] if len(key) == 1 else key


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)


@contextmanager
def _as_problems(service: Service) -> Iterator[None]:
    """Turn what the library raises into what a caller can use."""
    try:
        yield
    except PoolFull:
        service.metrics.rejected.inc()
        raise Problem(OVERLOADED, "every search thread is busy and the queue is full", headers=RETRY_AFTER) from None
    except (TimeoutError, DeadlineExceeded):
        raise Problem(DEADLINE, "the answer was not ready by the deadline") from None
    except EmbeddingError as error:
        raise Problem(MODEL_UNAVAILABLE, "the collection's model could not embed the query") from error
    except RerankError as error:
        raise Problem(RERANKER_UNAVAILABLE, "the collection's reranking model could not be used") from error
    except FilterError as error:
        raise Problem(FILTER, error.message, errors=[_filter_mistake(error)]) from error
    except RequestError as error:
        mistake = Mistake(field=error.field, message=error.message, code=error.code.replace("_", "-"))
        if error.hint:
            mistake["hint"] = error.hint
        raise invalid([mistake]) from error


def _filter_mistake(error: FilterError) -> Mistake:
    mistake = Mistake(field="filter", message=error.message, code=error.code.replace("_", "-"))
    if error.length:
        mistake["line"], mistake["column"], mistake["length"] = error.line, error.column, error.length
    if error.hint:
        mistake["hint"] = error.hint
    return mistake
