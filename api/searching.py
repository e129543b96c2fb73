"""Between HTTP and the library: a checked body becomes a search, and what is found an answer."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

from api.answers import hit_answer, source_answer
from api.asking import search_version
from api.cursors import Pages
from api.encoding import encode
from api.freshness import age_seconds
from api.identity.access import Access
from api.models.requests import SearchBody
from api.past import next_cursor, pages_of, past_of, require_same_sight
from api.running import Found, Models, Question, answer_in_time, as_problems
from api.service import Service
from api.watcher import View, Watcher
from indexer.format.keys import format_key
from retrieval.deadline import check_deadline
from retrieval.policies import Caller
from retrieval.refine.stages import NO_STAGES, Collapse, Decay, Diversify, Rerank, Stages
from retrieval.request import DEFAULT_FUSION, Fusion, Page, SearchRequest
from retrieval.response import Hit, SearchResponse
from retrieval.version import OpenVersion


async def search_in_time(
    service: Service, watcher: Watcher, body: SearchBody, access: Access, *, deadline: float
) -> Found:
    """Search what ``watcher`` serves for the caller of ``access``, by ``deadline`` (time.monotonic()).

    Raises :class:`api.problems.Problem`.
    """
    with as_problems(service):
        pages = pages_of(body, watcher.name, access)
        request = search_request(body, deadline, pages)
        past = past_of(pages, service.settings.search)
        question = Question(
            watcher=watcher, access=access, action="search", body=body, request=request, deadline=deadline, past=past
        )
        return await answer_in_time(service, question, partial(_search, service, watcher, request, pages))


def search_request(body: SearchBody, deadline: float, pages: Pages | None = None) -> SearchRequest:
    """Return the library's request for ``body``."""
    return SearchRequest(
        query=body.query,
        queries=None if body.queries is None else tuple(body.queries),
        vector=body.vector,
        like=body.like if isinstance(body.like, list | None) else [body.like],
        k=body.k,
        filter=body.filter,
        params=body.params,
        dialect=body.dialect,
        mode=body.mode,
        fusion=_fusion(body),
        stages=_stages(body),
        min_similarity=body.min_similarity,
        include=None if body.include is None else tuple(dict.fromkeys(body.include)),
        context=body.context,
        explain=body.explain,
        page=None if pages is None else pages.page,
        now=None if pages is None else pages.now,
        deadline=deadline,
    )


def _search(
    service: Service,
    watcher: Watcher,
    request: SearchRequest,
    pages: Pages | None,
    view: View,
    snapshot: OpenVersion,
    caller: Caller,
    models: Models,
) -> Found:
    began_ns = time.time_ns()
    require_same_sight(pages, snapshot, caller)
    response = search_version(snapshot, request, caller=caller, embedder=models.embedder, reranker=models.reranker)
    service.metrics.searched(snapshot.spec.name, response.took_ms)
    cursor = None
    if pages is not None and response.has_more:
        cursor = next_cursor(service, watcher, snapshot, caller, pages, _page_after(response, request))
    return replace(_found(view, snapshot, request, response, datetime.now(UTC), cursor), began_ns=began_ns)


def _page_after(response: SearchResponse, request: SearchRequest) -> Page:
    if response.plan.mode is None:
        return Page(after=format_key(response.results.keys()[-1]))
    return Page(offset=(request.page or Page()).offset + len(response.results))


def _fusion(body: SearchBody) -> Fusion:
    if body.fusion is None:
        return DEFAULT_FUSION
    weights = body.fusion.weights
    return Fusion(kind=body.fusion.kind, weights=None if weights is None else weights.model_dump())


def _stages(body: SearchBody) -> Stages:
    if not body.stages:
        return NO_STAGES
    return Stages(
        rerank=None if body.rerank is None else Rerank(**dict(body.rerank)),
        decay=None if body.decay is None else Decay(**dict(body.decay)),
        collapse=None if body.collapse is None else Collapse(**dict(body.collapse)),
        diversify=None if body.diversify is None else Diversify(**dict(body.diversify)),
    )


def _found(
    view: View,
    snapshot: OpenVersion,
    request: SearchRequest,
    response: SearchResponse,
    now: datetime,
    next_cursor: str | None,
) -> Found:
    hits = hits_in_time(response.results, request.deadline)
    answer = {
        "results": hits,
        "next_cursor": next_cursor,
        "masked": response.masked,
        "version": snapshot.version,
        "source": source_answer(snapshot.state),
        "age_seconds": rounded(age_seconds(view.complete_at, now)),
        "plan": _plan(response, explain=request.explain),
        "took_ms": {stage: round(milliseconds, 3) for stage, milliseconds in response.took_ms.items()},
    }
    told = {"version": snapshot.version, "mode": response.plan.mode}
    return Found(
        content=encode(answer),
        facts=told | {"k": request.k, "results": len(hits)} | _asked(request),
        findings=told | {"keys": [hit["key"] for hit in hits], "masked": response.masked},
        closed_policies=response.closed_policies,
        took_ms=response.took_ms,
    )


def _asked(request: SearchRequest) -> dict[str, int]:
    return {} if request.queries is None else {"queries": len(request.texts)}


def hits_in_time(hits: Iterable[Hit], deadline: float | None) -> list[dict[str, Any]]:
    """Return the hits as they go out: each one's fields are read only now, which takes time too.

    Raises :class:`retrieval.errors.DeadlineExceeded` at ``deadline`` (time.monotonic()).
    """
    answers = []
    for hit in hits:
        check_deadline(deadline, "while the hits were read")
        answers.append(hit_answer(hit))
    return answers


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


def rounded(seconds: float | None) -> float | None:
    """Return ``seconds`` to the millisecond."""
    return None if seconds is None else round(seconds, 3)
