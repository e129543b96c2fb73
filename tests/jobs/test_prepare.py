"""``grebe prepare`` with the Java that is here: what it archives is mapped, and what it could not is no hindrance."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

STARTED = """
from connectors.session import JAVA_OPTIONS, spark_session
spark = spark_session("prepared", master="local[1]", extra_conf={JAVA_OPTIONS: "-Xlog:class+load:file=loaded.log"})
assert spark.range(3).count() == 3
"""


@pytest.mark.soak
def test_what_was_prepared_is_mapped_and_a_damaged_archive_does_no_harm(tmp_path: Path) -> None:
    run(["-m", "jobs", "prepare"], tmp_path)
    (archive,) = (tmp_path / "caches" / "grebe" / "classes").iterdir()
    prepared = loaded(tmp_path)
    archive.chmod(0o644)
    os.truncate(archive, archive.stat().st_size // 2)
    damaged = loaded(tmp_path)  # Java would die of it

    assert prepared > 10_000
    assert damaged == 0


def loaded(folder: Path) -> int:
    """How many classes a session has from the archive."""
    run(["-c", STARTED], folder)
    return (folder / "loaded.log").read_text().count("source: shared objects file (top)")


def run(arguments: list[str], folder: Path) -> None:
    environment = {**os.environ, "XDG_CACHE_HOME": str(folder / "caches"), "HF_HUB_OFFLINE": "1"}
    subprocess.run([sys.executable, *arguments], cwd=folder, env=environment, check=True, timeout=500)
