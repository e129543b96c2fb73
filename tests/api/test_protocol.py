"""What is no HTTP request is answered with a problem too, whichever parser uvicorn uses."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from urllib.parse import urlsplit

import pytest
from uvicorn.protocols.http.auto import AutoHTTPProtocol
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from api.logs import open_log
from api.metrics import Metrics
from api.protocol import DETAIL, LINGER_S, http_protocol
from api.server import serving
from tests.api.conftest import LogLines, settings_for


@pytest.fixture(scope="module", params=[HttpToolsProtocol, H11Protocol])
def address(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, int]]:
    """The address of a server that reads requests with the protocol given."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("api.server.http_protocol", partial(http_protocol, base=request.param))
        with serving(settings_for(tmp_path_factory.mktemp("unread")), log=open_log(LOG)) as url:
            parts = urlsplit(url)
            assert parts.hostname is not None
            assert parts.port is not None
            yield parts.hostname, parts.port


LOG = LogLines()


@pytest.mark.parametrize(
    "raw",
    [
        b"what is this\r\n\r\n",
        "GET /v1/collections/b\u00fccher HTTP/1.1\r\nHost: localhost\r\n\r\n".encode(),
        b"GET / HTTP/1.1\r\nHost localhost\r\n\r\n",
    ],
    ids=["request line", "not ASCII", "header"],
)
def test_an_unreadable_request_is_a_problem_with_an_id(address: tuple[str, int], raw: bytes) -> None:
    head, body = said(address, raw)
    problem = json.loads(body)
    assert head[0] == "HTTP/1.1 400 Bad Request"
    assert {"content-type: application/problem+json", f"content-length: {len(body)}", "connection: close"} <= set(head)
    assert f"x-request-id: {problem['request_id']}" in head
    assert (problem["status"], problem["code"], problem["detail"]) == (400, "bad-request", DETAIL)
    assert problem["request_id"] in {line.get("request_id") for line in LOG.lines()}


def test_an_address_that_is_too_long_is_a_problem_with_an_id(address: tuple[str, int]) -> None:
    head, body = said(address, b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    # h11 takes one that comes all at once; there is nothing at that address then.
    assert head[0] in ("HTTP/1.1 400 Bad Request", "HTTP/1.1 404 Not Found")
    assert {"content-type: application/problem+json", f"x-request-id: {json.loads(body)['request_id']}"} <= set(head)


def test_the_answer_to_an_unreadable_request_outlives_what_comes_after_it(address: tuple[str, int]) -> None:
    with socket.create_connection(address, timeout=60) as connection:
        connection.sendall(b"what is this\r\n\r\n")
        started = time.monotonic()
        answer = connection.recv(65_536)
        for _ in range(20):  # to a socket that is closed, the second of them fails
            connection.sendall(b"a" * 100_000)
        connection.shutdown(socket.SHUT_WR)
        answer += read(connection)
    assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["code"] == "bad-request"
    assert time.monotonic() - started < LINGER_S + 1


def test_requests_under_way_do_not_write_after_an_answer_that_ends_the_connection(address: tuple[str, int]) -> None:
    good = b"GET /v1/collections HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with socket.create_connection(address, timeout=60) as connection:
        connection.sendall(good * 2 + b"what is this\r\n\r\n")
        with suppress(ConnectionResetError):
            read(connection)
    with socket.create_connection(address, timeout=60) as connection:
        connection.sendall(good.replace(b"localhost", b"localhost\r\nConnection: close"))
        read(connection)

    assert [line for line in LOG.lines() if line["level"] == "error"] == []


def test_a_client_that_says_no_more_is_not_waited_for(address: tuple[str, int]) -> None:
    with socket.create_connection(address, timeout=60) as connection:
        connection.sendall(b"what is this\r\n\r\n")
        started = time.monotonic()
        assert read(connection).startswith(b"HTTP/1.1 400 Bad Request\r\n")
        assert time.monotonic() - started < LINGER_S / 2  # its end is said at once
        while is_read(connection):  # and the server leaves soon
            assert time.monotonic() - started < LINGER_S + 10
            time.sleep(0.1)


def test_a_readable_request_is_answered_as_ever(address: tuple[str, int]) -> None:
    head, body = said(address, b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    assert (head[0], json.loads(body)["status"]) == ("HTTP/1.1 200 OK", "ok")


def test_the_parser_that_uvicorn_picks_is_the_one_used() -> None:
    picked: type[asyncio.Protocol] = http_protocol(open_log(LogLines()), Metrics())
    assert issubclass(picked, AutoHTTPProtocol)


def said(address: tuple[str, int], raw: bytes) -> tuple[list[str], bytes]:
    """Send ``raw`` and return the lines of the answer's head, and its body."""
    with socket.create_connection(address, timeout=60) as connection:
        connection.sendall(raw)
        answer = read(connection)
    head, _, body = answer.partition(b"\r\n\r\n")
    return head.decode("ascii").split("\r\n"), body


def read(connection: socket.socket) -> bytes:
    """Everything that the server says until it says its end."""
    answer = b""
    while part := connection.recv(65_536):
        answer += part
    return answer


def is_read(connection: socket.socket) -> bool:
    """Say one byte more, and whether the server still takes any."""
    try:
        connection.sendall(b"a")
    except (ConnectionResetError, BrokenPipeError):
        return False
    return True
