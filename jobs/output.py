"""What the command prints: results on stdout as a table or as JSON, everything else on stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table


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
        "--store", help="A folder or s3://bucket/prefix.  [default: GREBE_STORE, or .grebe/store]", show_default=False
    ),
]


PIPE_WIDTH = 200
"""Columns of a table that is not read on a terminal: wide enough that cells seldom wrap."""


def stdout(*, pipe_width: int = PIPE_WIDTH) -> Console:
    """Return a console on stdout; made anew, because a test replaces the stream."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else pipe_width)


def stderr() -> Console:
    """Return a console on stderr, for progress, notes and errors."""
    return Console(stderr=True, highlight=False)


def note(text: str) -> None:
    """Say something that is not the result."""
    stderr().print(escape(text), soft_wrap=True)


def print_json(value: Any) -> None:
    """Print ``value`` as JSON, in the forms that the server sends too, and nothing else."""
    # Here, because it brings NumPy along and `grebe --help` needs none.
    from api.encoding import encode

    typer.echo(json.dumps(json.loads(encode(value)), indent=2, ensure_ascii=False))


def table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> Table:
    """Return a plain table; numbers are set right, None is a dash, and nothing in a cell is taken for markup."""
    made = Table(box=None, header_style="bold", pad_edge=False)
    for number, name in enumerate(columns):
        numeric = bool(rows) and all(isinstance(row[number], int | float) for row in rows if row[number] is not None)
        made.add_column(name, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        made.add_row(*(escape(cell(value)) for value in row))
    return made


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
