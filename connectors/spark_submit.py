"""Under ``spark-submit``: what it leaves to do for a driver in Python that comes as a wheel."""

from __future__ import annotations

import functools
import io
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyspark import SparkContext

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


def is_submitted() -> bool:
    """Say whether ``spark-submit`` launched this process."""
    return "PYSPARK_GATEWAY_PORT" in os.environ


@functools.cache
def share_wheel(session: SparkSession, folder: Path) -> None:
    """Put the wheel that this module was imported from, if it was, on the workers' path, by a copy in ``folder``.

    ``--py-files`` puts a wheel on the driver's path alone; of archives, workers take .zip and .egg.
    """
    wheel = Path(__file__).parents[1]
    if wheel.suffix == ".whl":
        archive = folder / f"{wheel.stem}.zip"
        shutil.copyfile(wheel, archive)
        session.sparkContext.addPyFile(str(archive))


@contextmanager
def stderr_kept() -> Iterator[None]:
    """Keep stderr apart from stdout while the block runs: ``spark-submit`` joins a driver's two into its own stdout."""
    if not is_submitted():
        yield
        return
    SparkContext._ensure_initialized()
    with redirect_stderr(_JvmStderr(SparkContext._jvm)):
        yield


class _JvmStderr(io.TextIOBase):
    def __init__(self, jvm: Any) -> None:
        self._stream = jvm.java.lang.System.err

    def write(self, text: str) -> int:
        data = text.encode(errors="replace")
        self._stream.write(data, 0, len(data))
        self._stream.flush()
        return len(text)
