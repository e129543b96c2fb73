"""A file system of a few megabytes, which is soon full."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

DISK_MIB = 4


@contextmanager
def mounted(place: Path) -> Iterator[Path]:
    """Make the folder ``place`` a small file system, for as long as the context lasts; that takes root."""
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m", "tmpfs", str(place)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small file system takes root")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def fill(disk: Path, *, but_bytes: int = 0) -> Path:
    """Fill the disk, less ``but_bytes``, with one file, and return it; deleting it makes room again."""
    ballast = disk / "ballast"
    with ballast.open("wb") as file, suppress(OSError):
        file.write(bytes(DISK_MIB << 20))
    free = os.statvfs(disk)
    assert free.f_bavail == 0
    os.truncate(ballast, ballast.stat().st_size - but_bytes)
    return ballast
