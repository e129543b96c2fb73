"""What a search may ask for after fusion: reranking, decay and diversity, each over the first rows of the last."""
