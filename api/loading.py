"""Models that are loaded once, in the background, while requests that need none are answered."""

from __future__ import annotations

import asyncio
import threading
import time
from abc import ABC, abstractmethod
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

from pydantic import BaseModel

from api.logs import Logger
from indexer.errors import ModelError

RETRY_SECONDS = 30.0
"""A model that failed to load is tried again after this long, not for every query: trying takes seconds."""

S = TypeVar("S", bound=BaseModel)
M = TypeVar("M")


class Models(ABC, Generic[S, M]):
    """Loads one model at a time on a thread of its own: what a spec of type ``S`` names, as an ``M``."""

    error: type[ModelError]
    """What a model that cannot be loaded is raised as."""

    def __init__(self, log: Logger) -> None:
        self._log = log
        self._lock = threading.Lock()
        self._loading: dict[str, Future[M]] = {}
        self._failed_at: dict[str, float] = {}
        self._settled: set[str] = set()
        self._closing = False
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="model")

    @abstractmethod
    def name(self, spec: S) -> str | None:
        """Return the model that ``spec`` names, if it names one."""

    @abstractmethod
    def load(self, spec: S) -> tuple[M, dict[str, object]]:
        """Load the model and use it once; return it and what the log says of it besides its name."""

    def warm(self, spec: S) -> Future[M]:
        """Begin to load the model of ``spec`` unless that is done or under way."""
        key = spec.model_dump_json()
        with self._lock:
            future = self._loading.get(key)
            stale = time.monotonic() - self._failed_at.get(key, 0.0) > RETRY_SECONDS
            if future is None or (key in self._failed_at and stale):
                self._failed_at.pop(key, None)
                future = self._loading[key] = self._executor.submit(self._load, key, spec)
            return future

    async def of(self, spec: S, *, timeout_seconds: float) -> M:
        """Return the model of ``spec``; raises what :attr:`error` says, or TimeoutError if it comes too late."""
        future = self.warm(spec)
        if future.done():
            return future.result()
        return await asyncio.wait_for(asyncio.shield(asyncio.wrap_future(future)), timeout_seconds)

    def failed(self, spec: S) -> bool:
        """Return whether the model of ``spec`` could not be loaded when that was last tried."""
        return spec.model_dump_json() in self._failed_at

    def settled(self, spec: S) -> bool:
        """Return whether loading has ended once, well or not; a failed model that is tried again stays settled."""
        return self.name(spec) is None or spec.model_dump_json() in self._settled

    def close(self) -> None:
        """Drop what waits to be loaded."""
        self._closing = True
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _load(self, key: str, spec: S) -> M:
        try:
            return self._loaded(key, spec)
        finally:
            self._settled.add(key)

    def _loaded(self, key: str, spec: S) -> M:
        started, name = time.perf_counter(), self.name(spec)
        try:
            model, told = self.load(spec)
        except Exception as error:
            with self._lock:
                self._failed_at[key] = time.monotonic()
            if not self._closing:  # at the end of a process nothing can be loaded any more
                self._log.error("model failed to load", model=name, error=str(error))
            if isinstance(error, self.error):
                raise
            raise self.error(f"{name}: cannot be loaded") from error
        self._log.info("model loaded", model=name, **told, seconds=round(time.perf_counter() - started, 3))
        return model
