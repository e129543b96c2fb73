"""The reranking models there are: cross-encoders of sentence-transformers, and one in memory that needs no torch.

``words:overlap`` names the latter; every other name is a hub name or folder.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from indexer.errors import RerankError
from indexer.spec import RerankSpec
from indexer.vendor import LONGEST_WINDOW, Device, load_model, plain_tokenizer
from retrieval.refine.rerank import Reranker

WORDS = "words:overlap"
BATCH, BATCH_CUDA = 16, 128
"""Passages in one forward pass: on a CPU more only add padding, and the deadline is looked at between two passes."""

Scores = npt.NDArray[np.float32]


class WordOverlap:
    """Counts the query's words that a passage has less those that it lacks: deterministic, for tests and dry runs."""

    batch = BATCH

    def scores(self, query: str, passages: Sequence[str]) -> Scores:
        """Return ``(n_passages,) float32``."""
        asked = set(re.findall(r"\w+", query.lower()))
        had = [len(asked.intersection(re.findall(r"\w+", passage.lower()))) for passage in passages]
        return np.array([2 * count - len(asked) for count in had], dtype=np.float32)


class SentenceTransformersReranker:
    """A cross-encoder on one device; half precision on CUDA.

    Raises RerankError when the model cannot be loaded or gives more than one score for a pair.
    """

    def __init__(self, spec: RerankSpec, *, device: Device = "auto") -> None:
        self.name = spec.model
        self._lock = threading.Lock()
        self._model = load_model(
            "CrossEncoder",
            spec.model,
            lambda: spec.model,
            revision=spec.revision,
            device=device,
            threads=None,
            field="rerank.model",
            error=RerankError,
        )
        if self._model.num_labels != 1:
            raise RerankError(
                f"{spec.model}: gives {self._model.num_labels} scores for a pair, and a reranker gives one; "
                "choose a model that was trained to rank"
            )
        self._tokenizer = plain_tokenizer(self._model)
        self._window = self._model.max_seq_length or LONGEST_WINDOW
        self.batch = BATCH_CUDA if self._model.device.type == "cuda" else BATCH

    def scores(self, query: str, passages: Sequence[str]) -> Scores:
        """Return the logits, ``(n_passages,) float32``."""
        if not passages:
            return np.zeros(0, np.float32)
        query = self._cut(query)
        pairs = [(query, self._cut(passage)) for passage in passages]
        try:
            # The lock: the tokenizer's truncation is set for each call, which fails when two threads do.
            with self._lock:
                logits = self._model.predict(
                    pairs, batch_size=self.batch, activation_fn=_as_it_is, show_progress_bar=False
                )
        except (RuntimeError, ValueError, MemoryError) as error:
            raise RerankError(f"{self.name}: cannot score {len(pairs)} passages: {error}") from error
        return np.asarray(logits, np.float32)

    def _cut(self, text: str) -> str:
        """Return as much of ``text`` as the model could read of it if it were alone.

        A pair is cut to what the model reads in any case, but of two long texts the tokenizer first makes every pair of
        their pieces: a second for each passage of thousands of words under as long a query.
        """
        if self._tokenizer is None or len(text) <= self._window:
            return text
        ends = self._tokenizer.encode(text, add_special_tokens=False).offsets
        return text if len(ends) <= self._window else text[: ends[self._window - 1][1]]


def load_reranker(spec: RerankSpec, *, device: Device = "auto") -> Reranker:
    """Return this process's reranker of ``spec``, loading it once; a later call tries again what failed.

    Raises RerankError with what to do.
    """
    key = (spec, device)
    loaded = _loaded.get(key)
    if loaded is None:
        with _loading:
            loaded = _loaded.get(key)
            if loaded is None:
                made = WordOverlap() if spec.model == WORDS else SentenceTransformersReranker(spec, device=device)
                loaded = _loaded[key] = made
    return loaded


_loaded: dict[tuple[RerankSpec, Device], Reranker] = {}
_loading = threading.Lock()


def _as_it_is(logits: object) -> object:
    """Leave the logits alone: whether a model's own activation is the sigmoid or none differs from one to the other."""
    return logits
