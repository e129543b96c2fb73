"""An archive of the classes that Spark loads, which the JVM maps instead of reading them from JARs (AppCDS).

To read and verify some twenty thousand classes takes four of the twelve seconds in which a session starts on two cores,
and as many of its first jobs. The JVM compares an archive with its own build and with the JARs, and does without one
that does not fit.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pyspark.find_spark_home import _find_spark_home

from connectors.errors import SessionFailed

RECORDS = "-XX:ArchiveClassesAtExit="


def mapped(java: str) -> str:
    """Return the option by which the Java that says ``java`` of itself maps its archive; nothing where it has none."""
    with suppress(OSError, RuntimeError):
        archive = archive_of(java)
        if os.access(archive, os.R_OK):
            return f'"-XX:SharedArchiveFile={archive}"'
    return ""


@contextmanager
def recorded(java: str) -> Iterator[str]:
    """Yield the option by which a JVM, when it ends, archives what it has loaded; it must end within the block.

    Raises :class:`connectors.errors.SessionFailed` where it has written none.
    """
    archive = archive_of(java)
    archive.parent.mkdir(parents=True, exist_ok=True)
    whole = archive.with_suffix(f".{os.getpid()}")
    try:
        yield f'"{RECORDS}{whole}"'
        if not whole.exists():
            raise SessionFailed(f"Java wrote no archive of its classes to {archive.parent}")
        whole.replace(archive)
    finally:
        whole.unlink(missing_ok=True)


def archive_of(java: str) -> Path:
    """Return where the archive of this Java and the Spark that is installed here belongs."""
    caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    digest = hashlib.sha256(f"{java}\n{_find_spark_home()}".encode()).hexdigest()
    return caches / "grebe" / "classes" / f"{digest[:16]}.jsa"
