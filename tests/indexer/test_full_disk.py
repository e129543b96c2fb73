from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from indexer.catalog import Catalog
from indexer.errors import BuildError, StoreError
from indexer.format.store import Store
from tests.indexer.parts import TEXTS, live_rows, publish, upsert

DISK_MIB = 4


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of a few megabytes."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m", "tmpfs", str(place)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small file system takes root")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def test_a_full_disk_fails_the_batch_whole_and_the_next_one_goes_on(small_disk: Path, tmp_path: Path) -> None:
    catalog = Catalog.create(Store.at(str(small_disk / "store")), TEXTS)
    cache = tmp_path / "cache"
    before = publish(catalog, cache, 1, upsert(1))
    ballast = small_disk / "ballast"
    with pytest.raises(OSError, match="No space left"):
        ballast.write_bytes(bytes(DISK_MIB << 20))

    with pytest.raises((StoreError, BuildError), match=r"(?i)space"):
        publish(catalog, cache, 2, upsert(2), upsert(3, body="x y " * 50_000))

    assert Catalog.open(Store.at(str(small_disk / "store")), "texts").read() == before
    assert live_rows(catalog, cache) == {1: "body 1"}
    ballast.unlink()
    publish(catalog, cache, 2, upsert(2))
    assert live_rows(catalog, cache) == {1: "body 1", 2: "body 2"}
