"""The catalog after 100,000 commits: what a commit, a poll and an open take, beside a plain delta-rs table.

Each is timed in the first commits and in the last; the goal is that none takes more than twice as long at the end. The
peer is a Delta table with delta-rs's default settings, whose rows every commit replaces too; it makes fewer commits,
because each one lists a log that only grows.

    .venv/bin/python -m benchmarks.catalog [--quick] [--check]
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
from deltalake import DeltaTable, write_deltalake
from rich.progress import track

from benchmarks.harness import Goal, Report, run
from indexer.catalog import Catalog, SourcePosition
from indexer.format.records import FileRecord, IndexRecord, SegmentRecord
from indexer.format.store import Store
from indexer.spec import CollectionSpec
from indexer.spec_file import parse_spec
from jobs.output import stderr

COMMITS, QUICK_COMMITS = 100_000, 1_300
PEER_COMMITS, QUICK_PEER_COMMITS = 3_000, 500
WINDOW, QUICK_WINDOW = 200, 60
"""How many commits are timed at either end."""

SEGMENTS = 5
MOST = 2.0
STEPS = ("commit", "poll", "open")


@dataclass
class Times:
    """Milliseconds of each step, in the first commits and in the last."""

    first: dict[str, list[float]] = field(default_factory=lambda: {step: [] for step in STEPS})
    last: dict[str, list[float]] = field(default_factory=lambda: {step: [] for step in STEPS})

    def medians(self, step: str) -> tuple[float, float]:
        """The medians of ``step`` at the start and at the end."""
        return statistics.median(self.first[step]), statistics.median(self.last[step])


def timed(commits: int, window: int, what: str, steps: dict[str, Callable[[int], object]]) -> Times:
    """Make ``commits`` commits; run and time the other steps too while they are among the first or the last."""
    times = Times()
    screen = stderr()
    shown: Iterable[int] = range(commits)
    for number in track(shown, what, console=screen, transient=True, disable=not screen.is_terminal):
        into = times.first if number < window else times.last if number >= commits - window else None
        for step in STEPS if into else STEPS[:1]:
            started = time.perf_counter()
            steps[step](number)
            if into:
                into[step].append((time.perf_counter() - started) * 1000)
    return times


def time_grebe(folder: Path, commits: int, window: int) -> tuple[Times, int]:
    """Return the times, and how many files the catalog has at the end."""
    store = Store.at(str(folder))
    catalog = Catalog.create(store, spec())
    reader = Catalog.open(store, "bench")
    state = catalog.read().model_copy(update={"segments": segments(), "dim": 4, "operation": "sync"})

    def commit(number: int) -> None:
        nonlocal state
        end = SourcePosition(epoch="bench", version=number)
        new = state.model_copy(update={"position": end, "source_committed_at": datetime.now(UTC)})
        state = catalog.commit(state, new, batch_end=end)

    def poll(number: int) -> None:
        assert reader.latest() == number + 1

    times = timed(
        commits, window, "grebe", {"commit": commit, "poll": poll, "open": lambda _: Catalog.open(store, "bench")}
    )
    return times, len(store.list("bench/catalog"))


def time_delta_rs(folder: Path, commits: int, window: int) -> Times:
    """Time a table whose rows every commit replaces, all settings at their defaults."""
    rows = pa.table({"number": range(SEGMENTS), "record": [record.model_dump_json() for record in segments()]})
    write_deltalake(str(folder), rows)
    reader = DeltaTable(str(folder))

    def poll(number: int) -> None:
        reader.update_incremental()
        assert reader.version() == number + 1

    return timed(
        commits,
        window,
        "delta-rs",
        {
            "commit": lambda _: write_deltalake(str(folder), rows, mode="overwrite"),
            "poll": poll,
            "open": lambda _: DeltaTable(str(folder)),
        },
    )


def spec() -> CollectionSpec:
    """A collection whose rows bring their own vectors."""
    return parse_spec(
        "name: bench\nsource: {table: /bench}\nkey: [id]\ntext: {fields: {body: 1.0}}\nvector: {column: v, dim: 4}"
    )


def segments() -> tuple[SegmentRecord, ...]:
    """A tiny state: what a merged collection usually names."""
    return tuple(
        SegmentRecord(
            number=number,
            shard=0,
            packed=True,
            files=(FileRecord(path=f"segments/{number:010x}-00000000/segment.tar", size_bytes=3, sha256="ab" * 32),),
            n_rows=10,
            n_chunks=20,
            n_embedded=20,
            dim=4,
            fingerprint=spec().fingerprint,
            index=IndexRecord(kind="exact", reason="small"),
            created_at=datetime(2026, 1, 2, tzinfo=UTC),
        )
        for number in range(SEGMENTS)
    )


def measure(arguments: argparse.Namespace) -> Report:
    """Time both, each in a folder of its own."""
    commits, peer_commits, window = (
        (QUICK_COMMITS, QUICK_PEER_COMMITS, QUICK_WINDOW) if arguments.quick else (COMMITS, PEER_COMMITS, WINDOW)
    )
    folder = Path(tempfile.mkdtemp(prefix="grebe-bench-catalog-"))
    try:
        ours, files = time_grebe(folder / "grebe", commits, window)
        theirs = time_delta_rs(folder / "delta", peer_commits, window)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    report = Report(
        title=f"Catalog: medians in ms of the first and the last {window} of {commits:,} commits",
        columns=("commits", "first", "last", "ratio"),
        packages=("deltalake",),
    )
    for name, count, times, goal in (
        ("grebe", commits, ours, Goal(most=MOST)),
        ("delta-rs", peer_commits, theirs, None),
    ):
        for step in STEPS:
            first, last = times.medians(step)
            ratio = last / first
            report.add(f"{name}: {step}", count, f"{first:.2f}", f"{last:.2f}", f"{ratio:.2f}", value=ratio, goal=goal)
    report.notes = [
        f"files of grebe's catalog at the end: {files:,}",
        f"delta-rs makes {peer_commits:,} commits only: each lists a log that nothing shortens within 30 days",
    ]
    return report


if __name__ == "__main__":
    run(__doc__ or "", measure)
