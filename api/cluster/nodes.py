"""A router's nodes: which of them are there and have what, and asking them.

Whatever goes over the network runs on an event loop of its own; searches wait for it on their threads. A part's nodes
stand in for each other: the nearest that answers is asked, after ``hedge_ms`` the next one as well, and at once where
one fails. Every question is a read, so asking twice is safe.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Coroutine, Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotInTime
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

import aiohttp
from pydantic import ValidationError

from api.cluster.channel import Channel
from api.cluster.settings import ClusterSettings
from api.cluster.versions import HeldVersion, HeldVersions, Served
from api.cluster.wire import PREFIX
from api.errors import PoolFull
from api.logs import Logger
from api.metrics import Metrics
from api.settings import MAX_DEADLINE_MS
from retrieval.distributed.messages import Asker, Part, Question, decode_answer, encode_question
from retrieval.distributed.routed import Answers
from retrieval.errors import DeadlineExceeded, NodeDiffers, NodeFailed, NodeUnavailable
from retrieval.share import Share

T = TypeVar("T")

POLL_TIMEOUT_SECONDS = 2.0
CONNECT_SECONDS = 1.0
RETRY_EVERY_SECONDS = 0.05
RETRY_SECONDS = 1.0
"""So long is it tried again where no node of a part answers: one may be starting anew."""
STOP_SECONDS = 5.0
ENDING = "it is ending"


def _event_loop() -> asyncio.AbstractEventLoop:
    """Return a loop as uvicorn's is."""
    try:
        import uvloop
    except ImportError:  # Windows
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


class Replica:
    """One node of a part, as the router knows it: its address, what it has open, and whether it answered last."""

    def __init__(self, url: str, part: int) -> None:
        self.url = url
        self.part = part
        self.held: Mapping[str, list[HeldVersion]] = {}
        self.is_up = False
        self.was_up = False
        self.trouble = "it has not answered yet"
        self._channels: dict[bool, Channel] = {}

    def connect(self, session: aiohttp.ClientSession) -> None:
        """Ask it by ``session`` from now on. Statements, whose answers may be large, have a connection of their own."""
        self._channels = {is_statement: Channel(session, self.url) for is_statement in (False, True)}

    def channel(self, kind: str) -> Channel:
        """Return where to ask it questions of ``kind``."""
        return self._channels[kind == "select"]

    def version(self, collection: str, version: int) -> HeldVersion | None:
        """Return the version if the node has it open."""
        return next((held for held in self.held.get(collection, ()) if held.version == version), None)


class HttpNodes:
    """The nodes that ``settings`` name; implements :class:`retrieval.distributed.routed.Nodes`."""

    def __init__(
        self, settings: ClusterSettings, *, poll_interval_seconds: float, log: Logger, metrics: Metrics
    ) -> None:
        self.parts = settings.parts
        self.served: dict[str, tuple[int, ...]] = {}
        self.wanted: dict[str, tuple[int, ...]] = {}
        self.replicas = [[Replica(url, part) for url in settings.addresses(part)] for part in range(settings.parts)]
        self._settings = settings
        self._interval = poll_interval_seconds
        self._log = log
        self._metrics = metrics
        self._loop = _event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="nodes", daemon=True)
        self._session: aiohttp.ClientSession | None = None

    def start(self) -> None:
        """Begin to look what the nodes have open."""
        self._thread.start()
        self._submit(self._connect()).result()
        for part in self.replicas:
            for replica in part:
                self._submit(self._poll(replica))

    def stop(self) -> None:
        """End what is under way."""
        if not self._thread.is_alive():
            return
        self._submit(self._disconnect()).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    def absent(self) -> list[int]:
        """Return the parts of which no node answers."""
        return [part for part, replicas in enumerate(self.replicas) if not any(each.is_up for each in replicas)]

    def versions(self, part: int, collection: str) -> set[int]:
        """Return the versions that some node of the part has open."""
        return {held.version for each in self.replicas[part] if each.is_up for held in each.held.get(collection, ())}

    def held(self, part: int, collection: str, version: int) -> HeldVersion | None:
        """Return what a part has of a version that one of its nodes has open."""
        found = (each.version(collection, version) for each in self.replicas[part])
        return next((held for held in found if held is not None), None)

    def ask(self, asker: Asker, questions: Mapping[int, Part], *, deadline: float | None) -> _Asked:
        """Begin to ask each part its question; see :class:`retrieval.distributed.routed.Nodes`."""
        end = time.monotonic() + MAX_DEADLINE_MS / 1000 if deadline is None else deadline
        written: dict[int, bytes] = {}
        for question in questions.values():  # usually one and the same for all
            if id(question) not in written:
                written[id(question)] = encode_question(Question(asker=asker, part=question))
        asking = [
            self._ask(part, asker, _Written(question.kind, written[id(question)]), end)
            for part, question in questions.items()
        ]
        return _Asked(tuple(questions), self._submit(_all(asking)), end)

    def _submit(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    async def _connect(self) -> None:
        self._session = aiohttp.ClientSession(
            headers={"Authorization": f"Bearer {self._settings.credential}"},
            connector=aiohttp.TCPConnector(limit=0),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS),
            trust_env=False,
        )
        for part in self.replicas:
            for replica in part:
                replica.connect(self._session)

    async def _disconnect(self) -> None:
        assert self._session is not None
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        if others:
            await asyncio.wait(others, timeout=STOP_SECONDS)
        await self._session.close()

    async def _poll(self, replica: Replica) -> None:
        """Keep what is known of a node up to date."""
        last = b""
        while True:
            try:
                # Not wait_for: in Python 3.11 a task that is cancelled as what it waits for ends goes on regardless.
                async with asyncio.timeout(POLL_TIMEOUT_SECONDS):
                    data = await self._versions(replica.url)
                if data != last:
                    replica.held = self._checked(replica, data)
                    last = data
                self._note(replica, None)
            except Exception as error:  # whatever it is, the node is looked for again
                self._note(replica, str(error) or type(error).__name__, is_wrong=isinstance(error, NodeFailed))
            await asyncio.sleep(self._interval)

    async def _versions(self, url: str) -> bytes:
        assert self._session is not None
        kept = {name: self.served.get(name, ()) + self.wanted.get(name, ()) for name in self.served | self.wanted}
        served = Served(collections=kept).model_dump_json().encode()
        asked = self._session.post(f"{url}{PREFIX}/versions", data=served, headers={"Content-Type": "application/json"})
        async with asked as response:
            data = await response.read()
            if response.status == 503:
                raise NodeUnavailable(ENDING)
            if response.status != 200:
                raise NodeFailed(f"it answers with status {response.status}: is its secret this router's?")
            return data

    def _checked(self, replica: Replica, data: bytes) -> Mapping[str, list[HeldVersion]]:
        """Return what a node says that it has; raises NodeFailed where it is not the node that it is taken for."""
        try:
            found = HeldVersions.model_validate_json(data)
        except ValidationError as error:
            raise NodeFailed("what it has open cannot be read: is it of another release?") from error
        expected = str(Share(replica.part, self.parts))
        if found.share != expected:
            raise NodeFailed(f"it holds the share {found.share} where {expected} was expected")
        return found.collections

    def _note(self, replica: Replica, trouble: str | None, *, is_wrong: bool = False) -> None:
        """Note whether a node answered; changes are logged."""
        where = {"part": replica.part, "node": replica.url}
        if trouble is None and not replica.is_up:
            self._log.info("node found", **where)
        elif trouble is not None and (replica.is_up or trouble != replica.trouble):
            if ENDING in (trouble, replica.trouble):  # on purpose
                self._log.info("node ends", **where, reason=trouble)
            elif is_wrong or replica.was_up:
                self._log.error("node lost", **where, reason=trouble)
            else:  # usual where all begin together
                self._log.warning("node not there yet", **where, reason=trouble)
        was_up = replica.is_up
        replica.is_up, replica.trouble = trouble is None, trouble or ""
        replica.was_up = replica.was_up or replica.is_up
        self._metrics.node_up.labels(replica.part, replica.url).set(float(replica.is_up))
        if was_up and replica.part in self.absent():
            self._log.error("part lost", part=replica.part, reason="no node of it answers, so searches get 503")

    def _order(self, part: int, asker: Asker) -> list[Replica]:
        """Return the nodes of a part, best first: those that answered last and have the version, then the nearest."""
        return sorted(
            self.replicas[part],
            key=lambda each: (not each.is_up, each.version(asker.collection, asker.version) is None),
        )

    async def _ask(self, part: int, asker: Asker, question: _Written, end: float) -> bytes:
        """Return the answer of one of a part's nodes, trying again for a while where none of them gives one."""
        give_up = min(end, time.monotonic() + RETRY_SECONDS)
        while True:
            try:
                return await self._ask_round(self._order(part, asker), question, end)
            except NodeUnavailable as error:
                if time.monotonic() + RETRY_EVERY_SECONDS > give_up:
                    raise NodeUnavailable(f"part {part} of {self.parts}: {error}") from error
            await asyncio.sleep(RETRY_EVERY_SECONDS)

    async def _ask_round(self, order: list[Replica], question: _Written, end: float) -> bytes:
        """Ask the first node, and each next one where those before fail or take long; return the first answer."""
        waiting = list(order)
        running: set[asyncio.Task[bytes]] = set()
        failed: Exception = NodeUnavailable("it has no nodes")
        try:
            while True:
                if waiting and not running:
                    running.add(asyncio.create_task(self._ask_one(waiting.pop(0), question, end)))
                hedge = self._settings.hedge_ms / 1000 if waiting else None
                left = max(0.0, end - time.monotonic())
                done, running = await asyncio.wait(
                    running,
                    timeout=left if hedge is None else min(left, hedge),
                    return_when=asyncio.FIRST_COMPLETED,
                )
                errors = [error for task in done if (error := task.exception()) is not None]
                if len(errors) < len(done):
                    return next(task.result() for task in done if task.exception() is None)
                for error in errors:
                    if not isinstance(error, NodeUnavailable | NodeDiffers | NodeFailed | PoolFull):
                        raise error
                    failed = error
                if time.monotonic() >= end:
                    raise DeadlineExceeded("the nodes' answers were not ready by the deadline")
                if not done and waiting:
                    self._metrics.hedged.inc()
                    running.add(asyncio.create_task(self._ask_one(waiting.pop(0), question, end)))
                elif not running and not waiting:
                    raise failed
        finally:
            for task in running:
                task.cancel()
            for task in running:
                with suppress(asyncio.CancelledError, Exception):
                    await task

    async def _ask_one(self, replica: Replica, question: _Written, end: float) -> bytes:
        began = time.perf_counter()
        answer = await replica.channel(question.kind).ask(question.data, end)
        self._metrics.node_answered(replica.part, time.perf_counter() - began)
        return answer


@dataclass(frozen=True, slots=True)
class _Written:
    """A question as it goes over the network."""

    kind: str
    data: bytes


async def _all(asking: Sequence[Coroutine[Any, Any, bytes]]) -> list[bytes]:
    """Return all answers; raises the first error at once, and nothing is waited for any longer."""
    tasks = [asyncio.create_task(each) for each in asking]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()


@dataclass(frozen=True, slots=True)
class _Asked:
    """Questions on their way to ``parts``; ``end`` is time.monotonic()'s."""

    parts: tuple[int, ...]
    _asked: Future[list[bytes]]
    _end: float

    def answers(self) -> Answers:
        """Return the answers once all are there; see :class:`retrieval.distributed.routed.Asked`."""
        try:
            said = self._asked.result(max(0.0, self._end - time.monotonic()))
        except NotInTime:
            raise DeadlineExceeded("the nodes' answers were not ready by the deadline") from None
        finally:
            self.cancel()
        return {part: decode_answer(data) for part, data in zip(self.parts, said, strict=True)}

    def cancel(self) -> None:
        """Say that nobody waits for the answers; see :class:`retrieval.distributed.routed.Asked`."""
        self._asked.cancel()
