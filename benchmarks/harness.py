"""What every benchmark shares: its options, its table, and the check of its goals."""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table

SEED = 20_261_123
CACHE = Path(__file__).parent / ".cache"
"""Inputs that take long to make (embeddings) are kept here between runs; git ignores it."""


@dataclass(frozen=True, kw_only=True)
class Goal:
    """A bound that a row's value must keep: ``least`` and ``most`` are inclusive."""

    least: float | None = None
    most: float | None = None

    def kept(self, value: float) -> bool:
        """Say whether ``value`` is within the bound.

        >>> Goal(least=0.8).kept(0.8), Goal(most=5).kept(5.1)
        (True, False)
        """
        return (self.least is None or value >= self.least) and (self.most is None or value <= self.most)

    def __str__(self) -> str:
        bounds = (("≥", self.least), ("≤", self.most))
        return " ".join(f"{sign} {bound:g}" for sign, bound in bounds if bound is not None)


@dataclass(frozen=True, kw_only=True)
class Row:
    """One measured figure. ``value`` is what the goal is about; ``cells`` is what the table shows beside it."""

    name: str
    cells: tuple[str, ...]
    value: float | None = None
    goal: Goal | None = None

    @property
    def missed(self) -> bool:
        """Whether the row has a goal and does not keep it."""
        return self.goal is not None and (self.value is None or not self.goal.kept(self.value))


@dataclass(kw_only=True)
class Report:
    """A benchmark's table."""

    title: str
    columns: tuple[str, ...]
    packages: tuple[str, ...]
    rows: list[Row] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, name: str, *cells: object, value: float | None = None, goal: Goal | None = None) -> None:
        """Append a row, and tell it at once: who waits for the table, or cuts it short, sees what there is."""
        row = Row(name=name, cells=tuple(_text(cell) for cell in cells), value=value, goal=goal)
        self.rows.append(row)
        print(f"{row.name}: {' | '.join(row.cells)}", file=sys.stderr, flush=True)

    def show(self, console: Console) -> None:
        """Print the machine, the versions, the seed and the table."""
        versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in self.packages)
        console.print(f"[bold]{self.title}[/bold]", highlight=False)
        console.print(f"{machine()}; {versions}; seed {SEED}", highlight=False)
        table = Table(*[""], *self.columns, "goal", show_lines=False)
        for row in self.rows:
            goal = f"{'[red]missed[/red] ' if row.missed else ''}{row.goal}" if row.goal else ""
            table.add_row(row.name, *row.cells, goal)
        console.print(table)
        for note in self.notes:
            console.print(note, highlight=False)


def machine() -> str:
    """Return processor, cores and Python, as a benchmark's reader wants to know them."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        model = names[0] if names else model
    return f"{model}, {os.cpu_count()} cores, Python {platform.python_version()}"


def gpu_driver() -> str:
    """Return the version of NVIDIA's driver, as a GPU benchmark's reader wants to know it."""
    asked = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        return subprocess.run(asked, capture_output=True, text=True, check=True).stdout.split()[0]
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def run(description: str, measure: Callable[[argparse.Namespace], Report], *, parts: Sequence[str] = ()) -> None:
    """Parse the command line, measure, print, and exit 1 under ``--check`` if a goal is missed.

    Where there are ``parts``, ``--only`` names those to measure: ``arguments.only``, all of them by default.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--quick", action="store_true", help="under a minute: smaller inputs, the same rows")
    parser.add_argument("--check", action="store_true", help="exit 1, naming the row, if a goal is missed")
    parser.add_argument("--keep", type=Path, metavar="FILE", help="write the table to FILE too")
    if parts:
        parser.add_argument("--only", nargs="+", choices=parts, default=parts, help="measure these parts alone")
    arguments = parser.parse_args()
    report = measure(arguments)
    report.show(Console(width=None if sys.stdout.isatty() else 160))
    if arguments.keep:
        with arguments.keep.open("w") as file:
            report.show(Console(file=file, width=160))
    missed = [row for row in report.rows if row.missed]
    for row in missed:
        print(f"missed: {row.name}: {row.value:g}, goal {row.goal}" if row.value is not None else f"missed: {row.name}")
    if arguments.check and missed:
        sys.exit(1)


def _text(cell: object) -> str:
    if isinstance(cell, float):
        return f"{cell:,.0f}" if abs(cell) >= 1000 else f"{cell:.3g}"
    return f"{cell:,}" if isinstance(cell, int) else str(cell)
