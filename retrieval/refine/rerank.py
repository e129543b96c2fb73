"""Reranking: a cross-encoder reads the query and each passage together, and its score replaces the one before.

    score(d) = 1 / (1 + exp(-raw(d)))

The raw score is the model's logit, the sigmoid of which is how such models are trained (a probability of relevance) and
what sentence-transformers returns by default; it keeps the order and gives what the later stages multiply. Nogueira and
Cho, "Passage re-ranking with BERT", 2019.

Equal passages are scored once: in two batches, padded to two lengths, their scores would differ in the last bits, and
ties would not be ties.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from indexer.errors import RerankError
from retrieval.deadline import check_deadline


class Reranker(Protocol):
    """Scores passages against a query, reading both together: the one seam between searches and cross-encoders.

    Calls from several threads are safe. The same pair has the same score up to the last bits, whatever else is in the
    call. A pair that is too long for the model is cut by it.
    """

    @property
    def batch(self) -> int:
        """How many passages a call should have: one forward pass."""

    def scores(self, query: str, passages: Sequence[str]) -> npt.NDArray[np.float32]:
        """Return the raw score (logit) of each passage, ``(n_passages,) float32`` and finite, higher for a better one.

        They are in the order of ``passages``, which may be empty. Raises :class:`indexer.errors.RerankError`.
        """


def raw_scores(
    reranker: Reranker, query: str, passages: Sequence[str], *, deadline: float | None = None
) -> npt.NDArray[np.float64]:
    """Return the raw score of each passage, ``(n_passages,)``, in batches of passages of like length.

    Raises :class:`indexer.errors.RerankError`, and :class:`retrieval.errors.DeadlineExceeded` when ``deadline``
    (time.monotonic()) has passed before a batch; a batch under way is not interrupted.
    """
    distinct = sorted(dict.fromkeys(passages), key=lambda text: (-len(text), text))
    found: dict[str, float] = {}
    for start in range(0, len(distinct), reranker.batch):
        check_deadline(deadline, "during the reranking", "give it more time or less depth")
        batch = distinct[start : start + reranker.batch]
        scores = reranker.scores(query, batch)
        if scores.shape != (len(batch),) or not np.isfinite(scores).all():
            raise RerankError(f"the reranking model did not give {len(batch)} finite scores for as many passages")
        found.update(zip(batch, scores.tolist(), strict=True))
    return np.array([found[text] for text in passages], dtype=np.float64)


def sigmoid(raw: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return ``raw`` ``(n,)`` as scores from 0 to 1.

    >>> sigmoid(np.array([-1000.0, 0.0, 1000.0])).tolist()
    [0.0, 0.5, 1.0]
    """
    scores: npt.NDArray[np.float64] = np.exp(-np.logaddexp(0.0, -raw))
    return scores
