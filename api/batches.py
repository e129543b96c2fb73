"""Queries of many requests, embedded together.

A forward pass over sixteen short texts takes a few times as long as over one. So the text of a request is put down when
the request is admitted, and whichever search needs its vector first embeds all that wait by then. A request that is
alone waits for nobody.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future

from indexer.embedding import Embedder, Vectors
from indexer.errors import EmbeddingError

MOST = 16
"""Texts embedded at a time: beyond, each costs as much as in a batch of its own, and all of them wait for it."""


class QueryBatches:
    """The queries of one embedder. Safe to share between threads."""

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder
        self._asked: dict[AskedQuery, None] = {}  # in the order in which they came
        self._changing, self._embedding = threading.Lock(), threading.Lock()

    @property
    def waiting(self) -> int:
        """How many texts wait to be embedded."""
        return len(self._asked)

    def ask(self, text: str) -> AskedQuery:
        """Put ``text`` down to be embedded; returns at once."""
        return self._ask([text])[0]

    def ask_all(self, texts: Sequence[str]) -> AskedQueries:
        """Put all ``texts`` of one search down, to be embedded one after the other or together; returns at once."""
        return AskedQueries(dict(zip(texts, self._ask(texts), strict=True)))

    def _ask(self, texts: Sequence[str]) -> list[AskedQuery]:
        asked = [AskedQuery(self, text) for text in texts]
        with self._changing:
            self._asked |= dict.fromkeys(asked)
        return asked

    def forget(self, asked: AskedQuery) -> None:
        """Take ``asked`` off, unless it is being embedded."""
        with self._changing:
            self._asked.pop(asked, None)

    def embed_until(self, wanted: Future[Vectors]) -> None:
        """Embed what waits, the oldest first, until ``wanted`` is among what is done."""
        while not wanted.done():
            with self._embedding:
                if not wanted.done():
                    self._embed(self._oldest())

    def _oldest(self) -> list[AskedQuery]:
        with self._changing:
            taken = list(self._asked)[:MOST]
            for asked in taken:
                del self._asked[asked]
        return [asked for asked in taken if asked.vector.set_running_or_notify_cancel()]

    def _embed(self, batch: list[AskedQuery]) -> None:
        try:
            vectors = self._embedder.queries([asked.text for asked in batch])
            if len(vectors) != len(batch):
                raise EmbeddingError(f"the model gave {len(vectors)} vectors for {len(batch)} queries")
        except BaseException as error:  # whatever it is, searches wait for it
            if len(batch) > 1 and isinstance(error, Exception):
                for asked in batch:  # one text's failure is not the others'
                    self._embed([asked])
                return
            for asked in batch:
                asked.vector.set_exception(error)
            return
        for asked, vector in zip(batch, vectors, strict=True):
            asked.vector.set_result(vector)


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
        if self.vector.cancel():
            self._batches.forget(self)


class AskedQueries:
    """The queries of one search that were put down: what it takes for its model."""

    def __init__(self, asked: Mapping[str, AskedQuery]) -> None:
        self._asked = asked

    def query(self, text: str) -> Vectors:
        """Return the vector, ``(dim,) float32``, of ``text``, which is one of them."""
        return self._asked[text].query(text)

    def cancel(self) -> None:
        """Say that nobody waits for the vectors any more."""
        for asked in self._asked.values():
            asked.cancel()
