from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from api.cluster import channel as channel_module
from api.cluster.channel import Channel
from api.cluster.failures import Failure
from api.cluster.wire import ANSWERED, FAILED, MOST_QUESTION_BYTES, frame, parts_of
from retrieval.errors import NodeDiffers, NodeFailed, NodeUnavailable

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def asking(handler: Handler, *asks: Callable[[Channel], Awaitable[Any]]) -> list[Any]:
    """Return what each of ``asks`` returns or raises, one after another, of a channel to what ``handler`` serves."""

    async def run() -> list[Any]:
        application = web.Application()
        application.router.add_get("/node/v1/questions", handler)
        async with TestServer(application) as server, aiohttp.ClientSession() as session:
            channel = Channel(session, str(server.make_url("")).rstrip("/"))
            found: list[Any] = []
            for ask in asks:
                (answer,) = await asyncio.wait_for(asyncio.gather(ask(channel), return_exceptions=True), 20)
                found.append(answer)
            return found

    return asyncio.run(run())


def node(answer: Callable[[web.WebSocketResponse, bytes], Awaitable[None]]) -> Handler:
    """Return a node that says whatever ``answer`` sends to each message."""

    async def handler(request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for message in socket:
            await answer(socket, message.data)
        return socket

    return handler


async def hello(channel: Channel) -> bytes:
    return await channel.ask(b"hello", time.monotonic() + 9)


def test_answers_find_their_questions_whatever_their_order() -> None:
    held: list[tuple[int, bytes]] = []

    async def answer(socket: web.WebSocketResponse, data: bytes) -> None:
        number, milliseconds, message = parts_of(data)
        assert 2000 < milliseconds <= 9000
        held.append((number, message))
        if len(held) == 3:
            for number, message in reversed(held):
                await socket.send_bytes(frame(number, ANSWERED, message.upper()))

    async def three(channel: Channel) -> list[bytes]:
        return await asyncio.gather(*(channel.ask(word, time.monotonic() + 9) for word in (b"one", b"two", b"three")))

    assert asking(node(answer), three) == [[b"ONE", b"TWO", b"THREE"]]


def test_what_a_node_raised_is_raised_here() -> None:
    said = [Failure.of(NodeDiffers("version 3 is not open")).model_dump_json().encode(), b"{"]

    async def answer(socket: web.WebSocketResponse, data: bytes) -> None:
        await socket.send_bytes(frame(parts_of(data)[0], FAILED, said.pop(0)))

    first, second = asking(node(answer), hello, hello)
    assert isinstance(first, NodeDiffers)
    assert str(first) == "version 3 is not open"
    assert isinstance(second, NodeFailed)
    assert "another release" in str(second)


def test_questions_of_a_connection_that_ends_are_asked_once_more_on_another() -> None:
    """A new one that ends as well says that the node is not there."""
    ends = [True, False, True, True]

    async def answer(socket: web.WebSocketResponse, data: bytes) -> None:
        if ends.pop(0):
            await socket.close()
        else:
            await socket.send_bytes(frame(parts_of(data)[0], ANSWERED, b"yes"))

    first, second, third = asking(node(answer), hello, hello, hello)
    assert isinstance(first, NodeUnavailable)
    assert second == b"yes"
    assert isinstance(third, NodeUnavailable)
    assert not ends


def test_who_gives_up_while_the_connection_is_full_takes_nobody_along() -> None:
    """aiohttp has all senders of a full connection wait for one future."""

    async def stuck(request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse(max_msg_size=0)
        await socket.prepare(request)
        assert request.transport is not None
        request.transport.pause_reading()
        await asyncio.sleep(1)
        request.transport.resume_reading()
        async for message in socket:
            await socket.send_bytes(frame(parts_of(message.data)[0], ANSWERED, b"yes"))
        return socket

    async def impatient(channel: Channel) -> None:
        await asyncio.wait_for(channel.ask(bytes(1 << 22), time.monotonic() + 9), 0.3)

    async def twelve(channel: Channel) -> list[Any]:
        large = (channel.ask(bytes(1 << 22), time.monotonic() + 9) for _ in range(6))
        return await asyncio.gather(*(impatient(channel) for _ in range(6)), *large, return_exceptions=True)

    (found,) = asking(stuck, twelve)
    assert [type(each) for each in found[:6]] == [TimeoutError] * 6
    assert found[6:] == [b"yes"] * 6


def test_a_question_that_cannot_be_sent_is_asked_once_more_on_another() -> None:
    async def answer(socket: web.WebSocketResponse, data: bytes) -> None:
        await socket.send_bytes(frame(parts_of(data)[0], ANSWERED, b"yes"))

    async def after_an_abort(channel: Channel) -> list[bytes]:
        await hello(channel)
        connection = vars(channel)["_connection"]
        vars(connection)["_socket"]._writer._closing = True  # as where it is about to end
        return await asyncio.gather(*(hello(channel) for _ in range(3)))

    assert asking(node(answer), after_an_abort) == [[b"yes"] * 3]


def test_who_waits_for_a_connection_waits_for_the_same_attempt_and_ends_it_for_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(channel_module, "OPEN_SECONDS", 2.0)
    attempts: list[float] = []

    async def slow(request: web.Request) -> web.StreamResponse:
        attempts.append(time.monotonic())
        await asyncio.sleep(0.4 if len(attempts) == 1 else 5)
        return await node(answer)(request)

    async def answer(socket: web.WebSocketResponse, data: bytes) -> None:
        await socket.send_bytes(frame(parts_of(data)[0], ANSWERED, b"yes"))
        await socket.close()

    async def impatient(channel: Channel) -> None:
        await asyncio.wait_for(hello(channel), 0.1)

    async def eight(channel: Channel) -> list[Any]:
        return await asyncio.gather(*(hello(channel) for _ in range(8)), return_exceptions=True)

    began = time.monotonic()
    first, second, lost = asking(slow, impatient, hello, eight)
    assert isinstance(first, TimeoutError)
    assert second == b"yes"  # of the attempt that the first did not wait for
    assert [type(each) for each in lost] == [NodeUnavailable] * 8
    assert len(attempts) == 2
    assert time.monotonic() - began < 10  # and not eight times two


@pytest.mark.parametrize("said", [b"short", "a text"])
def test_what_is_no_frame_ends_the_connection(said: bytes | str) -> None:
    async def answer(socket: web.WebSocketResponse, _: bytes) -> None:
        await (socket.send_str(said) if isinstance(said, str) else socket.send_bytes(said))

    (found,) = asking(node(answer), hello)
    assert isinstance(found, NodeUnavailable)


def test_who_does_not_wait_any_longer_holds_nobody_up() -> None:
    late: list[int] = []

    async def answer(socket: web.WebSocketResponse, data: bytes) -> None:
        number = parts_of(data)[0]
        if not late:
            late.append(number)
            return
        for each in (*late, 4_000_000_000, number):
            await socket.send_bytes(frame(each, ANSWERED, b"yes"))

    async def impatient(channel: Channel) -> None:
        await asyncio.wait_for(hello(channel), 0.2)

    first, second = asking(node(answer), impatient, hello)
    assert isinstance(first, TimeoutError)
    assert second == b"yes"


@pytest.mark.parametrize(
    ("status", "expected", "told"),
    [
        (403, NodeFailed, "secret"),
        (404, NodeFailed, "WebSockets"),
        (502, NodeUnavailable, "502"),
        (503, NodeUnavailable, "503"),
        (504, NodeUnavailable, "504"),
    ],
)
def test_a_place_that_takes_no_questions_says_why(status: int, expected: type[Exception], told: str) -> None:
    async def refuse(_: web.Request) -> web.StreamResponse:
        return web.Response(status=status)

    (found,) = asking(refuse, hello)
    assert type(found) is expected
    assert told in str(found)


def test_a_silent_place_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel_module, "OPEN_SECONDS", 0.2)

    async def silent(_: web.Request) -> web.StreamResponse:
        await asyncio.sleep(5)
        return web.Response()

    (found,) = asking(silent, hello)
    assert isinstance(found, NodeUnavailable)


def test_a_node_that_falls_silent_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that answers no ping: its host may be gone, and nothing says so."""
    monkeypatch.setattr(channel_module, "HEARTBEAT_SECONDS", 0.2)

    async def deaf(request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse(autoping=False)
        await socket.prepare(request)
        async for _ in socket:
            pass
        return socket

    (found,) = asking(deaf, hello)
    assert isinstance(found, NodeUnavailable)


def test_a_question_that_no_node_takes_is_not_sent() -> None:
    async def large(channel: Channel) -> bytes:
        return await channel.ask(bytes(MOST_QUESTION_BYTES + 1), time.monotonic() + 9)

    async def answer(socket: web.WebSocketResponse, data: bytes) -> None:
        raise AssertionError

    (found,) = asking(node(answer), large)
    assert isinstance(found, NodeFailed)
