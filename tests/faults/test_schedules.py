"""300 seeded schedules of changes, syncs and faults: no row is lost, doubled or resurrected."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from indexer.format.store import Store
from indexer.spec import CollectionSpec
from indexer.spec_file import parse_spec
from tests.faults.feed import DeltaTable, MemoryTable
from tests.faults.local_session import local_tasks
from tests.faults.schedule import Schedule
from tests.scene import Scene

SPEC = """
name: scene
source: {{table: /t}}
key: [id]
columns: [n]
text: {{fields: {{body: 1.0}}, chunk: {{max_tokens: 16, overlap_tokens: 4}}}}
vector: {{model: "hash:8"}}
shards: {shards}
"""
TENANTS = {"key": ["id", "n"], "isolation": {"tenant": "n"}}
"""Every other schedule keeps tenants apart: an update often moves a row from one to another."""
IN_MEMORY, IN_DELTA = range(270), range(270, 300)
QUICK_IN_MEMORY, QUICK_IN_DELTA = IN_MEMORY[:18], IN_DELTA[:2]


MEMORY = Path("/dev/shm")


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder in memory, if there is such a place: nothing here loses its power, and flushing takes most of the time.

    Readers' caches lie there too.
    """
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as name:
        monkeypatch.setattr(tempfile, "tempdir", name)
        yield Path(name)


def check_in_memory(seed: int, folder: Path, patch: pytest.MonkeyPatch) -> None:
    local_tasks(patch)
    spec = parse_spec(SPEC.format(shards=1 + seed % 3))
    spec = CollectionSpec.model_validate(spec.model_dump() | (TENANTS if seed % 2 else {}))
    Schedule(seed, MemoryTable(random.Random(seed)), Store.at(str(folder / "store")), spec, folder, patch).run(12)


def check_in_delta(seed: int, scene: Scene, patch: pytest.MonkeyPatch) -> None:
    """Fewer steps: each costs Spark a second or two."""
    spec = scene.spec(**(TENANTS if seed % 2 else {}))
    Schedule(seed, DeltaTable(scene), scene.store, spec, scene.folder, patch, most_commits=1).run(5)


@pytest.mark.parametrize("seed", QUICK_IN_MEMORY)
def test_a_schedule_in_memory_keeps_the_index_equal_to_the_table(
    seed: int, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_in_memory(seed, folder, monkeypatch)


@pytest.mark.parametrize("seed", QUICK_IN_DELTA)
def test_a_schedule_in_delta_keeps_the_index_equal_to_the_table(
    seed: int, scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_in_delta(seed, scene, monkeypatch)


@pytest.mark.soak
@pytest.mark.parametrize("seed", IN_MEMORY)
def test_each_of_many_schedules_in_memory_keeps_the_index_equal_to_the_table(
    seed: int, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_in_memory(seed, folder, monkeypatch)


@pytest.mark.soak
@pytest.mark.parametrize("seed", IN_DELTA)
def test_each_of_many_schedules_in_delta_keeps_the_index_equal_to_the_table(
    seed: int, scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_in_delta(seed, scene, monkeypatch)
