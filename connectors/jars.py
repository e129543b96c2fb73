"""The JARs that Spark needs for Delta and each cloud: their Maven coordinates, and the files they were found to be.

Ivy resolves coordinates in two seconds of every start, though all it needs is in its cache. What it found is therefore
remembered, and the next session names the files. Ivy has no locks, and of two that download one file at the same time
one fails; so one process after another has it look.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.metadata
import json
import os
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO
from urllib.parse import unquote, urlparse

import pyspark
from pyspark.find_spark_home import _find_spark_home

from connectors.caches import user_cache
from connectors.errors import SessionFailed
from connectors.hadoop import HadoopCloud

SCALA = "2.13"
PATIENCE = 120.0
"""Seconds for which one process waits for what another one's Ivy finds."""
PACKAGES = "spark.jars.packages"
EXCLUDES = "spark.jars.excludes"
FILES = "spark.jars"

# What hadoop-aws needs from the AWS SDK. Its own dependency is one bundle of every AWS service, 600 MB; these are 30.
# The version is the one that hadoop-project 3.5.0 names.
AWS_SDK_VERSION = "2.35.4"
AWS_SDK_MODULES = ("s3", "s3-transfer-manager", "sts", "apache-client", "netty-nio-client")

_CLIENTS: dict[HadoopCloud, str] = {"s3": "hadoop-aws", "azure": "hadoop-azure", "google": "hadoop-gcp"}

# Spark ships these itself; Delta's pom names older ones, and two versions of Hadoop on one class path is one too many.
EXCLUDED_JARS = (
    "org.apache.hadoop:hadoop-client-*",
    "org.apache.logging.log4j:*",
    "org.apache.parquet:*",
    "com.fasterxml.jackson.core:*",
    "org.slf4j:*",
    "com.github.luben:zstd-jni",
    "org.xerial.snappy:*",
    "io.netty:*",
    "software.amazon.awssdk:bundle",
)


def packages(clouds: Collection[HadoopCloud] = ()) -> list[str]:
    """Return the Maven coordinates that a session needs, matched to the installed pyspark and delta-spark."""
    spark = ".".join(pyspark.__version__.split(".")[:2])
    delta = f"io.delta:delta-spark_{spark}_{SCALA}:{importlib.metadata.version('delta-spark')}"
    return [delta, *(coordinate for cloud in sorted(clouds) for coordinate in _client_of(cloud))]


def to_resolve(clouds: Collection[HadoopCloud] = ()) -> dict[str, str]:
    """Return the settings by which Spark has Ivy find, and the first time download, what :func:`packages` names."""
    return {PACKAGES: ",".join(packages(clouds)), EXCLUDES: ",".join(EXCLUDED_JARS)}


def _client_of(cloud: HadoopCloud) -> list[str]:
    client = f"org.apache.hadoop:{_CLIENTS[cloud]}:{_hadoop_version()}"
    sdk = AWS_SDK_MODULES if cloud == "s3" else ()
    return [client, *(f"software.amazon.awssdk:{module}:{AWS_SDK_VERSION}" for module in sdk)]


def are_ours(extra_conf: Mapping[str, str]) -> bool:
    """Say whether nobody else may name JARs: not ``extra_conf``, nor Spark's own file or variable of settings."""
    home = Path(_find_spark_home())
    defaults = Path(os.environ.get("SPARK_CONF_DIR") or home / "conf", "spark-defaults.conf")
    told = os.environ.get("PYSPARK_SUBMIT_ARGS", "pyspark-shell").split() != ["pyspark-shell"]
    return not told and not defaults.exists() and not any(name.startswith(FILES) for name in extra_conf)


@contextmanager
def found(wanted: Mapping[str, str], *, remembered: bool = True) -> Iterator[dict[str, str]]:
    """Give the settings that :func:`resolved` has for ``wanted``, or ``wanted`` unless what is ``remembered`` counts.

    Where that leaves Ivy to look, no other process of this user has it look until the block ends, or for ``PATIENCE``.
    """
    settings = resolved(wanted) if remembered else dict(wanted)
    with ExitStack() as held:
        if settings == wanted:
            with suppress(OSError, RuntimeError):  # a cache that can't be written has no lock either
                folder = user_cache() / "jars"
                folder.mkdir(parents=True, exist_ok=True)
                _wait_for(held.enter_context((folder / "ivy.lock").open("ab")))
            settings = resolved(wanted) if remembered else settings
        yield settings


def _wait_for(lock: IO[bytes]) -> None:
    """Return once nobody else holds ``lock``, which is held then, or when ``PATIENCE`` is over."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        with suppress(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        time.sleep(0.1)


def resolved(wanted: Mapping[str, str]) -> dict[str, str]:
    """Return the settings that name the files which ``wanted`` was resolved to before; ``wanted`` if one is missing."""
    with suppress(OSError, ValueError, RuntimeError):
        files = _memory(wanted).read_text().splitlines()
        if _are_those(files, wanted) and all(_is_readable(file) for file in files):
            return {FILES: ",".join(files)}
    return dict(wanted)


def remember(wanted: Mapping[str, str], files: str) -> None:
    """Keep the comma-separated ``files`` that ``wanted`` was resolved to; where that can't be written, do without."""
    found = files.split(",")
    if not _are_those(found, wanted):
        return
    with suppress(OSError, RuntimeError):
        memory = _memory(wanted)
        memory.parent.mkdir(parents=True, exist_ok=True)
        whole = memory.with_suffix(f".{os.getpid()}")
        whole.write_text("\n".join(found))
        whole.replace(memory)


def _memory(wanted: Mapping[str, str]) -> Path:
    """Return the file for what these coordinates were resolved to."""
    digest = hashlib.sha256(json.dumps(dict(wanted), sort_keys=True).encode()).hexdigest()
    return user_cache() / "jars" / f"{digest[:16]}.txt"


def _are_those(files: Sequence[str], wanted: Mapping[str, str]) -> bool:
    """Say whether each coordinate is among the ``files``, which Ivy names ``group_artifact-version.jar``."""
    names = {file.rpartition("/")[2] for file in files}
    coordinates = (coordinate.split(":") for coordinate in wanted[PACKAGES].split(","))
    return {f"{group}_{artifact}-{version}.jar" for group, artifact, version in coordinates} <= names


def _is_readable(address: str) -> bool:
    path = unquote(urlparse(address).path)
    return os.path.isfile(path) and os.access(path, os.R_OK)


def _hadoop_version() -> str:
    jars = Path(pyspark.__file__).parent / "jars"
    found = next(jars.glob("hadoop-client-api-*.jar"), None)
    if found is None:
        raise SessionFailed(f"no hadoop-client-api JAR in {jars}: pyspark is not installed with its own JARs")
    return found.stem.removeprefix("hadoop-client-api-")
