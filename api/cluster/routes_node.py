"""What a node answers: which versions it has open, and questions about them. For routers, who know the secret."""

from __future__ import annotations

import asyncio
import hmac
import time
from collections.abc import Callable
from contextlib import suppress

from fastapi import APIRouter, Request, WebSocket, WebSocketDisconnect
from fastapi.responses import Response
from starlette.requests import HTTPConnection

from api.bodies import read_json_bytes
from api.cluster.failures import Failure
from api.cluster.versions import HeldVersion, HeldVersions, Served
from api.cluster.wire import ANSWERED, FAILED, PREFIX, QUESTIONS, frame, parts_of
from api.direct import DirectRoute
from api.problems import INVALID, UNAUTHENTICATED, Problem
from api.service import Service, service_of
from api.settings import MAX_DEADLINE_MS
from retrieval.distributed.messages import Question, Select, decode_question, encode_answer
from retrieval.distributed.node import answer_question
from retrieval.errors import NodeDiffers, NodeFailed
from retrieval.snapshot import Snapshot

VERSIONS_BYTES = 8 << 20
SEND_SECONDS = 1.0
"""So long after its deadline an answer may begin to be sent: that the deadline has passed is an answer too."""
GONE = (WebSocketDisconnect, RuntimeError)
"""What sending raises where the router is gone: Starlette has its own two, uvicorn another one."""

router = APIRouter(prefix=PREFIX, route_class=DirectRoute, include_in_schema=False)


@router.post("/versions")
async def versions(request: Request) -> Response:
    """Every version of every collection that can be asked about; those that the router has are kept, or opened anew."""
    service = service_of(request)
    if not _is_router(service, request):
        raise Problem(UNAUTHENTICATED, "this is a node, which answers routers alone", denied=True)
    body = await read_json_bytes(request, VERSIONS_BYTES)
    try:
        served = Served.model_validate_json(body)
    except ValueError as error:
        raise Problem(INVALID, "the body does not say what the router serves") from error
    for watcher in service.collections.all():
        for version in served.collections.get(watcher.name, ()):
            newest = watcher.view.snapshot
            if newest is not None and version < newest.version:
                watcher.versions.past(version)
            else:  # it may be on its way
                watcher.versions.keep(version)
    if service.draining:  # routers ask others from now on
        return Response(status_code=503)
    held = service.settings.cluster.held
    assert held is not None
    open_here = {
        watcher.name: [HeldVersion.of(snapshot) for snapshot in watcher.versions.all if isinstance(snapshot, Snapshot)]
        for watcher in service.collections.all()
    }
    answer = HeldVersions(share=str(held), collections=open_here)
    return Response(answer.model_dump_json().encode(), media_type="application/json")


@router.websocket(QUESTIONS)
async def questions(websocket: WebSocket) -> None:
    """Frames with a question each, which is about one version; the answers go back as they get ready."""
    service = service_of(websocket)
    if not _is_router(service, websocket):
        await websocket.close()  # a 403: there is nothing to accept yet
        return
    await websocket.accept()
    answering: set[asyncio.Task[None]] = set()
    try:
        while True:
            number, milliseconds, message = parts_of(await websocket.receive_bytes())
            task = asyncio.create_task(_answer(service, websocket, number, milliseconds / 1000, message))
            answering.add(task)
            task.add_done_callback(answering.discard)
    except WebSocketDisconnect:
        pass
    except (KeyError, ValueError):  # a text, or no frame
        with suppress(*GONE):
            await websocket.close(1003)
    finally:
        for task in answering:
            task.cancel()


async def _answer(service: Service, websocket: WebSocket, number: int, seconds: float, message: bytes) -> None:
    """Answer one question; whatever goes wrong, the router is told: it may ask another node."""
    began = time.perf_counter()
    kind = "unreadable"
    seconds = min(seconds, MAX_DEADLINE_MS / 1000)
    try:
        question = _read(message)
        kind = question.part.kind
        pool = service.pool_of("sql" if isinstance(question.part, Select) else "search")
        answer = await pool.run(_work(service, question, time.monotonic() + seconds), timeout_seconds=seconds)
        said = frame(number, ANSWERED, answer)
    except Exception as error:
        failure = Failure.of(error)
        if failure.kind == "failed":
            service.log.error("question failed", kind=kind, exc_info=error)
        said = frame(number, FAILED, failure.model_dump_json().encode())
    took = time.perf_counter() - began
    service.metrics.answered_question(kind, took)
    with suppress(*GONE, TimeoutError):  # nobody waits for it any longer
        async with asyncio.timeout(max(0.0, seconds - took) + SEND_SECONDS):
            await websocket.send_bytes(said)


def _read(message: bytes) -> Question:
    try:
        return decode_question(message)
    except ValueError as error:
        raise NodeFailed(f"this is no question that a node knows: {str(error).partition(chr(10))[0]}") from error


def _work(service: Service, question: Question, deadline: float) -> Callable[[], bytes]:
    """Return the work of answering; on a search's thread."""

    def work() -> bytes:
        asker = question.asker
        try:
            snapshot = service.collections.find(asker.collection).versions.at(asker.version)
        except Problem:  # the collection is gone, or has not been found yet
            snapshot = None
        if not isinstance(snapshot, Snapshot):
            raise NodeDiffers(f"version {asker.version} is not open on this node")
        with snapshot.pinned():
            return encode_answer(*answer_question(snapshot, question, deadline=deadline))

    return work


def _is_router(service: Service, asking: HTTPConnection) -> bool:
    """Whether who asks knows the secret."""
    sent = asking.headers.get("authorization", "").encode("latin-1")
    return hmac.compare_digest(sent, f"Bearer {service.settings.cluster.credential}".encode("ascii"))
