"""Queries of many requests, embedded together.

A forward pass over sixteen short texts takes a few times as long as over one. So the text of a request is put down when
the request is admitted, and whichever search needs its vector first embeds all that wait by then. A request that is
alone waits for nobody.
"""

from __future__ import annotations

import threading
from collections import deque
from concurrent.futures import Future
from contextlib import suppress

from indexer.embedding import Embedder, Vectors

MOST = 16
"""Texts embedded at a time: beyond, each costs as much as in a batch of its own, and all of them wait for it."""


class QueryBatches:
    """One model's queries. Safe to share between threads."""

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder
        self._asked: deque[AskedQuery] = deque()
        self._embedding = threading.Lock()

    def ask(self, text: str) -> AskedQuery:
        """Put ``text`` down to be embedded; returns at once."""
        asked = AskedQuery(self, text)
        self._asked.append(asked)
        return asked

    def embed_until(self, wanted: Future[Vectors]) -> None:
        """Embed what waits, the oldest first, until ``wanted`` is among what is done."""
        while not wanted.done():
            with self._embedding:
                if not wanted.done():
                    self._embed(self._oldest())

    def _oldest(self) -> list[AskedQuery]:
        oldest: list[AskedQuery] = []
        with suppress(IndexError):
            while len(oldest) < MOST:
                asked = self._asked.popleft()
                if asked.vector.set_running_or_notify_cancel():
                    oldest.append(asked)
        return oldest

    def _embed(self, batch: list[AskedQuery]) -> None:
        try:
            for asked, vector in zip(batch, self._embedder.queries([asked.text for asked in batch]), strict=True):
                asked.vector.set_result(vector)
        except BaseException as error:
            if len(batch) > 1 and isinstance(error, Exception):
                for asked in batch:  # one text's failure is not the others'
                    self._embed([asked])
                return
            for asked in batch:
                asked.vector.set_exception(error)


class AskedQuery:
    """A query that was put down, and its vector to come: what a search takes for its model."""

    def __init__(self, batches: QueryBatches, text: str) -> None:
        self._batches = batches
        self.text = text
        self.vector: Future[Vectors] = Future()

    def query(self, text: str) -> Vectors:
        """Return the vector, ``(dim,) float32``, of ``text``, which is the one that was put down."""
        assert text == self.text
        self._batches.embed_until(self.vector)
        return self.vector.result()

    def cancel(self) -> None:
        """Say that nobody waits for the vector any more."""
        self.vector.cancel()
