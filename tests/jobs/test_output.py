"""JSON on stdout is JSON, in the forms that the server sends."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import sys
import time
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from rich.console import Console

from api.encoding import encode
from jobs.output import interrupts_told, print_json, stdout, table


def test_nothing_in_a_table_is_taken_for_markup_or_steers_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    stdout().print(table(["[red]", "[/bold]"], [["[blink]x[/blink]", "a\x1b[2Jb"]]))

    assert capsys.readouterr().out.split() == ["[red]", "[/bold]", "[blink]x[/blink]", "a\\x1b[2Jb"]


def test_every_value_is_printed_as_the_server_sends_it(capsys: pytest.CaptureFixture[str]) -> None:
    value = {
        "nan": float("nan"),
        "raw": b"ab",
        "price": Decimal("1.10"),
        "at": datetime(2026, 1, 1, 12, tzinfo=UTC),
        "key": ("a", 1),
        "wide": 2**70,
        "text": "\u00fc",
    }
    print_json(value)
    out = capsys.readouterr().out
    assert json.loads(out, parse_constant=pytest.fail) == {
        "nan": None,
        "raw": "YWI=",
        "price": "1.10",
        "at": "2026-01-01T12:00:00Z",
        "key": ["a", 1],
        "wide": str(2**70),
        "text": "\u00fc",
    }
    assert json.loads(out) == json.loads(encode(value))
    assert '"text": "\u00fc"' in out


@pytest.mark.parametrize(
    ("width", "shown"),
    [
        (30, ["collection  state      rows", "books       followed      3", "[b]         held      1,000"]),
        (20, ["collection  books", "state       followed", "rows        3", "", "collection  [b]", "state       held"]),
    ],
)
def test_where_words_would_be_broken_rows_come_one_below_the_other(width: int, shown: list[str]) -> None:
    screen = Console(width=width)
    with screen.capture() as printed:
        screen.print(table(("collection", "state", "rows"), [("books", "followed", 3), ("[b]", "held", 1000)]))
    assert [line.rstrip() for line in printed.get().splitlines()][: len(shown)] == shown


@pytest.mark.parametrize(
    ("width", "on_terminal", "columns"),
    [
        (40, True, ["version", "read", "deleted", "changed"]),
        (35, True, ["version", "deleted", "changed"]),
        (24, True, ["version", "changed"]),
        (18, True, ["version", "changed"]),
        (35, False, ["version", "read", "deleted", "changed"]),
    ],
)
def test_a_narrow_terminal_shows_fewer_columns(width: int, on_terminal: bool, columns: list[str]) -> None:
    screen = Console(width=width, force_terminal=on_terminal, color_system=None)
    names, row = ("version", "read", "deleted", "changed"), (7, 1000, 10, "text, columns")
    with screen.capture() as printed:
        screen.print(table(names, [row], spare=("read", "deleted")))
    assert printed.get().splitlines()[0].split() == columns


def test_no_word_is_broken_where_there_is_room_for_it() -> None:
    screen = Console(width=52)
    row = ("model", "sentence-transformers/all: 384 wide", "not needed; the CPU does everything")
    with screen.capture() as printed:
        screen.print(table(("check", "found", "what to do"), [row]))
    assert [line.rstrip() for line in printed.get().splitlines()] == [
        "check  found                       what to do",
        "model  sentence-transformers/all:  not needed; the",
        "       384 wide                    CPU does",
        "                                   everything",
    ]


def test_without_rows_there_are_headings() -> None:
    screen = Console(width=8)
    with screen.capture() as printed:
        screen.print(table(("collection", "state"), []))
    assert printed.get().strip()


def test_an_interrupt_is_told_and_ends_the_block(capfd: pytest.CaptureFixture[str]) -> None:
    before = signal.getsignal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt), interrupts_told("What was done stays."):
        signal.raise_signal(signal.SIGINT)

    assert capfd.readouterr().err == "What was done stays.\n"
    assert signal.getsignal(signal.SIGINT) is before


def test_an_interrupt_answers_a_question_at_once() -> None:
    child, terminal = pty.fork()
    if child == 0:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # a shell's background jobs ignore it, and so would this one
        asking = "import polars\nfrom jobs.output import confirmed\nconfirmed('Really?')"
        os.execv(sys.executable, [sys.executable, "-c", asking])
    said, end = b"", time.monotonic() + 60
    while b"CommandError" not in said and time.monotonic() < end:
        if select.select([terminal], [], [], 0.2)[0]:
            try:
                said += os.read(terminal, 4096)
            except OSError:  # the other end is closed
                break
        elif b"y/N" in said:
            os.write(terminal, b"\x03")
    os.waitpid(child, 0)
    os.close(terminal)
    assert b"nothing was done: interrupted" in said
