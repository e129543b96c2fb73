"""``demo``: the whole of Grebe on this machine, in a few minutes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from jobs.output import stdout

TEXT_WIDTH = 110
"""Columns where the tour is read off a log."""


def add_to(app: typer.Typer) -> None:
    """Add this module's command to ``app``."""
    app.command()(demo)


def demo(
    leave: Annotated[bool, typer.Option("--exit", help="End after the tour instead of serving on.")] = False,
    source: Annotated[
        Literal["delta", "snowflake"],
        typer.Option("--source", help="A Delta table, or one of an emulated Snowflake account."),
    ] = "delta",
    rows: Annotated[int | None, typer.Option("--rows", min=100, help="Take only so many rows.")] = None,
    folder: Annotated[
        Path, typer.Option("--folder", help="Where the demo keeps its files; emptied at the start.")
    ] = Path(".grebe/demo"),
) -> None:
    """Search the documentation of this Python's standard library, live.

    Writes it to a table, indexes it, searches it by meaning, by keyword and by SQL, changes the table and shows
    each change arrive; then serves until Ctrl-C.

    grebe demo --exit
    """
    from jobs.demo import run

    run(stdout(pipe_width=TEXT_WIDTH), folder, leave=leave, limit=rows, source=source)
