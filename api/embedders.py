"""The query models of the collections."""

from __future__ import annotations

from api.batches import QueryBatches
from api.loading import Models
from indexer.embedding import load_embedder
from indexer.errors import EmbeddingError
from indexer.spec import VectorSpec


class Embedders(Models[VectorSpec, QueryBatches]):
    """What embeds queries, by the vector part of a collection's spec."""

    error = EmbeddingError

    def name(self, spec: VectorSpec) -> str | None:
        """Return the model's name."""
        return spec.model

    def load(self, spec: VectorSpec) -> tuple[QueryBatches, dict[str, object]]:
        """Load the model and embed a word."""
        embedder = load_embedder(spec)
        embedder.query("warm")
        return QueryBatches(embedder), {"dim": embedder.dim}
