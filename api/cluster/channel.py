"""A router's connection to a node: any number of questions at once, and the answers as they get ready.

A request for each question would cost router and node several times what most answers take to find.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from contextlib import suppress
from typing import Any

import aiohttp
from pydantic import ValidationError

from api.cluster.failures import Failure
from api.cluster.wire import FAILED, MOST_QUESTION_BYTES, PREFIX, QUESTIONS, frame, parts_of
from retrieval.errors import NodeFailed, NodeUnavailable

OPEN_SECONDS = 2.0
HEARTBEAT_SECONDS = 4.0
"""A node that has said nothing for so long is asked whether it is there; half as long after, it is not."""
CLOSE_SECONDS = 1.0
NUMBERS = 1 << 32


class Channel:
    """Asks the node at ``url`` over one connection, which is opened when it is wanted and none is open.

    For the event loop of ``session`` alone.
    """

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session = session
        self._address = f"{url}{PREFIX}{QUESTIONS}"
        self._connection: _Connection | None = None
        self._opening: asyncio.Task[_Connection] | None = None

    async def ask(self, question: bytes, end: float) -> bytes:
        """Return the answer to ``question``, for which the node takes until ``end`` (time.monotonic()) at most.

        Raises :class:`retrieval.errors.NodeUnavailable` where there is no connection or it ends, and what the node's
        search raised. Who does not wait any longer cancels it.
        """
        if len(question) > MOST_QUESTION_BYTES:
            raise NodeFailed(f"a question of {len(question):,} bytes is larger than a node takes")
        connection = self._connection
        if connection is not None and not connection.ended:
            with suppress(_ConnectionEnded):  # which says nothing of the node yet: it may have begun anew
                return await connection.ask(question, end)
        return await (await self._opened()).ask(question, end)

    async def _opened(self) -> _Connection:
        """Return an open connection; whoever waits for one waits for the same attempt, and none of them ends it."""
        if self._connection is not None and not self._connection.ended:
            return self._connection
        if self._opening is None or self._opening.done():
            self._opening = asyncio.create_task(self._open())
            self._opening.add_done_callback(_retrieve)
        return await asyncio.shield(self._opening)

    async def _open(self) -> _Connection:
        self._connection = _Connection(await self._handshake())
        return self._connection

    async def _handshake(self) -> aiohttp.ClientWebSocketResponse:
        try:
            async with asyncio.timeout(OPEN_SECONDS):
                return await self._session.ws_connect(
                    self._address,
                    heartbeat=HEARTBEAT_SECONDS,
                    max_msg_size=0,  # a node bounds its answers
                    timeout=aiohttp.ClientWSTimeout(ws_close=CLOSE_SECONDS),
                )
        except aiohttp.WSServerHandshakeError as error:
            if error.status in (502, 503, 504):  # what is in front of it says that it is not there
                raise NodeUnavailable(f"a node's place answers with status {error.status}") from error
            raise NodeFailed(
                f"a node took no questions (status {error.status}): is its secret this router's, and does what is in "
                "front of it let WebSockets through?"
            ) from error
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise NodeUnavailable("none of its nodes can be reached") from error


class _ConnectionEnded(NodeUnavailable):
    """The connection ended before the answer came."""


class _Connection:
    """One WebSocket, for as long as it lasts."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.ended = False
        self._socket = socket
        self._numbers = itertools.count()
        self._waiting: dict[int, asyncio.Future[bytes]] = {}
        self._reading = asyncio.create_task(self._read())

    async def ask(self, question: bytes, end: float) -> bytes:
        """Return the answer; see :meth:`Channel.ask`. Raises _ConnectionEnded where none will come."""
        number = next(self._numbers) % NUMBERS
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        answer.add_done_callback(_retrieve)
        self._waiting[number] = answer
        milliseconds = max(1, int((end - time.monotonic()) * 1000))
        # aiohttp has all that wait for a full connection wait for one future: who is cancelled there would cancel all.
        sending = asyncio.ensure_future(self._socket.send_bytes(frame(number, milliseconds, question)))
        sending.add_done_callback(_retrieve)
        try:
            await asyncio.shield(sending)
            return await answer
        except (aiohttp.ClientError, OSError) as error:
            self.ended = True
            raise _ConnectionEnded("its connection broke") from error
        finally:
            self._waiting.pop(number, None)

    async def _read(self) -> None:
        try:
            async for message in self._socket:
                if message.type is not aiohttp.WSMsgType.BINARY:
                    break
                self._hear(message.data)
        except (aiohttp.ClientError, OSError, ValueError):  # it broke, or what answers there is no node
            pass
        finally:
            self.ended = True
            for answer in self._waiting.values():
                if not answer.done():
                    answer.set_exception(_ConnectionEnded("its connection ended"))
            await self._socket.close()

    def _hear(self, data: bytes) -> None:
        number, word, message = parts_of(data)
        answer = self._waiting.get(number)
        if answer is None or answer.done():  # nobody waits any longer
            return
        if word == FAILED:
            answer.set_exception(_error_of(message))
        else:
            answer.set_result(message)


def _retrieve(done: asyncio.Future[Any]) -> None:
    """Take note of an error that perhaps nobody waits for, so that it is not told as one that was forgotten."""
    if not done.cancelled():
        done.exception()


def _error_of(message: bytes) -> Exception:
    try:
        return Failure.model_validate_json(message).error()
    except ValidationError:
        return NodeFailed("what a node says of its failure cannot be read: is it of another release?")
