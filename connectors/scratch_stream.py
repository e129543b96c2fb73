"""One run of Structured Streaming from a position to the caller's handler, whatever the streaming source.

Spark's checkpoint is scratch: made anew at every run, and read for one thing alone, the end of the batch at hand.
"""

from __future__ import annotations

import shutil
import tempfile
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from pyspark.errors import StreamingQueryException
from pyspark.sql import DataFrame
from pyspark.sql.streaming.query import StreamingQuery

from connectors.contract import ChangeBatch, Position
from connectors.errors import SourceError
from connectors.session import scratch_dir

POLL_SECONDS = 0.1
"""How often the caller's thread looks whether the query has ended or is to be stopped."""


class ScratchStream(ABC):
    """Reads changes after ``start`` in order and keeps ``position``: what ``handle`` has been given.

    Each :meth:`read` goes on from ``position`` with a query and a scratch checkpoint of its own, and ends both.
    """

    def __init__(self, named: str, start: Position, handle: Callable[[ChangeBatch], None]) -> None:
        self.named = named
        self.position = start
        self._handle = handle
        self._lock = threading.Lock()
        self._closing = False
        self._failure: BaseException | None = None

    @abstractmethod
    def feed(self) -> DataFrame:
        """Return the streaming frame that begins at ``position``."""

    @abstractmethod
    def take(self, frame: DataFrame, offsets: str) -> None:
        """Hand on one micro-batch; ``offsets`` is the text of its offset file, which names its end."""

    @abstractmethod
    def translate(self, error: BaseException) -> SourceError | None:
        """Return what an error of Spark or of the vendor means in our terms, or None."""

    @abstractmethod
    def translated(self) -> AbstractContextManager[None]:
        """Translate what starting the query raises."""

    def watch(self) -> None:  # noqa: B027 - most sources notice everything themselves
        """Look, between two batches, for what the query itself does not notice; raise what is wrong."""

    def busy(self) -> bool:
        """Say whether a batch is being handled."""
        return self._lock.locked()

    def read(self, *, interval_seconds: float | None, stop: Callable[[], bool] | None) -> None:
        """Handle what there is; with ``interval_seconds``, go on until ``stop`` says so."""
        self._closing, self._failure = False, None
        scratch = Path(tempfile.mkdtemp(prefix="stream-", dir=scratch_dir()))
        try:
            self._read(scratch, interval_seconds, stop)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)

    def _read(self, scratch: Path, interval_seconds: float | None, stop: Callable[[], bool] | None) -> None:
        query = self._start(scratch, interval_seconds)
        try:
            self._wait(query, stop if interval_seconds is not None else None)
        except StreamingQueryException as error:
            if self._failure is None:
                raise self.translate(error) or SourceError(f"{self.named}: {error}") from error
        except (KeyboardInterrupt, SystemExit):
            query.stop()  # with the jobs of a batch that is being handled, which would keep us waiting below
            raise
        finally:
            with self._lock:  # no batch is being handled any more, and none begins
                self._closing = True
            query.stop()
        if self._failure is not None:
            raise self._failure

    def _start(self, scratch: Path, interval_seconds: float | None) -> StreamingQuery:
        with self.translated():
            writer = self.feed().writeStream.option("checkpointLocation", scratch.as_uri())
            writer = writer.foreachBatch(lambda frame, batch: self._on_batch(frame, scratch / "offsets" / str(batch)))
            if interval_seconds is None:
                return writer.trigger(availableNow=True).start()
            return writer.trigger(processingTime=f"{round(interval_seconds * 1000)} milliseconds").start()

    def _wait(self, query: StreamingQuery, stop: Callable[[], bool] | None) -> None:
        """Return when the query ends by itself or a batch failed, or, between two batches, when ``stop`` says so."""
        while self._failure is None and not query.awaitTermination(POLL_SECONDS):  # type: ignore[arg-type]
            if stop is not None and stop():
                return
            self.watch()

    def _on_batch(self, frame: DataFrame, offsets: Path) -> None:
        with self._lock:
            if self._closing:
                return
            try:
                self.take(frame, offsets.read_text())
            except BaseException as error:
                # Kept for read() to raise as it was. Raised here, it would come back as text, and on the terminal too.
                self._failure = error
                self._closing = True

    def hand_on(self, batch: ChangeBatch) -> None:
        """Call the handler and move the position to the batch's end; translate what the handler met in our files."""
        try:
            self._handle(batch)
        except Exception as error:
            lost = self.lost(error)
            if lost is None:
                raise
            raise lost from error
        self.position = batch.end

    def lost(self, error: Exception) -> SourceError | None:
        """Return what an error of the handler means when it is the source's own doing, else None."""
        return None
