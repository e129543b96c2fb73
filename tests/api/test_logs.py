"""Logs: JSON for programs, lines to read on a terminal, and no values of variables in either."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from api.logs import Logger, open_log
from tests.api.library import Library, book


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


def test_off_a_terminal_all_that_a_server_says_is_json(library: Library, tmp_path: Path) -> None:
    library.commit(1, [book(1)])
    environment = {**os.environ, "GREBE_CACHE": str(tmp_path / "cache")}
    command = [sys.executable, "-m", "jobs", "serve", "--port", "0", "--store", str(library.root)]
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        lines = []
        for text in process.stderr:
            lines.append(json.loads(text))
            if "Serving on http://127.0.0.1:" in lines[-1]["event"]:
                process.terminate()
    assert process.returncode == 0
    assert any(line["event"].startswith("Opening the store's collections") for line in lines)
