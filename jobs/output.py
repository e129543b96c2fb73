"""What the command prints: results on stdout as a table or as JSON, everything else on stderr."""

from __future__ import annotations

import json
import logging
import re
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import replace
from datetime import UTC, datetime
from enum import StrEnum
from types import FrameType
from typing import Annotated, Any

import typer
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.markup import escape
from rich.measure import Measurement
from rich.table import Table

from jobs.errors import CommandError
from jobs.settings import Settings


class Format(StrEnum):
    """How a result is printed."""

    TABLE = "table"
    JSON = "json"


Output = Annotated[
    Format, typer.Option("--output", "-o", help="A table to read, or JSON for a script.", show_default=True)
]
StoreOption = Annotated[
    str | None,
    typer.Option(
        "--store",
        help="A folder, or a bucket: s3://, abfss://, az:// or gs://.  [default: GREBE_STORE, or .grebe/store]",
        show_default=False,
    ),
]

NEEDED_BY_SYNCS = ("pyspark", "delta", "py4j", "snowflake")
NO_SPARK = "what reads tables is not installed here: pip install 'grebe[spark]', or use the image for syncs"

_STEERING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")

PIPE_WIDTH = 200
"""Columns of a table that is not read on a terminal: wide enough that cells seldom wrap."""


def stdout(*, pipe_width: int = PIPE_WIDTH) -> Console:
    """Return a console on stdout; made anew, because a test replaces the stream."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else pipe_width)


_SPEAKING: list[Console] = []
"""The console whose bars are on the screen: what is said beside them goes through it, or they would write over it."""


def stderr() -> Console:
    """Return a console on stderr, for progress, notes and errors."""
    return _SPEAKING[-1] if _SPEAKING else Console(stderr=True, highlight=False)


@contextmanager
def speaking_on(console: Console) -> Iterator[None]:
    """Let notes and errors of the block go through ``console``."""
    _SPEAKING.append(console)
    try:
        yield
    finally:
        _SPEAKING.remove(console)


def note(text: str) -> None:
    """Say something that is not the result."""
    stderr().print(escape(text), soft_wrap=True)


def confirmed(question: str) -> bool:
    """Ask a person; raises :class:`jobs.errors.CommandError` where nobody answers, or at Ctrl-C."""
    if threading.current_thread() is threading.main_thread():
        signal.siginterrupt(signal.SIGINT, True)  # polars' handler lets a read go on, so that Ctrl-C waits for Enter
    try:
        return typer.confirm(question, err=True)
    except typer.Abort as error:
        if isinstance(error.__context__, KeyboardInterrupt):
            raise CommandError("nothing was done: interrupted") from error
        raise CommandError("nothing was done, because nobody answered; to go on without being asked: --yes") from error


@contextmanager
def interrupts_told(text: str) -> Iterator[None]:
    """Say ``text`` at Ctrl-C and end the block with :class:`KeyboardInterrupt`.

    PySpark would put a handler of its own in Python's place, which asks a JVM to cancel its jobs from within the answer
    that is being read from it.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(_signal: int, _frame: FrameType | None) -> None:
        note(text)
        logging.disable()  # py4j logs what ends a call to the JVM, stack and all
        raise KeyboardInterrupt

    before, disabled = signal.signal(signal.SIGINT, stop), logging.root.manager.disable
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        logging.disable(disabled)


def tell(error: Exception, *, about: str | None = None) -> None:
    """Say what went wrong in one sentence, ``about`` the collection of that name if it is one of several."""
    screen = stderr()
    if Settings.read().debug:
        screen.print(escape("".join(traceback.format_exception(error))), soft_wrap=True)
    said = sentence(error)
    prefix = f"{about}: " if about and not said.startswith(f"{about}: ") else ""
    screen.print(f"[bold red]error:[/] {escape(prefix + said)}", soft_wrap=True)
    excerpt = getattr(error, "excerpt", None)
    if callable(excerpt) and excerpt():
        screen.print(escape(str(excerpt())), soft_wrap=True)


def sentence(error: Exception) -> str:
    """Return what ``error`` says if it is one of ours; for any other, that it was not foreseen.

    >>> from indexer.errors import StoreError
    >>> sentence(StoreError("the disk is full: make room"))
    'the disk is full: make room'
    >>> sentence(ModuleNotFoundError("No module named 'pyspark'", name="pyspark"))
    "what reads tables is not installed here: pip install 'grebe[spark]', or use the image for syncs"
    >>> sentence(KeyError("x"))
    "unexpected KeyError: 'x' (GREBE_DEBUG=1 shows where it came from)"
    """
    if isinstance(error, ModuleNotFoundError) and (error.name or "").split(".")[0] in NEEDED_BY_SYNCS:
        return NO_SPARK
    text = str(error).strip() + _meant(error)
    if is_ours(error) and text:
        return text
    first = text.splitlines()[0] if text else "no message"
    return f"unexpected {type(error).__name__}: {first} (GREBE_DEBUG=1 shows where it came from)"


def is_ours(error: Exception) -> bool:
    """Say whether the error is of one of our rooms, whose messages are meant for people."""
    return type(error).__module__.startswith(("connectors.", "indexer.", "retrieval.", "api.", "jobs."))


def _meant(error: Exception) -> str:
    """Return the collection that was probably meant by a name that the store does not have."""
    from indexer.errors import CollectionNotFound, IndexerError
    from indexer.suggestion import did_you_mean

    if not isinstance(error, CollectionNotFound):
        return ""
    try:
        return did_you_mean(error.name, error.others())
    except IndexerError:  # a store that does not list itself
        return ""


def print_json(value: Any) -> None:
    """Print ``value`` as JSON, in the forms that the server sends too, and nothing else."""
    # Here, because it brings NumPy along and `grebe --help` needs none.
    from api.encoding import encode

    typer.echo(json.dumps(json.loads(encode(value)), indent=2, ensure_ascii=False))


COLUMN_GAP = 2
"""Columns of a terminal between two of a table."""


class _Fitted:
    """The first of ``tables`` that fits or, where words would have to be broken for the last one, each row as lines."""

    def __init__(self, tables: Sequence[Table], columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        self._tables, self._columns, self._rows = tables, columns, rows

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield what fits."""
        tables = self._tables if console.is_terminal else self._tables[:1]
        anywhere = options.update(max_width=sys.maxsize)
        needed = [Measurement.get(console, anywhere, each) for each in tables]
        fitting = [each for each, size in zip(tables, needed, strict=True) if size.maximum <= options.max_width]
        if fitting or not self._rows or needed[-1].minimum <= options.max_width:
            yield fitting[0] if fitting else _narrowed(tables[-1], console, options)
            return
        for number, row in enumerate(self._rows):
            lines = Table.grid(padding=(0, 2))
            lines.add_column(style="bold", no_wrap=True)
            lines.add_column(overflow="fold")
            for name, value in zip(self._columns, row, strict=True):
                lines.add_row(name, value)
            if number:
                yield ""
            yield lines


def _narrowed(made: Table, console: Console, options: ConsoleOptions) -> Table:
    """Return the table with no column narrower than its longest word, and what is left given to the tallest ones.

    Rich takes room from the widest ones until they are equally wide, and breaks the words that are too long for that.
    """
    anywhere, narrow = options.update(max_width=sys.maxsize), copy(made)
    sizes = [
        [Measurement.get(console, anywhere, cell) for cell in (column.header, *column.cells)] for column in made.columns
    ]
    widths, lines = ([max(size[kind] for size in column) for column in sizes] for kind in (0, 1))
    for _ in range(options.max_width - sum(widths) - COLUMN_GAP * (len(widths) - 1)):
        tallest = max(range(len(widths)), key=lambda at: lines[at] / max(1, widths[at]))
        widths[tallest] += 1
    narrow.columns = [replace(column, width=width) for column, width in zip(made.columns, widths, strict=True)]
    return narrow


def table(
    columns: Sequence[str],
    rows: Sequence[Sequence[object]],
    show: Callable[[object], str] | None = None,
    *,
    spare: Sequence[str] = (),
) -> RenderableType:
    """Return a plain table; numbers are set right, values as ``show`` shows them, and none is taken for markup.

    Without ``show`` it is :func:`cell`. Where the terminal is too narrow, columns of ``spare`` are left out, from the
    first on; where it is so for the longest words, the rows come one below the other.
    """
    shown = [[escape(printable((show or cell)(value))) for value in row] for row in rows]
    tables = [_made(columns, rows, shown, without=spare[:out]) for out in range(len(spare) + 1)]
    return _Fitted(tables, columns, shown)


def _made(
    columns: Sequence[str], rows: Sequence[Sequence[object]], shown: Sequence[Sequence[str]], *, without: Sequence[str]
) -> Table:
    made = Table(box=None, header_style="bold", pad_edge=False)
    kept = [number for number, name in enumerate(columns) if name not in without]
    for number in kept:
        name = columns[number]
        numeric = bool(rows) and all(isinstance(row[number], int | float) for row in rows if row[number] is not None)
        words = not any(" " in text for text in (name, *(cells[number] for cells in shown)))  # nowhere to wrap
        made.add_column(escape(printable(name)), justify="right" if numeric else "left", overflow="fold", no_wrap=words)
    for cells in shown:
        made.add_row(*(cells[number] for number in kept))
    return made


def printable(text: str) -> str:
    """Return ``text`` with what would steer a terminal written out.

    >>> print(printable("red: \\x1b[31m"))
    red: \\x1b[31m
    """
    return _STEERING.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


def plain(value: object) -> str:
    """Return a row's ``value`` as a table shows it: whole numbers as they are, because they may be years or keys.

    >>> plain(2011), plain(0.5), plain([1999, None])
    ('2011', '0.5000', '1999, -')
    """
    if isinstance(value, list | tuple):
        return ", ".join(map(plain, value))
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else cell(value)


def cell(value: object) -> str:
    """Return ``value`` as a table shows it.

    >>> [cell(value) for value in (None, 1234567, 0.98765, ["a", 1])]
    ['-', '1,234,567', '0.9877', 'a, 1']
    """
    match value:
        case None:
            return "-"
        case bool():
            return "yes" if value else "no"
        case int():
            return f"{value:,}"
        case float():
            return f"{value:.4f}"
        case list() | tuple():
            return ", ".join(map(cell, value))
        case datetime():
            return value.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        case _:
            return str(value)
