"""The query models of the collections: loaded once, in the background, while requests that need none are answered."""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor

from api.batches import QueryBatches
from api.logs import Logger
from indexer.embedding import load_embedder
from indexer.errors import EmbeddingError
from indexer.spec import VectorSpec

RETRY_SECONDS = 30.0
"""A model that failed to load is tried again after this long, not for every query: trying takes seconds."""


class Embedders:
    """Loads one model at a time on a thread of its own."""

    def __init__(self, log: Logger) -> None:
        self._log = log
        self._lock = threading.Lock()
        self._loading: dict[str, Future[QueryBatches]] = {}
        self._failed_at: dict[str, float] = {}
        self._settled: set[str] = set()
        self._closing = False
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="model")

    def warm(self, vector: VectorSpec) -> Future[QueryBatches]:
        """Begin to load the model of ``vector`` unless that is done or under way."""
        key = vector.model_dump_json()
        with self._lock:
            future = self._loading.get(key)
            stale = time.monotonic() - self._failed_at.get(key, 0.0) > RETRY_SECONDS
            if future is None or (key in self._failed_at and stale):
                self._failed_at.pop(key, None)
                future = self._loading[key] = self._executor.submit(self._load, key, vector)
            return future

    async def of(self, vector: VectorSpec, *, timeout_seconds: float) -> QueryBatches:
        """Return what embeds queries for ``vector``; raises EmbeddingError, or TimeoutError if that comes too late."""
        future = self.warm(vector)
        if future.done():
            return future.result()
        return await asyncio.wait_for(asyncio.shield(asyncio.wrap_future(future)), timeout_seconds)

    def settled(self, vector: VectorSpec) -> bool:
        """Return whether loading has ended once, well or not; a failed model that is tried again stays settled."""
        return vector.model is None or vector.model_dump_json() in self._settled

    def close(self) -> None:
        """Drop what waits to be loaded."""
        self._closing = True
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _load(self, key: str, vector: VectorSpec) -> QueryBatches:
        try:
            return self._loaded(key, vector)
        finally:
            self._settled.add(key)

    def _loaded(self, key: str, vector: VectorSpec) -> QueryBatches:
        started = time.perf_counter()
        try:
            embedder = load_embedder(vector)
            embedder.query("warm")
        except Exception as error:
            with self._lock:
                self._failed_at[key] = time.monotonic()
            if not self._closing:  # at the end of a process nothing can be loaded any more
                self._log.error("model failed to load", model=vector.model, error=str(error))
            if isinstance(error, EmbeddingError):
                raise
            raise EmbeddingError(f"{vector.model}: cannot be loaded") from error
        self._log.info(
            "model loaded", model=vector.model, dim=embedder.dim, seconds=round(time.perf_counter() - started, 3)
        )
        return QueryBatches(embedder)
