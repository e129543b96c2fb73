"""Files that only grow, and a folder that only one process has."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from api.audit.disk import LocalDisk, lock
from api.errors import AuditBusy


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file with four bytes."""
    path = tmp_path / "file"
    file = LocalDisk().create(path)
    file.append(b"ab")
    file.append(b"cd")
    file.close()
    return path


def test_a_file_is_its_owners_and_grows(path: Path) -> None:
    assert (path.read_bytes(), stat.S_IMODE(path.stat().st_mode)) == (b"abcd", 0o600)


def test_a_file_that_is_there_is_not_written_to(path: Path) -> None:
    with pytest.raises(FileExistsError, match="file"):
        LocalDisk().create(path)

    assert path.read_bytes() == b"abcd"


def test_a_file_is_cut_and_at_nothing_it_goes(path: Path) -> None:
    LocalDisk().cut(path, 3)
    assert path.read_bytes() == b"abc"

    LocalDisk().cut(path, 0)
    LocalDisk().cut(path, 0)
    assert not path.exists()


def test_a_renewed_file_is_another_with_the_same_beginning(path: Path) -> None:
    before = path.stat().st_ino
    path.with_name("file.part").write_bytes(b"of one who was killed meanwhile")

    LocalDisk().renew(path, 3)

    assert path.read_bytes() == b"abc"
    assert path.stat().st_ino != before
    assert os.listdir(path.parent) == ["file"]


def test_a_folder_is_one_holders(tmp_path: Path) -> None:
    handle = lock(tmp_path)

    with pytest.raises(AuditBusy, match=f"{tmp_path}: another process writes its audit log here"):
        lock(tmp_path)

    os.close(handle)
    os.close(lock(tmp_path))


@pytest.mark.parametrize("lose", [Path.unlink, lambda path: path.rename(path.with_name("moved"))])
def test_a_file_that_is_no_longer_in_its_place_takes_nothing_more(
    tmp_path: Path, lose: Callable[[Path], object]
) -> None:
    file = LocalDisk().create(tmp_path / "file")
    file.append(b"ab")
    lose(tmp_path / "file")

    with pytest.raises(OSError, match="file"):
        file.append(b"cd")

    (tmp_path / "file").write_bytes(b"another")
    with pytest.raises(OSError, match="another than the one that was begun"):
        file.append(b"cd")
    file.close()
