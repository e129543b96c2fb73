"""The reranking models of the collections."""

from __future__ import annotations

from api.loading import Models
from indexer.errors import RerankError
from indexer.spec import RerankSpec
from retrieval.refine.cross_encoder import load_reranker
from retrieval.refine.rerank import Reranker


class Rerankers(Models[RerankSpec, Reranker]):
    """What reranks, by the rerank part of a collection's spec."""

    error = RerankError

    def name(self, spec: RerankSpec) -> str:
        """Return the model's name."""
        return spec.model

    def load(self, spec: RerankSpec) -> tuple[Reranker, dict[str, object]]:
        """Load the model and score a pair."""
        reranker = load_reranker(spec)
        reranker.scores("warm", ["warm"])
        return reranker, {"task": "rerank"}
