"""Dense retrieval by embeddings."""
