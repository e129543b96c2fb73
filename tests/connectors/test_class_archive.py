from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from connectors.class_archive import archive_of, mapped, recorded
from connectors.errors import SessionFailed

JAVA = 'openjdk version "17.0.15" 2025-04-15'


@pytest.fixture(autouse=True)
def caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "my caches"))
    return tmp_path / "my caches"


def written(option: str) -> Path:
    """Write what a JVM with ``option`` would; the option is quoted, as Spark wants one with a space in it."""
    assert option.startswith('"-XX:ArchiveClassesAtExit=')
    assert option.endswith('"')
    file = Path(option.strip('"').partition("=")[2])
    file.write_bytes(b"classes")
    return file


def test_an_archive_is_mapped_once_it_is_whole_by_the_java_that_wrote_it() -> None:
    with recorded(JAVA) as option:
        file = written(option)
        assert mapped(JAVA) == ""

    archive = archive_of(JAVA)
    assert archive is not None
    assert mapped(JAVA) == f'"-XX:SharedArchiveFile={archive}"'
    assert archive.read_bytes() == b"classes"
    assert not file.exists()
    assert mapped('openjdk version "21.0.1"') == ""


def test_a_java_that_writes_none_is_told_and_leaves_the_one_before() -> None:
    with recorded(JAVA) as option:
        written(option)

    with pytest.raises(SessionFailed, match="Java wrote no archive of its classes to "), recorded(JAVA):
        pass

    assert mapped(JAVA)


def test_what_is_written_by_a_sync_that_fails_is_no_archive(caches: Path) -> None:
    with pytest.raises(SessionFailed, match="Spark went"), recorded(JAVA) as option:
        fail_after(written(option))

    assert [*caches.rglob("*.*")] == []


def fail_after(_: Path) -> None:
    raise SessionFailed("Spark went")


def test_an_archive_that_was_cut_off_is_none_and_the_next_takes_its_place(caches: Path) -> None:
    with recorded(JAVA) as option:
        written(option)
    (archive,) = caches.rglob("*.jsa")
    archive.write_bytes(b"class")
    assert mapped(JAVA) == ""

    with recorded(JAVA) as option:
        written(option)

    assert mapped(JAVA) != ""
    assert [*caches.rglob("*.*")] == [archive]


def test_what_was_left_behind_long_ago_is_removed(caches: Path) -> None:
    folder = caches / "grebe" / "classes"
    folder.mkdir(parents=True)
    for name, modified in (("1.part", 0.0), ("2.part", time.time())):
        (folder / name).touch()
        os.utime(folder / name, (modified, modified))

    with recorded(JAVA) as option:
        written(option)

    assert [file.name for file in folder.glob("*.part")] == ["2.part"]


@pytest.mark.parametrize("name", ["a:b", 'a"b', "a'b"])
def test_a_place_that_java_takes_no_archive_from_is_told(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / name))

    with pytest.raises(SessionFailed, match="must do without ':' and quotes"), recorded(JAVA):
        pass

    assert mapped(JAVA) == ""


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))

    with pytest.raises(SessionFailed, match="cannot be written: Not a directory; set XDG_CACHE_HOME"), recorded(JAVA):
        pass


def test_without_a_place_for_caches_there_is_no_archive(monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", nowhere)

    assert mapped(JAVA) == ""
