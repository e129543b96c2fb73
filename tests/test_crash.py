"""A sync is killed with SIGKILL, anywhere: the index is a version of the table, and the next sync heals.

After each kill a replica with an empty cache opens the collection: every file that the catalog names is there and
whole, and the rows are those of the table at the version that the catalog says. Then the sync runs again, and the rows
are those of the table now.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from connectors.delta_source import DeltaSource
from indexer.apply import apply
from indexer.catalog import Catalog
from indexer.format.store import Store
from indexer.spec_file import parse_spec
from indexer.sync import sync
from tests import deltars
from tests.served import served_rows, table_rows

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

SEED = 20_261_123
COLUMNS = ("id", "title", "body", "n")
SIT = Path(__file__).parent / "crash" / "site"
CHILD_SECONDS = 240

LOAD_POINTS = [
    "before:put:1",
    "after:put:1",
    "before:put_file:1",
    "after:put_file:1",
    "before:put_file:2",
    "before:put:3",
    "before:commit:1",
    "after:commit:1",
    "before:swap:2",
    "after:swap:2",
]
CHANGE_POINTS = [
    "before:put_file:1",
    "after:put_file:2",
    "before:put_record:1",
    "after:put_record:1",
    "before:commit:1",
    "after:commit:1",
    "after:put_file:1",
    "before:put_file:2",
]
QUICK = [("load", "after:put_file:2"), ("changes", "random")]
SOAK = (
    [("load", point) for point in LOAD_POINTS]
    + [("changes", point) for point in CHANGE_POINTS]
    + [(phase, "random") for phase in ("load", "changes") for _ in range(11)]
)


@dataclass
class Scene:
    """A table and the collection over it."""

    spark: SparkSession
    folder: Path
    segments_before: int = 0

    @property
    def table(self) -> Path:
        return self.folder / "table"

    @property
    def store(self) -> Store:
        return Store.at(str(self.folder / "store"))

    def prepare(self) -> None:
        assert deltars.created(self.table, "id BIGINT, title STRING, body STRING, n INT")
        rows = ", ".join(f"({at}, 'title {at}', '{f'word{at} ' * (1 + at % 40)}', 0)" for at in range(240))
        assert deltars.executed(self.table, f"INSERT INTO {{t}} VALUES {rows}")
        apply(
            self.store,
            parse_spec(
                f"name: crash\nsource: {{table: {self.table}}}\nkey: [id]\ncolumns: [n]\nvector: {{model: 'hash:16'}}\n"
                "text: {fields: {title: 2.0, body: 1.0}, chunk: {max_tokens: 16, overlap_tokens: 4}}"
            ),
        )

    def change(self) -> None:
        for statement in (
            "UPDATE {t} SET body = concat('again ', id), n = n + 1 WHERE id % 7 = 0",
            "DELETE FROM {t} WHERE id % 11 = 3",
            "UPDATE {t} SET id = id + 1000 WHERE id % 50 = 4",
        ):
            assert deltars.executed(self.table, statement)

    def sync(self) -> None:
        sync(
            self.store,
            "crash",
            lambda _: DeltaSource(self.spark, str(self.table), COLUMNS),
            cache=self.folder / "cache",
        )

    def kill_a_sync(self, point: str, after_seconds: float) -> None:
        """Run a sync in processes of its own and kill them all, at ``point`` or when some time of its work is over."""
        counts = self.folder / "counts"
        counts.write_text("")
        aim = "before:never:1" if point == "random" else point
        environment = {**os.environ, "GREBE_CRASH": aim, "GREBE_CRASH_COUNTS": str(counts), "PYTHONPATH": str(SIT)}
        arguments = [str(self.store.url), "crash", str(self.table), str(self.folder / "cache")]
        with subprocess.Popen(
            [sys.executable, "-m", "tests.crash.child", *arguments],
            env=environment,
            cwd=Path(__file__).parents[1],
            start_new_session=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        ) as child:
            if point == "random":
                self._kill_at_random(child, after_seconds)
            _, stderr = child.communicate(timeout=CHILD_SECONDS)
            ended = child.returncode
        if point != "random":
            assert ended == -signal.SIGKILL, f"{point} was never reached: {stderr.decode()[-2000:]}"

    def _kill_at_random(self, child: subprocess.Popen[bytes], after_seconds: float) -> None:
        """Wait until the sync writes something, then a while, then kill its whole session."""
        deadline = time.monotonic() + CHILD_SECONDS
        while not self._has_begun() and child.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        time.sleep(after_seconds)
        for name in os.listdir("/proc"):
            if name.isdigit() and _session(int(name)) == child.pid:
                os.kill(int(name), signal.SIGKILL)

    def _has_begun(self) -> bool:
        return any((self.folder / "store" / "crash").glob("loads/*/*")) or len(self._segments()) > self.segments_before

    def _segments(self) -> list[Path]:
        return list((self.folder / "store" / "crash" / "segments").glob("*"))

    def mark(self) -> None:
        """Remember what is there, so that a new file is seen to be one."""
        self.segments_before = len(self._segments())


def _session(pid: int) -> int:
    try:
        return os.getsid(pid)
    except ProcessLookupError:
        return -1


@pytest.fixture
def scene(spark: SparkSession, tmp_path: Path) -> Scene:
    scene = Scene(spark, tmp_path)
    scene.prepare()
    return scene


def check(scene: Scene, phase: str, point: str, seed: int) -> None:
    if phase == "changes":
        scene.sync()
        scene.change()
    scene.mark()

    scene.kill_a_sync(point, random.Random(seed).uniform(0, 1.5))

    Catalog.open(scene.store, "crash").read()
    rows, version = served_rows(scene.store, "crash")
    assert rows == ({} if version is None else table_rows(scene.spark, scene.table, COLUMNS, version))
    scene.sync()
    rows, _ = served_rows(scene.store, "crash")
    assert rows == table_rows(scene.spark, scene.table, COLUMNS)


@pytest.mark.parametrize(("phase", "point"), QUICK)
def test_a_killed_sync_leaves_a_version_of_the_table_and_the_next_one_heals(
    scene: Scene, phase: str, point: str
) -> None:
    check(scene, phase, point, SEED)


@pytest.mark.soak
@pytest.mark.parametrize(("phase", "point", "seed"), [(*case, SEED + at) for at, case in enumerate(SOAK)])
def test_a_sync_killed_anywhere_leaves_a_version_of_the_table(scene: Scene, phase: str, point: str, seed: int) -> None:
    check(scene, phase, point, seed)
