from __future__ import annotations

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

    assert mapped(JAVA) == f'"-XX:SharedArchiveFile={archive_of(JAVA)}"'
    assert archive_of(JAVA).read_bytes() == b"classes"
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


def test_without_a_place_for_caches_there_is_no_archive(monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", nowhere)

    assert mapped(JAVA) == ""
