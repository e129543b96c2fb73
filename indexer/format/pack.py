"""The files of a segment: their names, and the one archive they lie in while the segment is small.

Names that come from a catalog or an archive are checked against what a segment can hold, so that neither can write
outside a segment's folder.
"""

from __future__ import annotations

import os
import re
import shutil
import tarfile
from pathlib import Path

from indexer.errors import CorruptFile

ROWS_FILE = "rows.parquet"
VECTORS_FILE = "vectors.npy"
INDEX_FILE = "vectors.faiss"
KEYS_FILE = "keys.npy"
KEYWORDS_FOLDER = "keywords"
PACK_FILE = "segment.tar"

_MEMBER = re.compile(r"rows\.parquet|vectors\.(npy|faiss)|keys\.npy|keywords/[A-Za-z0-9_-][A-Za-z0-9._-]*")


def is_member(name: str) -> bool:
    """Say whether ``name`` is a file that a segment may hold.

    >>> is_member("keywords/meta.json"), is_member("keywords/../../x"), is_member("/etc/passwd")
    (True, False, False)
    """
    return _MEMBER.fullmatch(name) is not None


def members(folder: Path) -> list[str]:
    """Return the names of a segment's files in ``folder``, sorted."""
    names = (file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file())
    return sorted(name for name in names if is_member(name))


def pack(folder: Path, names: list[str], into: Path) -> None:
    """Write the files ``names`` of ``folder`` as an uncompressed tar with neither owners nor times."""
    with tarfile.open(into, "w", format=tarfile.PAX_FORMAT) as archive:
        for name in names:
            member = tarfile.TarInfo(name)
            member.size = (folder / name).stat().st_size
            with (folder / name).open("rb") as file:
                archive.addfile(member, file)


def unpack(archive_file: Path, folder: Path) -> None:
    """Write the archive's files into ``folder``.

    Raises :class:`indexer.errors.CorruptFile` for a damaged archive and for any member that is not a regular file of a
    segment; nothing is ever written outside ``folder``.
    """
    try:
        with tarfile.open(archive_file, "r:") as archive:
            for member in archive:
                source = archive.extractfile(member) if member.isreg() and is_member(member.name) else None
                if source is None:
                    raise CorruptFile(f"{archive_file}: {member.name!r} does not belong in a segment")
                target = folder / member.name
                target.parent.mkdir(exist_ok=True)
                with target.open("xb") as file:
                    shutil.copyfileobj(source, file, 1 << 20)
    except tarfile.TarError as error:
        raise CorruptFile(f"{archive_file}: not a readable archive: {error}") from error
    except FileExistsError as error:
        raise CorruptFile(f"{archive_file}: {error.filename} comes twice") from error


def flush_tree(folder: Path) -> None:
    """Bring all files below ``folder``, and their names, to the disk."""
    for path in (*folder.rglob("*"), folder):
        flush(path)


def flush(path: Path) -> None:
    """Bring a file's bytes, or the names in a folder, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
