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

from jobs.output import speaking_on, stderr

LINE_SECONDS = 30.0
"""How often, at most, a stage is written about where there is no terminal."""

OF_CHUNKS = ("embedding", "building")
"""The stages of a sync that count chunks, of which a long row has several; the others count rows."""


class Report(Protocol):
    """Takes the news of a long step: ``done`` of ``total`` in ``stage``; ``total`` None while it is unknown."""

    def __call__(self, stage: str, done: int, total: int | None) -> None:
        """Show it; cheap enough to be called often, from any thread."""


class Shown(Report, Protocol):
    """What :func:`bars` gives its block."""

    def over(self, prefix: str) -> None:
        """Take away the stages whose names begin with ``prefix``: nothing more is coming of them."""


class _RateColumn(ProgressColumn):
    """Rows, or whatever is counted, per second since the step began."""

    def render(self, task: Task) -> Text:
        """Return the text of this column for ``task``."""
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:,.0f} {task.fields['unit']}/s", style="cyan")


@contextmanager
def bars(console: Console | None = None, *, unit: str = "rows") -> Iterator[Shown]:
    """Show one bar per stage while the block runs, counting ``unit``.

    Off a terminal it is a line where a stage begins at 0, then one every half a minute, and one where it ends. Stages
    named in :data:`OF_CHUNKS` count chunks all the same.
    """
    screen = console or stderr()
    if not screen.is_terminal:
        yield _Lines(lambda line: screen.print(line, soft_wrap=True, markup=False), unit)
        return
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description:<12}"),
        BarColumn(bar_width=30),
        TextColumn("{task.completed:,.0f} of {task.fields[shown]} {task.fields[unit]}"),
        _RateColumn(),
        TimeLeftColumn(compact=True, elapsed_when_finished=True),
    )
    with speaking_on(screen), Progress(*columns, console=screen, transient=True) as shown:
        yield _Bars(shown, unit)


def _unit(stage: str, usual: str) -> str:
    """Return what ``stage`` counts, behind whatever prefix its name has."""
    return "chunks" if stage.endswith(OF_CHUNKS) else usual


class _Bars:
    """One bar per stage."""

    def __init__(self, shown: Progress, unit: str) -> None:
        self._shown, self._unit, self._lock = shown, unit, threading.Lock()
        self._tasks: dict[str, TaskID] = {}

    def __call__(self, stage: str, done: int, total: int | None) -> None:
        with self._lock:
            if stage not in self._tasks:
                self._tasks[stage] = self._shown.add_task(stage, total=total, shown="?", unit=_unit(stage, self._unit))
            words = "?" if total is None else f"{total:,}"
            self._shown.update(self._tasks[stage], completed=done, total=total, shown=words)

    def over(self, prefix: str) -> None:
        with self._lock:
            for stage in [stage for stage in self._tasks if stage.startswith(prefix)]:
                self._shown.remove_task(self._tasks.pop(stage))
        self._shown.refresh()


class _Lines:
    """Writes about a stage when it begins, when :data:`LINE_SECONDS` are over since then, and when it ends.

    What ends without ever having been written about is not, unless it ends what was: the last line of a short load
    would say that nothing is done.
    """

    def __init__(self, write: Callable[[str], None], unit: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._write, self._unit, self._clock = write, unit, clock
        self._lock = threading.Lock()
        self._began: dict[str, tuple[float, int]] = {}
        self._last: dict[str, float] = {}
        self._open: set[str] = set()
        """What stages belong to, whose last line says that there is more to do."""

    def __call__(self, stage: str, done: int, total: int | None) -> None:
        with self._lock:
            now, begins, of_what = self._clock(), stage not in self._began and done == 0, stage.rpartition(": ")[0]
            start, before = self._began.setdefault(stage, (now, done))
            ends = done == total and of_what in self._open
            if now - self._last.setdefault(stage, now) < LINE_SECONDS and not begins and not ends:
                return
            self._last[stage] = now
            (self._open.discard if done == total else self._open.add)(of_what)
            unit = _unit(stage, self._unit)
            rate = f", {(done - before) / (now - start):,.0f} {unit}/s" if now > start else ""
            of = "" if total is None else f" of {total:,}"
            self._write(f"{stage}: {done:,}{of} {unit}{rate}")

    def over(self, prefix: str) -> None:
        """Nothing is shown that could be taken away."""
