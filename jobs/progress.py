"""Progress bars: how far a long step is, how fast it goes and how long it will take, on a terminal only."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, Task, TaskID, TextColumn
from rich.progress import TimeRemainingColumn as TimeLeftColumn
from rich.text import Text

from jobs.output import stderr


class Report(Protocol):
    """Takes the news of a long step: ``done`` of ``total`` in ``stage``; ``total`` None while it is unknown."""

    def __call__(self, stage: str, done: int, total: int | None) -> None:
        """Show it; cheap enough to be called often, from any thread."""


class _RateColumn(ProgressColumn):
    """Rows, or whatever is counted, per second since the step began."""

    def __init__(self, unit: str) -> None:
        super().__init__()
        self._unit = unit

    def render(self, task: Task) -> Text:
        """Return the text of this column for ``task``."""
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:,.0f} {self._unit}/s", style="cyan")


@contextmanager
def bars(console: Console | None = None, *, unit: str = "rows") -> Iterator[Report]:
    """Show one bar per stage while the block runs, counting ``unit``; off a terminal nothing is written."""
    screen = console or stderr()
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description:<12}"),
        BarColumn(bar_width=30),
        TextColumn(f"{{task.completed:,.0f}} of {{task.fields[shown]}} {unit}"),
        _RateColumn(unit),
        TimeLeftColumn(compact=True, elapsed_when_finished=True),
    )
    with Progress(*columns, console=screen, transient=True, disable=not screen.is_terminal) as shown:
        tasks: dict[str, TaskID] = {}

        def report(stage: str, done: int, total: int | None) -> None:
            if stage not in tasks:
                tasks[stage] = shown.add_task(stage, total=total, shown="?")
            words = "?" if total is None else f"{total:,}"
            shown.update(tasks[stage], completed=done, total=total, shown=words)

        yield report
