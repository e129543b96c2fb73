"""How far a long step is and how fast it goes: bars on a terminal, now and then a line in a job's log."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, Task, TaskID, TextColumn
from rich.progress import TimeRemainingColumn as TimeLeftColumn
from rich.text import Text

from jobs.output import stderr

LINE_SECONDS = 30.0
"""How often, at most, a stage is written about where there is no terminal."""


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
    """Show one bar per stage while the block runs, counting ``unit``; off a terminal, a line every half a minute."""
    screen = console or stderr()
    if not screen.is_terminal:
        yield _lines(lambda line: screen.print(line, soft_wrap=True, markup=False), unit)
        return
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description:<12}"),
        BarColumn(bar_width=30),
        TextColumn(f"{{task.completed:,.0f}} of {{task.fields[shown]}} {unit}"),
        _RateColumn(unit),
        TimeLeftColumn(compact=True, elapsed_when_finished=True),
    )
    with Progress(*columns, console=screen, transient=True) as shown:
        tasks: dict[str, TaskID] = {}

        def report(stage: str, done: int, total: int | None) -> None:
            if stage not in tasks:
                tasks[stage] = shown.add_task(stage, total=total, shown="?")
            words = "?" if total is None else f"{total:,}"
            shown.update(tasks[stage], completed=done, total=total, shown=words)

        yield report


def _lines(write: Callable[[str], None], unit: str, clock: Callable[[], float] = time.monotonic) -> Report:
    """Return what writes about a stage when :data:`LINE_SECONDS` are over since it began or was written about."""
    lock = threading.Lock()
    began: dict[str, tuple[float, int]] = {}
    last: dict[str, float] = {}

    def report(stage: str, done: int, total: int | None) -> None:
        with lock:
            now = clock()
            start, before = began.setdefault(stage, (now, done))
            if now - last.setdefault(stage, now) < LINE_SECONDS:
                return
            last[stage] = now
            rate = (done - before) / (now - start)
            of = "" if total is None else f" of {total:,}"
            write(f"{stage}: {done:,}{of} {unit}, {rate:,.0f} {unit}/s")

    return report
