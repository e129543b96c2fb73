"""Work on the newest snapshot of a collection: on a thread, in time, for a caller who may still ask by then."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal, TypeVar

from starlette.responses import Response

from api import tracing
from api.batches import AskedQueries
from api.errors import PoolFull
from api.identity.access import Access
from api.identity.control import Action
from api.mistakes import invalid
from api.models.requests import FreshBody
from api.operation import Operation
from api.past import Past, ended, past_view
from api.problems import (
    COLLECTION_NOT_FOUND,
    DEADLINE,
    FILTER,
    MODEL_UNAVAILABLE,
    NODES_UNAVAILABLE,
    NOT_READY,
    OVERLOADED,
    RERANKER_UNAVAILABLE,
    RETRY_AFTER,
    SQL,
    Mistake,
    Problem,
)
from api.service import Service
from api.waiting import LOOK_SECONDS, new_enough, snapshot_of, wait_for
from api.watcher import View, Watcher
from indexer.errors import EmbeddingError, RerankError
from indexer.spec import CollectionSpec
from retrieval.errors import DeadlineExceeded, FilterError, NodeDiffers, NodeUnavailable, RequestError, SnapshotClosed
from retrieval.policies import Caller
from retrieval.refine.rerank import Reranker
from retrieval.request import SearchRequest
from retrieval.version import OpenVersion

T = TypeVar("T")
_NEEDS_MODEL = ("hybrid", "vector")
DIFFER_SECONDS = 2.0
"""So long may nodes take to follow a change of policies or versions, or to be followed."""


@dataclass(frozen=True, kw_only=True)
class Found:
    """An answer as it goes out, and what the logs say of it: ``facts`` in the log line, ``findings`` in the audit log.

    ``closed_policies`` are roles of the caller whose policy could not be used. ``took_ms`` are the stages of the work,
    which began at ``began_ns`` (time.time_ns()).
    """

    content: bytes
    facts: dict[str, Any]
    findings: dict[str, Any]
    closed_policies: tuple[str, ...] = ()
    took_ms: Mapping[str, float] = field(default_factory=dict)
    began_ns: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Models:
    """What a search wants of its collection's models: the queries that are being embedded, and what reranks."""

    embedder: AskedQueries | None
    reranker: Reranker | None


Work = Callable[[View, OpenVersion, Caller, Models], Found]
"""Answers a caller from a pinned snapshot."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Question:
    """What a caller of ``access`` asks of what ``watcher`` serves, for which it needs ``action``.

    ``body`` says how new the answer must be, ``request`` what is searched for, if anything is, ``deadline`` by when
    (time.monotonic()). With ``past``, that version is asked instead of the newest, however new it must be.
    """

    watcher: Watcher
    access: Access
    action: Action
    body: FreshBody
    request: SearchRequest | None
    deadline: float
    past: Past | None = None

    @property
    def seconds_left(self) -> float:
        """The time until the deadline."""
        return self.deadline - time.monotonic()

    @property
    def searches(self) -> int:
        """How many searches it is."""
        return 1 if self.request is None else len(self.request.texts)


async def answer_in_time(service: Service, question: Question, work: Work) -> Found:
    """Return what ``work`` makes of the newest snapshot that is new enough for ``question``.

    The text that is searched for is embedded meanwhile, if it is searched by meaning, and the reranking model is at
    hand. Raises :class:`Problem`, and what ``work`` raises.
    """
    body = question.body
    if question.past is not None:
        return await _answer_from(service, question, question.past, work)
    while True:
        if body.min_version is not None or body.max_staleness_seconds is not None:
            with service.waiter():
                await wait_for(question.watcher, body, deadline=question.deadline)
        found = await _answer_once(service, question, work)
        if found is not None:
            return found


async def _answer_once(service: Service, question: Question, work: Work) -> Found | None:
    """Answer from the newest snapshot, pinned once a thread is free.

    None where that is of other models by then, or is not new enough, or no longer is at the answer: begin again.
    """
    watcher, body = question.watcher, question.body
    spec = snapshot_of(watcher.view).spec
    models = await _models(service, question, spec)

    def once(view: View, snapshot: OpenVersion) -> Found | None:
        if (snapshot.spec.vector, snapshot.spec.rerank) != (spec.vector, spec.rerank):
            return None
        if not new_enough(view, body, datetime.now(UTC)):
            return None
        found = work(view, snapshot, _caller(service, question), models)
        return found if new_enough(view, body, datetime.now(UTC)) else None

    try:
        return await service.pool_of(question.action).run(
            lambda: on_newest(watcher, once), timeout_seconds=question.seconds_left, searches=question.searches
        )
    finally:
        if models.embedder:
            models.embedder.cancel()


async def _answer_from(service: Service, question: Question, past: Past, work: Work) -> Found:
    """Answer from an earlier version, pinned once a thread is free."""
    give_up = time.monotonic() + DIFFER_SECONDS
    while True:
        view = await past_view(question.watcher, past, timeout_seconds=question.seconds_left)
        snapshot = snapshot_of(view)
        models = await _models(service, question, snapshot.spec)

        def once(view: View = view, snapshot: OpenVersion = snapshot, models: Models = models) -> Found:
            with snapshot.pinned():
                return work(view, snapshot, _caller(service, question), models)

        try:
            return await service.pool_of(question.action).run(
                once, timeout_seconds=question.seconds_left, searches=question.searches
            )
        except SnapshotClosed:  # between the look and the pin
            await asyncio.sleep(LOOK_SECONDS)
        except NodeDiffers:  # a node has begun anew, or changes its policies
            if time.monotonic() > give_up:
                raise ended(f"nodes have version {past.version} no longer") from None
            await asyncio.sleep(LOOK_SECONDS)
        finally:
            if models.embedder:
                models.embedder.cancel()


def _caller(service: Service, question: Question) -> Caller:
    """Return whom the answer is for, who may have been let in a while ago; raises what :meth:`Service.renewed` does."""
    return service.renewed(question.access, question.watcher.name, question.action).caller


async def _models(service: Service, question: Question, spec: CollectionSpec) -> Models:
    """Return the models that the question's search needs, its text put down to be embedded."""
    request, reranker = question.request, None
    if request is None:
        return Models(embedder=None, reranker=None)
    if request.stages.rerank is not None and spec.rerank is not None:
        reranker = await service.rerankers.of(spec.rerank, timeout_seconds=question.seconds_left)
    mode = request.resolved_mode(spec.vector)
    if request.brings_vector or mode not in _NEEDS_MODEL:
        return Models(embedder=None, reranker=reranker)
    batches = await service.embedders.of(spec.vector, timeout_seconds=question.seconds_left)
    return Models(embedder=batches.ask_all([text or "" for text in request.texts.values()]), reranker=reranker)


def on_newest(watcher: Watcher, work: Callable[[View, OpenVersion], T]) -> T:
    """Do ``work`` on the newest snapshot, pinned: it stays open until the work is done, whatever is swapped in."""
    give_up = time.monotonic() + DIFFER_SECONDS
    while True:
        view = watcher.view
        try:
            with snapshot_of(view).pinned() as snapshot:
                return work(view, snapshot)
        except NodeDiffers:  # it swaps what it has, or changes its policies, a moment before or after this server
            if time.monotonic() > give_up:
                raise
            time.sleep(LOOK_SECONDS)
        except SnapshotClosed:
            # Swapped between the look and the pin: look again, unless nothing came in its place.
            if watcher.view.snapshot is not view.snapshot:
                continue
            if watcher.gone:
                raise Problem(COLLECTION_NOT_FOUND, "the collection was dropped") from None
            raise Problem(NOT_READY, "the server is shutting down", headers=RETRY_AFTER) from None


def answered(operation: Operation, found: Found) -> Response:
    """Return the response that carries ``found``, and note in ``operation`` what the logs say of it."""
    operation.facts |= found.facts
    operation.findings |= found.findings
    tracing.stages(found.began_ns, found.took_ms)
    if found.closed_policies:
        operation.facts["closed_policies"] = operation.findings["closed_policies"] = found.closed_policies
    return Response(found.content, media_type="application/json")


@contextmanager
def as_problems(service: Service, asked: Literal["filter", "sql"] = "filter") -> Iterator[None]:
    """Turn what the library raises of a request's ``filter``, or of its ``sql``, into what a caller can use."""
    try:
        yield
    except PoolFull:
        service.metrics.rejected.inc()
        raise Problem(OVERLOADED, "every search thread is busy and the queue is full", headers=RETRY_AFTER) from None
    except (TimeoutError, DeadlineExceeded):
        raise Problem(DEADLINE, "the answer was not ready by the deadline") from None
    except (NodeUnavailable, NodeDiffers) as error:
        raise Problem(NODES_UNAVAILABLE, str(error), headers=RETRY_AFTER) from error
    except EmbeddingError as error:
        raise Problem(MODEL_UNAVAILABLE, "the collection's model could not embed the query") from error
    except RerankError as error:
        raise Problem(RERANKER_UNAVAILABLE, "the collection's reranking model could not be used") from error
    except FilterError as error:
        kind = FILTER if asked == "filter" else SQL
        raise Problem(kind, error.message, errors=[_sql_mistake(error, asked)]) from error
    except RequestError as error:
        field = error.field if asked == "filter" else asked
        mistake = Mistake(field=field, message=error.message, code=error.code.replace("_", "-"))
        if error.hint:
            mistake["hint"] = error.hint
        raise invalid([mistake]) from error


def _sql_mistake(error: FilterError, asked: Literal["filter", "sql"]) -> Mistake:
    code = f"{asked}-{error.code.removeprefix('filter_').replace('_', '-')}"
    mistake = Mistake(field=asked, message=error.message, code=code)
    if error.length:
        mistake["line"], mistake["column"], mistake["length"] = error.line, error.column, error.length
    if error.hint:
        mistake["hint"] = error.hint
    return mistake
