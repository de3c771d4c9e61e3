"""Anchors of a task -> hits: exact BM25 over every shard of the corpus, embeddings, or both."""
