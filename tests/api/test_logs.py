"""Logs: JSON for programs, lines to read on a terminal, and no values of variables in either."""

from __future__ import annotations

import io
import json
import re
import sys

import pytest

from api.logs import Logger, open_log


class Terminal(io.TextIOWrapper):
    """Stderr, as far as a log can tell."""

    def __init__(self, *, isatty: bool) -> None:
        super().__init__(io.BytesIO(), encoding="utf-8")
        self._isatty = isatty

    def isatty(self) -> bool:
        return self._isatty

    def text(self) -> str:
        self.flush()
        assert isinstance(self.buffer, io.BytesIO)
        return self.buffer.getvalue().decode()


def written(monkeypatch: pytest.MonkeyPatch, *, isatty: bool) -> str:
    terminal = Terminal(isatty=isatty)
    monkeypatch.setattr(sys, "stderr", terminal)
    log = open_log()
    route = "/v1/collections/{name}/search"
    log.info("request", method="POST", route=route, collection="books", status=200, latency_ms=1.3949, version=7)
    fail(log, "hunter2")
    return terminal.text()


def fail(log: Logger, secret: str) -> None:
    try:
        raise RuntimeError(f"of {len(secret)} letters")
    except RuntimeError as error:
        log.error("request failed", exc_info=error)


def test_a_pipe_gets_one_json_object_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    request, failed = map(json.loads, written(monkeypatch, isatty=False).splitlines())

    assert (request["event"], request["status"], request["level"]) == ("request", 200, "info")
    assert "RuntimeError: of 7 letters" in failed["exception"]


def test_a_stream_that_is_given_gets_json_also_beside_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", Terminal(isatty=True))
    given = io.BytesIO()

    open_log(given).info("request")

    assert json.loads(given.getvalue())["event"] == "request"


def test_a_terminal_gets_lines_to_read(monkeypatch: pytest.MonkeyPatch) -> None:
    said = written(monkeypatch, isatty=True)

    first = said.splitlines()[0]
    assert re.search(r"\d\d:\d\d:\d\d.*POST /v1/collections/books/search 200 1\.4 ms", first)
    assert "version" not in first
    assert "RuntimeError: of 7 letters" in said
    assert "hunter2" not in said
