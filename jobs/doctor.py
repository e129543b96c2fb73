"""Whether this machine has what Grebe needs: each part is tried, and what is wrong comes with what to do about it."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from connectors.errors import JavaMissing
from jobs.settings import Settings

if TYPE_CHECKING:
    from indexer.spec import CollectionSpec, RerankSpec

State = Literal["ok", "absent", "failed"]
NEEDED_PYTHON = (3, 11)
FAISS_PACKAGES = ("faiss-cpu", "faiss-gpu-cuvs", "faiss-gpu-cu12", "faiss-gpu")
DEFAULT_MODEL = "sentence-transformers/all-MiniLM-L6-v2"
SCARCE_BYTES = 2 << 30


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What one check found. ``absent`` is something that Grebe works without; ``advice`` says what to do."""

    check: str
    state: State
    found: str
    advice: str = ""


Check = Callable[[Settings], Finding]


def examine(settings: Settings, *, model: str | None = None) -> Iterator[Finding]:
    """Yield the findings one by one, cheap ones first; nothing raises, a check that breaks is a finding.

    The models are those of the store's collections (without any, the default one, and no reranking one), or ``model``
    alone.
    """
    for name, check in _checks(settings, model):
        try:
            yield check(settings)
        except Exception as error:  # whatever a library throws here is the finding
            reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
            yield Finding(check=name, state="failed", found=reason, advice=ADVICE[name])


def _checks(settings: Settings, model: str | None) -> Iterator[tuple[str, Check]]:
    yield "python", lambda _: python(sys.version_info[:3])
    yield "java", _java
    yield "faiss", lambda _: faiss(_installed())
    yield "gpu", _gpu
    yield "cache", _cache
    yield "store", _store
    for name in [model] if model else _models(settings):  # only now: it reads every catalog
        yield "model", partial(_model, name)
    for reranker in [] if model else _rerankers(settings):
        yield "reranking model", partial(_reranker, reranker)
    yield "spark and delta", _spark


ADVICE = {
    "python": "install Python 3.11 or newer and run `make` again",
    "java": "sudo apt-get install -y openjdk-17-jre-headless (macOS: brew install openjdk@17)",
    "faiss": "install one of Grebe's extras: pip install 'grebe[cpu]'",
    "gpu": "see that `nvidia-smi` runs",
    "cache": "set GREBE_CACHE to a folder that can be written",
    "store": "set GREBE_STORE to a folder that can be written, or to a bucket (s3://, abfss://, az://, gs://) with its "
    "cloud's credentials in the environment",
    "model": "download it where there is a network, or give a folder as vector.model",
    "reranking model": "download it where there is a network, or give a folder as rerank.model",
    "spark and delta": "the first start downloads Delta's JAR from Maven Central: see that it can be reached, "
    "or name a mirror in ~/.ivy2.5.2/ivysettings.xml through spark.jars.ivySettings",
}


def python(version: tuple[int, int, int]) -> Finding:
    """Check the interpreter's version."""
    found = ".".join(map(str, version))
    if version[:2] < NEEDED_PYTHON:
        return Finding(check="python", state="failed", found=found, advice=ADVICE["python"])
    return Finding(check="python", state="ok", found=found)


def faiss(installed: frozenset[str]) -> Finding:
    """Check that exactly one of the FAISS packages is there: they own the same folder and break each other."""
    found = sorted(name for name in FAISS_PACKAGES if name in installed)
    if len(found) > 1:
        return Finding(
            check="faiss",
            state="failed",
            found=f"{' and '.join(found)} are installed together and overwrite each other",
            advice=f"pip uninstall -y {' '.join(found)}, then install one of Grebe's extras 'cpu' or 'gpu'",
        )
    if not found or importlib.util.find_spec("faiss") is None:
        return Finding(check="faiss", state="failed", found="not installed", advice=ADVICE["faiss"])
    import faiss as library

    return Finding(check="faiss", state="ok", found=f"{found[0]} {library.__version__}")


def _without_spark(check: str) -> Finding | None:
    """Return what a check of Spark finds where syncs' packages are not installed; None where they are."""
    with suppress(ModuleNotFoundError):
        if importlib.util.find_spec("pyspark") is not None:
            return None
    advice = "only syncs need it: pip install 'grebe[spark]'"
    return Finding(check=check, state="absent", found="pyspark is not installed", advice=advice)


def _java(_: Settings) -> Finding:
    if (none := _without_spark("java")) is not None:
        return none
    from connectors.session import java_major, require_java

    try:
        version = java_major(require_java())
    except JavaMissing as error:
        said, _sep, advice = str(error).partition(": ")
        return Finding(check="java", state="failed", found=said, advice=advice)
    return Finding(check="java", state="ok", found=str(version))


def _gpu(_: Settings) -> Finding:
    program = shutil.which("nvidia-smi")
    if program is None:
        return Finding(check="gpu", state="absent", found="none", advice="not needed; the CPU does everything")
    query = [program, "--query-gpu=name,memory.total", "--format=csv,noheader"]
    said = subprocess.run(query, capture_output=True, text=True, timeout=30, check=False)
    if said.returncode != 0 or not said.stdout.strip():
        return Finding(check="gpu", state="absent", found="nvidia-smi finds none", advice=ADVICE["gpu"])
    import torch

    names = "; ".join(said.stdout.strip().splitlines())
    if not torch.cuda.is_available():
        advice = "torch cannot use it: install a torch build for this driver's CUDA, or go on with the CPU"
        return Finding(check="gpu", state="absent", found=names, advice=advice)
    return Finding(check="gpu", state="ok", found=names)


def _cache(settings: Settings) -> Finding:
    settings.cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=settings.cache):
        free = shutil.disk_usage(settings.cache).free
    found = f"{settings.cache}: {free / 2**30:.1f} GiB free"
    if free < SCARCE_BYTES:
        return Finding(check="cache", state="failed", found=found, advice="make room, or set GREBE_CACHE elsewhere")
    return Finding(check="cache", state="ok", found=found)


def _store(settings: Settings) -> Finding:
    from indexer.format.store import Store

    store = Store.at(settings.store)
    path, data = f".doctor-{uuid.uuid4().hex}", b"grebe doctor"
    started = time.perf_counter()
    store.put(path, data)
    try:
        read = store.get(path)
    finally:
        store.delete([path])
    took_ms = (time.perf_counter() - started) * 1000
    if read != data or store.exists(path):
        return Finding(
            check="store",
            state="failed",
            found=f"{store.url} does not give back what was written, or keeps what was deleted",
            advice="use a store that reads its own writes",
        )
    return Finding(check="store", state="ok", found=f"{store.url}: write, read and delete in {took_ms:.0f} ms")


def _models(settings: Settings) -> list[str]:
    return sorted({spec.vector.model for spec in _specs(settings) if spec.vector.model}) or [DEFAULT_MODEL]


def _rerankers(settings: Settings) -> list[RerankSpec]:
    return list(dict.fromkeys(spec.rerank for spec in _specs(settings) if spec.rerank))


def _specs(settings: Settings) -> list[CollectionSpec]:
    from indexer.catalog import Catalog
    from indexer.format.store import Store

    try:
        store = Store.at(settings.store)
        return [Catalog.open(store, name).read().spec for name in Catalog.names(store)]
    except Exception:  # the check of the store says what is wrong with it
        return []


def _model(name: str, _: Settings) -> Finding:
    from indexer.embedding import load_embedder

    embedder = load_embedder(name)
    started = time.perf_counter()
    vector = embedder.query("Is anybody there?")
    took_ms = (time.perf_counter() - started) * 1000
    return Finding(
        check="model", state="ok", found=f"{name}: {vector.shape[0]} dimensions, a query in {took_ms:.0f} ms"
    )


def _reranker(spec: RerankSpec, _: Settings) -> Finding:
    from retrieval.refine.cross_encoder import load_reranker

    reranker = load_reranker(spec)
    started = time.perf_counter()
    reranker.scores("Is anybody there?", ["Nobody is."])
    took_ms = (time.perf_counter() - started) * 1000
    return Finding(check="reranking model", state="ok", found=f"{spec.model}: a passage in {took_ms:.0f} ms")


def _spark(_: Settings) -> Finding:
    if (none := _without_spark("spark and delta")) is not None:
        return none
    from pyspark.sql import SparkSession

    from connectors.class_archive import mapped
    from connectors.jars import packages
    from connectors.session import require_java, spark_session

    found_running = SparkSession.getActiveSession() is not None
    with tempfile.TemporaryDirectory(prefix="grebe-doctor-") as folder:
        started = time.perf_counter()
        spark = spark_session("grebe doctor")
        table = str(Path(folder) / "table")
        try:
            spark.range(3).write.format("delta").save(table)
            rows = spark.read.format("delta").load(table).count()
        finally:
            if not found_running:
                spark.stop()
    seconds = time.perf_counter() - started
    version = importlib.metadata.version("pyspark")
    if rows != 3:
        return Finding(check="spark and delta", state="failed", found=f"wrote 3 rows, read {rows}", advice="")
    return Finding(
        check="spark and delta",
        state="ok",
        found=f"Spark {version}, {packages()[0]}, up in {seconds:.0f} s",
        advice="" if mapped(require_java()) else "`grebe prepare`, once, has it start some seconds sooner",
    )


def _installed() -> frozenset[str]:
    names = (distribution.metadata["Name"] for distribution in importlib.metadata.distributions())
    return frozenset(name.lower().replace("_", "-") for name in names if name)
