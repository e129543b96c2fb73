"""The Spark session: Delta's JAR, a quiet terminal, no litter, and a cloud's client only when it is wanted.

A session that is already active (a notebook, Databricks, a test) and a driver that ``spark-submit`` launched are taken
as they are: whoever started them decided their settings. What Spark's workers lack of a wheel is given to them.
"""

from __future__ import annotations

import atexit
import functools
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pyspark
from pyspark import SparkConf, SparkContext, java_gateway
from pyspark.errors import PySparkRuntimeError
from pyspark.find_spark_home import _find_spark_home
from pyspark.java_gateway import launch_gateway
from pyspark.logger import PySparkLogger
from pyspark.sql import SparkSession

from connectors import class_archive, jars, python_daemon
from connectors.errors import JavaMissing, SessionFailed
from connectors.hadoop import HadoopCloud, settings_for
from connectors.spark_submit import is_submitted, share_wheel

MINIMUM_JAVA = 17
JAVA_OPTIONS = "spark.driver.extraJavaOptions"
POOL = "spark.scheduler.pool"
SMALL_BATCHES = "spark.grebe.smallBatches"
"""Says of a session that :func:`for_large_batches` has to copy it."""
JAVA_HELP = (
    "install it with `sudo apt-get install -y openjdk-17-jre-headless` (macOS: `brew install openjdk@17`), "
    "or point JAVA_HOME at an installed one"
)


def spark_session(
    app_name: str,
    *,
    master: str | None = None,
    shuffle_partitions: int | None = None,
    extra_conf: Mapping[str, str] | None = None,
    clouds: Collection[HadoopCloud] = (),
) -> SparkSession:
    """Return the active session, or start one that reads and writes Delta tables.

    ``master`` defaults to ``local[*]``; ``shuffle_partitions`` to the number of cores. ``extra_conf`` wins over every
    default (Java options are added to ours). ``clouds`` adds the clients of tables there (the first use downloads
    them); credentials, region and endpoint come from the environment, as :mod:`connectors.hadoop` has it. The JARs
    come from Maven Central once and from Ivy's cache afterwards.

    Raises :class:`JavaMissing` without a Java that Spark can use, :class:`SessionFailed` when Spark does not start.
    """
    there = SparkSession.getActiveSession()
    if there is None and (SparkContext._active_spark_context is not None or is_submitted()):
        with _interrupts_kept():
            there = SparkSession.builder.appName(app_name).getOrCreate()
    if there is not None:
        share_wheel(there, scratch_dir())
        return there
    java = require_java()
    scratch = scratch_dir()
    master = master or "local[*]"
    conf = SparkConf(loadDefaults=False).setMaster(master).setAppName(app_name)
    wanted = jars.to_resolve(clouds)
    ours = SparkContext._gateway is None and jars.are_ours(extra_conf or {})
    conf.setAll(list(_settings(master, shuffle_partitions, scratch, clouds).items()))
    if ours and master.startswith("local") and class_archive.RECORDS not in (extra_conf or {}).get(JAVA_OPTIONS, ""):
        conf.set(JAVA_OPTIONS, f"{conf.get(JAVA_OPTIONS)} {class_archive.mapped(java)}")
    for name, value in (extra_conf or {}).items():
        conf.set(name, f"{conf.get(name)} {value}" if name == JAVA_OPTIONS else value)
    if _COMPILED.keys() & (extra_conf or {}).keys():
        conf.set(SMALL_BATCHES, "")
    # Spark's errors reach the caller as exceptions; this logger would print each, stack and all, on the terminal too.
    PySparkLogger.getLogger("SQLQueryContextLogger").setLevel("CRITICAL")
    # Workers must find the packages of this interpreter, also when its environment was never activated.
    if os.environ.setdefault("PYSPARK_PYTHON", sys.executable) == sys.executable and ours and _runs_our_daemon(conf):
        conf.setIfMissing("spark.python.daemon.module", python_daemon.__name__)
    with jars.found(wanted, remembered=ours) as jar_settings:
        for name, value in jar_settings.items():
            conf.setIfMissing(name, value)
        spark = _start(conf, scratch / "spark.log")
        if ours and jar_settings == wanted:
            jars.remember(wanted, spark.sparkContext.getConf().get(jars.FILES, ""))
    return spark


def for_large_batches(session: SparkSession) -> SparkSession:
    """Return a copy of ``session`` whose plans are compiled; ``session`` itself unless :func:`spark_session` made it.

    The copy has the settings, views and current schema that ``session`` has now.
    """
    if not session.conf.get(SMALL_BATCHES, None):
        return session
    copied = SparkSession(session.sparkContext, session._jsparkSession.cloneSession())
    for name, value in _COMPILED.items():
        copied.conf.set(name, value)
    return copied


@contextmanager
def giving_way(session: SparkSession) -> Iterator[None]:
    """Let the jobs of this thread share the executors with those of others, where ``spark.scheduler.mode`` is FAIR.

    Otherwise all tasks of a job that came first go before those of the next.
    """
    context: Any = session.sparkContext
    before = context.getLocalProperty(POOL)
    context.setLocalProperty(POOL, "grebe-load")
    try:
        yield
    finally:
        context.setLocalProperty(POOL, before)


@contextmanager
def cancellable() -> Iterator[Callable[[], None]]:
    """Yield what cancels, from any thread, the Spark jobs that this thread has under way then, its streams' too.

    One that begins later is not cancelled. A Python worker that is busy with such a job is killed within seconds.
    """
    context, tag = SparkContext._active_spark_context, f"grebe-{uuid.uuid4().hex}"
    if context is None:
        yield lambda: None
        return
    context.addJobTag(tag)
    try:
        yield lambda: context.cancelJobsWithTag(tag)
    finally:
        with suppress(Exception):  # Spark may have ended, which whoever asked it something was told
            context.removeJobTag(tag)


def is_alive(session: SparkSession) -> bool:
    """Say whether the session's JVM answers and its context was not stopped."""
    try:
        return not session.sparkContext._jsc.sc().isStopped()
    except Exception:  # py4j's, the socket's, or an AttributeError: Python forgets the parts of a context it stops
        return False


@functools.cache
def scratch_dir() -> Path:
    """Return this process's own scratch directory, which is removed when the process ends."""
    path = Path(tempfile.mkdtemp(prefix="grebe-spark-"))
    atexit.register(shutil.rmtree, path, ignore_errors=True)
    return path


def ended(session: SparkSession) -> None:
    """Stop ``session``, whose JVM this process started, and return once that has ended."""
    gateway = SparkContext._gateway
    session.stop()
    SparkContext._gateway = SparkContext._jvm = None
    if gateway is not None:
        gateway.shutdown()
        gateway.proc.stdin.close()
        gateway.proc.wait()


def require_java() -> str:
    """Return what the Java that Spark will use says of itself; raise :class:`JavaMissing` without a usable one."""
    home = os.environ.get("JAVA_HOME")
    java = str(Path(home, "bin", "java")) if home else "java"
    try:
        said = subprocess.run([java, "-version"], capture_output=True, text=True, check=True, timeout=60).stderr
    except (OSError, subprocess.SubprocessError) as error:
        where = f"in JAVA_HOME ({home})" if home else "on PATH"
        raise JavaMissing(f"Spark needs Java 17 or 21 and none runs {where}: {JAVA_HELP}") from error
    version = java_major(said)
    if version < MINIMUM_JAVA:
        raise JavaMissing(f"Spark needs Java 17 or 21 and `{java}` is Java {version}: {JAVA_HELP}")
    return said


def java_major(text: str) -> int:
    """Read the major version from what ``java -version`` prints: 8 for ``"1.8.0_412"``, 17 for ``"17.0.15"``."""
    found = re.search(r'version "(?:1\.)?(\d+)', text)
    return int(found.group(1)) if found else 0


def _settings(
    master: str, shuffle_partitions: int | None, scratch: Path, clouds: Collection[HadoopCloud]
) -> dict[str, str]:
    local = master.startswith("local")
    settings = {
        "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
        "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
        "spark.sql.session.timeZone": "UTC",
        "spark.scheduler.mode": "FAIR",
        "spark.sql.execution.arrow.pyspark.enabled": "true",
        "spark.python.worker.reuse": "true",
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.log.level": "ERROR",
        "spark.sql.warehouse.dir": (scratch / "warehouse").as_uri(),
        JAVA_OPTIONS: f"-Dderby.system.home={scratch / 'derby'}",
        **_STREAMING,
    }
    if local:
        cores = _cores(master)
        settings |= {
            "spark.local.dir": str(scratch / "blocks"),
            "spark.driver.memory": f"{_heap_gib()}g",
            "spark.driver.host": "127.0.0.1",
            "spark.driver.bindAddress": "127.0.0.1",
            # A job for reading a Delta log is otherwise 50 tasks, whatever the machine.
            "spark.databricks.delta.snapshotPartitions": str(min(cores, 4)),
            "spark.sql.shuffle.partitions": str(cores),
            **_INTERPRETED,
        }
    if shuffle_partitions is not None:
        settings["spark.sql.shuffle.partitions"] = str(shuffle_partitions)
    for cloud in clouds:
        settings |= settings_for(cloud)
    return settings


# The stream's checkpoint is scratch, so nothing is kept for a restart from it and no time is spent on guarding it.
_STREAMING = {
    # The default forks `stat` and `chmod` for every offset file: 100 ms a batch instead of 35.
    "spark.sql.streaming.checkpointFileManagerClass": (
        "org.apache.spark.sql.execution.streaming.checkpointing.FileSystemBasedCheckpointFileManager"
    ),
    "spark.sql.streaming.minBatchesToRetain": "2",
    "spark.sql.streaming.checkpoint.fileChecksum.enabled": "false",
    "spark.sql.streaming.noDataMicroBatches.enabled": "false",
    "spark.sql.streaming.metricsEnabled": "false",
}

# The Java that Spark writes for a plan is compiled and thrown away before it is warm where batches have hundreds of
# rows: on two cores, a sixth of the JVM's CPU and a fifth of a row's lag. Without it large batches take half as long
# again.
_INTERPRETED = {
    SMALL_BATCHES: "true",
    "spark.sql.codegen.wholeStage": "false",
    "spark.sql.codegen.factoryMode": "NO_CODEGEN",
}
_COMPILED = {
    SMALL_BATCHES: "",
    "spark.sql.codegen.wholeStage": "true",
    "spark.sql.codegen.factoryMode": "FALLBACK",
}


def _runs_our_daemon(conf: SparkConf) -> bool:
    """Say whether Spark's Python processes are of this machine, find our modules and have the JVM's pyspark."""
    installed = Path(pyspark.__file__).parent
    if not conf.get("spark.master", "").startswith("local") or not installed.samefile(_find_spark_home()):
        return False
    looked = subprocess.run(
        [sys.executable, "-c", f"import {python_daemon.__name__}"], capture_output=True, check=False
    )
    return looked.returncode == 0


def _start(conf: SparkConf, log: Path) -> SparkSession:
    """Start the JVM with its output in ``log`` (Ivy and log4j would flood the terminal) and connect to it."""
    try:
        gateway = SparkContext._gateway
        if gateway is None:
            with log.open("ab") as sink, _ended_if_interrupted():
                gateway = launch_gateway(conf, popen_kwargs={"stdout": sink, "stderr": sink})  # type: ignore[no-untyped-call]
        with _interrupts_kept():
            context = SparkContext(conf=conf, gateway=gateway)
        return SparkSession(context)
    except (PySparkRuntimeError, OSError) as error:
        raise SessionFailed(f"Spark did not start: {_reason(log) or error}") from error


@contextmanager
def _ended_if_interrupted() -> Iterator[None]:
    """Let no JVM outlive a start that ends early: one that finds nobody to tell its port to goes on for good."""
    spawn, spawned = java_gateway.Popen, []  # type: ignore[attr-defined]

    def remembered(*arguments: Any, **options: Any) -> subprocess.Popen[bytes]:
        spawned.append(spawn(*arguments, **options))
        return spawned[-1]

    java_gateway.Popen = remembered  # type: ignore[attr-defined, assignment]
    try:
        yield
    except BaseException:
        for process in spawned:
            process.kill()
            process.wait()
        raise
    finally:
        java_gateway.Popen = spawn  # type: ignore[attr-defined]


@contextmanager
def _interrupts_kept() -> Iterator[None]:
    """Keep the caller's own handler of Ctrl-C, if there is one: PySpark puts one in its place that cancels all jobs."""
    own = signal.getsignal(signal.SIGINT)
    yield
    if (
        callable(own)
        and own is not signal.default_int_handler
        and threading.current_thread() is threading.main_thread()
    ):
        signal.signal(signal.SIGINT, own)


def _reason(log: Path) -> str:
    """Return the line of the JVM's output that says most: the exception's, or else the last one."""
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    thrown = [line for line in lines if "Exception" in line or "Error" in line]
    return (thrown or lines or [""])[-1 if not thrown else 0]


def _cores(master: str) -> int:
    named = re.fullmatch(r"local\[(\d+)(?:,\s*\d+)?\]", master)
    if named:
        return int(named.group(1))
    return 1 if master == "local" else os.cpu_count() or 1


def _heap_gib() -> int:
    """Return a quarter of the machine's memory in GiB, from 1 to 8: the rest is for Python workers and the index."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return max(1, min(8, total // 4 // 2**30))
