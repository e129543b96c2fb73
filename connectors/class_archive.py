"""An archive of the classes that Spark loads, which the JVM maps instead of reading them from JARs (AppCDS).

To read and verify some twenty thousand classes takes four of the twelve seconds in which a session starts on two cores,
and as many of its first jobs. The JVM compares an archive with its own build and with the JARs, and does without one
that does not fit. One that was cut off it would map all the same, and die of it; so a file's name says its size.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pyspark.find_spark_home import _find_spark_home

from connectors.caches import user_cache
from connectors.errors import SessionFailed

RECORDS = "-XX:ArchiveClassesAtExit="
LEFT_BEHIND_SECONDS = 3600.0


def mapped(java: str) -> str:
    """Return the option by which the Java that says ``java`` of itself maps its archive; nothing where it has none."""
    archive = archive_of(java)
    return f'"-XX:SharedArchiveFile={archive}"' if archive else ""


@contextmanager
def recorded(java: str) -> Iterator[str]:
    """Yield the option by which a JVM, when it ends, archives what it has loaded; it must end within the block.

    Raises :class:`connectors.errors.SessionFailed` where it has written none, or there is no place for one.
    """
    place = _place(java)
    if not _is_takeable(place):
        raise SessionFailed(f"Java takes no archive from {place.parent}: XDG_CACHE_HOME must do without ':' and quotes")
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        for left in place.parent.glob("*.part"):
            if time.time() - left.stat().st_mtime > LEFT_BEHIND_SECONDS:
                left.unlink(missing_ok=True)
    except OSError as error:
        raise SessionFailed(f"{place.parent} cannot be written: {error.strerror}; set XDG_CACHE_HOME") from error
    whole = place.with_name(f"{place.name}.{os.getpid()}.part")
    try:
        yield f'"{RECORDS}{whole}"'
        if not whole.exists():
            raise SessionFailed(f"Java wrote no archive of its classes to {place.parent}")
        before = archive_of(java)
        archive = place.with_name(f"{place.name}-{whole.stat().st_size}.jsa")
        whole.replace(archive)
        if before and before != archive:
            before.unlink(missing_ok=True)  # who maps it keeps it
    finally:
        whole.unlink(missing_ok=True)


def archive_of(java: str) -> Path | None:
    """Return the whole archive of this Java and of the Spark that is installed here, if there is one."""
    with suppress(OSError, RuntimeError, ValueError):
        place = _place(java)
        for archive in place.parent.glob(f"{place.name}-*.jsa") if _is_takeable(place) else ():
            if archive.stat().st_size == int(archive.stem.rpartition("-")[2]) and os.access(archive, os.R_OK):
                return archive
    return None


def _place(java: str) -> Path:
    digest = hashlib.sha256(f"{java}\n{_find_spark_home()}".encode()).hexdigest()
    return (user_cache() / "classes" / digest[:16]).absolute()


def _is_takeable(place: Path) -> bool:
    """Say whether the JVM takes a path there: a colon is between two archives, a quote ends an option of Spark's."""
    return not {":", '"', "'", "\\"}.intersection(str(place))
